package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mdp/qrterminal/v3"
	"github.com/pandodb/pando/api"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func (c *command) shareCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "share [COLLECTION …]",
		Example: "  pando share Note > ticket",
		Short:   "Print a ticket with which another node joins",
		Long: `Print a ticket with which another node joins: whoever holds it gets the named
collections, or all of them, and may write to them. Give it only to those you trust.

On a terminal the ticket is followed by a QR code and what to do with it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			node, err := c.client()
			if err != nil {
				return err
			}
			shared, err := node.Share(cmd.Context(), args)
			if err != nil {
				return err
			}
			if onlyHere(shared.Addrs) {
				fmt.Fprintln(c.err, "note: the node listens on this machine only; for others start it with --p2paddr /ip4/0.0.0.0/udp/9171/quic-v1,/ip4/0.0.0.0/tcp/9171")
			}
			fmt.Fprintln(c.out, shared.Ticket)
			if terminal(c.out) {
				c.showTicket(shared.Ticket)
			}
			return nil
		},
	}
}

// onlyHere reports whether all addresses are those of the loopback interface.
func onlyHere(addrs []string) bool {
	return !slices.ContainsFunc(addrs, func(a string) bool {
		return !strings.HasPrefix(a, "/ip4/127.") && !strings.HasPrefix(a, "/ip6/::1/")
	})
}

// quietZone is how many blank modules a QR code needs around it.
const quietZone = 1

const nextSteps = "\non the other machine:\n  pando start\n  pando join TICKET\n"

// showTicket draws the ticket for a phone, if the terminal has room for it.
func (c *command) showTicket(ticket string) {
	width, height := 0, 0
	if f, ok := c.out.(*os.File); ok {
		width, height, _ = term.GetSize(int(f.Fd())) // of what has no size, nothing is known
	}
	fmt.Fprint(c.out, "\n", ticketCode(ticket, width, height), nextSteps)
}

// ticketCode is the ticket as a QR code, or a line that says how large a terminal has
// to be for it. A code that has scrolled away in part is of no use: the ticket above
// it, what is to be done below it and the prompt are to be seen at once with it.
func ticketCode(ticket string, width, height int) string {
	var code strings.Builder
	qrterminal.GenerateWithConfig(ticket, qrterminal.Config{Level: qrterminal.L, Writer: &code, HalfBlocks: true, QuietZone: quietZone,
		BlackChar: qrterminal.BLACK_BLACK, WhiteChar: qrterminal.WHITE_WHITE, WhiteBlackChar: qrterminal.WHITE_BLACK, BlackWhiteChar: qrterminal.BLACK_WHITE})
	first, _, _ := strings.Cut(code.String(), "\n")
	columns := utf8.RuneCountInString(first)
	above := (len(ticket)+max(width, 1)-1)/max(width, 1) + 1
	rows := above + strings.Count(code.String(), "\n") + strings.Count(nextSteps, "\n") + 1
	if columns <= width && rows <= height {
		return code.String()
	}
	return fmt.Sprintf("(a QR code of it needs a window of %d columns and %d lines)\n", max(columns, width), rows)
}

func (c *command) joinCommand() *cobra.Command {
	var part api.Part
	cmd := &cobra.Command{
		Use:     "join TICKET|-",
		Example: "  pando join pando…\n  pando join - < ticket",
		Short:   "Get the collections of another node, and stay in sync with it",
		Long: `Get the collections that a ticket shares, with their schema and all documents, and stay
in sync with the node that made it. With - the ticket is read from standard input, where
other users of this machine cannot see it.

With --filter or --doc the node gets, and keeps, only a part of the collection: see pando keep.
The ticket must be for one collection then.`,
		Args: exactly("TICKET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			node, err := c.client()
			if err != nil {
				return err
			}
			ticket := args[0]
			if ticket == "-" {
				if ticket, err = c.readText("-"); err != nil {
					return err
				}
			}
			bar := c.bar("joining")
			joined, err := node.JoinPart(cmd.Context(), strings.TrimSpace(ticket), part, func(at api.JoinProgress) {
				bar.at(int64(at.Documents), int64(at.Total), fmt.Sprintf("%s, %s", plural(at.Documents, "document"), size(at.Bytes)))
			})
			bar.close()
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "in sync: %s docs, root %s  (%s, %s)\n",
				grouped(joined.Documents), joined.Root, took(joined.Took()), size(joined.Bytes))
			if joined.Part != "" {
				fmt.Fprintln(c.out, "of a part:", joined.Part)
			}
			return nil
		},
	}
	partFlags(cmd.Flags(), &part)
	return cmd
}

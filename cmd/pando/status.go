package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/p2p"
	"github.com/spf13/cobra"
)

func (c *command) statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the node holds, and whether its peers hold the same",
		Long: `Show, per collection, how many documents the node holds and their root: the root is
the same on two nodes exactly if their documents are. Show, per peer, whether its
collections are identical, how many documents differ, or that it is unreachable.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			node, err := c.client()
			if err != nil {
				return err
			}
			status, err := node.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.out, status)
			}
			return showStatus(c.out, status)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func showStatus(out io.Writer, status api.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COLLECTION\tDOCUMENTS\tROOT")
	for _, one := range status.Collections {
		fmt.Fprintf(w, "%s\t%s\t%s\n", one.Name, grouped(one.Documents), one.Root)
	}
	if len(status.Collections) > 1 {
		fmt.Fprintf(w, "all\t%s\t%s\n", grouped(status.Documents), status.Root)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(status.Peers) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PEER\tCOLLECTION\tSTATE")
	for _, p := range status.Peers {
		if len(p.Collections) == 0 {
			fmt.Fprintf(w, "%s\t-\t%s\n", p.ID, connection(p))
		}
		for _, one := range p.Collections {
			fmt.Fprintf(w, "%s\t%s\t%s\n", p.ID, one.Name, stateText(one))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range status.Peers {
		if p.Problem != "" || p.Hint != "" {
			fmt.Fprintf(out, "\n%s: %s\n", p.ID, strings.Trim(p.Problem+"\n  "+p.Hint, "\n "))
		}
	}
	return nil
}

func connection(p api.PeerStatus) string {
	if p.Connected {
		return "connected"
	}
	return string(p2p.Unreachable)
}

func stateText(c api.PeerCollection) string {
	switch {
	case c.State == p2p.Differs && c.AtLeast:
		return "at least " + grouped(c.Differ) + " differ"
	case c.State == p2p.Differs:
		return grouped(c.Differ) + " differ"
	}
	return string(c.State)
}

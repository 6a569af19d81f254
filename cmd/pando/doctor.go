package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/p2p"
	"github.com/spf13/cobra"
)

func (c *command) doctorCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [TICKET|MULTIADDR|PEERID|-]",
		Short: "Explain why two nodes cannot connect or sync",
		Long: `Look at the node and at its known peers. With a ticket (- reads it from standard input), a
multiaddr or the ID of a known peer, look at the way to that peer: try each of its addresses
by itself, connect, and compare what both share. Nothing is changed by it: nobody is joined,
trusted or remembered. Ends with an error if it finds a problem.`,
		Example: "  pando doctor\n  pando doctor /ip4/192.0.2.7/tcp/9171/p2p/12D3KooW…\n  pando doctor - < ticket",
		Args: func(cmd *cobra.Command, args []string) error {
			return noArgs(cmd, args[min(1, len(args)):])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			target := strings.Join(args, "")
			node, err := c.client()
			if err != nil {
				return err
			}
			if target == "-" {
				if target, err = c.readText("-"); err != nil {
					return err
				}
				if strings.TrimSpace(target) == "" {
					return fault.Invalid.Errorf("there is no ticket on standard input")
				}
			}
			found, err := node.Doctor(cmd.Context(), target)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(c.out, found)
			} else {
				err = showFindings(c.out, found)
			}
			if err != nil {
				return err
			}
			return verdict(found)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func showFindings(out io.Writer, found []api.Finding) error {
	for _, f := range found {
		if _, err := fmt.Fprintf(out, "%-8s %s: %s\n", f.Grade, f.About, f.Text); err != nil {
			return err
		}
		if f.Hint != "" {
			fmt.Fprintf(out, "%-8s -> %s\n", "", f.Hint)
		}
	}
	return nil
}

// verdict is an error if something is wrong, so that scripts can ask.
func verdict(found []api.Finding) error {
	problems := 0
	for _, f := range found {
		if f.Grade == p2p.Problem {
			problems++
		}
	}
	if problems == 0 {
		return nil
	}
	return fault.Unavailable.Errorf("%s found", plural(problems, "problem"))
}

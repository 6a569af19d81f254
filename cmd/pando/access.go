package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/pandodb/pando/api"
	"github.com/spf13/cobra"
)

// accessCommands keep the lists of peers that may connect to a node, and that may not.
func (c *command) accessCommands() []*cobra.Command {
	var noLonger bool
	allow := &cobra.Command{
		Use: "allow PEER …", Short: "Let peers connect to a closed node",
		Long: `Let peers connect to a node that is closed (pando start --closed). As soon as one is
allowed, nobody else may connect to it, but peers that it was told of by peer connect, --peers
or replicator add. PEER is a peer id, an address that ends with one, or a did:key.

To be allowed is to be let in, no more: what a peer may sync its secrets say, see share.`,
		Example: "  pando peer allow 12D3KooW…",
		Args:    atLeast("PEER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.changeAccess(cmd.Context(), noLonger, (*api.Client).Allow, args)
		},
	}
	deny := &cobra.Command{
		Use: "deny PEER …", Short: "Keep peers out, and end their connections",
		Long: `Keep peers out for good, and end their connections. This goes before all that speaks for a
peer: a ticket, --peers, or the list of those allowed, which it is taken off.`,
		Example: "  pando peer deny 12D3KooW…",
		Args:    atLeast("PEER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.changeAccess(cmd.Context(), noLonger, (*api.Client).Deny, args)
		},
	}
	for _, cmd := range []*cobra.Command{allow, deny} {
		cmd.Flags().BoolVar(&noLonger, "remove", false, "take them off the list instead")
	}
	allowed := &cobra.Command{
		Use: "allowed", Short: "List the peers that are allowed, and those that are denied", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			node, err := c.client()
			if err != nil {
				return err
			}
			a, err := node.Access(cmd.Context())
			if err != nil {
				return err
			}
			return c.printAccess(a)
		},
	}
	return []*cobra.Command{allow, deny, allowed}
}

func (c *command) changeAccess(ctx context.Context, noLonger bool, change func(*api.Client, context.Context, ...string) (api.Access, error), peers []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	if noLonger {
		change = (*api.Client).Unlist
	}
	a, err := change(node, ctx, peers...)
	if err != nil {
		return err
	}
	return c.printAccess(a)
}

func (c *command) printAccess(a api.Access) error {
	switch {
	case !a.Closed && len(a.Allowed) > 0:
		fmt.Fprintln(c.out, "open: any peer may connect; the list of those allowed holds for a node started with --closed")
	case !a.Closed:
		fmt.Fprintln(c.out, "open: any peer may connect")
	case len(a.Allowed) > 0:
		fmt.Fprintln(c.out, "closed: only peers that are allowed, or named, may connect")
	default:
		fmt.Fprintln(c.out, "closed: a peer that proves no secret is sent away")
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, p := range a.Allowed {
		fmt.Fprintf(w, "%s\tallowed\n", p)
	}
	for _, p := range a.Denied {
		fmt.Fprintf(w, "%s\tdenied\n", p)
	}
	return w.Flush()
}

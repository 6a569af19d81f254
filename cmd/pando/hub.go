package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pandodb/pando/api"
)

// hubCommand names the peers that keep sealed documents for others.
func (c *command) hubCommand() *cobra.Command {
	change := func(done string, how func(*api.Client, *cobra.Command, []string) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			node, err := c.client()
			if err != nil {
				return err
			}
			if err := how(node, cmd, args); err != nil {
				return err
			}
			for _, p := range args {
				fmt.Fprintln(c.out, done, p)
			}
			return nil
		}
	}
	add := &cobra.Command{
		Use: "add PEER …", Short: "Give sealed documents to peers that cannot read them",
		Long: `Give documents that are encrypted as a whole to peers that may not read them, so that they
keep them, and pass them on to those who may. It is this node that gives them: everybody who
wants a hub to have his documents names it. The hub has to be a member of the collections: let
it join by a ticket. Start it with --blind, and it is given nothing else.

PEER is a peer id, an address that ends with one, or a did:key.`,
		Example: "  pando hub add 12D3KooW…",
		Args:    atLeast("PEER"),
		RunE: change("hub", func(node *api.Client, cmd *cobra.Command, args []string) error {
			return node.AddHub(cmd.Context(), args...)
		}),
	}
	remove := &cobra.Command{
		Use: "remove PEER …", Example: "  pando hub remove 12D3KooW…", Short: "Give them nothing more that they may not read",
		Long: "Give them nothing more that they may not read. What they were given they keep.",
		Args: atLeast("PEER"),
		RunE: change("removed", func(node *api.Client, cmd *cobra.Command, args []string) error {
			return node.RemoveHub(cmd.Context(), args...)
		}),
	}
	list := &cobra.Command{
		Use: "list", Short: "List the hubs of the node", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			node, err := c.client()
			if err != nil {
				return err
			}
			all, err := node.Hubs(cmd.Context())
			for _, p := range all {
				fmt.Fprintln(c.out, p)
			}
			if err == nil && len(all) == 0 {
				fmt.Fprintln(c.err, "note: the node has no hubs")
			}
			return err
		},
	}
	return group("hub", "Name peers that keep what they cannot read", add, list, remove)
}

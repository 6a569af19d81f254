package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/spf13/cobra"
)

func (c *command) nodeCommand() *cobra.Command {
	status := &cobra.Command{
		Use: "status", Short: "Print whose the node is, and what you are to it", Args: noArgs,
		RunE: c.withNode(func(ctx context.Context, node *api.Client, _ []string) error { return c.nodeStatus(ctx, node) }),
	}
	identity := &cobra.Command{
		Use: "identity", Short: "Print who the node says that it is", Args: noArgs,
		RunE: c.withNode(func(ctx context.Context, node *api.Client, _ []string) error {
			id, err := node.NodeIdentity(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.out, id.DID)
			if id.PeerID != "" {
				fmt.Fprintln(c.out, id.PeerID)
			}
			return nil
		}),
	}
	access := &cobra.Command{
		Use: "access", Short: "List who may do what with the node", Args: noArgs,
		RunE: c.withNode(func(ctx context.Context, node *api.Client, _ []string) error {
			all, err := node.NodeGrants(ctx)
			if err != nil {
				return err
			}
			if len(all) == 0 {
				fmt.Fprintln(c.err, "note: nobody owns this node: see pando node claim")
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			for _, g := range all {
				fmt.Fprintf(w, "%s\t%s\n", g.Relation, g.TargetActor)
			}
			return w.Flush()
		}),
	}
	enable := &cobra.Command{
		Use: "enable", Short: "Check again who may do what", Args: noArgs,
		Long: `Check again who may do what with the node, after node disable.`,
		RunE: c.enforce(true, "access enabled: callers have to prove who they are again"),
	}
	disable := &cobra.Command{
		Use: "disable", Short: "Let whoever is on the machine of the node administer it, for a while", Args: noArgs,
		Long: `Let whoever is on the machine of the node administer it without proving who he is, until
node enable. Documents under a policy stay closed to him, and so does who else may do what.`,
		RunE: c.enforce(false, "access disabled temporarily: whoever is on the machine of the node may administer it, until pando node enable"),
	}
	return group("node", "See whose the node is, and let others in",
		status, identity, c.claimCommand(), access, c.grantCommand(), c.revokeCommand(), enable, disable)
}

// withNode makes a command of what is done with a node.
func (c *command) withNode(run func(context.Context, *api.Client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		node, err := c.client()
		if err != nil {
			return err
		}
		return run(cmd.Context(), node, args)
	}
}

// enforce makes a command that switches the checks on or off, and says what is true then.
func (c *command) enforce(on bool, now string) func(*cobra.Command, []string) error {
	return c.withNode(func(ctx context.Context, node *api.Client, _ []string) error {
		err := node.EnforceNode(ctx, on)
		if err == nil {
			fmt.Fprintln(c.out, now)
		}
		return err
	})
}

func (c *command) claimCommand() *cobra.Command {
	var recover bool
	claim := &cobra.Command{
		Use: "claim [DID]", Short: "Make somebody the owner of the node: you, if -i says who you are",
		Long: `Make somebody the owner of a node that nobody owns: you, if -i says who you are, or whoever
DID names. From then on callers have to prove who they are, by -i on the command line, and
the owner and admins let them in, by node grant. The commands of whoever owns the directory
of the node go on without: they reach it by a socket there, if they are run with its
--rootdir and without --url.

With --recover the node changes hands. That takes the socket.`,
		Example: "  pando node claim -i me",
		Args:    atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			who, err := c.claimant(args)
			if err != nil {
				return err
			}
			node, err := c.client()
			if err != nil {
				return err
			}
			if err := node.Claim(cmd.Context(), who, recover); err != nil {
				return err
			}
			fmt.Fprintln(c.out, "owner", who)
			if recover {
				fmt.Fprintln(c.err, "note: whom the owner before let in, still is: see pando node access")
			}
			return nil
		},
	}
	claim.Flags().BoolVar(&recover, "recover", false, "also if somebody owns it")
	return claim
}

// claimant returns who is to be the owner.
func (c *command) claimant(args []string) (pando.DID, error) {
	if len(args) == 1 {
		return ident.ParseDID(args[0])
	}
	key, err := c.me()
	if err == nil && key.IsZero() {
		err = fault.Invalid.Errorf("whose is the node to be? Name a DID, or yourself with -i")
	}
	return key.DID(), err
}

func (c *command) grantCommand() *cobra.Command {
	return &cobra.Command{
		Use: "grant RELATION DID|*", Short: "Let somebody in: as admin, operator or user",
		Long: `Let somebody in to the node. An admin runs it: schema, peers, backups; and lets others in.
An operator looks after it: status, figures, lists, but no documents. A user works with
documents, as far as the policies of their collections go; '*' lets in everybody who proves
an identity, as users.`,
		Example: "  pando node grant user did:key:z6Mk…",
		Args:    exactly("RELATION", "DID"),
		RunE: c.withNode(func(ctx context.Context, node *api.Client, args []string) error {
			was, err := node.GrantNode(ctx, api.Relation(args[0]), args[1])
			return c.saidOf(was, err, "was so before", "granted")
		}),
	}
}

func (c *command) revokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke RELATION DID|*", Short: "Take it back",
		Long: `Take back what somebody was let in as. It holds from the next request on, and ends what is
open: subscriptions, live queries, topics, imports, exports.`,
		Example: "  pando node revoke user did:key:z6Mk…",
		Args:    exactly("RELATION", "DID"),
		RunE: c.withNode(func(ctx context.Context, node *api.Client, args []string) error {
			was, err := node.RevokeNode(ctx, api.Relation(args[0]), args[1])
			return c.saidOf(was, err, "revoked", "was not granted")
		}),
	}
}

func (c *command) saidOf(was bool, err error, yes, no string) error {
	if err != nil {
		return err
	}
	if !was {
		yes = no
	}
	fmt.Fprintln(c.out, yes)
	return nil
}

func (c *command) nodeStatus(ctx context.Context, node *api.Client) error {
	st, err := node.NodeStatus(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.out, "access", st.Status)
	if st.Owner != "" {
		fmt.Fprintln(c.out, "owner ", st.Owner)
	}
	you := []string{string(st.You)}
	if st.You == "" {
		you[0] = "nobody in particular"
	}
	for _, r := range st.Relations {
		you = append(you, string(r))
	}
	if st.Local {
		you = append(you, "at the machine of the node")
	}
	fmt.Fprintln(c.out, "you   ", strings.Join(you, ", "))
	return nil
}

// atMost refuses more arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return fault.Invalid.Errorf("%q is one argument too many: see '%s --help'", args[n], cmd.CommandPath())
		}
		return nil
	}
}

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

func (c *command) peerCommand() *cobra.Command {
	info := &cobra.Command{Use: "info", Short: "Print the peer id and the addresses of the node", Args: noArgs, RunE: c.peerInfo}
	list := &cobra.Command{Use: "list", Short: "List the peers that the node is connected to, or knows", Args: noArgs, RunE: c.peerList}
	show := &cobra.Command{
		Use: "show PEERID", Short: "Show all that is known of one peer, and how its copies compare",
		Long: `Show all that is known of one peer: connections, addresses, bytes, the last session, its
score, and each of its copies. The end of its id is enough.`,
		Example: "  pando peer show …x7Kq",
		Args:    exactly("PEERID"), RunE: c.peerShow,
	}
	connect := &cobra.Command{
		Use: "connect MULTIADDR", Short: "Connect to a peer, and trust it with every collection",
		Long: `Connect to a peer, stay connected with it, and trust it with every collection, also those
to come. It has to admit this node in turn: by the same command there, or by a ticket. To
share some collections only, use share or replicator add. A peer that cannot be reached is
not remembered.`,
		Example: "  pando peer connect /ip4/192.0.2.7/tcp/9171/p2p/12D3KooW…",
		Args:    exactly("MULTIADDR"), RunE: c.peerConnect,
	}
	forget := &cobra.Command{
		Use: "forget PEERID", Short: "Take back the trust in a peer, and disconnect it",
		Long: `Take back the trust in a peer, and disconnect it. What it was given, documents and join
secrets, it keeps: it can still sync the collections that it has. A peer that the node was
started with, by --peers, is trusted again after the next start.`,
		Example: "  pando peer forget 12D3KooW…",
		Args:    exactly("PEERID"), RunE: c.peerForget,
	}
	all := append([]*cobra.Command{info, list, show, connect, forget}, c.accessCommands()...)
	return group("peer", "See the node on the network, and connect to others", all...)
}

func (c *command) peerInfo(cmd *cobra.Command, _ []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	info, err := node.Info(cmd.Context())
	if err != nil {
		return err
	}
	fmt.Fprintln(c.out, info.ID)
	for _, a := range info.Addrs {
		fmt.Fprintln(c.out, full(a, info.ID))
	}
	return nil
}

// full makes an address one that can be given to connect.
func full(addr, id string) string {
	if strings.Contains(addr, "/p2p/") {
		return addr
	}
	return addr + "/p2p/" + id
}

func (c *command) peerConnect(cmd *cobra.Command, args []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	if err := node.Connect(cmd.Context(), args[0]); err != nil {
		return err
	}
	fmt.Fprintln(c.out, "connected")
	return nil
}

// peerID returns the peer that an argument names: an id, or a multiaddr that ends with one.
func peerID(arg string) (string, error) {
	if !strings.Contains(arg, "/") {
		return arg, nil
	}
	id, _, err := splitAddr(arg)
	return id, err
}

func (c *command) peerForget(cmd *cobra.Command, args []string) error {
	id, err := peerID(args[0])
	if err != nil {
		return err
	}
	node, err := c.client()
	if err != nil {
		return err
	}
	if err := node.Forget(cmd.Context(), id); err != nil {
		return err
	}
	fmt.Fprintln(c.out, "forgotten", id)
	return nil
}

func (c *command) replicatorCommand() *cobra.Command {
	var part api.Part
	add := &cobra.Command{
		Use: "add MULTIADDR [COLLECTION …]", Short: "Push every change of collections, or of all of them, to a peer",
		Long: `Push every change of the named collections, or of all of them and those to come, to a
peer. The peer is trusted with these collections and no others, until the replicator is
removed. It has to admit this node: by peer connect there, or because one joined with a
ticket of the other.

With --filter or --doc only a part of one collection is pushed. A peer that has not got the
collection keeps that part of it then, and no more: see pando keep.`,
		Example: `  pando replicator add /ip4/192.0.2.7/tcp/9171/p2p/12D3KooW… Note --filter '{stars: {_gt: 3}}'`,
		Args:    atLeast("MULTIADDR"),
		RunE:    func(cmd *cobra.Command, args []string) error { return c.replicatorAdd(cmd, args, part) },
	}
	partFlags(add.Flags(), &part)
	list := &cobra.Command{Use: "list", Short: "List the replicators, and how far each has come", Args: noArgs, RunE: c.replicatorList}
	remove := &cobra.Command{
		Use: "remove PEER [COLLECTION …]", Example: "  pando replicator remove 12D3KooW… Note", Short: "Stop to push to a peer, and to trust it with what was pushed",
		Long: `Stop to push the named collections, or all of them, to a peer, and to trust it with them.
What it was given, documents and join secrets, it keeps.`,
		Args: atLeast("PEER"), RunE: c.replicatorRemove,
	}
	return group("replicator", "Push changes to peers that need not ask", add, list, remove)
}

func atLeast(name string) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fault.Invalid.Errorf("%s is missing: see '%s --help'", name, cmd.CommandPath())
		}
		return nil
	}
}

func (c *command) replicatorAdd(cmd *cobra.Command, args []string, part api.Part) error {
	id, addr, err := splitAddr(args[0])
	if err != nil {
		return err
	}
	node, err := c.client()
	if err != nil {
		return err
	}
	peer := api.PeerInfo{ID: id, Addrs: []string{addr}}
	switch {
	case !some(part):
		err = node.AddReplicator(cmd.Context(), peer, args[1:])
	case len(args) != 2:
		err = fault.Invalid.Errorf("a part is one of one collection: name that one")
	default:
		err = node.AddPartReplicator(cmd.Context(), peer, args[1], part)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(c.out, "added", id)
	return nil
}

// splitAddr takes the peer id off a multiaddr.
func splitAddr(addr string) (id, rest string, err error) {
	i := strings.LastIndex(addr, "/p2p/")
	if i < 0 || addr[i+len("/p2p/"):] == "" {
		return "", "", fault.Invalid.Errorf("multiaddr %q: it must end with /p2p/PEERID, as 'pando peer info' prints it", addr)
	}
	return addr[i+len("/p2p/"):], addr, nil
}

func (c *command) replicatorList(cmd *cobra.Command, _ []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	all, err := node.Replicators(cmd.Context())
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PEER\tCOLLECTIONS\tSTATE\tBEHIND")
	for _, r := range all {
		names := "all"
		if len(r.Collections) > 0 {
			names = strings.Join(r.Collections, ",")
		}
		behind := grouped(r.Behind)
		if r.LagMillis > 0 {
			behind += ", for " + took(time.Duration(r.LagMillis)*time.Millisecond)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Info.ID, names, r.State, behind)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range all {
		for _, name := range slices.Sorted(maps.Keys(r.Parts)) {
			part := r.Parts[name]
			fmt.Fprintf(c.out, "\n%s: of %s %s\n", r.Info.ID, name, keptText(api.Kept{Kept: "part", Filter: part.Filter, Documents: part.Documents}))
		}
		if r.Problem != "" {
			fmt.Fprintf(c.out, "\n%s: %s\n", r.Info.ID, r.Problem)
		}
	}
	return nil
}

func (c *command) replicatorRemove(cmd *cobra.Command, args []string) error {
	id, err := peerID(args[0])
	if err != nil {
		return err
	}
	node, err := c.client()
	if err != nil {
		return err
	}
	if err := node.RemoveReplicator(cmd.Context(), api.PeerInfo{ID: id}, args[1:]); err != nil {
		return err
	}
	fmt.Fprintln(c.out, "removed", id)
	return nil
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/p2p"
)

func (c *command) traceCommand() *cobra.Command {
	var with []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "trace [CID|DOCID]",
		Short: "Show where a change was when, from its write to queries on other nodes",
		Long: `Show what nodes remember of the way of a change: when it was written, by its author's clock,
on disk, announced, heard of, fetched, merged and visible to queries. It is named by the CID
of its commit, which _version { cid } shows, or by the docID, which stands for the newest
changes of that document. --with asks more nodes, and puts their times together: they are
of different clocks. Without a name it lists the changes of the last time.`,
		Example: "  pando trace bafyrei… --with 192.0.2.7:9181",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return exactly("CID")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			nodes, err := c.clients(with)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return c.recentTraces(cmd.Context(), nodes, asJSON)
			}
			all, err := c.tracesOf(cmd.Context(), nodes, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.out, all)
			}
			return showTraces(c.out, all)
		},
	}
	cmd.Flags().StringSliceVar(&with, "with", nil, "HOST:PORT of other nodes to ask as well")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// clients returns clients of the node at --url, and of others.
func (c *command) clients(others []string) ([]*api.Client, error) {
	node, err := c.client()
	if err != nil {
		return nil, err
	}
	all := []*api.Client{node}
	for _, address := range others {
		other, err := c.clientOf(address)
		if err != nil {
			return nil, err
		}
		all = append(all, other)
	}
	return all, nil
}

// tracesOf asks every node. One that knows nothing of the change is passed over, unless
// nobody does; another than the first that does not answer, too.
func (c *command) tracesOf(ctx context.Context, nodes []*api.Client, id string) ([]api.Trace, error) {
	var all []api.Trace
	var unknown error
	for i, node := range nodes {
		got, err := node.Trace(ctx, id)
		if i > 0 && errors.Is(err, fault.Unavailable) {
			fmt.Fprintf(c.err, "left out: %v\n", err)
			continue
		}
		if errors.Is(err, fault.NotFound) {
			unknown = err
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, got...)
	}
	if len(all) == 0 {
		return nil, unknown
	}
	return all, nil
}

// step is an event on a node.
type step struct {
	node string
	api.TraceEvent
}

// showTraces writes one timeline for each commit.
func showTraces(out io.Writer, all []api.Trace) error {
	slices.SortStableFunc(all, func(a, b api.Trace) int { return cmp.Compare(a.Commit, b.Commit) })
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].Commit == all[0].Commit {
			n++
		}
		if err := showTrace(out, all[:n]); err != nil {
			return err
		}
		if all = all[n:]; len(all) > 0 {
			fmt.Fprintln(out)
		}
	}
	return nil
}

func showTrace(out io.Writer, nodes []api.Trace) error {
	known := nodes[0]
	var steps []step
	for _, t := range nodes {
		if t.DocID != "" {
			known = t
		}
		for _, e := range t.Events {
			one := step{shortID(t.Node), e}
			if e.Stage == p2p.Written {
				one.node = "author" // every node that has the commit knows it
			}
			if one.node != "author" || !slices.ContainsFunc(steps, func(s step) bool { return s.node == "author" }) {
				steps = append(steps, one)
			}
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int {
		if w := written(a) - written(b); w != 0 {
			return w // whatever the clocks say
		}
		return a.At.Compare(b.At)
	})
	fmt.Fprintf(out, "commit %s\n", known.Commit)
	if known.DocID != "" {
		fmt.Fprintf(out, "document %s of %s, height %d\n", known.DocID, known.Collection, known.Height)
	} else {
		fmt.Fprintln(out, "it is not here, only heard of")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tAFTER\tNODE\tSTAGE\tPEER\tWAY")
	for _, s := range steps {
		peer, way := "-", "-"
		if s.Peer != "" {
			peer = shortID(s.Peer)
		}
		if s.Way != "" {
			way = s.Way
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.At.Local().Format("15:04:05.000"), after(s.At.Sub(steps[0].At)), s.node, s.Stage, peer, way)
	}
	if err := w.Flush(); err != nil || len(steps) > 1 {
		return err
	}
	_, err := fmt.Fprintln(out, "nothing else is remembered: that was too long, or too many changes, ago")
	return err
}

func written(s step) int {
	if s.Stage == p2p.Written {
		return 0
	}
	return 1
}

// after writes how long after the first event another was; clocks differ, so it may be
// before it.
func after(d time.Duration) string {
	if d < 0 {
		return "-" + took(-d)
	}
	return took(d)
}

func (c *command) recentTraces(ctx context.Context, nodes []*api.Client, asJSON bool) error {
	if len(nodes) > 1 {
		return fault.Invalid.Errorf("--with puts the way of one change together: name it by its CID")
	}
	all, err := nodes[0].Traces(ctx, 0)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.out, all)
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tCOMMIT\tCOLLECTION\tNOW\tAFTER")
	for _, t := range all {
		if len(t.Events) == 0 {
			continue
		}
		first, last := t.Events[0], t.Events[len(t.Events)-1]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", first.At.Local().Format("15:04:05.000"), t.Commit, cmp.Or(t.Collection, "-"), last.Stage, after(last.At.Sub(first.At)))
	}
	return w.Flush()
}

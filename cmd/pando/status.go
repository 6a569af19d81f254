package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pandodb/pando"
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
		kept := ""
		switch {
		case one.Kept != "":
			kept = "\tkept: " + one.Kept
		case one.Incomplete:
			kept = "\tincomplete"
		}
		fmt.Fprintf(w, "%s\t%s\t%s%s\n", one.Name, grouped(one.Documents), one.Root, kept)
	}
	if len(status.Collections) > 1 {
		fmt.Fprintf(w, "all\t%s\t%s\n", grouped(status.Documents), status.Root)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := showCopies(out, status); err != nil {
		return err
	}
	for _, p := range status.Peers {
		if p.Problem != "" || p.Hint != "" {
			fmt.Fprintf(out, "\n%s: %s\n", p.ID, strings.Trim(p.Problem+"\n  "+p.Hint, "\n "))
		}
	}
	for _, one := range status.Collections {
		if one.Kept != "" {
			fmt.Fprintf(out, "\nof %s this node keeps a part: %s; %s\n", one.Name, one.Kept, completeText(one, status.At))
		} else if one.Incomplete {
			fmt.Fprintf(out, "\n%s is still copied%s, and not known to be complete: queries answer from what has come so far\n", one.Name, copiedText(one.From, one.Since, status.At))
		}
		if one.Locked > 0 {
			fmt.Fprintf(out, "\nof %s no key here opens %s: for queries they do not exist\n", one.Name, lockedText(one.Locked))
		}
	}
	return showTrouble(out, status)
}

// showCopies writes how the copies of peers compare, if there are peers.
func showCopies(out io.Writer, status api.Status) error {
	if len(status.Peers) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PEER\tCOLLECTION\tSTATE")
	for _, p := range status.Peers {
		if len(p.Collections) == 0 {
			fmt.Fprintf(w, "%s\t-\t%s\n", p.ID, connection(p))
		}
		for _, one := range p.Collections {
			fmt.Fprintf(w, "%s\t%s\t%s%s\n", p.ID, one.Name, stateText(one), lagText(one, status.At))
		}
	}
	return w.Flush()
}

// lockedText says how many documents are locked, which are not counted to the end.
func lockedText(n int) string {
	if n >= pando.MaxLocked {
		return "at least " + plural(n, "document")
	}
	return plural(n, "document")
}

// completeText says when all of a part was here.
func completeText(c api.CollectionStatus, now time.Time) string {
	if c.Complete.IsZero() {
		return "it was never known to be complete"
	}
	return "it was complete " + ago(now.Sub(c.Complete)) + " ago"
}

// copiedText says from whom and since when a collection is copied, as far as it is known.
func copiedText(from string, since *time.Time, now time.Time) (text string) {
	if from != "" {
		text = " from " + from
	}
	if since != nil && now.After(*since) {
		text += ", for " + ago(now.Sub(*since))
	}
	return text
}

// farClock is from what difference on the clocks are worth a line: changes from more
// than five minutes ahead wait.
const farClock = time.Minute

// showTrouble writes what somebody should look at, and nothing otherwise.
func showTrouble(out io.Writer, status api.Status) error {
	for _, line := range mismatches(status) {
		fmt.Fprintf(out, "\nMISMATCH: %s\n  run 'pando fsck' on both nodes\n", line)
	}
	if skew := time.Duration(status.Skew * float64(time.Millisecond)); skew.Abs() > farClock {
		fmt.Fprintf(out, "\nthe clocks of the peers differ from the one here by %s: set them right\n", took(skew.Abs()))
	}
	if n := status.Counts["unfollowed"]; n > 0 {
		fmt.Fprintf(out, "\n%s found no room among the topics that a node takes part in: changes come late, or twice\n  share fewer collections from here, or give them fewer shards\n", plural(n, "collection"))
	}
	if len(status.Denied) > 0 {
		fmt.Fprintf(out, "\ndenied since the start: %s\n", deniedText(status.Denied))
	}
	if status.Wanted.Documents == 0 {
		return nil
	}
	fmt.Fprintf(out, "\nincomplete here: %s, %s for more than a day\n", plural(status.Wanted.Documents, "document"), grouped(status.Wanted.Stuck))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COLLECTION\tDOCUMENT\tMISSING\tSINCE\tASKED LAST")
	for _, one := range status.Wanted.Oldest {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", one.Collection, one.DocID, plural(one.Commits, "commit"), ago(status.At.Sub(one.Since)), cmp.Or(one.Asked, "nobody"))
	}
	if more := status.Wanted.Documents - len(status.Wanted.Oldest); more > 0 {
		fmt.Fprintf(w, "and %s more\n", grouped(more))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, one := range status.Wanted.Oldest {
		if len(one.Groups) > 0 {
			fmt.Fprintf(out, "\n%s waits for group %s, which cannot be read here, or not yet: whoever owns the group can let you read it, by pando acl grant\n",
				one.DocID, strings.Join(one.Groups, " or "))
		}
	}
	return nil
}

// deniedText says what was denied how often, the most first.
func deniedText(counts map[string]uint64) string {
	kinds := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%s %s", kind, grouped(counts[kind]))
	}
	return strings.Join(kinds, ", ")
}

// mismatches says which quiet copies stay different.
func mismatches(status api.Status) (lines []string) {
	for _, p := range status.Peers {
		for _, one := range p.Collections {
			if !one.Mismatch.IsZero() {
				lines = append(lines, fmt.Sprintf("%s here and at %s stayed different %s ago, after all was exchanged", one.Name, p.ID, ago(status.At.Sub(one.Mismatch))))
			}
		}
	}
	return lines
}

func connection(p api.PeerStatus) string {
	if p.Connected {
		return "connected"
	}
	return string(p2p.Unreachable)
}

func stateText(c api.PeerCollection) string {
	text := copyText(c)
	if c.Part != "" {
		text += " (of a part: " + c.Part + ")"
	}
	if c.Problem != "" {
		text += ": " + c.Problem
	}
	return text
}

func copyText(c api.PeerCollection) string {
	switch {
	case c.State == p2p.Differs && c.AtLeast:
		return "at least " + grouped(c.Differ) + " differ"
	case c.State == p2p.Differs && c.Differ == 0: // it changed while it was counted
		return string(c.State)
	case c.State == p2p.Differs:
		return grouped(c.Differ) + " differ"
	}
	return string(c.State)
}

package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (c *command) keepCommand() *cobra.Command {
	var part api.Part
	cmd := &cobra.Command{
		Use:   "keep [COLLECTION]",
		Short: "Say which documents of a collection the node gets, or list what it keeps",
		Long: `Say which documents of a collection the node gets from its peers: all, as is the rule, none,
those that meet a filter over their own fields, those named by their docIDs, or both. What is
written on the node itself reaches the peers in any case.

What the node has already stays, but is followed only as far as it is kept. Answers to queries
are about what is kept, and say so (extensions.coverage).

Without a collection: list what is kept of each, and when the node was last known to have all
of that.`,
		Example: `  pando keep Note --filter '{room: {_eq: "kitchen"}}'
  pando keep Note --doc bafkrei…
  pando keep Note --all
  pando keep`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly("COLLECTION")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			node, err := c.client()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if err := node.Keep(cmd.Context(), args[0], part); err != nil {
					return err
				}
			} else if part.All || part.None || some(part) {
				return fault.Invalid.Errorf("COLLECTION is missing: see '%s --help'", cmd.CommandPath())
			}
			all, err := node.Kept(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 1 {
				for _, k := range all {
					if k.Collection == args[0] {
						all = []api.Kept{k}
						break
					}
				}
			}
			return c.printKept(all)
		},
	}
	cmd.Flags().BoolVar(&part.All, "all", false, "keep every document")
	cmd.Flags().BoolVar(&part.None, "none", false, "keep no document")
	partFlags(cmd.Flags(), &part)
	return cmd
}

// partFlags are the flags that say which part of a collection is meant.
func partFlags(f *pflag.FlagSet, part *api.Part) {
	f.StringVar(&part.Filter, "filter", "", "the documents that meet a filter, written as in a query: '{stars: {_gt: 3}}'")
	f.StringSliceVar(&part.Documents, "doc", nil, "this document; may be repeated")
}

func some(p api.Part) bool { return p.Filter != "" || len(p.Documents) > 0 }

func (c *command) printKept(all []api.Kept) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COLLECTION\tKEPT\tCOMPLETE AS OF")
	for _, k := range all {
		at := "-"
		if k.AsOf != nil {
			at = k.AsOf.Format(time.RFC3339) + " (" + k.From + ")"
		} else if k.Incomplete {
			at = "not yet" + copiedText(k.From, k.Since, time.Now())
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", k.Collection, keptText(k), at)
	}
	return w.Flush()
}

// keptText says what is kept, in a few words.
func keptText(k api.Kept) string { return partText(k.Kept, k.Filter, len(k.Documents)) }

func partText(kept, filter string, documents int) string {
	if kept != "part" {
		return kept
	}
	var parts []string
	if filter != "" {
		parts = append(parts, "where "+filter)
	}
	if documents > 0 {
		parts = append(parts, plural(uint64(documents), "document"))
	}
	return strings.Join(parts, " and ")
}

// coveredText says what an answer is about, and as of when.
func coveredText(c api.Covered, now time.Time) string {
	if c.Kept == "whole" {
		return c.Collection + " is still copied" + copiedText(c.From, c.Since, now) + ": the answer is about what has come so far"
	}
	text := "this node does not keep all of " + c.Collection + ": it keeps " + partText(c.Kept, c.Filter, c.Documents)
	if c.AsOf == nil {
		return text + ", and is not known to have all of that"
	}
	return text + ", complete as of " + c.AsOf.Format(time.RFC3339)
}

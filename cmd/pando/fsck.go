package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

func (c *command) fsckCommand() *cobra.Command {
	var rebuild bool
	var store storeFlags
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Check the node's directory, or rebuild it from its commits",
		Long: `Check everything in --rootdir: the checksum of every block of every file, every
signature, and that every document is what its commits make. The node must not run.
Of damaged files it names the blocks, and goes no further.

With --rebuild everything that is derived is made anew from the commits. What was whole
comes out the same, byte for byte. Damaged commits are left out and unreadable blocks
stepped over; what was lost comes back from a peer that has it, with the next sync. It
may be interrupted at any time. If the files cannot even be opened, what is whole in them
is gathered. A check writes nothing; a rebuild needs as much free space as the node has
data.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := store.key(cmd.Context(), c)
			if err != nil {
				return err
			}
			if rebuild {
				return c.rebuild(cmd.Context(), key)
			}
			return c.check(cmd.Context(), key)
		},
	}
	cmd.Flags().BoolVar(&rebuild, "rebuild", false, "make everything anew from the commits")
	store.add(cmd)
	return cmd
}

func (c *command) check(ctx context.Context, key []byte) (err error) {
	log, err := c.logger()
	if err != nil {
		return err
	}
	db, err := pando.Open(ctx, c.rootdir, &pando.Options{Logger: log, ReadOnly: true, StoreKey: key})
	if err != nil {
		return c.inRootdir(err)
	}
	defer func() {
		if e := db.Close(); err == nil {
			err = e
		}
	}()
	problems, files := 0, 0
	if err := db.Check(ctx, func(p pando.Problem) {
		problems++
		if p.What == "file" {
			files++
		}
		c.showProblem(p)
	}); err != nil {
		return err
	}
	switch {
	case files > 0: // the check ends with the files then
		return fault.Corrupt.Errorf("%s found in the files of %s, so the documents were not checked: mend them with 'pando fsck --rebuild'", plural(problems, "problem"), c.rootdir)
	case problems > 0:
		return fault.Corrupt.Errorf("%s found in %s: mend it with 'pando fsck --rebuild'", plural(problems, "problem"), c.rootdir)
	}
	fmt.Fprintf(c.out, "no problems in %s\n", plural(len(db.Collections()), "collection"))
	return nil
}

func (c *command) rebuild(ctx context.Context, key []byte) error {
	r, err := pando.Rebuild(ctx, c.rootdir, &pando.Options{StoreKey: key}, c.showProblem)
	if err != nil {
		return c.inRootdir(err)
	}
	fmt.Fprintln(c.out, rebuiltText(r))
	return nil
}

// rebuiltText says what was kept, and of what was lost only what is known.
func rebuiltText(r pando.Rebuilt) string {
	text := fmt.Sprintf("rebuilt %s from %s", plural(r.Documents, "document"), plural(r.Commits, "commit"))
	if r.Lost > 0 {
		text += fmt.Sprintf("; left out %s", plural(r.Lost, "damaged commit"))
	}
	if r.Unreadable > 0 {
		text += fmt.Sprintf("; stepped over %s, and nobody knows how much was there", plural(r.Unreadable, "unreadable place"))
	}
	if r.Gathered && r.Unreadable == 0 {
		text += "; gathered from files that could not be read in order, so something may be missing"
	}
	if r.Gathered || r.Lost+r.Unreadable > 0 {
		text += "; start the node: a peer that has what is missing gives it back"
	}
	return text
}

// showProblem prints one problem on one line.
func (c *command) showProblem(p pando.Problem) {
	fmt.Fprintln(c.out, strings.Join(strings.Fields(p.String()), " "))
}

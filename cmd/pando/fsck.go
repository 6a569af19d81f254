package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

func (c *command) fsckCommand() *cobra.Command {
	var rebuild bool
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Check the node's directory, or rebuild it from its commits",
		Long: `Check everything in --rootdir: the checksum of every block of every file, every
signature, and that every document is what its commits make. The node must not run.

With --rebuild everything that is derived is made anew from the commits. What was whole
comes out the same, byte for byte; commits that are damaged are left out and come back
with the next sync. It may be interrupted at any time.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if info, err := os.Stat(c.rootdir); err != nil || !info.IsDir() {
				return fault.NotFound.Errorf("there is no directory %s: name the node's with --rootdir", c.rootdir)
			}
			if rebuild {
				return c.rebuild(cmd.Context())
			}
			return c.check(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&rebuild, "rebuild", false, "make everything anew from the commits")
	return cmd
}

func (c *command) check(ctx context.Context) (err error) {
	log, err := c.logger()
	if err != nil {
		return err
	}
	db, err := pando.Open(ctx, c.rootdir, &pando.Options{Logger: log})
	if err != nil {
		return err
	}
	defer func() {
		if e := db.Close(); err == nil {
			err = e
		}
	}()
	problems := 0
	if err := db.Check(ctx, func(p pando.Problem) {
		problems++
		c.showProblem(p)
	}); err != nil {
		return err
	}
	if problems > 0 {
		return fault.Corrupt.Errorf("%s found in %s: mend it with 'pando fsck --rebuild'", plural(problems, "problem"), c.rootdir)
	}
	fmt.Fprintf(c.out, "no problems in %s\n", plural(len(db.Collections()), "collection"))
	return nil
}

func (c *command) rebuild(ctx context.Context) error {
	problems := 0
	r, err := pando.Rebuild(ctx, c.rootdir, func(p pando.Problem) {
		problems++
		c.showProblem(p)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "rebuilt %s from %s", plural(r.Documents, "document"), plural(r.Commits, "commit"))
	if problems > 0 {
		fmt.Fprint(c.out, "; what is damaged was left out: start the node, and a peer that has it gives it back")
	}
	fmt.Fprintln(c.out)
	return nil
}

// showProblem prints one problem on one line.
func (c *command) showProblem(p pando.Problem) {
	fmt.Fprintln(c.out, strings.Join(strings.Fields(p.String()), " "))
}

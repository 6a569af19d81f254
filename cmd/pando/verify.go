package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

func (c *command) verifyCommand() *cobra.Command {
	var at string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "verify DOC", Short: "Check the whole history of a document again", Args: exactly("DOC"),
		Long: `Check the history of a document: the name, signature and parents of every commit, the
delegation of those that a gateway signed, and whether the policy let their authors make them.
The state is a hash of what the commits make. Who has the same heads has the same state: read
it to each other to know that you see the same document. --at verifies the document as it was
made by one commit.`,
		Example: "  pando verify bafkrei…",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			v, err := client.Verify(cmd.Context(), args[0], at)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(c.out, v)
			} else {
				err = showVerification(c.out, v)
			}
			if err == nil && !v.Sound {
				err = fault.Corrupt.Errorf("the history of document %s is not sound", v.DocID)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "CID of the commit whose history to verify")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func showVerification(w io.Writer, v *pando.Verification) error {
	fmt.Fprintf(w, "%s %s\n", v.Collection, v.DocID)
	if v.Owner != "" {
		fmt.Fprintf(w, "owner    %s\n", v.Owner)
	}
	for _, h := range v.Heads {
		fmt.Fprintf(w, "head     %s\n", h)
	}
	fmt.Fprintf(w, "state    %s\n\n", v.State)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "HEIGHT\tCOMMIT\tVERDICT\tTIME\tAUTHOR")
	invalid := 0
	for _, one := range v.Commits {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\n", one.Height, one.CID, one.Verdict, clock(one.Time), author(one.Signed))
		if one.Error != "" {
			invalid++
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, one := range v.Commits {
		if one.Error != "" {
			fmt.Fprintf(w, "%s: %s\n", one.CID, one.Error)
		}
	}
	switch {
	case invalid > 0:
		fmt.Fprintf(w, "%s of %s should not be here: run 'pando fsck --rebuild' on the node, then sync with a peer\n", grouped(invalid), plural(len(v.Commits), "commit"))
	case !v.Stored:
		fmt.Fprintln(w, "every commit is right, but the node holds something else than they make: run 'pando fsck --rebuild' on it")
	default:
		fmt.Fprintf(w, "%s: names, signatures and rights are right\n", plural(len(v.Commits), "commit"))
	}
	switch {
	case v.Pending == 0:
	case v.Owner == "":
		fmt.Fprintf(w, "%s not count, and nobody can accept them: nobody owns the document, for it was given to two people at once\n", doNot(v.Pending))
	default:
		fmt.Fprintf(w, "%s not count, unless the owner accepts what was written while the right to was being taken away\n", doNot(v.Pending))
	}
	return nil
}

func doNot(n int) string {
	if n == 1 {
		return "1 commit does"
	}
	return grouped(n) + " commits do"
}

func author(s pando.Signed) string {
	if s.Via != "" {
		return fmt.Sprintf("%s (signed by %s)", s.Author, s.Via)
	}
	return string(s.Author)
}

func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func (c *command) blameCommand() *cobra.Command {
	var at string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "blame DOC", Short: "Show which commit, author and time gave each field its value", Args: exactly("DOC"),
		Long: `Show where the value of each field comes from. Of a multi-value register there is a line for
each value, and of a counter one for each author, with what he added in all. Times are those
of the authors' clocks. --at shows the document as it was made by one commit.`,
		Example: "  pando blame bafkrei…",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			all, err := client.Blame(cmd.Context(), args[0], at)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.out, all)
			}
			t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "FIELD\tVALUE\tTIME\tAUTHOR\tCOMMIT")
			for _, f := range all {
				for _, w := range f.Writes {
					fmt.Fprintf(t, "%s\t%.60s\t%s\t%s\t%s\n", f.Field, w.Value, clock(w.Time), author(w.Signed), w.CID)
				}
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "CID of the commit that made the document which to blame")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

func (c *command) viewCommand() *cobra.Command {
	add := &cobra.Command{
		Use:   "add QUERY SDL",
		Short: "Add a view: the inside of a query, and the type of its rows",
		Long:  "Add a view: the inside of a query, and the type of its rows.\nEither may be @FILE, or @- for standard input.",
		Example: `  pando view add 'Book { title author { name } }' \
    'type Shelf @materialized(if: false) { title: String  author: ShelfAuthor }  interface ShelfAuthor { name: String }'`,
		Args: exactly("QUERY", "SDL"),
	}
	lenses := lensFlags(add)
	add.RunE = func(cmd *cobra.Command, args []string) error { return c.viewAdd(cmd, args, lenses) }
	list := &cobra.Command{Use: "list", Short: "List the views of the node", Args: noArgs, RunE: c.viewList}
	drop := &cobra.Command{Use: "drop NAME", Example: "  pando view drop Shelf", Short: "Remove a view", Args: exactly("NAME"), RunE: c.viewDrop}
	refresh := &cobra.Command{
		Use:     "refresh [NAME…]",
		Example: "  pando view refresh Shelf",
		Short:   "Bring materialized views up to date, all if none is named",
		RunE:    c.viewRefresh,
	}
	return group("view", "Add, list, refresh and remove views", add, list, refresh, drop)
}

func (c *command) viewAdd(cmd *cobra.Command, args []string, lenses *[]string) error {
	src, err := pando.ViewSource{}, error(nil)
	if src.Transform, err = readLenses(*lenses); err != nil {
		return err
	}
	if src.Query, err = c.textOrFile(args[0]); err != nil {
		return err
	}
	if src.SDL, err = c.textOrFile(args[1]); err != nil {
		return err
	}
	node, err := c.client()
	if err != nil {
		return err
	}
	v, err := node.AddView(cmd.Context(), src)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "added %s\n", v.Name)
	if v.IsMaterialized {
		fmt.Fprintf(c.out, "it is empty until the first 'pando view refresh'\n")
	}
	return nil
}

// textOrFile returns an argument, or what is in the file that it names after @.
func (c *command) textOrFile(arg string) (string, error) {
	if len(arg) == 0 || arg[0] != '@' {
		return arg, nil
	}
	if len(arg) == 1 {
		return "", fault.Invalid.Errorf("@: name a file, as in @view.graphql, or @- for standard input")
	}
	return c.readText(arg[1:])
}

func (c *command) viewList(cmd *cobra.Command, _ []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	views, err := node.Views(cmd.Context())
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VIEW\tFIELDS\tROWS\tREFRESHED\tQUERY")
	for _, v := range views {
		query := ""
		if len(v.Sources) > 0 {
			query = oneLine(v.Sources[0].Query)
		}
		rows, at := "on query", "-"
		if v.IsMaterialized {
			rows, at = fmt.Sprint(v.State.Rows), "never"
		}
		if !v.State.Refreshed.IsZero() {
			at = v.State.Refreshed.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", v.Name, len(v.Fields), rows, at, query)
	}
	return w.Flush()
}

func (c *command) viewRefresh(cmd *cobra.Command, args []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{""}
	}
	for _, name := range args {
		did, err := node.RefreshViews(cmd.Context(), name)
		if err != nil {
			return err
		}
		for _, r := range did {
			fmt.Fprintf(c.out, "%s: %s, %d written, %d removed\n", r.Name, plural(int(r.Rows), "row"), r.Written, r.Removed)
		}
	}
	return nil
}

func (c *command) viewDrop(cmd *cobra.Command, args []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	if err := node.DropView(cmd.Context(), args[0]); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "removed %s\n", args[0])
	return nil
}

// oneLine shows the beginning of a text on one line.
func oneLine(text string) string {
	const width = 60
	words := []rune(strings.Join(strings.Fields(text), " "))
	if len(words) > width {
		return string(words[:width-1]) + "…"
	}
	return string(words)
}

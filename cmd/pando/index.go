package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

func (c *command) indexCommand() *cobra.Command {
	var name string
	var unique, wait bool
	create := &cobra.Command{
		Use:   "create COLLECTION FIELD[:DESC],…",
		Short: "Create an index, which is built in the background",
		Example: `  pando index create User age
  pando index create User city,age:DESC --wait`,
		Args: exactly("COLLECTION", "FIELD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := indexFields(args[1])
			if err != nil {
				return err
			}
			return c.indexCreate(cmd, args[0], api.NewIndex{Name: name, Fields: fields, Unique: unique}, wait)
		},
	}
	create.Flags().StringVar(&name, "name", "", "name of the index; without it, it gets one")
	create.Flags().BoolVar(&unique, "unique", false, "refuse writes on this node that repeat the values")
	create.Flags().BoolVar(&wait, "wait", false, "return when queries use it")
	list := &cobra.Command{Use: "list [COLLECTION…]", Example: "  pando index list User", Short: "List the indexes of collections, or of all", RunE: c.indexList}
	drop := &cobra.Command{Use: "drop COLLECTION INDEX", Example: "  pando index drop User User_age_ASC", Short: "Remove an index", Args: exactly("COLLECTION", "INDEX"), RunE: c.indexDrop}
	return group("index", "Create, list and drop indexes", create, list, drop)
}

// indexFields reads "city,age:DESC".
func indexFields(text string) (fields []api.IndexField, err error) {
	for part := range strings.SplitSeq(text, ",") {
		name, direction, _ := strings.Cut(part, ":")
		switch direction {
		case "", "ASC", "DESC":
		default:
			return nil, fault.Invalid.Errorf("field %q: the direction is ASC or DESC", part)
		}
		fields = append(fields, api.IndexField{Name: name, Descending: direction == "DESC"})
	}
	return fields, nil
}

func (c *command) indexCreate(cmd *cobra.Command, collection string, ix api.NewIndex, wait bool) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	made, err := node.CreateIndex(cmd.Context(), collection, ix, wait)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "created %s on %s\n", made.Name, columns(made))
	return nil
}

func (c *command) indexList(cmd *cobra.Command, args []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	all, err := node.AllIndexes(cmd.Context())
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = slices.Sorted(maps.Keys(all))
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COLLECTION\tINDEX\tFIELDS\tSTATE")
	for _, collection := range args {
		if _, ok := all[collection]; !ok {
			return fault.NotFound.Errorf("collection %q does not exist", collection)
		}
		for _, ix := range all[collection] {
			state := "ready"
			if !ix.Ready {
				state = "being built"
			}
			if ix.Unique {
				state += ", unique"
			}
			if ix.Automatic {
				state += ", of a relation"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", collection, ix.Name, columns(ix), state)
		}
	}
	return w.Flush()
}

func (c *command) indexDrop(cmd *cobra.Command, args []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	if err := node.DropIndex(cmd.Context(), args[0], args[1]); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "dropped %s\n", args[1])
	return nil
}

// columns shows the fields of an index as create takes them.
func columns(ix api.Index) string {
	var parts []string
	for _, f := range ix.Fields {
		if f.Descending {
			f.Name += ":DESC"
		}
		parts = append(parts, f.Name)
	}
	return strings.Join(parts, ",")
}

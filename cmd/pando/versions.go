package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

func (c *command) schemaPatchCommand() *cobra.Command {
	var migration string
	var activate bool
	cmd := &cobra.Command{
		Use:   "patch FILE|-",
		Short: "Make the next version of collections, by a JSON Patch",
		Long: `Make the next version of collections, by a JSON Patch over the collections by name.
Fields are added, renamed and removed; other versions keep what is written to them.
Rules of a migration say how fields of both versions show the same thing.`,
		Example: `  echo '[{"op": "add", "path": "/User/Fields/-", "value": {"Name": "phone", "Kind": "String"}}]' |
    pando schema patch - --activate
  pando schema patch names.json --migration rules.json
  # rules.json: [{"Do": "split", "From": "name", "To": ["first", "last"], "Separator": " "}]`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.schemaPatch(cmd, args[0], migration, activate) },
	}
	cmd.Flags().StringVar(&migration, "migration", "", "file with the rules of the migration: a JSON list")
	cmd.Flags().BoolVar(&activate, "activate", false, "use the new versions on this node")
	return cmd
}

func (c *command) schemaPatch(cmd *cobra.Command, file, migration string, activate bool) error {
	text, err := c.readText(file)
	if err != nil {
		return err
	}
	p := api.SchemaPatch{SetAsDefaultVersion: activate}
	if p.Patch, err = json.Marshal(text); err != nil {
		return err
	}
	if migration != "" {
		if p.Migration, err = c.readMigration(migration); err != nil {
			return err
		}
	}
	node, err := c.client()
	if err != nil {
		return err
	}
	made, err := node.PatchSchema(cmd.Context(), p)
	if err != nil {
		return err
	}
	if len(made) == 0 {
		fmt.Fprintln(c.out, "nothing changes: there is no new version")
	}
	for _, v := range made {
		verb := "made"
		if v.IsActive {
			verb = "using"
		}
		fmt.Fprintf(c.out, "%s %s  %s\n", verb, v.Name, v.VersionID)
	}
	return nil
}

func (c *command) readMigration(file string) (*api.SchemaMigration, error) {
	text, err := c.readText(file)
	if err != nil {
		return nil, err
	}
	var rules []pando.Migration
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&rules); err != nil {
		return nil, fault.Invalid.Errorf("%s: %w: want a list like [{\"Do\": \"rename\", \"From\": \"name\", \"To\": \"fullName\"}]", file, err)
	}
	return &api.SchemaMigration{Rules: rules}, nil
}

func (c *command) schemaVersionsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "versions [COLLECTION]",
		Short: "List the versions of collections, the oldest first",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			return c.schemaVersions(cmd, name)
		},
	}
}

func (c *command) schemaVersions(cmd *cobra.Command, name string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	all, err := node.Versions(cmd.Context(), name)
	if err != nil {
		return err
	}
	if len(all) == 0 && name != "" {
		return fault.NotFound.Errorf("collection %q does not exist: list them with 'pando schema list'", name)
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COLLECTION\tFIELDS\tVERSION\tUSED")
	for _, v := range all {
		used := ""
		if v.IsActive {
			used = "yes"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", v.Name, len(v.Fields), v.VersionID, used)
	}
	return w.Flush()
}

func (c *command) schemaActivateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "activate VERSION",
		Short: "Make a version the one that this node uses",
		Long:  "Make a version the one that this node uses. Fields that it lacks are hidden, not lost.",
		Args:  exactly("VERSION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			node, err := c.client()
			if err != nil {
				return err
			}
			v, err := node.ActivateVersion(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "using %s  %s\n", v.Name, v.VersionID)
			return nil
		},
	}
}

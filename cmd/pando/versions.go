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
	var o patchOptions
	cmd := &cobra.Command{
		Use:   "patch FILE|-",
		Short: "Make the next version of collections, by a JSON Patch",
		Long: `Make the next version of collections, by a JSON Patch over the collections by name.
Fields are added, renamed and removed; other versions keep what is written to them.
Rules of a migration say how fields of both versions show the same thing; WASM modules
make new fields where no rule can.`,
		Example: `  echo '[{"op": "add", "path": "/User/Fields/-", "value": {"Name": "phone", "Kind": "String"}}]' |
    pando schema patch - --activate
  pando schema patch names.json --migration rules.json
  pando schema patch names.json --lens 'fullname.wasm:{"separator": " "}'
  # rules.json: [{"Do": "split", "From": "name", "To": ["first", "last"], "Separator": " "}]`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.schemaPatch(cmd, args[0], o) },
	}
	cmd.Flags().StringVar(&o.migration, "migration", "", "file with the rules of the migration: a JSON list")
	cmd.Flags().BoolVar(&o.activate, "activate", false, "use the new versions on this node")
	o.lenses = lensFlags(cmd)
	return cmd
}

type patchOptions struct {
	migration string // file with rules
	activate  bool
	lenses    *[]string
}

func (c *command) schemaPatch(cmd *cobra.Command, file string, o patchOptions) error {
	text, err := c.readText(file)
	if err != nil {
		return err
	}
	p := api.SchemaPatch{SetAsDefaultVersion: o.activate}
	if p.Patch, err = json.Marshal(text); err != nil {
		return err
	}
	if o.migration != "" {
		if p.Migration, err = c.readMigration(o.migration); err != nil {
			return err
		}
	}
	t, err := readLenses(*o.lenses)
	if err != nil {
		return err
	}
	if t != nil {
		if p.Migration == nil {
			p.Migration = &api.SchemaMigration{}
		}
		p.Migration.Lenses = t.Lenses
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
		Use:     "versions [COLLECTION]",
		Example: "  pando schema versions User",
		Short:   "List the versions of collections, the oldest first",
		Args:    atMost(1),
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

func (c *command) schemaLensCommand() *cobra.Command {
	var lenses *[]string
	cmd := &cobra.Command{
		Use:     "lens SOURCE DESTINATION --lens FILE",
		Example: "  pando schema lens bafkrei… bafkrei… --lens fullname.wasm",
		Short:   "Bring the WASM modules that lead from a version to the next, and let them run here",
		Long: `Bring the WASM modules that lead from a version to the next, and let them run here.
Versions travel between nodes, modules do not: until somebody brings them, what they
would make shows as null. They are those that the version names, by their hashes.`,
		Args: exactly("SOURCE", "DESTINATION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := readLenses(*lenses)
			if err != nil {
				return err
			}
			if t == nil {
				return fault.Invalid.Errorf("no module: give it with --lens FILE")
			}
			node, err := c.client()
			if err != nil {
				return err
			}
			return node.AddLens(cmd.Context(), api.LensMigration{SourceSchemaVersionID: args[0], DestinationSchemaVersionID: args[1], Lenses: t.Lenses})
		},
	}
	lenses = lensFlags(cmd)
	return cmd
}

func (c *command) schemaActivateCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "activate VERSION",
		Example: "  pando schema activate bafkrei…",
		Short:   "Make a version the one that this node uses",
		Long:    "Make a version the one that this node uses. Fields that it lacks are hidden, not lost.",
		Args:    exactly("VERSION"),
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

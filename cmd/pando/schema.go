package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

// maxText bounds a schema or a query that is read from a file: the node takes no more either.
const maxText = 16 << 20

func (c *command) schemaCommand() *cobra.Command {
	add := &cobra.Command{
		Use:   "add FILE|-",
		Short: "Add collections, described as GraphQL types",
		Example: `  echo 'type User { name: String  age: Int }' | pando schema add -
  pando schema add schema.graphql`,
		Args: exactly("FILE"),
		RunE: c.schemaAdd,
	}
	list := &cobra.Command{Use: "list", Short: "List the collections of the node", Args: noArgs, RunE: c.schemaList}
	return group("schema", "Add, list and change collections", add, list, c.schemaPatchCommand(), c.schemaVersionsCommand(), c.schemaLensCommand(), c.schemaActivateCommand())
}

func (c *command) schemaAdd(cmd *cobra.Command, args []string) error {
	sdl, err := c.readText(args[0])
	if err != nil {
		return err
	}
	node, err := c.client()
	if err != nil {
		return err
	}
	added, err := node.AddSchema(cmd.Context(), sdl)
	if err != nil {
		return err
	}
	for _, a := range added {
		fmt.Fprintf(c.out, "added %s  %s\n", a.Name, a.CollectionID)
	}
	return nil
}

func (c *command) schemaList(cmd *cobra.Command, _ []string) error {
	node, err := c.client()
	if err != nil {
		return err
	}
	all, err := node.Collections(cmd.Context())
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COLLECTION\tFIELDS\tVERSION")
	for _, one := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\n", one.Version.Name, len(one.Version.Fields), one.Version.VersionID)
	}
	return w.Flush()
}

// readText reads a whole file, or standard input for "-".
func (c *command) readText(name string) (string, error) {
	f, closeFile, err := c.open(name)
	if err != nil {
		return "", err
	}
	defer closeFile()
	raw, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return "", fault.Invalid.Errorf("read %s: %w", name, err)
	}
	if len(raw) > maxText {
		return "", fault.TooLarge.Errorf("%s is larger than %d MiB", name, maxText>>20)
	}
	return string(raw), nil
}

// open opens a file to read, or gives standard input for "-".
func (c *command) open(name string) (io.Reader, func(), error) {
	if name == "-" {
		return c.in, func() {}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, fileFault(err)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		f.Close()
		return nil, nil, fault.Invalid.Errorf("%s is a directory: name a file, or - for standard input", name)
	}
	return f, func() { f.Close() }, nil
}

// fileFault gives an error about a file that the user named its kind.
func fileFault(err error) error {
	if os.IsNotExist(err) {
		return fault.NotFound.Errorf("%w", err)
	}
	if os.IsPermission(err) {
		return fault.Denied.Errorf("%w", err)
	}
	return fault.Invalid.Errorf("%w", err)
}

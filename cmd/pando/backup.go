package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/spf13/cobra"
)

func (c *command) backupCommand() *cobra.Command {
	g := group("backup", "Save the whole database, or move its documents",
		c.backupSaveCommand(), c.backupRestoreCommand(), c.backupExportCommand(), c.backupImportCommand())
	g.Long = `Save the whole database, or move its documents.

save and restore are for keeping: an archive holds the schema and every commit, of one
moment, and restores to the same documents, histories and roots.
export and import are for moving: a JSON file holds the documents of today, and creates
them anew on a node that has their schema. DefraDB writes and reads such files too.`
	return g
}

func (c *command) backupSaveCommand() *cobra.Command {
	var overwrite bool
	cmd := &cobra.Command{
		Use:     "save FILE|-",
		Example: "  pando backup save notes.archive",
		Short:   "Save the whole database of the node, while it runs, in an archive",
		Long: `Save the whole database of the node in an archive: every version of its schema, indexes
and views, and every commit. The archive is of one moment; the node goes on meanwhile.
Not in it are the node's key, its peers, and the tickets it gave.`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			node, err := c.client()
			if err != nil {
				return err
			}
			return c.toFile(args[0], overwrite, func(w io.Writer) error { return node.SaveArchive(cmd.Context(), w) })
		},
	}
	overwriteFlag(cmd, &overwrite)
	return cmd
}

func overwriteFlag(cmd *cobra.Command, overwrite *bool) {
	cmd.Flags().BoolVar(overwrite, "overwrite", false, "replace the file if there is one")
}

func (c *command) backupRestoreCommand() *cobra.Command {
	var store storeFlags
	cmd := &cobra.Command{
		Use:     "restore FILE|- DIR",
		Example: "  pando backup restore notes.archive copy\n  pando start --rootdir copy",
		Short:   "Make the directory of a node from an archive",
		Long: `Make the directory of a node from an archive. Every commit, with its signature, and every
document is verified on the way. An archive that is damaged or cut off is refused, and
nothing is left behind; so is a directory that has a database. With --store-key or
--store-key-file what is written is encrypted, whether the node that saved it was or not. Start the node with
--rootdir DIR then: it gets a key of its own.`,
		Args: exactly("FILE", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := store.key(cmd.Context(), c)
			if err != nil {
				return err
			}
			return c.restore(cmd.Context(), args[0], args[1], &pando.Options{StoreKey: key})
		},
	}
	store.add(cmd)
	return cmd
}

func (c *command) restore(ctx context.Context, file, dir string, o *pando.Options) error {
	f, closeFile, err := c.open(file)
	if err != nil {
		return err
	}
	defer closeFile()
	meter := &byteMeter{r: f}
	bar, size, begun := c.bar("restoring"), fileSize(f), time.Now()
	done, err := pando.Restore(ctx, meter, dir, o, func(at pando.Archived) {
		bar.at(meter.n, size, plural(at.Documents, "document"))
	})
	bar.close()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "restored %s of %s, with %s  (%s)\n", plural(done.Documents, "document"),
		plural(done.Collections, "collection"), plural(done.Commits, "commit"), took(time.Since(begun)))
	return nil
}

// byteMeter counts what was read.
type byteMeter struct {
	r io.Reader
	n int64
}

func (m *byteMeter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n += int64(n)
	return n, err
}

func (c *command) backupExportCommand() *cobra.Command {
	var o api.BackupOptions
	var overwrite bool
	cmd := &cobra.Command{
		Use:     "export FILE|-",
		Example: "  pando backup export notes.json --collections Note",
		Short:   "Write the documents of today to a JSON file",
		Long: `Write the documents of today to a JSON file, without their history, deleted documents
and schema. Beside the docID of each stands the one that it will have when it is created
from what it holds today; relations name that one.`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			node, err := c.client()
			if err != nil {
				return err
			}
			return c.toFile(args[0], overwrite, func(w io.Writer) error { return node.ExportBackup(cmd.Context(), o, w) })
		},
	}
	f := cmd.Flags()
	f.StringSliceVarP(&o.Collections, "collections", "c", nil, "only these collections")
	f.StringVarP(&o.Format, "format", "f", "json", "form of the file: json")
	f.BoolVarP(&o.Pretty, "pretty", "p", false, "lay it out for people")
	overwriteFlag(cmd, &overwrite)
	return cmd
}

func (c *command) backupImportCommand() *cobra.Command {
	var skip bool
	cmd := &cobra.Command{
		Use:     "import FILE|-",
		Example: "  pando backup import notes.json",
		Short:   "Create the documents of a JSON file that backup export wrote",
		Long: `Create the documents of a JSON file that backup export wrote, or DefraDB. The collections
must exist. Documents get new docIDs where their contents say so, and relations between
them follow. Up to 10,000 documents are created all or none; more go in steps of so many,
and after an error those before stay.`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.importBackup(cmd.Context(), args[0], skip) },
	}
	cmd.Flags().BoolVar(&skip, "skip-existing", false, "pass over documents that exist already")
	return cmd
}

func (c *command) importBackup(ctx context.Context, file string, skip bool) error {
	f, closeFile, err := c.open(file)
	if err != nil {
		return err
	}
	defer closeFile()
	node, err := c.client()
	if err != nil {
		return err
	}
	begun := time.Now()
	done, err := node.ImportBackup(ctx, f, api.ImportOptions{SkipExisting: skip})
	if err != nil {
		return err
	}
	c.imported(done.Documents, done.Skipped, time.Since(begun))
	return nil
}

// toFile writes a file whole or not at all, or to standard output. One that is there is
// replaced only where that is wanted: it may be the only copy of something.
func (c *command) toFile(name string, overwrite bool, write func(io.Writer) error) (err error) {
	if name == "-" {
		return write(c.out)
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fault.Invalid.Errorf("%s is no file: name one, or - for standard output", name)
	case err == nil && !overwrite:
		return fault.Exists.Errorf("%s exists already: name a new file, or say --overwrite", name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".part-*")
	if err != nil {
		return fileFault(err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	out := &byteCounter{w: f}
	if err := errors.Join(write(out), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fileFault(err)
	}
	fmt.Fprintf(c.out, "wrote %s  (%s)\n", name, size(out.n))
	return nil
}

// byteCounter counts what was written.
type byteCounter struct {
	w io.Writer
	n int64
}

func (m *byteCounter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.n += int64(n)
	return n, err
}

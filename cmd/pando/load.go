package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pandodb/pando/api"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

func (c *command) importCommand() *cobra.Command {
	var skip bool
	cmd := &cobra.Command{
		Use:   "import COLLECTION FILE|-",
		Short: "Create documents from a file of JSON objects",
		Long: `Create documents from a file of JSON objects: one per line, or one array of them.

Documents are created in batches; each batch is created whole or not at all, and is
safe on disk when it is reported. An error names the line and stops the import; what
was reported before stays. With --skip-existing an import can be repeated.`,
		Args: exactly("COLLECTION", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return c.load(cmd, args[0], args[1], skip) },
	}
	cmd.Flags().BoolVar(&skip, "skip-existing", false, "pass over documents that exist already")
	return cmd
}

func (c *command) load(cmd *cobra.Command, collection, file string, skip bool) error {
	f, closeFile, err := c.open(file)
	if err != nil {
		return err
	}
	defer closeFile()
	node, err := c.client()
	if err != nil {
		return err
	}
	bar := c.bar(fileSize(f), "importing")
	begun := time.Now()
	done, err := node.Import(cmd.Context(), collection, io.TeeReader(f, bar), api.ImportOptions{SkipExisting: skip}, func(at api.Imported) {
		bar.describe(plural(at.Documents, "document"))
	})
	bar.close()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "imported %s", plural(done.Documents, "document"))
	if done.Skipped > 0 {
		fmt.Fprintf(c.out, ", skipped %s that existed", grouped(done.Skipped))
	}
	fmt.Fprintf(c.out, "  (%s)\n", took(time.Since(begun)))
	return nil
}

func (c *command) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export COLLECTION",
		Short: "Print the documents of a collection, one JSON object per line",
		Args:  exactly("COLLECTION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			node, err := c.client()
			if err != nil {
				return err
			}
			return node.Export(cmd.Context(), args[0], c.out)
		},
	}
}

func fileSize(r io.Reader) int64 {
	if f, ok := r.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return info.Size()
		}
	}
	return -1
}

// bar shows progress to a person at a terminal, and nothing to anybody else.
type bar struct{ *progressbar.ProgressBar }

// bar makes one; a total of -1 is unknown.
func (c *command) bar(total int64, what string) *bar {
	if !terminal(c.err) {
		return &bar{}
	}
	return &bar{progressbar.NewOptions64(total, progressbar.OptionSetWriter(c.err), progressbar.OptionSetDescription(what),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(24),
		progressbar.OptionSetTheme(progressbar.ThemeASCII))}
}

func (b *bar) Write(p []byte) (int, error) {
	if b.ProgressBar != nil {
		return b.ProgressBar.Write(p)
	}
	return len(p), nil
}

// at sets how far the work is, and of how much.
func (b *bar) at(n, total int64, what string) {
	if b.ProgressBar != nil {
		b.ChangeMax64(max(n, total))
		b.Describe(what)
		_ = b.Set64(n) // a bar that cannot be drawn is no reason to stop
	}
}

func (b *bar) describe(what string) {
	if b.ProgressBar != nil {
		b.Describe(what)
	}
}

func (b *bar) close() {
	if b.ProgressBar != nil {
		_ = b.Finish()
	}
}

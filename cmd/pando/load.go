package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/pandodb/pando/api"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

func (c *command) importCommand() *cobra.Command {
	var skip bool
	cmd := &cobra.Command{
		Use:     "import COLLECTION FILE|-",
		Example: "  pando import User users.ndjson",
		Short:   "Create documents from a file of JSON objects",
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
	bar, meter, size := c.bar("importing"), &lineMeter{r: f}, fileSize(f)
	begun := time.Now()
	done, err := node.Import(cmd.Context(), collection, meter, api.ImportOptions{SkipExisting: skip}, func(at api.Imported) {
		bar.at(meter.offset(at.Line), size, plural(at.Documents+at.Skipped, "document"))
	})
	bar.close()
	if err != nil {
		return err
	}
	c.imported(done.Documents, done.Skipped, time.Since(begun))
	return nil
}

func (c *command) imported(documents, skipped int, d time.Duration) {
	fmt.Fprintf(c.out, "imported %s", plural(documents, "document"))
	if skipped > 0 {
		fmt.Fprintf(c.out, ", skipped %s that existed", grouped(skipped))
	}
	fmt.Fprintf(c.out, "  (%s)\n", took(d))
}

func (c *command) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "export COLLECTION",
		Example: "  pando export User > users.ndjson",
		Short:   "Print the documents of a collection, one JSON object per line",
		Args:    exactly("COLLECTION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			node, err := c.client()
			if err != nil {
				return err
			}
			return node.Export(cmd.Context(), args[0], c.out)
		},
	}
}

// fileSize returns the size of a file, 0 if it is not known.
func fileSize(r io.Reader) int64 {
	if f, ok := r.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return info.Size()
		}
	}
	return 0
}

// lineMeter knows where in a stream that it passes on a line is. The node reports
// lines: what was sent may be far ahead of what is done.
type lineMeter struct {
	r io.Reader

	mu    sync.Mutex // guards marks: net/http reads while the answer is followed
	marks []mark     // of each read, until it is behind
	last  mark
}

// mark says how many lines have begun at an offset.
type mark struct {
	line   int
	offset int64
}

func (m *lineMeter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last.line += bytes.Count(p[:n], []byte{'\n'})
	m.last.offset += int64(n)
	m.marks = append(m.marks, m.last)
	return n, err
}

// offset returns where a line is, to the precision of the reads. It is asked with
// ascending lines.
func (m *lineMeter) offset(line int) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.marks) > 1 && m.marks[1].line < line {
		m.marks = m.marks[1:]
	}
	if len(m.marks) == 0 || m.marks[0].line >= line {
		return 0
	}
	return m.marks[0].offset
}

// bar shows progress to a person at a terminal, and nothing to anybody else. While
// it is not known how much there is to do it is a spinner.
type bar struct {
	*progressbar.ProgressBar
	out     io.Writer
	bounded bool
}

func (c *command) bar(what string) *bar {
	b := &bar{out: c.err}
	if terminal(c.err) {
		b.begin(-1, what)
	}
	return b
}

func (b *bar) begin(total int64, what string) {
	b.bounded = total > 0
	b.ProgressBar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(b.out), progressbar.OptionSetDescription(what),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(24),
		progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionSpinnerType(9),
		progressbar.OptionSetTheme(progressbar.ThemeASCII))
	_ = b.RenderBlank() // a bar that cannot be drawn is no reason to stop
}

// at sets how far the work is, and of how much; 0 is unknown.
func (b *bar) at(n, total int64, what string) {
	if b.ProgressBar == nil {
		return
	}
	if total > 0 && !b.bounded {
		_ = b.Clear()
		b.begin(total, what)
	}
	b.Describe(what)
	if b.bounded {
		// A bar that has reached its end is never drawn again, and the end is not known
		// before the node says so.
		b.ChangeMax64(max(total, n+1))
		_ = b.Set64(n)
	}
}

func (b *bar) close() {
	if b.ProgressBar != nil {
		_ = b.Finish()
	}
}

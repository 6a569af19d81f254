// Package script runs stories about one node or several, written in plain text with
// the output that they must have.
//
// It hides how nodes are made, named and brought together: a script says who writes
// what, who is cut off, whose power fails, and what everybody sees at the end. A
// script is a file of blocks, each a few commands, a line of dashes, and what they
// print; see Commands for the words.
package script

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Commands says what a script can do. A command is a line; lines that are indented go
// on with it. Where a node can be named first, all nodes do it if none is named, and
// what they print alike is printed once. Names of documents are given by mutate, and
// stand for docIDs in requests; commits are called c1, c2 … as they appear.
const Commands = `
cluster a b c            makes nodes that are connected
[a] policy FILE          makes a policy known, in YAML or JSON: prints its ID
[a] schema TYPES         adds collections
[a] mutate [p q] MUT     runs a mutation; p, q name the documents that it answers with
[a] query {…}            runs a query
[a] heads p              the heads of a document
[a] history p            its commits: height, who made it, parents
[a] changes [N]          the feed after number N
[a] count TYPE           how many documents there are
[a] root TYPE            documents, alive ones, and the root, called r1, r2 …
a begin t                starts an explicit transaction, which then stands for a node
t mutate …, t query …    in that transaction
t commit, t discard      ends it
cut a b, heal [a b]      disconnects nodes, connects them
settle                   connected nodes exchange what they lack
a send b p               b gets what it lacks of a document, if they are connected
b redeliver p all        b gets all commits of a document once more, from everybody
a clock +1h              sets a node's clock off
a crash                  its power fails, and it starts again
a reopen                 it is closed and opened
a check, a rebuild       as fsck does
`

// rewrite makes a run write what it got into the script. Other packages of a test may
// have declared the flag.
func rewrite() bool {
	f := flag.Lookup("rewrite")
	return f != nil && f.Value.String() == "true"
}

func init() {
	if flag.Lookup("rewrite") == nil {
		flag.Bool("rewrite", false, "write what scripts print into their files")
	}
}

// RunDir runs every file in a directory.
func RunDir(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.IsDir() {
			continue
		}
		t.Run(f.Name(), func(t *testing.T) {
			t.Parallel()
			Run(t, filepath.Join(dir, f.Name()))
		})
	}
}

// Run runs a script, and compares what its blocks print with what they must.
func Run(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	defer w.close()
	var out bytes.Buffer
	for _, b := range parse(string(text)) {
		got := ""
		for _, c := range b.commands {
			got += w.run(c)
		}
		out.WriteString(b.source)
		if len(b.commands) > 0 {
			fmt.Fprintf(&out, "----\n%s\n", got)
		}
		if want := b.want; got != want && !rewrite() {
			t.Errorf("%s:%d:\n%s----\ngot:\n%swant:\n%s", path, b.line, b.source, got, want)
		}
	}
	if rewrite() {
		if err := os.WriteFile(path, append(bytes.TrimRight(out.Bytes(), "\n"), '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// block is a part of a script: commands and what they print.
type block struct {
	line     int
	source   string
	commands []string
	want     string
}

// parse splits a script into blocks. A block without commands is a comment.
func parse(text string) (blocks []block) {
	var b block
	end := func() {
		if b.source != "" {
			blocks = append(blocks, b)
		}
		b = block{}
	}
	printed := false
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		line = strings.TrimRight(line, " \t")
		switch {
		case line == "----":
			printed = true
		case printed && line != "":
			b.want += line + "\n"
		case printed: // the empty line after the output
			end()
			printed = false
		default:
			if b.source == "" {
				b.line = i + 1
			}
			b.source += line + "\n"
			b.add(line)
		}
	}
	end()
	return blocks
}

func (b *block) add(line string) {
	switch {
	case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
	case (line[0] == ' ' || line[0] == '\t') && len(b.commands) > 0:
		b.commands[len(b.commands)-1] += " " + strings.TrimSpace(line)
	default:
		b.commands = append(b.commands, line)
	}
}

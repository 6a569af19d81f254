package main

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Whoever asks for help finds, under every command that takes arguments, what one types; and
// every flag that an example shows is there.
func TestHelpShowsExamples(t *testing.T) {
	t.Parallel()
	c := &command{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	root := c.root()
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if _, takes, _ := strings.Cut(cmd.Use, " "); takes != "" && !strings.Contains(cmd.Example, cmd.CommandPath()+" ") {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		checkExample(t, root, cmd)
	}
	walk(root)
}

func checkExample(t *testing.T, root, cmd *cobra.Command) {
	t.Helper()
	for line := range strings.SplitSeq(cmd.Example, "\n") {
		_, typed, found := strings.Cut(line, "pando ")
		if !found {
			continue
		}
		words := strings.Fields(typed)
		used, _, err := root.Find(words)
		if err != nil {
			t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
			continue
		}
		for _, word := range words {
			name, isFlag := strings.CutPrefix(word, "--")
			name, _, _ = strings.Cut(strings.Trim(name, "()"), "=")
			if isFlag && used.Flags().Lookup(name) == nil && used.InheritedFlags().Lookup(name) == nil {
				t.Errorf("%s: example %q: there is no flag --%s", cmd.CommandPath(), line, name)
			}
		}
	}
}

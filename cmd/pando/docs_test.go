package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var rewrite = flag.Bool("rewrite", false, "replace the table of flags in the documentation")

func TestFlagsAreDocumented(t *testing.T) {
	t.Parallel()
	name := filepath.Join("..", "..", "docs", "operations.md")
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)(<!-- flags:[^\n]*-->\n)(.*?)(<!-- end -->)`).FindStringSubmatch(string(raw))
	if m == nil {
		t.Fatalf("%s has no table of flags", name)
	}
	table := flagTable()
	if *rewrite {
		page := strings.Replace(string(raw), m[0], m[1]+table+m[3], 1)
		if err := os.WriteFile(name, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if m[2] != table {
		t.Errorf("%s says\n%s\nthe program\n%s", name, m[2], table)
	}
}

func flagTable() string {
	c := &command{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	var b strings.Builder
	b.WriteString("| command | flag | environment | default | is |\n|---|---|---|---|---|\n")
	root := c.root()
	rows(&b, "every command", root.PersistentFlags())
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			rows(&b, "`"+strings.TrimPrefix(sub.CommandPath(), "pando ")+"`", sub.LocalNonPersistentFlags())
			walk(sub)
		}
	}
	walk(root)
	return b.String()
}

func rows(b *strings.Builder, command string, flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		env, value := "", f.DefValue
		if e := f.Annotations[envKey]; len(e) > 0 {
			env = "`" + e[0] + "`"
		}
		switch {
		case f.Name == "rootdir":
			value = "~/.pando"
		case f.Value.Type() == "stringSlice":
			value = strings.Trim(value, "[]")
		}
		if value != "" {
			value = "`" + strings.ReplaceAll(value, ",", "`, `") + "`"
		}
		what, _, _ := strings.Cut(f.Usage, " [PANDO_")
		fmt.Fprintf(b, "| %s | `--%s` | %s | %s | %s |\n", command, f.Name, env, value, what)
	})
}

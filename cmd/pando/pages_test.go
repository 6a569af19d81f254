package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What docs/getting-started.md has a newcomer type prints what the page says. Blocks of "sh
// session" are typed one after the other into one directory, while the two nodes run that the
// page starts; the block of "text answer" behind one is what it prints.
func TestGettingStartedIsTrue(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("pando")
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"curl", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the page has one type %s, which is not here: %v", tool, err)
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "getting-started.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var nodes []string
	for _, name := range []string{"notes", "other"} {
		n := &child{name: name, dir: filepath.Join(dir, name), program: program}
		if err := n.start(context.Background(), "--p2paddr", "/ip4/127.0.0.1/tcp/0"); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := n.stop(); err != nil {
				t.Error(err)
			}
		}()
		nodes = append(nodes, strings.TrimPrefix(n.http, "http://"))
	}
	// Where the nodes of the page listen there may be others.
	here := strings.NewReplacer("127.0.0.1:9181", nodes[0], "127.0.0.1:9182", nodes[1])
	env := append(quietEnv(), "PANDO_URL="+nodes[0], "HOME="+dir)
	answers := 0
	for _, m := range regexp.MustCompile("(?s)```sh session\n(.*?)```\n(?:\n```text answer\n(.*?)```\n)?").FindAllStringSubmatch(string(page), -1) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", here.Replace(m[1]))
		cmd.Dir, cmd.Env = dir, env
		got, err := cmd.Output()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			t.Errorf("%s: %v: %s", m[1], err, exit.Stderr)
		} else if err != nil {
			t.Fatal(err)
		}
		if want := m[2]; want != "" {
			answers++
			if strings.TrimSpace(string(got)) != strings.TrimSpace(want) {
				t.Errorf("%s\nprints\n%s\nthe page says\n%s", m[1], got, want)
			}
		}
	}
	if answers < 5 {
		t.Errorf("the page has %d sessions with an answer, and should have more", answers)
	}
}

package pando_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedTest   = regexp.MustCompile("`(Test[A-Z]\\w+)`")
	namedFile   = regexp.MustCompile("`([a-z0-9/_]+_test\\.go)`")
	writtenTest = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// Every line of the threat model names the test that shows it, and that there is.
func TestSecurityIsShownByTests(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, files := map[string]bool{}, map[string]bool{}
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		files[filepath.ToSlash(path)], files[filepath.Base(path)] = true, true
		src, err := os.ReadFile(path)
		for _, m := range writtenTest.FindAllSubmatch(src, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := namedTest.FindAllSubmatch(page, -1)
	if len(named) < 30 {
		t.Fatalf("%d tests are named", len(named))
	}
	for _, m := range named {
		if !tests[string(m[1])] {
			t.Errorf("docs/security.md names %s, which is not there", m[1])
		}
	}
	for _, m := range namedFile.FindAllSubmatch(page, -1) {
		if !files[string(m[1])] {
			t.Errorf("docs/security.md names %s, which is not there", m[1])
		}
	}
}

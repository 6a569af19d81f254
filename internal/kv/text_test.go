package kv_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// What goes wrong with the files is told in one line, which names the file and has
// no words of the engine.
func TestDamageIsToldInOneLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		hurt func(t *testing.T, dir, table string) (file string)
	}{
		{"a damaged block", func(_ *testing.T, _, table string) string { return table }},
		{"a lost table", func(t *testing.T, dir, table string) string {
			if err := os.Remove(filepath.Join(dir, table)); err != nil {
				t.Fatal(err)
			}
			return table
		}},
		{"a damaged list of tables", func(t *testing.T, dir, _ string) string {
			name, data := manifest(t, dir)
			data[16] ^= 0x55
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
			return name
		}},
		{"a lost list of tables", func(t *testing.T, dir, _ string) string {
			name, _ := manifest(t, dir)
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			return name
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, table := damaged(t, func(size int) int { return size / 2 })
			file := c.hurt(t, dir, table)
			errs := failures(t, dir)
			if len(errs) == 0 {
				t.Fatal("nothing fails")
			}
			for _, err := range errs {
				text := err.Error()
				if !errors.Is(err, fault.Corrupt) || !strings.Contains(text, file) {
					t.Errorf("got %q, want Corrupt with %s", text, file)
				}
				for _, foreign := range []string{"\n", "<", "pebble", "objstorage", "DB "} {
					if strings.Contains(text, foreign) {
						t.Errorf("%q has %q in it", text, foreign)
					}
				}
			}
		})
	}
}

// failures opens and reads everything, in each way that there is.
func failures(t *testing.T, dir string) (errs []error) {
	t.Helper()
	db, err := kv.Open(dir, kv.Options{})
	if err != nil {
		return []error{err}
	}
	defer db.Close()
	s := db.Snapshot()
	defer s.Close()
	for _, err := range s.Scan(nil, nil) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if err := db.Verify(t.Context(), func(p kv.Problem) { errs = append(errs, p.Err) }); err != nil {
		errs = append(errs, err)
	}
	return errs
}

func manifest(t *testing.T, dir string) (name string, data []byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("lists of tables: %v, %v", names, err)
	}
	if data, err = os.ReadFile(names[0]); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(names[0]), data
}

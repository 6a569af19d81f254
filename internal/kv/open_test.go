package kv_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// opens opens a database, which must not take long, whatever happens.
func opens(t *testing.T, o kv.Options) (*kv.DB, error) {
	t.Helper()
	type result struct {
		db  *kv.DB
		err error
	}
	done := make(chan result, 1)
	go func() {
		db, err := kv.Open("db", o)
		done <- result{db, err}
	}()
	select {
	case r := <-done:
		return r.db, r.err
	case <-time.After(20 * time.Second):
		t.Fatal("opening does not return")
		return nil, nil
	}
}

// content returns all files, by name.
func content(t *testing.T, files vfs.FS) map[string]string {
	t.Helper()
	names, err := files.List("db")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range names {
		f, err := files.Open(files.PathJoin("db", name))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		all[name] = string(raw)
	}
	return all
}

// The disk became full while the node was down, and says so when asked.
func TestOpeningOnAFullDiskChangesNothing(t *testing.T) {
	disk := newFailFS(vfs.NewMem())
	disk.free.Store(1 << 20)
	if _, err := opens(t, kv.Options{FS: disk}); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "full") {
		t.Errorf("a new database on a full disk: %v, want Unavailable that says so", err)
	}
	if _, err := disk.Stat("db"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory was made on a full disk: %v", err)
	}
	disk.free.Store(1 << 30)
	db := open(t, "db", kv.Options{FS: disk})
	set(t, db, "a", "1")
	db.Close()
	before := content(t, disk)
	disk.free.Store(1 << 20)
	if _, err := opens(t, kv.Options{FS: disk}); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "1 MiB free") {
		t.Errorf("on a full disk: %v, want Unavailable with what is free", err)
	}
	after := content(t, disk)
	for name := range before {
		if after[name] != before[name] {
			t.Errorf("file %s was changed", name)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files, were %d", len(after), len(before))
	}
}

// The disk fails while the database opens, at any one place. Opening ends with the
// reason, and the next one on a sound disk finds everything.
func TestOpeningOnAFailingDiskEnds(t *testing.T) {
	for _, at := range []struct{ op, name string }{
		{"write", ".log"}, {"sync", ".log"}, {"create", ".log"},
		{"write", "MANIFEST"}, {"sync", "MANIFEST"}, {"create", "MANIFEST"},
		{"sync", "directory"}, {"create", "marker"},
		{"write", ".sst"}, {"sync", ".sst"}, {"create", ".sst"},
		{"write", ".dbtmp"}, {"create", ".dbtmp"},
		{"write", ""}, {"", ""},
	} {
		t.Run(strings.TrimSpace(at.op+" "+at.name), func(t *testing.T) {
			t.Parallel()
			disk := newFailFS(vfs.NewMem())
			db := open(t, "db", kv.Options{FS: disk})
			set(t, db, "a", "1")
			db.Close()
			hit := false
			disk.fail(func(op, name string) error {
				if strings.Contains(op, at.op) && strings.Contains(name, at.name) {
					hit = true
					return &os.PathError{Op: op, Path: name, Err: syscall.ENOSPC}
				}
				return nil
			})
			db, err := opens(t, kv.Options{FS: disk})
			if err == nil && hit {
				t.Errorf("opened although writing failed")
			}
			if err == nil {
				db.Close()
			} else if !errors.Is(err, fault.Unavailable) || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("opening on a full disk gives %v, want Unavailable for lack of space", err)
			}
			r, err := opens(t, kv.Options{FS: disk, ReadOnly: true})
			if err != nil {
				t.Fatalf("for reading only: %v", err)
			}
			s := r.Snapshot()
			if got := get(t, s, "a"); got != "1" {
				t.Errorf("for reading only a is %q, want 1", got)
			}
			s.Close()
			if err := r.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			disk.work()
			s = open(t, "db", kv.Options{FS: disk}).Snapshot()
			defer s.Close()
			if got := get(t, s, "a"); got != "1" {
				t.Errorf("a is %q, want 1", got)
			}
		})
	}
}

func TestReadOnlyWritesNothing(t *testing.T) {
	files := vfs.NewMem()
	if _, err := kv.Open("db", kv.Options{FS: files, ReadOnly: true}); !errors.Is(err, fault.NotFound) {
		t.Errorf("no directory: %v, want NotFound", err)
	}
	if err := files.MkdirAll("db", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Open("db", kv.Options{FS: files, ReadOnly: true}); !errors.Is(err, fault.NotFound) {
		t.Errorf("an empty directory: %v, want NotFound", err)
	}
	db := open(t, "db", kv.Options{FS: files})
	set(t, db, "a", "1")
	db.Close()
	before := content(t, files)
	db, err := kv.Open("db", kv.Options{FS: files, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	b := db.NewBatch()
	b.Set([]byte("a"), []byte("2"))
	if _, err := db.Apply(b); !errors.Is(err, fault.Denied) {
		t.Errorf("writing: %v, want Denied", err)
	}
	b.Close()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	after := content(t, files)
	if len(after) != len(before) {
		t.Errorf("%d files, were %d", len(after), len(before))
	}
}

func TestOpeningAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Open(path, kv.Options{}); !errors.Is(err, fault.Invalid) {
		t.Errorf("a file as directory: %v, want Invalid", err)
	}
}

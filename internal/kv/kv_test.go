package kv_test

import (
	"errors"
	"testing"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

func open(t testing.TB, dir string, o kv.Options) *kv.DB {
	t.Helper()
	db, err := kv.Open(dir, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil && !errors.Is(err, fault.Closed) {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func set(t testing.TB, db *kv.DB, pairs ...string) {
	t.Helper()
	b := db.NewBatch()
	for i := 0; i < len(pairs); i += 2 {
		b.Set([]byte(pairs[i]), []byte(pairs[i+1]))
	}
	apply(t, db, b)
}

func apply(t testing.TB, db *kv.DB, b *kv.Batch) {
	t.Helper()
	p, err := db.Apply(b)
	if err == nil {
		err = p.Wait()
	}
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
}

// reader is what snapshots and transactions have in common.
type reader interface {
	Get(key []byte) ([]byte, bool, error)
}

func get(t testing.TB, r reader, key string) string {
	t.Helper()
	v, ok, err := r.Get([]byte(key))
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	if !ok {
		return "(none)"
	}
	return string(v)
}

func TestWritesAreThereAfterReopening(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir, kv.Options{})
	set(t, db, "a", "1", "b", "2", "c", "")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, kv.Options{}).Snapshot()
	defer s.Close()
	for key, want := range map[string]string{"a": "1", "b": "2", "c": "", "d": "(none)"} {
		if got := get(t, s, key); got != want {
			t.Errorf("%q is %q, want %q", key, got, want)
		}
	}
}

func TestSnapshotDoesNotSeeLaterWrites(t *testing.T) {
	db := open(t, "db", kv.Options{FS: kv.NewMemFS()})
	set(t, db, "a", "1")
	before := db.Snapshot()
	defer before.Close()
	set(t, db, "a", "2", "b", "3")
	after := db.Snapshot()
	defer after.Close()
	if got, want := get(t, before, "a")+" "+get(t, before, "b"), "1 (none)"; got != want {
		t.Errorf("before: %s, want %s", got, want)
	}
	if got, want := get(t, after, "a")+" "+get(t, after, "b"), "2 3"; got != want {
		t.Errorf("after: %s, want %s", got, want)
	}
}

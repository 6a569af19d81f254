package kv_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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

func TestOnlyOneNodeUsesADirectory(t *testing.T) {
	for name, o := range map[string]kv.Options{"disk": {}, "memory": {FS: kv.NewMemFS()}} {
		dir := filepath.Join(t.TempDir(), "db")
		first := open(t, dir, o)
		_, err := kv.Open(dir, o)
		if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "another pando node uses directory") {
			t.Errorf("%s: the second open gives %v, want Unavailable", name, err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		open(t, dir, o) // free again
	}
}

func TestDirectoryBelowAFileIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := kv.Open(filepath.Join(file, "db"), kv.Options{})
	if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), file) {
		t.Fatalf("open below a file gives %v, want Invalid with the path", err)
	}
}

func TestAfterClose(t *testing.T) {
	db := open(t, "db", kv.Options{FS: kv.NewMemFS()})
	b := db.NewBatch()
	b.Set([]byte("a"), []byte("1"))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := db.Snapshot()
	defer s.Close()
	_, applyErr := db.Apply(b)
	_, _, getErr := s.Get([]byte("a"))
	var scanErr error
	for _, scanErr = range db.Begin().Scan(nil, nil) {
	}
	for name, err := range map[string]error{
		"apply": applyErr, "get": getErr, "scan": scanErr, "close": db.Close(),
		"verify": db.Verify(t.Context(), nil), "backup": db.Checkpoint("copy"),
	} {
		if !errors.Is(err, fault.Closed) {
			t.Errorf("%s after close gives %v, want Closed", name, err)
		}
	}
}

func TestCloseWaitsForReaders(t *testing.T) {
	db := open(t, "db", kv.Options{FS: kv.NewMemFS()})
	set(t, db, "a", "1")
	s, closed := db.Snapshot(), make(chan error)
	go func() { closed <- db.Close() }()
	for db.Metrics() != (kv.Metrics{}) { // until it is closing
		runtime.Gosched()
	}
	if got := get(t, s, "a"); got != "1" {
		t.Errorf("a is %q while the database closes, want 1", got)
	}
	s.Close()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
}

func TestBatchIsLimited(t *testing.T) {
	db := open(t, "db", kv.Options{FS: kv.NewMemFS()})
	b := db.NewBatch()
	value := make([]byte, 64<<20)
	for i := range 9 {
		b.Set([]byte{byte(i)}, value)
	}
	if _, err := db.Apply(b); !errors.Is(err, fault.TooLarge) {
		t.Fatalf("a batch of 576 MiB gives %v, want TooLarge", err)
	}
	b.Close()
	set(t, db, "a", "1") // others are not hurt
}

func TestEmptyBatch(t *testing.T) {
	db := open(t, "db", kv.Options{FS: kv.NewMemFS()})
	apply(t, db, db.NewBatch())
	b := db.NewBatch()
	b.Set([]byte("a"), nil)
	b.Reset()
	if b.Len() != 0 {
		t.Fatalf("a batch that was reset has %d writes", b.Len())
	}
	b.Set([]byte("b"), nil)
	p, err := db.Apply(b)
	for range 2 {
		if err == nil {
			err = p.Wait() // as often as one likes
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	s := db.Snapshot()
	defer s.Close()
	if a, b := get(t, s, "a"), get(t, s, "b"); a != "(none)" || b != "" {
		t.Fatalf("a is %q, b is %q", a, b)
	}
}

func TestBatchIsAppliedOnce(t *testing.T) {
	db := open(t, "db", kv.Options{FS: kv.NewMemFS()})
	b := db.NewBatch()
	defer b.Close()
	b.Set([]byte("a"), []byte("1"))
	p, err := db.Apply(b)
	if err != nil {
		t.Fatal(err)
	}
	b.Close() // it is the database's now
	if _, err := db.Apply(b); !errors.Is(err, fault.Invalid) {
		t.Errorf("applying a batch again gives %v, want Invalid", err)
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestBackupIsADatabase(t *testing.T) {
	dir := t.TempDir()
	db := open(t, filepath.Join(dir, "db"), kv.Options{})
	set(t, db, "a", "1")
	to := filepath.Join(dir, "copy")
	if err := db.Checkpoint(to); err != nil {
		t.Fatal(err)
	}
	set(t, db, "a", "2")
	if err := db.Checkpoint(to); !errors.Is(err, fault.Exists) {
		t.Errorf("backup onto a backup gives %v, want Exists", err)
	}
	s := open(t, to, kv.Options{}).Snapshot()
	defer s.Close()
	if got := get(t, s, "a"); got != "1" {
		t.Fatalf("a is %q in the backup, want 1", got)
	}
}

// damaged returns a directory with a database of 10,000 keys in tables, one of
// which has a flipped byte at offset, and the name of that file.
func damaged(t *testing.T, offset func(size int) int) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	db := open(t, dir, kv.Options{})
	b := db.NewBatch()
	for i := range 10_000 {
		b.Set(fmt.Appendf(nil, "key%05d", i), fmt.Appendf(nil, "%x", sha256.Sum256([]byte{byte(i), byte(i >> 8)})))
	}
	apply(t, db, b)
	if err := kv.Flush(db); err != nil {
		t.Fatal(err)
	}
	if err := db.Verify(t.Context(), func(p kv.Problem) { t.Errorf("before the damage: %+v", p) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("tables: %v, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	data[offset(len(data))] ^= 0x40
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Base(files[0])
}

func TestDamagedBlockIsFoundAndNamed(t *testing.T) {
	dir, file := damaged(t, func(size int) int { return size / 3 })
	db := open(t, dir, kv.Options{})
	var found []kv.Problem
	if err := db.Verify(t.Context(), func(p kv.Problem) { found = append(found, p) }); err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].File != file || found[0].Offset < 0 || !errors.Is(found[0].Err, fault.Corrupt) ||
		string(found[0].First) != "key00000" || string(found[0].Last) != "key09999" {
		t.Fatalf("verify finds %+v, want one block of %s", found, file)
	}
	s := db.Snapshot()
	defer s.Close()
	good, bad := 0, 0
	for i := range 10_000 {
		_, ok, err := s.Get(fmt.Appendf(nil, "key%05d", i))
		switch {
		case ok && err == nil:
			good++
		case errors.Is(err, fault.Corrupt) && strings.Contains(err.Error(), file):
			bad++
		default:
			t.Fatalf("get of key %d gives %v, %v", i, ok, err)
		}
	}
	if bad == 0 || good < 9000 {
		t.Errorf("%d keys are lost and %d are not, want those of one block lost", bad, good)
	}
	var scanErr error
	rows := 0
	for _, scanErr = range s.Scan(nil, nil) {
		rows++
	}
	if !errors.Is(scanErr, fault.Corrupt) || rows > good {
		t.Errorf("scan ends after %d rows with %v, want Corrupt", rows, scanErr)
	}
	set(t, db, "new", "1") // a node with one bad block goes on
}

func TestDamagedTableIsNamed(t *testing.T) {
	dir, file := damaged(t, func(size int) int { return size - 20 }) // the footer
	db := open(t, dir, kv.Options{})
	var found []kv.Problem
	if err := db.Verify(t.Context(), func(p kv.Problem) { found = append(found, p) }); err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].File != file || found[0].Offset != -1 || !errors.Is(found[0].Err, fault.Corrupt) {
		t.Fatalf("verify finds %+v, want the file %s", found, file)
	}
	s := db.Snapshot()
	defer s.Close()
	if _, _, err := s.Get([]byte("key00000")); !errors.Is(err, fault.Corrupt) {
		t.Errorf("get gives %v, want Corrupt", err)
	}
}

func TestLostTableIsReported(t *testing.T) {
	dir, file := damaged(t, func(int) int { return 0 })
	if err := os.Remove(filepath.Join(dir, file)); err != nil {
		t.Fatal(err)
	}
	db, err := kv.Open(dir, kv.Options{})
	if err == nil {
		defer db.Close()
		err = db.Verify(t.Context(), func(p kv.Problem) {
			if p.File == file {
				err = p.Err
			}
		})
	}
	if !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), strings.TrimSuffix(file, ".sst")) {
		t.Fatalf("a lost table gives %v, want Corrupt with %s", err, file)
	}
}

// Bytes of the log that were acknowledged and then damaged must not be taken for
// a write that was cut short.
func TestDamagedLogIsNotSilentlyShort(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir, kv.Options{})
	for i := range 1000 {
		b := db.NewBatch()
		b.Set(fmt.Appendf(nil, "key%05d", i), make([]byte, 100))
		apply(t, db, b)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("logs: %v, %v", files, err)
	}
	log := files[len(files)-1] // the others wait to be used again
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	data[50_000] ^= 1 // not in the last block, where it looks like a torn write
	if err := os.WriteFile(log, data, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err = kv.Open(dir, kv.Options{})
	if err == nil {
		s := db.Snapshot()
		n := 0
		for range s.Scan(nil, nil) {
			n++
		}
		s.Close()
		db.Close()
		t.Fatalf("the database opens with %d of 1000 keys", n)
	}
	if !errors.Is(err, fault.Corrupt) {
		t.Fatalf("open gives %v, want Corrupt", err)
	}
}

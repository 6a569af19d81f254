package kv_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// TestPowerLossKeepsWhatWasAcknowledged writes numbered batches of many keys
// and cuts the power. What is left is the batches up to some number, whole, and
// that number is at least that of the last one waited for.
func TestPowerLossKeepsWhatWasAcknowledged(t *testing.T) {
	for name, over := range overFiles {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			files := kv.NewCrashFS()
			last := 0
			for range rapid.IntRange(1, 4).Draw(t, "lives") {
				last, files = live(t, files, over, last)
			}
		}))
	}
}

// live opens the database, checks that it holds what it must, writes on, and
// cuts the power. It returns the last batch that must have survived.
func live(t *rapid.T, files *kv.CrashFS, over func(vfs.FS) vfs.FS, acked int) (int, *kv.CrashFS) {
	db, err := kv.Open("db", kv.Options{FS: over(files)})
	if err != nil {
		t.Fatalf("open after power loss: %v", err)
	}
	defer db.Close()
	last := survivor(t, db)
	if last < acked {
		t.Fatalf("batch %d is the last, but %d had been acknowledged", last, acked)
	}
	acked = last // it was seen, so it must not vanish any more
	size := rapid.SampledFrom([]int{10, 1000, 100_000}).Draw(t, "size")
	var pending kv.Pending
	for range rapid.IntRange(0, 30).Draw(t, "batches") {
		last++
		b := db.NewBatch()
		for k := range 5 {
			b.Set(fmt.Append(nil, "k", k), fmt.Appendf(nil, "%d %s", last, strings.Repeat("x", size)))
		}
		if pending, err = db.Apply(b); err != nil {
			t.Fatalf("apply: %v", err)
		}
		if rapid.Bool().Draw(t, "wait") {
			if err := pending.Wait(); err != nil {
				t.Fatalf("wait: %v", err)
			}
			acked = last
		}
	}
	return acked, files.Crash(rapid.Uint64().Draw(t, "crash"))
}

// survivor returns the number of the last batch, which all keys must agree on.
func survivor(t *rapid.T, db *kv.DB) int {
	s := db.Snapshot()
	defer s.Close()
	seen := map[int]int{}
	for e, err := range s.Scan(nil, nil) {
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		n := 0
		fmt.Sscan(string(e.Value), &n)
		seen[n]++
	}
	for n, keys := range seen {
		if len(seen) != 1 || keys != 5 {
			t.Fatalf("batches are torn: keys by batch %v", seen)
		}
		return n
	}
	return 0
}

// A batch that was seen after a power loss and not synced again must not vanish
// at the next: opening makes durable what it recovers.
func TestWhatWasSeenAfterPowerLossStays(t *testing.T) {
	for seed := range uint64(100) {
		over := plainly
		if seed >= 50 {
			over = encrypted
		}
		files := kv.NewCrashFS()
		db := open(t, "db", kv.Options{FS: over(files)})
		b := db.NewBatch()
		b.Set([]byte("a"), []byte("1"))
		if _, err := db.Apply(b); err != nil {
			t.Fatal(err)
		}
		once := files.Crash(seed)
		first := open(t, "db", kv.Options{FS: over(once)}).Snapshot()
		twice := once.Crash(seed + 1)
		second := open(t, "db", kv.Options{FS: over(twice)}).Snapshot()
		if a, b := get(t, first, "a"), get(t, second, "a"); a != b {
			t.Errorf("seed %d: %q after the first power loss, %q after the second", seed, a, b)
		}
		first.Close()
		second.Close()
	}
}

// failFS fails what a rule says, as a disk would.
type failFS struct {
	vfs.FS
	rule atomic.Pointer[func(op, name string) error]
	free atomic.Uint64
}

func newFailFS(inner vfs.FS) *failFS {
	f := &failFS{FS: inner}
	f.free.Store(1 << 40)
	f.work()
	return f
}

func (f *failFS) fail(rule func(op, name string) error) { f.rule.Store(&rule) }
func (f *failFS) work()                                 { f.fail(func(string, string) error { return nil }) }
func (f *failFS) on(op, name string) error              { return (*f.rule.Load())(op, name) }

func (f *failFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: f.free.Load(), TotalBytes: 1 << 40}, nil
}

func (f *failFS) wrap(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &failFile{file, name, f}, nil
}

func (f *failFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.on("create", name); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	return f.wrap(name, file, err)
}

func (f *failFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.on("create", to); err != nil {
		return nil, err
	}
	file, err := f.FS.ReuseForWrite(from, to, c)
	return f.wrap(to, file, err)
}

func (f *failFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	return f.wrap("directory", file, err)
}

type failFile struct {
	vfs.File
	name string
	fs   *failFS
}

func (f *failFile) Write(p []byte) (int, error) {
	if err := f.fs.on("write", f.name); err != nil {
		n, _ := f.File.Write(p[:len(p)/2]) // some of it may land
		return n, err
	}
	return f.File.Write(p)
}

func (f *failFile) Sync() error {
	if err := f.fs.on("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *failFile) SyncData() error {
	if err := f.fs.on("sync", f.name); err != nil {
		return err
	}
	return f.File.SyncData()
}

var value64k = make([]byte, 64<<10)

// fill writes until it is refused, or n times.
func fill(db *kv.DB, n int) (written int, err error) {
	for i := range n {
		b := db.NewBatch()
		b.Set(fmt.Appendf(nil, "fill%06d", i), value64k)
		p, err := db.Apply(b)
		if err == nil {
			err = p.Wait()
		}
		if err != nil {
			return i, err
		}
	}
	return n, nil
}

// The disk fails at any one place. Writers are told so, what was acknowledged is
// read as before, and after a restart with a sound disk it is all there.
func TestFailingDiskStopsWritersNotReaders(t *testing.T) {
	for _, at := range []struct{ op, name string }{
		{"write", ".log"}, {"sync", ".log"}, {"create", ".log"},
		{"write", "MANIFEST"}, {"sync", "MANIFEST"},
		{"sync", "directory"},
		{"write", ".sst"}, {"sync", ".sst"}, {"create", ".sst"},
		{"", ""}, // everywhere
	} {
		for how, over := range overFiles {
			t.Run(how+" "+strings.TrimSpace(at.op+" "+at.name), func(t *testing.T) {
				t.Parallel()
				mem := vfs.NewMem()
				disk := newFailFS(mem)
				db, err := kv.Open("db", kv.Options{FS: over(disk)})
				if err != nil {
					t.Fatal(err)
				}
				set(t, db, "a", "1")
				disk.fail(func(op, name string) error {
					if strings.Contains(op, at.op) && strings.Contains(name, at.name) {
						return &os.PathError{Op: op, Path: name, Err: syscall.ENOSPC}
					}
					return nil
				})
				n, err := fill(db, 10_000)
				if !errors.Is(err, fault.Unavailable) || !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("after %d batches writing gives %v, want Unavailable for lack of space", n, err)
				}
				s := db.Snapshot()
				if got := get(t, s, "a"); got != "1" {
					t.Errorf("a is %q on a full disk, want 1", got)
				}
				for i := range n {
					if _, ok, err := s.Get(fmt.Appendf(nil, "fill%06d", i)); !ok || err != nil {
						t.Fatalf("acknowledged batch %d is %v, %v on a full disk", i, ok, err)
					}
				}
				s.Close()
				_ = db.Close() // may complain; must return
				disk.work()
				s = open(t, "db", kv.Options{FS: over(disk)}).Snapshot()
				defer s.Close()
				for i := range n {
					if _, ok, err := s.Get(fmt.Appendf(nil, "fill%06d", i)); !ok || err != nil {
						t.Fatalf("acknowledged batch %d is %v, %v after a restart", i, ok, err)
					}
				}
			})
		}
	}
}

func TestWritingGoesOnWhenThereIsSpaceAgain(t *testing.T) {
	disk := newFailFS(vfs.NewMem())
	db := open(t, "db", kv.Options{FS: disk})
	disk.free.Store(1 << 20)
	b := db.NewBatch()
	b.Set([]byte("a"), []byte("1"))
	_, err := db.Apply(b)
	if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "1 MiB free") {
		t.Fatalf("with 1 MiB left writing gives %v, want Unavailable with what is free", err)
	}
	disk.free.Store(1 << 30)
	apply(t, db, b)
	s := db.Snapshot()
	defer s.Close()
	if got := get(t, s, "a"); got != "1" {
		t.Fatalf("a is %q, want 1", got)
	}
}

func TestWritingGoesOnWhenTablesCanBeWrittenAgain(t *testing.T) {
	disk := newFailFS(vfs.NewMem())
	db := open(t, "db", kv.Options{FS: disk})
	kv.RetryTablesAtOnce(db)
	disk.fail(func(op, name string) error {
		if op == "write" && strings.HasSuffix(name, ".sst") {
			return syscall.ENOSPC
		}
		return nil
	})
	if n, err := fill(db, 10_000); !errors.Is(err, fault.Unavailable) {
		t.Fatalf("after %d batches that fit in no table writing gives %v, want Unavailable", n, err)
	}
	disk.work()
	for deadline := time.Now().Add(time.Minute); ; {
		n, err := fill(db, 2000)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("although the disk works again, writing gives %v after %d batches", err, n)
		}
	}
}

package sim

import (
	"strings"
	"sync"

	"github.com/pandodb/pando/internal/kv"
)

// How much of what was not synced survives a power loss is drawn by kv.CrashFS
// from a number. These make it nothing and everything, which is all that replays
// exactly: in between the outcome also depends on the order of a map.
const (
	keepNothing    = 19
	keepEverything = 1
)

// disk is a node's disk. It can be told to lose power at one of its next writes.
type disk struct {
	kv.FS
	files     *kv.CrashFS
	forgetful bool

	mu       sync.Mutex // guards what follows: the engine writes from goroutines of its own
	set      bool
	left     int         // writes until the power fails
	generous bool        // whether what was not synced survives
	remains  *kv.CrashFS // what the power loss left; nil: it is still to come
}

func newDisk(forgetful bool) *disk { return diskOf(kv.NewCrashFS(), forgetful) }

func diskOf(files *kv.CrashFS, forgetful bool) *disk {
	return &disk{FS: files, files: files, forgetful: forgetful}
}

// arm makes the power fail at the write after n more.
func (d *disk) arm(n int, generous bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.set, d.left, d.generous, d.remains = true, n, generous, nil
}

// calm reports that the disk was not told to fail, or is new.
func (d *disk) calm() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.set
}

// lost returns whether the power failed already.
func (d *disk) lost() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.remains != nil
}

// crash returns what is left after the power loss.
func (d *disk) crash(generous bool) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := d.remains
	if left == nil {
		left = d.cut(generous)
	}
	return diskOf(left, d.forgetful)
}

func (d *disk) cut(generous bool) *kv.CrashFS {
	if generous {
		return d.files.Crash(keepEverything)
	}
	return d.files.Crash(keepNothing)
}

// write is called before every write to a log, which is what decides the fate of
// a transaction.
func (d *disk) write(name string) {
	if !strings.HasSuffix(name, ".log") {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.set || d.remains != nil {
		return
	}
	if d.left == 0 {
		d.remains = d.cut(d.generous)
	}
	d.left--
}

func (d *disk) Create(name string, c kv.WriteCategory) (kv.File, error) {
	f, err := d.FS.Create(name, c)
	return d.wrap(f, name, err)
}

func (d *disk) ReuseForWrite(from, to string, c kv.WriteCategory) (kv.File, error) {
	f, err := d.FS.ReuseForWrite(from, to, c)
	return d.wrap(f, to, err)
}

func (d *disk) wrap(f kv.File, name string, err error) (kv.File, error) {
	if err != nil {
		return nil, err
	}
	return &diskFile{f, d, name}, nil
}

type diskFile struct {
	kv.File
	d    *disk
	name string
}

func (f *diskFile) Write(p []byte) (int, error) {
	f.d.write(f.name)
	return f.File.Write(p)
}

func (f *diskFile) Sync() error {
	return f.sync(f.File.Sync)
}

func (f *diskFile) SyncData() error {
	return f.sync(f.File.SyncData)
}

func (f *diskFile) SyncTo(n int64) (full bool, err error) {
	f.d.write(f.name)
	if f.d.forgetful && strings.HasSuffix(f.name, ".log") {
		return true, nil
	}
	return f.File.SyncTo(n)
}

func (f *diskFile) sync(sync func() error) error {
	f.d.write(f.name)
	if f.d.forgetful && strings.HasSuffix(f.name, ".log") {
		return nil
	}
	err := sync()
	f.d.write(f.name)
	return err
}

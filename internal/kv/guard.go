package kv

import (
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/pandodb/pando/internal/fault"
)

// guardFS stands between the engine and the files, because the engine ends the
// process when it cannot write its log.
//
// The first failure to write a log, the list of tables, or a directory freezes
// the files as they are, as a power loss would: from then on nothing reaches
// them, and the engine is told that all went well. Nobody is deceived by that:
// Apply and Wait ask failed, and the frozen files are a state that the next
// Open recovers. Reads go on from what is on disk and in memory.
//
// Failures to write tables are different: the data is safe in the log. The
// engine is told, and tries again; the guard only slows it down.
//
// While the engine opens, any failure to write ends the attempt: the engine would
// try again for ever. The files freeze, which is what the next attempt finds.
type guardFS struct {
	vfs.FS
	armed   atomic.Bool           // open has succeeded
	frozen  atomic.Pointer[error] // why nothing is written any more
	stopped chan struct{}         // closed when frozen while opening
	tables  atomic.Pointer[error] // why the last table could not be written
	retry   time.Duration
	closing chan struct{}
	onError func(error)
	once    sync.Once
}

// retryTables is how long the engine waits after it could not write a table.
// It would try again at once, and keep a full disk and a core busy.
const retryTables = time.Second

func newGuardFS(inner vfs.FS, onError func(error)) *guardFS {
	return &guardFS{FS: inner, retry: retryTables, stopped: make(chan struct{}), closing: make(chan struct{}), onError: onError}
}

// arm is called when the database is open.
func (g *guardFS) arm() { g.armed.Store(true) }

// opening notes a failure to write while the engine opens, and passes it on.
func (g *guardFS) opening(err error) error {
	if err != nil && !g.armed.Load() {
		g.freeze(err)
	}
	return err
}

// close lets go of what waits for better times.
func (g *guardFS) close() { g.once.Do(func() { close(g.closing) }) }

// failed returns why writing has ended for good, or nil.
func (g *guardFS) failed() error {
	if err := g.frozen.Load(); err != nil {
		return fault.Unavailable.Errorf("the disk failed; no writes until the node is started anew: %w", classify(*err))
	}
	return nil
}

// stuck returns why tables cannot be written at the moment, or nil.
func (g *guardFS) stuck() error {
	if err := g.tables.Load(); err != nil {
		return fault.Unavailable.Errorf("the disk takes no more for now: %w", classify(*err))
	}
	return nil
}

func (g *guardFS) freeze(err error) {
	if !g.frozen.CompareAndSwap(nil, &err) {
		return
	}
	if !g.armed.Load() {
		close(g.stopped)
		return // Open tells
	}
	g.onError(err)
}

// die freezes the files where the engine expects the process to end. While it
// opens, the goroutine ends: nobody waits for it.
func (g *guardFS) die(err error) {
	g.freeze(err)
	if !g.armed.Load() {
		runtime.Goexit()
	}
}

// hide freezes the files because of err, if there is one, and says whether it
// has to be kept from the engine.
func (g *guardFS) hide(err error) bool {
	if err != nil && g.armed.Load() {
		g.freeze(err)
		return true
	}
	g.opening(err)
	return false
}

func (g *guardFS) isFrozen() bool { return g.frozen.Load() != nil }

// vital tells files whose loss the engine does not survive from tables.
func vital(name string) bool {
	name = filepath.Base(name)
	return strings.HasSuffix(name, ".log") || strings.HasPrefix(name, "MANIFEST") || strings.HasPrefix(name, "marker.")
}

func (g *guardFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if vital(name) {
		return g.vitalFile(func() (vfs.File, error) { return g.FS.Create(name, category) })
	}
	if err := g.mayWriteTable(); err != nil {
		return nil, err
	}
	f, err := g.FS.Create(name, category)
	g.tableWritten(err, false)
	if err != nil {
		return nil, err
	}
	return &tableFile{f, g}, nil
}

func (g *guardFS) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return g.vitalFile(func() (vfs.File, error) { return g.FS.ReuseForWrite(from, to, category) })
}

func (g *guardFS) vitalFile(create func() (vfs.File, error)) (vfs.File, error) {
	if g.isFrozen() {
		return &vitalFile{nowhere{}, g}, nil
	}
	f, err := create()
	if g.hide(err) {
		return &vitalFile{nowhere{}, g}, nil
	}
	if err != nil {
		return nil, err
	}
	return &vitalFile{f, g}, nil
}

func (g *guardFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &vitalFile{f, g}, nil
}

func (g *guardFS) Remove(name string) error {
	if g.isFrozen() {
		return nil // it may be needed after the next start
	}
	return g.FS.Remove(name)
}

func (g *guardFS) Rename(from, to string) error {
	if g.isFrozen() {
		return nil
	}
	return g.FS.Rename(from, to)
}

// Lock does nothing: the database holds the lock, and may let go of an engine that
// does not.
func (g *guardFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (g *guardFS) Unwrap() vfs.FS { return g.FS }

// mayWriteTable waits while it is of no use to try.
func (g *guardFS) mayWriteTable() error {
	switch {
	case g.isFrozen():
		<-g.closing
		return *g.frozen.Load()
	case g.tables.Load() != nil:
		select {
		case <-g.closing:
		case <-time.After(g.retry):
		}
	}
	return nil
}

// tableWritten notes how the last step of writing a table went.
func (g *guardFS) tableWritten(err error, complete bool) {
	switch {
	case g.opening(err) != nil && !g.armed.Load():
	case err != nil:
		if g.tables.Swap(&err) == nil {
			g.onError(err)
		}
	case complete && g.tables.Load() != nil:
		g.tables.Store(nil)
	}
}

// tableFile reports how writing goes.
type tableFile struct {
	vfs.File
	g *guardFS
}

func (f *tableFile) Write(p []byte) (int, error) {
	if err := f.g.frozen.Load(); err != nil {
		return 0, *err
	}
	n, err := f.File.Write(p)
	f.g.tableWritten(err, false)
	return n, err
}

func (f *tableFile) Sync() error {
	err := f.File.Sync()
	f.g.tableWritten(err, true)
	return err
}

func (f *tableFile) SyncData() error {
	err := f.File.SyncData()
	f.g.tableWritten(err, true)
	return err
}

// vitalFile never fails once the database is open.
type vitalFile struct {
	vfs.File
	g *guardFS
}

func (f *vitalFile) Write(p []byte) (int, error) {
	if f.g.isFrozen() {
		return len(p), nil
	}
	n, err := f.File.Write(p)
	if f.g.hide(err) {
		return len(p), nil
	}
	return n, err
}

func (f *vitalFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *vitalFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *vitalFile) SyncTo(length int64) (full bool, err error) {
	err = f.sync(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f *vitalFile) sync(sync func() error) error {
	if f.g.isFrozen() {
		return nil
	}
	if err := sync(); !f.g.hide(err) {
		return err
	}
	return nil
}

func (f *vitalFile) Close() error {
	if err := f.File.Close(); !f.g.hide(err) {
		return err
	}
	return nil
}

// nowhere is a file that takes everything and keeps nothing.
type nowhere struct{ vfs.File }

func (nowhere) Write(p []byte) (int, error)  { return len(p), nil }
func (nowhere) Preallocate(_, _ int64) error { return nil }
func (nowhere) Stat() (vfs.FileInfo, error)  { return noInfo{}, nil }
func (nowhere) Sync() error                  { return nil }
func (nowhere) SyncTo(int64) (bool, error)   { return true, nil }
func (nowhere) SyncData() error              { return nil }
func (nowhere) Prefetch(_, _ int64) error    { return nil }
func (nowhere) Fd() uintptr                  { return vfs.InvalidFd }
func (nowhere) Close() error                 { return nil }

// noInfo is what there is to know of nowhere: the engine asks for the size.
type noInfo struct{ vfs.FileInfo }

func (noInfo) Size() int64 { return 0 }

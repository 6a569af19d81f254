package kv

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/pandodb/pando/internal/fault"
)

// openBytes must be free to open a database, besides what its logs hold: those
// become tables. It is a new log, which takes its space ahead, a list of tables and a
// file of options.
const openBytes = memTableBytes + 4<<20

// Open opens the database in dir, creating both when absent. While it is open,
// nobody else can open it: that is Unavailable. Damage that is found at once is
// Corrupt, named by file; damage inside tables is found when they are read.
//
// With ReadOnly nothing is written, and a directory without a database is NotFound.
func Open(dir string, o Options) (*DB, error) {
	inner := o.FS
	if inner == nil {
		inner = vfs.Default
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fault.Invalid.Errorf("open database %q: %w", dir, err)
		}
		dir = abs
	}
	if err := makeDirectory(dir, inner, o); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	lock, err := Lock(inner.PathJoin(dir, lockName), inner)
	if err != nil {
		return nil, err
	}
	if err := checkKey(dir, inner); err != nil {
		return nil, fmt.Errorf("open database: %w", errors.Join(err, lock.Close()))
	}
	db := &DB{dir: dir, lock: lock}
	db.idle.L = &db.mu
	log := logger{to: o.Logger}
	db.fs = newGuardFS(inner, func(err error) {
		log.Errorf("writing failed: %v", err)
		db.room.moved()
	})
	log.fatal = db.fs.die
	db.room = newRoom(dir, db.fs, o.ReserveBytes)
	cache := pebble.NewCache(cmp.Or(max(o.CacheBytes, 0), defaultCacheBytes))
	defer cache.Unref() // the engine holds its own reference
	engineOptions := db.engineOptions(cache, log)
	engineOptions.ReadOnly = o.ReadOnly
	if db.engine, err = db.start(engineOptions, o.Logger); err != nil {
		err = errors.Join(err, lock.Close())
		return nil, fmt.Errorf("open database %q: %w", dir, opening(err))
	}
	return db, nil
}

// makeDirectory makes dir, unless it is there or the disk is full.
func makeDirectory(dir string, files vfs.FS, o Options) error {
	switch info, err := files.Stat(dir); {
	case err == nil && !info.IsDir():
		return fault.Invalid.Errorf("%q is a file, and a directory is wanted: name another", dir)
	case err != nil && o.ReadOnly && errors.Is(err, fs.ErrNotExist):
		return fault.NotFound.Errorf("there is no database in %q", dir)
	case err == nil || errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, syscall.ENOTDIR):
		return fault.Invalid.Errorf("%q is below a file: name another directory: %w", dir, err)
	default:
		return fault.Unavailable.Errorf("directory %q: %w", dir, classify(err))
	}
	if o.ReadOnly {
		return nil
	}
	if o.ReserveBytes >= 0 {
		if err := roomToOpen(dir, files); err != nil {
			return err
		}
	}
	if err := files.MkdirAll(dir, 0o700); err != nil {
		return fault.Unavailable.Errorf("create directory %q: %w", dir, classify(err))
	}
	return nil
}

// roomToOpen says whether the disk has room for what opening writes. The engine
// would find out too, with half of it done.
func roomToOpen(dir string, files vfs.FS) error {
	need := uint64(openBytes)
	names, err := files.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return classify(err)
	}
	for _, name := range names {
		if info, err := files.Stat(files.PathJoin(dir, name)); err == nil && strings.HasSuffix(name, ".log") {
			need += uint64(info.Size())
		}
	}
	at := dir
	usage, err := files.GetDiskUsage(at)
	for errors.Is(err, fs.ErrNotExist) && at != files.PathDir(at) {
		at = files.PathDir(at)
		usage, err = files.GetDiskUsage(at)
	}
	if err == nil && usage.AvailBytes < need {
		return fault.Unavailable.Errorf("the disk is full: %d MiB free in %q, and opening it needs %d MiB; nothing was changed, free some space",
			usage.AvailBytes>>20, dir, (need+1<<20-1)>>20)
	}
	return nil // if nobody knows, the engine finds out
}

// start starts the engine, or gives up as soon as writing fails: of itself the
// engine tries again for ever. One that was given up waits in the guard, where it
// can do no harm, until the process ends.
func (db *DB) start(o *pebble.Options, log *slog.Logger) (*pebble.DB, error) {
	if err := db.checkFiles(log); err != nil {
		return nil, err
	}
	if db.short && !o.ReadOnly {
		if err := db.checkUnlisted(o); err != nil {
			return nil, err
		}
	}
	type result struct {
		engine *pebble.DB
		err    error
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: errors.New("the engine ended")} // by die
		defer func() { done <- r }()
		r.engine, r.err = openEngine(db.dir, o)
	}()
	var r result
	select {
	case r = <-done:
	case <-db.fs.stopped:
	}
	db.fs.arm()
	if cause := db.fs.frozen.Load(); cause != nil {
		err := classify(*cause)
		if fault.Of(err) == nil {
			err = fault.Corrupt.Errorf("the files cannot be used: %w; %s", err, mend)
		}
		return nil, err
	}
	return r.engine, r.err
}

// checkFiles finds what the engine does not complain of: without a list of tables it
// would begin a new database, and remove the tables of the old one.
func (db *DB) checkFiles(log *slog.Logger) error {
	names, err := db.fs.List(db.dir)
	if err != nil {
		return err
	}
	has := func(prefix, suffix string) bool {
		for _, name := range names {
			if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
				return true
			}
		}
		return false
	}
	listed := has("marker.manifest.", "")
	switch {
	case !listed && (has("", ".sst") || has("", ".log") || has("MANIFEST-", "")):
		return fault.Corrupt.Errorf("file marker.manifest is missing, which names the list of tables; %s", mend)
	case listed && !has("marker.format-version.", ""):
		return fault.Corrupt.Errorf("file marker.format-version is missing; %s", mend)
	case listed && !has("", ".log"):
		db.unreplayed = 1 // at least
		warn(log, "storage: there is no log: what was written last may be lost; "+mend, "dir", db.dir)
		return nil
	}
	if listed {
		short, err := checkManifest(db.dir, db.fs, names)
		if err != nil {
			return err
		}
		db.short = short
	}
	name, n, err := unreplayed(db.dir, db.fs, names)
	if err != nil {
		return err
	}
	if db.unreplayed = n; n > 0 {
		warn(log, "storage: the end of the newest log cannot be read: a power loss cut the last write short, or it is damaged; sync with a peer",
			"file", name, "bytes", n)
	}
	return nil
}

func warn(log *slog.Logger, text string, args ...any) {
	if log != nil {
		log.Warn(text, args...)
	}
}

// openEngine opens the engine, which panics on some damaged files.
func openEngine(dir string, o *pebble.Options) (engine *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault.Corrupt.Errorf("the files cannot be read: %w; %s", plain(fmt.Errorf("%v", r)), mend)
		}
	}()
	was, err := pebble.Peek(dir, o.FS)
	if err != nil {
		return nil, err
	}
	if o.ReadOnly && !was.Exists {
		return nil, fault.NotFound.Errorf("there is no database")
	}
	engine, err = pebble.Open(dir, o)
	if err == nil && was.FormatMajorVersion < formatVersion && !o.ReadOnly {
		// The engine begins a log before it changes to the format that we asked
		// for, and the old one cannot tell damage from a write cut short: begin
		// another.
		if err = engine.Flush(); err != nil {
			err = errors.Join(err, engine.Close())
		}
	}
	return engine, err
}

// Lock keeps others out of what the file at path stands for, in this process and in
// others, until it is closed.
func Lock(path string, files FS) (io.Closer, error) {
	lock, err := files.Lock(path)
	if err == nil {
		return lock, nil
	}
	// Failing to make the lock file is told from failing to lock it by the path.
	dir := files.PathDir(path)
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return nil, fault.Unavailable.Errorf("open database: cannot write in directory %q; check its owner and the disk: %w", dir, err)
	}
	return nil, fault.Unavailable.Errorf("open database: another pando node uses directory %q; stop it, or choose another directory: %w", dir, err)
}

// lockName is the file that the engine locks.
const lockName = "LOCK"

// Package kv keeps an ordered set of byte keys on disk: snapshots, atomic
// batches, transactions that see their own writes, and backups.
//
// It hides the storage engine. No other package names it, its files or its
// errors: what can go wrong is told by the kinds of package fault. Bytes that
// fail their checksum are Corrupt, a full or failing disk and a directory in
// use are Unavailable, and use after Close is Closed. The process never exits
// from within, whatever the disk does.
package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/pandodb/pando/internal/fault"
)

const (
	// defaultCacheBytes bounds what is kept of tables already read. It is
	// filled as blocks are read, so an idle database holds next to nothing.
	defaultCacheBytes = 64 << 20

	// memTableBytes is how much is written before it is sorted into tables. Two
	// of them stay in memory when writing pauses, so that is what an idle node
	// pays; 16 MiB is not measurably faster for small commits. The engine begins
	// with 256 KiB and doubles: a node which writes little stays smaller still.
	memTableBytes = 8 << 20

	// bloomBits per key give one useless table read in a hundred.
	bloomBits = 10

	// maxOpenFiles is well under the usual limit of 1024 descriptors, of which
	// the network needs its share.
	maxOpenFiles = 256

	// formatVersion of the files. Named, not "newest", so that an update of the
	// engine never rewrites a database by surprise.
	formatVersion = pebble.FormatValueSeparation
)

// Options for Open. The zero value keeps everything on disk with default sizes.
type Options struct {
	FS           FS           // where files live; nil is the disk
	CacheBytes   int64        // how much of the tables to keep in memory; 0 is 64 MiB
	ReserveBytes int64        // how much of the disk to leave free; 0 is 32 MiB, less is none
	Logger       *slog.Logger // what the engine does, at debug level; nil is silence
	ReadOnly     bool         // write nothing; for looking at what is there
}

// DB is an open database. Its methods may be used from many goroutines at once.
type DB struct {
	engine *pebble.DB
	dir    string
	fs     *guardFS
	room   *room
	lock   io.Closer

	unreplayed int64 // bytes of the newest log
	short      bool  // the list of tables is cut short

	writing sync.Mutex // held while a batch is applied: first it is made sure that the engine can

	mu     sync.Mutex // guards closed, users
	closed bool
	users  int       // snapshots, iterators and calls in flight
	idle   sync.Cond // users fell to 0; with mu
}

func (db *DB) engineOptions(cache *pebble.Cache, log logger) *pebble.Options {
	o := &pebble.Options{
		Cache:                       cache,
		FS:                          db.fs,
		Logger:                      log,
		FormatMajorVersion:          formatVersion,
		MemTableSize:                memTableBytes,
		MemTableStopWritesThreshold: never,
		L0StopWritesThreshold:       never,
		L0CompactionThreshold:       2,
		MaxOpenFiles:                maxOpenFiles,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { log.Errorf("background work failed: %v", err) },
			// The reader that met the damage reports it; a node with one bad
			// block serves the rest.
			DataCorruption: func(info pebble.DataCorruptionInfo) { log.Errorf("%v", info) },
		},
	}
	db.room.listen(o.EventListener)
	o.CompactionConcurrencyRange = func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)/2) }
	o.Experimental.FileCacheShards = 2 // each has a goroutine of its own
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionBalanced })
	return o
}

// Whole returns nil if the database, opened for reading only, is all that is in its
// files. If not, a power loss or damage has cut something off, and Salvage may find it
// until the database is opened for writing.
func (db *DB) Whole() error {
	if db.unreplayed > 0 {
		return fault.Corrupt.Errorf("the end of the log cannot be read")
	}
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	names, err := db.unlisted()
	if err == nil && len(names) > 0 {
		return fault.Corrupt.Errorf("table %s is in no list", names[0])
	}
	return classify(err)
}

// unlisted returns the tables that are there and not in use.
func (db *DB) unlisted() (unlisted []string, err error) {
	used := map[string]bool{}
	tables, err := db.tables(nil)
	for _, t := range tables {
		used[t.name] = true
	}
	names, e := db.fs.List(db.dir)
	for _, name := range names {
		if _, kind := fileNumber(name); kind == ".sst" && !used[name] {
			unlisted = append(unlisted, name)
		}
	}
	return unlisted, errors.Join(err, e)
}

// Close waits for the snapshots and transactions still open, then closes the
// files. Calls after Close give Closed.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return fault.Closed.Errorf("close database: it is closed already")
	}
	db.closed = true
	db.fs.close()
	for db.users > 0 {
		db.idle.Wait()
	}
	db.mu.Unlock()
	err := db.engine.Close()
	if e := db.lock.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("close database %q: %w", db.dir, classify(err))
	}
	return nil
}

// enter keeps the database open until leave.
func (db *DB) enter() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return fault.Closed.Errorf("the database is closed")
	}
	db.users++
	return nil
}

func (db *DB) leave() {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.users--; db.users == 0 && db.closed {
		db.idle.Broadcast()
	}
}

// Checkpoint writes a copy of the database as of now into dir, which must not
// exist. Files are linked where the file system can, so it is quick and small.
func (db *DB) Checkpoint(dir string) error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	if err := db.fs.failed(); err != nil {
		return err
	}
	err := db.engine.Checkpoint(dir, pebble.WithFlushedWAL())
	if errors.Is(err, os.ErrExist) {
		return fault.Exists.Errorf("back up: %q exists; name a new directory: %w", dir, err)
	}
	if err != nil {
		return fmt.Errorf("back up to %q: %w", dir, classify(err))
	}
	return nil
}

// Metrics are figures for people and monitoring.
type Metrics struct {
	DiskBytes         uint64 // all files
	WALBytes          uint64 // of these, the log of what is not in tables yet
	Tables            int64
	MemTableBytes     uint64 // memory of what is not in tables yet
	CacheBytes        int64
	CacheHits         int64
	CacheMisses       int64
	Flushes           int64
	Compactions       int64
	CompactionDebt    uint64 // bytes still to be compacted
	ReadAmplification int    // tables a read may have to look into
	Snapshots         int
}

// Metrics returns the figures of now; zero when closed.
func (db *DB) Metrics() Metrics {
	if db.enter() != nil {
		return Metrics{}
	}
	defer db.leave()
	m := db.engine.Metrics()
	total := m.Total()
	return Metrics{
		DiskBytes:         m.DiskSpaceUsage(),
		WALBytes:          m.WAL.PhysicalSize,
		Tables:            total.TablesCount,
		MemTableBytes:     m.MemTable.Size,
		CacheBytes:        m.BlockCache.Size,
		CacheHits:         m.BlockCache.Hits,
		CacheMisses:       m.BlockCache.Misses,
		Flushes:           m.Flush.Count,
		Compactions:       m.Compact.Count,
		CompactionDebt:    m.Compact.EstimatedDebt,
		ReadAmplification: m.ReadAmp(),
		Snapshots:         m.Snapshots.Count,
	}
}

// logger passes what the engine says to slog. Nothing it says ends the process.
type logger struct {
	to    *slog.Logger
	fatal func(error)
}

func (l logger) Infof(format string, args ...any)  { l.log(slog.LevelDebug, format, args) }
func (l logger) Errorf(format string, args ...any) { l.log(slog.LevelWarn, format, args) }

// Fatalf returns, although the engine expects to die here. What it complains of
// can no longer do harm: the files are frozen, and writers are refused.
func (l logger) Fatalf(format string, args ...any) {
	l.log(slog.LevelError, format, args)
	l.fatal(fmt.Errorf(format, args...))
}

func (l logger) log(level slog.Level, format string, args []any) {
	if ctx := context.Background(); l.to != nil && l.to.Enabled(ctx, level) {
		l.to.Log(ctx, level, "storage: "+fmt.Sprintf(format, args...))
	}
}

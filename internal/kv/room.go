package kv

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/pandodb/pando/internal/fault"
)

const (
	// maxUnflushed is how much may be in memory only, beside the log, before
	// writers wait.
	maxUnflushed = 4 * memTableBytes

	// maxOverlap is how many tables may overlap before writers wait for
	// compaction: each is one more place for reads to look into.
	maxOverlap = 24

	// never keeps the engine from making writers wait. It would do so even
	// when the disk is full, and then neither they nor Close would return.
	never = 1 << 10

	// reserveBytes of the disk stay free. Running into the end of the disk
	// means that the node has to be started anew; stopping before it does not.
	// It is enough to write what may be in memory.
	reserveBytes = maxUnflushed

	// askDiskEvery bounds how often the free space is looked at.
	askDiskEvery = 250 * time.Millisecond
)

// room decides whether a batch may be written now.
type room struct {
	fs      *guardFS
	dir     string
	reserve uint64

	rotations atomic.Int64  // memtables begun
	lagging   atomic.Bool   // the last compaction failed
	progress  chan struct{} // something was written, or failed

	// These belong to the writer whose turn it is.
	checked int64     // rotations when there was room
	asked   time.Time // when the free space was looked at
	low     error     // what came of it
}

func newRoom(dir string, fs *guardFS, reserve int64) *room {
	if reserve == 0 {
		reserve = reserveBytes
	}
	return &room{fs: fs, dir: dir, reserve: uint64(max(0, reserve)), progress: make(chan struct{}, 1)}
}

// listen fills in the events that room is made from.
func (r *room) listen(l *pebble.EventListener) {
	l.WALCreated = func(pebble.WALCreateInfo) { r.rotations.Add(1) }
	l.FlushEnd = func(pebble.FlushInfo) { r.moved() }
	l.CompactionEnd = func(i pebble.CompactionInfo) {
		r.lagging.Store(i.Err != nil)
		r.moved()
	}
}

// moved wakes who waits for room.
func (r *room) moved() {
	select {
	case r.progress <- struct{}{}:
	default:
	}
}

// wait returns when a batch may be written, or why none can. Callers take turns.
func (r *room) wait(engine *pebble.DB) error {
	if err := r.disk(); err != nil {
		return err
	}
	for n := r.rotations.Load(); n != r.checked; {
		if err := r.fs.failed(); err != nil {
			return err
		}
		m := engine.Metrics()
		if m.MemTable.Size <= maxUnflushed && (m.Levels[0].Sublevels < maxOverlap || r.lagging.Load()) {
			r.checked = n
			break
		}
		if err := r.fs.stuck(); err != nil {
			return err
		}
		select {
		case <-r.progress:
		case <-r.fs.closing:
			return fault.Closed.Errorf("the database is closed")
		}
	}
	return r.fs.failed()
}

// disk returns whether there is space left, looking again when the answer is
// old or was no.
func (r *room) disk() error {
	now := time.Now()
	if r.reserve == 0 || r.low == nil && now.Sub(r.asked) < askDiskEvery {
		return nil
	}
	r.asked, r.low = now, nil
	usage, err := r.fs.GetDiskUsage(r.dir)
	switch {
	case errors.Is(err, vfs.ErrUnsupported): // in memory
	case err != nil:
		r.low = fault.Unavailable.Errorf("the free space of the disk is unknown: %w", err)
	case usage.AvailBytes < r.reserve:
		r.low = fault.Unavailable.Errorf("the disk is almost full: %d MiB free, and %d MiB must stay free; make room and try again",
			usage.AvailBytes>>20, r.reserve>>20)
	}
	return r.low
}

package kv

import (
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/pandodb/pando/internal/fault"
)

// maxBatchBytes bounds one batch: it is held in memory as a whole, and the
// engine cannot log one of 4 GiB.
const maxBatchBytes = 512 << 20

// Batch collects writes that happen together or not at all. Keys and values are
// copied. It belongs to one goroutine.
type Batch struct {
	ops   *pebble.Batch
	err   error
	taken bool      // by Apply
	once  sync.Once // for waiting
}

// NewBatch returns an empty batch for this database.
func (db *DB) NewBatch() *Batch { return &Batch{ops: db.engine.NewBatch()} }

// Set makes value the value of key.
func (b *Batch) Set(key, value []byte) {
	if b.fits(len(key) + len(value)) {
		b.note(b.ops.Set(key, value, nil))
	}
}

// Delete removes key, if it is there.
func (b *Batch) Delete(key []byte) {
	if b.fits(len(key)) {
		b.note(b.ops.Delete(key, nil))
	}
}

// DeleteRange removes all keys from lo up to, but without, hi.
func (b *Batch) DeleteRange(lo, hi []byte) {
	if b.fits(len(lo) + len(hi)) {
		b.note(b.ops.DeleteRange(lo, hi, nil))
	}
}

// Len returns how many writes are in the batch.
func (b *Batch) Len() int { return int(b.ops.Count()) }

// Size returns about how many bytes the batch holds.
func (b *Batch) Size() int { return b.ops.Len() }

// Reset empties a batch that was not applied.
func (b *Batch) Reset() {
	b.ops.Reset()
	b.err = nil
}

// Close gives up a batch that was not applied, and does nothing to one that was.
func (b *Batch) Close() {
	if !b.taken {
		b.release()
	}
}

func (b *Batch) release() {
	if b.ops != nil {
		_ = b.ops.Close() // fails only if it is being applied
		b.ops = nil
	}
}

func (b *Batch) fits(n int) bool {
	const overhead = 16 // kind and lengths
	if b.err == nil && b.ops.Len()+n+overhead > maxBatchBytes {
		b.err = fault.TooLarge.Errorf("a batch holds at most %d MiB; write in several steps", maxBatchBytes>>20)
	}
	return b.err == nil
}

func (b *Batch) note(err error) {
	if b.err == nil {
		b.err = err
	}
}

// Pending is a batch that is applied but perhaps not durable yet.
type Pending struct {
	db    *DB
	batch *Batch
}

// WaitForRoom returns when there is room for a batch, or why there is none. Apply
// waits too; who holds a lock over Apply calls this before taking it. Only if others
// fill the room meanwhile is there a wait left.
func (db *DB) WaitForRoom() error {
	if err := db.enter(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	defer db.leave()
	db.writing.Lock()
	defer db.writing.Unlock()
	if err := db.room.wait(db.engine); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// Apply makes the writes of b visible to snapshots taken from now on. They are
// durable, with all that were applied before, once Wait has returned nil; many
// waiters share one write to disk. Until then a power loss may take the batch
// away, but never a part of it. Apply takes the batch over, unless it fails.
//
// Batches applied at the same time get some order; who depends on it must call
// Apply in that order.
//
// An error means that nothing was applied. If the disk fails meanwhile, the writes are
// visible, and Wait tells that they may not last.
func (db *DB) Apply(b *Batch) (Pending, error) {
	if b.err != nil {
		return Pending{}, fmt.Errorf("write: %w", classify(b.err))
	}
	if b.taken {
		return Pending{}, fault.Invalid.Errorf("write: the batch was applied before; make a new one")
	}
	if err := db.enter(); err != nil {
		return Pending{}, fmt.Errorf("write: %w", err)
	}
	defer db.leave()
	if b.ops.Empty() {
		return Pending{}, nil
	}
	db.writing.Lock()
	defer db.writing.Unlock()
	if err := db.room.wait(db.engine); err != nil {
		return Pending{}, fmt.Errorf("write: %w", err)
	}
	b.taken = true
	if err := db.engine.ApplyNoSyncWait(b.ops, pebble.Sync); err != nil {
		return Pending{}, fmt.Errorf("write: %w", classify(err))
	}
	if err := db.fs.failed(); err != nil {
		b.once.Do(func() { b.err = err }) // it can be read: Wait tells
	}
	return Pending{db, b}, nil
}

// Wait returns nil once the batch is durable. An error means that it may or may
// not be there after a restart, as a whole. It may be called more than once.
func (p Pending) Wait() error {
	b := p.batch
	if b == nil {
		return nil // nothing was written
	}
	b.once.Do(func() {
		b.err = b.ops.SyncWait()
		if err := p.db.fs.failed(); err != nil {
			b.err = err
		}
		b.release()
	})
	if b.err != nil {
		return fmt.Errorf("write: %w", classify(b.err))
	}
	return nil
}

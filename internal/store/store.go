// Package store keeps documents: their commits, their merged state, the feed of
// changes and the schema in one key space, and holds the one function that
// changes a document, Tx.apply.
//
// A transaction runs on a snapshot and collects its writes; signing and encoding
// happen outside the writer. Commit then checks under the writer's lock that
// nothing it relied on has changed, takes the next numbers of the feed and hands
// one batch to the key-value store, whose fsync is shared with the transactions
// that wait beside it.
//
// No goroutine outlives a call: only signing spreads over the cores.
package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
)

// Options configure a store. The zero value is a store on disk with the system's
// clock and randomness.
type Options struct {
	FS         kv.FS            // nil: the disk
	CacheBytes int64            // block cache; 0: the default of kv
	Now        func() time.Time // nil: time.Now
	Rand       io.Reader        // nil: crypto/rand
	Logger     *slog.Logger     // nil: silent
	ReadOnly   bool             // write nothing, and open only what exists
	Keys       []ident.Key      // open encrypted documents; those of callers open too, for what they write
	Lenses     schema.Lenses    // runs the modules of schema versions; nil: they do not run
}

// Store is an open database directory.
type Store struct {
	kv       *kv.DB
	now      func() time.Time
	rand     io.Reader
	log      *slog.Logger
	readOnly bool
	epoch    [16]byte
	keys     []ident.Key
	secrets  *secrets // of encrypted documents
	modules  modules  // of schema versions
	memory   *memory  // of who was in which group
	set      atomic.Pointer[Set]
	gate     gate // transactions and readers under way

	// writer serialises commits, and a transaction that reruns after a conflict.
	writer  sync.Mutex
	written *history        // guarded by writer: what recent transactions changed
	counts  map[short]count // guarded by writer

	// mu makes a snapshot and its place in the feed one; held for microseconds.
	mu      sync.Mutex
	seq     uint64            // newest number of the feed
	active  map[*Tx]uint64    // the snapshots in use
	touched map[short][]touch // documents changed since their tree was refreshed
	origins map[string]uint64 // peers by short number
	peers   map[uint64]string // the other way round

	schemaChanged chan struct{} // guarded by mu: closed when set changes
	building      chan struct{} // holds a value while indexes are built
	buildStep     int           // how many documents a build takes at once

	durable waiters // how far the feed is safe on disk

	treesMu sync.Mutex // guards trees; each tree has its own lock
	trees   map[short]*tree
}

// Open opens the database in dir, and makes it if the directory is empty.
func Open(dir string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	fs := o.FS
	if fs == nil {
		fs = kv.Disk()
	}
	db, err := openSettled(fs, dir, o)
	if err != nil {
		return nil, err
	}
	s := &Store{
		kv: db, now: o.Now, rand: o.Rand, log: o.Logger, readOnly: o.ReadOnly,
		modules: modules{lenses: o.Lenses, kv: db, log: o.Logger},
		active:  map[*Tx]uint64{},
		touched: map[short][]touch{},
		origins: map[string]uint64{},
		peers:   map[uint64]string{},
		trees:   map[short]*tree{},
		written: newHistory(),
		memory:  newMemory(),
		keys:    o.Keys,
		secrets: newSecrets(),
		counts:  map[short]count{},

		schemaChanged: make(chan struct{}),
		building:      make(chan struct{}, 1),
		buildStep:     buildDocuments,
	}
	if err := s.load(); err != nil {
		db.Close()
		return nil, err
	}
	if !o.ReadOnly {
		if err := s.unlock(context.Background()); err != nil {
			return nil, errors.Join(fmt.Errorf("open encrypted documents: %w", err), s.Close())
		}
	}
	return s, nil
}

// openSettled opens the key space, after finishing a rebuild that was interrupted.
func openSettled(fs kv.FS, dir string, o Options) (*kv.DB, error) {
	ko := kv.Options{FS: o.FS, CacheBytes: o.CacheBytes, Logger: o.Logger, ReadOnly: o.ReadOnly}
	ready, err := exists(fs, dir+suffixReady)
	if err != nil {
		return nil, err
	}
	if o.ReadOnly {
		if ready {
			return kv.Open(dir+suffixReady, ko) // made, and not yet in its place
		}
		return kv.Open(dir, ko)
	}
	swapping, err := lockSwap(fs, dir)
	if err != nil {
		return nil, err
	}
	defer swapping.Close()
	if err := settle(fs, dir); err != nil {
		return nil, err
	}
	return kv.Open(dir, ko)
}

// load reads what is kept in memory, and marks a new directory.
func (s *Store) load() error {
	snap := s.kv.Snapshot()
	defer snap.Close()
	v, ok, err := snap.Get(globalKey(globalFormat))
	if err != nil {
		return err
	}
	if !ok && s.readOnly {
		return fault.NotFound.Errorf("there is no database in the directory")
	}
	if !ok {
		for e, err := range snap.Scan(nil, nil) {
			if err == nil {
				err = fault.Corrupt.Errorf("the directory has no format version, but an entry %.20q: it is no pando directory, or damaged: run 'pando fsck --rebuild', then sync with a peer", e.Key)
			}
			return err
		}
		if err := s.create(); err != nil {
			return err
		}
		s.set.Store(newSet(nil, 0, nil))
		return nil
	}
	if err := checkFormat(v); err != nil {
		return err
	}
	e, _, err := snap.Get(globalKey(globalEpoch))
	if err != nil {
		return err
	}
	if copy(s.epoch[:], e) != len(s.epoch) {
		return fault.Corrupt.Errorf("epoch of the feed: %d bytes, want %d: the directory is damaged", len(e), len(s.epoch))
	}
	for e, err := range snap.ScanReverse([]byte{tableFeed}, []byte{tableFeed + 1}) {
		if err != nil {
			return err
		}
		if len(e.Key) != 9 {
			return fault.Corrupt.Errorf("feed key of %d bytes, want 9: run pando fsck --rebuild", len(e.Key))
		}
		s.seq = binary.BigEndian.Uint64(e.Key[1:])
		break
	}
	s.durable.advance(s.seq)
	prefix := globalKey(globalOrigin)
	for e, err := range snap.Scan(prefix, after(prefix)) {
		if err != nil {
			return err
		}
		if len(e.Key) != 10 {
			return fault.Corrupt.Errorf("origin key of %d bytes, want 10: the directory is damaged", len(e.Key))
		}
		n := binary.BigEndian.Uint64(e.Key[2:])
		s.origins[string(e.Value)], s.peers[n] = n, string(e.Value)
	}
	set, err := loadSet(snap, &s.modules)
	if err != nil {
		return err
	}
	for m := range set.members() {
		if s.counts[m.short], err = readCount(snap, m.short); err != nil {
			return err
		}
	}
	for _, n := range set.lost {
		if s.counts[n], err = readCount(snap, n); err != nil {
			return err
		}
	}
	s.set.Store(set)
	return nil
}

func checkFormat(v []byte) error {
	if len(v) != 4 {
		return fault.Corrupt.Errorf("format version of the directory: %d bytes, want 4: it is no pando directory, or damaged", len(v))
	}
	switch got := binary.BigEndian.Uint32(v); {
	case isOlder(v):
		return fault.Unavailable.Errorf("the directory has format version %d, this pando writes version %d: run 'pando fsck --rebuild', with the --rootdir and the key of the store that it is started with, which makes it new from its commits", got, formatVersion)
	case got != formatVersion:
		return fault.Unavailable.Errorf("the directory has format version %d, this pando reads version %d: use a newer pando", got, formatVersion)
	}
	return nil
}

// isOlder reports whether a directory has an older version, of which a rebuild makes the
// newest.
func isOlder(v []byte) bool {
	return len(v) == 4 && binary.BigEndian.Uint32(v) >= oldestFormat && binary.BigEndian.Uint32(v) < formatVersion
}

func (s *Store) create() error {
	if _, err := io.ReadFull(s.rand, s.epoch[:]); err != nil {
		return fmt.Errorf("new directory: %w", err)
	}
	b := s.kv.NewBatch()
	b.Set(globalKey(globalFormat), binary.BigEndian.AppendUint32(nil, formatVersion))
	b.Set(globalKey(globalEpoch), s.epoch[:])
	return s.write(b)
}

// write applies a batch and waits until it is durable.
func (s *Store) write(b *kv.Batch) error {
	p, err := s.kv.Apply(b)
	if err != nil {
		return err
	}
	return p.Wait()
}

// Close waits for the transactions and readers under way and closes the
// directory. Explicit transactions must have been committed or discarded.
func (s *Store) Close() error {
	empty := s.gate.close()
	if empty == nil {
		return nil
	}
	s.durable.close()
	<-empty
	return errors.Join(s.modules.close(), s.kv.Close())
}

// Schema returns the collections as they are now.
func (s *Store) Schema() *Set { return s.set.Load() }

// Now is the clock that commits are made and judged by.
func (s *Store) Now() time.Time { return s.now() }

// Epoch identifies the feed: a cursor into one epoch says nothing in another.
func (s *Store) Epoch() [16]byte { return s.epoch }

// Seq returns the newest number of the feed that is durable: a power loss takes no
// number back that somebody may have written down.
func (s *Store) Seq() uint64 {
	seq, _, _ := s.durable.state()
	return seq
}

// Size returns how many bytes the directory takes on disk.
func (s *Store) Size() uint64 { return s.kv.Metrics().DiskBytes }

// Metrics returns figures of the storage engine.
func (s *Store) Metrics() kv.Metrics { return s.kv.Metrics() }

// Update runs fn in a transaction of a caller and commits it; the writes are durable on
// return. fn sees a snapshot and its own writes. If another transaction changed
// what fn read, fn runs again, the second time with no other writer beside it,
// so updates are serial in effect. fn must therefore not keep state of a first
// run, nor wait for another transaction. An error from fn leaves the database as
// it was; one that says that a right is taken, and of documents that are not told yet,
// comes after the commit.
func (s *Store) Update(ctx context.Context, who Caller, fn func(*Tx) error) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	r, err := s.attempt(ctx, who, fn, false)
	if err == errStale {
		r, err = s.alone(ctx, who, fn)
	}
	if err == nil {
		err = s.wait(ctx, r)
	}
	if err != nil {
		return err
	}
	return s.tellRest(ctx, who, r.untold)
}

// alone is an attempt with no other writer beside it. It does not wait for the
// disk, so that the next one can begin.
func (s *Store) alone(ctx context.Context, who Caller, fn func(*Tx) error) (receipt, error) {
	s.writer.Lock()
	defer s.writer.Unlock()
	return s.attempt(ctx, who, fn, true)
}

func (s *Store) attempt(ctx context.Context, who Caller, fn func(*Tx) error, serial bool) (receipt, error) {
	tx, err := s.begin(who)
	if err != nil {
		return receipt{}, err
	}
	defer tx.release()
	tx.serial, tx.ctx = serial, ctx
	if err := fn(tx); err != nil {
		return receipt{}, err
	}
	if tx.done {
		return receipt{}, errEnded
	}
	if err := ctx.Err(); err != nil {
		return receipt{}, context.Cause(ctx)
	}
	return tx.commit()
}

// View runs fn on a snapshot, as a caller; writes in it fail.
func (s *Store) View(ctx context.Context, who Caller, fn func(*Tx) error) error {
	tx, err := s.begin(who)
	if err != nil {
		return err
	}
	defer tx.release()
	tx.readOnly, tx.ctx = true, ctx
	return fn(tx)
}

// Begin starts an explicit transaction of a caller: a snapshot and a write set, for one
// goroutine at a time. Commit fails with a conflict if a document it wrote was
// changed since the snapshot: the first committer wins.
func (s *Store) Begin(who Caller, readOnly bool) (*Tx, error) {
	tx, err := s.begin(who)
	if err != nil {
		return nil, err
	}
	tx.explicit, tx.readOnly = true, readOnly
	return tx, nil
}

func (s *Store) begin(who Caller) (*Tx, error) {
	if err := s.gate.enter(); err != nil {
		return nil, err
	}
	tx := &Tx{s: s, who: who}
	s.mu.Lock()
	tx.kv = s.kv.Begin()
	tx.seq = s.seq
	tx.base = s.set.Load()
	s.active[tx] = tx.seq
	s.mu.Unlock()
	tx.set = tx.base
	return tx, nil
}

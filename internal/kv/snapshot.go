package kv

import (
	"bytes"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/pandodb/pando/internal/fault"
)

// Entry is a key with its value. Both may be read, not changed, until the
// iteration steps on.
type Entry struct{ Key, Value []byte }

// Snapshot is the database as it was at one moment. It must be closed. It may
// be used from many goroutines at once; each iterator belongs to one.
type Snapshot struct {
	db  *DB
	at  *pebble.Snapshot
	err error // why there is no snapshot
}

// Snapshot returns the database as it is now. On a closed database its reads
// give Closed.
func (db *DB) Snapshot() *Snapshot {
	if err := db.enter(); err != nil {
		return &Snapshot{err: err}
	}
	return &Snapshot{db: db, at: db.engine.NewSnapshot()}
}

// Close releases the snapshot. Its iterators must be closed before.
func (s *Snapshot) Close() {
	if s.err != nil {
		return
	}
	s.err = fault.Closed.Errorf("the snapshot is closed")
	_ = s.at.Close() // fails only if closed before
	s.db.leave()
}

// Get returns the value of key and whether there is one. The value is the
// caller's.
func (s *Snapshot) Get(key []byte) (value []byte, ok bool, err error) {
	if s.err != nil {
		return nil, false, fmt.Errorf("get: %w", s.err)
	}
	v, closer, err := s.at.Get(key)
	switch {
	case err == pebble.ErrNotFound:
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("get: %w", classify(err))
	}
	value = append(make([]byte, 0, len(v)), v...)
	if err := closer.Close(); err != nil {
		return nil, false, fmt.Errorf("get: %w", classify(err))
	}
	return value, true, nil
}

// Scan yields the entries from lo up to, but without, hi in key order; nil is
// no bound. After an error nothing follows.
func (s *Snapshot) Scan(lo, hi []byte) iter.Seq2[Entry, error] {
	return scan(func() *Iter { return s.newIter(nil, lo, hi, false) })
}

// ScanReverse yields the entries of Scan, last first.
func (s *Snapshot) ScanReverse(lo, hi []byte) iter.Seq2[Entry, error] {
	return scan(func() *Iter { return s.newIter(nil, lo, hi, true) })
}

// NewIter returns an iterator over the entries from lo up to, but without, hi.
// It stands before the first: call SeekGE or Next. It must be closed.
func (s *Snapshot) NewIter(lo, hi []byte) *Iter { return s.newIter(nil, lo, hi, false) }

func scan(open func() *Iter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		it := open()
		defer it.Close()
		for it.Next() {
			if !yield(Entry{it.key, it.value}, nil) {
				return
			}
		}
		if err := it.Err(); err != nil {
			yield(Entry{}, err)
		}
	}
}

// Iter walks over entries in key order.
type Iter struct {
	base    *pebble.Iterator // nil: closed, or never opened
	own     *overlayIter     // the transaction's own writes; nil if there are none
	reverse bool
	placed  bool // both sources have been positioned
	fromOwn bool // key and value are of own, not of base
	valid   bool
	key     []byte
	value   []byte
	err     error
}

func (s *Snapshot) newIter(own *overlay, lo, hi []byte, reverse bool) *Iter {
	if s.err != nil {
		return &Iter{err: fmt.Errorf("scan: %w", s.err)}
	}
	if hi != nil && bytes.Compare(lo, hi) >= 0 {
		return &Iter{} // the engine wants bounds in order, and takes an empty one for none
	}
	if len(lo) == 0 {
		lo = nil // the same, and the engine's self-checks stumble over empty keys
	}
	base, err := s.at.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return &Iter{err: fmt.Errorf("scan: %w", classify(err))}
	}
	it := &Iter{base: base, reverse: reverse}
	if own != nil && own.Len() > 0 {
		it.own = own.iter(lo, hi, reverse)
	}
	return it
}

// SeekGE goes to the first entry whose key is key or greater, and reports
// whether there is one. Seeking onwards is cheap when the target is near.
func (i *Iter) SeekGE(key []byte) bool {
	if i.base == nil || i.err != nil {
		return false
	}
	i.placed = true
	if len(key) == 0 {
		i.base.First() // as with bounds
	} else {
		i.base.SeekGE(key)
	}
	if i.own != nil {
		i.own.seekGE(key)
	}
	return i.settle()
}

// Find returns the value of key and whether there is one; it may be read, not
// changed, until the next call. Keys in ascending order cost a part of what Get
// costs. The iterator stands nowhere afterwards: only Find may follow.
func (i *Iter) Find(key []byte) (value []byte, ok bool) {
	if i.base == nil || i.err != nil {
		return nil, false
	}
	i.placed, i.valid = true, false
	if i.own != nil {
		if w, written := i.own.of.Get(text(key)); written {
			return w.value, !w.deleted
		}
	}
	// Filters tell which tables need not be looked into, as they do for Get.
	if !i.base.SeekPrefixGE(key) || !bytes.Equal(i.base.Key(), key) {
		return nil, i.fail(i.base.Error())
	}
	value, err := i.base.ValueAndErr()
	if err != nil {
		return nil, i.fail(err)
	}
	return value, true
}

// Next goes to the next entry, at first to the first, and reports whether there
// is one.
func (i *Iter) Next() bool {
	switch {
	case i.base == nil || i.err != nil:
		return false
	case !i.placed:
		i.first()
	case !i.valid:
		return false
	case i.fromOwn:
		i.own.step()
	default:
		i.stepBase()
	}
	return i.settle()
}

func (i *Iter) first() {
	i.placed = true
	if i.reverse {
		i.base.Last()
	} else {
		i.base.First()
	}
	if i.own != nil {
		i.own.first()
	}
}

func (i *Iter) stepBase() {
	if i.reverse {
		i.base.Prev()
	} else {
		i.base.Next()
	}
}

// settle makes the nearer of both sources current. The transaction's own writes
// hide what the snapshot has under the same key.
func (i *Iter) settle() bool {
	for i.own != nil && i.own.valid {
		if i.base.Valid() {
			order := bytes.Compare(i.own.key, i.base.Key())
			if i.reverse {
				order = -order
			}
			if order > 0 {
				break
			}
			if order == 0 {
				i.stepBase()
			}
		}
		if !i.own.write.deleted {
			i.fromOwn, i.valid = true, i.base.Error() == nil
			i.key, i.value = i.own.key, i.own.write.value
			return i.valid || i.fail(i.base.Error())
		}
		i.own.step()
	}
	i.fromOwn, i.valid = false, i.base.Valid()
	if !i.valid {
		return i.fail(i.base.Error())
	}
	value, err := i.base.ValueAndErr()
	if err != nil {
		return i.fail(err)
	}
	i.key, i.value = i.base.Key(), value
	return true
}

func (i *Iter) fail(err error) bool {
	i.valid, i.key, i.value = false, nil, nil
	if err != nil {
		i.err = fmt.Errorf("scan: %w", classify(err))
	}
	return false
}

// Valid reports whether the iterator stands on an entry.
func (i *Iter) Valid() bool { return i.valid }

// Key returns the key of the entry; valid until the iterator moves.
func (i *Iter) Key() []byte { return i.key }

// Value returns the value of the entry; valid until the iterator moves.
func (i *Iter) Value() []byte { return i.value }

// Err returns why the iteration ended early, or nil.
func (i *Iter) Err() error { return i.err }

// Close releases the iterator. It returns what Err returns.
func (i *Iter) Close() error {
	if i.base != nil {
		err := i.base.Close()
		i.base, i.valid = nil, false
		if i.err == nil && err != nil {
			i.err = fmt.Errorf("scan: %w", classify(err))
		}
		if i.own != nil {
			i.own.release()
		}
	}
	return i.err
}

package kv

import (
	"bytes"
	"iter"
	"unsafe"

	"github.com/tidwall/btree"
)

// Txn is a snapshot together with writes of its own, which its reads see and
// nobody else does. Nothing is written until the caller applies a batch filled
// by Writes. It belongs to one goroutine, and must be closed.
type Txn struct {
	snapshot *Snapshot
	own      *overlay
}

// Begin returns a transaction on the database as it is now.
func (db *DB) Begin() *Txn { return &Txn{snapshot: db.Snapshot(), own: new(overlay)} }

// Close forgets the writes and releases the snapshot.
func (t *Txn) Close() {
	t.own = new(overlay)
	t.snapshot.Close()
}

// Get returns the value of key and whether there is one. The value may be read,
// not changed.
func (t *Txn) Get(key []byte) (value []byte, ok bool, err error) {
	if w, written := t.own.Get(text(key)); written {
		return w.value, !w.deleted, nil
	}
	return t.snapshot.Get(key)
}

// Set makes value the value of key. Both are copied.
func (t *Txn) Set(key, value []byte) {
	t.write(key, write{value: append(make([]byte, 0, len(value)), value...)})
}

// Delete removes key, if it is there.
func (t *Txn) Delete(key []byte) { t.write(key, write{deleted: true}) }

// Len returns how many keys the transaction has written.
func (t *Txn) Len() int { return t.own.Len() }

// write leaves alone what iterators stand on: they go on seeing the writes made
// before them, so that a loop which writes what it scans comes to an end.
func (t *Txn) write(key []byte, w write) {
	if t.own.readers > 0 {
		t.own = &overlay{Map: *t.own.Map.Copy()}
	}
	t.own.Map.Set(string(key), w)
}

// Mark remembers the writes so far; restore forgets those made since. It costs
// the same however many there are.
func (t *Txn) Mark() (restore func()) {
	saved := t.own.Map.Copy()
	return func() { t.own = &overlay{Map: *saved} }
}

// Scan yields the entries from lo up to, but without, hi in key order, with the
// writes the transaction made before the scan; nil is no bound. After an error
// nothing follows.
func (t *Txn) Scan(lo, hi []byte) iter.Seq2[Entry, error] {
	return scan(func() *Iter { return t.snapshot.newIter(t.own, lo, hi, false) })
}

// ScanReverse yields the entries of Scan, last first.
func (t *Txn) ScanReverse(lo, hi []byte) iter.Seq2[Entry, error] {
	return scan(func() *Iter { return t.snapshot.newIter(t.own, lo, hi, true) })
}

// NewIter returns an iterator over the entries from lo up to, but without, hi,
// as Snapshot.NewIter does. It sees the writes made before.
func (t *Txn) NewIter(lo, hi []byte) *Iter { return t.snapshot.newIter(t.own, lo, hi, false) }

// Writes adds all writes of the transaction to b, in key order.
func (t *Txn) Writes(b *Batch) {
	t.own.Scan(func(key string, w write) bool {
		if w.deleted {
			b.Delete(raw(key))
		} else {
			b.Set(raw(key), w.value)
		}
		return true
	})
}

// Written yields the keys the transaction has written, in order, and their new
// values; deleted keys have none.
func (t *Txn) Written() iter.Seq2[Entry, bool] {
	return func(yield func(Entry, bool) bool) {
		t.own.Scan(func(key string, w write) bool {
			return yield(Entry{raw(key), w.value}, w.deleted)
		})
	}
}

// overlay holds the writes of a transaction, ordered by key.
type overlay struct {
	btree.Map[string, write]
	readers int // iterators that stand on it
}

type write struct {
	value   []byte
	deleted bool
}

// overlayIter walks over an overlay within bounds, in either direction.
type overlayIter struct {
	of      *overlay
	at      btree.MapIter[string, write]
	lo, hi  []byte
	reverse bool
	valid   bool
	key     []byte
	write   write
}

func (o *overlay) iter(lo, hi []byte, reverse bool) *overlayIter {
	o.readers++
	return &overlayIter{of: o, at: o.Map.Iter(), lo: bytes.Clone(lo), hi: bytes.Clone(hi), reverse: reverse}
}

func (i *overlayIter) release() { i.of.readers-- }

func (i *overlayIter) first() {
	switch {
	case i.reverse && i.hi != nil:
		// Before the first key at or after hi; past the end, the last.
		if i.at.Seek(text(i.hi)) {
			i.take(i.at.Prev())
		} else {
			i.take(i.at.Last())
		}
	case i.reverse:
		i.take(i.at.Last())
	case i.lo != nil:
		i.take(i.at.Seek(text(i.lo)))
	default:
		i.take(i.at.First())
	}
}

func (i *overlayIter) seekGE(key []byte) {
	if bytes.Compare(key, i.lo) < 0 {
		key = i.lo
	}
	i.take(i.at.Seek(text(key)))
}

func (i *overlayIter) step() {
	if i.reverse {
		i.take(i.at.Prev())
	} else {
		i.take(i.at.Next())
	}
}

// take makes the entry under the iterator current if it is within the bounds.
func (i *overlayIter) take(found bool) {
	i.valid = found
	if !found {
		return
	}
	i.key, i.write = raw(i.at.Key()), i.at.Value()
	switch {
	case i.reverse && bytes.Compare(i.key, i.lo) < 0:
		i.valid = false
	case !i.reverse && i.hi != nil && bytes.Compare(i.key, i.hi) >= 0:
		i.valid = false
	}
}

// text and raw convert without copying. What text gives is used for looking up
// only; what raw gives is read only.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
func raw(s string) []byte  { return unsafe.Slice(unsafe.StringData(s), len(s)) }

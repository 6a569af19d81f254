package store

import (
	"bytes"
	"cmp"
	"iter"
	"slices"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
)

// IndexRange selects entries of an index by their encoded columns: from Lo up to,
// but without, Hi; nil is no bound.
type IndexRange struct {
	Lo, Hi []byte
	// Wanted is about how many of them are wanted, 0 if that is not known: so many
	// documents are looked at at once where the caller may not read all.
	Wanted int
	// Pauses says that whoever asks wants to hear of those that were passed over because
	// the caller may not read them.
	Pauses bool
}

// IndexEntry is one entry of an index, valid until the next step.
type IndexEntry struct {
	Key []byte // the encoded columns
	Doc dag.DocID
	// Hidden is set in a pause: so many entries were passed over. There is no Doc then,
	// and Key is behind them, for a range that goes on there.
	Hidden int
}

// IsPause reports whether the entry says only that others were passed over.
func (e *IndexEntry) IsPause() bool { return e.Hidden > 0 }

// IndexReady reports whether the index has the entries of all documents that the
// transaction sees. One that was dropped since, or is another now, is not ready.
func (tx *Tx) IndexReady(c *schema.Collection, ix *schema.Index) bool {
	x := tx.secondary(c, ix)
	return x != nil && tx.complete(x) == nil
}

// complete gives Unavailable unless the index has entries of every document.
func (tx *Tx) complete(x *secondary) error {
	if !x.ready {
		return fault.Unavailable.Errorf("index %s is not built", x.Name)
	}
	if x.several < 0 {
		return nil
	}
	lo := append(x.prefix[:secondaryPrefix:secondaryPrefix], tooLarge)
	for e, err := range tx.kv.Scan(lo, after(lo)) {
		if err != nil {
			return err
		}
		_, doc := x.parts(e.Key)
		if may, err := tx.mayRead(x.coll, doc); err != nil || !may {
			return cmp.Or(err, fault.Unavailable.Errorf("index %s is not used: a document would have too many entries in it", x.Name))
		}
		return fault.Unavailable.Errorf("index %s is not used: document %s would have too many entries in it", x.Name, doc)
	}
	return nil
}

// secondary returns the index as the transaction sees it, nil if it does not.
func (tx *Tx) secondary(c *schema.Collection, ix *schema.Index) *secondary {
	m, ok := tx.set.byID[c.ID]
	if !ok {
		return nil
	}
	for _, x := range m.indexes {
		if x.ID != ix.ID || !slices.Equal(x.Fields, ix.Fields) {
			continue
		}
		if c != m.Collection { // another version may show something else under the same names
			if y := newSecondary(c, m.short, *ix); y == nil || !bytes.Equal(x.form, y.form) {
				return nil
			}
		}
		return x
	}
	return nil
}

// Index yields entries of an index in the order of their keys, those of equal keys
// in the order of docIDs; reverse turns both around. It sees the transaction's own
// writes. An index that is not ready gives Unavailable.
//
// An entry says what is in its document, so those are left out whose documents the
// caller may not read. In a collection with a policy that makes an entry as dear as a
// document by its docID, unless System asks.
func (tx *Tx) Index(c *schema.Collection, ix *schema.Index, r IndexRange, reverse bool) iter.Seq2[IndexEntry, error] {
	return func(yield func(IndexEntry, error) bool) {
		x := tx.secondary(c, ix)
		switch {
		case tx.done:
			yield(IndexEntry{}, errEnded)
			return
		case x == nil:
			yield(IndexEntry{}, fault.Unavailable.Errorf("index %s of collection %s is not there any more", ix.Name, c.Name))
			return
		}
		if err := tx.complete(x); err != nil {
			yield(IndexEntry{}, err)
			return
		}
		n, err := tx.short(c)
		if err != nil {
			yield(IndexEntry{}, err)
			return
		}
		tx.scanned(n)
		lo, hi := x.bounds(r)
		scan := tx.kv.Scan
		if reverse {
			scan = tx.kv.ScanReverse
		}
		s := tx.sift(x.coll)
		if s != nil {
			s.size, s.pauses = min(max(r.Wanted, 1), entriesChunk), r.Pauses
			defer s.close()
		}
		s.sifted(x, scan(lo, hi), yield)
	}
}

// sifted yields the entries of an index among others whose documents the caller may
// read; nil yields all.
func (s *sifting) sifted(x *secondary, entries iter.Seq2[kv.Entry, error], yield func(IndexEntry, error) bool) {
	for e, err := range entries {
		if err == nil && len(e.Key) <= secondaryPrefix+len(dag.DocID{}) {
			err = fault.Corrupt.Errorf("index %s: key of %d bytes: run pando fsck --rebuild", x.Name, len(e.Key))
		}
		if err != nil {
			yield(IndexEntry{}, err)
			return
		}
		columns, doc := x.parts(e.Key)
		if s == nil {
			if !yield(IndexEntry{Key: columns, Doc: doc}, nil) {
				return
			}
			continue
		}
		if s.add(columns, doc) && !s.yield(yield) {
			return
		}
	}
	if s != nil {
		s.yield(yield)
	}
}

// bounds returns the keys between which the entries of a range are.
func (x *secondary) bounds(r IndexRange) (lo, hi []byte) {
	lo = append(x.prefix[:secondaryPrefix:secondaryPrefix], r.Lo...)
	if len(r.Lo) == 0 {
		lo = append(lo, tooLarge+1) // behind the entries that are none of columns
	}
	if r.Hi == nil {
		return lo, after(x.prefix)
	}
	return lo, append(x.prefix[:secondaryPrefix:secondaryPrefix], r.Hi...)
}

// reindex brings the entries of a document up to what it has become, and refuses an
// own write that breaks what is unique.
func (tx *Tx) reindex(xs []*secondary, id dag.DocID, old, next crdt.Document, own bool) error {
	var gone, come [][]byte
	var claims []claim
	for _, x := range xs {
		was, is := x.entries(id, old), x.entries(id, next)
		if !x.ready {
			// The build leaves a document that changed to who changed it.
			gone, come = append(gone, without(was, is)...), append(come, is...)
			continue
		}
		fresh := without(is, was)
		gone, come = append(gone, without(was, is)...), append(come, fresh...)
		if !x.Unique || !own {
			continue
		}
		for _, key := range fresh {
			if columns, _ := x.parts(key); x.exclusive(columns) {
				claims = append(claims, claim{x, key})
			}
		}
	}
	for _, c := range claims {
		if err := tx.checkUnique(c, tx.kv); err != nil {
			return err
		}
	}
	for _, key := range gone {
		tx.kv.Delete(key)
	}
	for _, key := range come {
		tx.kv.Set(key, nil)
	}
	tx.claims = append(tx.claims, claims...)
	return nil
}

// without returns the keys of a that are not in b; both are sorted.
func without(a, b [][]byte) [][]byte {
	if len(a) == 1 && len(b) == 1 {
		if bytes.Equal(a[0], b[0]) {
			return nil
		}
		return a
	}
	if len(b) == 0 {
		return a
	}
	var rest [][]byte
	for _, key := range a {
		if _, ok := slices.BinarySearchFunc(b, key, bytes.Compare); !ok {
			rest = append(rest, key)
		}
	}
	return rest
}

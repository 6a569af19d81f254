package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"slices"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
)

const (
	// manyChunk is how many docIDs GetMany sorts at once: enough that neighbours lie
	// close together, few enough to weigh nothing.
	manyChunk = 1024
	// manyBytes bounds the documents that it holds to yield them in another order
	// than they are read.
	manyBytes = 4 << 20
)

// GetMany yields the documents of those docIDs that exist and that the caller may read,
// deleted ones too, in the order of the docIDs. It reads them in ascending passes, at a fraction of the cost
// of as many Gets; docIDs that are sorted need no copy. What it yields is valid
// until the next step.
func (tx *Tx) GetMany(c *schema.Collection, ids []dag.DocID) iter.Seq2[Doc, error] {
	return func(yield func(Doc, error) bool) {
		if tx.done {
			yield(Doc{}, errEnded)
			return
		}
		n, err := tx.short(c)
		if err != nil {
			yield(Doc{}, err)
			return
		}
		prefix := collectionPrefix(tableDocument, n)
		it := tx.kv.NewIter(prefix, after(prefix))
		defer it.Close()
		m := many{tx: tx, c: c, it: it, guard: tx.guard(n), key: slices.Grow(prefix, len(dag.DocID{}))}
		if !m.guard.open() && tx.readOnly {
			m.recent, m.coll = &tx.recent, n
		}
		if slices.IsSortedFunc(ids, compareIDs) {
			m.sorted(ids, yield)
			return
		}
		for chunk := range slices.Chunk(ids, manyChunk) {
			if !m.chunk(chunk, yield) {
				return
			}
		}
	}
}

func compareIDs(a, b dag.DocID) int { return bytes.Compare(a[:], b[:]) }

// many is a GetMany under way.
type many struct {
	tx    *Tx
	c     *schema.Collection
	it    *kv.Iter
	guard guard
	key   []byte // room for the key of a document, its prefix is set

	recent *recent // nil: of coll nothing was read before
	coll   short

	// Room for a chunk.
	order []manyPlace
	spans []span
	held  []byte
}

// manyPlace is a docID of a chunk, by its first bytes: they nearly always decide.
type manyPlace struct {
	first uint64
	at    int
}

// sorted yields documents as they are read.
func (m *many) sorted(ids []dag.DocID, yield func(Doc, error) bool) {
	for _, id := range ids {
		m.tx.read(id)
		raw, ok, err := m.seek(id)
		if err == nil && !ok {
			continue
		}
		if err != nil {
			yield(Doc{}, err)
			return
		}
		if d, may, err := m.open(id, raw); (may || err != nil) && !yield(d, err) || err != nil {
			return
		}
	}
}

// seek returns the bytes of a document, valid until the next seek.
func (m *many) seek(id dag.DocID) (raw []byte, ok bool, err error) {
	if m.recent != nil {
		if raw, ok = m.recent.row(m.coll, id); ok {
			return raw, true, nil
		}
	}
	key := append(m.key[:5], id[:]...)
	if raw, ok = m.it.Find(key); ok {
		return raw, true, nil
	}
	return nil, false, m.it.Err()
}

// open returns a document, and whether the caller may read it.
func (m *many) open(id dag.DocID, raw []byte) (Doc, bool, error) {
	st, err := crdt.Open(raw)
	if err != nil {
		return Doc{}, false, fault.Corrupt.Errorf("document %s: %w: run pando fsck --rebuild", id, err)
	}
	may, err := m.guard.passes(id, st)
	return Doc{id, m.c, st}, may, err
}

// appendPlaces appends the docIDs in ascending order.
func appendPlaces(order []manyPlace, ids []dag.DocID) []manyPlace {
	for i := range ids {
		order = append(order, manyPlace{binary.BigEndian.Uint64(ids[i][:]), i})
	}
	slices.SortFunc(order, func(a, b manyPlace) int {
		if a.first != b.first {
			return cmp.Compare(a.first, b.first)
		}
		return compareIDs(ids[a.at], ids[b.at])
	})
	return order
}

// chunk reads documents in ascending order and yields them in that of ids. What does
// not fit into memory is read again when its turn comes.
func (m *many) chunk(ids []dag.DocID, yield func(Doc, error) bool) bool {
	m.order, m.held = appendPlaces(m.order[:0], ids), m.held[:0]
	m.spans = slices.Grow(m.spans[:0], len(ids))[:len(ids)]
	clear(m.spans)
	spans := m.spans
	for _, o := range m.order {
		i := o.at
		m.tx.read(ids[i])
		raw, ok, err := m.seek(ids[i])
		switch {
		case err != nil:
			return yield(Doc{}, err) && false
		case !ok:
			spans[i].absent = true
		case len(m.held)+len(raw) <= manyBytes:
			from := len(m.held)
			m.held = append(m.held, raw...)
			spans[i] = span{from: from, to: len(m.held)}
		}
	}
	for i, s := range spans {
		if s.absent {
			continue
		}
		raw := m.held[s.from:s.to:s.to]
		if s.to == 0 {
			var ok bool
			var err error
			if raw, ok, err = m.seek(ids[i]); err != nil || !ok {
				return yield(Doc{}, err) && false
			}
		}
		if d, may, err := m.open(ids[i], raw); (may || err != nil) && !yield(d, err) || err != nil {
			return false
		}
	}
	return true
}

// span says where a document is held: nowhere if to is 0.
type span struct {
	from, to int
	absent   bool
}

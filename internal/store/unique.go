package store

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// A unique index is a promise of this node about its own writes. Commits of others
// are merged whatever they contain, or nodes would not agree; then two documents
// have the same values, and both have their entry.
//
// Documents that the writer may not read do not count: or a write that is refused would
// tell him what is in them. So an index is unique among what each writer reads, and an
// error names only what he may see (docs/design/0009-access.md).

// claim is an entry that its document must be the only one to have.
type claim struct {
	*secondary
	key []byte
}

// exclusive reports whether an entry with these columns may exist once only: nulls may repeat.
func (x *secondary) exclusive(columns []byte) bool {
	vs, err := x.values(columns)
	if err != nil {
		return false
	}
	for _, v := range vs {
		if v.IsNull() {
			return false
		}
	}
	return true
}

// values takes the columns of an entry apart. Of JSON it returns the leaf.
func (x *secondary) values(columns []byte) ([]value.Value, error) {
	vs := make([]value.Value, 0, len(x.columns))
	for i := range x.columns {
		var v value.Value
		var err error
		for len(columns) > 0 && columns[0] == pathStep && i == x.several {
			if _, columns, err = value.DecodeKey(columns[1:]); err != nil {
				return nil, err
			}
		}
		if x.columns[i].descending {
			v, columns, err = value.DecodeKeyDesc(columns)
		} else {
			v, columns, err = value.DecodeKey(columns)
		}
		if err != nil {
			return nil, err
		}
		vs = append(vs, v)
	}
	return vs, nil
}

// checkUnique gives Exists if another document that the writer may read has the entry
// too, as r sees it.
func (tx *Tx) checkUnique(c claim, r reader) error {
	columns, doc := c.parts(c.key)
	prefix := c.key[:len(c.prefix)+len(columns)]
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return err
		}
		_, other := c.parts(e.Key)
		if other == doc || tx.released(e.Key, other) {
			continue
		}
		if may, err := tx.mayReadIn(r, c.coll, other); err != nil {
			return err
		} else if may {
			return c.taken(columns, doc, other)
		}
	}
	return nil
}

// mayReadIn reports whether the writer may read a document as r has it.
func (tx *Tx) mayReadIn(r reader, n short, id dag.DocID) (bool, error) {
	g := tx.guard(n)
	if g.open() {
		return true, nil
	}
	raw, ok, err := r.Get(documentKey(n, id))
	if err != nil || !ok {
		return false, err
	}
	d, err := crdt.Open(raw)
	if err != nil {
		return false, fault.Corrupt.Errorf("document %s: %w: run pando fsck --rebuild", id, err)
	}
	return g.passes(id, d)
}

// released reports whether the transaction itself takes the entry from a document.
func (tx *Tx) released(key []byte, doc dag.DocID) bool {
	if tx.staged[doc] == nil {
		return false
	}
	_, ok, err := tx.kv.Get(key)
	return err == nil && !ok
}

// recheckUnique checks what the transaction makes unique against what others wrote
// since its start. The writer's lock is held.
func (tx *Tx) recheckUnique() error {
	s := tx.s
	if len(tx.claims) == 0 || tx.seq == s.seq {
		return nil
	}
	snap := s.kv.Snapshot()
	defer snap.Close()
	for _, c := range tx.claims {
		if _, ok, err := tx.kv.Get(c.key); err != nil {
			return err
		} else if !ok {
			continue // it gave it up again
		}
		err := tx.checkUnique(c, snap)
		if err != nil && !tx.explicit {
			return errStale // it runs again and finds out by itself
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *secondary) taken(columns []byte, doc, by dag.DocID) error {
	vs, err := x.values(columns)
	if err != nil {
		return fault.Corrupt.Errorf("index %s: %w: run pando fsck --rebuild", x.Name, err)
	}
	if x.Automatic {
		return fault.Exists.Errorf("target document is already linked to another document. DocID: %s, %s: %s, linked from: %s: a relation of one to one links each document once",
			doc, x.columns[0].field.IDName(), text(vs[0]), by)
	}
	var pairs []string
	for i, v := range vs {
		name := x.columns[i].name
		if f := x.columns[i].field; f != nil && f.IsRelation() {
			name = f.IDName()
		}
		pairs = append(pairs, fmt.Sprintf("%s: %.140s", name, text(v)))
	}
	return fault.Exists.Errorf("can not index a doc's field(s) that violates unique index. DocID: %s, %s: document %s has the same, and index %s allows it once",
		doc, strings.Join(pairs, ", "), by, x.Name)
}

// text shows a value in a message: a docID without quotes.
func text(v value.Value) string {
	if v.Kind() == value.Ref {
		return value.RefText(v.Ref())
	}
	return v.String()
}

// CheckUnique gives Exists if two documents that the caller may read have the same
// values in a unique index that is ready: they were written apart, or before the index.
func (tx *Tx) CheckUnique(c *schema.Collection, ix *schema.Index) error {
	x := tx.secondary(c, ix)
	var last IndexEntry
	for e, err := range tx.Index(c, ix, IndexRange{}, false) {
		if err != nil {
			return err
		}
		if bytes.Equal(e.Key, last.Key) && e.Doc != last.Doc && x.exclusive(e.Key) {
			return x.taken(e.Key, e.Doc, last.Doc)
		}
		last = IndexEntry{Key: append(last.Key[:0], e.Key...), Doc: e.Doc}
	}
	return nil
}

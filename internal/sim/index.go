package sim

import (
	"bytes"
	"context"
	"slices"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// reindex creates an index, or drops one.
func (n *node) reindex() {
	w := n.w
	c := n.collection()
	var err error
	if w.chance(2) {
		ix := pick(w, append(slices.Clone(c.Indexes), schema.Index{Name: "none"}))
		w.note("%s: drop index %s of %s", n.name, ix.Name, c.Name)
		err = n.Update(context.Background(), store.As(n.key), func(tx *store.Tx) error { return tx.DropIndex(c, ix.Name) })
	} else {
		var ix schema.Index
		for range 1 + w.one(2) {
			f := pick(w, c.Fields).Name
			ix.Fields = append(ix.Fields, schema.IndexField{Name: f, Descending: w.chance(2)})
		}
		w.note("%s: create index on %v of %s", n.name, ix.Fields, c.Name)
		err = n.Update(context.Background(), store.As(n.key), func(tx *store.Tx) error { _, err := tx.CreateIndex(c, ix); return err })
	}
	if err != nil {
		w.note("%s:   %v", n.name, err)
	}
	n.mayFail(err, fault.Invalid, fault.NotFound)
	n.indexed, n.other = true, true
	n.done()
}

// build makes what indexes lack.
func (n *node) build() {
	n.w.note("%s: build indexes", n.name)
	n.w.must(n.BuildIndexes(context.Background()))
	n.indexed, n.other = true, true
}

// verifyIndexes compares the indexes of a collection with what its documents stand
// for.
func (n *node) verifyIndexes(tx *store.Tx, c *schema.Collection) {
	w := n.w
	for i := range c.Indexes {
		ix := &c.Indexes[i]
		if !tx.IndexReady(c, ix) {
			continue
		}
		var want [][]byte
		for d, err := range tx.Scan(c, store.Range{}) {
			w.must(err)
			want = append(want, entriesOf(c, ix, d)...)
		}
		slices.SortFunc(want, bytes.Compare)
		var got [][]byte
		for e, err := range tx.Index(c, ix, store.IndexRange{}, false) {
			w.must(err)
			got = append(got, slices.Concat(e.Key, e.Doc[:]))
		}
		for i := range max(len(got), len(want)) {
			switch {
			case i >= len(got) || i < len(want) && bytes.Compare(want[i], got[i]) < 0:
				w.fail("I5: %s: index %s of %s lacks the entry %q", n.name, ix.Name, c.Name, want[i])
			case i >= len(want) || !bytes.Equal(got[i], want[i]):
				w.fail("I5: %s: index %s of %s has the entry %q, for which no document stands", n.name, ix.Name, c.Name, got[i])
			}
		}
	}
}

// entriesOf makes the entries of a document in an index, sorted, each once.
func entriesOf(c *schema.Collection, ix *schema.Index, d store.Doc) [][]byte {
	keys := [][]byte{nil}
	for _, col := range ix.Fields {
		var next [][]byte
		for _, part := range columnOf(c, col, d) {
			for _, k := range keys {
				next = append(next, slices.Concat(k, part))
			}
		}
		keys = next
	}
	for i := range keys {
		keys[i] = append(keys[i], d.ID[:]...)
	}
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal)
}

// columnOf returns what the entries of a document have in one column.
func columnOf(c *schema.Collection, col schema.IndexField, d store.Doc) (parts [][]byte) {
	add := func(path []string, v value.Value) {
		k := v.AppendKey(nil)
		if col.Descending {
			k = v.AppendKeyDesc(nil)
		}
		parts = append(parts, append(store.AppendPath(nil, path), k...))
	}
	f, ok := c.Field(col.Name)
	if !ok {
		add(nil, value.OfRef(d.ID))
		return parts
	}
	v := d.Value(f)
	switch {
	case f.Type.IsList():
		for _, e := range v.List() {
			add(nil, e)
		}
	case f.Type != value.TypeJSON:
		add(nil, v)
	case !v.IsNull():
		eachLeaf(nil, v, add)
	}
	return parts
}

func eachLeaf(path []string, v value.Value, leaf func([]string, value.Value)) {
	switch v.Kind() {
	case value.List:
		for _, e := range v.List() {
			eachLeaf(path, e, leaf)
		}
	case value.Map:
		for k, e := range v.Members() {
			eachLeaf(append(slices.Clone(path), k), e, leaf)
		}
	default:
		leaf(path, v)
	}
}

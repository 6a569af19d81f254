package pando

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// A backup file is JSON: the documents of today by collection, without their history,
// for any node that has the schema. A document is named twice, by the docID that it
// has and by the one that it gets when it is created from what it holds today;
// relations name the latter.
const (
	memberOld = "_docID"
	memberNew = "_docIDNew"
)

// ExportOptions say what a backup file holds.
type ExportOptions struct {
	Collections []string // none: all
	Pretty      bool     // for people
}

// Export writes the documents of a snapshot as a backup file. It holds some 150 bytes
// a document, whatever the documents hold. Fields that are null are left out, unless a
// default would take their place.
func (db *DB) Export(ctx context.Context, w io.Writer, o ExportOptions) error {
	tx, err := db.store.Begin(db.who, true)
	if err != nil {
		return err
	}
	defer tx.Discard()
	e := &export{ctx: ctx, tx: tx, out: bufio.NewWriterSize(w, 64<<10), pretty: o.Pretty, ids: map[DocID]DocID{}, waiting: map[DocID][]source{}}
	if e.colls, err = chosenCollections(tx, o.Collections); err != nil {
		return err
	}
	if err := e.rename(); err != nil {
		return err
	}
	return e.write()
}

func chosenCollections(tx *store.Tx, names []string) ([]*Collection, error) {
	if len(names) == 0 {
		return tx.Collections(), nil
	}
	var list []*Collection
	for _, name := range names {
		c, err := tx.Collection(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	return list, nil
}

// export is one run of Export.
type export struct {
	ctx    context.Context
	tx     *store.Tx
	out    *bufio.Writer
	pretty bool
	colls  []*Collection
	// ids has every document, by what it will be called; zero until that is known,
	// for it depends on what the documents that it refers to will be called.
	ids     map[DocID]DocID
	waiting map[DocID][]source // by a document that they wait for
}

// source is a document to be exported.
type source struct {
	coll *Collection
	id   DocID
}

// each calls fn for the documents of the collections.
func (e *export) each(fn func(c *Collection, d store.Doc) error) error {
	for _, c := range e.colls {
		for d, err := range e.tx.Scan(c, store.Range{}) {
			if err == nil {
				err = context.Cause(e.ctx)
			}
			if err == nil {
				err = fn(c, d)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// rename finds out what the documents will be called.
func (e *export) rename() error {
	if err := e.each(func(_ *Collection, d store.Doc) error { e.ids[d.ID] = DocID{}; return nil }); err != nil {
		return err
	}
	if err := e.each(func(c *Collection, d store.Doc) error { return e.settle(source{c, d.ID}, d, false) }); err != nil {
		return err
	}
	var left []source // those that refer to each other in circles
	for _, list := range e.waiting {
		left = append(left, list...)
	}
	slices.SortFunc(left, func(a, b source) int {
		return cmp.Or(cmp.Compare(a.coll.Name, b.coll.Name), cmp.Compare(a.id.String(), b.id.String()))
	})
	for _, s := range left {
		if e.ids[s.id] != (DocID{}) {
			continue
		}
		d, err := e.tx.Get(s.coll, s.id)
		if err == nil {
			err = e.settle(s, d, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settle names a document, and then those that waited for it. With cut, it is
// named without the relations that are not known yet: they will be set once all
// documents are there.
func (e *export) settle(s source, d store.Doc, cut bool) error {
	for todo := []source{s}; len(todo) > 0; {
		s, todo = todo[len(todo)-1], todo[:len(todo)-1]
		if e.ids[s.id] != (DocID{}) {
			continue
		}
		if s.id != d.ID {
			var err error
			if d, err = e.tx.Get(s.coll, s.id); err != nil {
				return err
			}
		}
		target, open := e.unsettled(d)
		if open && !cut {
			e.waiting[target] = append(e.waiting[target], s)
			continue
		}
		ok, err := e.name(d, cut)
		if err != nil {
			return err
		}
		cut = false
		if ok {
			todo = append(todo, e.waiting[s.id]...)
			delete(e.waiting, s.id)
		}
	}
	return nil
}

// unsettled returns a document that d refers to and whose name is not known yet.
func (e *export) unsettled(d store.Doc) (DocID, bool) {
	for i := range d.Collection.Fields {
		if v := reference(d, &d.Collection.Fields[i]); v != nil {
			if id, ours := e.ids[*v]; ours && id == (DocID{}) {
				return *v, true
			}
		}
	}
	return DocID{}, false
}

// reference returns the docID that a document stores in a field, or nil.
func reference(d store.Doc, f *schema.Field) *DocID {
	if !f.IsRelation() || f.IsVirtual() {
		return nil
	}
	v := d.Value(f)
	if v.Kind() != value.Ref {
		return nil
	}
	id := DocID(v.Ref())
	return &id
}

// name notes what a document will be called, and reports whether it could: it
// cannot be made without a relation that must be set.
func (e *export) name(d store.Doc, cut bool) (bool, error) {
	c := d.Collection
	var in []schema.Input
	for i := range c.Fields {
		f := &c.Fields[i]
		if f.IsVirtual() {
			continue
		}
		v := d.Value(f)
		if to := reference(d, f); to != nil {
			id, ours := e.ids[*to]
			switch {
			case ours && id == (DocID{}):
				v = value.Value{}
			case ours:
				v = value.OfRef(id)
			}
		}
		if !v.IsNull() || f.Default != nil {
			in = append(in, schema.Input{Name: f.Name, Val: v})
		}
	}
	deltas, err := c.Create(in)
	if err != nil && cut {
		return false, nil
	}
	id, fixed := d.ID, false
	if err == nil {
		id, fixed, err = e.tx.DocIDOf(c, deltas)
	}
	if err != nil && !cut && !errors.Is(err, fault.Invalid) {
		return false, err
	}
	if err != nil || !fixed {
		id = d.ID // an import says what is wrong, or draws a new one
	}
	e.ids[d.ID] = id
	return true, nil
}

// write writes the file.
func (e *export) write() error {
	e.out.WriteByte('{')
	for i, c := range e.colls {
		if i > 0 {
			e.out.WriteByte(',')
		}
		e.layout("\n  ")
		e.out.Write(value.AppendJSONString(nil, c.Name))
		e.out.WriteString(":[")
		n := 0
		for d, err := range e.tx.Scan(c, store.Range{}) {
			if err == nil {
				err = context.Cause(e.ctx)
			}
			if err == nil {
				err = e.document(d, n)
			}
			if err != nil {
				return err
			}
			n++
		}
		if n > 0 {
			e.layout("\n  ")
		}
		e.out.WriteByte(']')
	}
	e.layout("\n")
	e.out.WriteString("}\n")
	return e.out.Flush()
}

// layout writes what only people need.
func (e *export) layout(space string) {
	if e.pretty {
		e.out.WriteString(space)
	}
}

func (e *export) document(d store.Doc, n int) error {
	if n > 0 {
		e.out.WriteByte(',')
	}
	b := e.appendDocument(nil, d)
	if e.pretty {
		e.out.WriteString("\n    ")
		var shown bytes.Buffer
		if err := json.Indent(&shown, b, "    ", "  "); err != nil {
			return err
		}
		b = shown.Bytes()
	}
	_, err := e.out.Write(b)
	return err
}

func (e *export) appendDocument(b []byte, d store.Doc) []byte {
	member := func(name string, v value.Value) {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = value.AppendJSONString(b, name)
		b = append(b, ':')
		b = v.AppendJSON(b)
	}
	called := e.ids[d.ID]
	if called == (DocID{}) { // it cannot be made, as things are: an import says why
		called = d.ID
	}
	b = append(b, '{')
	member(memberOld, value.OfRef(d.ID))
	member(memberNew, value.OfRef(called))
	for i := range d.Collection.Fields {
		f := &d.Collection.Fields[i]
		if f.IsVirtual() {
			continue
		}
		v := d.Value(f)
		if v.IsNull() && f.Default == nil {
			continue
		}
		if to := reference(d, f); to != nil {
			if id := e.ids[*to]; id != (dag.DocID{}) {
				v = value.OfRef(id)
			}
		}
		member(shownName(f), v)
	}
	return append(b, '}')
}

package query

import (
	"bytes"
	"container/heap"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// reader reads the value that a condition or an order is about.
type reader func(x *run, r *row) value.Value

// sortKey is one key of an order.
type sortKey struct {
	read reader
	desc bool
	text string // for people
	// field is the stored field that the key is; nil: it is no such field.
	field *schema.Field
	docID bool
}

// order compiles the keys of an order: each object has one member.
func (c *compiler) order(lv *level, v value.Value) ([]sortKey, error) {
	var keys []sortKey
	for _, o := range v.List() {
		if o.IsNull() {
			continue
		}
		k, ok, err := c.sortKey(lv, o)
		if err != nil {
			return nil, err
		}
		if ok {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func (c *compiler) sortKey(lv *level, o value.Value) (sortKey, bool, error) {
	given := 0
	for _, v := range o.Members() {
		if !v.IsNull() {
			given++
		}
	}
	if given > 1 {
		return sortKey{}, false, fault.Invalid.Errorf("each order argument can only define one field: write [{a: ASC}, {b: DESC}]")
	}
	for name, v := range o.Members() {
		if v.IsNull() {
			continue
		}
		if err := c.spend(1); err != nil {
			return sortKey{}, false, err
		}
		if name == "_alias" {
			return c.aliasKey(lv, v)
		}
		f := lv.byName[name]
		if !lv.shows(f) {
			return sortKey{}, false, notGrouped(f)
		}
		if f.role == roleObject {
			return c.embeddedKey(lv.collection, f, v)
		}
		if f.role != roleOne {
			k := sortKey{read: c.reader(lv.collection, f), desc: v.Text() == "DESC", text: name + " " + v.Text(), docID: f.role == roleDocID}
			if f.role == roleValue || f.role == roleOneID && f.stored() {
				k.field = f.Field
			}
			return k, true, nil
		}
		to := c.relation(lv.collection, f)
		k, ok, err := c.sortKey(&level{collection: to.target}, v)
		if err != nil || !ok {
			return k, ok, fmtUnder(name, err)
		}
		inner := k.read
		k.read = func(x *run, r *row) value.Value { return inner(x, x.one(to, r)) }
		k.text, k.field, k.docID = name+"."+k.text, nil, false
		return k, true, nil
	}
	return sortKey{}, false, nil
}

func fmtUnder(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// reader returns what reads a field of documents of g.
func (c *compiler) reader(g *collection, f *field) reader {
	switch f.role {
	case roleDocID:
		return func(_ *run, r *row) value.Value {
			if r == nil {
				return value.Value{}
			}
			return value.OfRef(r.ID)
		}
	case roleDeleted:
		return func(_ *run, r *row) value.Value {
			if r == nil {
				return value.Value{}
			}
			return value.OfBool(r.Deleted())
		}
	case roleOneID:
		if f.stored() {
			break
		}
		to := c.relation(g, g.byName[f.Name])
		return func(x *run, r *row) value.Value {
			if related := x.one(to, r); related != nil {
				return value.OfRef(related.ID)
			}
			return value.Value{}
		}
	}
	return fieldReader(f.Field)
}

// sortBy yields rows in the order of keys, those with equal keys as they came.
// With a limit it holds that many rows, else all.
type sortBy struct {
	from operator
	keys []sortKey
	most int // rows wanted by whoever limits; 0: all
}

func (s *sortBy) input() operator { return s.from }

func (s *sortBy) describe() string {
	names := make([]string, len(s.keys))
	for i, k := range s.keys {
		names[i] = k.text
	}
	text := "order " + strings.Join(names, ", ")
	if s.most > 0 {
		text += fmt.Sprintf(" (the first %d)", s.most)
	}
	return text
}

// keyed is a row that waits to be sorted. The key is made of value keys, so that
// comparing bytes compares values.
type keyed struct {
	key []byte
	n   int // place in which it came
	row *row
}

func (k keyed) compare(o keyed) int {
	if c := bytes.Compare(k.key, o.key); c != 0 {
		return c
	}
	return k.n - o.n
}

// worst is a heap with the row that would be dropped next at the top.
type worst []keyed

func (h worst) Len() int           { return len(h) }
func (h worst) Less(i, j int) bool { return h[i].compare(h[j]) > 0 }
func (h worst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *worst) Push(x any)        { *h = append(*h, x.(keyed)) }
func (h *worst) Pop() any {
	old := *h
	k := old[len(old)-1]
	*h = old[:len(old)-1]
	return k
}

func (s *sortBy) rows(x *run, parent *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		held, size, err := s.collect(x, parent)
		defer x.release(size)
		if err != nil {
			yield(nil, err)
			return
		}
		slices.SortFunc(held, keyed.compare)
		for _, k := range held {
			if !yield(k.row, nil) {
				return
			}
		}
	}
}

// collect takes the rows in, and returns them with the size they were held for.
func (s *sortBy) collect(x *run, parent *row) (held worst, size int64, err error) {
	var scratch []byte
	n := 0
	for r, err := range x.rows(s.from, parent) {
		if err != nil {
			return nil, size, err
		}
		if scratch = s.key(x, r, scratch[:0]); x.err != nil {
			return nil, size, x.err
		}
		k := keyed{key: scratch, n: n}
		n++
		full := s.most > 0 && len(held) == s.most
		if full && k.compare(held[0]) > 0 {
			continue
		}
		k.key = bytes.Clone(scratch)
		if k.row, err = x.hold(r, len(k.key)); err != nil {
			return nil, size, err
		}
		size += k.row.size(len(k.key))
		switch {
		case full:
			gone := held[0].row.size(len(held[0].key))
			x.release(gone)
			size -= gone
			held[0] = k
			heap.Fix(&held, 0)
		case s.most > 0:
			heap.Push(&held, k)
		default:
			held = append(held, k)
		}
	}
	return held, size, nil
}

func (s *sortBy) key(x *run, r *row, b []byte) []byte {
	for _, k := range s.keys {
		v := k.read(x, r)
		if k.desc {
			b = v.AppendKeyDesc(b)
		} else {
			b = v.AppendKey(b)
		}
	}
	return b
}

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
	most int  // rows wanted by whoever limits; 0: all
	pure bool // the keys are about the row alone
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

// sorter holds the rows of a sort.
type sorter struct {
	*sortBy
	held    worst
	size    int64 // that they are held for
	n       int   // rows that came
	scratch []byte
}

// collect takes the rows in, and returns them with the size they were held for.
func (s *sortBy) collect(x *run, parent *row) (worst, int64, error) {
	from := s.from
	if s.pure && s.most > 0 && parent == nil {
		p, rest, err := x.widely(from)
		switch {
		case err != nil:
			return nil, 0, err
		case p != nil && s.most <= maxSpreadSort:
			return s.collectParts(x, p)
		}
		from = rest
	}
	in := sorter{sortBy: s}
	for r, err := range x.rows(from, parent) {
		if err == nil {
			err = in.add(x, r)
		}
		if err != nil {
			return nil, in.size, err
		}
	}
	return in.held, in.size, nil
}

// maxSpreadSort is how many rows each of several goroutines may hold.
const maxSpreadSort = 1000

// collectParts is collect with the help of other cores.
func (s *sortBy) collectParts(x *run, p *wide) (worst, int64, error) {
	by := make([]sorter, workers())
	err := x.spread(p, func(who, part int, w *run, r *row) error {
		in := &by[who]
		if in.sortBy == nil {
			in.sortBy = s
		}
		in.n = max(in.n, part<<32) // rows of a later part come later
		return in.add(w, r)
	})
	all := sorter{sortBy: s}
	for i := range by {
		all.held, all.size = append(all.held, by[i].held...), all.size+by[i].size
	}
	slices.SortFunc(all.held, keyed.compare)
	for _, k := range all.held[min(s.most, len(all.held)):] {
		all.size -= k.row.size(len(k.key))
		x.release(k.row.size(len(k.key)))
	}
	return all.held[:min(s.most, len(all.held))], all.size, err
}

// add takes in a row, if it is among those that are wanted so far.
func (s *sorter) add(x *run, r *row) (err error) {
	if s.scratch = s.key(x, r, s.scratch[:0]); x.err != nil {
		return x.err
	}
	k := keyed{key: s.scratch, n: s.n}
	s.n++
	full := s.most > 0 && len(s.held) == s.most
	if full && k.compare(s.held[0]) > 0 {
		return nil
	}
	k.key = bytes.Clone(s.scratch)
	if k.row, err = x.hold(r, len(k.key)); err != nil {
		return err
	}
	s.size += k.row.size(len(k.key))
	switch {
	case full:
		gone := s.held[0].row.size(len(s.held[0].key))
		x.release(gone)
		s.size -= gone
		s.held[0] = k
		heap.Fix(&s.held, 0)
	case s.most > 0:
		heap.Push(&s.held, k)
	default:
		s.held = append(s.held, k)
	}
	return nil
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

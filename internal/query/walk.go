package query

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// inOrder yields the documents that meet a filter in the order of keys: as an index
// has them, or sorted, whichever is shorter. Documents with equal keys come in docID
// order.
type inOrder struct {
	order *order
	found *access // where they come from otherwise
	text  string  // of the filter
	sort  sortBy
}

func (o *inOrder) input() operator {
	if o.found.cond.truth == always {
		return nil
	}
	return chosen(o.found, o.found.cond, o.text)
}
func (o *inOrder) describe() string {
	text := "walk " + o.found.coll.source() + " by index " + o.order.ix.Name
	if o.order.reverse {
		text += " backwards"
	}
	if len(o.order.column) > 0 {
		text += ", where it narrows " + strings.Join(o.order.column, ", ")
	}
	return text + " | " + o.sort.describe()
}

func (o *inOrder) rows(x *run, parent *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		from, err := o.choose(x)
		if err != nil {
			yield(nil, err)
			return
		}
		x.rows(from, parent)(yield)
	}
}

// choose returns the rows that are wanted, in order.
func (o *inOrder) choose(x *run) (operator, error) {
	a := o.found
	if !x.tx.IndexReady(a.coll.Collection, o.order.ix) {
		return o.sorted(a), nil
	}
	w := &walk{order: o.order, coll: a.coll, cond: a.cond, most: o.sort.most}
	few := w.most > 0 && w.most <= maxFew
	if (a.cond.truth == always || o.order.exact) && !(few && x.tx.Guarded(a.coll.Collection)) {
		return x.chose(o, w), nil // what is walked is what is wanted
	}
	most, err := a.scanCost(x)
	if err != nil {
		return nil, err
	}
	fs := usable(x, a.ways)
	if few {
		s := &stroll{walk: w}
		defer s.stop()
		fs = append(fs, s)
	}
	won, err := race(x, fs, most)
	if err != nil {
		return nil, err
	}
	if s, ok := won.(*stroll); ok && !s.full {
		return x.chose(o, s), nil
	} else if ok {
		return x.chose(o, w), nil
	}
	if f, ok := won.(*indexFinder); ok && f.w.ix == o.order.ix {
		return x.chose(o, w), nil
	}
	return o.sorted(x.chose(o, a.source(x, won))), nil
}

// sorted returns the rows of a source that meet the condition, sorted.
func (o *inOrder) sorted(from operator) operator {
	s := o.sort
	s.from = chosen(from, o.found.cond, o.text)
	return &s
}

// walk yields the documents of ranges of an index in its order, those that meet a
// condition.
type walk struct {
	*order
	coll *collection
	cond predicate
	most int // so many are wanted; 0: all
	cost int
}

func (w *walk) input() operator { return nil }
func (w *walk) describe() string {
	return fmt.Sprintf("walk index %s", w.ix.Name)
}

func (w *walk) rows(x *run, _ *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		for r, err := range w.all(x) {
			if (r != nil || err != nil) && !yield(r, err) {
				return
			}
		}
	}
}

// all yields a row for every document of the ranges: nil if it does not meet the
// condition.
func (w *walk) all(x *run) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		size := walkChunk
		if w.most > 0 {
			size = min(max(w.most, walkFirst), walkChunk)
		}
		chunk := make([]dag.DocID, 0, size)
		for id, err := range w.ids(x) {
			if err != nil {
				yield(nil, err)
				return
			}
			if id == (dag.DocID{}) { // a pause
				if !yield(nil, nil) {
					return
				}
				continue
			}
			if chunk = append(chunk, id); len(chunk) < size {
				continue
			}
			if !w.fetch(x, chunk, yield) {
				return
			}
			size = min(2*size, walkChunk)
			chunk = chunk[:0]
		}
		w.fetch(x, chunk, yield)
	}
}

const (
	// walkFirst and walkChunk are how many documents are fetched at once: the more,
	// the closer they lie; the fewer, the less is in vain when few are wanted.
	walkFirst = 8
	walkChunk = 512
)

func (w *walk) fetch(x *run, ids []dag.DocID, yield func(*row, error) bool) bool {
	var r row
	for d, err := range x.tx.GetMany(w.coll.Collection, ids) {
		x.touched.fetched++
		w.cost += costEntry + costFetch
		if err == nil {
			err = x.step()
		}
		if err != nil {
			yield(nil, err)
			return false
		}
		next := &r
		if r.Doc = d; d.Deleted() || w.cond.truth == depends && !w.cond.holds(x, next) {
			next = nil
		}
		if x.err != nil {
			yield(nil, x.err)
			return false
		}
		if !yield(next, nil) {
			return false
		}
	}
	return true
}

// manyTies is how many documents with equal keys are read backwards before they are
// read again from their start: they are wanted in docID order.
const manyTies = 32

// ids yields the docIDs in order, and none when documents were passed over that the
// caller may not read.
func (w *walk) ids(x *run) iter.Seq2[dag.DocID, error] {
	return func(yield func(dag.DocID, error) bool) {
		t := ties{walk: w, x: x, yield: yield}
		for i := range w.ranges {
			r := w.ranges[i]
			if w.reverse {
				r = w.ranges[len(w.ranges)-1-i]
			}
			if !t.read(r) {
				return
			}
		}
		t.flush()
	}
}

// ties puts documents with equal keys in docID order.
type ties struct {
	*walk
	x     *run
	yield func(dag.DocID, error) bool
	key   []byte // that they begin with
	ids   []dag.DocID
}

// read yields the documents of a range; it reports whether to go on.
func (t *ties) read(r store.IndexRange) bool {
	for {
		rest, ok := t.readUntil(r)
		if !ok || rest == nil {
			return ok
		}
		r.Hi = rest
	}
}

// readUntil reads a range up to its end, or backwards up to where many documents
// share a key: they have been yielded then, and the rest of the range ends there.
func (t *ties) readUntil(r store.IndexRange) (rest []byte, ok bool) {
	if r.Pauses = true; t.most > 0 {
		r.Wanted = max(t.most, walkFirst)
	}
	for e, err := range t.x.index(t.coll, t.ix, r, t.reverse) {
		if err != nil {
			t.yield(dag.DocID{}, err)
			return nil, false
		}
		if e.IsPause() {
			if t.cost += e.Hidden * costHidden; !t.yield(dag.DocID{}, nil) {
				return nil, false
			}
			continue
		}
		if t.whole && !t.reverse {
			if !t.yield(e.Doc, nil) {
				return nil, false
			}
			continue
		}
		if t.key == nil || !bytes.HasPrefix(e.Key, t.key) {
			if !t.flush() {
				return nil, false
			}
			if t.key, err = t.keyOf(e.Key); err != nil {
				t.yield(dag.DocID{}, err)
				return nil, false
			}
		}
		if t.ids = append(t.ids, e.Doc); t.whole && len(t.ids) > manyTies {
			return t.key, t.forwards()
		}
		if len(t.ids) > manyTies {
			if err := t.x.reserve(int64(len(e.Doc))); err != nil {
				t.yield(dag.DocID{}, err)
				return nil, false
			}
		}
	}
	return nil, true
}

// forwards yields the documents that have the key.
func (t *ties) forwards() bool {
	t.ids = t.ids[:0]
	for e, err := range t.x.index(t.coll, t.ix, store.IndexRange{Lo: t.key, Hi: after(t.key)}, false) {
		if !t.yield(e.Doc, err) || err != nil {
			return false
		}
	}
	return true
}

func (t *ties) flush() bool {
	if t.reverse || !t.whole {
		slices.SortFunc(t.ids, compareIDs)
	}
	for _, id := range t.ids {
		if !t.yield(id, nil) {
			return false
		}
	}
	t.x.release(int64(len(dag.DocID{}) * max(0, len(t.ids)-manyTies)))
	t.ids = t.ids[:0]
	return true
}

// keyOf returns the part of the columns of an entry that the order is about.
func (t *ties) keyOf(columns []byte) ([]byte, error) {
	rest, err := columns, error(nil)
	for _, col := range t.ix.Fields[:t.prefix] {
		if col.Descending {
			_, rest, err = value.DecodeKeyDesc(rest)
		} else {
			_, rest, err = value.DecodeKey(rest)
		}
		if err != nil {
			return nil, err
		}
	}
	return append(t.key[:0:0], columns[:len(columns)-len(rest)]...), nil
}

// stroll is a walk that ends when enough rows have matched, which may be soon.
type stroll struct {
	firstRows
	*walk
	next func() (*row, error, bool)
	end  func()
}

func (s *stroll) found() []dag.DocID { return nil }
func (s *stroll) settle(*run)        {}
func (s *stroll) taken() string      { return s.describe() }
func (s *stroll) describe() string   { return s.walk.describe() }
func (s *stroll) input() operator    { return nil }

func (s *stroll) stop() {
	if s.end != nil {
		s.end()
	}
}

func (s *stroll) rows(x *run, parent *row) iter.Seq2[*row, error] {
	return s.firstRows.rows(x, parent)
}

func (s *stroll) advance(x *run, most int) (bool, error) {
	if s.next == nil {
		s.next, s.end = iter.Pull2(s.all(x))
	}
	for s.cost < most {
		r, err, ok := s.next()
		if !ok || err != nil {
			return err == nil, err
		}
		if r == nil {
			continue
		}
		if more, err := s.add(x, r); err != nil || !more || len(s.rowsOf) == s.most {
			return err == nil, err
		}
	}
	return false, nil
}

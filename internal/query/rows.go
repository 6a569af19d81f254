package query

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// row is one document on its way through the operators of a plan.
type row struct {
	store.Doc
	group *group // set if the row is a group, and Doc the first of its documents
}

// size is what holding the row takes, with some bytes beside it.
func (r *row) size(beside int) int64 {
	const overhead = 200 // of the structs, slices and map entries around a row
	return int64(len(r.State.Bytes()) + beside + overhead)
}

// operator yields rows. A row is valid until the next step. Operators are part of
// the plan and keep nothing between runs; parent is the document that a relation
// starts from, nil at the root.
type operator interface {
	rows(x *run, parent *row) iter.Seq2[*row, error]
	describe() string
	input() operator // nil for a source
}

// run is one execution of a plan.
type run struct {
	ctx  context.Context
	tx   *store.Tx
	out  *writer
	err  error // of reading related documents inside a condition
	held int64
	most int64
	own  int64 // of held, if the run is that of a view within another
	// shared counts what is held in place of held, while goroutines work on one run.
	shared *atomic.Int64
	cores  *cores
	steps  int

	touched reads          // so far
	stats   map[any]*stats // of each part of the plan, if it is to be explained

	groups map[*relation]*grouping
	sums   map[*tally]*tallied
	accs   []*acc // of the aggregates that are being read, within each other
	reads  int    // how many these are

	elements []value.Value                        // of the list that was read last
	only     map[*relation]map[dag.DocID]struct{} // the documents it is followed from, if known
	nears    map[*collection]*near                // documents that relations lead to
	folded   map[dag.DocID]*row                   // documents as they were, nil if they were not yet
}

// checkEvery is how many rows pass between two looks at the context.
const checkEvery = 256

// step is called once a row; it ends a run whose caller has gone.
func (x *run) step() error {
	if x.steps++; x.steps%checkEvery != 0 {
		return nil
	}
	return x.cancelled()
}

func (x *run) cancelled() error {
	if x.ctx.Err() != nil {
		return fault.Unavailable.Errorf("the request was cancelled: %w", context.Cause(x.ctx))
	}
	return nil
}

// hold returns a copy of a row that lives until release.
func (x *run) hold(r *row, beside int) (*row, error) {
	if err := x.reserve(r.size(beside)); err != nil {
		return nil, err
	}
	if r.group != nil { // it lives as long as the run
		return r, nil
	}
	d, err := r.Doc.Clone()
	return &row{Doc: d}, err
}

func (x *run) reserve(n int64) error {
	held := x.held + n
	if x.shared != nil {
		held = x.shared.Add(n)
	}
	if held > x.most {
		return fault.TooLarge.Errorf("the request holds more than %d MiB of documents at once: add a limit or a filter", x.most>>20)
	}
	if x.shared == nil {
		x.held = held
	}
	return nil
}

func (x *run) release(n int64) {
	if x.shared != nil {
		x.shared.Add(-n)
		return
	}
	x.held -= n
}

// scan yields all documents of a collection in docID order.
type scan struct {
	coll    *collection
	deleted bool
}

func (s *scan) input() operator { return nil }
func (s *scan) describe() string {
	if s.deleted {
		return "scan " + s.coll.source() + " with deleted"
	}
	return "scan " + s.coll.source()
}

func (s *scan) rows(x *run, _ *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		if x.tx.Guarded(s.coll.Collection) {
			p, _, err := x.widely(s)
			if err != nil {
				yield(nil, err)
				return
			}
			if p != nil {
				x.spreadRows(p)(yield)
				return
			}
		}
		s.rest(x, dag.DocID{}, yield)
	}
}

// rest yields the documents behind one.
func (s *scan) rest(x *run, after dag.DocID, yield func(*row, error) bool) {
	var r row // one for the whole scan
	for d, err := range x.tx.Scan(s.coll.Collection, store.Range{After: after, Deleted: s.deleted}) {
		if err == nil {
			err = x.step()
		}
		if err != nil {
			yield(nil, err)
			return
		}
		x.touched.scanned++
		r.Doc = d
		if !yield(&r, nil) {
			return
		}
	}
}

// lookup yields the documents with given docIDs, in docID order, each once.
type lookup struct {
	coll    *collection
	ids     []dag.DocID
	deleted bool
}

// newLookup sorts the docIDs.
func newLookup(g *collection, ids []dag.DocID, deleted bool) *lookup {
	return &lookup{g, sortedIDs(slices.Clone(ids)), deleted}
}

func (l *lookup) input() operator { return nil }
func (l *lookup) describe() string {
	return fmt.Sprintf("get %s by %d docIDs", l.coll.source(), len(l.ids))
}

func (l *lookup) rows(x *run, _ *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		var r row
		for d, err := range x.tx.GetMany(l.coll.Collection, l.ids) {
			if err == nil {
				err = x.step()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			x.touched.fetched++
			if r.Doc = d; (l.deleted || !d.Deleted()) && !yield(&r, nil) {
				return
			}
		}
	}
}

// get returns a document, or nil if there is none.
func (x *run) get(g *collection, id dag.DocID, deleted bool) (*row, error) {
	d, err := x.tx.Get(g.Collection, id)
	x.touched.fetched++
	if errors.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil || d.Deleted() && !deleted {
		return nil, err
	}
	return &row{Doc: d}, nil
}

// chosen returns the rows that meet a condition.
func chosen(from operator, cond predicate, text string) operator {
	switch cond.truth {
	case always:
		return from
	case never:
		return nothing{}
	}
	return &where{from: from, cond: cond.holds, text: text}
}

// nothing yields no rows.
type nothing struct{}

func (nothing) input() operator                        { return nil }
func (nothing) describe() string                       { return "nothing" }
func (nothing) rows(*run, *row) iter.Seq2[*row, error] { return func(func(*row, error) bool) {} }

// where yields the rows that meet a condition.
type where struct {
	from operator
	cond func(*run, *row) bool
	text string
	pure bool // the condition is about the row alone
}

func (w *where) input() operator  { return w.from }
func (w *where) describe() string { return "where " + w.text }

func (w *where) rows(x *run, parent *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		if w.pure {
			p, rest, err := x.widely(w)
			switch {
			case err != nil:
				yield(nil, err)
				return
			case p != nil:
				x.spreadRows(p)(yield)
				return
			}
			if r, ok := rest.(*where); ok {
				w = r
			}
		}
		for r, err := range x.rows(w.from, parent) {
			if err != nil {
				yield(nil, err)
				return
			}
			ok := w.cond(x, r)
			if x.err != nil {
				yield(nil, x.err)
				return
			}
			if ok && !yield(r, nil) {
				return
			}
		}
	}
}

// slice leaves out rows from the start and ends after some.
type slice struct {
	from          operator
	offset, limit int // limit 0: no limit
}

func (s *slice) input() operator { return s.from }
func (s *slice) describe() string {
	switch {
	case s.offset < 0:
		return "nothing (negative offset)"
	case s.limit == 0:
		return fmt.Sprintf("offset %d", s.offset)
	case s.offset == 0:
		return fmt.Sprintf("limit %d", s.limit)
	}
	return fmt.Sprintf("limit %d offset %d", s.limit, s.offset)
}

func (s *slice) rows(x *run, parent *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		if s.offset < 0 {
			return
		}
		n := 0
		for r, err := range x.rows(s.from, parent) {
			if err != nil {
				yield(nil, err)
				return
			}
			if n++; n <= s.offset {
				continue
			}
			if !yield(r, nil) || s.limit > 0 && n >= s.offset+s.limit {
				return
			}
		}
	}
}

// rowsOf yields rows that are at hand.
type rowsOf []*row

func (l rowsOf) input() operator  { return nil }
func (l rowsOf) describe() string { return "rows" }
func (l rowsOf) rows(*run, *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		for _, r := range l {
			if !yield(r, nil) {
				return
			}
		}
	}
}

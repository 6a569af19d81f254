package query

import (
	"iter"
	"slices"

	"github.com/pandodb/pando/internal/dag"
)

// access yields documents of a collection among which are all that meet a filter, in
// docID order: along the way that turns out to be the shortest, or by a scan. The
// filter is applied above.
type access struct {
	coll   *collection
	ways   []way
	cond   predicate
	alone  bool          // the condition is about each document alone
	most   int           // so many matches are wanted; 0: all
	beside []*collection // what a scan would read besides, following relations
}

func (a *access) input() operator { return nil }
func (a *access) describe() string {
	if len(a.ways) == 0 {
		return "scan " + a.coll.source()
	}
	return "find " + a.coll.source() + " by " + alternatives(a.ways) + " | scan"
}

func (a *access) rows(x *run, _ *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		from, err := a.choose(x)
		if err != nil {
			yield(nil, err)
			return
		}
		x.rows(from, nil)(yield)
	}
}

// choose returns the source of the rows.
func (a *access) choose(x *run) (operator, error) {
	fs := usable(x, a.ways)
	if len(fs) == 0 {
		return x.chose(a, &scan{a.coll, false}), nil
	}
	if a.most > 0 && a.most <= maxFew && len(a.beside) == 0 {
		fs = append(fs, &taster{a: a})
	}
	most, err := a.scanCost(x)
	if err != nil {
		return nil, err
	}
	won, err := race(x, fs, most)
	if err != nil {
		return nil, err
	}
	return x.chose(a, a.source(x, won)), nil
}

// source returns the documents that a way has found; nil is the scan.
func (a *access) source(x *run, won finder) operator {
	switch won := won.(type) {
	case nil:
		return &scan{a.coll, false}
	case *taster:
		if won.full { // what it has seen does not fit: it is read again as it is written
			return &scan{a.coll, false}
		}
		return won
	}
	won.settle(x)
	return &fetch{a.coll, sortedIDs(slices.Clone(won.found())), won.taken()}
}

// scanCost is what a way may cost until the scan is better.
func (a *access) scanCost(x *run) (int, error) {
	cost := firstSteps
	for _, g := range append([]*collection{a.coll}, a.beside...) {
		n, err := x.tx.Size(g.Collection)
		if err != nil {
			return 0, err
		}
		cost += costRow * int(n)
	}
	return cost, nil
}

// fetch yields documents by their docIDs, which are sorted, except deleted ones.
type fetch struct {
	coll *collection
	ids  []dag.DocID
	text string
}

func (f *fetch) input() operator  { return nil }
func (f *fetch) describe() string { return f.text }

func (f *fetch) rows(x *run, _ *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		var r row
		for d, err := range x.tx.GetMany(f.coll.Collection, f.ids) {
			x.touched.fetched++
			if err == nil {
				err = x.step()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if r.Doc = d; !d.Deleted() && !yield(&r, nil) {
				return
			}
		}
	}
}

// firstRows are the first rows that match, held while it is not known whether there will be
// enough of them soon. It is full when that takes too much room.
type firstRows struct {
	rowsOf
	held int64
	full bool
}

// add takes a row in; it reports whether to go on.
func (f *firstRows) add(x *run, r *row) (more bool, err error) {
	size := r.size(0)
	if f.held+size > fewBytes || x.held+size > x.most {
		f.drop(x)
		f.full = true
		return false, nil
	}
	held, err := x.hold(r, 0)
	f.rowsOf, f.held = append(f.rowsOf, held), f.held+size
	return true, err
}

func (f *firstRows) drop(x *run) {
	x.release(f.held)
	f.rowsOf, f.held = nil, 0
}

// taster is a scan that ends when enough rows have matched, which may be soon.
type taster struct {
	firstRows
	a     *access
	after dag.DocID
	cost  int
}

func (t *taster) found() []dag.DocID { return nil }
func (t *taster) settle(*run)        {}
func (t *taster) taken() string      { return t.describe() }
func (t *taster) describe() string   { return "scan " + t.a.coll.source() + " as far as needed" }

func (t *taster) advance(x *run, most int) (bool, error) {
	var r row
	rg, err := x.stretch(t.a.coll, t.after, most-t.cost)
	if err != nil {
		return false, err
	}
	for d, err := range x.tx.Scan(t.a.coll.Collection, rg) {
		if err == nil {
			err = x.step()
		}
		if err != nil {
			return false, err
		}
		if t.cost >= most {
			return false, nil
		}
		x.touched.scanned++
		t.cost += costRow
		r.Doc, t.after = d, d.ID
		ok := t.a.cond.holds(x, &r)
		if x.err != nil {
			return false, x.err
		}
		if !ok {
			continue
		}
		if more, err := t.add(x, &r); err != nil || !more || len(t.rowsOf) == t.a.most {
			return err == nil, err
		}
	}
	if rg.Through != (dag.DocID{}) {
		t.after, t.cost = rg.Through, most
		return false, nil
	}
	return true, nil
}

// indexed reports whether indexes have what the root field under way looks at: they
// know documents as they are, without deleted ones.
func (c *compiler) indexed() bool {
	return !c.deleted && c.asOf == nil && c.commit == nil && !c.schema.unindexed
}

// access plans how the documents of g that meet a filter are found.
func (c *compiler) access(g *collection, w wanted) operator {
	if w.cond.truth != depends {
		return &scan{g, false}
	}
	ways := c.demandsOf(g, w.filter).all()
	if len(ways) == 0 {
		return &scan{g, false}
	}
	return &access{coll: g, ways: ways, cond: w.cond, most: w.most(), beside: beside(ways)}
}

// beside returns the collections that ways come from over relations.
func beside(ways []way) []*collection {
	var gs []*collection
	for _, w := range ways {
		switch w := w.(type) {
		case *byRelation:
			gs = append(append(gs, w.to.target), beside(w.far)...)
		case *byUnion:
			for _, b := range w.branches {
				gs = append(gs, beside(b)...)
			}
		}
	}
	return gs
}

// arranged returns the documents or groups of a level that are wanted, in order.
func (c *compiler) arranged(lv *level, w wanted) operator {
	if lv.by != nil || w.computed.truth != always {
		return w.of(lv, c.matching(lv.collection, w))
	}
	if i := slices.IndexFunc(w.keys, func(k sortKey) bool { return k.docID && !k.desc }); i >= 0 {
		w.keys = w.keys[:i] // documents with equal keys come in docID order anyway
	}
	w.first = true
	if from := c.inOrder(lv.collection, w); from != nil {
		return w.slice(from)
	}
	return w.window(c.matching(lv.collection, w))
}

// inOrder returns the documents in the order of an index, nil if there is none.
func (c *compiler) inOrder(g *collection, w wanted) operator {
	if len(w.keys) == 0 || w.restricted || !c.indexed() || w.cond.truth == never {
		return nil
	}
	d := c.demandsOf(g, w.filter)
	o := d.ordered(w.keys)
	if o == nil {
		return nil
	}
	ways := d.all()
	return &inOrder{
		order: o,
		found: &access{coll: g, ways: ways, cond: w.cond, beside: beside(ways)},
		text:  text(w.filter),
		sort:  w.sorting(),
	}
}

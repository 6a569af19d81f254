package query

import (
	"iter"
	"slices"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
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
		return "scan " + a.coll.Name
	}
	return "find " + a.coll.Name + " by " + alternatives(a.ways) + " | scan"
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
		n, err := x.tx.Count(g.Collection)
		if err != nil {
			return 0, err
		}
		cost += costRow * int(n)
	}
	return cost, nil
}

// count returns how many rows an operator yields, without reading the documents if
// an index tells.
func (x *run) count(from operator) (n uint64, err error) {
	if w, ok := from.(*where); ok {
		if a, ok := w.from.(*access); ok {
			return a.count(x, w.text)
		}
		if w.pure {
			p, rest, err := x.widely(w)
			if err != nil {
				return 0, err
			}
			if p != nil {
				return x.number(p)
			}
			from = rest
		}
	}
	for _, err := range x.rows(from, nil) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// count returns how many documents meet the filter.
func (a *access) count(x *run, text string) (uint64, error) {
	defer x.watch(x.of(a))()
	fs := usable(x, a.ways)
	for i, f := range fs {
		if f, ok := f.(*indexFinder); ok && f.w.exact {
			f.each, f.only = costEntry, f.w.once
			fs[0], fs[i] = fs[i], fs[0]
		}
	}
	most, err := a.scanCost(x)
	if err != nil {
		return 0, err
	}
	won, err := race(x, fs, most)
	if err != nil {
		return 0, err
	}
	if f, ok := won.(*indexFinder); ok && f.w.exact {
		x.chose(a, &fetch{text: f.taken() + ", counted"})
		if f.only {
			return uint64(f.n), nil
		}
		return uint64(len(sortedIDs(f.ids))), nil
	}
	rest := chosen(x.chose(a, a.source(x, won)), a.cond, text)
	if w, ok := rest.(*where); ok {
		w.pure = a.alone
	}
	return x.count(rest)
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

// few are the first rows that match, held while it is not known whether there will be
// enough of them soon. It is full when that takes too much room.
type few struct {
	rowsOf
	held int64
	full bool
}

// add takes a row in; it reports whether to go on.
func (f *few) add(x *run, r *row) (more bool, err error) {
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

func (f *few) drop(x *run) {
	x.release(f.held)
	f.rowsOf, f.held = nil, 0
}

// taster is a scan that ends when enough rows have matched, which may be soon.
type taster struct {
	few
	a     *access
	after dag.DocID
	cost  int
}

func (t *taster) found() []dag.DocID { return nil }
func (t *taster) settle(*run)        {}
func (t *taster) taken() string      { return t.describe() }
func (t *taster) describe() string   { return "scan " + t.a.coll.Name + " as far as needed" }

func (t *taster) advance(x *run, most int) (bool, error) {
	var r row
	for d, err := range x.tx.Scan(t.a.coll.Collection, store.Range{After: t.after}) {
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
	return true, nil
}

// followed names a condition over a relation in a filter.
type followed struct {
	field   *field
	operand value.Value
}

// overRelation is a condition on the document that a relation leads to, or on one of
// those.
type overRelation struct {
	to     *relation
	cond   predicate
	ways   []way // to the documents that meet it
	ofNone bool  // it holds where the relation leads nowhere
}

// follow notes a condition over a relation, so that the ways of the filter can turn
// it round.
func (c *compiler) follow(f *field, operand value.Value, to *relation, cond predicate) *overRelation {
	over := &overRelation{to: to, cond: cond}
	if f.role == roleOne {
		over.ofNone = cond.truth == always || cond.truth == depends && cond.holds(&run{}, nil)
	}
	if c.indexed() {
		over.ways = c.demandsOf(to.target, operand).all()
	}
	if c.over == nil {
		c.over = map[followed]*overRelation{}
	}
	c.over[followed{f, operand}] = over
	return over
}

// holds tells whether the condition holds for the document that a single relation
// leads to from r.
func (o *overRelation) holds(x *run, r *row) bool {
	if g := x.groups[o.to]; o.to.near && r != nil && g != nil && g.any != nil {
		id, ok := o.to.reference(r)
		if ok {
			_, ok = g.any[id]
		}
		return ok
	}
	related := x.one(o.to, r)
	return x.err == nil && o.cond.holds(x, related)
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

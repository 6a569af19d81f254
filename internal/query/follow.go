package query

import (
	"errors"
	"iter"
	"math"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// Relations are followed from many documents at once. What they lead to is looked
// up, along an index where the other side stores the docID, until that has cost as
// much as a pass over the other collection: then the pass is made, if there is room
// for what it holds.

const (
	// maxFew is how many documents are taken in before relations are followed from
	// them.
	maxFew = 1_000
	// fewBytes ends that sooner, for large ones.
	fewBytes = 4 << 20
	// firstLookUps is of how many documents the relation is looked up before it is
	// guessed what the others will cost.
	firstLookUps = 8
	// passBytes is how much a pass over the other side may hold, if it can be avoided:
	// answers of any size stream in little memory.
	passBytes = 64 << 20
)

// gathered takes rows in, some at a time, finds what relations lead to from them,
// and yields them.
func (x *run) gathered(from iter.Seq2[*row, error], tos []*relation) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		var few []*row
		var size int64
		first := true
		for r, err := range from {
			if err == nil && (len(few) == maxFew || size > fewBytes) {
				if !x.follow(few, size, tos, false, yield) {
					return
				}
				few, size, first = nil, 0, false
			}
			var held *row
			if err == nil {
				held, err = x.hold(r, 0)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			few, size = append(few, held), size+held.size(0)
		}
		x.follow(few, size, tos, first, yield)
	}
}

// follow yields rows with what relations lead to from them at hand; all says that
// there are no other rows.
func (x *run) follow(rows []*row, size int64, tos []*relation, all bool, yield func(*row, error) bool) bool {
	if err := x.prepare(tos, rows, all); err != nil {
		yield(nil, err)
		return false
	}
	for _, r := range rows {
		if !yield(r, nil) {
			return false
		}
	}
	x.release(size)
	x.forget(tos)
	return true
}

// prepare finds what relations lead to from rows, and so on.
func (x *run) prepare(tos []*relation, rows []*row, all bool) error {
	if len(rows) == 0 {
		return nil
	}
	for _, to := range tos {
		var next []*row
		s := x.of(to)
		stop := x.watch(s)
		if to.near {
			next = x.prepareNear(to, rows)
		} else {
			next = x.prepareFar(to, rows, all)
		}
		if stop(); s != nil {
			s.rows += len(rows)
		}
		if x.err != nil {
			return x.err
		}
		if err := x.prepare(to.next, next, all); err != nil {
			return err
		}
	}
	return nil
}

// forget drops what prepare found, except what serves other rows too.
func (x *run) forget(tos []*relation) {
	for _, to := range tos {
		if g := x.groups[to]; g != nil && !g.complete {
			x.release(g.held)
			g.rows, g.held = map[dag.DocID][]*row{}, 0
		}
		x.forget(to.next)
	}
}

func (x *run) prepareFar(to *relation, rows []*row, all bool) []*row {
	ids := make([]dag.DocID, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	ids = sortedIDs(ids)
	if to.tallied {
		if all {
			rowsOf(rows).restrict(x, to)
		}
		return nil
	}
	if !x.lookUp(to, ids) && x.err == nil {
		if all {
			rowsOf(rows).restrict(x, to)
		}
		x.grouped(to)
	}
	if x.err != nil || len(to.next) == 0 {
		return nil
	}
	g := x.groups[to]
	var next []*row
	for _, id := range ids {
		next = append(next, g.rows[id]...)
	}
	return next
}

func (l rowsOf) restrict(x *run, to *relation) {
	x.restrict([]*relation{to}, func(yield func(*row) bool) {
		for _, r := range l {
			if !yield(r) {
				return
			}
		}
	})
}

// related returns the documents that refer to r.
func (x *run) related(to *relation, r *row) []*row {
	if g := x.groups[to]; g != nil {
		if rows, ok := g.rows[r.ID]; ok || g.complete {
			return rows
		}
	}
	if g := x.groups[to]; g != nil && g.held > min(passBytes, x.most/8) {
		x.forget([]*relation{to}) // of documents before
	}
	if x.lookUp(to, []dag.DocID{r.ID}) {
		return x.groups[to].rows[r.ID]
	}
	if x.err != nil {
		return nil
	}
	return x.grouped(to).rows[r.ID]
}

// lookUp groups the documents that refer to those of ids, which are sorted. It
// reports false if a pass over all is better, and nothing else can be done.
func (x *run) lookUp(to *relation, ids []dag.DocID) bool {
	g := x.groups[to]
	switch {
	case g != nil && g.complete:
		return true
	case x.err != nil || to.back == nil || !x.tx.IndexReady(to.target.Collection, to.back):
		return false
	case g == nil:
		g = &grouping{rows: map[dag.DocID][]*row{}}
		x.keep(to, g)
	}
	before := g.cost
	for done, n := 0, 0; done < len(ids); done += n {
		// What is still to be looked up will cost as much each as what was.
		cost := g.cost
		if done > 0 {
			cost = before + (g.cost-before)/done*len(ids)
		}
		if cost > x.passCost(to, g) {
			return false
		}
		n = min(max(done, firstLookUps), len(ids)-done)
		if x.err = x.lookUpSome(to, g, ids[done:done+n]); x.err != nil {
			return false
		}
	}
	return true
}

// passCost is what a pass over the far side of a relation costs, with holding what
// it finds.
func (x *run) passCost(to *relation, g *grouping) int {
	const hold = 3 * costRow
	const size = 300 // bytes of a row, as long as none is known
	n, err := x.tx.Size(to.target.Collection)
	if err != nil {
		x.err = err
		return 0
	}
	each := float64(size)
	if g.fetched > 0 {
		each = float64(g.size) / float64(g.fetched)
	}
	if each*float64(n) > float64(min(passBytes, (x.most-x.held)/2)) {
		return math.MaxInt
	}
	return int(n)*(costRow+hold) + firstSteps*costSeek
}

// referring notes the documents that refer to id, as the index of a relation has them.
func (x *run) referring(to *relation, id dag.DocID, n *notes) error {
	n.cost += costSeek
	for e, err := range x.index(to.target, to.back, referringTo(to.back, id), false) {
		if err == nil {
			err = n.add(x, e.Doc, costEntry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *run) lookUpSome(to *relation, g *grouping, ids []dag.DocID) error {
	var n notes
	defer n.drop(x)
	for _, id := range ids {
		g.rows[id] = nil
		if err := x.referring(to, id, &n); err != nil {
			return err
		}
	}
	g.cost += n.cost
	var r row
	for d, err := range x.tx.GetMany(to.target.Collection, sortedIDs(n.ids)) {
		if err == nil {
			err = x.step()
		}
		if err != nil {
			return err
		}
		x.touched.fetched++
		g.fetched++
		g.cost += costFetch
		if r.Doc = d; !x.counts(to, &r) {
			if x.err != nil {
				return x.err
			}
			continue
		}
		held, err := x.hold(&r, 0)
		if err != nil {
			return err
		}
		g.size, g.held = g.size+held.size(0), g.held+held.size(0)
		id, _ := to.reference(held)
		g.rows[id] = append(g.rows[id], held)
	}
	return nil
}

// counts reports whether a document of the far side counts for the relation.
func (x *run) counts(to *relation, r *row) bool {
	if r.Deleted() || to.filter.truth == never {
		return false
	}
	return to.filter.truth == always || to.filter.holds(x, r)
}

// sourcesOf yields the documents of the far side that refer to one of ids, if these
// are known, and perhaps others.
func (x *run) sourcesOf(to *relation, ids map[dag.DocID]struct{}) iter.Seq2[*row, error] {
	if ids == nil || to.back == nil || !x.tx.IndexReady(to.target.Collection, to.back) {
		return to.sources(x)
	}
	return func(yield func(*row, error) bool) {
		var n notes
		defer n.drop(x)
		shorter, err := x.referringToAny(to, ids, &n)
		switch {
		case err != nil:
			yield(nil, err)
		case !shorter:
			n.drop(x)
			to.sources(x)(yield)
		default:
			x.rows(chosen(&fetch{coll: to.target, ids: sortedIDs(n.ids)}, to.filter, to.text), nil)(yield)
		}
	}
}

// referringToAny notes the documents that refer to one of ids, as long as getting them
// is shorter than a pass over all.
func (x *run) referringToAny(to *relation, ids map[dag.DocID]struct{}, n *notes) (shorter bool, err error) {
	all, err := x.tx.Size(to.target.Collection)
	if err != nil {
		return false, err
	}
	for id := range ids {
		if err := x.referring(to, id, n); errors.Is(err, fault.TooLarge) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		if n.cost+len(n.ids)*costFetch > int(all)*costRow+firstSteps*costSeek {
			return false, nil
		}
	}
	return true, nil
}

// lookUpAny reports whether any document that counts refers to id, if that can be
// looked up for less than a pass over all.
func (x *run) lookUpAny(to *relation, id dag.DocID) (has, ok bool) {
	if to.back == nil || !x.tx.IndexReady(to.target.Collection, to.back) {
		return false, false
	}
	g := x.groups[to]
	if g == nil {
		g = &grouping{}
		x.keep(to, g)
	}
	all, err := x.tx.Size(to.target.Collection)
	if err != nil {
		x.err = err
		return false, true
	}
	if g.cost > int(all)*costRow+firstSteps*costSeek {
		return false, false
	}
	if to.filter.truth == always {
		return x.isReferredTo(to, g, id), true
	}
	var n notes
	defer n.drop(x)
	err = x.referring(to, id, &n)
	if g.cost += n.cost; errors.Is(err, fault.TooLarge) {
		return false, false
	}
	if err != nil {
		x.err = err
		return false, true
	}
	return x.anyCounts(to, g, n.ids), true
}

// isReferredTo reports whether any document refers to id.
func (x *run) isReferredTo(to *relation, g *grouping, id dag.DocID) bool {
	g.cost += costSeek
	for _, err := range x.index(to.target, to.back, referringTo(to.back, id), false) {
		x.err = err
		return err == nil
	}
	return false
}

func (x *run) anyCounts(to *relation, g *grouping, ids []dag.DocID) bool {
	var r row
	for d, err := range x.tx.GetMany(to.target.Collection, sortedIDs(ids)) {
		if err == nil {
			err = x.step()
		}
		if err != nil {
			x.err = err
			return false
		}
		x.touched.fetched++
		g.cost += costFetch
		if r.Doc = d; x.counts(to, &r) || x.err != nil {
			return x.err == nil
		}
	}
	return false
}

// near holds documents of a collection that relations lead to.
type near struct {
	rows  map[dag.DocID]*row // nil: there is none
	size  int64
	got   int  // documents that were got one by one
	whole bool // all there are
}

// costGet is what a document costs that is got alone.
const costGet = 10

func (x *run) near(g *collection) *near {
	n := x.nears[g]
	if n == nil {
		if x.nears == nil {
			x.nears = map[*collection]*near{}
		}
		n = &near{rows: map[dag.DocID]*row{}}
		x.nears[g] = n
	}
	return n
}

// nearby returns the document of that docID, or nil.
func (x *run) nearby(g *collection, id dag.DocID) *row {
	n := x.near(g)
	if r, ok := n.rows[id]; ok || n.whole {
		return r
	}
	if n.got++; n.got*costGet > x.wholeCost(g, n) {
		if x.takeWhole(g, n); x.err != nil {
			return nil
		}
		return n.rows[id]
	}
	r, err := x.get(g, id, false)
	if err == nil {
		err = x.remember(n, id, r)
	}
	if err != nil {
		x.err = err
		return nil
	}
	return r
}

// remember keeps a document, nil if there is none, while there is room.
func (x *run) remember(n *near, id dag.DocID, r *row) error {
	const entry = 64
	size := int64(entry)
	if r != nil {
		size += r.size(0)
	}
	if n.size+size > x.most/8 {
		x.release(n.size)
		n.rows, n.size = map[dag.DocID]*row{}, 0
	}
	n.rows[id], n.size = r, n.size+size
	return x.reserve(size)
}

// wholeCost is what it costs to take in the whole collection, if there is room.
func (x *run) wholeCost(g *collection, n *near) int {
	count, err := x.tx.Size(g.Collection)
	if err != nil {
		x.err = err
	}
	if len(n.rows) == 0 || float64(n.size)/float64(len(n.rows))*float64(count) > float64(x.most)/8 {
		return math.MaxInt
	}
	return int(count)*3*costRow + firstSteps
}

func (x *run) takeWhole(g *collection, n *near) {
	x.release(n.size)
	n.rows, n.size, n.whole = map[dag.DocID]*row{}, 0, true
	for r, err := range (&scan{g, false}).rows(x, nil) {
		if err == nil {
			if r, err = x.hold(r, 0); err == nil {
				n.rows[r.ID] = r
				n.size += r.size(0)
				continue
			}
		}
		x.err = err
		return
	}
}

// prepareNear gets at once what a relation leads to from rows.
func (x *run) prepareNear(to *relation, rows []*row) []*row {
	if to.deleted || to.asOf != nil {
		return nil
	}
	n := x.near(to.target)
	seen := make(map[dag.DocID]struct{}, len(rows))
	var missing, ids []dag.DocID
	for _, r := range rows {
		id, ok := to.reference(r)
		if _, twice := seen[id]; twice || !ok {
			continue
		}
		seen[id] = struct{}{}
		ids = append(ids, id)
		if _, known := n.rows[id]; !known && !n.whole {
			missing = append(missing, id)
		}
	}
	if x.err = x.getNear(to.target, n, sortedIDs(missing)); x.err != nil || len(to.next) == 0 {
		return nil
	}
	var next []*row
	for _, id := range ids {
		if r := n.rows[id]; r != nil {
			next = append(next, r)
		}
	}
	return next
}

// getNear takes documents in that are missing.
func (x *run) getNear(g *collection, n *near, ids []dag.DocID) error {
	for _, id := range ids { // those that are not found do not exist
		if err := x.remember(n, id, nil); err != nil {
			return err
		}
	}
	for d, err := range x.tx.GetMany(g.Collection, ids) {
		if err == nil {
			err = x.step()
		}
		if err != nil {
			return err
		}
		x.touched.fetched++
		if d.Deleted() {
			continue
		}
		if d, err = d.Clone(); err != nil {
			return err
		}
		r := &row{Doc: d}
		if err := x.remember(n, d.ID, r); err != nil {
			return err
		}
	}
	return nil
}

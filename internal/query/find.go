package query

import (
	"bytes"
	"errors"
	"iter"
	"slices"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// What things cost, in rows of a scan. They only have to be right within a factor of
// two: the way that is taken is then at most that much longer than the shortest.
const (
	costRow   = 1  // a row of a scan, with its condition
	costEntry = 1  // an entry of an index
	costFetch = 7  // a document by its docID, among many in ascending order
	costSeek  = 10 // to begin a range of an index
	// costHidden is an entry of an index that the caller may not read: that is seen in
	// the document.
	costHidden = costEntry + costFetch
)

// finder is a way that is being gone, some steps at a time.
type finder interface {
	// advance goes on until all steps so far have cost about most, and reports
	// whether the end is reached.
	advance(x *run, most int) (done bool, err error)
	// found returns what has been found in the end, in no order, perhaps repeated.
	found() []dag.DocID
	// settle lets conditions use what the way has learned on the way.
	settle(x *run)
	// taken describes the way that was taken, after settle.
	taken() string
	// drop releases what it holds, as another way is taken.
	drop(x *run)
}

// usable returns the ways that can be gone now.
func usable(x *run, ways []way) []finder {
	var fs []finder
	for _, w := range ways {
		if f := w.finder(x); f != nil {
			fs = append(fs, f)
		}
	}
	return fs
}

// firstSteps is what is spent on each way before it is compared with the others. It
// doubles each time, so that no more than twice the cost of the shortest is spent
// on any.
const firstSteps = 64

// race goes all ways in turns until one is at its end, which it returns, or until
// they have cost most, each. A way for which there is not enough room is given up.
func race(x *run, fs []finder, most int) (won finder, err error) {
	defer func() { dropAllBut(x, won, fs) }()
	given := make([]bool, len(fs))
	for steps, left := firstSteps, len(fs); left > 0; steps *= 2 {
		steps = min(steps, most)
		for i, f := range fs {
			if given[i] {
				continue
			}
			done, err := f.advance(x, steps)
			switch {
			case errors.Is(err, fault.TooLarge):
				x.err, given[i] = nil, true
				f.drop(x)
				left--
			case err != nil:
				return nil, err
			case done:
				return f, nil
			}
		}
		if steps >= most {
			break
		}
	}
	return nil, nil
}

func dropAllBut(x *run, won finder, fs []finder) {
	for _, f := range fs {
		if f != won {
			f.drop(x)
		}
	}
}

// notes collects docIDs.
type notes struct {
	ids  []dag.DocID
	cost int
	held int64
}

func (n *notes) found() []dag.DocID { return n.ids }
func (n *notes) settle(*run)        {}

func (n *notes) add(x *run, id dag.DocID, cost int) error {
	if err := x.reserve(int64(len(id))); err != nil {
		return err
	}
	n.ids, n.held = append(n.ids, id), n.held+int64(len(id))
	n.cost += cost
	return nil
}

func (n *notes) drop(x *run) {
	x.release(n.held)
	n.ids, n.held = nil, 0
}

// idFinder has docIDs that were given.
type idFinder struct {
	notes
	w *byID
}

func (w *byID) finder(*run) finder {
	return &idFinder{notes{ids: w.ids, cost: costFetch * len(w.ids)}, w}
}
func (f *idFinder) advance(_ *run, most int) (bool, error) { return f.cost <= most, nil }
func (f *idFinder) taken() string                          { return f.w.describe() }

// indexFinder reads ranges of an index.
type indexFinder struct {
	notes
	w    *byIndex
	each int    // what an entry costs, with what it leads to
	only bool   // how many there are is all that is asked for
	n    int    // how many there are
	at   int    // the range
	from []byte // where it goes on
}

func (w *byIndex) finder(x *run) finder {
	if !x.tx.IndexReady(w.coll.Collection, w.ix) {
		return nil
	}
	return &indexFinder{w: w, each: costEntry + costFetch}
}

func (f *indexFinder) taken() string { return f.w.describe() }

func (f *indexFinder) advance(x *run, most int) (bool, error) {
	for f.at < len(f.w.ranges) {
		if f.cost >= most {
			return false, nil
		}
		r := f.w.ranges[f.at]
		if f.from != nil {
			r.Lo = f.from
		}
		f.cost += costSeek
		if ended, err := f.read(x, r, most); err != nil || !ended {
			return false, err
		}
		f.at, f.from = f.at+1, nil
	}
	return true, nil
}

func (f *indexFinder) read(x *run, r store.IndexRange, most int) (ended bool, err error) {
	r.Wanted, r.Pauses = (most-f.cost)/f.each+1, true
	for e, err := range x.index(f.w.coll, f.w.ix, r, false) {
		if err != nil {
			return false, err
		}
		if e.IsPause() {
			if f.cost += e.Hidden * costHidden; f.cost >= most {
				f.from = e.Key
				return false, nil
			}
			continue
		}
		if f.n++; f.only {
			f.cost += f.each
		} else if err := f.add(x, e.Doc, f.each); err != nil {
			return false, err
		}
		if f.cost >= most {
			f.from = append(slices.Concat(e.Key, e.Doc[:]), 0)
			return false, nil
		}
	}
	return true, nil
}

// index reads a range of an index.
func (x *run) index(g *collection, ix *schema.Index, r store.IndexRange, reverse bool) iter.Seq2[store.IndexEntry, error] {
	return func(yield func(store.IndexEntry, error) bool) {
		for e, err := range x.tx.Index(g.Collection, ix, r, reverse) {
			if !e.IsPause() {
				x.touched.entries++
			}
			if err == nil {
				err = x.step()
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// unionFinder goes the ways of all branches, one after the other.
type unionFinder struct {
	branches []*shortest
	at       int
	cost     int
}

func (w *byUnion) finder(x *run) finder {
	f := &unionFinder{}
	for _, ways := range w.branches {
		c := newShortest(usable(x, ways))
		if c == nil {
			return nil
		}
		f.branches = append(f.branches, c)
	}
	return f
}

func (f *unionFinder) advance(x *run, most int) (bool, error) {
	for f.at < len(f.branches) {
		b := f.branches[f.at]
		if done, err := b.advance(x, most-f.cost); err != nil || !done {
			return false, err
		}
		f.cost += b.cost
		f.at++
	}
	return true, nil
}

func (f *unionFinder) found() []dag.DocID {
	var ids []dag.DocID
	for _, b := range f.branches {
		ids = append(ids, b.found()...)
	}
	return ids
}

func (f *unionFinder) settle(x *run) {
	for _, b := range f.branches {
		b.settle(x)
	}
}

func (f *unionFinder) drop(x *run) {
	for _, b := range f.branches {
		b.drop(x)
	}
}

func (f *unionFinder) taken() string {
	text := "all of ("
	for i, b := range f.branches {
		if i > 0 {
			text += " + "
		}
		text += b.taken()
	}
	return text + ")"
}

// shortest is the shortest of some ways.
type shortest struct {
	among []finder
	won   finder
	cost  int
}

func newShortest(among []finder) *shortest {
	if len(among) == 0 {
		return nil
	}
	return &shortest{among: among}
}

func (c *shortest) advance(x *run, most int) (bool, error) {
	for c.won == nil && c.cost < most {
		c.cost = min(max(2*c.cost, firstSteps), most)
		for _, f := range c.among {
			done, err := f.advance(x, c.cost)
			if err != nil {
				return false, err
			}
			if done {
				c.won = f
				dropAllBut(x, f, c.among)
				break
			}
		}
	}
	return c.won != nil, nil
}

func (c *shortest) found() []dag.DocID { return c.won.found() }
func (c *shortest) settle(x *run)      { c.won.settle(x) }
func (c *shortest) taken() string      { return c.won.taken() }
func (c *shortest) drop(x *run)        { dropAllBut(x, nil, c.among) }

// farFinder finds the documents of the far side of a relation that meet the
// condition, and notes those that they are related to, or where these say it
// themselves, the documents found.
type farFinder struct {
	notes
	w     *byRelation
	from  *shortest   // nil: scan
	left  []dag.DocID // of what it found, those that are not looked at yet
	begun bool
	after dag.DocID // as far as the scan went
}

func (f *farFinder) advance(x *run, most int) (bool, error) {
	if f.from == nil {
		return f.scan(x, most)
	}
	if !f.begun {
		if done, err := f.from.advance(x, most-f.cost); err != nil || !done {
			return false, err
		}
		f.from.settle(x)
		f.left, f.begun = sortedIDs(f.from.found()), true
	}
	for len(f.left) > 0 && f.cost < most {
		n := min(len(f.left), most-f.cost)
		for d, err := range x.tx.GetMany(f.w.to.target.Collection, f.left[:n]) {
			if err == nil {
				x.touched.fetched++
				err = f.meet(x, &row{Doc: d})
			}
			if err != nil {
				return false, err
			}
		}
		f.left, f.cost = f.left[n:], f.cost+n*costFetch
	}
	return len(f.left) == 0, nil
}

func (f *farFinder) scan(x *run, most int) (bool, error) {
	var r row
	rg, err := x.stretch(f.w.to.target, f.after, most-f.cost)
	if err != nil {
		return false, err
	}
	for d, err := range x.tx.Scan(f.w.to.target.Collection, rg) {
		if err != nil {
			return false, err
		}
		if f.cost >= most {
			return false, nil
		}
		x.touched.scanned++
		r.Doc, f.after = d, d.ID
		f.cost += costRow
		if err := f.meet(x, &r); err != nil {
			return false, err
		}
	}
	if rg.Through != (dag.DocID{}) {
		f.after, f.cost = rg.Through, most
		return false, nil
	}
	return true, nil
}

func (f *farFinder) meet(x *run, r *row) error {
	if err := x.step(); err != nil || r.Deleted() {
		return err
	}
	ok := f.w.cond.truth == always || f.w.cond.holds(x, r)
	if x.err != nil || !ok {
		return x.err
	}
	id := r.ID
	if !f.w.to.near {
		if id, ok = f.w.to.reference(r); !ok {
			return nil
		}
	}
	return f.add(x, id, costFetch)
}

// settle remembers which documents are related to one that meets the condition.
func (f *farFinder) settle(x *run) {
	if !f.w.decides {
		return
	}
	set := make(map[dag.DocID]struct{}, len(f.notes.ids))
	for _, id := range f.notes.ids {
		if err := x.note(set, id); err != nil {
			return // there is not enough room: the condition is checked the long way
		}
	}
	x.keep(f.w.to, &grouping{any: set})
}

func (f *farFinder) drop(x *run) {
	f.notes.drop(x)
	if f.from != nil {
		f.from.drop(x)
	}
}

func (f *farFinder) taken() string {
	if f.from == nil {
		return "relation " + f.w.to.name + " from a scan of " + f.w.to.target.source()
	}
	return "relation " + f.w.to.name + " from " + f.w.to.target.source() + " by " + f.from.taken()
}

// backFinder finds the documents that refer to those of the far side.
type backFinder struct {
	notes
	w    *byRelation
	coll *collection
	far  *shortest
	left []dag.DocID // of the far side, from which it has not gone back yet
	done bool        // the far side
}

func (w *byRelation) finder(x *run) finder {
	far := newShortest(append(usableOf(x, w), &farFinder{w: w}))
	if !w.to.near {
		return far
	}
	if !x.tx.IndexReady(w.coll.Collection, w.back) {
		return nil
	}
	return &backFinder{w: w, coll: w.coll, far: far}
}

// usableOf returns the ways on the far side.
func usableOf(x *run, w *byRelation) []finder {
	c := newShortest(usable(x, w.far))
	if c == nil {
		return nil
	}
	return []finder{&farFinder{w: w, from: c}}
}

func (f *backFinder) advance(x *run, most int) (bool, error) {
	if !f.done {
		if done, err := f.far.advance(x, most); err != nil || !done {
			return false, err
		}
		f.left, f.done, f.cost = sortedIDs(slices.Clone(f.far.found())), true, f.far.cost
	}
	for len(f.left) > 0 && f.cost < most {
		f.cost += costSeek
		for e, err := range x.index(f.coll, f.w.back, referringTo(f.w.back, f.left[0]), false) {
			if err == nil {
				err = f.add(x, e.Doc, costEntry+costFetch)
			}
			if err != nil {
				return false, err
			}
		}
		f.left = f.left[1:]
	}
	return len(f.left) == 0, nil
}

func (f *backFinder) settle(x *run) { f.far.settle(x) }
func (f *backFinder) drop(x *run)   { f.notes.drop(x); f.far.drop(x) }
func (f *backFinder) taken() string { return f.far.taken() + ", back by index " + f.w.back.Name }

// referringTo is the range of an index, whose first column is a relation, of the
// documents that refer to one.
func referringTo(ix *schema.Index, id dag.DocID) store.IndexRange {
	key := make([]byte, 0, 40)
	if ix.Fields[0].Descending {
		key = value.OfRef(id).AppendKeyDesc(key)
	} else {
		key = value.OfRef(id).AppendKey(key)
	}
	return store.IndexRange{Lo: key, Hi: after(key)}
}

func compareIDs(a, b dag.DocID) int { return bytes.Compare(a[:], b[:]) }

package store

import (
	"cmp"
	"container/heap"
	"iter"
	"slices"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// Point is a place in the history of a document, whose commits apply in the order
// of their points.
type Point struct {
	Height uint64
	CID    dag.CID
}

// Compare orders points by height, then CID.
func (p Point) Compare(o Point) int {
	if c := cmp.Compare(p.Height, o.Height); c != 0 {
		return c
	}
	return p.CID.Compare(o.CID)
}

// heightEnd is the point after all commits of a height.
func heightEnd(height uint64) Point {
	p := Point{Height: height}
	for i := range p.CID {
		p.CID[i] = 0xff
	}
	return p
}

// maxListed bounds the commits that are listed one by one: 2.5 MB. Of more than
// these the lowest come first, and the others are listed when those are there.
const maxListed = 1 << 16

// Lacking is what an asker lacks of a document: found once, and then read piece by
// piece, each at the cost of what is in it.
type Lacking struct {
	// Cut tells that there is more after the last that PackOf yields: to be asked for
	// from there on.
	Cut bool
	// Top is the height of the document.
	Top uint64
	// Looked is what it cost to find, beside what the asker named: about so many commits
	// were read.
	Looked int

	coll  short
	doc   dag.DocID
	below uint64
	list  []Point // in their order
	from  Point   // if rest: after it everything is lacking
	rest  bool
}

// headsPerLook is how many heads of a document cost as much as a commit that is read.
const headsPerLook = 32

// Lacking finds what an asker lacks of a document: nothing, if the caller may not read
// it. Where it wants all there is, what
// lies higher than all that it is known to have is not looked at one by one, but for
// parents that are not: of a history without branches nothing else is.
func (tx *Tx) Lacking(coll dag.CollectionID, w Want) (Lacking, error) {
	return tx.lacking(coll, w, maxListed)
}

func (tx *Tx) lacking(coll dag.CollectionID, w Want, most int) (Lacking, error) {
	n, ok := tx.set.short(coll)
	if !ok {
		return Lacking{}, fault.NotFound.Errorf("pack: collection %s is unknown", coll)
	}
	l := Lacking{coll: n, doc: w.Doc, below: w.Below}
	d, ok, err := tx.visible(n, w.Doc)
	if err != nil || !ok {
		return l, err
	}
	var heads []dag.CID
	all := true
	for _, h := range d.Heads() {
		l.Top = max(l.Top, h.Height)
		heads = append(heads, h.Commit)
		all = all && (len(w.Want) == 0 || slices.Contains(w.Want, h.Commit))
	}
	l.Looked = len(heads) / headsPerLook
	known, err := tx.knownTo(n, w)
	if err != nil {
		return l, err
	}
	f := &frontier{known: map[dag.CID]bool{}}
	var top uint64
	for _, at := range known {
		f.add(at, true)
		top = max(top, at.height)
	}
	want := w.Want
	if all {
		if l.rest = true; len(known) > 0 {
			l.from = heightEnd(top)
		}
		if w.After.Compare(l.from) >= 0 {
			l.from = w.After
			return l, nil // everything after it
		}
		want = heads
		looked, err := tx.wantBelow(f, n, w.Doc, l.from)
		if err != nil {
			return l, err
		}
		l.Looked += looked
	}
	for _, c := range want {
		at, ok, err := tx.where(c)
		if err != nil {
			return l, err
		}
		if ok && at.doc == w.Doc && at.coll == n && (!all || at.height <= top) {
			f.add(at, false)
		}
	}
	l.list, err = tx.walk(f, w)
	l.Looked += len(f.known) - len(f.list)
	if len(l.list) > most {
		l.list, l.Cut, l.rest = slices.Clone(l.list[:most]), true, false
	}
	return l, err
}

// knownTo returns the commits that the asker names and that are here.
func (tx *Tx) knownTo(n short, w Want) (known []place, err error) {
	have := slices.Clone(w.Have)
	for _, id := range w.Locator {
		cid, ok, err := tx.located(n, w.Doc, id)
		if err != nil {
			return nil, err
		}
		if ok {
			have = append(have, cid)
		}
	}
	for _, c := range have {
		at, ok, err := tx.where(c)
		if err != nil {
			return nil, err
		}
		if ok && at.doc == w.Doc && at.coll == n {
			known = append(known, at)
		}
	}
	return known, nil
}

// maxRecent is how many commits a pass over a history remembers by name: a parent is
// one of these, mostly, and need not be looked up.
const maxRecent = 4096

// wantBelow adds the parents that commits after a point have before it: one
// sequential read, of so many commits.
func (tx *Tx) wantBelow(f *frontier, n short, doc dag.DocID, from Point) (looked int, err error) {
	recent, older := map[dag.CID]bool{}, map[dag.CID]bool{}
	lo := commitKey(n, doc, from.Height, from.CID)
	_, hi := documentRange(n, doc)
	for e, err := range tx.kv.Scan(lo, hi) {
		if err != nil {
			return looked, err
		}
		looked++
		at, parents, err := parseLinks(e.Key, e.Value)
		if err != nil {
			return looked, err
		}
		for _, p := range parents {
			if recent[p] || older[p] {
				continue
			}
			up, err := tx.parent(at.cid, p)
			if err != nil {
				return looked, err
			}
			if (Point{up.height, up.cid}).Compare(from) <= 0 {
				f.add(up, false)
			}
		}
		if recent[at.cid] = true; len(recent) == maxRecent {
			recent, older = map[dag.CID]bool{}, recent
		}
	}
	return looked, nil
}

func parseLinks(key, value []byte) (at place, parents []dag.CID, err error) {
	if at, err = parseCommitKey(key); err != nil {
		return at, nil, err
	}
	st, err := parseStored(at.cid, value)
	if err != nil {
		return at, nil, err
	}
	if parents, err = dag.Parents(st.envelope); err != nil {
		return at, nil, fault.Corrupt.Errorf("commit %s: %w: run pando fsck", at.cid, err)
	}
	return at, parents, nil
}

// parent says where a parent of an applied commit is.
func (tx *Tx) parent(of, p dag.CID) (place, error) {
	up, ok, err := tx.where(p)
	if err == nil && !ok {
		err = fault.Corrupt.Errorf("parent %s of commit %s is missing: run pando fsck --rebuild", p, of)
	}
	return up, err
}

// frontier is a heap of commits, the highest first, so that a commit is met only
// after all its descendants, and a walk ends as soon as all that is left is known
// to the asker.
type frontier struct {
	list   []place
	known  map[dag.CID]bool // by commit in the heap or met: whether the asker has it
	wanted int              // commits in the heap that the asker lacks
}

func (f *frontier) Len() int           { return len(f.list) }
func (f *frontier) Less(i, j int) bool { return f.list[i].compare(f.list[j]) > 0 }
func (f *frontier) Swap(i, j int)      { f.list[i], f.list[j] = f.list[j], f.list[i] }
func (f *frontier) Push(x any)         { f.list = append(f.list, x.(place)) }
func (f *frontier) Pop() any {
	x := f.list[len(f.list)-1]
	f.list = f.list[:len(f.list)-1]
	return x
}

func (f *frontier) add(at place, known bool) {
	was, met := f.known[at.cid]
	switch {
	case !met:
		f.known[at.cid] = known
		heap.Push(f, at)
		if !known {
			f.wanted++
		}
	case known && !was: // still in the heap: its descendants are higher
		f.known[at.cid] = true
		f.wanted--
	}
}

// walk returns the commits to send, in the order of their points, as far as w asks
// for them.
func (tx *Tx) walk(f *frontier, w Want) (send []Point, err error) {
	for f.wanted > 0 {
		at := heap.Pop(f).(place)
		p := Point{at.height, at.cid}
		if p.Compare(w.After) <= 0 {
			break
		}
		known := f.known[at.cid]
		if !known {
			f.wanted--
			if w.Below == 0 || at.height < w.Below {
				send = append(send, p)
			}
		}
		v, ok, err := tx.kv.Get(at.key())
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, errIndexed(at.cid)
		}
		_, parents, err := parseLinks(at.key(), v)
		if err != nil {
			return nil, err
		}
		for _, c := range parents {
			up, err := tx.parent(at.cid, c)
			if err != nil {
				return nil, err
			}
			f.add(up, known)
		}
	}
	slices.Reverse(send)
	return send, nil
}

func errIndexed(c dag.CID) error {
	return fault.Corrupt.Errorf("commit %s is indexed but missing: run pando fsck", c)
}

// PackOf yields what was found to be lacking, after a point.
func (tx *Tx) PackOf(l Lacking, after Point) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		if may, err := tx.mayRead(l.coll, l.doc); err != nil || !may {
			if err != nil {
				yield(Block{}, err)
			}
			return
		}
		at, found := slices.BinarySearchFunc(l.list, after, Point.Compare)
		if found {
			at++
		}
		for _, p := range l.list[at:] {
			v, ok, err := tx.kv.Get(commitKey(l.coll, l.doc, p.Height, p.CID))
			if err == nil && !ok {
				err = errIndexed(p.CID)
			}
			var st stored
			if err == nil {
				st, err = parseStored(p.CID, v)
			}
			if !yield(Block{p.CID, l.doc, p.Height, st.envelope}, err) || err != nil {
				return
			}
		}
		if !l.rest {
			return
		}
		from := l.from
		if after.Compare(from) > 0 {
			from = after
		}
		// Behind the key of the point itself; the zero point is before all.
		lo := commitKey(l.coll, l.doc, from.Height, from.CID)
		if from != (Point{}) {
			lo = append(lo, 0)
		}
		_, hi := documentRange(l.coll, l.doc)
		if l.below > 0 {
			hi = commitKey(l.coll, l.doc, l.below, dag.CID{})
		}
		if l.below == 0 || from.Height < l.below {
			tx.blocks(lo, hi, yield)
		}
	}
}

package pando

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pandodb/pando/internal/radix"
	"github.com/pandodb/pando/internal/store"
)

// Part is a radix-Merkle tree over the documents of a collection that belong to all of
// some scopes: two nodes with equal roots hold the same documents there, with the same
// heads. It is kept in memory, and brought up to date by looking at the documents that
// changed. It is safe for concurrent use.
type Part struct {
	m *Matcher

	mu       sync.Mutex     // guards what follows; held during a refresh
	elements [256][]Element // by the first byte of the docID, each in order
	count    int
	tree     *radix.Tree
	set      *store.Set     // under which documents were judged; nil: none were
	seq      uint64         // of the feed: what changed up to there was looked at
	moved    map[DocID]bool // of a Follow: what belonged before, or belongs now

	// Of a view: what its reader was found to be in groups, and not to be, when documents
	// were judged by it, and these groups. Whoever joins or leaves one may read others of the
	// documents, none of which has changed.
	seats  map[store.Seat]bool
	groups map[DocID]bool

	size atomic.Int64 // what it takes
}

const (
	// partElement is what a document takes in a Part, with its share of the tree.
	partElement = 72
	// partOverhead is what a Part takes besides, and partSeat what a relation in a group.
	partOverhead = 16 << 10
	partSeat     = 160
	// partBehind is up to how many entries of the feed a Part is brought up to date by
	// looking at single documents. Behind more, all are found anew.
	partBehind = 1 << 16
)

// Part returns the tree over the documents that belong to all of some scopes. It is
// made when somebody asks for its root.
func (r *Replica) Part(coll CollectionID, scopes ...Scope) (*Part, error) {
	m, err := r.Matcher(coll, scopes...)
	if err != nil {
		return nil, err
	}
	return newPart(m), nil
}

func newPart(m *Matcher) *Part {
	p := &Part{m: m, tree: radix.New()}
	p.size.Store(partOverhead)
	return p
}

// Matcher returns what tells the documents of the part.
func (p *Part) Matcher() *Matcher { return p.m }

// Bytes returns about how much memory the part takes, as of the last Summary. It waits
// for nobody.
func (p *Part) Bytes() int64 { return p.size.Load() }

// Summary brings the part up to date, and says what the node holds of it.
func (p *Part) Summary(ctx context.Context) (Summary, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(ctx); err != nil {
		return Summary{}, err
	}
	return p.summary(), nil
}

// Fresh is Summary of a part that is up to date already.
func (p *Part) Fresh() (s Summary, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ok = p.fresh(); ok {
		s = p.summary()
	}
	return s, ok
}

func (p *Part) fresh() bool { return p.set == p.m.db.store.Schema() && p.seq == p.m.db.Seq() }

func (p *Part) summary() Summary {
	s := Summary{Collection: p.m.coll, Seq: p.seq}
	if plan := p.m.plan.Load(); plan != nil {
		s.Name = plan.coll.Name
	}
	s.Documents, s.Root = p.tree.Root()
	return s
}

// PartStep is what changed in a part between two looks at it.
type PartStep struct {
	After, Until uint64         // of the feed: the changes in between
	Docs         map[DocID]bool // that changed, and belonged before or belong now
	Anew         bool           // all was found anew, and nothing is known of before
}

// Follow brings the part up to date, and says what changed.
func (p *Part) Follow(ctx context.Context) (PartStep, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	step := PartStep{After: p.seq, Docs: map[DocID]bool{}}
	p.moved = step.Docs
	err := p.refresh(ctx)
	step.Anew = p.moved == nil
	step.Until, p.moved = p.seq, nil
	return step, err
}

// Node returns a node of the tree as of the last Summary; ok is false if the tree has
// none there.
func (p *Part) Node(_ context.Context, at Prefix) (n Node, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok = p.tree.Node(at)
	return n, ok, nil
}

// Elements yields the documents under a prefix as of the last Summary, in docID order.
func (p *Part) Elements(ctx context.Context, at Prefix) iter.Seq2[Element, error] {
	return func(yield func(Element, error) bool) {
		lo, hi := at.Range()
		for i := int(lo[0]); i <= int(hi[0]); i++ {
			p.mu.Lock()
			bucket := slices.Clone(between(p.elements[i], lo, hi)) // so that none is held up by a reader
			p.mu.Unlock()
			for _, e := range bucket {
				if !yield(e, context.Cause(ctx)) || ctx.Err() != nil {
					return
				}
			}
		}
	}
}

// Has reports whether a document belonged to the part at the last Summary.
func (p *Part) Has(doc DocID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := slices.BinarySearchFunc(p.elements[doc[0]], [32]byte(doc), byKey)
	return ok
}

func byKey(e Element, key [32]byte) int { return bytes.Compare(e.Key[:], key[:]) }

func between(list []Element, lo, hi [32]byte) []Element {
	from, _ := slices.BinarySearchFunc(list, lo, byKey)
	to, found := slices.BinarySearchFunc(list, hi, byKey)
	if found {
		to++
	}
	return list[from:to]
}

// refresh looks at what changed since the last time.
func (p *Part) refresh(ctx context.Context) error {
	if p.fresh() {
		return nil
	}
	defer func() { p.size.Store(partOverhead + partElement*int64(p.count) + partSeat*int64(len(p.seats))) }()
	now := p.m.db.Seq()
	if p.set != p.m.db.store.Schema() || now-p.seq > partBehind {
		return p.rebuild(ctx)
	}
	changed, regrouped := map[DocID]bool{}, false
	for c, err := range p.m.db.store.Log(ctx, store.System, p.seq) {
		if err != nil {
			return err
		}
		now = max(now, c.Seq)
		if c.Collection == p.m.coll {
			changed[c.Doc] = true
		}
		regrouped = regrouped || p.groups[c.Doc]
	}
	if same, err := p.look(ctx, changed, regrouped); err != nil || same {
		if err == nil {
			p.seq = now
		}
		return err
	}
	return p.rebuild(ctx)
}

// look judges some documents anew. It returns false if they are read otherwise now than
// those before them were, or by somebody who is in other groups.
func (p *Part) look(ctx context.Context, docs map[DocID]bool, regrouped bool) (same bool, err error) {
	list := make([]DocID, 0, len(docs))
	for id := range docs {
		list = append(list, id)
	}
	slices.SortFunc(list, DocID.Compare)
	same = true
	judged := p.m.read(ctx, func(tx *store.Tx, plan *matchPlan, yield func(Judged, error) bool) {
		if same = plan.set == p.set; same && regrouped {
			if same, err = p.sits(tx); err != nil {
				yield(Judged{}, err)
				return
			}
		}
		if same {
			p.m.some(ctx, tx, plan, list, yield)
			p.note(tx)
		}
	})
	for j, err := range judged {
		if err != nil {
			return false, err
		}
		p.put(j)
		delete(docs, j.Key)
	}
	if !same {
		return false, nil
	}
	for doc := range docs { // to a view those do not exist that the reader may not read
		p.put(Judged{Element: Element{Key: doc}})
	}
	return true, p.tree.Refresh(p.source)
}

// sits reports whether the reader is in groups what it was when documents were judged.
func (p *Part) sits(tx *store.Tx) (same bool, err error) {
	for s, was := range p.seats {
		if is, err := tx.Sits(s); err != nil || is != was {
			return false, err
		}
	}
	return true, nil
}

// note adds what was found out about groups. What is known already stays, whatever it is
// by now: others were judged by it, and the next look shows whether it changed.
func (p *Part) note(tx *store.Tx) {
	if p.m.by == nil {
		return
	}
	for s, is := range tx.Seats() {
		if _, known := p.seats[s]; !known {
			p.seats[s], p.groups[s.Group] = is, true
		}
	}
}

// put adds, changes or removes a document.
func (p *Part) put(j Judged) {
	bucket := &p.elements[j.Key[0]]
	i, found := slices.BinarySearchFunc(*bucket, j.Key, byKey)
	if p.moved != nil && (found || j.In) {
		p.moved[j.Key] = true
	}
	switch {
	case found && j.In:
		(*bucket)[i] = j.Element
	case found:
		*bucket = slices.Delete(*bucket, i, i+1)
		p.count--
	case j.In:
		*bucket = slices.Insert(*bucket, i, j.Element)
		p.count++
	default:
		return
	}
	p.tree.Touch(j.Key)
}

// rebuild finds all documents anew.
func (p *Part) rebuild(ctx context.Context) error {
	p.moved = nil
	seq := p.m.db.Seq() // before the snapshot, which has at least that
	seats, groups := p.seats, p.groups
	p.seats, p.groups = map[store.Seat]bool{}, map[DocID]bool{}
	var set *store.Set
	var found [256][]Element
	count := 0
	all := p.m.read(ctx, func(tx *store.Tx, plan *matchPlan, yield func(Judged, error) bool) {
		set = plan.set
		p.m.all(ctx, tx, plan, yield)
		p.note(tx)
	})
	for j, err := range all {
		if err != nil {
			p.seats, p.groups = seats, groups // as the documents that there are
			return err
		}
		found[j.Key[0]] = append(found[j.Key[0]], j.Element)
		count++
	}
	for i := range found {
		found[i] = slices.Clone(found[i]) // less what they grew by: there may be many views
	}
	p.elements, p.count, p.tree, p.set, p.seq = found, count, radix.New(), set, seq
	return p.tree.Refresh(p.source)
}

func (p *Part) source(lo, hi [32]byte) iter.Seq2[Element, error] {
	return func(yield func(Element, error) bool) {
		for i := int(lo[0]); i <= int(hi[0]); i++ {
			for _, e := range between(p.elements[i], lo, hi) {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

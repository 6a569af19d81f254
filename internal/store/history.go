package store

import (
	"bytes"
	"cmp"
	"iter"
	"slices"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
)

// Applied is a commit with what this node knows about its arrival. Its operations are
// all of them, those in encrypted segments too, if they open here; what its segments
// and its envelope hold stays as it is.
type Applied struct {
	*dag.Commit
	Collection *schema.Collection
	Seq        uint64 // in the feed of this node; 0 while its transaction is open
	Origin     string // the peer it came from; "" if it was made here
}

// load reads a stored commit.
func (tx *Tx) load(at place) (*dag.Commit, stored, error) {
	v, ok, err := tx.kv.Get(at.key())
	if err != nil {
		return nil, stored{}, err
	}
	if !ok {
		return nil, stored{}, errIndexed(at.cid)
	}
	return openStored(at, v)
}

func openStored(at place, v []byte) (*dag.Commit, stored, error) {
	st, err := parseStored(at.cid, v)
	if err != nil {
		return nil, st, err
	}
	cm, err := dag.Open(st.envelope)
	if err == nil && (cm.CID != at.cid || cm.Doc != at.doc || cm.Height != at.height) {
		err = fault.Corrupt.Errorf("it holds commit %s of document %s", cm.CID, cm.Doc)
	}
	if err != nil {
		return nil, st, fault.Corrupt.Errorf("commit %s: %w: run pando fsck", at.cid, err)
	}
	return cm, st, nil
}

// FindCommit returns an applied commit, or NotFound if it is not here, or is one of a
// document that the caller may not read.
func (tx *Tx) FindCommit(cid dag.CID) (Applied, error) {
	at, err := tx.find(cid)
	if err != nil {
		return Applied{}, err
	}
	a, err := tx.commitOf(at)
	if err != nil {
		return Applied{}, err
	}
	s := showing{tx: tx}
	return s.open(at.coll, a)
}

// find returns where a commit is, or NotFound as FindCommit does.
func (tx *Tx) find(cid dag.CID) (place, error) {
	at, ok, err := tx.where(cid)
	if err == nil && ok {
		ok, err = tx.mayRead(at.coll, at.doc)
	}
	if err == nil && !ok {
		err = fault.NotFound.Errorf("commit %s is not here", cid)
	}
	return at, err
}

// commitOf returns the commit that is at a place.
func (tx *Tx) commitOf(at place) (Applied, error) {
	if p, ok := tx.byCID[at.cid]; ok {
		return tx.ownCommit(p), nil
	}
	cm, st, err := tx.load(at)
	if err != nil {
		return Applied{}, err
	}
	return tx.describe(at, cm, st), nil
}

func (tx *Tx) ownCommit(p *pending) Applied {
	return Applied{Commit: p.commit, Collection: tx.collection(p.place.coll), Origin: p.origin}
}

func (tx *Tx) describe(at place, cm *dag.Commit, st stored) Applied {
	return Applied{cm, tx.collection(at.coll), st.seq, tx.s.peer(st.origin)}
}

func (tx *Tx) collection(n short) *schema.Collection {
	for m := range tx.set.members() {
		if m.short == n {
			return m.Collection
		}
	}
	return nil
}

// peer returns the name behind an origin's short number.
func (s *Store) peer(n uint64) string {
	if n == 0 {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[n]
}

// History yields the commits of a document in topological order: by height, then
// CID. It is empty for a document that does not exist, or that the caller may not read.
func (tx *Tx) History(c *schema.Collection, id dag.DocID) iter.Seq2[Applied, error] {
	return func(yield func(Applied, error) bool) {
		n, err := tx.short(c)
		if err != nil {
			yield(Applied{}, err)
			return
		}
		if may, err := tx.mayRead(n, id); err != nil || !may {
			if err != nil {
				yield(Applied{}, err)
			}
			return
		}
		tx.historyOf(n, id)(tx.shown(n, yield))
	}
}

// historyOf is History, whoever asks.
func (tx *Tx) historyOf(n short, id dag.DocID) iter.Seq2[Applied, error] {
	return func(yield func(Applied, error) bool) {
		tx.read(id)
		lo, hi := documentRange(n, id)
		var own []*pending
		if st := tx.staged[id]; st != nil && st.coll == n {
			own = slices.Clone(st.commits)
			slices.SortFunc(own, func(a, b *pending) int { return a.place.compare(b.place) })
		}
		tx.merged(lo, hi, own, func(place) (bool, error) { return true, nil }, yield)
	}
}

// Commits yields every commit of the documents of a collection that the caller may
// read, document by document in docID order, each in topological order, also those of
// the open transaction.
func (tx *Tx) Commits(c *schema.Collection) iter.Seq2[Applied, error] {
	return func(yield func(Applied, error) bool) {
		n, err := tx.short(c)
		if err != nil {
			yield(Applied{}, err)
			return
		}
		tx.scanned(n)
		var own []*pending
		for _, p := range tx.pending {
			if p.place.coll == n {
				own = append(own, p)
			}
		}
		slices.SortFunc(own, func(a, b *pending) int { return a.place.compare(b.place) })
		lo := collectionPrefix(tableCommit, n)
		f := follower{tx: tx}
		tx.merged(lo, after(lo), own, f.passes, tx.shown(n, yield))
	}
}

// compare orders places as their keys.
func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.coll, q.coll), bytes.Compare(p.doc[:], q.doc[:]),
		cmp.Compare(p.height, q.height), bytes.Compare(p.cid[:], q.cid[:]))
}

// merged yields the stored commits of a range and the transaction's own that pass, in
// the order of their keys.
func (tx *Tx) merged(lo, hi []byte, own []*pending, passes func(place) (bool, error), yield func(Applied, error) bool) {
	yieldOwn := func(p *pending) bool {
		may, err := passes(p.place)
		return err == nil && !may || yield(tx.ownCommit(p), err) && err == nil
	}
	for e, err := range tx.kv.Scan(lo, hi) {
		var at place
		if err == nil {
			at, err = parseCommitKey(e.Key)
		}
		if err != nil {
			yield(Applied{}, err)
			return
		}
		for len(own) > 0 && own[0].place.compare(at) < 0 {
			if !yieldOwn(own[0]) {
				return
			}
			own = own[1:]
		}
		var a Applied
		may, err := passes(at)
		if err == nil && !may {
			continue
		}
		if err == nil {
			a, err = tx.openApplied(at, slices.Clone(e.Value))
		}
		if !yield(a, err) || err != nil {
			return
		}
	}
	for _, p := range own {
		if !yieldOwn(p) {
			return
		}
	}
}

func (tx *Tx) openApplied(at place, v []byte) (Applied, error) {
	cm, st, err := openStored(at, v)
	if err != nil {
		return Applied{}, err
	}
	return tx.describe(at, cm, st), nil
}

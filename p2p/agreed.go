package p2p

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/radix"
)

// Two nodes that know different things of somebody's rights, or of which one holds
// documents that it may not read itself, show each other different documents of a
// collection with a policy, for ever. Each such difference is exchanged once. What is
// remembered of it says when it is worth looking at again: when the document changes,
// on either side.

// agreement is what is remembered of a document with one peer, as sums in the tree.
type agreement struct {
	given [32]byte // of here, when the peer had acknowledged all of it
	had   [32]byte // of there, when all of it was here
}

// agreements are those with all peers. Nothing of them outlives the process.
type agreements struct {
	mu    sync.Mutex // guards what follows
	with  map[sharing]map[dag.DocID]agreement
	docs  int // of all
	roots map[sharing]agreedRoots
}

// agreedRoots are two copies between which nothing was left to exchange.
type agreedRoots struct {
	mine, theirs rootSum
	at           time.Time
}

const (
	// maxAgreed bounds the documents that are remembered, 100 bytes each; maxAgreedOf
	// those of one copy of a collection. What is not remembered is exchanged again
	// when something else changes.
	maxAgreed   = 1 << 17
	maxAgreedOf = maxAgreed / 4
)

func newAgreements() *agreements {
	return &agreements{with: map[sharing]map[dag.DocID]agreement{}, roots: map[sharing]agreedRoots{}}
}

// agree notes that nothing is left to exchange between two copies as they are.
func (a *agreements) agree(s sharing, mine, theirs rootSum) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roots[s] = agreedRoots{mine, theirs, time.Now()}
}

// hold reports whether two copies are as they were when nothing was left to exchange.
// Now and then that is looked at again: a peer that lost its memory is none the wiser.
func (a *agreements) hold(s sharing, mine, theirs rootSum) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.roots[s]
	return ok && r.mine == mine && r.theirs == theirs && time.Since(r.at) < laterMost
}

// note changes what is remembered of a document.
func (a *agreements) note(s sharing, doc dag.DocID, how func(*agreement)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old, known := a.with[s][doc]
	if !known {
		if a.docs >= maxAgreed || len(a.with[s]) >= maxAgreedOf {
			return
		}
		a.docs++
	}
	if a.with[s] == nil {
		a.with[s] = map[dag.DocID]agreement{}
	}
	how(&old)
	a.with[s][doc] = old
}

// full reports whether no more documents of a copy can be remembered.
func (a *agreements) full(s sharing) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.docs >= maxAgreed || len(a.with[s]) >= maxAgreedOf
}

// reopen forgets what was had of a document, which the peer has yet to be told of.
func (a *agreements) reopen(s sharing, doc dag.DocID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old, known := a.with[s][doc]; known {
		old.had = [32]byte{}
		a.with[s][doc] = old
	}
	delete(a.roots, s)
}

func (a *agreements) of(s sharing, doc dag.DocID) agreement {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.with[s][doc]
}

// forget drops what is known of peers that are gone.
func (a *agreements) forget(gone func(sharing) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s, docs := range a.with {
		if gone(s) {
			a.docs -= len(docs)
			delete(a.with, s)
		}
	}
	maps.DeleteFunc(a.roots, func(s sharing, _ agreedRoots) bool { return gone(s) })
}

// agreed is what a walk knows of earlier exchanges with its peer.
type agreed struct {
	*agreements
	sharing
	here local // all that is here, and not only what the peer may read
}

// given reports whether the peer has a document as it is here.
func (a *agreed) given(e radix.Element) bool { return a.of(a.sharing, e.Key).given == e.Sum }

// agreed returns what a session knows of earlier exchanges about a collection with a
// policy, nil if it has none.
func (s *session) agreed(p pair) *agreed {
	if !s.n.protected(p.id) {
		return nil
	}
	return &agreed{s.n.agreements, sharing{s.peer, p.id}, s.n.side(p.id)}
}

// sortUnseen looks what is here of the documents of a leaf that the peer shows, and may
// not read itself by what is known here. Some are the same, or were exchanged: it takes
// them out of what is unseen. The others are asked for like what is not here.
func (w *walker) sortUnseen(p radix.Prefix, unseen map[short][]short, mine map[short][]radix.Element) error {
	left := 0
	for key, sums := range unseen {
		left += max(0, len(sums)-len(mine[key]))
	}
	if left == 0 {
		return nil
	}
	for e, err := range w.agreed.here.Elements(w.ctx, p) {
		if err != nil {
			return err
		}
		key := keyPart(p, e.Key)
		if len(unseen[key]) == 0 || slices.ContainsFunc(mine[key], func(m radix.Element) bool { return m.Key == e.Key }) {
			continue
		}
		had := e
		had.Sum = w.agreed.of(w.agreed.sharing, e.Key).had
		if remove(unseen, key, w.salt.element(e)) {
			// It stays so when the document changes here, which the peer does not hear.
			w.agreed.note(w.agreed.sharing, e.Key, func(a *agreement) { a.had = e.Sum })
		} else {
			remove(unseen, key, w.salt.element(had))
		}
	}
	return nil
}

// sumOf is that of a document with some heads, as it stands in the tree.
func sumOf(doc dag.DocID, heads []dag.CID) (sum [32]byte) {
	heads = slices.Clone(heads)
	slices.SortFunc(heads, dag.CID.Compare)
	h := sha256.New()
	h.Write(doc[:])
	for _, c := range heads {
		h.Write(c[:])
	}
	h.Sum(sum[:0])
	return sum
}

// fetchShown gets what is new of documents that the peer shows, and is not shown here, by
// the beginnings of their IDs. Whether one is here shows in no question: what the peer has
// of it is asked for first, and then what is not here of that.
func (s *session) fetchShown(p pair, shown [][]byte) error {
	shown = slices.Clone(shown)
	slices.SortFunc(shown, bytes.Compare)
	for part := range slices.Chunk(shown, maxItems) {
		there, err := s.headsOf(p, part)
		if err != nil {
			return err
		}
		var items []item
		for _, d := range there {
			left, err := s.n.lacking(s.ctx, d.Heads)
			if err != nil {
				return err
			}
			if len(left) > 0 {
				items = append(items, lackingOf(d, left))
			}
		}
		if err := s.fetchItems(p, items); err != nil {
			return err
		}
		for _, d := range there {
			if _, err := s.had(p, d); err != nil {
				return err
			}
			if all, known := s.partings(p, d); !known || !s.n.sayFarewell(s.peer, p.id, d.Doc, all) {
				s.n.agreements.reopen(sharing{s.peer, p.id}, d.Doc)
			}
		}
	}
	return nil
}

// had reports whether all that the peer has of a document is here, and remembers it. Of a
// document with as many heads as can be shown there may be more.
func (s *session) had(p pair, d docHeads) (bool, error) {
	if len(d.Heads) >= maxShownHeads {
		return false, nil
	}
	left, err := s.n.lacking(s.ctx, d.Heads)
	if err != nil || len(left) > 0 || len(d.Heads) == 0 {
		return false, err
	}
	sum := sumOf(d.Doc, d.Heads)
	s.n.agreements.note(sharing{s.peer, p.id}, d.Doc, func(a *agreement) { a.had = sum })
	return true, nil
}

// news returns how many of the documents that the peer shows, and is not shown here, have
// something that is not here, or are such that the peer has yet to be told that it may read
// them no more: what was changed since the peer lost sight of it is neither.
func (s *session) news(p pair, shown [][]byte) (n int, err error) {
	shown = slices.Clone(shown)
	slices.SortFunc(shown, bytes.Compare)
	n = len(shown)
	for part := range slices.Chunk(shown, maxItems) {
		there, err := s.headsOf(p, part)
		if err != nil {
			return n, err
		}
		for _, d := range there {
			all, known := s.partings(p, d)
			if !known || len(all) > 0 {
				continue
			}
			if had, err := s.had(p, d); err != nil {
				return n, err
			} else if had {
				n--
			}
		}
	}
	return max(0, n), nil
}

// partings returns what the peer is to be told last of a document that it shows, if it may
// read that no more. It is not known of more documents than a session may ask about.
func (s *session) partings(p pair, d docHeads) (all []dag.CID, known bool) {
	to := s.n.reader(s.peer, p.id)
	own, err := s.n.replica.Heads(s.ctx, p.id, d.Doc)
	if err != nil || len(own) == 0 || sumOf(d.Doc, own) == sumOf(d.Doc, d.Heads) {
		return nil, true
	}
	if may, err := to.may(s.ctx, d.Doc); err != nil || may {
		return nil, true
	}
	if s.parted == maxFarewells {
		return nil, false
	}
	s.parted++
	return s.n.partings(s.ctx, s.peer, p.id, d.Doc, to.by, d.Heads), true
}

// lackingOf asks for heads of a document that a peer shows, less what is here of them.
func lackingOf(d docHeads, left []dag.CID) item {
	lacks := make(map[dag.CID]bool, len(left))
	for _, c := range left {
		lacks[c] = true
	}
	it := item{Doc: bytesOf(d.Doc), Want: left}
	it.holds(slices.DeleteFunc(slices.Clone(d.Heads), func(c dag.CID) bool { return lacks[c] }), nil)
	if len(left) > maxHeads {
		it.Want = nil // all
	}
	return it
}

// headsOf learns what the peer has of documents whose IDs begin with some bytes, sorted.
func (s *session) headsOf(p pair, shown [][]byte) (there []docHeads, err error) {
	items := make([]item, len(shown))
	for i, first := range shown {
		items[i] = item{Doc: first, Want: nothing}
	}
	_, err = s.n.fetch(s.ctx, s.peer, p.id, items, func(h *heads) {
		for _, d := range h.Documents {
			at, _ := slices.BinarySearchFunc(shown, d.Doc[:], func(first, doc []byte) int {
				if bytes.HasPrefix(doc, first) {
					return 0
				}
				return bytes.Compare(first, doc)
			})
			if at < len(shown) && bytes.HasPrefix(d.Doc[:], shown[at]) { // of others nothing was asked
				there = append(there, d)
			}
		}
	})
	if err == nil && len(there) == 0 && len(shown) >= leafDocuments {
		err = s.emptyHanded(len(shown))
	}
	return there, err
}

// fetchItems gets commits of documents that the peer shows.
func (s *session) fetchItems(p pair, items []item) error {
	if len(items) == 0 {
		return nil
	}
	for _, some := range split(items) {
		got, err := s.n.fetchSome(s.ctx, s.peer, p.id, some, nil)
		s.fetched(p, got)
		if err == nil && got.nothing() && len(some) >= leafDocuments {
			err = s.emptyHanded(len(some))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// emptyHanded blames the peer for what it shows and does not give.
func (s *session) emptyHanded(documents int) error {
	s.n.blame(s.peer, blameUseless, "it does not give what its tree shows")
	return fault.Unavailable.Errorf("none of %d documents that the peer shows came", documents)
}

// give is push of documents that the peer does not show, with their sums: what it
// acknowledges of them it has from then on, whether it shows it or not. pushed are the sums
// of all that is pushed, if single ones can be refused.
func (s *session) give(p pair, mark uint64, sums, pushed map[dag.DocID][32]byte, fill func(*sender) error) error {
	v := s.report.Collections[p.id]
	v.Complete = false
	answer, err := s.deliver(p, mark, fill)
	if err != nil {
		return err
	}
	if pushed == nil {
		s.refused(p, answer)
	} else if answer.Missing > 0 && answer.Applied == 0 {
		s.n.later.refusedDocs(sharing{s.peer, p.id}, pushed)
		s.early[p.id] = true
	}
	if !v.Complete {
		return nil
	}
	for doc, sum := range sums {
		s.n.agreements.note(sharing{s.peer, p.id}, doc, func(a *agreement) { a.given = sum })
	}
	return nil
}

// sumsOf returns how documents stand here.
func (s *session) sumsOf(p pair, docs []dag.DocID) (map[dag.DocID][32]byte, error) {
	sums := make(map[dag.DocID][32]byte, len(docs))
	for _, doc := range docs {
		heads, err := s.n.replica.Heads(s.ctx, p.id, doc)
		if err != nil {
			return nil, err
		}
		sums[doc] = sumOf(doc, heads)
	}
	return sums, nil
}

// notRefused takes out of a difference what the peer could do nothing with lately. Of a
// collection with a policy it returns the sums of the rest.
func (s *session) notRefused(p pair, found difference) (difference, map[dag.DocID][32]byte, error) {
	here := sharing{s.peer, p.id}
	if !s.n.protected(p.id) {
		if s.n.later.refuses(here) {
			found.Mine, found.Both = nil, nil
		}
		return found, nil, nil
	}
	sums, err := s.sumsOf(p, slices.Concat(found.Mine, found.Both))
	if err != nil {
		return found, nil, err
	}
	drop := func(doc dag.DocID) bool { return !s.n.later.takes(here, doc, sums[doc]) }
	found.Mine = slices.DeleteFunc(slices.Clone(found.Mine), drop)
	found.Both = slices.DeleteFunc(slices.Clone(found.Both), drop)
	maps.DeleteFunc(sums, func(doc dag.DocID, _ [32]byte) bool { return drop(doc) })
	given := map[dag.DocID][32]byte{}
	for _, doc := range found.Mine {
		if sum, ok := found.sums[doc]; ok {
			given[doc] = sum
		}
	}
	found.sums = given
	return found, sums, nil
}

// agrees notes that nothing is left to exchange of two copies, though they differ: what
// differs is what one of the two may not read, as the other knows it.
func (s *session) agrees(p pair) {
	s.n.agreements.agree(sharing{s.peer, p.id}, p.mine.Root, p.theirs.Root)
	s.settles(p)
}

// settles takes two copies for the same, as far as both sides may read them.
func (s *session) settles(p pair) {
	v := s.report.Collections[p.id]
	v.Equal, v.Alike, v.Apart = true, true, true
	s.n.contacts.compared(sharing{s.peer, p.id}, true)
	if p.narrowed == nil {
		s.n.equals(s.peer, p.id, p.theirs, s.since)
	}
}

// apart reports whether copies differ only by what one of the two sides may not read.
func (s *session) apart(ps []pair) bool {
	return !slices.ContainsFunc(ps, func(p pair) bool { return !s.report.Collections[p.id].Apart })
}

// walker returns what compares a tree of this side with that of the peer.
func (s *session) walker(p pair, side local, limit int) *walker {
	w := &walker{ctx: s.ctx, local: side, salt: newSalt(s.mine.Nonce, s.theirs.Nonce), limit: limit, agreed: s.agreed(p)}
	if w.agreed != nil {
		w.found.sums = map[dag.DocID][32]byte{}
	}
	return w
}

// walkAgreed is walkUpTo in a collection with a policy. Of a peer with which there are more
// differences that stay than can be remembered, few are looked at, others each time.
func (s *session) walkAgreed(p pair, limit int) (difference, error) {
	if s.n.agreements.full(sharing{s.peer, p.id}) {
		limit = min(limit, maxFoundUnnoted)
	}
	return s.walkUpTo(p, limit)
}

// walkUpTo compares a collection until so many documents were found.
func (s *session) walkUpTo(p pair, limit int) (difference, error) {
	side, err := s.n.reader(s.peer, p.id).side(s.ctx)
	if err != nil {
		return difference{}, err
	}
	w := s.walker(p, side, limit)
	err = w.run(s.asker(p))
	return w.found, err
}

// walkToGive is walkUpTo for a session that takes nothing: it looks for what the peer
// lacks alone, of which there is no more than is here.
func (s *session) walkToGive(p pair) (difference, error) {
	side, err := s.n.reader(s.peer, p.id).side(s.ctx)
	if err != nil {
		return difference{}, err
	}
	w := s.walker(p, side, math.MaxInt)
	w.giving = true
	err = w.run(s.asker(p))
	return w.found, err
}

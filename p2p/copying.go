package p2p

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/radix"
)

// How a session has others help: what it is to get of its peer, it gets of all that
// have it.

const (
	// sharedDocuments is from how many documents on a copy, and from how many differing
	// ones a difference, is shared among peers: less is here before a second one is asked.
	sharedDocuments = 512
	// stillThere is how often a peer is reminded of a session whose work is done over
	// other streams.
	stillThere = 30 * time.Second
)

// await joins the convoy that gets a collection already, with the peer of this session
// as one more to ask, and reports whether it is worth waiting for, which it did for a
// while. What the peer has besides, the next round finds.
func (s *session) await(p pair, co *convoy) bool {
	if s.n.givesParts(s.peer) && !s.n.blamed(s.peer) && p.theirs.Count >= co.count/2 {
		co.add(s.peer)
	}
	if !co.awaited(s.peer) {
		return false
	}
	s.waits++
	t := time.NewTimer(stillThere)
	defer t.Stop()
	select {
	case <-co.done:
	case <-t.C:
	case <-s.ctx.Done():
	}
	return true
}

// maxWaits is how many rounds of a session may pass with waiting for a convoy.
const maxWaits = 120

// idle keeps the peer from taking a session for dead while nothing goes over its
// stream: it asks for no nodes, which has no answer.
func (s *session) idle(p pair) func() error {
	last := time.Now()
	return func() error {
		if time.Since(last) < stillThere {
			return nil
		}
		last = time.Now()
		return s.w.send(&getNodes{p.index, 1, []radix.Prefix{}})
	}
}

// shares reports whether so many documents are got of several peers. Those may come
// while it is under way.
func (s *session) shares(p pair, documents uint64) bool {
	return documents >= sharedDocuments && p.narrowed == nil && !s.n.protected(p.id) && !s.w.limited && s.n.givesParts(s.peer) && !s.n.blamed(s.peer)
}

// helped reports whether there are others to ask, or some are asked already.
func (s *session) helped(p pair) bool {
	return s.n.convoyOf(p.id) != nil || len(s.n.sources(p.id, s.peer, p.theirs.Count)) > 0
}

// shown notes what a peer says of a collection in its greeting.
func (n *Node) shown(p peer.ID, id dag.CollectionID, theirs card) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.companions[p]; c != nil {
		if c.cards == nil {
			c.cards = map[dag.CollectionID]card{}
		}
		c.cards[id] = theirs
	}
}

// copiesFor is when a peer that wants to push all it has may try again: by then it is
// asked for it.
const copiesFor = 2 * time.Second

// leaves reports whether a collection is not pushed whole to a peer: it asks itself, so
// that it comes from several members at once, and from none twice.
func (s *session) leaves(p pair) bool {
	return s.shares(p, p.mine.Count) && p.mine.Count > fullFactor*p.theirs.Count
}

// asksItself sees to it that this node asks for a collection that the peer will not push.
func (s *service) asksItself(id dag.CollectionID, mine, theirs card) {
	if mine.ofPart() || theirs.ofPart() || s.n.protected(id) || theirs.Count < sharedDocuments || theirs.Count <= fullFactor*mine.Count {
		return
	}
	if c, err := s.n.companion(s.peer); err == nil && s.w.version >= versionOfParts {
		c.next.Set(0)
	}
}

// comes reports whether all that a peer is about to push comes already, by a convoy.
func (s *service) comes(id dag.CollectionID) bool {
	mine, theirs := s.mine.cards[id], s.their[id]
	return !mine.ofPart() && !theirs.ofPart() && theirs.Count > fullFactor*mine.Count && s.n.convoyOf(id) != nil
}

// convoy gets jobs of the peer and others. If somebody gets the collection already, as a
// session with another peer that began at the same moment, it waits for that instead;
// where that is not worth it, it is not done: then this session is on its own.
func (s *session) convoy(p pair, fill func(*convoy)) (ran, done bool, err error) {
	co := s.n.newConvoy(s.ctx, p.id, s.peer, p.theirs.Count)
	tell := Progress{Collection: p.id, Total: p.theirs.Count}
	co.tell = func(documents, commits, bytes int) {
		tell.Documents += uint64(documents)
		tell.Commits += uint64(commits)
		tell.Bytes += uint64(bytes)
		if s.errand.progress != nil {
			s.errand.progress(tell)
		}
	}
	fill(co)
	got, ran, err := co.run(s.idle(p))
	s.report.Applied += got.Applied
	s.report.Bytes += got.Bytes
	if ran {
		return true, true, err
	}
	other := s.n.convoyOf(p.id)
	return false, other == nil || s.await(p, other), nil
}

// copyShared is pullFull of several peers.
func (s *session) copyShared(p pair, after *dag.DocID) (done bool, err error) {
	ran, done, err := s.convoy(p, func(co *convoy) {
		co.ranges = ranges(p.theirs.Count, after)
		for _, r := range co.ranges {
			co.queue(r)
		}
		co.noted = func() { s.noteCopied(p, co.ranges) }
	})
	if ran && err == nil {
		s.n.cursors.set(s.peer, p.id, cursor{epoch: p.theirs.Epoch})
	}
	return done, err
}

// noteCopied remembers how far a copy has come without a gap, to go on from there.
func (s *session) noteCopied(p pair, all []*rangePiece) {
	for _, r := range all {
		if r.settled() {
			continue
		}
		if at, _ := r.now(); at != nil {
			s.n.cursors.set(s.peer, p.id, cursor{epoch: p.theirs.Epoch, token: at})
		}
		return
	}
}

// fetchShared fetches what a walk found of several peers. there is told the heads of
// the session's peer.
func (s *session) fetchShared(p pair, found difference, there map[dag.DocID][]dag.CID) (done bool, err error) {
	if err := s.askHeads(p, found.Both, there); err != nil {
		return false, err
	}
	var jobs []*itemsPiece
	add := func(items []item, tops map[dag.DocID]uint64) {
		for _, part := range split(items) {
			jobs = append(jobs, &itemsPiece{items: part, heads: there, tops: tops})
		}
	}
	for start := 0; start < len(found.Both); start += itemsAtOnce {
		docs := found.Both[start:min(start+itemsAtOnce, len(found.Both))]
		items, err := s.n.itemsFor(s.ctx, s.peer, p.id, docs)
		if err != nil {
			return false, err
		}
		tops := map[dag.DocID]uint64{}
		for _, doc := range docs {
			l, err := s.n.replica.Lacking(s.ctx, p.id, pando.Want{Doc: doc})
			if err != nil {
				return false, err
			}
			tops[doc] = l.Top
		}
		add(items, tops)
	}
	for start := 0; start < len(found.Theirs); start += itemsAtOnce {
		var items []item
		for _, prefix := range found.Theirs[start:min(start+itemsAtOnce, len(found.Theirs))] {
			items = append(items, item{Doc: prefix})
		}
		add(items, nil)
	}
	_, done, err = s.convoy(p, func(co *convoy) {
		for _, j := range jobs {
			co.queue(j)
		}
	})
	return done, err
}

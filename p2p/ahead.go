package p2p

import (
	"github.com/pandodb/pando/internal/dag"
)

// What a peer is known to lack is sent before it asks: the cursor in the first HELLO of
// a stream says what it has of the answerer's feed, so the answer goes on with the log
// from there. So a node that returns after a short absence has everything after one
// round trip. Both sides see from the two cards alone whether a log follows.

// versionOfAhead is the first version of the protocol that sends ahead.
const versionOfAhead = 2

// maxAhead is up to how many entries of a feed are sent ahead: more may be there by
// other ways already, which asking for it would find out.
const maxAhead = 1024

// ahead reports whether an answerer sends its log of a collection ahead.
func ahead(asker, answerer card) bool {
	p := pair{mine: asker, theirs: answerer}
	return !asker.ofPart() && !answerer.ofPart() && !p.unsaid() && !p.equal() &&
		asker.Cursor > 0 && asker.YourEpoch == answerer.Epoch &&
		answerer.Seq > asker.Cursor && answerer.Seq-asker.Cursor <= maxAhead
}

// wantsAhead reports whether this session has use for what is sent ahead of a
// collection, if anything is. If not, its card keeps the cursor to itself.
func (s *session) wantsAhead(id dag.CollectionID) bool {
	if s.mine != nil || s.w.version < versionOfAhead || s.n.keepsPart(s.peer, id) {
		return true // nothing is
	}
	return !s.errand.probe && !s.errand.pushOnly && !s.w.limited &&
		(s.errand.only == nil || s.errand.only[id]) &&
		!s.n.later.any(sharing{s.peer, id}) && s.n.convoyOf(id) == nil
}

// takeAhead merges what follows the first answer, and reports whether anything did.
func (s *session) takeAhead(ps *proofs) (came bool, err error) {
	seen := map[dag.CollectionID]bool{}
	for i, e := range s.theirs.Entries {
		c, ok := ps.theirs[e.Proof]
		m, asked := s.mine.cards[c.id]
		if !ok || !asked || seen[c.id] {
			continue
		}
		seen[c.id] = true
		p := pair{id: c.id, index: uint64(i), mine: m, theirs: s.n.lifted(s.peer, e, c, s.theirs.Nonce)}
		if !ahead(m, p.theirs) {
			continue
		}
		came = true
		s.w.about(p.id)
		if err := s.takeLog(p, m.Cursor); err != nil {
			return came, err
		}
	}
	return came, nil
}

// sendAhead goes on after the first answer on a stream with what the peer is known to
// lack.
func (s *service) sendAhead() error {
	sent := map[dag.CollectionID]bool{}
	for _, id := range s.mine.ids {
		theirs, mine := s.their[id], s.mine.cards[id]
		if sent[id] || !ahead(theirs, mine) {
			continue
		}
		sent[id] = true
		if s.n.crosses(s.peer) {
			return busyOtherWay
		}
		s.w.about(id)
		if err := s.sendLog(id, theirs.Cursor, mine.Seq); err != nil {
			return err
		}
	}
	return nil
}

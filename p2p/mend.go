package p2p

import (
	"io"
	"slices"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/radix"
)

// How a session brings two copies of a collection together: by the log, in full, or by
// comparing their trees.

// mend brings two copies of a collection together, by the means that fit what is
// known. Whatever it leaves open, the next round compares again.
func (s *session) mend(p pair) error {
	s.w.about(p.id)
	if busy := s.n.convoyOf(p.id); busy != nil && !s.errand.pushOnly && p.narrowed == nil && s.await(p, busy) {
		return nil
	}
	s.got = false
	if err := s.knock(p); err != nil {
		return err
	}
	try := s.tried[p.id]
	s.tried[p.id]++
	s.early[p.id] = s.n.later.any(sharing{s.peer, p.id})
	if p.narrowed != nil {
		return s.mendPart(p)
	}
	own, held := s.n.cursors.get(s.peer, p.id), p.mine.Count
	limited := s.n.protected(p.id) // the cards tell what the other may read, and not what is here
	if limited {
		all, err := s.n.replica.Summary(s.ctx, p.id)
		if err != nil {
			return err
		}
		held = all.Documents
	}
	switch {
	case s.early[p.id]:
		return s.compareTrees(p) // which can leave out what is postponed
	case try == 0 && p.theirs.Count > fullFactor*held && !s.errand.pushOnly:
		defer s.yields()()
		return s.pullFull(p, own)
	case s.leaves(p):
		s.report.Collections[p.id].Asks = true
		return s.leave(p)
	case try == 0 && p.mine.Count > fullFactor*p.theirs.Count && !limited:
		defer s.yields()()
		return s.push(p, p.mine.Seq, func(out *sender) error { return out.sendFull(s.ctx, dag.DocID{}) })
	case try > 0:
		return s.compareTrees(p)
	}
	pull := own.seq > 0 && own.epoch == p.theirs.Epoch && p.theirs.Seq-own.seq <= maxLog && !s.errand.pushOnly
	push := p.theirs.Cursor > 0 && p.theirs.YourEpoch == p.mine.Epoch && p.mine.Seq-p.theirs.Cursor <= maxLog
	if !pull && !push {
		return s.compareTrees(p)
	}
	if pull {
		if err := s.pullLog(p, own); err != nil {
			return err
		}
	}
	if push {
		return s.pushLog(p)
	}
	return nil
}

// pushLog pushes what is in this node's feed since the peer was there last.
func (s *session) pushLog(p pair) error {
	answer, err := s.deliver(p, p.mine.Seq, func(out *sender) error {
		return out.sendLog(s.ctx, p.theirs.Cursor, p.mine.Seq)
	})
	if err == nil && !s.n.protected(p.id) { // there it may lack what came before it could read a document
		s.refused(p, answer)
	}
	return err
}

// yields lets everything else go first, unless somebody waits, until the function
// that it returns is called.
func (s *session) yields() func() {
	before := s.ctx
	if laneOf(before) != interactive {
		s.ctx = inLane(before, backfill)
	}
	return func() { s.ctx = before }
}

func (s *session) pullLog(p pair, own cursor) error {
	if err := s.w.send(&getLog{p.index, own.seq}); err != nil {
		return err
	}
	return s.takeLog(p, own.seq)
}

// takeLog merges the peer's log of a collection after a number of its feed.
func (s *session) takeLog(p pair, after uint64) error {
	got, err := s.receive(p, nil)
	if err != nil {
		return err
	}
	if got.complete() && got.Mark > after {
		s.n.cursors.set(s.peer, p.id, cursor{epoch: p.theirs.Epoch, seq: got.Mark})
	}
	return nil
}

// pullFull copies everything, and goes on where an earlier copy was cut.
func (s *session) pullFull(p pair, own cursor) error {
	ask := &getFull{Collection: p.index}
	if own.epoch == p.theirs.Epoch {
		ask.After = own.token
	}
	if s.shares(p, sharedDocuments) { // however few they are: of several sessions one is enough
		if done, err := s.copyShared(p, ask.After); done || err != nil {
			return err
		}
	}
	if err := s.w.send(ask); err != nil {
		return err
	}
	got, err := s.receive(p, func(b *blocks, m pando.Merged) error {
		if b.Done != nil {
			s.n.cursors.set(s.peer, p.id, cursor{epoch: p.theirs.Epoch, token: b.Done})
		}
		return nil
	})
	if err != nil {
		return err
	}
	next := cursor{epoch: p.theirs.Epoch}
	if got.complete() && ask.After == nil {
		next.seq = p.theirs.Seq
	}
	s.n.cursors.set(s.peer, p.id, next)
	return nil
}

// receive merges what the peer sends and keeps the books.
func (s *session) receive(p pair, each func(*blocks, pando.Merged) error) (intake, error) {
	tell := Progress{Collection: p.id, Total: p.theirs.Count}
	got, err := s.n.receiveBlocks(s.ctx, s.w, s.peer, p.id, func(b *blocks, m pando.Merged) error {
		tell.Commits += uint64(len(b.Envelopes))
		tell.Documents += b.Documents
		tell.Bytes = s.w.bytes()
		if s.errand.progress != nil {
			s.errand.progress(tell)
		}
		if each != nil {
			return each(b, m)
		}
		return nil
	})
	s.report.Applied += got.Applied
	s.early[p.id] = s.early[p.id] || got.Deferred > 0
	s.n.wantMissing(s.peer, p.id, got.Missing)
	return got, err
}

// push sends commits and waits until they are merged there. Then the peer holds
// all of this node's feed up to mark; 0 says nothing.
func (s *session) push(p pair, mark uint64, fill func(*sender) error) error {
	answer, err := s.deliver(p, mark, fill)
	if err == nil {
		s.refused(p, answer)
	}
	return err
}

// refused notes that the peer could do nothing with what was pushed, if so.
func (s *session) refused(p pair, answer *ack) {
	if answer.Missing > 0 && answer.Applied == 0 {
		s.n.later.refused(sharing{s.peer, p.id})
		s.early[p.id] = true
	}
}

// deliver sends commits and waits for the answer.
func (s *session) deliver(p pair, mark uint64, fill func(*sender) error) (*ack, error) {
	if err := s.w.send(&push{p.index}); err != nil {
		return nil, err
	}
	out := s.n.reader(s.peer, p.id).sender(s.ctx, s.w)
	err := fill(out)
	if err == nil {
		err = out.end(mark)
	}
	if err != nil {
		// The peer may have said why it does not read on.
		s.w.patient = courtesyDelay
		if _, why := s.w.receive(); fault.Of(why) != nil && why != io.EOF {
			return nil, s.notTaken(p, why)
		}
		return nil, err
	}
	s.w.patient = ackTimeout
	defer func() { s.w.patient = frameTimeout }()
	answer, err := expect[*ack](s.w)
	s.report.Sent += int(out.commits)
	if err != nil {
		return nil, s.notTaken(p, err)
	}
	s.able(p.id)
	s.report.Taken += int(min(answer.Applied, out.commits))
	s.report.Collections[p.id].Complete = answer.Missing == 0
	if answer.Missing == 0 && mark > 0 {
		s.report.Collections[p.id].Acked = true
	}
	return answer, nil
}

// maxShared is how often a session asks others for what differs before it asks its
// peer alone.
const maxShared = 2

// compareTrees finds the documents that differ, fetches what is lacking here and
// pushes what is lacking there.
func (s *session) compareTrees(p pair) error {
	found, err := s.walk(p)
	if err != nil {
		return err
	}
	here := sharing{s.peer, p.id}
	early, moved := s.n.later.filter(here, &found), s.report.Applied+s.report.Taken
	defer func() {
		refuses := s.n.later.refuses(here) && len(found.Mine)+len(found.Both) > 0
		if (early > 0 || refuses) && s.report.Applied+s.report.Taken == moved && !found.Cut {
			s.n.later.rest(here, p.mine.Root, p.theirs.Root)
		}
	}()
	s.got = !found.Cut && early == 0
	if s.n.protected(p.id) && found.size() == 0 && s.got && !s.errand.pushOnly {
		s.agrees(p)
		return nil
	}
	mark := p.mine.Seq
	if early > 0 {
		mark = 0
	}
	if found.Cut {
		s.cut, mark = true, 0
	}
	there, shared := map[dag.DocID][]dag.CID{}, false
	if !s.errand.pushOnly && s.tried[p.id] <= maxShared && s.shares(p, uint64(len(found.Both)+len(found.Theirs))) && s.helped(p) {
		if shared, err = s.fetchShared(p, found, there); err != nil {
			return err
		}
		s.early[p.id] = s.early[p.id] || s.n.later.any(here)
	}
	if shared {
		// All who have it were asked.
	} else if !s.errand.pushOnly {
		seen := found
		if s.n.protected(p.id) {
			seen.Theirs = nil
		}
		got, err := s.n.fetchDifference(s.ctx, s.peer, p.id, seen, func(h *heads) {
			for _, d := range h.Documents {
				there[d.Doc] = d.Heads
			}
		})
		s.fetched(p, got)
		if err == nil && seen.Theirs == nil {
			err = s.fetchShown(p, found.Theirs)
		}
		if err != nil {
			return err
		}
	} else if err := s.askHeads(p, found.Both, there); err != nil {
		return err
	}
	open := s.n.later.without(here, found)
	defer func() {
		if s.n.later.refuses(here) {
			open.Mine, open.Both = nil, nil
		}
		s.found += open.size()
	}()
	push, sums, err := s.notRefused(p, found)
	if err != nil {
		return err
	}
	all, left := len(found.Mine)+len(found.Both), len(push.Mine)+len(push.Both)
	if left == 0 && (all > 0 || !s.errand.pushOnly || !s.n.protected(p.id) && s.n.later.refuses(here)) {
		return nil
	}
	if left < all {
		mark = 0
	}
	return s.pushFound(p, mark, push, sums, there)
}

// pushFound pushes the documents that a walk found here, with their sums, less what is there.
func (s *session) pushFound(p pair, mark uint64, found difference, sums map[dag.DocID][32]byte, there map[dag.DocID][]dag.CID) error {
	mine := func(out *sender) error {
		for _, doc := range found.Mine {
			if err := out.sendDocument(s.ctx, pando.Want{Doc: doc}); err != nil {
				return err
			}
		}
		return nil
	}
	if s.n.protected(p.id) && len(found.Mine) > 0 && len(found.Both) > 0 {
		// By itself: the answer does not say which of all lacked something, and what the
		// peer does not show, for this side may not read it there, lacks nothing.
		if err := s.give(p, 0, found.sums, only(sums, found.Mine), mine); err != nil {
			return err
		}
		if !s.report.Collections[p.id].Complete {
			mark = 0
		}
		found.Mine, found.sums, sums = nil, nil, only(sums, found.Both)
	}
	return s.give(p, mark, found.sums, sums, func(out *sender) error {
		if err := mine(out); err != nil {
			return err
		}
		for _, doc := range found.Both {
			if err := out.sendDocument(s.ctx, pando.Want{Doc: doc, Have: there[doc]}); err != nil {
				return err
			}
		}
		return nil
	})
}

// only returns the sums of some documents.
func only(sums map[dag.DocID][32]byte, docs []dag.DocID) map[dag.DocID][32]byte {
	some := make(map[dag.DocID][32]byte, len(docs))
	for _, doc := range docs {
		some[doc] = sums[doc]
	}
	return some
}

// fetched keeps the books of what was fetched because it differed.
func (s *session) fetched(p pair, got intake) {
	s.report.Applied += got.Applied
	s.report.Bytes += got.Bytes
	s.early[p.id] = s.early[p.id] || got.Deferred > 0
}

func (s *session) walk(p pair) (difference, error) {
	if s.errand.pushOnly {
		return s.walkToGive(p)
	}
	if s.n.blamed(s.peer) {
		return s.walkUpTo(p, maxFoundOfBlamed) // and goes on if that leads to something
	}
	return s.walkAgreed(p, min(maxFoundAtFirst<<(2*min(s.cuts, maxCuts/8)), maxFound))
}

// asker sends the questions of a walk to the peer.
func (s *session) asker(p pair) asker {
	return func(ps []radix.Prefix, levels uint64) ([]treeNode, error) {
		if err := s.w.send(&getNodes{p.index, levels, ps}); err != nil {
			return nil, err
		}
		nodes := make([]treeNode, 0, len(ps))
		for len(nodes) < len(ps) {
			part, err := expect[*tree](s.w)
			if err != nil {
				return nil, err
			}
			nodes = append(nodes, part.Nodes...)
		}
		if len(nodes) > len(ps) {
			return nil, breach("%d tree nodes in answer to %d prefixes", len(nodes), len(ps))
		}
		return nodes, nil
	}
}

// nothing is what is wanted where the answer is to have heads only: a commit that does
// not exist.
var nothing = []dag.CID{{}}

// askHeads learns the peer's heads without its commits.
func (s *session) askHeads(p pair, docs []dag.DocID, there map[dag.DocID][]dag.CID) error {
	for part := range slices.Chunk(docs, maxItems) {
		items := make([]item, len(part))
		for i, doc := range part {
			items[i] = item{Doc: doc[:], Want: nothing}
		}
		_, err := s.n.fetch(s.ctx, s.peer, p.id, items, func(h *heads) {
			for _, d := range h.Documents {
				there[d.Doc] = d.Heads
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/radix"
)

// Progress is told while a session transfers.
type Progress struct {
	Collection dag.CollectionID
	Name       string
	Documents  uint64 // received in full
	Total      uint64 // that the peer has
	Commits    uint64 // received
	Bytes      uint64 // of the session
}

// errand is what a session is for.
type errand struct {
	only     map[dag.CollectionID]bool  // nil: all
	parts    map[dag.CollectionID]Scope // of pushOnly: what to give of a collection, if not all
	pushOnly bool                       // give, take nothing
	probe    bool                       // compare roots, transfer nothing
	count    bool                       // of a probe: how many documents differ
	joining  bool                       // somebody waits for it: it goes before a session of the peer
	met      func() error               // nil, or called whenever the peer has proved something, before anything is transferred
	progress func(Progress)
}

// report is what a session found, per collection that the peer admits to.
type report struct {
	Collections map[dag.CollectionID]*verdict
	Clock       uint64        // of the peer; 0 if nothing is common
	RTT         time.Duration // of the last comparison
	Version     uint64        // of the protocol
	Applied     int           // commits that came
	Sent        int           // commits that went
	Taken       int           // of them, new to the peer
	Bytes       uint64
	Narrow      bool // a relay with limits did not let all differences pass
}

// status is what is remembered of a session.
func (r *report) status(begun time.Time, err error) SessionStatus {
	s := SessionStatus{At: begun, Took: time.Since(begun), Applied: r.Applied, Sent: r.Sent, Bytes: r.Bytes}
	if err != nil {
		s.Problem = err.Error()
	}
	return s
}

// verdict is how a collection stands after a session.
type verdict struct {
	Equal         bool
	Acked         bool   // the peer holds at least what is here
	Mine, Theirs  uint64 // documents
	Root          rootSum
	Differ        int  // documents, if counted
	AtLeast       bool // Differ is a lower bound
	Seq, TheirSeq uint64
	Part          string // what was compared, if it was not all
	Problem       string // why it could not be compared
	Loose         int    // documents outside of the part that the keeper of it has to give
	Complete      bool   // what was pushed lacks nothing there
	Asks          bool   // the peer asks for it itself
}

// pair is a collection that both sides proved to each other.
type pair struct {
	id           dag.CollectionID
	index        uint64 // in the responder's HELLO
	mine, theirs card
	narrowed     *narrowed // not all of it is compared
}

func (p pair) equal() bool {
	if p.mine.ofPart() || p.theirs.ofPart() {
		return false // not known yet
	}
	return p.mine.Count == p.theirs.Count && (p.mine.Root == p.theirs.Root || p.mine.Count == 0)
}

// verdict is what the cards tell. Of a part they tell nothing, not even which it is.
func (p pair) verdict() *verdict {
	v := &verdict{Equal: p.equal(), Mine: p.mine.Count, Theirs: p.theirs.Count,
		Root: p.mine.Root, Seq: p.mine.Seq, TheirSeq: p.theirs.Seq}
	if p.mine.ofPart() || p.theirs.ofPart() {
		v.Mine, v.Theirs, v.Part = 0, 0, partUnknown
	}
	return v
}

// partUnknown stands for a part before SCOPE has told which it is.
const partUnknown = "not all of it"

// session is the side that opened the stream. It compares, asks and pushes; the
// other side only answers. Afterwards both hold the union.
type session struct {
	n       *Node
	w       *wire
	peer    peer.ID
	errand  errand
	ctx     context.Context
	mine    *greeting
	theirs  *hello
	pairs   []pair
	offered bool
	tried   map[dag.CollectionID]int
	cut     bool      // a comparison of this round did not find all
	cuts    int       // rounds of which that is true
	futile  int       // comparisons in a row that brought nothing
	still   uint64    // how far this node's feed was before the first of them
	waits   int       // rounds in which something was waited for
	left    int       // collections of this round that the peer sees to itself
	since   time.Time // before the roots of mine were taken
	report  report
}

// sync runs a session with a connected peer. One at a time for each peer: a
// second would transfer the same again.
func (n *Node) sync(ctx context.Context, p peer.ID, e errand) (report, error) {
	c, err := n.companion(p)
	if err != nil {
		return report{}, err
	}
	if !e.probe { // which transfers nothing, and must not wait for what does
		select {
		case c.turn <- struct{}{}:
			defer func() { <-c.turn }()
		case <-ctx.Done():
			return report{}, fault.Unavailable.Errorf("sync with %s: %w", p, context.Cause(ctx))
		}
		n.running(c, true, e.joining)
		defer n.running(c, false, false)
	}
	s, err := n.open(ctx, p, syncProtocols)
	if err != nil {
		return report{}, err
	}
	n.count.Sessions.Add(1)
	w := newAsking(s, &n.traffic)
	defer context.AfterFunc(ctx, w.abort)()
	defer n.keepAlive(ctx, s.Conn(), w)()
	if e.joining || e.probe {
		ctx = inLane(ctx, interactive)
	}
	x := &session{n: n, w: w, peer: p, errand: e, ctx: ctx, tried: map[dag.CollectionID]int{}}
	begun := time.Now()
	err = x.run()
	x.report.Bytes += w.bytes()
	if !e.probe {
		n.contacts.session(p, x.report.status(begun, err))
	}
	if x.report.Applied > 0 { // also if it ended badly: what was merged stays
		n.spread(p)
	}
	if err != nil {
		w.abort()
		n.judge(p, err)
		return x.report, fmt.Errorf("sync with %s: %w", p, err)
	}
	s.Close()
	n.learn(p, &x.report, e)
	return x.report, nil
}

// running notes that a session of this node begins or ended.
func (n *Node) running(c *companion, running, joining bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c.running, c.joining = running, joining
}

// open opens a stream to a peer, for the newest version of a protocol that it speaks.
func (n *Node) open(ctx context.Context, p peer.ID, versions []protocol.ID) (network.Stream, error) {
	// A session uses the connection there is. To dial is the dialer's task.
	ctx = network.WithNoDial(ctx, "pando session")
	if versions[0] == protocolSync {
		ctx = network.WithAllowLimitedConn(ctx, "pando session") // which knows what fits
	}
	s, err := n.host.NewStream(ctx, p, versions...)
	if err != nil && ctx.Err() == nil && !n.here(p) {
		return nil, fmt.Errorf("open %s: %w", versions[0], errAway(p))
	}
	if err != nil {
		return nil, fault.Unavailable.Errorf("open %s to %s: %w", versions[0], p, err)
	}
	return s, nil
}

func (s *session) run() error {
	s.report.Collections, s.report.Version = map[dag.CollectionID]*verdict{}, s.w.version
	for round := 0; round < maxRounds; round++ {
		again, err := s.greet()
		if err == nil && s.errand.met != nil && len(s.pairs) > 0 {
			err = s.errand.met()
		}
		if err != nil {
			return err
		}
		if again {
			continue
		}
		if s.errand.probe && s.w.limited {
			s.uncounted() // looking for what differs would not pass
			return nil
		}
		if s.errand.probe {
			if err := s.narrow(); err != nil {
				return err
			}
			return s.countDifferences()
		}
		fresh, err := s.exchangeSchemas()
		if err == nil {
			err = s.narrow()
		}
		if err != nil {
			return err
		}
		differing := s.fitting(s.differing())
		if len(differing) == 0 && !fresh {
			return nil
		}
		s.cut = false
		applied, moved := s.report.Applied, s.report.Applied+s.report.Taken
		waited := s.waits
		s.left = 0
		for _, p := range differing {
			if err := s.mend(p); err != nil {
				return err
			}
		}
		if s.cut && s.report.Applied+s.report.Taken > moved && s.cuts < maxCuts {
			s.cuts++ // it gets on, and there is more
			round--
		} else if s.waits > waited && s.waits < maxWaits {
			round--
		}
		if s.left > 0 && s.left == len(differing) || s.errand.pushOnly && s.given(differing) {
			return nil
		}
		if s.report.Applied > applied || s.cut || s.waits > waited || !s.compared(differing) {
			s.futile = 0
			continue
		}
		if s.futile++; s.futile == 1 {
			s.still = s.mine.seq
		}
		if s.futile == maxFutile {
			if err := s.n.sound(); err != nil {
				return err
			}
			s.blameFutile(differing)
			break
		}
	}
	return s.unresolved()
}

// blameFutile blames a peer whose copy differs while nothing of it can be had. Not for
// a part, see unresolved, and only if this node was quiet meanwhile: what is written
// everywhere comes by gossip, too, before a comparison brings it.
func (s *session) blameFutile(differing []pair) {
	part := slices.ContainsFunc(differing, func(p pair) bool { return p.narrowed != nil })
	if !part && s.n.db.Seq() == s.still {
		s.n.blame(s.peer, blameUseless, "its copy differs, and nothing of it can be had")
	}
}

// compared reports whether the trees of all these were compared at least once.
func (s *session) compared(ps []pair) bool {
	return !slices.ContainsFunc(ps, func(p pair) bool { return s.tried[p.id] < 2 })
}

// given reports whether there is nothing left to give of these.
func (s *session) given(ps []pair) bool {
	return !slices.ContainsFunc(ps, func(p pair) bool {
		v := s.report.Collections[p.id]
		return !v.Acked && !v.Asks
	})
}

// greet exchanges HELLO and what goes with it. again: secrets changed hands, so
// that a second greeting will find more in common, or something was sent ahead.
func (s *session) greet() (again bool, err error) {
	if err := s.n.noticeCollections(); err != nil {
		return false, err
	}
	s.since = time.Now()
	ps := s.n.admission.with(s.peer)
	first := s.mine == nil
	if s.mine, err = s.n.opening(s.ctx, s.peer, ps, s.w.version, s.wantsAhead); err != nil {
		return false, err
	}
	s.w.about(dag.CollectionID{})
	start := time.Now()
	if err := s.w.send(&s.mine.hello); err != nil {
		return false, err
	}
	if s.theirs, err = expect[*hello](s.w); err != nil {
		return false, err
	}
	s.report.RTT = time.Since(start)
	common, err := s.match(ps)
	if err == nil && first && s.w.version >= versionOfAhead {
		again, err = s.takeAhead(ps)
	}
	if err != nil {
		return false, err
	}
	if s.n.adoptOffers(s.ctx, s.peer, s.theirs.Offers, nil) {
		return true, nil
	}
	if again || s.offered || s.errand.probe {
		return again, nil
	}
	s.offered = true
	gifts, parts, err := s.n.offersFor(s.ctx, s.peer, ps.ring, common, s.w.version >= versionOfParts)
	for id := range common {
		s.n.admission.settle(s.peer, id, ps.ring)
	}
	if err != nil || len(gifts) == 0 {
		return false, err
	}
	if len(parts) > 0 {
		if err := s.w.send(&keepOffers{parts}); err != nil {
			return false, err
		}
	}
	return true, s.w.send(&offers{gifts})
}

// match finds the collections that the peer proved, and notes how they stand. It
// returns the secrets by which it did.
func (s *session) match(ps *proofs) (map[dag.CollectionID][]secret, error) {
	common := map[dag.CollectionID][]secret{}
	s.pairs = nil
	clear(s.report.Collections)
	for i, e := range s.theirs.Entries {
		c, ok := ps.theirs[e.Proof]
		m, asked := s.mine.cards[c.id]
		if !ok || !asked {
			continue
		}
		if err := s.n.proved(s.peer, c); err != nil {
			return nil, err
		}
		common[c.id] = append(common[c.id], c.secret)
		if s.errand.only != nil && !s.errand.only[c.id] || len(common[c.id]) > 1 {
			continue
		}
		p := pair{c.id, uint64(i), m, s.n.lifted(s.peer, e, c, s.theirs.Nonce), nil}
		s.pairs = append(s.pairs, p)
		s.n.shown(s.peer, c.id, p.theirs)
		s.n.contacts.compared(sharing{s.peer, c.id}, p.equal())
		s.report.Clock = p.theirs.Clock
		s.report.Collections[c.id] = p.verdict()
	}
	return common, nil
}

// exchangeSchemas makes both sides know the same versions of every collection
// they share. All that came are added together, since collections refer to each
// other. It reports whether a collection was unknown until now.
func (s *session) exchangeSchemas() (fresh bool, err error) {
	var versions [][]byte
	for _, p := range s.pairs {
		if p.mine.Schema == p.theirs.Schema {
			continue
		}
		own, err := s.n.schema(s.ctx, p.id)
		if err != nil {
			return false, err
		}
		if err := s.w.send(&schemaVersions{p.index, own}); err != nil {
			return false, err
		}
		answer, err := expect[*schemaVersions](s.w)
		if err == nil {
			err = checkSchema(p.id, answer.Versions)
		}
		if err != nil {
			return false, err
		}
		if len(own) == 0 && len(answer.Versions) > 0 {
			fresh = true
		}
		versions = append(versions, answer.Versions...)
	}
	if len(versions) == 0 {
		return false, nil
	}
	if err := s.n.addSchema(s.ctx, s.peer, versions); err != nil {
		return false, err
	}
	return fresh, nil
}

// differing returns the pairs to mend. Of the equal ones it notes how far this
// node has come in the peer's feed: there is nothing left before it.
func (s *session) differing() []pair {
	var out []pair
	for _, p := range s.pairs {
		if p.narrowed != nil && s.settled(p) {
			continue
		}
		if p.narrowed == nil && (p.mine.ofPart() || p.theirs.ofPart()) {
			continue // the collection itself is not here yet
		}
		if !p.equal() || p.narrowed != nil {
			if s.n.later.rests(sharing{s.peer, p.id}, p.mine.Root, p.theirs.Root) {
				continue
			}
			if s.n.has(p.id) { // else its definition could not be added
				out = append(out, p)
			}
			continue
		}
		s.n.equals(s.peer, p.id, p.theirs, s.since)
	}
	return out
}

// equals notes that a copy of this node, as it was some moment ago, and that of a
// peer are the same: there is nothing left to get from it.
func (n *Node) equals(p peer.ID, id dag.CollectionID, theirs card, since time.Time) {
	n.cursors.set(p, id, cursor{epoch: theirs.Epoch, seq: theirs.Seq})
	n.covered(id, pando.Whole, p, since)
	n.wants.drop(id, p, since)
}

// mend brings two copies of a collection together, by the means that fit what is
// known. Whatever it leaves open, the next round compares again.
func (s *session) mend(p pair) error {
	s.w.about(p.id)
	if busy := s.n.convoyOf(p.id); busy != nil && !s.errand.pushOnly && p.narrowed == nil && s.await(p, busy) {
		return nil
	}
	try := s.tried[p.id]
	s.tried[p.id]++
	if p.narrowed != nil {
		return s.mendPart(p)
	}
	own := s.n.cursors.get(s.peer, p.id)
	switch {
	case s.n.later.any(sharing{s.peer, p.id}):
		return s.compareTrees(p) // which can leave out what is postponed
	case try == 0 && p.theirs.Count > fullFactor*p.mine.Count && !s.errand.pushOnly:
		defer s.yields()()
		return s.pullFull(p, own)
	case s.leaves(p):
		s.left++
		s.report.Collections[p.id].Asks = true
		return nil
	case try == 0 && p.mine.Count > fullFactor*p.theirs.Count:
		defer s.yields()()
		return s.push(p, p.mine.Seq, func(out *sender) error { return s.n.sendFull(s.ctx, out, p.id, dag.DocID{}) })
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
		return s.push(p, p.mine.Seq, func(out *sender) error {
			return s.n.sendLog(s.ctx, out, s.peer, p.id, p.theirs.Cursor, p.mine.Seq)
		})
	}
	return nil
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
	if s.shares(p, sharedDocuments) && s.n.convoyOf(p.id) == nil { // however few they are: of several sessions one is enough
		return s.copyShared(p, ask.After)
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
	s.n.wantMissing(s.peer, p.id, got.Missing)
	return got, err
}

// push sends commits and waits until they are merged there. Then the peer holds
// all of this node's feed up to mark; 0 says nothing.
func (s *session) push(p pair, mark uint64, fill func(*sender) error) error {
	if err := s.w.send(&push{p.index}); err != nil {
		return err
	}
	out := s.n.sender(s.ctx, s.w)
	err := fill(out)
	if err == nil {
		err = out.end(mark)
	}
	if err != nil {
		// The peer may have said why it does not read on.
		s.w.patient = courtesyDelay
		if _, why := s.w.receive(); fault.Of(why) != nil && why != io.EOF {
			return why
		}
		return err
	}
	s.w.patient = ackTimeout
	defer func() { s.w.patient = frameTimeout }()
	answer, err := expect[*ack](s.w)
	s.report.Sent += int(out.commits)
	if err != nil {
		return err
	}
	s.report.Taken += int(min(answer.Applied, out.commits))
	if answer.Missing > 0 && answer.Applied == 0 {
		s.n.later.refused(sharing{s.peer, p.id})
	}
	s.report.Collections[p.id].Complete = answer.Missing == 0
	if answer.Missing == 0 && mark > 0 {
		s.report.Collections[p.id].Acked = true
	}
	return nil
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
	mark := p.mine.Seq
	if early > 0 {
		mark = 0
	}
	if found.Cut {
		s.cut, mark = true, 0
	}
	there := map[dag.DocID][]dag.CID{}
	if !s.errand.pushOnly && s.tried[p.id] <= maxShared && s.shares(p, uint64(len(found.Both)+len(found.Theirs))) && s.helped(p) {
		if err := s.fetchShared(p, found, there); err != nil {
			return err
		}
	} else if !s.errand.pushOnly {
		got, err := s.n.fetchDifference(s.ctx, s.peer, p.id, found, func(h *heads) {
			for _, d := range h.Documents {
				there[d.Doc] = d.Heads
			}
		})
		s.report.Applied += got.Applied
		s.report.Bytes += got.Bytes
		if err != nil {
			return err
		}
	} else if err := s.askHeads(p, found.Both, there); err != nil {
		return err
	}
	if len(found.Mine)+len(found.Both) == 0 && !s.errand.pushOnly || s.n.later.refuses(here) {
		return nil
	}
	return s.push(p, mark, func(out *sender) error {
		for _, doc := range found.Mine {
			if err := s.n.sendDocument(s.ctx, out, p.id, pando.Want{Doc: doc}); err != nil {
				return err
			}
		}
		for _, doc := range found.Both {
			if err := s.n.sendDocument(s.ctx, out, p.id, pando.Want{Doc: doc, Have: there[doc]}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *session) walk(p pair) (difference, error) {
	salt := newSalt(s.mine.Nonce, s.theirs.Nonce)
	if s.errand.pushOnly {
		return walkToGive(s.ctx, s.n.side(p.id), salt, s.asker(p))
	}
	if s.n.blamed(s.peer) {
		return walk(s.ctx, s.n.side(p.id), salt, maxFoundOfBlamed, s.asker(p)) // and goes on if that leads to something
	}
	return walk(s.ctx, s.n.side(p.id), salt, min(maxFoundAtFirst<<(2*min(s.cuts, maxCuts/8)), maxFound), s.asker(p))
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

// askHeads learns the peer's heads without its commits.
func (s *session) askHeads(p pair, docs []dag.DocID, there map[dag.DocID][]dag.CID) error {
	for part := range slices.Chunk(docs, maxItems) {
		items := make([]item, len(part))
		for i, doc := range part {
			// Wanting nothing that exists: the answer has heads only.
			items[i] = item{Doc: doc[:], Want: []dag.CID{{}}}
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

// maxCounted is up to how many differing documents a probe counts.
const maxCounted = 10_000

func (s *session) countDifferences() error {
	for _, p := range s.pairs {
		v := s.report.Collections[p.id]
		if v.Equal || !s.errand.count {
			continue
		}
		if p.narrowed != nil {
			if err := s.countPart(p); err != nil {
				return err
			}
			continue
		}
		if p.mine.ofPart() || p.theirs.ofPart() {
			continue
		}
		found, err := walk(s.ctx, s.n.side(p.id), newSalt(s.mine.Nonce, s.theirs.Nonce), maxCounted, s.asker(p))
		if err != nil {
			return err
		}
		v.Differ, v.AtLeast = found.size(), found.size() >= maxCounted
	}
	return nil
}

// unresolved is how a session ends whose rounds are used up. It is no failure: on
// a busy collection something new is always under way. What must not be is two
// quiet copies that stay different.
func (s *session) unresolved() error {
	if err := s.n.sound(); err != nil {
		return err
	}
	before := map[dag.CollectionID][2]uint64{}
	for _, p := range s.pairs {
		before[p.id] = [2]uint64{p.mine.Seq, p.theirs.Seq}
	}
	if _, err := s.greet(); err != nil {
		return err
	}
	if err := s.narrow(); err != nil {
		return err
	}
	for _, p := range s.differing() {
		if before[p.id] != [2]uint64{p.mine.Seq, p.theirs.Seq} {
			continue
		}
		if s.n.later.any(sharing{s.peer, p.id}) {
			continue // it is known what differs, and that its time has not come
		}
		s.n.count.Mismatches.Add(1)
		s.n.contacts.mismatch(sharing{s.peer, p.id})
		s.n.log.Warn("two quiet copies of a collection stay different: check both databases",
			"peer", s.peer, "collection", p.id, "here", p.mine.Count, "there", p.theirs.Count)
		if p.narrowed == nil { // a part may read otherwise under another version
			s.n.blame(s.peer, blameMismatch, "its copy stays different although all was exchanged")
		}
	}
	return nil
}

// judge draws the consequences of a failed exchange.
func (n *Node) judge(p peer.ID, err error) {
	if b := new(breachError); errors.As(err, &b) {
		n.punish(p, err)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		n.blame(p, blameSilent, "it does not answer")
	}
}

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
	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/ident"
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
	Given, Keeps  Scope  // of such: what this side keeps or gives, and what the peer keeps
	Problem       string // why it could not be compared
	Loose         int    // documents outside of the part that the keeper of it has to give
	Alike         bool   // the part is the same, whatever is loose
	Complete      bool   // what was pushed lacks nothing there
	Asks          bool   // the peer asks for it itself
	Apart         bool   // it is equal but for what one side may not read, as the other knows it
}

// pair is a collection that both sides proved to each other.
type pair struct {
	id           dag.CollectionID
	index        uint64 // in the responder's HELLO
	mine, theirs card
	narrowed     *narrowed // not all of it is compared
}

func (p pair) equal() bool {
	if p.mine.ofPart() || p.theirs.ofPart() || p.unsaid() {
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
	} else if p.unsaid() {
		v.Mine, v.Theirs = 0, 0
	}
	return v
}

// unsaid reports whether a side has yet to say how it stands.
func (p pair) unsaid() bool { return p.mine.unsaid() || p.theirs.unsaid() }

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
	showed  bool  // for whom this node acts
	gifts   gifts // offered, and not known to be taken
	tried   map[dag.CollectionID]int
	early   map[dag.CollectionID]bool // the last exchange left open what comes too early, see later
	cut     bool                      // a comparison of this round did not find all
	got     bool                      // and what the last one found is here before anything is pushed
	cuts    int                       // rounds of which that is true
	mended  bool                      // since the last greeting
	futile  int                       // comparisons in a row that brought nothing
	still   uint64                    // how far this node's feed was before the first of them
	found   int                       // documents that differed in the others for no reason that is known
	waits   int                       // rounds in which something was waited for
	parted  int                       // documents of which it was looked up what the peer is to be told last
	left    int                       // collections of this round that the peer sees to itself
	since   time.Time                 // before the roots of mine were taken
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
	if !e.probe && !e.pushOnly {
		if err := n.stores(e.joining); err != nil {
			return report{}, err
		}
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
	x := &session{n: n, w: w, peer: p, errand: e, ctx: ctx, tried: map[dag.CollectionID]int{}, early: map[dag.CollectionID]bool{}}
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
	if err != nil && ctx.Err() == nil && !n.host.Here(p) {
		return nil, fmt.Errorf("open %s: %w", versions[0], errAway(p))
	}
	if err != nil {
		return nil, fault.Unavailable.Errorf("open %s to %s: %w", versions[0], p, host.Plainly(err))
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
		if s.mended = false; again {
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
		s.mended = true
		if s.cut && s.report.Applied+s.report.Taken > moved && s.cuts < maxCuts {
			s.cuts++ // it gets on, and there is more
			round--
		} else if s.waits > waited && s.waits < maxWaits {
			round--
		}
		if len(differing) > 0 && s.apart(differing) || s.left > 0 && s.left == len(differing) || s.errand.pushOnly && s.given(differing) {
			return nil
		}
		if s.report.Applied > applied || s.cut || s.waits > waited || !s.compared(differing) {
			s.futile = 0
			continue
		}
		if s.futile++; s.futile == 1 {
			s.still, s.found = s.mine.seq, 0
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
// a part, see unresolved, nor for what comes too early, and only if there is more that
// differs than was written here meanwhile: what is written everywhere comes by gossip,
// too, before a comparison brings it.
func (s *session) blameFutile(differing []pair) {
	part := slices.ContainsFunc(differing, func(p pair) bool { return p.narrowed != nil || s.n.protected(p.id) })
	unknown := slices.ContainsFunc(differing, func(p pair) bool { return !s.early[p.id] })
	written := s.n.db.Seq() - s.still
	if !part && (written == 0 && unknown || uint64(s.found) > maxFutile*written) {
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
	if err := s.show(); err != nil {
		return false, err
	}
	if err := s.w.send(&s.mine.hello); err != nil {
		return false, err
	}
	seen, err := s.answered()
	if err != nil {
		return false, err
	}
	s.report.RTT = time.Since(start)
	s.n.admission.settle(s.peer, s.gifts) // which were sent before what this answers
	s.gifts = gifts{}
	common, err := s.match(ps)
	if err != nil {
		return false, err
	}
	seen = seen || s.unsaid()
	// First, since what follows may be refused, and before anything else is said, which
	// tells the peer that they were taken.
	again = s.n.adoptOffers(s.ctx, s.peer, s.theirs.Offers, nil) || seen
	if first && s.w.version >= versionOfAhead {
		came, err := s.takeAhead(ps)
		if err != nil {
			return false, err
		}
		again = again || came
	}
	if again || s.offered || s.errand.probe {
		return again, nil
	}
	return s.offer(ps, common)
}

// show shows the peer for whom this node acts, once it has proved to be a member.
func (s *session) show() error {
	m := s.n.identities.mine()
	if m == nil || s.showed || s.w.version < versionOfAccess || !s.n.admission.knows(s.peer) {
		return nil
	}
	s.showed = true
	return s.w.send(m)
}

// answered reads the peer's HELLO, and what it shows before. It reports whether that
// changes what the peer may read.
func (s *session) answered() (news bool, err error) {
	var shown *show
	if s.theirs, shown, err = greeted(s.w); err != nil || shown == nil {
		return false, err
	}
	return s.n.identities.take(s.peer, shown)
}

// greeted reads a HELLO that answers one, and what is shown before it, if anything is.
func greeted(w *wire) (*hello, *show, error) {
	m, err := w.receive()
	if shown, ok := m.(*show); ok && err == nil {
		h, err := expect[*hello](w)
		return h, shown, err
	}
	if err == io.EOF {
		return nil, nil, fault.Unavailable.Errorf("the peer closed the stream where an answer should follow")
	}
	if err != nil {
		return nil, nil, err
	}
	h, ok := m.(*hello)
	if !ok {
		return nil, nil, breach("a message of type %T where HELLO should follow", m)
	}
	return h, nil, nil
}

// unsaid reports whether this side has to greet again: since the peer proved to be a
// member, it may see what it may read, and for whom this node acts.
func (s *session) unsaid() bool {
	if s.w.version < versionOfAccess || len(s.pairs) == 0 {
		return false
	}
	if !s.showed && s.n.identities.mine() != nil {
		return true
	}
	return slices.ContainsFunc(s.pairs, func(p pair) bool { return p.mine.unsaid() })
}

// offer gives the peer what it lacks, and reports whether there was anything.
func (s *session) offer(ps *proofs, common map[dag.CollectionID][]ident.Secret) (bool, error) {
	g, err := s.n.giftsFor(s.ctx, s.peer, ps.ring, common, s.w.version >= versionOfParts, s.w.version)
	if err != nil {
		return false, err
	}
	s.offered = true
	if len(g.offers) == 0 {
		s.n.admission.settle(s.peer, g)
		return false, nil
	}
	if len(g.keeps) > 0 {
		if err := s.w.send(&keepOffers{g.keeps}); err != nil {
			return false, err
		}
	}
	s.gifts = g
	return true, s.w.send(&offers{g.offers})
}

// match finds the collections that the peer proved, and notes how they stand. It
// returns the secrets by which it did.
func (s *session) match(ps *proofs) (map[dag.CollectionID][]ident.Secret, error) {
	common := map[dag.CollectionID][]ident.Secret{}
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
		if !p.unsaid() {
			s.n.contacts.compared(sharing{s.peer, c.id}, p.equal())
		}
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
			if !s.errand.pushOnly && (p.narrowed == nil || len(p.narrowed.loose) == 0) &&
				s.n.agreements.hold(sharing{s.peer, p.id}, p.mine.Root, p.theirs.Root) {
				s.settles(p)
				continue
			}
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
	if !theirs.Lacks {
		n.covered(id, pando.Whole, p, since)
	}
	n.wants.drop(id, p, since)
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
		found, err := s.walkUpTo(p, maxCounted)
		if err != nil {
			return err
		}
		if err := s.counted(p, found); err != nil {
			return err
		}
	}
	return nil
}

// counted notes how many documents differ. What only one of the two may read does not.
func (s *session) counted(p pair, found difference) error {
	v := s.report.Collections[p.id]
	v.Differ, v.AtLeast = found.size(), found.size() >= maxCounted
	if !s.n.protected(p.id) {
		return nil
	}
	fresh, err := s.news(p, found.Theirs)
	if err != nil {
		return err
	}
	if v.Differ -= len(found.Theirs) - fresh; v.Differ == 0 && v.Loose == 0 && !v.AtLeast {
		v.Equal, v.Apart = true, true
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
		if !s.mended || s.early[p.id] || p.narrowed == nil && s.tried[p.id] < 2 {
			// The rounds went by with secrets that changed hands, or the time of what was
			// left out in the last of them has come since.
			s.n.repair(s.peer)
			continue
		}
		if s.parted == maxFarewells {
			s.n.repair(s.peer) // there may be more to tell
			continue
		}
		if s.n.protected(p.id) { // each side gives what it thinks that the other may read
			s.n.later.rest(sharing{s.peer, p.id}, p.mine.Root, p.theirs.Root)
			continue
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

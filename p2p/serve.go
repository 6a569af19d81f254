package p2p

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

func (n *Node) handleSync(s network.Stream) { n.handle(s, aSession, n.serveSync) }

func (n *Node) handleFetch(s network.Stream) { n.handle(s, aFetch, n.serveFetch) }

// handle serves one stream, in the goroutine that the host made for it.
func (n *Node) handle(s network.Stream, kind kindOfStream, serve func(context.Context, *wire, *seat) error) {
	if !n.enter() {
		s.Reset() // the node is closing: there is nobody to tell
		return
	}
	defer n.leave()
	p := s.Conn().RemotePeer()
	if n.isBanned(p) {
		s.Reset()
		n.host.Network().ClosePeer(p)
		return
	}
	n.arrived(p) // identification may be under way still
	w := newWire(s, &n.traffic)
	defer context.AfterFunc(n.ctx, w.abort)()
	if err := n.throttled(p); err != nil {
		n.conclude(w, p, err)
		return
	}
	n.quotas.spend(p, lookups, streamLookups, time.Now())
	place := n.seat(p, kind, w)
	if place == nil {
		n.count.Refused.Add(1)
		w.send(tooMany)
		s.Close()
		return
	}
	defer place.leave()
	n.count.Served.Add(1)
	err := serve(n.ctx, w, place)
	if err == nil {
		s.Close()
		return
	}
	n.conclude(w, p, err)
}

var busyOtherWay = &refuse{Code: refusedBusy, Text: "a session the other way round is under way", After: busyFor}

var tooMany = &refuse{Code: refusedBusy, Text: "too many streams at once", After: busyFor}

// conclude answers an error where an answer helps, and ends the stream.
func (n *Node) conclude(w *wire, p peer.ID, err error) {
	refused := new(refuse)
	broken := new(breachError)
	held := new(holdError)
	switch {
	case errors.As(err, &broken):
		w.abort()
		n.punish(p, err)
		return
	case errors.As(err, &refused):
	case errors.As(err, &held):
		refused = held.refusal()
	case n.ctx.Err() != nil:
		w.abort() // this node is closing
		return
	default:
		level := slog.LevelWarn
		if errors.Is(err, fault.Unavailable) {
			level = slog.LevelDebug // mostly it is the stream that is broken; if not, the peer should know
		}
		n.log.Log(n.ctx, level, "cannot serve a peer", "peer", p, "error", err)
		refused = &refuse{Code: refusedFailed, Text: "this node has a problem of its own", After: retryFirst}
	}
	if w.send(refused) != nil {
		w.abort()
		return
	}
	n.count.Refused.Add(1)
	w.s.Close()
}

// kindOfStream is a protocol that this node serves.
type kindOfStream int

const (
	aSession kindOfStream = iota
	aFetch
	anExchange // of peers
	aWatch
	aTelling
)

// streams is how many streams are served, by kind, of one peer or of all.
type streams [5]int

var (
	streamsPerPeer = streams{sessionsPerPeer, fetchesPerPeer, exchangesPerPeer, watchesPerPeer, tellsPerPeer}
	maxStreams     = streams{maxSessions, maxFetches, maxExchanges, maxWatches, maxTells}
)

// seat is the place that a served stream takes. A peer that opens too many gets an
// answer instead of a place, so that one peer never starves the others.
//
// Strangers, who have proved nothing since they are connected, have few places of
// their own, which the newest takes from the oldest, and nobody keeps for long: a
// member proves itself in its first message, at once.
type seat struct {
	n        *Node
	peer     peer.ID
	kind     kindOfStream
	w        *wire
	deadline *time.Timer // of a stranger
}

// seat gives a stream a place, or nil if there is none.
func (n *Node) seat(p peer.ID, kind kindOfStream, w *wire) *seat {
	stranger := !n.named(p) && !n.admission.knows(p)
	var oldest *seat
	defer func() {
		if oldest != nil { // which may take its time, if its connection is stuck
			oldest.w.abort()
		}
	}()
	n.mu.Lock()
	defer n.mu.Unlock()
	own := n.serving[p]
	if own[kind] >= streamsPerPeer[kind] || !stranger && n.served[kind] >= maxStreams[kind] {
		return nil
	}
	s := &seat{n: n, peer: p, kind: kind, w: w}
	if stranger {
		if len(n.strangers) >= maxStrangers {
			oldest, n.strangers = n.strangers[0], n.strangers[1:]
		}
		n.strangers = append(slices.Clip(n.strangers), s)
		s.deadline = time.AfterFunc(strangerTimeout, w.abort)
	} else {
		n.served[kind]++
	}
	own[kind]++
	n.serving[p] = own
	return s
}

// proved gives a stream a place among those of members.
func (s *seat) proved() error {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if s.deadline == nil {
		return nil
	}
	if s.n.served[s.kind] >= maxStreams[s.kind] {
		return tooMany
	}
	s.n.served[s.kind]++
	s.deadline.Stop()
	s.deadline = nil
	s.n.strangers = slices.DeleteFunc(s.n.strangers, func(o *seat) bool { return o == s })
	return nil
}

// leave gives the place back.
func (s *seat) leave() {
	s.n.mu.Lock()
	if s.deadline != nil {
		s.deadline.Stop()
		s.n.strangers = slices.DeleteFunc(s.n.strangers, func(o *seat) bool { return o == s })
	} else {
		s.n.served[s.kind]--
	}
	own := s.n.serving[s.peer]
	if own[s.kind]--; own == (streams{}) {
		delete(s.n.serving, s.peer)
	} else {
		s.n.serving[s.peer] = own
	}
	s.n.mu.Unlock()
	if !s.n.host.Here(s.peer) {
		s.n.admission.forget(s.peer) // left has done so already, or it never arrived
	}
}

// serves reports whether a session of a peer is being served that may lead to
// something: a stream alone does not keep this node from asking.
func (n *Node) serves(p peer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.companions[p]
	return c != nil && c.asking > 0
}

// asking notes that a session in which a peer proved something begins (+1) or ended (-1).
func (n *Node) asking(c *companion, d int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c.asking += d
}

// crosses reports whether a session of a peer has to give way to one of this node
// with it: two that cross would transfer everything twice. That of the peer with
// the smaller ID goes first, and before it a join.
func (n *Node) crosses(p peer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.companions[p]
	return c != nil && c.running && (c.joining || n.host.ID() < p)
}

// service is the side of a session that answers.
type service struct {
	n      *Node
	ctx    context.Context
	w      *wire
	peer   peer.ID
	seat   *seat
	theirs *hello
	mine   *greeting
	their  map[dag.CollectionID]card
	came   int                        // commits that were pushed, and were news
	asking *companion                 // that it is noted with; nil: it proved nothing yet
	parts  map[uint64]*pando.Part     // of collections, that the last SCOPE named
	keeps  map[dag.CollectionID]Scope // what KEEP said of the offers to come
	gifts  gifts                      // of the last HELLO, not known to be taken
	shown  *show                      // what the peer showed before HELLO
	showed bool                       // for whom this node acts
}

func (n *Node) serveSync(ctx context.Context, w *wire, place *seat) (err error) {
	p, begun := place.peer, time.Now()
	s := &service{n: n, ctx: ctx, w: w, peer: p, seat: place}
	defer func() {
		if s.asking != nil {
			n.asking(s.asking, -1)
			told := report{Applied: s.came, Bytes: w.bytes()}
			n.contacts.session(p, told.status(begun, err))
		}
		if s.came > 0 { // also when it ended badly: what was merged stays
			n.spread(p)
		}
	}()
	for {
		m, err := w.receive()
		if err == nil || err == io.EOF { // who goes on, or ends in good order, took what HELLO gave
			n.admission.settle(p, s.gifts)
			s.gifts = gifts{}
		}
		if err == io.EOF {
			return nil
		}
		before := w.written.Load()
		if err == nil {
			err = n.charge(p, m)
		}
		if err == nil {
			err = s.answer(m)
			n.chargeBytes(p, w, before)
		}
		if err != nil {
			return err
		}
	}
}

func (s *service) answer(m message) error {
	if s.mine == nil {
		switch m.(type) {
		case *hello, *show:
		default:
			return breach("%T before HELLO", m)
		}
	}
	switch m.(type) {
	case *getLog, *getFull, *getNodes, *push:
		if _, ok := m.(*push); !ok && s.w.limited && !s.fits(m) {
			return tooNarrow
		}
		if s.n.crosses(s.peer) {
			return busyOtherWay
		}
	}
	switch m := m.(type) {
	case *show: // of strangers nothing is kept
		s.shown = m
		return nil
	case *hello:
		return s.greet(m)
	case *keepOffers:
		s.keeps = map[dag.CollectionID]Scope{}
		for _, p := range m.Parts {
			s.keeps[p.Collection] = p.Scope
		}
		return nil
	case *offers:
		s.n.adoptOffers(s.ctx, s.peer, m.Offers, s.keeps)
		return nil
	case *scopeSays:
		return s.scope(m)
	case *schemaVersions:
		return s.schema(m)
	case *getLog:
		return s.log(m)
	case *getFull:
		return s.full(m)
	case *getNodes:
		return s.nodes(m)
	case *push:
		return s.take(m)
	}
	return breach("%T where a question should follow", m)
}

// collection returns a collection by its number in the last HELLO, and what that said.
func (s *service) collection(index uint64) (dag.CollectionID, card, error) {
	if index >= uint64(len(s.mine.ids)) {
		return dag.CollectionID{}, card{}, breach("collection %d of %d", index, len(s.mine.ids))
	}
	id := s.mine.ids[index]
	s.w.about(id)
	return id, s.mine.cards[id], nil
}

// greet answers HELLO with the collections that the peer proved, and gives what it
// may have and lacks.
func (s *service) greet(theirs *hello) error {
	since := time.Now()
	s.w.about(dag.CollectionID{})
	ps := s.n.admission.with(s.peer)
	var claims []claim
	first := s.mine == nil
	common := map[dag.CollectionID][]ident.Secret{}
	s.theirs, s.their, s.parts = theirs, map[dag.CollectionID]card{}, nil
	for _, e := range theirs.Entries {
		c, ok := ps.theirs[e.Proof]
		if !ok || slices.Contains(common[c.id], c.secret) || s.n.hides(c.id, s.w.version) {
			continue
		}
		if err := s.n.proved(s.peer, c); err != nil {
			return err
		}
		claims = append(claims, c)
		common[c.id] = append(common[c.id], c.secret)
		s.their[c.id] = s.n.lifted(s.peer, e, c, theirs.Nonce)
	}
	if len(claims) > 0 {
		if err := s.seat.proved(); err != nil {
			return err
		}
	}
	if s.shown != nil && s.n.admission.knows(s.peer) {
		if _, err := s.n.identities.take(s.peer, s.shown); err != nil {
			return err
		}
		s.shown = nil
	}
	var err error
	if s.mine, err = s.n.greeting(s.ctx, s.peer, ps, claims, s.w.version, nil); err != nil {
		return err
	}
	if s.gifts, err = s.n.giftsFor(s.ctx, s.peer, ps.ring, common, false, s.w.version); err != nil {
		return err
	}
	s.mine.Offers = s.gifts.offers
	equal := true
	told := report{Collections: map[dag.CollectionID]*verdict{}}
	for id, mine := range s.mine.cards {
		their := s.their[id]
		told.Clock = their.Clock
		s.n.shown(s.peer, id, their)
		told.Collections[id] = pair{mine: mine, theirs: their}.verdict()
		p := pair{id: id, mine: mine, theirs: their}
		if p.unsaid() {
			equal = false
			continue
		}
		s.n.contacts.compared(sharing{s.peer, id}, p.equal())
		if p.equal() {
			s.n.equals(s.peer, id, their, since)
		} else {
			equal = false
			s.asksItself(id, mine, their)
		}
	}
	if len(claims) > 0 {
		// The peer may be busy merging for a while before it asks on.
		s.w.patient = ackTimeout
		if c, err := s.n.companion(s.peer); err == nil && s.asking == nil {
			s.asking = c
			s.n.asking(c, +1)
		}
		s.n.learn(s.peer, &told, errand{})
	}
	if equal && len(s.mine.cards) == len(ps.ids) && len(s.gifts.offers) == 0 {
		s.n.greetedEqual(s.peer, since)
	}
	if m := s.n.identities.mine(); m != nil && len(claims) > 0 && s.w.version >= versionOfAccess && !s.showed {
		if err := s.w.send(m); err != nil {
			return err
		}
		s.showed = true
	}
	if err := s.w.send(&s.mine.hello); err != nil || !first || s.w.version < versionOfAhead {
		return err
	}
	return s.sendAhead()
}

func (s *service) schema(m *schemaVersions) error {
	id, _, err := s.collection(m.Collection)
	if err != nil {
		return err
	}
	own, err := s.n.schema(s.ctx, id)
	if err == nil {
		err = checkSchema(id, m.Versions)
	}
	if err != nil {
		return err
	}
	if len(m.Versions) > 0 {
		if err := s.n.addSchema(s.ctx, s.peer, m.Versions); err != nil {
			return err
		}
	}
	return s.w.send(&schemaVersions{m.Collection, own})
}

func (s *service) log(m *getLog) error {
	id, mine, err := s.collection(m.Collection)
	if err != nil {
		return err
	}
	return s.sendLog(id, m.After, mine.Seq)
}

// sendLog sends this node's log of a collection after a number of its feed, to what
// its card said.
func (s *service) sendLog(id dag.CollectionID, after, until uint64) error {
	to := s.n.reader(s.peer, id)
	s.n.quotas.spend(s.peer, lookups, to.logLookups(until-min(after, until)), time.Now())
	out := to.sender(s.ctx, s.w)
	if err := out.sendLog(s.ctx, after, until); err != nil {
		return err
	}
	return out.end(until)
}

func (s *service) full(m *getFull) error {
	id, _, err := s.collection(m.Collection)
	if err != nil {
		return err
	}
	var after dag.DocID
	if m.After != nil {
		after = *m.After
	}
	ctx := inLane(s.ctx, backfill)
	out := s.n.reader(s.peer, id).sender(ctx, s.w)
	if err := out.sendFull(ctx, after); err != nil {
		return err
	}
	return out.end(0)
}

func (s *service) nodes(m *getNodes) error {
	side, err := s.side(m.Collection)
	if err != nil {
		return err
	}
	salt := newSalt(s.theirs.Nonce, s.mine.Nonce)
	answer := new(tree)
	for i, p := range m.Prefixes {
		node, err := answerNode(s.ctx, side, salt, p, m.Levels)
		if err != nil {
			return err
		}
		answer.Nodes = append(answer.Nodes, node)
		if len(answer.Nodes) == nodesPerFrame || i+1 == len(m.Prefixes) {
			if err := s.w.send(answer); err != nil {
				return err
			}
			answer.Nodes = answer.Nodes[:0]
		}
	}
	return nil
}

// take merges what the peer pushes. The answer is the promise that it is durable.
func (s *service) take(m *push) error {
	id, _, err := s.collection(m.Collection)
	if err != nil {
		return err
	}
	if s.comes(id) {
		return &refuse{Code: refusedBusy, Text: "the collection is copied from several peers", After: copiesFor}
	}
	if err := s.n.stores(false); err != nil {
		s.w.s.CloseRead() // the rest of it is for nobody
		return err
	}
	before := s.w.read.Load()
	got, err := s.n.receiveBlocks(s.ctx, s.w, s.peer, id, nil)
	s.n.chargeWaste(s.peer, s.w.read.Load()-before, got)
	s.n.wantMissing(s.peer, id, got.Missing)
	s.came += got.Applied
	if err != nil {
		return err
	}
	// Of what was announced meanwhile the peer sends nothing, since it is shown as a head
	// before it is on the disk; the answer says that it will stay.
	if err := s.n.replica.Settle(s.ctx); err != nil {
		return s.n.notStored(s.ctx, err)
	}
	if got.Mark > 0 && got.complete() {
		s.n.cursors.set(s.peer, id, cursor{epoch: s.their[id].Epoch, seq: got.Mark})
	}
	return s.w.send(&ack{uint64(got.Applied), uint64(got.Known), uint64(len(got.Missing) + got.Deferred + got.Awaiting)})
}

// greetedEqual notes that a peer opened a session and everything was equal, a
// moment ago: there is no need to ask it in turn, unless something was lost since.
func (n *Node) greetedEqual(p peer.ID, then time.Time) {
	if c, err := n.companion(p); err == nil {
		c.next.Clear(then)
	}
}

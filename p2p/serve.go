package p2p

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

func (n *Node) handleSync(s network.Stream) {
	n.handle(s, n.admitSession, n.serveSync)
}

func (n *Node) handleFetch(s network.Stream) {
	n.handle(s, n.admitFetch, n.serveFetch)
}

// handle serves one stream, in the goroutine that the host made for it.
func (n *Node) handle(s network.Stream, admit func(peer.ID, int) bool, serve func(context.Context, *wire, peer.ID) error) {
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
	if !admit(p, +1) {
		n.count.Refused.Add(1)
		w.send(&refuse{Code: refusedBusy, Text: "too many streams at once", After: busyFor})
		s.Close()
		return
	}
	defer admit(p, -1)
	n.count.Served.Add(1)
	err := serve(n.ctx, w, p)
	if err == nil {
		s.Close()
		return
	}
	n.conclude(w, p, err)
}

// conclude answers an error where an answer helps, and ends the stream.
func (n *Node) conclude(w *wire, p peer.ID, err error) {
	refused := new(refuse)
	broken := new(breachError)
	switch {
	case errors.As(err, &broken):
		w.abort()
		n.punish(p, err)
		return
	case errors.As(err, &refused):
	case errors.Is(err, fault.Unavailable):
		w.abort() // the stream itself is broken, or this node is closing
		return
	default:
		n.log.Warn("cannot serve a peer", "peer", p, "error", err)
		refused = &refuse{Code: refusedFailed, Text: "this node has a problem of its own", After: retryFirst}
	}
	n.count.Refused.Add(1)
	if w.send(refused) != nil {
		w.abort()
		return
	}
	w.s.Close()
}

// streams is how many streams are served, of one peer or of all.
type streams struct{ sessions, fetches int }

// admitSession counts a session that begins (+1) or ended (-1), and reports
// whether it may. A peer that opens too many gets an answer instead of a place, so
// that one peer never starves the others.
func (n *Node) admitSession(p peer.ID, d int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	own := n.serving[p]
	if d > 0 && (n.served.sessions >= maxSessions || own.sessions >= sessionsPerPeer) {
		return false
	}
	n.served.sessions += d
	own.sessions += d
	n.noteServing(p, own)
	return true
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

func (n *Node) admitFetch(p peer.ID, d int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	own := n.serving[p]
	if d > 0 && (n.served.fetches >= maxFetches || own.fetches >= fetchesPerPeer) {
		return false
	}
	n.served.fetches += d
	own.fetches += d
	n.noteServing(p, own)
	return true
}

// noteServing notes what is served to a peer, also to one that is no companion.
// n.mu is held.
func (n *Node) noteServing(p peer.ID, own streams) {
	if own == (streams{}) {
		delete(n.serving, p)
	} else {
		n.serving[p] = own
	}
}

// service is the side of a session that answers.
type service struct {
	n      *Node
	ctx    context.Context
	w      *wire
	peer   peer.ID
	theirs *hello
	mine   *greeting
	their  map[dag.CollectionID]card
	took   bool       // something was pushed
	asking *companion // that it is noted with; nil: it proved nothing yet
}

func (n *Node) serveSync(ctx context.Context, w *wire, p peer.ID) error {
	s := &service{n: n, ctx: ctx, w: w, peer: p}
	defer func() {
		if s.asking != nil {
			n.asking(s.asking, -1)
		}
		if s.took { // also when it ended badly: what was merged stays
			n.spread(p)
		}
	}()
	for {
		m, err := w.receive()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = s.answer(m)
		}
		if err != nil {
			return err
		}
	}
}

func (s *service) answer(m message) error {
	if s.mine == nil {
		if _, ok := m.(*hello); !ok {
			return breach("%T before HELLO", m)
		}
	}
	switch m.(type) {
	case *getLog, *getFull, *getNodes, *push:
		if s.n.crosses(s.peer) {
			return &refuse{Code: refusedBusy, Text: "a session the other way round is under way", After: busyFor}
		}
	}
	switch m := m.(type) {
	case *hello:
		return s.greet(m)
	case *offers:
		s.n.adoptOffers(s.ctx, s.peer, m.Offers)
		return nil
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
	return id, s.mine.cards[id], nil
}

// greet answers HELLO with the collections that the peer proved, and gives what it
// may have and lacks.
func (s *service) greet(theirs *hello) error {
	since := time.Now()
	ps := s.n.admission.with(s.peer)
	var claims []claim
	common := map[dag.CollectionID][]secret{}
	s.theirs, s.their = theirs, map[dag.CollectionID]card{}
	for _, e := range theirs.Entries {
		c, ok := ps.theirs[e.Proof]
		if !ok || slices.Contains(common[c.id], c.secret) {
			continue
		}
		if err := s.n.admission.proved(s.peer, c); err != nil {
			return err
		}
		claims = append(claims, c)
		common[c.id] = append(common[c.id], c.secret)
		s.their[c.id] = s.n.lifted(s.peer, e, c, theirs.Nonce)
	}
	var err error
	if s.mine, err = s.n.greeting(s.ctx, s.peer, ps, claims); err != nil {
		return err
	}
	if s.mine.Offers, err = s.n.offersFor(s.ctx, s.peer, ps.ring, common); err != nil {
		return err
	}
	equal := true
	told := report{Collections: map[dag.CollectionID]*verdict{}}
	for id, mine := range s.mine.cards {
		s.n.admission.settle(s.peer, id, ps.ring)
		their := s.their[id]
		told.Clock = their.Clock
		told.Collections[id] = &verdict{Mine: mine.Count, Theirs: their.Count}
		if p := (pair{id: id, mine: mine, theirs: their}); p.equal() {
			s.n.equals(s.peer, id, their, since)
		} else {
			equal = false
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
	if equal && len(s.mine.cards) == len(ps.ids) {
		s.n.greetedEqual(s.peer, since)
	}
	return s.w.send(&s.mine.hello)
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
	out := &sender{w: s.w}
	if err := s.n.sendLog(s.ctx, out, s.peer, id, m.After, mine.Seq); err != nil {
		return err
	}
	return out.end(mine.Seq)
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
	out := &sender{w: s.w}
	if err := s.n.sendFull(s.ctx, out, id, after); err != nil {
		return err
	}
	return out.end(0)
}

func (s *service) nodes(m *getNodes) error {
	id, _, err := s.collection(m.Collection)
	if err != nil {
		return err
	}
	salt := newSalt(s.theirs.Nonce, s.mine.Nonce)
	answer := new(tree)
	for i, p := range m.Prefixes {
		node, err := answerNode(s.ctx, s.n.side(id), salt, p, m.Levels)
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
	got, err := s.n.receiveBlocks(s.ctx, s.w, s.peer, id, nil)
	s.n.wantMissing(s.peer, id, got.Missing)
	s.took = s.took || got.Applied > 0
	if err != nil {
		return err
	}
	if got.Mark > 0 && got.complete() {
		s.n.cursors.set(s.peer, id, cursor{epoch: s.their[id].Epoch, seq: got.Mark})
	}
	return s.w.send(&ack{uint64(got.Applied), uint64(got.Known), uint64(len(got.Missing) + got.Deferred)})
}

// greetedEqual notes that a peer opened a session and everything was equal, a
// moment ago: there is no need to ask it in turn, unless something was lost since.
func (n *Node) greetedEqual(p peer.ID, then time.Time) {
	if c, err := n.companion(p); err == nil {
		c.next.clear(then)
	}
}

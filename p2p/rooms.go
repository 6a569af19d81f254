package p2p

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/ident"
)

// rooms are the topics of applications that this node takes part in: for its own
// users, or to carry them between peers that do not reach each other.
//
// Nothing here is kept on disk, and nothing depends on it: posts are passed on by
// gossip, and who was not there did not hear them.
type rooms struct {
	n    *Node
	wake chan struct{} // tend has something to do

	// joining is held while topics of gossip are joined and left; taken before mu, which
	// is never held while gossip is asked for something.
	joining sync.Mutex

	mu            sync.Mutex // guards what follows, and the rooms
	all           map[roomID]*room
	lines         map[string]*line // by the name of their topic
	ring          *keyring         // that lines are joined for
	lastRun       uint64
	states        int // bytes of presence
	subscriptions int

	noticing sync.Mutex // guards noticed; taken last
	noticed  []sighting
	carrier  carrier // of tend alone
}

type roomID struct {
	id   dag.CollectionID
	name string
}

// room is one topic of an application.
type room struct {
	roomID
	run, seq  uint64
	lines     []*line // of all secrets, that in use first; none if it is only carried
	listeners map[*Subscription]struct{}
	holds     int       // subscriptions, and others at work with it
	idle      time.Time // since when there is none
	waiting   int       // to publish
	authors   map[ident.PublicKey]*author
	own       bucket // what was sent from here
	everybody bucket // what was heard
	presence  presence

	heard, dropped uint64
}

// author is somebody who was heard in a room.
type author struct {
	run   uint64
	seen  []seen // one for each line
	heard time.Time
	rate  bucket

	until time.Time // is here; zero: is not
	since time.Time
	state []byte
}

// seen are the posts of one run of a sender that came over one line: the highest
// number, and which of the 64 below it.
type seen struct {
	over *line
	most uint64
	bits uint64
}

// add notes a number, and reports whether it is new.
func (s *seen) add(seq uint64) bool {
	switch {
	case seq > s.most:
		if d := seq - s.most; d < 64 {
			s.bits = s.bits<<d | 1
		} else {
			s.bits = 1
		}
		s.most = seq
		return true
	case s.most-seq >= 64 || s.bits>>(s.most-seq)&1 == 1:
		return false
	}
	s.bits |= 1 << (s.most - seq)
	return true
}

// flow is how much may pass: so much a second, and what burst seconds bring at once.
type flow struct{ items, bytes, burst float64 }

// bucket is what of a flow is left. The zero value is full.
type bucket struct {
	items, bytes float64 // taken and not made up for yet
	at           time.Time
}

// take lets one message pass, or returns in how long it may.
func (b *bucket) take(f flow, size int, now time.Time) time.Duration {
	passed := max(now.Sub(b.at).Seconds(), 0)
	b.items, b.bytes, b.at = max(b.items-passed*f.items, 0), max(b.bytes-passed*f.bytes, 0), now
	over := max((b.items+1)/f.items, (b.bytes+float64(size))/f.bytes) - f.burst
	if d := time.Duration(over * float64(time.Second)); d > 0 { // none of less than that is waited for
		return d
	}
	b.items, b.bytes = b.items+1, b.bytes+float64(size)
	return 0
}

func newRooms(n *Node) *rooms {
	return &rooms{n: n, wake: make(chan struct{}, 1), all: map[roomID]*room{}, lines: map[string]*line{},
		carrier: carrier{candidates: map[string]*candidate{}, houses: map[string]claim{}, perPeer: map[peer.ID]int{}}}
}

func (rs *rooms) poke() {
	select {
	case rs.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// parse finds the room that the name of a topic means: COLLECTION/ROOM.
func (rs *rooms) parse(topic string) (roomID, error) {
	name, text := topic, ""
	for i := range topic {
		if topic[i] == '/' {
			name, text = topic[:i], topic[i+1:]
			break
		}
	}
	if name == "" {
		return roomID{}, fault.Invalid.Errorf("topic %q: write it as COLLECTION/ROOM, such as Note/lobby", topic)
	}
	if err := checkRoom(text); err != nil {
		return roomID{}, err
	}
	c, err := rs.n.db.Collection(name)
	if err != nil {
		return roomID{}, err
	}
	return roomID{c.ID, text}, nil
}

// enter takes part in a room until leave: as a listener, who is in its mesh, or only
// to publish.
func (rs *rooms) enter(id roomID, listen bool) (*room, error) {
	if _, ok := rs.n.admission.secret(id.id); !ok { // of this second
		if err := rs.n.noticeCollections(); err != nil {
			return nil, err
		}
	}
	rs.joining.Lock()
	defer rs.joining.Unlock()
	r, err := rs.hold(id)
	if err != nil {
		return nil, err
	}
	if err := rs.joinAll(r, listen); err != nil {
		rs.leave(r)
		return nil, err
	}
	rs.poke()
	return r, nil
}

// hold counts somebody who is in a room. joining is held.
func (rs *rooms) hold(id roomID) (*room, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.all[id]; r != nil && len(r.lines) > 0 {
		r.holds++
		return r, nil
	}
	if joined, idle := rs.joined(); joined >= maxRooms && idle == nil {
		return nil, fault.Unavailable.Errorf("this node takes part in %d topics, which is the most: leave one", joined)
	} else if joined >= maxRooms {
		rs.mu.Unlock()
		rs.close(idle)
		rs.mu.Lock()
	}
	r := rs.roomOf(id)
	r.holds++
	return r, nil
}

// joined counts the rooms that this node is in, and returns the one that nobody is in
// for the longest. mu is held.
func (rs *rooms) joined() (n int, idle *room) {
	for _, r := range rs.all {
		if len(r.lines) == 0 {
			continue
		}
		n++
		if r.holds == 0 && (idle == nil || r.idle.Before(idle.idle)) {
			idle = r
		}
	}
	return n, idle
}

// roomOf returns a room, a new one if it must be. mu is held.
func (rs *rooms) roomOf(id roomID) *room {
	r := rs.all[id]
	if r == nil {
		rs.lastRun = max(rs.lastRun+1, uint64(time.Now().UnixMilli()))
		r = &room{roomID: id, run: rs.lastRun, listeners: map[*Subscription]struct{}{}, authors: map[ident.PublicKey]*author{}}
		rs.all[id] = r
	}
	return r
}

// leave is the end of enter.
func (rs *rooms) leave(r *room) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.holds--; r.holds > 0 {
		return
	}
	r.idle = time.Now()
	if len(r.lines) == 0 { // it could not be joined
		rs.drop(r)
	}
	rs.poke()
}

// drop forgets a room that nobody is in. mu is held.
func (rs *rooms) drop(r *room) {
	for _, c := range rs.lines {
		if c.room == r {
			return // somebody else's, that is carried
		}
	}
	if r.holds > 0 || rs.all[r.roomID] != r {
		return
	}
	for _, s := range r.authors {
		rs.states -= len(s.state)
	}
	delete(rs.all, r.roomID)
}

// joinAll joins the lines of a room. joining is held.
func (rs *rooms) joinAll(r *room, listen bool) error {
	ring, _ := rs.n.admission.keys()
	secrets := ring.secrets[r.id]
	if len(secrets) == 0 {
		return fault.Unavailable.Errorf("the collection has no join secret yet: try again in a second")
	}
	var all []*line
	var failed error
	for _, s := range secrets {
		c, err := rs.join(claim{r.id, s}, tagOf(s, r.id, r.name), listen)
		if err != nil {
			failed = err
			continue
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return failed
	}
	rs.mu.Lock()
	for _, c := range all {
		c.room, c.until = r, time.Time{}
	}
	old := slices.DeleteFunc(slices.Clone(r.lines), func(c *line) bool { return slices.Contains(all, c) })
	r.lines = all
	rs.mu.Unlock()
	if failed == nil { // what is left is of secrets that gave way to others
		for _, c := range old {
			rs.part(c)
		}
	}
	return nil
}

// join takes part in a line, or goes on to do so. joining is held.
func (rs *rooms) join(cl claim, tag roomTag, listen bool) (*line, error) {
	name := lineName(cl, tag)
	rs.mu.Lock()
	c := rs.lines[name]
	rs.mu.Unlock()
	if c == nil {
		var err error
		c = newLine(cl, tag)
		c.topic, err = rs.n.gossip.Join(c.Channel, func(from peer.ID, said []byte, err error) gossip.Verdict {
			return rs.hear(c, from, said, err, time.Now())
		})
		if err != nil {
			return nil, fault.Unavailable.Errorf("join a topic: %w", err)
		}
		rs.mu.Lock()
		rs.lines[name] = c
		rs.mu.Unlock()
	}
	if listen {
		if err := c.topic.Listen(); err != nil {
			return nil, fault.Unavailable.Errorf("join a topic: %w", err)
		}
	}
	return c, nil
}

// part leaves a line. joining is held.
func (rs *rooms) part(c *line) {
	rs.mu.Lock()
	delete(rs.lines, c.Name)
	r := c.room
	c.room = nil
	if r != nil && len(r.lines) == 0 {
		rs.drop(r)
	}
	rs.mu.Unlock()
	if err := c.topic.Leave(); err != nil && rs.n.ctx.Err() == nil {
		rs.n.log.Warn("a topic cannot be left", "error", err)
	}
}

// close leaves a room that nobody here is in. joining is held.
func (rs *rooms) close(r *room) {
	rs.mu.Lock()
	lines := r.lines
	r.lines = nil
	rs.mu.Unlock()
	for _, c := range lines {
		rs.part(c)
	}
	rs.mu.Lock()
	rs.drop(r)
	rs.mu.Unlock()
}

// hear judges a post, for this node and for whether it is passed on, and takes it in.
func (rs *rooms) hear(c *line, from peer.ID, said []byte, err error, now time.Time) gossip.Verdict {
	var p *post
	if err == nil {
		p, err = c.read(said)
	}
	if errors.Is(err, errOtherVersion) {
		return gossip.Ignore // what this node cannot judge is nobody's fault
	}
	if err != nil {
		rs.n.count.TopicRefused.Add(1)
		rs.n.log.Debug("a post was refused", "peer", from, "error", err)
		return gossip.Reject
	}
	off := now.Sub(time.UnixMilli(int64(min(p.sent, maxNumber))))
	if off > topicWindow || off < -topicWindow || p.from == rs.n.key.Public() {
		rs.n.count.TopicDropped.Add(1)
		return gossip.Ignore
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.lines[c.Name] != c {
		return gossip.Ignore // it was left meanwhile
	}
	if c.room == nil {
		c.room = rs.roomOf(roomID{c.Collection, p.room})
	}
	if !rs.take(c, p, now) {
		return gossip.Ignore
	}
	return gossip.Accept
}

// take takes a post in, and reports whether it is to be passed on. mu is held.
func (rs *rooms) take(c *line, p *post, now time.Time) bool {
	r := c.room
	s := rs.authorOf(r, p, now)
	here, before := s.witness(c, p)
	if !here {
		rs.n.count.TopicDropped.Add(1) // a second time: gossip itself drops copies
		return false
	}
	s.heard = now
	c.lives(now.Add(carryFor))
	if before {
		return true // over another line
	}
	if s.rate.take(othersFlow, len(p.body), now) > 0 || r.everybody.take(roomFlow, len(p.body), now) > 0 {
		r.dropped++
		rs.n.count.TopicDropped.Add(1)
		return false
	}
	if p.kind == postSaid {
		r.heard++
		rs.n.count.TopicHeard.Add(1)
		rs.deliver(r, Message{Kind: Said, From: p.from.DID(), Time: time.UnixMilli(int64(p.sent)), Seq: p.seq, Data: p.body})
		return true
	}
	rs.takePresence(c, p, s, now)
	return true
}

// lives makes a line that is only carried be carried until then.
func (c *line) lives(until time.Time) {
	if !c.until.IsZero() && c.until.Before(until) {
		c.until = until
	}
}

// authorOf returns what is known of the sender of a post.
func (rs *rooms) authorOf(r *room, p *post, now time.Time) *author {
	s := r.authors[p.from]
	if s == nil {
		if len(r.authors) >= maxAuthors {
			rs.dropOldest(r)
		}
		s = &author{run: p.run, heard: now}
		r.authors[p.from] = s
	}
	return s
}

func (rs *rooms) dropOldest(r *room) {
	var oldest ident.PublicKey
	for key, s := range r.authors {
		if oldest == "" || s.heard.Before(r.authors[oldest].heard) {
			oldest = key
		}
	}
	rs.absent(r, oldest)
	delete(r.authors, oldest)
}

// witness notes a post, and reports whether it is new over this line, and whether
// it came over another before.
func (a *author) witness(c *line, p *post) (fresh, before bool) {
	if p.run < a.run {
		return false, false
	}
	if p.run > a.run {
		a.run, a.seen = p.run, nil
	}
	var mine *seen
	for i := range a.seen {
		o := &a.seen[i]
		if o.over == c {
			mine = o
		} else if copied := *o; !copied.add(p.seq) {
			before = true
		}
	}
	if mine == nil {
		if len(a.seen) > maxSecrets { // lines that were left
			a.seen = slices.Delete(a.seen, 0, 1)
		}
		a.seen = append(a.seen, seen{over: c})
		mine = &a.seen[len(a.seen)-1]
	}
	return mine.add(p.seq), before
}

// send posts something in a room, and returns how many connected peers it was sent to.
func (rs *rooms) send(ctx context.Context, r *room, kind uint64, body []byte) (*post, int, error) {
	key := rs.n.key
	rs.mu.Lock()
	r.seq++
	p := &post{room: r.name, kind: kind, from: key.Public(), run: r.run, seq: r.seq, sent: uint64(time.Now().UnixMilli()), body: body}
	lines := slices.Clone(r.lines)
	rs.mu.Unlock()
	if err := p.sign(key, r.id); err != nil {
		return nil, 0, err
	}
	plain := p.append(nil)
	reached := map[peer.ID]bool{}
	var failed error
	for i, c := range lines {
		needed := i == 0
		for _, q := range c.topic.Followers() {
			if !reached[q] {
				reached[q], needed = true, true
			}
		}
		if !needed {
			continue
		}
		if err := c.topic.Publish(ctx, plain); err != nil {
			failed = err
		}
	}
	if failed != nil {
		if context.Cause(rs.n.ctx) != nil {
			failed = context.Cause(rs.n.ctx)
		}
		return p, 0, fault.Unavailable.Errorf("publish: %w", failed)
	}
	return p, len(reached), nil
}

// missed counts a post that gossip dropped on its way. It reports false for anything
// else.
func (rs *rooms) missed(topic string) bool {
	if !strings.HasPrefix(topic, linePrefix) {
		return false
	}
	rs.n.count.TopicDropped.Add(1)
	return true
}

// tend does what is due: it says that members here are present, finds out who is
// not any more, leaves rooms that nobody is in, and carries those that need it.
func (rs *rooms) tend(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	_, changed := rs.n.admission.keys()
	for {
		timer.Reset(rs.pass(ctx))
		select {
		case <-ctx.Done():
			return
		case <-rs.wake:
		case <-timer.C:
		case <-changed:
			_, changed = rs.n.admission.keys()
		}
	}
}

// pass does what is due now, and returns when there is something again.
func (rs *rooms) pass(ctx context.Context) time.Duration {
	rs.rejoin()
	rs.carry(time.Now())
	now := time.Now()
	next := now.Add(time.Hour)
	soon := func(at time.Time) {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	soon(rs.carrier.next)
	var idle []*room
	var beats []*room
	rs.mu.Lock()
	for _, r := range rs.all {
		if r.holds == 0 && len(r.lines) > 0 {
			if end := r.idle.Add(linger); now.Before(end) {
				soon(end)
			} else {
				idle = append(idle, r)
				continue
			}
		}
		soon(rs.expire(r, now))
		if r.presence.on && !now.Before(r.presence.due) {
			beats = append(beats, r)
		} else if r.presence.on {
			soon(r.presence.due)
		}
	}
	rs.mu.Unlock()
	for _, r := range beats {
		soon(rs.beat(ctx, r))
	}
	rs.closeIdle(idle)
	return max(time.Until(next), time.Millisecond)
}

func (rs *rooms) closeIdle(idle []*room) {
	if len(idle) == 0 {
		return
	}
	rs.joining.Lock()
	defer rs.joining.Unlock()
	for _, r := range idle {
		rs.mu.Lock()
		still := r.holds == 0
		rs.mu.Unlock()
		if still {
			rs.close(r)
		}
	}
}

// rejoin joins the lines of secrets that came to be known.
func (rs *rooms) rejoin() {
	ring, _ := rs.n.admission.keys()
	rs.joining.Lock()
	defer rs.joining.Unlock()
	rs.mu.Lock()
	if rs.ring == ring {
		rs.mu.Unlock()
		return
	}
	rs.ring = ring
	all := slices.Collect(maps.Values(rs.all))
	rs.mu.Unlock()
	rs.carrier.learn(ring)
	for _, r := range all {
		rs.mu.Lock()
		lines := r.lines
		rs.mu.Unlock()
		if len(lines) == 0 {
			continue
		}
		if err := rs.joinAll(r, lines[0].topic.Listens()); err != nil {
			rs.n.log.Warn("a topic cannot be followed under a new secret", "error", err)
		}
	}
}

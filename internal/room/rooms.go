package room

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/ident"
)

// Config is what rooms need of a node.
type Config struct {
	Key     ident.Key // whose posts those of this node are
	Gossip  *gossip.Gossip
	Members Members
	Logger  *slog.Logger
}

// Members are the collections of a node, and who shares them: who may be in their rooms.
type Members interface {
	// Collection returns the collection of a name. From then on it has a secret.
	Collection(name string) (dag.CollectionID, error)
	// Names returns how collections are called here.
	Names() map[dag.CollectionID]string
	// Secrets returns the secrets of all collections, first the one in use, and a channel
	// that is closed when there are others. They are not to be changed.
	Secrets() (map[dag.CollectionID][]ident.Secret, <-chan struct{})
	// Sharing returns the connected peers that proved to know a secret of a collection.
	Sharing(dag.CollectionID) []peer.ID
}

// Rooms are those that a node takes part in: for its own users, or to carry them between
// peers that do not reach each other.
type Rooms struct {
	key     ident.Key
	gossip  *gossip.Gossip
	members Members
	log     *slog.Logger
	ctx     context.Context // ends when the node closes
	count   struct{ sent, heard, dropped, refused atomic.Uint64 }
	wake    chan struct{} // Run has something to do

	// joining is held while topics of gossip are joined and left; taken before mu, which
	// is never held while gossip is asked for something.
	joining sync.Mutex

	mu            sync.Mutex // guards what follows, and the rooms
	all           map[roomID]*room
	lines         map[string]*line // by the name of their topic
	known         <-chan struct{}  // of the secrets that lines are joined for
	lastRun       uint64
	states        int // bytes of presence
	subscriptions int

	noticing sync.Mutex // guards noticed; taken last
	noticed  []sighting
	carrier  carrier // of Run alone
}

// Counters say what was heard and said since the start.
type Counters struct {
	Sent, Heard uint64 // messages of applications
	Dropped     uint64 // that came too fast, too late or twice, or that nobody read in time
	Refused     uint64 // that broke the rules
}

// New makes the rooms of a node, which are until ctx ends.
func New(ctx context.Context, c Config) *Rooms {
	rs := &Rooms{key: c.Key, gossip: c.Gossip, members: c.Members, log: c.Logger, ctx: ctx, wake: make(chan struct{}, 1),
		all: map[roomID]*room{}, lines: map[string]*line{}, carrier: newCarrier()}
	if rs.log == nil {
		rs.log = slog.New(slog.DiscardHandler)
	}
	return rs
}

// Counters returns what was heard and said.
func (rs *Rooms) Counters() Counters {
	c := &rs.count
	return Counters{c.sent.Load(), c.heard.Load(), c.dropped.Load(), c.refused.Load()}
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

func (rs *Rooms) poke() {
	select {
	case rs.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// parse finds the room that the name of a topic means: COLLECTION/ROOM.
func (rs *Rooms) parse(topic string) (roomID, error) {
	name, text, _ := strings.Cut(topic, "/")
	if name == "" {
		return roomID{}, fault.Invalid.Errorf("topic %q: write it as COLLECTION/ROOM, such as Note/lobby", topic)
	}
	if err := checkRoom(text); err != nil {
		return roomID{}, err
	}
	id, err := rs.members.Collection(name)
	return roomID{id, text}, err
}

// enter takes part in a room until leave: as a listener, who is in its mesh, or only
// to publish.
func (rs *Rooms) enter(id roomID, listen bool) (*room, error) {
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
func (rs *Rooms) hold(id roomID) (*room, error) {
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
func (rs *Rooms) joined() (n int, idle *room) {
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
func (rs *Rooms) roomOf(id roomID) *room {
	r := rs.all[id]
	if r == nil {
		rs.lastRun = max(rs.lastRun+1, uint64(time.Now().UnixMilli()))
		r = &room{roomID: id, run: rs.lastRun, listeners: map[*Subscription]struct{}{}, authors: map[ident.PublicKey]*author{}}
		rs.all[id] = r
	}
	return r
}

// leave is the end of enter.
func (rs *Rooms) leave(r *room) {
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
func (rs *Rooms) drop(r *room) {
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
func (rs *Rooms) joinAll(r *room, listen bool) error {
	secrets, _ := rs.members.Secrets()
	if len(secrets[r.id]) == 0 {
		return fault.Unavailable.Errorf("the collection has no join secret yet: try again in a second")
	}
	var all []*line
	var failed error
	for _, s := range secrets[r.id] {
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
func (rs *Rooms) join(cl claim, tag roomTag, listen bool) (*line, error) {
	name := lineName(cl, tag)
	rs.mu.Lock()
	c := rs.lines[name]
	rs.mu.Unlock()
	if c == nil {
		var err error
		c = newLine(cl, tag)
		c.topic, err = rs.gossip.Join(c.Channel, func(from peer.ID, said []byte, err error) gossip.Verdict {
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
func (rs *Rooms) part(c *line) {
	rs.mu.Lock()
	delete(rs.lines, c.Name)
	r := c.room
	c.room = nil
	if r != nil && len(r.lines) == 0 {
		rs.drop(r)
	}
	rs.mu.Unlock()
	if err := c.topic.Leave(); err != nil && rs.ctx.Err() == nil {
		rs.log.Warn("a topic cannot be left", "error", err)
	}
}

// close leaves a room that nobody here is in. joining is held.
func (rs *Rooms) close(r *room) {
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

// Run does what is due until ctx ends: it says that members here are present, finds out
// who is not any more, leaves rooms that nobody is in, and carries those that need it.
func (rs *Rooms) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	_, changed := rs.members.Secrets()
	for {
		timer.Reset(rs.pass(ctx))
		select {
		case <-ctx.Done():
			return
		case <-rs.wake:
		case <-timer.C:
		case <-changed:
			_, changed = rs.members.Secrets()
		}
	}
}

// pass does what is due now, and returns when there is something again.
func (rs *Rooms) pass(ctx context.Context) time.Duration {
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

func (rs *Rooms) closeIdle(idle []*room) {
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
func (rs *Rooms) rejoin() {
	secrets, changed := rs.members.Secrets()
	rs.joining.Lock()
	defer rs.joining.Unlock()
	rs.mu.Lock()
	if rs.known == changed {
		rs.mu.Unlock()
		return
	}
	rs.known = changed
	all := slices.Collect(maps.Values(rs.all))
	rs.mu.Unlock()
	rs.carrier.learn(secrets)
	for _, r := range all {
		rs.mu.Lock()
		lines := r.lines
		rs.mu.Unlock()
		if len(lines) == 0 {
			continue
		}
		if err := rs.joinAll(r, lines[0].topic.Listens()); err != nil {
			rs.log.Warn("a topic cannot be followed under a new secret", "error", err)
		}
	}
}

package p2p

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/pace"
)

// Kind is what a message of a topic tells.
type Kind string

const (
	// Said is a message that a member published.
	Said Kind = "message"
	// Here is a member who came, or whose state changed.
	Here Kind = "here"
	// Gone is a member who left, or was not heard for too long.
	Gone Kind = "gone"
)

// ErrTooFast is why a message was not published: later it will be.
var ErrTooFast = errors.New("this node publishes faster")

// Message is one thing that is heard in a topic.
type Message struct {
	Topic string
	Kind  Kind
	From  ident.DID // the node that sent it; its signature was checked
	Time  time.Time // by the clock of the sender
	Seq   uint64    // grows with each message of a sender; messages may come out of order
	Data  []byte    // of Here, the state of the member. It is shared: do not write to it
	// Dropped is how many messages were lost right before this one, because the listener
	// did not keep up.
	Dropped uint64
}

// TopicOptions say how to listen to a topic. The zero value hears what is said.
type TopicOptions struct {
	// Presence makes the listener hear who comes and goes too, beginning with who is here.
	Presence bool
	// State is what this node shows of itself in the topic, at most MaxTopicState bytes.
	// It is one for all listeners of the node: the last that is given holds.
	State []byte
}

// Subscription listens to a topic. Who listens is seen by all others that do.
type Subscription struct {
	rs       *rooms
	room     *room
	topic    string
	presence bool

	mu      sync.Mutex // guards what follows; taken last
	queue   []Message
	bytes   int
	dropped uint64
	closed  bool
	more    chan struct{}
}

// Publish sends a message to everybody who listens to a topic, COLLECTION/ROOM, and
// returns how many connected peers it was handed to: they pass it on. It is kept
// nowhere; who does not listen now never hears it. A sender that is too fast waits for
// its turn while ctx allows.
func (n *Node) Publish(ctx context.Context, topic string, data []byte) (int, error) {
	if len(data) > MaxTopicMessage {
		return 0, fault.TooLarge.Errorf("a message of %d bytes: allowed are %d, so put more into a document and publish its docID", len(data), MaxTopicMessage)
	}
	id, err := n.rooms.parse(topic)
	if err != nil {
		return 0, err
	}
	r, err := n.rooms.enter(id, false)
	if err != nil {
		return 0, err
	}
	defer n.rooms.leave(r)
	if err := n.rooms.turn(ctx, r, topic, len(data)); err != nil {
		return 0, err
	}
	p, reached, err := n.rooms.send(ctx, r, postSaid, slices.Clone(data))
	if err != nil {
		return 0, err
	}
	n.count.TopicSent.Add(1)
	n.rooms.mu.Lock()
	defer n.rooms.mu.Unlock()
	n.rooms.deliver(r, Message{Kind: Said, From: p.from.DID(), Time: time.UnixMilli(int64(p.sent)), Seq: p.seq, Data: p.body})
	return reached, nil
}

// turn waits until this node may send a message of that size in a room.
func (rs *rooms) turn(ctx context.Context, r *room, topic string, size int) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.waiting >= maxPublishing {
		return fault.Unavailable.Errorf("topic %s: %w than %.0f messages a second: %d wait already", topic, ErrTooFast, senderFlow.items, r.waiting)
	}
	r.waiting++
	defer func() { r.waiting-- }()
	for {
		now := time.Now()
		d := r.own.take(senderFlow, size, now)
		if d == 0 {
			return nil
		}
		if end, ok := ctx.Deadline(); ok && end.Before(now.Add(d)) {
			return fault.Unavailable.Errorf("topic %s: %w than %.0f messages and %.0f KiB a second: try again in %v",
				topic, ErrTooFast, senderFlow.items, senderFlow.bytes/1024, d.Round(time.Millisecond))
		}
		rs.mu.Unlock()
		ok := pace.Sleep(ctx, d)
		rs.mu.Lock()
		if !ok {
			return context.Cause(ctx)
		}
		if rs.n.ctx.Err() != nil {
			return context.Cause(rs.n.ctx)
		}
	}
}

// Subscribe listens to a topic, COLLECTION/ROOM, until Close. Members of the
// collection are let in, and nobody else can read what is said.
func (n *Node) Subscribe(ctx context.Context, topic string, o TopicOptions) (*Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := checkState(o.State); err != nil {
		return nil, err
	}
	id, err := n.rooms.parse(topic)
	if err != nil {
		return nil, err
	}
	r, err := n.rooms.enter(id, true)
	if err != nil {
		return nil, err
	}
	s := &Subscription{rs: n.rooms, room: r, topic: topic, presence: o.Presence, more: make(chan struct{}, 1)}
	if err := n.rooms.listen(s, o.State); err != nil {
		n.rooms.leave(r)
		return nil, err
	}
	return s, nil
}

func checkState(state []byte) error {
	if len(state) > MaxTopicState {
		return fault.TooLarge.Errorf("a state of %d bytes: allowed are %d", len(state), MaxTopicState)
	}
	return nil
}

// listen adds a listener to its room.
func (rs *rooms) listen(s *Subscription, state []byte) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.subscriptions >= maxSubscriptions {
		return fault.Unavailable.Errorf("%d listeners follow topics on this node, which is the most: end some", rs.subscriptions)
	}
	rs.subscriptions++
	r := s.room
	r.listeners[s] = struct{}{}
	if s.presence {
		for _, m := range rs.members(r) {
			s.put(Message{Kind: Here, From: m.DID, Time: m.Since, Data: m.State})
		}
	}
	if !r.presence.on {
		r.presence = presence{on: true, due: time.Now()}
		rs.showSelf(r, state)
		rs.poke()
	} else if state != nil {
		rs.show(r, state)
	}
	return nil
}

// show changes what this node shows of itself in a room. mu is held.
func (rs *rooms) show(r *room, state []byte) {
	if string(state) == string(r.presence.state) {
		return
	}
	rs.showSelf(r, state)
	rs.sayBy(r, time.Now())
}

func (rs *rooms) showSelf(r *room, state []byte) {
	r.presence.state = slices.Clone(state)
	rs.deliver(r, Message{Kind: Here, From: rs.n.key.DID(), Time: time.Now(), Data: r.presence.state})
}

// SetState changes what this node shows of itself in the topic.
func (s *Subscription) SetState(state []byte) error {
	if err := checkState(state); err != nil {
		return err
	}
	s.rs.mu.Lock()
	defer s.rs.mu.Unlock()
	if _, ok := s.room.listeners[s]; !ok {
		return fault.Closed.Errorf("the subscription is closed")
	}
	s.rs.show(s.room, state)
	return nil
}

// Close ends the subscription. When the last of a node ends, the others in the topic
// hear that it is gone.
func (s *Subscription) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		return nil
	}
	s.signal()
	rs, r := s.rs, s.room
	rs.mu.Lock()
	delete(r.listeners, s)
	rs.subscriptions--
	last := len(r.listeners) == 0
	if last {
		r.presence = presence{last: r.presence.last}
	}
	rs.mu.Unlock()
	var err error
	if last && rs.n.ctx.Err() == nil {
		_, _, err = rs.send(rs.n.ctx, r, postGone, nil)
	}
	rs.leave(r)
	return err
}

// deliver gives a message to the listeners of a room. mu is held.
func (rs *rooms) deliver(r *room, m Message) {
	for s := range r.listeners {
		if m.Kind == Said || s.presence {
			if lost := s.put(m); lost > 0 {
				r.dropped += uint64(lost)
				rs.n.count.TopicDropped.Add(uint64(lost))
			}
		}
	}
}

// put queues a message, and returns how many older ones gave way.
func (s *Subscription) put(m Message) (lost int) {
	m.Topic = s.topic
	s.mu.Lock()
	s.queue = append(s.queue, m)
	s.bytes += len(m.Data)
	for len(s.queue) > queueMessages || s.bytes > queueBytes {
		s.bytes -= len(s.queue[0].Data)
		s.queue[0] = Message{}
		s.queue = s.queue[1:]
		lost++
	}
	s.dropped += uint64(lost)
	s.mu.Unlock()
	s.signal()
	return lost
}

func (s *Subscription) signal() {
	select {
	case s.more <- struct{}{}:
	default: // it will look anyway
	}
}

// Next waits for a message. It fails when ctx is done, when the subscription was
// closed, and when the node closes. It is for one goroutine.
func (s *Subscription) Next(ctx context.Context) (Message, error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			m := s.queue[0]
			s.queue[0] = Message{}
			s.queue = s.queue[1:]
			s.bytes -= len(m.Data)
			m.Dropped, s.dropped = s.dropped, 0
			s.mu.Unlock()
			return m, nil
		}
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return Message{}, fault.Closed.Errorf("the subscription is closed")
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return Message{}, context.Cause(ctx)
		case <-s.rs.n.ctx.Done():
			return Message{}, context.Cause(s.rs.n.ctx)
		}
	}
}

// All yields messages until ctx is done or the node closes; the error says which.
func (s *Subscription) All(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			m, err := s.Next(ctx)
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// TopicStatus is a topic that this node takes part in.
type TopicStatus struct {
	Name      string // COLLECTION/ROOM
	Listeners int    // on this node; 0: it publishes, or left just now
	Carried   bool   // only to pass on what others say
	Present   int    // members that are here, this node included
	Peers     int    // connected peers that take part
	Heard     uint64 // messages
	Dropped   uint64 // messages that came too fast, for this node or for a listener
}

// Topics returns the topics that this node takes part in, by name.
func (n *Node) Topics() []TopicStatus {
	all := n.rooms.statuses()
	slices.SortFunc(all, func(a, b TopicStatus) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (rs *rooms) statuses() []TopicStatus {
	names := map[string]string{}
	for _, c := range rs.n.db.Collections() {
		names[string(c.ID[:])] = c.Name
	}
	type open struct {
		status TopicStatus
		lines  []*line
	}
	var found []open
	rs.mu.Lock()
	carried := map[*room][]*line{}
	for _, c := range rs.lines {
		if c.room != nil && !c.until.IsZero() {
			carried[c.room] = append(carried[c.room], c)
		}
	}
	for _, r := range rs.all {
		name, ok := names[string(r.id[:])]
		if !ok {
			continue
		}
		st := TopicStatus{Name: name + "/" + r.name, Listeners: len(r.listeners), Carried: len(r.lines) == 0,
			Present: r.present(), Heard: r.heard, Dropped: r.dropped}
		if r.presence.on {
			st.Present++
		}
		found = append(found, open{st, append(slices.Clone(r.lines), carried[r]...)})
	}
	rs.mu.Unlock()
	all := []TopicStatus{}
	for _, o := range found {
		peers := map[string]bool{}
		for _, c := range o.lines {
			for _, p := range c.topic.Followers() {
				peers[string(p)] = true
			}
		}
		o.status.Peers = len(peers)
		all = append(all, o.status)
	}
	return all
}

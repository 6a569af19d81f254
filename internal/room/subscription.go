package room

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
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

// Options say how to listen to a topic. The zero value hears what is said.
type Options struct {
	// Presence makes the listener hear who comes and goes too, beginning with who is here.
	Presence bool
	// State is what this node shows of itself in the topic, at most MaxState bytes.
	// It is one for all listeners of the node: the last that is given holds.
	State []byte
}

// Subscription listens to a topic. Who listens is seen by all others that do.
type Subscription struct {
	rs       *Rooms
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

// Subscribe listens to a topic, COLLECTION/ROOM, until Close. Members of the
// collection are let in, and nobody else can read what is said.
func (rs *Rooms) Subscribe(ctx context.Context, topic string, o Options) (*Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := checkState(o.State); err != nil {
		return nil, err
	}
	id, err := rs.parse(topic)
	if err != nil {
		return nil, err
	}
	r, err := rs.enter(id, true)
	if err != nil {
		return nil, err
	}
	s := &Subscription{rs: rs, room: r, topic: topic, presence: o.Presence, more: make(chan struct{}, 1)}
	if err := rs.listen(s, o.State); err != nil {
		rs.leave(r)
		return nil, err
	}
	return s, nil
}

func checkState(state []byte) error {
	if len(state) > MaxState {
		return fault.TooLarge.Errorf("a state of %d bytes: allowed are %d", len(state), MaxState)
	}
	return nil
}

// listen adds a listener to its room.
func (rs *Rooms) listen(s *Subscription, state []byte) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.subscriptions >= maxSubscriptions {
		return fault.Unavailable.Errorf("%d listeners follow topics on this node, which is the most: end some", rs.subscriptions)
	}
	rs.subscriptions++
	r := s.room
	r.listeners[s] = struct{}{}
	if s.presence {
		for _, m := range rs.who(r) {
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
func (rs *Rooms) show(r *room, state []byte) {
	if string(state) == string(r.presence.state) {
		return
	}
	rs.showSelf(r, state)
	rs.sayBy(r, time.Now())
}

func (rs *Rooms) showSelf(r *room, state []byte) {
	r.presence.state = slices.Clone(state)
	rs.deliver(r, Message{Kind: Here, From: rs.key.DID(), Time: time.Now(), Data: r.presence.state})
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
	if last && rs.ctx.Err() == nil {
		_, _, err = rs.send(rs.ctx, r, postGone, nil)
	}
	rs.leave(r)
	return err
}

// deliver gives a message to the listeners of a room. mu is held.
func (rs *Rooms) deliver(r *room, m Message) {
	for s := range r.listeners {
		if m.Kind == Said || s.presence {
			if lost := s.put(m); lost > 0 {
				r.dropped += uint64(lost)
				rs.count.dropped.Add(uint64(lost))
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
		case <-s.rs.ctx.Done():
			return Message{}, context.Cause(s.rs.ctx)
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

package room

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/pace"
)

// presence is how this node shows that it is in a room. Whoever listens is seen: each
// node says so when it comes, whenever somebody new asks, and now and then; and when
// it goes. Who is not heard for too long is gone.
type presence struct {
	on    bool
	state []byte
	due   time.Time // when to say so next
	last  time.Time
	early int // how often it was said since the node came
}

// earlyBeats is how often a node that came asks who is here, while nobody answers:
// the first time its neighbours may not have followed it into the room yet.
const earlyBeats = 4

// takePresence takes in that a member is here, goes, or asks. mu is held.
func (rs *Rooms) takePresence(c *line, p *post, s *author, now time.Time) {
	r := c.room
	switch p.kind {
	case postHere:
		h, err := readHere(p.body)
		if err != nil {
			return // readPost has looked
		}
		if h.asks {
			rs.answer(r, now)
		}
		c.lives(now.Add(h.lasts))
		changed := s.until.IsZero() || !bytes.Equal(s.state, h.state)
		if s.until.IsZero() {
			s.since = now
		}
		s.until = now.Add(h.lasts)
		if rs.states += len(h.state) - len(s.state); rs.states > maxStates {
			rs.states -= len(h.state)
			h.state = nil
			rs.count.dropped.Add(1)
		}
		s.state = bytes.Clone(h.state) // not the whole message
		if changed {
			rs.deliver(r, Message{Kind: Here, From: p.from.DID(), Time: time.UnixMilli(int64(p.sent)), Seq: p.seq, Data: s.state})
			rs.poke()
		}
	case postGone:
		rs.absent(r, p.from)
	case postWho:
		rs.answer(r, now)
	}
}

// absent notes that a member is not here any more. mu is held.
func (rs *Rooms) absent(r *room, key ident.PublicKey) {
	s := r.authors[key]
	if s == nil || s.until.IsZero() {
		return
	}
	rs.states -= len(s.state)
	s.until, s.since, s.state = time.Time{}, time.Time{}, nil
	rs.deliver(r, Message{Kind: Gone, From: key.DID(), Time: time.Now()})
}

// answer makes this node say soon that it is here; in a large room not at the same
// moment as all others. mu is held.
func (rs *Rooms) answer(r *room, now time.Time) {
	if !r.presence.on {
		return
	}
	spread := 50*time.Millisecond + time.Duration(len(r.authors))*presenceShare/10
	rs.sayBy(r, now.Add(pace.Jitter(spread/2, 1)))
}

// sayBy makes this node say by then that it is here, but not too often: many who are
// asked all the time make 50 answers a second together. mu is held.
func (rs *Rooms) sayBy(r *room, at time.Time) {
	gap := max(presenceGap, time.Duration(len(r.authors))*presenceShare/5)
	if soonest := r.presence.last.Add(gap); at.Before(soonest) {
		at = soonest
	}
	if at.Before(r.presence.due) {
		r.presence.due = at
		rs.poke()
	}
}

// expire notes who was not heard for too long, and returns when to look again. mu is
// held.
func (rs *Rooms) expire(r *room, now time.Time) (next time.Time) {
	for key, s := range r.authors {
		if !s.until.IsZero() && !now.Before(s.until) {
			rs.absent(r, key)
		}
		if s.until.IsZero() && now.Sub(s.heard) > topicWindow {
			delete(r.authors, key) // what is older is not taken anyway
			continue
		}
		if !s.until.IsZero() && (next.IsZero() || s.until.Before(next)) {
			next = s.until
		}
	}
	if !next.IsZero() && next.Before(now.Add(time.Second)) {
		next = now.Add(time.Second) // not once for each of many
	}
	return next
}

// present counts the members that are here. mu is held.
func (r *room) present() (n int) {
	for _, s := range r.authors {
		if !s.until.IsZero() {
			n++
		}
	}
	return n
}

// beat says that this node is here, and returns when to do so again.
func (rs *Rooms) beat(ctx context.Context, r *room) time.Time {
	now := time.Now()
	rs.mu.Lock()
	if !r.presence.on {
		rs.mu.Unlock()
		return time.Time{}
	}
	every := max(presenceEvery, time.Duration(r.present())*presenceShare)
	h := here{lasts: min((3 * every).Round(time.Second), presenceMost), state: r.presence.state}
	r.presence.last, r.presence.due = now, now.Add(pace.Jitter(every, 0.1))
	if r.presence.early < earlyBeats && r.present() == 0 {
		h.asks = true
		r.presence.due = now.Add(500 * time.Millisecond << r.presence.early)
		r.presence.early++
	} else {
		r.presence.early = earlyBeats
	}
	due := r.presence.due
	rs.mu.Unlock()
	if _, _, err := rs.send(ctx, r, postHere, h.append()); err != nil && ctx.Err() == nil {
		rs.log.Debug("presence cannot be told", "error", err)
	}
	return due
}

// Member is somebody who is in a topic.
type Member struct {
	DID   ident.DID // of its node
	Self  bool      // this node
	Since time.Time // when this node first heard of it
	State []byte    // what it shows of itself
}

// who returns who is here, by DID. mu is held.
func (rs *Rooms) who(r *room) []Member {
	all := []Member{}
	if r.presence.on {
		all = append(all, Member{DID: rs.key.DID(), Self: true, Since: time.UnixMilli(int64(r.run)), State: r.presence.state})
	}
	for key, s := range r.authors {
		if !s.until.IsZero() {
			all = append(all, Member{DID: key.DID(), Since: s.since, State: s.state})
		}
	}
	slices.SortFunc(all, func(a, b Member) int {
		switch {
		case a.DID < b.DID:
			return -1
		case a.DID > b.DID:
			return 1
		}
		return 0
	})
	return all
}

// Present returns who is in a topic, by DID. A node that does not listen to it asks,
// without being seen there, and waits for answers for a moment.
func (rs *Rooms) Present(ctx context.Context, topic string) ([]Member, error) {
	id, err := rs.parse(topic)
	if err != nil {
		return nil, err
	}
	r, err := rs.enter(id, true)
	if err != nil {
		return nil, err
	}
	defer rs.leave(r)
	rs.mu.Lock()
	settled := r.presence.on && time.Since(time.UnixMilli(int64(r.run))) > whoWait
	rs.mu.Unlock()
	if !settled {
		if err := rs.ask(ctx, r); err != nil {
			return nil, err
		}
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.who(r), nil
}

// ask asks who is here and waits for answers: twice, because who carries the room
// may only have begun to.
func (rs *Rooms) ask(ctx context.Context, r *room) error {
	for range 2 {
		if _, _, err := rs.send(ctx, r, postWho, nil); err != nil {
			return err
		}
		if !pace.Sleep(ctx, whoWait/2) {
			return context.Cause(ctx)
		}
	}
	return nil
}

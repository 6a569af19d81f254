package room

import (
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/ident"
)

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

// hear judges a post, for this node and for whether it is passed on, and takes it in.
func (rs *Rooms) hear(c *line, from peer.ID, said []byte, err error, now time.Time) gossip.Verdict {
	var p *post
	if err == nil {
		p, err = c.read(said)
	}
	if errors.Is(err, errOtherVersion) {
		return gossip.Ignore // what this node cannot judge is nobody's fault
	}
	if err != nil {
		rs.count.refused.Add(1)
		rs.log.Debug("a post was refused", "peer", from, "error", err)
		return gossip.Reject
	}
	off := now.Sub(time.UnixMilli(int64(min(p.sent, math.MaxInt64))))
	if off > topicWindow || off < -topicWindow || p.from == rs.key.Public() {
		rs.count.dropped.Add(1)
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
func (rs *Rooms) take(c *line, p *post, now time.Time) bool {
	r := c.room
	s := rs.authorOf(r, p, now)
	here, before := s.witness(c, p)
	if !here {
		rs.count.dropped.Add(1) // a second time: gossip itself drops copies
		return false
	}
	s.heard = now
	c.lives(now.Add(carryFor))
	if before {
		return true // over another line
	}
	if s.rate.take(othersFlow, len(p.body), now) > 0 || r.everybody.take(roomFlow, len(p.body), now) > 0 {
		r.dropped++
		rs.count.dropped.Add(1)
		return false
	}
	if p.kind == postSaid {
		r.heard++
		rs.count.heard.Add(1)
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
func (rs *Rooms) authorOf(r *room, p *post, now time.Time) *author {
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

func (rs *Rooms) dropOldest(r *room) {
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
		if len(a.seen) >= maxSeen { // lines that were left
			a.seen = slices.Delete(a.seen, 0, 1)
		}
		a.seen = append(a.seen, seen{over: c})
		mine = &a.seen[len(a.seen)-1]
	}
	return mine.add(p.seq), before
}

// Lost counts a message that gossip dropped on its way. It reports false of a topic that is
// none of rooms.
func (rs *Rooms) Lost(topic string) bool {
	if !strings.HasPrefix(topic, linePrefix) {
		return false
	}
	rs.count.dropped.Add(1)
	return true
}

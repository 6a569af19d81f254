package room

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/pace"
)

// ErrTooFast is why a message was not published: later it will be.
var ErrTooFast = errors.New("this node publishes faster")

// Publish sends a message to everybody who listens to a topic, COLLECTION/ROOM, and
// returns how many connected peers it was handed to: they pass it on. It is kept
// nowhere; who does not listen now never hears it. A sender that is too fast waits for
// its turn while ctx allows.
func (rs *Rooms) Publish(ctx context.Context, topic string, data []byte) (int, error) {
	if len(data) > MaxMessage {
		return 0, fault.TooLarge.Errorf("a message of %d bytes: allowed are %d, so put more into a document and publish its docID", len(data), MaxMessage)
	}
	id, err := rs.parse(topic)
	if err != nil {
		return 0, err
	}
	r, err := rs.enter(id, false)
	if err != nil {
		return 0, err
	}
	defer rs.leave(r)
	if err := rs.turn(ctx, r, topic, len(data)); err != nil {
		return 0, err
	}
	p, reached, err := rs.send(ctx, r, postSaid, slices.Clone(data))
	if err != nil {
		return 0, err
	}
	rs.count.sent.Add(1)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.deliver(r, Message{Kind: Said, From: p.from.DID(), Time: time.UnixMilli(int64(p.sent)), Seq: p.seq, Data: p.body})
	return reached, nil
}

// turn waits until this node may send a message of that size in a room.
func (rs *Rooms) turn(ctx context.Context, r *room, topic string, size int) error {
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
		if rs.ctx.Err() != nil {
			return context.Cause(rs.ctx)
		}
	}
}

// send posts something in a room, and returns how many connected peers it was sent to.
func (rs *Rooms) send(ctx context.Context, r *room, kind uint64, body []byte) (*post, int, error) {
	key := rs.key
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
		if context.Cause(rs.ctx) != nil {
			failed = context.Cause(rs.ctx)
		}
		return p, 0, fault.Unavailable.Errorf("publish: %w", failed)
	}
	return p, len(reached), nil
}

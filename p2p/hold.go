package p2p

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// A node that can store nothing, because its disk is full or failed, asks for nothing
// and takes nothing, but still gives what it has. What peers would send it would be
// sent again and again, and thrown away each time. It finds out by a small write of its
// own when that is over, and then compares with everybody.

const (
	// holdFirst and holdMost are how long a node that can store nothing waits before it
	// tries again, doubled each time. A try is one small write.
	holdFirst = 2 * time.Second
	holdMost  = time.Minute
)

// hold is what keeps this node from storing anything.
type hold struct {
	mu    sync.Mutex // guards what follows
	why   error      // nil: it can
	tries int        // in vain, in a row
	next  time.Time  // of them
}

// holdError says that this node can store nothing, and when it looks again.
type holdError struct {
	why   error
	after time.Duration
}

func (h *holdError) Error() string { return fmt.Sprintf("nothing can be stored here: %v", h.why) }
func (h *holdError) Unwrap() error { return h.why }

// refusal is what a peer is told of it. The figures, and where the files are, are no
// concern of peers.
func (h *holdError) refusal() *refuse {
	return &refuse{Code: refusedFailed, Text: "it can store nothing now: its disk is full, or failed; make room there", After: max(h.after, holdFirst)}
}

// stores returns nil if this node can store something, as far as it knows, and else a
// holdError. With now, it does not wait with finding out: somebody waits for it.
func (n *Node) stores(now bool) error {
	h := &n.hold
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why == nil {
		return nil
	}
	if left := time.Until(h.next); left > 0 && !now {
		return &holdError{h.why, left}
	}
	return n.tryStoring()
}

// held returns why nothing can be stored, without finding out.
func (n *Node) held() error {
	n.hold.mu.Lock()
	defer n.hold.mu.Unlock()
	if n.hold.why == nil {
		return nil
	}
	return &holdError{why: n.hold.why}
}

// notStored looks whether an error with storing means that nothing can be stored, and
// returns a holdError if so.
func (n *Node) notStored(ctx context.Context, err error) error {
	if ctx.Err() != nil || n.ctx.Err() != nil || !errors.Is(err, fault.Unavailable) {
		return err
	}
	h := &n.hold
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why != nil { // several find it out at the same time
		return &holdError{h.why, max(0, time.Until(h.next))}
	}
	if held := n.tryStoring(); held != nil {
		return held
	}
	return err
}

// tryStoring writes something. n.hold.mu is held.
func (n *Node) tryStoring() error {
	h := &n.hold
	own := n.epoch()
	why := n.replica.Put(map[string][]byte{noteEpoch: own[:]})
	if why == nil {
		if h.why != nil {
			n.log.Info("there is room again: peers are asked for what they have")
		}
		h.why, h.tries = nil, 0
		return nil
	}
	if h.why == nil {
		n.log.Warn("nothing can be stored: peers are asked for nothing until it can", "error", why)
	}
	after := min(holdFirst<<min(h.tries, 16), holdMost)
	h.why, h.next = why, time.Now().Add(after)
	h.tries++
	return &holdError{why, after}
}

// unable notes that a peer took nothing of a collection because it can store nothing.
// all is set if this node had got all of it by then.
func (n *Node) unable(p peer.ID, id dag.CollectionID, theirs card, all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.companions[p]
	if c == nil {
		return
	}
	if c.unable == nil {
		c.unable = map[dag.CollectionID]uint64{}
	}
	if c.unable[id] = 0; all {
		c.unable[id] = theirs.Seq
	}
}

// knock asks a peer that could store nothing whether it can now, by a push of nothing,
// before what differs is looked for, which costs much. Not if there may be something to
// get from it.
func (s *session) knock(p pair) error {
	s.n.mu.Lock()
	var at uint64
	held := false
	if c := s.n.companions[s.peer]; c != nil {
		at, held = c.unable[p.id]
	}
	s.n.mu.Unlock()
	if !held || at != p.theirs.Seq && p.mine.Count <= fullFactor*p.theirs.Count {
		return nil
	}
	return s.pushNothing(p)
}

// leave leaves it to the peer to ask for a collection. If nothing came of that since the
// last time, it asks why.
func (s *session) leave(p pair) error {
	s.left++
	s.n.mu.Lock()
	waited := false
	if c := s.n.companions[s.peer]; c != nil {
		if c.left == nil {
			c.left = map[dag.CollectionID]uint64{}
		}
		before, again := c.left[p.id]
		waited = again && before == p.theirs.Seq
		c.left[p.id] = p.theirs.Seq
	}
	s.n.mu.Unlock()
	if !waited {
		return nil
	}
	return s.pushNothing(p)
}

func (s *session) pushNothing(p pair) error {
	if err := s.w.send(&push{p.index}); err != nil {
		return err
	}
	if err := s.w.send(&end{}); err != nil {
		return err
	}
	if _, err := expect[*ack](s.w); err != nil {
		return s.notTaken(p, err)
	}
	s.able(p.id)
	return nil
}

// notTaken notes that the peer took nothing of a collection, if that is because it can
// store nothing.
func (s *session) notTaken(p pair, err error) error {
	if troubled(err) != nil {
		s.n.unable(s.peer, p.id, p.theirs, s.got)
	}
	return err
}

// able notes that the peer took something of a collection.
func (s *session) able(id dag.CollectionID) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if c := s.n.companions[s.peer]; c != nil {
		delete(c.unable, id)
	}
}

// troubled returns the refusal of a peer that has trouble of its own.
func troubled(err error) *refuse {
	if r := new(refuse); errors.As(err, &r) && r.Code == refusedFailed {
		return r
	}
	return nil
}

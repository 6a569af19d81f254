package p2p

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
)

// SessionStatus is the last session with a peer, whoever opened it.
type SessionStatus struct {
	At      time.Time // when it began; zero: there was none since the start
	Took    time.Duration
	Applied int // commits that came and were news
	Sent    int // commits that went; only known of sessions that this node opened
	Bytes   uint64
	Problem string // why it broke off; "" if it went well
}

// contacts is what came of meeting peers since the start: also of those that are gone.
type contacts struct {
	mu       sync.Mutex // guards what follows
	sessions map[peer.ID]SessionStatus
	copies   map[sharing]contact
}

// contact is when a copy was seen in which state. Times only: what holds now is
// always asked.
type contact struct {
	compared time.Time
	same     time.Time // it was identical
	mismatch time.Time // it was quiet and stayed different, and was not the same since
	// otherwise is when both held the same of all that differed, and it was not the same
	// since: of a part, whose filter they read differently.
	otherwise time.Time
}

func newContacts() *contacts {
	return &contacts{sessions: map[peer.ID]SessionStatus{}, copies: map[sharing]contact{}}
}

func (c *contacts) session(p peer.ID, s SessionStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.sessions[p]; known || len(c.sessions) < maxContacts {
		c.sessions[p] = s
	}
}

// compared notes that a copy was compared, and how it was.
func (c *contacts) compared(s sharing, same bool) {
	c.change(s, func(k *contact) {
		if k.compared = time.Now(); same {
			*k = contact{compared: k.compared, same: k.compared}
		}
	})
}

// mismatch notes that two quiet copies stayed different.
func (c *contacts) mismatch(s sharing) {
	c.change(s, func(k *contact) { k.mismatch = time.Now() })
}

// otherwise notes that two copies differ in nothing but what belongs to a part.
func (c *contacts) otherwise(s sharing) {
	c.change(s, func(k *contact) { k.otherwise, k.mismatch = time.Now(), time.Time{} })
}

func (c *contacts) change(s sharing, how func(*contact)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, known := c.copies[s]
	if !known && len(c.copies) >= maxTallies {
		return
	}
	how(&k)
	c.copies[s] = k
}

func (c *contacts) of(s sharing) contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copies[s]
}

func (c *contacts) lastSession(p peer.ID) SessionStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[p]
}

// mismatches returns how many copies of each collection stayed different at their
// last comparison.
func (c *contacts) mismatches() map[dag.CollectionID]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[dag.CollectionID]int{}
	for s, k := range c.copies {
		if !k.mismatch.IsZero() {
			out[s.collection]++
		}
	}
	return out
}

// keepOnly drops what came of meeting other peers.
func (c *contacts) keepOnly(known map[peer.ID]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.sessions {
		if !known[p] {
			delete(c.sessions, p)
		}
	}
	for s := range c.copies {
		if !known[s.peer] {
			delete(c.copies, s)
		}
	}
}

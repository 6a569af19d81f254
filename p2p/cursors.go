package p2p

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/pace"
)

// cursors is how far this node has come with each peer's collections. Losing the
// newest of them costs a comparison of trees, so they are written now and then.
type cursors struct {
	notes notes

	writing sync.Mutex // held while notes are written, so that none overtakes a newer one

	mu    sync.Mutex // guards what follows
	at    map[string]cursor
	dirty map[string]bool
}

func newCursors(n notes) (*cursors, error) {
	at, err := n.cursors()
	if err != nil {
		return nil, err
	}
	c := &cursors{notes: n, at: at, dirty: map[string]bool{}}
	return c, c.renew()
}

// renew drops all cursors if the feed of this node began anew: a rebuild may have
// stepped over commits that the cursors say are here, and peers would rely on it.
func (c *cursors) renew() error {
	now := c.notes.replica.Epoch()
	was, _, err := c.notes.replica.Get([]byte(noteEpoch))
	if err != nil || bytes.Equal(was, now[:]) {
		return err
	}
	m := map[string][]byte{noteEpoch: now[:]}
	for key := range c.at {
		m[key] = nil
	}
	clear(c.at)
	return c.notes.put(m)
}

func (c *cursors) get(p peer.ID, id dag.CollectionID) cursor {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[cursorKey(p, id)]
}

func (c *cursors) set(p peer.ID, id dag.CollectionID, next cursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := cursorKey(p, id)
	if old, ok := c.at[key]; ok && old.epoch == next.epoch && old.seq == next.seq && old.token == next.token {
		return
	}
	c.at[key] = next
	c.dirty[key] = true
}

// dropCollection drops what is known of all peers' copies of a collection.
func (c *cursors) dropCollection(id dag.CollectionID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.at {
		if strings.HasPrefix(key, noteCursor+string(id[:])) {
			delete(c.at, key)
			c.dirty[key] = true
		}
	}
}

// keepOnly drops the cursors of all peers but some.
func (c *cursors) keepOnly(known map[peer.ID]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.at {
		if !known[peer.ID(key[len(noteCursor)+len(dag.CollectionID{}):])] {
			delete(c.at, key)
			c.dirty[key] = true
		}
	}
}

// write makes the cursors durable.
func (c *cursors) write() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	m := map[string][]byte{}
	for key := range c.dirty {
		m[key] = nil
		if at, ok := c.at[key]; ok {
			m[key] = at.encode()
		}
	}
	clear(c.dirty)
	c.mu.Unlock()
	return c.notes.put(m)
}

const cursorsEvery = 5 * time.Second

func (n *Node) flushCursors(ctx context.Context) {
	for pace.Sleep(ctx, cursorsEvery) {
		if err := n.cursors.write(); err != nil {
			n.log.Warn("cursors cannot be stored: after a restart, more is compared", "error", err)
		}
	}
}

// sound returns why this node cannot store anything, before it finds fault with
// others: what it merged since its disk failed is neither here nor not.
func (n *Node) sound() error {
	own := n.epoch()
	return n.notes.put(map[string][]byte{noteEpoch: own[:]})
}

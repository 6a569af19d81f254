package p2p

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/pace"
)

// attempt is how the dialing of a peer goes.
type attempt struct {
	next     time.Time
	failures int // in a row, connections that came to nothing among them
	running  bool
}

// startAfresh forgets what went wrong with a peer, and addresses at which it was
// tried, for somebody who waits: the outcome is to be that of now. What is
// remembered of a peer is found again by whoever dials it.
func (n *Node) startAfresh(p peer.ID) {
	n.pardon(p)
	n.host.Afresh(p)
}

// connect returns when the peer is connected and known to speak Pando's protocol.
func (n *Node) connect(ctx context.Context, p peer.AddrInfo) error {
	if err := n.host.Connect(ctx, p); err != nil {
		return err
	}
	ok, err := n.speaks(ctx, p.ID)
	if err == nil && !ok {
		why := n.foreign(p.ID)
		if why == "" {
			why = "it did not say what it speaks: it does not let this node in, " + clockHint + ": else try again"
		}
		err = fault.Unavailable.Errorf("%s", why)
	}
	if err != nil {
		return fmt.Errorf("connect to %s: %w", p.ID, err)
	}
	n.arrived(p.ID)
	return nil
}

// clockHint is for connections that fail before anything is said: what peers show each
// other of themselves holds for a time.
const clockHint = "or the clock of one machine is far off"

// introductions is how long a connected peer may take to say what it speaks: until
// then it is not known that it does not speak the protocol. Also a node that just
// starts says so only after a moment.
const introductions = 2 * time.Second

// speaks reports whether a connected peer speaks the protocol. A connection that
// was there already may be so new that the peer has not introduced itself.
func (n *Node) speaks(ctx context.Context, p peer.ID) (bool, error) {
	events, err := n.host.EventBus().Subscribe(connectionEvents)
	if err != nil {
		return false, err
	}
	defer events.Close()
	patience := time.NewTimer(introductions)
	defer patience.Stop()
	for {
		protos, err := n.host.Peerstore().SupportsProtocols(p, syncProtocols...)
		if err != nil || len(protos) > 0 {
			return err == nil, err
		}
		select {
		case <-events.Out():
		case <-patience.C:
			return false, nil
		case <-ctx.Done():
			return false, fault.Unavailable.Errorf("%w", context.Cause(ctx))
		}
	}
}

// redialNamed is how long a peer that the operator named is left alone at most
// between two dials: there are few, and somebody waits for them.
const redialNamed = 20 * time.Second

// maxDials is how many peers are dialed at once: named ones, and as many others.
const maxDials = 8

// keepConnected dials the peers that should be connected and are not.
func (n *Node) keepConnected(ctx context.Context) {
	n.dial.Set(0)
	for n.dial.Wait(ctx) {
		due, next := n.dialable(time.Now())
		for _, p := range due {
			if !n.spawn(func(ctx context.Context) { n.redial(ctx, p) }) {
				return
			}
		}
		if next > 0 {
			n.dial.Set(next)
		}
	}
}

// dialable returns the peers to dial now, and in how long there is another. Those
// that the operator named have places of their own: of the others, many may be
// gone for good. What finds no place is looked at again when one is free.
func (n *Node) dialable(now time.Time) (due []peer.AddrInfo, next time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p, k := range n.known {
		if n.companions[p] != nil || len(k.addrs) == 0 || n.host.Shut(p, k.trusted || n.replicators[p] != nil) {
			continue
		}
		a := n.dialing[p]
		if a == nil {
			a = &attempt{next: now}
			n.dialing[p] = a
		}
		left := a.next.Sub(now)
		if banned := n.banned[p].Sub(now); banned > left {
			left = banned
		}
		switch {
		case a.running:
		case left <= 0:
			due = append(due, peer.AddrInfo{ID: p, Addrs: k.addrs})
		case next == 0 || left < next:
			next = left
		}
	}
	slices.SortFunc(due, func(a, b peer.AddrInfo) int {
		if c := n.known[b.ID].seen.Compare(n.known[a.ID].seen); c != 0 {
			return c // the last seen first
		}
		return cmpID(a.ID, b.ID)
	})
	free := map[bool]int{true: maxDials, false: maxDials}
	for p, a := range n.dialing {
		if a.running {
			free[n.known[p].trusted]--
		}
	}
	due = slices.DeleteFunc(due, func(p peer.AddrInfo) bool {
		trusted := n.known[p.ID].trusted
		free[trusted]--
		return free[trusted] < 0
	})
	for _, p := range due {
		n.dialing[p.ID].running = true
	}
	return due, next
}

func (n *Node) redial(ctx context.Context, p peer.AddrInfo) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	n.host.Peerstore().AddAddrs(p.ID, p.Addrs, peerstore.PermanentAddrTTL)
	err := n.connect(ctx, p)
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.dialing[p.ID]
	if a == nil {
		return // connected meanwhile, or forgotten
	}
	a.running = false
	n.dial.Set(0)                                // there is a free place
	if err != nil || n.companions[p.ID] == nil { // which connects, and hangs up at once
		n.dialAgain(p.ID, false)
	}
}

// dialAgain decides when a peer is dialed again. A peer that ends every connection
// at once is no better than one that is not there. n.mu is held.
func (n *Node) dialAgain(p peer.ID, went bool) {
	k, known := n.known[p]
	if !known {
		return
	}
	a := n.dialing[p]
	if a == nil {
		a = &attempt{}
		n.dialing[p] = a
	}
	if a.failures++; went {
		a.failures = 0
	}
	d := pace.Backoff(a.failures)
	if k.trusted {
		d = min(d, pace.Jitter(redialNamed, 0.5))
	}
	a.next = time.Now().Add(d)
	n.dial.Set(d)
}

package p2p

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/pace"
)

// companion is what the node keeps of a connected peer.
type companion struct {
	id      peer.ID
	turn    chan struct{} // held by the session that this node runs with the peer
	fetches chan struct{} // held by streams that this node fetches over
	next    pace.Alarm    // when to run a session
	stop    context.CancelFunc

	since time.Time // when it arrived

	// Guarded by Node.mu.
	good     bool      // a session went well since then
	limited  bool      // by a relay: the last session left differences that are not small
	asking   int       // sessions of the peer that it proved something in
	ran      time.Time // the last session of this node
	running  bool      // one runs
	joining  bool      // and somebody waits for it
	failures int
	cards    map[dag.CollectionID]card // as it greeted last
	last     *report                   // of the last session over all collections
	lastErr  error
	skew     time.Duration
	parts    map[dag.CollectionID]bool   // that it keeps a part of
	clashes  map[string]bool             // names of collections that are other ones at the peer
	left     map[dag.CollectionID]uint64 // to it to ask for, and how far its feed was
	unable   map[dag.CollectionID]uint64 // of which it took nothing, see hold.go; its feed when all of it was here, or 0
	resting  time.Time                   // until then it wants to be asked nothing
}

const (
	// steadyAfter is how long a connection has to last to count as one, if no session
	// went well before.
	steadyAfter = 30 * time.Second
	// deferLongest is for how long sessions of a peer keep this node from its own.
	deferLongest = 30 * time.Second
)

// connTag marks connections to the connection manager, which closes others first
// when there are too many.
const connTag = "pando"

// memberValue is what a connection with a member is worth to it; what gossip gives
// to its neighbours is less.
const memberValue = 100

// proved notes that a connected peer is a member of a collection.
func (n *Node) proved(p peer.ID, c claim) error {
	n.host.ConnManager().TagPeer(p, connTag, memberValue)
	_, before := n.admission.member(p, c.id)
	if err := n.admission.proved(p, c); err != nil || before {
		return err
	}
	n.host.Proved(p)
	if n.partial(c.id) {
		n.watchAgain()
	}
	if n.finder.exchange {
		n.finder.wake.Set(exchangeDelay) // it may know others
	}
	return nil
}

var connectionEvents = []any{
	new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerIdentificationFailed),
	new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
}

// watchConnections follows who is connected.
func (n *Node) watchConnections(ctx context.Context, events event.Subscription) {
	defer events.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events.Out():
			if !ok {
				return
			}
			switch e := e.(type) {
			case event.EvtPeerIdentificationCompleted:
				n.finder.heard(e.Peer, e.SignedPeerRecord)
				n.arrived(e.Peer)
			case event.EvtPeerIdentificationFailed:
				n.unintroduced(e.Peer)
			case event.EvtPeerProtocolsUpdated:
				n.arrived(e.Peer)
			case event.EvtPeerConnectednessChanged:
				switch e.Connectedness {
				case network.NotConnected:
					n.left(e.Peer)
					n.finder.parted(e.Peer)
				case network.Connected:
					n.freed(e.Peer)
				}
			}
		}
	}
}

// unintroduced ends the connection with a peer that could not say what it speaks, as
// when it was cut meanwhile: the library does not ask again, so nothing would ever
// come of it, and as long as it stands nobody dials. It waits a moment, since it may
// have been one of several connections, or that of a host that only tells this node that
// it is reached (AutoNAT). On a host that others use too, it is ended only with peers that
// this node dials.
func (n *Node) unintroduced(p peer.ID) {
	n.spawn(func(ctx context.Context) {
		if !pace.Sleep(ctx, introductions) {
			return
		}
		n.arrived(p) // it may be known from before
		n.mu.Lock()
		_, dialed := n.known[p]
		useless := n.companions[p] == nil && (dialed || n.replicators[p] != nil || n.ownsHost)
		n.mu.Unlock()
		// A client of the API may have gone before it said what it speaks, beside another one.
		if useless && !slices.ContainsFunc(n.host.Network().ConnsToPeer(p), host.HasLine) {
			n.log.Debug("peer did not introduce itself", "peer", p)
			n.host.Network().ClosePeer(p)
		}
	})
}

// arrived begins to accompany a peer that speaks the protocol.
func (n *Node) arrived(p peer.ID) {
	if ok, err := n.host.Peerstore().SupportsProtocols(p, syncProtocols...); err != nil || len(ok) == 0 {
		return
	}
	if n.isBanned(p) {
		n.host.Network().ClosePeer(p)
		return
	}
	n.mu.Lock()
	c := n.companions[p]
	if c != nil || n.closed || !n.host.Here(p) {
		n.mu.Unlock()
		return
	}
	c = &companion{id: p, turn: make(chan struct{}, 1), fetches: make(chan struct{}, fetchesPerPeer), next: pace.NewAlarm(), since: time.Now()}
	ctx, stop := context.WithCancel(n.ctx)
	c.stop = stop
	n.companions[p] = c
	n.tasks.Go(func() { n.accompany(ctx, c) })
	n.mu.Unlock()
	n.log.Debug("peer connected", "peer", p)
	// One session is enough for both: the peer with the smaller ID opens it.
	if n.host.ID() < p {
		c.next.Set(0)
	} else {
		c.next.Set(courtesyDelay)
	}
}

func (n *Node) left(p peer.ID) {
	n.mu.Lock()
	c := n.companions[p]
	if c == nil || n.host.Here(p) {
		n.mu.Unlock()
		return
	}
	delete(n.companions, p)
	n.dialAgain(p, c.good || time.Since(c.since) >= steadyAfter)
	n.mu.Unlock()
	c.stop()
	n.admission.forget(p)
	n.identities.forget(p)
	n.host.ConnManager().UntagPeer(p, connTag)
	n.log.Debug("peer disconnected", "peer", p)
	n.dial.Set(0)
}

// freed makes up for what a relay with limits did not let pass.
func (n *Node) freed(p peer.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.companions[p]; c != nil && c.limited {
		c.limited = false
		c.next.Set(0)
	}
}

// companion returns what is kept of a connected peer.
func (n *Node) companion(p peer.ID) (*companion, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.companions[p]; c != nil {
		return c, nil
	}
	return nil, errAway(p)
}

func errAway(p peer.ID) error {
	return fault.Unavailable.Errorf("peer %s is not connected: it is gone, or does not let this node in", p)
}

// connected returns the companions of now.
func (n *Node) connected() []*companion {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*companion
	for _, c := range n.companions {
		all = append(all, c)
	}
	// In a fixed order, so that choices at random are the only randomness.
	slices.SortFunc(all, func(a, b *companion) int { return cmpID(a.id, b.id) })
	return all
}

func cmpID(a, b peer.ID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// accompany runs sessions with a peer whenever one is due.
func (n *Node) accompany(ctx context.Context, c *companion) {
	var deferred time.Time
	for c.next.Wait(ctx) {
		if !n.serves(c.id) && !(n.blamed(c.id) && n.busyWithOthers(c.id)) {
			deferred = time.Time{}
		} else if now := time.Now(); deferred.IsZero() || now.Sub(deferred) < deferLongest {
			if deferred.IsZero() {
				deferred = now
			}
			c.next.Set(pace.Jitter(spreadDelay, 0.5)) // it does the same at this moment
			continue
		}
		if rest := time.Until(n.restOf(c)); rest > 0 {
			c.next.Set(rest)
			continue
		}
		_, err := n.sync(ctx, c.id, errand{})
		if busy := new(refuse); errors.As(err, &busy) && busy.Code == refusedBusy {
			c.next.Set(pace.Jitter(max(busy.After, busyFor), 0.5))
			continue
		}
		n.mu.Lock()
		c.lastErr, c.ran = err, time.Now()
		if err == nil {
			c.failures = 0
		} else {
			c.failures++
		}
		failures := c.failures
		n.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			n.log.Debug("sync failed", "peer", c.id, "error", err)
			c.next.Set(n.again(c, err, failures))
		}
	}
}

// again returns when to try a peer again with which it went wrong so often in a row.
func (n *Node) again(c *companion, err error, failures int) time.Duration {
	if held := new(holdError); errors.As(err, &held) {
		return max(held.after, holdFirst) // the peer has no part in it
	}
	d := pace.Backoff(failures)
	if r := troubled(err); r != nil && r.After > retryFirst { // it knows better
		d = pace.Jitter(r.After, 0.25)
		n.mu.Lock()
		c.resting = time.Now().Add(d)
		n.mu.Unlock()
	}
	if n.blamed(c.id) {
		d = max(d, pace.Jitter(antiEntropyEvery, antiEntropyJitter))
	}
	return d
}

func (n *Node) restOf(c *companion) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return c.resting
}

// spread makes the other peers be asked soon: what came by a session was not
// announced, and they may lack it.
func (n *Node) spread(except peer.ID) {
	for _, c := range n.connected() {
		if c.id != except && !n.blamed(c.id) { // else it takes the time of those that it is meant for
			c.next.Set(pace.Jitter(spreadDelay, 0.5))
		}
	}
}

// keepEntropyDown compares roots with a peer at random, for ever: whatever else
// went wrong, copies come together by this.
func (n *Node) keepEntropyDown(ctx context.Context) {
	for pace.Sleep(ctx, pace.Jitter(antiEntropyEvery, antiEntropyJitter)) {
		if all := n.connected(); len(all) > 0 {
			n.toCompareWith(all).next.Set(0)
		}
	}
}

// learn keeps what a session told.
func (n *Node) learn(p peer.ID, r *report, e errand) {
	n.mu.Lock()
	if c := n.companions[p]; c != nil {
		c.good = c.good || len(r.Collections) > 0
		if e.only == nil {
			c.last = r
		}
		if r.Clock > 0 {
			c.skew = time.UnixMilli(int64(r.Clock)).Sub(n.replica.Now()) + r.RTT/2
		}
	}
	known := n.known[p]
	n.mu.Unlock()
	if len(r.Collections) == 0 {
		return
	}
	addrs := n.host.Peerstore().Addrs(p)
	slices.SortFunc(addrs, ma.Multiaddr.Compare) // or another part of many is remembered each time
	addrs = addrs[:min(len(addrs), maxAddrs)]
	moved := slices.ContainsFunc(addrs, func(a ma.Multiaddr) bool { return !slices.ContainsFunc(known.addrs, a.Equal) })
	if moved || time.Since(known.seen) > time.Hour {
		n.remember(peer.AddrInfo{ID: p, Addrs: addrs}, false) // a peer not remembered is found again as it was found now
	}
}

// punish cuts off a peer that broke the protocol, for some time. What it does
// must not cost the others.
func (n *Node) punish(p peer.ID, why error) {
	n.count.Breaches.Add(1)
	n.denied(DeniedBreach, p, why.Error(), dag.CollectionID{})
	n.blame(p, blameBreach, "it breaks the protocol")
	n.mu.Lock()
	n.makeRoomForBanned()
	n.banned[p] = time.Now().Add(quarantine)
	n.mu.Unlock()
	n.log.Warn("peer breaks the protocol: it is cut off for a while", "peer", p, "for", quarantine, "error", why)
	n.host.Network().ClosePeer(p) // the streams are reset already, and the peer refused from now on
}

// makeRoomForBanned lets in again whose time would end first, if there are too many.
// n.mu is held.
func (n *Node) makeRoomForBanned() {
	if len(n.banned) < maxBanned {
		return
	}
	var first peer.ID
	for p, until := range n.banned {
		if first == "" || until.Before(n.banned[first]) {
			first = p
		}
	}
	delete(n.banned, first)
}

func (n *Node) isBanned(p peer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	until, ok := n.banned[p]
	if ok && time.Now().After(until) {
		delete(n.banned, p)
		return false
	}
	return ok
}

const sweepEvery = time.Minute

// sweep drops what was kept of peers that are gone.
func (n *Node) sweep(ctx context.Context) {
	for pace.Sleep(ctx, sweepEvery) {
		n.sweepOnce(time.Now())
	}
}

func (n *Node) sweepOnce(now time.Time) {
	n.noting.Lock()
	defer n.noting.Unlock()
	known := map[peer.ID]bool{}
	var gone []peer.ID
	n.mu.Lock()
	maps.DeleteFunc(n.banned, func(_ peer.ID, until time.Time) bool { return now.After(until) })
	for _, p := range n.host.Network().Peers() {
		known[p] = true
	}
	for p, k := range n.known {
		if !k.trusted && !known[p] && now.Sub(k.seen) > forgetAfter {
			gone = append(gone, p)
		} else {
			known[p] = true
		}
	}
	for p := range n.replicators {
		known[p] = true
	}
	n.mu.Unlock()
	for _, p := range gone {
		n.unlearn(p) // what stays behind is dropped after the next start
	}
	n.admission.keepOnly(n.host.Here)
	n.identities.keepOnly(n.host.Here)
	n.finder.keepOnly(n.host.Here)
	n.scores.sweep(now)
	n.quotas.sweep(now)
	n.gossip.KeepOnly(n.host.Here)
	n.cursors.keepOnly(known)
	n.parts.forget(func(with sharing) bool { return !known[with.peer] })
	n.agreements.forget(func(with sharing) bool { return !known[with.peer] })
	n.traffic.ledger.keepOnly(known)
	n.contacts.keepOnly(known)
}

func (n *Node) pardon(p peer.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.banned, p)
}

// wantMissing is told of documents that could not be completed from a peer.
func (n *Node) wantMissing(p peer.ID, id dag.CollectionID, missing map[dag.DocID][]dag.CID) {
	if len(missing) > 0 {
		n.count.WantOverflows.Add(uint64(n.wants.add(id, missing, p)))
	}
}

package p2p

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// companion is what the node keeps of a connected peer.
type companion struct {
	id      peer.ID
	turn    chan struct{} // held by the session that this node runs with the peer
	fetches chan struct{} // held by streams that this node fetches over
	next    alarm         // when to run a session
	stop    context.CancelFunc

	since time.Time // when it arrived

	// Guarded by Node.mu.
	good     bool // a session went well since then
	asking   int  // sessions of the peer that it proved something in
	running  bool // a session of this node
	joining  bool // and somebody waits for it
	failures int
	last     *report // of the last session over all collections
	lastErr  error
	skew     time.Duration
	clashes  map[string]bool // names of collections that are other ones at the peer
}

// attempt is how the dialing of a peer goes.
type attempt struct {
	next     time.Time
	failures int // in a row, connections that came to nothing among them
	running  bool
}

const (
	// steadyAfter is how long a connection has to last to count as one, if no session
	// went well before.
	steadyAfter = 30 * time.Second
	// deferLongest is for how long sessions of a peer keep this node from its own.
	deferLongest = 30 * time.Second
)

func parsePeers(texts []string) ([]peer.AddrInfo, error) {
	var addrs []ma.Multiaddr
	for _, s := range texts {
		a, err := parsePeer(s)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return peer.AddrInfosFromP2pAddrs(addrs...)
}

func parsePeer(s string) (ma.Multiaddr, error) {
	a, err := ma.NewMultiaddr(s)
	if err == nil {
		_, err = peer.AddrInfoFromP2pAddr(a)
	}
	if err != nil {
		return nil, fault.Invalid.Errorf("address of a peer %q: %w: write it as /ip4/192.0.2.1/tcp/9171/p2p/12D3Koo…, as the peer's info shows it", s, err)
	}
	return a, nil
}

// trust remembers that the operator named a peer for every collection.
func (n *Node) trust(p peer.AddrInfo) error { return n.remember(p, true) }

// remember keeps a peer's addresses over restarts.
func (n *Node) remember(p peer.AddrInfo, trusted bool) error {
	if p.ID == n.host.ID() {
		return errSelf(p.ID)
	}
	n.host.Peerstore().AddAddrs(p.ID, p.Addrs, peerstore.PermanentAddrTTL)
	n.noting.Lock()
	defer n.noting.Unlock()
	n.mu.Lock()
	k, known := n.known[p.ID]
	n.mu.Unlock()
	k.trusted = k.trusted || trusted
	k.seen = time.Now()
	k.addrs = slices.Clone(k.addrs)
	for _, a := range p.Addrs {
		if !slices.ContainsFunc(k.addrs, a.Equal) {
			k.addrs = append([]ma.Multiaddr{a}, k.addrs...)
		}
	}
	k.addrs = k.addrs[:min(len(k.addrs), maxAddrs)]
	if !known && !trusted && !n.makeRoom() {
		return nil
	}
	// Trusted when it is written, and not before: what does not last must not begin.
	if err := n.notes.putPeer(p.ID, k); err != nil {
		return err
	}
	n.mu.Lock()
	n.known[p.ID] = k
	n.mu.Unlock()
	if k.trusted {
		n.host.ConnManager().Protect(p.ID, connTag)
	}
	n.dial.set(0)
	return nil
}

// connTag marks connections to the connection manager, which closes others first
// when there are too many.
const connTag = "pando"

// memberValue is what a connection with a member is worth to it; what gossip gives
// to its neighbours is less.
const memberValue = 100

// proved notes that a connected peer is a member of a collection.
func (n *Node) proved(p peer.ID, c claim) error {
	n.host.ConnManager().TagPeer(p, connTag, memberValue)
	return n.admission.proved(p, c)
}

// makeRoom forgets the peer that was not seen for longest, if there are too many,
// and reports whether there is room. Those named and those connected stay.
// n.noting is held.
func (n *Node) makeRoom() bool {
	n.mu.Lock()
	var oldest peer.ID
	others := 0
	for p, k := range n.known {
		if k.trusted {
			continue
		}
		others++
		if n.companions[p] == nil && (oldest == "" || k.seen.Before(n.known[oldest].seen)) {
			oldest = p
		}
	}
	n.mu.Unlock()
	if others < maxKnownPeers {
		return true
	}
	if oldest == "" {
		return false
	}
	n.unlearn(oldest)
	return true
}

// unlearn drops all that is remembered of a peer. n.noting is held.
func (n *Node) unlearn(p peer.ID) error {
	n.mu.Lock()
	delete(n.known, p)
	delete(n.dialing, p)
	n.mu.Unlock()
	n.host.ConnManager().Unprotect(p, connTag)
	n.host.Peerstore().ClearAddrs(p)
	return n.notes.deletePeer(p)
}

func errSelf(p peer.ID) error {
	return fault.Invalid.Errorf("peer %s is this node itself: name another", p)
}

// named reports whether the operator named a peer, be it for one collection.
func (n *Node) named(p peer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.known[p].trusted || n.replicators[p] != nil
}

// trusted reports whether the operator named a peer for a collection: for all, or
// by a replicator, which trusts with what it pushes and as long as it is there.
func (n *Node) trusted(p peer.ID, id dag.CollectionID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.replicators[p]
	return n.known[p].trusted || r != nil && (len(r.collections) == 0 || slices.Contains(r.collections, id))
}

// Connect connects to a peer at a multiaddr, trusts it from now on, and compares
// collections with it. If it cannot be reached, nothing has changed.
func (n *Node) Connect(ctx context.Context, addr string) error {
	infos, err := parsePeers([]string{addr})
	if err != nil {
		return err
	}
	if infos[0].ID == n.host.ID() {
		return errSelf(infos[0].ID)
	}
	n.startAfresh(infos[0].ID)
	if err := n.connect(ctx, infos[0]); err != nil {
		return err
	}
	// Only now: what was mistyped is not trusted for ever.
	if err := n.trust(infos[0]); err != nil {
		return err
	}
	if c, err := n.companion(infos[0].ID); err == nil {
		c.next.set(0)
	}
	return nil
}

// startAfresh forgets what went wrong with a peer, and addresses at which it was
// tried, for somebody who waits: the outcome is to be that of now. What is
// remembered of a peer is found again by whoever dials it.
func (n *Node) startAfresh(p peer.ID) {
	n.pardon(p)
	if dialer, ok := n.host.Network().(interface{ Backoff() *swarm.DialBackoff }); ok {
		dialer.Backoff().Clear(p)
	}
	if n.host.Network().Connectedness(p) != network.Connected {
		n.host.Peerstore().ClearAddrs(p)
	}
}

// connect returns when the peer is connected and known to speak Pando's protocol.
func (n *Node) connect(ctx context.Context, p peer.AddrInfo) error {
	if err := n.host.Connect(ctx, p); err != nil {
		return fault.Unavailable.Errorf("connect to %s: %w: is it running, and does it listen on an address that this machine reaches?", p.ID, err)
	}
	ok, err := n.speaks(ctx, p.ID)
	if err == nil && !ok {
		err = fault.Unavailable.Errorf("it does not speak %s", protocolSync)
	}
	if err != nil {
		return fmt.Errorf("connect to %s: %w", p.ID, err)
	}
	n.arrived(p.ID)
	return nil
}

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
		protos, err := n.host.Peerstore().SupportsProtocols(p, protocolSync)
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

// Forget ends the trust in a peer, unless there is a replicator to it, and the
// connection with it. Collections whose
// secrets it was given it still knows.
func (n *Node) Forget(id string) error {
	p, err := peer.Decode(id)
	if err != nil {
		return fault.Invalid.Errorf("peer id %q: %w: copy it from the list of peers", id, err)
	}
	n.noting.Lock()
	defer n.noting.Unlock()
	n.mu.Lock()
	if n.replicators[p] != nil {
		n.mu.Unlock()
		return fault.Invalid.Errorf("peer %s is replicated to: remove the replicator first, or it is connected again", p)
	}
	_, ok := n.known[p]
	ok = ok || n.companions[p] != nil
	n.mu.Unlock()
	if !ok {
		return fault.NotFound.Errorf("peer %s is not known: it has no trust to take back", p)
	}
	err = n.unlearn(p)
	n.host.Network().ClosePeer(p) // whatever fails there, it is gone for this node
	return err
}

var connectionEvents = []any{
	new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
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
				n.arrived(e.Peer)
			case event.EvtPeerProtocolsUpdated:
				n.arrived(e.Peer)
			case event.EvtPeerConnectednessChanged:
				if e.Connectedness == network.NotConnected {
					n.left(e.Peer)
				}
			}
		}
	}
}

// arrived begins to accompany a peer that speaks the protocol.
func (n *Node) arrived(p peer.ID) {
	if ok, err := n.host.Peerstore().SupportsProtocols(p, protocolSync); err != nil || len(ok) == 0 {
		return
	}
	if n.isBanned(p) {
		n.host.Network().ClosePeer(p)
		return
	}
	n.mu.Lock()
	c := n.companions[p]
	if c != nil || n.closed || n.host.Network().Connectedness(p) != network.Connected {
		n.mu.Unlock()
		return
	}
	c = &companion{id: p, turn: make(chan struct{}, 1), fetches: make(chan struct{}, fetchesPerPeer), next: newAlarm(), since: time.Now()}
	ctx, stop := context.WithCancel(n.ctx)
	c.stop = stop
	n.companions[p] = c
	n.tasks.Go(func() { n.accompany(ctx, c) })
	n.mu.Unlock()
	n.log.Debug("peer connected", "peer", p)
	// One session is enough for both: the peer with the smaller ID opens it.
	if n.host.ID() < p {
		c.next.set(0)
	} else {
		c.next.set(courtesyDelay)
	}
}

func (n *Node) left(p peer.ID) {
	n.mu.Lock()
	c := n.companions[p]
	if c == nil || n.host.Network().Connectedness(p) == network.Connected {
		n.mu.Unlock()
		return
	}
	delete(n.companions, p)
	n.dialAgain(p, c.good || time.Since(c.since) >= steadyAfter)
	n.mu.Unlock()
	c.stop()
	n.admission.forget(p)
	n.host.ConnManager().UntagPeer(p, connTag)
	n.log.Debug("peer disconnected", "peer", p)
	n.dial.set(0)
}

// companion returns what is kept of a connected peer.
func (n *Node) companion(p peer.ID) (*companion, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.companions[p]; c != nil {
		return c, nil
	}
	return nil, fault.Unavailable.Errorf("peer %s is not connected", p)
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
	for c.next.wait(ctx) {
		if !n.serves(c.id) {
			deferred = time.Time{}
		} else if now := time.Now(); deferred.IsZero() || now.Sub(deferred) < deferLongest {
			if deferred.IsZero() {
				deferred = now
			}
			c.next.set(jitter(spreadDelay, 0.5)) // it does the same at this moment
			continue
		}
		_, err := n.sync(ctx, c.id, errand{})
		if busy := new(refuse); errors.As(err, &busy) && busy.Code == refusedBusy {
			c.next.set(jitter(max(busy.After, busyFor), 0.5))
			continue
		}
		n.mu.Lock()
		c.lastErr = err
		if err == nil {
			c.failures = 0
		} else {
			c.failures++
		}
		failures := c.failures
		n.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			n.log.Debug("sync failed", "peer", c.id, "error", err)
			c.next.set(backoff(failures))
		}
	}
}

// spread makes the other peers be asked soon: what came by a session was not
// announced, and they may lack it.
func (n *Node) spread(except peer.ID) {
	for _, c := range n.connected() {
		if c.id != except {
			c.next.set(jitter(spreadDelay, 0.5))
		}
	}
}

// keepEntropyDown compares roots with a peer at random, for ever: whatever else
// went wrong, copies come together by this.
func (n *Node) keepEntropyDown(ctx context.Context) {
	for wait(ctx, jitter(antiEntropyEvery, antiEntropyJitter)) {
		if all := n.connected(); len(all) > 0 {
			all[rand.IntN(len(all))].next.set(0)
		}
	}
}

// wait returns true after d, and false when ctx ends before.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
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
			c.skew = time.Until(time.UnixMilli(int64(r.Clock))) + r.RTT/2
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
	n.mu.Lock()
	n.banned[p] = time.Now().Add(quarantine)
	n.mu.Unlock()
	n.log.Warn("peer breaks the protocol: it is cut off for a while", "peer", p, "for", quarantine, "error", why)
	n.host.Network().ClosePeer(p) // the streams are reset already, and the peer refused from now on
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
	for wait(ctx, sweepEvery) {
		n.sweepOnce(time.Now())
	}
}

func (n *Node) sweepOnce(now time.Time) {
	n.noting.Lock()
	defer n.noting.Unlock()
	here := func(p peer.ID) bool { return n.host.Network().Connectedness(p) == network.Connected }
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
	n.admission.keepOnly(here)
	n.cursors.keepOnly(known)
}

func (n *Node) pardon(p peer.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.banned, p)
}

// redialNamed is how long a peer that the operator named is left alone at most
// between two dials: there are few, and somebody waits for them.
const redialNamed = 20 * time.Second

// maxDials is how many peers are dialed at once: named ones, and as many others.
const maxDials = 8

// keepConnected dials the peers that should be connected and are not.
func (n *Node) keepConnected(ctx context.Context) {
	n.dial.set(0)
	for n.dial.wait(ctx) {
		due, next := n.dialable(time.Now())
		for _, p := range due {
			if !n.spawn(func(ctx context.Context) { n.redial(ctx, p) }) {
				return
			}
		}
		if next > 0 {
			n.dial.set(next)
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
		if n.companions[p] != nil || len(k.addrs) == 0 {
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
	n.dial.set(0)                                // there is a free place
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
	d := backoff(a.failures)
	if k.trusted {
		d = min(d, jitter(redialNamed, 0.5))
	}
	a.next = time.Now().Add(d)
	n.dial.set(d)
}

// crossing is how far apart connections may be that both sides opened at the same
// time, or one side over several transports.
const crossing = time.Second

// supersede closes what is left of older connections with a peer when it opens
// another: it does so only if it has none, as after a loss of power. Otherwise its
// end would be noticed only by silence.
func (n *Node) supersede(all network.Network, fresh network.Conn) {
	if fresh.Stat().Direction != network.DirInbound {
		return
	}
	for _, old := range all.ConnsToPeer(fresh.RemotePeer()) {
		if old != fresh && fresh.Stat().Opened.Sub(old.Stat().Opened) > crossing {
			n.spawn(func(context.Context) { old.Close() }) // it leads nowhere
		}
	}
}

const (
	// stallAfter is how long nothing may move in an exchange before the peer is asked
	// whether it is there.
	stallAfter = 5 * time.Second
	// pingTimeout is for its answer, which does not depend on how busy it is.
	pingTimeout = 5 * time.Second
)

// keepAlive closes the connection of a stream whose peer is gone while w waits for
// it. A peer that only takes its time answers on another stream.
func (n *Node) keepAlive(ctx context.Context, c network.Conn, w *wire) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		before := w.bytes()
		for wait(ctx, stallAfter) {
			now := w.bytes()
			if now == before && !answers(ctx, c) && ctx.Err() == nil {
				n.log.Debug("peer is gone", "peer", c.RemotePeer())
				c.Close() // whatever fails there, it is gone for this node
				return
			}
			before = now
		}
	})
	return func() {
		cancel()
		watch.Wait()
	}
}

// answers reports whether the other end of a connection is alive: it greets on
// every new stream, before it is said what the stream is for.
func answers(ctx context.Context, c network.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	s, err := c.NewStream(network.WithNoDial(ctx, "ping"))
	if err != nil {
		return ctx.Err() == nil // a limit of this node says nothing
	}
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	const greeting = "/multistream/1.0.0\n"
	if _, err := s.Write(append([]byte{byte(len(greeting))}, greeting...)); err != nil {
		return false
	}
	_, err = s.Read(make([]byte, 1))
	return err == nil
}

// startMDNS announces the node in the local network, and connects to others. A
// peer found this way is not trusted for that: it has to prove what it shares.
func (n *Node) startMDNS() error {
	service := mdns.NewMdnsService(n.host, mdnsService, found{n})
	if err := service.Start(); err != nil {
		return fault.Unavailable.Errorf("announce in the local network: %w: listen on an address that others can reach, or turn discovery off", err)
	}
	n.spawn(func(ctx context.Context) {
		<-ctx.Done()
		service.Close() // it has nothing to say that could still be done
	})
	return nil
}

const mdnsService = "_pando._udp"

type found struct{ n *Node }

// HandlePeerFound is called by the discovery, in a goroutine of its own.
func (f found) HandlePeerFound(p peer.AddrInfo) {
	if !f.n.enter() {
		return
	}
	defer f.n.leave()
	if _, err := f.n.companion(p.ID); err == nil || f.n.isBanned(p.ID) {
		return
	}
	ctx, cancel := context.WithTimeout(f.n.ctx, dialTimeout)
	defer cancel()
	if err := f.n.connect(ctx, p); err != nil {
		f.n.log.Debug("peer found nearby cannot be reached", "peer", p.ID, "error", err)
	}
}

// wantMissing is told of documents that could not be completed from a peer.
func (n *Node) wantMissing(p peer.ID, id dag.CollectionID, missing map[dag.DocID][]dag.CID) {
	if len(missing) > 0 {
		n.count.WantOverflows.Add(uint64(n.wants.add(id, missing, p)))
	}
}

package p2p

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
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
	n.dial.Set(0)
	return nil
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

// grants is trusted, and what of the collection the peer is meant to keep.
func (n *Node) grants(p peer.ID, id dag.CollectionID) (Scope, bool) {
	if !n.trusted(p, id) {
		return Scope{}, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.replicators[p]; r != nil && !n.known[p].trusted {
		if s, ok := r.scopes[id]; ok {
			return s, true
		}
	}
	return pando.Whole, true
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
	defer n.host.Expect(infos[0].ID)()
	if err := n.connect(ctx, infos[0]); err != nil {
		return err
	}
	// Only now: what was mistyped is not trusted for ever.
	if err := n.trust(infos[0]); err != nil {
		return err
	}
	if c, err := n.companion(infos[0].ID); err == nil {
		c.next.Set(0)
	}
	return nil
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

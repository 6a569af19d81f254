package p2p

import (
	"context"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multihash"

	"github.com/pandodb/pando/internal/pace"
)

// listing is the key under which members of a collection are found.
func (c claim) listing() cid.Cid {
	sum, err := multihash.Encode(keyed(c.secret, labelListing, c.id[:]), multihash.SHA2_256)
	if err != nil {
		panic(err) // of 32 bytes: it never does
	}
	return cid.NewCidV1(cid.Raw, sum)
}

// keepListed has this node found by members of its collections, and looks for those of
// collections that it has hardly anybody for.
func (n *Node) keepListed(ctx context.Context) {
	d := n.directory
	d.wake.Set(listDelay)
	for d.wake.Wait(ctx) {
		if d.kad.RoutingTable().Size() == 0 { // it knows nobody who takes part
			d.wake.Set(pace.Jitter(listRetry, 0.3))
			continue
		}
		n.listAll(ctx)
		n.lookUpAll(ctx)
		d.wake.Set(pace.Jitter(listRetry, 0.3))
	}
}

// listAll renews this node's entries, before they expire where they are.
func (n *Node) listAll(ctx context.Context) {
	d := n.directory
	ring, _ := n.admission.keys()
	renewed := 0
	for _, id := range ring.ids {
		for _, s := range ring.secrets[id] {
			c := claim{id, s}
			d.mu.Lock()
			due := time.Since(d.listed[c]) >= listEvery
			d.mu.Unlock()
			if !due || renewed == maxListings || !n.has(id) {
				continue
			}
			renewed++
			err := func() error {
				ctx, cancel := context.WithTimeout(ctx, listTimeout)
				defer cancel()
				return d.kad.Provide(ctx, c.listing(), true)
			}()
			if err != nil {
				n.log.Debug("this node is not listed yet", "collection", id, "error", err)
				return
			}
			d.mu.Lock()
			d.listed[c] = time.Now()
			d.mu.Unlock()
		}
	}
}

// lookUpAll looks for members of collections with few of them connected: less and
// less often of those of which there seem to be no others.
func (n *Node) lookUpAll(ctx context.Context) {
	d := n.directory
	ring, _ := n.admission.keys()
	looked := 0
	for _, id := range ring.ids {
		members := n.membersHere(id)
		d.mu.Lock()
		a := d.looked[id]
		if a == nil {
			a = &attempt{}
			d.looked[id] = a
		}
		if len(members) >= fewMembers {
			a.failures = 0
		}
		due := len(members) < fewMembers && !time.Now().Before(a.next) && looked < maxListings
		d.mu.Unlock()
		if !due {
			continue
		}
		looked++
		reached := 0
		for _, s := range ring.secrets[id] {
			found := n.lookUp(ctx, claim{id, s})
			reached += n.dialFound(ctx, found, enoughMembers-len(members))
		}
		n.count.Found.Add(uint64(reached))
		d.mu.Lock()
		a.failures++
		a.next = time.Now().Add(max(pace.Backoff(a.failures), listRetry))
		d.mu.Unlock()
	}
}

func (n *Node) lookUp(ctx context.Context, c claim) []peer.AddrInfo {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var found []peer.AddrInfo
	for p := range n.directory.kad.FindProvidersAsync(ctx, c.listing(), maxTold) {
		addrs := slices.DeleteFunc(slices.Clone(p.Addrs), manet.IsIPLoopback)
		if p.ID != n.host.ID() && len(addrs) > 0 {
			found = append(found, peer.AddrInfo{ID: p.ID, Addrs: addrs[:min(len(addrs), maxAddrs)]})
		}
	}
	return found
}

// acquaintances returns the peers that are known, and where they were.
func (n *Node) acquaintances() []peer.AddrInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []peer.AddrInfo
	for p, k := range n.known {
		if len(k.addrs) > 0 && len(all) < maxDials {
			all = append(all, peer.AddrInfo{ID: p, Addrs: slices.Clone(k.addrs)})
		}
	}
	return all
}

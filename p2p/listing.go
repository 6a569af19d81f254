package p2p

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/pace"
)

// listings are under what this node is listed in the directory, and what it looked for
// there.
type listings struct {
	wake pace.Alarm

	mu     sync.Mutex // guards what follows
	listed map[claim]time.Time
	looked map[dag.CollectionID]*attempt
}

// startListing takes part in the directory of peers.
func (n *Node) startListing() error {
	if err := n.host.StartDirectory(n.acquaintances); err != nil {
		return err
	}
	n.listings = &listings{wake: pace.NewAlarm(), listed: map[claim]time.Time{}, looked: map[dag.CollectionID]*attempt{}}
	n.spawn(n.keepListed)
	return nil
}

func (l *listings) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.listed)
}

// listing is the key under which members of a collection are found: it follows from
// the collection's secret.
func (c claim) listing() []byte { return c.secret.Derive(labelListing, c.id[:]) }

// keepListed has this node found by members of its collections, and looks for those of
// collections that it has hardly anybody for.
func (n *Node) keepListed(ctx context.Context) {
	l := n.listings
	l.wake.Set(listDelay)
	for l.wake.Wait(ctx) {
		if n.host.DirectoryPeers() == 0 { // it knows nobody who takes part
			l.wake.Set(pace.Jitter(listRetry, 0.3))
			continue
		}
		n.listAll(ctx)
		n.lookUpAll(ctx)
		l.wake.Set(pace.Jitter(listRetry, 0.3))
	}
}

// listAll renews this node's entries, before they expire where they are.
func (n *Node) listAll(ctx context.Context) {
	l := n.listings
	ring, _ := n.admission.keys()
	renewed := 0
	for _, id := range ring.ids {
		for _, s := range ring.secrets[id] {
			c := claim{id, s}
			l.mu.Lock()
			due := time.Since(l.listed[c]) >= listEvery
			l.mu.Unlock()
			if !due || renewed == maxListings || !n.has(id) {
				continue
			}
			renewed++
			err := func() error {
				ctx, cancel := context.WithTimeout(ctx, listTimeout)
				defer cancel()
				return n.host.List(ctx, c.listing())
			}()
			if err != nil {
				n.log.Debug("this node is not listed yet", "collection", id, "error", err)
				return
			}
			l.mu.Lock()
			l.listed[c] = time.Now()
			l.mu.Unlock()
		}
	}
}

// lookUpAll looks for members of collections with few of them connected: less and
// less often of those of which there seem to be no others.
func (n *Node) lookUpAll(ctx context.Context) {
	l := n.listings
	ring, _ := n.admission.keys()
	looked := 0
	for _, id := range ring.ids {
		members := n.membersHere(id)
		l.mu.Lock()
		a := l.looked[id]
		if a == nil {
			a = &attempt{}
			l.looked[id] = a
		}
		if len(members) >= fewMembers {
			a.failures = 0
		}
		due := len(members) < fewMembers && !time.Now().Before(a.next) && looked < maxListings
		l.mu.Unlock()
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
		l.mu.Lock()
		a.failures++
		a.next = time.Now().Add(max(pace.Backoff(a.failures), listRetry))
		l.mu.Unlock()
	}
}

func (n *Node) lookUp(ctx context.Context, c claim) []peer.AddrInfo {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	return n.host.LookUp(ctx, c.listing(), maxTold)
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

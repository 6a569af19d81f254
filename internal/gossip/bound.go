package gossip

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// bound is what the library remembers at most of topics that peers say they follow. It
// keeps the name of every one for as long as its peer is connected.
type bound struct {
	seed     maphash.Seed
	exceeded atomic.Uint64

	mu sync.Mutex // guards of
	of map[peer.ID]map[uint64]struct{}
}

// prefix begins the names of all topics of Pando.
const prefix = "/pando/"

func newBound() *bound {
	return &bound{seed: maphash.MakeSeed(), of: map[peer.ID]map[uint64]struct{}{}}
}

// CanSubscribe is asked for this node's own topics.
func (b *bound) CanSubscribe(string) bool { return true }

// FilterIncomingSubscriptions leaves out names that no node of Pando follows, and
// what exceeds the bound.
func (b *bound) FilterIncomingSubscriptions(p peer.ID, all []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*pb.RPC_SubOpts
	for _, sub := range all {
		name := sub.GetTopicid()
		if !strings.HasPrefix(name, prefix) || len(name) > maxTopicName {
			continue
		}
		key := maphash.String(b.seed, name)
		if !sub.GetSubscribe() {
			delete(b.of[p], key)
			out = append(out, sub)
			continue
		}
		if _, known := b.of[p][key]; !known && len(b.of[p]) >= maxTopicsOfPeer {
			b.exceeded.Add(1)
			continue
		}
		if b.of[p] == nil {
			b.of[p] = map[uint64]struct{}{}
		}
		b.of[p][key] = struct{}{}
		out = append(out, sub)
	}
	return out, nil
}

// keepOnly forgets peers that are gone.
func (b *bound) keepOnly(here func(peer.ID) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p := range b.of {
		if !here(p) {
			delete(b.of, p)
		}
	}
}

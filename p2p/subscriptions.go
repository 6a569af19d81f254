package p2p

import (
	"hash/maphash"
	"strings"
	"sync"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// subscriptions bounds what the library remembers of topics that peers say they
// follow. It keeps the name of every one for as long as its peer is connected.
type subscriptions struct {
	n    *Node
	seed maphash.Seed

	mu sync.Mutex // guards of
	of map[peer.ID]map[uint64]struct{}
}

const topicPrefix = "/pando/"

func newSubscriptions(n *Node) *subscriptions {
	return &subscriptions{n: n, seed: maphash.MakeSeed(), of: map[peer.ID]map[uint64]struct{}{}}
}

// CanSubscribe is asked for this node's own topics.
func (s *subscriptions) CanSubscribe(string) bool { return true }

// FilterIncomingSubscriptions leaves out names that no node of Pando follows, and
// what exceeds the bound.
func (s *subscriptions) FilterIncomingSubscriptions(p peer.ID, all []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*pb.RPC_SubOpts
	for _, sub := range all {
		name := sub.GetTopicid()
		if !strings.HasPrefix(name, topicPrefix) || len(name) > maxTopicName {
			continue
		}
		key := maphash.String(s.seed, name)
		if !sub.GetSubscribe() {
			delete(s.of[p], key)
			out = append(out, sub)
			continue
		}
		if _, known := s.of[p][key]; !known && len(s.of[p]) >= maxTopicsOfPeer {
			s.n.count.Oversubscribed.Add(1)
			continue
		}
		if s.of[p] == nil {
			s.of[p] = map[uint64]struct{}{}
		}
		s.of[p][key] = struct{}{}
		out = append(out, sub)
	}
	return out, nil
}

// keepOnly forgets peers that are gone.
func (s *subscriptions) keepOnly(here func(peer.ID) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.of {
		if !here(p) {
			delete(s.of, p)
		}
	}
}

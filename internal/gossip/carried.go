package gossip

import (
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/proto"

	"github.com/pandodb/pando/internal/dag"
)

// carried hears from the library what it carried, and what it dropped in silence.
type carried struct{ g *Gossip }

func (c carried) RecvRPC(r *pubsub.RPC) {
	size := proto.Size(&r.RPC)
	c.g.received.Add(uint64(size))
	c.book(&r.RPC, size, func(id dag.CollectionID, n int) { c.g.ties.Moved(r.From(), id, n, 0) })
	var follows []string
	for _, s := range r.GetSubscriptions() {
		if s.GetSubscribe() {
			follows = append(follows, s.GetTopicid())
		}
	}
	if len(follows) > 0 {
		c.g.ties.Follows(r.From(), follows)
	}
}

func (c carried) SendRPC(r *pubsub.RPC, to peer.ID) {
	size := proto.Size(&r.RPC)
	c.g.sent.Add(uint64(size))
	c.book(&r.RPC, size, func(id dag.CollectionID, n int) { c.g.ties.Moved(to, id, 0, n) })
}

// book counts the messages of an exchange for their collections, and the rest for none.
func (c carried) book(r *pb.RPC, size int, count func(dag.CollectionID, int)) {
	for _, m := range r.GetPublish() {
		if id, ok := c.g.names.Load(m.GetTopic()); ok {
			message := proto.Size(m)
			count(id.(dag.CollectionID), message)
			size -= message
		}
	}
	count(dag.CollectionID{}, max(size, 0))
}

func (c carried) DropRPC(r *pubsub.RPC, p peer.ID) {
	var topics []string
	for _, m := range r.GetPublish() {
		topics = append(topics, m.GetTopic())
	}
	c.g.ties.Lost(p, topics)
}

func (c carried) RejectMessage(m *pubsub.Message, reason string) {
	switch reason {
	case pubsub.RejectValidationQueueFull, pubsub.RejectValidationThrottled:
		c.UndeliverableMessage(m)
	}
}

func (c carried) UndeliverableMessage(m *pubsub.Message) {
	c.g.ties.Lost(m.ReceivedFrom, []string{m.GetTopic()})
}

func (c carried) Graft(p peer.ID, topic string) { c.g.ties.Grafted(p, topic) }

func (carried) OnNewOutboundStream(peer.ID, protocol.ID)             {}
func (carried) OnClosedOutboundStream(peer.ID)                       {}
func (carried) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
func (carried) Join(string)                                          {}
func (carried) Leave(string)                                         {}
func (carried) Prune(peer.ID, string)                                {}
func (carried) ValidateMessage(*pubsub.Message)                      {}
func (carried) DeliverMessage(*pubsub.Message)                       {}
func (carried) DuplicateMessage(*pubsub.Message)                     {}
func (carried) ThrottlePeer(peer.ID)                                 {}

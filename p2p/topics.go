package p2p

import (
	"context"

	"github.com/pandodb/pando/internal/room"
)

// Topics of applications are the rooms of collections.
type (
	// Message is one thing that is heard in a topic.
	Message = room.Message
	// Kind is what a message of a topic tells.
	Kind = room.Kind
	// TopicOptions say how to listen to a topic.
	TopicOptions = room.Options
	// Subscription listens to a topic. Who listens is seen by all others that do.
	Subscription = room.Subscription
	// Member is somebody who is in a topic.
	Member = room.Member
	// TopicStatus is a topic that a node takes part in.
	TopicStatus = room.Status
)

const (
	// Said is a message that a member published.
	Said = room.Said
	// Here is a member who came, or whose state changed.
	Here = room.Here
	// Gone is a member who left, or was not heard for too long.
	Gone = room.Gone

	// MaxTopicMessage bounds one message.
	MaxTopicMessage = room.MaxMessage
	// MaxTopicState bounds what a member shows of itself.
	MaxTopicState = room.MaxState
)

// ErrTooFast is why a message was not published: later it will be.
var ErrTooFast = room.ErrTooFast

// Publish sends a message to everybody who listens to a topic, COLLECTION/ROOM, and
// returns how many connected peers it was handed to: they pass it on. It is kept
// nowhere; who does not listen now never hears it. A sender that is too fast waits for
// its turn while ctx allows.
func (n *Node) Publish(ctx context.Context, topic string, data []byte) (int, error) {
	return n.rooms.Publish(ctx, topic, data)
}

// Subscribe listens to a topic, COLLECTION/ROOM, until Close. Members of the
// collection are let in, and nobody else can read what is said.
func (n *Node) Subscribe(ctx context.Context, topic string, o TopicOptions) (*Subscription, error) {
	return n.rooms.Subscribe(ctx, topic, o)
}

// Present returns who is in a topic, by DID. A node that does not listen to it asks,
// without being seen there, and waits for answers for a moment.
func (n *Node) Present(ctx context.Context, topic string) ([]Member, error) {
	return n.rooms.Present(ctx, topic)
}

// Topics returns the topics that this node takes part in, by name.
func (n *Node) Topics() []TopicStatus { return n.rooms.Topics() }

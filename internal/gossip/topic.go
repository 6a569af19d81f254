package gossip

import (
	"context"
	"crypto/cipher"
	"errors"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Channel is what makes a topic. Whoever is connected can see its name and follow it:
// the library's filters act on peers as such, before it is known what they prove, and do
// not bind the other members of the mesh. So names are to be blind, and messages are sealed
// with a key that follows from the secret: who does not know it reads nothing, and can
// write nothing that a member would pass on.
type Channel struct {
	Name       string
	Collection dag.CollectionID
	Secret     ident.Secret // of the collection
	Key        []byte       // 32 bytes that follow from it, and serve in no other topic
}

// Overhead is what a message has more than what it says.
const Overhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// labelNonce is the label of nonces.
const labelNonce = "pando/nonce/1"

func (c Channel) seal() (cipher.AEAD, error) { return chacha20poly1305.NewX(c.Key) }

// Seal makes a message of what is said.
func (c Channel) Seal(said []byte) ([]byte, error) {
	seal, err := c.seal()
	if err != nil {
		return nil, err
	}
	// The nonce follows from the secret and what is said: two nodes that say the same
	// make one message, and no nonce is ever used for two texts.
	nonce := make([]byte, seal.NonceSize(), seal.NonceSize()+len(said)+seal.Overhead())
	copy(nonce, c.Secret.Derive(labelNonce, []byte(c.Name), []byte{0}, said))
	return seal.Seal(nonce, nonce, said, []byte(c.Name)), nil
}

// Open returns what a message says. Every error means that no member wrote it, or one that
// does not keep the protocol.
func (c Channel) Open(message []byte) ([]byte, error) {
	seal, err := c.seal()
	if err != nil {
		return nil, err
	}
	size := seal.NonceSize()
	if len(message) < size {
		return nil, fault.Invalid.Errorf("a message of %d bytes: it is cut short", len(message))
	}
	said, err := seal.Open(nil, message[:size], message[size:], []byte(c.Name))
	if err != nil {
		return nil, fault.Invalid.Errorf("a message that is not sealed with the key of its topic")
	}
	return said, nil
}

// Verdict is what becomes of a message that was heard.
type Verdict = pubsub.ValidationResult

const (
	// Accept has it passed on.
	Accept = pubsub.ValidationAccept
	// Ignore has it not passed on, and is nobody's fault.
	Ignore = pubsub.ValidationIgnore
	// Reject says that it is wrong for everybody: who passed it on should have known.
	Reject = pubsub.ValidationReject
)

// Topic is a topic that a node takes part in. Listen and Leave are for one goroutine at a
// time.
type Topic struct {
	Channel
	g      *Gossip
	handle *pubsub.Topic
	mute   pubsub.RelayCancelFunc // ends taking part; nil while it only speaks
}

// Join begins to take part in a topic, first only to speak in it. judge hears
// what others say there that are not banned, or why a message cannot be opened; it is
// called by many at once.
func (g *Gossip) Join(c Channel, judge func(from peer.ID, said []byte, err error) Verdict) (*Topic, error) {
	if !g.enter() {
		return nil, fault.Unavailable.Errorf("this node takes part in %d topics of gossip, which is the most: leave some, or keep fewer collections", MaxTopics)
	}
	t := &Topic{Channel: c, g: g}
	validate := func(_ context.Context, from peer.ID, m *pubsub.Message) Verdict {
		if from == g.self {
			return Accept
		}
		if g.ties.Banned(from) {
			return Ignore
		}
		said, err := c.Open(m.Data)
		return judge(from, said, err)
	}
	if err := g.router.RegisterTopicValidator(c.Name, validate); err != nil {
		g.leave()
		return nil, err
	}
	g.names.Store(c.Name, c.Collection)
	var err error
	if t.handle, err = g.router.Join(c.Name); err == nil {
		err = t.handle.SetScoreParams(topicScore(g.quarantine))
	}
	if err != nil {
		return nil, errors.Join(err, t.Leave())
	}
	return t, nil
}

// Listen follows the topic too, in the mesh of those who do.
func (t *Topic) Listen() (err error) {
	if t.mute == nil {
		// A relay takes part in the mesh like a subscriber. What arrives is taken in by
		// the validator; a subscription would add a queue that drops, and a goroutine.
		t.mute, err = t.handle.Relay()
	}
	return err
}

// Listens reports whether it does.
func (t *Topic) Listens() bool { return t.mute != nil }

// Publish says something to all who follow the topic.
func (t *Topic) Publish(ctx context.Context, said []byte) error {
	message, err := t.Seal(said)
	if err != nil {
		return err
	}
	return t.handle.Publish(ctx, message)
}

// Followers returns the connected peers that follow the topic.
func (t *Topic) Followers() []peer.ID { return t.handle.ListPeers() }

// Leave ends what Join began. What fails there fails because gossip ends.
func (t *Topic) Leave() error {
	if t.mute != nil {
		t.mute()
	}
	var err error
	if t.handle != nil {
		err = t.handle.Close()
	}
	t.g.names.Delete(t.Name)
	t.g.leave()
	return errors.Join(err, t.g.router.UnregisterTopicValidator(t.Name))
}

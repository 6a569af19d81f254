package gossip

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
)

// Config is how a node gossips.
type Config struct {
	Ties Ties
	// Quarantine is how long it is held against a peer what it said that is wrong for
	// everybody.
	Quarantine time.Duration
	// Logger hears of what goes on; nil is silence.
	Logger *slog.Logger
}

// Ties are what a node has to do with peers, as only it knows. They are asked and told
// at any time, by several at once: who is must neither wait nor ask back.
type Ties interface {
	Locked(peer.ID) bool        // a stranger, who is told nothing
	Banned(peer.ID) bool        // for a while: it is not listened to
	Standing(peer.ID) float64   // what speaks against it elsewhere: 0, or less
	Scored(map[peer.ID]float64) // what gossip alone makes of peers, now and then

	Follows(p peer.ID, topics []string)                       // it said so
	Grafted(p peer.ID, topic string)                          // it is a neighbour now
	Lost(p peer.ID, topics []string)                          // messages to it, or of it, were dropped
	Moved(p peer.ID, id dag.CollectionID, received, sent int) // bytes, for a collection or, the zero one, for none
}

// Counters say what was gossiped since the start.
type Counters struct {
	Received, Sent uint64 // bytes
	Oversubscribed uint64 // topics that peers follow beyond what is remembered
}

// Gossip is the part that a node takes in it.
type Gossip struct {
	ties       Ties
	quarantine time.Duration
	log        *slog.Logger
	self       peer.ID
	router     *pubsub.PubSub
	bound      *bound
	names      sync.Map // collections by the names of their topics

	received, sent atomic.Uint64

	mu     sync.Mutex // guards joined; taken last
	joined int
}

// New makes what takes part in gossip from Start on.
func New(c Config) *Gossip {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Gossip{ties: c.Ties, quarantine: c.Quarantine, log: c.Logger, bound: newBound()}
}

// Start takes part, as a host, until ctx ends. From here on Ties are asked and told.
func (g *Gossip) Start(ctx context.Context, h host.Host) (err error) {
	score, thresholds := scoreParams(g.ties, g.quarantine)
	g.self = h.ID()
	g.router, err = pubsub.NewGossipSub(ctx, h,
		pubsub.WithGossipSubParams(meshParams()),
		pubsub.WithPeerScore(score, thresholds),
		pubsub.WithSubscriptionFilter(g.bound),
		pubsub.WithPeerFilter(func(p peer.ID, _ string) bool { return !g.ties.Locked(p) }),
		pubsub.WithPeerScoreInspect(g.scored, scoreEvery),
		// Both: with StrictNoSign alone the messages still name an author, and
		// other implementations drop them silently.
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pb.Message) string {
			sum := sha256.Sum256(m.Data)
			return string(sum[:16]) // named again and again between peers
		}),
		pubsub.WithFloodPublish(true), // what is made here goes to all neighbours
		pubsub.WithMaxMessageSize(maxFrame),
		pubsub.WithValidateQueueSize(validateQueue),
		pubsub.WithPeerOutboundQueueSize(outboundQueue),
		pubsub.WithRawTracer(carried{g}),
		pubsub.WithLogger(slog.New(asides{g.log.Handler()}).With("part", "gossip")),
	)
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	return nil
}

// Followers returns the connected peers that follow a topic, which this node need not
// take part in.
func (g *Gossip) Followers(topic string) []peer.ID { return g.router.ListPeers(topic) }

// KeepOnly forgets what peers said that are gone.
func (g *Gossip) KeepOnly(here func(peer.ID) bool) { g.bound.keepOnly(here) }

// Counters returns what was gossiped.
func (g *Gossip) Counters() Counters {
	return Counters{g.received.Load(), g.sent.Load(), g.bound.exceeded.Load()}
}

// Topics returns how many topics this node takes part in, at most MaxTopics.
func (g *Gossip) Topics() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.joined
}

// enter takes a place for one more topic.
func (g *Gossip) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.joined >= MaxTopics {
		return false
	}
	g.joined++
	return true
}

func (g *Gossip) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.joined--
}

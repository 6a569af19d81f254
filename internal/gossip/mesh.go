package gossip

import (
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// The shape of the mesh: each node looks for D neighbours if it has fewer than Dlo, so
// that a message reaches it about four times. Nodes that joined by a ticket know only
// who gave it, so hubs are common: with fewer than Dhi neighbours one has all of them
// in its mesh, behind that only D. The others it tells of what it heard at every
// heartbeat, all and not only some, because they will hear of it from nobody else.
// No place is kept for peers that were dialed (Dout), which takes a D of 4 and a quarter
// more bytes: who fills a mesh to keep things back delays them by a heartbeat.
func meshParams() pubsub.GossipSubParams {
	p := pubsub.DefaultGossipSubParams()
	p.D, p.Dlo, p.Dhi, p.Dlazy, p.Dscore, p.Dout = 3, 2, Crowd, 3, 2, 0
	p.GossipFactor = 1
	return p
}

// What peers are scored by: messages that are invalid for everybody, and what speaks
// against them elsewhere. Distance in the network and number of peers behind one
// address are no fault.
func scoreParams(ties Ties, quarantine time.Duration) (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	return &pubsub.PeerScoreParams{
			SkipAtomicValidation: true,
			Topics:               map[string]*pubsub.TopicScoreParams{},
			AppSpecificScore:     ties.Standing, AppSpecificWeight: 1,
			BehaviourPenaltyWeight: -10, BehaviourPenaltyThreshold: 6, BehaviourPenaltyDecay: pubsub.ScoreParameterDecay(10 * time.Minute),
			DecayInterval: time.Second, DecayToZero: 0.01, RetainScore: quarantine,
		}, &pubsub.PeerScoreThresholds{
			SkipAtomicValidation: true,
			GossipThreshold:      -100, PublishThreshold: -200, GraylistThreshold: -400,
		}
}

func topicScore(quarantine time.Duration) *pubsub.TopicScoreParams {
	return &pubsub.TopicScoreParams{
		SkipAtomicValidation: true,
		TopicWeight:          1, TimeInMeshQuantum: time.Second,
		// Squared: the second invalid message silences gossip with the peer, the third
		// everything from it.
		InvalidMessageDeliveriesWeight: -50, InvalidMessageDeliveriesDecay: pubsub.ScoreParameterDecay(quarantine),
	}
}

// scored tells what gossip makes of peers, less what it has from elsewhere.
func (g *Gossip) scored(all map[peer.ID]*pubsub.PeerScoreSnapshot) {
	seen := make(map[peer.ID]float64, len(all))
	for p, one := range all {
		seen[p] = one.Score - one.AppSpecificScore
	}
	g.ties.Scored(seen)
}

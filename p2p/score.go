package p2p

import (
	"math"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Points of blame, for what a peer does elsewhere than in gossip. A peer with any
// is taken into no mesh; gossip withdraws from it as they add up: at 100 it hears of
// nothing that it missed, at 200 of nothing that is made here, at 400 it is not
// listened to.
const (
	blameUseless  = 20  // an answer that only cost time, such as what is known, over and over
	blameMismatch = 40  // copies that stay different although all was exchanged
	blameBreach   = 400 // the protocol was broken
	// blameSilent is for a question that was not answered in time, by a peer that is there.
	blameSilent = 10
	// blameInsistent is for asking again and again while it is refused.
	blameInsistent = 50
)

const (
	// maxBlamed bounds the peers that blame is remembered of, beyond their connection.
	// The least blamed goes first, so that many with a little do not wash off one with
	// much.
	maxBlamed = 1024
	// forgiven is the blame below which none is left.
	forgiven = 1
)

// scores is how this node thinks of peers: what they are blamed for, which fades by
// half in each quarantine, and what gossip makes of them.
type scores struct {
	mu     sync.Mutex // guards what follows; taken last
	blamed map[peer.ID]guilt
	gossip map[peer.ID]float64 // by gossip alone, at the last look
}

// guilt is the blame of a peer as it was at some time.
type guilt struct {
	points float64
	at     time.Time
}

// left returns what has not faded of it.
func (g guilt) left(now time.Time) float64 {
	return g.points * math.Exp2(-now.Sub(g.at).Seconds()/quarantine.Seconds())
}

func newScores() *scores {
	return &scores{blamed: map[peer.ID]guilt{}, gossip: map[peer.ID]float64{}}
}

// add notes points against a peer.
func (s *scores) add(p peer.ID, points float64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.blamed[p]; !known && len(s.blamed) >= maxBlamed {
		s.dropLeast(now)
	}
	s.blamed[p] = guilt{s.blamed[p].left(now) + points, now}
}

func (s *scores) dropLeast(now time.Time) {
	least, points := peer.ID(""), math.Inf(1)
	for p, g := range s.blamed {
		if left := g.left(now); left < points {
			least, points = p, left
		}
	}
	delete(s.blamed, least)
}

// blame returns the points that are left against a peer.
func (s *scores) blame(p peer.ID, now time.Time) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if left := s.blamed[p].left(now); left >= forgiven {
		return left
	}
	return 0
}

// of returns how a peer stands: 0 is good, below is worse.
func (s *scores) of(p peer.ID, now time.Time) float64 {
	blame := s.blame(p, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gossip[p] - blame
}

// inspect takes what gossip alone makes of peers.
func (s *scores) inspect(seen map[peer.ID]float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gossip = seen
}

// sweep forgets whoever is forgiven.
func (s *scores) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, g := range s.blamed {
		if g.left(now) < forgiven {
			delete(s.blamed, p)
		}
	}
}

// blame lowers the score of a peer for something that it did: lies, and answers that
// are of no use. It is forgotten with time. Gossip listens to, and tells, whom it
// scores well; nothing else follows from it.
func (n *Node) blame(p peer.ID, points float64, why string) {
	n.scores.add(p, points, time.Now())
	n.count.Blamed.Add(1)
	n.log.Debug("peer is blamed", "peer", p, "points", points, "why", why)
}

// lockedScore is what gossip thinks of a stranger at the door of a closed node: less
// than of anybody that it listens to or tells something.
const lockedScore = -1000

// standing is what speaks against a peer in gossip.
func (n *Node) standing(p peer.ID) float64 {
	if n.host.Locked(p) {
		return lockedScore
	}
	return -n.scores.blame(p, time.Now())
}

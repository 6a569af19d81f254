package p2p

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
)

// What a peer is blamed for has consequences beyond gossip: it is asked last, and takes
// up little of what this node does at once. It is never passed over for ever, since
// it may be the only one to have something, and blame may be unjust.

// blamed reports whether anything speaks against a peer.
func (n *Node) blamed(p peer.ID) bool { return n.scores.blame(p, time.Now()) > 0 }

// patienceWith is how many commits in a row a peer may send that are known already.
func (n *Node) patienceWith(p peer.ID) int {
	if n.blamed(p) {
		return maxUselessOfBlamed
	}
	return maxUseless
}

// nextGood is nextPeer among those that nothing speaks against, if there are any.
func (n *Node) nextGood(id dag.CollectionID, after peer.ID) (peer.ID, bool) {
	good := slices.DeleteFunc(n.sharers(id), n.blamed)
	if len(good) == 0 {
		return n.nextPeer(id, after)
	}
	return following(good, after), true
}

// following returns the peer after another, in turn.
func following(all []peer.ID, after peer.ID) peer.ID {
	for _, p := range all {
		if p > after {
			return p
		}
	}
	return all[0]
}

// onceInAWhile is how often, one in so many times, a peer is chosen without regard to
// what speaks against it.
const onceInAWhile = 8

// toCompareWith chooses a peer at random, mostly among those that nothing speaks against.
func (n *Node) toCompareWith(all []*companion) *companion {
	good := slices.DeleteFunc(slices.Clone(all), func(c *companion) bool { return n.blamed(c.id) })
	if len(good) == 0 || rand.IntN(onceInAWhile) == 0 {
		good = all
	}
	return good[rand.IntN(len(good))]
}

// busyWithOthers reports whether a session with another peer is under way, that
// nothing speaks against: one with a peer that is blamed can wait.
func (n *Node) busyWithOthers(p peer.ID) bool {
	return slices.ContainsFunc(n.connected(), func(c *companion) bool {
		n.mu.Lock()
		busy := c.running || c.asking > 0
		n.mu.Unlock()
		return busy && c.id != p && !n.blamed(c.id)
	})
}

// rescues are fetches of single documents that run: at most maxRescues, of one peer
// rescuesOfPeer, and of all that are blamed as many as of one. A peer that does not
// answer holds them up for half a minute.
type rescues struct {
	n *Node

	mu      sync.Mutex // guards what follows
	running int
	of      map[peer.ID]int
}

// theBlamed stands for all peers that something speaks against.
const theBlamed = peer.ID("\x00")

func newRescues(n *Node) *rescues { return &rescues{n: n, of: map[peer.ID]int{}} }

// begin takes a place, which done gives back, or reports that there is none.
func (r *rescues) begin(p peer.ID) (done func(), ok bool) {
	if r.n.blamed(p) {
		p = theBlamed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running >= maxRescues || r.of[p] >= rescuesOfPeer {
		return nil, false
	}
	r.running++
	r.of[p]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.running--
		if r.of[p]--; r.of[p] == 0 {
			delete(r.of, p)
		}
	}, true
}

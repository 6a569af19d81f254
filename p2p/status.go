package p2p

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
)

// State is how a peer's copy of a collection compares with the one here. It is
// computed from roots at the time of asking, never from the time since something
// was heard.
type State string

const (
	Identical   State = "identical"
	Differs     State = "differs"
	Unreachable State = "unreachable"
	NotAdmitted State = "not admitted"

	// Of replicators only.
	Active  State = "active"
	Failing State = "failing" // the problem says why
)

// Status is what a node holds, and how its peers compare.
type Status struct {
	Self        Info
	Collections []pando.Summary
	Peers       []PeerStatus
	Replicators []ReplicatorStatus
	Counters    Counters
	// Skew is the median of how far the peers' clocks are ahead of this one's.
	// Far off, new commits lose against older ones, or wait.
	Skew time.Duration
}

// PeerStatus is one known peer.
type PeerStatus struct {
	ID          string
	Addrs       []string
	Connected   bool
	Trusted     bool // named by the operator, for every collection
	RTT         time.Duration
	Collections []PeerCollection // by name
	Problem     string           // of the last session; "" if it went well
	Hint        string           // what to do, if something is to be done
}

// PeerCollection is a peer's copy of a collection.
type PeerCollection struct {
	ID        string
	Name      string
	State     State
	Documents uint64 // that the peer has
	Differ    uint64 // documents that differ
	AtLeast   bool   // Differ is a lower bound: the count was cut short
}

// Peers lists the peers that are connected, and those known that are not.
func (n *Node) Peers() []PeerStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	ids := map[peer.ID]bool{}
	for p := range n.known {
		ids[p] = true
	}
	for p := range n.companions {
		ids[p] = true
	}
	for p := range n.replicators {
		ids[p] = true
	}
	var all []PeerStatus
	for p := range ids {
		k, c := n.known[p], n.companions[p]
		s := PeerStatus{ID: p.String(), Connected: c != nil, Trusted: k.trusted}
		addrs := k.addrs
		if r := n.replicators[p]; r != nil {
			s.Trusted = s.Trusted || len(r.collections) == 0
			addrs = append(slices.Clone(addrs), r.addrs...)
		}
		if c != nil {
			for _, conn := range n.host.Network().ConnsToPeer(p) {
				addrs = append(slices.Clone(addrs), conn.RemoteMultiaddr())
			}
			if c.lastErr != nil {
				s.Problem = c.lastErr.Error()
			}
		}
		for _, a := range addrs {
			if text := a.String(); !slices.Contains(s.Addrs, text) {
				s.Addrs = append(s.Addrs, text)
			}
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b PeerStatus) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Status compares roots with every connected peer. Peers that do not answer in
// time are unreachable.
func (n *Node) Status(ctx context.Context) (Status, error) {
	sums, err := n.replica.Summaries(ctx)
	if err != nil {
		return Status{}, err
	}
	s := Status{Self: n.Info(), Collections: sums, Peers: n.Peers(), Replicators: n.Replicators()}
	var probes sync.WaitGroup
	slots := make(chan struct{}, maxProbes)
	for i := range s.Peers {
		probes.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			n.probe(ctx, &s.Peers[i], sums)
		})
	}
	probes.Wait()
	s.Counters, s.Skew = n.Counters(), n.skew()
	return s, nil
}

// maxProbes is how many peers are asked at once.
const maxProbes = 16

// probe fills in how a peer's copies compare.
func (n *Node) probe(ctx context.Context, s *PeerStatus, sums []pando.Summary) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var got report
	var err error
	if s.Connected {
		p, _ := peer.Decode(s.ID) // it was printed a moment ago
		got, err = n.sync(ctx, p, errand{probe: true, count: true})
		s.RTT = got.RTT
	}
	if err != nil {
		s.Problem = err.Error()
	}
	for _, sum := range sums {
		c := PeerCollection{ID: sum.Collection.String(), Name: sum.Name}
		v := got.Collections[sum.Collection]
		switch {
		case !s.Connected || err != nil && v == nil:
			c.State = Unreachable
		case v == nil:
			c.State = NotAdmitted
			s.Hint = admissionHint
		case v.Equal:
			c.State, c.Documents = Identical, v.Theirs
		default:
			c.State, c.Documents = Differs, v.Theirs
			c.Differ, c.AtLeast = uint64(v.Differ), v.AtLeast || err != nil
		}
		s.Collections = append(s.Collections, c)
	}
}

// skew returns the median of the peers' clocks against this one's.
func (n *Node) skew() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []time.Duration
	for _, c := range n.companions {
		if c.last != nil {
			all = append(all, c.skew)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

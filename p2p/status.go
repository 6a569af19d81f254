package p2p

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/schema"
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
	// OtherDefinition: the peer has a collection of this name that is another one.
	OtherDefinition State = "another definition"
	// Uncomparable: a part of the collection is kept that one side cannot tell from the rest.
	Uncomparable State = "cannot be compared"
	// Outdated: a part of the collection is kept here, and the peer's version of the
	// protocol knows of no parts.
	Outdated State = "older version"

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
	Connections []Connection // direct ones first
	Trusted     bool         // named by the operator, for every collection
	RTT         time.Duration
	Collections []PeerCollection // by name
	Score       float64          // 0 is good; below, gossip trusts it less: -400 and it is not listened to
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
	Part      string // what was compared, if one side does not keep all: the state is of that
	Problem   string // why it cannot be compared
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
		s := PeerStatus{ID: p.String(), Connected: c != nil, Trusted: k.trusted, Score: n.scores.of(p, time.Now())}
		addrs := k.addrs
		if r := n.replicators[p]; r != nil {
			s.Trusted = s.Trusted || len(r.collections) == 0
			addrs = append(slices.Clone(addrs), r.addrs...)
		}
		if c != nil {
			s.Connections = n.connections(p)
			for _, conn := range n.host.Network().ConnsToPeer(p) {
				addrs = append(slices.Clone(addrs), conn.RemoteMultiaddr())
			}
			if c.lastErr != nil {
				s.Problem = c.lastErr.Error()
			}
		} else {
			s.Problem = n.foreign(p)
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
	clashing := n.clashes(s.ID)
	var absent, clash []string
	for _, sum := range sums {
		c := PeerCollection{ID: sum.Collection.String(), Name: sum.Name}
		v := got.Collections[sum.Collection]
		switch {
		case !s.Connected || err != nil && v == nil:
			c.State = Unreachable
		case v == nil && clashing[sum.Name]:
			c.State = OtherDefinition
			clash = append(clash, sum.Name)
		case v == nil && got.Version < versionOfParts && n.partial(sum.Collection):
			c.State, c.Part = Outdated, n.scopeOf(sum.Collection).String()
			c.Problem = "the peer speaks an older version, which knows of no parts of collections: update it, or keep the whole"
		case v == nil:
			c.State = NotAdmitted
			absent = append(absent, sum.Name)
		case v.Equal:
			c.State, c.Documents, c.Part = Identical, v.Theirs, v.Part
		case v.Problem != "":
			c.State, c.Part, c.Problem = Uncomparable, v.Part, v.Problem
		default:
			c.State, c.Documents, c.Part = Differs, v.Theirs, v.Part
			c.Differ, c.AtLeast = uint64(v.Differ), v.AtLeast || err != nil
		}
		s.Collections = append(s.Collections, c)
	}
	var hints []string
	if narrow(s.Connections) {
		hints = append(hints, "connected through a relay that limits it, so that only small differences pass: let the relay join the collections too, or let one of both listen where others get in")
	}
	if len(clash) > 0 {
		hints = append(hints, "the peer has another definition of "+strings.Join(clash, ", ")+": the same definition is needed on every node")
	}
	if len(absent) > 0 {
		// Which of the two it is, it tells nobody who is not admitted.
		hints = append(hints, strings.Join(absent, ", ")+": the peer does not have it, or one side does not admit the other: "+admissionHint)
	}
	s.Hint = strings.Join(hints, "; ")
}

// clashes returns the names of collections that a connected peer offered, and that
// are of other collections here.
func (n *Node) clashes(id string) map[string]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p, c := range n.companions {
		if p.String() == id {
			return maps.Clone(c.clashes)
		}
	}
	return nil
}

// noteClashes notes which of the definitions that a peer offered cannot be added,
// because there is another of that name.
func (n *Node) noteClashes(p peer.ID, versions [][]byte) {
	for _, v := range versions {
		c, err := schema.Decode(v)
		if err != nil {
			continue
		}
		own, err := n.db.Collection(c.Name)
		if err != nil || own.ID == c.ID {
			continue
		}
		n.mu.Lock()
		if with := n.companions[p]; with != nil {
			if with.clashes == nil {
				with.clashes = map[string]bool{}
			}
			if len(with.clashes) < maxClashes {
				with.clashes[c.Name] = true
			}
		}
		n.mu.Unlock()
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

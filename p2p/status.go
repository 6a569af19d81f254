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
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/pace"
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
	// Comparing: the part that is compared is the same, and one side has yet to find out
	// whether the other lacks what it holds outside of it: after a part was changed, say.
	Comparing State = "being compared"
	// Outdated: a part of the collection is kept here, and the peer's version of the
	// protocol knows of no parts.
	Outdated State = "older version"
	// NotAsked: the status is one that asks no peers.
	NotAsked State = "not asked"

	// Of replicators only.
	Active  State = "active"
	Failing State = "failing" // the problem says why
)

// Status is what a node holds, and how its peers compare.
type Status struct {
	At, Started time.Time // now, and when the node was started
	Self        Info
	Collections []pando.Summary
	Peers       []PeerStatus
	Replicators []ReplicatorStatus
	Counters    Counters
	// Skew is the median of how far the peers' clocks are ahead of this one's.
	// Far off, new commits lose against older ones, or wait.
	Skew   time.Duration
	Delays Delays
	Queues []Queue
	Wants  []WantStatus     // that are wanted longest, a few; Counters has how many there are
	Moved  map[string]Moved // by ID of collection, with all peers since the start; "" for none
}

// PeerStatus is one known peer.
type PeerStatus struct {
	ID          string
	Addrs       []string
	Connected   bool
	Connections []Connection // direct ones first
	Since       time.Time    // it is connected
	Trusted     bool         // named by the operator, for every collection
	RTT         time.Duration
	Collections []PeerCollection // by name
	Moved                        // with it, since it was first met
	Session     SessionStatus    // the last one
	ActsFor     []Acting         // by the certificates that it has shown, sorted
	Hub         bool             // of this node: it is given what is sealed
	Score       float64          // 0 is good; below, gossip trusts it less: -400 and it is not listened to
	Problem     string           // of the last session; "" if it went well
	Hint        string           // what to do, if something is to be done
}

// Acting is an identity that a peer acts for.
type Acting struct {
	DID   ident.DID
	Until time.Time
}

// actsFor returns whom a peer acts for, beside itself.
func (n *Node) actsFor(p peer.ID) (all []Acting) {
	for k, until := range n.identities.acting(p, n.replica.Now()) {
		all = append(all, Acting{k.DID(), until})
	}
	slices.SortFunc(all, func(a, b Acting) int { return strings.Compare(string(a.DID), string(b.DID)) })
	return all
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
	Problem   string // why it cannot be compared, or stays different
	Moved            // for it, with this peer
	Wants     int    // documents that the peer told of, and that are incomplete here
	// When the copies were compared last, and found identical last, since the start.
	// They need not be identical now.
	Compared, Same time.Time
	// Mismatch is when two quiet copies stayed different after a session. Zero: they did
	// not, or came together later. If it lasts, one of the databases is damaged.
	Mismatch time.Time
}

// Lag is for how long this node may have missed what the peer has: zero while the
// copies are identical, else since they last were; ok is false if they never were.
func (c PeerCollection) Lag(now time.Time) (lag time.Duration, ok bool) {
	if c.State == Identical {
		return 0, true
	}
	return max(0, now.Sub(c.Same)), !c.Same.IsZero()
}

// Peers lists the peers that are connected, and those known that are not.
func (n *Node) Peers() []PeerStatus {
	held := n.held()
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
		s.Session = n.contacts.lastSession(p)
		s.ActsFor, s.Hub = n.actsFor(p), n.hubs.has(p)
		if c != nil {
			s.Connections = n.host.Connections(p)
			s.Since = c.since
			for _, conn := range n.host.Network().ConnsToPeer(p) {
				addrs = append(slices.Clone(addrs), conn.RemoteMultiaddr())
			}
			if c.lastErr != nil {
				s.Problem = c.lastErr.Error()
			} else if held != nil {
				s.Problem = held.Error()
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
	s := n.status(sums)
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
	n.fillIn(&s)
	s.Counters, s.Skew = n.Counters(), n.skew()
	return s, nil
}

// LocalStatus is Status without a word to the peers: how their copies compare is
// NotAsked. It costs little, however many there are.
func (n *Node) LocalStatus(ctx context.Context) (Status, error) {
	sums, err := n.replica.Summaries(ctx)
	if err != nil {
		return Status{}, err
	}
	s := n.status(sums)
	ids := make([]string, len(sums)) // in text, once for all peers
	for i, sum := range sums {
		ids[i] = sum.Collection.String()
	}
	for i := range s.Peers {
		p, _ := peer.Decode(s.Peers[i].ID) // it was printed a moment ago
		for j, sum := range sums {
			_, member := n.admission.member(p, sum.Collection)
			if member || !n.contacts.of(sharing{p, sum.Collection}).compared.IsZero() {
				s.Peers[i].Collections = append(s.Peers[i].Collections, PeerCollection{ID: ids[j], Name: sum.Name, State: NotAsked})
			}
		}
	}
	n.fillIn(&s)
	return s, nil
}

// listedWants is how many wants a status lists.
const listedWants = 20

// status is what is known without asking.
func (n *Node) status(sums []pando.Summary) Status {
	s := Status{At: time.Now(), Started: n.started, Self: n.Info(), Collections: sums, Peers: n.Peers(), Replicators: n.Replicators(),
		Counters: n.Counters(), Skew: n.skew(), Delays: n.Delays(), Queues: n.Queues(), Wants: n.Wants(listedWants), Moved: map[string]Moved{}}
	for id, m := range n.traffic.ledger.byCollection(s.At) {
		key := ""
		if id != (dag.CollectionID{}) {
			key = id.String()
		}
		s.Moved[key] = m
	}
	return s
}

// fillIn adds what this node knows of the peers' copies.
func (n *Node) fillIn(s *Status) {
	moved, wants := n.traffic.ledger.peers(time.Now()), n.wants.told()
	ids := map[string]dag.CollectionID{}
	for _, sum := range s.Collections {
		ids[sum.Collection.String()] = sum.Collection
	}
	for i := range s.Peers {
		p, _ := peer.Decode(s.Peers[i].ID)
		for _, m := range moved[p] {
			s.Peers[i].Moved = s.Peers[i].Moved.plus(m)
		}
		for j := range s.Peers[i].Collections {
			c := &s.Peers[i].Collections[j]
			id := ids[c.ID]
			k := n.contacts.of(sharing{p, id})
			c.Moved, c.Wants = moved[p][id], wants[sharing{p, id}]
			c.Compared, c.Same, c.Mismatch = k.compared, k.same, k.mismatch
			if c.State == Differs && !k.otherwise.IsZero() {
				c.Problem = otherwiseHint
			}
		}
	}
}

// lookAgainAfter is how long after a session of this node a status that finds a difference
// lets the peer be compared with: one that is asked for all the time is not to cost a session each
// time.
const lookAgainAfter = 10 * time.Second

func (n *Node) lookAgain(p peer.ID) {
	n.mu.Lock()
	c := n.companions[p]
	due := c != nil && time.Since(c.ran) > lookAgainAfter
	n.mu.Unlock()
	if due {
		c.next.Set(pace.Jitter(spreadDelay, 0.5))
	}
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
	differs := false
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
		case v.Loose > 0 && v.Differ == 0 && !v.AtLeast && err == nil:
			c.State, c.Documents, c.Part = Comparing, v.Theirs, v.Part
		default:
			c.State, c.Documents, c.Part = Differs, v.Theirs, v.Part
			c.Differ, c.AtLeast = uint64(v.Differ), v.AtLeast || err != nil
			differs = true
		}
		s.Collections = append(s.Collections, c)
	}
	if differs {
		p, _ := peer.Decode(s.ID)
		n.lookAgain(p) // so that who asks once more is told what came of it
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

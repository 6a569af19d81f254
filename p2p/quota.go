package p2p

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
)

// quotas bound what each peer makes this node do, however it spreads that over
// sessions and connections. They are wide: what an honest peer asks for, a copy of
// millions of documents among it, stays below. Whoever is above is told when to come
// again.
type quotas struct {
	mu    sync.Mutex // guards what follows
	spent map[peer.ID]*spending
}

// effort is something that a peer can make this node do.
type effort int

const (
	lookups effort = iota // in the database: documents, nodes of the tree, entries of a HELLO
	reading               // bytes read and sent
	wasting               // bytes that the peer pushed, and that brought nothing
	efforts
)

// spending is what a peer used up and has not got back yet.
type spending struct {
	used    [efforts]float64
	at      time.Time
	refused int // in a row
}

func newQuotas() *quotas { return &quotas{spent: map[peer.ID]*spending{}} }

// of returns what a peer has spent, as it is now. q.mu is held.
func (q *quotas) of(p peer.ID, now time.Time) *spending {
	s := q.spent[p]
	if s == nil {
		if len(q.spent) >= maxQuotas {
			q.dropLeast(now)
		}
		s = &spending{at: now}
		q.spent[p] = s
	}
	passed := max(now.Sub(s.at).Seconds(), 0)
	for e := range efforts {
		s.used[e] = max(s.used[e]-passed*quotaOf[e].rate, 0)
	}
	s.at = now
	return s
}

// dropLeast forgets whoever has most left. q.mu is held.
func (q *quotas) dropLeast(now time.Time) {
	least, share := peer.ID(""), 2.0
	for p, s := range q.spent {
		if used := s.share(now); used < share || used == share && p < least {
			least, share = p, used
		}
	}
	delete(q.spent, least)
}

// share returns how much of its quota is used up, of the effort of which it is most.
func (s *spending) share(now time.Time) float64 {
	passed, most := max(now.Sub(s.at).Seconds(), 0), 0.0
	for e := range efforts {
		most = max(most, (s.used[e]-passed*quotaOf[e].rate)/quotaOf[e].burst)
	}
	return most
}

// spend books what a peer made this node do.
func (q *quotas) spend(p peer.ID, e effort, amount int64, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.of(p, now).used[e] += float64(amount)
}

// wait returns how long a peer has to wait before it is served again, 0 if it has
// not: what it asks for may exceed what is left, since that is known only afterwards.
func (q *quotas) wait(p peer.ID, now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	s, longest := q.of(p, now), time.Duration(0)
	for e := range efforts {
		if over := s.used[e] - quotaOf[e].burst; over > 0 {
			longest = max(longest, time.Duration(over/quotaOf[e].rate*float64(time.Second)))
		}
	}
	if longest == 0 {
		s.refused = 0
		return 0
	}
	s.refused++
	return max(longest, busyFor)
}

// insists reports whether a peer was refused so often without a pause that it cannot
// have read the answers.
func (q *quotas) insists(p peer.ID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.spent[p]
	if s == nil || s.refused < insistent {
		return false
	}
	s.refused = 0
	return true
}

// sweep forgets peers that have all of their quota back.
func (q *quotas) sweep(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for p, s := range q.spent {
		if s.share(now) <= 0 {
			delete(q.spent, p)
		}
	}
}

// throttled answers a peer that is above its quota: by when to come again.
func (n *Node) throttled(p peer.ID) error {
	after := n.quotas.wait(p, time.Now())
	if after == 0 {
		return nil
	}
	n.count.Throttled.Add(1)
	if n.quotas.insists(p) {
		n.blame(p, blameInsistent, "it asks again and again while it is refused")
	}
	return &refuse{Code: refusedBusy, Text: "you ask for more than there is for one peer", After: min(after, retryMost)}
}

// charge books the lookups that a message makes necessary, and refuses it if the
// peer is above its quota.
func (n *Node) charge(p peer.ID, m message) error {
	if err := n.throttled(p); err != nil {
		return err
	}
	n.quotas.spend(p, lookups, costOf(m), time.Now())
	return nil
}

// costOf returns how many lookups a message leads to, about.
func costOf(m message) int64 {
	switch m := m.(type) {
	case *hello:
		return 1 + int64(len(m.Entries)+len(m.Offers))
	case *getNodes:
		if m.Levels == 2 {
			return 1 + 17*int64(len(m.Prefixes))
		}
		return 1 + int64(len(m.Prefixes))
	case *fetch:
		cost := int64(1)
		for _, it := range m.Items {
			if cost++; len(it.Doc) < len(dag.DocID{}) { // it may stand for many
				cost += leafDocuments/4 + leafDocuments*int64(len(it.Want))/namesPerLookup
			} else {
				cost += int64(len(it.Want)+len(it.Have)+len(it.Locator)) / namesPerLookup
			}
		}
		return cost
	case *watch:
		cost := 1 + int64(len(m.Have))
		if m.Scope.Filter != "" {
			cost += watchLookups
		}
		return cost
	case *show:
		return 1 + certificateLookups*int64(len(m.Certificates))
	case *getPart:
		return 1 + int64(len(m.Have)+len(m.Locator))/namesPerLookup
	}
	return 1
}

const (
	// namesPerLookup is how many commits that a peer names are looked up at the cost of one
	// lookup of a document, and looksPerLookup how many are read in passing; headsPerLook
	// how many heads cost as much as such a one.
	namesPerLookup = 4
	looksPerLookup = 8
	headsPerLook   = 16
)

// charge books what it cost to find what the peer asked for, which shows only then.
func (r *reader) charge(looked int) {
	r.n.quotas.spend(r.peer, lookups, int64(looked/looksPerLookup), time.Now())
}

func (s *sender) charge() { s.to.charge(s.looked) }

// chargeBytes books what was sent over a stream since it had sent so much.
func (n *Node) chargeBytes(p peer.ID, w *wire, before int64) {
	n.quotas.spend(p, reading, w.written.Load()-before, time.Now())
}

// chargeWaste books the part of a push that brought nothing.
func (n *Node) chargeWaste(p peer.ID, bytes int64, got intake) {
	useful := got.Applied + got.Deferred + got.Awaiting
	if all := useful + got.Known; all > 0 {
		n.quotas.spend(p, wasting, bytes*int64(got.Known)/int64(all), time.Now())
	}
}

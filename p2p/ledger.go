package p2p

import (
	"math"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
)

// ledger counts the bytes that went to and came from each peer, for each collection.
// What belongs to none, as greetings do, stands under the zero collection. The zero
// ledger is empty and ready.
type ledger struct {
	mu          sync.Mutex // guards what follows
	tallies     map[sharing]*tally
	collections map[dag.CollectionID]*tally // of all peers, also those that are gone
}

// tally is what one peer, or all, moved for one collection.
type tally struct {
	received, sent meter
	all            *tally // of the collection
}

// Moved is what went over the network, for a peer or a collection.
type Moved struct {
	Received, Sent        uint64  // bytes
	ReceiveRate, SendRate float64 // bytes a second, about the last ten seconds
}

// of returns the tally of a peer and a collection. When there are too many, the peer
// has one for all collections, and when even that is too much, its bytes count for
// the collection alone.
func (l *ledger) of(p peer.ID, id dag.CollectionID) *tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tallies == nil {
		l.tallies, l.collections = map[sharing]*tally{}, map[dag.CollectionID]*tally{}
	}
	all := l.collections[id]
	if all == nil {
		if len(l.collections) > maxCollections {
			id = dag.CollectionID{}
		}
		if all = l.collections[id]; all == nil {
			all = &tally{}
			l.collections[id] = all
		}
	}
	for _, key := range []sharing{{p, id}, {peer: p}} {
		t := l.tallies[key]
		if t == nil && len(l.tallies) < maxTallies {
			t = &tally{all: all}
			l.tallies[key] = t
		}
		if t != nil {
			return t
		}
	}
	return all
}

// peers returns what each peer moved, by collection.
func (l *ledger) peers(now time.Time) map[peer.ID]map[dag.CollectionID]Moved {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[peer.ID]map[dag.CollectionID]Moved{}
	for key, t := range l.tallies {
		if out[key.peer] == nil {
			out[key.peer] = map[dag.CollectionID]Moved{}
		}
		out[key.peer][key.collection] = t.moved(now)
	}
	return out
}

// byCollection returns what was moved for each collection since the start.
func (l *ledger) byCollection(now time.Time) map[dag.CollectionID]Moved {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[dag.CollectionID]Moved{}
	for id, t := range l.collections {
		out[id] = t.moved(now)
	}
	return out
}

// keepOnly drops the tallies of other peers.
func (l *ledger) keepOnly(known map[peer.ID]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.tallies {
		if !known[key.peer] {
			delete(l.tallies, key)
		}
	}
}

func (t *tally) moved(now time.Time) Moved {
	var m Moved
	m.Received, m.ReceiveRate = t.received.read(now)
	m.Sent, m.SendRate = t.sent.read(now)
	return m
}

// got counts received bytes, gave those sent. A nil tally counts nothing.
func (t *tally) got(bytes int) {
	now := time.Now()
	for ; t != nil; t = t.all {
		t.received.add(bytes, now)
	}
}

func (t *tally) gave(bytes int) {
	now := time.Now()
	for ; t != nil; t = t.all {
		t.sent.add(bytes, now)
	}
}

func (m Moved) plus(o Moved) Moved {
	return Moved{m.Received + o.Received, m.Sent + o.Sent, m.ReceiveRate + o.ReceiveRate, m.SendRate + o.SendRate}
}

// meter counts, and knows how fast it counted lately: what was counted weighs less
// the longer ago it was.
type meter struct {
	mu    sync.Mutex // guards what follows
	total uint64
	rate  float64 // a second, at the time of last
	last  time.Time
}

// rateSpan is the span that rates are about.
const rateSpan = 10 * time.Second

func (m *meter) add(n int, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total += uint64(n)
	m.rate = m.faded(now) + float64(n)/rateSpan.Seconds()
	m.last = now
}

func (m *meter) read(now time.Time) (total uint64, rate float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total, m.faded(now)
}

// faded is the rate as it has become since the last time.
func (m *meter) faded(now time.Time) float64 {
	since := now.Sub(m.last)
	if m.rate == 0 || since <= 0 {
		return m.rate
	}
	return m.rate * math.Exp(-since.Seconds()/rateSpan.Seconds())
}

package p2p

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
)

func TestAMeterKnowsHowFastItCountedLately(t *testing.T) {
	var m meter
	now := time.Unix(1000, 0)
	for range 600 { // a minute at 10,000 a second
		now = now.Add(100 * time.Millisecond)
		m.add(1000, now)
	}
	if total, rate := m.read(now); total != 600_000 || math.Abs(rate-10_000) > 500 {
		t.Errorf("after a minute: %d at %.0f a second, want 600000 at 10000", total, rate)
	}
	if total, rate := m.read(now.Add(time.Minute)); total != 600_000 || rate > 100 {
		t.Errorf("a minute later: %d at %.0f a second, want the same total and hardly a rate", total, rate)
	}
	if _, rate := m.read(now.Add(-time.Hour)); math.IsInf(rate, 0) || rate > 11_000 {
		t.Errorf("a clock that was set back gives %.0f a second", rate)
	}
}

// However many peers come and go, the books stay small and nothing is left out.
func TestTheLedgerIsBoundedAndCountsAll(t *testing.T) {
	var l ledger
	now := time.Now()
	for i := range 2 * maxTallies {
		p := peer.ID(fmt.Sprint("peer", i))
		id := dag.CollectionID{1, byte(i)}
		l.of(p, id).got(1)
		l.of(p, dag.CollectionID{}).gave(2)
	}
	if len(l.tallies) > maxTallies {
		t.Errorf("%d tallies, allowed are %d", len(l.tallies), maxTallies)
	}
	var sum Moved
	for _, m := range l.byCollection(now) {
		sum = sum.plus(m)
	}
	if sum.Received != 2*maxTallies || sum.Sent != 4*maxTallies {
		t.Errorf("received %d and sent %d, want %d and %d", sum.Received, sum.Sent, 2*maxTallies, 4*maxTallies)
	}
	l.keepOnly(map[peer.ID]bool{"peer7": true})
	if len(l.tallies) > 2 {
		t.Errorf("%d tallies of one peer that is known", len(l.tallies))
	}
	if again := l.byCollection(now)[dag.CollectionID{1, 7}]; again.Received == 0 {
		t.Error("what peers moved for a collection went with them")
	}
}

// What a join moves is in the books of both sides, under the peer and the collection,
// and adds up to what the node counted.
func TestBytesAreBookedByPeerAndCollection(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		id := addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "u", 500)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		time.Sleep(5 * time.Second)
		createUsers(t, a.db, "live", 5)
		converge(t, 5*time.Second, a, b)
		synctest.Wait() // for what is being counted
		for _, m := range []*member{a, b} {
			books, count := m.node.traffic.ledger.peers(time.Now()), m.node.Counters()
			other := a.id()
			if m == a {
				other = b.id()
			}
			var sum Moved
			for _, moved := range books[other] {
				sum = sum.plus(moved)
			}
			if sum.Received != count.Received+count.GossipReceived || sum.Sent != count.Sent+count.GossipSent {
				t.Errorf("node %d: booked %+v, counted %+v", m.i, sum, count)
			}
			users := books[other][id]
			if users.Received+users.Sent < 500*100 {
				t.Errorf("node %d: %+v for 500 documents", m.i, users)
			}
			if m == b && (users.Received < users.Sent || users.ReceiveRate == 0) {
				t.Errorf("the node that got the documents has %+v", users)
			}
		}
	})
}

func BenchmarkBooking(b *testing.B) {
	var l ledger
	t := l.of("peer", dag.CollectionID{1})
	for b.Loop() {
		t.got(300)
	}
}

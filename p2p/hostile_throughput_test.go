package p2p

import (
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func (w *world) idOf(i int) peer.ID { return (&member{w: w, key: keyOf(w.t, i)}).id() }

// withLiars returns how long a copy of documents takes that an honest peer has and
// this node lacks, with as many liars around, and how many of 50 changes of the peer,
// one every 100 ms, are here within 100 ms.
func withLiars(t *testing.T, liars int) (whole time.Duration, soon int) {
	const documents = 4_000
	simulateInTurn(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		id := addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "a", 200)
		w.bits = mbit // so that whatever liars move is at the cost of the honest
		a.start(b)
		w.bits = 0
		b.start(a)
		converge(t, 5*time.Second, a, b)
		kinds := []int{0, 3, 5, 6} // those that keep others busy
		for i := 2; liars > 0; i++ {
			if w.idOf(i) < a.id() {
				continue // a would wait for it to ask first
			}
			w.liar(t, i, a, id, wholesale[kinds[i%len(kinds)]].lies)
			liars--
		}
		time.Sleep(3 * time.Minute)
		b.stop()
		createUsers(t, b.db, "news", documents)
		start := time.Now()
		b.start(a)
		converge(t, time.Minute, a, b)
		whole = time.Since(start)
		for i := range 50 {
			at := time.Now()
			createUsers(t, b.db, fmt.Sprint("live", i, "."), 1)
			time.Sleep(100 * time.Millisecond)
			if same(roots([]*member{a, b})) {
				soon++
			}
			time.Sleep(time.Until(at.Add(100 * time.Millisecond)))
		}
		converge(t, 5*time.Second, a, b)
	})
	return whole, soon
}

// Four of five members lie, and the fifth is served nearly as if they were not there:
// when each has lied once. What that once costs TestWhatLiarsDo bounds.
func TestLiarsLeaveFourFifthsToTheHonest(t *testing.T) {
	t.Parallel()
	whole, soon := withLiars(t, 0)
	with, still := withLiars(t, 4)
	t.Logf("alone: a copy in %v, %d of 50 changes at once; beside four liars: %v, %d", whole, soon, with, still)
	// Whether a liar has its minute in these seconds is chance, thrice it is none.
	for range 2 {
		if with > whole*5/4 {
			with, still = withLiars(t, 4)
		}
	}
	if with > whole*5/4 {
		t.Errorf("a copy takes %v beside four liars, %v without: want at most a fourth more", with, whole)
	}
	if still < soon*8/10 {
		t.Errorf("%d of 50 changes are there at once, %d without liars", still, soon)
	}
}

package p2p

import (
	"os"
	"testing"
	"time"
)

// What synchronisation may cost, as counts and virtual time: see docs/testing.md for
// where the other figures are asserted.

// A peer that was away for a hundred commits gets these and little more: with the
// answer to its greeting if it is the one to greet, else pushed after it.
func TestAKnownPeerReturnsForTheDifference(t *testing.T) {
	for name, greets := range map[string]bool{"it greets": true, "the other greets": false} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 50*time.Millisecond, func(t *testing.T, w *world) { returns(t, w, greets) })
		})
	}
}

func returns(t *testing.T, w *world, greets bool) {
	a, b := w.memberAt(0, t.TempDir()), w.memberAt(1, t.TempDir())
	if greets != (b.id() < a.id()) { // who opens the session
		a, b = b, a
	}
	addSchema(t, a.db, schemaText)
	createUsers(t, a.db, "a", 2000)
	startAll([]*member{a, b})
	converge(t, 10*time.Second, a, b)
	time.Sleep(5 * time.Minute) // cursors are written, all is compared
	b.stop()
	for range 100 {
		createUsers(t, a.db, "missed"+time.Now().String(), 1)
		time.Sleep(time.Millisecond)
	}
	before := a.node.Counters().RoundTrips
	b.reopen()
	b.start()
	converge(t, 10*time.Second, a, b)
	c := b.node.Counters()
	trips, most := c.RoundTrips+a.node.Counters().RoundTrips-before, uint64(3)
	if greets {
		most = 2 // the greeting, which brings all, and the one that finds the copies equal
	}
	t.Logf("100 missed commits: %d bytes in, %d out, %d round trips of both", c.Received, c.Sent, trips)
	if trips > most {
		t.Errorf("%d round trips, want at most %d", trips, most)
	}
	if c.Received > 30_000 || c.Sent > 2_000 {
		t.Errorf("%d bytes in and %d out, want at most 30,000 and 2,000", c.Received, c.Sent)
	}
	time.Sleep(time.Second)
	if after := b.node.Counters(); after.Received-c.Received > 1000 {
		t.Errorf("%d bytes more after all was there", after.Received-c.Received)
	}
}

// An empty node that joins gets a large collection at the speed of the line. With
// PANDO_LONG=1 it has 100,000 documents.
func TestAColdCopyFillsTheLine(t *testing.T) {
	documents, within := 10_000, 2*time.Second // most of it is QUIC that finds out how fast the line is
	if os.Getenv("PANDO_LONG") != "" {
		documents, within = 100_000, 10*time.Second
	}
	simulate(t, 50*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		for range documents / 10_000 {
			createUsers(t, a.db, time.Now().String(), 10_000)
			time.Sleep(time.Millisecond)
		}
		a.start()
		b.start()
		ticket, err := a.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		res, err := b.node.Join(t.Context(), ticket, nil)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		t.Logf("%d documents in %v at 100 Mbit/s, %d bytes each", res.Documents, took, b.node.Counters().Received/res.Documents)
		if took > within || res.Documents != uint64(documents) {
			t.Errorf("%d documents in %v, want %d in %v", res.Documents, took, documents, within)
		}
	})
}

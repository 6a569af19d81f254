package p2p

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/radix"
)

// Whoever asks for a copy of a million documents, by whatever way, is never told to
// wait.
func TestHonestPeersStayBelowTheirQuota(t *testing.T) {
	const million = 1_000_000
	synctest.Test(t, func(t *testing.T) {
		q := newQuotas()
		ask := func(m message) {
			q.spend("p", lookups, streamLookups+costOf(m), time.Now())
			if w := q.wait("p", time.Now()); w > 0 {
				t.Fatalf("%T: told to wait for %v", m, w)
			}
		}
		q.spend("p", reading, million*1000, time.Now())
		for range million / 16 / nodesPerFrame {
			ask(&getNodes{Levels: 1, Prefixes: make([]radix.Prefix, nodesPerFrame)})
		}
		items := make([]item, maxItems)
		for i := range items {
			items[i].Doc = make([]byte, 8)
		}
		for range million / maxItems / 10 { // of prefixes, while walks are cut
			ask(&fetch{Items: items})
		}
		for i := range items {
			items[i].Doc = make([]byte, 32)
		}
		for range million / maxItems {
			ask(&fetch{Items: items})
		}
	})
}

func TestQuotasAreGivenBackWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuotas()
		of := quotaOf[lookups]
		q.spend("p", lookups, int64(of.burst+10*of.rate), time.Now())
		if w := q.wait("p", time.Now()); w != 10*time.Second {
			t.Errorf("ten seconds too much: told to wait for %v", w)
		}
		if w := q.wait("other", time.Now()); w != 0 {
			t.Errorf("another peer was told to wait for %v", w)
		}
		time.Sleep(10 * time.Second)
		if w := q.wait("p", time.Now()); w != 0 {
			t.Errorf("after ten seconds: told to wait for %v still", w)
		}
		for range insistent {
			if q.insists("p") {
				t.Fatal("a peer that is served was taken for one that does not read answers")
			}
		}
		q.spend("p", lookups, int64(of.burst), time.Now())
		for range insistent {
			q.wait("p", time.Now())
		}
		if !q.insists("p") {
			t.Errorf("%d refusals in a row went unnoticed", insistent)
		}
		time.Sleep(24 * time.Hour)
		q.sweep(time.Now())
		if len(q.spent) != 0 {
			t.Errorf("%d peers are remembered a day later", len(q.spent))
		}
	})
}

// Whoever comes under many names washes off nothing of what one of them spent.
func TestQuotasOfManyPeersAreBounded(t *testing.T) {
	q := newQuotas()
	now := time.Now()
	q.spend("greedy", lookups, int64(quotaOf[lookups].burst*2), now)
	for i := range 2 * maxQuotas {
		q.spend(peer.ID(fmt.Sprint(i)), lookups, 1, now)
	}
	if len(q.spent) > maxQuotas {
		t.Errorf("%d peers are remembered, want at most %d", len(q.spent), maxQuotas)
	}
	if q.wait("greedy", now) == 0 {
		t.Error("what a peer spent was forgotten for those that spent nothing")
	}
}

// A member that asks without end is told when to come again, and one that does not
// read that loses its good name. Others do not notice.
func TestWhoAsksWithoutEndIsToldToWait(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, b, id := attack(t, w, true)
		wire := x.stream(t, a, &id)
		// It has asked for most of its quota already.
		a.node.quotas.spend(x.id(), lookups, int64(quotaOf[lookups].burst), time.Now())
		all := make([]radix.Prefix, maxPrefixes)
		asked, refused := 0, new(refuse)
		for ; asked < 10; asked++ {
			wire.send(&getNodes{Levels: 1, Prefixes: all})
			for range maxPrefixes / nodesPerFrame {
				if _, err := wire.receive(); errors.As(err, &refused) {
					break
				}
			}
			if refused.Code != 0 {
				break
			}
		}
		if refused.Code != refusedBusy || refused.After < time.Second {
			t.Errorf("after %d questions: %+v, want busy for some seconds", asked, refused)
		}
		for range 2 * insistent {
			wire := x.stream(t, a, nil)
			wire.send(&hello{})
			wire.receive()
		}
		if a.node.scores.blame(x.id(), time.Now()) == 0 {
			t.Error("a peer that goes on asking has a good name still")
		}
		if a.node.Counters().Throttled < insistent {
			t.Error("the refusals were not counted")
		}
		createUsers(t, b.db, "meanwhile", 3)
		converge(t, time.Second, a, b)
		time.Sleep(2 * time.Minute)
		x.stream(t, a, &id) // it is served again
	})
}

// Each part that a peer asks about is found by a query, if nobody has asked about it
// before: who names others without end is told to wait.
func TestWhoNamesPartsWithoutEndIsToldToWait(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, _, id := attack(t, w, true)
		wire := x.stream(t, a, &id)
		a.node.quotas.spend(x.id(), lookups, int64(quotaOf[lookups].burst)-100*watchLookups, time.Now())
		ask := func(points int) error {
			if err := wire.send(&scopeSays{0, Scope{Filter: fmt.Sprintf(`{points: {_gt: %d}}`, points)}}); err != nil {
				return err
			}
			_, err := wire.receive()
			return err
		}
		for range 500 {
			if err := ask(1); err != nil {
				t.Fatalf("one part that is known: %v", err)
			}
		}
		asked, err := 0, error(nil)
		for ; asked < 1000 && err == nil; asked++ {
			err = ask(100 + asked)
		}
		if refused := new(refuse); !errors.As(err, &refused) || refused.Code != refusedBusy {
			t.Errorf("after %d parts: %v, want busy", asked, err)
		}
	})
}

// What the answer costs that is sent, a peer pays by its bytes. What it costs to find that
// next to nothing is to be sent, it pays too.
func TestLookingInVainIsPaidFor(t *testing.T) {
	const wrote = 2000
	db := openDB(t, "")
	id := addSchema(t, db, schemaText)
	createUsers(t, db, "a", 1)
	all, docs := plainCopy(t, db, id)
	some := beside(t, db, id, wrote)
	if got, err := db.Replica().Merge(t.Context(), id, some, ""); err != nil || got.Applied != wrote {
		t.Fatalf("%d applied, %v", got.Applied, err)
	}
	doc, root := docs[0], dag.CID(cidOf(t, all[0]))
	n := &Node{replica: db.Replica(), quotas: newQuotas(), coming: &coming{of: map[dag.CID]chan struct{}{}}}
	items := slices.Repeat([]item{{Doc: doc[:], Want: nothing}}, 100)
	for name, ask := range map[string]func(r *reader, w *wire) error{
		"a commit that does not exist": func(r *reader, w *wire) error { return r.answerFetch(t.Context(), w, &fetch{Items: items}) },
		"heads":                        func(r *reader, w *wire) error { return r.sendHeads(t.Context(), w, items[:10]) },
		"what is below the first commit": func(r *reader, w *wire) error {
			return r.answerPart(t.Context(), w, &getPart{Doc: doc, Have: []dag.CID{root}, Below: 1})
		},
	} {
		p := peer.ID(name)
		if err := ask(n.reader(p, id), newWire(sink{}, new(traffic))); err != nil {
			t.Fatal(err)
		}
		if paid := n.quotas.of(p, time.Now()).used[lookups]; paid < wrote/looksPerLookup/2 {
			t.Errorf("%s was paid by %.0f lookups, of a document with %d heads", name, paid, wrote)
		}
	}
	w := newWire(sink{}, new(traffic))
	out := n.reader("peer", id).sender(t.Context(), w)
	locator := make([]uint64, 0, wrote)
	for _, e := range some {
		locator = append(locator, binary.BigEndian.Uint64(cidOf(t, e)))
	}
	if _, err := out.sendItems(t.Context(), []item{{Doc: doc[:2], Have: []dag.CID{root}, Locator: locator}}, tallBytes); err != nil {
		t.Fatal(err)
	}
	if out.flush(); out.commits != wrote+1 {
		t.Errorf("%d commits were sent, want %d: what is here was looked for in all documents that begin alike", out.commits, wrote+1)
	}
	if many := costOf(&fetch{Items: []item{{Doc: doc[:2], Want: make([]dag.CID, maxHeads)}}}); many < maxHeads*leafDocuments/namesPerLookup {
		t.Errorf("commits that are looked for in all documents that begin alike cost %d", many)
	}
}

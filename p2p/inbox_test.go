package p2p

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pandodb/pando/internal/dag"
)

// What is announced fills the inbox up to its bounds and not beyond, with payloads
// or without, and what finds no place is counted.
func TestTheInboxHoldsNoMoreThanItShould(t *testing.T) {
	id := dag.CollectionID{1}
	commit := func(doc, n int, parents ...dag.CID) *dag.Commit {
		return &dag.Commit{Doc: dag.DocID{byte(doc), byte(doc >> 8)}, CID: dag.CID{byte(n), byte(n >> 8), byte(doc), byte(doc >> 8)},
			Height: uint64(n + 1), Parents: parents}
	}
	held := func(b *inbox) (all int) {
		for _, l := range b.docs {
			all += letterBytes + headBytes*len(l.heads)
			for _, c := range l.commits {
				all += len(c.envelope)
			}
		}
		return all
	}
	check := func(b *inbox, lost int) {
		t.Helper()
		if got := held(b); got != b.bytes || got > inboxBytes || lost == 0 {
			t.Errorf("%d bytes are held and %d counted of %d allowed, %d lost", got, b.bytes, inboxBytes, lost)
		}
		if b.take(); b.bytes != 0 {
			t.Errorf("%d bytes in an empty inbox", b.bytes)
		}
	}

	b, lost := newInbox(), 0
	for doc := range inboxDocuments + 10 { // headers only
		for n := range maxHeads {
			lost += b.put(id, "p", []told{{commit: commit(doc, n)}})
		}
	}
	check(b, lost)

	lost = 0
	for n := range 40 { // documents that are refilled again and again
		for doc := range 200 {
			lost += b.put(id, "p", []told{{commit: commit(doc, n), envelope: make([]byte, 30<<10)}})
		}
	}
	check(b, lost)
}

func TestTheHighestHeadsStay(t *testing.T) {
	b, l := newInbox(), &letter{}
	for n := range 2 * maxHeads {
		b.keepHead(l, &dag.Commit{CID: dag.CID{byte(n), byte(n >> 8)}, Height: uint64(n + 1)})
	}
	if len(l.heads) != maxHeads || slices.ContainsFunc(l.heads, func(h head) bool { return h.height <= maxHeads }) {
		t.Errorf("%d heads stay, %+v among them, want the %d highest", len(l.heads), l.heads[0], maxHeads)
	}
	last := l.heads[len(l.heads)-1]
	b.keepHead(l, &dag.Commit{CID: dag.CID{0, 0, 1}, Height: 9999, Parents: []dag.CID{last.commit}})
	if slices.Contains(l.heads, last) {
		t.Error("a parent stays beside its child")
	}
}

// Who asks for a commit that is on its way gets the answer when it is there or, if it
// does not come, after a while; who asks for others waits for nothing.
func TestWhoAsksForWhatIsComingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &coming{of: map[dag.CID]chan struct{}{}}
		there, other := dag.CID{1}, dag.CID{2}
		asks := func(cid dag.CID) time.Duration {
			start := time.Now()
			c.wait(t.Context(), []item{{}, {Want: []dag.CID{cid, cid}}})
			return time.Since(start)
		}
		done := c.expect(map[dag.DocID][]dag.CID{{}: {there}})
		again := c.expect(map[dag.DocID][]dag.CID{{}: {there}}) // by another announcement
		again()
		if took := asks(other); took != 0 {
			t.Errorf("for a commit that nobody fetches: %v", took)
		}
		if took := asks(there); took != comingFor {
			t.Errorf("for a commit that does not come: %v, want %v", took, comingFor)
		}
		time.AfterFunc(comingFor/2, done)
		if took := asks(there); took != comingFor/2 {
			t.Errorf("for a commit that comes: %v, want %v", took, comingFor/2)
		}
		if took := asks(there); took != 0 || len(c.of) != 0 {
			t.Errorf("for a commit that came: %v", took)
		}
		all := map[dag.DocID][]dag.CID{}
		for i := range maxComing + 5 {
			all[dag.DocID{1}] = append(all[dag.DocID{1}], dag.CID{3, byte(i >> 16), byte(i >> 8), byte(i)})
		}
		if c.expect(all); len(c.of) != maxComing {
			t.Errorf("%d commits are waited for, want %d", len(c.of), maxComing)
		}
	})
}

package p2p

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
)

// peerOf returns what a status says of a member and its copy of the only collection.
func peerOf(t *testing.T, s Status, m *member) (PeerStatus, PeerCollection) {
	t.Helper()
	for _, p := range s.Peers {
		if p.ID == m.id().String() && len(p.Collections) == 1 {
			return p, p.Collections[0]
		}
	}
	t.Fatalf("the status does not know node %d with one collection: %+v", m.i, s.Peers)
	return PeerStatus{}, PeerCollection{}
}

func statusOf(t *testing.T, m *member) Status {
	t.Helper()
	s, err := m.node.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStatusTellsOfLastSessionsAndLag(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "u", 300)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		time.Sleep(5 * time.Second)

		p, c := peerOf(t, statusOf(t, b), a)
		if lag, ok := c.Lag(time.Now()); c.State != Identical || lag != 0 || !ok {
			t.Errorf("%s, lag %v, want identical and none", c.State, lag)
		}
		if p.Received < 300*100 || c.Received < 300*100 || p.Received < c.Received || p.Since.IsZero() || p.Session.At.IsZero() || p.Session.Problem != "" {
			t.Errorf("%+v, want the bytes of 300 documents, and when the last session was", p)
		}

		// Without asking it claims nothing.
		local, err := b.node.LocalStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, c := peerOf(t, local, a); c.State != NotAsked || c.Same.IsZero() || c.Compared.IsZero() {
			t.Errorf("%+v, want it not asked, and when it was seen to be the same", c)
		}

		w.cut([]*member{a}, []*member{b})
		createUsers(t, a.db, "missed", 1)
		time.Sleep(3 * time.Minute)
		_, c = peerOf(t, statusOf(t, b), a)
		if lag, ok := c.Lag(time.Now()); c.State != Unreachable || !ok || lag < 3*time.Minute || lag > 4*time.Minute {
			t.Errorf("%s, lag %v, want unreachable for three minutes", c.State, lag)
		}
		w.heal([]*member{a}, []*member{b})
		converge(t, 10*time.Minute, a, b)
		if _, c = peerOf(t, statusOf(t, b), a); c.State != Identical {
			t.Errorf("%s after the line healed", c.State)
		}
	})
}

// What nobody has delivered yet is listed, the oldest first, with who was asked.
func TestStatusListsWhatIsWanted(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		id := addSchema(t, a.db, schemaText)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		createUsers(t, a.db, "u", 1) // so that the copies are not both empty
		b.node.wantMissing(a.id(), id, map[dag.DocID][]dag.CID{{1}: {{2}, {3}}})
		time.Sleep(time.Second)
		b.node.wantMissing("nobody", id, map[dag.DocID][]dag.CID{{4}: {{5}}})
		time.Sleep(2 * time.Second)

		s := statusOf(t, b)
		if len(s.Wants) != 2 || s.Wants[0].Doc != (dag.DocID{1}).String() || s.Wants[0].Commits != 2 || s.Wants[0].Collection != "User" {
			t.Fatalf("wants %+v, want two documents, the oldest first", s.Wants)
		}
		if first := s.Wants[0]; first.Tries == 0 || first.Asked != a.id().String() || first.Told != a.id().String() || first.Stuck {
			t.Errorf("%+v, want that the only peer was asked in vain, and not stuck", first)
		}
		if _, c := peerOf(t, s, a); c.Wants != 1 {
			t.Errorf("%d wants that the peer told of, want 1", c.Wants)
		}
		if queue(t, s, "wants").Items != 2 {
			t.Errorf("queues %+v, want two wants", s.Queues)
		}
		if got := b.node.Wants(1); len(got) != 1 {
			t.Errorf("%d wants where one was asked for", len(got))
		}
		b.node.wants.mu.Lock()
		b.node.wants.open[wantKey{id, dag.DocID{1}}].first = time.Now().Add(-25 * time.Hour)
		b.node.wants.mu.Unlock()
		if s = statusOf(t, b); !s.Wants[0].Stuck || s.Counters.StuckWants != 1 {
			t.Errorf("%+v after a day, want it stuck", s.Wants[0])
		}
	})
}

func queue(t *testing.T, s Status, name string) Queue {
	t.Helper()
	for _, q := range s.Queues {
		if q.Name == name {
			return q
		}
	}
	t.Fatalf("no queue %q in %+v", name, s.Queues)
	return Queue{}
}

func TestDelaysAreMeasured(t *testing.T) {
	simulate(t, 100*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		time.Sleep(5 * time.Second)
		for i := range 20 {
			createUsers(t, a.db, fmt.Sprint("live", i, "-"), 1)
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		d := statusOf(t, b).Delays
		if d.Count != 20 || d.P50 < 50*time.Millisecond || d.P99 > 100*time.Millisecond || d.P99 < d.P50 {
			t.Errorf("%+v over a line of 50 ms each way, want 20 changes of 50 to 100 ms", d)
		}
		sum := uint64(0)
		for _, n := range d.Buckets {
			sum += n
		}
		if len(d.Buckets) != len(DelayBounds) || sum != d.Count {
			t.Errorf("buckets %v hold %d of %d changes", d.Buckets, sum, d.Count)
		}
		if own := statusOf(t, a).Delays; own.Count != 0 {
			t.Errorf("the author counts its own changes: %+v", own)
		}
	})
}

// Whoever comes and goes, what is remembered of meetings stays small.
func TestContactsAreBounded(t *testing.T) {
	c := newContacts()
	for i := range 2 * maxTallies {
		p := peer.ID([]byte{byte(i), byte(i >> 8)})
		c.session(p, SessionStatus{Applied: i})
		c.compared(sharing{p, dag.CollectionID{1}}, true)
		c.mismatch(sharing{p, dag.CollectionID{1}})
	}
	if len(c.sessions) > maxContacts || len(c.copies) > maxTallies {
		t.Errorf("%d sessions and %d copies are remembered", len(c.sessions), len(c.copies))
	}
	one := peer.ID([]byte{0, 0})
	c.keepOnly(map[peer.ID]bool{one: true})
	if len(c.sessions) != 1 || c.mismatches()[dag.CollectionID{1}] != 1 {
		t.Errorf("%d sessions and mismatches %v of one peer that is known", len(c.sessions), c.mismatches())
	}
	c.compared(sharing{one, dag.CollectionID{1}}, false)
	if len(c.mismatches()) != 1 {
		t.Error("a mismatch ended although the copies still differ")
	}
	c.compared(sharing{one, dag.CollectionID{1}}, true)
	if len(c.mismatches()) != 0 {
		t.Error("a mismatch lasts although the copies are the same")
	}
}

// Whoever looks on while documents come by gossip and sessions disturbs nothing, and is
// told of nothing that is not.
func TestStatusWhileEverythingMoves(t *testing.T) {
	a, b := openDB(t, ""), openDB(t, "")
	addSchema(t, a, schemaText)
	createUsers(t, a, "first", 200)
	na, nb := startNode(t, a, Config{}), startNode(t, b, Config{})
	ticket, err := na.Share(nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var looking sync.WaitGroup
	for _, n := range []*Node{na, nb} {
		looking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := n.LocalStatus(t.Context()); err != nil {
					t.Error(err)
				}
				if _, err := n.Recent(t.Context(), 10); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if _, err := nb.Join(t.Context(), ticket, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		createUsers(t, a, fmt.Sprint("live", i, "-"), 2)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	came := 0
	for _, err := range b.Changes(ctx, 0) {
		if err != nil {
			t.Fatalf("%d of 300 documents came: %v", came, err)
		}
		if came++; came == 300 {
			break
		}
	}
	close(done)
	looking.Wait()
	if s, err := nb.Status(ctx); err != nil || len(s.Peers) != 1 || s.Peers[0].Received == 0 || s.Collections[0].Documents != 300 {
		t.Errorf("at last the status is %+v, %v", s, err)
	}
}

// What monitoring reads every few seconds: a hundred peers with fifty collections each.
func BenchmarkLocalStatus(b *testing.B) {
	db := openDB(b, "")
	var text strings.Builder
	for i := range 50 {
		fmt.Fprintf(&text, "type T%d { name: String }\n", i)
	}
	addSchema(b, db, text.String())
	n := startNode(b, db, Config{})
	for i := range 100 {
		private, _, err := crypto.GenerateEd25519Key(rand.NewChaCha8([32]byte{byte(i), 7}))
		if err != nil {
			b.Fatal(err)
		}
		p, err := peer.IDFromPrivateKey(private)
		if err != nil {
			b.Fatal(err)
		}
		n.known[p] = acquaintance{}
		for _, c := range db.Collections() {
			n.contacts.compared(sharing{p, c.ID}, true)
			n.traffic.ledger.of(p, c.ID).got(1)
		}
	}
	for b.Loop() {
		s, err := n.LocalStatus(b.Context())
		if err != nil || len(s.Peers) != 100 || len(s.Peers[99].Collections) != 50 {
			b.Fatal(len(s.Peers), err)
		}
	}
}

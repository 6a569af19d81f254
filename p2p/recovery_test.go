package p2p

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
)

// A commit that becomes known to be missing while the ones before it are asked for
// is not forgotten with them.
func TestWantsAddedDuringATryStay(t *testing.T) {
	w, err := newWants(notes{openDB(t, "").Replica()})
	if err != nil {
		t.Fatal(err)
	}
	id, doc := dag.CollectionID{1}, dag.DocID{2}
	missing := func(b byte) map[dag.DocID][]dag.CID { return map[dag.DocID][]dag.CID{doc: {{b}}} }
	w.add(id, missing(1), "p")
	w.add(id, missing(2), "p") // while the first is asked for
	w.tried(sharing{"p", id}, missing(1), nil)
	if open, _ := w.size(); open != 1 {
		t.Errorf("%d documents are wanted, want 1", open)
	}
	again, err := newWants(w.notes)
	if err != nil {
		t.Fatal(err)
	}
	if v := again.open[wantKey{id, doc}]; v == nil || len(v.commits) != 1 || v.commits[0] != (dag.CID{2}) {
		t.Errorf("after a restart %+v is wanted, want the second commit", v)
	}
	w.tried(sharing{"p", id}, missing(2), nil)
	if again, err = newWants(w.notes); err != nil || len(again.open) != 0 {
		t.Errorf("%d documents are wanted after all came, %v", len(again.open), err)
	}
}

// What an announcement refers to and nobody has is asked for some times, not for ever.
func TestWantsForNothingEnd(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(2)
		id := addSchema(t, ms[0].db, schemaText)
		createUsers(t, ms[0].db, "a", 2)
		startAll(ms)
		converge(t, 5*time.Second, ms...)
		missing := map[dag.DocID][]dag.CID{}
		for i := range 200 {
			var c dag.CID
			rand.Read(c[:])
			missing[dag.DocID{9, byte(i)}] = []dag.CID{c}
		}
		before := ms[1].node.Counters().Fetches
		ms[1].node.wantMissing(ms[0].id(), id, missing)
		eventually(t, 10*time.Minute, func() (bool, string) {
			return ms[1].node.Counters().Wants == 0, "the wants stay"
		})
		if n := ms[1].node.Counters().Fetches - before; n > 40 {
			t.Errorf("%d fetches for what does not exist, want at most a few rounds of few", n)
		}
		again, err := newWants(ms[1].node.notes)
		if err != nil || len(again.open) != 0 {
			t.Errorf("%d wants would come back with a restart, %v", len(again.open), err)
		}
	})
}

// Of wants that nobody can be found to fulfil there is an end too, and it shows.
func TestOldWantsExpire(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a := w.member(0)
		id := addSchema(t, a.db, schemaText)
		a.start()
		a.node.wantMissing("somebody", id, map[dag.DocID][]dag.CID{{1}: {{2}}})
		a.node.wants.mu.Lock()
		a.node.wants.open[wantKey{id, dag.DocID{1}}].first = time.Now().Add(time.Minute - wantsExpire)
		a.node.wants.mu.Unlock()
		time.Sleep(time.Hour)
		if c := a.node.Counters(); c.Wants != 0 || c.ExpiredWants != 1 {
			t.Errorf("%d wants, %d expired, want 0 and 1", c.Wants, c.ExpiredWants)
		}
	})
}

// A join that was cut off goes on by itself, and its changes are live from then on.
func TestInterruptedJoinBecomesLive(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "a", 10_000)
		a.start()
		b.start()
		ticket, err := a.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var join sync.WaitGroup
		join.Go(func() {
			if _, err := b.node.Join(ctx, ticket, nil); err == nil {
				t.Error("the join was not interrupted: make it longer")
			}
		})
		eventually(t, 10*time.Second, func() (bool, string) { return documents(t, b) > 0, "nothing arrives" })
		if known, err := b.node.notes.peers(); err != nil || len(known[a.id()].addrs) == 0 {
			t.Errorf("if it died now, it would not know where to go on: %v, %v", known, err)
		}
		w.cut([]*member{a}, []*member{b})
		time.Sleep(100 * time.Millisecond)
		cancel()
		join.Wait()
		if got := coverage(t, b); len(got) != 1 || !got[0].Scope.Whole || !got[0].Incomplete() || got[0].From != a.id().String() || got[0].Since.IsZero() {
			t.Errorf("an answer of half a copy says %+v", got)
		}
		if got := coverage(t, a); len(got) > 0 {
			t.Errorf("an answer of the node that made the collection says %+v", got)
		}
		w.heal([]*member{a}, []*member{b})
		t.Logf("the rest came within %v", converge(t, 10*time.Second, a, b))
		eventually(t, 2*time.Second, func() (bool, string) {
			got := coverage(t, b)
			return len(got) == 0, fmt.Sprintf("an answer of the whole copy says %+v", got)
		})
		time.Sleep(5 * time.Second)
		for _, m := range []*member{b, a} {
			createUsers(t, m.db, "live"+m.ip(), 1)
			took := converge(t, 5*time.Minute, a, b)
			if took > 200*time.Millisecond {
				t.Errorf("a change of %s took %v", m.ip(), took)
			}
		}
	})
}

// coverage returns what an answer of a node says of what is kept there.
func coverage(t *testing.T, m *member) []pando.Coverage {
	t.Helper()
	res := m.db.Exec(t.Context(), pando.Request{Query: `{ _count(User: {}) }`})
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	return res.Coverage
}

// A peer that ends every connection at once is dialed ever more rarely.
func TestWhoIsCutOffDoesNotStorm(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		var conns atomic.Int64
		b.host.Network().Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { conns.Add(1) }})
		a.node.punish(b.id(), errors.New("a test"))
		time.Sleep(quarantine - 10*time.Second)
		t.Logf("%d connections in ten minutes", conns.Load())
		if n := conns.Load(); n < 1 || n > 60 {
			t.Errorf("%d connections in ten minutes to a node that accepts none, want a few", n)
		}
		time.Sleep(time.Minute)
		createUsers(t, b.db, "after", 1)
		converge(t, time.Second, a, b)
	})
}

// kill ends a member as a loss of power does: nobody is told.
func (m *member) kill(others ...*member) {
	self := []*member{m}
	m.w.cut(self, others)
	m.stop()
	m.w.heal(self, others)
}

// A node that dies in the middle of serving and comes back is found again by the
// one that was served, whether or not it listens where it did.
func TestTheServingNodeDiesAndReturns(t *testing.T) {
	for name, c := range map[string]struct {
		port  int
		knows bool // the served one is known to the serving one
	}{"same port": {8000, true}, "new port": {8001, true}, "same port, unknown": {8000, false}} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
				a, b := w.memberAt(0, t.TempDir()), w.member(1)
				addSchema(t, a.db, schemaText)
				createUsers(t, a.db, "a", 20_000)
				a.start()
				b.start()
				ticket, err := a.node.Share(nil)
				if err != nil {
					t.Fatal(err)
				}
				var join sync.WaitGroup
				join.Go(func() { b.node.Join(t.Context(), ticket, nil) }) // it fails, or goes on
				eventually(t, 10*time.Second, func() (bool, string) { return documents(t, b) > 0, "nothing arrives" })
				a.kill(b)
				a.reopen()
				if documents(t, b) == 20_000 {
					t.Fatal("all had arrived: make the transfer longer")
				}
				if !c.knows {
					if err := (notes{a.db.Replica()}).deletePeer(b.id()); err != nil {
						t.Fatal(err)
					}
				}
				a.port = c.port
				time.Sleep(2 * time.Second)
				a.start()
				t.Logf("equal again %v after the return", converge(t, 20*time.Second, a, b))
				join.Wait()
				createUsers(t, a.db, "live", 1)
				converge(t, 2*time.Second, a, b)
			})
		})
	}
}

// Nodes that only know their neighbours pass on what they hear, and what they got
// when they came back.
func TestAChangePassesAlongAChain(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		a, b, c := w.member(0), w.member(1), w.member(2)
		addSchema(t, a.db, schemaText)
		a.start(b)
		b.start(a, c)
		c.start(b)
		converge(t, 10*time.Second, a, b, c)
		time.Sleep(5 * time.Second)
		createUsers(t, a.db, "live", 1)
		if took := converge(t, 5*time.Second, a, b, c); took > time.Second {
			t.Errorf("a change took %v to the end of the chain", took)
		}
		a.stop()
		createUsers(t, a.db, "alone", 100)
		a.start()
		eventually(t, 10*time.Second, func() (bool, string) { return documents(t, b) == 101, "the neighbour did not get it" })
		if took := converge(t, 10*time.Second, a, b, c); took > 2*time.Second {
			t.Errorf("what came by a session took %v to the end of the chain", took)
		}
	})
}

// A peer that holds a stream open is no reason not to ask it.
func TestAnOpenStreamDoesNotKeepFromAsking(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		time.Sleep(5 * time.Second)
		s, err := b.host.NewStream(t.Context(), a.id(), protocolSync)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Reset()
		s.Write([]byte{10}) // the length of a message that does not come
		time.Sleep(time.Second)
		before := a.node.Counters().Sessions
		c, err := a.node.companion(b.id())
		if err != nil {
			t.Fatal(err)
		}
		c.next.Set(0)
		time.Sleep(time.Second)
		if a.node.Counters().Sessions == before {
			t.Error("the peer was not asked")
		}
	})
}

// Commits from the future are a difference that stays for a while. They cost little
// until their time comes, keep nothing else from being exchanged, and are then taken.
func TestCommitsFromTheFutureWaitQuietly(t *testing.T) {
	for _, ahead := range []time.Duration{30 * time.Minute, 8 * time.Minute} {
		t.Run(fmt.Sprint(ahead), func(t *testing.T) {
			simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
				a, b := w.member(0), w.member(1)
				addSchema(t, a.db, schemaText)
				b.db.Close()
				db, err := pando.Open(t.Context(), "", &pando.Options{Now: func() time.Time { return time.Now().Add(ahead) }})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { db.Close() })
				b.db = db
				startAll([]*member{a, b})
				converge(t, 5*time.Second, a, b)
				createUsers(t, b.db, "future", 2000)
				time.Sleep(2 * time.Minute)
				if ahead < 10*time.Minute {
					if took := converge(t, 5*time.Minute, a, b); took < time.Minute/2 {
						t.Errorf("commits from the future were taken after %v", took)
					}
					return
				}
				before := a.node.Counters()
				time.Sleep(10 * time.Minute)
				after := a.node.Counters()
				if n := after.Received - before.Received; n > 100_000 {
					t.Errorf("ten minutes of quiet cost %d bytes, want less than a transfer", n)
				}
				if n := after.Mismatches + b.node.Counters().Mismatches; n > 0 {
					t.Errorf("%d mismatches, want none: it is known what differs", n)
				}
				ticket, err := b.node.Share(nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := a.node.Join(t.Context(), ticket, nil); err == nil || !strings.Contains(err.Error(), "clocks") {
					t.Errorf("a join that cannot end says %v, want that the clocks are off", err)
				}
				createUsers(t, a.db, "now", 10)
				eventually(t, 5*time.Second, func() (bool, string) { return documents(t, b) == 2010, "what is not early waits too" })
				t.Logf("%d bytes, %d sessions in ten minutes", after.Received-before.Received,
					after.Sessions+after.Served-before.Sessions-before.Served)
			})
		})
	}
}

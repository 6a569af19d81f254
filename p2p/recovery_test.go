package p2p

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

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
	w.tried(question{"p", id}, missing(1), nil)
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
	w.tried(question{"p", id}, missing(2), nil)
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
		createUsers(t, a.db, "a", 3000)
		a.start()
		b.start()
		ticket, err := a.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := b.node.Join(ctx, ticket, func(Progress) { cancel() }); err == nil {
			t.Fatal("the join was not interrupted: make it longer")
		}
		t.Logf("the rest came within %v", converge(t, 10*time.Second, a, b))
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

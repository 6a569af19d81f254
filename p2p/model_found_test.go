package p2p

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
)

// What histories found, each as a story of its own.

// model runs fn with some machines of which each trusts the first.
func model(t *testing.T, machines int, fn func(t *testing.T, n *modelNet, ms []*machine)) {
	t.Helper()
	if raceDetector {
		t.Skip("the race detector and virtual time do not go together")
	}
	synctest.Test(t, func(t *testing.T) {
		n := newModelNet(rand.New(rand.NewPCG(1, 1)), 20*time.Millisecond)
		var ms []*machine
		for i := range machines {
			ms = append(ms, newMachine(t, n, i))
			ms[i].boot()
		}
		defer func() {
			n.heal()
			for _, m := range ms {
				m.shut()
			}
		}()
		fn(t, n, ms)
	})
}

// equalRoots waits until all machines hold the same.
func equalRoots(t *testing.T, within time.Duration, ms ...*machine) time.Duration {
	t.Helper()
	return equal(t, within, func() (dbs []*pando.DB) {
		for _, m := range ms {
			dbs = append(dbs, m.db)
		}
		return dbs
	})
}

// A connection that is cut while both sides introduce themselves, and outlives the
// cut, is of no use to anybody: it has to be made again.
func TestAConnectionWithoutIntroductionIsMadeAgain(t *testing.T) {
	model(t, 2, func(t *testing.T, n *modelNet, ms []*machine) {
		addSchema(t, ms[0].db, schemaText)
		createUsers(t, ms[0].db, "a", 1)
		ms[0].join(ms[1])
		ms[1].join(ms[0])
		eventually(t, time.Second, func() (bool, string) { return len(ms[0].host.Network().Conns()) > 0, "no connection" })
		n.cut(0, 1, true)
		time.Sleep(modelNotices/2 - time.Second)
		n.cut(0, 1, false)
		t.Logf("equal after %v", equalRoots(t, time.Minute, ms...))
	})
}

// What came too early for a clock that ran behind is taken as soon as that clock is
// set right: whoever does so looks whether it helped.
func TestAClockThatIsSetRightIsNoticed(t *testing.T) {
	model(t, 2, func(t *testing.T, n *modelNet, ms []*machine) {
		addSchema(t, ms[0].db, schemaText)
		ms[1].skew.Store(-int64(30 * time.Minute))
		ms[0].join(ms[1])
		ms[1].join(ms[0])
		createUsers(t, ms[0].db, "early", 3)
		time.Sleep(2 * time.Minute)
		if same := modelDocuments(t, ms[1]); same != 0 {
			t.Fatalf("%d documents were taken before their time", same)
		}
		ms[1].skew.Store(0)
		t.Logf("equal after %v", equalRoots(t, 3*time.Minute, ms...))
	})
}

// A document that was announced in time, and comes too early for a clock that was set
// wrong meanwhile, is wanted no longer than that clock is wrong.
func TestAWantEndsWhenTheClockIsSetRight(t *testing.T) {
	model(t, 2, func(t *testing.T, n *modelNet, ms []*machine) {
		id := addSchema(t, ms[0].db, schemaText)
		ms[0].join(ms[1])
		ms[1].join(ms[0])
		equalRoots(t, time.Minute, ms...)
		ms[1].skew.Store(-int64(30 * time.Minute))
		createUsers(t, ms[0].db, "early", 1)
		for c, err := range ms[0].db.Replica().Log(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			ms[1].node.wantMissing(ms[0].id(), id, map[dag.DocID][]dag.CID{c.Doc: {c.Commit}})
		}
		time.Sleep(5 * time.Second)
		before := ms[1].node.Counters()
		time.Sleep(10 * time.Minute)
		if c := ms[1].node.Counters(); c.Wants != 1 || c.Fetches > before.Fetches+3 {
			t.Errorf("%d documents are wanted, and it was asked %d times for what cannot be applied", c.Wants, c.Fetches-before.Fetches)
		}
		ms[1].skew.Store(0)
		t.Logf("equal after %v", equalRoots(t, 3*time.Minute, ms...))
		eventually(t, 2*time.Minute, func() (bool, string) { return ms[1].node.Counters().Wants == 0, "it is wanted all the same" })
	})
}

func modelDocuments(t *testing.T, m *machine) (n uint64) {
	t.Helper()
	sums, err := m.db.Replica().Summaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sums {
		n += s.Documents
	}
	return n
}

// Who takes a collection from others takes their secret with it. Where each made one
// of its own besides, there were soon more than a node keeps, each kept others, and
// with two hundred nodes some heard nothing live.
func TestATakenCollectionHasOneSecret(t *testing.T) {
	model(t, 5, func(t *testing.T, n *modelNet, ms []*machine) {
		id := addSchema(t, ms[0].db, schemaText)
		for i, m := range ms { // in a row, each with its neighbours
			m.join(ms[max(i-1, 0):min(i+2, len(ms))]...)
		}
		equalRoots(t, time.Minute, ms...)
		time.Sleep(10 * time.Second)
		for _, m := range ms {
			if ring, _ := m.node.admission.keys(); len(ring.secrets[id]) != 1 {
				t.Errorf("%s knows %d secrets of a collection that one made, want 1", m.name(), len(ring.secrets[id]))
			}
		}
	})
}

// A program that brings its schema with it makes the collection on each of its nodes.
// However many these are, they come together.
func TestManyMadeTheSameCollection(t *testing.T) {
	model(t, 24, func(t *testing.T, n *modelNet, ms []*machine) {
		for i, m := range ms {
			addSchema(t, m.db, schemaText)
			createUsers(t, m.db, fmt.Sprint("by", i, "-"), 1)
		}
		for i, m := range ms { // in a row, each with its neighbours
			m.join(ms[max(i-1, 0):min(i+2, len(ms))]...)
		}
		t.Logf("equal after %v", equalRoots(t, 10*time.Minute, ms...))
		time.Sleep(time.Minute)
		for _, m := range ms {
			if c := m.node.Counters(); c.Mismatches > 0 || c.Blamed > 0 {
				t.Errorf("%s took %d copies for damaged while secrets changed hands, and blamed others %d times", m.name(), c.Mismatches, c.Blamed)
			}
		}
		var heard []uint64
		for _, m := range ms {
			heard = append(heard, m.node.Counters().Heard)
		}
		createUsers(t, ms[0].db, "live", 1)
		t.Logf("a change passed along the row in %v", equalRoots(t, 10*time.Second, ms...))
		for i, m := range ms[1:] {
			if m.node.Counters().Heard == heard[i+1] {
				t.Errorf("%s got the change by comparing, and did not hear of it", m.name())
			}
		}
	})
}

// A peer is done with secrets when it took them. That they were sent to it says little:
// a stream breaks, or is refused because both sides began a session at once.
func TestSecretsAreOfferedUntilTheyAreTaken(t *testing.T) {
	model(t, 2, func(t *testing.T, n *modelNet, ms []*machine) {
		id := addSchema(t, ms[0].db, schemaText)
		ms[0].join(ms[1])
		ms[1].join(ms[0])
		equalRoots(t, time.Minute, ms...)
		time.Sleep(time.Minute)
		giver, taker := ms[0].node, ms[1].node
		knows := func(s ident.Secret) (bool, string) {
			ring, _ := taker.admission.keys()
			return slices.Contains(ring.secrets[id], s), "it never learnt the secret"
		}
		begin := func(n *Node, with *machine) *session {
			s, err := n.open(t.Context(), with.id(), syncProtocols)
			if err != nil {
				t.Fatal(err)
			}
			return &session{n: n, w: newAsking(s, &n.traffic), peer: with.id(), ctx: t.Context(), tried: map[dag.CollectionID]int{},
				report: report{Collections: map[dag.CollectionID]*verdict{}}}
		}

		// alone runs fn while the nodes begin no session of their own.
		alone := func(fn func()) {
			for i, m := range ms {
				c, err := m.node.companion(ms[1-i].id())
				if err != nil {
					t.Fatal(err)
				}
				c.turn <- struct{}{}
				defer func() { <-c.turn }()
			}
			fn()
		}

		inHello, inOffer := ident.Secret{1}, ident.Secret{2}
		alone(func() {
			if _, err := giver.admission.adopt([]claim{{id, inHello}}, maxSecrets); err != nil {
				t.Fatal(err)
			}
			x := begin(taker, ms[0])
			own, err := taker.opening(t.Context(), ms[0].id(), taker.admission.with(ms[0].id()), x.w.version, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := x.w.send(&own.hello); err != nil {
				t.Fatal(err)
			}
			if theirs, _, err := greeted(x.w); err != nil || len(theirs.Offers) == 0 {
				t.Fatalf("the secret was not offered: %v, %v", theirs, err)
			}
			x.w.abort() // it did not get to read this
			if ok, _ := knows(inHello); ok {
				t.Fatal("the secret came another way")
			}
		})
		eventually(t, 10*time.Second, func() (bool, string) { return knows(inHello) })

		time.Sleep(time.Minute)
		alone(func() {
			if _, err := giver.admission.adopt([]claim{{id, inOffer}}, maxSecrets); err != nil {
				t.Fatal(err)
			}
			x := begin(giver, ms[1])
			if _, err := x.greet(); err != nil || !x.offered {
				t.Fatalf("the secret was not offered: %v", err)
			}
			n.cut(0, 1, true)
			x.w.abort()
			time.Sleep(100 * time.Millisecond)
			n.cut(0, 1, false)
			if ok, _ := knows(inOffer); ok {
				t.Fatal("the secret came another way")
			}
		})
		eventually(t, 10*time.Second, func() (bool, string) { return knows(inOffer) })
	})
}

// What a node that keeps a part wrote too early for the clock of another is a
// difference that is known, and nobody's fault.
func TestAPartThatWaitsForAClockIsNoMismatch(t *testing.T) {
	model(t, 2, func(t *testing.T, n *modelNet, ms []*machine) {
		for _, m := range ms {
			addSchema(t, m.db, schemaText)
		}
		ms[0].skew.Store(-int64(30 * time.Minute))
		ms[0].join(ms[1])
		ms[1].join(ms[0])
		if err := ms[1].node.Keep(t.Context(), "User", Scope{Filter: `{points: {_ge: 1}}`}); err != nil {
			t.Fatal(err)
		}
		equalRoots(t, time.Minute, ms...)
		createUsers(t, ms[1].db, "early", 3)
		time.Sleep(10 * time.Minute)
		for _, m := range ms {
			if c := m.node.Counters(); c.Mismatches > 0 || c.Blamed > 0 {
				t.Errorf("%s counts %d mismatches, and blamed the other %d times", m.name(), c.Mismatches, c.Blamed)
			}
		}
		ms[0].skew.Store(0)
		eventually(t, 20*time.Minute, func() (bool, string) { return modelDocuments(t, ms[0]) == 3, "they did not come in their time" })
	})
}

// What a comparison leaves out, because it comes too early for one of both, differs
// afterwards, also if its time comes before the session ends: a clock that is set right
// in the middle makes no healthy copy a damaged one, and nobody is to blame.
func TestAClockThatIsSetRightInASessionIsNoMismatch(t *testing.T) {
	// Without something new to leave out, a session ends before it judges.
	t.Run("who is ahead asks", func(t *testing.T) {
		setRight(t, 0, func(write, refused, leftOut func()) {
			refused()
			write()
			leftOut()
			leftOut()
		})
	})
	t.Run("who is behind asks", func(t *testing.T) {
		setRight(t, 1, func(write, _, leftOut func()) {
			leftOut()
			write()
			leftOut()
			write()
			leftOut()
		})
	})
}

// setRight has one of two machines run a session while the first is ahead of the second,
// and sets both clocks right at the end of a story of what the first writes meanwhile,
// when the other refuses that, and when comparisons leave it out.
func setRight(t *testing.T, asks int, story func(write, refused, leftOut func())) {
	model(t, 2, func(t *testing.T, n *modelNet, ms []*machine) {
		addSchema(t, ms[0].db, schemaText)
		createUsers(t, ms[0].db, "in time", 1)
		ms[0].join(ms[1])
		ms[1].join(ms[0])
		equalRoots(t, time.Minute, ms...)
		time.Sleep(10 * time.Second)
		asking, asked := ms[asks], ms[1-asks]
		var last postponed
		change := func(of func(p *postponed) bool) {
			l := asking.node.later
			eventually(t, time.Second, func() (changed bool, what string) {
				l.mu.Lock()
				defer l.mu.Unlock()
				for s, p := range l.sharing {
					if changed = s.peer == asked.id() && of(p); changed {
						last = *p
					}
				}
				return changed, "the session leaves nothing out"
			})
		}
		written := 0
		write := func() {
			createUsers(t, ms[0].db, fmt.Sprint("early", written), 1)
			written++
		}
		ms[1].skew.Store(-int64(30 * time.Minute))
		write()
		done := make(chan error, 1)
		go func() {
			_, err := asking.node.sync(t.Context(), asked.id(), errand{})
			done <- err
		}()
		story(write,
			func() { change(func(p *postponed) bool { return p.refuse != last.refuse }) },
			func() { change(func(p *postponed) bool { return p.mine != last.mine || p.theirs != last.theirs }) })
		for _, m := range ms {
			m.skew.Store(int64(2 * time.Hour)) // past all that was put off
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, m := range ms {
			if c := m.node.Counters(); c.Mismatches > 0 || c.Blamed > 0 {
				t.Errorf("%s counts %d mismatches, and blamed the other %d times", m.name(), c.Mismatches, c.Blamed)
			}
		}
		if early := modelDocuments(t, ms[1]) - 1; early > 0 {
			t.Errorf("%d documents were taken by a session that was to leave them out", early)
		}
		t.Logf("equal after %v", equalRoots(t, 3*time.Minute, ms...))
	})
}

// A node whose disk failed sees differences that do not go away. It does not find
// fault with others for that.
func TestANodeWithoutDiskBlamesNobody(t *testing.T) {
	model(t, 2, func(t *testing.T, n *modelNet, ms []*machine) {
		addSchema(t, ms[0].db, schemaText)
		ms[0].join(ms[1])
		ms[1].join(ms[0])
		equalRoots(t, time.Minute, ms...)
		for _, m := range ms {
			createUsers(t, m.db, m.name(), 3)
		}
		equalRoots(t, time.Minute, ms...)
		ms[1].disk.full.Store(true)
		createUsers(t, ms[0].db, "more", 3)
		time.Sleep(5 * time.Minute)
		c := ms[1].node.Counters()
		if c.Mismatches > 0 || c.Blamed > 0 {
			t.Errorf("%d mismatches, and the other was blamed %d times", c.Mismatches, c.Blamed)
		}
		st, err := ms[1].node.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if p := st.Peers[0]; p.Collections[0].State == Identical {
			t.Errorf("status: %+v", p)
		}
	})
}

// What a peer that keeps a part changed outside of it is told to others once, and found
// by no comparison: whoever says that it has it must not lose it any more, also if it
// was announced at any moment of the session, and is not on the disk yet.
func TestWhatIsAcknowledgedIsOnTheDisk(t *testing.T) {
	model(t, 2, func(t *testing.T, n *modelNet, ms []*machine) {
		addSchema(t, ms[0].db, schemaText)
		whole, part := ms[0], ms[1]
		whole.join(part)
		part.join(whole)
		equalRoots(t, time.Minute, ms...)
		if err := part.node.Keep(t.Context(), "User", Scope{Filter: `{points: {_ge: 1000}}`}); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			time.Sleep(10 * time.Second)
			whole.disk.slow.Store(int64(time.Second))
			for _, c := range part.node.connected() {
				c.next.Set(0)
			}
			time.Sleep(time.Duration(i) * 10 * time.Millisecond)
			createUsers(t, part.db, fmt.Sprint("outside", i), 1)
			time.Sleep(400 * time.Millisecond)
			whole.lose(false)
			whole.boot()
			whole.join(part)
			eventually(t, 5*time.Minute, func() (bool, string) {
				return modelDocuments(t, whole) == uint64(i+1), fmt.Sprintf("what was written %d ms after the session began never came", 10*i)
			})
		}
	})
}

package p2p

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pandodb/pando"
)

// writeChain gives one document a history of n commits.
func writeChain(t *testing.T, db *pando.DB, n int) {
	t.Helper()
	var id pando.DocID
	err := db.Update(t.Context(), func(tx *pando.Tx) error {
		users, err := tx.Collection("User")
		if err != nil {
			return err
		}
		doc, err := users.Create(map[string]any{"name": "chain", "points": 0})
		if err != nil {
			return err
		}
		id = doc.ID
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for start := 1; start < n; start += 500 {
		err := db.Update(t.Context(), func(tx *pando.Tx) error {
			users, err := tx.Collection("User")
			if err != nil {
				return err
			}
			for i := start; i < min(n, start+500); i++ {
				if _, err := users.Update(id, map[string]any{"points": i}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A history that others walk link by link, at a round trip each, comes in a few.
func TestLongHistoryComesInUnderHalfASecond(t *testing.T) {
	simulate(t, 50*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "x", 1)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		time.Sleep(3 * time.Second)
		w.cut([]*member{a}, []*member{b}) // so that gossip does not bring it as it is made
		writeChain(t, a.db, 5000)
		time.Sleep(100 * time.Millisecond)
		w.heal([]*member{a}, []*member{b})
		time.Sleep(3 * time.Second)
		converge(t, 5*time.Minute, a, b)

		// And to a node that has nothing, over a connection that is open already.
		c := w.member(2)
		c.start()
		ticket, err := a.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.node.Connect(t.Context(), a.addr()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		start := time.Now()
		res, err := c.node.Join(t.Context(), ticket, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("5,000 commits joined in %v of virtual time, %d bytes", time.Since(start), res.Bytes)
		if took := time.Since(start); took > 500*time.Millisecond { // with greetings and schema
			t.Errorf("took %v", took)
		}
	})
}

func TestBurstReachesAllSubscribers(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(3)
		addSchema(t, ms[0].db, schemaText)
		startAll(ms)
		converge(t, 5*time.Second, ms...)
		time.Sleep(3 * time.Second)
		for i := range 1000 { // one transaction each, as users write
			createUsers(t, ms[0].db, fmt.Sprint("burst", i, "-"), 1)
		}
		took := converge(t, 30*time.Second, ms...)
		for _, m := range ms[1:] {
			if n := documents(t, m); n != 1000 {
				t.Errorf("%d documents arrived, want 1000", n)
			}
			t.Logf("after %v: %+v", took, m.node.Counters())
		}
	})
}

func TestOneChangeIsLiveWithinTheLatencyOfTheNetwork(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(8)
		addSchema(t, ms[0].db, schemaText)
		startAll(ms)
		converge(t, 10*time.Second, ms...)
		time.Sleep(5 * time.Second)
		for i := range 8 {
			createUsers(t, ms[i].db, fmt.Sprint("live", i), 1)
			if took := converge(t, time.Second, ms...); took > 150*time.Millisecond {
				t.Errorf("a change of node %d was everywhere after %v", i, took)
			}
		}
	})
}

func TestLateJoinerGetsEverything(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(3)
		addSchema(t, ms[0].db, schemaText)
		startAll(ms[:2])
		createUsers(t, ms[0].db, "before", 20)
		converge(t, 5*time.Second, ms[:2]...)
		ticket, err := ms[1].node.Share([]string{"User"}) // not by who made it
		if err != nil {
			t.Fatal(err)
		}
		ms[2].start()
		res, err := ms[2].node.Join(t.Context(), ticket, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.Documents != 20 {
			t.Errorf("joined %d documents, want 20", res.Documents)
		}
		createUsers(t, ms[2].db, "after", 5)
		converge(t, 5*time.Second, ms...)
	})
}

func TestRestartKeepsPeersAndCursors(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.memberAt(0, t.TempDir()), w.memberAt(1, t.TempDir())
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "a", 3000)
		startAll([]*member{a, b})
		converge(t, 10*time.Second, a, b)
		time.Sleep(5 * time.Minute) // cursors are written, all is compared

		b.stop()
		createUsers(t, a.db, "missed", 100)
		b.reopen()
		b.start() // no peers named: it remembers
		t.Logf("reconnected and equal after %v", converge(t, 10*time.Second, a, b))
		got := a.node.Counters().Sent + b.node.Counters().Received
		t.Logf("sent: a %+v\n b %+v", a.node.Counters(), b.node.Counters())
		if in := b.node.Counters().Received; in > 35_000 {
			t.Errorf("100 missed commits cost %d bytes (%d)", in, got)
		}
	})
}

func TestInSyncCheckIsSmall(t *testing.T) {
	simulate(t, 50*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "a", 1000)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		before := a.node.Counters()
		start := time.Now()
		got, err := a.node.sync(t.Context(), b.id(), errand{})
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		after := a.node.Counters()
		sent, received := after.Sent-before.Sent, after.Received-before.Received
		t.Logf("%d bytes out, %d bytes in, %v", sent, received, took)
		if n := after.RoundTrips - before.RoundTrips; n != 1 {
			t.Errorf("%d round trips, want 1", n)
		}
		if sent > 100 || received > 100 || took > 60*time.Millisecond || len(got.Collections) != 1 {
			t.Errorf("%d bytes out, %d bytes in, %v: want at most 100 each way and one round trip", sent, received, took)
		}
	})
}

func TestStrangersGetNothing(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		addSchema(t, b.db, schemaText) // even the same definition admits nobody
		createUsers(t, a.db, "private", 10)
		a.start()
		b.start(a) // it names the other, which does not name it
		time.Sleep(3 * time.Minute)
		if n := documents(t, b); n != 0 {
			t.Errorf("a stranger got %d documents", n)
		}
		createUsers(t, b.db, "unwanted", 10)
		time.Sleep(3 * time.Minute)
		if n := documents(t, a); n != 10 {
			t.Errorf("a stranger brought documents: %d, want 10", n)
		}
		st, err := b.node.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Peers) != 1 || st.Peers[0].Collections[0].State != NotAdmitted || st.Peers[0].Hint == "" {
			t.Errorf("status of the stranger: %+v", st.Peers)
		}
		// What the operator does about it.
		if err := a.node.Connect(t.Context(), b.addr()); err != nil {
			t.Fatal(err)
		}
		converge(t, 10*time.Second, a, b)
	})
}

func TestReplicatorResumesWhereItStopped(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.memberAt(0, t.TempDir()), w.memberAt(1, t.TempDir())
		addSchema(t, a.db, schemaText)
		addSchema(t, a.db, `type Secret { text: String }`)
		createUsers(t, a.db, "a", 500)
		a.start()
		b.start(a)
		if err := a.node.AddReplicator(t.Context(), b.addr(), []string{"User"}); err != nil {
			t.Fatal(err)
		}
		acked := func(m *member) {
			t.Helper()
			eventually(t, 10*time.Minute, func() (bool, string) {
				r := m.node.Replicators()
				return len(r) == 1 && r[0].Behind == 0, fmt.Sprintf("%+v", r)
			})
		}
		acked(a)
		if n := documents(t, b); n != 500 {
			t.Errorf("%d documents at the replica, want 500", n)
		}
		b.stop() // the receiver is away
		createUsers(t, a.db, "b", 50)
		time.Sleep(10 * time.Second)
		if r := a.node.Replicators(); r[0].Behind != 50 || r[0].Problem == "" {
			t.Errorf("behind %+v, want 50 and a problem", r)
		}
		a.restart() // and the sender restarts
		if r := a.node.Replicators(); len(r) != 1 || r[0].Behind != 50 {
			t.Errorf("after the restart: %+v, want one, 50 behind", r)
		}
		b.reopen()
		b.start()
		acked(a)
		if n := documents(t, b); n != 550 {
			t.Errorf("%d documents at the replica, want 550", n)
		}
		if err := a.node.RemoveReplicator(t.Context(), b.id().String(), nil); err != nil {
			t.Fatal(err)
		}
		if r := a.node.Replicators(); len(r) != 0 {
			t.Errorf("removed, and still there: %+v", r)
		}
	})
}

func TestFiftyNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("50 databases")
	}
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(50)
		addSchema(t, ms[0].db, schemaText)
		// A ring with a hub: every node names its neighbours.
		for i, m := range ms {
			m.start(ms[(i+1)%50], ms[(i+49)%50], ms[(i+7)%50], ms[(i+43)%50])
		}
		converge(t, time.Minute, ms...)
		time.Sleep(10 * time.Second)
		for i, m := range ms {
			createUsers(t, m.db, fmt.Sprint("n", i), 1)
		}
		t.Logf("a change by each of 50 is everywhere after %v", converge(t, 2*time.Minute, ms...))
		var total Counters
		for _, m := range ms {
			c := m.node.Counters()
			total.GossipReceived += c.GossipReceived
			total.Mismatches += c.Mismatches
			total.Breaches += c.Breaches
		}
		t.Logf("%d bytes of gossip per commit and node", total.GossipReceived/50/50)
		if total.Mismatches+total.Breaches > 0 {
			t.Errorf("%+v", total)
		}
	})
}

// Closing waits for everything, whatever is under way.
func TestCloseDuringTransfer(t *testing.T) {
	simulate(t, 200*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "a", 5000)
		a.start()
		ticket, _ := a.node.Share(nil)
		b.start()
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		if _, err := b.node.Join(ctx, ticket, nil); err == nil {
			t.Error("the join ended before its time was over: make the transfer longer")
		}
		b.stop()
		a.stop()
	})
}

// Joining by ticket makes hubs: everybody knows who gave it, and nobody else.
func TestChangesCrossAHub(t *testing.T) {
	if testing.Short() {
		t.Skip("30 databases")
	}
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(30)
		addSchema(t, ms[0].db, schemaText)
		ticket := func() string {
			s, err := ms[0].node.Share(nil)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		ms[0].start()
		for _, m := range ms[1:] {
			m.start()
			if _, err := m.node.Join(t.Context(), ticket(), nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		for i := range 5 {
			createUsers(t, ms[1+i*5].db, fmt.Sprint("leaf", i), 1)
			took := converge(t, 5*time.Second, ms...)
			t.Logf("a change of a leaf was everywhere after %v", took)
			if took > 2*time.Second {
				t.Errorf("took %v, want a heartbeat and two round trips", took)
			}
		}
	})
}

// What is too large to be announced in full is fetched from whoever announced it.
func TestLargeCommitsFollowTheirAnnouncement(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(3)
		addSchema(t, ms[0].db, schemaText)
		startAll(ms)
		converge(t, 5*time.Second, ms...)
		time.Sleep(5 * time.Second)
		before := ms[1].node.Counters().Fetches
		createUsers(t, ms[0].db, strings.Repeat("long ", 10_000), 1)
		if took := converge(t, time.Second, ms...); took > 200*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if ms[1].node.Counters().Fetches == before {
			t.Error("nothing was fetched: make the document larger")
		}
	})
}

// A document known to be incomplete is asked for after a restart still.
func TestWantsSurviveARestart(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.memberAt(0, t.TempDir()), w.memberAt(1, t.TempDir())
		id := addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "a", 1)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		a.stop() // whoever has the commit is away
		unheard := pando.CID{1, 2, 3}
		doc := pando.DocID{4, 5, 6}
		b.node.wantMissing(a.id(), id, map[pando.DocID][]pando.CID{doc: {unheard}})
		time.Sleep(time.Minute)
		b.restart(a)
		if c := b.node.Counters(); c.Wants != 1 || c.StuckWants != 0 {
			t.Errorf("%d wants, %d stuck, want 1 and 0", c.Wants, c.StuckWants)
		}
		time.Sleep(25 * time.Hour)
		if c := b.node.Counters(); c.Wants != 1 || c.StuckWants != 1 {
			t.Errorf("a day later: %d wants, %d stuck, want 1 and 1", c.Wants, c.StuckWants)
		}
	})
}

// A status asked for during a long transfer tells of it, at once.
func TestStatusDuringTransfer(t *testing.T) {
	simulate(t, 200*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "a", 5000)
		a.start()
		ticket, err := a.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		b.start()
		var join sync.WaitGroup
		join.Go(func() {
			if _, err := b.node.Join(t.Context(), ticket, nil); err != nil {
				t.Error(err)
			}
		})
		eventually(t, 10*time.Second, func() (bool, string) { return documents(t, b) > 0, "nothing arrives" })
		start := time.Now()
		st, err := a.node.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("the answer took %v", took)
		}
		if c := st.Peers[0].Collections[0]; c.State != Differs {
			t.Errorf("during a transfer: %+v, want %s", st.Peers[0], Differs)
		}
		join.Wait()
		if st, err = b.node.Status(t.Context()); err != nil || st.Peers[0].Collections[0].State != Identical {
			t.Errorf("after it: %+v %v, want %s", st.Peers, err, Identical)
		}
	})
}

package p2p

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pandodb/pando"
)

// copies makes members that hold the same, and know each other.
func copies(t *testing.T, w *world, n int, fill func(db *pando.DB)) []*member {
	t.Helper()
	ms := w.members(n)
	addSchema(t, ms[0].db, schemaText)
	fill(ms[0].db)
	startAll(ms)
	converge(t, time.Minute, ms...)
	time.Sleep(5 * time.Second)
	return ms
}

// fillUsers creates documents that do not shrink on the way.
func fillUsers(t testing.TB, db *pando.DB, n, size int) {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{byte(n)})
	err := db.Update(t.Context(), func(tx *pando.Tx) error {
		users, err := tx.Collection("User")
		for i := 0; i < n && err == nil; i++ {
			name := make([]byte, size/2)
			rng.Read(name)
			_, err = users.Create(map[string]any{"name": fmt.Sprintf("%x", name), "points": i})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sent returns how many bytes each member sent in sync and fetch streams.
func sent(ms []*member) (out []uint64) {
	for _, m := range ms {
		out = append(out, m.node.Counters().Sent)
	}
	return out
}

func minus(a, b []uint64) (out []uint64) {
	for i := range a {
		out = append(out, a[i]-b[i])
	}
	return out
}

func sum(all []uint64) (n uint64) {
	for _, v := range all {
		n += v
	}
	return n
}

// newcomer makes a node that is connected with members and knows that they share the
// collection, but has nothing yet.
func newcomer(t *testing.T, w *world, i int, ms []*member) *member {
	t.Helper()
	b := w.member(i)
	b.start(ms...)
	for _, m := range ms {
		m.node.host.Peerstore().AddAddrs(b.id(), b.host.Addrs(), time.Hour)
		if err := m.node.Connect(t.Context(), b.addr()); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// A new node that knows several members copies from all of them: each gives a part,
// and hardly anything comes twice.
func TestACopyComesFromAllMembers(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		w.bits = 20 * mbit
		ms := copies(t, w, 3, func(db *pando.DB) {
			fillUsers(t, db, 1200, 4000)
		})
		before := sent(ms)
		b := newcomer(t, w, 3, ms)
		took := converge(t, 10*time.Second, append(ms, b)...)
		gave := minus(sent(ms), before)
		t.Logf("1,200 documents of 4 KB after %v: the members gave %v", took, gave)
		if slices.Min(gave) < sum(gave)/8 {
			t.Errorf("the members gave %v bytes, want a good part from each", gave)
		}
		one := oneCopy(t, w, ms[0])
		t.Logf("one copy has %d bytes, this one %d", one, sum(gave))
		if total := sum(gave); total > one*13/10 {
			t.Errorf("%d bytes in all, one copy has %d", total, one)
		}
	})
}

// oneCopy returns what a copy from one member alone costs.
func oneCopy(t *testing.T, w *world, m *member) uint64 {
	t.Helper()
	c := w.member(50)
	c.start(m)
	before := m.node.Counters().Sent
	if err := m.node.Connect(t.Context(), c.addr()); err != nil {
		t.Fatal(err)
	}
	converge(t, 10*time.Second, m, c)
	return m.node.Counters().Sent - before
}

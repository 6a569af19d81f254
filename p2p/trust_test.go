package p2p

import (
	"testing"
	"time"
)

// Who is pushed one collection is not let into the others, and into nothing more
// when the replicator is gone.
func TestAReplicatorTrustsWithItsCollectionsOnly(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		public := addSchema(t, a.db, "type Pub { name: String }")
		private := addSchema(t, a.db, "type Private { name: String }")
		a.start()
		b.start(a)
		if err := a.node.AddReplicator(t.Context(), b.addr(), []string{"Pub"}); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, func() (bool, string) { return b.node.has(public), "the replicated collection is not there" })
		time.Sleep(5 * time.Minute)
		if b.node.has(private) {
			t.Error("a collection that is not replicated was given away")
		}
		for _, p := range a.node.Peers() {
			if p.Trusted {
				t.Error("a peer is trusted with everything that is pushed one collection")
			}
		}
		if err := a.node.RemoveReplicator(t.Context(), b.id().String(), nil); err != nil {
			t.Fatal(err)
		}
		later := addSchema(t, a.db, "type Later { name: String }")
		time.Sleep(5 * time.Minute)
		if b.node.has(private) || b.node.has(later) {
			t.Error("a peer is trusted that nothing is replicated to any more")
		}
		if err := a.node.AddReplicator(t.Context(), b.addr(), nil); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, func() (bool, string) {
			return b.node.has(private) && b.node.has(later), "not all collections came with a replicator of all"
		})
	})
}

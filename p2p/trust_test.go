package p2p

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
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

// Who connects hears what is wrong now, not what was wrong before.
func TestAnExplicitConnectIsAlwaysTried(t *testing.T) {
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port)
	}
	a := startNode(t, openDB(t, ""), Config{})
	db := openDB(t, "")
	b := startNode(t, db, Config{Listen: []string{free()}})
	id, there := b.Info().ID, b.Info().Addrs[0]
	b.Close()
	for _, addr := range []string{free(), there, there} {
		err := a.Connect(t.Context(), addr+"/p2p/"+id)
		if !errors.Is(err, pando.ErrUnavailable) || !strings.Contains(err.Error(), "nothing listens there") || strings.Count(err.Error(), "/ip4/") != 1 {
			t.Errorf("got %v, want that %s refuses, and no other address", err, addr)
		}
	}
	startNode(t, db, Config{Listen: []string{there}})
	if err := a.Connect(t.Context(), there+"/p2p/"+id); err != nil {
		t.Errorf("the node is there again: %v", err)
	}
}

func TestAReplicatorThatIsNotAdmittedSaysSo(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		a.start()
		b.start()
		if err := a.node.AddReplicator(t.Context(), b.addr(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r := a.node.Replicators()[0]
		if r.State != NotAdmitted || !strings.Contains(r.Problem, admissionHint) {
			t.Errorf("%s, %q: want that it is not admitted, and what to do", r.State, r.Problem)
		}
		if err := b.node.Connect(t.Context(), a.addr()); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, func() (bool, string) {
			r := a.node.Replicators()[0]
			return r.State == Active, fmt.Sprintf("%+v", r)
		})
		b.stop()
		eventually(t, 2*time.Minute, func() (bool, string) {
			r := a.node.Replicators()[0]
			return r.State == Unreachable, fmt.Sprintf("%+v", r)
		})
	})
}

// Two nodes that name each other, and mean different things by one name, are told
// so, and not to name each other.
func TestStatusTellsAnotherDefinition(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, "type X { a: Int }")
		addSchema(t, b.db, "type X { a: String }")
		startAll([]*member{a, b})
		time.Sleep(10 * time.Second)
		for _, m := range []*member{a, b} {
			s, err := m.node.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			p := s.Peers[0]
			if p.Collections[0].State != OtherDefinition || !strings.Contains(p.Hint, "another definition of X") || strings.Contains(p.Hint, admissionHint) {
				t.Errorf("member %d: %s, %q", m.i, p.Collections[0].State, p.Hint)
			}
		}
	})
}

func TestStatusDoesNotClaimThatThePeerHasIt(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		a.start()
		b.start()
		if err := a.node.Connect(t.Context(), b.addr()); err != nil {
			t.Fatal(err)
		}
		s, err := a.node.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p := s.Peers[0]
		if p.Collections[0].State != NotAdmitted || !strings.Contains(p.Hint, "User: the peer does not have it, or") || !strings.Contains(p.Hint, admissionHint) {
			t.Errorf("%s, %q", p.Collections[0].State, p.Hint)
		}
	})
}

package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// attacker is a peer that speaks the protocol as it likes.
type attacker struct {
	*member
	admission *admission
}

// attack joins a world of two honest nodes that share 20 documents.
func attack(t *testing.T, w *world, admitted bool) (x attacker, a, b *member, id pando.CollectionID) {
	t.Helper()
	a, b = w.member(0), w.member(1)
	id = addSchema(t, a.db, schemaText)
	createUsers(t, a.db, "a", 20)
	startAll([]*member{a, b})
	converge(t, 5*time.Second, a, b)
	x = attacker{member: w.member(2)}
	if admitted {
		x.intrude(t, a, id)
	} else {
		x.intrude(t, a)
	}
	return x, a, b, id
}

// intrude connects the attacker to a, with the secrets of some collections.
func (x *attacker) intrude(t *testing.T, a *member, ids ...pando.CollectionID) {
	t.Helper()
	x.up()
	var err error
	if x.admission, err = newAdmission(x.id(), notes{x.db.Replica()}, nil); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		s, _ := a.node.admission.secret(id)
		if _, err := x.admission.adopt([]claim{{id, s}}, maxSecrets); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.host.Connect(t.Context(), peer.AddrInfo{ID: a.id(), Addrs: a.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

// stream opens a session with a, greeted if id is a collection to be proved.
func (x attacker) stream(t *testing.T, a *member, id *pando.CollectionID) *wire {
	t.Helper()
	s, err := x.host.NewStream(t.Context(), a.id(), protocolSync)
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(s, new(traffic))
	if id == nil {
		return w
	}
	ps := x.admission.with(a.id())
	proof := ps.mine[claim{*id, ps.secrets[*id][0]}]
	if err := w.send(&hello{Entries: []entry{{Proof: proof}}}); err != nil {
		t.Fatal(err)
	}
	h, err := expect[*hello](w)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Entries) != 1 {
		t.Fatalf("a member was answered %d collections, want 1", len(h.Entries))
	}
	return w
}

// unharmed checks that the honest nodes go on, and that the attacker is cut off.
func unharmed(t *testing.T, x attacker, a, b *member, want uint64) {
	t.Helper()
	eventually(t, 10*time.Second, func() (bool, string) {
		return a.node.isBanned(x.id()), "the attacker is not cut off"
	})
	if c := a.node.Counters(); c.Breaches != 1 {
		t.Errorf("%d breaches counted, want 1", c.Breaches)
	}
	if n := documents(t, a); n != want {
		t.Errorf("%d documents, want %d", n, want)
	}
	createUsers(t, b.db, "later", 1)
	converge(t, 5*time.Second, a, b)
	s, err := x.host.NewStream(t.Context(), a.id(), protocolSync)
	if err != nil {
		return // cut off
	}
	w := newWire(s, new(traffic))
	w.send(&hello{})
	if _, err := w.receive(); err == nil {
		t.Error("the attacker is answered still")
	}
}

func TestGarbageIsCutOff(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, b, _ := attack(t, w, false)
		x.stream(t, a, nil).s.Write([]byte{5, 1, 2, 3, 4, 5})
		unharmed(t, x, a, b, 20)
	})
}

func TestOversizedFrameIsCutOff(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, b, _ := attack(t, w, false)
		x.stream(t, a, nil).s.Write(binary.AppendUvarint(nil, 1<<40))
		unharmed(t, x, a, b, 20)
	})
}

func TestQuestionsBeforeTheGreetingAreCutOff(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, b, _ := attack(t, w, false)
		x.stream(t, a, nil).send(&getFull{})
		unharmed(t, x, a, b, 20)
	})
}

func TestForgedCommitIsCutOff(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, b, id := attack(t, w, true)
		addSchema(t, x.db, schemaText)
		createUsers(t, x.db, "forged", 3)
		wire := x.stream(t, a, &id)
		var envelopes [][]byte
		for block, err := range x.db.Replica().Full(t.Context(), id, pando.DocID{}) {
			if err != nil {
				t.Fatal(err)
			}
			envelopes = append(envelopes, bytes.Clone(block.Envelope))
		}
		c, err := dag.Open(envelopes[2])
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(envelopes[2], c.Sig)
		envelopes[2][at+5] ^= 1
		wire.send(&push{0})
		wire.send(&blocks{Envelopes: envelopes})
		wire.send(&end{0})
		if m, err := wire.receive(); err == nil {
			t.Errorf("a forged commit was answered with %+v", m)
		}
		unharmed(t, x, a, b, 22) // the two good ones before it are as good as any
	})
}

func TestEndlessStreamIsCutOff(t *testing.T) {
	if testing.Short() {
		t.Skip("tens of thousands of commits")
	}
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, b, id := attack(t, w, true)
		var envelope []byte
		for block, err := range a.db.Replica().Full(t.Context(), id, pando.DocID{}) {
			if err != nil {
				t.Fatal(err)
			}
			envelope = bytes.Clone(block.Envelope)
		}
		wire := x.stream(t, a, &id)
		wire.send(&push{0})
		m := &blocks{Envelopes: slices.Repeat([][]byte{envelope}, packCommits)}
		sent := 0
		for ; sent < 4*maxUseless; sent += packCommits {
			if wire.send(m) != nil {
				break
			}
		}
		if sent >= 4*maxUseless {
			t.Errorf("%d repeated commits were taken", sent)
		}
		createUsers(t, b.db, "later", 1)
		converge(t, 5*time.Second, a, b)
	})
}

// Who opens streams and says nothing gets two of them, for half a minute.
func TestSilentStreamsStarveNobody(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, b, _ := attack(t, w, false)
		refused := 0
		for range 10 {
			wire := x.stream(t, a, nil)
			wire.s.Write([]byte{10}) // the length of a message that never comes
			wire.patient = time.Second
			if _, err := wire.receive(); fault.Of(err) == fault.Unavailable {
				if r, ok := err.(*refuse); ok && r.Code == refusedBusy {
					refused++
				}
			}
		}
		if refused != 10-sessionsPerPeer {
			t.Errorf("%d of 10 silent streams were refused, want %d", refused, 10-sessionsPerPeer)
		}
		createUsers(t, b.db, "meanwhile", 1)
		converge(t, time.Second, a, b)
		time.Sleep(2 * frameTimeout)
		a.node.mu.Lock()
		served := len(a.node.serving)
		a.node.mu.Unlock()
		if served != 0 {
			t.Errorf("%d silent streams are open still", served)
		}
	})
}

func TestFetchWithoutProofIsRefused(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, _, id := attack(t, w, false)
		s, err := x.host.NewStream(t.Context(), a.id(), protocolFetch)
		if err != nil {
			t.Fatal(err)
		}
		wire := newWire(s, new(traffic))
		guess := prove(ident.Secret{}, x.id(), a.id(), id)
		wire.send(&fetch{guess, true, []item{{Doc: []byte{1}}}})
		_, err = wire.receive()
		if fault.Of(err) != fault.Denied {
			t.Errorf("got %v, want kind Denied", err)
		}
	})
}

// A stranger sees that there is a topic. It reads nothing, and what it writes
// arrives at no member.
func TestGossipIsClosedToStrangers(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, b, id := attack(t, w, false)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ps, err := pubsub.NewGossipSub(ctx, x.host, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
			pubsub.WithMessageIdFn(func(m *pb.Message) string { return string(m.Data) }))
		if err != nil {
			t.Fatal(err)
		}
		s, _ := a.node.admission.secret(id)
		overheard, err := ps.Join(topicName(s, id))
		if err != nil {
			t.Fatal(err)
		}
		sub, err := overheard.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		createUsers(t, a.db, "confidential", 1)
		m, err := sub.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(m.Data, []byte("confidential")) {
			t.Error("a stranger reads what is announced")
		}
		time.Sleep(time.Second)
		heard := b.node.Counters().Heard
		for i := range 5 {
			overheard.Publish(ctx, append(bytes.Repeat([]byte{byte(i)}, 24), "not sealed with the key"...))
		}
		overheard.Publish(ctx, append([]byte(nil), m.Data...)) // a replay is known already
		time.Sleep(2 * time.Second)
		if now := b.node.Counters().Heard; now != heard {
			t.Errorf("%d announcements of a stranger were passed on", now-heard)
		}
		if a.node.Counters().InvalidCommits == 0 {
			t.Error("the stranger's announcements were not counted")
		}
		sub.Cancel()
	})
}

func FuzzAnnouncement(f *testing.F) {
	id := fill[dag.CollectionID](1)
	f.Add([]byte{0x83, 1, 0x40, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		if all, err := readTold(b, id); err == nil {
			for _, a := range all {
				if a.commit == nil {
					t.Error("an announcement without a commit was accepted")
				}
			}
		}
	})
}

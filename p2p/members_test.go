package p2p

import (
	"strings"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
)

// one is a secret for tests; smaller numbers are smaller secrets.
func one(first byte) ident.Secret { return ident.Secret{first, 15: 1} }

// Anybody can carry a sealed message from one member to another. Whoever does is
// not asked for what the message refers to, and brings nothing in.
func TestACarrierOfAnnouncementsIsNotAsked(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		id := addSchema(t, a.db, schemaText)
		startAll([]*member{a, b})
		createUsers(t, a.db, "a", 1)
		converge(t, 5*time.Second, a, b)
		x := w.member(2)
		x.up()
		addSchema(t, x.db, schemaText) // the definition is public, the secret is not
		createUsers(t, x.db, "injected", 7)
		var evil [][]byte
		for block, err := range x.db.Replica().Full(t.Context(), id, pando.DocID{}) {
			if err != nil {
				t.Fatal(err)
			}
			evil = append(evil, append([]byte(nil), block.Envelope...))
		}
		x.host.SetStreamHandler(protocolSync, func(s network.Stream) { s.Reset() })
		x.host.SetStreamHandler(protocolFetch, func(s network.Stream) {
			wire := newWire(s, new(traffic))
			m, err := wire.receive()
			if f, ok := m.(*fetch); ok && err == nil {
				t.Error("a stranger was told about a document")
				wire.send(&blocks{Envelopes: evil})
				wire.send(&end{uint64(len(f.Items))})
			}
			s.Close()
		})
		for _, m := range []*member{a, b} {
			if err := x.host.Connect(t.Context(), peer.AddrInfo{ID: m.id(), Addrs: m.host.Addrs()}); err != nil {
				t.Fatal(err)
			}
		}
		ps, err := pubsub.NewGossipSub(t.Context(), x.host, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
			pubsub.WithMessageIdFn(func(m *pb.Message) string { return string(m.Data) }))
		if err != nil {
			t.Fatal(err)
		}
		s, _ := a.node.admission.secret(id) // the name of the topic is told to whoever connects
		topic, err := ps.Join(topicName(s, id))
		if err != nil {
			t.Fatal(err)
		}
		sub, err := topic.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Cancel()
		time.Sleep(3 * time.Second)
		w.cut([]*member{a}, []*member{b})
		heard := b.node.Counters().Heard
		createUsers(t, a.db, strings.Repeat("long", 2000), 1) // announced by its header alone
		if _, err := sub.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if b.node.Counters().Heard == heard {
			t.Error("the stranger carried nothing")
		}
		if n := documents(t, b); n != 1 {
			t.Errorf("%d documents, want 1: the stranger brought some", n)
		}
		w.heal([]*member{a}, []*member{b})
		converge(t, 3*time.Minute, a, b)
	})
}

func TestAMemberAddsNoOtherCollections(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, b, id := attack(t, w, true)
		squatted := addSchema(t, x.db, "type Squatted { a: String }")
		versions, err := x.db.Replica().Schema(t.Context(), squatted)
		if err != nil {
			t.Fatal(err)
		}
		x.stream(t, a, &id).send(&schemaVersions{0, versions})
		unharmed(t, x, a, b, 20)
		if a.node.has(squatted) {
			t.Error("a member added a collection that was never shared")
		}
	})
}

func TestAnOfferIsOfTheCollectionItNames(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		a.start(b)
		other := addSchema(t, b.db, "type Other { a: String }")
		versions, err := b.db.Replica().Schema(t.Context(), other)
		if err != nil {
			t.Fatal(err)
		}
		if a.node.adoptOffers(t.Context(), b.id(), []offer{{dag.CollectionID{1}, one(1), versions}}, nil) || a.node.has(other) {
			t.Error("a collection was taken under the id of another")
		}
	})
}

// A HELLO to a stranger is the same whatever is stored, but for how many
// collections there are at most.
func TestAHelloTellsStrangersNothing(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, x := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText+` type Author { name: String } type Book { title: String }`)
		createUsers(t, a.db, "a", 300)
		a.start()
		x.up()
		got := make(chan *hello, 2)
		x.host.SetStreamHandler(protocolSync, func(s network.Stream) {
			if h, err := expect[*hello](newWire(s, new(traffic))); err == nil {
				got <- h
			}
			s.Reset()
		})
		if err := x.host.Connect(t.Context(), peer.AddrInfo{ID: a.id(), Addrs: a.host.Addrs()}); err != nil {
			t.Fatal(err)
		}
		h, again := <-got, <-got
		if len(h.Entries) != 4 || len(h.Offers) > 0 {
			t.Errorf("%d entries and %d offers of 3 collections, want 4 and none", len(h.Entries), len(h.Offers))
		}
		same := 0
		for i, e := range h.Entries {
			if e.Card == again.Entries[i].Card {
				t.Error("a card looks the same twice")
			}
			if c := e.Card.read(); c.Count == 300 || c.Epoch == a.node.epoch() {
				t.Errorf("a stranger reads a card: %+v", c)
			}
			if e.Proof == again.Entries[i].Proof {
				same++
			}
		}
		if same != 4 {
			t.Errorf("%d of 4 proofs are the same in the next HELLO: the others only fill up", same)
		}

		s, err := x.host.NewStream(t.Context(), a.id(), protocolSync)
		if err != nil {
			t.Fatal(err)
		}
		wire := newWire(s, new(traffic))
		wire.send(&hello{Entries: h.Entries})
		answer, err := expect[*hello](wire)
		if err != nil || len(answer.Entries) > 0 || len(answer.Offers) > 0 {
			t.Errorf("an answer to a stranger: %+v, %v", answer, err)
		}
	})
}

func TestAStaleTicketCostsNothing(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		id := addSchema(t, a.db, schemaText)
		a.start()
		b.start()
		good, err := a.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.node.Join(t.Context(), good, nil); err != nil {
			t.Fatal(err)
		}
		ticket, _ := ParseTicket(good)
		ticket.Collections[0].secret = one(1)
		b.node.Join(t.Context(), ticket.String(), nil) // whatever it says
		if s, _ := b.node.admission.secret(id); s == one(1) {
			t.Error("a secret that nobody proved was accepted")
		}
		createUsers(t, a.db, "later", 3)
		converge(t, 5*time.Second, a, b)

		c := w.member(2)
		c.start()
		if _, err := c.node.Join(t.Context(), ticket.String(), nil); err == nil || !strings.Contains(err.Error(), "ask for a new ticket") {
			t.Errorf("join with a stale ticket: got %v, want what to do", err)
		}
		if ring, _ := c.node.admission.keys(); len(ring.ids) > 0 {
			t.Error("a stale ticket left a secret behind")
		}
		if _, err := c.node.Join(t.Context(), good, nil); err != nil {
			t.Error(err)
		}
	})
}

// a shares with c; then a and b name each other, and b's own secret is smaller.
func TestTicketHoldersStayWhenSecretsMeet(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b, c, d := w.member(0), w.member(1), w.member(2), w.member(3)
		id := addSchema(t, a.db, schemaText)
		addSchema(t, b.db, schemaText)
		for _, m := range []*member{a, b, c, d} {
			m.start()
		}
		if _, err := b.node.admission.adopt([]claim{{id, one(0)}}, maxSecrets); err != nil {
			t.Fatal(err)
		}
		join := func(m, from *member) {
			t.Helper()
			ticket, err := from.node.Share(nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.node.Join(t.Context(), ticket, nil); err != nil {
				t.Fatal(err)
			}
		}
		join(c, a)
		join(d, b)
		createUsers(t, c.db, "before", 3)
		converge(t, 5*time.Second, a, c)
		if err := a.node.Connect(t.Context(), b.addr()); err != nil {
			t.Fatal(err)
		}
		if err := b.node.Connect(t.Context(), a.addr()); err != nil {
			t.Fatal(err)
		}
		t.Logf("all equal after %v", converge(t, 5*time.Second, a, b, c, d))
		time.Sleep(5 * time.Second)
		for i, m := range []*member{a, b, c, d} {
			createUsers(t, m.db, string(rune('a'+i)), 1)
			if took := converge(t, time.Second, a, b, c, d); took > 300*time.Millisecond {
				t.Errorf("a change of member %d is everywhere after %v", i, took)
			}
			if s, _ := m.node.admission.secret(id); s != one(0) {
				t.Errorf("member %d does not know the secret in use", i)
			}
		}
	})
}

// A member hands on secrets, but not so many that there is no place for those of
// others.
func TestAMemberCannotUseUpTheSecrets(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, _, id := attack(t, w, true)
		wire := x.stream(t, a, &id)
		var gifts []offer
		for i := range byte(20) {
			gifts = append(gifts, offer{id, one(i), nil})
		}
		gifts = append(gifts, offer{id, ident.Secret{}, nil}, offer{dag.CollectionID{1}, one(1), nil})
		wire.send(&offers{gifts})
		wire.send(&hello{})
		if _, err := expect[*hello](wire); err != nil {
			t.Fatal(err)
		}
		ring, _ := a.node.admission.keys()
		if n := len(ring.secrets[id]); n != maxHandedOn || len(ring.ids) != 1 {
			t.Errorf("%d secrets of %d collections, want %d of 1", n, len(ring.ids), maxHandedOn)
		}
	})
}

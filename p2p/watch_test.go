package p2p

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/ident"
)

// keepPart makes a member that keeps a part of the collection of others, and waits until
// it is told of it.
func keepPart(t *testing.T, m *member, s Scope, from *member) {
	t.Helper()
	m.start()
	ticket, err := from.node.Share(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.node.JoinPart(t.Context(), ticket, s, nil); err != nil {
		t.Fatal(err)
	}
}

func isTold(t *testing.T, m *member, want int) {
	t.Helper()
	eventually(t, 10*time.Second, func() (bool, string) {
		got := m.node.Counters().Watches
		return got == want, fmt.Sprintf("node %d watches %d members, want %d", m.i, got, want)
	})
}

// soon waits until an answer is there, at once as people see it: no comparison is
// needed for it.
func soon(t *testing.T, m *member, query, want string) {
	t.Helper()
	got := ""
	took := eventually(t, 20*time.Second, func() (bool, string) {
		got = exec(t, m.db, query)
		return got == want, fmt.Sprintf("node %d shows %s, want %s", m.i, got, want)
	})
	if took > 150*time.Millisecond {
		t.Errorf("node %d shows %s after %v", m.i, want, took)
	}
}

func TestAPartIsToldAtOnce(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(4)
		a, b, filtered, named := ms[0], ms[1], ms[2], ms[3]
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "user", 100) // with points 0 to 99
		startAll([]*member{a, b})
		converge(t, 10*time.Second, a, b)
		keepPart(t, filtered, Scope{Filter: best}, a)
		doc := slices.Collect(maps.Keys(heldPart(t, a, Scope{Filter: `{points: {_eq: 7}}`})))
		keepPart(t, named, Scope{Docs: doc}, a)
		isTold(t, filtered, 1)
		isTold(t, named, 1)
		time.Sleep(5 * time.Second)
		sessions := filtered.node.Counters().Sessions + filtered.node.Counters().Served

		// Of whatever member it is, and into the part and out of it.
		exec(t, b.db, `mutation { update_User(filter: {points: {_eq: 7}}, input: {name: "seven"}) { _docID } }`)
		soon(t, named, `{ User { name } }`, `{"User":[{"name":"seven"}]}`)
		exec(t, b.db, `mutation { create_User(input: {name: "new", points: 1000}) { _docID } }`)
		soon(t, filtered, `{ _count(User: {filter: {points: {_ge: 90}}}) }`, `{"_count":11}`)
		exec(t, a.db, `mutation { update_User(filter: {name: {_eq: "new"}}, input: {points: 1}) { _docID } }`)
		soon(t, filtered, `{ User(filter: {name: {_eq: "new"}}) { points } }`, `{"User":[{"points":1}]}`)
		exec(t, a.db, `mutation { delete_User(filter: {points: {_eq: 95}}) { _docID } }`)
		soon(t, filtered, `{ _count(User: {filter: {points: {_eq: 95}}}) }`, `{"_count":0}`)

		// What it writes itself, inside of its part and outside, reaches all.
		exec(t, filtered.db, `mutation { create_User(input: [{name: "mine", points: 99}, {name: "other", points: 2}]) { _docID } }`)
		soon(t, b, `{ _count(User: {filter: {name: {_in: ["mine", "other"]}}}) }`, `{"_count":2}`)
		exec(t, named.db, `mutation { update_User(all: true, input: {points: 2000}) { _docID } }`)
		soon(t, filtered, `{ _count(User: {filter: {points: {_eq: 2000}}}) }`, `{"_count":1}`)

		c := filtered.node.Counters()
		if got := c.Sessions + c.Served - sessions; got > 2 {
			t.Errorf("%d sessions were needed for it", got)
		}
		if c.Heard > 0 || c.Topics == 0 {
			t.Errorf("a node that keeps a part heard %d commits in %d topics of the whole", c.Heard, c.Topics)
		}
		if n := documents(t, named); n != 1 {
			t.Errorf("%d documents where one is kept", n)
		}
		if x := a.node.Counters(); x.Watchers != 2 || x.Watched == 0 {
			t.Errorf("%d watchers, told of %d commits", x.Watchers, x.Watched)
		}
	})
}

// When the member that tells goes away, another takes its place; what was missed
// meanwhile comes by comparing, and over restarts all of it holds.
func TestAWatchOutlivesItsMember(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		a, b, part := w.member(0), w.member(1), w.memberAt(2, t.TempDir())
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "user", 100)
		startAll([]*member{a, b})
		converge(t, 10*time.Second, a, b)
		keepPart(t, part, Scope{Filter: best}, a)
		if err := part.node.Connect(t.Context(), b.addr()); err != nil {
			t.Fatal(err)
		}
		isTold(t, part, 2)
		a.stop()
		exec(t, b.db, `mutation { create_User(input: {name: "one", points: 91}) { _docID } }`)
		soon(t, part, `{ _count(User: {filter: {name: {_eq: "one"}}}) }`, `{"_count":1}`)
		isTold(t, part, 1)

		part.stop()
		exec(t, b.db, `mutation { create_User(input: {name: "two", points: 91}) { _docID } }`)
		part.reopen()
		part.start()
		isTold(t, part, 1)
		agree(t, 10*time.Second, Scope{Filter: best}, b, part)
		exec(t, b.db, `mutation { create_User(input: {name: "three", points: 91}) { _docID } }`)
		soon(t, part, `{ _count(User: {filter: {name: {_eq: "three"}}}) }`, `{"_count":1}`)

		if err := part.node.Keep(t.Context(), "User", Scope{Filter: `{points: {_lt: 10}}`}); err != nil {
			t.Fatal(err)
		}
		agree(t, 10*time.Second, Scope{Filter: `{points: {_lt: 10}}`}, b, part)
		isTold(t, part, 1)
		exec(t, b.db, `mutation { create_User(input: {name: "four", points: 4}) { _docID } }`)
		soon(t, part, `{ _count(User: {filter: {name: {_eq: "four"}}}) }`, `{"_count":1}`)
		if err := part.node.Keep(t.Context(), "User", Scope{Whole: true}); err != nil {
			t.Fatal(err)
		}
		converge(t, 20*time.Second, b, part)
		time.Sleep(5 * time.Second)
		createUsers(t, b.db, "whole", 3)
		if took := converge(t, 10*time.Second, b, part); took > 150*time.Millisecond {
			t.Errorf("kept whole again, a change comes after %v", took)
		}
		if c := part.node.Counters(); c.Watches != 0 || b.node.Counters().Watchers != 0 {
			t.Errorf("kept whole, and it watches %d members", c.Watches)
		}
	})
}

// Where nobody keeps the whole, those who keep parts tell each other of what they have
// of them, until somebody does.
func TestPartsAreToldWithoutAnybodyWhoKeepsTheWhole(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(4)
		a, hub, parts := ms[0], ms[1], ms[1:]
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "user", 100)
		a.start()
		keepPart(t, parts[0], Scope{Filter: best}, a)
		keepPart(t, parts[1], Scope{Filter: `{points: {_ge: 50}}`}, a)
		keepPart(t, parts[2], Scope{Filter: `{points: {_lt: 10}}`}, a)
		for _, m := range parts[1:] {
			if err := m.node.Connect(t.Context(), hub.addr()); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range parts {
			isTold(t, m, 1) // by who keeps the whole, and nobody else
		}
		a.stop()
		isTold(t, hub, 2)
		isTold(t, parts[1], 1)
		isTold(t, parts[2], 1)
		exec(t, parts[1].db, `mutation { create_User(input: [{name: "one", points: 91}, {name: "other", points: 60}]) { _docID } }`)
		soon(t, hub, `{ _count(User: {filter: {name: {_in: ["one", "other"]}}}) }`, `{"_count":1}`)
		exec(t, hub.db, `mutation { create_User(input: {name: "two", points: 5}) { _docID } }`)
		soon(t, parts[2], `{ _count(User: {filter: {name: {_eq: "two"}}}) }`, `{"_count":1}`)

		a.start()
		isTold(t, hub, 1)
		exec(t, a.db, `mutation { create_User(input: {name: "three", points: 91}) { _docID } }`)
		soon(t, hub, `{ _count(User: {filter: {name: {_eq: "three"}}}) }`, `{"_count":1}`)
		if n := a.node.Counters().Watchers; n == 0 {
			t.Error("nobody watches who keeps the whole")
		}
	})
}

// A document that many watch is said once, in a topic of its own, by whoever has it.
func TestADocumentThatManyWatchGetsATopic(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(2 + hotFrom)
		a, b, readers := ms[0], ms[1], ms[2:]
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "user", 10)
		startAll([]*member{a, b})
		converge(t, 10*time.Second, a, b)
		doc := slices.Collect(maps.Keys(heldPart(t, a, Scope{Filter: `{points: {_eq: 7}}`})))
		for _, m := range readers {
			keepPart(t, m, Scope{Docs: doc}, a)
		}
		for _, m := range readers {
			isTold(t, m, 1)
		}
		time.Sleep(5 * time.Second)
		hot := func(want int) {
			t.Helper()
			for _, m := range append([]*member{a}, readers...) {
				if m.node == nil {
					continue
				}
				eventually(t, 10*time.Second, func() (bool, string) {
					got := m.node.Counters().HotTopics
					return got == want, fmt.Sprintf("node %d is in %d topics of documents, want %d", m.i, got, want)
				})
			}
		}
		hot(1)
		watched := a.node.Counters().Watched
		for i := range 5 {
			exec(t, b.db, fmt.Sprintf(`mutation { update_User(filter: {points: {_eq: 7}}, input: {name: "hot%d"}) { _docID } }`, i))
			for _, m := range readers {
				soon(t, m, `{ User { name } }`, fmt.Sprintf(`{"User":[{"name":"hot%d"}]}`, i))
			}
		}
		if got := a.node.Counters().Watched - watched; got != 0 {
			t.Errorf("%d commits were told to watchers one by one", got)
		}
		exec(t, readers[3].db, `mutation { update_User(all: true, input: {name: "mine"}) { _docID } }`)
		for _, m := range append(readers, b) {
			soon(t, m, `{ User(filter: {points: {_eq: 7}}) { name } }`, `{"User":[{"name":"mine"}]}`)
		}
		for _, m := range readers[hotUntil-1:] {
			m.stop()
		}
		hot(0)
		exec(t, b.db, `mutation { update_User(filter: {points: {_eq: 7}}, input: {name: "cool"}) { _docID } }`)
		for _, m := range readers[:hotUntil-1] {
			soon(t, m, `{ User { name } }`, `{"User":[{"name":"cool"}]}`)
		}
	})
}

// Who may not, or asks for nothing that there is, is told so.
func TestWatchesAreRefused(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, b, id := attack(t, w, true)
		shown := x.admission.with(a.id()).mine[claim{id, func() ident.Secret { s, _ := a.node.admission.secret(id); return s }()}]
		ask := func(m *watch) error {
			s, err := x.host.NewStream(t.Context(), a.id(), watchProtocols[0])
			if err != nil {
				t.Fatal(err)
			}
			defer s.Reset()
			wire := newWire(s, new(traffic))
			wire.version = protocolVersion
			if err := wire.send(m); err != nil {
				t.Fatal(err)
			}
			_, err = wire.receive()
			return err
		}
		code := func(err error) uint64 {
			if r, ok := err.(*refuse); ok {
				return r.Code
			}
			return 0
		}
		part := Scope{Filter: best}
		for name, c := range map[string]struct {
			ask  *watch
			want uint64
		}{
			"a stranger":    {&watch{Proof: fill[proof](9), Scope: part}, refusedAdmission},
			"the whole":     {&watch{Proof: shown, Scope: Scope{Whole: true}}, refusedInvalid},
			"nothing":       {&watch{Proof: shown}, refusedInvalid},
			"a wrong field": {&watch{Proof: shown, Scope: Scope{Filter: `{rank: {_eq: 1}}`}}, refusedInvalid},
			"a part":        {&watch{Proof: shown, Scope: part}, 0},
		} {
			if err := ask(c.ask); code(err) != c.want {
				t.Errorf("%s: %v, want code %d", name, err, c.want)
			}
		}
		// Who begins to keep a part does not tell others of it any longer.
		s, err := x.host.NewStream(t.Context(), a.id(), watchProtocols[0])
		if err != nil {
			t.Fatal(err)
		}
		open := newWire(s, new(traffic))
		open.version = protocolVersion
		open.send(&watch{Proof: shown, Scope: part})
		if m, err := expect[*watching](open); err != nil || len(m.Meet) > 0 {
			t.Fatalf("%+v, %v", m, err)
		}
		if err := a.node.Keep(t.Context(), "User", part); err != nil {
			t.Fatal(err)
		}
		if _, err := open.receive(); code(err) != refusedPart {
			t.Errorf("of a node that keeps a part since then: %v", err)
		}
		if err := ask(&watch{Proof: shown, Scope: part}); err != nil {
			t.Errorf("of a node that keeps a part itself: %v", err)
		}
		if err := a.node.Keep(t.Context(), "User", Scope{}); err != nil {
			t.Fatal(err)
		}
		if err := ask(&watch{Proof: shown, Scope: part}); code(err) != refusedPart {
			t.Errorf("of a node that keeps nothing: %v", err)
		}
		time.Sleep(time.Second)
		if n := a.node.Counters().Watchers; n != 0 {
			t.Errorf("%d watchers are left", n)
		}
		createUsers(t, b.db, "later", 1)
	})
}

// A watcher that does not read costs a bounded queue, and then its place.
func TestASlowWatcherIsToldToCompare(t *testing.T) {
	l := newLookouts()
	at := &lookout{id: dag.CollectionID{1}, scope: Scope{Docs: []dag.DocID{{2}}}, watchers: map[*watcher]bool{}}
	x := &watcher{peer: "x", on: at, wake: make(chan struct{}, 1)}
	at.watchers[x] = true
	l.add(at)
	c := pando.Change{Collection: at.id, Doc: dag.DocID{2}}
	for range maxWatchQueue {
		l.tell(c)
	}
	if x.lost || len(x.changes) != maxWatchQueue {
		t.Fatalf("%d changes wait, lost: %v", len(x.changes), x.lost)
	}
	l.tell(pando.Change{Collection: at.id, Doc: dag.DocID{3}})
	if x.lost {
		t.Error("a change of another document counts")
	}
	l.tell(c)
	l.tell(c)
	if !x.lost || len(x.changes) != 0 {
		t.Errorf("%d changes wait still, lost: %v", len(x.changes), x.lost)
	}
}

// Whatever a peer says in the topic of a document, nobody takes another document
// from it, and who does not know the secret says nothing at all.
func TestTheTopicOfADocumentIsForThatAlone(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(2)
		a, b := ms[0], ms[1]
		id := addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "user", 2)
		startAll(ms)
		converge(t, 10*time.Second, ms...)
		var said []string // in place of two documents
		var docs []dag.DocID
		for block, err := range b.db.Replica().Full(t.Context(), id, dag.DocID{}) {
			if err != nil {
				t.Fatal(err)
			}
			items, err := appendTold(nil, block.Envelope, inlineBytes)
			if err != nil {
				t.Fatal(err)
			}
			docs, said = append(docs, block.Doc), append(said, string(items))
		}
		at := a.node.openHot(wantKey{id, docs[0]})
		say := func(n int) []byte { return announced(id, 1, []byte(said[n])) }
		for name, c := range map[string]struct {
			said []byte
			err  error
			want gossip.Verdict
		}{
			"the document": {say(0), nil, gossip.Accept},
			"another":      {say(1), nil, gossip.Reject},
			"of nobody":    {nil, fault.Invalid.Errorf("under another key"), gossip.Reject},
			"nothing":      {nil, nil, gossip.Reject},
			"much":         {make([]byte, maxGossip), nil, gossip.Reject},
		} {
			if got := a.node.announcer.hear(at.Channel, at.doc, b.id(), c.said, c.err); got != c.want {
				t.Errorf("%s: judged %d, want %d", name, got, c.want)
			}
		}
		a.node.closeHot(at)
		for i := range maxHot {
			if a.node.openHot(wantKey{id, dag.DocID{byte(i), byte(i >> 8), 1}}) == nil {
				t.Fatalf("no room for topic %d of a document", i)
			}
		}
		if a.node.openHot(wantKey{id, docs[0]}) != nil {
			t.Errorf("more than %d topics of documents", maxHot)
		}
	})
}

// What is watched leaves nothing behind, and is bounded.
func TestWatchedDocumentsAreBounded(t *testing.T) {
	l := newLookouts()
	var all []*lookout
	for i := 0; ; i++ {
		at := &lookout{id: dag.CollectionID{1}, form: fmt.Sprint(i)}
		for j := range pando.MaxScopeDocs {
			at.scope.Docs = append(at.scope.Docs, dag.DocID{byte(i), byte(j >> 8), byte(j)})
		}
		if !l.add(at) {
			break
		}
		all = append(all, at)
	}
	if l.docs != maxNamedDocs || len(l.named) != maxNamedDocs {
		t.Errorf("%d documents are watched, want %d", l.docs, maxNamedDocs)
	}
	for _, at := range all {
		l.remove(at)
	}
	if l.docs+len(l.named)+len(l.of)+len(l.filters) != 0 {
		t.Errorf("%d documents are watched by nobody", l.docs)
	}
}

// What watchers cost whoever writes.
func BenchmarkTellLookouts(b *testing.B) {
	l := newLookouts()
	id := dag.CollectionID{1}
	for i := range maxWatches {
		at := &lookout{id: id, form: fmt.Sprint(i), watchers: map[*watcher]bool{}}
		for j := range 64 {
			at.scope.Docs = append(at.scope.Docs, dag.DocID{byte(i), byte(j)})
		}
		at.watchers[&watcher{on: at, wake: make(chan struct{}, 1)}] = true
		l.add(at)
	}
	c := pando.Change{Collection: id, Doc: dag.DocID{7, 7}, Origin: "x"}
	for b.Loop() {
		l.tell(c)
	}
}

// That more changed than can be told is told of what the watcher may read alone, however
// much else changes while it does not read.
func TestWhatMayNotBeReadOverflowsNothing(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ada := persons(t, w, 1)[0]
		ada.start()
		secret, public := ada.writes("secret")[0], ada.writes("public")[0]
		ada.shares(public, "reader", "*")
		note, err := ada.db.Collection("Note")
		if err != nil {
			t.Fatal(err)
		}
		for doc, want := range map[pando.DocID]bool{secret: false, public: true} {
			x, err := ada.node.watchFrom(t.Context(), keyPeer(t, 7), note.ID, Scope{Docs: []pando.DocID{doc}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			var sifting sync.WaitGroup
			sifting.Go(func() { ada.node.sift(ctx, x) })
			l, commit := ada.node.lookouts, ada.holds("Note")[doc][0]
			for range maxWatchQueue / 64 * 2 {
				l.mu.Lock()
				for range 64 {
					x.take(pando.Change{Collection: note.ID, Doc: doc, Commit: commit})
				}
				l.mu.Unlock()
				synctest.Wait()
			}
			stop()
			sifting.Wait()
			l.mu.Lock()
			lost, ready := x.lost, len(x.ready)
			l.mu.Unlock()
			if lost != want || ready > maxWatchQueue {
				t.Errorf("after %d changes something is lost: %v, want %v; %d wait", 2*maxWatchQueue, lost, want, ready)
			}
			ada.node.watchEnds(x)
		}
	})
}

func keyPeer(t *testing.T, i int) peer.ID {
	t.Helper()
	id, err := peer.IDFromPrivateKey(keyOf(t, i))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

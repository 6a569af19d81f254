package p2p

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
)

const best = `{points: {_ge: 90}}`

// heldPart describes what a member holds of a scope: documents with their heads.
func heldPart(t *testing.T, m *member, s Scope) map[dag.DocID][32]byte {
	t.Helper()
	c, err := m.db.Collection("User")
	if err != nil {
		return nil
	}
	matcher, err := m.db.Replica().Matcher(c.ID, s)
	if err != nil {
		t.Fatal(err)
	}
	held := map[dag.DocID][32]byte{}
	for e, err := range matcher.All(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		held[e.Key] = e.Sum
	}
	return held
}

// agree waits until two members hold the same of a scope, and returns how many
// documents that are.
func agree(t *testing.T, within time.Duration, s Scope, a, b *member) int {
	t.Helper()
	n := 0
	eventually(t, within, func() (bool, string) {
		x, y := heldPart(t, a, s), heldPart(t, b, s)
		n = len(x)
		return y != nil && maps.Equal(x, y), fmt.Sprintf("%s: %d documents here, %d there", s, len(x), len(y))
	})
	return n
}

// stateOf returns what a member's status says of its copy and that of another.
func stateOf(t *testing.T, m, of *member) PeerCollection {
	t.Helper()
	st, err := m.node.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range st.Peers {
		if p.ID == of.id().String() && len(p.Collections) == 1 {
			return p.Collections[0]
		}
	}
	return PeerCollection{}
}

// halves makes a node that has a hundred users, and one that joins it for the best ten.
func halves(t *testing.T, w *world) (whole, part *member) {
	t.Helper()
	whole, part = w.member(0), w.member(1)
	addSchema(t, whole.db, schemaText)
	createUsers(t, whole.db, "user", 100)
	whole.start()
	part.start()
	ticket, err := whole.node.Share(nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := part.node.JoinPart(t.Context(), ticket, Scope{Filter: best}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.Documents != 10 || !strings.Contains(res.Collections[0].Part, best) {
		t.Fatalf("joined %+v", res)
	}
	return whole, part
}

// A node that joined for a part has that, whatever becomes of the documents, and
// nothing else; what it writes itself reaches the others, be it of the part or not.
func TestAPartIsFollowed(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		whole, part := halves(t, w)
		s := Scope{Filter: best}
		if n := documents(t, part); n != 10 {
			t.Fatalf("%d documents came, want the 10 of the part", n)
		}
		for _, step := range []struct {
			what    string
			at      *member
			request string
			want    int // documents of the part
			held    uint64
		}{
			{"documents enter", whole, `mutation { update_User(filter: {points: {_lt: 5}}, input: {points: 95}) { _docID } }`, 15, 15},
			{"documents leave", whole, `mutation { update_User(filter: {points: {_gt: 97}}, input: {points: 1}) { _docID } }`, 13, 15},
			{"documents are deleted", whole, `mutation { delete_User(filter: {points: {_eq: 95}}) { _docID } }`, 7, 15},
			{"one is made elsewhere", whole, `mutation { create_User(input: {name: "new", points: 99}) { _docID } }`, 8, 16},
			{"one is made here", part, `mutation { create_User(input: {name: "own", points: 99}) { _docID } }`, 9, 17},
			{"one is taken out here", part, `mutation { update_User(filter: {name: {_eq: "own"}}, input: {points: 2}) { _docID } }`, 8, 17},
			{"one is put back elsewhere", whole, `mutation { update_User(filter: {name: {_eq: "own"}}, input: {points: 92}) { _docID } }`, 9, 17},
			{"one is deleted here", part, `mutation { delete_User(filter: {name: {_eq: "own"}}) { _docID } }`, 8, 17},
		} {
			exec(t, step.at.db, step.request)
			took := eventually(t, 5*time.Second, func() (bool, string) {
				x, y := heldPart(t, whole, s), heldPart(t, part, s)
				return maps.Equal(x, y) && len(x) == step.want, fmt.Sprintf("%s: %d documents at the whole, %d at the part, want %d", step.what, len(x), len(y), step.want)
			})
			if n := documents(t, part); n != step.held {
				t.Errorf("%s: %d documents are held in all, want %d", step.what, n, step.held)
			}
			t.Logf("%s: after %v", step.what, took)
		}
		// Outside of the part, too, what this node writes is not only its own.
		exec(t, part.db, `mutation { create_User(input: {name: "loose", points: 3}) { _docID } }`)
		eventually(t, 5*time.Second, func() (bool, string) {
			got := exec(t, whole.db, `{ User(filter: {name: {_eq: "loose"}}) { points } }`)
			return got == `{"User":[{"points":3}]}`, got
		})
		for _, of := range [][2]*member{{part, whole}, {whole, part}} {
			eventually(t, 5*time.Second, func() (bool, string) {
				c := stateOf(t, of[0], of[1])
				return c.State == Identical && strings.Contains(c.Part, best), fmt.Sprintf("%+v", c)
			})
		}
		cov := part.node.Kept()
		if len(cov) != 1 || cov[0].Scope.Whole || cov[0].From != whole.id().String() || time.Since(cov[0].AsOf) > time.Minute {
			t.Errorf("coverage %+v", cov)
		}
		if got := whole.node.Counters().Mismatches + part.node.Counters().Mismatches; got != 0 {
			t.Errorf("%d mismatches", got)
		}
	})
}

// Right after a part was changed, the status on neither side counts documents as
// different that are the same: it says that it is finding out, at most.
func TestAChangeOfAPartMakesNoDifference(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "user", 100)
		startAll([]*member{a, b})
		converge(t, 10*time.Second, a, b)
		createUsers(t, b.db, "other", 100)
		converge(t, 10*time.Second, a, b) // and what is here stays here
		for _, s := range []Scope{{Filter: `{points: {_ge: 30}}`}, {Filter: `{points: {_lt: 30}}`}, pando.Whole, {Filter: best}} {
			for _, m := range []*member{a, b, a} {
				if err := m.node.Keep(t.Context(), "User", s); err != nil {
					t.Fatal(err)
				}
				end := time.Now().Add(2 * time.Minute)
				for same := false; !same; time.Sleep(300 * time.Millisecond) {
					x, y := stateOf(t, a, b), stateOf(t, b, a)
					same = x.State == Identical && y.State == Identical
					for _, c := range []PeerCollection{x, y} {
						if c.State != Identical && c.State != Comparing {
							t.Fatalf("%s: after node %d keeps it: %+v", s, m.i, c)
						}
					}
					if time.Now().After(end) {
						t.Fatalf("%s: still %+v and %+v", s, x, y)
					}
				}
			}
		}
	})
}

// What is kept can be said anew at any time, and survives restarts.
func TestAPartIsChanged(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		whole := w.member(0)
		part := w.memberAt(1, t.TempDir())
		addSchema(t, whole.db, schemaText)
		createUsers(t, whole.db, "user", 100)
		whole.start()
		part.start()
		ticket, err := whole.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		docs := slices.SortedFunc(maps.Keys(heldPart(t, whole, Scope{Filter: `{points: {_in: [1, 2, 3]}}`})), dag.DocID.Compare)
		if _, err := part.node.JoinPart(t.Context(), ticket, Scope{Docs: docs}, nil); err != nil {
			t.Fatal(err)
		}
		if n := documents(t, part); n != 3 {
			t.Fatalf("%d documents, want the 3 that were named", n)
		}
		keep := func(s Scope) {
			t.Helper()
			if err := part.node.Keep(t.Context(), "User", s); err != nil {
				t.Fatal(err)
			}
		}
		part.restart()
		exec(t, whole.db, `mutation { delete_User(filter: {points: {_eq: 2}}) { _docID } }`)
		agree(t, 30*time.Second, Scope{Docs: docs}, whole, part)
		if got := exec(t, part.db, `{ _count(User: {}) }`); got != `{"_count":2}` {
			t.Errorf("after a deletion: %s", got)
		}

		keep(Scope{Filter: best, Docs: docs[:1]})
		if n := agree(t, 5*time.Second, Scope{Filter: best}, whole, part); n != 10 {
			t.Errorf("%d documents of the new part, want 10", n)
		}
		if n := documents(t, part); n != 13 {
			t.Errorf("%d documents, want 13: what is here stays", n)
		}
		keep(Scope{})
		part.restart()
		eventually(t, 30*time.Second, func() (bool, string) {
			c := stateOf(t, part, whole)
			return c.State == Identical && c.Part == "none", fmt.Sprintf("%+v", c)
		})
		createUsers(t, whole.db, "later", 95)
		exec(t, part.db, `mutation { create_User(input: {name: "mine", points: 1}) { _docID } }`)
		eventually(t, 30*time.Second, func() (bool, string) {
			got := exec(t, whole.db, `{ User(filter: {name: {_eq: "mine"}}) { points } }`)
			return got == `{"User":[{"points":1}]}`, got
		})
		if n := documents(t, part); n != 14 {
			t.Errorf("%d documents, want 14: nothing is kept", n)
		}
		keep(pando.Whole)
		converge(t, 10*time.Second, whole, part)
		if c := stateOf(t, part, whole); c.State != Identical || c.Part != "" {
			t.Errorf("kept whole again: %+v", c)
		}
	})
}

// Whatever all write, and whatever is kept: in the end a part holds exactly what the
// query selects where all is, besides what was its own, or belonged to it, at some time.
// PANDO_LONG=1 tries many histories more.
func TestPartEqualsQuery(t *testing.T) {
	seeds := uint64(3)
	if os.Getenv("PANDO_LONG") != "" {
		seeds = 300
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			simulate(t, 10*time.Millisecond, func(t *testing.T, w *world) { partHistory(t, w, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func partHistory(t *testing.T, w *world, r *rand.Rand) {
	whole := w.member(0)
	parts := []*member{w.memberAt(1, t.TempDir()), w.member(2)}
	all := append([]*member{whole}, parts...)
	addSchema(t, whole.db, schemaText)
	createUsers(t, whole.db, "user", 60)
	for _, m := range all {
		m.start()
	}
	ticket, err := whole.node.Share(nil)
	if err != nil {
		t.Fatal(err)
	}
	scopes := []Scope{randomPart(r), randomPart(r)}
	for i, m := range parts {
		if _, err := m.node.JoinPart(t.Context(), ticket, scopes[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	if r.IntN(2) == 0 {
		if err := parts[0].node.Connect(t.Context(), parts[1].addr()); err != nil {
			t.Fatal(err)
		}
	}
	for step := range 8 {
		apart := r.IntN(3)
		if apart == 0 {
			w.cut(all[:1], parts)
			time.Sleep(time.Duration(r.IntN(60)) * time.Second)
		}
		for range 1 + r.IntN(5) {
			exec(t, all[r.IntN(3)].db, randomWrite(r))
		}
		switch i := r.IntN(2); r.IntN(6) {
		case 0, 1:
			scopes[i] = randomPart(r)
			if err := parts[i].node.Keep(t.Context(), "User", scopes[i]); err != nil {
				t.Fatal(err)
			}
		case 2:
			parts[0].restart()
		}
		if apart == 0 {
			w.heal(all[:1], parts)
		}
		for i, m := range parts {
			end := time.Now().Add(5 * time.Minute)
			for why := apartStill(t, whole, m, scopes[i]); why != ""; why = apartStill(t, whole, m, scopes[i]) {
				if time.Now().After(end) {
					t.Fatalf("step %d, node %d: %s", step, m.i, why)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
	for _, m := range all {
		if c := m.node.Counters(); c.Mismatches+c.Breaches > 0 {
			t.Errorf("node %d: %d mismatches, %d breaches", m.i, c.Mismatches, c.Breaches)
		}
	}
}

// apartStill says what a part lacks, or has not given, if anything.
func apartStill(t *testing.T, whole, part *member, s Scope) string {
	t.Helper()
	if a, b := heldPart(t, whole, s), heldPart(t, part, s); !maps.Equal(a, b) {
		return fmt.Sprintf("%s: %d documents at the whole, %d here", s, len(a), len(b))
	}
	id := addedID(t, part)
	for doc := range heldPart(t, part, pando.Whole) {
		heads, err := part.db.Replica().Heads(context.Background(), id, doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range heads {
			if _, err := whole.db.Replica().Block(context.Background(), h); err != nil {
				return fmt.Sprintf("a change of document %s has not reached the whole: %v", doc, err)
			}
		}
	}
	return ""
}

func randomPart(r *rand.Rand) Scope {
	return Scope{Filter: []string{
		fmt.Sprintf(`{points: {_lt: %d}}`, r.IntN(60)),
		fmt.Sprintf(`{_or: [{points: {_eq: %d}}, {name: {_like: "user%d%%"}}]}`, r.IntN(60), r.IntN(6)),
		fmt.Sprintf(`{_not: {points: {_in: [%d, %d]}}}`, r.IntN(60), r.IntN(60)),
		`{name: {_like: "own%"}}`,
	}[r.IntN(4)]}
}

func randomWrite(r *rand.Rand) string {
	switch r.IntN(4) {
	case 0:
		return fmt.Sprintf(`mutation { create_User(input: {name: "own%d", points: %d}) { _docID } }`, r.IntN(1<<30), r.IntN(60))
	case 1:
		return fmt.Sprintf(`mutation { delete_User(filter: {points: {_eq: %d}}) { _docID } }`, r.IntN(60))
	}
	return fmt.Sprintf(`mutation { update_User(filter: {points: {_eq: %d}}, input: {points: %d}) { _docID } }`, r.IntN(60), r.IntN(60))
}

// Two nodes that keep different parts bring together what belongs to both.
func TestPartsOverlap(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		whole, low := halves(t, w)
		high := w.member(2)
		high.start()
		ticket, err := whole.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := high.node.JoinPart(t.Context(), ticket, Scope{Filter: `{points: {_gt: 94}}`}, nil); err != nil {
			t.Fatal(err)
		}
		whole.stop()
		ticket, err = low.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := high.node.Join(t.Context(), ticket, nil); err != nil {
			t.Fatal(err)
		}
		exec(t, low.db, `mutation { update_User(filter: {points: {_eq: 91}}, input: {points: 191}) { _docID } }`)
		exec(t, high.db, `mutation { update_User(filter: {points: {_eq: 99}}, input: {points: 199}) { _docID } }`)
		agree(t, 10*time.Second, Scope{Filter: `{points: {_gt: 94}}`}, low, high)
		if got := heldPart(t, high, pando.Whole); len(got) != 6 {
			t.Errorf("%d documents, want the 5 it had and the one that entered", len(got))
		}
		eventually(t, 10*time.Second, func() (bool, string) {
			c := stateOf(t, high, low)
			return c.State == Identical && c.Part != "", fmt.Sprintf("%+v", c)
		})
		if cov := high.node.Kept()[0]; cov.From != whole.id().String() {
			t.Errorf("a part that is complete as far as another part knows: %+v", cov)
		}
	})
}

// Who keeps all of a collection, and got it from one that keeps a part, knows of no
// more than that: to be the same as such a node makes no part complete.
func TestAPartIsNotCompleteByOneThatLacks(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		whole, part := halves(t, w)
		whole.stop()
		createUsers(t, whole.db, "missed", 100)
		was := part.node.Kept()[0]
		other := w.member(2)
		other.start()
		ticket, err := part.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.node.Join(t.Context(), ticket, nil); !errors.Is(err, pando.ErrUnavailable) || !strings.Contains(err.Error(), "keeps a part only") {
			t.Fatalf("joining for all by the ticket of who keeps a part gives %v", err)
		}
		time.Sleep(5 * time.Minute)
		if c := stateOf(t, part, other); c.State != Identical {
			t.Fatalf("they are not the same: %+v", c)
		}
		if now := part.node.Kept()[0]; now.From != was.From || now.AsOf.Sub(was.AsOf) > time.Second {
			t.Errorf("complete by comparison with a node that was not: %+v, before %+v", now, was)
		}
		whole.start(other)
		eventually(t, 5*time.Minute, func() (bool, string) {
			now := other.node.Kept()[0]
			return now.From == whole.id().String() && now.Complete(), fmt.Sprintf("%+v", now)
		})
		eventually(t, 5*time.Minute, func() (bool, string) {
			now := part.node.Kept()[0]
			return now.AsOf.Sub(was.AsOf) > 5*time.Minute && documents(t, part) == 20, fmt.Sprintf("%+v", now)
		})
	})
}

// A replicator of a part gives a new peer that part, and the peer keeps no more.
func TestReplicatorOfAPart(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.memberAt(0, t.TempDir()), w.member(1)
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "user", 100)
		a.start()
		b.start(a)
		s := Scope{Filter: best}
		if err := a.node.AddPartReplicator(t.Context(), b.addr(), []string{"User"}, s); err != nil {
			t.Fatal(err)
		}
		if n := agree(t, 10*time.Second, s, a, b); n != 10 {
			t.Fatalf("%d documents, want 10", n)
		}
		exec(t, a.db, `mutation { update_User(filter: {points: {_lt: 2}}, input: {points: 200}) { _docID } }`)
		if n := agree(t, 10*time.Second, s, a, b); n != 12 {
			t.Fatalf("%d documents, want 12", n)
		}
		if n := documents(t, b); n != 12 {
			t.Errorf("%d documents at the peer, want 12", n)
		}
		if kept := b.node.Kept()[0]; !kept.Scope.Equal(s) {
			t.Errorf("the peer keeps %s", kept.Scope)
		}
		eventually(t, 10*time.Second, func() (bool, string) {
			r := a.node.Replicators()[0]
			return r.State == Active && r.Behind == 0 && r.Lag == 0 && r.Parts["User"].Equal(s), fmt.Sprintf("%+v", r)
		})
		a.restart()
		if r := a.node.Replicators()[0]; !r.Parts["User"].Equal(s) {
			t.Errorf("after a restart %+v", r)
		}
	})
}

// A peer that has the whole of a collection is given a part like any other: what it lacks.
func TestReplicatorOfAPartToAWhole(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		addSchema(t, b.db, schemaText)
		createUsers(t, a.db, "user", 100)
		createUsers(t, b.db, "other", 3)
		a.start()
		b.start(a)
		if err := a.node.AddPartReplicator(t.Context(), b.addr(), []string{"User"}, Scope{Filter: best}); err != nil {
			t.Fatal(err)
		}
		converge(t, 10*time.Second, a, b) // it asks for the rest itself
		if !b.node.Kept()[0].Scope.Whole {
			t.Errorf("the peer keeps %s", b.node.Kept()[0].Scope)
		}
		eventually(t, 10*time.Second, func() (bool, string) {
			r := a.node.Replicators()[0]
			return r.State == Active && r.Behind == 0, fmt.Sprintf("%+v", r)
		})
	})
}

// A peer that keeps another part takes nothing that lies outside of it: the replicator
// does not take that for acknowledged, and says what is wrong.
func TestReplicatorToAPeerWithAnotherPart(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := halves(t, w)
		for _, step := range []struct {
			what string
			part Scope
			want State
		}{
			{"another part", Scope{Filter: `{points: {_lt: 5}}`}, Failing},
			{"all of it", pando.Whole, Failing},
			{"the same part", Scope{Filter: best}, Active},
			{"what lies within", Scope{Filter: `{points: {_gt: 95}}`}, Active},
		} {
			if err := a.node.AddPartReplicator(t.Context(), b.addr(), []string{"User"}, step.part); err != nil {
				t.Fatal(err)
			}
			createUsers(t, a.db, step.what, 3)
			told := func() bool {
				r := a.node.Replicators()[0]
				if step.want == Active {
					return r.State == Active && r.Behind == 0
				}
				return r.State == Failing && r.Behind > 0 && strings.Contains(r.Problem, best)
			}
			eventually(t, 5*time.Minute, func() (bool, string) {
				return told(), fmt.Sprintf("%s: %+v", step.what, a.node.Replicators()[0])
			})
			time.Sleep(5 * time.Minute)
			if !told() {
				t.Errorf("%s: later %+v", step.what, a.node.Replicators()[0])
			}
		}
	})
}

// Documents that are named at the same time are all kept.
func TestDocumentsAreNamedAtOnce(t *testing.T) {
	db := openDB(t, "")
	addSchema(t, db, schemaText)
	n := startNode(t, db, Config{})
	if err := n.Keep(t.Context(), "User", Scope{}); err != nil {
		t.Fatal(err)
	}
	const many = 64
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			if err := n.KeepDocs(t.Context(), "User", []dag.DocID{{byte(i)}}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := len(n.Kept()[0].Scope.Docs); got != many {
		t.Errorf("%d documents are kept, want %d", got, many)
	}
}

// What cannot be told from the rest is refused, on the spot or by the peer.
func TestPartsThatCannotBeTold(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		whole, part := w.member(0), w.member(1)
		addSchema(t, whole.db, schemaText)
		createUsers(t, whole.db, "user", 10)
		whole.start()
		part.start()
		ticket, err := whole.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = part.node.JoinPart(t.Context(), ticket, Scope{Filter: `{rank: {_eq: 1}}`}, nil)
		if !errors.Is(err, pando.ErrInvalid) || !strings.Contains(err.Error(), "rank") {
			t.Fatalf("joined for a field that there is not: %v", err)
		}
		time.Sleep(2 * time.Minute) // in which anything that was left of it would show
		if kept := part.node.Kept(); len(kept) > 0 || part.node.partial(addedID(t, whole)) {
			t.Errorf("after a join in vain %+v is kept", kept)
		}
		if known, err := part.node.notes.peers(); err != nil || len(known) > 0 {
			t.Errorf("after a join in vain %v are remembered, %v", known, err)
		}
		if ring, _ := part.node.admission.keys(); len(ring.ids) > 0 {
			t.Errorf("after a join in vain there are secrets of %v", ring.ids)
		}
		if _, err := part.node.Join(t.Context(), ticket, nil); err != nil {
			t.Fatal(err)
		}
		converge(t, 10*time.Second, whole, part)
		// Of a collection that is here already nothing changes either.
		if _, err := part.node.JoinPart(t.Context(), ticket, Scope{Filter: `{rank: {_eq: 1}}`}, nil); !errors.Is(err, pando.ErrInvalid) {
			t.Errorf("joined for a field that there is not: %v", err)
		}
		if s := part.node.Kept()[0].Scope; !s.Whole {
			t.Errorf("after a join in vain %s is kept", s)
		}
		if err := part.node.Keep(t.Context(), "User", Scope{Filter: `{rank: {_eq: 1}}`}); !errors.Is(err, pando.ErrInvalid) {
			t.Errorf("kept by a field that there is not: %v", err)
		}
		// A version that only one side uses.
		second := patchUser(t, part.db, `[{"op": "add", "path": "/User/Fields/-", "value": {"Name": "rank", "Kind": "Int"}}]`)
		if err := part.node.Keep(t.Context(), "User", Scope{Filter: `{rank: {_eq: 1}}`}); err != nil {
			t.Fatal(err)
		}
		for _, of := range [][2]*member{{part, whole}, {whole, part}} {
			eventually(t, 10*time.Second, func() (bool, string) {
				c := stateOf(t, of[0], of[1])
				return c.State == Uncomparable && strings.Contains(c.Problem, "rank"), fmt.Sprintf("%+v", c)
			})
		}
		if c := stateOf(t, part, whole); strings.HasSuffix(c.Problem, ".") {
			t.Errorf("a clause, and more may follow it: %q", c.Problem)
		}
		if f := graded(t, examine(t, part.node, ""), "peer "+whole.id().String()); f.Grade != Problem || !strings.Contains(f.Hint, "version of the collection") {
			t.Errorf("the doctor finds %+v", f)
		}
		eventually(t, 10*time.Second, func() (bool, string) { return len(whole.db.Versions()) == 2, "the version does not travel" })
		if _, err := whole.db.ActivateVersion(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		exec(t, whole.db, `mutation { create_User(input: {name: "first", rank: 1}) { _docID } }`)
		if n := agree(t, 2*time.Minute, Scope{Filter: `{rank: {_eq: 1}}`}, whole, part); n != 1 {
			t.Errorf("%d documents, want 1", n)
		}
	})
}

// Two that use different versions may read one document differently, so that it belongs
// to a part here and not there although both hold the same. No database is damaged then:
// the status says what it is, and what to do.
func TestAPartIsReadOtherwise(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		whole, part := w.member(0), w.member(1)
		addSchema(t, whole.db, schemaText)
		createUsers(t, whole.db, "user", 10)
		startAll([]*member{whole, part})
		converge(t, 10*time.Second, whole, part)
		const rank = `[{"op": "add", "path": "/User/Fields/-", "value": {"Name": "rank", "Kind": "Int"}}]`
		first := patchUser(t, whole.db, rank, pando.Migration{Do: "default", To: []string{"rank"}, Value: []byte("1")})
		patchUser(t, part.db, rank, pando.Migration{Do: "default", To: []string{"rank"}, Value: []byte("2")})
		eventually(t, time.Minute, func() (bool, string) { return len(part.db.Versions()) == 3, "the version does not travel" })
		s := Scope{Filter: `{rank: {_eq: 1}}`}
		if err := part.node.Keep(t.Context(), "User", s); err != nil {
			t.Fatal(err)
		}
		for _, of := range [][2]*member{{part, whole}, {whole, part}} {
			eventually(t, 5*time.Minute, func() (bool, string) {
				c := stateOf(t, of[0], of[1])
				return c.State == Differs && c.Differ == 10 && strings.Contains(c.Problem, "version"), fmt.Sprintf("node %d: %+v", of[0].i, c)
			})
		}
		time.Sleep(time.Hour)
		for _, m := range []*member{whole, part} {
			if c := m.node.Counters(); c.Mismatches+c.Blamed > 0 || c.Sessions > 200 {
				t.Errorf("node %d: %d mismatches, blamed %d times, %d sessions", m.i, c.Mismatches, c.Blamed, c.Sessions)
			}
		}
		if part.node.Kept()[0].Complete() {
			t.Error("the part is said to be complete")
		}
		if _, err := part.db.ActivateVersion(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Minute, func() (bool, string) {
			c, d := stateOf(t, part, whole), stateOf(t, whole, part)
			return c.State == Identical && d.State == Identical && c.Problem == "", fmt.Sprintf("%+v %+v", c, d)
		})
	})
}

// onlyOldest takes back what a member speaks but for the first version of the protocol.
func onlyOldest(m *member) {
	for _, id := range syncProtocols[:len(syncProtocols)-1] {
		m.host.RemoveStreamHandler(id)
	}
}

// Peers of the first version of the protocol know of no parts: with them such a
// collection is not synced, and the status says why.
func TestOlderPeersGetNoParts(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		whole, part := halves(t, w)
		for _, m := range []*member{whole, part} {
			onlyOldest(m)
		}
		part.stop()
		part.start()
		onlyOldest(part)
		if err := part.node.Connect(t.Context(), whole.addr()); err != nil {
			t.Fatal(err)
		}
		createUsers(t, whole.db, "later", 100)
		time.Sleep(2 * time.Minute)
		if n := documents(t, part); n != 10 {
			t.Errorf("%d documents, want the 10 of before", n)
		}
		if c := stateOf(t, part, whole); c.State != Outdated || c.Problem == "" {
			t.Errorf("the part says %+v", c)
		}
		if c := stateOf(t, whole, part); c.State == Identical || c.State == Differs {
			t.Errorf("the whole says %+v", c)
		}
	})
}

// What a comparison of parts costs follows what differs, not what there is.
func TestPartsCostTheirDifference(t *testing.T) {
	simulate(t, 50*time.Millisecond, func(t *testing.T, w *world) {
		whole, part := w.member(0), w.member(1)
		addSchema(t, whole.db, schemaText)
		createUsers(t, whole.db, "user", 10_000)
		whole.start()
		part.start()
		ticket, err := whole.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.node.JoinPart(t.Context(), ticket, Scope{Filter: `{points: {_lt: 5000}}`}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		cost := func() (bytes, trips uint64) {
			t.Helper()
			before := part.node.Counters()
			if _, err := part.node.sync(t.Context(), whole.id(), errand{}); err != nil {
				t.Fatal(err)
			}
			after := part.node.Counters()
			return after.Sent + after.Received - before.Sent - before.Received, after.RoundTrips - before.RoundTrips
		}
		bytes, trips := cost()
		if trips > 2 { // something else was said meanwhile
			bytes, trips = cost()
		}
		if bytes > 400 || trips > 2 {
			t.Errorf("in sync: %d bytes in %d round trips, want at most 400 in 2", bytes, trips)
		}
		w.cut([]*member{whole}, []*member{part})
		exec(t, whole.db, `mutation { update_User(filter: {points: {_lt: 10}}, input: {points: 1}) { _docID } }`)
		exec(t, whole.db, `mutation { update_User(filter: {points: {_gt: 9990}}, input: {points: 9000}) { _docID } }`)
		w.heal([]*member{whole}, []*member{part})
		bytes, trips = cost()
		if bytes > 16<<10 || trips > 9 {
			t.Errorf("10 of 5,000 differ: %d bytes in %d round trips, want at most 16 KiB in 9", bytes, trips)
		}
		t.Logf("10 of 5,000 differ: %d bytes in %d round trips", bytes, trips)
	})
}

// Who keeps a part is not taken for one that has the whole, from whichever side it was
// heard of last.
func TestAPartIsNoSourceOfTheWhole(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		whole, part := halves(t, w)
		other := w.member(2)
		other.start()
		ticket, err := whole.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.node.Join(t.Context(), ticket, nil); err != nil {
			t.Fatal(err)
		}
		if err := other.node.Connect(t.Context(), part.addr()); err != nil {
			t.Fatal(err)
		}
		id := addedID(t, other)
		time.Sleep(5 * time.Second)
		for _, x := range [][2]*member{{part, other}, {other, part}} {
			if _, err := x[0].node.sync(t.Context(), x[1].id(), errand{}); err != nil {
				t.Fatal(err)
			}
			if got := other.node.sources(id, whole.id(), 100); len(got) > 0 {
				t.Errorf("%v is asked for the whole", got)
			}
		}
	})
}

func addedID(t *testing.T, m *member) pando.CollectionID {
	t.Helper()
	c, err := m.db.Collection("User")
	if err != nil {
		t.Fatal(err)
	}
	return c.ID
}

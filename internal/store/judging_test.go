package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
)

// people who may do something with a paper write commits of all kinds by hand, each on
// top of whatever it likes.
type crowd struct {
	t       tester
	ann     *node
	team    *dag.Commit
	id      dag.DocID
	commits []*dag.Commit // parents first
}

func newCrowd(t tester, sealed bool) *crowd {
	w := &crowd{t: t, ann: newNode(t, "ann").policed()}
	team := w.ann.create("Team", "name", "crew")
	if sealed {
		w.id = w.ann.createSealed(whole, "title", "draft")
	} else {
		w.id = w.ann.create("Paper", "title", "draft")
	}
	w.ann.mustDo("Team", team, grantTo("member", person("cleo")))
	w.ann.mustDo("Paper", w.id, grantTo("writer", person("bob")), grantTo("admin", person("dan")), grantTo("writer", memberOf(team)))
	w.ann.view(func(tx *Tx) error {
		for a, err := range tx.History(w.ann.coll("Paper"), w.id) {
			if err != nil {
				return err
			}
			w.commits = append(w.commits, a.Commit)
		}
		for a, err := range tx.History(w.ann.coll("Team"), team) {
			if err != nil {
				return err
			}
			w.team = a.Commit
		}
		return nil
	})
	return w
}

// write makes a commit on top of others.
func (w *crowd) write(who string, deltas []crdt.Delta, auth bool, parents ...*dag.Commit) *dag.Commit {
	c := dag.Commit{Doc: w.id, Height: 1, Deltas: deltas, Schema: parents[0].Schema}
	for _, p := range parents {
		c.Parents = append(c.Parents, p.CID)
		c.Height, c.HLC = max(c.Height, p.Height+1), max(c.HLC, p.HLC+1)
	}
	if auth {
		c.Auth = []dag.CID{w.team.CID}
	}
	return forge(w.t, keyOf(who), c)
}

// gets merges commits, and passes over those that no node applies.
func (n *node) gets(cs ...*dag.Commit) (refused []dag.CID) {
	n.t.Helper()
	for len(cs) > 0 {
		_, err := n.Merge(context.Background(), n.coll("Paper").ID, envelopes(cs...), "peer")
		var bad *InvalidCommit
		if !errors.As(err, &bad) {
			if err != nil {
				n.t.Fatal(err)
			}
			return refused
		}
		refused, cs = append(refused, bad.CID), cs[bad.Index+1:]
	}
	return refused
}

// Events that come beside each other in one pack are looked at together at its end: they
// come to what they come to one by one.
func TestACrowdInOnePackIsJudgedAsOneByOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newCrowd(t, rapid.Bool().Draw(t, "encrypted"))
		for i := range rapid.IntRange(2, 40).Draw(t, "commits") {
			some := rapid.SampledFrom(w.commits[1:])
			parents := []*dag.Commit{some.Draw(t, "parent")}
			if p := some.Draw(t, "another"); p != parents[0] && bytes.Compare(parents[0].CID[:], p.CID[:]) < 0 {
				parents = append(parents, p)
			}
			whom := person(rapid.SampledFrom([]string{"bob", "cleo", "dan", "eve"}).Draw(t, "whom"))
			deltas := []crdt.Delta{schemaDelta(w.t, w.ann, "Paper", "title", fmt.Sprint(i))}
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1:
				deltas = []crdt.Delta{grantTo("writer", whom).Delta()}
			case 2, 3:
				deltas = []crdt.Delta{revokeFrom("writer", whom).Delta()}
			case 4:
				deltas = []crdt.Delta{{Field: crdt.FieldAccess, Kind: crdt.KindAccess, Void: true, Raw: acp.Op{Kind: acp.Accept, Commits: []acp.ID{acp.ID(some.Draw(t, "accepted").CID)}}.Delta().Raw}}
			}
			who := rapid.SampledFrom([]string{"ann", "ann", "bob", "bob", "cleo", "dan", "dan", "eve"}).Draw(t, "who")
			w.commits = append(w.commits, w.write(who, deltas, rapid.Bool().Draw(t, "anchor"), parents...))
		}
		pack, single := newNode(t, "pack").policed(), newNode(t, "single").policed()
		for _, n := range []*node{pack, single} {
			n.merge("Team", w.ann.everything("Team"))
		}
		refused := pack.gets(w.commits...)
		var one []dag.CID
		for _, c := range w.commits {
			one = append(one, single.gets(c)...)
		}
		if fmt.Sprint(refused) != fmt.Sprint(one) {
			t.Fatalf("of a pack are refused %v, one by one %v", refused, one)
		}
		wantAgreement(t, pack, single)
	})
}

// Whoever may write a document can send any number of events that stand beside each
// other. What one costs grows with the row of the document, and not with what all may void.
func BenchmarkCrowdInOnePack(b *testing.B) {
	for _, how := range []string{"bob", "bob, encrypted", "cleo, as a member"} {
		for _, n := range []int{100, 400, 1600} {
			b.Run(fmt.Sprint(n, "/", how), func(b *testing.B) {
				w := newCrowd(b, strings.Contains(how, "encrypted"))
				who, _, _ := strings.Cut(how, ",")
				base := w.commits[len(w.commits)-1]
				for range n {
					// Each at another time, and without contents, which would have to be sealed.
					c := dag.Commit{Doc: w.id, Height: base.Height + 1, HLC: base.HLC + uint64(len(w.commits)), Parents: []dag.CID{base.CID}, Auth: []dag.CID{w.team.CID}, Schema: base.Schema}
					w.commits = append(w.commits, forge(b, keyOf(who), c))
				}
				team, pack := w.ann.everything("Team"), envelopes(w.commits...)
				for b.Loop() {
					to := newNode(b, "to").policed()
					to.merge("Team", team)
					to.merge("Paper", pack)
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/commit")
			})
		}
	}
}

// A writer names as many commits as he may, of whatever documents; then a member of a group
// writes, of whom each commit asks whether he is in it.
func BenchmarkMemberAmongManyLinks(b *testing.B) {
	w := newCrowd(b, false)
	var links []dag.CID
	w.ann.update(func(tx *Tx) error {
		for i := range acp.MaxKnown - 32 {
			if _, err := createIn(tx, "Page", "title", fmt.Sprint("page ", i)); err != nil {
				return err
			}
		}
		return nil
	})
	pages := w.ann.everything("Page")
	w.ann.view(func(tx *Tx) error {
		for a, err := range tx.Commits(w.ann.coll("Page")) {
			if err != nil {
				return err
			}
			links = append(links, a.CID)
		}
		return nil
	})
	title := schemaDelta(b, w.ann, "Paper", "title", "x")
	last := w.commits[len(w.commits)-1]
	add := func(who string, auth []dag.CID) {
		slices.SortFunc(auth, func(a, b dag.CID) int { return bytes.Compare(a[:], b[:]) })
		last = forge(b, keyOf(who), dag.Commit{Doc: w.id, Parents: []dag.CID{last.CID}, Height: last.Height + 1, HLC: last.HLC + 1, Schema: last.Schema, Deltas: []crdt.Delta{title}, Auth: auth})
		w.commits = append(w.commits, last)
	}
	for part := range slices.Chunk(links, dag.MaxAuth) {
		add("bob", part)
	}
	add("bob", []dag.CID{w.team.CID})
	const byMember = 200
	for range byMember {
		add("cleo", nil)
	}
	team := w.ann.everything("Team")
	for b.Loop() {
		to := newNode(b, "to").policed()
		to.merge("Page", pages)
		to.merge("Team", team)
		to.merge("Paper", envelopes(w.commits[:len(w.commits)-byMember]...))
		at := time.Now()
		to.merge("Paper", envelopes(w.commits[len(w.commits)-byMember:]...))
		b.ReportMetric(float64(time.Since(at).Microseconds())/byMember, "µs/commit")
	}
}

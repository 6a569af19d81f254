package store

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
)

// Hundreds wrote two documents while apart, and some of them on what others wrote. It is
// the same whether their commits come in one pack, in some, or alone, and in whatever
// order: rows, indexes, and what a rebuild makes.
func TestManyHeadsMakeTheSameHoweverTheyCome(t *testing.T) {
	t.Parallel()
	for seed, c := range headsCases {
		a := newNode(t, "ann").policed()
		var all []*dag.Commit
		for i := range 2 {
			write := c.write(t, a)
			root, cs := beside(t, a.coll(c.coll), 120, func(k int) []crdt.Delta { return write(1000*i + k) })
			all = append(append(all, root), cs...)
			for k := range 10 {
				all = append(all, childOf(t, keyOf("ann"), write(5000+k), cs[k*10:k*10+2+k]...))
			}
		}
		a.mergeParts(c.coll, all, len(all))
		r := rand.New(rand.NewPCG(uint64(seed), 0))
		shuffledByHeight(r, all)
		for i, size := range []int{len(all), 1 + r.IntN(60), 1} {
			b := newNode(t, fmt.Sprint("bob", i)).policed()
			b.mergeParts(c.coll, all, size)
			wantEqual(t, a, b, c.coll)
			wantSound(t, b)
		}
	}
}

// shuffledByHeight gives commits another order, parents first.
func shuffledByHeight(r *rand.Rand, cs []*dag.Commit) {
	r.Shuffle(len(cs), func(i, k int) { cs[i], cs[k] = cs[k], cs[i] })
	slices.SortStableFunc(cs, func(a, b *dag.Commit) int { return int(a.Height) - int(b.Height) })
}

// mergeParts merges commits, so many at once.
func (n *node) mergeParts(coll string, cs []*dag.Commit, size int) {
	n.t.Helper()
	for part := range slices.Chunk(cs, size) {
		m, err := n.MergeCommits(context.Background(), n.coll(coll).ID, part, "peer")
		if err != nil || m.Applied != len(part) {
			n.t.Fatalf("%d of %d applied, %v", m.Applied, len(part), err)
		}
	}
}

// Of a pack each commit costs the same, however many there are beside it; the same is
// true of those that are known already, and of what folds a history again.
func TestHeadsOfOnePackCostTheSameEach(t *testing.T) {
	costs := func(heads int) map[string]uint64 {
		n := newNode(t, "ann")
		root, cs := beside(t, n.coll("Page"), heads, headsCases[0].write(t, n))
		cs = slices.Insert(cs, 0, root)
		return map[string]uint64{
			"a merge": allocated(func() { n.mergeParts("Page", cs, len(cs)) }),
			"a merge of what is known": allocated(func() {
				m, err := n.MergeCommits(context.Background(), n.coll("Page").ID, cs, "peer")
				if err != nil || m.Known != len(cs) {
					t.Fatalf("%d of %d known, %v", m.Known, len(cs), err)
				}
			}),
			"a check": allocated(func() { wantSound(t, n) }),
		}
	}
	few, many := costs(1000), costs(8000)
	for what := range few {
		if many[what] > 40*few[what]+64<<20 { // a cost for each pair is 64 times as much, and gigabytes
			t.Errorf("%s of 8 times as many heads takes %d bytes, want about 8 times %d", what, many[what], few[what])
		}
	}
}

// allocated returns how many bytes are allocated meanwhile.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Thousands set a multi-value register at once. Whoever sets it then overwrites as many of
// their values as a commit has room for, and the next the others.
func TestAValueOverManyIsWritten(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ann")
	root, cs := beside(t, n.coll("Page"), 8000, headsCases[2].write(t, n))
	n.mergeParts("Page", slices.Insert(cs, 0, root), len(cs)+1)
	tags := field(t, n, "tags")
	for i, left := range []int{8001 - 4096, 0} {
		n.set("Page", root.Doc, "tags", fmt.Sprint("last ", i))
		if got, want := n.field("Page", root.Doc, "tags"), fmt.Sprintf("%q", fmt.Sprint("last ", i)); got != want {
			t.Fatalf("tags are %s, want %s", got, want)
		}
		if got := len(n.get("Page", root.Doc).State.Conflicts(tags.ID, tags.Kind())); got != left {
			t.Errorf("%d values stand beside the last, want %d", got, left)
		}
	}
}

// Somebody may write a document, by a commit that is one of hundreds of heads. He does, though
// others have more heads than a commit may name: he names that which lets him.
func TestHeadsOfOthersKeepNobodyFromWriting(t *testing.T) {
	t.Parallel()
	ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
	root, cs := beside(t, ann.coll("Paper"), 300, headsCases[3].write(t, ann))
	ann.mergeParts("Paper", []*dag.Commit{root}, 1)
	ann.mustDo("Paper", root.Doc, grantTo("writer", person("bob")))
	ann.mergeParts("Paper", cs, len(cs))
	bob.learns(ann)
	bob.set("Paper", root.Doc, "title", "by bob")
	if got := bob.field("Paper", root.Doc, "title"); got != `"by bob"` {
		t.Errorf("title is %s, want what bob wrote", got)
	}
	meet(ann, bob)
	wantAgreement(t, ann, bob)
}

// A writer makes more events beside each other than a commit names, none of which stands on
// what lets another one write, or makes him its owner. That one writes all the same.
func TestEventsOfOthersKeepNobodyFromWriting(t *testing.T) {
	t.Parallel()
	for name, let := range map[string]func(team dag.DocID) acp.Op{
		"as a writer":  func(dag.DocID) acp.Op { return grantTo("writer", person("bob")) },
		"as a member":  func(team dag.DocID) acp.Op { return grantTo("writer", memberOf(team)) },
		"as its owner": func(dag.DocID) acp.Op { return acp.Op{Kind: acp.Transfer, Subject: person("bob")} },
	} {
		for _, sealed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", encrypted ", sealed), func(t *testing.T) {
				t.Parallel()
				w := newCrowd(t, sealed)
				own := w.ann.create("Team", "name", "crew of a writer")
				ann, bob := w.ann, newHome(t, "bob")
				team := w.team.Doc
				ann.mustDo("Team", team, grantTo("member", person("bob")))
				ann.mustDo("Paper", w.id, revokeFrom("writer", person("bob")), revokeFrom("writer", memberOf(team)), grantTo("writer", person("mal")))
				base := ann.historyOf("Paper", w.id)
				link := ann.historyOf("Team", own)[0].CID
				ann.mustDo("Paper", w.id, let(team))
				last := base[len(base)-1]
				var crowd []*dag.Commit
				for i := range 100 {
					c := dag.Commit{Doc: w.id, Height: last.Height + 1, HLC: last.HLC + 1 + uint64(i), Parents: []dag.CID{last.CID}, Auth: []dag.CID{link}, Schema: last.Schema}
					if i == 0 {
						for _, cm := range ann.historyOf("Team", team) {
							c.Auth = append(c.Auth, cm.CID)
						}
						slices.SortFunc(c.Auth, func(a, b dag.CID) int { return bytes.Compare(a[:], b[:]) })
						crowd = append(crowd, forge(t, keyOf("mal"), c))
						continue
					}
					first := forge(t, keyOf("mal"), c)
					c.Height, c.HLC, c.Parents = first.Height+1, first.HLC+1, []dag.CID{first.CID}
					crowd = append(crowd, first, forge(t, keyOf("mal"), c))
				}
				ann.mergeParts("Paper", crowd, len(crowd))
				bob.learns(ann)
				for range 4 {
					before := len(bob.heads("Paper", w.id))
					bob.set("Paper", w.id, "hits", 1)
					if after := len(bob.heads("Paper", w.id)); after != max(1, before-dag.MaxParents+1) {
						t.Errorf("of %d heads %d are left", before, after)
					}
				}
				meet(ann, bob)
				wantSound(t, ann)
				if got, want := ann.heads("Paper", w.id), bob.heads("Paper", w.id); !slices.Equal(got, want) {
					t.Errorf("ann has heads %v, bob %v", got, want)
				}
			})
		}
	}
}

package store

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/schema"
)

// beside is a document that so many wrote on while apart: a root, and commits that know
// only of that. write makes the operations of the i-th.
func beside(t tester, c *schema.Collection, n int, write func(i int) []crdt.Delta) (root *dag.Commit, cs []*dag.Commit) {
	t.Helper()
	key := keyOf("ann")
	first := write(0)
	seed := dag.RootSeed{Mode: c.Mode, Collection: c.ID, Seed: dag.ContentSeed(first)}
	if c.Mode == dag.ModeOwned {
		seed.Seed = dag.OwnedSeed(key.Public(), first)
	}
	root = forge(t, key, dag.Commit{Root: &seed, Height: 1, HLC: dag.HLC(testStart, 0), Schema: c.Version, Deltas: first})
	for i := range n {
		cs = append(cs, childOf(t, key, write(i+1), root))
	}
	if bad := dag.Verify(append(cs, root)); len(bad) > 0 {
		t.Fatal("a signature does not verify")
	}
	return root, cs
}

// headsCase is what many write on one document.
type headsCase struct {
	name, coll string
	write      func(t tester, n *node) func(i int) []crdt.Delta
}

func writesOf(coll, field string, val func(i int) any) headsCase {
	return headsCase{field, coll, func(t tester, n *node) func(int) []crdt.Delta {
		d := schemaDelta(t, n, coll, field, val(1))
		return func(i int) []crdt.Delta {
			d := d
			d.Val = schemaDelta(t, n, coll, field, val(i)).Val
			return []crdt.Delta{d}
		}
	}}
}

var headsCases = []headsCase{
	writesOf("Page", "title", func(i int) any { return fmt.Sprint("title ", i) }),
	writesOf("Page", "hits", func(i int) any { return i + 1 }),
	writesOf("Page", "tags", func(i int) any { return fmt.Sprint("tag ", i) }),
	writesOf("Paper", "hits", func(i int) any { return i + 1 }),
}

// What a document costs that many wrote on while apart, however the commits come: in one
// pack the cost of each must not grow with their number; of those that come alone, or a
// few at a time, each pack writes the row, which lists all heads.
func BenchmarkHeads(b *testing.B) {
	for _, c := range headsCases {
		for _, heads := range []int{1000, 4000, 16000} {
			for _, size := range []int{0, 256, 1} {
				name := fmt.Sprintf("%s.%s/heads=%d/pack=%d", c.coll, c.name, heads, size)
				if size == 0 {
					size, name = heads+1, fmt.Sprintf("%s.%s/heads=%d/pack=all", c.coll, c.name, heads)
				}
				b.Run(name, func(b *testing.B) { benchmarkHeads(b, c, heads, size) })
			}
		}
	}
}

func benchmarkHeads(b *testing.B, c headsCase, heads, size int) {
	from := newNode(b, "ann").policed()
	root, cs := beside(b, from.coll(c.coll), heads, c.write(b, from))
	cs = slices.Insert(cs, 0, root)
	for b.Loop() {
		b.StopTimer()
		n := newNode(b, "bob").policed()
		b.StartTimer()
		for part := range slices.Chunk(cs, size) {
			m, err := n.MergeCommits(context.Background(), n.coll(c.coll).ID, part, "peer")
			if err != nil || m.Applied != len(part) {
				b.Fatalf("%d of %d applied, %v", m.Applied, len(part), err)
			}
		}
		b.StopTimer()
		if got := len(n.heads(c.coll, root.Doc)); got != heads {
			b.Fatalf("%d heads, want %d", got, heads)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(heads), "µs/commit")
}

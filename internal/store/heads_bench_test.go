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
			for _, size := range []int{0, 100, 1} {
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

// What is done with a document of so many heads.
func BenchmarkWithHeads(b *testing.B) {
	for _, c := range headsCases[1:] {
		for _, heads := range []int{1000, 4000, 16000} {
			n := newNode(b, "ann").policed()
			coll := n.coll(c.coll)
			write := c.write(b, n)
			root, cs := beside(b, coll, heads+1000, write)
			n.mergeParts(c.coll, slices.Concat([]*dag.Commit{root}, cs[:heads]), heads+1)
			own := cs[heads:]
			ctx := context.Background()
			for _, op := range []struct {
				name string
				do   func(tx *Tx) error
			}{
				{"read", func(tx *Tx) error { _, err := tx.Get(coll, root.Doc); return err }},
				{"verify", func(tx *Tx) error { _, err := tx.Verify(ctx, coll, root.Doc, nil); return err }},
				{"blame", func(tx *Tx) error { _, err := tx.Blame(ctx, coll, root.Doc, nil); return err }},
				{"as of", func(tx *Tx) error { _, err := tx.AsOf(ctx, coll, root.Doc, root.HLC+1); return err }},
				{"last changes", func(tx *Tx) error {
					_, err := tx.AfterSeq(ctx, coll, root.Doc, tx.Seq())
					return err
				}},
				{"lacking one", func(tx *Tx) error {
					have, err := tx.Heads(coll.ID, root.Doc)
					if err != nil {
						return err
					}
					w := Want{Doc: root.Doc, Have: have[1:]}
					blocks := 0
					for _, err := range tx.Pack(coll.ID, w) {
						if blocks++; err != nil {
							return err
						}
					}
					if blocks != 1 {
						return fmt.Errorf("%d commits, want 1", blocks)
					}
					return nil
				}},
			} {
				b.Run(fmt.Sprintf("%s/%s.%s/heads=%d", op.name, c.coll, c.name, heads), func(b *testing.B) {
					for b.Loop() {
						n.view(op.do)
					}
				})
			}
			b.Run(fmt.Sprintf("merge one/%s.%s/heads=%d", c.coll, c.name, heads), func(b *testing.B) {
				for b.Loop() {
					n.mergeParts(c.coll, own[:1], 1)
					own = own[1:]
				}
			})
			b.Run(fmt.Sprintf("summary after one/%s.%s/heads=%d", c.coll, c.name, heads), func(b *testing.B) {
				for b.Loop() {
					n.mergeParts(c.coll, own[:1], 1)
					own = own[1:]
					if _, err := n.Summary(coll.ID); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("write/%s.%s/heads=%d", c.coll, c.name, heads), func(b *testing.B) {
				i := 0
				for b.Loop() {
					i++
					n.update(func(tx *Tx) error { _, err := tx.Write(coll, root.Doc, write(100_000+i)); return err })
				}
			})
		}
	}
}

// Commits beside each other and beside many events, which judge each of them; with a
// revocation, all but a few are void. In one pack, and alone.
func BenchmarkHeadsBesideEvents(b *testing.B) {
	for _, void := range []bool{false, true} {
		for _, events := range []int{10, 1000} {
			for _, heads := range []int{1000, 4000, 16000} {
				name := fmt.Sprintf("void=%v/events=%d/heads=%d", void, events, heads)
				ann := newNode(b, "ann").policed()
				write := headsCases[3].write(b, ann)
				root, _ := beside(b, ann.coll("Paper"), 0, write)
				ann.mergeParts("Paper", []*dag.Commit{root}, 1)
				ann.mustDo("Paper", root.Doc, grantTo("writer", person("bob")))
				grant := ann.opened("Paper")[1]
				for i := range events {
					ann.mustDo("Paper", root.Doc, grantTo("reader", person(fmt.Sprint("reader ", i))))
				}
				if void {
					ann.mustDo("Paper", root.Doc, revokeFrom("writer", person("bob")))
				}
				before := ann.opened("Paper")
				var cs []*dag.Commit
				for i := range heads + 200 {
					cs = append(cs, childOf(b, keyOf("bob"), write(i+1), grant))
				}
				if bad := dag.Verify(append(cs, before...)); len(bad) > 0 {
					b.Fatal("a signature does not verify")
				}
				n, outer := (*node)(nil), b
				b.Run("pack/"+name, func(b *testing.B) {
					for b.Loop() {
						b.StopTimer()
						n = newNode(outer, "eve").policed()
						n.mergeParts("Paper", before, len(before))
						b.StartTimer()
						n.mergeParts("Paper", cs[:heads], heads)
					}
					b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(heads), "µs/commit")
				})
				alone := cs[heads:]
				b.Run("alone/"+name, func(b *testing.B) {
					for b.Loop() {
						n.mergeParts("Paper", alone[:1], 1)
						alone = alone[1:]
					}
				})
			}
		}
	}
}

// A pack of commits of which no parent is here: each is named once.
func BenchmarkMergeOfWhatLacks(b *testing.B) {
	for _, commits := range []int{1000, 4000} {
		n := newNode(b, "ann")
		root, all := beside(b, n.coll("Page"), dag.MaxParents*commits, headsCases[0].write(b, n))
		n.mergeParts("Page", []*dag.Commit{root}, 1)
		var cs []*dag.Commit
		for parents := range slices.Chunk(all, dag.MaxParents) {
			cs = append(cs, childOf(b, keyOf("ann"), headsCases[0].write(b, n)(len(cs)), parents...))
		}
		b.Run(fmt.Sprint(commits), func(b *testing.B) {
			for b.Loop() {
				m, err := n.MergeCommits(context.Background(), n.coll("Page").ID, cs, "peer")
				if err != nil || len(m.Missing[root.Doc]) != len(all) {
					b.Fatalf("%d are missing, %v", len(m.Missing[root.Doc]), err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(commits), "µs/commit")
		})
	}
}

// opened returns all commits of a collection, parents first.
func (n *node) opened(coll string) (all []*dag.Commit) {
	n.t.Helper()
	for _, e := range n.everything(coll) {
		cm, err := dag.Open(e)
		if err != nil {
			n.t.Fatal(err)
		}
		all = append(all, cm)
	}
	return all
}

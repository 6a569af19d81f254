package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
)

// What indexes cost who writes. The disk is left out: its fsync costs more than all
// of it.
func BenchmarkCreateWithIndexes(b *testing.B) {
	for _, columns := range [][]string{nil, {"age"}, {"age", "name", "email", "joined"}} {
		b.Run(fmt.Sprint(len(columns), " indexes"), func(b *testing.B) {
			n := benchNode(b, kv.NewMemFS())
			for _, name := range columns {
				n.createIndex("User", schema.Index{Fields: []schema.IndexField{{Name: name}}})
			}
			if err := n.BuildIndexes(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				n.update(func(tx *Tx) error {
					for range 100 {
						if err := n.createUser(b, tx, i); err != nil {
							return err
						}
						i++
					}
					return nil
				})
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*100), "µs/doc")
		})
	}
}

func BenchmarkUpdateWithIndexes(b *testing.B) {
	for _, columns := range [][]string{nil, {"name", "email", "joined", "age"}} {
		b.Run(fmt.Sprint(len(columns), " indexes that do not change"), func(b *testing.B) {
			n := benchNode(b, kv.NewMemFS())
			for _, name := range columns {
				n.createIndex("User", schema.Index{Fields: []schema.IndexField{{Name: name}}})
			}
			ids := n.fillUsers(b, 1000)
			if err := n.BuildIndexes(context.Background()); err != nil {
				b.Fatal(err)
			}
			c := n.coll("User")
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				n.update(func(tx *Tx) error {
					for range 100 {
						d, err := tx.Get(c, ids[i%len(ids)])
						if err != nil {
							return err
						}
						deltas, err := c.Update(d.State, fields("points", 1))
						if err != nil {
							return err
						}
						if _, err := tx.Write(c, d.ID, deltas); err != nil {
							return err
						}
						i++
					}
					return nil
				})
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*100), "µs/doc")
		})
	}
}

func BenchmarkBuildIndex100k(b *testing.B) {
	n := benchNode(b, nil)
	n.fillUsers(b, 100_000)
	for b.Loop() {
		ix := n.createIndex("User", schema.Index{Fields: []schema.IndexField{{Name: "email"}}})
		if err := n.BuildIndexes(context.Background()); err != nil {
			b.Fatal(err)
		}
		n.update(func(tx *Tx) error { return tx.DropIndex(n.coll("User"), ix.Name) })
	}
}

// Documents at random among 100,000, one by one and at once.
func BenchmarkGetMany(b *testing.B) {
	n := benchNode(b, nil)
	ids := n.fillUsers(b, 100_000)
	c := n.coll("User")
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{10, 1000, 10_000} {
		ask := make([]dag.DocID, size)
		for i := range ask {
			ask[i] = ids[r.IntN(len(ids))]
		}
		per := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/doc")
		}
		b.Run(fmt.Sprint("Get ", size), func(b *testing.B) {
			for b.Loop() {
				n.view(func(tx *Tx) error {
					for _, id := range ask {
						if _, err := tx.Get(c, id); err != nil {
							return err
						}
					}
					return nil
				})
			}
			per(b)
		})
		sorted := slices.SortedFunc(slices.Values(ask), compareIDs)
		for name, ask := range map[string][]dag.DocID{"in any order": ask, "sorted": sorted} {
			b.Run(fmt.Sprint("GetMany ", size, " ", name), func(b *testing.B) { benchMany(b, n, c, ask); per(b) })
		}
	}
}

func benchMany(b *testing.B, n *node, c *schema.Collection, ask []dag.DocID) {
	for b.Loop() {
		found := 0
		n.view(func(tx *Tx) error {
			for _, err := range tx.GetMany(c, ask) {
				if err != nil {
					return err
				}
				found++
			}
			return nil
		})
		if found != len(ask) {
			b.Fatal(found)
		}
	}
}

// A range of an index, per entry.
func BenchmarkIndexScan(b *testing.B) {
	n := benchNode(b, nil)
	n.createIndex("User", schema.Index{Name: "ages", Fields: []schema.IndexField{{Name: "age"}}})
	n.fillUsers(b, 100_000)
	if err := n.BuildIndexes(context.Background()); err != nil {
		b.Fatal(err)
	}
	c, ix := n.coll("User"), n.index("User", "ages")
	found := 0
	for b.Loop() {
		found = 0
		n.view(func(tx *Tx) error {
			for _, err := range tx.Index(c, ix, IndexRange{}, false) {
				if err != nil {
					return err
				}
				found++
			}
			return nil
		})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*found), "ns/entry")
}

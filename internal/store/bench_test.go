package store

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// A document of the benchmarks: what a small record has.
const benchSDL = `type User { name: String, email: String, age: Int, points: Int @crdt(type: pncounter), active: Boolean, joined: DateTime }`

// benchNode is a node on a real disk.
func benchNode(b *testing.B, fs kv.FS) *node {
	b.Helper()
	key := keyOf("bench")
	n := &node{t: b, fs: fs, key: key}
	dir := "db"
	if fs == nil {
		dir = b.TempDir()
	}
	s, err := Open(dir, Options{FS: fs})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	n.Store = s
	n.addSchema(benchSDL)
	return n
}

func userDeltas(b *testing.B, c *schema.Collection, i int) []crdt.Delta {
	deltas, err := c.Create([]schema.Input{
		{Name: "name", Val: value.OfString(fmt.Sprint("user ", i))},
		{Name: "email", Val: value.OfString(fmt.Sprintf("user%d@example.org", i))},
		{Name: "age", Val: value.OfInt(int64(i % 90))},
		{Name: "points", Val: value.OfInt(1)},
		{Name: "active", Val: value.OfBool(i%2 == 0)},
		{Name: "joined", Val: value.OfString("2026-01-02T03:04:05Z")},
	})
	if err != nil {
		b.Fatal(err)
	}
	return deltas
}

func (n *node) createUser(b *testing.B, tx *Tx, i int) error {
	c, err := tx.Collection("User")
	if err != nil {
		return err
	}
	_, err = tx.Create(c, userDeltas(b, c, i))
	return err
}

// fillUsers creates documents in large transactions.
func (n *node) fillUsers(b *testing.B, count int) (ids []dag.DocID) {
	b.Helper()
	for i := 0; i < count; i += 1000 {
		n.update(func(tx *Tx) error {
			for k := i; k < min(i+1000, count); k++ {
				if err := n.createUser(b, tx, k); err != nil {
					return err
				}
			}
			return nil
		})
	}
	n.view(func(tx *Tx) error {
		for d, err := range tx.Scan(n.coll("User"), Range{}) {
			if err != nil {
				return err
			}
			ids = append(ids, d.ID)
		}
		return nil
	})
	return ids
}

func perSecond(b *testing.B, each int) {
	b.ReportMetric(float64(b.N)*float64(each)/b.Elapsed().Seconds(), "docs/s")
}

func BenchmarkCreateOneWriter(b *testing.B) {
	n := benchNode(b, nil)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n.update(func(tx *Tx) error { return n.createUser(b, tx, i) })
	}
	perSecond(b, 1)
}

func BenchmarkCreate16Writers(b *testing.B) {
	n := benchNode(b, nil)
	var next atomic.Int64
	b.SetParallelism(max(1, 16/runtime.GOMAXPROCS(0)))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(next.Add(1))
			if err := n.Update(context.Background(), As(n.key), func(tx *Tx) error { return n.createUser(b, tx, i) }); err != nil {
				b.Error(err)
				return
			}
		}
	})
	perSecond(b, 1)
}

func BenchmarkCreateBatchOf100(b *testing.B) {
	n := benchNode(b, nil)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		n.update(func(tx *Tx) error {
			for range 100 {
				i++
				if err := n.createUser(b, tx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	perSecond(b, 100)
}

func BenchmarkGet(b *testing.B) {
	n := benchNode(b, nil)
	ids := n.fillUsers(b, 10_000)
	c := n.coll("User")
	f, _ := c.Field("name")
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		n.view(func(tx *Tx) error {
			d, err := tx.Get(c, ids[i%len(ids)])
			i += 7919
			if err == nil && d.Value(f).IsNull() {
				b.Fatal("no name")
			}
			return err
		})
	}
}

func BenchmarkScan(b *testing.B) {
	for _, rows := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			n := benchNode(b, nil)
			n.fillUsers(b, rows)
			c := n.coll("User")
			f, _ := c.Field("age")
			b.ReportAllocs()
			for b.Loop() {
				n.view(func(tx *Tx) error {
					sum, seen := int64(0), 0
					for d, err := range tx.Scan(c, Range{}) {
						if err != nil {
							return err
						}
						sum += d.Value(f).Int()
						seen++
					}
					if seen != rows || sum == 0 {
						b.Fatalf("%d rows", seen)
					}
					return nil
				})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/row")
		})
	}
}

// The cost of an update, and of a read, must not grow with the history. The medians
// of a window are compared, because a flush or a neighbour hits single ones.
func BenchmarkUpdateTheSameDocument(b *testing.B) {
	for b.Loop() {
		n := benchNode(b, nil)
		id := n.fillUsers(b, 1)[0]
		const updates, first, window = 10_000, 100, 500
		var writes, reads []time.Duration
		for range updates {
			start := time.Now()
			n.set("User", id, "points", 1)
			wrote := time.Now()
			n.get("User", id)
			writes, reads = append(writes, wrote.Sub(start)), append(reads, time.Since(wrote))
		}
		early, late := median(writes[first:first+window]), median(writes[updates-window:])
		b.ReportMetric(late/early, "last/100th")
		b.ReportMetric(median(reads[updates-window:])/median(reads[first:first+window]), "last/100th-read")
		b.ReportMetric(late/1e3, "µs/update")
	}
}

func median(ds []time.Duration) float64 {
	ds = slices.Sorted(slices.Values(ds))
	return float64(ds[len(ds)/2])
}

func BenchmarkMergeOf256(b *testing.B) {
	from := benchNode(b, kv.NewMemFS())
	const packs, size = 40, 256
	from.fillUsers(b, packs*size)
	var all [][]byte
	from.view(func(tx *Tx) error {
		for x, err := range tx.Full(from.coll("User").ID, dag.DocID{}) {
			if err != nil {
				return err
			}
			all = append(all, append([]byte{}, x.Envelope...))
		}
		return nil
	})
	id := from.coll("User").ID
	b.ReportAllocs()
	var n *node
	at := len(all)
	for b.Loop() {
		if at == len(all) {
			b.StopTimer()
			if n != nil {
				n.Close()
			}
			n, at = benchNode(b, nil), 0
			b.StartTimer()
		}
		m, err := n.Store.Merge(context.Background(), id, all[at:at+size], "peer")
		if err != nil || m.Applied != size {
			b.Fatalf("%+v, %v", m, err)
		}
		at += size
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/size, "µs/commit")
	b.ReportMetric(float64(b.N)*size/b.Elapsed().Seconds(), "commits/s")
}

func BenchmarkSummaryAfterOneChange(b *testing.B) {
	n := benchNode(b, nil)
	ids := n.fillUsers(b, 100_000)
	id := n.coll("User").ID
	if _, err := n.Summary(id); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		b.StopTimer()
		n.set("User", ids[i%len(ids)], "points", 1)
		i += 7919
		b.StartTimer()
		if _, err := n.Summary(id); err != nil {
			b.Fatal(err)
		}
	}
}

// A long history of which the asker has the beginning: what the list costs before
// the first page, and what 256 commits cost wherever they are.
func BenchmarkPageOfAHistory(b *testing.B) {
	for _, commits := range []int{10_000, 100_000} {
		n := benchNode(b, kv.NewMemFS())
		id := n.fillUsers(b, 1)[0]
		n.lengthen(b, id, commits)
		coll := n.coll("User").ID
		page := func(w Want, most int) (last Block) {
			n.view(func(tx *Tx) error {
				l, err := tx.Lacking(coll, w)
				if err != nil {
					return err
				}
				for e, err := range tx.PackOf(l, w.After) {
					if err != nil {
						return err
					}
					if last = e; most == 1 {
						break
					}
					most--
				}
				return nil
			})
			return last
		}
		w := Want{Doc: id, Have: []dag.CID{page(Want{Doc: id}, 100).CID}}
		b.Run(fmt.Sprintf("first of %d", commits), func(b *testing.B) {
			for b.Loop() {
				page(w, 256)
			}
		})
		for _, at := range []int{1000, commits / 2} {
			w := w
			w.After.Height = uint64(at)
			b.Run(fmt.Sprintf("of %d after %d", commits, at), func(b *testing.B) {
				for b.Loop() {
					page(w, 256)
				}
			})
		}
	}
}

// lengthen gives a document a history of so many commits.
func (n *node) lengthen(b *testing.B, id dag.DocID, commits int) {
	for i := 1; i < commits; i += 1000 {
		n.update(func(tx *Tx) error {
			for k := i; k < min(i+1000, commits); k++ {
				if _, err := updateIn(tx, "User", id, "age", k); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

package query

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/store"
)

// Aggregates and groups over documents of ten fields: what each costs per document.
func BenchmarkAggregate(b *testing.B) {
	const n = 100_000
	d := people(b, n)
	err := d.store.View(context.Background(), store.System, func(tx *store.Tx) error {
		for _, q := range []struct{ name, query string }{
			{"count", `{ _count(P: {filter: {age: {_ge: 50}}}) }`},
			{"sum", `{ _sum(P: {field: score}) }`},
			{"avg", `{ _avg(P: {field: height}) }`},
			{"min", `{ _min(P: {field: height}) }`},
			{"max", `{ _max(P: {field: score}) }`},
			{"five", `{ _count(P: {}) _sum(P: {field: score}) _avg(P: {field: height}) _min(P: {field: score}) _max(P: {field: score}) }`},
			{"filtered", `{ _sum(P: {field: score, filter: {age: {_ge: 50}}}) }`},
			{"groups100", `{ P(groupBy: [age]) { age _count(_group: {}) } }`},
			{"groups100sum", `{ P(groupBy: [city]) { city _count(_group: {}) _sum(_group: {field: score}) _avg(_group: {field: height}) } }`},
			{"groups20000", `{ P(groupBy: [age, height], order: {_alias: {n: DESC}}, limit: 10) { age height n: _count(_group: {}) } }`},
			{"groups100000", `{ P(groupBy: [name]) { name _count(_group: {}) } }`},
			{"members", `{ P(groupBy: [age]) { age _group { name } } }`},
		} {
			b.Run(q.name, func(b *testing.B) { passBench(b, d, tx, n, q.query) })
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func passBench(b *testing.B, d *dbase, tx *store.Tx, n int, query string) {
	p, err := Compile(d.generated(), Request{Query: query})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Run(context.Background(), tx, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/row")
}

// Aggregates over a relation cost one pass over its far side.
func BenchmarkRelationAggregate(b *testing.B) {
	const parents, children = 1000, 10
	d := open(b)
	d.mustAdd(`type A { n: Int bs: [B] } type B { n: Int m: Int a: A }`)
	family(d, parents, children)
	err := d.store.View(context.Background(), store.System, func(tx *store.Tx) error {
		for i, query := range []string{
			`{ A { n _count(bs: {}) } }`,
			`{ A { n _count(bs: {}) _sum(bs: {field: m}) _avg(bs: {field: m}) _max(bs: {field: m, filter: {n: {_gt: 5}}}) } }`,
			`{ A { n _sum(bs: {field: m, order: {m: DESC}, limit: 3}) } }`,
			`{ A { n bs(groupBy: [m]) { m _count(_group: {}) } } }`,
		} {
			b.Run(fmt.Sprint(i), func(b *testing.B) { passBench(b, d, tx, parents*children, query) })
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// The nearest vectors among all, and the elements of lists.
func BenchmarkVectors(b *testing.B) {
	const n, dims = 5000, 128
	d := open(b)
	d.mustAdd(`type V { n: Int v: [Float!] }`)
	for from := 0; from < n; from += 100 {
		var in strings.Builder
		for i := from; i < from+100; i++ {
			fmt.Fprintf(&in, "{n: %d, v: [", i)
			for k := range dims {
				fmt.Fprintf(&in, "%d.%d ", (i*7+k*13)%17, (i+k)%10)
			}
			in.WriteString("]}")
		}
		d.must(`mutation { create_V(input: [` + in.String() + `]) { __typename } }`)
	}
	vector := strings.Repeat("1.5 0.5 ", dims/2)
	err := d.store.View(context.Background(), store.System, func(tx *store.Tx) error {
		for _, q := range []struct{ name, query string }{
			{"nearest", `{ V(order: {_alias: {near: DESC}}, limit: 10) { n near: _similarity(v: {vector: [` + vector + `]}) } }`},
			{"above", `{ V(filter: {_alias: {near: {_gt: 0.95}}}, order: {_alias: {near: DESC}}, limit: 10) { n near: _similarity(v: {vector: [` + vector + `]}) } }`},
			{"sum", `{ _sum(V: {field: v}) }`},
			{"elements", `{ V { s: _sum(v: {filter: {_gt: 5}}) } }`},
		} {
			b.Run(q.name, func(b *testing.B) { passBench(b, d, tx, n, q.query) })
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

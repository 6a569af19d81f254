package query

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/store"
)

// indexed fills collections: n documents of ten fields, and parents with ten
// children each, as many together.
func indexed(b testing.TB, n int) *dbase {
	b.Helper()
	d := open(b)
	d.mustAdd(`type P { name: String city: String @index age: Int height: Float active: Boolean @index born: DateTime notes: String tags: [String!] score: Int @index points: Int @crdt(type: pncounter) }
type A { n: Int @index bs: [B] } type B { n: Int m: Int @index a: A }`)
	for from := 0; from < n; from += 1000 {
		var in strings.Builder
		for i := from; i < min(from+1000, n); i++ {
			fmt.Fprintf(&in, `{name: "person %d" city: "city %d" age: %d height: %d.5 active: %v born: "1990-01-02T03:04:05Z" notes: "some words about person %d" tags: ["a", "b"] score: %d points: 1}`, i, i%(n/10), i%100, i%200, i%2 == 0, i, i)
		}
		d.must(`mutation { create_P(input: [` + in.String() + `]) { __typename } }`)
	}
	for from := 0; from < n/10; from += 1000 {
		familyFrom(d, from, min(1000, n/10-from), 10)
	}
	return d
}

// What a query costs follows what it touches, not the size of the collection.
func BenchmarkIndexed(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		d := indexed(b, n)
		for _, q := range []struct {
			name, query string
			touched     int
		}{
			{"equality", `{ P(filter: {city: {_eq: "city 7"}}) { name age } }`, 10},
			{"unique", `{ P(filter: {score: {_eq: 77}}) { name age } }`, 1},
			{"range1%", fmt.Sprintf(`{ P(filter: {score: {_ge: 500, _lt: %d}}) { name age } }`, 500+n/100), n / 100},
			{"count1%", fmt.Sprintf(`{ _count(P: {filter: {score: {_ge: 500, _lt: %d}}}) }`, 500+n/100), n / 100},
			{"count50%", fmt.Sprintf(`{ _count(P: {filter: {score: {_lt: %d}}}) }`, n/2), n / 2},
			{"range50%", fmt.Sprintf(`{ P(filter: {score: {_lt: %d}}) { name } }`, n/2), n},
			{"order10", `{ P(order: {score: DESC}, limit: 10) { name score } }`, 10},
			{"orderTies10", `{ P(order: {active: DESC}, limit: 10) { name score } }`, 10},
			{"filterOrder10", `{ P(filter: {age: {_gt: 50}}, order: {score: ASC}, limit: 10) { name score } }`, 100},
			{"orderAll", `{ P(order: {score: ASC}) { name } }`, n},
			{"or", `{ P(filter: {_or: [{city: {_eq: "city 7"}}, {score: {_eq: 5}}]}) { name } }`, 11},
			{"first10", `{ P(filter: {score: {_ge: 0}}, limit: 10) { name } }`, 10},
			{"parentsChildren", `{ A(limit: 1000) { n bs { m } } }`, 11_000},
			{"10ParentsChildren", `{ A(limit: 10) { n bs { m } } }`, 110},
			{"allParentsChildren", `{ A { n bs { m } } }`, n / 10 * 11},
			{"childrenParent", `{ B(limit: 10000) { m a { n } } }`, 10_000},
			{"throughNear", `{ B(filter: {a: {n: {_eq: 5}}}) { m } }`, 10},
			{"throughFar", `{ A(filter: {bs: {n: {_eq: 5}, m: {_eq: 3}}}) { n } }`, n / 100},
			{"countChildren10", `{ A(limit: 10) { n _count(bs: {}) } }`, 110},
		} {
			b.Run(fmt.Sprintf("%d/%s", n, q.name), func(b *testing.B) {
				p, err := Compile(d.generated(), Request{Query: q.query})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					err := d.store.View(context.Background(), store.System, func(tx *store.Tx) error {
						return p.Run(context.Background(), tx, io.Discard)
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(q.touched), "ns/touched")
			})
		}
	}
}

package query

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/store"
)

// people fills a collection with n documents of ten fields.
func people(b testing.TB, n int) *dbase {
	b.Helper()
	d := open(b)
	d.mustAdd(`type P { name: String city: String age: Int height: Float active: Boolean born: DateTime notes: String tags: [String!] score: Int points: Int @crdt(type: pncounter) }`)
	for from := 0; from < n; from += 1000 {
		var in strings.Builder
		for i := from; i < min(from+1000, n); i++ {
			fmt.Fprintf(&in, `{name: "person %d" city: "city %d" age: %d height: %d.5 active: %v born: "1990-01-02T03:04:05Z" notes: "some words about person %d" tags: ["a", "b"] score: %d points: 1}`, i, i%97, i%100, i%200, i%2 == 0, i, i*7)
		}
		d.must(`mutation { create_P(input: [` + in.String() + `]) { __typename } }`)
	}
	return d
}

const tenFields = `{ P(filter: {age: {_gt: 200}, city: {_eq: "x"}}, order: {name: ASC}, limit: 10) { _docID name city age height active born notes tags score } }`

func BenchmarkCompile(b *testing.B) {
	d := people(b, 1)
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Compile(d.generated(), Request{Query: tenFields}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("variables", func(b *testing.B) {
		req := Request{Query: `query ($a: Int, $n: Int) { P(filter: {age: {_gt: $a}}, limit: $n) { _docID name city age } }`, Variables: []byte(`{"a": 5, "n": 10}`)}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Compile(d.generated(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("uncached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.generated().cache = cache{}
			if _, err := Compile(d.generated(), Request{Query: tenFields}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Documents come in by the thousand, as variables of one text.
func BenchmarkCreate(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := people(b, 0)
			const text = `mutation ($in: [PMutationInputArg!]!) { create_P(input: $in) { _docID } }`
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				var in strings.Builder
				for k := range n {
					if k > 0 {
						in.WriteByte(',')
					}
					fmt.Fprintf(&in, `{"name": "person %d", "city": "city %d", "age": %d, "height": %d.5, "active": true, "born": "1990-01-02T03:04:05Z", "notes": "some words about person %[1]d", "tags": ["a", "b"], "score": %[3]d, "points": 1}`, i, i%97, i%100, i%200)
					i++
				}
				if _, err := d.exec(Request{Query: text, Variables: []byte(`{"in": [` + in.String() + `]}`)}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i), "ns/doc")
		})
	}
}

func BenchmarkScan(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		d := people(b, n)
		err := d.store.View(context.Background(), store.System, func(tx *store.Tx) error {
			for _, q := range []struct{ name, query string }{
				{"none", ""},
				{"int", `{age: {_gt: 200}}`},
				{"string", `{city: {_eq: "nowhere"}}`},
				{"like", `{notes: {_like: "%nobody%"}}`},
				{"ilike", `{notes: {_ilike: "%NOBODY%"}}`},
				{"list", `{tags: {_any: {_eq: "z"}}}`},
				{"and", `{age: {_ge: 0}, score: {_ge: 0}, name: {_eq: "x"}}`},
			} {
				b.Run(fmt.Sprintf("%d/%s", n, q.name), func(b *testing.B) { scanBench(b, d, tx, n, q.query) })
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func scanBench(b *testing.B, d *dbase, tx *store.Tx, n int, filter string) {
	if filter == "" { // the store alone
		c, err := tx.Collection("P")
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			for _, err := range tx.Scan(c, store.Range{}) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	} else {
		p, err := Compile(d.generated(), Request{Query: `{ P(filter: ` + filter + `) { name } }`})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := p.Run(context.Background(), tx, io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/row")
}

func BenchmarkRead(b *testing.B) {
	d := people(b, 10_000)
	id := docIDOf.FindStringSubmatch(d.must(`{ P(limit: 1, offset: 5000) { _docID } }`))[1]
	for _, q := range []struct{ name, query string }{
		{"point", `{ P(docID: "` + id + `") { _docID name city age } }`},
		{"first100", `{ P(limit: 100) { _docID name city age height active born notes tags score } }`},
		{"top10", `{ P(order: {score: DESC}, limit: 10) { name } }`},
		{"all", `{ P { _docID name city age } }`},
		{"sorted", `{ P(order: [{city: ASC}, {age: DESC}]) { name } }`},
		{"count", `{ _count(P: {}) }`},
	} {
		b.Run(q.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				err := d.store.View(context.Background(), store.System, func(tx *store.Tx) error {
					p, err := Compile(d.generated(), Request{Query: q.query})
					if err != nil {
						return err
					}
					return p.Run(context.Background(), tx, io.Discard)
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A list relation costs one pass over its far side, whatever the number of parents.
func BenchmarkRelation(b *testing.B) {
	for _, parents := range []int{100, 1000} {
		d := open(b)
		d.mustAdd(`type A { n: Int bs: [B] } type B { n: Int m: Int a: A }`)
		family(d, parents, 10)
		b.Run(fmt.Sprint(parents), func(b *testing.B) {
			for b.Loop() {
				d.must(`{ A { n bs { n m } } }`)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(10*parents), "ns/child")
		})
	}
}

// family makes parents with children each.
func family(d *dbase, parents, children int) {
	d.t.Helper()
	familyFrom(d, 0, parents, children)
}

// familyFrom numbers the parents from first.
func familyFrom(d *dbase, first, parents, children int) {
	d.t.Helper()
	var in strings.Builder
	for i := range parents {
		fmt.Fprintf(&in, "{n: %d}", first+i)
	}
	ids := docIDOf.FindAllStringSubmatch(d.must(`mutation { create_A(input: [`+in.String()+`]) { _docID } }`), -1)
	for from := 0; from < len(ids); from += 100 {
		in.Reset()
		for i, id := range ids[from:min(from+100, len(ids))] {
			for k := range children {
				fmt.Fprintf(&in, "{n: %d, m: %d, a: %q}", first+from+i, k, id[1])
			}
		}
		d.must(`mutation { create_B(input: [` + in.String() + `]) { __typename } }`)
	}
}

func BenchmarkNewSchema(b *testing.B) {
	for _, n := range []int{10, 1000} {
		d := open(b)
		var sdl strings.Builder
		for i := range n {
			fmt.Fprintf(&sdl, "type T%d { a: String b: Int c: Float d: DateTime e: [String!] }\n", i)
		}
		d.mustAdd(sdl.String())
		cs := d.store.Schema().Collections()
		first := NewSchema(cs, nil, Limits{})
		b.Run(fmt.Sprintf("fresh/%d", n), func(b *testing.B) {
			for b.Loop() {
				NewSchema(cs, nil, Limits{})
			}
		})
		b.Run(fmt.Sprintf("shared/%d", n), func(b *testing.B) {
			for b.Loop() {
				NewSchema(cs, first, Limits{})
			}
		})
	}
}

// Looking back costs a pass over the histories of the documents that changed since.
func BenchmarkAsOf(b *testing.B) {
	const n = 10_000
	d := people(b, n)
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add((n + 1) * time.Second) // a document a second
	d.must(`mutation { update_P(filter: {active: {_eq: true}}, input: {score: 1}) { __typename } }`)
	for _, when := range []struct{ name, at string }{{"now", "2100-01-01T00:00:00Z"}, {"half changed", created.Format(time.RFC3339)}} {
		b.Run(when.name, func(b *testing.B) {
			query := `{ P(asOf: "` + when.at + `", filter: {age: {_gt: 98}}) { name } }`
			for b.Loop() {
				d.must(query)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/document")
		})
	}
}

package query

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/pandodb/pando/internal/store"
)

// What a view costs beside its query, and a refresh after one change.
func BenchmarkView(b *testing.B) {
	const n = 10_000
	d := people(b, n)
	for _, kind := range []string{"Plain", "Stored"} {
		sdl := fmt.Sprintf("type %s @materialized(if: %v) { name: String city: String age: Int years: Int }", kind, kind == "Stored")
		if err := d.addView("P { name city age years: score }\nas\n" + sdl); err != nil {
			b.Fatal(err)
		}
	}
	if err := d.addView("P(order: {name: ASC}, limit: 10) { name }\nas\ntype Top { name: String }"); err != nil {
		b.Fatal(err)
	}
	if _, err := d.refresh(); err != nil {
		b.Fatal(err)
	}
	for _, q := range []string{
		`{ P(filter: {city: {_like: "%9"}}) { name city age score } }`,
		`{ Plain(filter: {city: {_like: "%9"}}) { name city age years } }`,
		`{ Stored(filter: {city: {_like: "%9"}}) { name city age years } }`,
		`{ _sum(Plain: {field: age}) }`,
		`{ _sum(Stored: {field: age}) }`,
	} {
		b.Run(q, func(b *testing.B) {
			b.ReportAllocs()
			p, err := Compile(d.generated(), Request{Query: q})
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				err := d.store.View(context.Background(), store.System, func(tx *store.Tx) error { return p.Run(context.Background(), tx, io.Discard) })
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/document")
		})
	}
	id := docIDOf.FindStringSubmatch(d.must(`{ P(limit: 1) { _docID } }`))[1]
	for _, name := range []string{"Stored", "Top"} {
		i := 0
		b.Run("refresh after one change: "+name, func(b *testing.B) {
			for b.Loop() {
				i++
				d.must(fmt.Sprintf(`mutation { update_P(docID: "%s", input: {age: %d}) { age } }`, id, i))
				if _, err := d.refresh(name); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

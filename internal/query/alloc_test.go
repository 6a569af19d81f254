//go:build !race

package query

import (
	"context"
	"io"
	"testing"

	"github.com/pandodb/pando/internal/store"
)

// A filter over scalars, or an aggregate, allocates nothing per document beyond what
// the scan does.
func TestConditionsAllocateNothing(t *testing.T) {
	const n = 1000
	d := people(t, n)
	allocs := func(query string) (n float64) {
		p, err := Compile(d.generated(), Request{Query: query})
		if err != nil {
			t.Fatal(err)
		}
		err = d.store.View(context.Background(), store.System, func(tx *store.Tx) error {
			n = testing.AllocsPerRun(5, func() {
				if err := p.Run(context.Background(), tx, io.Discard); err != nil {
					t.Fatal(err)
				}
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	counting := func(filter string) float64 { return allocs(`{ _count(P: {filter: ` + filter + ` offset: 1}) }`) }
	scan := counting(`{}`)
	for _, filter := range []string{`{age: {_gt: 200}}`, `{city: {_eq: "x"}}`, `{notes: {_like: "%x%y"}}`, `{notes: {_ilike: "%X%Y"}}`,
		`{born: {_lt: "1980-01-01T00:00:00Z"}, height: {_in: [1.5, 2.5]}}`, `{_or: [{age: {_in: [200, 201, 202, 203, 204, 205, 206, 207, 208]}}, {active: null}, {_docID: {_eq: null}}]}`,
		`{_docID: {_nin: []}, age: {_lt: 0}}`} {
		if got := counting(filter); got > scan+n/4 {
			t.Errorf("%s: %v allocations for %d documents, %v without a condition", filter, got, n, scan)
		}
	}
	for _, query := range []string{`{ _sum(P: {field: score}) _avg(P: {field: height, filter: {age: {_gt: 3}}}) _min(P: {field: height}) _max(P: {field: age, limit: 900}) }`,
		`{ _sum(P: {field: score, filter: {_alias: {n: {_gt: 1}}}}) P(limit: 1) { n: _count(tags: {filter: {_ne: "a"}}) } }`,
		`{ P(groupBy: [active]) { active _count(_group: {}) _sum(_group: {field: score, filter: {city: {_ne: "x"}}}) _min(_group: {field: age, offset: 2}) } }`} {
		if got := allocs(query); got > scan+n/4 {
			t.Errorf("%s: %v allocations for %d documents, %v without an aggregate", query, got, n, scan)
		}
	}
}

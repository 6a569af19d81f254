//go:build !race

package query

import (
	"context"
	"io"
	"testing"

	"github.com/pandodb/pando/internal/store"
)

// A filter over scalars allocates nothing per document beyond what the scan does.
func TestConditionsAllocateNothing(t *testing.T) {
	const n = 1000
	d := people(t, n)
	allocs := func(filter string) (n float64) {
		p, err := Compile(d.generated(), Request{Query: `{ _count(P: {filter: ` + filter + ` offset: 1}) }`})
		if err != nil {
			t.Fatal(err)
		}
		err = d.store.View(context.Background(), func(tx *store.Tx) error {
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
	scan := allocs(`{}`)
	for _, filter := range []string{`{age: {_gt: 200}}`, `{city: {_eq: "x"}}`, `{notes: {_like: "%x%y"}}`, `{notes: {_ilike: "%X%Y"}}`,
		`{born: {_lt: "1980-01-01T00:00:00Z"}, height: {_in: [1.5, 2.5]}}`, `{_or: [{age: {_in: [200, 201, 202, 203, 204, 205, 206, 207, 208]}}, {active: null}, {_docID: {_eq: null}}]}`,
		`{_docID: {_nin: []}, age: {_lt: 0}}`} {
		if got := allocs(filter); got > scan+n/4 {
			t.Errorf("%s: %v allocations for %d documents, %v without a condition", filter, got, n, scan)
		}
	}
}

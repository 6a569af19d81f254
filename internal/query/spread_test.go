package query

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
)

// What passes over a large collection, in all the ways there are.
var spreading = []string{
	`{ P(filter: {age: {_lt: 3}}) { name } }`,
	`{ P(filter: {age: {_lt: 90}}, limit: 7, offset: 20) { name } }`,
	`{ P(filter: {notes: {_like: "%99%"}}, limit: 2000) { name city } }`,
	`{ P(filter: {age: {_eq: -1}}) { name } }`,
	`{ P(filter: {_or: [{city: {_eq: "city 3"}}, {_not: {height: {_lt: 190}}}]}) { _docID } }`,
	`{ P(filter: {active: {_eq: true}}, order: [{age: DESC}, {city: ASC}], limit: 10, offset: 3) { name age city } }`,
	`{ P(order: {age: ASC}, limit: 500) { name } }`,
	`{ P(order: {height: DESC}, limit: 1) { name } }`,
	`{ _count(P: {filter: {age: {_ge: 50}}}) }`,
	`{ _sum(P: {field: height}) _avg(P: {field: height}) _min(P: {field: age}) _max(P: {field: score}) more: _count(P: {}) }`,
	`{ _avg(P: {field: height, filter: {city: {_like: "%7"}}}) _sum(P: {field: score, filter: {city: {_like: "%7"}}}) }`,
	`{ P(groupBy: [city]) { city _count(_group: {}) _avg(_group: {field: height}) _max(_group: {field: score}) } }`,
	`{ P(groupBy: [age, active], filter: {city: {_ne: "city 1"}}, order: {age: DESC}, limit: 9) { age active _sum(_group: {field: height}) } }`,
	`{ P(groupBy: [name]) { name n: _count(_group: {filter: {age: {_gt: 10}}}) } }`,
	`{ P(groupBy: []) { _sum(_group: {field: height}) } }`,
	`{ P(groupBy: [active]) { active _group(limit: 2) { name } _count(_group: {}) } }`,
}

// answers runs a request on a snapshot, where other cores help.
func (d *dbase) answers(t testing.TB, query string) string {
	t.Helper()
	out, err := d.exec(Request{Query: query})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return string(out)
}

// alone runs a request in a transaction that may write, which belongs to one
// goroutine.
func (d *dbase) alone(t testing.TB, query string) string {
	t.Helper()
	p, err := Compile(d.generated(), Request{Query: query})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = d.store.Update(t.Context(), store.As(d.key), func(tx *store.Tx) error { return p.Run(t.Context(), tx, &out) })
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out.String()
}

func TestAnswersAreTheSameHoweverManyCoresHelp(t *testing.T) {
	t.Parallel()
	d := people(t, 9000)
	d.must(`mutation { delete_P(filter: {age: {_eq: 17}}) { __typename } }`)
	if err := d.store.View(t.Context(), store.System, func(tx *store.Tx) error {
		x := &run{tx: tx}
		n, err := x.parts(&scan{coll: d.generated().collections["P"]})
		if n < 4 {
			t.Errorf("a pass is made in %d parts: nothing would be tested", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, q := range spreading {
		want := d.alone(t, q)
		wg.Go(func() { // beside each other: some get help, some none
			for range 3 {
				if got := d.answers(t, q); got != want {
					t.Errorf("%s:\ngot  %.300s\nwant %.300s", q, got, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestPartsHoldEachDocumentOnce(t *testing.T) {
	t.Parallel()
	for n := 4; n <= maxParts; n *= 2 {
		var last dag.DocID
		for i := range n {
			r := rangeOf(i, n)
			if r.After != last {
				t.Fatalf("part %d of %d begins after %x, the one before ends with %x", i, n, r.After[:2], last[:2])
			}
			last = r.Through
		}
		if last != (dag.DocID{}) {
			t.Errorf("the last of %d parts ends with %x", n, last[:2])
		}
	}
}

func TestAWidePassEndsWithItsReader(t *testing.T) {
	t.Parallel()
	d := people(t, 9000)
	run := func(ctx context.Context, query string, w io.Writer) error {
		p, err := Compile(d.generated(), Request{Query: query})
		if err != nil {
			t.Fatal(err)
		}
		return d.store.View(t.Context(), store.System, func(tx *store.Tx) error { return p.Run(ctx, tx, w) })
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	for _, q := range spreading[4:] {
		if err := run(gone, q, io.Discard); !errors.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v, want that it was cancelled", q, err)
		}
	}
	broken := writerFunc(func([]byte) (int, error) { return 0, errors.New("the client has gone") })
	if err := run(t.Context(), `{ P(filter: {age: {_ge: 0}}) { name notes } }`, broken); err == nil || !strings.Contains(err.Error(), "the client has gone") {
		t.Errorf("the error of a writer: %v", err)
	}
	if busy := d.schemas.cores.busy.Load(); busy != 0 {
		t.Errorf("%d cores are still taken", busy)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestAWidePassHoldsNoMoreThanIsAllowed(t *testing.T) {
	t.Parallel()
	d := people(t, 9000)
	for _, q := range []string{
		`{ P(groupBy: [name]) { name _count(_group: {}) } }`,
		`{ P(order: {age: ASC}, limit: 900) { name } }`,
	} {
		s := NewSchema(d.store.Schema().All(), nil, Limits{Held: 300 << 10})
		s.cores = &cores{}
		p, err := Compile(s, Request{Query: q})
		if err != nil {
			t.Fatal(err)
		}
		err = d.store.View(t.Context(), store.System, func(tx *store.Tx) error { return p.Run(t.Context(), tx, io.Discard) })
		if !errors.Is(err, fault.TooLarge) {
			t.Errorf("%s: %v, want TooLarge", q, err)
		}
	}
}

func BenchmarkSpread(b *testing.B) {
	d := people(b, 100_000)
	for _, q := range []struct{ name, query string }{
		{"filter", `{ P(filter: {age: {_gt: 200}}) { name } }`},
		{"half", `{ P(filter: {active: {_eq: true}}) { name } }`},
		{"sum", `{ _sum(P: {field: score}) }`},
		{"group", `{ P(groupBy: [city]) { city _count(_group: {}) } }`},
		{"first", `{ P(order: {score: DESC}, limit: 10) { name } }`},
	} {
		p, err := Compile(d.generated(), Request{Query: q.query})
		if err != nil {
			b.Fatal(err)
		}
		run := func(tx *store.Tx) error { return p.Run(context.Background(), tx, io.Discard) }
		b.Run(q.name+"/one core", func(b *testing.B) {
			for b.Loop() {
				if err := d.store.Update(context.Background(), store.As(d.key), run); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(q.name+"/all cores", func(b *testing.B) {
			for b.Loop() {
				if err := d.store.View(context.Background(), store.System, run); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

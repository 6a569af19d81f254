package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/pandodb/pando"
)

// grow prints how the time of each operation grows with the number of documents, as
// the slope of a line through the points on logarithmic scales: 0 means that it does
// not grow, 1 that it grows as the documents do.
func (s settings) grow(ctx context.Context, dir string) error {
	p := &pair{}
	var err error
	if p.pando, err = pando.Open(ctx, filepath.Join(dir, "grows"), nil); err != nil {
		return err
	}
	defer p.pando.Close()
	if _, err := p.pando.AddSchema(ctx, types()); err != nil {
		return err
	}
	g := &growing{p: p}
	var sizes []int
	for n := 1000; n <= s.most; n *= 10 {
		if err := g.fill(ctx, n); err != nil {
			return err
		}
		if err := g.measure(ctx, s.rounds); err != nil {
			return fmt.Errorf("with %d documents: %w", n, err)
		}
		sizes = append(sizes, n)
		fmt.Fprintf(os.Stderr, "%d documents done\n", n)
	}
	g.print(sizes)
	return collections(ctx, filepath.Join(dir, "collections"))
}

// growing is one collection with six indexes that grows.
type growing struct {
	p     *pair
	ids   []string
	names []string
	times map[string][]float64 // nanoseconds, by what was done, for each size
}

func (g *growing) fill(ctx context.Context, n int) error {
	all := people(n)
	for from := len(g.ids); from < n; from += batch {
		part := all[from:min(from+batch, n)]
		ids, err := g.p.create(ctx, "Indexed", part)
		if err != nil {
			return err
		}
		g.ids = append(g.ids, ids...)
	}
	g.p.people = all
	return nil
}

// some is how many documents one transaction of a measurement writes: so many that
// it is not the disk's fsync that is measured.
const some = 100

func (g *growing) measure(ctx context.Context, rounds int) error {
	n, next := len(g.ids), len(g.ids)+1_000_000_000
	ask := func(text string, vars map[string]any) error {
		_, err := g.p.ask(ctx, text, vars)
		return err
	}
	id := func(i int) string { return g.ids[i*7919%n] }
	var fresh []string // what was put is deleted again: the size stays
	steps := []struct {
		name string
		per  int // how many things one step does
		do   func(i int) error
	}{
		{"put, each of 100", some, func(int) error {
			docs := make([]person, some)
			for k := range docs {
				docs[k] = g.p.people[k]
				docs[k].N, docs[k].Email = next, fmt.Sprintf("p%d@example.org", next)
				next++
			}
			ids, err := g.p.create(ctx, "Indexed", docs)
			fresh = append(fresh, ids...)
			return err
		}},
		{"overwrite, each of 100", some, func(i int) error {
			ids := make([]string, some)
			for k := range ids {
				ids[k] = id(i*some + k)
			}
			return ask(`mutation ($id: [ID], $v: Int) { update_Indexed(docID: $id, input: {points: $v}) { _docID } }`, map[string]any{"id": ids, "v": next + i})
		}},
		{"delete, each of 100", some, func(int) error {
			ids := fresh[:some]
			fresh = fresh[some:]
			return ask(`mutation ($id: [ID]) { delete_Indexed(docID: $id) { _docID } }`, map[string]any{"id": ids})
		}},
		{"read by docID", 1, func(i int) error {
			return ask(`query ($id: [String!]) { Indexed(docID: $id) { n name city age } }`, map[string]any{"id": []string{id(i)}})
		}},
		{"read by a unique index", 1, func(i int) error {
			return ask(`query ($v: String) { Indexed(filter: {email: {_eq: $v}}) { n name city age } }`, map[string]any{"v": g.p.people[i*7919%n].Email})
		}},
		{"read a range of 100 by an index", 1, func(i int) error {
			a := i * 7919 % (n - 100)
			return ask(`query ($a: Int, $b: Int) { Indexed(filter: {n: {_ge: $a, _lt: $b}}) { n name } }`, map[string]any{"a": a, "b": a + 100})
		}},
		{"first 10 in the order of an index", 1, func(int) error {
			return ask(`{ Indexed(order: {points: DESC}, limit: 10) { n points } }`, nil)
		}},
		{"count of all", 1, func(int) error { return ask(`{ _count(Indexed: {}) }`, nil) }},
		{"scan, each document", n, func(int) error {
			return ask(`{ _count(Indexed: {filter: {name: {_like: "%nobody%"}}}) }`, nil)
		}},
	}
	if g.times == nil {
		g.times = map[string][]float64{}
	}
	for _, st := range steps {
		var figures []float64
		for round := range max(rounds, 9) {
			times := 1
			if st.per == 1 {
				times = 20
			}
			start := time.Now()
			for k := range times {
				if err := st.do(round*times + k + 1); err != nil {
					return fmt.Errorf("%s: %w", st.name, err)
				}
			}
			figures = append(figures, float64(time.Since(start).Nanoseconds())/float64(times*st.per))
		}
		g.note(st.name, middle(figures))
	}
	bytes, err := g.streamed(ctx)
	g.note("memory of streaming all, in bytes", bytes)
	return err
}

func (g *growing) note(name string, v float64) {
	if len(g.times[name]) == 0 {
		g.names = append(g.names, name)
	}
	g.times[name] = append(g.times[name], v)
}

// streamed returns by how much the heap was larger while all documents were written
// out, at most.
func (g *growing) streamed(ctx context.Context) (float64, error) {
	w := &heapWatcher{}
	runtime.GC()
	before := heapBytes()
	res := g.p.pando.Stream(ctx, pando.Request{Query: `{ Indexed { _docID n name email city age score active joined notes points } }`}, w)
	return float64(max(w.most, before) - before), res.Err()
}

// heapWatcher is a reader who keeps nothing, and looks at the heap now and then.
type heapWatcher struct {
	most uint64
	seen int
}

// lookEvery is how many bytes pass between two looks, which collect garbage.
const lookEvery = 8 << 20

func (w *heapWatcher) Write(b []byte) (int, error) {
	if w.seen += len(b); w.seen >= lookEvery || w.most == 0 {
		w.seen = 0
		runtime.GC()
		w.most = max(w.most, heapBytes())
	}
	return len(b), nil
}

func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (g *growing) print(sizes []int) {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t")
	for _, n := range sizes {
		fmt.Fprintf(t, "%d\t", n)
	}
	fmt.Fprintln(t, "SLOPE\t")
	for _, name := range g.names {
		fmt.Fprintf(t, "%s\t", name)
		for _, v := range g.times[name] {
			if name == "memory of streaming all, in bytes" {
				fmt.Fprintf(t, "%.0f kB\t", v/1024)
			} else {
				fmt.Fprintf(t, "%s\t", span(v))
			}
		}
		fmt.Fprintf(t, "%+.2f\t\n", slope(sizes, g.times[name]))
	}
	t.Flush()
}

// slope is that of the line of least squares through the points on logarithmic scales.
func slope(sizes []int, values []float64) float64 {
	var sx, sy, sxx, sxy float64
	for i, v := range values {
		x, y := math.Log(float64(sizes[i])), math.Log(max(v, 1))
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	n := float64(len(values))
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// collections prints what adding a collection costs when there are few and many, and
// a first request after it, for which the GraphQL schema is generated.
func collections(ctx context.Context, dir string) error {
	db, err := pando.Open(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	var add, ask []float64
	for i := range 500 {
		start := time.Now()
		if _, err := db.AddSchema(ctx, fmt.Sprintf("type C%d { a: String b: Int @index c: Float d: DateTime e: [String!] f: JSON }", i)); err != nil {
			return err
		}
		added := time.Now()
		res := db.Exec(ctx, pando.Request{Query: fmt.Sprintf("{ C%d { a } }", i), Variables: json.RawMessage("{}")})
		if err := res.Err(); err != nil {
			return err
		}
		add, ask = append(add, float64(added.Sub(start).Nanoseconds())), append(ask, float64(time.Since(added).Nanoseconds()))
	}
	near := func(f []float64, n int) float64 { return middle(append([]float64(nil), f[n-5:n]...)) }
	fmt.Printf("\nadding the 5th collection %s, the 500th %s; the first request after it %s, %s (the middle of five)\n",
		span(near(add, 5)), span(near(add, 500)), span(near(ask, 5)), span(near(ask, 500)))
	return nil
}

package query

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// Whatever the schema, the documents and the request, the answer is that of the naive
// evaluator: with and without indexes, after every change, while indexes come and go
// and are half built, after the database was opened or rebuilt, and about the past.
func TestAnswersAreThoseOfTheNaiveEvaluator(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		plain, indexed := w.open(t, rt, false), w.open(t, rt, true)
		defer plain.store.Close()
		defer func() { indexed.store.Close() }() // the store of that moment
		for range 4 {
			for range rapid.IntRange(1, 15).Draw(rt, "changes") {
				w.apply(rt, plain, indexed)
			}
			w.remember(plain, indexed)
			w.pass(rt, indexed)
			for range 6 {
				w.ask(rt, plain, indexed)
			}
		}
	})
}

// The same over so many documents that what is done in batches is done in several.
func TestAnswersOverThousandsAreThoseOfTheNaiveEvaluator(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("makes thousands of documents")
	}
	story := rapid.Custom(func(rt *rapid.T) bool {
		w := newWorld(rt)
		w.types = w.types[:1] // relations to others are left out, too
		a := w.types[0]
		a.fields = slices.DeleteFunc(a.fields, func(f *naiveField) bool { return f.to != nil && f.to != a })
		for _, ix := range [][]schema.IndexField{{{Name: "n", Descending: true}}, {{Name: a.fields[1].name}, {Name: "n"}}} {
			a.indexes = append(a.indexes, schema.Index{Fields: ix})
		}
		near := &naiveField{name: "r9", to: a}
		a.fields = append(a.fields, near, &naiveField{name: "b9", to: a, many: true, far: "r9"})
		plain, indexed := w.open(t, rt, false), w.open(t, rt, true)
		defer plain.store.Close()
		defer indexed.store.Close()
		for range 12 {
			w.createMany(rt, a, 100, plain, indexed)
		}
		for range 30 {
			w.apply(rt, plain, indexed)
		}
		w.remember(plain, indexed)
		for range 8 {
			w.ask(rt, plain, indexed)
		}
		return true
	})
	for seed := range 2 {
		story.Example(seed)
	}
}

// createMany makes documents in one mutation.
func (w *world) createMany(t *rapid.T, typ *naiveType, n int, ds ...*dbase) {
	var docs []*naiveDoc
	var inputs []any
	for range n {
		d := &naiveDoc{typ: typ, values: map[string]any{"n": int64(w.next)}}
		input := map[string]any{"n": int64(w.next)}
		w.next++
		w.set(t, []*naiveDoc{d}, input, 5)
		docs, inputs = append(docs, d), append(inputs, input)
	}
	for _, d := range ds {
		out, err := d.exec(Request{Query: "mutation { create_" + typ.name + "(input: " + literal(inputs) + ") { _docID } }"})
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range docIDOf.FindAllSubmatch(out, -1) {
			docs[i].id = docID(m[1])
		}
	}
	for _, d := range docs {
		w.insert(d)
	}
}

// open makes a database with the schema of the world.
func (w *world) open(t *testing.T, rt *rapid.T, indexed bool) *dbase {
	d := openStore(t)
	if err := d.addSchema(w.sdl(indexed)); err != nil {
		rt.Fatalf("%s: %v", w.sdl(indexed), err)
	}
	return d
}

// pass lets something happen to a database that must not change an answer.
func (w *world) pass(t *rapid.T, d *dbase) {
	must := func(err error) {
		if err != nil {
			t.Fatalf("%s\n%v", w.sdl(true), err)
		}
	}
	typ := rapid.SampledFrom(w.types).Draw(t, "type")
	switch what := rapid.SampledFrom([]string{"", "", "open", "rebuild", "create index", "drop index", "build"}).Draw(t, "happens"); what {
	case "open", "rebuild":
		must(d.store.Close())
		if what == "rebuild" {
			_, err := store.Rebuild(t.Context(), "db", d.options, func(p store.Problem) { t.Fatalf("rebuild: %v", p) })
			must(err)
		}
		var err error
		d.store, err = store.Open("db", d.options)
		must(err)
		d.schemas = Schemas{}
	case "create index":
		ix := drawIndex(t, typ)
		must(d.store.Update(t.Context(), store.As(d.key), func(tx *store.Tx) error {
			c, err := tx.Collection(typ.name)
			if err == nil {
				_, err = tx.CreateIndex(c, ix)
			}
			return err
		}))
	case "drop index":
		must(d.store.Update(t.Context(), store.As(d.key), func(tx *store.Tx) error {
			c, err := tx.Collection(typ.name)
			if err != nil {
				return err
			}
			own := slices.DeleteFunc(slices.Clone(c.Indexes), func(ix schema.Index) bool { return ix.Automatic })
			if len(own) == 0 {
				return nil
			}
			return tx.DropIndex(c, rapid.SampledFrom(own).Draw(t, "drop").Name)
		}))
	case "build":
		must(d.store.BuildIndexes(t.Context()))
	}
}

// apply makes a change in all databases.
func (w *world) apply(t *rapid.T, ds ...*dbase) {
	text, made, touched := w.change(t)
	for _, d := range ds {
		out, err := d.exec(Request{Query: text})
		if err != nil {
			t.Fatalf("%s\n%s: %v", w.sdl(true), text, err)
		}
		if made != nil {
			id := docID(docIDOf.FindSubmatch(out)[1])
			if made.id != "" && made.id != id {
				t.Fatalf("%s: docID %s in one database, %s in the other", text, made.id, id)
			}
			made.id = id
			continue
		}
		var ids []string
		for _, m := range docIDOf.FindAllSubmatch(out, -1) {
			ids = append(ids, string(m[1]))
		}
		var want []string
		for _, d := range touched {
			want = append(want, string(d.id))
		}
		if !slices.Equal(ids, want) {
			t.Fatalf("%s\n%s: touched %v, want %v", w.sdl(true), text, ids, want)
		}
	}
	if made != nil {
		w.insert(made)
	}
}

// ask draws a request and compares the answers.
func (w *world) ask(t *rapid.T, ds ...*dbase) {
	asking.Lock()
	defer asking.Unlock()
	overflown = 0
	p := past{at: make([]time.Time, len(ds))}
	ask := func() { // the same of each, but for the time by its own clock
		reqs, want := w.requests(t, p.at)
		w.compare(t, ds, reqs, want)
	}
	if rapid.IntRange(0, 5).Draw(t, "past") > 0 {
		ask()
		return
	}
	p = rapid.SampledFrom(w.past).Draw(t, "then")
	w.as(p, ask)
}

// compare runs a request on each database and compares the answer.
func (w *world) compare(t *rapid.T, ds []*dbase, reqs []Request, want map[string]any) {
	for i, d := range ds {
		req := reqs[i]
		out, err := d.exec(req)
		if overflows(want) {
			if err == nil {
				t.Fatalf("database %d\n%s\n%s %s: a sum that does not fit is no error: %s", i, w.sdl(true), req.Query, req.Variables, out)
			}
			continue
		}
		if err != nil && overflown > 0 && strings.Contains(err.Error(), "does not fit 64 bits") {
			continue
		}
		if err != nil {
			t.Fatalf("%s\n%s %s: %v", w.sdl(true), req.Query, req.Variables, err)
		}
		dec := json.NewDecoder(bytes.NewReader(out))
		dec.UseNumber()
		var got any
		if err := dec.Decode(&got); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if bad := differ("data", got, want); bad != "" {
			t.Fatalf("database %d\n%s\n%s %s\n%s\nof\n%s", i, w.sdl(true), req.Query, req.Variables, bad, w.dump())
		}
	}
}

// requests draws a request about each of several times, if they are not zero, and says
// what it must answer.
func (w *world) requests(t *rapid.T, at []time.Time) (reqs []Request, want map[string]any) {
	same := func(r Request) []Request { return slices.Repeat([]Request{r}, len(at)) }
	kind := rapid.IntRange(0, 9).Draw(t, "request")
	if kind == 0 && at[0].IsZero() {
		var hosts []naiveHost
		for _, typ := range w.types {
			hosts = append(hosts, naiveHost{name: typ.name, typ: typ})
		}
		g := w.drawAggregate(t, hosts)
		return same(Request{Query: "{ x: " + g.name + g.arguments() + " }"}),
			map[string]any{"x": g.of(func(h naiveHost) []*naiveDoc { return h.typ.docs }, nil, false)}
	}
	typ := rapid.SampledFrom(w.types).Draw(t, "of")
	var args naiveArgs
	var sel []naiveSelection
	if kind <= 2 {
		w.drawGroups(t, typ, &args, &sel, 1)
	} else {
		args, sel = w.drawArgs(t, typ), w.drawSelection(t, typ, 2)
		args.drawAliases(t, sel)
	}
	args.deleted = rapid.IntRange(0, 5).Draw(t, "showDeleted") == 0
	asVariables := args.groupBy == nil && args.wholeFilter() != nil && rapid.Bool().Draw(t, "variables")
	for _, at := range at {
		if !at.IsZero() {
			args.asOf = at.Format(time.RFC3339Nano)
		}
		if asVariables {
			reqs = append(reqs, args.asVariables(typ, sel))
		} else {
			reqs = append(reqs, Request{Query: "{ " + typ.name + args.arguments() + " " + selectionText(sel) + " }"})
		}
	}
	return reqs, map[string]any{typ.name: args.rows(typ, typ.docs, sel)}
}

// asVariables writes a request with its arguments in variables.
func (a *naiveArgs) asVariables(typ *naiveType, sel []naiveSelection) Request {
	vars := map[string]any{"filter": a.wholeFilter()}
	text := "query ($filter: " + typ.name + "FilterArg"
	named := "filter: $filter"
	add := func(name, kind string, v any) {
		if v != nil {
			vars[name] = v
			text += ", $" + name + ": " + kind
			named += ", " + name + ": $" + name
		}
	}
	add("docID", "[String!]", a.docID)
	if a.order != nil {
		add("order", "["+typ.name+"OrderArg]", orderValue(a.order))
	}
	add("limit", "Int", a.limit)
	add("offset", "Int", a.offset)
	if a.asOf != "" {
		add("asOf", "DateTime", a.asOf)
	}
	if a.deleted {
		add("showDeleted", "Boolean", true)
	}
	b, err := json.Marshal(vars)
	if err != nil {
		panic(err)
	}
	return Request{Query: text + ") { " + typ.name + "(" + named + ") " + selectionText(sel) + " }", Variables: b}
}

// dump shows the documents.
func (w *world) dump() string {
	var b strings.Builder
	for _, t := range w.types {
		for _, d := range t.docs {
			fmt.Fprintf(&b, "%s %s deleted=%v %v\n", t.name, d.id, d.deleted, d.values)
		}
	}
	return b.String()
}

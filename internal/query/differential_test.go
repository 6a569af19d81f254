package query

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Whatever the schema, the documents and the request, the answer is that of the naive
// evaluator, with and without indexes, and after every change.
func TestAnswersAreThoseOfTheNaiveEvaluator(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		plain, indexed := w.open(t, rt, false), w.open(t, rt, true)
		defer plain.store.Close()
		defer indexed.store.Close()
		for range 4 {
			for range rapid.IntRange(1, 15).Draw(rt, "changes") {
				w.apply(rt, plain, indexed)
			}
			for range 6 {
				w.ask(rt, plain, indexed)
			}
		}
	})
}

// open makes a database with the schema of the world.
func (w *world) open(t *testing.T, rt *rapid.T, indexed bool) *dbase {
	d := openStore(t)
	if err := d.addSchema(w.sdl(indexed)); err != nil {
		rt.Fatalf("%s: %v", w.sdl(indexed), err)
	}
	return d
}

// apply makes a change in all databases.
func (w *world) apply(t *rapid.T, ds ...*dbase) {
	text, made := w.change(t)
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
		}
	}
	if made != nil {
		w.insert(made)
	}
}

// ask draws a request and compares the answers.
func (w *world) ask(t *rapid.T, ds ...*dbase) {
	typ := rapid.SampledFrom(w.types).Draw(t, "of")
	args := w.drawArgs(t, typ)
	args.deleted = rapid.IntRange(0, 5).Draw(t, "showDeleted") == 0
	sel := w.drawSelection(t, typ, 2)
	req := Request{Query: "{ " + typ.name + args.arguments() + " " + selectionText(sel) + " }"}
	if rapid.Bool().Draw(t, "variables") && args.filter != nil {
		req = args.asVariables(typ, sel)
	}
	rows := []any{}
	for _, d := range args.list(typ, typ.docs) {
		rows = append(rows, d.answer(sel, args.deleted))
	}
	want := canonicalJSON(map[string]any{typ.name: rows})
	for i, d := range ds {
		out, err := d.exec(req)
		if err != nil {
			t.Fatalf("%s\n%s %s: %v", w.sdl(true), req.Query, req.Variables, err)
		}
		got := reread(t, out)
		if got != want {
			t.Fatalf("database %d\n%s\n%s %s\ngot  %s\nwant %s\nof\n%s", i, w.sdl(true), req.Query, req.Variables, got, want, typ.dump())
		}
	}
}

// asVariables writes a request with its arguments in variables.
func (a *naiveArgs) asVariables(typ *naiveType, sel []naiveSelection) Request {
	vars := map[string]any{"filter": a.filter}
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
	if a.deleted {
		add("showDeleted", "Boolean", true)
	}
	b, err := json.Marshal(vars)
	if err != nil {
		panic(err)
	}
	return Request{Query: text + ") { " + typ.name + "(" + named + ") " + selectionText(sel) + " }", Variables: b}
}

// reread brings an answer into the form that answers are compared in.
func reread(t *rapid.T, out []byte) string {
	dec := json.NewDecoder(bytes.NewReader(out))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return canonicalJSON(v)
}

// dump shows the documents of a type.
func (t *naiveType) dump() string {
	var b strings.Builder
	for _, d := range t.docs {
		fmt.Fprintf(&b, "%s deleted=%v %s\n", d.id, d.deleted, canonicalJSON(d.values))
	}
	return b.String()
}

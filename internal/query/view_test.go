package query

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// addView adds a view: its query, a line with "as", and its SDL.
func (d *dbase) addView(text string) error {
	query, sdl, _ := strings.Cut("\n"+text, "\nas\n")
	return d.store.Update(context.Background(), store.As(d.key), func(tx *store.Tx) error {
		_, err := d.schemas.AddView(context.Background(), tx, schema.ViewSource{Query: query, SDL: sdl})
		return err
	})
}

// refresh refreshes views as a database does.
func (d *dbase) refresh(names ...string) (did []Refreshed, err error) {
	vs, err := d.schemas.InOrder(d.store.Schema(), names)
	if err != nil {
		return nil, err
	}
	for _, v := range vs {
		tx, err := d.store.Begin(store.As(d.key), false)
		if err != nil {
			return did, err
		}
		defer tx.Discard()
		r, err := d.schemas.Refresh(context.Background(), tx, v)
		if err != nil {
			return did, err
		}
		if err := tx.Commit(context.Background()); err != nil {
			return did, err
		}
		did = append(did, r)
	}
	return did, nil
}

// refreshed is what a script prints of a refresh.
func refreshed(did []Refreshed, err error) string {
	var b strings.Builder
	for _, r := range did {
		how := "changes"
		if r.Whole {
			how = "whole"
		}
		fmt.Fprintf(&b, "%s: %d rows, %d written, %d removed (%s)\n", r.Name, r.Rows, r.Written, r.Removed, how)
	}
	if err != nil {
		fmt.Fprintf(&b, "error: %v\n", err)
	}
	return b.String()
}

func (d *dbase) dropView(name string) error {
	return d.store.Update(context.Background(), store.As(d.key), func(tx *store.Tx) error { return d.schemas.DropView(tx, name) })
}

// What a view reads is counted as its own in an explanation.
func TestExplainedView(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.mustAdd(`type Song { title: String  by: Singer } type Singer { name: String  songs: [Song] }`)
	if err := d.addView("Song { title by { name } }\nas\ntype V @materialized(if: false) { title: String by: VBy } interface VBy { name: String }"); err != nil {
		t.Fatal(err)
	}
	d.must(`mutation { create_Singer(input: {name: "kim"}) { name } create_Song(input: [{title: "a"}, {title: "b"}]) { title } }`)
	got := d.must(`query @explain(type: execute) { V(filter: {title: {_eq: "b"}}) { title } }`)
	for _, want := range []string{`scan Song [2 rows, 2 scanned`, `view V [1 rows`} {
		if !strings.Contains(got, want) {
			t.Errorf("the explanation lacks %q: %s", want, got)
		}
	}
	if strings.Contains(got, ":-") {
		t.Errorf("something was read less than never: %s", got)
	}
}

// Columns that a request does not name are not computed; one that it names anywhere
// is: in variables, in fragments, in a filter on another view.
func TestViewsComputeWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.mustAdd(`type Song { title: String  plays: Int  stars: Int }`)
	for _, text := range []string{
		"Song { title plays stars }\nas\ntype V @materialized(if: false) { title: String plays: Int stars: Int }",
		"V(filter: {stars: {_gt: 1}}) { name: title plays }\nas\ntype W @materialized(if: false) { name: String plays: Int }",
	} {
		if err := d.addView(text); err != nil {
			t.Fatal(err)
		}
	}
	d.must(`mutation { create_Song(input: [{title: "a", plays: 1, stars: 1}, {title: "b", plays: 2, stars: 3}, {title: "c", plays: 3, stars: 2}]) { title } }`)
	for _, c := range []struct{ query, variables, want string }{
		{`query($f: VFilterArg) { V(filter: $f) { title } }`, `{"f": {"_not": {"plays": {"_in": [1, 3]}}}}`, `{"V":[{"title":"b"}]}`},
		{`query($o: [VOrderArg]) { V(order: $o, limit: 2) { title } }`, `{"o": [{"stars": "DESC"}]}`, `{"V":[{"title":"b"},{"title":"c"}]}`},
		{`query($by: [VField!]) { V(groupBy: $by, order: {_alias: {n: ASC}}) { n: _count(_group: {}) } }`, `{"by": ["st\u0061rs"]}`, `{"V":[{"n":1},{"n":1},{"n":1}]}`},
		{`query($s: V__NumericSelector) { _sum(V: $s) }`, `{"s": {"field": "plays", "filter": {"stars": {"_ge": 2}}}}`, `{"_sum":5}`},
		{`{ V(order: {title: ASC}) { ...F } } fragment F on V { stars }`, ``, `{"V":[{"stars":1},{"stars":3},{"stars":2}]}`},
		{`query($f: WFilterArg) { W(filter: $f) { __typename } n: _count(W: {}) }`, `{"f": {"plays": {"_gt": 2}}}`, `{"W":[{"__typename":"W"}],"n":2}`},
	} {
		got, err := d.exec(Request{Query: c.query, Variables: []byte(c.variables)})
		if err != nil || string(got) != c.want {
			t.Errorf("%s %s\n got %s %v\nwant %s", c.query, c.variables, got, err, c.want)
		}
	}
}

// An aggregate in the query of a view finds its documents as in any other request.
func TestAggregatesInViewsUseIndexes(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int bs: [B] } type B { n: Int @index m: Int a: A }`)
	family(d, 100, 20)
	const query = `A { n c: _count(bs: {filter: {n: {_eq: 5}}}) }`
	if err := d.addView(query + "\nas\ntype V @materialized(if: false) { n: Int c: Int }"); err != nil {
		t.Fatal(err)
	}
	scanned := func(text string) (n int) {
		p, err := Compile(d.generated(), Request{Query: text})
		if err != nil {
			t.Fatal(err)
		}
		err = d.store.View(context.Background(), store.System, func(tx *store.Tx) error {
			x := p.newRun(context.Background(), tx, io.Discard)
			err := p.run(x)
			n = x.touched.scanned
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got, want := scanned(`{ V { n c } }`), scanned(`{ `+query+` }`); got != want {
		t.Errorf("%d documents scanned for the view, %d without it", got, want)
	}
}

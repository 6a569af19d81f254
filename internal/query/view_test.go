package query

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// addView adds a view: its query, a line with "as", and its SDL.
func (d *dbase) addView(text string) error {
	query, sdl, _ := strings.Cut("\n"+text, "\nas\n")
	return d.store.Update(context.Background(), d.key, func(tx *store.Tx) error {
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
		tx, err := d.store.Begin(d.key, false)
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
	return d.store.Update(context.Background(), d.key, func(tx *store.Tx) error { return d.schemas.DropView(tx, name) })
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

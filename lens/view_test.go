package lens_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/lens"
)

const people = `type Person { first: String last: String age: Int }`

func open(t *testing.T, dir string, l pando.Lenses) *pando.DB {
	t.Helper()
	db, err := pando.Open(t.Context(), dir, &pando.Options{Lenses: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func exec(t *testing.T, db *pando.DB, query string) string {
	t.Helper()
	r := db.Exec(t.Context(), pando.Request{Query: query})
	if err := r.Err(); err != nil {
		return err.Error()
	}
	return string(r.Data)
}

func TestRowsOfAViewPassThroughItsModules(t *testing.T) {
	t.Parallel()
	l := lens.New(lens.Options{})
	defer l.Close()
	dir := t.TempDir()
	db := open(t, dir, l)
	if _, err := db.AddSchema(t.Context(), people); err != nil {
		t.Fatal(err)
	}
	exec(t, db, `mutation { create_Person(input: [{first: "Ann", last: "Lee", age: 40}, {first: "Bo", last: "Ek", age: 20}]) { age } }`)
	src := pando.ViewSource{
		Query: `Person(order: {age: ASC}) { first last age }`,
		SDL:   `type Named @materialized(if: false) { name: String age: Int nothing: String }`,
		Transform: &pando.Transform{Lenses: []pando.Lens{
			{Path: pando.LensPath(lens.FullName(t)), Arguments: json.RawMessage(`{"separator":"_"}`)},
		}},
	}
	if _, err := db.AddView(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	const query = `{ Named { name age nothing } _count(Named: {filter: {name: {_like: "Ann%"}}}) }`
	const want = `{"Named":[{"name":"Bo_Ek","age":20,"nothing":null},{"name":"Ann_Lee","age":40,"nothing":null}],"_count":1}`
	if got := exec(t, db, query); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	exec(t, db, `mutation { update_Person(filter: {age: {_eq: 20}}, input: {last: "By"}) { age } }`)
	if got := exec(t, db, `{ Named(limit: 1) { name } }`); got != `{"Named":[{"name":"Bo_By"}]}` {
		t.Errorf("after an update: %s", got)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	// The module is in the database.
	again := open(t, dir, l)
	if got := exec(t, again, `{ Named(limit: 1) { name } }`); got != `{"Named":[{"name":"Bo_By"}]}` {
		t.Errorf("after a restart: %s", got)
	}
	again.Close()
	without := open(t, dir, nil)
	if r := without.Exec(t.Context(), pando.Request{Query: `{ Named { name } }`}); !errors.Is(r.Err(), pando.ErrUnavailable) {
		t.Errorf("without a runtime: %v", r.Err())
	}
	if got := exec(t, without, `{ _count(Person: {}) }`); got != `{"_count":2}` {
		t.Errorf("what needs no modules: %s", got)
	}
}

func TestThousandsOfRowsPassInBatches(t *testing.T) {
	t.Parallel()
	l := lens.New(lens.Options{})
	defer l.Close()
	db := open(t, "", l)
	if _, err := db.AddSchema(t.Context(), people); err != nil {
		t.Fatal(err)
	}
	const n = 1000
	err := db.Update(t.Context(), func(tx *pando.Tx) error {
		c, err := tx.Collection("Person")
		for i := 0; i < n && err == nil; i++ {
			_, err = c.Create(map[string]any{"first": fmt.Sprint(i), "last": "x", "age": i})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.AddView(t.Context(), pando.ViewSource{
		Query:     `Person { first last age }`,
		SDL:       `type Named @materialized(if: false) { name: String age: Int }`,
		Transform: &pando.Transform{Lenses: []pando.Lens{{Path: pando.LensPath(lens.FullName(t))}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := exec(t, db, `{ _count(Named: {}) _sum(Named: {field: age}) }`), fmt.Sprintf(`{"_count":%d,"_sum":%d}`, n, n*(n-1)/2); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestModulesComeWithTheRequestOrNotAtAll(t *testing.T) {
	t.Parallel()
	l := lens.New(lens.Options{})
	defer l.Close()
	db := open(t, "", l)
	if _, err := db.AddSchema(t.Context(), people); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "file:///etc/passwd", "http://127.0.0.1:1/m.wasm", "data:application/wasm;base64,%%%", "data:application/wasm;base64,AAAA", "sha256:00"} {
		_, err := db.AddView(t.Context(), pando.ViewSource{
			Query:     `Person { age }`,
			SDL:       `type Named @materialized(if: false) { age: Int }`,
			Transform: &pando.Transform{Lenses: []pando.Lens{{Path: path}}},
		})
		if !errors.Is(err, pando.ErrInvalid) {
			t.Errorf("path %q: %v, want it refused", path, err)
		}
	}
	if n := len(db.Views()); n != 0 {
		t.Errorf("%d views are left behind", n)
	}
}

package pando_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pandodb/pando"
)

// withCities is a database with documents that no index knows yet.
func withCities(t *testing.T, dir string, n int) *pando.DB {
	t.Helper()
	db, err := pando.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.AddSchema(t.Context(), `type City { name: String, people: Int, land: Land } type Land { name: String, cities: [City] }`); err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx *pando.Tx) error {
		cities, err := tx.Collection("City")
		for i := 0; i < n && err == nil; i++ {
			_, err = cities.Create(map[string]any{"name": fmt.Sprint("city ", i), "people": i % 10})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func wantIndexes(t *testing.T, db *pando.DB, collection, want string) {
	t.Helper()
	all, err := db.Indexes(collection)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ix := range all {
		got = append(got, fmt.Sprintf("%d %s ready: %v", ix.ID, ix.Name, ix.Ready))
	}
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("indexes of %s are %s, want %s", collection, s, want)
	}
}

func wantSoundDatabase(t *testing.T, db *pando.DB) {
	t.Helper()
	if err := db.Check(t.Context(), func(p pando.Problem) { t.Errorf("check finds %v", p) }); err != nil {
		t.Fatal(err)
	}
}

// An index is created on documents that are there, waited for, kept over a restart,
// and dropped.
func TestIndexesComeAndGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := withCities(t, dir, 3000)
	ix, err := db.CreateIndex(t.Context(), "City", pando.Index{Fields: []pando.IndexField{{Name: "people", Descending: true}, {Name: "land_id"}}})
	if err != nil {
		t.Fatal(err)
	}
	shown, err := json.Marshal(ix)
	if want := `{"Name":"City_people_ASC","ID":2,"Fields":[{"Name":"people","Descending":true},{"Name":"land_id","Descending":false}],"Unique":false}`; string(shown) != want || err != nil {
		t.Errorf("created %s, %v, want %s", shown, err, want)
	}
	if err := db.AwaitIndex(t.Context(), "City", "City_people_ASC"); err != nil {
		t.Fatal(err)
	}
	wantIndexes(t, db, "City", "1 City_land_id_ASC ready: true, 2 City_people_ASC ready: true")
	wantSoundDatabase(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = pando.Open(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	wantIndexes(t, db, "City", "1 City_land_id_ASC ready: true, 2 City_people_ASC ready: true")
	if err := db.DropIndex(t.Context(), "City", "City_people_ASC"); err != nil {
		t.Fatal(err)
	}
	wantIndexes(t, db, "City", "1 City_land_id_ASC ready: true")
	wantSoundDatabase(t, db)
}

func TestIndexesThatCannotBe(t *testing.T) {
	t.Parallel()
	db := withCities(t, "", 20)
	people := []pando.IndexField{{Name: "people"}}
	for _, c := range []struct {
		what string
		kind error
		text string
		do   func(ctx context.Context) error
	}{
		{"of an unknown collection", pando.ErrNotFound, "", func(ctx context.Context) error {
			_, err := db.CreateIndex(ctx, "Town", pando.Index{Fields: people})
			return err
		}},
		{"on an unknown field", pando.ErrInvalid, "creating an index on a non-existing property. Field: peple", func(ctx context.Context) error {
			_, err := db.CreateIndex(ctx, "City", pando.Index{Fields: []pando.IndexField{{Name: "peple"}}})
			return err
		}},
		{"that is not unique, and should", pando.ErrExists, "violates unique index", func(ctx context.Context) error {
			_, err := db.CreateIndex(ctx, "City", pando.Index{Fields: people, Unique: true})
			return err
		}},
		{"dropped, of a relation", pando.ErrInvalid, "relation land", func(ctx context.Context) error { return db.DropIndex(ctx, "City", "City_land_id_ASC") }},
		{"dropped, unknown", pando.ErrNotFound, "index with name doesn't exists", func(ctx context.Context) error { return db.DropIndex(ctx, "City", "no") }},
		{"awaited, unknown", pando.ErrNotFound, "index with name doesn't exists", func(ctx context.Context) error { return db.AwaitIndex(ctx, "City", "no") }},
	} {
		if err := c.do(t.Context()); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("index %s: got %v, want %v with %q", c.what, err, c.kind, c.text)
		}
	}
	wantIndexes(t, db, "City", "1 City_land_id_ASC ready: true")
	if _, err := db.CreateIndex(t.Context(), "City", pando.Index{Fields: []pando.IndexField{{Name: "name"}}, Unique: true}); err != nil {
		t.Errorf("a unique index on names that are: %v", err)
	}
	res := db.Exec(t.Context(), pando.Request{Query: `mutation { create_City(input: {name: "city 3"}) { name } }`})
	if err := res.Err(); !errors.Is(err, pando.ErrExists) || !strings.Contains(err.Error(), `name: "city 3"`) {
		t.Errorf("a second city 3: %v, want it refused", err)
	}
	wantSoundDatabase(t, db)
}

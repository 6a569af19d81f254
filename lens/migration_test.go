package lens_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/lens"
)

const joinNames = `[{"op": "remove", "path": "/Person/Fields/first"}, {"op": "remove", "path": "/Person/Fields/last"},
	{"op": "add", "path": "/Person/Fields/-", "value": {"Name": "name", "Kind": "String"}}]`

// migrated makes the version in which a module makes names, and uses it.
func migrated(t testing.TB, db *pando.DB, module []byte) (from, to string) {
	t.Helper()
	c, err := db.Collection("Person")
	if err != nil {
		t.Fatal(err)
	}
	made, err := db.PatchSchema(t.Context(), pando.SchemaPatch{
		Patch: joinNames, Activate: true,
		Lenses: &pando.Transform{Lenses: []pando.Lens{{Path: pando.LensPath(module), Arguments: json.RawMessage(`{"separator": " "}`)}}},
	})
	if err != nil || len(made) != 1 {
		t.Fatalf("%v, %v", made, err)
	}
	return c.Version.String(), made[0].Version.String()
}

func TestAModuleLeadsToTheNextVersionAndBack(t *testing.T) {
	t.Parallel()
	l := lens.New(lens.Options{})
	defer l.Close()
	dir := t.TempDir()
	db := open(t, dir, l)
	if _, err := db.AddSchema(t.Context(), people); err != nil {
		t.Fatal(err)
	}
	exec(t, db, `mutation { create_Person(input: [{first: "Ada", last: "Lovelace", age: 36}, {first: "Bo", last: "Ek", age: 20}]) { age } }`)
	v1, v2 := migrated(t, db, lens.FullName(t))
	if got, want := exec(t, db, `{ Person(filter: {name: {_like: "%Lovelace"}}) { name age } }`), `{"Person":[{"name":"Ada Lovelace","age":36}]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	exec(t, db, `mutation { update_Person(filter: {age: {_eq: 20}}, input: {name: "Grace Hopper"}) { age } }`)
	use := func(version string) {
		t.Helper()
		if _, err := db.ActivateVersion(t.Context(), version); err != nil {
			t.Fatal(err)
		}
	}
	use(v1)
	if got, want := exec(t, db, `{ Person(order: {age: ASC}) { first last } }`), `{"Person":[{"first":"Grace","last":"Hopper"},{"first":"Ada","last":"Lovelace"}]}`; got != want {
		t.Errorf("back: got %s, want %s", got, want)
	}
	use(v2)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, dir, l)
	if got, want := exec(t, db, `{ _count(Person: {filter: {name: {_in: ["Grace Hopper", "Ada Lovelace"]}}}) }`), `{"_count":2}`; got != want {
		t.Errorf("after a restart: got %s, want %s", got, want)
	}
}

func TestAModuleThatHangsHidesOneValue(t *testing.T) {
	t.Parallel()
	l := lens.New(lens.Options{Deadline: 20 * time.Millisecond})
	defer l.Close()
	db := open(t, "", l)
	if _, err := db.AddSchema(t.Context(), people); err != nil {
		t.Fatal(err)
	}
	exec(t, db, `mutation { create_Person(input: {first: "Ada", age: 36}) { age } }`)
	if _, err := db.PatchSchema(t.Context(), pando.SchemaPatch{
		Patch: joinNames, Lenses: &pando.Transform{Lenses: []pando.Lens{{Path: pando.LensPath([]byte("no module"))}}},
	}); !errors.Is(err, pando.ErrInvalid) {
		t.Errorf("a patch with what is no module: %v, want Invalid", err)
	}
	if n := len(db.Versions()); n != 1 {
		t.Errorf("%d versions, want the first alone", n)
	}
	migrated(t, db, lens.Hanging())
	if got, want := exec(t, db, `{ Person { name age } }`), `{"Person":[{"name":null,"age":36}]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What a document costs: a module, the same document again, and the rule that says the
// same where one can.
func BenchmarkMigration(b *testing.B) {
	const documents = 10_000
	l := lens.New(lens.Options{})
	defer l.Close()
	for _, c := range []struct {
		name   string
		module []byte
	}{{"rule", nil}, {"module", lens.FullName(b)}} {
		db, err := pando.Open(b.Context(), "", &pando.Options{Lenses: l})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := db.AddSchema(b.Context(), people); err != nil {
			b.Fatal(err)
		}
		err = db.Update(b.Context(), func(tx *pando.Tx) error {
			c, err := tx.Collection("Person")
			for i := 0; i < documents && err == nil; i++ {
				_, err = c.Create(map[string]any{"first": fmt.Sprint("F", i), "last": "Person", "age": i})
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		var v1, v2 string
		if c.module != nil {
			v1, v2 = migrated(b, db, c.module)
		} else {
			old, _ := db.Collection("Person")
			made, err := db.PatchSchema(b.Context(), pando.SchemaPatch{Patch: joinNames, Activate: true,
				Migration: []pando.Migration{{Do: "merge", From: []string{"first", "last"}, To: []string{"name"}}}})
			if err != nil {
				b.Fatal(err)
			}
			v1, v2 = old.Version.String(), made[0].Version.String()
		}
		scan := func(b *testing.B) {
			r := db.Exec(b.Context(), pando.Request{Query: `{ _count(Person: {filter: {name: {_like: "%1 Person"}}}) }`})
			if err := r.Err(); err != nil || !strings.Contains(string(r.Data), "1000") {
				b.Fatalf("%s, %v", r.Data, err)
			}
		}
		per := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/documents, "ns/doc")
		}
		b.Run(c.name+"/first", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer() // another version and back: nothing is kept
				for _, v := range []string{v1, v2} {
					if _, err := db.ActivateVersion(b.Context(), v); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				scan(b)
			}
			per(b)
		})
		b.Run(c.name+"/again", func(b *testing.B) {
			for b.Loop() {
				scan(b)
			}
			per(b)
		})
		db.Close()
	}
}

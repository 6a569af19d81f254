package pando_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pandodb/pando"
)

func TestRestoreMakesADirectoryOrNone(t *testing.T) {
	t.Parallel()
	db := library(t, pando.Identity{})
	must(t, db, `mutation { create_Author(input: [{name: "Ann"}, {name: "Bob"}]) { _docID } }`)
	must(t, db, `mutation { update_Author(filter: {name: {_eq: "Ann"}}, input: {age: 7}) { _docID } delete_Author(filter: {name: {_eq: "Bob"}}) { _docID } }`)
	var archive bytes.Buffer
	saved, err := db.Save(t.Context(), &archive)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	if _, err := pando.Restore(t.Context(), bytes.NewReader(archive.Bytes()[:archive.Len()-9]), dir, nil, nil); !errors.Is(err, pando.ErrCorrupt) {
		t.Errorf("cut off: got %v, want corrupt", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("cut off: the directory is there: %v", err)
	}
	done, err := pando.Restore(t.Context(), bytes.NewReader(archive.Bytes()), dir, nil, nil)
	if err != nil || done != saved {
		t.Fatalf("got %+v %v, want %+v", done, err, saved)
	}
	if _, err := pando.Restore(t.Context(), bytes.NewReader(archive.Bytes()), dir, nil, nil); !errors.Is(err, pando.ErrExists) {
		t.Errorf("over a database: got %v, want exists", err)
	}
	again, err := pando.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	const query = `{ Author(showDeleted: true) { _docID name age _deleted _version { cid author deltas { fieldName value } } } }`
	if got, want := must(t, again, query), must(t, db, query); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	a, err := db.Replica().Summaries(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b, err := again.Replica().Summaries(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i := range a {
		if a[i].Root != b[i].Root {
			t.Errorf("%s: root %x, want %x", a[i].Name, b[i].Root, a[i].Root)
		}
	}
}

// What a node made of its schema is restored with it: versions and which of them is
// used, indexes, views.
func TestRestoreKeepsWhatTheNodeMadeOfItsSchema(t *testing.T) {
	t.Parallel()
	db := library(t, pando.Identity{})
	must(t, db, `mutation { create_Author(input: [{name: "Ann", age: 7}, {name: "Bob", age: 9}]) { _docID } }`)
	old := collection(t, db, "Author").Version.String()
	patch(t, db, `[{"op": "add", "path": "/Author/Fields/-", "value": {"Name": "phone", "Kind": "String"}}]`)
	must(t, db, `mutation { update_Author(filter: {name: {_eq: "Ann"}}, input: {phone: "123"}) { _docID } }`)
	if _, err := db.CreateIndex(t.Context(), "Author", pando.Index{Name: "by_age", Fields: []pando.IndexField{{Name: "age"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.AddView(t.Context(), pando.ViewSource{Query: `Author { name phone }`, SDL: `type Phones @materialized(if: false) { name: String phone: String }`}); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if _, err := db.Save(t.Context(), &archive); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := pando.Restore(t.Context(), &archive, dir, nil, nil); err != nil {
		t.Fatal(err)
	}
	again, err := pando.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	expect(t, again, `{ Phones(order: {name: ASC}) { name phone } }`, must(t, db, `{ Phones(order: {name: ASC}) { name phone } }`))
	if err := again.AwaitIndex(t.Context(), "Author", "by_age"); err != nil {
		t.Error(err)
	}
	expect(t, again, `{ Author(filter: {age: {_gt: 8}}) { name } }`, `{"Author":[{"name":"Bob"}]}`)
	use(t, again, old)
	expect(t, again, `{ Author(filter: {age: {_lt: 8}}) { name } }`, `{"Author":[{"name":"Ann"}]}`)
	if err := again.Check(t.Context(), func(p pando.Problem) { t.Errorf("check: %s", p) }); err != nil {
		t.Error(err)
	}
}

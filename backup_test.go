package pando_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando"
)

const librarySDL = `
type Author { name: String! age: Int rival: Author @relation(name: "rivals") books: [Book] }
type Book { title: String pages: Int @crdt(type: pncounter) state: String @default(string: "new") tags: [String!] any: JSON author: Author }
type Shelf @docID(mode: KEYED, fields: ["place"]) { place: String best: Book }
type Loan @docID(mode: UNIQUE) { who: String book: Book }
type Key @docID(mode: OWNED) { tag: String of: Shelf }
`

type tester interface {
	rapid.TB
	Cleanup(func())
}

func library(t tester, who pando.Identity) *pando.DB {
	t.Helper()
	db, err := pando.Open(context.Background(), "", &pando.Options{Identity: who})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.AddSchema(context.Background(), librarySDL); err != nil {
		t.Fatal(err)
	}
	return db
}

func must(t tester, db *pando.DB, query string) string {
	t.Helper()
	res := db.Exec(context.Background(), pando.Request{Query: query})
	if err := res.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return string(res.Data)
}

func exported(t tester, db *pando.DB, o pando.ExportOptions) string {
	t.Helper()
	var out bytes.Buffer
	if err := db.Export(context.Background(), &out, o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// What an export says that documents will be called is what they are called after
// the import, relations lead where they led, and nothing else changes.
func TestBackupMovesDocuments(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		who, err := pando.NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		from, to := library(t, who), library(t, who)
		colls := []string{"Author", "Book", "Shelf", "Loan", "Key"}
		ids := map[string][]string{}
		relations := map[string][2]string{"Author": {"rival", "Author"}, "Book": {"author", "Author"}, "Shelf": {"best", "Book"}, "Loan": {"book", "Book"}, "Key": {"of", "Shelf"}}
		link := func(coll string) string {
			r := relations[coll]
			if len(ids[r[1]]) == 0 || rapid.Bool().Draw(t, "alone") {
				return ""
			}
			return fmt.Sprintf(`%s: "%s"`, r[0], rapid.SampledFrom(ids[r[1]]).Draw(t, "to"))
		}
		values := map[string]string{"Author": `name: "n%d"`, "Book": `title: "t%d", pages: 2, tags: ["x"], any: {a: [1, null]}`, "Shelf": `place: "p%d"`, "Loan": `who: "w%d"`, "Key": `tag: "k%d"`}
		for i := range rapid.IntRange(0, 12).Draw(t, "documents") {
			coll := rapid.SampledFrom(colls).Draw(t, "collection")
			text := values[coll]
			created := must(t, from, fmt.Sprintf(`mutation { create_%s(input: {%s %s}) { _docID } }`, coll, fmt.Sprintf(text, i), link(coll)))
			var data map[string][]struct {
				DocID string `json:"_docID"`
			}
			if err := json.Unmarshal([]byte(created), &data); err != nil {
				t.Fatal(err)
			}
			ids[coll] = append(ids[coll], data["create_"+coll][0].DocID)
		}
		for range rapid.IntRange(0, 8).Draw(t, "changes") { // circles come of them
			coll := rapid.SampledFrom(colls).Draw(t, "collection")
			if len(ids[coll]) == 0 {
				continue
			}
			id := rapid.SampledFrom(ids[coll]).Draw(t, "document")
			if rapid.IntRange(0, 5).Draw(t, "delete") == 0 {
				must(t, from, fmt.Sprintf(`mutation { delete_%s(docID: "%s") { _docID } }`, coll, id))
			} else if l := link(coll); l != "" {
				must(t, from, fmt.Sprintf(`mutation { update_%s(docID: "%s", input: {%s}) { _docID } }`, coll, id, l))
			}
		}
		file := exported(t, from, pando.ExportOptions{Pretty: rapid.Bool().Draw(t, "pretty")})
		done, err := to.Import(context.Background(), strings.NewReader(file), pando.ImportOptions{})
		if err != nil {
			t.Fatalf("%v\n%s", err, file)
		}
		before, after := backupOf(t, file), backupOf(t, exported(t, to, pando.ExportOptions{}))
		n, shapes := 0, map[string]int{}
		for coll, docs := range before {
			for _, d := range docs {
				n++
				if id, drawn := d["_docIDNew"].(string), coll == "Loan"; !drawn {
					found := after[coll][id]
					if found == nil {
						t.Fatalf("%s %v was to become %s, which is not there:\n%s\n%v", coll, d["_docID"], id, file, after[coll])
					}
				}
				shapes[shape(d, nil)]++
			}
		}
		is := map[any]any{} // what another export would call a document, to what it is called
		for _, docs := range after {
			for id, d := range docs {
				is[d["_docIDNew"]] = id
			}
		}
		for _, docs := range after {
			for _, d := range docs {
				shapes[shape(d, is)]--
			}
		}
		for s, n := range shapes {
			if n != 0 {
				t.Errorf("%s: %+d times\n%s", s, n, file)
			}
		}
		if done.Documents != n || done.Skipped != 0 {
			t.Errorf("imported %+v, want %d documents", done, n)
		}
	})
}

// backupOf reads a backup: documents by collection and docID.
func backupOf(t tester, file string) map[string]map[string]map[string]any {
	t.Helper()
	var all map[string][]map[string]any
	if err := json.Unmarshal([]byte(file), &all); err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	byID := map[string]map[string]map[string]any{}
	for coll, docs := range all {
		byID[coll] = map[string]map[string]any{}
		for _, d := range docs {
			byID[coll][d["_docID"].(string)] = d
		}
	}
	return byID
}

// shape is a document without its names; what it refers to goes by the name that is
// given for it.
func shape(d map[string]any, called map[any]any) string {
	kept := map[string]any{}
	for k, v := range d {
		if strings.HasPrefix(k, "_") {
			continue
		}
		if is, ok := called[fmt.Sprint(v)]; ok && strings.HasSuffix(k, "_id") {
			v = is
		}
		kept[k] = v
	}
	raw, _ := json.Marshal(kept)
	return string(raw)
}

// A file of DefraDB: other docIDs, circles, and the relations of both its dialects.
func TestBackupOfDefraDB(t *testing.T) {
	t.Parallel()
	db := library(t, pando.Identity{})
	const file = `{
		"Book": [
			{"_docID": "bae-b1", "_docIDNew": "bae-b1n", "title": "One", "author_id": "bae-a1n", "pages": 7, "tags": ["x"]},
			{"_docID": "bae-b2", "_docIDNew": "bae-b2n", "title": "Two", "_authorID": "bae-a2", "state": null}
		],
		"Author": [
			{"_docID": "bae-a1", "_docIDNew": "bae-a1n", "name": "Ann", "rival_id": "bae-a2n"},
			{"_docID": "bae-a2", "_docIDNew": "bae-a2n", "name": "Bob", "rival_id": "bae-a1n"},
			{"_docID": "bae-a3", "_docIDNew": "bae-a3n", "name": "Cy", "rival_id": "bae-a3n"},
			{"_docID": "bae-a4", "_docIDNew": "bae-a4n", "name": "Di", "rival_id": "bae-a3n"}
		]
	}`
	if done, err := db.Import(t.Context(), strings.NewReader(file), pando.ImportOptions{}); err != nil || done.Documents != 6 {
		t.Fatal(done, err)
	}
	got := must(t, db, `{ Author(order: {name: ASC}) { name rival { name } books { title } } Book(order: {title: ASC}) { title pages state tags author { name } } }`)
	want := `{"Author":[{"name":"Ann","rival":{"name":"Bob"},"books":[{"title":"One"}]},{"name":"Bob","rival":{"name":"Ann"},"books":[{"title":"Two"}]},{"name":"Cy","rival":{"name":"Cy"},"books":[]},{"name":"Di","rival":{"name":"Cy"},"books":[]}],` +
		`"Book":[{"title":"One","pages":7,"state":"new","tags":["x"],"author":{"name":"Ann"}},{"title":"Two","pages":null,"state":null,"tags":null,"author":{"name":"Bob"}}]}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	before := must(t, db, `{ commits { cid } }`)
	if done, err := db.Import(t.Context(), strings.NewReader(file), pando.ImportOptions{SkipExisting: true}); err != nil || done != (pando.Imported{Skipped: 6}) {
		t.Errorf("once more: %+v %v", done, err)
	}
	if after := must(t, db, `{ commits { cid } }`); after != before {
		t.Errorf("once more: there are other commits")
	}
}

// A file that is wrong imports nothing, and says where.
func TestBackupThatIsWrong(t *testing.T) {
	t.Parallel()
	db := library(t, pando.Identity{})
	must(t, db, `mutation { create_Author(input: {name: "Ann"}) { _docID } }`)
	for _, c := range []struct {
		file, says string
		kind       error
	}{
		{``, "cut off", pando.ErrInvalid},
		{`[]`, "expected JSON object", pando.ErrInvalid},
		{`{"Author": {}}`, "collection Author must be a JSON array", pando.ErrInvalid},
		{`{"Author": [{"name": "Bob"}`, "cut off", pando.ErrInvalid},
		{`{"Author": [{"name": "Bob"}]`, "cut off", pando.ErrInvalid},
		{`{"Author": [{"name": "Bob"}, {"name" "Cy"}]}`, "malformed JSON", pando.ErrInvalid},
		{`{"Author": [{"name": "Bob"}]} {}`, "after the end", pando.ErrInvalid},
		{`{"Author": [{"_docID": "a", "name": "Bob"}, {"_docID": "a", "name": "Cy"}]}`, "Author, document 2: another document of the file has its _docID", pando.ErrInvalid},
		{`{"Author": [{"name": "Bob"}, 7]}`, "Author, document 2: it must be a JSON object", pando.ErrInvalid},
		{`{"Author": [{"name": "Bob"}, {"name": "Cy", "_docID": 7}]}`, "document 2: _docID", pando.ErrInvalid},
		{`{"Author": [{"name": "Bob"}], "Pen": []}`, `collection "Pen" does not exist`, pando.ErrNotFound},
		{`{"Author": [{"name": "Bob"}, {"age": 7}]}`, "Author, document 2: Author.name: a value is required", pando.ErrInvalid},
		{`{"Author": [{"name": "Bob"}, {"name": "Cy", "shoes": 7}]}`, "shoes", pando.ErrInvalid},
		{`{"Author": [{"name": "Bob", "rival_id": "bae-x"}]}`, `rival_id: "bae-x" is neither a document of this file nor a docID`, pando.ErrInvalid},
		{`{"Author": [{"name": "Bob"}, {"name": "Ann"}]}`, "Author, document 2: a document with the given ID already exists", pando.ErrExists},
	} {
		_, err := db.Import(t.Context(), strings.NewReader(c.file), pando.ImportOptions{})
		if !errors.Is(err, c.kind) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: got %v, want one that says %q", c.file, err, c.says)
		}
	}
	if got, want := must(t, db, `{ _count(Author: {}) }`), `{"_count":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := db.Export(t.Context(), io.Discard, pando.ExportOptions{Collections: []string{"Pen"}}); !errors.Is(err, pando.ErrNotFound) {
		t.Errorf("export of a collection that does not exist: %v", err)
	}
}

func FuzzImport(f *testing.F) {
	f.Add([]byte(`{"Book": [{"_docID": "a", "_docIDNew": "b", "title": "One", "author_id": "c"}], "Author": [{"_docIDNew": "c", "name": "Ann", "rival_id": "c"}]}`))
	f.Add([]byte(`{"Key": [{"of": null}], "Loan": [{"book": 7}]}`))
	f.Add([]byte(`{"Shelf": [{"place": "x", "best_id": "1", "_docID": "1"}]}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		db := library(t, pando.Identity{})
		done, err := db.Import(context.Background(), bytes.NewReader(file), pando.ImportOptions{})
		if err != nil && done != (pando.Imported{}) {
			t.Errorf("%q: %v, and %+v", file, err, done)
		}
		var problem error
		if err := db.Check(context.Background(), func(p pando.Problem) { problem = errors.New(p.String()) }); err != nil || problem != nil {
			t.Errorf("%q: %v %v", file, err, problem)
		}
	})
}

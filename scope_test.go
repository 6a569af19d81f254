package pando_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pandodb/pando"
)

const scopeSchema = `
	type Author { name: String  notes: [Note] }
	type Note { text: String  stars: Int @index  tags: [String]  done: Boolean  more: JSON  author: Author }`

// selected is what a query says that a filter selects.
func selected(t *testing.T, db *pando.DB, filter string) []string {
	t.Helper()
	res := db.Exec(t.Context(), pando.Request{Query: fmt.Sprintf(`{ Note(filter: %s) { _docID } }`, filter)})
	if err := res.Err(); err != nil {
		t.Fatalf("filter %s: %v", filter, err)
	}
	var data struct {
		Note []struct {
			DocID string `json:"_docID"`
		}
	}
	if err := json.Unmarshal(res.Data, &data); err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, n := range data.Note {
		ids = append(ids, n.DocID)
	}
	slices.Sort(ids)
	return ids
}

func collected(t *testing.T, db *pando.DB, s pando.Scope) []string {
	t.Helper()
	note, err := db.Collection("Note")
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for id, err := range db.Replica().Matching(t.Context(), note.ID, s) {
		if err != nil {
			t.Fatalf("scope %s: %v", s, err)
		}
		ids = append(ids, id.String())
	}
	slices.Sort(ids)
	return ids
}

// A filter of a scope selects what it selects in a query, whether the documents are
// found together, by way of indexes, or asked one by one.
func TestScopeSelectsWhatTheQuerySays(t *testing.T) {
	t.Parallel()
	db := emptyDB(t)
	if _, err := db.AddSchema(t.Context(), scopeSchema); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(7, 7))
	words := []string{"ash", "birch", "cedar", "elm"}
	for i := range 300 {
		q := fmt.Sprintf(`mutation { create_Note(input: {text: "%s %d", stars: %d, done: %t, tags: ["%s"], more: {n: %d}}) { _docID } }`,
			words[r.IntN(4)], i, r.IntN(10), r.IntN(2) == 0, words[r.IntN(4)], r.IntN(3))
		if err := db.Exec(t.Context(), pando.Request{Query: q}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Exec(t.Context(), pando.Request{Query: `mutation { delete_Note(filter: {stars: {_eq: 9}}) { _docID } }`}).Err(); err != nil {
		t.Fatal(err)
	}
	note, _ := db.Collection("Note")
	for range 60 {
		filter := randomFilter(r, words, 2)
		want := selected(t, db, filter)
		if got := collected(t, db, pando.Scope{Filter: filter}); !slices.Equal(got, want) {
			t.Fatalf("filter %s: scope has %d documents, the query %d", filter, len(got), len(want))
		}
		m, err := db.Replica().Matcher(note.ID, pando.Scope{Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		for doc, err := range db.Replica().Matching(t.Context(), note.ID, pando.Whole) {
			if err != nil {
				t.Fatal(err)
			}
			in, err := m.Matches(t.Context(), doc)
			if err != nil || in != slices.Contains(want, doc.String()) {
				t.Fatalf("filter %s, document %s: %t, %v", filter, doc, in, err)
			}
		}
	}
}

func randomFilter(r *rand.Rand, words []string, depth int) string {
	leaf := []string{
		fmt.Sprintf(`{stars: {_gt: %d}}`, r.IntN(10)),
		fmt.Sprintf(`{stars: {_in: [%d, %d]}}`, r.IntN(10), r.IntN(10)),
		fmt.Sprintf(`{text: {_like: "%s%%"}}`, words[r.IntN(4)]),
		fmt.Sprintf(`{done: {_eq: %t}}`, r.IntN(2) == 0),
		fmt.Sprintf(`{tags: {_any: {_eq: "%s"}}}`, words[r.IntN(4)]),
		fmt.Sprintf(`{more: {n: {_eq: %d}}}`, r.IntN(3)),
		`{}`,
	}
	if depth == 0 || r.IntN(3) == 0 {
		return leaf[r.IntN(len(leaf))]
	}
	a, b := randomFilter(r, words, depth-1), randomFilter(r, words, depth-1)
	return []string{
		fmt.Sprintf(`{_and: [%s, %s]}`, a, b), fmt.Sprintf(`{_or: [%s, %s]}`, a, b), fmt.Sprintf(`{_not: %s}`, a),
	}[r.IntN(3)]
}

// Scopes are met together: what belongs to several is what belongs to each.
func TestScopesTogether(t *testing.T) {
	t.Parallel()
	db := emptyDB(t)
	if _, err := db.AddSchema(t.Context(), scopeSchema); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := db.Exec(t.Context(), pando.Request{Query: fmt.Sprintf(`mutation { create_Note(input: {stars: %d}) { _docID } }`, i)}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	note, _ := db.Collection("Note")
	var docs []pando.DocID
	for id, err := range db.Replica().Matching(t.Context(), note.ID, pando.Scope{Filter: `{stars: {_gt: 14}}`}) {
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, id)
	}
	few := pando.Scope{Filter: `{stars: {_lt: 3}}`, Docs: docs}
	for _, c := range []struct {
		scopes []pando.Scope
		want   int
	}{
		{nil, 20}, {[]pando.Scope{pando.Whole}, 20}, {[]pando.Scope{{}}, 0}, {[]pando.Scope{few}, 8},
		{[]pando.Scope{few, {Filter: `{stars: {_gt: 1}}`}}, 6}, {[]pando.Scope{{Docs: docs}, few}, 5}, {[]pando.Scope{few, {}}, 0},
	} {
		m, err := db.Replica().Matcher(note.ID, c.scopes...)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		last := pando.DocID{}
		for e, err := range m.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if id := pando.DocID(e.Key); got > 0 && id.Compare(last) <= 0 {
				t.Errorf("scopes %v: document %s comes after %s", c.scopes, id, last)
			}
			last = e.Key
			got++
		}
		if got != c.want {
			t.Errorf("scopes %v: %d documents, want %d", c.scopes, got, c.want)
		}
	}
}

func TestScopeRefusals(t *testing.T) {
	t.Parallel()
	db := emptyDB(t)
	if _, err := db.AddSchema(t.Context(), scopeSchema); err != nil {
		t.Fatal(err)
	}
	note, _ := db.Collection("Note")
	for filter, says := range map[string]string{
		`{author: {name: {_eq: "Ada"}}}`:                "author_id",
		`{_or: [{_not: {author: {name: {_eq: "x"}}}}]}`: "author_id",
		`{_and: {author: {name: {_eq: "x"}}}}`:          "author_id",
		`{_or: {_not: {author: {name: {_eq: "x"}}}}}`:   "author_id",
		`{_alias: {text: {_eq: "x"}}}`:                  "_alias",
		`{_version: {cid: {_eq: "x"}}}`:                 "_version",
		`{color: {_eq: "red"}}`:                         "color",
		`{stars: {_eq: "many"}}`:                        "many",
		`{}) { _docID } other: Note(filter: {}`:         "one object",
		`{}, limit: 1`:                                  "one object",
		`$f`:                                            "",
		`{`:                                             "",
		`"text"`:                                        "",
		`{text: {_eq: "` + strings.Repeat("x", 17<<10) + `"}}`: "16384",
	} {
		_, err := db.Replica().Matcher(note.ID, pando.Scope{Filter: filter})
		if !errors.Is(err, pando.ErrInvalid) && !errors.Is(err, pando.ErrTooLarge) || !strings.Contains(err.Error(), says) {
			t.Errorf("filter %.60s: error %v, want one that says %q", filter, err, says)
		}
	}
	if got := collected(t, db, pando.Scope{Filter: `{author_id: {_eq: null}} # all of them`}); len(got) != 0 {
		t.Errorf("documents of an empty collection: %v", got)
	}
	many := pando.Scope{Docs: make([]pando.DocID, pando.MaxScopeDocs+1)}
	if _, err := db.Replica().Matcher(note.ID, many); !errors.Is(err, pando.ErrTooLarge) {
		t.Errorf("a scope of too many documents: %v", err)
	}
}

func emptyDB(t *testing.T) *pando.DB {
	t.Helper()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

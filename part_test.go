package pando_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pandodb/pando"
)

// The tree over a part is that of the documents which the query selects now, whatever
// happened to them before.
func TestPartFollowsItsDocuments(t *testing.T) {
	t.Parallel()
	db := emptyDB(t)
	if _, err := db.AddSchema(t.Context(), scopeSchema); err != nil {
		t.Fatal(err)
	}
	note, _ := db.Collection("Note")
	exec := func(format string, args ...any) {
		t.Helper()
		if err := db.Exec(t.Context(), pando.Request{Query: fmt.Sprintf(format, args...)}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	scope := pando.Scope{Filter: `{stars: {_ge: 5}}`}
	part, err := db.Replica().Part(note.ID, scope)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 3))
	made := 0
	for step := range 40 {
		switch r.IntN(4) {
		case 0, 1:
			for range r.IntN(8) {
				exec(`mutation { create_Note(input: {text: "%d", stars: %d}) { _docID } }`, made, r.IntN(10))
				made++
			}
		case 2:
			exec(`mutation { update_Note(filter: {stars: {_eq: %d}}, input: {stars: %d}) { _docID } }`, r.IntN(10), r.IntN(10))
		case 3:
			exec(`mutation { delete_Note(filter: {stars: {_eq: %d}}) { _docID } }`, r.IntN(10))
		}
		if step == 20 { // documents are judged anew under another schema
			if _, err := db.AddSchema(t.Context(), `type Other { name: String }`); err != nil {
				t.Fatal(err)
			}
		}
		got, err := part.Summary(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := db.Replica().Part(note.ID, scope)
		if err != nil {
			t.Fatal(err)
		}
		want, err := fresh.Summary(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ids := selected(t, db, scope.Filter); got.Root != want.Root || got.Documents != want.Documents || got.Documents != uint64(len(ids)) {
			t.Fatalf("step %d: part of %d documents, made anew %d, the query has %d", step, got.Documents, want.Documents, len(ids))
		}
		for doc, err := range db.Replica().Matching(t.Context(), note.ID, pando.Whole) {
			in, err2 := part.Matcher().Matches(t.Context(), doc)
			if err != nil || err2 != nil || in != part.Has(doc) {
				t.Fatalf("step %d: document %s: in the part %t, matches %t, %v, %v", step, doc, part.Has(doc), in, err, err2)
			}
		}
	}
}

// Whoever follows a part hears of what belonged to it before or belongs to it now.
func TestFollowAPart(t *testing.T) {
	t.Parallel()
	db := emptyDB(t)
	if _, err := db.AddSchema(t.Context(), scopeSchema); err != nil {
		t.Fatal(err)
	}
	note, _ := db.Collection("Note")
	part, err := db.Replica().Part(note.ID, pando.Scope{Filter: `{stars: {_gt: 5}}`})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := part.Follow(t.Context()); err != nil || !first.Anew {
		t.Errorf("at first nothing is known of before: %+v, %v", first, err)
	}
	at := db.Seq()
	for _, c := range []struct {
		what, write string
		docs        int
	}{
		{"outside", `create_Note(input: {text: "a", stars: 1})`, 0},
		{"inside", `create_Note(input: {text: "b", stars: 9})`, 1},
		{"still inside", `update_Note(filter: {text: {_eq: "b"}}, input: {stars: 8})`, 1},
		{"both come in", `update_Note(all: true, input: {stars: 7})`, 2},
		{"one leaves", `update_Note(filter: {text: {_eq: "a"}}, input: {stars: 2})`, 1},
		{"one is deleted", `delete_Note(filter: {text: {_eq: "b"}})`, 1},
		{"gone", `update_Note(filter: {text: {_eq: "a"}}, input: {stars: 3})`, 0},
	} {
		if err := db.Exec(t.Context(), pando.Request{Query: "mutation { " + c.write + " { _docID } }"}).Err(); err != nil {
			t.Fatal(err)
		}
		step, err := part.Follow(t.Context())
		if err != nil || step.Anew || len(step.Docs) != c.docs || step.After != at || step.Until != db.Seq() {
			t.Errorf("%s: %+v, %v, want %d documents between %d and %d", c.what, step, err, c.docs, at, db.Seq())
		}
		at = step.Until
	}
}

// A part of everything has the root of the collection.
func TestPartOfEverything(t *testing.T) {
	t.Parallel()
	db := emptyDB(t)
	if _, err := db.AddSchema(t.Context(), scopeSchema); err != nil {
		t.Fatal(err)
	}
	note, _ := db.Collection("Note")
	for i := range 100 {
		if err := db.Exec(t.Context(), pando.Request{Query: fmt.Sprintf(`mutation { create_Note(input: {stars: %d}) { _docID } }`, i)}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	part, err := db.Replica().Part(note.ID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := part.Summary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, err := db.Replica().Summary(t.Context(), note.ID)
	if err != nil || got.Root != want.Root || got.Documents != 100 {
		t.Errorf("part of everything: %d documents, root %x; the collection has %d, root %x, %v", got.Documents, got.Root, want.Documents, want.Root, err)
	}
}

func BenchmarkPartRefresh(b *testing.B) {
	db, err := pando.Open(b.Context(), "", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if _, err := db.AddSchema(b.Context(), scopeSchema); err != nil {
		b.Fatal(err)
	}
	const documents = 20_000
	err = db.Update(b.Context(), func(tx *pando.Tx) error {
		notes, err := tx.Collection("Note")
		for i := 0; err == nil && i < documents; i++ {
			_, err = notes.Create(map[string]any{"text": fmt.Sprint(i), "stars": i % 10})
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	note, _ := db.Collection("Note")
	scope := pando.Scope{Filter: `{stars: {_ge: 5}}`}
	b.Run("made", func(b *testing.B) {
		for b.Loop() {
			part, err := db.Replica().Part(note.ID, scope)
			if err == nil {
				_, err = part.Summary(b.Context())
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/documents, "ns/doc")
	})
	b.Run("after a write", func(b *testing.B) {
		part, err := db.Replica().Part(note.ID, scope)
		if err != nil {
			b.Fatal(err)
		}
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			if err := db.Exec(b.Context(), pando.Request{Query: fmt.Sprintf(`mutation { create_Note(input: {text: "new %d", stars: 7}) { _docID } }`, i)}).Err(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			if _, err := part.Summary(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

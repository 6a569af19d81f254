package pando_test

import (
	"fmt"
	"testing"

	"github.com/pandodb/pando"
)

const readerPolicy = `
name: notes
actor: {name: actor}
resources:
  note:
    permissions: {read: {expr: owner + reader}, update: {expr: owner}, delete: {expr: owner}}
    relations: {owner: {types: [actor]}, reader: {types: [actor]}}
`

// notebook makes a database with notes, of which a reader may read every tenth.
func notebook(tb testing.TB, notes int) (*pando.DB, pando.CollectionID, []pando.DocID, pando.Reader) {
	tb.Helper()
	db, err := pando.Open(tb.Context(), "", nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	id, err := db.AddPolicy(tb.Context(), readerPolicy)
	if err != nil {
		tb.Fatal(err)
	}
	cs, err := db.AddSchema(tb.Context(), fmt.Sprintf(`type Note @policy(id: %q, resource: "note") { text: String }`, id))
	if err != nil {
		tb.Fatal(err)
	}
	someone, err := pando.NewIdentity()
	if err != nil {
		tb.Fatal(err)
	}
	who, err := pando.ParseSubject(someone.Public().String())
	if err != nil {
		tb.Fatal(err)
	}
	var docs []pando.DocID
	for len(docs) < notes {
		err := db.Update(tb.Context(), func(tx *pando.Tx) error {
			all, err := tx.Collection("Note")
			for i := 0; err == nil && i < 1000 && len(docs) < notes; i++ {
				var d pando.Document
				if d, err = all.Create(map[string]any{"text": fmt.Sprint("note ", len(docs))}); err != nil {
					break
				}
				if docs = append(docs, d.ID); len(docs)%10 == 0 {
					_, err = all.Grant(d.ID, "reader", who)
				}
			}
			return err
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	return db, cs[0].ID, docs, pando.ReaderOf(someone.Public())
}

// A view is the tree over what a reader may read, and follows what is granted and what
// is taken back.
func TestAViewFollowsRights(t *testing.T) {
	db, coll, docs, by := notebook(t, 50)
	view, err := db.Replica().View(coll, by)
	if err != nil {
		t.Fatal(err)
	}
	count := func(want uint64) [32]byte {
		t.Helper()
		sum, err := view.Summary(t.Context())
		if err != nil || sum.Documents != want {
			t.Fatalf("%d documents, want %d: %v", sum.Documents, want, err)
		}
		anew, err := db.Replica().View(coll, by)
		if err != nil {
			t.Fatal(err)
		}
		if fresh, err := anew.Summary(t.Context()); err != nil || fresh.Root != sum.Root {
			t.Errorf("one that is made anew has another root: %v", err)
		}
		return sum.Root
	}
	first := count(5)
	who, err := pando.ParseSubject(by.Keys()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Grant(t.Context(), "Note", docs[0], "reader", who); err != nil {
		t.Fatal(err)
	}
	if !view.Has(docs[9]) || count(6) == first {
		t.Error("the root is that of before")
	}
	if _, err := db.Revoke(t.Context(), "Note", docs[9], "reader", who); err != nil {
		t.Fatal(err)
	}
	if count(5); view.Has(docs[9]) {
		t.Error("what is taken back is in the view")
	}
	for doc, want := range map[pando.DocID]bool{docs[0]: true, docs[9]: false, docs[1]: false, docs[19]: true} {
		heads, err := db.Replica().For(by).Heads(t.Context(), coll, doc)
		if may, bad := db.Replica().Readable(t.Context(), coll, doc, by); may != want || bad != nil || (len(heads) > 0) != want || err != nil {
			t.Errorf("document %s: may read %v, heads %v, want %v: %v %v", doc, may, heads, want, bad, err)
		}
	}
}

// What it costs to make a view, per 10,000 documents that are here.
func BenchmarkView(b *testing.B) {
	db, coll, _, by := notebook(b, 10_000)
	for b.Loop() {
		view, err := db.Replica().View(coll, by)
		if err != nil {
			b.Fatal(err)
		}
		if sum, err := view.Summary(b.Context()); err != nil || sum.Documents != 1000 {
			b.Fatal(sum.Documents, err)
		}
	}
}

// What it costs to find out which of 50 peers may read a document, as for every write.
func BenchmarkMayRead(b *testing.B) {
	db, coll, docs, by := notebook(b, 100)
	readers := make([]pando.Reader, 50)
	for i := range readers {
		if readers[i] = by; i%2 == 0 {
			someone, err := pando.NewIdentity()
			if err != nil {
				b.Fatal(err)
			}
			readers[i] = pando.ReaderOf(someone.Public())
		}
	}
	for b.Loop() {
		if _, err := db.Replica().MayRead(b.Context(), coll, docs[9], readers...); err != nil {
			b.Fatal(err)
		}
	}
}

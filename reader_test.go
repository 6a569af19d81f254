package pando_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

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
// However documents are shared with people and groups, and groups with each other, and
// whenever somebody looks: a view that followed is as one that is made anew.
func TestAViewFollowsGroups(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		db, err := pando.Open(context.Background(), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		policy, err := db.AddPolicy(context.Background(), strings.Replace(readerPolicy, "note:", "team:\n"+teamPolicy+"\n  note:", 1))
		if err != nil {
			t.Fatal(err)
		}
		cs, err := db.AddSchema(context.Background(), fmt.Sprintf(`
			type Note @policy(id: %q, resource: "note") { text: String }
			type Team @policy(id: %q, resource: "team") { text: String }`, policy, policy))
		if err != nil {
			t.Fatal(err)
		}
		var notes, teams []pando.DocID
		var subjects, seats []string
		var views []*pando.Part
		var readers []pando.Reader
		coll := cs[0].ID
		if cs[0].Name != "Note" {
			coll = cs[1].ID
		}
		write := func(fn func(tx *pando.Tx) error) {
			if err := db.Update(context.Background(), fn); err != nil {
				t.Fatal(err)
			}
		}
		write(func(tx *pando.Tx) error {
			for name, to := range map[string]*[]pando.DocID{"Note": &notes, "Team": &teams} {
				all, err := tx.Collection(name)
				for i := 0; i < 4 && err == nil; i++ {
					var d pando.Document
					d, err = all.Create(map[string]any{"text": fmt.Sprint(i)})
					*to = append(*to, d.ID)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		for i := range 3 {
			k, err := pando.NewIdentity()
			if err != nil {
				t.Fatal(err)
			}
			subjects = append(subjects, k.Public().String())
			readers = append(readers, pando.ReaderOf(k.Public()))
			v, err := db.Replica().View(coll, readers[i])
			if err != nil {
				t.Fatal(err)
			}
			views = append(views, v)
		}
		for _, d := range teams {
			seats = append(seats, d.String()+"#member")
		}
		change := func(t *rapid.T, collection, relation string, docs []pando.DocID) {
			doc := rapid.SampledFrom(docs).Draw(t, "document")
			who, err := pando.ParseSubject(rapid.SampledFrom(slices.Concat(subjects, seats, seats)).Draw(t, "who"))
			if err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "takes back") {
				_, err = db.Revoke(context.Background(), collection, doc, relation, who)
			} else {
				_, err = db.Grant(context.Background(), collection, doc, relation, who)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"share a note":  func(t *rapid.T) { change(t, "Note", "reader", notes) },
			"change a team": func(t *rapid.T) { change(t, "Team", "member", teams) },
			"look": func(t *rapid.T) {
				i := rapid.IntRange(0, len(views)-1).Draw(t, "as")
				anew, err := db.Replica().View(coll, readers[i])
				if err != nil {
					t.Fatal(err)
				}
				want, err := anew.Summary(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if got, err := views[i].Summary(context.Background()); err != nil || got != want {
					t.Fatalf("reader %d sees %d documents, root %x; made anew, %d, %x: %v", i, got.Documents, got.Root, want.Documents, want.Root, err)
				}
			},
		})
	})
}

const teamPolicy = `    permissions: {read: {expr: owner + member}, update: {expr: owner}, delete: {expr: owner}}
    relations: {owner: {types: [actor]}, member: {types: [actor]}}`

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

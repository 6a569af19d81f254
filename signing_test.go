package pando_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
)

// drafting is a database with a document of Bob, whose key it has not.
func drafting(t testing.TB) (db *pando.DB, bob pando.Identity) {
	t.Helper()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.AddSchema(t.Context(), `type Note { text: String  stars: Int @crdt(type: pncounter) }`); err != nil {
		t.Fatal(err)
	}
	if bob, err = pando.NewIdentity(); err != nil {
		t.Fatal(err)
	}
	return db, bob
}

func prepared(t testing.TB, db *pando.DB, author pando.DID, query string) []pando.Draft {
	t.Helper()
	res, drafts := db.Prepare(t.Context(), author, pando.Request{Query: query})
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	return drafts
}

func signAll(t testing.TB, key pando.Identity, drafts []pando.Draft) (commits []pando.SignedCommit) {
	t.Helper()
	for _, d := range drafts {
		p, err := d.Open()
		if err != nil {
			t.Fatal(err)
		}
		c, err := p.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, c)
	}
	return commits
}

// What is signed elsewhere is what the author would have written here.
func TestPreparedIsAsWritten(t *testing.T) {
	t.Parallel()
	here, bob := drafting(t)
	there, _ := drafting(t)
	for _, query := range []string{
		`mutation { create_Note(input: [{text: "a", stars: 1}, {text: "b"}]) { text } }`,
		`mutation { update_Note(filter: {text: {_eq: "a"}}, input: {stars: 2}) { text stars } }`,
		`mutation { delete_Note(filter: {text: {_eq: "b"}}) { text } }`,
		`mutation { one: create_Note(input: {text: "c"}) { text } two: update_Note(filter: {text: {_eq: "c"}}, input: {text: "d"}) { text } }`,
	} {
		want := here.As(bob).Exec(t.Context(), pando.Request{Query: query})
		got, drafts := there.Prepare(t.Context(), bob.DID(), pando.Request{Query: query})
		if err := errors.Join(want.Err(), got.Err()); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if string(got.Data) != string(want.Data) {
			t.Errorf("%s: prepared to answer %s, want %s", query, got.Data, want.Data)
		}
		if _, err := there.Submit(t.Context(), bob.DID(), signAll(t, bob, drafts), pando.SubmitOptions{}); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		const all = `{ Note(order: {text: ASC}) { _docID text stars _version { author height } } }`
		a, b := here.Exec(t.Context(), pando.Request{Query: all}), there.Exec(t.Context(), pando.Request{Query: all})
		if string(a.Data) != string(b.Data) {
			t.Errorf("%s: got %s, want %s", query, b.Data, a.Data)
		}
	}
}

// Nothing that is refused by nodes is shown to an author as something to sign, and what he
// signs is what he was shown.
func FuzzDraft(f *testing.F) {
	db, bob := drafting(f)
	note, err := db.Collection("Note")
	if err != nil {
		f.Fatal(err)
	}
	for _, query := range []string{
		`mutation { create_Note(input: {text: "a", stars: 1}) { text } }`,
		`mutation { create_Note(input: {text: "b"}) { text } update_Note(all: true, input: {text: "c"}) { text } delete_Note(all: true) { text } }`,
	} {
		for _, d := range prepared(f, db, bob.DID(), query) {
			f.Add(d.Header, d.Payload[0])
		}
	}
	f.Fuzz(func(t *testing.T, header, payload []byte) {
		d := pando.Draft{Collection: note.ID, Header: header, Payload: [][]byte{payload}}
		p, err := d.Open()
		if err != nil || p.Author != bob.DID() {
			return
		}
		signed, err := p.Sign(bob)
		if err != nil {
			t.Fatal(err)
		}
		c, err := dag.Open(slices.Clone(signed.Envelope))
		if err != nil || string(c.Header()) != string(header) || string(c.Payload[0]) != string(payload) || c.Doc != p.Doc || dag.Verify([]*dag.Commit{c}) != nil {
			t.Errorf("signed is %+v, %v; shown was %+v", c, err, p)
		}
	})
}

package pando_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pandodb/pando"
)

// notePolicy lets owners show their notes to others.
const notePolicy = `
name: notes
resources:
  note:
    permissions:
      read:   {expr: owner + reader + writer}
      update: {expr: owner + writer}
      delete: {expr: owner}
    relations:
      owner:  {types: [actor]}
      reader: {types: [actor]}
      writer: {types: [actor]}
      admin:  {types: [actor], manages: [reader, writer]}
`

func memory(t testing.TB) *pando.DB {
	t.Helper()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// addPolicy makes a policy known and returns what a type says to be under it.
func addPolicy(t testing.TB, db *pando.DB, text, resource string) string {
	t.Helper()
	id, err := db.AddPolicy(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("@policy(id: %q, resource: %q)", id, resource)
}

func policyNames(t testing.TB, db *pando.DB) string {
	t.Helper()
	all, err := db.Policies(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}

func TestATypeNamesAPolicyThatIsKnown(t *testing.T) {
	t.Parallel()
	db := memory(t)
	at := addPolicy(t, db, notePolicy, "note")
	if again := addPolicy(t, db, strings.ReplaceAll(notePolicy, "\n", "\r\n"), "note"); again != at {
		t.Errorf("the same policy in another spelling is %s, not %s", again, at)
	}
	if got := policyNames(t, db); got != "notes" {
		t.Errorf("policies are %q, want one", got)
	}
	cs, err := db.AddSchema(t.Context(), "type Note "+at+" { text: String }")
	if err != nil {
		t.Fatal(err)
	}
	p, err := db.Policy(t.Context(), cs[0].Policy.ID)
	if err != nil || p.Name != "notes" {
		t.Errorf("the policy of the collection is %v, %v", p, err)
	}
	for name, sdl := range map[string]string{
		"an unknown policy":   `type A @policy(id: "bafkreie42erkusjqrlo5aj54ihaep2oumfqdgdm7dv26zxknvimtkyradu", resource: "note") { a: Int }`,
		"an unknown resource": "type A " + strings.Replace(at, `"note"`, `"notes"`, 1) + " { a: Int }",
	} {
		if _, err := db.AddSchema(t.Context(), sdl); !errors.Is(err, pando.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := db.Policy(t.Context(), pando.PolicyID{1}); !errors.Is(err, pando.ErrNotFound) {
		t.Errorf("an unknown policy: %v", err)
	}
	if _, err := db.AddPolicy(t.Context(), "name: n"); !errors.Is(err, pando.ErrInvalid) {
		t.Errorf("half a policy: %v", err)
	}
}

// What a commit did to rights is told in words.
func TestCommitsTellWhoWasLetIn(t *testing.T) {
	t.Parallel()
	ada, bob := newKey(t), newKey(t)
	db := letters(t, "", ada)
	made := ask(t, db, `mutation { create_Letter(input: {text: "hi"}, encrypt: true) { _docID } }`)
	var doc pando.DocID
	err := doc.UnmarshalText([]byte(made[strings.Index(made, "bafk"):][:59]))
	if err != nil {
		t.Fatal(err)
	}
	to, err := pando.ParseSubject(string(bob.DID()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Grant(t.Context(), "Letter", doc, "reader", to); err != nil {
		t.Fatal(err)
	}
	got := ask(t, db, `{ latestCommits(docID: "`+doc.String()+`") { deltas { fieldName kind value } } commits(fieldName: "_acl") { height } }`)
	want := `{"latestCommits":[{"deltas":[{"fieldName":"_acl","kind":"access","value":"grant reader ` + string(bob.DID()) + `"},{"fieldName":"_keys","kind":"keys","value":null}]}],"commits":[{"height":2}]}`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A policy travels with the collection: who joins need not be told.
func TestWhoGetsACollectionKnowsItsPolicy(t *testing.T) {
	t.Parallel()
	db, other := memory(t), memory(t)
	at := addPolicy(t, db, notePolicy, "note")
	if _, err := db.AddSchema(t.Context(), "type Note "+at+" { text: String }"); err != nil {
		t.Fatal(err)
	}
	share(t, other, db, collection(t, db, "Note").ID)
	if got := policyNames(t, other); got != "notes" {
		t.Errorf("policies are %q, want that of the collection", got)
	}
	if collection(t, other, "Note").Access() == nil {
		t.Error("the collection has no rules")
	}
	if _, err := other.AddSchema(t.Context(), "type Draft "+at+" { text: String }"); err != nil {
		t.Errorf("a type of its own under the policy: %v", err)
	}
}

// Policies that were added survive a restart, a rebuild and an archive.
func TestPoliciesAreKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "db")
	db, err := pando.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	addPolicy(t, db, notePolicy, "note")
	var archive bytes.Buffer
	if _, err := db.Save(t.Context(), &archive); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := pando.Rebuild(t.Context(), dir, nil, func(p pando.Problem) { t.Error(p) }); err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(t.TempDir(), "restored")
	if _, err := pando.Restore(t.Context(), &archive, restored, nil, nil); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dir, restored} {
		db, err := pando.Open(t.Context(), dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := policyNames(t, db); got != "notes" {
			t.Errorf("policies are %q, want the one that was added", got)
		}
		db.Close()
	}
}

// person is somebody who works with notes: a database of their own, as one identity.
type person struct {
	*pando.DB
	t    testing.TB
	id   pando.Identity
	mark uint64 // of the feed: what somebody follows it up to
}

func noteTaker(t testing.TB) person {
	t.Helper()
	id, err := pando.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	db, err := pando.Open(t.Context(), "", &pando.Options{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.AddSchema(t.Context(), "type Note "+addPolicy(t, db, notePolicy, "note")+" { text: String }"); err != nil {
		t.Fatal(err)
	}
	return person{DB: db, t: t, id: id}
}

// beside is somebody else at the same database.
func (p person) beside() person {
	p.t.Helper()
	id, err := pando.NewIdentity()
	if err != nil {
		p.t.Fatal(err)
	}
	return person{DB: p.As(id), t: p.t, id: id}
}

func (p person) subject() pando.Subject {
	p.t.Helper()
	s, err := pando.ParseSubject(p.id.DID().String())
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p person) note(text string) (id pando.DocID) {
	p.t.Helper()
	err := p.Update(p.t.Context(), func(tx *pando.Tx) error {
		notes, err := tx.Collection("Note")
		if err != nil {
			return err
		}
		d, err := notes.Create(map[string]any{"text": text})
		id = d.ID
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return id
}

func (p person) write(id pando.DocID, text string) error {
	return p.Update(p.t.Context(), func(tx *pando.Tx) error {
		notes, err := tx.Collection("Note")
		if err == nil {
			_, err = notes.Update(id, map[string]any{"text": text})
		}
		return err
	})
}

func (p person) text(id pando.DocID) (text string) {
	p.t.Helper()
	err := p.View(p.t.Context(), func(tx *pando.Tx) error {
		notes, err := tx.Collection("Note")
		if err != nil {
			return err
		}
		d, err := notes.Get(id)
		text, _ = d.Get("text").(string)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

func (p person) access(id pando.DocID) pando.Access {
	p.t.Helper()
	a, err := p.Access(p.t.Context(), "Note", id)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// grant grants and wants that to be news, or not.
func (p person) grant(id pando.DocID, relation string, who pando.Subject, news bool) {
	p.t.Helper()
	if granted, err := p.Grant(p.t.Context(), "Note", id, relation, who); err != nil || granted != news {
		p.t.Fatalf("grant %s to %s: %v, %v, want %v", relation, who, granted, err, news)
	}
}

func (p person) revoke(id pando.DocID, relation string, who pando.Subject, news bool) {
	p.t.Helper()
	if revoked, err := p.Revoke(p.t.Context(), "Note", id, relation, who); err != nil || revoked != news {
		p.t.Fatalf("revoke %s from %s: %v, %v, want %v", relation, who, revoked, err, news)
	}
}

func TestTheOwnerSharesANote(t *testing.T) {
	t.Parallel()
	ann := noteTaker(t)
	bob := ann.beside()
	id := ann.note("draft")
	a := ann.access(id)
	if a.Owner != ann.id.DID() || len(a.Tuples) != 0 || len(a.Pending) != 0 || fmt.Sprint(a.Permissions) != "[delete read update]" {
		t.Errorf("a new note has %+v", a)
	}
	ann.grant(id, "reader", bob.subject(), true)
	ann.grant(id, "reader", bob.subject(), false)
	if err := bob.write(id, "bob was here"); !errors.Is(err, pando.ErrDenied) {
		t.Errorf("a reader writes: %v", err)
	}
	ann.grant(id, "writer", bob.subject(), true)
	if err := bob.write(id, "bob was here"); err != nil {
		t.Errorf("a writer writes: %v", err)
	}
	a = bob.access(id)
	if fmt.Sprint(a.Permissions) != "[read update]" || len(a.Tuples) != 2 || a.Tuples[0] != (pando.Tuple{Relation: "reader", Subject: bob.id.DID().String()}) {
		t.Errorf("the writer sees %+v", a)
	}
	if _, err := bob.Grant(t.Context(), "Note", id, "reader", acpEveryone(t)); !errors.Is(err, pando.ErrDenied) {
		t.Errorf("a writer shares: %v", err)
	}
	ann.revoke(id, "writer", bob.subject(), true)
	ann.revoke(id, "writer", bob.subject(), false)
	if err := bob.write(id, "again"); !errors.Is(err, pando.ErrDenied) {
		t.Errorf("who was a writer writes: %v", err)
	}
	if got := ann.text(id); got != "bob was here" {
		t.Errorf("the note says %q", got)
	}
}

// Whether somebody may change a note does not depend on what it says already.
func TestWhoMayNotChangeANoteMayNotLeaveItAsItIs(t *testing.T) {
	t.Parallel()
	ann := noteTaker(t)
	bob := ann.beside()
	id := ann.note("draft")
	ann.grant(id, "reader", bob.subject(), true)
	requests := []string{
		`mutation { update_Note(docID: "` + id.String() + `", input: {}) { text } }`,
		`mutation { update_Note(docID: "` + id.String() + `", input: {text: "draft"}) { text } }`,
		`mutation { update_Note(all: true, input: {text: "draft"}) { text } }`,
		`mutation { upsert_Note(filter: {text: {_eq: "draft"}}, create: {text: "draft"}, update: {text: "draft"}) { text } }`,
	}
	for _, q := range requests {
		if err := bob.Exec(t.Context(), pando.Request{Query: q}).Err(); !errors.Is(err, pando.ErrDenied) {
			t.Errorf("a reader, %s: %v, want Denied", q, err)
		}
	}
	ann.grant(id, "writer", bob.subject(), true)
	before := ann.Seq()
	for _, q := range requests {
		if err := bob.Exec(t.Context(), pando.Request{Query: q}).Err(); err != nil {
			t.Errorf("a writer, %s: %v", q, err)
		}
	}
	if ann.Seq() != before {
		t.Error("what changes nothing was written")
	}
}

func acpEveryone(t testing.TB) pando.Subject {
	t.Helper()
	s, err := pando.ParseSubject("*")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnAdminSharesAndTheNewOwnerStays(t *testing.T) {
	t.Parallel()
	ann := noteTaker(t)
	bob, cy := ann.beside(), ann.beside()
	id := ann.note("ours")
	ann.grant(id, "admin", bob.subject(), true)
	ann.grant(id, "reader", bob.subject(), true) // admins manage, and see what is shown to them
	bob.grant(id, "writer", cy.subject(), true)
	if err := cy.write(id, "by cy"); err != nil {
		t.Error(err)
	}
	if err := bob.Transfer(t.Context(), "Note", id, bob.id.DID()); !errors.Is(err, pando.ErrDenied) {
		t.Errorf("an admin takes the note: %v", err)
	}
	if err := ann.Transfer(t.Context(), "Note", id, cy.id.DID()); err != nil {
		t.Fatal(err)
	}
	if a := cy.access(id); a.Owner != cy.id.DID() || fmt.Sprint(a.Permissions) != "[delete read update]" {
		t.Errorf("the new owner sees %+v", a)
	}
	if err := ann.write(id, "mine again"); err == nil {
		t.Error("who gave the note away writes it")
	}
}

// What somebody wrote beside the revocation waits for the owner.
func TestTheOwnerAcceptsWhatWaits(t *testing.T) {
	t.Parallel()
	ann, bob := noteTaker(t), noteTaker(t)
	notes := collection(t, ann.DB, "Note").ID
	id := ann.note("draft")
	ann.grant(id, "writer", bob.subject(), true)
	bob.gets(ann, notes)
	if err := bob.write(id, "on the train"); err != nil {
		t.Fatal(err)
	}
	ann.revoke(id, "writer", bob.subject(), true)
	ann.gets(bob, notes)
	if got := ann.text(id); got != "draft" {
		t.Errorf("the note says %q while bob's change waits", got)
	}
	a := ann.access(id)
	if len(a.Pending) != 1 || a.Pending[0].Author != bob.id.DID() || a.Pending[0].Time.IsZero() {
		t.Fatalf("pending are %+v", a.Pending)
	}
	if _, err := ann.Accept(t.Context(), "Note", id, pando.CID{1}); !errors.Is(err, pando.ErrNotFound) {
		t.Errorf("a commit that is not there is accepted: %v", err)
	}
	if n, err := ann.Accept(t.Context(), "Note", id, a.Pending[0].CID); err != nil || n != 1 {
		t.Fatalf("accepted %d, %v", n, err)
	}
	if got := ann.text(id); got != "on the train" {
		t.Errorf("the note says %q after bob's change was accepted", got)
	}
	if n, err := ann.Accept(t.Context(), "Note", id); err != nil || n != 0 {
		t.Errorf("once more, %d are accepted, %v", n, err)
	}
}

// gets takes over all that another has of a collection.
func (p person) gets(from person, coll pando.CollectionID) {
	p.t.Helper()
	pull(p.t.(*testing.T), p.DB, from.DB, coll)
}

func TestMistakesInSharing(t *testing.T) {
	t.Parallel()
	ann := noteTaker(t)
	if _, err := ann.AddSchema(t.Context(), "type Open { text: String }"); err != nil {
		t.Fatal(err)
	}
	bob := ann.beside()
	id := ann.note("draft")
	grant := func(coll string, id pando.DocID, relation string) error {
		_, err := ann.Grant(t.Context(), coll, id, relation, bob.subject())
		return err
	}
	var page pando.DocID
	if err := ann.Update(t.Context(), func(tx *pando.Tx) (err error) {
		docs, err := tx.Collection("Open")
		if err != nil {
			return err
		}
		d, err := docs.Create(map[string]any{"text": "everybody's"})
		page = d.ID
		return err
	}); err != nil {
		t.Fatal(err)
	}
	in := func(group pando.DocID) error {
		who, err := pando.ParseSubject(group.String() + "#reader")
		if err == nil {
			_, err = ann.Grant(t.Context(), "Note", id, "reader", who)
		}
		return err
	}
	for name, c := range map[string]struct {
		err  error
		want error
		text string
	}{
		"a group without a policy": {in(page), pando.ErrInvalid, "collection Open has no policy"},
		"a transfer to oneself":    {ann.Transfer(t.Context(), "Note", id, ann.id.DID()), pando.ErrInvalid, "already"},
		"an unknown collection":    {grant("Nothing", id, "reader"), pando.ErrNotFound, ""},
		"another collection":       {grant("Open", id, "reader"), pando.ErrNotFound, ""},
		"an unknown document":      {grant("Note", pando.DocID{1}, "reader"), pando.ErrNotFound, ""},
		"an unknown relation":      {grant("Note", id, "friend"), pando.ErrInvalid, "it has admin, owner, reader, writer"},
		"ownership as a relation":  {grant("Note", id, "owner"), pando.ErrInvalid, "transfer it"},
		"a transfer to nobody":     {ann.Transfer(t.Context(), "Note", id, "did:key:nobody"), pando.ErrInvalid, ""},
	} {
		if !errors.Is(c.err, c.want) || !strings.Contains(fmt.Sprint(c.err), c.text) {
			t.Errorf("%s: %v, want %v with %q", name, c.err, c.want, c.text)
		}
	}
	for _, text := range []string{"", "bob", "did:key:z", "bafk#", "#member", "bafkreie42erkusjqrlo5aj54ihaep2oumfqdgdm7dv26zxknvimtkyradu#", "**"} {
		if _, err := pando.ParseSubject(text); !errors.Is(err, pando.ErrInvalid) {
			t.Errorf("subject %q: %v", text, err)
		}
	}
	open := must(t, ann.DB, `mutation { create_Open(input: {text: "x"}) { _docID } }`)
	var docID pando.DocID
	if err := docID.UnmarshalText([]byte(strings.Split(open, `"`)[5])); err != nil {
		t.Fatal(err)
	}
	if _, err := ann.Access(t.Context(), "Open", docID); !errors.Is(err, pando.ErrInvalid) || !strings.Contains(err.Error(), "no policy") {
		t.Errorf("without a policy: %v", err)
	}
}

func TestACLIsAnswered(t *testing.T) {
	t.Parallel()
	ann := noteTaker(t)
	bob := ann.beside()
	id := ann.note("draft")
	ann.grant(id, "writer", bob.subject(), true)
	ann.grant(id, "reader", acpEveryone(t), true)
	const request = `{ Note { text _acl { owner permissions pending tuples { relation subject } } } }`
	want := func(permissions string) string {
		return fmt.Sprintf(`{"Note":[{"text":"draft","_acl":{"owner":%q,"permissions":[%s],"pending":0,"tuples":[{"relation":"reader","subject":"*"},{"relation":"writer","subject":%q}]}}]}`,
			ann.id.DID(), permissions, bob.id.DID())
	}
	expect(t, ann.DB, request, want(`"delete","read","update"`))
	expect(t, bob.DB, request, want(`"read","update"`))
	expect(t, ann.beside().DB, request, want(`"read"`))
	expect(t, ann.DB, `{ Note { a: _acl { __typename x: owner tuples { __typename } } } }`,
		fmt.Sprintf(`{"Note":[{"a":{"__typename":"_Access","x":%q,"tuples":[{"__typename":"_AccessTuple"},{"__typename":"_AccessTuple"}]}}]}`, ann.id.DID()))
	expect(t, ann.DB, `mutation { create_Note(input: {text: "new"}) { _acl { owner tuples { subject } } } }`,
		fmt.Sprintf(`{"create_Note":[{"_acl":{"owner":%q,"tuples":[]}}]}`, ann.id.DID()))
}

// Permissions come through groups too, and what is asked of others is told apart from
// what one may do oneself.
func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	ann := noteTaker(t)
	bob, cy := ann.beside(), ann.beside()
	plan, team := ann.note("plan"), ann.note("team")
	ann.grant(team, "reader", bob.subject(), true)
	members, err := pando.ParseSubject(team.String() + "#reader")
	if err != nil {
		t.Fatal(err)
	}
	ann.grant(plan, "writer", members, true)
	if got := fmt.Sprint(bob.access(plan).Permissions); got != "[read update]" {
		t.Errorf("who is in the team may %s", got)
	}
	for _, c := range []struct {
		permission string
		who        person
		may        bool
	}{{"update", bob, true}, {"delete", bob, false}, {"read", cy, false}, {"delete", ann, true}} {
		may, err := ann.Allowed(t.Context(), "Note", plan, c.permission, c.who.id.DID())
		if err != nil || may != c.may {
			t.Errorf("%s may %s: %v, %v, want %v", c.who.id.DID(), c.permission, may, err, c.may)
		}
	}
	if _, err := ann.Allowed(t.Context(), "Note", plan, "print", bob.id.DID()); !errors.Is(err, pando.ErrInvalid) || !strings.Contains(err.Error(), "it has delete, read, update") {
		t.Errorf("an unknown permission: %v", err)
	}
	if _, err := cy.Allowed(t.Context(), "Note", plan, "read", cy.id.DID()); !errors.Is(err, pando.ErrNotFound) {
		t.Errorf("asked by who may not know of the document: %v", err)
	}
	if _, err := cy.Access(t.Context(), "Note", plan); !errors.Is(err, pando.ErrNotFound) {
		t.Errorf("shown to who may not know of the document: %v", err)
	}
	if _, err := cy.Grant(t.Context(), "Note", plan, "reader", cy.subject()); !errors.Is(err, pando.ErrNotFound) {
		t.Errorf("shared by who may not know of the document: %v", err)
	}
}

// A document as it was once tells of the rights of then, to who may read it now.
func TestACLOfThePast(t *testing.T) {
	t.Parallel()
	ann := noteTaker(t)
	bob := ann.beside()
	id := ann.note("draft")
	answer := must(t, ann.DB, `{ Note { _version { cid } } }`)
	cid, _, _ := strings.Cut(strings.Split(answer, `"cid":"`)[1], `"`)
	request := fmt.Sprintf(`{ Note(cid: %q) { _acl { owner permissions tuples { subject } } } }`, cid)
	if err := bob.Exec(t.Context(), pando.Request{Query: request}).Err(); !errors.Is(err, pando.ErrNotFound) {
		t.Errorf("who may not read it is told %v", err)
	}
	ann.grant(id, "reader", bob.subject(), true)
	expect(t, bob.DB, request, fmt.Sprintf(`{"Note":[{"_acl":{"owner":%q,"permissions":[],"tuples":[]}}]}`, ann.id.DID()))
}

// Exports, views and GraphQL hold what their reader may read, each in its own way.
func TestEveryReaderHasHisOwn(t *testing.T) {
	t.Parallel()
	ann := noteTaker(t)
	bob := ann.beside()
	ann.note("secret")
	shown := ann.note("shown")
	ann.grant(shown, "reader", bob.subject(), true)
	bob.note("mine")
	if _, err := ann.AddView(t.Context(), pando.ViewSource{Query: `Note(order: {text: ASC}) { text }`, SDL: `type Seen @materialized(if: false) { text: String }`}); err != nil {
		t.Fatal(err)
	}
	expect(t, ann.DB, `{ Seen { text } n: _count(Note: {}) }`, `{"Seen":[{"text":"secret"},{"text":"shown"}],"n":2}`)
	expect(t, bob.DB, `{ Seen { text } n: _count(Note: {}) }`, `{"Seen":[{"text":"mine"},{"text":"shown"}],"n":2}`)
	expect(t, ann.beside().DB, `{ Seen { text } n: _count(Note: {}) }`, `{"Seen":[],"n":0}`)
	file := exported(t, bob.DB, pando.ExportOptions{})
	if strings.Contains(file, "secret") || !strings.Contains(file, "shown") || !strings.Contains(file, "mine") {
		t.Errorf("bob exports %s", file)
	}
	other := noteTaker(t)
	if done, err := other.Import(t.Context(), strings.NewReader(file), pando.ImportOptions{}); err != nil || done.Documents != 2 {
		t.Fatalf("imported %+v, %v", done, err)
	}
	expect(t, other.DB, `{ Note(order: {text: ASC}) { text _acl { owner } } }`,
		fmt.Sprintf(`{"Note":[{"text":"mine","_acl":{"owner":%q}},{"text":"shown","_acl":{"owner":%q}}]}`, other.id.DID(), other.id.DID()))
}

// A materialized view tells of what everybody reads, whoever refreshes it.
func TestARefreshReadsAsNobody(t *testing.T) {
	t.Parallel()
	ann := noteTaker(t)
	if _, err := ann.AddSchema(t.Context(), "type Town { name: String }"); err != nil {
		t.Fatal(err)
	}
	must(t, ann.DB, `mutation { create_Town(input: {name: "Oslo"}) { name } }`)
	if _, err := ann.AddView(t.Context(), pando.ViewSource{Query: `Town { name }`, SDL: `type Towns { name: String }`}); err != nil {
		t.Fatal(err)
	}
	did, err := ann.RefreshView(t.Context())
	if err != nil || len(did) != 1 || did[0].Rows != 1 {
		t.Fatalf("refreshed %+v, %v", did, err)
	}
	if _, err := ann.AddView(t.Context(), pando.ViewSource{Query: `Note { text }`, SDL: `type Notes { text: String }`}); !errors.Is(err, pando.ErrInvalid) {
		t.Errorf("a stored view of notes: %v", err)
	}
}

// A policy and the types that name it come together, or not at all.
func TestAPolicyIsAddedWithItsTypes(t *testing.T) {
	t.Parallel()
	db := memory(t)
	add := func(sdl string) error {
		return db.Update(t.Context(), func(tx *pando.Tx) error {
			id, err := tx.AddPolicy(notePolicy)
			if err != nil {
				return err
			}
			_, err = tx.AddSchema(fmt.Sprintf(sdl, id))
			return err
		})
	}
	if err := add(`type Note @policy(id: %q, resource: "none") { text: String }`); !errors.Is(err, pando.ErrInvalid) {
		t.Errorf("an unknown resource: %v", err)
	}
	if got := policyNames(t, db); got != "" {
		t.Errorf("what failed left the policies %q", got)
	}
	if err := add(`type Note @policy(id: %q, resource: "note") { text: String }`); err != nil {
		t.Error(err)
	}
	if got := policyNames(t, db); got != "notes" {
		t.Errorf("policies are %q, want one", got)
	}
}

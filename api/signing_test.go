package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

func identity(t *testing.T) pando.Identity {
	t.Helper()
	key, err := pando.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// liar is a node that may change what it answers.
type liar struct {
	db     *pando.DB
	url    string
	change func(path string, body []byte) []byte // nil: it is honest
	asked  func(path string)                     // before it answers; may be nil
	refuse func(path string, body []byte) error  // instead of answering; may be nil
}

func lying(t *testing.T) *liar {
	t.Helper()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.AddSchema(t.Context(), `type Note { text: String  stars: Int @crdt(type: pncounter)  tags: String @crdt(type: mvregister) } type Page { text: String } type Memo @docID(mode: UNIQUE) { text: String }`); err != nil {
		t.Fatal(err)
	}
	server := api.NewServer(api.Config{DB: db})
	l := &liar{db: db}
	inner := server.Handler()
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.asked != nil {
			l.asked(r.URL.Path)
		}
		if l.refuse != nil {
			body, _ := io.ReadAll(r.Body)
			if err := l.refuse(r.URL.Path, body); err != nil {
				w.WriteHeader(http.StatusConflict)
				json.NewEncoder(w).Encode(map[string]string{"error": err.Error(), "code": "CONFLICT"})
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		rec := httptest.NewRecorder()
		inner.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		if l.change != nil && rec.Code == http.StatusOK {
			body = l.change(r.URL.Path, body)
		}
		w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
		w.WriteHeader(rec.Code)
		w.Write(body)
	}))
	l.url = listener.URL
	t.Cleanup(func() {
		listener.Close()
		if err := errors.Join(server.Shutdown(context.Background()), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// author is somebody who trusts the node with nothing.
func (l *liar) author(t *testing.T, key pando.Identity) *api.Author {
	t.Helper()
	c, err := api.NewClient(l.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.Authenticate(key, l.db.NodeIdentity().DID())
	return c.Author(key)
}

func (l *liar) query(t *testing.T, text string) string {
	t.Helper()
	res := l.db.Exec(t.Context(), pando.Request{Query: text})
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	return string(res.Data)
}

// The key stays with Bob, and every node sees that it was he who wrote.
func TestAnAuthorWritesWithAKeyThatTheNodeHasNot(t *testing.T) {
	t.Parallel()
	l := lying(t)
	bob := identity(t)
	a := l.author(t, bob)
	doc, err := a.Create(t.Context(), "Note", map[string]any{"text": "hi", "stars": 1, "tags": "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Update(t.Context(), "Note", doc, map[string]any{"text": "ho", "stars": 2, "tags": nil}); err != nil {
		t.Fatal(err)
	}
	if got, want := l.query(t, `{ Note { text stars tags } }`), `{"Note":[{"text":"ho","stars":3,"tags":null}]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := l.query(t, `{ _commits(docID: "`+doc.String()+`", fieldName: null) { author } }`); strings.Count(got, string(bob.DID())) != 2 {
		t.Errorf("the commits are of %s, want both of %s", got, bob.DID())
	}
	if err := a.Update(t.Context(), "Note", doc, map[string]any{"text": "ho"}); err != nil {
		t.Errorf("what it is already: %v", err)
	}
	if err := a.Delete(t.Context(), "Note", doc); err != nil {
		t.Fatal(err)
	}
	if err := a.Update(t.Context(), "Note", doc, map[string]any{"text": "he"}); !errors.Is(err, fault.NotFound) {
		t.Errorf("a document that is deleted: got %v, want NotFound", err)
	}
	resp, err := a.Query(t.Context(), api.Request{Query: `mutation { create_Note(input: [{text: "a"}, {text: "b"}]) { text } }`}, func(all []pando.Proposal) error {
		if len(all) != 2 || all[0].Operations[0].Value != "a" {
			t.Errorf("got %+v, want two documents, the first with the text a", all)
		}
		return nil
	})
	if err != nil || string(resp.Data) != `{"create_Note":[{"text":"a"},{"text":"b"}]}` {
		t.Errorf("got %+v, %v", resp, err)
	}
	if resp, err := a.Query(t.Context(), api.Request{Query: `{ Note { text } }`}, nil); err != nil || len(resp.Errors) > 0 {
		t.Errorf("a query: got %+v, %v", resp, err)
	}
	if resp, err := a.Query(t.Context(), api.Request{Query: `mutation { create_Nobody { _docID } }`}, nil); err != nil || len(resp.Errors) != 1 {
		t.Errorf("a wrong mutation: got %+v, %v; want its error", resp, err)
	}
}

// Others write the same document all the time. Nothing is lost, and nobody is told to try again.
func TestAnAuthorWhoIsOvertakenTriesAgain(t *testing.T) {
	t.Parallel()
	l := lying(t)
	a := l.author(t, identity(t))
	doc, err := a.Create(t.Context(), "Note", map[string]any{"stars": 1})
	if err != nil {
		t.Fatal(err)
	}
	times := 0
	l.asked = func(path string) {
		if times < 2 && strings.HasSuffix(path, "/commits/submit") {
			times++
			l.query(t, `mutation { update_Note(docID: "`+doc.String()+`", input: {stars: 10}) { _docID } }`)
		}
	}
	if err := a.Update(t.Context(), "Note", doc, map[string]any{"stars": 5}); err != nil {
		t.Fatal(err)
	}
	if got := l.query(t, `{ Note { stars } }`); got != `{"Note":[{"stars":26}]}` || times != 2 {
		t.Errorf("got %s after being overtaken %d times, want 26 after 2", got, times)
	}
}

// A node that says again and again that others were quicker collects no second signature of
// what would count twice: it is submitted once more as it is.
func TestWhatAddsUpIsSignedOnce(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*api.Author, pando.DocID) error{
		"a counter": func(a *api.Author, doc pando.DocID) error {
			return a.Update(t.Context(), "Note", doc, map[string]any{"stars": 1})
		},
		"a counter beside a text": func(a *api.Author, doc pando.DocID) error {
			return a.Update(t.Context(), "Note", doc, map[string]any{"text": "more", "stars": 1})
		},
		"a document": func(a *api.Author, _ pando.DocID) error {
			_, err := a.Create(t.Context(), "Memo", map[string]any{"text": "new"})
			return err
		},
		"a request": func(a *api.Author, doc pando.DocID) error {
			_, err := a.Query(t.Context(), api.Request{Query: `mutation { update_Note(docID: "` + doc.String() + `", input: {stars: 1}) { _docID } create_Memo(input: [{text: "b"}]) { text } }`}, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := lying(t)
			a := l.author(t, identity(t))
			doc, err := a.Create(t.Context(), "Note", map[string]any{"text": "first", "stars": 0})
			if err != nil {
				t.Fatal(err)
			}
			signed := map[string]api.SignedCommit{}
			l.refuse = func(path string, body []byte) error {
				if !strings.HasSuffix(path, "/commits/submit") {
					return nil
				}
				var in struct{ Commits []api.SignedCommit }
				if err := json.Unmarshal(body, &in); err != nil {
					t.Error(err)
				}
				for _, c := range in.Commits {
					signed[string(c.Envelope)] = c
				}
				return fault.Conflict.Errorf("others were quicker")
			}
			if err := write(a, doc); !errors.Is(err, fault.Conflict) {
				t.Errorf("got %v, want Conflict", err)
			}
			for _, c := range signed {
				id, err := dag.ParseCollectionID(c.Collection)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := l.db.Replica().Merge(t.Context(), id, [][]byte{c.Envelope}, ""); err != nil {
					t.Fatal(err)
				}
			}
			var got struct {
				Note []struct{ Stars int }
				Memo []struct{ Text string }
			}
			if err := json.Unmarshal([]byte(l.query(t, `{ Note { stars } Memo { text } }`)), &got); err != nil {
				t.Fatal(err)
			}
			if len(signed) == 0 || len(got.Memo) > 1 || len(got.Note) != 1 || got.Note[0].Stars > 1 {
				t.Errorf("of %d signed commits of one write the node made %+v", len(signed), got)
			}
		})
	}
}

// What says the same however often it is written is prepared anew: it stands on what its
// author has seen.
func TestWhatDoesNotAddUpIsPreparedAnew(t *testing.T) {
	t.Parallel()
	l := lying(t)
	a := l.author(t, identity(t))
	doc, err := a.Create(t.Context(), "Note", map[string]any{"text": "first"})
	if err != nil {
		t.Fatal(err)
	}
	times := 0
	l.asked = func(path string) {
		if times == 0 && strings.HasSuffix(path, "/commits/submit") {
			times++
			l.query(t, `mutation { update_Note(docID: "`+doc.String()+`", input: {text: "between"}) { _docID } }`)
		}
	}
	if err := a.Update(t.Context(), "Note", doc, map[string]any{"text": "last"}); err != nil {
		t.Fatal(err)
	}
	note, err := l.db.Collection("Note")
	if err != nil {
		t.Fatal(err)
	}
	heads, err := l.db.Replica().Heads(t.Context(), note.ID, doc)
	if got := l.query(t, `{ Note { text } }`); err != nil || len(heads) != 1 || !strings.Contains(got, `"last"`) {
		t.Errorf("got %s with %d heads, %v; want the last write, on top of the one between", got, len(heads), err)
	}
}

// draft is what a lying node makes for an author to sign.
func (l *liar) draft(t *testing.T, collection string, c dag.Commit) api.DraftCommit {
	t.Helper()
	coll, err := l.db.Collection(collection)
	if err != nil {
		t.Fatal(err)
	}
	if c.HLC == 0 {
		c.HLC = dag.HLC(time.Now(), 0)
	}
	if c.Root != nil {
		c.Root.Collection, c.Height = coll.ID, 1
		if c.Root.Seed == nil {
			c.Root.Seed = dag.ContentSeed(c.Deltas)
		}
	}
	c.Schema = coll.Version
	if err := dag.Prepare(&c); err != nil {
		t.Fatal(err)
	}
	return api.DraftCommit{Collection: coll.ID.String(), Header: c.Header(), Payload: c.Payload}
}

func (l *liar) field(t *testing.T, collection, name string, v value.Value) crdt.Delta {
	t.Helper()
	coll, err := l.db.Collection(collection)
	if err != nil {
		t.Fatal(err)
	}
	f, ok := coll.Field(name)
	if !ok {
		t.Fatalf("no field %s", name)
	}
	return crdt.Delta{Field: f.ID, Kind: f.Kind(), Val: v}
}

// A node that was broken into wants Bob's signature under something else than he asked
// for. He signs none of it.
func TestANodeThatLiesGetsNoSignature(t *testing.T) {
	t.Parallel()
	l := lying(t)
	bob, eve := identity(t), identity(t)
	a := l.author(t, bob)
	doc, err := a.Create(t.Context(), "Note", map[string]any{"text": "hi"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := a.Create(t.Context(), "Note", map[string]any{"text": "other"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Create(t.Context(), "Page", map[string]any{"text": "a page"}); err != nil {
		t.Fatal(err)
	}
	by := func(key pando.Identity) dag.Author { return dag.Author{Key: key.Public()} }
	hello, page := l.field(t, "Note", "text", value.OfString("ho")), l.field(t, "Page", "text", value.OfString("ho"))
	parent := []dag.CID{{1}}
	change := func(d pando.DocID, deltas ...crdt.Delta) dag.Commit {
		return dag.Commit{Doc: d, Parents: parent, Height: 2, Author: by(bob), Deltas: deltas}
	}
	old := change(doc, hello)
	old.HLC = dag.HLC(time.Now().Add(-time.Hour), 0)
	late := change(doc, hello)
	late.HLC = dag.HLC(time.Now().Add(time.Hour), 0)
	evil := change(doc, hello)
	evil.Author = by(eve)
	hidden := change(doc, hello)
	hidden.AddSegment(1, 1, []byte("who knows"))
	ok := change(doc, hello)
	lies := map[string][]api.DraftCommit{
		"another document":          {l.draft(t, "Note", change(other, hello))},
		"another value":             {l.draft(t, "Note", change(doc, l.field(t, "Note", "text", value.OfString("I owe Eve 100"))))},
		"one field more":            {l.draft(t, "Note", change(doc, hello, l.field(t, "Note", "tags", value.OfString("x"))))},
		"the same field twice":      {l.draft(t, "Note", change(doc, hello, hello))},
		"a deletion":                {l.draft(t, "Note", change(doc, crdt.Delta{Field: crdt.FieldStatus, Kind: crdt.KindStatus, Val: value.OfBool(true)}))},
		"a right for Eve":           {l.draft(t, "Note", change(doc, crdt.Delta{Field: crdt.FieldAccess, Kind: crdt.KindAccess, Void: true, Raw: []byte{0x80}}))},
		"a new document":            {l.draft(t, "Note", dag.Commit{Root: &dag.RootSeed{Mode: dag.ModeContent}, Author: by(bob), Deltas: []crdt.Delta{hello}})},
		"another collection":        {l.draft(t, "Page", change(doc, page))},
		"under the wrong name":      {{Collection: l.draft(t, "Page", change(doc, page)).Collection, Header: l.draft(t, "Note", ok).Header, Payload: l.draft(t, "Note", ok).Payload}},
		"another author":            {l.draft(t, "Note", evil)},
		"an hour ago":               {l.draft(t, "Note", old)},
		"in an hour":                {l.draft(t, "Note", late)},
		"encrypted parts":           {l.draft(t, "Note", hidden)},
		"one beside the other":      {l.draft(t, "Note", ok), l.draft(t, "Note", change(other, hello))},
		"a payload that is no CBOR": {{Collection: l.draft(t, "Note", ok).Collection, Header: l.draft(t, "Note", ok).Header, Payload: [][]byte{[]byte("nonsense")}}},
		"no payload":                {{Collection: l.draft(t, "Note", ok).Collection, Header: l.draft(t, "Note", ok).Header}},
	}
	submitted := false
	l.asked = func(path string) { submitted = submitted || strings.HasSuffix(path, "/commits/submit") }
	for name, drafts := range lies {
		// Or the node says that nothing came of it.
		for _, answer := range []string{`{"data":{"update_Note":[{}]}}`, `{"data":null,"errors":[{"message":"no luck"}]}`} {
			l.change = func(path string, body []byte) []byte {
				if !strings.HasSuffix(path, "/commits/prepare") {
					return body
				}
				raw, _ := json.Marshal(api.Prepared{Answer: json.RawMessage(answer), Commits: drafts})
				return raw
			}
			if err := a.Update(t.Context(), "Note", doc, map[string]any{"text": "ho"}); err == nil || submitted {
				t.Errorf("%s, answered by %s: got %v, and something was signed: %t", name, answer, err, submitted)
			}
			submitted = false
		}
	}
	// A request as text is not looked into as closely, but what it does not name it does not reach.
	for _, name := range []string{"a deletion", "a right for Eve", "a new document", "another collection", "under the wrong name", "another author", "an hour ago", "in an hour", "encrypted parts"} {
		l.change = func(path string, body []byte) []byte {
			raw, _ := json.Marshal(api.Prepared{Answer: json.RawMessage(`{"data":{}}`), Commits: lies[name]})
			return raw
		}
		_, err := a.Query(t.Context(), api.Request{Query: `mutation { update_Note(docID: "` + doc.String() + `", input: {text: "ho"}) { _docID } }`}, nil)
		if !errors.Is(err, fault.Denied) && !errors.Is(err, fault.Invalid) || submitted {
			t.Errorf("as text, %s: got %v, and something was signed: %t", name, err, submitted)
		}
	}
}

// What a request only speaks of, in its values and comments, it does not ask for.
func TestAWordInAValueIsNoMutation(t *testing.T) {
	t.Parallel()
	l := lying(t)
	bob := identity(t)
	a := l.author(t, bob)
	doc, err := a.Create(t.Context(), "Note", map[string]any{"text": "hi"})
	if err != nil {
		t.Fatal(err)
	}
	draft := l.draft(t, "Note", dag.Commit{Doc: doc, Parents: []dag.CID{{1}}, Height: 2, Author: dag.Author{Key: bob.Public()},
		Deltas: []crdt.Delta{{Field: crdt.FieldStatus, Kind: crdt.KindStatus, Val: value.OfBool(true)}}})
	l.change = func(path string, body []byte) []byte {
		if !strings.HasSuffix(path, "/commits/prepare") {
			return body
		}
		raw, _ := json.Marshal(api.Prepared{Answer: json.RawMessage(`{"data":{}}`), Commits: []api.DraftCommit{draft}})
		return raw
	}
	for _, text := range []string{
		`mutation { create_Note(input: {text: "how do I delete_Note?"}) { text } }`,
		`mutation { create_Note(input: {text: "\\\"delete_Note"}) { text } }`,
		`mutation { create_Note(input: {text: """ "delete_Note" \""" delete_Note"""}) { text } }`,
		"mutation { # no delete_Note\n create_Note(input: {text: \"x\"}) { text } }",
		"mutation { create_Note(input: {text: \"x\"}) { text } } # delete_Note",
		`{ Note { text: delete_Note } }`,
	} {
		if _, err := a.Query(t.Context(), api.Request{Query: text}, nil); !errors.Is(err, fault.Denied) || !strings.Contains(err.Error(), "not signed") {
			t.Errorf("%s: got %v", text, err)
		}
	}
	if _, err := a.Query(t.Context(), api.Request{Query: `mutation { create_Note(input: {text: "\\"}) { text } delete_Note(docID: "` + doc.String() + `") { text } }`}, nil); err != nil && strings.Contains(err.Error(), "not signed") {
		t.Errorf("one that asks for it: %v", err)
	}
}

// What a field is called is part of what is signed: who knows it from elsewhere is not
// led to write into another one.
func TestANodeCannotRenameFieldsOfAPinnedCollection(t *testing.T) {
	t.Parallel()
	l := lying(t)
	bob := identity(t)
	note, err := l.db.Collection("Note")
	if err != nil {
		t.Fatal(err)
	}
	a := l.author(t, bob)
	if _, err := a.Pin(note.Encode()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Create(t.Context(), "Note", map[string]any{"text": "hi"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.db.PatchSchema(t.Context(), pando.SchemaPatch{Patch: `[{"op": "add", "path": "/Note/Fields/-", "value": {"Name": "more", "Kind": "String"}}]`, Activate: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Create(t.Context(), "Note", map[string]any{"text": "ho"}); !errors.Is(err, fault.Denied) {
		t.Errorf("another version: got %v, want Denied", err)
	}
	free := l.author(t, bob)
	if _, err := free.Create(t.Context(), "Note", map[string]any{"text": "he", "more": "x"}); err != nil {
		t.Errorf("without a pin: %v", err)
	}
	// Another collection under the same name is not even then the same.
	l.change = func(path string, body []byte) []byte {
		if strings.HasSuffix(path, "/definition") {
			page, err := l.db.Collection("Page")
			if err != nil {
				t.Error(err)
			}
			body, _ = json.Marshal(api.Definition{VersionID: page.Version.String(), Definition: page.Encode()})
		}
		return body
	}
	if _, err := l.author(t, bob).Create(t.Context(), "Note", map[string]any{"text": "ho"}); !errors.Is(err, fault.Denied) {
		t.Errorf("the definition of another collection: got %v, want Denied", err)
	}
}

// Over the wire, by hand: who submits has to be who signed, and who has prepared nothing is nobody.
func TestSubmittingTakesAnIdentity(t *testing.T) {
	t.Parallel()
	l := lying(t)
	for _, path := range []string{"/commits/prepare", "/commits/submit"} {
		resp, err := http.Post(l.url+api.Base+path, "application/json", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s of nobody: got %d %s, want 403", path, resp.StatusCode, body)
		}
	}
	// Eve sees what Bob submits, and sends it as hers.
	bob, eve := identity(t), identity(t)
	a := l.author(t, bob)
	if _, err := a.Create(t.Context(), "Note", map[string]any{"text": "hi"}); err != nil {
		t.Fatal(err)
	}
	commits := l.query(t, `{ Note { _version { cid } } }`)
	var data struct {
		Note []struct {
			Version []struct{ CID string } `json:"_version"`
		}
	}
	if err := json.Unmarshal([]byte(commits), &data); err != nil {
		t.Fatalf("%s %v", commits, err)
	}
	cid, err := dag.ParseCID(data.Note[0].Version[0].CID)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := l.db.Replica().Block(t.Context(), cid)
	if err != nil {
		t.Fatal(err)
	}
	note, err := l.db.Collection("Note")
	if err != nil {
		t.Fatal(err)
	}
	signed := []pando.SignedCommit{{Collection: note.ID, Envelope: seen}}
	if _, err := l.db.Submit(t.Context(), eve.DID(), signed, pando.SubmitOptions{}); !errors.Is(err, fault.Denied) {
		t.Errorf("Bob's commit as Eve's: got %v, want Denied", err)
	}
	before := l.db.Seq()
	if cids, err := l.db.Submit(t.Context(), bob.DID(), signed, pando.SubmitOptions{}); err != nil || len(cids) != 1 || l.db.Seq() != before {
		t.Errorf("Bob's once more: got %v, %v; want it, and nothing new", cids, err)
	}
}

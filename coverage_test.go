package pando_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
)

// An answer that depends on a collection of which not everything is kept says so, and
// what is known to be complete.
func TestAnswersSayWhatIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := pando.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.AddSchema(t.Context(), scopeSchema+` type Plain { x: Int }`); err != nil {
		t.Fatal(err)
	}
	note, _ := db.Collection("Note")
	if err := db.Replica().SetScope(note.ID, pando.Scope{Filter: ` {stars: {_gt: 3}} `}); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	part := `"extensions":{"coverage":[{"collection":"Note","kept":"part","filter":"{stars: {_gt: 3}}"`
	for request, says := range map[string]bool{
		`{ Note { text } }`:             true,
		`{ Author { name } }`:           false,
		`{ Author { notes { text } } }`: true,
		`{ Author(filter: {notes: {text: {_eq: "x"}}}) { name } }`: true,
		`{ Author { _count(notes: {}) } }`:                         true,
		`{ _count(Note: {}) }`:                                     true,
		`{ _sum(Note: {field: stars}) }`:                           true,
		`{ Plain { x } }`:                                          false,
		`{ latestCommits(docID: "bafkreihiskbjbwen4n3lftv2l4kfmt3uvwm3btbrpvdzvsuditeazyxgve") { cid } }`: true,
		`mutation { create_Note(input: {text: "x"}) { text } }`:                                           false,
		`mutation { update_Note(filter: {text: {_eq: "none"}}, input: {text: "y"}) { text } }`:            true,
		`{ __typename }`: false,
	} {
		res := db.Exec(t.Context(), pando.Request{Query: request})
		if err := res.Err(); err != nil {
			t.Errorf("%s: %v", request, err)
			continue
		}
		if got := string(res.AppendJSON(nil)); strings.Contains(got, part) != says || says != (len(res.Coverage) == 1) {
			t.Errorf("%s: %s", request, got)
		}
	}
	if err := db.Replica().Covered(note.ID, pando.Scope{Filter: "{stars: {_gt: 3}}"}, "12D3KooW", at); err != nil {
		t.Fatal(err)
	}
	if err := db.Replica().Covered(note.ID, pando.Whole, "12D3KooX", at.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if db, err = pando.Open(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var out bytes.Buffer
	if err := db.Stream(t.Context(), pando.Request{Query: `{ Note { text } }`}, &out).Err(); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), `,"extensions":{"coverage":[{"collection":"Note","kept":"part","filter":"{stars: {_gt: 3}}","from":"12D3KooW","asOf":"2026-01-02T03:04:05Z"}]}}`; !strings.HasSuffix(got, want) {
		t.Errorf("after a restart:\n%s\nwant it to end with\n%s", got, want)
	}
	// Another part is not known to be complete because the one before was.
	if err := db.Replica().SetScope(note.ID, pando.Scope{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range db.Coverage() {
		if c.Complete() || c.Scope.Whole != (c.Name != "Note") {
			t.Errorf("coverage %+v", c)
		}
	}
	if err := db.Replica().SetScope(note.ID, pando.Whole); err != nil {
		t.Fatal(err)
	}
	if err := db.Replica().Covered(note.ID, pando.Whole, "12D3KooW", at); err != nil {
		t.Fatal(err)
	}
	if res := db.Exec(t.Context(), pando.Request{Query: `{ Note { text } }`}); len(res.Coverage) > 0 {
		t.Errorf("kept whole: %+v", res.Coverage)
	}
}

// A collection that comes from a peer is not all here until the two are compared, over
// restarts too, and answers say so. One that was made here is.
func TestAnswersSayWhatIsStillCopied(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	open := func() *pando.DB {
		t.Helper()
		db, err := pando.Open(t.Context(), dir, &pando.Options{Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	if _, err := db.AddSchema(t.Context(), scopeSchema+` type Plain { x: Int }`); err != nil {
		t.Fatal(err)
	}
	note, _ := db.Collection("Note")
	if err := db.Replica().Joined(note.ID, "12D3KooW"); err != nil {
		t.Fatal(err)
	}
	says := func(request, want string) {
		t.Helper()
		res := db.Exec(t.Context(), pando.Request{Query: request})
		if err := res.Err(); err != nil {
			t.Fatal(err)
		}
		got := string(res.AppendJSON(nil))
		if _, got, _ = strings.Cut(got, `"extensions":`); got != want {
			t.Errorf("%s at %v says %s, want %s", request, now, got, want)
		}
	}
	const copying = `{"coverage":[{"collection":"Note","kept":"whole","incomplete":true,"since":"2026-01-02T03:04:05Z","from":"12D3KooW"}]}}`
	says(`{ Note { text } }`, copying)
	says(`{ Plain { x } }`, "")
	db.Close()
	now = now.Add(time.Hour)
	db = open()
	says(`{ Note { text } }`, copying)
	if err := db.Replica().Joined(note.ID, "12D3KooX"); err != nil { // it goes on
		t.Fatal(err)
	}
	says(`{ Note { text } }`, copying)
	if err := db.Replica().Covered(note.ID, pando.Whole, "12D3KooX", now); err != nil {
		t.Fatal(err)
	}
	says(`{ Note { text } }`, "")
	db.Close()
	db = open()
	defer db.Close()
	says(`{ Note { text } }`, "")
}

// since is when a node began to keep what it keeps of notes.
func since(t *testing.T, db *pando.DB) string {
	t.Helper()
	for _, c := range db.Coverage() {
		if c.Name == "Note" {
			return c.Since.UTC().Format(time.RFC3339)
		}
	}
	t.Fatal("there are no notes")
	return ""
}

// Who follows changes is told at first what is kept, and again when that changes.
func TestEventsSayWhatIsKept(t *testing.T) {
	t.Parallel()
	for _, request := range []string{`subscription { Note { text } }`, `query @live { Note { text } }`} {
		db := node(t, scopeSchema)
		note, _ := db.Collection("Note")
		keep := func(s pando.Scope) {
			t.Helper()
			if err := db.Replica().SetScope(note.ID, s); err != nil {
				t.Fatal(err)
			}
		}
		keep(pando.Scope{Filter: `{stars: {_gt: 3}}`})
		l := listen(t, db, request, pando.SubscribeOptions{})
		said := func(what string) {
			t.Helper()
			e, err, ok := l.next()
			if err != nil || !ok {
				t.Fatal(err, ok)
			}
			got, message := string(e.AppendJSON(nil)), string(e.AppendMessage(nil))
			if !json.Valid([]byte(got)) || !json.Valid([]byte(message)) {
				t.Errorf("no JSON: %s, %s", got, message)
			}
			for _, text := range []string{got, message} {
				if _, says, _ := strings.Cut(text, `"coverage":`); strings.TrimSuffix(says, "}}") != what {
					t.Errorf("%s: event %s says %s, want %s", request, text, says, what)
				}
			}
		}
		writes := 0
		write := func() {
			writes++
			run(t, db, fmt.Sprintf(`mutation { create_Note(input: {text: "x", stars: %d}) { text } }`, writes))
		}
		write()
		said(`[{"collection":"Note","kept":"part","filter":"{stars: {_gt: 3}}","incomplete":true,"since":"` + since(t, db) + `"}]`)
		write()
		said("")
		keep(pando.Scope{})
		write()
		said(`[{"collection":"Note","kept":"none"}]`)
		keep(pando.Whole)
		if err := db.Replica().Covered(note.ID, pando.Whole, "12D3KooW", time.Now()); err != nil {
			t.Fatal(err)
		}
		write()
		said("[]")
	}
}

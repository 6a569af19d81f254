package pando_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
)

const lettersPolicy = `
name: letters
actor:
  name: actor
resources:
  letter:
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

// letters opens a database with a collection whose documents have owners.
func letters(t *testing.T, dir string, who pando.Identity) *pando.DB {
	t.Helper()
	db, err := pando.Open(context.Background(), dir, &pando.Options{Identity: who})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	id, err := db.AddPolicy(context.Background(), lettersPolicy)
	if err != nil {
		t.Fatal(err)
	}
	sdl := fmt.Sprintf(`
		type Letter @policy(id: %q, resource: "letter") { text: String @index, to: String, read: Int @crdt(type: pncounter) }
		type Flyer { text: String }`, id)
	if _, err := db.AddSchema(context.Background(), sdl); err != nil {
		t.Fatal(err)
	}
	return db
}

func ask(t *testing.T, db *pando.DB, text string) string {
	t.Helper()
	r := db.Exec(context.Background(), pando.Request{Query: text})
	if len(r.Errors) > 0 {
		t.Fatalf("%s: %v", text, r.Errors)
	}
	return string(r.Data)
}

// bring merges what one database has of the letters into another, as the network does.
func bring(t *testing.T, from, to *pando.DB) {
	t.Helper()
	err := from.View(context.Background(), func(tx *pando.Tx) error {
		c, err := tx.Collection("Letter")
		if err == nil {
			pull(t, to, from, c.Describe().ID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t *testing.T) pando.Identity {
	t.Helper()
	k, err := pando.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Letters are written encrypted, read by who may, in requests as if they were not, and
// kept by who may not as noise.
func TestLettersAreEncryptedForTheirReaders(t *testing.T) {
	t.Parallel()
	annKey, bobKey := newKey(t), newKey(t)
	hubDir := t.TempDir()
	ann, bob, hub := letters(t, "", annKey), letters(t, "", bobKey), letters(t, hubDir, pando.Identity{})
	made := ask(t, ann, `mutation { create_Letter(input: [{text: "confidential", to: "bob"}], encrypt: true) { text _docID } }`)
	_, id, _ := strings.Cut(made, `"_docID":"`)
	id, _, _ = strings.Cut(id, `"`)
	bring(t, ann, hub)
	bring(t, hub, bob)
	if got := ask(t, bob, `{ Letter { text } COUNT(Letter: {}) commits { cid } }`); got != `{"Letter":[],"COUNT":0,"commits":[]}` {
		t.Errorf("bob sees %s", got)
	}
	doc, err := dag.ParseDocID(id)
	if err != nil {
		t.Fatal(err)
	}
	err = ann.Update(context.Background(), func(tx *pando.Tx) error {
		c, err := tx.Collection("Letter")
		if err != nil {
			return err
		}
		who, err := pando.ParseSubject(string(bobKey.DID()))
		if err != nil {
			return err
		}
		_, err = c.Grant(doc, "writer", who)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	bring(t, ann, hub)
	bring(t, hub, bob)
	if got := ask(t, bob, `{ Letter(filter: {text: {_eq: "confidential"}}) { text to } COUNT(Letter: {}) }`); got != `{"Letter":[{"text":"confidential","to":"bob"}],"COUNT":1}` {
		t.Errorf("bob sees %s", got)
	}
	ask(t, bob, `mutation { update_Letter(docID: "`+id+`", input: {text: "clandestine", read: 2}) { text } }`)
	bring(t, bob, hub)
	bring(t, hub, ann)
	if got := ask(t, ann, `{ Letter(filter: {text: {_like: "cland%"}}) { text to read } }`); got != `{"Letter":[{"text":"clandestine","to":"bob","read":2}]}` {
		t.Errorf("ann sees %s", got)
	}
	if got := ask(t, hub, `{ Letter { text } }`); got != `{"Letter":[]}` {
		t.Errorf("the hub sees %s", got)
	}
	if err := hub.Check(context.Background(), func(p pando.Problem) { t.Errorf("the hub: %v", p) }); err != nil {
		t.Fatal(err)
	}
	if err := hub.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(hubDir, "data"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(hubDir, "data", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"confidential", "clandestine"} {
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("%s of the hub holds %q", f.Name(), secret)
			}
		}
	}
}

func TestSingleFieldsOfALetter(t *testing.T) {
	t.Parallel()
	ann := letters(t, "", newKey(t))
	if got := ask(t, ann, `mutation { create_Letter(input: [{text: "a", to: "b"}, {text: "c", to: "d"}], encryptFields: [text, to]) { text to } }`); got != `{"create_Letter":[{"text":"a","to":"b"},{"text":"c","to":"d"}]}` {
		t.Errorf("it says %s", got)
	}
	err := ann.Update(context.Background(), func(tx *pando.Tx) error {
		c, err := tx.Collection("Letter")
		if err != nil {
			return err
		}
		d, err := c.CreateEncrypted(map[string]any{"text": "e", "to": "f"}, "to")
		if err == nil && d.Get("to") != "f" {
			t.Errorf("to is %v", d.Get("to"))
		}
		if _, err := c.CreateEncrypted(map[string]any{"text": "e"}, "nothing"); !errors.Is(err, pando.ErrNotFound) {
			t.Errorf("a field that does not exist: %v", err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What cannot be kept secret is refused, and not written in clear.
func TestWhatCannotBeEncryptedIsRefused(t *testing.T) {
	t.Parallel()
	ann := letters(t, "", newKey(t))
	for text, want := range map[string]string{
		`mutation { create_Flyer(input: {text: "x"}, encrypt: true) { text } }`:            "has no policy",
		`mutation { create_Flyer(input: {text: "x"}, encryptFields: [text]) { text } }`:    "has no policy",
		`mutation { create_Letter(input: {text: "x"}, encryptFields: [_docID]) { text } }`: "_docID",
		`mutation { create_Letter(input: {text: "x"}, encryptFields: []) { text } }`:       "names no field",
	} {
		r := ann.Exec(context.Background(), pando.Request{Query: text})
		if len(r.Errors) == 0 || !strings.Contains(r.Errors[0].Message, want) {
			t.Errorf("%s: %v", text, r.Errors)
		}
	}
	if got := ask(t, ann, `{ Flyer { text } Letter { text } }`); got != `{"Flyer":[],"Letter":[]}` {
		t.Errorf("written is %s", got)
	}
}

// A live query hears of a letter when its key comes, of what is written in it, and that
// it is gone when the right is.
func TestLiveQueriesHearOfKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		annKey, bobKey := newKey(t), newKey(t)
		ann, bob := letters(t, "", annKey), letters(t, "", bobKey)
		live := []*watcher{
			watch(t, bob, `query @live { Letter(order: {text: ASC}) { text } }`, pando.SubscribeOptions{}),
			watch(t, bob, `query @live { Letter(filter: {text: {_like: "b%"}}) { text to } }`, pando.SubscribeOptions{}),
			watch(t, bob, `query @live { _count(Letter: {}) }`, pando.SubscribeOptions{}),
			watch(t, bob, `query @live { Flyer { text } Letter(groupBy: [to]) { to _group { text } } }`, pando.SubscribeOptions{}),
		}
		told := listen(t, bob, `subscription { Letter { text } }`, pando.SubscribeOptions{})
		settle := func() {
			t.Helper()
			bring(t, ann, bob)
			for _, w := range live {
				w.settles(t)
			}
		}
		settle()
		id := idOf(t, ask(t, ann, `mutation { create_Letter(input: {text: "aa", to: "x"}, encrypt: true) { _docID } }`))
		ask(t, ann, fmt.Sprintf(`mutation { update_Letter(docID: %q, input: {text: "bb"}) { text } }`, id))
		settle()
		if live[0].events != 1 {
			t.Errorf("of what is locked %d events were told, want the first only", live[0].events)
		}
		share := func(change func(c *pando.Documents, doc pando.DocID, who pando.Subject) (bool, error)) {
			t.Helper()
			doc, err := dag.ParseDocID(id)
			if err != nil {
				t.Fatal(err)
			}
			who, err := pando.ParseSubject(string(bobKey.DID()))
			if err != nil {
				t.Fatal(err)
			}
			err = ann.Update(context.Background(), func(tx *pando.Tx) error {
				c, err := tx.Collection("Letter")
				if err == nil {
					_, err = change(c, doc, who)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		share(func(c *pando.Documents, doc pando.DocID, who pando.Subject) (bool, error) {
			return c.Grant(doc, "reader", who)
		})
		settle()
		if got := fmt.Sprint(live[0].result); !strings.Contains(got, "bb") {
			t.Errorf("with the key the result is %s", got)
		}
		for _, text := range []string{"aa", "bb", "bb"} { // it asks now, and the last is of the key
			told.hears(`{"Letter":[{"text":"` + text + `"}]}`)
		}
		ask(t, ann, fmt.Sprintf(`mutation { update_Letter(docID: %q, input: {text: "bc"}) { text } }`, id))
		settle()
		told.hears(`{"Letter":[{"text":"bc"}]}`)
		share(func(c *pando.Documents, doc pando.DocID, who pando.Subject) (bool, error) {
			return c.Revoke(doc, "reader", who)
		})
		settle()
		if got := fmt.Sprint(live[0].result); strings.Contains(got, "bc") {
			t.Errorf("without the right the result is %s", got)
		}
	})
}

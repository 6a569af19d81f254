package pando_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/pandodb/pando"
)

// Anybody can ask of a document whether its history is right, and who wrote what.
func TestADocumentIsVerifiedByItsID(t *testing.T) {
	t.Parallel()
	db := memory(t)
	if _, err := db.AddSchema(t.Context(), "type Note "+addPolicy(t, db, notePolicy, "note")+" { text: String, stars: Int @crdt(type: pcounter) }"); err != nil {
		t.Fatal(err)
	}
	var id pando.DocID
	if err := db.Update(t.Context(), func(tx *pando.Tx) error {
		notes, err := tx.Collection("Note")
		if err != nil {
			return err
		}
		d, err := notes.Create(map[string]any{"text": "hi", "stars": 2})
		id = d.ID
		return err
	}); err != nil {
		t.Fatal(err)
	}
	v, err := db.Verify(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	me := db.Identity().Public().DID()
	if !v.Sound || v.Collection != "Note" || v.Owner != me || len(v.Commits) != 1 || v.Commits[0].Verdict != "counts" || v.Commits[0].Author != me || len(v.State) != 64 {
		t.Errorf("verified: %+v", v)
	}
	text, err := json.Marshal(v)
	if want := `"docID":"` + id.String() + `"`; err != nil || !strings.Contains(string(text), want) {
		t.Errorf("as JSON %s, %v", text, err)
	}
	blame, err := db.Blame(t.Context(), id, &v.Heads[0])
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, b := range blame {
		got += b.Field + " " + string(b.Writes[0].Value) + " "
	}
	if got != `stars 2 text "hi" ` {
		t.Errorf("blamed: %s", got)
	}
	if _, err := db.Verify(t.Context(), pando.DocID{1}, nil); !errors.Is(err, pando.ErrNotFound) {
		t.Errorf("an unknown document gives %v", err)
	}
}

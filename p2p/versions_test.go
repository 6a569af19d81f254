package p2p

import (
	"testing"
	"time"

	"github.com/pandodb/pando"
)

// Three in a row, of whom the one in the middle never uses another version than the
// first: versions and commits of both ends pass through it.
func TestVersionsTravelAndEachNodeUsesItsOwn(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(3)
		a, b, c := ms[0], ms[1], ms[2]
		id := addSchema(t, a.db, "type User { name: String }")
		a.start(b)
		b.start(a, c)
		c.start(b)
		w.cut([]*member{a}, []*member{c})
		eventually(t, time.Minute, func() (bool, string) { return b.node.has(id) && c.node.has(id), "the collection is not there" })

		second := patchUser(t, a.db, `[{"op": "remove", "path": "/User/Fields/name"},
			{"op": "add", "path": "/User/Fields/-", "value": {"Name": "first", "Kind": "String"}},
			{"op": "add", "path": "/User/Fields/-", "value": {"Name": "last", "Kind": "String"}}]`,
			pando.Migration{Do: "split", From: []string{"name"}, To: []string{"first", "last"}})
		patchUser(t, c.db, `[{"op": "add", "path": "/User/Fields/-", "value": {"Name": "phone", "Kind": "String"}}]`)
		exec(t, a.db, `mutation { create_User(input: {first: "Ada", last: "Lovelace"}) { _docID } }`)
		eventually(t, time.Minute, func() (bool, string) {
			got := exec(t, c.db, `{ User { name phone } }`)
			return got == `{"User":[{"name":"Ada Lovelace","phone":null}]}`, "c shows " + got
		})
		exec(t, c.db, `mutation { update_User(all: true, input: {name: "Grace Hopper", phone: "555"}) { _docID } }`)
		eventually(t, time.Minute, func() (bool, string) {
			got := exec(t, a.db, `{ User { first last } }`)
			return got == `{"User":[{"first":"Grace","last":"Hopper"}]}`, "a shows " + got
		})
		if got := exec(t, b.db, `{ User { name } }`); got != `{"User":[{"name":"Grace Hopper"}]}` {
			t.Errorf("b shows %s", got)
		}
		for _, m := range ms {
			if n := len(m.db.Versions()); n != 3 {
				t.Errorf("node %d knows %d versions, want 3", m.i, n)
			}
		}
		if _, err := c.db.ActivateVersion(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		if got := exec(t, c.db, `{ User { first } }`); got != `{"User":[{"first":"Grace"}]}` {
			t.Errorf("c shows %s", got)
		}
	})
}

func patchUser(t *testing.T, db *pando.DB, text string, rules ...pando.Migration) string {
	t.Helper()
	made, err := db.PatchSchema(t.Context(), pando.SchemaPatch{Patch: text, Migration: rules, Activate: true})
	if err != nil {
		t.Fatal(err)
	}
	return made[0].Version.String()
}

func exec(t *testing.T, db *pando.DB, request string) string {
	t.Helper()
	res := db.Exec(t.Context(), pando.Request{Query: request})
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	return string(res.Data)
}

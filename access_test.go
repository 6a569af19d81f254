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

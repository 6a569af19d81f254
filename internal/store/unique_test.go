package store

import (
	"context"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

const uniqueSDL = `
type Member @docID(mode: UNIQUE) @index(name: "seat", unique: true, includes: [{field: "row"}, {field: "chair", direction: DESC}]) {
	name: String @index(unique: true)
	row: Int
	chair: Int
	cards: [String] @index(unique: true)
	info: JSON @index(unique: true)
	desk: Desk @primary
}
type Desk { number: Int, member: Member }
`

func members(t tester) *node {
	n := newNode(t, "ada")
	n.addSchema(uniqueSDL)
	return n
}

func list(texts ...string) value.Value {
	vs := []value.Value{}
	for _, s := range texts {
		vs = append(vs, value.OfString(s))
	}
	return value.OfList(vs)
}

func (n *node) tryMember(in ...schema.Input) (id dag.DocID, err error) {
	err = n.Update(context.Background(), As(n.key), func(tx *Tx) error {
		id, err = newMember(tx, in...)
		return err
	})
	return id, err
}

func newMember(tx *Tx, in ...schema.Input) (dag.DocID, error) {
	c, err := tx.Collection("Member")
	if err != nil {
		return dag.DocID{}, err
	}
	deltas, err := c.Create(in)
	if err != nil {
		return dag.DocID{}, err
	}
	d, err := tx.Create(c, deltas)
	return d.ID, err
}

// Equal values are refused where the index is unique; nulls may repeat, also the one
// null of several columns.
func TestUniqueIndexesRefuseEqualValues(t *testing.T) {
	t.Parallel()
	n := members(t)
	desk := n.create("Desk", "number", 1)
	json := func(s string) value.Value { v, _ := value.ParseJSON([]byte(s)); return v }
	of := func(name string, v value.Value) schema.Input { return schema.Input{Name: name, Val: v} }
	first, err := n.tryMember(append(fields("name", "ada", "row", 1, "chair", 2),
		of("cards", list("x", "y")), of("info", json(`{"a":{"b":1}}`)), of("desk", value.OfRef(desk)))...)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		in   []schema.Input
		want string // "": accepted
	}{
		{"nothing", nil, ""},
		{"nothing again", nil, ""},
		{"the same name", fields("name", "ada"), `can not index a doc's field(s) that violates unique index. DocID: `},
		{"the same name, told", fields("name", "ada"), `, name: "ada": document ` + first.String() + ` has the same`},
		{"the same row", fields("row", 1, "chair", 3), ""},
		{"the same row without a chair", fields("row", 1), ""},
		{"the same row without a chair again", fields("row", 1), ""},
		{"the same seat", fields("row", 1, "chair", 2), `row: 1, chair: 2`},
		{"a shared card", []schema.Input{of("cards", list("z", "y"))}, `cards: "y"`},
		{"another card", []schema.Input{of("cards", list("z"))}, ""},
		{"no card, as null", []schema.Input{of("cards", value.OfList([]value.Value{{}}))}, ""},
		{"no card, as null again", []schema.Input{of("cards", value.OfList([]value.Value{{}}))}, ""},
		{"the same leaf", []schema.Input{of("info", json(`{"a":{"b":1.0,"c":2}}`))}, `info: 1`},
		{"the leaf elsewhere", []schema.Input{of("info", json(`{"b":1}`))}, ""},
		{"the same desk", []schema.Input{of("desk", value.OfRef(desk))}, `target document is already linked to another document. DocID: `},
	} {
		_, err := n.tryMember(c.in...)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: got %v, want it accepted", c.what, err)
		case c.want != "":
			wantKind(t, err, fault.Exists, c.what)
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", c.what, err, c.want)
			}
		}
	}
	wantSound(t, n)
}

// A value is free again when its document changes or is deleted, within one
// transaction too; and a document does not stand in its own way.
func TestUniqueValuesAreGivenBack(t *testing.T) {
	t.Parallel()
	n := members(t)
	a, _ := n.tryMember(fields("name", "ada")...)
	b, _ := n.tryMember(fields("name", "bob")...)
	n.update(func(tx *Tx) error { // they change names
		for _, step := range []struct {
			id   dag.DocID
			name any
		}{{a, nil}, {b, "ada"}, {a, "bob"}, {a, "bob"}} {
			if _, err := updateIn(tx, "Member", step.id, "name", step.name); err != nil {
				return err
			}
		}
		return nil
	})
	n.update(func(tx *Tx) error { _, err := tx.Delete(n.coll("Member"), b); return err })
	if _, err := n.tryMember(fields("name", "ada")...); err != nil {
		t.Errorf("the name of a deleted member is not free: %v", err)
	}
	wantSound(t, n)
}

// Of transactions at the same time one gets the value.
func TestUniqueValuesBetweenTransactions(t *testing.T) {
	t.Parallel()
	n := members(t)
	tx, err := n.Begin(As(n.key), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newMember(tx, fields("name", "ada")...); err != nil {
		t.Fatal(err)
	}
	given, err := n.Begin(As(n.key), false)
	if err != nil {
		t.Fatal(err)
	}
	id, err := newMember(given, fields("name", "ada")...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := updateIn(given, "Member", id, "name", "eve"); err != nil {
		t.Fatal(err)
	}
	runs := 0
	err = n.Update(context.Background(), As(n.key), func(tx *Tx) error {
		if runs++; runs == 1 {
			if _, err := n.tryMember(fields("name", "ada")...); err != nil {
				t.Error(err)
			}
		}
		_, err := newMember(tx, fields("name", "ada")...)
		return err
	})
	wantKind(t, err, fault.Exists, "an update that was overtaken")
	wantKind(t, tx.Commit(context.Background()), fault.Exists, "a transaction that was overtaken")
	if err := given.Commit(context.Background()); err != nil {
		t.Errorf("a transaction that gave the name up: %v", err)
	}
	wantSound(t, n)
}

// What was written apart is kept: both documents are there, in the index too, and
// each can change.
func TestUniqueValuesWrittenApart(t *testing.T) {
	t.Parallel()
	n, other := members(t), newNode(t, "bob")
	other.addSchema(uniqueSDL)
	a, _ := n.tryMember(fields("name", "ada")...)
	b, err := other.tryMember(fields("name", "ada")...)
	if err != nil {
		t.Fatal(err)
	}
	n.merge("Member", other.everything("Member"))
	names := map[dag.DocID]string{a: "a", b: "b"}
	if got := n.entries("Member", "Member_name_ASC", IndexRange{}, false, names); sorted(got) != `"ada" a; "ada" b` {
		t.Errorf("the index has %s, want both", got)
	}
	n.set("Member", b, "row", 1)
	n.view(func(tx *Tx) error {
		wantKind(t, tx.CheckUnique(n.coll("Member"), n.index("Member", "Member_name_ASC")), fault.Exists, "a check of what was written apart")
		return nil
	})
	_, err = n.tryMember(fields("name", "ada")...)
	wantKind(t, err, fault.Exists, "a third one")
	n.set("Member", b, "name", "eve")
	wantSound(t, n)
}

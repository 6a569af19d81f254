package store

import (
	"context"
	"testing"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
)

// A transaction that began while a unique index was built checked nothing: it must
// not bring a second document of the same value when the index is ready.
func TestUniqueIndexBesideTransactionsOfItsBuild(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	n.create("Page", "title", "a", "body", "x")
	n.createIndex("Page", schema.Index{Name: "bodies", Unique: true, Fields: []schema.IndexField{{Name: "body"}}})
	tx, err := n.Begin(As(n.key), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := createIn(tx, "Page", "title", "b", "body", "x"); err != nil {
		t.Fatal(err)
	}
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantKind(t, tx.Commit(context.Background()), fault.Conflict, "a commit that the index did not check")
	runs := 0
	n.update(func(tx *Tx) error { return tx.DropIndex(n.coll("Page"), "bodies") })
	n.createIndex("Page", schema.Index{Name: "bodies", Unique: true, Fields: []schema.IndexField{{Name: "body"}}})
	err = n.Update(t.Context(), As(n.key), func(tx *Tx) error {
		_, err := createIn(tx, "Page", "title", "c", "body", "x")
		if runs++; runs == 1 {
			if err := n.BuildIndexes(t.Context()); err != nil {
				return err
			}
		}
		return err
	})
	wantKind(t, err, fault.Exists, "an update that the index did not check")
	wantSound(t, n)
}

// memos returns a node with two versions of Memo, of which hits reads differently.
func memos(t *testing.T) (n *node, first, second *schema.Collection) {
	n = newNode(t, "ada")
	n.addSchema(`type Memo { title: String  hits: Int @index(name: "hits") }`)
	first = n.coll("Memo")
	second = n.patched(`[{"op": "replace", "path": "/Memo/Fields/hits/Kind", "value": "String"}]`)
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n, first, second
}

// While a batch is made, another version is used and the first one again: the index
// lost its entries meanwhile, and the batch cannot go on from them.
func TestBuildBesideAVersionAndBack(t *testing.T) {
	t.Parallel()
	n, first, second := memos(t)
	names := map[dag.DocID]string{}
	for i := range 7 {
		names[n.create("Memo", "title", string(rune('a'+i)), "hits", 1)] = "m"
	}
	n.use(second)
	n.use(first)
	n.buildStep = 3
	n.step("Memo", nil) // clears
	n.step("Memo", nil)
	n.step("Memo", func() {
		n.use(second)
		n.use(first)
	})
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := n.entries("Memo", "hits", IndexRange{}, false, names), "1 m; 1 m; 1 m; 1 m; 1 m; 1 m; 1 m"; got != want {
		t.Errorf("the index has %s, want %s", got, want)
	}
	wantSound(t, n)
}

// A transaction that began before both changes writes what differs, to an index that
// lacks the rest.
func TestTransactionBesideAVersionAndBack(t *testing.T) {
	t.Parallel()
	n, first, second := memos(t)
	id := n.create("Memo", "title", "a", "hits", 1)
	tx, err := n.Begin(As(n.key), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := updateIn(tx, "Memo", id, "title", "b"); err != nil {
		t.Fatal(err)
	}
	n.use(second)
	n.use(first)
	n.step("Memo", nil)
	n.step("Memo", func() {
		wantKind(t, tx.Commit(context.Background()), fault.Conflict, "a commit beside versions of its collection")
	})
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := n.entries("Memo", "hits", IndexRange{}, false, map[dag.DocID]string{id: "a"}), "1 a"; got != want {
		t.Errorf("the index has %s, want %s", got, want)
	}
	wantSound(t, n)
}

// The other side of a relation can call for an index of this one, which stays when
// that side goes: it is kept after a restart too.
func TestIndexesThatTheOtherSideCallsFor(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	n.addSchema(`type Person { name: String  home: House @index(name: "homes") }  type House { no: Int }`)
	alone := n.coll("House")
	owned := n.patched(`[{"op": "add", "path": "/House/Fields/-", "value": {"Name": "owner", "Kind": "Person", "RelationName": "` + n.coll("Person").Fields[0].Relation + `", "IsPrimary": false}}]`)
	n.use(owned)
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := n.create("Person", "name", "ada")
	h := n.create("House", "no", 1)
	n.set("Person", p, "home", h)
	n.use(alone)
	n.reopen()
	wantSound(t, n)
	n.set("Person", p, "home", nil)
	n.use(owned)
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSound(t, n)
}

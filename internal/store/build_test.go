package store

import (
	"context"
	"fmt"
	"testing"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
)

func (n *node) createIndex(coll string, ix schema.Index) (made schema.Index) {
	n.t.Helper()
	n.update(func(tx *Tx) (err error) {
		made, err = tx.CreateIndex(n.coll(coll), ix)
		return err
	})
	return made
}

// bodies is the index that the tests build.
var bodies = schema.Index{Name: "bodies", Fields: []schema.IndexField{{Name: "body"}}}

// step makes one batch; between comes after its snapshot.
func (n *node) step(coll string, between func()) {
	n.t.Helper()
	tx, err := n.begin(As(n.key))
	if err != nil {
		n.t.Fatal(err)
	}
	defer tx.release()
	tx.readOnly = true
	if between != nil {
		between()
	}
	if err := tx.build(tx.set.byID[n.coll(coll).ID]); err != nil {
		n.t.Fatal(err)
	}
}

// A document that changes while its batch is made keeps the entries of its new state,
// of fields that did not change too.
func TestBuildLeavesChangedDocumentsToTheirWriters(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	a := n.create("Page", "title", "a", "body", "x")
	b := n.create("Page", "title", "b", "body", "x")
	c := n.create("Page", "title", "c", "body", "x")
	names := map[dag.DocID]string{a: "a", b: "b", c: "c"}
	n.createIndex("Page", bodies)
	n.step("Page", nil) // clears
	n.step("Page", func() {
		n.set("Page", a, "hits", 7)
		n.set("Page", b, "body", "y")
		n.update(func(tx *Tx) error { _, err := tx.Delete(n.coll("Page"), c); return err })
	})
	if got, want := n.entries("Page", "bodies", IndexRange{}, false, names), `"x" a; "y" b`; got != want {
		t.Errorf("the index has %s, want %s", got, want)
	}
	wantSound(t, n)
}

// A build that is interrupted goes on where it was; until it is done nobody reads the
// index.
func TestBuildGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	names := map[dag.DocID]string{}
	for i := range 7 {
		names[n.create("Page", "title", fmt.Sprint(i), "body", "x")] = "p"
	}
	n.createIndex("Page", bodies)
	n.buildStep = 3
	n.step("Page", nil)
	n.step("Page", nil)
	n.reopen()
	n.view(func(tx *Tx) error {
		c, ix := n.coll("Page"), n.index("Page", "bodies")
		for _, err := range tx.Index(c, ix, IndexRange{}, false) {
			wantKind(t, err, fault.Unavailable, "an index that is not ready")
		}
		b, err := tx.secondary(c, ix).built(tx.kv)
		if err != nil || b.ready || b.done == (dag.DocID{}) || tx.IndexReady(c, ix) {
			t.Errorf("after a restart it is built as %+v, %v, want a part", b, err)
		}
		return nil
	})
	wantSound(t, n)
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := n.entries("Page", "bodies", IndexRange{}, false, names), `"x" p; "x" p; "x" p; "x" p; "x" p; "x" p; "x" p`; got != want {
		t.Errorf("the index has %s, want %s", got, want)
	}
	wantSound(t, n)
}

// An explicit transaction that began before an index does not know it, and cannot
// commit beside it; other updates run again.
func TestIndexBesideTransactions(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	a := n.create("Page", "title", "a", "body", "x")
	tx, err := n.Begin(As(n.key), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := updateIn(tx, "Page", a, "body", "y"); err != nil {
		t.Fatal(err)
	}
	runs := 0
	n.update(func(tx *Tx) error {
		if runs++; runs == 1 {
			n.createIndex("Page", bodies)
		}
		_, err := updateIn(tx, "Page", a, "body", "z")
		return err
	})
	if runs != 2 {
		t.Errorf("an update beside a new index runs %d times, want twice", runs)
	}
	wantKind(t, tx.Commit(context.Background()), fault.Conflict, "a commit beside a new index")
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := n.entries("Page", "bodies", IndexRange{}, false, map[dag.DocID]string{a: "a"}), `"z" a`; got != want {
		t.Errorf("the index has %s, want %s", got, want)
	}
}

// A directory that was written before indexes has their descriptions and no entries;
// relations have no description of theirs either.
func TestIndexesOfOlderDirectoriesAreBuilt(t *testing.T) {
	t.Parallel()
	n, names := newShops(t)
	n.damage(func(b *kv.Batch, _ *kv.Snapshot) { b.DeleteRange([]byte("x"), []byte("y")) })
	n.open()
	want := len(n.coll("Shop").Indexes)
	if n.Schema().IndexReady(n.coll("Shop"), "tags") {
		t.Error("an index without entries is ready")
	}
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := n.entries("Shop", "tags", IndexRange{}, false, names), `null c; "x" a; "y" a; "y" c`; sorted(got) != want {
		t.Errorf("tags are %s, want %s", got, want)
	}
	n.reopen()
	if got := len(n.coll("Shop").Indexes); got != want {
		t.Errorf("%d indexes, had %d", got, want)
	}
	wantSound(t, n)
}

// Under another version the field reads otherwise: entries of what readers saw there
// do not stay, also if nobody built the index meanwhile.
func TestAnIndexLosesTheEntriesOfAnotherReading(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	n.addSchema(`type Worker { name: String, age: Int @index(name: "ages") }`)
	first := n.coll("Worker").Version
	var second dag.Digest
	a := n.create("Worker", "name", "a", "age", 40)
	n.update(func(tx *Tx) error {
		patch := schema.Patch{Text: []byte(`[{"op": "replace", "path": "/Worker/Fields/age/Kind", "value": "String"}]`)}
		made, err := patch.Apply(tx.Collections())
		if err != nil {
			return err
		}
		second = made[0].Version
		return tx.AddVersions(made)
	})
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.update(func(tx *Tx) error { return tx.Activate(second) })
	b := n.create("Worker", "name", "b", "age", "7")
	n.update(func(tx *Tx) error { return tx.Activate(first) })
	n.reopen()
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSound(t, n)
	if got, want := n.entries("Worker", "ages", IndexRange{}, false, map[dag.DocID]string{a: "a", b: "b"}), "7 b; 40 a"; got != want {
		t.Errorf("ages are %s, want %s", got, want)
	}
}

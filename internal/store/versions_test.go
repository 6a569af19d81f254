package store

import (
	"errors"
	"slices"
	"testing"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
)

// patched adds the version that a patch makes, and returns it.
func (n *node) patched(patch string) *schema.Collection {
	n.t.Helper()
	made, err := schema.Patch{Text: []byte(patch)}.Apply(n.Schema().Collections())
	if err != nil || len(made) != 1 {
		n.t.Fatalf("%s makes %v, %v", patch, made, err)
	}
	n.update(func(tx *Tx) error { return tx.AddVersions(made) })
	return made[0]
}

func (n *node) use(c *schema.Collection) {
	n.t.Helper()
	n.update(func(tx *Tx) error { return tx.Activate(c.Version) })
}

// Who planned for a version that is not used any more gets no entries of an index
// that holds something else under the same names.
func TestAnIndexOfAnotherVersionIsNotReady(t *testing.T) {
	n := newNode(t, "ada")
	n.addSchema(`type Memo { hits: Int @index(name: "hits") title: String @index(name: "title") }`)
	old := n.coll("Memo")
	n.use(n.patched(`[{"op": "replace", "path": "/Memo/Fields/hits/Kind", "value": "String"}]`))
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	ready := func(c *schema.Collection, name string) (ready bool) {
		i := slices.IndexFunc(c.Indexes, func(ix schema.Index) bool { return ix.Name == name })
		n.view(func(tx *Tx) error {
			ready = tx.IndexReady(c, &c.Indexes[i])
			return nil
		})
		return ready
	}
	if !ready(n.coll("Memo"), "hits") || !ready(old, "title") {
		t.Error("indexes that hold the same are not ready")
	}
	if ready(old, "hits") {
		t.Error("the index of strings is ready for numbers")
	}
}

func TestActivationIsPartOfItsTransaction(t *testing.T) {
	n := newNode(t, "ada")
	n.addSchema(`type Memo { title: String }`)
	first := n.coll("Memo")
	next := n.patched(`[{"op": "add", "path": "/Memo/Fields/-", "value": {"Name": "body", "Kind": "String"}}]`)
	n.update(func(tx *Tx) error {
		if err := tx.Try(func() error {
			if err := tx.Activate(next.Version); err != nil {
				return err
			}
			_, err := createIn(tx, "Memo", "body", "x")
			return errors.Join(err, fault.Invalid)
		}); !errors.Is(err, fault.Invalid) {
			t.Errorf("the attempt: %v", err)
		}
		if c, _ := tx.Set().Collection("Memo"); c.Version != first.Version {
			t.Error("a version is used that was taken back")
		}
		return nil
	})
	n.use(next)
	id := n.create("Memo", "title", "t", "body", "b")
	n.use(first)
	n.reopen()
	if got := n.coll("Memo"); got.Version != first.Version || len(n.Schema().Versions(got.ID)) != 2 {
		t.Errorf("after a restart the version is %s of %v", got.Version, n.Schema().Versions(got.ID))
	}
	n.use(next)
	if got := n.field("Memo", id, "body"); got != `"b"` && got != "b" {
		t.Errorf("body is %s, want b", got)
	}
	wantSound(t, n)
}

package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

func titles(t *testing.T) *schema.Collection {
	t.Helper()
	v, err := schema.ParseView(schema.ViewSource{Query: `Page { title }`, SDL: `type Title { title: String }`})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// setTitle stores a row as a refresh does.
func setTitle(tx *Tx, v *schema.Collection, key string) error {
	return errors.Join(tx.SetRow(v, []byte(key), v.Row(nil, []value.Value{value.OfString(key)}).Bytes()), tx.Refreshed(v, 1, "all"))
}

// A view has no commits, whatever a peer sends under its ID.
func TestNothingIsMergedIntoAView(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	v := titles(t)
	n.update(func(tx *Tx) error { return tx.AddView(v) })
	_, err := n.Merge(t.Context(), v.ID, nil, "peer")
	wantKind(t, err, fault.NotFound, "a merge into a view")
	_, err = n.Summary(v.ID)
	wantKind(t, err, fault.NotFound, "a summary of a view")
}

// Rows that a refresh stores while the view is dropped go too: the next view may get
// the number that it had.
func TestRowsGoWithTheirView(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	v := titles(t)
	row := func(tx *Tx, key string) error { return setTitle(tx, v, key) }
	n.update(func(tx *Tx) error { return tx.AddView(v) })
	n.update(func(tx *Tx) error { return row(tx, "before") })
	runs := 0
	n.update(func(tx *Tx) error {
		if runs++; runs == 1 {
			n.update(func(tx *Tx) error { return row(tx, "meanwhile") })
		}
		return errors.Join(row(tx, "after"), tx.DropView("Title"))
	})
	n.reopen()
	n.update(func(tx *Tx) error { return tx.AddView(v) })
	n.view(func(tx *Tx) error {
		for r, err := range tx.Rows(v) {
			t.Errorf("a new view has the row %q, %v", r.Key, err)
		}
		if st, err := tx.ViewState(v); err != nil || !st.Refreshed.IsZero() {
			t.Errorf("a new view was refreshed: %+v, %v", st, err)
		}
		return nil
	})
	if err := n.Update(t.Context(), As(n.key), func(tx *Tx) error {
		return tx.Try(func() error { return errors.Join(tx.DropView("Title"), fault.Invalid) })
	}); !errors.Is(err, fault.Invalid) {
		t.Fatal(err)
	}
	n.update(func(tx *Tx) error { return row(tx, "kept") })
	if _, ok := n.Schema().View("Title"); !ok {
		t.Error("a view is gone whose removal was taken back")
	}
}

// Rows are made by a refresh, which nobody asked for after a rebuild: they stay.
func TestRowsStayWhenTheDirectoryIsRebuilt(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	n.create("Page", "title", "a")
	v := titles(t)
	n.update(func(tx *Tx) error { return tx.AddView(v) })
	n.update(func(tx *Tx) error { return setTitle(tx, v, "a") })
	want := n.dump()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.rebuild()
	n.open()
	wantSame(t, n.dump(), want)
	n.view(func(tx *Tx) error {
		if st, err := tx.ViewState(v); err != nil || !tx.Follows(st) {
			t.Errorf("the next refresh does not go on from %+v, %v", st, err)
		}
		return nil
	})
}

// A module goes with the last of what names it.
func TestModulesGoWithWhatNamesThem(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	module := []byte("any bytes: nobody runs them here")
	add := func(name string) {
		n.update(func(tx *Tx) error {
			kept, err := tx.KeepModules(&schema.Transform{Lenses: []schema.Lens{{Path: schema.GivenPath(module)}}})
			if err != nil {
				return err
			}
			v, err := schema.ParseView(schema.ViewSource{Query: `Page { title }`, SDL: `type ` + name + ` { title: String }`, Transform: kept})
			if err != nil {
				return err
			}
			return tx.AddView(v)
		})
	}
	modules := func() (count int) {
		for key := range n.dump() {
			if bytes.HasPrefix([]byte(key), globalKey(globalModule)) {
				count++
			}
		}
		return count
	}
	add("One")
	add("Two")
	n.update(func(tx *Tx) error { return tx.DropView("One") })
	if got := modules(); got != 1 {
		t.Errorf("%d modules while a view has one", got)
	}
	made, err := schema.Patch{
		Text: []byte(`[{"op": "add", "path": "/Note/Fields/-", "value": {"Name": "short", "Kind": "String"}}]`),
		Lens: schema.LensRule{Lenses: []schema.Lens{{Path: schema.StoredPath(sha256.Sum256(module))}}},
	}.Apply(n.Schema().Collections())
	if err != nil {
		t.Fatal(err)
	}
	n.update(func(tx *Tx) error { return tx.AddVersions(made) })
	n.update(func(tx *Tx) error { return tx.DropView("Two") })
	if got := modules(); got != 1 {
		t.Errorf("%d modules while a version names one", got)
	}

	n = newNode(t, "bob")
	add("One")
	n.update(func(tx *Tx) error { return tx.DropView("One") })
	if got := modules(); got != 0 {
		t.Errorf("%d modules of no view", got)
	}
}

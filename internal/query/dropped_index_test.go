package query

import (
	"testing"

	"github.com/pandodb/pando/internal/store"
)

// A relation whose declared index is dropped is followed right all the same.
func TestRelationAfterItsIndexIsDropped(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int bs: [B] } type B @index(includes: [{field: "a"}]) { n: Int m: Int a: A }`)
	family(d, 2, 3)
	err := d.store.Update(t.Context(), store.As(d.key), func(tx *store.Tx) error {
		c, err := tx.Collection("B")
		if err != nil {
			return err
		}
		return tx.DropIndex(c, c.Indexes[0].Name)
	})
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		if got, want := d.must(`{ A(order: {n: ASC}) { n _count(bs: {}) bs(limit: 1) { n } } }`), `{"A":[{"n":0,"_count":3,"bs":[{"n":0}]},{"n":1,"_count":3,"bs":[{"n":1}]}]}`; got != want {
			t.Errorf("%s: got %s, want %s", when, got, want)
		}
	}
	check("dropped")
	if err := d.store.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("built")
}

package store

import (
	"testing"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
)

// A view has no commits, whatever a peer sends under its ID.
func TestNothingIsMergedIntoAView(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	v, err := schema.ParseView(schema.ViewSource{Query: `Page { title }`, SDL: `type Title { title: String }`})
	if err != nil {
		t.Fatal(err)
	}
	n.update(func(tx *Tx) error { return tx.AddView(v) })
	_, err = n.Merge(t.Context(), v.ID, nil, "peer")
	wantKind(t, err, fault.NotFound, "a merge into a view")
	_, err = n.Summary(v.ID)
	wantKind(t, err, fault.NotFound, "a summary of a view")
}

package store

import (
	"context"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
)

// A guard remembers how it decided, and knows at a glance what the caller owns. Whoever
// passes over documents that are shared in all ways there are must come to the same as
// who asks after each alone.
func TestAGuardDecidesAsIfItRememberedNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t, "library")
	addNotes(n)
	people := []string{"ann", "bo", "cy"}
	var ids []dag.DocID
	for range 2 {
		for _, owner := range people[:2] {
			for shown := range 1 << len(people) {
				for _, next := range []string{"", "ann", "bo", "cy"} {
					id := n.owned(owner, "Memo", "text", "shared")
					var ops []acp.Op
					for i, who := range people {
						if shown>>i&1 != 0 {
							ops = append(ops, acp.Op{Kind: acp.Grant, Relation: "reader", Subject: keyText(who)})
						}
					}
					if next != "" {
						ops = append(ops, acp.Op{Kind: acp.Transfer, Subject: keyText(next)})
					}
					if ids = append(ids, id); len(ops) == 0 {
						continue
					}
					err := n.Update(context.Background(), someone(owner), func(tx *Tx) error {
						_, err := tx.WriteAccess(n.coll("Memo"), id, ops...)
						return err
					})
					if err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	for _, callers := range [][]string{{}, {"ann"}, {"bo"}, {"cy"}, {"dan"}, {"ann", "bo"}, {"dan", "cy"}} {
		var who Caller
		for _, name := range callers {
			who.Reads = append(who.Reads, someone(name).Key.Public())
		}
		err := n.View(context.Background(), who, func(tx *Tx) error {
			seen := map[dag.DocID]bool{}
			for d, err := range tx.Scan(n.coll("Memo"), Range{}) {
				if err != nil {
					return err
				}
				seen[d.ID] = true
			}
			for _, id := range ids {
				may, err := tx.Readable(n.coll("Memo"), id, who.Keys()...)
				if err != nil {
					return err
				}
				if seen[id] != may {
					t.Errorf("%v: document %s is shown: %v, may be read: %v", callers, id, seen[id], may)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

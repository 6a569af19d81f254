package store

import (
	"fmt"
	"testing"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
)

// longPaper is a document of ann's with n updates, and 20 by bob beside the
// revocation of his right. bob knows only of his.
func longPaper(b *testing.B, n int) (ann, bob *node, id dag.DocID) {
	b.Helper()
	ann, bob = newNode(b, "ann").policed(), newNode(b, "bob").policed()
	id = ann.create("Paper", "title", "draft")
	ann.mustDo("Paper", id, grantTo("writer", person("bob")))
	bob.learns(ann)
	for i := range 20 {
		bob.set("Paper", id, "title", fmt.Sprint("void ", i))
	}
	for range n / 500 {
		ann.update(func(tx *Tx) error {
			for i := range 500 {
				if _, err := updateIn(tx, "Paper", id, "hits", i+1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	ann.mustDo("Paper", id, revokeFrom("writer", person("bob")))
	return ann, bob, id
}

// A document of 10,000 commits is folded again, because of a revocation that arrived
// after what it makes void.
func BenchmarkFoldAgain10k(b *testing.B) {
	ann, bob, id := longPaper(b, 10_000)
	ann.merge("Paper", bob.everything("Paper"))
	if ann.access("Paper", id).Voided() != 20 {
		b.Fatalf("%d commits are void, want 20", ann.access("Paper", id).Voided())
	}
	b.ResetTimer()
	for b.Loop() {
		ann.update(func(tx *Tx) error {
			n, err := tx.short(ann.coll("Paper"))
			if err != nil {
				return err
			}
			d, _, err := tx.document(n, id)
			if err != nil {
				return err
			}
			tx.staged = map[dag.DocID]*staged{id: {coll: n, doc: d}}
			if err := tx.settle(n, id); err != nil {
				return err
			}
			tx.staged, tx.counts = nil, nil
			return nil
		})
	}
}

// What a policy costs whoever writes.
func BenchmarkUpdatePoliced(b *testing.B) {
	for _, shared := range []int{-1, 0, 10} {
		coll, name := "Paper", fmt.Sprintf("shared with %d", shared)
		if shared < 0 {
			coll, name = "Deed", "no policy"
		}
		b.Run(name, func(b *testing.B) {
			n := newNode(b, "ann").policed()
			f := map[string]string{"Paper": "title", "Deed": "text"}[coll]
			id := n.create(coll, f, "x")
			for i := range shared {
				n.mustDo(coll, id, grantTo("writer", person(fmt.Sprint("writer ", i))))
			}
			d := []crdt.Delta{schemaDelta(b, n, coll, f, "y")}
			b.ReportAllocs()
			for b.Loop() {
				n.update(func(tx *Tx) error {
					_, err := tx.Write(n.coll(coll), id, d)
					return err
				})
			}
		})
	}
}

package store

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
)

// Somebody wrote hundreds of times beside each other, some of it on top of other things he
// wrote, while his right to was taken away, and readers stand in between with heads of their
// own. All of it counts when the owner accepts it, or what he names, and nothing else.
func TestTheOwnerAcceptsWhatManyHeadsSay(t *testing.T) {
	t.Parallel()
	for _, drafted := range []bool{false, true} {
		for _, depth := range []int{1, 3} {
			t.Run(fmt.Sprintf("drafted %v, depth %d", drafted, depth), func(t *testing.T) {
				t.Parallel()
				ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
				id := ann.create("Paper", "title", "draft", "hits", 0)
				ann.mustDo("Paper", id, grantTo("writer", person("bob")), grantTo("writer", person("cy")), grantTo("reader", person("bob")))
				hits := headsCases[3].write(t, ann)
				base := ann.historyOf("Paper", id)
				last := base[len(base)-1]
				var late, others []*dag.Commit
				sum := 0
				add := func() []crdt.Delta { sum++; return hits(sum) }
				for i := range 150 {
					on := last
					for range depth {
						on = childOf(t, keyOf("bob"), add(), on)
						late = append(late, on)
					}
					if i < 50 {
						others = append(others, childOf(t, keyOf("cy"), add(), last))
					}
				}
				ann.mustDo("Paper", id, revokeFrom("writer", person("bob")))
				ann.mergeParts("Paper", slices.Concat(late, others), len(late)+len(others))
				if got := ann.access("Paper", id).Voided(); got != len(late) {
					t.Fatalf("%d commits are void, want %d", got, len(late))
				}

				if n := ann.accepts(id, drafted, late[0].CID, late[len(late)-1].CID); n != 2 {
					t.Errorf("accepting two of them, %d count", n)
				}
				if n := ann.accepts(id, drafted); n != len(late)-2 {
					t.Errorf("accepting the rest, %d count, want %d", n, len(late)-2)
				}
				if got := ann.access("Paper", id).Voided(); got != 0 {
					t.Errorf("%d are void still", got)
				}
				if got, want := ann.field("Paper", id, "hits"), fmt.Sprint(sum*(sum+3)/2); got != want {
					t.Errorf("the hits are %s, want %s", got, want)
				}
				bob.learns(ann)
				wantAgreement(t, ann, bob)
			})
		}
	}
}

// accepts lets commits of a paper count, if drafted as somebody does whose key is elsewhere.
func (n *node) accepts(id dag.DocID, drafted bool, named ...dag.CID) (accepted int) {
	n.t.Helper()
	accept := func(tx *Tx) (err error) {
		accepted, err = tx.Accept(context.Background(), n.coll("Paper"), id, named...)
		return err
	}
	if !drafted {
		n.update(accept)
		return accepted
	}
	if _, err := n.Submit(context.Background(), n.key.Public(), signs(n.t, n.key, n.prepares(n.key, accept)), false); err != nil {
		n.t.Fatal(err)
	}
	return accepted
}

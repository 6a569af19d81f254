package store

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// loses takes the schema of a collection from a node, as damage does.
func (n *node) loses(coll string) {
	n.t.Helper()
	c := n.coll(coll)
	short := n.Schema().byID[c.ID].short
	n.damage(func(b *kv.Batch, _ *kv.Snapshot) {
		b.Delete(globalKey(globalActive, c.ID[:]...))
		b.Set(globalKey(globalLost, c.ID[:]...), binary.BigEndian.AppendUint32(nil, uint32(short)))
	})
	n.open()
}

// finds adds the schema of a collection that another node has.
func (n *node) finds(coll string, at *node) {
	n.t.Helper()
	n.update(func(tx *Tx) error { return tx.AddVersions(at.Schema().Versions(at.coll(coll).ID)) })
}

// The schema of teams is lost on cy's node, and with it who is in them. What a member
// writes is not for that wrong, nor is who brings it to blame.
func TestWithoutTheSchemaOfItsGroupNobodyIsBlamed(t *testing.T) {
	t.Parallel()
	ann, bob, cy := newNode(t, "ann").policed(), newNode(t, "bob").policed(), newNode(t, "cy").policed()
	team := ann.create("Team", "name", "editors")
	id := ann.create("Paper", "title", "draft")
	ann.mustDo("Paper", id, grantTo("writer", memberOf(team)))
	ann.mustDo("Team", team, grantTo("member", person("bob")))
	bob.learns(ann)
	bob.set("Paper", id, "title", "by a member")
	cy.learns(bob)
	bob.set("Paper", id, "title", "once more")

	cy.loses("Team")
	_, err := cy.Merge(context.Background(), cy.coll("Paper").ID, bob.everything("Paper"), "peer")
	var bad *InvalidCommit
	if err == nil || errors.As(err, &bad) || !errors.Is(err, fault.Unavailable) {
		t.Errorf("bob's commit is merged with %v", err)
	}
	cy.finds("Team", ann)
	cy.learns(bob)
	wantAgreement(t, bob, cy)
}

// A rebuild without the schema of teams keeps what their members wrote, and shows it to
// nobody. With it, it is as it was.
func TestARebuildWithoutTheSchemaOfAGroupKeepsWhatMembersWrote(t *testing.T) {
	t.Parallel()
	ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
	team := ann.create("Team", "name", "editors")
	id := ann.create("Paper", "title", "draft")
	ann.mustDo("Paper", id, grantTo("writer", memberOf(team)))
	ann.mustDo("Team", team, grantTo("member", person("bob")))
	bob.learns(ann)
	bob.set("Paper", id, "title", "by a member")
	rebuild := func() (r Rebuilt, found []Problem) {
		bob.Close()
		r, err := Rebuild(context.Background(), "db", bob.options(), func(p Problem) { found = append(found, p) })
		if err != nil {
			t.Fatal(err)
		}
		bob.open()
		return r, found
	}
	bob.loses("Team")
	if r, found := rebuild(); r.Lost > 0 || len(found) != 1 || found[0].Name != id.String() {
		t.Errorf("the rebuild gives %+v and tells of %v, want nothing lost and one document that cannot be judged", r, found)
	}
	wantKind(t, bob.tries("Paper", id, "title", "again"), fault.NotFound, "writing what nobody can judge")
	bob.finds("Team", ann)
	rebuild()
	ann.learns(bob)
	wantAgreement(t, ann, bob)
	if got := ann.field("Paper", id, "title"); got != `"by a member"` {
		t.Errorf("the title is %s", got)
	}
}

package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// history returns the commits of a document.
func (n *node) historyOf(coll string, id dag.DocID) (all []*dag.Commit) {
	n.t.Helper()
	n.view(func(tx *Tx) error {
		for a, err := range tx.History(n.coll(coll), id) {
			if err != nil {
				return err
			}
			all = append(all, a.Commit)
		}
		return nil
	})
	return all
}

// Mal shares a document of his with ann's team, lets her write it, and adds so many heads
// that what she writes cannot stand on all of it: not on what lets her. That is no way to
// stay in the team.
func TestADocumentThatTakesNoAnchorKeepsNobodyInAGroup(t *testing.T) {
	t.Parallel()
	ann := newNode(t, "ann").policed()
	mal := newNode(t, "mal").policed()
	team := ann.create("Team", "name", "crew")
	ann.mustDo("Team", team, grantTo("member", person("mal")))
	trap := mal.create("Paper", "title", "trap")
	mal.mustDo("Paper", trap, grantTo("writer", memberOf(team)), grantTo("writer", person("ann")))
	root := mal.historyOf("Paper", trap)[0]
	title := []crdt.Delta{schemaDelta(t, mal, "Paper", "title", "x")}
	for i := range dag.MaxParents {
		low := forge(t, mal.key, dag.Commit{Doc: trap, Parents: []dag.CID{root.CID}, Height: 2, HLC: root.HLC + 1 + uint64(i), Schema: root.Schema, Deltas: title})
		mal.merge("Paper", envelopes(low, childOf(t, mal.key, title, low)))
	}
	meet(ann, mal)
	if heads := ann.heads("Paper", trap); len(heads) != dag.MaxParents+1 {
		t.Fatalf("the trap has %d heads", len(heads))
	}
	if err := ann.does("Team", team, revokeFrom("member", person("mal"))); err != nil {
		t.Errorf("mal is sent away from the team: %v", err)
	}
	if a := ann.access("Team", team); len(a.Tuples(a.Rules)) > 0 {
		t.Errorf("in the team are %v", a.Tuples(a.Rules))
	}
}

// A gateway that writes to teams for ann, and not to papers, sends somebody away from a
// team that a paper of hers names: the paper learns of it with her next write.
func TestAGatewaySendsSomebodyAwayFromAGroup(t *testing.T) {
	t.Parallel()
	ann := newNode(t, "ann").policed()
	team := ann.create("Team", "name", "crew")
	paper := ann.create("Paper", "title", "draft")
	ann.mustDo("Team", team, grantTo("member", person("bob")))
	ann.mustDo("Paper", paper, grantTo("writer", memberOf(team)))
	before := ann.heads("Paper", paper)

	gateway := keyOf("gateway")
	d := ident.Delegation{Author: ann.key.Public(), Gateway: gateway.Public(), NotBefore: testStart, NotAfter: testStart.Add(time.Hour), Collections: [][32]byte{ann.coll("Team").ID}}
	proof, err := d.Seal(ann.key)
	if err != nil {
		t.Fatal(err)
	}
	err = ann.Update(context.Background(), Caller{Key: gateway, Author: ann.key.Public(), Proof: proof}, func(tx *Tx) error {
		_, err := tx.WriteAccess(ann.coll("Team"), team, revokeFrom("member", person("bob")))
		return err
	})
	if err != nil {
		t.Fatalf("bob is sent away from the team: %v", err)
	}
	if now := ann.heads("Paper", paper); now[0] != before[0] {
		t.Error("the gateway wrote to a paper")
	}
	ann.set("Paper", paper, "title", "better")
	if last := ann.historyOf("Paper", paper); len(last[len(last)-1].Auth) == 0 {
		t.Error("ann's next write does not name what is known of the team")
	}
}

// A paper names many groups with many groups in each: what is looked after is bounded, and
// so is what a write costs.
func BenchmarkWriteWithGroupsInGroups(b *testing.B) {
	ann := newNode(b, "ann").policed()
	paper := ann.create("Paper", "title", "draft")
	var named []acp.Op
	for i := range 32 {
		team := ann.create("Team", "name", fmt.Sprint("crew ", i))
		named = append(named, grantTo("writer", memberOf(team)))
		for range 4 {
			var inner []acp.Op
			for range acp.MaxOps {
				var id dag.DocID
				if _, err := rand.Read(id[:]); err != nil {
					b.Fatal(err)
				}
				inner = append(inner, grantTo("member", memberOf(id)))
			}
			ann.mustDo("Team", team, inner...)
		}
	}
	ann.mustDo("Paper", paper, named...)
	for i := 0; b.Loop(); i++ {
		ann.set("Paper", paper, "title", fmt.Sprint(i))
	}
}

// However many documents name a team, each learns who has left it before the revocation is
// acknowledged.
func TestEveryDocumentLearnsWhoLeftATeam(t *testing.T) {
	t.Parallel()
	ann := newNode(t, "ann").policed()
	team := ann.create("Team", "name", "crew")
	ann.mustDo("Team", team, grantTo("member", person("bob")))
	var ids []dag.DocID
	ann.update(func(tx *Tx) error {
		for i := range 2*maxAnchored + 1 {
			d, err := tx.Create(ann.coll("Paper"), []crdt.Delta{schemaDelta(t, ann, "Paper", "title", fmt.Sprint("paper ", i))})
			if err != nil {
				return err
			}
			ids = append(ids, d.ID)
			if _, err := tx.WriteAccess(ann.coll("Paper"), d.ID, grantTo("writer", memberOf(team))); err != nil {
				return err
			}
		}
		return nil
	})
	ann.mustDo("Team", team, revokeFrom("member", person("bob")))
	left := ann.historyOf("Team", team)
	for i, id := range ids {
		all := ann.historyOf("Paper", id)
		if last := all[len(all)-1]; !slices.Contains(last.Auth, left[len(left)-1].CID) {
			t.Fatalf("document %d of %d, with %d commits, has not heard", i, len(ids), len(all))
		}
	}
}

// Who is in a team is not encrypted, though the name of the team is: on a node that cannot
// open it, what ann writes names what is known of it all the same.
func TestAGroupThatIsLockedIsAnchored(t *testing.T) {
	t.Parallel()
	ann, hub := newHome(t, "ann"), newHub(t)
	var team dag.DocID
	ann.update(func(tx *Tx) error {
		c := ann.coll("Team")
		deltas, err := c.Create(fields("name", "plaintext crew"))
		if err != nil {
			return err
		}
		d, err := tx.CreateEncrypted(c, deltas, whole)
		team = d.ID
		return err
	})
	paper := ann.create("Paper", "title", "draft")
	ann.mustDo("Team", team, grantTo("member", person("bob")))
	hub.learns(ann)
	err := hub.Update(context.Background(), someone("ann"), func(tx *Tx) error {
		_, err := tx.WriteAccess(hub.coll("Paper"), paper, grantTo("writer", memberOf(team)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all := hub.historyOf("Paper", paper)
	if len(all[len(all)-1].Auth) == 0 {
		t.Error("the grant does not name what is known of the team, so nobody in it may write")
	}

}

// A group that writes has to be read by the owner of the document, and should be by all its
// readers: who cannot check what is written gets none of it.
func TestWhoeverReadsADocumentShouldReadTheGroupsThatWriteIt(t *testing.T) {
	t.Parallel()
	ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
	paper := ann.create("Paper", "title", "draft")
	ann.mustDo("Paper", paper, grantTo("reader", person("cy")), grantTo("admin", person("bob")), grantTo("admin", person("dan")))
	team := ann.create("Team", "name", "editors")
	ann.mustDo("Team", team, grantTo("member", person("bob")))
	ann.mustDo("Paper", paper, grantTo("writer", memberOf(team)))
	unable := func(n *node, want ...CannotCheck) {
		t.Helper()
		a := n.access("Paper", paper)
		n.view(func(tx *Tx) error {
			got, err := tx.CannotCheck(a)
			if len(got) != len(want) || slices.ContainsFunc(want, func(w CannotCheck) bool { return !slices.Contains(got, w) }) {
				t.Errorf("got %v, want %v", got, want)
			}
			return err
		})
	}
	unable(ann, CannotCheck{person("cy"), memberOf(team)}) // dan does not read it, nor has to
	ann.mustDo("Team", team, grantTo("member", person("cy")))
	unable(ann)
	bob.learns(ann)
	friends := bob.create("Team", "name", "friends")
	wantKind(t, bob.does("Paper", paper, grantTo("writer", memberOf(friends))), fault.Denied, "a group that the owner may not read is let write")
	bob.mustDo("Team", friends, grantTo("member", person("ann")))
	bob.mustDo("Paper", paper, grantTo("writer", memberOf(friends)))
	meet(ann, bob)
	wantAgreement(t, ann, bob)
	ours, theirs, cy := memberOf(team), memberOf(friends), CannotCheck{person("cy"), memberOf(friends)}
	unable(ann, cy, CannotCheck{ours, theirs}, CannotCheck{theirs, ours})
	ann.mustDo("Team", team, grantTo("member", theirs))
	unable(ann, cy, CannotCheck{ours, theirs})
	bob.learns(ann)
	bob.mustDo("Team", friends, revokeFrom("member", person("ann"))) // who owns the paper
	unable(bob, cy, CannotCheck{ours, theirs}, CannotCheck{person("ann"), theirs})
	bob.mustDo("Team", friends, grantTo("member", acp.Everyone))
	unable(bob)
}

// What is deleted has a past, and a deleted group its members: rights to both are taken
// back as ever.
func TestRightsToWhatIsDeletedAreTakenBack(t *testing.T) {
	t.Parallel()
	ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
	team, paper := ann.create("Team", "name", "editors"), ann.create("Paper", "title", "draft")
	ann.mustDo("Team", team, grantTo("member", person("bob")))
	ann.mustDo("Paper", paper, grantTo("writer", memberOf(team)), grantTo("reader", person("cy")))
	bob.learns(ann)
	bob.set("Paper", paper, "title", "of the team")
	ann.learns(bob)
	for coll, id := range map[string]dag.DocID{"Team": team, "Paper": paper} {
		ann.update(func(tx *Tx) error {
			_, err := tx.Delete(ann.coll(coll), id)
			return err
		})
	}
	ann.mustDo("Paper", paper, revokeFrom("reader", person("cy")))
	ann.mustDo("Team", team, revokeFrom("member", person("bob")))
	for coll, id := range map[string]dag.DocID{"Team": team, "Paper": paper} {
		if d := ann.get(coll, id); !d.Deleted() {
			t.Errorf("the %s is there again", coll)
		}
	}
	if a := ann.access("Paper", paper); len(a.Tuples(a.Rules)) != 1 {
		t.Errorf("the paper is shared with %v", a.Tuples(a.Rules))
	}
	meet(ann, bob)
	wantAgreement(t, ann, bob)
	wantKind(t, bob.tries("Paper", paper, "title", "still"), fault.NotFound, "a write by who left")
}

// Nobody is given a document that he could not follow: he could not check what its groups
// write.
func TestANewOwnerReadsTheGroupsThatWrite(t *testing.T) {
	t.Parallel()
	ann := newNode(t, "ann").policed()
	team, paper := ann.create("Team", "name", "editors"), ann.create("Paper", "title", "draft")
	ann.mustDo("Paper", paper, grantTo("writer", memberOf(team)))
	away := acp.Op{Kind: acp.Transfer, Subject: person("bob")}
	wantKind(t, ann.does("Paper", paper, away), fault.Denied, "a transfer to who may not read the team")
	ann.mustDo("Team", team, grantTo("member", person("bob")))
	ann.mustDo("Paper", paper, away)
}

// Who may write a document as a member of a group tells it of who left that group.
func TestAMemberTellsDocumentsOfOthersWhoLeft(t *testing.T) {
	t.Parallel()
	ann, dan := newNode(t, "ann").policed(), newNode(t, "dan").policed()
	team := ann.create("Team", "name", "editors")
	ann.mustDo("Team", team, grantTo("member", person("ann")), grantTo("member", person("bob")), grantTo("member", person("dan")))
	dan.learns(ann)
	paper := dan.create("Paper", "title", "dan's")
	dan.mustDo("Paper", paper, grantTo("writer", memberOf(team)))
	ann.learns(dan)
	ann.mustDo("Team", team, revokeFrom("member", person("bob")))
	left := ann.historyOf("Team", team)
	all := ann.historyOf("Paper", paper)
	if last := all[len(all)-1]; !slices.Contains(last.Auth, left[len(left)-1].CID) {
		t.Error("the paper has not heard who left the team")
	}
}

package store

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// proxied makes a commit of the author's on top of root that a gateway signs, under a
// delegation for an hour from testStart.
func proxied(t tester, author, gateway ident.Key, deltas []crdt.Delta, root *dag.Commit, collections ...dag.CollectionID) *dag.Commit {
	t.Helper()
	d := ident.Delegation{Author: author.Public(), Gateway: gateway.Public(), NotBefore: testStart, NotAfter: testStart.Add(time.Hour)}
	for _, id := range collections {
		d.Collections = append(d.Collections, id)
	}
	proof, err := d.Seal(author)
	if err != nil {
		t.Fatal(err)
	}
	c := &dag.Commit{Doc: root.Doc, Parents: []dag.CID{root.CID}, Height: root.Height + 1, HLC: root.HLC + 1, Schema: root.Schema, Deltas: deltas}
	c.Author, c.Proof = dag.Author{Key: author.Public(), Via: gateway.Public()}, proof
	if _, err := dag.Seal(c, gateway); err != nil {
		t.Fatal(err)
	}
	return c
}

// Bob's gateway writes for him: every node takes it in, keeps it, and finds it sound.
func TestCommitsOfAGatewayApply(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	page, bob, gateway := n.coll("Page"), keyOf("bob"), keyOf("gateway")
	root := rootOf(t, page, bob, testStart, "title", "a", "hits", 1)
	more, err := page.Update(crdt.Document{}, fields("hits", 5))
	if err != nil {
		t.Fatal(err)
	}
	c := proxied(t, bob, gateway, more, root, page.ID)
	if got := n.merge("Page", envelopes(root, c)); got.Applied != 2 {
		t.Fatalf("merge gives %+v, want both applied", got)
	}
	if got := n.merge("Page", envelopes(c)); got.Known != 1 {
		t.Errorf("once more it gives %+v, want it known", got)
	}
	wantSound(t, n)
	n.reopen()
	wantSound(t, n)
	archive := n.archive()
	again, _ := restored(t, archive)
	wantEqual(t, n, again, "Page")
	if !bytes.Equal(again.archive(), archive) {
		t.Error("an archive of what was restored is another one")
	}
}

// A gateway that may write to cities writes to pages. No node applies it, whichever way
// it comes, and what came before in the pack stays.
func TestAGatewayWritesOnlyWhereItMay(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	page, bob, gateway := n.coll("Page"), keyOf("bob"), keyOf("gateway")
	root := rootOf(t, page, bob, testStart, "title", "a")
	c := proxied(t, bob, gateway, nil, root, n.coll("City").ID)
	for name, merge := range map[string]func() (Merged, error){
		"as bytes": func() (Merged, error) {
			return n.Merge(t.Context(), page.ID, envelopes(root, c), "peer")
		},
		"verified before": func() (Merged, error) {
			open, err := dag.Open(c.Envelope())
			if err != nil || dag.Verify([]*dag.Commit{open}) != nil {
				t.Fatalf("the commit alone is wrong: %v", err)
			}
			return n.MergeCommits(t.Context(), page.ID, []*dag.Commit{root, open}, "peer")
		},
	} {
		got, err := merge()
		var bad *InvalidCommit
		if !errors.As(err, &bad) || bad.CID != c.CID || !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: merge gives %+v, %v, want the second commit invalid", name, got, err)
		}
		if got.Applied+got.Known != 1 {
			t.Errorf("%s: %d of the honest commits are here, want 1", name, got.Applied+got.Known)
		}
	}
	wantSound(t, n)
}

// The gateway makes up the delegation, and says that Bob signed it.
func TestAMadeUpDelegationIsRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	bob, gateway := keyOf("bob"), keyOf("gateway")
	root := rootOf(t, n.coll("Page"), bob, testStart, "title", "a")
	c := proxied(t, bob, gateway, nil, root)
	c.Proof = bytes.Clone(c.Proof)
	c.Proof[len(c.Proof)-1] ^= 1 // of Bob's signature
	if _, err := dag.Seal(c, gateway); err != nil {
		t.Fatal(err)
	}
	var bad *InvalidCommit
	if _, err := n.Merge(t.Context(), n.coll("Page").ID, envelopes(root, c), "peer"); !errors.As(err, &bad) || bad.CID != c.CID {
		t.Errorf("merge gives %v, want the delegated commit invalid", err)
	}
}

// What a header announces is fetched whole before it is judged.
func TestADelegatedHeaderIsFetchedWithItsProof(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	page, bob := n.coll("Page"), keyOf("bob")
	root := rootOf(t, page, bob, testStart, "title", "a")
	c := proxied(t, bob, keyOf("gateway"), nil, root)
	header, err := dag.OpenHeader(c.Header(), c.Sig)
	if err != nil {
		t.Fatal(err)
	}
	got := n.merge("Page", envelopes(root, header))
	if got.Applied != 1 || len(got.Missing[root.Doc]) != 1 || got.Missing[root.Doc][0] != c.CID {
		t.Errorf("merge gives %+v, want the commit itself to be missing", got)
	}
}

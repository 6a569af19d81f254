package store

import (
	"context"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// prepares returns what somebody would write whose key is not here.
func (n *node) prepares(author ident.Key, fn func(*Tx) error) []Draft {
	n.t.Helper()
	tx, err := n.Begin(Drafting(author.Public()), false)
	if err != nil {
		n.t.Fatal(err)
	}
	defer tx.Discard()
	if err := fn(tx); err != nil {
		n.t.Fatal(err)
	}
	return tx.Drafts()
}

// signs makes commits of drafts, of the bytes alone, as an author elsewhere does.
func signs(t tester, author ident.Key, drafts []Draft) (commits []Draft) {
	t.Helper()
	for _, d := range drafts {
		cm, err := dag.OpenDraft(d.Commit.Header(), d.Commit.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if err := cm.Sign(author); err != nil {
			t.Fatal(err)
		}
		if cm, err = dag.Open(cm.Envelope()); err != nil {
			t.Fatal(err)
		}
		commits = append(commits, Draft{d.Collection, cm})
	}
	return commits
}

// newest returns the last commit of a document.
func (n *node) newest(coll string, id dag.DocID) (cm *dag.Commit) {
	n.t.Helper()
	n.view(func(tx *Tx) error {
		for a, err := range tx.History(n.coll(coll), id) {
			if err != nil {
				return err
			}
			cm = a.Commit
		}
		return nil
	})
	return cm
}

func (n *node) submits(author ident.Key, commits []Draft) (int, error) {
	return n.Submit(context.Background(), author.Public(), commits, false)
}

// Bob's key is in his pocket. The node prepares, he signs, and only then something is written.
func TestAnAuthorSignsElsewhere(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	bob := keyOf("bob")
	var page dag.DocID
	drafts := n.prepares(bob, func(tx *Tx) error {
		d, err := createIn(tx, "Page", "title", "a", "hits", 1)
		if err != nil {
			return err
		}
		page = d.ID
		if _, err := updateIn(tx, "Page", d.ID, "hits", 2); err != nil {
			return err
		}
		_, err = createIn(tx, "Deed", "text", "mine")
		return err
	})
	if len(drafts) != 3 || n.Seq() != 0 {
		t.Fatalf("%d drafts and %d commits, want 3 and none", len(drafts), n.Seq())
	}
	commits := signs(t, bob, drafts)
	if fresh, err := n.submits(bob, commits); err != nil || fresh != 3 {
		t.Fatalf("submit gives %d, %v, want 3 new", fresh, err)
	}
	if got := n.field("Page", page, "hits"); got != "3" {
		t.Errorf("hits are %s, want 3", got)
	}
	n.view(func(tx *Tx) error {
		for a, err := range tx.History(n.coll("Page"), page) {
			if err != nil || a.Author.Key != bob.Public() {
				t.Errorf("a commit of %v, %v, want all of bob", a.Author.Key, err)
			}
		}
		return nil
	})
	// It got lost that it went well, so it is tried again, also much later.
	n.now.set(testStart.Add(24 * time.Hour))
	if fresh, err := n.submits(bob, commits); err != nil || fresh != 0 || n.Seq() != 3 {
		t.Errorf("once more: %d new, %v, %d commits, want none and 3", fresh, err, n.Seq())
	}
	wantSound(t, n)
	n.reopen()
	wantSound(t, n)
}

func TestWhoOnlyDraftsCommitsNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	err := n.Update(t.Context(), Drafting(keyOf("bob").Public()), func(tx *Tx) error {
		_, err := createIn(tx, "Page", "title", "a")
		return err
	})
	wantKind(t, err, fault.Denied, "a commit that nobody signed")
	if n.Seq() != 0 {
		t.Errorf("%d commits, want none", n.Seq())
	}
}

// Somebody was quicker: nothing of it is applied, unless it may stand beside the other.
func TestDraftsAreOvertaken(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	bob := keyOf("bob")
	page := n.create("Page", "title", "a", "hits", 1)
	commits := signs(t, bob, n.prepares(bob, func(tx *Tx) error {
		if _, err := createIn(tx, "Note", "text", "along with it"); err != nil {
			return err
		}
		_, err := updateIn(tx, "Page", page, "hits", 5)
		return err
	}))
	n.set("Page", page, "hits", 10)
	before := n.Seq()
	_, err := n.submits(bob, commits)
	wantKind(t, err, fault.Conflict, "a document that changed meanwhile")
	if n.Seq() != before {
		t.Error("a part of it was applied")
	}
	if fresh, err := n.Submit(t.Context(), bob.Public(), commits, true); err != nil || fresh != 2 {
		t.Fatalf("beside it: %d, %v, want 2 new", fresh, err)
	}
	if got, heads := n.field("Page", page, "hits"), n.heads("Page", page); got != "16" || len(heads) != 2 {
		t.Errorf("hits %s and %d heads, want both sums, 16, and 2", got, len(heads))
	}
	wantSound(t, n)
}

func TestNobodySubmitsForOthers(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	bob, eve := keyOf("bob"), keyOf("eve")
	page := n.create("Page", "title", "a")
	honest := signs(t, bob, n.prepares(bob, func(tx *Tx) error {
		_, err := updateIn(tx, "Page", page, "title", "b")
		return err
	}))[0]
	before := n.Seq()
	root := rootOf(t, n.coll("Page"), eve, n.now.tick(), "title", "eve's")
	forged, err := dag.Open(honest.Commit.Envelope())
	if err != nil {
		t.Fatal(err)
	}
	forged.Sig = append([]byte{forged.Sig[0] ^ 1}, forged.Sig[1:]...)
	city := n.coll("City").ID
	for _, attack := range []struct {
		name   string
		author ident.Key
		commit Draft
		want   error
	}{
		{"bob's commit as eve's", eve, honest, fault.Denied},
		{"one that a gateway signed", bob, Draft{honest.Collection, proxied(t, bob, eve, nil, root)}, fault.Denied},
		{"a signature of nobody", bob, Draft{honest.Collection, forged}, fault.Invalid},
		{"as a commit of another collection", bob, Draft{city, honest.Commit}, fault.NotFound},
		{"a root of another collection", eve, Draft{city, root}, fault.Invalid},
		{"a collection that does not exist", eve, Draft{dag.CollectionID{1}, root}, fault.NotFound},
		{"one of a document that nobody has", eve, Draft{honest.Collection, childOf(t, eve, nil, root)}, fault.NotFound},
		{"one that stands on what nobody has", bob, Draft{honest.Collection, childOf(t, bob, nil, honest.Commit)}, fault.Conflict},
	} {
		_, err := n.Submit(t.Context(), attack.author.Public(), []Draft{attack.commit}, true)
		wantKind(t, err, attack.want, attack.name)
	}
	if n.Seq() != before {
		t.Errorf("%d commits, want %d", n.Seq(), before)
	}
}

// A signature does not say when it was made. What claims to be old, or to come, is refused.
func TestDraftsAreOfNow(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	bob := keyOf("bob")
	for name, at := range map[string]time.Time{"long ago": testStart.Add(-MaxDraftAge - time.Minute), "tomorrow": testStart.Add(24 * time.Hour)} {
		old := rootOf(t, n.coll("Page"), bob, at, "title", name)
		_, err := n.submits(bob, []Draft{{n.coll("Page").ID, old}})
		wantKind(t, err, fault.Invalid, name)
	}
}

// A unique index counts for them as for all that is written here.
func TestDraftsKeepWhatIsUnique(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	n.addSchema(`type User { name: String @index(unique: true) }`)
	bob := keyOf("bob")
	commits := signs(t, bob, n.prepares(bob, func(tx *Tx) error {
		_, err := createIn(tx, "User", "name", "root")
		return err
	}))
	taken := n.create("User", "name", "root")
	// It is the same document by its contents: another is made that takes the name.
	n.update(func(tx *Tx) error { _, err := tx.Delete(n.coll("User"), taken); return err })
	_, err := n.submits(bob, commits)
	wantKind(t, err, fault.Exists, "a document that exists")

	n.addSchema(`type Badge @docID(mode: UNIQUE) { name: String @index(unique: true) }`)
	commits = signs(t, bob, n.prepares(bob, func(tx *Tx) error {
		_, err := createIn(tx, "Badge", "name", "sheriff")
		return err
	}))
	n.create("Badge", "name", "sheriff")
	_, err = n.submits(bob, commits)
	wantKind(t, err, fault.Exists, "a name that is taken")
	wantSound(t, n)
}

// The policy of a collection judges them as any commit.
func TestDraftsObeyPolicies(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada").policed()
	bob, eve := keyOf("bob"), keyOf("eve")
	paper := n.create("Paper", "title", "a")
	n.mustDo("Paper", paper, grantTo("writer", person("bob")))
	commits := signs(t, bob, n.prepares(bob, func(tx *Tx) error {
		_, err := updateIn(tx, "Paper", paper, "title", "b")
		return err
	}))
	if _, err := n.submits(bob, commits); err != nil {
		t.Errorf("a writer's: %v", err)
	}
	if got := n.field("Paper", paper, "title"); got != `"b"` {
		t.Errorf("the title is %s, want b", got)
	}
	deltas, err := n.coll("Paper").Update(crdt.Document{}, fields("title", "eve's"))
	if err != nil {
		t.Fatal(err)
	}
	forged := childOf(t, eve, deltas, commits[0].Commit)
	_, err = n.submits(eve, []Draft{{n.coll("Paper").ID, forged}})
	wantKind(t, err, fault.NotFound, "somebody's who may not read it")
	n.mustDo("Paper", paper, grantTo("reader", person("eve")))
	forged = childOf(t, eve, deltas, n.newest("Paper", paper))
	_, err = n.submits(eve, []Draft{{n.coll("Paper").ID, forged}})
	wantKind(t, err, fault.Denied, "somebody's who has no right to")
	wantSound(t, n)
}

func TestADraftIsReadStrictly(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	bob := keyOf("bob")
	cm := n.prepares(bob, func(tx *Tx) error {
		_, err := createIn(tx, "Page", "title", "a")
		return err
	})[0].Commit
	for name, d := range map[string]struct {
		header  []byte
		payload [][]byte
	}{
		"no payload":        {cm.Header(), nil},
		"another payload":   {cm.Header(), [][]byte{append([]byte{0x80}, cm.Payload[0][1:]...)}},
		"one part too many": {cm.Header(), append(cm.Payload[:1:1], []byte{0x80})},
		"half a header":     {cm.Header()[:len(cm.Header())/2], cm.Payload},
		"no header":         {nil, cm.Payload},
	} {
		if _, err := dag.OpenDraft(d.header, d.payload); err == nil {
			t.Errorf("%s: it is opened, want a refusal", name)
		}
	}
}

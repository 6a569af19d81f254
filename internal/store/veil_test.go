package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/veil"
)

var whole = veil.Cover{All: true}

// newHome returns the node of somebody, which opens what that person may read.
func newHome(t tester, name string) *node {
	t.Helper()
	n := &node{t: t, fs: kv.NewMemFS(), key: keyOf(name), now: &clock{now: testStart}, opens: []ident.Key{keyOf(name)}}
	n.rng = &counterReader{n: uint64(n.key.Public()[5]) << 32}
	n.open()
	return n.policed()
}

// newHub returns a node that opens nothing.
func newHub(t tester) *node {
	t.Helper()
	n := &node{t: t, fs: kv.NewMemFS(), key: keyOf("hub"), now: &clock{now: testStart}, rng: &counterReader{n: 9 << 40}}
	n.open()
	return n.policed()
}

func (n *node) createSealed(cover veil.Cover, nv ...any) (id dag.DocID) {
	n.t.Helper()
	n.update(func(tx *Tx) error {
		c := n.coll("Paper")
		deltas, err := c.Create(fields(nv...))
		if err != nil {
			return err
		}
		d, err := tx.CreateEncrypted(c, deltas, cover)
		id = d.ID
		return err
	})
	return id
}

// reads returns a field as the node's person sees it, "" if the document does not exist
// for that person.
func (n *node) reads(id dag.DocID, name string) (text string) {
	n.t.Helper()
	err := n.View(context.Background(), As(n.key), func(tx *Tx) error {
		d, err := tx.Get(n.coll("Paper"), id)
		if errors.Is(err, fault.NotFound) {
			return nil
		}
		f, _ := n.coll("Paper").Field(name)
		text = string(d.Value(f).AppendJSON(nil))
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return text
}

func (n *node) wantReads(id dag.DocID, name, want string) {
	n.t.Helper()
	if got := n.reads(id, name); got != want {
		n.t.Errorf("%s is %q, want %q", name, got, want)
	}
}

// found returns how many papers an index has under a title, for the node's person.
func (n *node) found(title string) (count int) {
	n.t.Helper()
	err := n.View(context.Background(), As(n.key), func(tx *Tx) error {
		c := n.coll("Paper")
		for e, err := range tx.Index(c, &c.Indexes[0], IndexRange{}, false) {
			if err != nil {
				return err
			}
			if bytes.Contains(e.Key, []byte(title)) {
				count++
			}
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return count
}

// What is given to another node is what its identities may read; to a hub also what is sealed
// as a whole, whoever may read it; and to a blind one nothing that it could look into.
func TestWhatIsGivenToAHub(t *testing.T) {
	t.Parallel()
	ann := newHome(t, "ann")
	title, _ := ann.coll("Paper").Field("title")
	papers := map[string]dag.DocID{
		"clear": ann.create("Paper", "title", "for all to see"), "clear for bob": ann.create("Paper", "title", "for bob"),
		"partly": ann.createSealed(veil.Cover{Fields: []crdt.FieldID{title.ID}}, "title", "half"),
		"sealed": ann.createSealed(whole, "title", "secret"), "sealed for bob": ann.createSealed(whole, "title", "secret"),
	}
	ann.mustDo("Paper", papers["clear for bob"], grantTo("reader", person("bob")))
	ann.mustDo("Paper", papers["sealed for bob"], grantTo("reader", person("bob")))
	for _, c := range []struct {
		peer Peer
		want []string
	}{
		{Peer{}, []string{"clear for bob", "sealed for bob"}},
		{Peer{Hub: true}, []string{"clear for bob", "sealed", "sealed for bob"}},
		{Peer{Blind: true}, []string{"sealed for bob"}},
		{Peer{Hub: true, Blind: true}, []string{"sealed", "sealed for bob"}},
	} {
		ann.view(func(tx *Tx) error {
			r := tx.ReadingAs(c.peer.As(keyOf("bob").Public()))
			for name, id := range papers {
				got, err := r.Readable(ann.coll("Paper"), id)
				if err != nil || got != slices.Contains(c.want, name) {
					t.Errorf("%+v is given the paper that is %s: %v, %v; want %v", c.peer, name, got, err, c.want)
				}
			}
			return nil
		})
	}
}

// A hub keeps, checks, orders and passes on what it cannot read; whoever is let in finds
// the key in the document.
func TestAHubKeepsWhatItCannotRead(t *testing.T) {
	t.Parallel()
	ann, bob, hub := newHome(t, "ann"), newHome(t, "bob"), newHub(t)
	id := ann.createSealed(whole, "title", "confidential", "hits", 1)
	ann.set("Paper", id, "title", "top-secret", "hits", 2)
	ann.wantReads(id, "title", `"top-secret"`)

	hub.learns(ann)
	bob.learns(hub)
	bob.wantReads(id, "title", "")
	if n := bob.found("top-secret"); n != 0 {
		t.Errorf("bob's index finds %d", n)
	}

	ann.mustDo("Paper", id, grantTo("writer", person("bob")))
	hub.learns(ann)
	bob.learns(hub)
	bob.wantReads(id, "title", `"top-secret"`)
	bob.wantReads(id, "hits", "3")
	if n := bob.found("top-secret"); n != 1 {
		t.Errorf("bob's index finds %d", n)
	}
	bob.set("Paper", id, "title", "clandestine", "hits", 4)
	hub.learns(bob)
	ann.learns(hub)
	ann.wantReads(id, "title", `"clandestine"`)
	ann.wantReads(id, "hits", "7")

	for _, n := range []*node{ann, bob, hub} {
		wantSound(t, n)
	}
	if a, b := ann.get("Paper", id).State.Bytes(), bob.get("Paper", id).State.Bytes(); !bytes.Equal(a, b) {
		t.Errorf("who can open the same has the same: %x, %x", a, b)
	}
	hub.holdsNothingOf("confidential", "top-secret", "clandestine")
	if !bytes.Contains(ann.written(), []byte("clandestine")) {
		t.Error("ann's files do not hold what she can read either: the test looks in the wrong place")
	}
}

// written returns all bytes of the files of a node, closed.
func (n *node) written() (all []byte) {
	n.t.Helper()
	if err := n.Close(); err != nil {
		n.t.Fatal(err)
	}
	var walk func(dir string)
	walk = func(dir string) {
		names, err := n.fs.List(dir)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, name := range names {
			path := n.fs.PathJoin(dir, name)
			if info, err := n.fs.Stat(path); err == nil && info.IsDir() {
				walk(path)
				continue
			}
			f, err := n.fs.Open(path)
			if err != nil {
				n.t.Fatal(err)
			}
			b, err := io.ReadAll(f)
			if err := errors.Join(err, f.Close()); err != nil {
				n.t.Fatal(err)
			}
			all = append(all, b...)
		}
	}
	walk("db")
	n.open()
	return all
}

// holdsNothingOf looks for texts in everything that the node has, and in its files.
func (n *node) holdsNothingOf(texts ...string) {
	n.t.Helper()
	files := n.written()
	for _, text := range texts {
		if bytes.Contains(files, []byte(text)) {
			n.t.Errorf("%q is in the files", text)
		}
		for k, v := range n.dump() {
			if strings.Contains(k+v, text) {
				n.t.Errorf("%q is in the entry %q", text, k)
			}
		}
	}
}

// Who lost the right to read cannot open what is written afterwards, with all its bytes
// at hand.
func TestWhoLostTheRightOpensNothingNew(t *testing.T) {
	t.Parallel()
	ann, bob, cy := newHome(t, "ann"), newHome(t, "bob"), newHome(t, "cy")
	id := ann.createSealed(whole, "title", "for us")
	ann.mustDo("Paper", id, grantTo("reader", person("bob")), grantTo("writer", person("cy")))
	bob.learns(ann)
	bob.wantReads(id, "title", `"for us"`)
	ann.mustDo("Paper", id, revokeFrom("reader", person("bob")))
	cy.learns(ann)
	cy.set("Paper", id, "title", "without bob")
	ann.learns(cy)
	ann.wantReads(id, "title", `"without bob"`)
	bob.learns(ann)
	bob.wantReads(id, "title", "")
	bob.holdsNothingOf("without bob")
	// Another node of bob's, which never held it in clear.
	bob2 := newHome(t, "bob")
	bob2.learns(ann)
	bob2.holdsNothingOf("without bob")
	for _, n := range []*node{ann, bob, bob2, cy} {
		wantSound(t, n)
	}

	ann.mustDo("Paper", id, grantTo("reader", person("bob")))
	bob2.learns(ann)
	bob2.wantReads(id, "title", `"without bob"`)
}

// Whoever gives an encrypted document away hands its keys over, and reads nothing of what
// the new owner writes.
func TestTheNewOwnerOpensWhatHeWasGiven(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{true, false} {
		t.Run(fmt.Sprint("whole ", whole), func(t *testing.T) {
			ann, pat := newHome(t, "ann"), newHome(t, "pat")
			title, _ := ann.coll("Paper").Field("title")
			cover := veil.Cover{All: whole}
			if !whole {
				cover.Fields = []crdt.FieldID{title.ID}
			}
			id := ann.createSealed(cover, "title", "for whom it may concern")
			ann.set("Paper", id, "title", "and its past")
			ann.mustDo("Paper", id, acp.Op{Kind: acp.Transfer, Subject: person("pat")})
			pat.learns(ann)
			pat.wantReads(id, "title", `"and its past"`)
			pat.set("Paper", id, "title", "now his alone")
			ann.learns(pat)
			ann.wantReads(id, "title", "")
			ann.holdsNothingOf("now his alone")
			for _, n := range []*node{ann, pat} {
				wantSound(t, n)
			}
		})
	}
}

// A node that is given a key opens what it had kept.
func TestAnIdentityThatIsAddedOpensWhatIsHere(t *testing.T) {
	t.Parallel()
	ann, hub := newHome(t, "ann"), newHub(t)
	var ids []dag.DocID
	for range unlockedAtOnce + 3 {
		ids = append(ids, ann.createSealed(whole, "title", "kept"))
	}
	other := ann.createSealed(whole, "title", "not for bob")
	for _, id := range ids {
		ann.mustDo("Paper", id, grantTo("reader", person("bob")))
	}
	hub.learns(ann)
	wantSound(t, hub)
	hub.key, hub.opens = keyOf("bob"), []ident.Key{keyOf("bob")}
	hub.reopen()
	for _, id := range ids {
		hub.wantReads(id, "title", `"kept"`)
	}
	hub.wantReads(other, "title", "")
	if n := hub.found("kept"); n != len(ids) {
		t.Errorf("the index finds %d, want %d", n, len(ids))
	}
	wantSound(t, hub)
	hub.holdsNothingOf("not for bob")

	// Without the key nothing new opens, and with it again everything.
	hub.opens = nil
	hub.reopen()
	late := ann.createSealed(whole, "title", "later")
	ann.mustDo("Paper", late, grantTo("reader", person("bob")))
	hub.learns(ann)
	hub.wantReads(late, "title", "")
	wantSound(t, hub)
	hub.opens = []ident.Key{keyOf("bob")}
	hub.reopen()
	hub.wantReads(late, "title", `"later"`)
}

// Fields that are not encrypted can be read by who keeps the document, and only those.
func TestSingleFieldsAreEncrypted(t *testing.T) {
	t.Parallel()
	ann, hub := newHome(t, "ann"), newHub(t)
	title, _ := ann.coll("Paper").Field("title")
	id := ann.createSealed(veil.Cover{Fields: []crdt.FieldID{title.ID}}, "title", "confidential", "hits", 5)
	hub.learns(ann)
	hits, _ := hub.coll("Paper").Field("hits")
	if got := string(hub.get("Paper", id).Value(hits).AppendJSON(nil)); got != "5" {
		t.Errorf("the hub sees %s hits, want 5", got)
	}
	hub.holdsNothingOf("confidential")
	ann.wantReads(id, "title", `"confidential"`)
	ann.wantReads(id, "hits", "5")
}

// The same contents are another document each time: nobody can find out that he guessed
// them.
func TestTheNameOfAnEncryptedDocumentSaysNothing(t *testing.T) {
	t.Parallel()
	ann := newHome(t, "ann")
	if first, second := ann.createSealed(whole, "title", "yes"), ann.createSealed(whole, "title", "yes"); first == second {
		t.Error("two documents with the same contents have the same name")
	}
	ann.createSealed(whole) // of nothing at all
	err := ann.Update(context.Background(), As(ann.key), func(tx *Tx) error {
		_, err := tx.CreateEncrypted(ann.coll("Paper"), nil, veil.Cover{})
		return err
	})
	wantKind(t, err, fault.Invalid, "encrypting nothing")
}

func TestOnlyCollectionsWithAPolicyEncrypt(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ann")
	err := n.Update(context.Background(), As(n.key), func(tx *Tx) error {
		_, err := tx.CreateEncrypted(n.coll("Page"), nil, whole)
		return err
	})
	wantKind(t, err, fault.Invalid, "encrypting without a policy")
}

// A commit that breaks the rules of encryption is refused by everybody, the hub too.
func TestAHubRefusesWhatIsNotSealedAsItMust(t *testing.T) {
	t.Parallel()
	ann, hub := newHome(t, "ann"), newHub(t)
	id := ann.createSealed(whole, "title", "confidential")
	hub.learns(ann)
	var root *dag.Commit
	ann.view(func(tx *Tx) error {
		for a, err := range tx.History(ann.coll("Paper"), id) {
			if err != nil {
				return err
			}
			root = a.Commit
		}
		return nil
	})
	deltas, err := ann.coll("Paper").Create(fields("title", "in clear"))
	if err != nil {
		t.Fatal(err)
	}
	clear := childOf(t, ann.key, deltas, root)
	for _, n := range []*node{ann, hub} {
		_, err := n.Merge(context.Background(), n.coll("Paper").ID, envelopes(clear), "peer")
		var broken *InvalidCommit
		if !errors.As(err, &broken) {
			t.Errorf("a commit in clear: %v", err)
		}
		wantSound(t, n)
	}
}

// The history of an encrypted document is verified by whoever has it, and who can open it
// sees whose values they are.
func TestTheHistoryOfAnEncryptedDocumentIsVerified(t *testing.T) {
	t.Parallel()
	ann, bob := newHome(t, "ann"), newHome(t, "bob")
	id := ann.createSealed(whole, "title", "one", "hits", 1)
	ann.mustDo("Paper", id, grantTo("writer", person("bob")))
	bob.learns(ann)
	bob.set("Paper", id, "title", "two", "hits", 5)
	ann.learns(bob)
	for _, n := range []*node{ann, bob} {
		err := n.View(context.Background(), As(n.key), func(tx *Tx) error {
			v, err := tx.Verify(context.Background(), n.coll("Paper"), id, nil)
			if err != nil {
				return err
			}
			if !v.Sound() {
				t.Errorf("it is not sound: %+v", v)
			}
			all, err := tx.Blame(context.Background(), n.coll("Paper"), id, nil)
			for _, b := range all {
				for _, s := range b.Shares {
					if text := b.Field.Name + s.Value.String(); s.Author.Key != bob.key.Public() && text != `hits1` {
						t.Errorf("%s is ann's", text)
					}
				}
			}
			if len(all) != 2 || len(all[0].Shares) != 2 || len(all[1].Shares) != 1 {
				t.Errorf("%d fields have values: %+v", len(all), all)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Who was let in late sees what the document was before, and who wrote what.
func TestTheHistoryOpensForWhoWasLetInLate(t *testing.T) {
	t.Parallel()
	ann, bob := newHome(t, "ann"), newHome(t, "bob")
	id := ann.createSealed(whole, "title", "one")
	first := ann.heads("Paper", id)[0]
	ann.set("Paper", id, "title", "two")
	ann.mustDo("Paper", id, grantTo("reader", person("bob")))
	bob.learns(ann)
	bob.reopen() // and remembers no secrets
	ctx := context.Background()
	err := bob.View(ctx, As(bob.key), func(tx *Tx) error {
		c := bob.coll("Paper")
		f, _ := c.Field("title")
		d, err := tx.At(ctx, c, first)
		if err != nil {
			return err
		}
		if got := d.Value(f).Text(); got != "one" {
			t.Errorf("at first it was %q", got)
		}
		var said []string
		for a, err := range tx.History(c, id) {
			if err != nil {
				return err
			}
			for _, d := range a.Deltas {
				if d.Field == f.ID {
					said = append(said, d.Val.Text())
				}
			}
		}
		if !slices.Equal(said, []string{"one", "two"}) {
			t.Errorf("its commits say %q", said)
		}
		a, err := tx.FindCommit(first)
		if err != nil {
			return err
		}
		if len(a.Deltas) == 0 || a.Deltas[len(a.Deltas)-1].Val.Text() != "one" {
			t.Errorf("its first commit says %v", a.Deltas)
		}
		v, err := tx.Verify(ctx, c, id, &first)
		if err != nil {
			return err
		}
		if !v.Sound() || len(v.Commits) != 1 {
			t.Errorf("of %d commits, sound %v", len(v.Commits), v.Sound())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What a rebuild makes is what was there, with the keys and without.
func TestARebuildOpensWhatItHasKeysFor(t *testing.T) {
	t.Parallel()
	ann, hub := newHome(t, "ann"), newHub(t)
	id := ann.createSealed(whole, "title", "confidential")
	ann.createSealed(whole, "title", "and more")
	ann.mustDo("Paper", id, grantTo("reader", person("bob")))
	ann.mustDo("Paper", id, revokeFrom("reader", person("bob")))
	ann.set("Paper", id, "title", "rewritten")
	hub.learns(ann)
	for _, n := range []*node{ann, hub} {
		before := n.dump()
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Rebuild(context.Background(), "db", n.options(), func(p Problem) { t.Errorf("rebuild finds %v", p) }); err != nil {
			t.Fatal(err)
		}
		n.open()
		wantSame(t, n.dump(), before)
	}
	// A check without the keys has nothing to say of what it cannot read, and a rebuild
	// loses nothing that the next start with them would not find.
	ann.opens = nil
	ann.reopen()
	wantSound(t, ann)
	ann.wantReads(id, "title", `"rewritten"`)
	if err := ann.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Rebuild(context.Background(), "db", ann.options(), func(Problem) {}); err != nil {
		t.Fatal(err)
	}
	ann.open()
	wantSound(t, ann)
	ann.wantReads(id, "title", "")
	ann.opens = []ident.Key{ann.key}
	ann.reopen()
	ann.wantReads(id, "title", `"rewritten"`)
	wantSound(t, ann)
}

// Who manages rights and may not read learns no key: he leaves it to the next reader who
// writes, whose commit would be refused under the old one.
func TestWhoManagesRightsMakesNoKeysForOthers(t *testing.T) {
	t.Parallel()
	ann, bob, dan := newHome(t, "ann"), newHome(t, "bob"), newHome(t, "dan")
	id := ann.createSealed(whole, "title", "confidential")
	ann.mustDo("Paper", id, grantTo("reader", person("bob")), grantTo("admin", person("dan")))
	dan.learns(ann)
	dan.mustDo("Paper", id, revokeFrom("reader", person("bob")))
	dan.view(func(tx *Tx) error {
		for a, err := range tx.History(dan.coll("Paper"), id) {
			if err != nil {
				return err
			}
			if ops, err := veil.Ops(a.Deltas); err != nil || a.Author.Key == dan.key.Public() && len(ops) > 0 {
				t.Errorf("dan gives keys: %v, %v", ops, err)
			}
		}
		return nil
	})
	ann.learns(dan)
	ann.set("Paper", id, "title", "without bob")
	bob.learns(ann)
	dan.learns(ann)
	bob.holdsNothingOf("without bob")
	dan.holdsNothingOf("confidential", "without bob")
	for _, n := range []*node{ann, bob, dan} {
		wantSound(t, n)
	}
}

// Groups have no key: who writes gives keys to whoever is in them, and who lets somebody
// into the group, or takes him out, does so where the group is named.
func TestATeamReadsWhatIsEncryptedForIt(t *testing.T) {
	t.Parallel()
	ann, bob, cy := newHome(t, "ann"), newHome(t, "bob"), newHome(t, "cy")
	team := ann.create("Team", "name", "us")
	ann.mustDo("Team", team, grantTo("member", person("bob")))
	plain := ann.create("Paper", "title", "in clear")
	ann.mustDo("Paper", plain, grantTo("writer", memberOf(team)))
	id := ann.createSealed(whole, "title", "for the team")
	ann.mustDo("Paper", id, grantTo("reader", memberOf(team)))
	before := ann.heads("Paper", plain)[0]
	ann.mustDo("Team", team, grantTo("member", person("cy")))
	if ann.heads("Paper", plain)[0] != before {
		t.Error("who comes into a group is told to documents that are not encrypted")
	}
	for _, n := range []*node{bob, cy} {
		n.learns(ann)
		n.wantReads(id, "title", `"for the team"`)
	}
	ann.mustDo("Team", team, revokeFrom("member", person("bob")))
	var began bool
	ann.view(func(tx *Tx) error {
		for a, err := range tx.History(ann.coll("Paper"), id) {
			if err != nil {
				return err
			}
			ops, err := veil.Ops(a.Deltas)
			began = slices.ContainsFunc(ops, func(o veil.Op) bool { return o.Kind == veil.Begin })
			if err != nil {
				return err
			}
		}
		return nil
	})
	if !began {
		t.Error("bob left, and no other epoch began")
	}
	ann.set("Paper", id, "title", "without bob")
	bob.learns(ann)
	bob.holdsNothingOf("without bob")
	cy.learns(ann)
	cy.wantReads(id, "title", `"without bob"`)
	for _, n := range []*node{ann, bob, cy} {
		wantSound(t, n)
	}
}

// An archive holds what is encrypted as it is: whoever restores it opens what he may.
func TestAnArchiveOfEncryptedDocuments(t *testing.T) {
	t.Parallel()
	ann := newHome(t, "ann")
	id := ann.createSealed(whole, "title", "confidential")
	ann.set("Paper", id, "title", "rewritten")
	archive := ann.archive()
	for _, text := range []string{"confidential", "rewritten"} {
		if bytes.Contains(archive, []byte(text)) {
			t.Errorf("the archive holds %q", text)
		}
	}
	n, _ := restored(t, archive)
	n.wantReads(id, "title", "")
	wantSound(t, n)
	n.key, n.opens = ann.key, []ident.Key{ann.key}
	n.reopen()
	n.wantReads(id, "title", `"rewritten"`)
	wantSound(t, n)
}

// People write, let each other in and out, and meet in any order. Who may read in the
// end reads what the owner reads; the hub never does; and everybody's tables are what
// their commits make.
func TestEncryptedDocumentsAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		names := []string{"ann", "bob", "cy"}
		var nodes []*node
		for _, name := range names {
			nodes = append(nodes, newHome(rt, name))
		}
		ann, hub := nodes[0], newHub(rt)
		id := ann.createSealed(whole, "title", "plaintext 0", "hits", 1)
		for i := range rapid.IntRange(3, 14).Draw(rt, "steps") {
			n := rapid.SampledFrom(nodes).Draw(rt, "who")
			switch rapid.IntRange(0, 4).Draw(rt, "does") {
			case 0, 1:
				n.learns(rapid.SampledFrom(append(nodes, hub)).Draw(rt, "from"))
				hub.learns(n)
			case 2:
				who := rapid.SampledFrom(names[1:]).Draw(rt, "whom")
				op := grantTo(rapid.SampledFrom([]string{"reader", "writer"}).Draw(rt, "relation"), person(who))
				if rapid.Bool().Draw(rt, "revoke") {
					op.Kind = acp.Revoke
				}
				ann.mustDo("Paper", id, op)
			default:
				if n.reads(id, "title") == "" {
					continue
				}
				err := n.tries("Paper", id, "title", "plaintext "+string(rune('A'+i)), "hits", 1)
				if err != nil && !errors.Is(err, fault.Denied) {
					rt.Fatal(err)
				}
			}
		}
		for _, n := range nodes {
			ann.learns(n)
		}
		ann.set("Paper", id, "hits", 1)
		want := ann.get("Paper", id).State.Bytes()
		a := ann.access("Paper", id)
		for i, n := range append(nodes, hub) {
			n.learns(ann)
			wantSound(rt, n)
			n.wantReplayed("Paper")
			may := i < len(names) && a.Allows(a.Rules, acp.Actor{Keys: []ident.PublicKey{n.key.Public()}}, a.Rules.Read)
			if got := n.get("Paper", id).State.Bytes(); may != bytes.Equal(got, want) && may {
				rt.Errorf("%d has %x, want %x", i, got, want)
			}
		}
		hub.holdsNothingOf("plaintext")
	})
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

const papersPolicy = `
name: papers
resources:
  paper:
    permissions:
      read:   {expr: owner + reader + writer}
      update: {expr: owner + writer}
      delete: {expr: owner}
    relations:
      owner:  {types: [actor]}
      reader: {types: [actor]}
      writer: {types: [actor]}
      admin:  {types: [actor], manages: [reader, writer]}
  team:
    permissions:
      read:   {expr: owner + member}
      update: {expr: owner}
      delete: {expr: owner}
    relations:
      owner:  {types: [actor]}
      member: {types: [actor]}
`

// policed adds Paper and Team, whose documents belong to their owners.
func (n *node) policed() *node {
	n.t.Helper()
	p, err := acp.ParsePolicy([]byte(papersPolicy))
	if err != nil {
		n.t.Fatal(err)
	}
	id := dag.Digest(p.Sum())
	cs, err := schema.Parse(fmt.Sprintf("type Paper @policy(id: %q, resource: \"paper\") { title: String @index, hits: Int @crdt(type: pncounter) } type Team @policy(id: %q, resource: \"team\") { name: String }", id, id), nil, p)
	if err != nil {
		n.t.Fatal(err)
	}
	n.update(func(tx *Tx) error { return tx.AddCollections(cs) })
	return n
}

func grantTo(relation string, who acp.Subject) acp.Op {
	return acp.Op{Kind: acp.Grant, Relation: relation, Subject: who}
}

func revokeFrom(relation string, who acp.Subject) acp.Op {
	return acp.Op{Kind: acp.Revoke, Relation: relation, Subject: who}
}

func person(name string) acp.Subject { return acp.OfKey(keyOf(name).Public()) }

func memberOf(team dag.DocID) acp.Subject { return acp.OfGroup(acp.ID(team), "member") }

// does writes access operations as the node's person.
func (n *node) does(coll string, id dag.DocID, ops ...acp.Op) error {
	n.t.Helper()
	return n.Update(context.Background(), As(n.key), func(tx *Tx) error {
		_, err := tx.WriteAccess(n.coll(coll), id, ops...)
		return err
	})
}

func (n *node) mustDo(coll string, id dag.DocID, ops ...acp.Op) {
	n.t.Helper()
	if err := n.does(coll, id, ops...); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) tries(coll string, id dag.DocID, nv ...any) error {
	return n.Update(context.Background(), As(n.key), func(tx *Tx) error {
		_, err := updateIn(tx, coll, id, nv...)
		return err
	})
}

func (n *node) access(coll string, id dag.DocID) (a Access) {
	n.t.Helper()
	n.view(func(tx *Tx) (err error) {
		a, err = tx.Access(n.coll(coll), id)
		return err
	})
	return a
}

// sync gives a node what the other has of the policed collections, until nothing moves.
func (n *node) learns(from *node) {
	n.t.Helper()
	for again := true; again; {
		again = false
		for _, coll := range []string{"Team", "Paper"} {
			again = n.merge(coll, from.everything(coll)).Applied > 0 || again
		}
	}
}

func meet(a, b *node) { a.learns(b); b.learns(a); a.learns(b) }

// wantAgreement compares the documents of nodes byte by byte, and checks each as a whole.
func wantAgreement(t tester, nodes ...*node) {
	t.Helper()
	var first map[string]string
	for i, n := range nodes {
		wantSound(t, n)
		all := map[string]string{}
		for _, coll := range []string{"Team", "Paper"} {
			n.view(func(tx *Tx) error {
				for d, err := range tx.Scan(n.coll(coll), Range{Deleted: true}) {
					if err != nil {
						return err
					}
					all[coll+" "+d.ID.String()] = string(d.State.Bytes())
				}
				return nil
			})
		}
		if i == 0 {
			first = all
			continue
		}
		wantSame(t, all, first)
	}
}

// The owner lets somebody write, and takes it back.
func TestTheOwnerDecidesWhoWrites(t *testing.T) {
	t.Parallel()
	ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
	id := ann.create("Paper", "title", "draft")
	bob.learns(ann)
	wantKind(t, bob.tries("Paper", id, "title", "bob was here"), fault.NotFound, "a stranger's write")
	wantKind(t, bob.does("Paper", id, grantTo("writer", person("bob"))), fault.NotFound, "a stranger's grant")

	ann.mustDo("Paper", id, grantTo("reader", person("bob")))
	bob.learns(ann)
	err := bob.tries("Paper", id, "title", "bob was here")
	wantKind(t, err, fault.Denied, "a reader's write")
	if want := "may not update document " + id.String(); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), bob.key.Public().String()) {
		t.Errorf("it says %q", err)
	}
	wantKind(t, bob.does("Paper", id, grantTo("writer", person("bob"))), fault.Denied, "a reader's grant")

	ann.mustDo("Paper", id, grantTo("reader", person("bob")))
	bob.learns(ann)
	wantKind(t, bob.tries("Paper", id, "title", "draft"), fault.Denied, "a reader's write that changes nothing")
	ann.mustDo("Paper", id, grantTo("writer", person("bob")))
	bob.learns(ann)
	bob.set("Paper", id, "title", "better")
	bob.set("Paper", id, "title", "better") // changes nothing, and may
	meet(ann, bob)
	if got := ann.field("Paper", id, "title"); got != `"better"` {
		t.Errorf("the title is %s", got)
	}
	ann.mustDo("Paper", id, revokeFrom("writer", person("bob")))
	bob.learns(ann)
	wantKind(t, bob.tries("Paper", id, "title", "once more"), fault.Denied, "a write after the revocation")
	wantAgreement(t, ann, bob)
}

// What bob wrote while ann took his right away does not count anywhere, until she
// accepts it.
func TestWhatWasWrittenBesideARevocationWaitsForTheOwner(t *testing.T) {
	t.Parallel()
	ann, bob, cy := newNode(t, "ann").policed(), newNode(t, "bob").policed(), newNode(t, "cy").policed()
	id := ann.create("Paper", "title", "draft", "hits", 1)
	ann.mustDo("Paper", id, grantTo("writer", person("bob")), grantTo("reader", person("bob")))
	bob.learns(ann)
	bob.set("Paper", id, "title", "on time", "hits", 2)
	meet(ann, bob)

	ann.mustDo("Paper", id, revokeFrom("writer", person("bob")))
	bob.set("Paper", id, "title", "too late", "hits", 40)
	cy.learns(bob) // cy hears bob first, and ann later
	if got := cy.field("Paper", id, "title"); got != `"too late"` {
		t.Fatalf("before the revocation is known the title is %s", got)
	}
	cy.learns(ann)
	meet(ann, bob)
	wantAgreement(t, ann, bob, cy)
	if got := cy.field("Paper", id, "title") + cy.field("Paper", id, "hits"); got != `"on time"3` {
		t.Errorf("after it, title and hits are %s", got)
	}
	var found []dag.DocID
	cy.view(func(tx *Tx) error {
		c := cy.coll("Paper")
		for i := range c.Indexes {
			for e, err := range tx.Index(c, &c.Indexes[i], IndexRange{}, false) {
				if err != nil {
					return err
				}
				if strings.Contains(string(e.Key), "too late") {
					found = append(found, e.Doc)
				}
			}
		}
		return nil
	})
	if len(found) > 0 {
		t.Error("the index still knows the void title")
	}

	var pending []Applied
	ann.view(func(tx *Tx) (err error) {
		pending, err = tx.Pending(context.Background(), ann.coll("Paper"), id)
		return err
	})
	if len(pending) != 1 || pending[0].Author.Key != bob.key.Public() || ann.access("Paper", id).Voided() != 1 {
		t.Fatalf("%d commits are pending", len(pending))
	}
	wantKind(t, bob.does("Paper", id, acp.Op{Kind: acp.Accept, Commits: []acp.ID{acp.ID(pending[0].CID)}}), fault.Denied, "acceptance by the author")
	ann.mustDo("Paper", id, acp.Op{Kind: acp.Accept, Commits: []acp.ID{acp.ID(pending[0].CID)}})
	if got := ann.field("Paper", id, "hits"); got != "43" {
		t.Errorf("accepted, the hits are %s", got)
	}
	meet(bob, ann)
	meet(cy, bob)
	wantAgreement(t, ann, bob, cy)
}

// The past shows what counted then, not what counts now.
func TestThePastOfAPolicedDocumentIsJudgedByThePast(t *testing.T) {
	t.Parallel()
	ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
	id := ann.create("Paper", "title", "draft")
	ann.mustDo("Paper", id, grantTo("writer", person("bob")))
	bob.learns(ann)
	bob.set("Paper", id, "title", "bob's")
	late := bob.heads("Paper", id)[0]
	ann.mustDo("Paper", id, revokeFrom("writer", person("bob")))
	bob.learns(ann)
	title, _ := bob.coll("Paper").Field("title")
	bob.view(func(tx *Tx) error {
		c := bob.coll("Paper")
		d, err := tx.At(context.Background(), c, late)
		if err != nil {
			return err
		}
		if got := string(d.Value(title).AppendJSON(nil)); got != `"bob's"` {
			t.Errorf("at bob's commit the title is %s", got)
		}
		for ch, err := range tx.Changed(0) {
			if err != nil {
				return err
			}
			if ch.Commit != late {
				continue
			}
			d, err := tx.AfterSeq(context.Background(), c, id, ch.Seq)
			if err != nil {
				return err
			}
			if got := string(d.Value(title).AppendJSON(nil)); got != `"bob's"` {
				t.Errorf("when bob had written it the title was %s", got)
			}
		}
		return nil
	})
	if got := bob.field("Paper", id, "title"); got != `"draft"` {
		t.Errorf("now the title is %s", got)
	}
}

// A group gives rights to its members, whoever joins, and takes them from who leaves,
// in the documents that name it.
func TestAGroupIsADocument(t *testing.T) {
	t.Parallel()
	ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
	team := ann.create("Team", "name", "editors")
	id := ann.create("Paper", "title", "draft")
	ann.mustDo("Paper", id, grantTo("writer", memberOf(team)))
	bob.learns(ann)
	wantKind(t, bob.tries("Paper", id, "title", "not in the team"), fault.NotFound, "a write by no member")

	ann.mustDo("Team", team, grantTo("member", person("bob")))
	bob.learns(ann)
	bob.set("Paper", id, "title", "of the team")
	meet(ann, bob)
	wantAgreement(t, ann, bob)
	if got := ann.field("Paper", id, "title"); got != `"of the team"` {
		t.Fatalf("the title is %s", got)
	}

	ann.mustDo("Team", team, revokeFrom("member", person("bob")))
	bob.set("Paper", id, "title", "who left") // he does not know yet
	meet(ann, bob)
	wantAgreement(t, ann, bob)
	if got := bob.field("Paper", id, "title"); got != `"of the team"` {
		t.Errorf("the title is %s", got)
	}
	wantKind(t, bob.tries("Paper", id, "title", "again"), fault.NotFound, "a write by who left")
}

// Groups within each other, on the way round, have the members of all and nobody else, and asking
// for them ends: for who is in one and for who is in none.
func TestWhoWritesByWayOfGroupsInACircle(t *testing.T) {
	t.Parallel()
	ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
	one, other := ann.create("Team", "name", "one"), ann.create("Team", "name", "other")
	ann.mustDo("Team", one, grantTo("member", memberOf(other)))
	ann.mustDo("Team", other, grantTo("member", memberOf(one)), grantTo("member", person("bob")))
	id := ann.create("Paper", "title", "draft")
	ann.mustDo("Paper", id, grantTo("writer", memberOf(one)), grantTo("reader", person("bob")))
	bob.learns(ann)
	bob.set("Paper", id, "title", "by way of the other")
	meet(ann, bob)
	wantAgreement(t, ann, bob)
	if got := ann.field("Paper", id, "title"); got != `"by way of the other"` {
		t.Errorf("the title is %s", got)
	}
	ann.mustDo("Team", other, revokeFrom("member", person("bob")))
	bob.set("Paper", id, "title", "who left") // he does not know yet
	meet(ann, bob)
	wantAgreement(t, ann, bob)
	if got := bob.field("Paper", id, "title"); got != `"by way of the other"` {
		t.Errorf("the title is %s", got)
	}
	wantKind(t, bob.tries("Paper", id, "title", "again"), fault.Denied, "a write by who left")
}

// A commit by a member waits until the commits of the group are here that make him one.
func TestACommitWaitsForTheGroupThatItNames(t *testing.T) {
	t.Parallel()
	ann, bob, cy := newNode(t, "ann").policed(), newNode(t, "bob").policed(), newNode(t, "cy").policed()
	team := ann.create("Team", "name", "editors")
	id := ann.create("Paper", "title", "draft")
	ann.mustDo("Paper", id, grantTo("writer", memberOf(team)))
	ann.mustDo("Team", team, grantTo("member", person("bob")))
	bob.learns(ann)
	bob.set("Paper", id, "title", "by a member")

	m := cy.merge("Paper", bob.everything("Paper"))
	if len(m.Awaits) == 0 || m.Awaits[0].Doc != id || len(m.Awaits[0].Links) == 0 {
		t.Fatalf("merged without the group: %+v", m)
	}
	last := m.Awaits[len(m.Awaits)-1]
	if !slices.Contains(last.Groups, team) {
		t.Errorf("it waits for %v, and the group is %v", last, team)
	}
	cy.merge("Team", bob.everything("Team"))
	cy.merge("Paper", bob.everything("Paper"))
	wantAgreement(t, bob, cy)
	if got := cy.field("Paper", id, "title"); got != `"by a member"` {
		t.Errorf("the title is %s", got)
	}
}

// A commit whose author may not make it is refused with who sent it, and nothing of
// it stays.
func TestAForgedRightIsRefused(t *testing.T) {
	t.Parallel()
	ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
	id := ann.create("Paper", "title", "draft")
	bob.learns(ann)
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
	before := ann.dump()
	title := schemaDelta(t, ann, "Paper", "title", "stolen")
	for name, cm := range map[string]*dag.Commit{
		"update":        childOf(ann.t, bob.key, []crdt.Delta{title}, root),
		"grant":         childOf(ann.t, bob.key, []crdt.Delta{grantTo("writer", person("bob")).Delta()}, root),
		"transfer":      childOf(ann.t, bob.key, []crdt.Delta{{Field: crdt.FieldAccess, Kind: crdt.KindAccess, Void: true, Raw: acp.Op{Kind: acp.Transfer, Subject: person("bob")}.Delta().Raw}}, root),
		"no operation":  childOf(ann.t, bob.key, nil, root),
		"unknown rule":  childOf(ann.t, ann.key, []crdt.Delta{grantTo("emperor", person("bob")).Delta()}, root),
		"content mode":  rootOf(ann.t, ann.coll("Paper"), bob.key, testStart, "title", "not owned"),
		"wrong op kind": childOf(ann.t, ann.key, []crdt.Delta{{Field: crdt.FieldAccess, Kind: crdt.KindKeys, Void: true, Raw: grantTo("writer", person("bob")).Delta().Raw}}, root),
	} {
		_, err := ann.Merge(context.Background(), ann.coll("Paper").ID, envelopes(cm), "peer")
		var invalid *InvalidCommit
		if !errors.As(err, &invalid) || invalid.CID != cm.CID {
			t.Errorf("%s: merged with %v", name, err)
		}
	}
	wantSame(t, ann.dump(), before)
}

func schemaDelta(t tester, n *node, coll, name string, v any) crdt.Delta {
	t.Helper()
	ds, err := n.coll(coll).Create(fields(name, v))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range ds {
		if f, ok := n.coll(coll).FieldByID(d.Field); ok && f.Name == name {
			return d
		}
	}
	t.Fatalf("no operation on %s", name)
	return crdt.Delta{}
}

// Whatever people do apart, with whatever rights, and write on whatever they stood on
// once: nodes that have the same commits hold the same bytes, equal to what all
// commits make judged together, and to what a rebuild and a restored archive make.
func TestNodesAgreeOnWhatCounts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newCompany(t)
		for range rapid.IntRange(5, 30).Draw(t, "steps") {
			w.step(t)
		}
		for range len(w.nodes) {
			for i, a := range w.nodes {
				for _, b := range w.nodes[i+1:] {
					meet(a, b)
				}
			}
		}
		wantAgreement(t, w.nodes...)
		for _, n := range w.nodes {
			n.wantReplayed("Paper")
		}
		n := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(t, "rebuilt")]
		before := n.dump()
		n.Close()
		if _, err := Rebuild(context.Background(), "db", n.options(), func(p Problem) { t.Error(p) }); err != nil {
			t.Fatal(err)
		}
		n.open()
		wantSame(t, n.dump(), before)

		var archive bytes.Buffer
		if _, err := n.Archive(context.Background(), &archive); err != nil {
			t.Fatal(err)
		}
		again := &node{t: t, fs: kv.NewMemFS(), key: n.key, now: n.now, rng: n.rng}
		if _, err := Restore(context.Background(), "db", again.options(), &archive, nil); err != nil {
			t.Fatal(err)
		}
		again.open()
		wantAgreement(t, n, again)
	})
}

// company is some people who share papers and teams.
type company struct {
	nodes  []*node
	papers []dag.DocID
	teams  []dag.DocID
}

func newCompany(t *rapid.T) *company {
	w := &company{}
	for _, name := range []string{"ann", "bob", "cy"} {
		w.nodes = append(w.nodes, newNode(t, name).policed())
	}
	w.papers = append(w.papers, w.nodes[0].create("Paper", "title", "first"))
	ann := w.nodes[0]
	w.teams = append(w.teams, ann.create("Team", "name", "first"))
	ann.mustDo("Team", w.teams[0], grantTo("member", person("cy")))
	ann.mustDo("Paper", w.papers[0], grantTo("writer", person("bob")), grantTo("writer", memberOf(w.teams[0])), grantTo("admin", person("cy")))
	for _, n := range w.nodes[1:] {
		n.learns(ann)
	}
	return w
}

func (w *company) subject(t *rapid.T, team bool) acp.Subject {
	switch i := rapid.IntRange(0, 6).Draw(t, "subject"); {
	case i == 6:
		return acp.Everyone
	case i >= 4 && !team:
		return memberOf(rapid.SampledFrom(w.teams).Draw(t, "team"))
	case i == 5 && len(w.teams) > 1:
		return memberOf(rapid.SampledFrom(w.teams).Draw(t, "inner team"))
	default:
		return acp.OfKey(w.nodes[i%len(w.nodes)].key.Public())
	}
}

// step lets somebody do something; what is refused is no failure.
func (w *company) step(t *rapid.T) {
	n := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(t, "who")]
	paper := rapid.SampledFrom(w.papers).Draw(t, "paper")
	team := rapid.SampledFrom(w.teams).Draw(t, "team")
	var err error
	switch rapid.IntRange(0, 14).Draw(t, "what") {
	case 0, 1, 2:
		err = n.tries("Paper", paper, "title", rapid.StringMatching("[a-c]").Draw(t, "title"), "hits", 1)
	case 3, 4:
		kind := rapid.SampledFrom([]acp.OpKind{acp.Grant, acp.Grant, acp.Revoke}).Draw(t, "op")
		relation := rapid.SampledFrom([]string{"reader", "writer", "admin"}).Draw(t, "relation")
		err = n.does("Paper", paper, acp.Op{Kind: kind, Relation: relation, Subject: w.subject(t, false)})
	case 5, 6:
		kind := rapid.SampledFrom([]acp.OpKind{acp.Grant, acp.Grant, acp.Revoke}).Draw(t, "op")
		err = n.does("Team", team, acp.Op{Kind: kind, Relation: "member", Subject: w.subject(t, true)})
	case 7:
		if rapid.IntRange(0, 2).Draw(t, "rare") == 0 {
			err = n.does("Paper", paper, acp.Op{Kind: acp.Transfer, Subject: person(rapid.SampledFrom([]string{"ann", "bob", "cy"}).Draw(t, "heir"))})
		}
	case 8:
		err = w.accept(t, n, paper)
	case 9:
		if len(w.teams) < 3 {
			w.teams = append(w.teams, n.create("Team", "name", fmt.Sprint("team ", len(w.teams))))
		} else if len(w.papers) < 3 {
			w.papers = append(w.papers, n.create("Paper", "title", fmt.Sprint("paper ", len(w.papers))))
		}
	case 10:
		w.backdate(t, n, paper)
	case 11:
		if rapid.IntRange(0, 3).Draw(t, "rare") == 0 {
			err = n.removes("Paper", paper)
		}
	default:
		w.tell(t, n, w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(t, "to")])
	}
	if err != nil && !errors.Is(err, fault.Denied) && !errors.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
}

// deletion marks a document deleted.
var deletion = crdt.Delta{Field: crdt.FieldStatus, Kind: crdt.KindStatus, Val: value.OfBool(true)}

// removes deletes a document as the node's person.
func (n *node) removes(coll string, id dag.DocID) error {
	return n.Update(context.Background(), As(n.key), func(tx *Tx) error {
		_, err := tx.Delete(n.coll(coll), id)
		return err
	})
}

// accept lets n accept what is void.
func (w *company) accept(t *rapid.T, n *node, id dag.DocID) error {
	var ids []acp.ID
	err := n.View(context.Background(), System, func(tx *Tx) error {
		pending, err := tx.Pending(context.Background(), n.coll("Paper"), id)
		for _, a := range pending {
			ids = append(ids, acp.ID(a.CID))
		}
		return err
	})
	if err != nil || len(ids) == 0 {
		return err
	}
	ids = ids[:rapid.IntRange(1, len(ids)).Draw(t, "accepted")]
	return n.does("Paper", id, acp.Op{Kind: acp.Accept, Commits: ids})
}

// backdate writes as n's person on something that was there long ago, and gives it to
// n, who may find it invalid.
func (w *company) backdate(t *rapid.T, n *node, id dag.DocID) {
	var history []*dag.Commit
	n.view(func(tx *Tx) error {
		for a, err := range tx.History(n.coll("Paper"), id) {
			if err != nil {
				return err
			}
			history = append(history, a.Commit)
		}
		return nil
	})
	if len(history) == 0 {
		return
	}
	parent := rapid.SampledFrom(history).Draw(t, "old")
	deltas := []crdt.Delta{schemaDelta(n.t, n, "Paper", "title", "back then")}
	switch rapid.IntRange(0, 6).Draw(t, "back-dated") {
	case 6:
		deltas = []crdt.Delta{deletion}
	case 0, 4:
		deltas = []crdt.Delta{grantTo("writer", w.subject(t, false)).Delta()}
	case 1, 5:
		deltas = []crdt.Delta{revokeFrom("writer", w.subject(t, false)).Delta()}
	}
	c := dag.Commit{Doc: id, Parents: []dag.CID{parent.CID}, Height: parent.Height + 1, HLC: parent.HLC + 1, Deltas: deltas, Schema: parent.Schema}
	cm := forge(n.t, n.key, c)
	if rapid.Bool().Draw(t, "submitted") { // as if it was prepared here and signed elsewhere
		_, err := n.Submit(context.Background(), n.key.Public(), []Draft{{n.coll("Paper").ID, cm}}, true)
		if k := fault.Of(err); err != nil && k != fault.Denied && k != fault.NotFound {
			t.Fatal(err)
		}
		return
	}
	_, err := n.Merge(context.Background(), n.coll("Paper").ID, envelopes(cm), "peer")
	var invalid *InvalidCommit
	if err != nil && !errors.As(err, &invalid) {
		t.Fatal(err)
	}
}

// tell gives some of what a has to b: of each collection the first commits, in the
// order of a.
func (w *company) tell(t *rapid.T, a, b *node) {
	for _, coll := range []string{"Team", "Paper"} {
		all := a.everything(coll)
		some := all[:rapid.IntRange(0, len(all)).Draw(t, "told")]
		if _, err := b.Merge(context.Background(), b.coll(coll).ID, some, "peer"); err != nil {
			t.Fatal(err)
		}
	}
}

// Who lost the right to read may be told just that: the commit that took it, and nothing
// that came after.
func TestThePartingIsTheCommitThatTookTheRight(t *testing.T) {
	t.Parallel()
	ann := newNode(t, "ann").policed()
	id := ann.create("Paper", "title", "draft")
	partings := func(who string, heads ...dag.CID) (cids []dag.CID) {
		ann.view(func(tx *Tx) error {
			found, err := tx.Partings(context.Background(), ann.coll("Paper"), id, heads, keyOf(who).Public())
			for _, a := range found {
				cids = append(cids, a.CID)
			}
			return err
		})
		return cids
	}
	ann.mustDo("Paper", id, grantTo("reader", person("bob")), grantTo("reader", person("cy")))
	granted := ann.heads("Paper", id)
	if got := partings("bob"); len(got) > 0 {
		t.Errorf("bob may read, and parts with %v", got)
	}
	ann.mustDo("Paper", id, revokeFrom("reader", person("eve")), grantTo("admin", person("bob"))) // who never could; and may not read as that
	ann.mustDo("Paper", id, revokeFrom("reader", person("bob")))
	took := ann.heads("Paper", id)
	ann.set("Paper", id, "title", "not for bob")
	ann.mustDo("Paper", id, revokeFrom("reader", person("bob"))) // once more: he had nothing left
	if got := partings("bob"); !slices.Equal(got, took) {
		t.Errorf("bob parts with %v, want %v", got, took)
	}
	if got := partings("bob", granted...); len(got) != 2 || got[1] != took[0] {
		t.Errorf("bob, who has %v, parts with %v: want what stands between, and %v", granted, got, took)
	}
	if got := partings("bob", took...); len(got) > 0 {
		t.Errorf("bob, who knows, parts with %v", got)
	}
	for _, who := range []string{"eve", "cy", "ann"} {
		if got := partings(who); len(got) > 0 {
			t.Errorf("%s parts with %v", who, got)
		}
	}
	ann.mustDo("Paper", id, grantTo("reader", person("bob")))
	if got := partings("bob"); len(got) > 0 {
		t.Errorf("bob may read again, and parts with %v", got)
	}
	for i := range maxParting {
		ann.set("Paper", id, "title", fmt.Sprint("version ", i))
	}
	ann.mustDo("Paper", id, revokeFrom("reader", person("bob")))
	if got := partings("bob", took...); len(got) > 0 {
		t.Errorf("bob, who was away for long, parts with %d commits", len(got))
	}
	ann.mustDo("Paper", id, acp.Op{Kind: acp.Transfer, Subject: person("dan")})
	if got := partings("ann"); !slices.Equal(got, ann.heads("Paper", id)) {
		t.Errorf("ann gave it away and parts with %v", got)
	}
	id = ann.create("Paper", "title", "for all")
	ann.mustDo("Paper", id, grantTo("reader", acp.Everyone))
	ann.mustDo("Paper", id, revokeFrom("reader", acp.Everyone))
	if got := partings("eve"); !slices.Equal(got, ann.heads("Paper", id)) {
		t.Errorf("eve, who could read as everybody could, parts with %v", got)
	}
	id = ann.create("Paper", "title", "for cy")
	ann.mustDo("Paper", id, grantTo("reader", person("cy")))
	ann.update(func(tx *Tx) error { // cy is sent away, and what he may not read is written, in one
		d, err := tx.Get(ann.coll("Paper"), id)
		if err != nil {
			return err
		}
		deltas, err := ann.coll("Paper").Update(d.State, fields("title", "not for cy"))
		if err != nil {
			return err
		}
		_, err = tx.writeOn(d, append([]crdt.Delta{revokeFrom("reader", person("cy")).Delta()}, deltas...))
		return err
	})
	if got := partings("cy"); len(got) > 0 {
		t.Errorf("cy parts with %v, which says more than that", got)
	}
	for what, c := range map[string]struct {
		segs []dag.Segment
		want bool
	}{"alone": {[]dag.Segment{{}}, true}, "with something sealed": {[]dag.Segment{{}, {Group: 1}}, false}} {
		cm := &dag.Commit{Deltas: []crdt.Delta{revokeFrom("reader", person("cy")).Delta()}, Segs: c.segs}
		if got := takes(cm, []ident.PublicKey{keyOf("cy").Public()}); got != c.want {
			t.Errorf("a revocation %s is told to whom it concerns: %v, want %v", what, got, c.want)
		}
	}
}

// Whatever is in a commit besides operations on rights is writing: also what nobody here can
// read, and kinds of commits that nothing is known of.
func TestWhatACommitAsksOfItsAuthor(t *testing.T) {
	t.Parallel()
	grants := []crdt.Delta{grantTo("reader", person("bob")).Delta()}
	clear, sealed := dag.Segment{}, dag.Segment{Group: 1, Epoch: 1}
	for what, c := range map[string]struct {
		commit  dag.Commit
		updates bool
	}{
		"a grant":                       {dag.Commit{Deltas: grants, Segs: []dag.Segment{clear}}, false},
		"a grant with something sealed": {dag.Commit{Deltas: grants, Segs: []dag.Segment{clear, sealed}}, true},
		"something sealed":              {dag.Commit{Segs: []dag.Segment{sealed}}, true},
		"a grant of another kind":       {dag.Commit{Kind: dag.Checkpoint, Deltas: grants, Segs: []dag.Segment{clear}}, true},
		"nothing":                       {dag.Commit{}, true},
	} {
		if got, err := judgeable(&c.commit); err != nil || got.Need.Update != c.updates {
			t.Errorf("%s needs %+v, %v; want it to update: %v", what, got.Need, err, c.updates)
		}
	}
	for what, cm := range map[string]dag.Commit{
		"keys that are none":    {Deltas: []crdt.Delta{{Field: crdt.FieldKeys, Kind: crdt.KindKeys, Void: true, Raw: []byte{0xf6}}}},
		"a document of anybody": {Root: &dag.RootSeed{Mode: dag.ModeContent}},
	} {
		if got, err := judgeable(&cm); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %+v, %v; want invalid", what, got.Need, err)
		}
	}
}

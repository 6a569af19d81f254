package store

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/veil"
)

// clique is a group of ann's, bo and cy among it, of which mal knows the name and nothing
// else; and a memo of mal's that is shared with the group.
func clique(t tester) (l *archive, group, memo dag.DocID) {
	l = newArchive(t)
	group = l.owned("ann", "Team", "name", "clique")
	l.grant("Team", group, "member", keyText("bo"))
	l.grant("Team", group, "member", keyText("cy"))
	memo = l.memo("mal", "bait")
	l.does(t, "mal", memo, grantTo("reader", groupOf(group)))
	return l, group, memo
}

func (l *archive) does(t tester, who string, id dag.DocID, op acp.Op) {
	t.Helper()
	err := l.Update(context.Background(), someone(who), func(tx *Tx) error {
		_, err := tx.WriteAccess(l.memos(), id, op)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// links returns the auth links of all commits of a memo.
func (l *archive) links(id dag.DocID) (links []dag.CID) {
	l.view(func(tx *Tx) error {
		for a, err := range tx.History(l.memos(), id) {
			if err != nil {
				return err
			}
			links = append(links, a.Auth...)
		}
		return nil
	})
	return links
}

// A commit names what is known of groups. Who may not know of a group is told nothing
// of it by his own commits, and they wait for nothing that he cannot get.
func TestCommitsOfAStrangerDoNotTellOfAGroup(t *testing.T) {
	t.Parallel()
	l, group, memo := clique(t)
	l.does(t, "mal", memo, grantTo("reader", acp.Everyone))
	if links := l.links(memo); len(links) > 0 {
		t.Errorf("commits of mal name %v of a group that does not exist for him", links)
	}
	// bo belongs to the group: what he writes names it.
	l.does(t, "mal", memo, grantTo("writer", groupOf(group)))
	if links := l.links(memo); len(links) > 0 {
		t.Errorf("commits of mal name %v of a group that he lets write", links)
	}
	err := l.Update(context.Background(), someone("bo"), func(tx *Tx) error {
		_, err := updateIn(tx, "Memo", memo, "body", "by bo")
		return err
	})
	if err != nil || len(l.links(memo)) == 0 {
		t.Errorf("a member writes %v, naming %v", err, l.links(memo))
	}
}

// Whoever shares a document of his own with a group cannot ask by it who is in there.
func TestNobodyAsksWhoIsInAGroupOfOthers(t *testing.T) {
	t.Parallel()
	l, _, memo := clique(t)
	ask := func(asker Caller, about string) (may bool) {
		l.as(asker, func(tx *Tx) {
			d, err := tx.Get(l.memos(), memo)
			if err == nil {
				may, err = tx.Allowed(d, "read", keyOf(about).Public())
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		return may
	}
	if ask(someone("mal"), "bo") {
		t.Error("mal is told that bo is in a group that does not exist for him")
	}
	for who, asker := range map[string]Caller{"bo himself": someone("bo"), "cy, who is in it too": someone("cy"), "the database": System} {
		if !ask(asker, "bo") {
			t.Errorf("%s is not told that bo may read", who)
		}
	}
}

// The keys of an encrypted document are given to people by name: not to those of whom its
// writer may not know.
func TestKeysDoNotTellWhoIsInAGroup(t *testing.T) {
	t.Parallel()
	l, group, _ := clique(t)
	var id dag.DocID
	err := l.Update(context.Background(), someone("mal"), func(tx *Tx) error {
		deltas, err := l.memos().Create(fields("text", "sealed bait"))
		if err != nil {
			return err
		}
		d, err := tx.CreateEncrypted(l.memos(), deltas, veil.Cover{All: true})
		id = d.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	l.does(t, "mal", id, grantTo("reader", groupOf(group)))
	for _, who := range l.wrapped(l.memos(), id) {
		if who != keyText("mal").Key {
			t.Errorf("mal reads in his own document that %s is in the group", who)
		}
	}
	if !slices.Contains(l.wrapped(l.memos(), id), keyText("mal").Key) {
		t.Error("not even mal has the key")
	}
}

// wrapped returns to whom the keys of a document were given.
func (l *archive) wrapped(c *schema.Collection, id dag.DocID) (to []ident.PublicKey) {
	l.view(func(tx *Tx) error {
		for a, err := range tx.History(c, id) {
			if err != nil {
				return err
			}
			ops, err := veil.Ops(a.Deltas)
			if err != nil {
				return err
			}
			for _, op := range ops {
				for _, w := range op.Wraps {
					to = append(to, w.To)
				}
			}
		}
		return nil
	})
	return to
}

// Groups can be within each other without end. After so many nobody is looked for in them
// for one question, and what was not found out is not remembered as a no.
func TestGroupsWithinGroupsWithoutEnd(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	teams := make([]dag.DocID, maxAsked+6)
	err := l.Update(context.Background(), someone("ann"), func(tx *Tx) error {
		for i := range teams {
			d, err := createIn(tx, "Team", "name", "team")
			if err != nil {
				return err
			}
			teams[i] = d.ID
		}
		for i := range teams {
			inner := keyText("bo")
			if i+1 < len(teams) {
				inner = groupOf(teams[i+1])
			}
			if _, err := tx.Write(l.node.coll("Team"), teams[i], []crdt.Delta{grantTo("member", inner).Delta()}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	far, near := l.memo("ann", "far"), l.memo("ann", "near")
	for id, team := range map[dag.DocID]dag.DocID{far: teams[0], near: teams[maxAsked/2]} {
		l.does(t, "ann", id, grantTo("reader", groupOf(team)))
	}
	l.as(someone("bo"), func(tx *Tx) {
		_, err := tx.Get(l.memos(), far)
		wantKind(t, err, fault.NotFound, "a memo for groups within groups, too many")
		if _, err := tx.Get(l.memos(), near); err != nil {
			t.Errorf("a memo for half as many gives %v", err)
		}
	})
}

// When damage has taken the schema of a collection, nobody knows any more who may read it:
// neither the feed nor commits tell of its documents.
func TestWithoutItsSchemaNobodyReadsACollection(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	id := l.memo("ann", "diary")
	l.settle()
	c := l.memos()
	short := l.Schema().byID[c.ID].short
	l.damage(func(b *kv.Batch, snap *kv.Snapshot) {
		b.Delete(globalKey(globalActive, c.ID[:]...))
		b.Set(globalKey(globalLost, c.ID[:]...), binary.BigEndian.AppendUint32(nil, uint32(short)))
	})
	l.open()
	for name, who := range map[string]Caller{"nobody": {}, "ann": someone("ann")} {
		l.as(who, func(tx *Tx) {
			for ch, err := range tx.Changed(0) {
				if err != nil || ch.Doc == id {
					t.Errorf("%s is told of a change of %s, %v", name, ch.Doc, err)
				}
			}
			for cid := range l.cids {
				_, err := tx.FindCommit(cid)
				wantKind(t, err, fault.NotFound, "a commit")
			}
		})
	}
}

// What somebody submits can name any commit, as a parent or as one of a group. Of those
// that he may not know of is said what is said of those that are not here.
func TestSubmittingDoesNotTellWhatIsHere(t *testing.T) {
	t.Parallel()
	l, group, memo := clique(t)
	secret := l.memo("ann", "diary")
	commitOf := func(coll string, id dag.DocID) *dag.Commit { return l.node.historyOf(coll, id)[0] }
	own := commitOf("Memo", memo)
	title := schemaDelta(t, l.node, "Memo", "text", "x")
	submit := func(c dag.Commit) string {
		c.Doc, c.Height, c.HLC, c.Schema, c.Deltas = memo, 3, dag.HLC(l.now.tick(), 0), own.Schema, []crdt.Delta{title}
		cm := forge(t, keyOf("mal"), c)
		_, err := l.Submit(context.Background(), keyOf("mal").Public(), []Draft{{l.memos().ID, cm}}, true)
		if err == nil {
			t.Fatal("it is taken")
		}
		return strings.ReplaceAll(err.Error(), cm.CID.String(), "itself")
	}
	head := l.node.heads("Memo", memo)[0]
	never := dag.CID{1}
	for name, cid := range map[string]dag.CID{"a diary": commitOf("Memo", secret).CID, "a group": commitOf("Team", group).CID} {
		for _, how := range []func(dag.CID) dag.Commit{
			func(c dag.CID) dag.Commit { return dag.Commit{Parents: sortedCIDs(head, c)} },
			func(c dag.CID) dag.Commit { return dag.Commit{Parents: []dag.CID{head}, Auth: []dag.CID{c}} },
		} {
			if got, want := strings.ReplaceAll(submit(how(cid)), cid.String(), never.String()), submit(how(never)); got != want {
				t.Errorf("of a commit of %s that mal may not know of is said\n%s\nand of none\n%s", name, got, want)
			}
		}
	}
}

func sortedCIDs(cs ...dag.CID) []dag.CID {
	slices.SortFunc(cs, dag.CID.Compare)
	return cs
}

// An index that is put out of use by a document names it to those who may read it.
func TestAnIndexDoesNotNameWhatOneMayNotRead(t *testing.T) {
	t.Parallel()
	l := newArchive(t)
	id := l.memo("ann", "diary")
	c := l.memos()
	for _, x := range l.Schema().byID[c.ID].indexes {
		if x.several < 0 {
			continue
		}
		b := l.kv.NewBatch()
		b.Set(append(append(slices.Clone(x.prefix), tooLarge), id[:]...), nil)
		if err := l.write(b); err != nil {
			t.Fatal(err)
		}
		ix := x.Index
		for who, named := range map[string]bool{"ann": true, "bo": false} {
			l.as(someone(who), func(tx *Tx) {
				for _, err := range tx.Index(c, &ix, IndexRange{}, false) {
					if wantKind(t, err, fault.Unavailable, "an index with a document of too many entries"); strings.Contains(err.Error(), id.String()) != named {
						t.Errorf("%s is told %v", who, err)
					}
				}
			})
		}
		return
	}
	t.Fatal("no index of a list")
}

// A relation that a group has not is a mistake, which is said to who may read the group; to others
// it says nothing of the group, not even that it is here.
func TestAWrongRelationTellsNothingOfAGroup(t *testing.T) {
	t.Parallel()
	ann, bob := newNode(t, "ann").policed(), newNode(t, "bob").policed()
	team := ann.create("Team", "name", "editors")
	wrong := grantTo("reader", acp.OfGroup(acp.ID(team), "director"))
	wantKind(t, ann.does("Paper", ann.create("Paper", "title", "hers"), wrong), fault.Invalid, "a relation that the team has not")
	bob.merge("Team", ann.everything("Team"))
	bob.mustDo("Paper", bob.create("Paper", "title", "his"), wrong)
	ann.mustDo("Team", team, grantTo("member", person("bob")))
	bob.merge("Team", ann.everything("Team"))
	wantKind(t, bob.does("Paper", bob.create("Paper", "title", "another"), wrong), fault.Invalid, "the same by a member")
}

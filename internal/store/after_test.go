package store

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/veil"
)

// The document after each change is the one that the node had then, whether it is
// asked for alone or replayed with others.
func TestDocumentAfterAChangeIsTheOneTheNodeHadThen(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := newNode(t, "ada")
		var then [][]byte // the document of each change, after it
		for _, c := range graph(t, n) {
			n.merge("Page", envelopes(c))
			if len(n.log(uint64(len(then)))) > 0 {
				then = append(then, slices.Clone(n.get("Page", c.Doc).State.Bytes()))
			}
		}
		from := rapid.IntRange(0, len(then)).Draw(t, "from")
		to := rapid.IntRange(from, len(then)).Draw(t, "to")
		n.view(func(tx *Tx) error {
			var changes []Change
			for ch, err := range tx.Changed(0) {
				if err != nil {
					return err
				}
				changes = append(changes, ch)
				d, err := tx.AfterSeq(context.Background(), n.coll("Page"), ch.Doc, ch.Seq)
				if err != nil || !bytes.Equal(d.State.Bytes(), then[ch.Seq-1]) {
					t.Errorf("after %d: got %x, %v, want %x", ch.Seq, d.State.Bytes(), err, then[ch.Seq-1])
				}
			}
			if len(changes) != len(then) || tx.Seq() != uint64(len(then)) {
				t.Errorf("%d changes up to %d, want %d", len(changes), tx.Seq(), len(then))
			}
			at := from
			for d, err := range tx.Replay(context.Background(), n.coll("Page"), changes[from:to]) {
				if err != nil || !bytes.Equal(d.State.Bytes(), then[at]) {
					t.Errorf("replayed from %d, after %d: got %x, %v, want %x", from+1, at+1, d.State.Bytes(), err, then[at])
				}
				at++
			}
			if at != to {
				t.Errorf("%d changes were replayed, want %d", at-from, to-from)
			}
			return nil
		})
	})
}

func TestDocumentIsNotThereBeforeItsFirstChange(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	early := n.create("Page", "title", "first")
	late := n.create("Page", "title", "second")
	n.view(func(tx *Tx) error {
		if _, err := tx.AfterSeq(context.Background(), n.coll("Page"), early, 1); err != nil {
			t.Errorf("the first document after its change: %v", err)
		}
		if _, err := tx.AfterSeq(context.Background(), n.coll("Page"), late, 1); !errors.Is(err, fault.NotFound) {
			t.Errorf("the second document before its change: %v, want not found", err)
		}
		return nil
	})
}

// Who asks for the past of a long history can stop asking.
func TestReplayEndsWithItsContext(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	id := n.create("Page", "title", "first")
	n.set("Page", id, "title", "second")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n.view(func(tx *Tx) error {
		for _, err := range tx.Replay(ctx, n.coll("Page"), []Change{{Seq: 1, Doc: id}}) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("a replay that nobody waits for gives %v", err)
			}
		}
		return nil
	})
}

// wantReplayed checks that a collection that is replayed is, after each change, what the
// changes up to there make.
func (n *node) wantReplayed(coll string) {
	n.t.Helper()
	n.view(func(tx *Tx) error {
		c := n.coll(coll)
		var changes []Change
		for ch, err := range tx.Changed(0) {
			if err != nil {
				return err
			}
			if ch.Collection == c.ID {
				changes = append(changes, ch)
			}
		}
		i := 0
		for d, err := range tx.Replay(context.Background(), c, changes) {
			if err != nil {
				return err
			}
			want, err := tx.AfterSeq(context.Background(), c, changes[i].Doc, changes[i].Seq)
			if err != nil || !bytes.Equal(d.State.Bytes(), want.State.Bytes()) {
				n.t.Errorf("after change %d document %s is %x, %v; want %x", changes[i].Seq, d.ID, d.State.Bytes(), err, want.State.Bytes())
			}
			i++
		}
		return nil
	})
}

// Bob writes beside the commit that takes his right away, under a key that he gives to
// nobody. That does not count. While it did nobody could read the document, so nobody is
// shown it as it was then: neither as bob left it, nor without what he wrote.
func TestThePastThatNoKeyOpensIsNotShown(t *testing.T) {
	t.Parallel()
	ann, bob := newHome(t, "ann"), newHome(t, "bob")
	id := ann.createSealed(whole, "title", "draft")
	ann.mustDo("Paper", id, grantTo("writer", person("bob")))
	bob.learns(ann)
	below := bob.historyOf("Paper", id)
	last := below[len(below)-1]
	secret, err := veil.NewSecret(ann.rng)
	if err != nil {
		t.Fatal(err)
	}
	key := veil.Key{Epoch: secret.Epoch(acp.ID(id)), Secret: secret}
	own := dag.Commit{
		Doc: id, Parents: []dag.CID{last.CID}, Height: last.Height + 1, HLC: last.HLC + 1, Schema: last.Schema, Author: dag.Author{Key: bob.key.Public()},
		Deltas: []crdt.Delta{schemaDelta(t, ann, "Paper", "title", "nobody sees"), (&veil.Op{Kind: veil.Begin, Epoch: key.Epoch}).Delta()},
	}
	if err := key.Seal(&own, whole, ann.rng); err != nil {
		t.Fatal(err)
	}
	secretly := forge(t, bob.key, own)
	ann.mustDo("Paper", id, grantTo("reader", person("cy")))
	reply := forge(t, bob.key, dag.Commit{Doc: id, Parents: []dag.CID{secretly.CID}, Height: secretly.Height + 1, HLC: secretly.HLC + 1, Schema: last.Schema})

	cy := newHome(t, "cy")
	cy.learns(ann)
	cy.merge("Paper", envelopes(secretly, reply))
	cy.wantReads(id, "title", "")
	ann.mustDo("Paper", id, revokeFrom("writer", person("bob")))
	cy.learns(ann)
	cy.wantReads(id, "title", `"draft"`)

	c := cy.coll("Paper")
	title, _ := c.Field("title")
	cy.as(someone("cy"), func(tx *Tx) {
		_, err := tx.At(context.Background(), c, secretly.CID)
		wantKind(t, err, fault.NotFound, "the document at bob's commit")
		var changes []Change
		for ch, err := range tx.Changed(0) {
			if err != nil {
				t.Fatal(err)
			}
			if ch.Collection == c.ID {
				changes = append(changes, ch)
			}
		}
		i := 0
		for d, err := range tx.Replay(context.Background(), c, changes) {
			if err != nil {
				t.Fatal(err)
			}
			hidden := changes[i].Commit == secretly.CID || changes[i].Commit == reply.CID
			_, err := tx.AfterSeq(context.Background(), c, id, changes[i].Seq)
			if (len(d.State.Bytes()) == 0) != hidden || errors.Is(err, fault.NotFound) != hidden {
				t.Errorf("after change %d of %d the title is %s, and asked for alone %v; hidden is %v", i, len(changes), d.Value(title).AppendJSON(nil), err, hidden)
			}
			i++
		}
	})
	cy.wantReplayed("Paper")
}

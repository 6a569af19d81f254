package store

import (
	"fmt"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/veil"
)

// Of encrypted documents that are created by the dozen each is itself: with a docID and a
// secret of its own, encrypted as it was asked for, whatever was made ahead. Only whoever
// created them opens them, also on a node that has forgotten all secrets.
func TestEncryptedDocumentsByTheDozen(t *testing.T) {
	t.Parallel()
	ann, bob := newHome(t, "ann"), newHome(t, "bob")
	title, ok := ann.coll("Paper").Field("title")
	if !ok {
		t.Fatal("papers have no title")
	}
	partly := veil.Cover{Fields: []crdt.FieldID{title.ID}}
	var ids []dag.DocID
	covers := map[dag.DocID]veil.Cover{}
	ann.update(func(tx *Tx) error {
		c := ann.coll("Paper")
		for i := range 60 {
			cover := whole
			if i%20 > 12 {
				cover = partly
			}
			deltas, err := c.Create(fields("title", fmt.Sprint("paper ", i), "hits", i))
			if err != nil {
				return err
			}
			d, err := tx.CreateEncrypted(c, deltas, cover)
			if err != nil {
				return err
			}
			ids = append(ids, d.ID)
			covers[d.ID] = cover
		}
		return nil
	})
	wantSound(t, ann)
	epochs := map[veil.EpochID]bool{}
	ann.view(func(tx *Tx) error {
		for _, id := range ids {
			d, err := tx.Get(ann.coll("Paper"), id)
			if err != nil {
				return err
			}
			keys, err := keysOf(id, d.State)
			if err != nil {
				return err
			}
			for _, e := range keys.Epochs() {
				epochs[e] = true
			}
			if got, want := keys.Cover().All, covers[id].All; got != want {
				t.Errorf("paper %s is encrypted as a whole: %v, want %v", id, got, want)
			}
		}
		return nil
	})
	if len(epochs) != len(ids) || len(covers) != len(ids) {
		t.Errorf("%d papers have %d docIDs and %d secrets", len(ids), len(covers), len(epochs))
	}
	bob.learns(ann)
	again := newHome(t, "ann")
	again.learns(bob)
	for i, id := range ids {
		bob.wantReads(id, "title", "")
		again.wantReads(id, "title", fmt.Sprintf("%q", fmt.Sprint("paper ", i)))
	}
	ann.mustDo("Paper", ids[30], acp.Op{Kind: acp.Grant, Relation: "reader", Subject: person("bob")})
	bob.learns(ann)
	bob.wantReads(ids[30], "title", `"paper 30"`)
	bob.wantReads(ids[31], "title", "")
}

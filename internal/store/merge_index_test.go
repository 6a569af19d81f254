package store

import (
	"context"
	"testing"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

const taggedSDL = `type Tagged @index(includes: [{field: "tags"}, {field: "hits"}]) { tags: [Int], hits: Int }`

// tagged returns a node with documents of so many tags, each changed so often beside
// its tags.
func tagged(t *testing.T, docs, tags, changes int) *node {
	t.Helper()
	n := newNode(t, "ada")
	n.addSchema(taggedSDL)
	for i := range docs {
		list := make([]value.Value, tags)
		for j := range list {
			list[j] = value.OfInt(int64(i*tags + j))
		}
		n.update(func(tx *Tx) error {
			deltas, err := n.coll("Tagged").Create([]schema.Input{{Name: "tags", Val: value.OfList(list)}})
			if err != nil {
				return err
			}
			d, err := tx.Create(n.coll("Tagged"), deltas)
			for i := 0; i < changes && err == nil; i++ {
				_, err = updateIn(tx, "Tagged", d.ID, "hits", i)
			}
			return err
		})
	}
	return n
}

// mergeOnce merges in one transaction as much as one takes. It returns how many commits
// that is, and how many keys it writes.
func (n *node) mergeOnce(envelopes [][]byte) (taken, written int) {
	n.t.Helper()
	cs, invalid := open(envelopes)
	if invalid != nil {
		n.t.Fatal(invalid)
	}
	n.update(func(tx *Tx) error {
		_, rest, err := tx.merge(n.coll("Tagged").ID, cs, "peer", map[dag.CID]bool{})
		taken, written = len(cs)-len(rest), tx.kv.Len()
		return err
	})
	return taken, written
}

// Small commits can turn over all entries of a document, each of them. Merged at once
// they cost its indexes as much as the last one does.
func TestAHistoryIsIndexedOnce(t *testing.T) {
	t.Parallel()
	const tags, changes = 500, 50
	a := tagged(t, 1, tags, changes)
	b := newNode(t, "bob")
	b.addSchema(taggedSDL)
	taken, written := b.mergeOnce(a.everything("Tagged"))
	if taken != 1+changes || written > 2*tags {
		t.Errorf("%d commits of a document of %d tags write %d keys", taken, tags, written)
	}
	wantSound(t, b)
}

// However much arrives at once, what a transaction holds for indexes with several
// entries per document is bounded.
func TestMergesOfMuchToIndexTakeSeveralTransactions(t *testing.T) {
	t.Parallel()
	const docs, tags = 20, 20_000
	a := tagged(t, docs, tags, 1)
	pack := a.everything("Tagged")
	b := newNode(t, "bob")
	b.addSchema(taggedSDL)
	if taken, _ := b.mergeOnce(pack); taken == 0 || taken == len(pack) {
		t.Errorf("one transaction takes %d of %d commits, want a part", taken, len(pack))
	}
	m, err := b.Merge(context.Background(), b.coll("Tagged").ID, pack, "peer")
	if err != nil || m.Applied+m.Known != len(pack) || m.Known == 0 || len(m.Missing) > 0 {
		t.Errorf("merged %d of %d commits, %d were there, %v", m.Applied, len(pack), m.Known, err)
	}
	wantSound(t, b)
}

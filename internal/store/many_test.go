package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/dag"
)

// Many documents are what as many single reads give, in the order of the question:
// those that exist, deleted ones too, again if asked again.
func TestManyDocumentsAreAsSingleOnes(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	var ids []dag.DocID
	n.update(func(tx *Tx) error {
		for i := range 2 * manyChunk {
			d, err := createIn(tx, "Page", "title", fmt.Sprint("page ", i))
			if err != nil {
				return err
			}
			ids = append(ids, d.ID)
		}
		_, err := tx.Delete(n.coll("Page"), ids[0])
		return err
	})
	large := []any{"title", "large", "body", strings.Repeat("x", 200<<10)}
	for i := range 30 { // more than are held at once
		large[1] = fmt.Sprint("large ", i)
		ids = append(ids, n.create("Page", large...))
	}
	serial := 0
	rapid.Check(t, func(t *rapid.T) {
		serial++
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		ask := slices.Clone(ids)
		r.Shuffle(len(ask), func(i, j int) { ask[i], ask[j] = ask[j], ask[i] })
		ask = ask[:rapid.IntRange(0, len(ask)).Draw(t, "number")]
		for range rapid.IntRange(0, 5).Draw(t, "others") {
			if len(ask) > 0 {
				ask = append(ask, ask[0], dag.DocID{byte(r.Uint32())})
			}
		}
		if rapid.Bool().Draw(t, "sorted") {
			slices.SortFunc(ask, compareIDs)
		}
		n.update(func(tx *Tx) error {
			c := n.coll("Page")
			fresh, err := createIn(tx, "Page", "title", fmt.Sprint("of this transaction ", serial))
			if err != nil {
				return err
			}
			ask = append(ask, fresh.ID)
			next := 0
			for d, err := range tx.GetMany(c, ask) {
				if err != nil {
					return err
				}
				for ; ask[next] != d.ID; next++ {
					if _, err := tx.Get(c, ask[next]); err == nil {
						t.Fatalf("document %s is left out", ask[next])
					}
				}
				next++
				want, err := tx.Get(c, d.ID)
				if err != nil || string(want.State.Bytes()) != string(d.State.Bytes()) {
					t.Fatalf("document %s differs from the single one: %v", d.ID, err)
				}
			}
			if next != len(ask) {
				t.Fatalf("%d of %d are answered", next, len(ask))
			}
			return nil
		})
	})
}

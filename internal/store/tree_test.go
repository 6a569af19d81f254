package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/radix"
)

// wantTree compares the tree of every collection with one made afresh from the heads
// of its documents.
func wantTree(t tester, n *node) {
	t.Helper()
	for _, c := range n.Schema().Collections() {
		var want []radix.Element
		alive := uint64(0)
		n.view(func(tx *Tx) error {
			for d, err := range tx.Scan(c, Range{Deleted: true}) {
				if err != nil {
					return err
				}
				heads, err := tx.Heads(c.ID, d.ID)
				if err != nil {
					return err
				}
				h := sha256.New()
				h.Write(d.ID[:])
				for _, head := range heads {
					h.Write(head[:])
				}
				want = append(want, radix.Element{Key: d.ID, Sum: [32]byte(h.Sum(nil))})
				if !d.Deleted() {
					alive++
				}
			}
			return nil
		})
		fresh := radix.New()
		err := fresh.Refresh(func(lo, hi [32]byte) iter.Seq2[radix.Element, error] {
			return func(yield func(radix.Element, error) bool) {
				for _, e := range want {
					if dag.DocID(e.Key).Compare(lo) >= 0 && dag.DocID(e.Key).Compare(hi) <= 0 && !yield(e, nil) {
						return
					}
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		count, root := fresh.Root()
		sum, err := n.Summary(c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if sum.Documents != count || sum.Root != root || sum.Alive != alive || sum.Name != c.Name || sum.Seq != n.Seq() {
			t.Fatalf("summary of %s is %+v, want %d documents, %d alive, root %x", c.Name, sum, count, alive, root)
		}
		wantNodes(t, n, c.ID, fresh, radix.Prefix{})
		var got []radix.Element
		for e, err := range n.Elements(c.ID, radix.Prefix{}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("elements of %s are %d, want %d", c.Name, len(got), len(want))
		}
	}
}

// wantNodes compares the nodes below a prefix.
func wantNodes(t tester, n *node, id dag.CollectionID, fresh *radix.Tree, p radix.Prefix) {
	t.Helper()
	want, ok := fresh.Node(p)
	got, there, err := n.Node(id, p)
	if err != nil || there != ok || got != want {
		t.Fatalf("node %s is %+v, %v, %v, want %+v, %v", p, got, there, err, want, ok)
	}
	if !ok || want.Leaf {
		return
	}
	for i := range want.Children {
		wantNodes(t, n, id, fresh, p.Child(i))
	}
}

// Whatever is written, merged or deleted, in whatever order somebody asks for the
// tree in between, it is the tree of the documents.
func TestTreeFollowsTheDocuments(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n, other := newNode(t, "ada"), newNode(t, "bob")
		var ids []dag.DocID
		for i := range rapid.IntRange(1, 8).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0: // enough for a tree with branches
				count := rapid.SampledFrom([]int{1, 40}).Draw(t, "documents")
				n.update(func(tx *Tx) error {
					for k := range count {
						d, err := createIn(tx, "Page", "title", fmt.Sprint(i, " ", k))
						if err != nil {
							return err
						}
						ids = append(ids, d.ID)
					}
					return nil
				})
			case 1:
				if len(ids) > 0 {
					id := rapid.SampledFrom(ids).Draw(t, "document")
					if !n.get("Page", id).Deleted() {
						n.set("Page", id, "hits", 1)
					}
				}
			case 2:
				if len(ids) > 0 {
					id := rapid.SampledFrom(ids).Draw(t, "document")
					_ = n.Update(context.Background(), As(n.key), func(tx *Tx) error { _, err := tx.Delete(n.coll("Page"), id); return err })
				}
			case 3:
				other.create("Page", "title", fmt.Sprint("of bob ", i))
				n.merge("Page", other.everything("Page"))
			case 4:
				n.reopen()
			default:
				wantTree(t, n)
			}
		}
		wantTree(t, n)
	})
}

// A tree that nobody asked for while very much changed is made anew.
func TestTreeAfterManyChanges(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	branches := map[byte]dag.DocID{} // a document in each branch of the tree
	n.update(func(tx *Tx) error {
		for i := range 3 * radix.LeafMax {
			d, err := createIn(tx, "Page", "title", fmt.Sprint(i))
			if err != nil {
				return err
			}
			branches[d.ID[0]>>4] = d.ID
		}
		return nil
	})
	wantTree(t, n)
	n.mu.Lock()
	number, _ := n.Schema().short(n.coll("Page").ID)
	for range maxTouched {
		n.touch(number, branches[1]) // as so many updates would
	}
	n.mu.Unlock()
	n.set("Page", branches[2], "hits", 1)
	wantTree(t, n)
}

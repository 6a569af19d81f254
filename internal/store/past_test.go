package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// A document as of a commit, or as of an instant, is the one that a node has that
// got no more than that.
func TestPastIsWhatANodeHadThen(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := newNode(t, "ada")
		all := graph(t, n)
		n.merge("Page", envelopes(all...))
		chosen := rapid.SampledFrom(all).Draw(t, "commit")
		before := n.heads("Page", chosen.Doc)

		then := newNode(t, "then")
		then.merge("Page", n.pack("Page", Want{Doc: chosen.Doc, Want: []dag.CID{chosen.CID}}))
		n.view(func(tx *Tx) error {
			d, err := tx.At(context.Background(), n.coll("Page"), chosen.CID)
			if err != nil {
				return err
			}
			if want := then.get("Page", chosen.Doc); !bytes.Equal(d.State.Bytes(), want.State.Bytes()) {
				t.Errorf("as of %s: got %x, want %x", chosen.CID, d.State.Bytes(), want.State.Bytes())
			}
			return nil
		})

		instant := newNode(t, "instant")
		for _, c := range all {
			if c.HLC <= chosen.HLC {
				instant.merge("Page", envelopes(c))
			}
		}
		n.view(func(tx *Tx) error {
			for _, c := range all {
				d, err := tx.AsOf(context.Background(), n.coll("Page"), c.Doc, chosen.HLC)
				if errors.Is(err, fault.NotFound) {
					if hs := instant.heads("Page", c.Doc); len(hs) > 0 {
						t.Errorf("%s as of %d: got none, want heads %s", c.Doc, chosen.HLC, hs)
					}
					continue
				}
				if err != nil {
					return err
				}
				if want := instant.get("Page", c.Doc); !bytes.Equal(d.State.Bytes(), want.State.Bytes()) {
					t.Errorf("%s as of %d: got %x, want %x", c.Doc, chosen.HLC, d.State.Bytes(), want.State.Bytes())
				}
			}
			return nil
		})
		if after := n.heads("Page", chosen.Doc); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("heads after looking back: got %s, want %s", after, before)
		}
	})
}

// Whoever looks back within a transaction sees its own commits too.
func TestPastWithinATransaction(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	id := n.create("Page", "title", "first", "hits", 1)
	title, _ := n.coll("Page").Field("title")
	n.update(func(tx *Tx) error {
		for i := range 3 {
			if _, err := updateIn(tx, "Page", id, "title", fmt.Sprint("own ", i)); err != nil {
				return err
			}
		}
		var cids []dag.CID
		for a, err := range tx.History(n.coll("Page"), id) {
			if err != nil {
				return err
			}
			cids = append(cids, a.CID)
		}
		for i, want := range []string{"first", "own 0", "own 1", "own 2"} {
			d, err := tx.At(context.Background(), n.coll("Page"), cids[i])
			if err != nil {
				return err
			}
			if got := d.Value(title).Text(); got != want {
				t.Errorf("commit %d: got %q, want %q", i, got, want)
			}
		}
		return nil
	})
}

func TestLookBackEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	id := n.create("Page", "title", "a")
	first := n.heads("Page", id)[0]
	n.set("Page", id, "title", "b")
	gone := errors.New("the caller has gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(gone)
	n.view(func(tx *Tx) error {
		if _, err := tx.At(ctx, n.coll("Page"), first); !errors.Is(err, gone) {
			t.Errorf("at: got %v", err)
		}
		if _, err := tx.AsOf(ctx, n.coll("Page"), id, dag.HLCUpTo(testStart)); !errors.Is(err, gone) {
			t.Errorf("as of: got %v", err)
		}
		return nil
	})
}

func TestPastOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	id := n.create("Page", "title", "first")
	cid := n.heads("Page", id)[0]
	n.view(func(tx *Tx) error {
		if _, err := tx.At(context.Background(), n.coll("City"), cid); !errors.Is(err, fault.Invalid) {
			t.Errorf("commit of another collection: got %v, want invalid", err)
		}
		if _, err := tx.At(context.Background(), n.coll("Page"), dag.CID{1}); !errors.Is(err, fault.NotFound) {
			t.Errorf("unknown commit: got %v, want not found", err)
		}
		if _, err := tx.AsOf(context.Background(), n.coll("Page"), id, 1); !errors.Is(err, fault.NotFound) {
			t.Errorf("before the document: got %v, want not found", err)
		}
		return nil
	})
}

// A look at the middle of a long history: what it costs per commit.
func BenchmarkPast(b *testing.B) {
	for _, length := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(length), func(b *testing.B) {
			n := benchNode(b, nil)
			id := n.fillUsers(b, 1)[0]
			for i := 0; i < length; i += 1000 {
				n.update(func(tx *Tx) error {
					for k := i; k < min(i+1000, length); k++ {
						if _, err := updateIn(tx, "User", id, "name", fmt.Sprint(k), "age", k%90); err != nil {
							return err
						}
					}
					return nil
				})
			}
			var mid dag.CID
			var hlc uint64
			n.view(func(tx *Tx) error {
				i := 0
				for a, err := range tx.History(n.coll("User"), id) {
					if err != nil {
						return err
					}
					if i++; i == length/2 {
						mid, hlc = a.CID, a.HLC
					}
				}
				return nil
			})
			b.Run("at", func(b *testing.B) {
				for b.Loop() {
					n.view(func(tx *Tx) error { _, err := tx.At(context.Background(), n.coll("User"), mid); return err })
				}
			})
			b.Run("asOf", func(b *testing.B) {
				for b.Loop() {
					n.view(func(tx *Tx) error { _, err := tx.AsOf(context.Background(), n.coll("User"), id, hlc); return err })
				}
			})
		})
	}
}

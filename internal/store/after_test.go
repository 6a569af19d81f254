package store

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/fault"
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

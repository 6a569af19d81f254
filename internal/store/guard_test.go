package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
)

// A guard remembers how it decided, and knows at a glance what the caller owns. Whoever
// passes over documents that are shared in all ways there are must come to the same as
// who asks after each alone.
func TestAGuardDecidesAsIfItRememberedNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t, "library")
	addNotes(n)
	people := []string{"ann", "bo", "cy"}
	var ids []dag.DocID
	for range 2 {
		for _, owner := range people[:2] {
			for shown := range 1 << len(people) {
				for _, next := range []string{"", "ann", "bo", "cy"} {
					id := n.owned(owner, "Memo", "text", "shared")
					var ops []acp.Op
					for i, who := range people {
						if shown>>i&1 != 0 {
							ops = append(ops, acp.Op{Kind: acp.Grant, Relation: "reader", Subject: keyText(who)})
						}
					}
					if next != "" {
						ops = append(ops, acp.Op{Kind: acp.Transfer, Subject: keyText(next)})
					}
					if ids = append(ids, id); len(ops) == 0 {
						continue
					}
					err := n.Update(context.Background(), someone(owner), func(tx *Tx) error {
						_, err := tx.WriteAccess(n.coll("Memo"), id, ops...)
						return err
					})
					if err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	for _, callers := range [][]string{{}, {"ann"}, {"bo"}, {"cy"}, {"dan"}, {"ann", "bo"}, {"dan", "cy"}} {
		var who Caller
		for _, name := range callers {
			who.Reads = append(who.Reads, someone(name).Key.Public())
		}
		err := n.View(context.Background(), who, func(tx *Tx) error {
			seen := map[dag.DocID]bool{}
			for d, err := range tx.Scan(n.coll("Memo"), Range{}) {
				if err != nil {
					return err
				}
				seen[d.ID] = true
			}
			for _, id := range ids {
				may, err := tx.Readable(n.coll("Memo"), id, who.Keys()...)
				if err != nil {
					return err
				}
				if seen[id] != may {
					t.Errorf("%v: document %s is shown: %v, may be read: %v", callers, id, seen[id], may)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Who goes along an index hears of what is passed over because he may not read it, and
// may stop there and go on later. What he is shown is the same, however many he wants
// and wherever he pauses, and the documents of what he is shown are as they are.
func TestPausesOfAnIndex(t *testing.T) {
	t.Parallel()
	n := newNode(t, "library")
	addNotes(n)
	const all, every = 1500, 97
	n.fillMemos(t, all, every)
	c := n.coll("Memo")
	ix := &c.Indexes[0]
	walk := func(tx *Tx, r IndexRange) (shown []dag.DocID, hidden int) {
		for e, err := range tx.Index(c, ix, r, false) {
			if err != nil {
				t.Fatal(err)
			}
			if e.IsPause() {
				hidden += e.Hidden
				continue
			}
			shown = append(shown, e.Doc)
		}
		return shown, hidden
	}
	few := func(tx *Tx) {
		want, none := walk(tx, IndexRange{})
		if len(want) != (all+every-1)/every || none != 0 {
			t.Fatalf("bo is shown %d memos and told of %d others, want %d and none", len(want), none, (all+every-1)/every)
		}
		for _, wanted := range []int{0, 1, 10, 100, 10_000} {
			got, hidden := walk(tx, IndexRange{Wanted: wanted, Pauses: true})
			if !slices.Equal(got, want) || hidden != all-len(want) {
				t.Errorf("who wants %d is shown %d memos and passes over %d, want %d and %d", wanted, len(got), hidden, len(want), all-len(want))
			}
		}
		var got []dag.DocID
		for r := (IndexRange{Pauses: true}); ; {
			paused := false
			for e, err := range tx.Index(c, ix, r, false) {
				if err != nil {
					t.Fatal(err)
				}
				if paused = e.IsPause(); paused {
					r.Lo = e.Key
					break
				}
				got = append(got, e.Doc)
			}
			if !paused {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("who stops at each pause is shown %d memos, want %d", len(got), len(want))
		}
		i := 0
		for d, err := range tx.GetMany(c, want) {
			fresh, ferr := tx.Get(c, d.ID)
			if err != nil || ferr != nil || d.ID != want[i] || !bytes.Equal(d.State.Bytes(), fresh.State.Bytes()) {
				t.Fatalf("memo %d is %s, %v; want %s as it is, %v", i, d.ID, err, want[i], ferr)
			}
			i++
		}
		if i != len(want) {
			t.Errorf("%d memos are there, want %d", i, len(want))
		}
	}
	n.as(someone("bo"), few)
	if err := n.View(context.Background(), someone("bo"), func(tx *Tx) error { few(tx); return nil }); err != nil {
		t.Fatal(err)
	}
	n.as(someone("dan"), func(tx *Tx) {
		if shown, hidden := walk(tx, IndexRange{Pauses: true}); len(shown) != 0 || hidden != all {
			t.Errorf("a stranger is shown %d memos and passes over %d, want none and %d", len(shown), hidden, all)
		}
	})
	n.as(System, func(tx *Tx) {
		if shown, hidden := walk(tx, IndexRange{Pauses: true, Wanted: 5}); len(shown) != all || hidden != 0 {
			t.Errorf("the database sees %d memos and passes over %d, want %d and none", len(shown), hidden, all)
		}
	})
}

// fillMemos makes memos of ann, of which bo reads a few.
func (n *node) fillMemos(t *testing.T, all, every int) {
	t.Helper()
	err := n.Update(context.Background(), someone("ann"), func(tx *Tx) error {
		for i := range all {
			d, err := createIn(tx, "Memo", "text", fmt.Sprint("memo ", i))
			if err == nil && i%every == 0 {
				_, err = tx.WriteAccess(d.Collection, d.ID, acp.Op{Kind: acp.Grant, Relation: "reader", Subject: keyText("bo")})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

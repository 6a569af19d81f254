package store

import (
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/dag"
)

// A pack is the ancestors of what is wanted less those of what the asker has, by
// height and then CID.
func TestPackIsTheDifference(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := newNode(t, "ada")
		all := graph(t, n)
		n.merge("Page", envelopes(all...))
		byID := map[dag.CID]*dag.Commit{}
		for _, c := range all {
			byID[c.CID] = c
		}
		doc := rapid.SampledFrom(all).Draw(t, "document").Doc
		var ours []*dag.Commit
		for _, c := range byID {
			if c.Doc == doc {
				ours = append(ours, c)
			}
		}
		slices.SortFunc(ours, func(a, b *dag.Commit) int {
			if a.Height != b.Height {
				return int(a.Height) - int(b.Height)
			}
			return a.CID.Compare(b.CID)
		})
		w := Want{Doc: doc}
		draw := func(what string) (ids []dag.CID) {
			for _, c := range rapid.SliceOfN(rapid.SampledFrom(all), 0, 3).Draw(t, what) {
				ids = append(ids, c.CID) // also of other documents, which count for nothing
			}
			if rapid.IntRange(0, 4).Draw(t, "unknown") == 0 {
				ids = append(ids, dag.CID{1})
			}
			return ids
		}
		w.Want, w.Have = draw("want"), draw("have")
		for _, id := range draw("locator") {
			w.Locator = append(w.Locator, binary.BigEndian.Uint64(id[:]))
		}
		mark := func(from []dag.CID) map[dag.CID]bool {
			set := map[dag.CID]bool{}
			var walk func(id dag.CID)
			walk = func(id dag.CID) {
				if c := byID[id]; c != nil && c.Doc == doc && !set[id] {
					set[id] = true
					for _, p := range c.Parents {
						walk(p)
					}
				}
			}
			for _, id := range from {
				walk(id)
			}
			return set
		}
		wanted := mark(w.Want)
		if len(w.Want) == 0 {
			for _, c := range ours {
				wanted[c.CID] = true
			}
		}
		has := mark(w.Have)
		for _, id := range w.Locator {
			for _, c := range ours {
				if binary.BigEndian.Uint64(c.CID[:]) == id {
					for a := range mark([]dag.CID{c.CID}) {
						has[a] = true
					}
				}
			}
		}
		var got, want []dag.CID
		for _, c := range ours {
			if wanted[c.CID] && !has[c.CID] {
				want = append(want, c.CID)
			}
		}
		for _, e := range n.pack("Page", w) {
			c, err := dag.Open(e)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, c.CID)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("pack has %v, want %v", got, want)
		}
	})
}

// What is read in pieces is what is read at once, wherever it is cut and gone on
// with, and whatever part of the history is asked for.
func TestPiecesMakeAPack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := newNode(t, "ada")
		all := graph(t, n)
		n.merge("Page", envelopes(all...))
		w := Want{Doc: rapid.SampledFrom(all).Draw(t, "document").Doc}
		draw := func(what string) (ids []dag.CID) {
			for _, c := range rapid.SliceOfN(rapid.SampledFrom(all), 0, 3).Draw(t, what) {
				ids = append(ids, c.CID)
			}
			return ids
		}
		w.Want, w.Have = draw("want"), draw("have")
		id := n.coll("Page").ID
		var whole []Block
		n.view(func(tx *Tx) error {
			for b, err := range tx.Pack(id, w) {
				if err != nil {
					return err
				}
				whole = append(whole, b)
			}
			return nil
		})
		part := w
		part.After.Height, part.Below = rapid.Uint64Range(0, 12).Draw(t, "after"), rapid.Uint64Range(0, 12).Draw(t, "below")
		part.After.CID[0] = rapid.Byte().Draw(t, "after its")
		var got, want []dag.CID
		for _, b := range whole {
			if (Point{b.Height, b.CID}).Compare(part.After) > 0 && (part.Below == 0 || b.Height < part.Below) {
				want = append(want, b.CID)
			}
		}
		most, size := rapid.IntRange(1, 5).Draw(t, "listed"), rapid.IntRange(1, 4).Draw(t, "piece")
		n.view(func(tx *Tx) error {
			for more := true; more; {
				l, err := tx.lacking(id, part, most)
				if err != nil {
					return err
				}
				for again := true; again; { // each piece as if in a transaction of its own
					left := size
					again = false
					for b, err := range tx.PackOf(l, part.After) {
						if err != nil {
							return err
						}
						if left--; left < 0 {
							again = true
							break
						}
						got = append(got, b.CID)
						part.After = Point{b.Height, b.CID}
					}
				}
				more = l.Cut
			}
			return nil
		})
		if !slices.Equal(got, want) {
			t.Fatalf("pieces have %v, want %v", got, want)
		}
	})
}

// A locator names commits at distance 1, 2, 4 … below the top, so that somebody who
// has an old part of a long history sends back little more than what is new.
func TestLocatorFindsWhatIsShared(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, "ada"), newNode(t, "bob")
	id := a.create("Page", "title", "a", "hits", 0)
	for range 63 {
		a.set("Page", id, "hits", 1)
	}
	b.merge("Page", a.everything("Page"))
	for range 10 { // now they go apart
		a.set("Page", id, "hits", 1)
	}
	for range 5 {
		b.set("Page", id, "hits", 1)
	}
	var locator []uint64
	b.view(func(tx *Tx) (err error) {
		locator, err = tx.Locator(b.coll("Page").ID, id)
		return err
	})
	history := map[uint64]uint64{} // height by id
	b.view(func(tx *Tx) error {
		for c, err := range tx.History(b.coll("Page"), id) {
			if err != nil {
				return err
			}
			history[binary.BigEndian.Uint64(c.CID[:])] = c.Height
		}
		return nil
	})
	var heights []uint64
	for _, l := range locator {
		heights = append(heights, history[l])
	}
	if want := []uint64{68, 67, 65, 61, 53, 37, 5}; !slices.Equal(heights, want) {
		t.Errorf("the locator of a history of 69 names heights %v, want %v", heights, want)
	}
	// b's head is unknown to a, the locator is not: a sends what is new, and little of
	// what is old.
	pack := a.pack("Page", Want{Doc: id, Have: b.heads("Page", id), Locator: locator})
	if len(pack) != 10+3 { // from height 61, the highest that both have
		t.Errorf("the pack has %d commits, want 13", len(pack))
	}
	m := b.merge("Page", pack)
	if m.Applied != 10 || m.Known != 3 || len(m.Missing) != 0 {
		t.Errorf("merge gives %+v", m)
	}
	if got := b.field("Page", id, "hits"); got != "78" {
		t.Errorf("hits is %s, want 78", got)
	}
}

func TestFullCopyResumes(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	aHistory(t, n)
	all := n.everything("Page")
	var docs []dag.DocID
	for _, e := range all {
		c, err := dag.Open(e)
		if err != nil {
			t.Fatal(err)
		}
		if len(docs) == 0 || docs[len(docs)-1] != c.Doc {
			docs = append(docs, c.Doc)
		}
	}
	if !slices.IsSortedFunc(docs, dag.DocID.Compare) {
		t.Error("documents do not come in the order of their IDs")
	}
	for i, after := range docs {
		rest := 0
		n.view(func(tx *Tx) error {
			for b, err := range tx.Full(n.coll("Page").ID, after) {
				if err != nil {
					return err
				}
				if b.Doc.Compare(after) <= 0 {
					t.Errorf("a full copy after %s yields a commit of %s", after, b.Doc)
				}
				rest++
			}
			return nil
		})
		if i == len(docs)-1 && rest != 0 || i < len(docs)-1 && rest == 0 {
			t.Errorf("after document %d of %d there are %d commits", i+1, len(docs), rest)
		}
	}
	other := newNode(t, "bob")
	if m := other.merge("Page", all); m.Applied != len(all) {
		t.Errorf("a full copy merges as %+v, want all %d commits", m, len(all))
	}
	wantEqual(t, n, other, "Page")
}

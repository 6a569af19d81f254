package crdt_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/value"
)

// Commits that are folded one after the other make what they make one by one, with
// what is attached, whenever somebody looks.
func TestFoldingIsFoldingOneByOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		history := shuffled(t, genHistory(t))
		known := rapid.IntRange(0, len(history)).Draw(t, "known")
		r := replica{}
		for _, c := range history[:known] {
			if err := r.take(c); err != nil {
				t.Fatal(err)
			}
		}
		f, err := r.doc.Folding()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range history[known:] {
			if err := f.Fold(c, func(id [32]byte) bool { return r.seen[id] }); err != nil {
				t.Fatal(err)
			}
			if err := r.take(c); err != nil {
				t.Fatal(err)
			}
			if access := []byte(rapid.SampledFrom([]string{"", "a", "access"}).Draw(t, "access")); rapid.Bool().Draw(t, "attach") {
				f.Attach(crdt.FieldAccess, crdt.KindAccess, access)
				r.doc = r.doc.Attach(crdt.FieldAccess, crdt.KindAccess, access)
			}
			wantFolded(t, f, r.doc, history)
			if rapid.Bool().Draw(t, "look") {
				wantMade(t, f, r.doc)
			}
		}
		wantMade(t, f, r.doc)
	})
}

func wantMade(t rapid.TB, f *crdt.Folding, want crdt.Document) {
	t.Helper()
	got, err := f.Document()
	if err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Fatalf("got document %x, %v, want %x", got.Bytes(), err, want.Bytes())
	}
}

// wantFolded compares what a Folding says before it is put together.
func wantFolded(t rapid.TB, f *crdt.Folding, want crdt.Document, history []crdt.Change) {
	t.Helper()
	heads := want.Heads()
	if f.Heads() != len(heads) || f.Empty() != (len(heads) == 0) || f.Deleted() != want.Deleted() {
		t.Fatalf("got %d heads, empty %v, deleted %v, want %d heads, deleted %v", f.Heads(), f.Empty(), f.Deleted(), len(heads), want.Deleted())
	}
	if got, want := f.Attached(crdt.FieldAccess, crdt.KindAccess), want.Attached(crdt.FieldAccess, crdt.KindAccess); !bytes.Equal(got, want) {
		t.Fatalf("got %q attached, want %q", got, want)
	}
	for _, c := range history {
		i := slices.IndexFunc(heads, func(h crdt.Head) bool { return h.Commit == c.Commit })
		if got, ok := f.Head(c.Commit); ok != (i >= 0) || ok && got != heads[i] {
			t.Fatalf("got head %v, %v, want it among %v", got, ok, heads)
		}
	}
}

// A history is folded without what it has left behind: a document of one head stays
// small, and each commit is refused the second time.
func TestFoldingForgetsWhatTheDocumentDoesNotName(t *testing.T) {
	t.Parallel()
	var d crdt.Document
	f, err := d.Folding()
	if err != nil {
		t.Fatal(err)
	}
	var last [][32]byte
	for i := range 5000 {
		c := crdt.Change{Commit: id(fmt.Sprint(i)), Parents: last, Height: uint64(i + 1), HLC: uint64(i + 1), Deltas: []crdt.Delta{
			set(20, lwwInt, value.OfInt(int64(i))), add(21, 1), set(22, mvrInt, value.OfInt(int64(i)), d.Tags(22, mvrInt)...),
		}}
		if err := f.Fold(c, never); err != nil {
			t.Fatal(err)
		}
		if f.Fold(c, never) == nil {
			t.Fatal("a commit was folded twice")
		}
		last = [][32]byte{c.Commit}
		if i%1000 == 0 {
			if d, err = f.Document(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if d, err = f.Document(); err != nil || len(d.Heads()) != 1 || d.Check() != nil {
		t.Fatalf("%d heads, %v, %v", len(d.Heads()), err, d.Check())
	}
	if v, _ := d.Value(21, countInt); v.Int() != 5000 {
		t.Fatalf("5000 increments count as %v", v)
	}
}

// Many wrote beside each other. One at a time it costs what the document holds, all at
// once what they wrote.
func BenchmarkFoldBeside(b *testing.B) {
	for _, n := range []int{1000, 4000, 16000} {
		var cs []crdt.Change
		for i := range n {
			cs = append(cs, crdt.Change{Commit: id(fmt.Sprint(i)), Parents: ids("root"), Height: 2, HLC: 2, Deltas: []crdt.Delta{
				set(20, lwwInt, value.OfInt(int64(i))), set(22, mvrInt, value.OfInt(int64(i))),
			}})
		}
		fold := func(cs []crdt.Change) crdt.Document {
			f, err := crdt.Document{}.Folding()
			for _, c := range cs {
				if err == nil {
					err = f.Fold(c, never)
				}
			}
			if err != nil {
				b.Fatal(err)
			}
			d, err := f.Document()
			if err != nil {
				b.Fatal(err)
			}
			return d
		}
		b.Run(fmt.Sprintf("all=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fold(cs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/commit")
		})
		d := fold(cs[1:])
		b.Run(fmt.Sprintf("one beside %d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Fold(cs[0], never); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

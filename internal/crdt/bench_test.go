package crdt_test

import (
	"fmt"
	"testing"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/value"
)

// row is a document of ten registers: the commit that made it.
func row() crdt.Change {
	c := crdt.Change{Commit: id("row"), Height: 1, HLC: 1 << 60}
	for i := range 5 {
		f := crdt.FirstField + crdt.FieldID(2*i)
		c.Deltas = append(c.Deltas, set(f, lwwInt, value.OfInt(int64(1000+i))), set(f+1, lwwString, value.OfString("some words of text")))
	}
	return c
}

func never([32]byte) bool { return false }

func rowDocument(b testing.TB) crdt.Document {
	doc, err := crdt.Document{}.Fold(row(), never)
	if err != nil {
		b.Fatal(err)
	}
	return doc
}

func TestReadingARowAllocatesNothing(t *testing.T) {
	raw := rowDocument(t).Bytes()
	allocs := testing.AllocsPerRun(100, func() {
		doc, err := crdt.Open(raw)
		if err != nil || doc.Deleted() {
			t.Fatal("row is damaged or deleted")
		}
		for f := crdt.FirstField; f < crdt.FirstField+10; f += 2 {
			_, isInt := doc.Value(f, lwwInt)
			if _, isString := doc.Value(f+1, lwwString); !isInt || !isString {
				t.Fatal("a field is missing")
			}
		}
	})
	if allocs != 0 {
		t.Fatalf("got %v allocations, want none", allocs)
	}
}

func BenchmarkOpen(b *testing.B) {
	raw := rowDocument(b).Bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := crdt.Open(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValue(b *testing.B) {
	doc := rowDocument(b)
	for _, at := range []struct {
		name  string
		field crdt.FieldID
		kind  crdt.Kind
	}{{"first", 16, lwwInt}, {"middle", 21, lwwString}, {"last", 25, lwwString}, {"status", crdt.FieldStatus, crdt.KindStatus}} {
		b.Run(at.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				doc.Value(at.field, at.kind)
			}
		})
	}
}

func BenchmarkValueCounter(b *testing.B) {
	doc := sample(b)
	for name, at := range map[string]cellName{"Int": {18, countInt}, "Float": {19, countFloat}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				doc.Value(at.field, at.kind)
			}
		})
	}
}

// One field of a row of ten is written, after histories of different length.
func BenchmarkFold(b *testing.B) {
	for _, history := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("history=%d", history), func(b *testing.B) {
			doc := rowDocument(b)
			last := id("row")
			change := func(n int) crdt.Change {
				return crdt.Change{
					Commit: id(fmt.Sprint("update", n)), Parents: [][32]byte{last}, Height: uint64(n + 2), HLC: 1<<60 + uint64(n),
					Deltas: []crdt.Delta{set(20, lwwInt, value.OfInt(int64(n))), add(40, 1)},
				}
			}
			for n := range history - 1 {
				c := change(n)
				next, err := doc.Fold(c, never)
				if err != nil {
					b.Fatal(err)
				}
				doc, last = next, c.Commit
			}
			c := change(history)
			c.Deltas = c.Deltas[:1]
			b.ReportAllocs()
			for b.Loop() {
				if _, err := doc.Fold(c, never); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFoldCreate(b *testing.B) {
	c := row()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (crdt.Document{}).Fold(c, never); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadDelta(b *testing.B) {
	raw := crdt.AppendDelta(nil, set(17, lwwString, value.OfString("some words of text")))
	b.ReportAllocs()
	var r cbor.Reader
	for b.Loop() {
		r.Reset(raw)
		if d := crdt.ReadDelta(&r); d.Void || r.Done() != nil {
			b.Fatal("operation is void")
		}
	}
}

func BenchmarkAppendDelta(b *testing.B) {
	d := set(17, lwwString, value.OfString("some words of text"))
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		crdt.AppendDelta(buf[:0], d)
	}
}

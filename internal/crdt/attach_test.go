package crdt_test

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/value"
)

// Operations on access and keys come back as they were written, and change no cell.
func TestOperationsOfReservedKindsAreVoidAndExact(t *testing.T) {
	t.Parallel()
	arg := cbor.AppendText(cbor.AppendUint(cbor.AppendArray(nil, 2), 1), "reader")
	deltas := []crdt.Delta{
		{Field: crdt.FieldAccess, Kind: crdt.KindAccess, Void: true, Raw: arg},
		{Field: crdt.FieldKeys, Kind: crdt.KindKeys, Void: true, Raw: arg},
	}
	for _, d := range deltas {
		if err := crdt.CheckDelta(d); err != nil {
			t.Errorf("%v is refused to who writes it: %v", d.Kind, err)
		}
		raw := crdt.AppendDelta(nil, d)
		r := cbor.NewReader(raw)
		got := crdt.ReadDelta(r)
		if err := r.Done(); err != nil {
			t.Fatal(err)
		}
		if !got.Void || got.Field != d.Field || got.Kind != d.Kind || !bytes.Equal(got.Raw, arg) || !bytes.Equal(crdt.AppendDelta(nil, got), raw) {
			t.Errorf("%v came back as %+v", d.Kind, got)
		}
	}
	doc, err := takeAll([]crdt.Change{{Commit: id("a"), Height: 1, HLC: 1, Deltas: deltas}})
	if err != nil {
		t.Fatal(err)
	}
	for f, k := range doc.Fields() {
		t.Errorf("there is a cell of field %d, %v", f, k)
	}
}

// What is attached is part of the canonical form whenever it was attached, is kept
// by further commits, and is gone without a trace when it is taken away.
func TestWhatIsAttachedIsKept(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		history := genHistory(t)
		plain, err := takeAll(history)
		if err != nil {
			t.Fatal(err)
		}
		if len(history) == 0 {
			return
		}
		access := []byte(strings.Repeat("a", rapid.IntRange(1, 300).Draw(t, "access")))
		keys := []byte("keys")
		at := rapid.IntRange(1, len(history)).Draw(t, "at")
		var r replica
		for i, c := range history {
			if i == at {
				r.doc = r.doc.Attach(crdt.FieldKeys, crdt.KindKeys, keys).Attach(crdt.FieldAccess, crdt.KindAccess, []byte("earlier"))
			}
			if err := r.take(c); err != nil {
				t.Fatal(err)
			}
		}
		late := plain.Attach(crdt.FieldAccess, crdt.KindAccess, access).Attach(crdt.FieldKeys, crdt.KindKeys, keys)
		early := r.doc.Attach(crdt.FieldAccess, crdt.KindAccess, access).Attach(crdt.FieldKeys, crdt.KindKeys, keys)
		if !bytes.Equal(late.Bytes(), early.Bytes()) {
			t.Fatalf("attached at the end: %x, on the way: %x", late.Bytes(), early.Bytes())
		}
		if err := late.Check(); err != nil {
			t.Fatal(err)
		}
		if got := late.Attached(crdt.FieldAccess, crdt.KindAccess); !bytes.Equal(got, access) {
			t.Fatalf("attached %q, read %q", access, got)
		}
		if a, k := late.Attachments(); !bytes.Equal(a, access) || !bytes.Equal(k, keys) {
			t.Fatalf("attached %q and %q, read %q and %q at once", access, keys, a, k)
		}
		if a, k := plain.Attachments(); a != nil || k != nil {
			t.Fatalf("nothing was attached, read %q and %q", a, k)
		}
		if late.Deleted() != plain.Deleted() {
			t.Fatal("what is attached changes the status")
		}
		bare := late.Attach(crdt.FieldAccess, crdt.KindAccess, nil).Attach(crdt.FieldKeys, crdt.KindKeys, nil)
		if !bytes.Equal(bare.Bytes(), plain.Bytes()) {
			t.Fatalf("taken away: %x, never there: %x", bare.Bytes(), plain.Bytes())
		}
	})
}

func TestOnlyReservedKindsAreAttached(t *testing.T) {
	t.Parallel()
	doc := sample(t)
	if got := doc.Attach(16, lwwInt, []byte{1}); !bytes.Equal(got.Bytes(), doc.Bytes()) {
		t.Error("an attachment took the place of a register")
	}
	if got := doc.Attached(16, lwwInt); got != nil {
		t.Errorf("a register reads as an attachment: %x", got)
	}
	if v, _ := doc.Attach(crdt.FieldAccess, crdt.KindAccess, []byte("state")).Value(16, lwwInt); !value.Equal(v, value.OfInt(7)) {
		t.Errorf("beside an attachment field 16 is %v, want 7", v)
	}
}

func BenchmarkAttached(b *testing.B) {
	doc := rowDocument(b).Attach(crdt.FieldAccess, crdt.KindAccess, make([]byte, 120))
	b.ReportAllocs()
	for b.Loop() {
		if doc.Attached(crdt.FieldAccess, crdt.KindAccess) == nil {
			b.Fatal("nothing is attached")
		}
	}
}

package crdt_test

import (
	"bytes"
	"testing"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/value"
)

// sample is a document with a cell of every kind, conflicts and a tombstone.
func sample(t testing.TB) crdt.Document {
	doc, err := takeAll([]crdt.Change{
		{Commit: id("a"), Height: 1, HLC: 1 << 50, Deltas: []crdt.Delta{
			set(crdt.FieldStatus, crdt.KindStatus, value.OfBool(true)),
			set(16, lwwInt, value.OfInt(7)), set(17, lwwString, value.OfString("seven")),
			add(18, 300), {Field: 19, Kind: countFloat, Val: value.OfString("-0.125")},
			{Field: 19, Kind: count32, Val: value.OfString("3.5")},
			set(20, mvrString, value.OfString("one")),
		}},
		{Commit: id("b"), Height: 1, HLC: 1 << 51, Deltas: []crdt.Delta{
			set(20, mvrString, value.OfString("two"), crdt.Tag{Commit: id("c"), Op: 200}),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// Damaged bytes never panic, in no method of a document that could be opened, and
// what passes Check is canonical.
func FuzzOpen(f *testing.F) {
	raw := sample(f).Attach(crdt.FieldAccess, crdt.KindAccess, []byte("state")).Bytes()
	f.Add(raw)
	for i := range raw {
		f.Add(raw[:i])
		damaged := bytes.Clone(raw)
		damaged[i] ^= 0x81
		f.Add(damaged)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		doc, err := crdt.Open(raw)
		if err != nil {
			return
		}
		readAll(doc)
		intact := doc.Check() == nil
		next, err := doc.Fold(crdt.Change{Commit: id("new"), Parents: ids("a"), Deltas: []crdt.Delta{
			set(16, lwwInt, value.OfInt(8)), add(18, 1),
			set(20, mvrString, value.OfString("three"), crdt.Tag{Commit: id("a"), Op: 6}),
		}}, func([32]byte) bool { return false })
		if err != nil {
			if known := bytes.Contains(raw, commitBytes("new")); intact && !known {
				t.Fatalf("document %x passes its check but cannot be folded: %v", raw, err)
			}
			return
		}
		readAll(next)
		if err := next.Check(); intact && err != nil {
			t.Fatalf("document %x passes its check, but not with one commit more: %v", raw, err)
		}
	})
}

func commitBytes(name string) []byte {
	c := id(name)
	return c[:]
}

func readAll(doc crdt.Document) {
	doc.Attached(crdt.FieldAccess, crdt.KindAccess)
	doc.Attachments()
	doc.Attach(crdt.FieldKeys, crdt.KindKeys, []byte("keys"))
	doc.Heads()
	doc.Deleted()
	for f, k := range doc.Fields() {
		for _, k := range []crdt.Kind{k, lwwInt, countInt, countFloat, mvrInt} {
			doc.Value(f, k)
			doc.Conflicts(f, k)
			doc.Stamp(f, k)
			doc.Tags(f, k)
		}
	}
}

// What can be read is written again as it was.
func FuzzReadDelta(f *testing.F) {
	for _, d := range []crdt.Delta{
		set(16, lwwInt, value.OfInt(7)), set(17, lwwString, value.OfString("seven")), add(18, -300),
		{Field: 19, Kind: countFloat, Val: value.OfString("-0.125")},
		set(20, mvrString, value.OfString("one"), crdt.Tag{Commit: id("a"), Op: 6}, crdt.Tag{Commit: id("b")}),
	} {
		f.Add(crdt.AppendDelta(nil, d))
	}
	for t := value.TypeID; t <= value.TypeRef; t++ {
		for _, arg := range [][]byte{{0xf6}, {0xf5}, {0x18, 0x64}, {0x61, 'a'}, {0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0}, {0x42, 1, 2}, {0xa1, 0x61, 'a', 0x01}} {
			f.Add(operation(crdt.KindOf(crdt.LWW, t), arg))
			f.Add(operation(crdt.KindOf(crdt.LWW, t|value.ListOf), append([]byte{0x81}, arg...)))
		}
	}
	for _, field := range []byte{1, 2, 16} {
		for _, kind := range []crdt.Kind{crdt.KindAccess, crdt.KindKeys} {
			f.Add(append([]byte{0x83, field, 0x19, byte(kind >> 8), byte(kind)}, 0x30))
		}
	}
	f.Add(operation(crdt.KindOf(crdt.LWW, value.TypeDateTime), cbor.AppendText(nil, "2024-02-29T12:00:00.5+01:00")))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := cbor.NewReader(in)
		d := crdt.ReadDelta(r)
		if r.Done() != nil {
			return
		}
		if out := crdt.AppendDelta(nil, d); !bytes.Equal(out, in) {
			t.Fatalf("read %x, wrote %x", in, out)
		}
		attaches := d.Field == crdt.FieldAccess && d.Kind == crdt.KindAccess || d.Field == crdt.FieldKeys && d.Kind == crdt.KindKeys
		if err := crdt.CheckDelta(d); (err == nil) != (attaches || !d.Void) {
			t.Fatalf("%x: void is %v, but the check says %v", in, d.Void, err)
		}
		doc, err := crdt.Document{}.Fold(crdt.Change{Deltas: []crdt.Delta{d}}, func([32]byte) bool { return false })
		if err == nil {
			err = doc.Check()
		}
		if err != nil {
			t.Fatalf("fold of %x: %v", in, err)
		}
	})
}

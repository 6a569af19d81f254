package value

import (
	"testing"
	"time"

	"github.com/pandodb/pando/internal/cbor"
)

// row has the values of a document of ten fields.
func row() []Value {
	at := time.Date(2024, 2, 29, 12, 0, 0, 120_000_000, time.UTC)
	return []Value{OfString("Ada Lovelace"), OfString("a text that is a little longer than most names are"), OfInt(36), OfInt(1 << 40),
		OfFloat(12.75), OfBool(true), {}, OfTime(at), OfRef([32]byte{1}), OfString("")}
}

func BenchmarkDecodeBinaryRow(b *testing.B) {
	var raw []byte
	for _, v := range row() {
		raw = v.AppendBinary(raw)
	}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		for rest := raw; len(rest) > 0; {
			_, next, err := DecodeBinary(rest)
			if err != nil {
				b.Fatal(err)
			}
			rest = next
		}
	}
}

func BenchmarkSkipBinaryRow(b *testing.B) {
	var raw []byte
	for _, v := range row() {
		raw = v.AppendBinary(raw)
	}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		for rest := raw; len(rest) > 0; {
			next, err := SkipBinary(rest)
			if err != nil {
				b.Fatal(err)
			}
			rest = next
		}
	}
}

func BenchmarkCompare(b *testing.B) {
	for _, c := range []struct {
		name string
		a, b Value
	}{
		{"Int", OfInt(1), OfInt(2)},
		{"IntFloat", OfInt(1), OfFloat(1.5)},
		{"String", OfString("Ada Lovelace"), OfString("Ada Byron")},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Compare(c.a, c.b)
			}
		})
	}
}

func BenchmarkAppendRow(b *testing.B) {
	vs := row()
	types := []Type{TypeString, TypeString, TypeInt, TypeInt, TypeFloat64, TypeBoolean, TypeInt, TypeDateTime, TypeRef, TypeString}
	var buf []byte
	for _, c := range []struct {
		name string
		f    func(i int)
	}{
		{"Binary", func(i int) { buf = vs[i].AppendBinary(buf) }},
		{"Key", func(i int) { buf = vs[i].AppendKey(buf) }},
		{"JSON", func(i int) { buf = vs[i].AppendJSON(buf) }},
		{"CBOR", func(i int) { buf = AppendCBOR(buf, types[i], vs[i]) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				buf = buf[:0]
				for i := range vs {
					c.f(i)
				}
			}
		})
	}
	b.Run("FromCBOR", func(b *testing.B) {
		buf = buf[:0]
		for i, v := range vs {
			buf = AppendCBOR(buf, types[i], v)
		}
		b.ReportAllocs()
		var r cbor.Reader
		for b.Loop() {
			r.Reset(buf)
			for _, t := range types {
				if _, fits := FromCBOR(&r, t); !fits {
					b.Fatal(t, r.Err())
				}
			}
		}
	})
}

func BenchmarkParseJSON(b *testing.B) {
	in := []byte(`{"name":"Ada Lovelace","age":36,"points":12.75,"verified":true,"tags":["math","engine"],"born":"1815-12-10T00:00:00Z"}`)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseJSON(in); err != nil {
			b.Fatal(err)
		}
	}
}

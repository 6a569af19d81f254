package value

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
)

func TestStorageKeepsValueAndKind(t *testing.T) {
	check(t, func(t *rapid.T) {
		want, tail := drawAny.Draw(t, "value"), rapid.SliceOf(rapid.Byte()).Draw(t, "tail")
		raw := append(want.AppendBinary(nil), tail...)
		got, rest, err := DecodeBinary(raw)
		if err != nil || !Equal(got, want) || got.Kind() != want.Kind() || !bytes.Equal(rest, tail) {
			t.Fatalf("DecodeBinary(%x): got %v, rest %x, %v, want %v, rest %x", raw, got, rest, err, want, tail)
		}
		if string(got.AppendJSON(nil)) != string(want.AppendJSON(nil)) {
			t.Fatalf("DecodeBinary(%x): shows as %v, want %v", raw, got, want)
		}
		if rest, err := SkipBinary(raw); err != nil || !bytes.Equal(rest, tail) {
			t.Fatalf("SkipBinary(%x): got rest %x, %v, want %x", raw, rest, err, tail)
		}
	})
}

func TestCloneOutlivesTheBuffer(t *testing.T) {
	check(t, func(t *rapid.T) {
		want := drawAny.Draw(t, "value")
		raw := want.AppendBinary(nil)
		v, _, err := DecodeBinary(raw)
		if err != nil {
			t.Fatal(err)
		}
		kept := v.Clone()
		clear(raw)
		if !same(kept, want) {
			t.Fatalf("after the buffer was cleared: got %v, want %v", kept, want)
		}
	})
}

func FuzzDecodeBinary(f *testing.F) {
	for _, v := range examples() {
		f.Add(v.AppendBinary(nil))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, rest, err := DecodeBinary(in)
		if err != nil {
			if fault.Of(err) != fault.Corrupt {
				t.Fatalf("DecodeBinary(%x): got error %v, want fault.Corrupt", in, err)
			}
			return
		}
		if got := append(v.AppendBinary(nil), rest...); !bytes.Equal(got, in) {
			t.Fatalf("DecodeBinary(%x) = %v, which is stored as %x", in, v, got)
		}
		if skipped, err := SkipBinary(in); err != nil || !bytes.Equal(skipped, rest) {
			t.Fatalf("SkipBinary(%x): got rest %x, %v, want %x", in, skipped, err, rest)
		}
	})
}

func TestCommitsKeepValuesOfEveryType(t *testing.T) {
	check(t, func(t *rapid.T) {
		typ, want := drawTyped(t)
		raw := AppendCBOR(nil, typ, want)
		r := cbor.NewReader(raw)
		got, fits := FromCBOR(r, typ)
		if err := r.Done(); err != nil || !fits || !same(got, want) {
			t.Fatalf("%s: FromCBOR(%x): got %v, fits %v, %v, want %v", typ, raw, got, fits, err, want)
		}
		if coerced, err := Coerce(typ, want); err != nil || !same(coerced, want) {
			t.Fatalf("Coerce(%s, %v): got %v, %v, want no change", typ, want, coerced, err)
		}
	})
}

// What fits has one form only, and what does not fit is consumed all the same.
func FuzzFromCBOR(f *testing.F) {
	for _, v := range examples() {
		for t := TypeID; t <= TypeRef; t++ {
			f.Add(uint8(t), AppendCBOR(nil, t, v))
			f.Add(uint8(t|ListOf), AppendCBOR(nil, t|ListOf, OfList([]Value{v})))
		}
	}
	f.Fuzz(func(t *testing.T, typ uint8, in []byte) {
		r, skip := cbor.NewReader(in), cbor.NewReader(in)
		v, fits := FromCBOR(r, Type(typ))
		raw := skip.Skip()
		if (r.Err() == nil) != (skip.Err() == nil) || string(r.Skip()) != string(skip.Skip()) {
			t.Fatalf("FromCBOR(%x) does not consume what Skip does", in)
		}
		if !fits {
			return
		}
		if got := AppendCBOR(nil, Type(typ), v); !bytes.Equal(got, raw) {
			t.Fatalf("%s: FromCBOR(%x) = %v, which is written as %x", Type(typ), raw, v, got)
		}
		if _, err := Coerce(Type(typ), v); err != nil {
			t.Fatalf("%s: FromCBOR(%x) = %v, which is no such value: %v", Type(typ), raw, v, err)
		}
	})
}

func TestWhatDoesNotFitItsType(t *testing.T) {
	t.Parallel()
	text := func(s string) []byte { return cbor.AppendText(nil, s) }
	integer, float := cbor.AppendInt(nil, 1), cbor.AppendFloat(nil, 1.5)
	array := func(items ...[]byte) []byte {
		return append(cbor.AppendArray(nil, len(items)), bytes.Join(items, nil)...)
	}
	null, link := cbor.AppendNull(nil), cbor.AppendLink(nil, append([]byte{1, 0x71, 0x12, 32}, make([]byte, 32)...))
	for _, c := range []struct {
		name string
		t    Type
		in   []byte
	}{
		{"integer as text", TypeString, integer},
		{"text as integer", TypeInt, text("1")},
		{"float as integer", TypeInt, cbor.AppendFloat(nil, 1)},
		{"integer beyond 64 bits with sign", TypeInt, cbor.AppendUint(nil, 1<<63)},
		{"integer as float", TypeFloat64, integer},
		{"double as single", TypeFloat32, cbor.AppendFloat(nil, 0.1)},
		{"beyond the singles", TypeFloat32, cbor.AppendFloat(nil, 1e300)},
		{"boolean as integer", TypeInt, cbor.AppendBool(nil, true)},
		{"integer as boolean", TypeBoolean, integer},
		{"date", TypeDateTime, text("2024-01-01")},
		{"time with trailing zeros", TypeDateTime, text("2024-01-01T00:00:00.10Z")},
		{"time with zero offset", TypeDateTime, text("2024-01-01T00:00:00+00:00")},
		{"bytes as time", TypeDateTime, cbor.AppendBytes(nil, []byte("2024-01-01T00:00:00Z"))},
		{"text as bytes", TypeBlob, text("00")},
		{"short reference", TypeRef, cbor.AppendBytes(nil, make([]byte, 31))},
		{"long reference", TypeRef, cbor.AppendBytes(nil, make([]byte, 33))},
		{"link as reference", TypeRef, link},
		{"bytes in JSON", TypeJSON, cbor.AppendBytes(nil, nil)},
		{"link in JSON", TypeJSON, array(link)},
		{"whole float in JSON", TypeJSON, cbor.AppendFloat(nil, 3)},
		{"integer beyond 64 bits in JSON", TypeJSON, cbor.AppendUint(nil, 1<<63)},
		{"JSON too deep", TypeJSON, append(bytes.Repeat(cbor.AppendArray(nil, 1), MaxNesting+1), null...)},
		{"JSON too deep by an empty list", TypeJSON, append(bytes.Repeat(cbor.AppendArray(nil, 1), MaxNesting), cbor.AppendArray(nil, 0)...)},
		{"JSON too deep by maps", TypeJSON, append(bytes.Repeat(cbor.AppendText(cbor.AppendMap(nil, 1), "a"), MaxNesting+1), null...)},
		{"JSON too deep in a list", TypeJSON | ListOf, append(bytes.Repeat(cbor.AppendArray(nil, 1), MaxNesting+1), integer...)},
		{"scalar as list", TypeInt | ListOf, integer},
		{"list as scalar", TypeInt, array(integer)},
		{"list in list", TypeInt | ListOfNullable, array(array(integer))},
		{"null in list", TypeInt | ListOf, array(integer, null)},
		{"float in list of integers", TypeInt | ListOf, array(integer, float)},
		{"no type", TypeNone, null},
		{"unknown type", 11, null},
		{"two kinds of list", TypeInt | ListOf | ListOfNullable, array(integer)},
		{"unknown kind of list", TypeInt | 0x40, array(integer)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := cbor.NewReader(append(bytes.Clone(c.in), integer...))
			if v, fits := FromCBOR(r, c.t); fits || !v.IsNull() {
				t.Errorf("FromCBOR(%x) as %s: got %v, fits %v, want no fit", c.in, c.t, v, fits)
			}
			if next := r.Int(); next != 1 || r.Done() != nil {
				t.Errorf("FromCBOR(%x) as %s: the item after it is %d, %v, want 1", c.in, c.t, next, r.Err())
			}
		})
	}
	deepest := append(bytes.Repeat(cbor.AppendArray(nil, 1), MaxNesting), integer...)
	if v, fits := FromCBOR(cbor.NewReader(deepest), TypeJSON); !fits || !same(v, nested(MaxNesting, OfInt(1))) {
		t.Errorf("%d levels of JSON: got %v, fits %v", MaxNesting, v, fits)
	}
}

func TestDamagedCBORIsAnError(t *testing.T) {
	t.Parallel()
	r := cbor.NewReader([]byte{0x18, 0x01})
	if _, fits := FromCBOR(r, TypeInt); fits || r.Err() == nil {
		t.Fatalf("an integer in a long form: fits %v, error %v", fits, r.Err())
	}
}

// Scans decode a value per row and field; none of this may cost memory.
func TestScansDoNotAllocate(t *testing.T) {
	for _, v := range examples() {
		if v.Kind() >= List {
			continue
		}
		raw, other := v.AppendBinary(nil), v.AppendBinary(nil)
		n := testing.AllocsPerRun(100, func() {
			a, _, err := DecodeBinary(raw)
			b, _, _ := DecodeBinary(other)
			if _, skipErr := SkipBinary(raw); err != nil || skipErr != nil || Compare(a, b) != 0 || v.Kind() != a.Kind() {
				t.Fatal(a, b, err, skipErr)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations, want none", v.Kind(), n)
		}
	}
}

func TestAccessorsOfOtherKindsAreZero(t *testing.T) {
	t.Parallel()
	for _, v := range examples() {
		k := v.Kind()
		if k != Bool && v.Bool() || k != Int && v.Int() != 0 || !v.IsNumeric() && v.Float() != 0 || k != String && v.Text() != "" ||
			k != Time && !v.Time().IsZero() || k != Bytes && v.Bytes() != nil || k != Ref && v.Ref() != [32]byte{} || k != List && v.List() != nil {
			t.Errorf("%s %v: an accessor of another kind is not zero", k, v)
		}
		if _, ok := v.Get("b"); ok != (k == Map) {
			t.Errorf("%s %v: Get(b) = %v", k, v, ok)
		}
		for key, member := range v.Members() {
			if got, _ := v.Get(key); !same(got, member) {
				t.Errorf("%v: member %s is %v, Get says %v", v, key, member, got)
			}
		}
	}
}

func TestTypesAreSpelledAsInSchemas(t *testing.T) {
	t.Parallel()
	for scalar := TypeID; scalar < TypeRef; scalar++ {
		for _, want := range []Type{scalar, scalar | ListOf, scalar | ListOfNullable} {
			if got, err := ParseType(want.String()); err != nil || got != want || !got.Valid() {
				t.Errorf("ParseType(%s): got %s, %v", want, got, err)
			}
		}
	}
	if got, err := ParseType("[Float!]"); err != nil || got != TypeFloat64|ListOf {
		t.Errorf("ParseType([Float!]): got %s, %v", got, err)
	}
	for _, s := range []string{"", "[]", "[!]", "Int!", "[Int", "Int]", "[[Int]]", "[Int!]!", "int", "reference", "none", "User"} {
		if got, err := ParseType(s); err == nil {
			t.Errorf("ParseType(%s): got %s, want an error", s, got)
		}
	}
	for typ := range math.MaxUint8 {
		if s := Type(typ).String(); Type(typ).Valid() == strings.Contains(s, "unknown") && Type(typ).Scalar() != TypeNone {
			t.Errorf("type %d: valid %v, spelled %s", typ, Type(typ).Valid(), s)
		}
	}
}

package value

import (
	"bytes"
	"math"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestCompareIsATotalOrder(t *testing.T) {
	check(t, func(t *rapid.T) {
		vs := rapid.SliceOfN(drawAny, 3, 3).Draw(t, "values")
		a, b, c := vs[0], vs[1], vs[2]
		if Compare(a, a) != 0 {
			t.Fatalf("%v differs from itself", a)
		}
		if Compare(a, b) != -Compare(b, a) {
			t.Fatalf("Compare(%v, %v) = %d, the other way round %d", a, b, Compare(a, b), Compare(b, a))
		}
		slices.SortFunc(vs, Compare)
		if Compare(vs[0], vs[2]) > 0 {
			t.Fatalf("not transitive: %v, %v, %v", a, b, c)
		}
		if Equal(vs[0], vs[1]) && Compare(vs[0], vs[2]) != Compare(vs[1], vs[2]) {
			t.Fatalf("%v equals %v, yet they compare differently with %v", vs[0], vs[1], vs[2])
		}
	})
}

func TestNumbersCompareExactly(t *testing.T) {
	number := rapid.OneOf(rapid.Map(drawInt, OfInt), rapid.Map(drawFloat, OfFloat),
		rapid.Map(drawFloat.Filter(fitsFloat32), func(f float64) Value { return OfFloat32(float32(f)) }))
	exact := func(v Value) *big.Float {
		if v.Kind() == Int {
			return new(big.Float).SetInt64(v.Int())
		}
		return big.NewFloat(v.Float())
	}
	check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		if got, want := Compare(a, b), exact(a).Cmp(exact(b)); got != want {
			t.Fatalf("Compare(%v %v, %v %v): got %d, want %d", a.Kind(), a, b.Kind(), b, got, want)
		}
	})
}

func TestTheOrderOfKinds(t *testing.T) {
	t.Parallel()
	at := time.Unix(0, 0)
	sorted := []Value{{}, OfBool(false), OfBool(true), OfFloat(-1e300), OfInt(math.MinInt64), OfInt(-1), OfFloat32(-0.5), OfInt(0),
		OfFloat(0.5), OfInt(1), OfFloat(twoTo53), OfInt(twoTo53 + 1), OfFloat(twoTo53 + 2), OfInt(math.MaxInt64), OfFloat(twoTo63),
		OfString(""), OfString("\x00"), OfString("a"), OfString("a\x00"), OfString("aa"), OfString("b"),
		OfTime(at.Add(-1)), OfTime(at), OfBytes(nil), OfBytes([]byte{0}), OfRef([32]byte{}), OfRef([32]byte{1}),
		OfList(nil), OfList([]Value{{}}), OfList([]Value{{}, {}}), OfList([]Value{OfInt(1)}),
		OfMap(nil), OfMap(map[string]Value{"a": {}}), OfMap(map[string]Value{"a": {}, "b": {}}), OfMap(map[string]Value{"a": OfInt(1)}), OfMap(map[string]Value{"b": {}})}
	for i, a := range sorted {
		for j, b := range sorted {
			want := max(-1, min(1, i-j))
			if got := Compare(a, b); got != want {
				t.Errorf("Compare(%v, %v): got %d, want %d", a, b, got, want)
			}
			if got := bytes.Compare(a.AppendKey(nil), b.AppendKey(nil)); got != want {
				t.Errorf("keys of %v and %v: got %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestWhatIsEqualAcrossKinds(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	for _, pair := range [][2]Value{
		{OfInt(1), OfFloat(1)}, {OfInt(1), OfFloat32(1)}, {OfFloat(0), OfFloat(math.Copysign(0, -1))},
		{OfInt(-twoTo53), OfFloat(-twoTo53)}, {OfTime(at), OfTime(at.In(time.FixedZone("", 3600)))},
		{OfFloat(math.NaN()), {}}, {OfFloat(math.Inf(1)), {}}, {OfFloat32(float32(math.Inf(-1))), {}},
	} {
		if !Equal(pair[0], pair[1]) || string(pair[0].AppendKey(nil)) != string(pair[1].AppendKey(nil)) {
			t.Errorf("%v %v and %v %v: got unequal values or keys", pair[0].Kind(), pair[0], pair[1].Kind(), pair[1])
		}
	}
}

// An index on several fields, each ascending or descending, is read in the order
// in which its rows compare.
func TestKeysOfRowsOrderAsTheRowsDo(t *testing.T) {
	check(t, func(t *rapid.T) {
		descending := rapid.SliceOfN(rapid.Bool(), 1, 3).Draw(t, "descending")
		pool := rapid.SliceOfN(drawAny, 2, 4).Draw(t, "pool") // so that rows often agree in a field
		row := rapid.SliceOfN(rapid.SampledFrom(pool), len(descending), len(descending))
		a, b := row.Draw(t, "a"), row.Draw(t, "b")
		want := 0
		var keyA, keyB []byte
		for i, down := range descending {
			c := Compare(a[i], b[i])
			if down {
				c = -c
				keyA, keyB = a[i].AppendKeyDesc(keyA), b[i].AppendKeyDesc(keyB)
			} else {
				keyA, keyB = a[i].AppendKey(keyA), b[i].AppendKey(keyB)
			}
			if want == 0 {
				want = c
			}
		}
		if got := bytes.Compare(keyA, keyB); got != want {
			t.Fatalf("rows %v and %v, descending %v: keys %x and %x compare %d, want %d", a, b, descending, keyA, keyB, got, want)
		}
	})
}

func TestKeysAreDecoded(t *testing.T) {
	check(t, func(t *rapid.T) {
		want, tail := drawAny.Draw(t, "value"), rapid.SliceOf(rapid.Byte()).Draw(t, "tail")
		got, rest, err := DecodeKey(append(want.AppendKey(nil), tail...))
		if err != nil || !Equal(got, want) || !bytes.Equal(rest, tail) {
			t.Fatalf("DecodeKey: got %v, rest %x, %v, want %v, rest %x", got, rest, err, want, tail)
		}
		got, rest, err = DecodeKeyDesc(append(want.AppendKeyDesc(nil), tail...))
		if err != nil || !Equal(got, want) || !bytes.Equal(rest, tail) {
			t.Fatalf("DecodeKeyDesc: got %v, rest %x, %v, want %v, rest %x", got, rest, err, want, tail)
		}
	})
}

func FuzzDecodeKey(f *testing.F) {
	for _, v := range examples() {
		f.Add(v.AppendKey(nil))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, rest, err := DecodeKey(in)
		if err != nil {
			return
		}
		if got := append(v.AppendKey(nil), rest...); !bytes.Equal(got, in) {
			t.Fatalf("DecodeKey(%x) = %v, which has the key %x", in, v, got)
		}
		flipped := slices.Clone(in)
		for i := range flipped {
			flipped[i] = ^flipped[i]
		}
		if down, _, err := DecodeKeyDesc(flipped); err != nil || !same(down, v) {
			t.Fatalf("DecodeKeyDesc(%x): got %v, %v, want %v", flipped, down, err, v)
		}
	})
}

// examples has a value of each kind and each form.
func examples() []Value {
	at := time.Date(2024, 2, 29, 12, 0, 0, 120_000_000, time.FixedZone("", -3600))
	return []Value{{}, OfBool(true), OfInt(5), OfInt(-1), OfInt(math.MaxInt64), OfFloat(1.5), OfFloat(1e300), OfFloat32(0.1),
		OfString("a\x00b"), OfString(string(make([]byte, 200))), OfTime(at), OfBytes([]byte{0, 255}), OfRef([32]byte{1}),
		OfList([]Value{{}, OfInt(1)}), OfMap(map[string]Value{"b": OfInt(1), "aa": OfList(nil)})}
}

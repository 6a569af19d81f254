package value

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The values of these tests crowd around the places where orders and encodings
// break: the ends of the integers, the point from which floats skip integers,
// texts that differ by a zero byte, numbers that are equal but of two kinds.

var (
	corners = []float64{0, 0.5, 1, 2, 63, 64, 127, 128, twoTo53 - 1, twoTo53, twoTo53 + 2, 1 << 62,
		twoTo63, twoTo63 * 2, 1e300, math.MaxFloat64, math.SmallestNonzeroFloat64, math.MaxFloat32, 0.1, 1e21}

	drawInt = rapid.OneOf(rapid.Int64(), rapid.Int64Range(-200, 200), rapid.Custom(func(t *rapid.T) int64 {
		near := rapid.SampledFrom([]int64{math.MinInt64, -twoTo53, 0, twoTo53, 1 << 62, math.MaxInt64 - 1024, math.MaxInt64}).Draw(t, "near")
		return near + rapid.Int64Range(-2048, 2048).Draw(t, "by") // wraps at the ends
	}))

	drawFloat = rapid.OneOf(rapid.Float64(), rapid.Custom(func(t *rapid.T) float64 {
		f := rapid.SampledFrom(corners).Draw(t, "corner")
		for range rapid.IntRange(0, 2).Draw(t, "up") {
			f = math.Nextafter(f, math.Inf(1))
		}
		for range rapid.IntRange(0, 2).Draw(t, "down") {
			f = math.Nextafter(f, math.Inf(-1))
		}
		return f * float64(rapid.SampledFrom([]int{1, -1}).Draw(t, "sign"))
	}), rapid.Map(drawInt, func(i int64) float64 { return float64(i) })).
		Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) })

	drawText = rapid.OneOf(rapid.String(), rapid.StringOfN(rapid.RuneFrom([]rune("\x00\x01aé\uffff")), 0, 4, -1),
		rapid.StringOfN(rapid.Rune(), 120, 135, -1))

	drawTime = rapid.Custom(func(t *rapid.T) Value {
		seconds := rapid.Int64Range(-62167219200+86400, 253402300799-86400).Draw(t, "seconds")
		nanos := rapid.SampledFrom([]int64{0, 1, 120_000_000, maxNanos}).Draw(t, "nanos")
		minutes := rapid.SampledFrom([]int{0, 0, 60, -maxOffsetMin, maxOffsetMin, 330, -1}).Draw(t, "offset")
		return OfTime(time.Unix(seconds, nanos).In(time.FixedZone("", minutes*60)))
	})

	drawScalar = rapid.OneOf(
		rapid.Just(Value{}),
		rapid.Map(rapid.Bool(), OfBool),
		rapid.Map(drawInt, OfInt),
		rapid.Map(drawFloat, OfFloat),
		rapid.Map(drawFloat.Filter(fitsFloat32), func(f float64) Value { return OfFloat32(float32(f)) }),
		rapid.Map(drawText, OfString),
		drawTime,
		rapid.Map(rapid.SliceOf(rapid.Byte()), OfBytes),
		rapid.Custom(func(t *rapid.T) Value { return OfRef(drawRef(t)) }),
	)

	drawJSONScalar = rapid.OneOf(rapid.Just(Value{}), rapid.Map(rapid.Bool(), OfBool), rapid.Map(drawInt, OfInt),
		rapid.Map(drawText, OfString),
		rapid.Map(drawFloat.Filter(func(f float64) bool { _, whole := OfFloat(f).integral(); return !whole }), OfFloat))
)

func fitsFloat32(f float64) bool { return !math.IsInf(float64(float32(f)), 0) }

// drawNested draws scalars, and lists and maps of them.
func drawNested(scalar *rapid.Generator[Value], nesting int) *rapid.Generator[Value] {
	return rapid.Custom(func(t *rapid.T) Value {
		kind := Null
		if nesting > 0 {
			kind = rapid.SampledFrom([]Kind{Null, Null, Null, List, Map}).Draw(t, "compound")
		}
		switch kind {
		case List:
			return OfList(rapid.SliceOfN(drawNested(scalar, nesting-1), 0, 4).Draw(t, "list"))
		case Map:
			return OfMap(rapid.MapOfN(drawText, drawNested(scalar, nesting-1), 0, 4).Draw(t, "map"))
		}
		return scalar.Draw(t, "scalar")
	})
}

var (
	drawAny  = drawNested(drawScalar, 3)
	drawJSON = drawNested(drawJSONScalar, 4)
)

// drawType draws a type together with a generator of its values.
func drawTyped(t *rapid.T) (Type, Value) {
	of := map[Type]*rapid.Generator[Value]{
		TypeID:       rapid.Map(drawText, OfString),
		TypeBoolean:  rapid.Map(rapid.Bool(), OfBool),
		TypeInt:      rapid.Map(drawInt, OfInt),
		TypeFloat64:  rapid.Map(drawFloat, OfFloat),
		TypeFloat32:  rapid.Map(drawFloat.Filter(fitsFloat32), func(f float64) Value { return OfFloat32(float32(f)) }),
		TypeString:   rapid.Map(drawText, OfString),
		TypeDateTime: drawTime,
		TypeBlob:     rapid.Map(rapid.SliceOf(rapid.Byte()), OfBytes),
		TypeJSON:     drawJSON,
		TypeRef:      rapid.Custom(func(t *rapid.T) Value { return OfRef(drawRef(t)) }),
	}
	scalar := Type(rapid.IntRange(int(TypeID), int(TypeRef)).Draw(t, "type"))
	g := of[scalar]
	switch rapid.IntRange(0, 3).Draw(t, "list") {
	case 0:
		g = g.Filter(func(v Value) bool { return !v.IsNull() })
		return scalar | ListOf, OfList(rapid.SliceOfN(g, 0, 4).Draw(t, "elements"))
	case 1:
		g = rapid.OneOf(g, rapid.Just(Value{}))
		return scalar | ListOfNullable, OfList(rapid.SliceOfN(g, 0, 4).Draw(t, "elements"))
	case 2:
		return scalar, Value{}
	}
	return scalar, g.Draw(t, "value")
}

// same reports whether a and b are equal and of the same kinds and offsets all
// the way down, which Equal does not ask.
func same(a, b Value) bool { return string(a.AppendBinary(nil)) == string(b.AppendBinary(nil)) }

func nested(levels int, leaf Value) Value {
	for range levels {
		leaf = OfList([]Value{leaf})
	}
	return leaf
}

// check runs a property, never beside another: rapid's generators, which they
// share, are not safe for concurrent use.
func check(t *testing.T, property func(*rapid.T)) {
	t.Helper()
	rapid.Check(t, property)
}

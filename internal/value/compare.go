package value

import (
	"cmp"
	"math"
	"strings"
)

// class is the place of each kind in the order: the numbers share one.
var class = [...]uint8{Null: 0, Bool: 1, Int: 2, Float32: 2, Float64: 2, String: 3, Time: 4, Bytes: 5, Ref: 6, List: 7, Map: 8}

// Compare orders all values: by kind, then numbers by their exact value whatever
// their kind, texts and bytes bytewise, times by instant, lists element by
// element, and maps as the lists of their sorted members.
func Compare(a, b Value) int { return compare(&a, &b) }

// Equal reports whether Compare(a, b) is 0: Int 1 equals Float64 1, and times of
// the same instant are equal whatever their offsets.
func Equal(a, b Value) bool { return compare(&a, &b) == 0 }

func compare(a, b *Value) int {
	if a.kind != b.kind {
		if class[a.kind] != class[b.kind] {
			return cmp.Compare(class[a.kind], class[b.kind])
		}
		return compareNumbers(a, b)
	}
	switch a.kind {
	case Null:
		return 0
	case Bool:
		return cmp.Compare(a.n, b.n)
	case Int:
		return cmp.Compare(int64(a.n), int64(b.n))
	case Float32, Float64:
		return compareFloats(a, b)
	case Time:
		if c := cmp.Compare(int64(a.n), int64(b.n)); c != 0 {
			return c
		}
		return cmp.Compare(a.aux, b.aux)
	case List, Map:
		return compareCompounds(a.c, b.c)
	}
	return strings.Compare(a.s, b.s)
}

func compareNumbers(a, b *Value) int {
	switch {
	case a.kind == Int:
		return compareIntFloat(int64(a.n), math.Float64frombits(b.n))
	case b.kind == Int:
		return -compareIntFloat(int64(b.n), math.Float64frombits(a.n))
	}
	return compareFloats(a, b)
}

func compareFloats(a, b *Value) int {
	x, y := math.Float64frombits(a.n), math.Float64frombits(b.n)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

const twoTo63 = 1 << 63 // the first float beyond the integers of 64 bits

// compareIntFloat rounds neither number: a float within the range of integers
// has an integer part that is one.
func compareIntFloat(i int64, f float64) int {
	switch {
	case f >= twoTo63:
		return -1
	case f < -twoTo63:
		return 1
	}
	whole := int64(f) // towards zero
	if c := cmp.Compare(i, whole); c != 0 {
		return c
	}
	return cmp.Compare(float64(whole), f) // the fraction decides; whole is exact here
}

func compareCompounds(a, b *compound) int {
	for i := range min(len(a.list), len(b.list)) {
		if a.keys != nil && b.keys != nil {
			if c := strings.Compare(a.keys[i], b.keys[i]); c != 0 {
				return c
			}
		}
		if c := compare(&a.list[i], &b.list[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a.list), len(b.list))
}

// Package value defines what a field can hold, with one total order and one set
// of encodings shared by filters, indexes, storage, commits and JSON.
//
// It hides how numbers of three kinds compare exactly with each other, and why
// two values that are equal have equal index keys whatever their kinds.
package value

import (
	"iter"
	"math"
	"slices"
	"sort"
	"strings"
	"time"
	"unsafe"
)

// MaxNesting is how many lists and maps may stand inside each other in one
// value. Part of the commit format: one less than cbor.MaxNesting, because the
// argument of an operation may put an array around its value.
const MaxNesting = 15

// Kind says what a Value holds. The order of the kinds is the order of values of
// different kinds, except that Int, Float32 and Float64 compare numerically.
type Kind uint8

const (
	Null Kind = iota
	Bool
	Int
	Float32
	Float64
	String
	Time
	Bytes
	Ref  // the docID of a document, 32 bytes
	List // of values
	Map  // of a JSON object: members sorted by key
)

var kindNames = [...]string{"null", "Boolean", "Int", "Float32", "Float64", "String", "DateTime", "Blob", "reference", "list", "object"}

// String returns the name of the kind as messages show it.
func (k Kind) String() string { return kindNames[k] }

// Value is one immutable value. The zero Value is Null.
type Value struct {
	kind Kind
	aux  int32     // Time: nanoseconds within the second
	off  int32     // Time: UTC offset in seconds, kept for display, no part of the order
	n    uint64    // Bool, Int, Float32/64 (as float64 bits), Time (unix seconds)
	s    string    // String, Bytes, Ref
	c    *compound // List, Map
}

type compound struct {
	list []Value
	keys []string // Map: sorted bytewise, unique; list holds the values
}

// OfBool returns a Bool.
func OfBool(b bool) Value {
	if b {
		return Value{kind: Bool, n: 1}
	}
	return Value{kind: Bool}
}

// OfInt returns an Int.
func OfInt(i int64) Value { return Value{kind: Int, n: uint64(i)} }

// OfFloat returns a Float64. Negative zero becomes zero. NaN and the infinities
// are no values and become Null; Coerce refuses them before that.
func OfFloat(f float64) Value { return ofFloat(Float64, f) }

// OfFloat32 returns a Float32, under the same rules as OfFloat.
func OfFloat32(f float32) Value { return ofFloat(Float32, float64(f)) }

func ofFloat(k Kind, f float64) Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Value{}
	}
	if f == 0 {
		f = 0 // drops the sign
	}
	return Value{kind: k, n: math.Float64bits(f)}
}

// OfString returns a String. Coerce refuses text that is not valid UTF-8.
func OfString(s string) Value { return Value{kind: String, s: s} }

// OfTime returns a Time, the instant with its UTC offset in whole minutes: what
// RFC 3339 can show. Coerce refuses years outside 0000 to 9999.
func OfTime(t time.Time) Value {
	_, offset := t.Zone()
	return ofTime(t.Unix(), int32(t.Nanosecond()), int32(offset-offset%60))
}

func ofTime(seconds int64, nanos, offset int32) Value {
	return Value{kind: Time, n: uint64(seconds), aux: nanos, off: offset}
}

// OfBytes returns Bytes, a copy of b.
func OfBytes(b []byte) Value { return Value{kind: Bytes, s: string(b)} }

// OfRef returns a Ref.
func OfRef(id [32]byte) Value { return Value{kind: Ref, s: string(id[:])} }

// OfList returns a List. It keeps the slice, which must not change afterwards.
func OfList(list []Value) Value { return Value{kind: List, c: &compound{list: list}} }

// OfMap returns a Map.
func OfMap(members map[string]Value) Value {
	c := &compound{keys: make([]string, 0, len(members)), list: make([]Value, 0, len(members))}
	for k := range members {
		c.keys = append(c.keys, k)
	}
	slices.Sort(c.keys)
	for _, k := range c.keys {
		c.list = append(c.list, members[k])
	}
	return Value{kind: Map, c: c}
}

// Kind returns what v holds.
func (v Value) Kind() Kind { return v.kind }

// IsNull reports whether v is Null.
func (v Value) IsNull() bool { return v.kind == Null }

// IsNumeric reports whether v is an Int, Float32 or Float64.
func (v Value) IsNumeric() bool { return v.kind >= Int && v.kind <= Float64 }

// Bool returns a Bool, false for any other kind.
func (v Value) Bool() bool { return v.kind == Bool && v.n == 1 }

// Int returns an Int, 0 for any other kind.
func (v Value) Int() int64 {
	if v.kind != Int {
		return 0
	}
	return int64(v.n)
}

// Float returns a Float64, a Float32 or the float nearest to an Int, 0 for any
// other kind.
func (v Value) Float() float64 {
	switch v.kind {
	case Int:
		return float64(int64(v.n))
	case Float32, Float64:
		return math.Float64frombits(v.n)
	}
	return 0
}

// Text returns a String, "" for any other kind.
func (v Value) Text() string {
	if v.kind != String {
		return ""
	}
	return v.s
}

// Bytes returns Bytes, nil for any other kind. The result must not be changed.
func (v Value) Bytes() []byte {
	if v.kind != Bytes {
		return nil
	}
	return unsafe.Slice(unsafe.StringData(v.s), len(v.s))
}

// Time returns a Time in its own UTC offset, the zero time for any other kind.
func (v Value) Time() time.Time {
	if v.kind != Time {
		return time.Time{}
	}
	t := time.Unix(int64(v.n), int64(v.aux))
	if v.off == 0 {
		return t.UTC()
	}
	return t.In(time.FixedZone("", int(v.off)))
}

// Ref returns a Ref, zero for any other kind.
func (v Value) Ref() (id [32]byte) {
	if v.kind == Ref {
		copy(id[:], v.s)
	}
	return id
}

// List returns the elements of a List, nil for any other kind. The result must
// not be changed.
func (v Value) List() []Value {
	if v.kind != List {
		return nil
	}
	return v.c.list
}

// Len returns how many elements a List or members a Map has, 0 for any other kind.
func (v Value) Len() int {
	if v.c == nil {
		return 0
	}
	return len(v.c.list)
}

// Get returns the member of a Map with that key.
func (v Value) Get(key string) (member Value, ok bool) {
	if v.kind != Map {
		return Value{}, false
	}
	i, ok := slices.BinarySearch(v.c.keys, key)
	if !ok {
		return Value{}, false
	}
	return v.c.list[i], true
}

// Members returns the members of a Map in the order of their keys, none for any
// other kind.
func (v Value) Members() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		if v.kind != Map {
			return
		}
		for i, k := range v.c.keys {
			if !yield(k, v.c.list[i]) {
				return
			}
		}
	}
}

// Clone returns a copy of v that shares no memory with the buffer v was decoded
// from.
func (v Value) Clone() Value {
	v.s = strings.Clone(v.s)
	if v.c == nil {
		return v
	}
	c := &compound{list: make([]Value, len(v.c.list)), keys: slices.Clone(v.c.keys)}
	for i, e := range v.c.list {
		c.list[i] = e.Clone()
	}
	for i, k := range c.keys {
		c.keys[i] = strings.Clone(k)
	}
	v.c = c
	return v
}

// String returns v as JSON text, for messages.
func (v Value) String() string { return string(v.AppendJSON(nil)) }

// ofMembers makes a Map of unique keys in any order; it keeps the slices.
func ofMembers(keys []string, list []Value) Value {
	if !slices.IsSorted(keys) {
		sort.Sort(byKey{keys, list})
	}
	return Value{kind: Map, c: &compound{keys: keys, list: list}}
}

type byKey struct {
	keys []string
	list []Value
}

func (m byKey) Len() int           { return len(m.keys) }
func (m byKey) Less(i, j int) bool { return m.keys[i] < m.keys[j] }
func (m byKey) Swap(i, j int) {
	m.keys[i], m.keys[j] = m.keys[j], m.keys[i]
	m.list[i], m.list[j] = m.list[j], m.list[i]
}

// integral returns the integer that v, a float, is equal to, if there is one.
func (v Value) integral() (i int64, ok bool) {
	f := v.Float()
	if f != math.Trunc(f) || f < -twoTo63 || f >= twoTo63 {
		return 0, false
	}
	return int64(f), true
}

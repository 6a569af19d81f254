package value

import (
	"encoding/hex"
	"math"
	"unicode/utf8"

	"github.com/pandodb/pando/internal/fault"
)

// Coerce turns v, as it comes from JSON, GraphQL or a program, into a value of
// type t. Null stays Null. What would lose information is refused, except that
// floats are rounded to the nearest of their type, as everywhere. Errors are of
// kind fault.Invalid and say what was expected.
func Coerce(t Type, v Value) (Value, error) {
	if !t.Valid() {
		return Value{}, fault.Invalid.Errorf("type number %d is unknown to this version: a newer one wrote it", t)
	}
	return coerce(t, v, MaxNesting)
}

func coerce(t Type, v Value, nesting int) (Value, error) {
	if v.kind == Null {
		return v, nil
	}
	if t.IsList() {
		return coerceList(t, v, nesting)
	}
	switch t {
	case TypeID, TypeString:
		return coerceString(t, v)
	case TypeBoolean:
		if v.kind == Bool {
			return v, nil
		}
	case TypeInt:
		return coerceInt(v)
	case TypeFloat64:
		if v.IsNumeric() {
			return OfFloat(v.Float()), nil
		}
	case TypeFloat32:
		return coerceFloat32(v)
	case TypeDateTime:
		return coerceTime(v)
	case TypeBlob:
		return coerceBytes(v)
	case TypeRef:
		return coerceRef(v)
	case TypeJSON:
		return coerceJSON(v, nesting)
	}
	return mismatch(t, v, "")
}

// mismatch is the error for v where a value of type t should be; hint tells what
// would do.
func mismatch(t Type, v Value, hint string) (Value, error) {
	if hint != "" {
		hint = ": " + hint
	}
	return Value{}, fault.Invalid.Errorf("expected %s, got %s%s", t, v.describe(), hint)
}

func (v Value) describe() string {
	switch v.kind {
	case Null, List, Map:
		return v.kind.String()
	case String:
		return "String " + quote(v.s)
	}
	const enough = 60
	if text := v.String(); len(text) <= enough {
		return v.kind.String() + " " + text
	}
	return v.kind.String()
}

func coerceString(t Type, v Value) (Value, error) {
	if v.kind != String {
		return mismatch(t, v, "")
	}
	if !utf8.ValidString(v.s) {
		return mismatch(t, v, "text must be valid UTF-8")
	}
	return v, nil
}

func coerceInt(v Value) (Value, error) {
	switch v.kind {
	case Int:
		return v, nil
	case Float32, Float64:
		if i, ok := v.integral(); ok {
			return OfInt(i), nil
		}
		return mismatch(TypeInt, v, "only whole numbers from -9223372036854775808 to 9223372036854775807 fit")
	}
	return mismatch(TypeInt, v, "")
}

func coerceFloat32(v Value) (Value, error) {
	if !v.IsNumeric() {
		return mismatch(TypeFloat32, v, "")
	}
	// Rounded once, from the exact integer: through float64 it would be rounded twice.
	f := float32(v.Float())
	if v.kind == Int {
		f = float32(v.Int())
	}
	if math.IsInf(float64(f), 0) {
		return mismatch(TypeFloat32, v, "only numbers up to 3.4028235e38 in size fit")
	}
	return OfFloat32(f), nil
}

func coerceTime(v Value) (Value, error) {
	const hint = "write RFC 3339 with a year of four digits, such as 2024-02-29T12:00:00.5+01:00"
	switch v.kind {
	case Time:
		if v.yearFits() {
			return v, nil
		}
	case String:
		if t, ok := parseTime(v.s); ok {
			return t, nil
		}
	}
	return mismatch(TypeDateTime, v, hint)
}

func coerceBytes(v Value) (Value, error) {
	switch v.kind {
	case Bytes:
		return v, nil
	case String:
		if b, err := hex.DecodeString(v.s); err == nil {
			return OfBytes(b), nil
		}
	}
	return mismatch(TypeBlob, v, "write bytes as an even number of hexadecimal digits without 0x")
}

func coerceRef(v Value) (Value, error) {
	switch v.kind {
	case Ref:
		return v, nil
	case String:
		id, err := ParseRef(v.s)
		if err != nil {
			return Value{}, err
		}
		return OfRef(id), nil
	}
	return mismatch(TypeRef, v, "write the docID of a document")
}

func coerceList(t Type, v Value, nesting int) (Value, error) {
	if v.kind != List {
		return mismatch(t, v, "")
	}
	list := make([]Value, len(v.c.list))
	for i, e := range v.c.list {
		if e.IsNull() && t&ListOf != 0 {
			return Value{}, fault.Invalid.Errorf("element %d: expected %s, got null: leave it out", i, t.Scalar())
		}
		var err error
		if list[i], err = coerce(t.Scalar(), e, nesting-1); err != nil {
			return Value{}, fault.Invalid.Errorf("element %d: %w", i, err)
		}
	}
	return OfList(list), nil
}

// coerceJSON brings v into the form in which JSON is stored: of the kinds that
// JSON has, whole numbers as Int, everything else as the text that AppendJSON
// would print.
func coerceJSON(v Value, nesting int) (Value, error) {
	switch v.kind {
	case Float32, Float64:
		if i, ok := v.integral(); ok {
			return OfInt(i), nil
		}
		return OfFloat(v.Float()), nil
	case String:
		return coerceString(TypeJSON, v)
	case Time, Bytes, Ref:
		text := v.AppendJSON(nil)
		return OfString(string(text[1 : len(text)-1])), nil
	case List, Map:
		return coerceCompound(v, nesting)
	}
	return v, nil
}

func coerceCompound(v Value, nesting int) (Value, error) {
	if nesting == 0 {
		return Value{}, fault.Invalid.Errorf("JSON: lists and objects nested more than %d deep", MaxNesting)
	}
	c := &compound{keys: v.c.keys, list: make([]Value, len(v.c.list))}
	for _, k := range c.keys {
		if !utf8.ValidString(k) {
			return Value{}, fault.Invalid.Errorf("JSON: key %s must be valid UTF-8", quote(k))
		}
	}
	for i, e := range v.c.list {
		var err error
		if c.list[i], err = coerce(TypeJSON, e, nesting-1); err != nil {
			return Value{}, err
		}
	}
	return Value{kind: v.kind, c: c}, nil
}

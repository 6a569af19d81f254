package value

import (
	"slices"
	"unsafe"

	"github.com/pandodb/pando/internal/cbor"
)

// AppendCBOR appends v as a commit holds a value of type t. v must be of that
// type, as Coerce makes it; any other is written as what it is, and FromCBOR
// will say that it does not fit.
func AppendCBOR(b []byte, t Type, v Value) []byte {
	switch v.kind {
	case Bool:
		return cbor.AppendBool(b, v.Bool())
	case Int:
		if t == TypeFloat64 || t == TypeFloat32 {
			return cbor.AppendFloat(b, v.Float())
		}
		return cbor.AppendInt(b, v.Int())
	case Float32, Float64:
		if i, ok := v.integral(); ok && t == TypeJSON {
			return cbor.AppendInt(b, i)
		}
		return cbor.AppendFloat(b, v.Float())
	case String:
		return cbor.AppendText(b, v.s)
	case Time:
		var text [timeSize]byte
		return cbor.AppendText(b, string(v.appendTime(text[:0])))
	case Bytes, Ref:
		return cbor.AppendBytes(b, unsafe.Slice(unsafe.StringData(v.s), len(v.s)))
	case List:
		b = cbor.AppendArray(b, len(v.c.list))
		for _, e := range v.c.list {
			b = AppendCBOR(b, t.Scalar(), e)
		}
		return b
	case Map:
		return appendCBORMap(b, v.c)
	}
	return cbor.AppendNull(b)
}

func appendCBORMap(b []byte, c *compound) []byte {
	b = cbor.AppendMap(b, len(c.keys))
	if slices.IsSortedFunc(c.keys, cbor.CompareKeys) {
		for i, k := range c.keys {
			b = AppendCBOR(cbor.AppendText(b, k), TypeJSON, c.list[i])
		}
		return b
	}
	order := make([]int, len(c.keys))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cbor.CompareKeys(c.keys[i], c.keys[j]) })
	for _, i := range order {
		b = AppendCBOR(cbor.AppendText(b, c.keys[i]), TypeJSON, c.list[i])
	}
	return b
}

// FromCBOR reads exactly one item, whatever it is, and reports whether it is a
// value of type t in the one form that AppendCBOR writes. Null fits every type.
// If the item is not even canonical CBOR, r holds the error.
func FromCBOR(r *cbor.Reader, t Type) (v Value, fits bool) {
	raw := r.Skip()
	if r.Err() != nil || !t.Valid() {
		return Value{}, false
	}
	// The item is sound, so the only errors left are those of an unexpected type.
	var item cbor.Reader
	item.Reset(raw)
	v, fits = fromCBOR(&item, t, MaxNesting)
	if !fits || item.Err() != nil {
		return Value{}, false
	}
	return v, true
}

func fromCBOR(r *cbor.Reader, t Type, nesting int) (v Value, fits bool) {
	if r.Null() {
		return Value{}, true
	}
	switch t {
	case TypeID, TypeString:
		return OfString(r.Text()), true
	case TypeBoolean:
		return OfBool(r.Bool()), true
	case TypeInt:
		return OfInt(r.Int()), true
	case TypeFloat64:
		return OfFloat(r.Float()), true
	case TypeFloat32:
		f := r.Float()
		return OfFloat32(float32(f)), float64(float32(f)) == f
	case TypeDateTime:
		s := r.Text()
		v, ok := parseTime(s)
		var text [timeSize]byte
		return v, ok && string(v.appendTime(text[:0])) == s
	case TypeBlob:
		return OfBytes(r.Bytes()), true
	case TypeRef:
		id := r.Bytes()
		return Value{kind: Ref, s: string(id)}, len(id) == refSize
	case TypeJSON:
		return jsonFromCBOR(r, nesting)
	}
	return listFromCBOR(r, t, nesting)
}

func listFromCBOR(r *cbor.Reader, t Type, nesting int) (v Value, fits bool) {
	n := r.Array()
	list := make([]Value, 0, n)
	for range n {
		e, fits := fromCBOR(r, t.Scalar(), nesting-1)
		if !fits || r.Err() != nil || e.IsNull() && t&ListOf != 0 {
			return Value{}, false
		}
		list = append(list, e)
	}
	return OfList(list), true
}

func jsonFromCBOR(r *cbor.Reader, nesting int) (v Value, fits bool) {
	switch r.Peek() {
	case cbor.Bool:
		return OfBool(r.Bool()), true
	case cbor.Uint, cbor.NegInt:
		return OfInt(r.Int()), true
	case cbor.Float:
		v = OfFloat(r.Float())
		_, isInt := v.integral()
		return v, !isInt // a whole number has one form only, the integer
	case cbor.Text:
		return OfString(r.Text()), true
	case cbor.Array:
		if nesting == 0 {
			return Value{}, false
		}
		return listFromCBOR(r, TypeJSON|ListOfNullable, nesting)
	case cbor.Map:
		if nesting == 0 {
			return Value{}, false
		}
		return mapFromCBOR(r, nesting)
	}
	return Value{}, false
}

func mapFromCBOR(r *cbor.Reader, nesting int) (v Value, fits bool) {
	n := r.Map()
	keys, list := make([]string, 0, n), make([]Value, 0, n)
	for range n {
		keys = append(keys, r.Text())
		e, fits := fromCBOR(r, TypeJSON, nesting-1)
		if !fits || r.Err() != nil {
			return Value{}, false
		}
		list = append(list, e)
	}
	return ofMembers(keys, list), true
}

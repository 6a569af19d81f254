package value

import (
	"strings"

	"github.com/pandodb/pando/internal/fault"
)

// Type is the declared type of a field: a scalar, or a list of it.
// Its number is part of the commit format and never changes.
type Type uint8

const (
	TypeNone Type = iota
	TypeID        // opaque text
	TypeBoolean
	TypeInt // 64 bit, signed
	TypeFloat64
	TypeFloat32
	TypeString
	TypeDateTime // an instant with nanoseconds, and the UTC offset it was written with
	TypeBlob     // bytes, shown as hexadecimal
	TypeJSON     // any JSON value
	TypeRef      // the docID of a document

	typeScalar Type = 0x0f
	// ListOf marks a list whose elements are never null.
	ListOf Type = 0x10
	// ListOfNullable marks a list whose elements may be null.
	ListOfNullable Type = 0x20
)

var typeNames = [...]string{"none", "ID", "Boolean", "Int", "Float64", "Float32", "String", "DateTime", "Blob", "JSON", "reference"}

// ParseType returns the type that a schema spells "Int", "[Int!]" and the like.
// Float is another name of Float64. The names of collections are no types, and
// neither is "Int!": whether a field may be null is said by the field.
func ParseType(sdl string) (Type, error) {
	name, list := sdl, TypeNone
	if inner, ok := strings.CutPrefix(sdl, "["); ok {
		name, ok = strings.CutSuffix(inner, "]")
		if !ok {
			return TypeNone, fault.Invalid.Errorf("type %q lacks the closing ]", sdl)
		}
		list = ListOfNullable
		if scalar, ok := strings.CutSuffix(name, "!"); ok {
			name, list = scalar, ListOf
		}
	}
	if name == "Float" {
		return TypeFloat64 | list, nil
	}
	for t := TypeID; t < TypeRef; t++ {
		if typeNames[t] == name {
			return t | list, nil
		}
	}
	return TypeNone, fault.Invalid.Errorf("%q is no type: use one of %s, or a list such as [Int!]",
		sdl, strings.Join(typeNames[TypeID:TypeRef], ", "))
}

// String returns the type as a schema spells it.
func (t Type) String() string {
	s := "unknown"
	if scalar := t.Scalar(); int(scalar) < len(typeNames) {
		s = typeNames[scalar]
	}
	switch t &^ typeScalar {
	case 0:
		return s
	case ListOf:
		return "[" + s + "!]"
	case ListOfNullable:
		return "[" + s + "]"
	}
	return "unknown"
}

// Valid reports whether t is a type that this version knows.
func (t Type) Valid() bool {
	scalar, list := t.Scalar(), t&^typeScalar
	return scalar >= TypeID && scalar <= TypeRef && (list == 0 || list == ListOf || list == ListOfNullable)
}

// Scalar returns the type of the elements of a list, or t itself.
func (t Type) Scalar() Type { return t & typeScalar }

// IsList reports whether t is a list.
func (t Type) IsList() bool { return t&(ListOf|ListOfNullable) != 0 }

// IsNumeric reports whether t is Int, Float64 or Float32, and no list.
func (t Type) IsNumeric() bool { return t >= TypeInt && t <= TypeFloat32 }

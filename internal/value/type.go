package value

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

// Scalar returns the type of the elements of a list, or t itself.
func (t Type) Scalar() Type { return t & typeScalar }

// IsList reports whether t is a list.
func (t Type) IsList() bool { return t&(ListOf|ListOfNullable) != 0 }

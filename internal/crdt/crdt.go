// Package crdt holds the rules by which concurrent writes to one field become one value.
//
// It is pure: no clock, no storage, no network. Whatever the order in which
// commits arrive, parents first, a Document ends in the same state, byte for byte.
//
// # The state is a function of a set
//
// Let S be the set of commits that a document consists of. Each commit has an
// identity of 32 bytes, parents, a height, a hybrid logical clock (HLC), and a list
// of operations. An operation is a field number, a kind and an argument. Its index
// is its place in the commit's list, counted from 0, void operations included.
// A commit of S may be marked as structure only: it counts for the heads, and
// none of its operations counts.
//
// An operation is void, and changes nothing, if its rule or its type is unknown or
// its argument does not fit its kind. That depends on the bytes of the operation
// alone, so every node agrees.
//
// The heads are the commits of S that are a parent of no commit of S.
//
// A field and a kind together name a cell; cells do not influence each other, and
// merging needs no schema. A schema says which kind of a field is shown. What the
// operations on one cell become is said by the rule of the kind:
//
//   - LWW, a register. The argument is a value or null. The operation with the
//     greatest stamp is the state: stamps order by HLC, then by commit (bytewise),
//     then by index. Values are never compared. Null is a value like any other, so
//     an older write does not come back when a newer one set null.
//   - PCounter and PNCounter. The argument is an increment: an integer that fits
//     in 64 bits for Int, a canonical decimal in text for Float64 and Float32. For
//     PCounter, a negative increment is void. Other types are unknown. The state
//     is the exact sum, without bound and without rounding. An Int counter beyond
//     64 bits is shown as the nearest integer of 64 bits; a float counter is shown
//     as the float that is nearest to the sum, ties to even, or the greatest
//     finite one of that sign if the sum is beyond it.
//   - MVR, a register that keeps every value not causally overwritten. The argument
//     is a value or null, and the tags of the writes that it overwrites, sorted by
//     commit and then index, none twice (otherwise the operation is void). The tag
//     of a write is its commit and its index. A write is live if no operation of
//     another commit of S on this cell overwrites its tag. The state is the live
//     writes, and as tombstones the overwritten tags whose commit is not in S: the
//     write may still arrive, and must not live then. The live write with the
//     greatest stamp is shown, the others are its conflicts. A cell with neither
//     live writes nor tombstones does not exist.
//
// A canonical decimal is an optional minus sign, an integer part without leading
// zeros ("0" if there is none), and optionally a point and a fraction that does not
// end in zero. Zero is "0". As an increment it has at most [MaxDigits] digits before
// the point and [MaxFraction] after it.
//
// Whether a document is deleted is an LWW Boolean on field 0. Deleting is a write to
// it; other writes leave it as it is.
//
// # Canonical form
//
// A state has one form in bytes. It has this layout; uvarint is the minimal unsigned
// LEB128 of encoding/binary, and a value is in the binary form of package value:
//
//	document = version: 1 byte, 0x01
//	           uvarint number of commits, then for each commit that a head, an LWW
//	           cell or a live MVR write names, sorted by identity:
//	             identity: 32 bytes, HLC: 8 bytes big-endian
//	           uvarint number of heads, then for each head, sorted by identity:
//	             uvarint place in the table of commits, uvarint height
//	           cells, sorted by field and then kind:
//	             uvarint field, rule: 1 byte, type: 1 byte, uvarint length, payload
//	LWW      = uvarint place of the commit, uvarint index, value
//	counter  = canonical decimal of the sum, in ASCII
//	MVR      = uvarint number of live writes, then for each, sorted by tag:
//	             uvarint place of the commit, uvarint index, uvarint length, value
//	           tombstones to the end of the payload, sorted by tag:
//	             commit: 32 bytes, uvarint index
//
//	attached = what was attached, at least one byte
//
// An attached cell has a reserved kind, whose operations are void here: the bytes
// are what somebody else makes of them ([Document.Attach]), opaque to this package
// and kept by Fold. They must be a function of S too.
//
// The document without commits is the empty string.
//
// # Operations in a commit
//
// The dag-cbor form of an operation is the array [field, kind, argument]. Field is
// below 2^32; kind is below 2^16, the rule times 256 plus the type; anything else
// makes the commit invalid. The argument is any item:
//
//	LWW      = value, as package value writes the type; null always fits
//	counter  = int for Int; text, a canonical decimal, for Float64 and Float32
//	MVR      = [value, [*[commit: bytes .size 32, index: uint .size 4]]]
//
// An argument that is well-formed but none of these makes its operation void.
package crdt

import (
	"bytes"
	"cmp"
	"fmt"

	"github.com/pandodb/pando/internal/value"
)

// FieldID is the stable number of a field in the lineage of its collection.
type FieldID uint32

const (
	// FieldStatus holds whether the document is deleted: a Boolean register.
	FieldStatus FieldID = 0
	// FieldAccess holds who may read and write the document: package acp.
	FieldAccess FieldID = 1
	// FieldKeys holds under which keys its segments are encrypted, and for whom.
	FieldKeys FieldID = 2
	// FirstField is the number of the first field that a schema can declare;
	// those below are reserved.
	FirstField FieldID = 16
)

// Rule is how concurrent writes of a field merge. Its number is part of the
// commit format.
type Rule uint8

const (
	LWW       Rule = 1 // register: the write with the greatest stamp wins
	PCounter  Rule = 2 // sum of increments, none negative
	PNCounter Rule = 3 // sum of increments
	MVR       Rule = 4 // register that keeps every value not causally overwritten
)

// String returns the name that the rule has in a schema.
func (r Rule) String() string {
	switch r {
	case LWW:
		return "lww"
	case PCounter:
		return "pcounter"
	case PNCounter:
		return "pncounter"
	case MVR:
		return "mvregister"
	case KindAccess.Rule():
		return "access"
	case KindKeys.Rule():
		return "keys"
	}
	return fmt.Sprintf("rule %d", uint8(r))
}

// Kind is a rule together with the type of the value: what an operation says of
// itself. Because it is part of the operation, merging needs no schema; each
// (field, kind) is merged by itself, and a schema only says which kind is shown.
type Kind uint16

// KindOf combines a rule with a type.
func KindOf(r Rule, t value.Type) Kind { return Kind(r)<<8 | Kind(t) }

// KindStatus is the kind of FieldStatus: true means deleted.
const KindStatus = Kind(LWW)<<8 | Kind(value.TypeBoolean)

// Kinds that the rules of this package ignore: their operations are void, with the
// argument as Raw, and what follows from them is attached to the document.
const (
	KindAccess Kind = 32 << 8 // operations on FieldAccess
	KindKeys   Kind = 33 << 8 // operations on FieldKeys
)

// attached reports whether cells of the kind hold what was attached.
func (k Kind) attached() bool { return k == KindAccess || k == KindKeys }

// Rule returns how the kind merges.
func (k Kind) Rule() Rule { return Rule(k >> 8) }

// Type returns the type of the values of the kind.
func (k Kind) Type() value.Type { return value.Type(k) }

// String returns the rule and the type as a schema spells them.
func (k Kind) String() string {
	if k.attached() {
		return k.Rule().String()
	}
	return fmt.Sprintf("%v %v", k.Rule(), k.Type())
}

// Known reports whether operations of the kind mean anything; those of an
// unknown kind are void.
func (k Kind) Known() bool {
	t := k.Type()
	switch k.Rule() {
	case LWW, MVR:
		return t.Valid()
	case PCounter, PNCounter:
		return t == value.TypeInt || t == value.TypeFloat64 || t == value.TypeFloat32
	}
	return false
}

// Stamp orders concurrent writes alike everywhere: by HLC, then commit, then Op.
type Stamp struct {
	HLC    uint64 // hybrid logical clock: 48 bit milliseconds, 16 bit logical
	Commit [32]byte
	Op     uint32 // index of the operation in its commit
}

// Compare orders stamps: -1 if s is the older.
func (s Stamp) Compare(o Stamp) int {
	return cmp.Or(
		cmp.Compare(s.HLC, o.HLC),
		bytes.Compare(s.Commit[:], o.Commit[:]),
		cmp.Compare(s.Op, o.Op),
	)
}

// Tag names one write of a multi-value register.
type Tag struct {
	Commit [32]byte
	Op     uint32
}

// Compare orders tags by commit and then index.
func (t Tag) Compare(o Tag) int {
	return cmp.Or(bytes.Compare(t.Commit[:], o.Commit[:]), cmp.Compare(t.Op, o.Op))
}

// Delta is one operation of a commit on one field.
type Delta struct {
	Field FieldID
	Kind  Kind
	// Val is what LWW and MVR set (Null is a value), and the increment of a
	// counter: an Int for Int, a String with a canonical decimal for floats;
	// Increment makes it.
	Val value.Value
	// Over are the writes that an MVR operation overwrites, sorted.
	Over []Tag
	// Void marks an operation whose argument does not fit its kind: it changes
	// nothing, for every node alike.
	Void bool
	// Raw is the argument of a void operation as it came, so that the operation
	// is encoded again as it was.
	Raw []byte
}

// Head is a commit that no other commit of the document has as a parent.
type Head struct {
	Commit      [32]byte
	Height, HLC uint64
}

// Change is what a commit does to its document.
type Change struct {
	Commit      [32]byte
	Parents     [][32]byte
	Height, HLC uint64
	// Deltas are the operations as ReadDelta returned them.
	Deltas []Delta
	// Void marks a commit that is structure only: its operations do not count.
	Void bool
}

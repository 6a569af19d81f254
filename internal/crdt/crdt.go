// Package crdt holds the rules by which concurrent writes to one field become one value.
//
// It is pure: no clock, no storage, no network. Whatever the order in which
// commits arrive, parents first, a Document ends in the same state.
package crdt

import "github.com/pandodb/pando/internal/value"

// FieldID is the stable number of a field in the lineage of its collection.
type FieldID uint32

const (
	// FieldStatus holds whether the document is deleted: a Boolean register.
	FieldStatus FieldID = 0
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

// Kind is a rule together with the type of the value: what an operation says of
// itself. Because it is part of the operation, merging needs no schema; each
// (field, kind) is merged by itself, and a schema only says which kind is shown.
type Kind uint16

// KindOf combines a rule with a type.
func KindOf(r Rule, t value.Type) Kind { return Kind(r)<<8 | Kind(t) }

// Rule returns how the kind merges.
func (k Kind) Rule() Rule { return Rule(k >> 8) }

// Type returns the type of the values of the kind.
func (k Kind) Type() value.Type { return value.Type(k) }

// Stamp orders concurrent writes alike everywhere: by HLC, then commit, then Op.
type Stamp struct {
	HLC    uint64 // hybrid logical clock: 48 bit milliseconds, 16 bit logical
	Commit [32]byte
	Op     uint32 // index of the operation in its commit
}

// Tag names one write of a multi-value register.
type Tag struct {
	Commit [32]byte
	Op     uint32
}

// Delta is one operation of a commit on one field.
type Delta struct {
	Field FieldID
	Kind  Kind
	// Val is what LWW and MVR set (Null is a value), and the increment of a
	// counter: an Int for Int, a String with a canonical decimal for floats.
	Val value.Value
	// Over are the writes that an MVR operation overwrites.
	Over []Tag
	// Void marks an operation whose argument does not fit its kind: it changes
	// nothing, for every node alike.
	Void bool
}

// Package value defines what a field can hold, with one total order and one set
// of encodings shared by filters, indexes, storage, commits and JSON.
package value

import "time"

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

var _ = time.Time{}

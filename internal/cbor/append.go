// Package cbor writes and reads the one form of CBOR in which commits are hashed:
// strict dag-cbor, where every value has exactly one encoding.
//
// It hides what makes that so: shortest integers and lengths, no indefinite
// lengths, map keys that are sorted and unique, links as the only tag, floats of
// 64 bits only. Whatever the Reader lets through, written again with the Append
// functions, gives the same bytes; a form that slipped through would be a second
// hash for the same commit.
package cbor

import (
	"cmp"
	"encoding/binary"
	"math"
	"strings"
)

// MaxNesting is how many arrays and maps may stand inside each other in one
// item. Part of the commit format: every node must refuse the same bytes. It is
// far more than commits need and small enough for recursion on any stack.
const MaxNesting = 16

const (
	majorUint   = 0 << 5
	majorNegInt = 1 << 5
	majorBytes  = 2 << 5
	majorText   = 3 << 5
	majorArray  = 4 << 5
	majorMap    = 5 << 5
	majorTag    = 6 << 5
	majorSimple = 7 << 5

	simpleFalse = majorSimple | 20
	simpleTrue  = majorSimple | 21
	simpleNull  = majorSimple | 22
	simpleFloat = majorSimple | 27 // 64 bit

	tagLink    = 42   // the only tag of dag-cbor: a CID
	linkPrefix = 0x00 // multibase "identity", which dag-cbor puts before a binary CID
)

// AppendUint appends an unsigned integer.
func AppendUint(b []byte, v uint64) []byte { return appendHead(b, majorUint, v) }

// AppendInt appends a signed integer.
func AppendInt(b []byte, v int64) []byte {
	if v < 0 {
		return appendHead(b, majorNegInt, ^uint64(v))
	}
	return appendHead(b, majorUint, uint64(v))
}

// AppendBytes appends a byte string.
func AppendBytes(b, v []byte) []byte {
	return append(appendHead(b, majorBytes, uint64(len(v))), v...)
}

// AppendText appends a text, which must be valid UTF-8: a Reader refuses any other.
func AppendText(b []byte, v string) []byte {
	return append(appendHead(b, majorText, uint64(len(v))), v...)
}

// AppendArray appends the head of an array; its n items follow.
func AppendArray(b []byte, n int) []byte { return appendHead(b, majorArray, uint64(n)) }

// AppendMap appends the head of a map; its n pairs of key and value follow, the
// keys as text in the order of CompareKeys.
func AppendMap(b []byte, n int) []byte { return appendHead(b, majorMap, uint64(n)) }

// AppendBool appends true or false.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, simpleTrue)
	}
	return append(b, simpleFalse)
}

// AppendNull appends null.
func AppendNull(b []byte) []byte { return append(b, simpleNull) }

// AppendFloat appends a float. Negative zero is written as zero. NaN and the
// infinities have no place in dag-cbor: they are written as they are, and a
// Reader refuses them.
func AppendFloat(b []byte, v float64) []byte {
	if v == 0 {
		v = 0 // drops the sign
	}
	return binary.BigEndian.AppendUint64(append(b, simpleFloat), math.Float64bits(v))
}

// AppendLink appends a link to the block with that binary CID.
func AppendLink(b, cid []byte) []byte {
	b = appendHead(b, majorTag, tagLink)
	b = appendHead(b, majorBytes, uint64(len(cid))+1)
	return append(append(b, linkPrefix), cid...)
}

// CompareKeys is the order of the keys of a map: the shorter first, then bytewise.
func CompareKeys(a, b string) int {
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func appendHead(b []byte, major byte, v uint64) []byte {
	switch {
	case v < 24:
		return append(b, major|byte(v))
	case v <= math.MaxUint8:
		return append(b, major|24, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), v)
}

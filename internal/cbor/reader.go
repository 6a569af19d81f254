package cbor

import (
	"bytes"
	"encoding/binary"
	"math"
	"unicode/utf8"

	"github.com/pandodb/pando/internal/fault"
)

// Major is the type of the next item.
type Major uint8

const (
	End Major = iota // no more input, or an earlier error
	Uint
	NegInt
	Bytes
	Text
	Array
	Map
	Tag
	Bool
	Null
	Float
	Unknown // nothing that dag-cbor knows
)

var majorNames = [...]string{"the end", "unsigned integer", "negative integer", "bytes", "text",
	"array", "map", "tag", "boolean", "null", "float", "unknown simple value"}

func (m Major) String() string { return majorNames[m] }

// A Reader takes items off the front of its input. After the first error every
// method returns zero and changes nothing, so that a caller may read a whole
// structure and ask Done once at the end. Errors are of kind fault.Invalid.
type Reader struct {
	in      []byte
	pos     int
	checked int // in[:checked] was gone through item by item, map keys included
	err     error
}

// NewReader returns a Reader of b, which must not change while it is read.
func NewReader(b []byte) *Reader { return &Reader{in: b} }

// Reset makes r read b from the start.
func (r *Reader) Reset(b []byte) { *r = Reader{in: b} }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Fail makes err the error of the Reader if it has none yet.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Done returns the first error, which it is if anything is left of the input.
func (r *Reader) Done() error {
	if r.err == nil && r.pos < len(r.in) {
		r.fail("%d bytes follow the end of the item: cut them off", len(r.in)-r.pos)
	}
	return r.err
}

// Peek returns the type of the next item and leaves it unread.
func (r *Reader) Peek() Major {
	if r.err != nil || r.pos == len(r.in) {
		return End
	}
	c := r.in[r.pos]
	if major := c >> 5; major < majorSimple>>5 {
		return Uint + Major(major)
	}
	switch c {
	case simpleFalse, simpleTrue:
		return Bool
	case simpleNull:
		return Null
	case simpleFloat, simpleFloat - 1, simpleFloat - 2:
		return Float
	}
	return Unknown
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() uint64 {
	if !r.expect(Uint) {
		return 0
	}
	return r.head()
}

// Int reads an integer that fits 64 bits with sign.
func (r *Reader) Int() int64 {
	negative := r.Peek() == NegInt
	if !negative && !r.expect(Uint) {
		return 0
	}
	v := r.head()
	if v > math.MaxInt64 {
		r.fail("the integer does not fit in 64 bits with sign")
		return 0
	}
	if negative {
		return ^int64(v)
	}
	return int64(v)
}

// Bytes reads a byte string. The result is part of the input, not a copy.
func (r *Reader) Bytes() []byte {
	if !r.expect(Bytes) {
		return nil
	}
	return r.take(r.head())
}

// Text reads a text.
func (r *Reader) Text() string {
	if !r.expect(Text) {
		return ""
	}
	return string(r.text())
}

// Array reads the head of an array and returns how many items follow, never
// more than bytes are left.
func (r *Reader) Array() int {
	if !r.expect(Array) {
		return 0
	}
	return r.count(1)
}

// Map reads the head of a map and returns how many pairs follow. The whole map
// has been checked by then: the keys are texts, sorted and unique.
func (r *Reader) Map() int {
	if !r.expect(Map) {
		return 0
	}
	if r.pos >= r.checked {
		ahead := *r
		ahead.Skip()
		if r.err = ahead.err; r.err != nil {
			return 0
		}
		r.checked = ahead.pos
	}
	return r.count(2)
}

// Bool reads true or false.
func (r *Reader) Bool() bool {
	if !r.expect(Bool) {
		return false
	}
	r.pos++
	return r.in[r.pos-1] == simpleTrue
}

// Null reports whether the next item is null, and reads it if so.
func (r *Reader) Null() bool {
	if r.Peek() != Null {
		return false
	}
	r.pos++
	return true
}

// Float reads a float.
func (r *Reader) Float() float64 {
	if !r.expect(Float) {
		return 0
	}
	if r.in[r.pos] != simpleFloat {
		r.fail("a short float: floats must be written with 64 bits")
		return 0
	}
	r.pos++
	raw := r.take(8)
	if raw == nil {
		return 0
	}
	v := math.Float64frombits(binary.BigEndian.Uint64(raw))
	if math.IsNaN(v) || math.IsInf(v, 0) || v == 0 && math.Signbit(v) {
		r.fail("float %v has no canonical form: only finite floats without negative zero do", v)
		return 0
	}
	return v
}

// Link reads a link and returns the binary CID. The result is part of the
// input, not a copy.
func (r *Reader) Link() []byte {
	if !r.expect(Tag) {
		return nil
	}
	if tag := r.head(); r.err == nil && tag != tagLink {
		r.fail("tag %d: only tag %d, a link, is allowed", tag, tagLink)
	}
	raw := r.Bytes()
	if r.err != nil {
		return nil
	}
	if len(raw) == 0 || raw[0] != linkPrefix || !isCID(raw[1:]) {
		r.fail("a link that is not a binary CID after a zero byte")
		return nil
	}
	return raw[1:]
}

// Skip reads one whole item of any type, checks that every part of it is
// canonical, and returns its bytes, which are part of the input.
func (r *Reader) Skip() []byte {
	start := r.pos
	r.skip(MaxNesting)
	if r.err != nil {
		return nil
	}
	r.checked = max(r.checked, r.pos)
	return r.in[start:r.pos:r.pos]
}

func (r *Reader) skip(nesting int) {
	switch m := r.Peek(); m {
	case Uint:
		r.head()
	case NegInt:
		// Integers below the 64-bit range exist in CBOR and in no reader's language.
		r.Int()
	case Bytes:
		r.take(r.head())
	case Text:
		r.text()
	case Array, Map:
		if nesting == 0 {
			r.fail("arrays and maps nested more than %d deep", MaxNesting)
			return
		}
		if m == Array {
			r.skipArray(nesting - 1)
		} else {
			r.skipMap(nesting - 1)
		}
	case Tag:
		r.Link()
	case Bool, Null:
		r.pos++
	case Float:
		r.Float()
	case End:
		r.fail("the input ends where an item should follow")
	case Unknown:
		r.fail("byte 0x%02x starts no dag-cbor item", r.in[r.pos])
	}
}

func (r *Reader) skipArray(nesting int) {
	for n := r.count(1); n > 0 && r.err == nil; n-- {
		r.skip(nesting)
	}
}

func (r *Reader) skipMap(nesting int) {
	var last []byte
	n := r.count(2)
	for i := 0; i < n && r.err == nil; i++ {
		if !r.expect(Text) {
			return
		}
		key := r.text()
		if r.err != nil {
			return
		}
		if i > 0 && (len(last) > len(key) || len(last) == len(key) && bytes.Compare(last, key) >= 0) {
			r.fail("map key %q after %q: keys must be unique and sorted, the shorter first", key, last)
			return
		}
		last = key
		r.skip(nesting)
	}
}

// expect makes sure that an item of that type comes next.
func (r *Reader) expect(want Major) bool {
	got := r.Peek()
	if got == want {
		return true
	}
	if r.err == nil {
		r.fail("found %s, want %s", got, want)
	}
	return false
}

// head reads the first byte of an item and the number that goes with it.
func (r *Reader) head() uint64 {
	short := r.in[r.pos] & 0x1f
	r.pos++
	if short < 24 {
		return uint64(short)
	}
	if short > 27 {
		r.fail("lengths must be definite")
		return 0
	}
	raw := r.take(1 << (short - 24))
	if raw == nil {
		return 0
	}
	var v, least uint64 // least: the smallest number that needs so many bytes
	switch len(raw) {
	case 1:
		v, least = uint64(raw[0]), 24
	case 2:
		v, least = uint64(binary.BigEndian.Uint16(raw)), 1<<8
	case 4:
		v, least = uint64(binary.BigEndian.Uint32(raw)), 1<<16
	case 8:
		v, least = binary.BigEndian.Uint64(raw), 1<<32
	}
	if v < least {
		r.fail("the number %d must be written in its shortest form", v)
		return 0
	}
	return v
}

// text reads the rest of a text, without a copy.
func (r *Reader) text() []byte {
	raw := r.take(r.head())
	if r.err == nil && !utf8.Valid(raw) {
		r.fail("the text is not valid UTF-8")
		return nil
	}
	return raw
}

// count reads how many items of at least that many bytes follow.
func (r *Reader) count(size int) int {
	n := r.head()
	if r.err != nil {
		return 0
	}
	if n > uint64((len(r.in)-r.pos)/size) {
		r.fail("%d items announced in %d bytes: the input is cut short", n, len(r.in)-r.pos)
		return 0
	}
	return int(n)
}

// take returns the next n bytes of the input, nil only after an error.
func (r *Reader) take(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.in)-r.pos) {
		r.fail("%d bytes announced, %d are left: the input is cut short", n, len(r.in)-r.pos)
		return nil
	}
	start := r.pos
	r.pos += int(n)
	return r.in[start:r.pos:r.pos]
}

func (r *Reader) fail(format string, args ...any) {
	r.Fail(fault.Invalid.Errorf("cbor: byte %d: "+format, append([]any{r.pos}, args...)...))
}

const (
	cidV0Size       = 34 // bare sha2-256 multihash
	multihashSHA256 = 0x12
)

// isCID reports whether b is exactly one binary CID, version 0 or 1.
func isCID(b []byte) bool {
	if len(b) == cidV0Size && b[0] == multihashSHA256 && b[1] == 32 {
		return true
	}
	version, b := varint(b)
	_, b = varint(b) // codec
	_, b = varint(b) // hash function
	size, b := varint(b)
	return version == 1 && b != nil && size == uint64(len(b))
}

// varint splits an unsigned varint off b; rest is nil if b has none in shortest form.
func varint(b []byte) (v uint64, rest []byte) {
	v, n := binary.Uvarint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 || v > math.MaxInt64 {
		return 0, nil
	}
	return v, b[n:]
}

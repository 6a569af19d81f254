package value

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/pandodb/pando/internal/fault"
)

// The storage form: one byte that says what follows, then the value. Small
// integers and the length of short strings fit in that byte. Every value has
// exactly one form, and DecodeBinary refuses all others.
const (
	tagNull    = 0x00
	tagFalse   = 0x01
	tagTrue    = 0x02
	tagInt     = 0x03 // zigzag varint
	tagFloat32 = 0x04 // 4 bytes, little endian
	tagFloat64 = 0x05 // 8 bytes, little endian
	tagString  = 0x06 // uvarint length, text
	tagTime    = 0x07 // zigzag seconds, uvarint nanoseconds, zigzag minutes of offset
	tagBytes   = 0x08 // uvarint length, bytes
	tagRef     = 0x09 // 32 bytes
	tagList    = 0x0a // uvarint count, elements
	tagMap     = 0x0b // uvarint count, members: uvarint length, key, value

	tagSmallInt    = 0x40 // and up: the integers 0 to 63
	tagShortString = 0x80 // and up: strings of 0 to 127 bytes

	smallInts    = tagShortString - tagSmallInt
	shortStrings = 0x100 - tagShortString

	refSize      = 32
	maxNanos     = 999_999_999
	firstRoom    = 1024       // elements that a count alone is trusted for
	maxOffsetMin = 23*60 + 59 // what RFC 3339 can show
)

// AppendBinary appends the storage form of v, which keeps its kind.
func (v Value) AppendBinary(b []byte) []byte {
	switch v.kind {
	case Bool:
		return append(b, tagFalse+byte(v.n))
	case Int:
		if v.n < smallInts {
			return append(b, tagSmallInt+byte(v.n))
		}
		return binary.AppendVarint(append(b, tagInt), int64(v.n))
	case Float32:
		return binary.LittleEndian.AppendUint32(append(b, tagFloat32), math.Float32bits(float32(v.Float())))
	case Float64:
		return binary.LittleEndian.AppendUint64(append(b, tagFloat64), v.n)
	case String:
		if len(v.s) < shortStrings {
			return append(append(b, tagShortString+byte(len(v.s))), v.s...)
		}
		return appendSized(append(b, tagString), v.s)
	case Time:
		b = binary.AppendVarint(append(b, tagTime), int64(v.n))
		b = binary.AppendUvarint(b, uint64(v.aux))
		return binary.AppendVarint(b, int64(v.off/60))
	case Bytes:
		return appendSized(append(b, tagBytes), v.s)
	case Ref:
		return append(append(b, tagRef), v.s...)
	case List:
		b = binary.AppendUvarint(append(b, tagList), uint64(len(v.c.list)))
		for i := range v.c.list {
			b = v.c.list[i].AppendBinary(b)
		}
		return b
	case Map:
		b = binary.AppendUvarint(append(b, tagMap), uint64(len(v.c.list)))
		for i := range v.c.list {
			b = v.c.list[i].AppendBinary(appendSized(b, v.c.keys[i]))
		}
		return b
	}
	return append(b, tagNull)
}

func appendSized(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// DecodeBinary takes one value in storage form off the front of b. The value
// points into b, which must not change while the value lives; Clone frees it.
// Errors are of kind fault.Corrupt.
func DecodeBinary(b []byte) (v Value, rest []byte, err error) {
	d := decoder{b: b}
	v = d.value(MaxNesting)
	if d.err != nil {
		return Value{}, nil, d.err
	}
	return v, d.b, nil
}

// DecodeWhole returns the value that b is the storage form of, and false if it is
// none, or not only that. The value points into b as that of DecodeBinary does.
// What most cells of most documents hold is decoded without further calls.
func DecodeWhole(b []byte) (v Value, ok bool) {
	if len(b) == 0 {
		return Value{}, false
	}
	switch tag := b[0]; {
	case tag >= tagShortString:
		return Value{kind: String, s: unsafe.String(unsafe.SliceData(b[1:]), len(b)-1)}, len(b)-1 == int(tag-tagShortString)
	case tag >= tagSmallInt:
		return Value{kind: Int, n: uint64(tag - tagSmallInt)}, len(b) == 1
	}
	d := decoder{b: b}
	v = d.value(MaxNesting)
	return v, d.err == nil && len(d.b) == 0
}

// DecodeElements appends the elements of the list that b is the storage form of, and
// reports whether b is that and nothing else. It spares those who only pass over
// them a list of their own. The values point into b as that of DecodeBinary does.
func DecodeElements(list []Value, b []byte) ([]Value, bool) {
	if len(b) == 0 || b[0] != tagList {
		return list, false
	}
	d := decoder{b: b[1:]}
	n := d.count(tagList)
	for i := 0; i < n && d.err == nil; i++ {
		list = append(list, d.value(MaxNesting-1))
	}
	return list, d.err == nil && len(d.b) == 0
}

// SkipBinary cuts one value in storage form off the front of b without looking
// into texts and bytes.
func SkipBinary(b []byte) (rest []byte, err error) {
	d := decoder{b: b}
	d.skip(MaxNesting)
	if d.err != nil {
		return nil, d.err
	}
	return d.b, nil
}

// decoder takes stored bytes apart; after the first error it returns zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fault.Corrupt.Errorf("stored value: %s", what)
	}
	d.b = nil
}

func (d *decoder) value(nesting int) Value {
	tag := d.byte()
	switch {
	case tag >= tagShortString:
		return Value{kind: String, s: d.text(uint64(tag - tagShortString))}
	case tag >= tagSmallInt:
		return OfInt(int64(tag - tagSmallInt))
	}
	switch tag {
	case tagNull:
		return Value{}
	case tagFalse, tagTrue:
		return Value{kind: Bool, n: uint64(tag - tagFalse)}
	case tagInt:
		i := d.varint()
		if uint64(i) < smallInts {
			d.fail("a small integer in the long form")
		}
		return OfInt(i)
	case tagFloat32, tagFloat64:
		return d.float(tag)
	case tagString:
		n := d.uvarint()
		if n < shortStrings {
			d.fail("a short string in the long form")
		}
		return Value{kind: String, s: d.text(n)}
	case tagTime:
		return d.time()
	case tagBytes:
		return Value{kind: Bytes, s: d.text(d.uvarint())}
	case tagRef:
		return Value{kind: Ref, s: d.text(refSize)}
	case tagList, tagMap:
		return d.compound(tag, nesting)
	}
	d.fail("unknown kind")
	return Value{}
}

func (d *decoder) float(tag byte) Value {
	kind, f := Float64, 0.0
	if tag == tagFloat32 {
		kind = Float32
		if raw := d.take(4); d.err == nil {
			f = float64(math.Float32frombits(binary.LittleEndian.Uint32(raw)))
		}
	} else if raw := d.take(8); d.err == nil {
		f = math.Float64frombits(binary.LittleEndian.Uint64(raw))
	}
	if math.IsNaN(f) || math.IsInf(f, 0) || f == 0 && math.Signbit(f) {
		d.fail("a float that is not finite, or negative zero")
		return Value{}
	}
	return Value{kind: kind, n: math.Float64bits(f)}
}

func (d *decoder) time() Value {
	seconds, nanos, offset := d.varint(), d.uvarint(), d.varint()
	if nanos > maxNanos || offset < -maxOffsetMin || offset > maxOffsetMin {
		d.fail("a time out of range")
		return Value{}
	}
	return ofTime(seconds, int32(nanos), int32(offset*60))
}

func (d *decoder) compound(tag byte, nesting int) Value {
	if nesting == 0 {
		d.fail("nested too deeply")
		return Value{}
	}
	n, kind := d.count(tag), List
	room := min(n, firstRoom)
	c := &compound{list: make([]Value, 0, room)}
	if tag == tagMap {
		kind, c.keys = Map, make([]string, 0, room)
	}
	for i := 0; i < n && d.err == nil; i++ {
		if kind == Map {
			key := d.text(d.uvarint())
			if i > 0 && key <= c.keys[i-1] {
				d.fail("object keys out of order")
			}
			c.keys = append(c.keys, key)
		}
		c.list = append(c.list, d.value(nesting-1))
	}
	return Value{kind: kind, c: c}
}

func (d *decoder) skip(nesting int) {
	tag := d.byte()
	switch {
	case tag >= tagShortString:
		d.take(uint64(tag - tagShortString))
		return
	case tag >= tagSmallInt:
		return
	}
	switch tag {
	case tagNull, tagFalse, tagTrue:
	case tagInt:
		d.varint()
	case tagFloat32:
		d.take(4)
	case tagFloat64:
		d.take(8)
	case tagString, tagBytes:
		d.take(d.uvarint())
	case tagTime:
		d.varint()
		d.uvarint()
		d.varint()
	case tagRef:
		d.take(refSize)
	case tagList, tagMap:
		if nesting == 0 {
			d.fail("nested too deeply")
			return
		}
		for n := d.count(tag); n > 0 && d.err == nil; n-- {
			if tag == tagMap {
				d.take(d.uvarint())
			}
			d.skip(nesting - 1)
		}
	default:
		d.fail("unknown kind")
	}
}

// count reads how many elements follow: never more than their bytes allow, so
// that a damaged count asks for no memory.
func (d *decoder) count(tag byte) int {
	n, size := d.uvarint(), uint64(1)
	if tag == tagMap {
		size = 2
	}
	if n > uint64(len(d.b))/size {
		d.fail("cut short")
		return 0
	}
	return int(n)
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail("cut short")
		return tagNull
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail("cut short")
		return nil
	}
	raw := d.b[:n]
	d.b = d.b[n:]
	return raw
}

func (d *decoder) text(n uint64) string {
	raw := d.take(n)
	return unsafe.String(unsafe.SliceData(raw), len(raw))
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 {
		d.fail("a damaged number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

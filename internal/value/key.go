package value

import (
	"encoding/binary"
	"math"
	"strings"

	"github.com/pandodb/pando/internal/fault"
)

// The key form orders bytewise as Compare orders values, and no key is the
// beginning of another, so that keys of several fields can stand one after the
// other. Numbers of all kinds share one form; they and times forget what is no
// part of the order: the kind, the UTC offset.
const (
	keyEnd    = 0x00 // of a list or map: less than anything that can follow
	keyMember = 0x01 // before each member of a map
	keyNull   = 0x02
	keyFalse  = 0x03
	keyTrue   = 0x04
	keyNumber = 0x05
	keyString = 0x06
	keyTime   = 0x07
	keyBytes  = 0x08
	keyRef    = 0x09
	keyList   = 0x0a
	keyMap    = 0x0b

	// In texts, a zero byte is followed by keyZero, and the end is zero and
	// keyTextEnd, which is less than any way to go on.
	keyTextEnd = 0x01
	keyZero    = 0xff
)

// AppendKey appends the key form of v.
func (v Value) AppendKey(b []byte) []byte {
	switch v.kind {
	case Bool:
		return append(b, keyFalse+byte(v.n))
	case Int, Float32, Float64:
		return v.appendNumberKey(append(b, keyNumber))
	case String:
		return appendTextKey(append(b, keyString), v.s)
	case Time:
		b = binary.BigEndian.AppendUint64(append(b, keyTime), v.n^signBit)
		return binary.BigEndian.AppendUint32(b, uint32(v.aux))
	case Bytes:
		return appendTextKey(append(b, keyBytes), v.s)
	case Ref:
		return append(append(b, keyRef), v.s...)
	case List:
		b = append(b, keyList)
		for i := range v.c.list {
			b = v.c.list[i].AppendKey(b)
		}
		return append(b, keyEnd)
	case Map:
		b = append(b, keyMap)
		for i := range v.c.list {
			b = appendTextKey(append(b, keyMember), v.c.keys[i])
			b = v.c.list[i].AppendKey(b)
		}
		return append(b, keyEnd)
	}
	return append(b, keyNull)
}

// AppendKeyDesc appends the key form of v for descending order.
func (v Value) AppendKeyDesc(b []byte) []byte {
	start := len(b)
	b = v.AppendKey(b)
	for i := start; i < len(b); i++ {
		b[i] = ^b[i]
	}
	return b
}

const (
	signBit = 1 << 63
	// Up to this size every integer is a float; beyond it the key of an integer
	// within 64 bits also needs the distance to the float below.
	twoTo53 = 1 << 53
)

// appendNumberKey writes the greatest float that is not greater than the number,
// and where floats are further apart than integers, how far above it the number is.
func (v Value) appendNumberKey(b []byte) []byte {
	f, above := v.Float(), uint16(0)
	if v.kind == Int {
		f, above = floorFloat(int64(v.n))
	}
	bits := math.Float64bits(f)
	if bits&signBit != 0 {
		bits = ^bits
	} else {
		bits |= signBit
	}
	b = binary.BigEndian.AppendUint64(b, bits)
	if hasGaps(f) {
		b = binary.BigEndian.AppendUint16(b, above)
	}
	return b
}

// floorFloat returns the greatest float not greater than i, and the rest.
func floorFloat(i int64) (f float64, above uint16) {
	f = float64(i)
	if compareIntFloat(i, f) < 0 {
		f = math.Nextafter(f, math.Inf(-1))
	}
	return f, uint16(i - int64(f))
}

// hasGaps reports whether integers of 64 bits lie between f and its neighbours.
func hasGaps(f float64) bool {
	return f >= twoTo53 && f < twoTo63 || f <= -twoTo53 && f >= -twoTo63
}

func appendTextKey(b []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, 0)
		if i < 0 {
			return append(append(b, s...), 0, keyTextEnd)
		}
		b = append(append(b, s[:i]...), 0, keyZero)
		s = s[i+1:]
	}
}

// DecodeKey takes one value in key form off the front of b. A number comes back
// as an Int if it is one of 64 bits, else as a Float64; a time comes back in UTC.
// The value shares no memory with b. Errors are of kind fault.Corrupt.
func DecodeKey(b []byte) (v Value, rest []byte, err error) { return decodeKey(b, 0x00) }

// DecodeKeyDesc is DecodeKey for what AppendKeyDesc wrote.
func DecodeKeyDesc(b []byte) (v Value, rest []byte, err error) { return decodeKey(b, 0xff) }

func decodeKey(b []byte, flip byte) (v Value, rest []byte, err error) {
	k := keyReader{b: b, flip: flip}
	v = k.value(MaxNesting)
	if k.err != nil {
		return Value{}, nil, k.err
	}
	return v, k.b, nil
}

// keyReader takes a key apart; after the first error it returns zeros.
type keyReader struct {
	b    []byte
	flip byte // 0xff for a descending key
	err  error
}

func (k *keyReader) fail(what string) {
	if k.err == nil {
		k.err = fault.Corrupt.Errorf("index key: %s", what)
	}
	k.b = nil
}

func (k *keyReader) value(nesting int) Value {
	switch tag := k.byte(); tag {
	case keyNull:
		return Value{}
	case keyFalse, keyTrue:
		return OfBool(tag == keyTrue)
	case keyNumber:
		return k.number()
	case keyString:
		return OfString(k.text())
	case keyTime:
		seconds, nanos := k.uint(8)^signBit, k.uint(4)
		if nanos > maxNanos {
			k.fail("a time out of range")
			return Value{}
		}
		return ofTime(int64(seconds), int32(nanos), 0)
	case keyBytes:
		return Value{kind: Bytes, s: k.text()}
	case keyRef:
		var id [refSize]byte
		for i := range id {
			id[i] = k.byte()
		}
		return OfRef(id)
	case keyList, keyMap:
		if nesting == 0 {
			k.fail("nested too deeply")
			return Value{}
		}
		if tag == keyList {
			return k.list(nesting - 1)
		}
		return k.members(nesting - 1)
	}
	k.fail("unknown kind")
	return Value{}
}

func (k *keyReader) number() Value {
	bits := k.uint(8)
	if bits&signBit != 0 {
		bits &^= signBit
	} else {
		bits = ^bits
	}
	f := math.Float64frombits(bits)
	if math.IsNaN(f) || math.IsInf(f, 0) || f == 0 && bits != 0 {
		k.fail("a float that is not finite, or negative zero")
		return Value{}
	}
	v := OfFloat(f)
	i, ok := v.integral()
	if !ok {
		return v
	}
	if hasGaps(f) {
		above := k.uint(2)
		i += int64(above)
		if floor, rest := floorFloat(i); floor != f || uint64(rest) != above {
			k.fail("a number out of range")
			return Value{}
		}
	}
	return OfInt(i)
}

func (k *keyReader) list(nesting int) Value {
	list := []Value{}
	for k.err == nil && !k.end() {
		list = append(list, k.value(nesting))
	}
	return OfList(list)
}

func (k *keyReader) members(nesting int) Value {
	c := &compound{keys: []string{}, list: []Value{}}
	for k.err == nil && !k.end() {
		if k.byte() != keyMember {
			k.fail("an object without a key")
		}
		key := k.text()
		if n := len(c.keys); n > 0 && key <= c.keys[n-1] {
			k.fail("object keys out of order")
		}
		c.keys = append(c.keys, key)
		c.list = append(c.list, k.value(nesting))
	}
	return Value{kind: Map, c: c}
}

// end reads the end of a list or map if it is there.
func (k *keyReader) end() bool {
	if len(k.b) == 0 || k.b[0]^k.flip != keyEnd {
		return false
	}
	k.b = k.b[1:]
	return true
}

func (k *keyReader) text() string {
	var s []byte
	for k.err == nil {
		c := k.byte()
		if c == 0 {
			switch k.byte() {
			case keyTextEnd:
				return string(s)
			case keyZero:
			default:
				k.fail("a damaged text")
			}
		}
		s = append(s, c)
	}
	return ""
}

func (k *keyReader) uint(size int) (n uint64) {
	for range size {
		n = n<<8 | uint64(k.byte())
	}
	return n
}

func (k *keyReader) byte() byte {
	if len(k.b) == 0 {
		k.fail("cut short")
		return 0
	}
	c := k.b[0] ^ k.flip
	k.b = k.b[1:]
	return c
}

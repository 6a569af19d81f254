package value

import (
	"encoding/hex"
	"math"
	"strconv"
	"unicode/utf8"
	"unsafe"
)

// AppendJSON appends v as JSON: times in RFC 3339, bytes in lower-case
// hexadecimal, references as the text of the docID, and floats with as few
// digits as tell them apart from their neighbours.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.kind {
	case Bool:
		return strconv.AppendBool(b, v.Bool())
	case Int:
		return strconv.AppendInt(b, v.Int(), 10)
	case Float32:
		return appendFloat(b, v.Float(), 32)
	case Float64:
		return appendFloat(b, v.Float(), 64)
	case String:
		return AppendJSONString(b, v.s)
	case Time:
		return append(v.appendTime(append(b, '"')), '"')
	case Bytes:
		b = hex.AppendEncode(append(b, '"'), unsafe.Slice(unsafe.StringData(v.s), len(v.s)))
		return append(b, '"')
	case Ref:
		return append(AppendRefText(append(b, '"'), v.Ref()), '"')
	case List:
		b = append(b, '[')
		for i, e := range v.c.list {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.AppendJSON(b)
		}
		return append(b, ']')
	case Map:
		b = append(b, '{')
		for i, e := range v.c.list {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(AppendJSONString(b, v.c.keys[i]), ':')
			b = e.AppendJSON(b)
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

// appendFloat writes an exponent only where the digits would not end, in the
// same cases and in the same way as JavaScript does.
func appendFloat(b []byte, f float64, bits int) []byte {
	format := byte('f')
	if size := math.Abs(f); size != 0 && (size < 1e-6 || size >= 1e21) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, f, format, -1, bits)
	if n := len(b); format == 'e' && b[n-3] == '-' && b[n-2] == '0' {
		b = append(b[:n-2], b[n-1]) // e-07 is e-7
	}
	return b
}

// AppendJSONString appends s as a JSON string. What is not valid UTF-8 becomes
// the replacement character.
func AppendJSONString(b []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	start := 0 // s[start:i] needs no escape
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += size
			continue
		}
		i++
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i-1]...)
		start = i
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(b, s[start:]...), '"')
}

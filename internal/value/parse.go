package value

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/pandodb/pando/internal/fault"
)

// MaxValues is how many values one JSON text may hold, each list, object and element
// counted: a value takes a hundred bytes of memory, and two of the text.
const MaxValues = 1 << 20

// ParseJSON reads one JSON text. A number is an Int if it is whole and fits, in
// whatever spelling (1.0 and 1e0 are the Int 1), else the nearest Float64.
// Refused are numbers beyond the floats, integers that fit neither an Int nor
// exactly a Float64, keys that occur twice in one object, halves of surrogate
// pairs, more than MaxNesting levels, and more than MaxValues values.
func ParseJSON(in []byte) (Value, error) { return ParseJSONNested(in, MaxNesting) }

// ParseJSONNested is ParseJSON for texts of more levels, inside which values are.
// No value that is stored has more than MaxNesting.
func ParseJSONNested(in []byte, levels int) (Value, error) {
	p := parser{in: in, levels: levels}
	if !utf8.Valid(in) {
		p.fail("text is not valid UTF-8")
		return Value{}, p.located()
	}
	v := p.value(levels)
	if p.space(); p.err == nil && p.pos < len(in) {
		p.fail("unexpected %s after the end of the value", p.here())
	}
	if p.err != nil {
		return Value{}, p.located()
	}
	return v, nil
}

// ParseNumber reads a number, which text is by the grammar of JSON: as ParseJSON
// does, but for one with a point or an exponent, which is always a Float64.
func ParseNumber(text string) (Value, error) {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return OfInt(i), nil
	}
	f, err := nearest(text, !strings.ContainsAny(text, ".eE"))
	return OfFloat(f), err
}

// nearest returns the nearest float of a number. An integer must not lose digits
// that somebody may have meant.
func nearest(text string, integer bool) (float64, error) {
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return 0, fault.Invalid.Errorf("the number %s is beyond the range of floats", quote(text))
	case integer && !lossless(text, f):
		return 0, fault.Invalid.Errorf("the integer %s fits neither 64 bits nor a float without loss: write it as a string", quote(text))
	}
	return f, nil
}

// lossless reports whether a float that was read from an integer is that integer,
// or the one that the float is printed as.
func lossless(text string, f float64) bool {
	if strconv.FormatFloat(f, 'f', -1, 64) == text {
		return true
	}
	var exact big.Int
	big.NewFloat(f).Int(&exact)
	return exact.String() == text
}

// parser goes through JSON text; after the first error it returns zeros.
type parser struct {
	in     []byte
	pos    int
	levels int
	count  int // values so far
	err    error
	place  string   // of err: line and column
	keys   []string // of the objects that are open, and what is in them and in the lists
	items  []Value
	path   string // from the root to where err is, as far as it is known
}

func (p *parser) fail(format string, args ...any) {
	if p.err != nil {
		return
	}
	read := p.in[:min(p.pos, len(p.in))]
	line := 1 + bytes.Count(read, []byte("\n"))
	column := 1 + utf8.RuneCount(read[1+bytes.LastIndexByte(read, '\n'):])
	p.place = fmt.Sprintf("%d:%d", line, column)
	p.err = fault.Invalid.Errorf(format, args...)
	p.pos = len(p.in)
}

// within says, once something has failed, below which key or index it was.
func (p *parser) within(step func() string) {
	const enough = 200 // bytes of a path that a person reads
	if p.err != nil && len(p.path) < enough {
		p.path = step() + p.path
	}
}

// taken takes the end of a stack off, from start.
func taken[T any](stack *[]T, start int) []T {
	end := slices.Clone((*stack)[start:])
	*stack = (*stack)[:start]
	return end
}

// located returns the error with its place in the text and in the value.
func (p *parser) located() error {
	if path := strings.TrimPrefix(p.path, "."); path != "" {
		return fault.Invalid.Errorf("JSON %s: %s: %w", p.place, path, p.err)
	}
	return fault.Invalid.Errorf("JSON %s: %w", p.place, p.err)
}

// here describes what stands at the current place.
func (p *parser) here() string {
	if p.pos >= len(p.in) {
		return "end of input"
	}
	r, _ := utf8.DecodeRune(p.in[p.pos:])
	return strconv.QuoteRune(r)
}

// space skips white space.
func (p *parser) space() {
	for p.pos < len(p.in) {
		switch p.in[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// next skips white space and returns the byte after it, 0 at the end.
func (p *parser) next() byte {
	p.space()
	if p.pos >= len(p.in) {
		return 0
	}
	return p.in[p.pos]
}

func (p *parser) value(nesting int) Value {
	if p.count++; p.count > MaxValues {
		p.fail("there are more than %d values: send fewer at once", MaxValues)
		return Value{}
	}
	switch c := p.next(); {
	case c == '"':
		return OfString(p.string())
	case c == '-' || isDigit(c):
		return p.number()
	case (c == '[' || c == '{') && nesting == 0:
		p.fail("lists and objects nested more than %d deep", p.levels)
	case c == '[':
		return p.list(nesting - 1)
	case c == '{':
		return p.object(nesting - 1)
	case p.word("null"):
		return Value{}
	case p.word("true"):
		return OfBool(true)
	case p.word("false"):
		return OfBool(false)
	default:
		p.fail("unexpected %s where a value should be", p.here())
	}
	return Value{}
}

func (p *parser) word(w string) bool {
	if !bytes.HasPrefix(p.in[p.pos:], []byte(w)) {
		return false
	}
	p.pos += len(w)
	return true
}

func (p *parser) list(nesting int) Value {
	p.pos++
	if p.next() == ']' {
		p.pos++
		return OfList([]Value{})
	}
	start := len(p.items)
	for i := 0; p.err == nil; i++ {
		v := p.value(nesting)
		p.within(func() string { return "[" + strconv.Itoa(i) + "]" })
		p.items = append(p.items, v)
		if p.end(']') {
			return OfList(taken(&p.items, start))
		}
	}
	return Value{}
}

func (p *parser) object(nesting int) Value {
	p.pos++
	if p.next() == '}' {
		p.pos++
		return ofMembers([]string{}, []Value{})
	}
	firstKey, first := len(p.keys), len(p.items)
	for p.err == nil {
		if p.next() != '"' {
			p.fail("unexpected %s where a key in quotes should be", p.here())
			break
		}
		key := p.string()
		if p.next() != ':' {
			p.fail("unexpected %s where a colon should be", p.here())
			break
		}
		p.pos++
		v := p.value(nesting)
		p.within(func() string { return "." + shown(key) })
		p.keys, p.items = append(p.keys, key), append(p.items, v)
		if p.end('}') {
			return p.unique(ofMembers(taken(&p.keys, firstKey), taken(&p.items, first)))
		}
	}
	return Value{}
}

// end reads a comma, or the end of a list or object, which it reports.
func (p *parser) end(closing byte) bool {
	switch p.next() {
	case ',':
		p.pos++
	case closing:
		p.pos++
		return p.err == nil
	default:
		p.fail("unexpected %s where a comma or %q should be", p.here(), closing)
	}
	return false
}

func (p *parser) unique(v Value) Value {
	for i := 1; i < len(v.c.keys); i++ {
		if v.c.keys[i] == v.c.keys[i-1] {
			p.fail("key %s occurs twice in this object: keep one", quote(v.c.keys[i]))
			return Value{}
		}
	}
	return v
}

// string reads a string; the current byte is its opening quote.
func (p *parser) string() string {
	p.pos++
	start := p.pos
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; {
		case c == '"':
			p.pos++
			return string(p.in[start : p.pos-1])
		case c == '\\':
			return p.escaped(start)
		case c < ' ':
			p.fail("control character in a string: write it as \\u%04x", c)
			return ""
		}
		p.pos++
	}
	p.fail("the string is not closed")
	return ""
}

// escaped reads the rest of a string that began at start, from its first escape.
func (p *parser) escaped(start int) string {
	s := slices.Clone(p.in[start:p.pos])
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; {
		case c == '"':
			p.pos++
			return string(s)
		case c == '\\':
			s = utf8.AppendRune(s, p.escape())
			if p.err != nil {
				return ""
			}
		case c < ' ':
			p.fail("control character in a string: write it as \\u%04x", c)
			return ""
		default:
			s = append(s, c)
			p.pos++
		}
	}
	p.fail("the string is not closed")
	return ""
}

const (
	escapes = `"\/bfnrt`
	escaped = "\"\\/\b\f\n\r\t"
)

// escape reads a backslash and what belongs to it.
func (p *parser) escape() rune {
	p.pos++
	if p.pos < len(p.in) && p.in[p.pos] != 'u' {
		if i := strings.IndexByte(escapes, p.in[p.pos]); i >= 0 {
			p.pos++
			return rune(escaped[i])
		}
		p.fail("unknown escape %s in a string", p.here())
		return 0
	}
	p.pos--
	r := p.unit()
	if !utf16.IsSurrogate(r) {
		return r
	}
	if full := utf16.DecodeRune(r, p.unit()); full != utf8.RuneError {
		return full
	}
	p.fail("half of a surrogate pair in a string")
	return 0
}

// unit reads \u and four hexadecimal digits.
func (p *parser) unit() rune {
	const size = len(`\u0000`)
	if len(p.in)-p.pos < size || p.in[p.pos] != '\\' || p.in[p.pos+1] != 'u' {
		p.fail("incomplete \\u escape in a string")
		return 0
	}
	var r rune
	for _, c := range p.in[p.pos+2 : p.pos+size] {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			p.fail("a \\u escape needs four hexadecimal digits")
			return 0
		}
	}
	p.pos += size
	return r
}

// number reads a number by the grammar of JSON.
func (p *parser) number() Value {
	start := p.pos
	if p.in[p.pos] == '-' {
		p.pos++
	}
	whole := p.digits()
	if len(whole) > 1 && whole[0] == '0' {
		p.fail("a number must not begin with 0")
	}
	var fraction, exponent []byte
	if p.pos < len(p.in) && p.in[p.pos] == '.' {
		p.pos++
		fraction = p.digits()
	}
	if p.pos < len(p.in) && p.in[p.pos]|0x20 == 'e' {
		p.pos++
		mark := p.pos
		if p.pos < len(p.in) && (p.in[p.pos] == '+' || p.in[p.pos] == '-') {
			p.pos++
		}
		p.digits()
		exponent = p.in[mark:p.pos]
	}
	if p.err != nil {
		return Value{}
	}
	if len(fraction) == 0 && len(exponent) == 0 { // the common case allocates nothing
		if i, err := strconv.ParseInt(string(p.in[start:p.pos]), 10, 64); err == nil {
			return OfInt(i)
		}
	}
	text := string(p.in[start:p.pos])
	if i, ok := wholeNumber(text[0] == '-', whole, fraction, exponent); ok {
		return OfInt(i)
	}
	f, err := nearest(text, len(fraction) == 0 && len(exponent) == 0)
	if err != nil {
		p.fail("%w", err)
	}
	return OfFloat(f)
}

// digits reads one digit or more.
func (p *parser) digits() []byte {
	start := p.pos
	for p.pos < len(p.in) && isDigit(p.in[p.pos]) {
		p.pos++
	}
	if p.pos == start {
		p.fail("unexpected %s where a digit should be", p.here())
	}
	return p.in[start:p.pos]
}

// wholeNumber returns the integer that a decimal number is exactly equal to, if
// there is one of 64 bits. It does not go through floats, which would lose the
// last digits of 9007199254740993.0.
func wholeNumber(negative bool, whole, fraction, exponent []byte) (i int64, ok bool) {
	const maxDigits = 19 // of an int64
	all := append(append([]byte("-"), whole...), fraction...)
	sign, ds := all[:1], bytes.TrimLeft(all[1:], "0")
	if len(ds) == 0 {
		return 0, true
	}
	shift := 0
	if len(exponent) > 0 {
		var err error
		if shift, err = strconv.Atoi(string(exponent)); err != nil || shift > math.MaxInt32 || shift < math.MinInt32 {
			return 0, false
		}
	}
	trimmed := bytes.TrimRight(ds, "0")
	shift += len(ds) - len(trimmed) - len(fraction)
	if shift < 0 || len(trimmed)+shift > maxDigits {
		return 0, false
	}
	if !negative {
		sign = nil
	}
	text := string(sign) + string(trimmed) + strings.Repeat("0", shift)
	i, err := strconv.ParseInt(text, 10, 64)
	return i, err == nil
}

// shown is a key in a path: as it is if it looks like a name.
func shown(key string) string {
	for i := range len(key) {
		if c := key[i]; c != '_' && !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'z') {
			return quote(key)
		}
	}
	if quoted := quote(key); len(quoted) != len(key)+2 || key == "" {
		return quoted
	}
	return key
}

// quote shows s in a message, not all of it if it is long.
func quote(s string) string {
	const enough = 60
	if len(s) > enough {
		return strconv.Quote(s[:enough]) + "…"
	}
	return strconv.Quote(s)
}

package crdt

import (
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// The shortest decimal of every finite float64 is within these limits: the
// greatest has 309 digits before the point, the smallest 324 after it. They bound
// what the exact sum can grow to.
const (
	MaxDigits   = 309
	MaxFraction = 324
)

// Increment returns the Val of a counter's Delta that adds v: an Int for a counter
// of integers, any number for a counter of floats. A float counts as its shortest
// decimal, so that ten increments of 0.1 are 1.
func Increment(t value.Type, v value.Value) (value.Value, error) {
	isFloat := t == value.TypeFloat64 || t == value.TypeFloat32
	switch k := v.Kind(); {
	case t == value.TypeInt && k == value.Int:
		return v, nil
	case isFloat && k == value.Int:
		return value.OfString(strconv.FormatInt(v.Int(), 10)), nil
	case isFloat && (k == value.Float64 || k == value.Float32):
		size := 64
		if k == value.Float32 {
			size = 32
		}
		f := v.Float()
		if f == 0 { // the sign of -0 has no place in a decimal
			f = 0
		}
		return value.OfString(strconv.FormatFloat(f, 'f', -1, size)), nil
	}
	return value.Value{}, fault.Invalid.Errorf("a counter of %v cannot be incremented by that value: give a number of its type", t)
}

// increment returns what a counter operation adds as a canonical decimal.
func increment(k Kind, v value.Value) (string, error) {
	var text string
	switch {
	case k.Type() == value.TypeInt && v.Kind() == value.Int:
		text = strconv.FormatInt(v.Int(), 10)
	case k.Type() != value.TypeInt && v.Kind() == value.String:
		text = v.Text()
		whole, fraction, ok := splitDecimal(text)
		if !ok {
			return "", fault.Invalid.Errorf("%.40q is not a canonical decimal: write it like -12.5, without exponent, leading or trailing zeros", text)
		}
		if len(whole) > MaxDigits || len(fraction) > MaxFraction {
			return "", fault.Invalid.Errorf("increment has %d digits and %d decimals: at most %d and %d are allowed",
				len(whole), len(fraction), MaxDigits, MaxFraction)
		}
	default:
		return "", fault.Invalid.Errorf("increment of a counter of %v is missing or of another type: give a number", k.Type())
	}
	if k.Rule() == PCounter && text[0] == '-' {
		return "", fault.Invalid.Errorf("increment %.40s is negative: only a pncounter can be decremented", text)
	}
	return text, nil
}

// splitDecimal checks that text is a canonical decimal and returns the digits
// before and after the point.
func splitDecimal[T string | []byte](text T) (whole, fraction T, ok bool) {
	whole = text
	negative := len(whole) > 0 && whole[0] == '-'
	if negative {
		whole = whole[1:]
	}
	for i := range len(whole) {
		if whole[i] == '.' {
			whole, fraction = whole[:i], whole[i+1:]
			if len(fraction) == 0 || fraction[len(fraction)-1] == '0' {
				return whole, fraction, false
			}
			break
		}
	}
	if len(whole) == 0 || !allDigits(whole) || !allDigits(fraction) {
		return whole, fraction, false
	}
	if whole[0] == '0' && (len(whole) > 1 || negative && len(fraction) == 0) {
		return whole, fraction, false
	}
	return whole, fraction, true
}

func allDigits[T string | []byte](text T) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return true
}

// smallDigits is how many decimal digits two numbers may have so that they and
// their sum fit in an int64.
const smallDigits = 18

// addDecimal returns the canonical decimal of a + b, both canonical.
func addDecimal(a, b string) string {
	_, fa, _ := splitDecimal(a)
	_, fb, _ := splitDecimal(b)
	scale := max(len(fa), len(fb))
	a, b = unscaled(a, scale-len(fa)), unscaled(b, scale-len(fb))
	if max(len(a), len(b)) <= smallDigits {
		x, _ := strconv.ParseInt(a, 10, 64)
		y, _ := strconv.ParseInt(b, 10, 64)
		return scaled(strconv.FormatInt(x+y, 10), scale)
	}
	var x, y big.Int
	x.SetString(a, 10)
	y.SetString(b, 10)
	return scaled(x.Add(&x, &y).String(), scale)
}

// unscaled returns the digits of a decimal without the point, and more zeros.
func unscaled(text string, zeros int) string {
	if i := strings.IndexByte(text, '.'); i >= 0 {
		text = text[:i] + text[i+1:]
	}
	if zeros == 0 {
		return text
	}
	return text + strings.Repeat("0", zeros)
}

// scaled returns the canonical decimal of an integer divided by 10^scale.
func scaled(text string, scale int) string {
	if scale == 0 {
		return text
	}
	sign := ""
	if text[0] == '-' {
		sign, text = "-", text[1:]
	}
	if missing := scale + 1 - len(text); missing > 0 {
		text = strings.Repeat("0", missing) + text
	}
	whole, fraction := text[:len(text)-scale], strings.TrimRight(text[len(text)-scale:], "0")
	if fraction == "" {
		return sign + whole
	}
	return sign + whole + "." + fraction
}

// Overflows reports whether an increment would take a counter beyond what its
// type shows, or further beyond. Increments of several authors may, but who sees
// the sum should not add to it in vain.
func (d Document) Overflows(by Delta) bool {
	text, err := increment(by.Kind, by.Val)
	if err != nil || text == "0" {
		return false
	}
	sum := text
	if payload, ok := d.find(by.Field, by.Kind); ok {
		sum = addDecimal(string(payload), text)
	}
	return (sum[0] == '-') == (text[0] == '-') && beyond(by.Kind.Type(), sum)
}

// beyond reports whether a sum is not shown as it is, or rounded, but cut off.
func beyond(t value.Type, sum string) bool {
	var err error
	switch t {
	case value.TypeInt:
		_, err = strconv.ParseInt(sum, 10, 64)
	case value.TypeFloat64:
		_, err = strconv.ParseFloat(sum, 64)
	case value.TypeFloat32:
		_, err = strconv.ParseFloat(sum, 32)
	}
	return err != nil
}

// shown returns what readers see of a counter whose exact sum is text.
func shown(t value.Type, text string) (value.Value, bool) {
	_, fraction, ok := splitDecimal(text)
	if !ok {
		return value.Value{}, false
	}
	switch t {
	case value.TypeInt:
		n, _ := strconv.ParseInt(text, 10, 64) // saturates when out of range
		return value.OfInt(n), len(fraction) == 0
	case value.TypeFloat64:
		f, _ := strconv.ParseFloat(text, 64)
		return value.OfFloat(max(-math.MaxFloat64, min(f, math.MaxFloat64))), true
	case value.TypeFloat32:
		f, _ := strconv.ParseFloat(text, 32)
		return value.OfFloat32(float32(max(-math.MaxFloat32, min(f, math.MaxFloat32)))), true
	}
	return value.Value{}, false
}

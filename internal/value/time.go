package value

import (
	"strconv"
	"time"
)

// timeSize is the size of the longest time in text.
const timeSize = len("2006-01-02T15:04:05.999999999+00:00")

// appendTime appends t in RFC 3339 with its own offset and as many digits of the
// fraction as it needs: the canonical text, in JSON and in commits.
func (v Value) appendTime(b []byte) []byte {
	local := time.Unix(int64(v.n)+int64(v.off), int64(v.aux)).UTC()
	b = local.AppendFormat(b, "2006-01-02T15:04:05.999999999")
	if v.off == 0 {
		return append(b, 'Z')
	}
	sign, minutes := byte('+'), v.off/60
	if minutes < 0 {
		sign, minutes = '-', -minutes
	}
	b = append(b, sign, byte('0'+minutes/600), byte('0'+minutes/60%10), ':')
	return append(b, byte('0'+minutes%60/10), byte('0'+minutes%10))
}

// yearFits reports whether t, in its own offset, has a year of four digits.
func (v Value) yearFits() bool {
	const first, last = -62167219200, 253402300799 // 0000-01-01T00:00:00Z, 9999-12-31T23:59:59Z
	local := int64(v.n) + int64(v.off)
	return int64(v.n) >= first-maxOffsetMin*60 && int64(v.n) <= last+maxOffsetMin*60 && local >= first && local <= last
}

// parseTime reads RFC 3339, strictly: all parts, upper-case T and Z, up to nine
// digits of a fraction. The standard library accepts a good deal more.
func parseTime(s string) (v Value, ok bool) {
	const date = "0000-00-00T00:00:00" // 0 stands for a digit
	if len(s) < len(date)+1 {
		return Value{}, false
	}
	for i := range len(date) {
		if date[i] == '0' && !isDigit(s[i]) || date[i] != '0' && date[i] != s[i] {
			return Value{}, false
		}
	}
	year, month, day := digits(s[0:4]), digits(s[5:7]), digits(s[8:10])
	hour, minute, second := digits(s[11:13]), digits(s[14:16]), digits(s[17:19])
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	// Date carries what is too large for its place into the next one.
	if hour > 23 || minute > 59 || second > 59 || t.Month() != time.Month(month) || t.Day() != day {
		return Value{}, false
	}
	nanos, zone, ok := parseFraction(s[len(date):])
	if !ok {
		return Value{}, false
	}
	offset, ok := parseOffset(zone)
	if !ok {
		return Value{}, false
	}
	return ofTime(t.Unix()-int64(offset), nanos, offset), true
}

func parseFraction(s string) (nanos int32, rest string, ok bool) {
	if s[0] != '.' {
		return 0, s, true
	}
	n := 1
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	if n == 1 || n > 10 {
		return 0, "", false
	}
	nanos = int32(digits(s[1:n]))
	for range 10 - n {
		nanos *= 10
	}
	return nanos, s[n:], true
}

func parseOffset(s string) (seconds int32, ok bool) {
	if s == "Z" {
		return 0, true
	}
	if len(s) != len("+00:00") || s[0] != '+' && s[0] != '-' || s[3] != ':' ||
		!isDigit(s[1]) || !isDigit(s[2]) || !isDigit(s[4]) || !isDigit(s[5]) {
		return 0, false
	}
	hour, minute := digits(s[1:3]), digits(s[4:6])
	if hour > 23 || minute > 59 {
		return 0, false
	}
	seconds = int32(hour*3600 + minute*60)
	if s[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// digits returns the number that s, at most nine digits, spells.
func digits(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

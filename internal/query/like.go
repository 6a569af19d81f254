package query

import (
	"strings"
	"unicode/utf8"
)

// pattern is a compiled pattern of _like: text in which % stands for any text,
// also none. Nothing else is special; an underscore is an underscore, as it
// always was in this dialect.
type pattern struct {
	parts []string // between the %s; one part: equality
	fold  bool     // letter case is ignored; the parts are lower case
}

func newPattern(text string, fold bool) pattern {
	if fold {
		text = strings.ToLower(text)
	}
	return pattern{strings.Split(text, "%"), fold}
}

// matches reports whether all of s fits the pattern. It allocates only for texts
// with letters beyond ASCII whose case is to be ignored.
func (p pattern) matches(s string) bool {
	if p.fold && !isASCII(s) {
		s = strings.ToLower(s)
	}
	first, last := p.parts[0], p.parts[len(p.parts)-1]
	if len(p.parts) == 1 {
		return len(s) == len(first) && p.hasPrefix(s, first)
	}
	if len(s) < len(first)+len(last) || !p.hasPrefix(s, first) || !p.hasPrefix(s[len(s)-len(last):], last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range p.parts[1 : len(p.parts)-1] {
		i := p.index(s, part) // the leftmost place leaves most for the parts to come
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}

func (p pattern) hasPrefix(s, prefix string) bool {
	if !p.fold {
		return strings.HasPrefix(s, prefix)
	}
	if len(s) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if lower(s[i]) != prefix[i] {
			return false
		}
	}
	return true
}

func (p pattern) index(s, part string) int {
	if !p.fold {
		return strings.Index(s, part)
	}
	for i := 0; i+len(part) <= len(s); i++ {
		if p.hasPrefix(s[i:], part) {
			return i
		}
	}
	return -1
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

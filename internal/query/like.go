package query

import (
	"strings"
	"unicode/utf8"
)

// pattern is a compiled pattern of _like: % stands for any text, also none, and _
// for one character. A backslash before one of these, or before another backslash,
// lets it stand for itself.
type pattern struct {
	parts []part // between the %s; one part: the whole text
	fold  bool   // letter case is ignored; the parts are lower case
}

// part is text that a pattern asks for in one piece: what stands between the _s.
type part []string

func newPattern(text string, fold bool) pattern {
	if fold {
		text = strings.ToLower(text)
	}
	p := pattern{fold: fold}
	var of part
	var piece []byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text) && strings.IndexByte(`%_\`, text[i+1]) >= 0:
			i++
			piece = append(piece, text[i])
		case c == '_':
			of, piece = append(of, string(piece)), nil
		case c == '%':
			p.parts = append(p.parts, append(of, string(piece)))
			of, piece = nil, nil
		default:
			piece = append(piece, c)
		}
	}
	p.parts = append(p.parts, append(of, string(piece)))
	return p
}

// matches reports whether all of s fits the pattern. It allocates only for texts
// with letters beyond ASCII whose case is to be ignored.
func (p pattern) matches(s string) bool {
	if p.fold && !isASCII(s) {
		s = strings.ToLower(s)
	}
	s, ok := p.cutPrefix(s, p.parts[0])
	if !ok {
		return false
	}
	if len(p.parts) == 1 {
		return s == ""
	}
	last := len(p.parts) - 1
	if s, ok = p.cutSuffix(s, p.parts[last]); !ok {
		return false
	}
	for _, part := range p.parts[1:last] { // the leftmost place leaves most for the parts to come
		if s, ok = p.cutThrough(s, part); !ok {
			return false
		}
	}
	return true
}

// cutPrefix returns what is left of s after a part with which it begins.
func (p pattern) cutPrefix(s string, part part) (string, bool) {
	for i, piece := range part {
		if i > 0 {
			if s == "" {
				return s, false
			}
			_, n := utf8.DecodeRuneInString(s)
			s = s[n:]
		}
		if !p.hasPrefix(s, piece) {
			return s, false
		}
		s = s[len(piece):]
	}
	return s, true
}

// cutSuffix returns what is left of s before a part with which it ends.
func (p pattern) cutSuffix(s string, part part) (string, bool) {
	for i := len(part) - 1; i >= 0; i-- {
		piece := part[i]
		if len(s) < len(piece) || !p.hasPrefix(s[len(s)-len(piece):], piece) {
			return s, false
		}
		s = s[:len(s)-len(piece)]
		if i > 0 {
			if s == "" {
				return s, false
			}
			_, n := utf8.DecodeLastRuneInString(s)
			s = s[:len(s)-n]
		}
	}
	return s, true
}

// cutThrough returns what is left of s after the first place where the part stands.
func (p pattern) cutThrough(s string, part part) (string, bool) {
	if len(part) == 1 {
		i := p.index(s, part[0])
		if i < 0 {
			return s, false
		}
		return s[i+len(part[0]):], true
	}
	for {
		if rest, ok := p.cutPrefix(s, part); ok {
			return rest, true
		}
		if s == "" {
			return s, false
		}
		_, n := utf8.DecodeRuneInString(s)
		s = s[n:]
	}
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

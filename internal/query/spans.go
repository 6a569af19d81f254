package query

import (
	"bytes"
	"slices"

	"github.com/pandodb/pando/internal/value"
)

// span is an interval of the keys of values (value.AppendKey): from lo up to, but
// without, hi; nil is no bound. A bound may be the beginning of a key: then it
// stands before all keys that begin so.
type span struct{ lo, hi []byte }

// spans is the set of the values that meet a condition on one field, as disjoint
// intervals in ascending order.
type spans struct {
	list  []span
	exact bool // no other values are in it
}

var (
	everyValue = spans{[]span{{}}, true}
	noValue    = spans{nil, true}
	// firstValue is where the keys begin of what is not null.
	firstValue = after(value.Value{}.AppendKey(nil))
)

// after returns the least bytes greater than all that begin with b; nil if there
// are none.
func after(b []byte) []byte {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0xff {
			return append(b[:i:i], b[i]+1)
		}
	}
	return nil
}

// prefixed is the span of the keys that begin with b.
func prefixed(b []byte) span { return span{b, after(b)} }

func pointOf(v value.Value) span { return prefixed(v.AppendKey(make([]byte, 0, 40))) }

func points(vs []value.Value) spans {
	list := make([]span, len(vs))
	for i, v := range vs {
		list[i] = pointOf(v)
	}
	return spans{normal(list), true}
}

// classOf is the span of the values that are in an order with v.
func classOf(v value.Value) span {
	key := v.AppendKey(nil)
	if v.Kind() == value.Bool { // they have a tag each
		return span{value.OfBool(false).AppendKey(nil), after(value.OfBool(true).AppendKey(nil))}
	}
	return prefixed(key[:1])
}

// normal sorts spans and joins those that meet.
func normal(list []span) []span {
	slices.SortFunc(list, func(a, b span) int { return bytes.Compare(a.lo, b.lo) })
	out := list[:0]
	for _, s := range list {
		if s.isEmpty() {
			continue
		}
		if n := len(out); n > 0 && (out[n-1].hi == nil || bytes.Compare(s.lo, out[n-1].hi) <= 0) && !neighbours(out[n-1], s) {
			out[n-1].hi = latest(out[n-1].hi, s.hi)
			continue
		}
		out = append(out, s)
	}
	return out
}

// neighbours reports whether the spans touch and do not overlap. They are left
// apart: each may be one value, after which the next column can be narrowed.
func neighbours(a, b span) bool { return a.hi != nil && bytes.Equal(a.hi, b.lo) }

func (s span) isEmpty() bool { return s.hi != nil && bytes.Compare(s.lo, s.hi) >= 0 }

// latest returns the greater of two upper bounds.
func latest(a, b []byte) []byte {
	if a == nil || b == nil {
		return nil
	}
	if bytes.Compare(a, b) < 0 {
		return b
	}
	return a
}

// and is the set of the values that are in both.
func (s spans) and(t spans) spans {
	out := spans{exact: s.exact && t.exact}
	for i, j := 0, 0; i < len(s.list) && j < len(t.list); {
		a, b := s.list[i], t.list[j]
		both := span{a.lo, a.hi}
		if bytes.Compare(b.lo, a.lo) > 0 {
			both.lo = b.lo
		}
		if a.hi == nil || b.hi != nil && bytes.Compare(b.hi, a.hi) < 0 {
			both.hi = b.hi
			j++
		} else {
			i++
		}
		if !both.isEmpty() {
			out.list = append(out.list, both)
		}
	}
	return out
}

// anyOfSpans is the set of the values that are in one of them.
func anyOfSpans(each []spans) spans {
	all := spans{exact: true}
	for _, s := range each {
		all.list = append(all.list, s.list...)
		all.exact = all.exact && s.exact
	}
	all.list = normal(all.list)
	return all
}

// not is the set of the values that are not in s, which must be exact.
func (s spans) not() spans {
	out := spans{exact: true}
	lo, open := []byte(nil), true
	for _, p := range s.list {
		if gap := (span{lo, p.lo}); len(p.lo) > 0 && !gap.isEmpty() {
			out.list = append(out.list, gap)
		}
		if lo = p.hi; lo == nil {
			open = false
		}
	}
	if open {
		out.list = append(out.list, span{lo, nil})
	}
	return out
}

// isPoint reports whether the span is that of one value.
func (s span) isPoint() bool {
	if len(s.lo) == 0 || s.hi == nil || !bytes.Equal(after(s.lo), s.hi) {
		return false
	}
	_, rest, err := value.DecodeKey(s.lo)
	return err == nil && len(rest) == 0
}

// descending turns the span over, for a column whose keys are turned around. A
// bound begins as many keys as before.
func (s span) descending() span {
	var d span
	if s.hi != nil {
		d.lo = after(flipped(s.hi))
	}
	if len(s.lo) > 0 {
		d.hi = after(flipped(s.lo))
	}
	return d
}

func flipped(b []byte) []byte {
	f := make([]byte, len(b))
	for i, c := range b {
		f[i] = ^c
	}
	return f
}

// spansOf returns the values of type t, no list and no JSON, that meet a block of
// conditions which has compiled: at least those, and no others if it is exact.
func spansOf(t value.Type, block value.Value) spans {
	if block.IsNull() {
		return points([]value.Value{{}})
	}
	all := everyValue
	for name, operand := range block.Members() {
		if t == value.TypeRef {
			operand = fit(operand)
		}
		all = all.and(comparedTo(t, name, operand))
	}
	return all
}

func comparedTo(t value.Type, name string, x value.Value) spans {
	switch name {
	case "_eq", "_ne":
		s := points([]value.Value{x})
		if t == value.TypeRef && x.Kind() == value.String {
			s = noValue
		}
		if name == "_ne" {
			return s.not()
		}
		return s
	case "_in":
		return points(x.List())
	case "_nin":
		return points(x.List()).not()
	case "_gt", "_ge", "_lt", "_le":
		return ordered(name, x)
	case "_like", "_ilike":
		return likened(t, name, x.Text())
	case "_nlike", "_nilike":
		if s := likened(t, name, x.Text()); s.exact {
			return s.not()
		}
	}
	return spans{everyValue.list, false}
}

// ordered returns the values that are in an order to x.
func ordered(name string, x value.Value) spans {
	one := func(s span) spans { return spans{[]span{s}, true} }
	if x.IsNull() {
		switch name {
		case "_gt":
			return one(span{firstValue, nil})
		case "_ge":
			return everyValue
		case "_le":
			return points([]value.Value{x})
		}
		return noValue
	}
	class, at := classOf(x), pointOf(x)
	var s span
	switch name {
	case "_gt":
		s = span{at.hi, class.hi}
	case "_ge":
		s = span{at.lo, class.hi}
	case "_lt":
		s = span{class.lo, at.lo}
	default:
		s = span{class.lo, at.hi}
	}
	if s.isEmpty() {
		return noValue
	}
	return one(s)
}

// likened returns the values that may match a pattern: the texts that begin as it
// does, or at least what is not null.
func likened(t value.Type, name, pattern string) spans {
	notNull := spans{[]span{{firstValue, nil}}, false}
	if t == value.TypeBlob || name == "_ilike" || name == "_nilike" {
		return notNull
	}
	prefix, whole, open := literalPrefix(pattern)
	key := value.OfString(prefix).AppendKey(nil)
	if whole {
		return spans{[]span{prefixed(key)}, true}
	}
	return spans{[]span{prefixed(key[:len(key)-textEnd])}, open}
}

// textEnd is the length of what ends the key of a text.
const textEnd = 2

// literalPrefix returns what every text begins with that matches a pattern. It is
// whole if it is the only one, and open if whatever begins so matches.
func literalPrefix(pattern string) (prefix string, whole, open bool) {
	for i := range len(pattern) {
		switch pattern[i] {
		case '%':
			return pattern[:i], false, i == len(pattern)-1
		case '_', '\\': // perhaps special
			return pattern[:i], false, false
		}
	}
	return pattern, true, false
}

package query

import (
	"encoding/hex"
	"fmt"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// test is a condition on one value; nil holds always. Tests are called once a
// document and allocate nothing.
type test func(v value.Value) bool

// both joins two conditions.
func both(a, b test) test {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(v value.Value) bool { return a(v) && b(v) }
}

func isNull(v value.Value) bool { return v.IsNull() }
func never(value.Value) bool    { return false }

// block compiles the conditions on a field of type t: {_gt: 1, _lt: 9}. Null
// means {_eq: null}.
func block(t value.Type, v value.Value) (test, error) {
	if t.Scalar() == value.TypeJSON && !t.IsList() {
		return jsonBlock(v)
	}
	if v.IsNull() {
		return isNull, nil
	}
	if v.Kind() != value.Map {
		return nil, fault.Invalid.Errorf("expected an object of operators, got %s", describe(v))
	}
	var all test
	for name, operand := range v.Members() {
		one, err := compare(t, name, operand)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = both(all, one)
	}
	return all, nil
}

func compare(t value.Type, name string, operand value.Value) (test, error) {
	if t.IsList() {
		return quantifier(name, operand, func(v value.Value) (test, error) { return block(t.Scalar(), v) })
	}
	operand, err := fit(t, operand)
	if err != nil {
		return nil, err
	}
	switch name {
	case "_eq":
		return equal(operand), nil
	case "_ne":
		return negate(equal(operand)), nil
	case "_gt", "_ge", "_lt", "_le":
		return ordering(name, operand), nil
	case "_in", "_nin":
		return membership(name, operand)
	case "_like", "_nlike", "_ilike", "_nilike":
		return like(t, name, operand)
	}
	return nil, fault.Invalid.Errorf("there is no such operator for %s", t)
}

// fit turns the text of docIDs into what a relation holds. Text that is no docID
// stays text, which equals none.
func fit(t value.Type, v value.Value) (value.Value, error) {
	if t != value.TypeRef {
		return v, nil
	}
	switch v.Kind() {
	case value.String:
		if id, err := value.ParseRef(v.Text()); err == nil {
			return value.OfRef(id), nil
		}
	case value.List:
		list := make([]value.Value, len(v.List()))
		for i, e := range v.List() {
			list[i], _ = fit(t, e)
		}
		return value.OfList(list), nil
	}
	return v, nil
}

func negate(t test) test { return func(v value.Value) bool { return !t(v) } }

func equal(x value.Value) test {
	switch x.Kind() {
	case value.Null:
		return isNull
	case value.String:
		s := x.Text()
		return func(v value.Value) bool { return v.Kind() == value.String && v.Text() == s }
	}
	return func(v value.Value) bool { return value.Equal(v, x) }
}

// ordering compares with an operand. Null is below every value as an operand, but
// a datum that is null is in no order to a value.
func ordering(name string, x value.Value) test {
	if x.IsNull() {
		switch name {
		case "_gt":
			return negate(isNull)
		case "_ge":
			return nil
		case "_le":
			return isNull
		}
		return never
	}
	switch name {
	case "_gt":
		return func(v value.Value) bool { return comparable(v, x) && value.Compare(v, x) > 0 }
	case "_ge":
		return func(v value.Value) bool { return comparable(v, x) && value.Compare(v, x) >= 0 }
	case "_lt":
		return func(v value.Value) bool { return comparable(v, x) && value.Compare(v, x) < 0 }
	}
	return func(v value.Value) bool { return comparable(v, x) && value.Compare(v, x) <= 0 }
}

// comparable reports whether two values are of one sort: in a field of type JSON a
// text is neither more nor less than a number.
func comparable(a, b value.Value) bool {
	return a.Kind() == b.Kind() && !a.IsNull() || a.IsNumeric() && b.IsNumeric()
}

// manyElements is from how many elements on a membership is looked up in a table.
const manyElements = 8

func membership(name string, operand value.Value) (test, error) {
	if operand.Kind() != value.List {
		return nil, fault.Invalid.Errorf("expected a list, got %s", describe(operand))
	}
	in := memberOf(operand.List())
	if name == "_nin" {
		return negate(in), nil
	}
	return in, nil
}

func memberOf(list []value.Value) test {
	if len(list) >= manyElements {
		return memberOfTable(list)
	}
	return func(v value.Value) bool {
		for _, e := range list {
			if value.Equal(v, e) {
				return true
			}
		}
		return false
	}
}

// memberOfTable looks values up by their key, which is the same for equal values.
func memberOfTable(list []value.Value) test {
	table := make(map[string]bool, len(list))
	for _, e := range list {
		table[string(e.AppendKey(nil))] = true
	}
	return func(v value.Value) bool {
		var scratch [64]byte
		return table[string(v.AppendKey(scratch[:0]))]
	}
}

func like(t value.Type, name string, operand value.Value) (test, error) {
	if operand.Kind() != value.String {
		return nil, fault.Invalid.Errorf("expected a pattern, got %s", describe(operand))
	}
	fold := name == "_ilike" || name == "_nilike"
	p := newPattern(operand.Text(), fold || t == value.TypeBlob)
	matches := func(v value.Value) bool { return v.Kind() == value.String && p.matches(v.Text()) }
	if t == value.TypeBlob { // the pattern is of hexadecimal digits
		matches = func(v value.Value) bool {
			return v.Kind() == value.Bytes && p.matches(hex.EncodeToString(v.Bytes()))
		}
	}
	if name == "_nlike" || name == "_nilike" {
		return negate(matches), nil
	}
	return matches, nil
}

// quantifier compiles _any, _all and _none over the elements of a list; anything
// but a list satisfies none of them.
func quantifier(name string, operand value.Value, compile func(value.Value) (test, error)) (test, error) {
	switch name {
	case "_any", "_all", "_none":
	default:
		return nil, fault.Invalid.Errorf("there is no such operator for lists: use _any, _all or _none")
	}
	if operand.IsNull() {
		return nil, fault.Invalid.Errorf("expected conditions on the elements, got null")
	}
	one, err := compile(operand)
	if err != nil {
		return nil, err
	}
	found, result := true, true // what an element must be to decide, and for what
	switch name {
	case "_all":
		found, result = false, false
	case "_none":
		found, result = true, false
	}
	return func(v value.Value) bool {
		if v.Kind() != value.List {
			return false
		}
		for _, e := range v.List() {
			if (one == nil || one(e)) == found {
				return result
			}
		}
		return !result
	}, nil
}

package query

import (
	"encoding/hex"
	"fmt"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// test is a condition on one value, or a constant. Tests are called once a
// document and allocate nothing.
type test struct {
	truth
	holds func(v value.Value) bool // set if it depends on the value
}

func on(holds func(v value.Value) bool) test { return test{depends, holds} }

// both joins two conditions.
func both(a, b test) test {
	switch {
	case a.truth == never || b.truth == always:
		return a
	case b.truth == never || a.truth == always:
		return b
	}
	return on(func(v value.Value) bool { return a.holds(v) && b.holds(v) })
}

// of tells whether the test holds for v.
func (t test) of(v value.Value) bool {
	return t.truth == always || t.truth == depends && t.holds(v)
}

func isNull() test { return on(value.Value.IsNull) }

// block compiles the conditions on a field of type t: {_gt: 1, _lt: 9}. Null
// means {_eq: null}.
func block(t value.Type, v value.Value) (test, error) {
	if t.Scalar() == value.TypeJSON && !t.IsList() {
		return jsonBlock(v)
	}
	if v.IsNull() {
		return isNull(), nil
	}
	if v.Kind() != value.Map {
		return test{}, fault.Invalid.Errorf("expected an object of operators, got %s", describe(v))
	}
	var all test
	for name, operand := range v.Members() {
		one, err := compare(t, name, operand)
		if err != nil {
			return test{}, fmt.Errorf("%s: %w", name, err)
		}
		all = both(all, one)
	}
	return all, nil
}

func compare(t value.Type, name string, operand value.Value) (test, error) {
	if t.IsList() {
		return quantifier(name, operand, func(v value.Value) (test, error) { return block(t.Scalar(), v) })
	}
	if t == value.TypeRef {
		operand = fit(operand)
	}
	switch name {
	case "_eq":
		return same(t, operand), nil
	case "_ne":
		return negate(same(t, operand)), nil
	case "_gt", "_ge", "_lt", "_le":
		return ordering(name, operand), nil
	case "_in", "_nin":
		return membership(name, operand)
	case "_like", "_nlike", "_ilike", "_nilike":
		return like(t, name, operand)
	}
	return test{}, fault.Invalid.Errorf("there is no such operator for %s", t)
}

// fit turns the text of docIDs into what a relation holds. Text that is no docID
// stays text, which equals none; a list loses it.
func fit(v value.Value) value.Value {
	switch v.Kind() {
	case value.String:
		if id, err := value.ParseRef(v.Text()); err == nil {
			return value.OfRef(id)
		}
	case value.List:
		list := make([]value.Value, 0, v.Len())
		for _, e := range v.List() {
			if e = fit(e); e.Kind() != value.String {
				list = append(list, e)
			}
		}
		return value.OfList(list)
	}
	return v
}

func negate(t test) test {
	if t.truth != depends {
		return test{truth: t.truth.not()}
	}
	return on(func(v value.Value) bool { return !t.holds(v) })
}

// same is equal for values of type t.
func same(t value.Type, x value.Value) test {
	if t == value.TypeRef && x.Kind() == value.String {
		return test{truth: never}
	}
	return equal(x)
}

func equal(x value.Value) test {
	switch x.Kind() {
	case value.Null:
		return isNull()
	case value.String:
		s := x.Text()
		return on(func(v value.Value) bool { return v.Kind() == value.String && v.Text() == s })
	}
	return on(func(v value.Value) bool { return value.Equal(v, x) })
}

// ordering compares with an operand. Null is below every value as an operand, but
// a datum that is null is in no order to a value.
func ordering(name string, x value.Value) test {
	if x.IsNull() {
		switch name {
		case "_gt":
			return negate(isNull())
		case "_ge":
			return test{}
		case "_le":
			return isNull()
		}
		return test{truth: never}
	}
	switch name {
	case "_gt":
		return on(func(v value.Value) bool { return comparable(v, x) && value.Compare(v, x) > 0 })
	case "_ge":
		return on(func(v value.Value) bool { return comparable(v, x) && value.Compare(v, x) >= 0 })
	case "_lt":
		return on(func(v value.Value) bool { return comparable(v, x) && value.Compare(v, x) < 0 })
	}
	return on(func(v value.Value) bool { return comparable(v, x) && value.Compare(v, x) <= 0 })
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
		return test{}, fault.Invalid.Errorf("expected a list, got %s", describe(operand))
	}
	in := memberOf(operand.List())
	if name == "_nin" {
		return negate(in), nil
	}
	return in, nil
}

func memberOf(list []value.Value) test {
	switch {
	case len(list) == 0:
		return test{truth: never}
	case len(list) >= manyElements:
		return on(memberOfTable(list))
	}
	return on(func(v value.Value) bool {
		for _, e := range list {
			if value.Equal(v, e) {
				return true
			}
		}
		return false
	})
}

// memberOfTable looks values up by their key, which is the same for equal values.
func memberOfTable(list []value.Value) func(value.Value) bool {
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
		return test{}, fault.Invalid.Errorf("expected a pattern, got %s", describe(operand))
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
		return negate(on(matches)), nil
	}
	return on(matches), nil
}

// quantifier compiles _any, _all and _none over the elements of a list; anything
// but a list satisfies none of them.
func quantifier(name string, operand value.Value, compile func(value.Value) (test, error)) (test, error) {
	switch name {
	case "_any", "_all", "_none":
	default:
		return test{}, fault.Invalid.Errorf("there is no such operator for lists: use _any, _all or _none")
	}
	if operand.IsNull() {
		return test{}, fault.Invalid.Errorf("expected conditions on the elements, got null")
	}
	one, err := compile(operand)
	if err != nil {
		return test{}, err
	}
	if name == "_any" && one.truth == never {
		return one, nil
	}
	found, result := true, true // what an element must be to decide, and for what
	switch name {
	case "_all":
		found, result = false, false
	case "_none":
		found, result = true, false
	}
	return on(func(v value.Value) bool {
		if v.Kind() != value.List {
			return false
		}
		for _, e := range v.List() {
			if one.of(e) == found {
				return result
			}
		}
		return !result
	}), nil
}

package query

import (
	"fmt"
	"strings"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// Conditions on JSON follow paths. A path through null is null; a path through an
// object that lacks the name is missing; a path through anything else matches
// nothing. Missing differs from null in one place: it is not unequal to a value.

// jsonTest is a condition on what is at the end of a path.
type jsonTest = condition[value.Value, bool]

// jsonBlock compiles the condition on a field of type JSON.
func jsonBlock(v value.Value) (test, error) {
	t, err := jsonCondition(v, 0)
	return present(t), err
}

// present is a test of values that are there.
func present(t jsonTest) test {
	if t.truth != depends {
		return test{truth: t.truth}
	}
	return on(func(v value.Value) bool { return t.holds(v, false) })
}

// jsonCondition compiles an object of operators and path steps; any other value
// is what the datum must equal.
func jsonCondition(v value.Value, depth int) (jsonTest, error) {
	if depth > maxConditionDepth {
		return jsonTest{}, fault.TooLarge.Errorf("conditions nest deeper than %d", maxConditionDepth)
	}
	if v.Kind() != value.Map {
		return plain(equal(v), v.IsNull()), nil
	}
	var all []jsonTest
	for name, operand := range v.Members() {
		var one jsonTest
		var err error
		if strings.HasPrefix(name, "_") {
			one, err = jsonOperator(canonicalOperator(name), operand, depth+1)
		} else {
			one, err = jsonStep(name, operand, depth+1)
		}
		if err != nil {
			return jsonTest{}, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, one)
	}
	return allOf(all...), nil
}

// plain is a test for which a missing value counts as decided.
func plain(t test, missing bool) jsonTest {
	if t.truth == always && missing || t.truth == never && !missing {
		return jsonTest{truth: t.truth}
	}
	return when(func(v value.Value, m bool) bool {
		if m {
			return missing
		}
		return t.of(v)
	})
}

func jsonStep(name string, operand value.Value, depth int) (jsonTest, error) {
	sub, err := jsonCondition(operand, depth)
	if err != nil || sub.truth == never || asksNothing(operand) {
		return sub, err
	}
	return when(func(v value.Value, missing bool) bool {
		switch {
		case missing || v.IsNull():
			return sub.truth == always || sub.holds(value.Value{}, missing)
		case v.Kind() != value.Map:
			return false
		}
		m, ok := v.Get(name)
		return sub.truth == always || sub.holds(m, !ok)
	}), nil
}

// asksNothing reports whether a condition on JSON has no operators, as when their
// operands are variables that are not given. It holds always, whereas a path to
// any operator must be one that exists.
func asksNothing(v value.Value) bool {
	if v.Kind() != value.Map {
		return false
	}
	for name, m := range v.Members() {
		junction := name == "_and" || name == "_or"
		if junction && !m.IsNull() || !junction && (strings.HasPrefix(name, "_") || !asksNothing(m)) {
			return false
		}
	}
	return true
}

func jsonOperator(name string, operand value.Value, depth int) (jsonTest, error) {
	switch name {
	case "_eq":
		return plain(equal(operand), operand.IsNull()), nil
	case "_ne":
		return plain(negate(equal(operand)), false), nil
	case "_gt", "_ge", "_lt", "_le":
		return plain(ordering(name, operand), operand.IsNull() && (name == "_ge" || name == "_le")), nil
	case "_in", "_nin":
		t, err := membership(name, operand)
		if err != nil || t.truth != depends {
			return jsonTest{truth: t.truth}, err
		}
		return when(func(v value.Value, _ bool) bool { return t.holds(v) }), nil
	case "_like", "_nlike", "_ilike", "_nilike":
		t, err := like(value.TypeString, name, operand)
		return plain(t, strings.HasPrefix(name, "_n")), err
	case "_any", "_all", "_none":
		t, err := quantifier(name, operand, func(v value.Value) (test, error) {
			one, err := jsonCondition(v, depth)
			return present(one), err
		})
		return plain(t, false), err
	case "_and", "_or":
		return jsonJunction(name, operand, depth)
	case "_not":
		sub, err := jsonCondition(operand, depth)
		return not(sub), err
	}
	return jsonTest{}, fault.Invalid.Errorf("unknown operator")
}

func jsonJunction(name string, operand value.Value, depth int) (jsonTest, error) {
	if operand.IsNull() {
		return jsonTest{}, nil
	}
	list := []value.Value{operand}
	if operand.Kind() == value.List {
		list = operand.List()
	}
	subs := make([]jsonTest, len(list))
	for i, o := range list {
		sub, err := jsonCondition(o, depth)
		if err != nil {
			return jsonTest{}, fmt.Errorf("element %d: %w", i, err)
		}
		subs[i] = sub
	}
	if name == "_or" {
		return anyOf(subs...), nil
	}
	return allOf(subs...), nil
}

// conditionsIn counts the conditions in one on JSON, or on elements of a list.
func conditionsIn(v value.Value) int {
	n := 1
	for name, operand := range v.Members() {
		switch name {
		case "_eq", "_ne", "_in", "_nin": // what is compared with
			n++
		case "_and", "_or":
			for _, o := range elementsOf(operand) {
				n += conditionsIn(o)
			}
		default:
			n += conditionsIn(operand)
		}
	}
	return n
}

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
type jsonTest func(v value.Value, missing bool) bool

// jsonBlock compiles the condition on a field of type JSON.
func jsonBlock(v value.Value) (test, error) {
	t, err := jsonCondition(v, 0)
	if err != nil || t == nil {
		return nil, err
	}
	return func(v value.Value) bool { return t(v, false) }, nil
}

// jsonCondition compiles an object of operators and path steps; any other value
// is what the datum must equal.
func jsonCondition(v value.Value, depth int) (jsonTest, error) {
	if depth > maxConditionDepth {
		return nil, fault.TooLarge.Errorf("conditions nest deeper than %d", maxConditionDepth)
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
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if one != nil {
			all = append(all, one)
		}
	}
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return all[0], nil
	}
	return func(v value.Value, missing bool) bool {
		for _, t := range all {
			if !t(v, missing) {
				return false
			}
		}
		return true
	}, nil
}

// plain is a test for which a missing value counts as decided.
func plain(t test, missing bool) jsonTest {
	return func(v value.Value, m bool) bool {
		if m {
			return missing
		}
		return t == nil || t(v)
	}
}

func jsonStep(name string, operand value.Value, depth int) (jsonTest, error) {
	sub, err := jsonCondition(operand, depth)
	if err != nil || sub == nil {
		return nil, err
	}
	return func(v value.Value, missing bool) bool {
		switch {
		case missing || v.IsNull():
			return sub(value.Value{}, missing)
		case v.Kind() != value.Map:
			return false
		}
		m, ok := v.Get(name)
		return sub(m, !ok)
	}, nil
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
		if err != nil {
			return nil, err
		}
		return func(v value.Value, _ bool) bool { return t(v) }, nil
	case "_like", "_nlike", "_ilike", "_nilike":
		t, err := like(value.TypeString, name, operand)
		return plain(t, strings.HasPrefix(name, "_n")), err
	case "_any", "_all", "_none":
		t, err := quantifier(name, operand, func(v value.Value) (test, error) {
			one, err := jsonCondition(v, depth)
			if err != nil || one == nil {
				return nil, err
			}
			return func(v value.Value) bool { return one(v, false) }, nil
		})
		return plain(t, false), err
	case "_and", "_or":
		return jsonJunction(name, operand, depth)
	case "_not":
		sub, err := jsonCondition(operand, depth)
		return func(v value.Value, missing bool) bool { return sub != nil && !sub(v, missing) }, err
	}
	return nil, fault.Invalid.Errorf("unknown operator")
}

func jsonJunction(name string, operand value.Value, depth int) (jsonTest, error) {
	if operand.IsNull() {
		return nil, nil
	}
	list := []value.Value{operand}
	if operand.Kind() == value.List {
		list = operand.List()
	}
	subs := make([]jsonTest, len(list))
	for i, o := range list {
		sub, err := jsonCondition(o, depth)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		subs[i] = sub
	}
	decisive := name == "_or"
	return func(v value.Value, missing bool) bool {
		for _, t := range subs {
			if (t == nil || t(v, missing)) == decisive {
				return decisive
			}
		}
		return !decisive
	}, nil
}

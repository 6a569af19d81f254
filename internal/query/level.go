package query

import (
	"strings"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// level is one level of a selection: what is asked of each document of a
// collection, or of each group of them.
type level struct {
	*collection
	fields  []*selected
	columns map[string]column // those planned so far, by response key
	by      *groupBy          // nil: documents
	keys    []*field          // what groups agree in, those of levels above too
	tallies map[string]*tally // of the aggregates over relations, by relation
}

// level returns the level that f selects. Within a group, outer is that of the
// group.
func (c *compiler) level(g *collection, f *selected, outer *level) (*level, error) {
	lv := &level{collection: g}
	var err error
	if lv.fields, err = c.collect(f.sub); err != nil {
		return nil, err
	}
	by, _, err := c.in.argument(f.Field, "groupBy")
	if err != nil || by.IsNull() {
		return lv, err
	}
	lv.by = &groupBy{}
	before := c.shared
	for _, name := range by.List() {
		k, err := g.groupKey(name.Text())
		if err != nil {
			return nil, argumentError(f, "groupBy", err)
		}
		lv.by.add(c.reader(g, k), k.name)
		lv.keys = append(lv.keys, k)
	}
	lv.by.inTurn = c.shared != before
	if outer != nil {
		lv.keys = append(lv.keys, outer.keys...)
	}
	return lv, nil
}

// groupKey returns the field by whose values documents are grouped.
func (g *collection) groupKey(name string) (*field, error) {
	f := g.byName[name]
	switch f.role {
	case roleValue, roleOneID, roleDocID, roleDeleted:
		return f, nil
	case roleOne:
		return g.byName[f.IDName()], nil
	}
	return nil, fault.Invalid.Errorf("invalid field value to groupBy. Field: %s: group by a field that has one value", name)
}

// shows reports whether a field has one value for the whole of a group, or is made
// of the group. A level of documents shows everything.
func (lv *level) shows(f *field) bool {
	if lv.by == nil || f.role == roleGroup || f.role == roleAggregate {
		return true
	}
	for _, k := range lv.keys {
		if k == f || f.role == roleOne && k.role == roleOneID && k.Field == f.Field {
			return true
		}
	}
	return false
}

func notGrouped(f *field) error {
	return fault.Invalid.Errorf("cannot select a non-group-by field at group-level. Field: %s: add it to groupBy, or select it inside _group", f.name)
}

// find returns what is selected under a response key.
func (lv *level) find(key string) *selected {
	if lv == nil {
		return nil
	}
	for _, s := range lv.fields {
		if s.key == key {
			return s
		}
	}
	return nil
}

// selectionOf returns what is selected of a field, preferably under its own name.
func selectionOf(fields []*selected, name string) *selected {
	var found *selected
	for _, s := range fields {
		if s.Name == "__typename" || canonical(s.Definition) != name {
			continue
		}
		if s.key == s.Name {
			return s
		}
		if found == nil {
			found = s
		}
	}
	return found
}

// split parts a filter in what is on documents alone, and the members in which an
// alias occurs.
func split(filter value.Value) (plain, computed value.Value) {
	if filter.Kind() != value.Map || !mentionsAlias(filter) {
		return filter, value.Value{}
	}
	p, q := map[string]value.Value{}, map[string]value.Value{}
	for name, v := range filter.Members() {
		if name == "_alias" || mentionsAlias(v) {
			q[name] = v
		} else {
			p[name] = v
		}
	}
	if len(p) > 0 {
		plain = value.OfMap(p)
	}
	return plain, value.OfMap(q)
}

// mentionsAlias looks where conditions on documents stand: not into fields.
func mentionsAlias(v value.Value) bool {
	for _, e := range v.List() {
		if mentionsAlias(e) {
			return true
		}
	}
	for name, m := range v.Members() {
		if name == "_alias" || (name == "_and" || name == "_or" || name == "_not") && mentionsAlias(m) {
			return true
		}
	}
	return false
}

func noAlias(name string) error {
	return fault.Invalid.Errorf("field or alias not found. Name: %s: an alias is the response key of something selected beside the filter or order", name)
}

// aliased compiles conditions on what is selected under response keys.
func (c *compiler) aliased(s scope, operand value.Value) (predicate, error) {
	if operand.IsNull() {
		return predicate{}, nil
	}
	if operand.Kind() != value.Map {
		return predicate{}, fault.Invalid.Errorf("expected an object of response keys, got %s", describe(operand))
	}
	var all []predicate
	for key, conditions := range operand.Members() {
		if err := c.spend(1); err != nil {
			return predicate{}, err
		}
		sel := s.level.find(key)
		if sel == nil {
			return predicate{}, noAlias(key)
		}
		col, err := c.planned(s.level, sel)
		if err != nil {
			return predicate{}, err
		}
		p, err := c.onColumn(s, col, conditions)
		if err != nil {
			return predicate{}, fmtUnder(key, err)
		}
		all = append(all, p)
	}
	return allOf(all...), nil
}

// onColumn compiles the conditions on a column: those of a filter on its field, or
// on its value if it is computed.
func (c *compiler) onColumn(s scope, col column, conditions value.Value) (predicate, error) {
	if col.of == nil {
		return predicate{}, fault.Invalid.Errorf("there is no condition on __typename")
	}
	def := c.schema.ast.Types[filterName(s.Name)].Fields.ForName(col.of.name)
	switch {
	case def != nil && !col.args:
		v, err := c.in.coerce(def.Type, conditions)
		if err != nil {
			return predicate{}, err
		}
		return c.member(scope{collection: s.collection, depth: s.depth}, col.of.name, v)
	case col.read == nil:
		return predicate{}, fault.Invalid.Errorf("it has no value to compare: only fields, relations without arguments and aggregates have one")
	}
	t, err := computed(col.of, conditions)
	if err != nil || t.truth != depends {
		return predicate{truth: t.truth}, err
	}
	read, holds := col.read, t.holds
	return when(func(x *run, r *row) bool {
		v := read(x, r)
		return x.err == nil && holds(v)
	}), nil
}

// computed compiles conditions on the value of an aggregate, a similarity or
// _deleted.
func computed(f *field, conditions value.Value) (test, error) {
	if conditions.IsNull() {
		return isNull(), nil
	}
	if conditions.Kind() != value.Map {
		return test{}, fault.Invalid.Errorf("expected an object of operators, got %s", describe(conditions))
	}
	t := value.TypeFloat64
	if f.role == roleDeleted {
		t = value.TypeBoolean
	}
	var all test
	for name, operand := range conditions.Members() {
		op := canonicalOperator(name)
		if strings.HasSuffix(op, "like") {
			return test{}, fault.Invalid.Errorf("%s: there is no such operator for numbers", name)
		}
		if err := fits(t, operand); err != nil {
			return test{}, fmtUnder(name, err)
		}
		one, err := compare(t, op, operand)
		if err != nil {
			return test{}, fmtUnder(name, err)
		}
		all = both(all, one)
	}
	return all, nil
}

func fits(t value.Type, v value.Value) error {
	switch {
	case v.Kind() == value.List:
		for _, e := range v.List() {
			if err := fits(t, e); err != nil {
				return err
			}
		}
	case v.IsNull(), t == value.TypeBoolean && v.Kind() == value.Bool, t == value.TypeFloat64 && v.IsNumeric():
	default:
		return fault.Invalid.Errorf("expected a number, got %s", describe(v))
	}
	return nil
}

// aliasKey compiles {_alias: {total: DESC}}.
func (c *compiler) aliasKey(lv *level, v value.Value) (sortKey, bool, error) {
	if v.Kind() != value.Map || v.Len() > 1 {
		return sortKey{}, false, fault.Invalid.Errorf("invalid order input: write {_alias: {total: DESC}}, one response key in each")
	}
	for key, direction := range v.Members() {
		s := lv.find(key)
		if s == nil {
			return sortKey{}, false, noAlias(key)
		}
		col, err := c.planned(lv, s)
		if err != nil {
			return sortKey{}, false, err
		}
		if col.of != nil && col.of.role == roleOne && !col.args {
			def := c.schema.ast.Types[orderName(lv.Name)].Fields.ForName(col.of.name)
			if direction, err = c.in.coerce(def.Type, direction); err != nil {
				return sortKey{}, false, err
			}
			return c.sortKey(lv, value.OfMap(map[string]value.Value{col.of.name: direction}))
		}
		if col.read == nil {
			return sortKey{}, false, fault.Invalid.Errorf("%s has no value to order by: only fields and aggregates have one", key)
		}
		way := direction.Text()
		if way != "ASC" && way != "DESC" {
			return sortKey{}, false, fault.Invalid.Errorf("invalid order input: %s is neither ASC nor DESC", describe(direction))
		}
		return sortKey{read: col.read, desc: way == "DESC", text: key + " " + way}, true, nil
	}
	return sortKey{}, false, nil
}

package query

import (
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// Embedded objects stand in the rows of views as JSON objects whose members have
// the types that the view declares. They are selected, filtered and sorted by as
// related documents are, without being documents.

// newEmbedded generates the types of embedded objects.
func newEmbedded(e *schema.Embedded) *collection {
	g := &collection{Collection: &schema.Collection{Name: e.Name, Fields: e.Fields}, byName: map[string]*field{}}
	for i := range e.Fields {
		g.addDeclared(&e.Fields[i])
	}
	g.types = []*ast.Definition{g.object(), g.filter(), g.order()}
	for _, d := range g.types[1:] {
		d.Fields = without(d.Fields, "_alias")
	}
	if order := g.types[2]; len(order.Fields) == 0 { // GraphQL has no empty input type
		order.Fields = ast.FieldList{defined("_", named("Ordering"), "There is nothing to sort by.")}
	}
	return g
}

func without(fs ast.FieldList, name string) ast.FieldList {
	var kept ast.FieldList
	for _, f := range fs {
		if f.Name != name {
			kept = append(kept, f)
		}
	}
	return kept
}

// embeddedField is the field of the object type.
func (f *field) embeddedField() *ast.FieldDefinition {
	t := named(f.Embedded.Name)
	if f.EmbeddedList {
		t = listOf(f.Embedded.Name)
	}
	return defined(f.name, t, "")
}

// embeddedCondition is the field of the filter type.
func (f *field) embeddedCondition() *ast.FieldDefinition {
	help := "The object matches."
	if f.EmbeddedList {
		help = "At least one of the objects matches."
	}
	return defined(f.name, named(filterName(f.Embedded.Name)), help)
}

// member writes one member of an embedded object.
type member struct {
	label []byte
	write func(x *run, object value.Value)
}

// embedded plans a selection of embedded objects.
func (c *compiler) embedded(g *collection, f *field, s *selected) (column, error) {
	write, err := c.objects(g, f, s)
	if err != nil {
		return column{}, err
	}
	read := fieldReader(f.Field)
	return column{write: func(x *run, r *row) error {
		write(x, read(x, r))
		return x.err
	}}, nil
}

// objects returns what writes the object, or the list of objects, of a field.
func (c *compiler) objects(g *collection, f *field, s *selected) (func(*run, value.Value), error) {
	if c.depth++; c.depth > c.schema.limits.Depth {
		return nil, c.schema.limits.tooDeep()
	}
	defer func() { c.depth-- }()
	of := g.embeddedType(f)
	fields, err := c.collect(s.sub)
	if err != nil {
		return nil, err
	}
	var ms []member
	for _, s := range fields {
		m, err := c.objectMember(of, s)
		if err != nil {
			return nil, at(s, err)
		}
		ms = append(ms, m)
	}
	one := func(x *run, v value.Value) { writeObject(x, ms, v) }
	if !f.EmbeddedList {
		return one, nil
	}
	return func(x *run, v value.Value) {
		if v.Kind() != value.List {
			x.out.text("null")
			return
		}
		x.out.byte('[')
		for i, e := range v.List() {
			if i > 0 {
				x.out.byte(',')
			}
			one(x, e)
		}
		x.out.byte(']')
	}, nil
}

func writeObject(x *run, ms []member, v value.Value) {
	if v.Kind() != value.Map {
		x.out.text("null")
		return
	}
	x.out.byte('{')
	for i := range ms {
		if i > 0 {
			x.out.byte(',')
		}
		x.out.buf = append(x.out.buf, ms[i].label...)
		ms[i].write(x, v)
	}
	x.out.byte('}')
}

func (c *compiler) objectMember(of *collection, s *selected) (member, error) {
	label := newColumn(s.key, nil).label
	if s.Name == "__typename" {
		name := string(appendString(nil, of.Name))
		return member{label, func(x *run, _ value.Value) { x.out.text(name) }}, nil
	}
	f := of.byName[canonical(s.Definition)]
	if f.Embedded == nil {
		return member{label, func(x *run, object value.Value) {
			v, _ := object.Get(f.name)
			x.out.value(v)
		}}, nil
	}
	write, err := c.objects(of, f, s)
	return member{label, func(x *run, object value.Value) {
		v, _ := object.Get(f.name)
		write(x, v)
	}}, err
}

// embeddedType returns the type of the objects in a field of a view, or of another
// embedded type of it.
func (g *collection) embeddedType(f *field) *collection { return g.embeddedTypes[f.Embedded.Name] }

// objectTest is a condition on an embedded object. Where there is none all its
// fields are null, as beyond a relation that leads nowhere.
type objectTest = condition[value.Value, struct{}]

// overEmbedded compiles a condition on the embedded objects of a row.
func (c *compiler) overEmbedded(s scope, f *field, operand value.Value) (predicate, error) {
	t, err := c.embeddedTest(s.collection, f, operand, s.depth)
	if err != nil || t.truth != depends {
		return predicate{truth: t.truth}, err
	}
	return onField(f.Field, func(v value.Value) bool { return t.holds(v, struct{}{}) }), nil
}

// embeddedTest compiles a condition on the value of a field: on its object, or on
// at least one of its objects.
func (c *compiler) embeddedTest(g *collection, f *field, operand value.Value, depth int) (objectTest, error) {
	many := f.EmbeddedList
	if operand.IsNull() {
		return when(func(v value.Value, _ struct{}) bool { return v.IsNull() || many && v.Len() == 0 }), nil
	}
	t, err := c.objectTest(g.embeddedType(f), operand, depth+1)
	if err != nil || !many || t.truth == never {
		return t, err
	}
	return when(func(v value.Value, _ struct{}) bool {
		for _, e := range v.List() {
			if t.truth == always || t.holds(e, struct{}{}) {
				return true
			}
		}
		return false
	}), nil
}

func (c *compiler) objectTest(of *collection, filter value.Value, depth int) (objectTest, error) {
	if depth > maxConditionDepth {
		return objectTest{}, fault.TooLarge.Errorf("conditions nest deeper than %d", maxConditionDepth)
	}
	var all []objectTest
	for name, operand := range filter.Members() {
		one, err := c.objectCondition(of, name, operand, depth)
		if err != nil {
			return objectTest{}, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, one)
	}
	return allOf(all...), nil
}

func (c *compiler) objectCondition(of *collection, name string, operand value.Value, depth int) (objectTest, error) {
	if err := c.spend(1); err != nil {
		return objectTest{}, err
	}
	switch name {
	case "_and", "_or":
		if operand.IsNull() {
			return objectTest{}, nil
		}
		ts := make([]objectTest, operand.Len())
		for i, o := range operand.List() {
			var err error
			if ts[i], err = c.objectTest(of, o, depth+1); err != nil {
				return objectTest{}, fmt.Errorf("element %d: %w", i, err)
			}
		}
		if name == "_or" {
			return anyOf(ts...), nil
		}
		return allOf(ts...), nil
	case "_not":
		if operand.IsNull() {
			return objectTest{}, nil
		}
		t, err := c.objectTest(of, operand, depth+1)
		return not(t), err
	}
	f := of.byName[name]
	if f.Embedded != nil {
		t, err := c.embeddedTest(of, f, operand, depth)
		return onMember(name, t.truth, func(v value.Value) bool { return t.holds(v, struct{}{}) }), err
	}
	t, err := block(f.Type, operand)
	return onMember(name, t.truth, t.holds), err
}

// onMember applies a condition to a member of an object, null if it has none.
func onMember(name string, t truth, holds func(value.Value) bool) objectTest {
	if t != depends {
		return objectTest{truth: t}
	}
	return when(func(v value.Value, _ struct{}) bool {
		m, _ := v.Get(name)
		return holds(m)
	})
}

// embeddedKey compiles an order by a member of an embedded object.
func (c *compiler) embeddedKey(g *collection, f *field, o value.Value) (sortKey, bool, error) {
	k, ok, err := c.objectKey(g.embeddedType(f), o)
	if err != nil || !ok {
		return sortKey{}, ok, fmtUnder(f.name, err)
	}
	inner, of := k.read, fieldReader(f.Field)
	k.text = f.name + "." + k.text
	return sortKey{read: func(x *run, r *row) value.Value { return inner(of(x, r)) }, desc: k.desc, text: k.text}, true, nil
}

// objectKey is a key of an order within an object.
type objectKey struct {
	read func(value.Value) value.Value
	desc bool
	text string
}

func (c *compiler) objectKey(of *collection, o value.Value) (k objectKey, ok bool, err error) {
	name, v, err := onlyKey(o)
	if err != nil || name == "" || of.byName[name] == nil {
		return k, false, err
	}
	if err := c.spend(1); err != nil {
		return k, false, err
	}
	get := func(object value.Value) value.Value { m, _ := object.Get(name); return m }
	f := of.byName[name]
	if f.Embedded == nil {
		return objectKey{get, v.Text() == "DESC", name + " " + v.Text()}, true, nil
	}
	if k, ok, err = c.objectKey(of.embeddedType(f), v); !ok || err != nil {
		return k, ok, fmtUnder(name, err)
	}
	inner := k.read
	return objectKey{func(object value.Value) value.Value { return inner(get(object)) }, k.desc, name + "." + k.text}, true, nil
}

// onlyKey returns the one member of an order that is given, "" if there is none.
func onlyKey(o value.Value) (name string, v value.Value, err error) {
	for n, m := range o.Members() {
		if m.IsNull() {
			continue
		}
		if name != "" {
			return "", v, fault.Invalid.Errorf("each order argument can only define one field: write [{a: ASC}, {b: DESC}]")
		}
		name, v = n, m
	}
	return name, v, nil
}

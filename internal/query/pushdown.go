package query

import (
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// A filter on a view is tested on its rows. What it says of fields that the query
// passes on as they are is asked of the documents too, so that rows which nobody
// wants are not computed and indexes help.

// narrowed returns the root field of a view's query with what a filter on the view
// demands. Documents that it leaves out yield no row that meets the filter.
func (c *compiler) narrowed(v *schema.Collection, root *selected, filter value.Value) *selected {
	if v.View.Transform != nil || filter.IsNull() {
		return root
	}
	for _, a := range root.Arguments {
		switch a.Name {
		case "groupBy", "limit", "offset": // less would be another list
			return root
		}
	}
	t := &translation{v: v, g: c.schema.collections[root.Name]}
	var err error
	if t.fields, err = c.collect(root.sub); err != nil {
		return root
	}
	all, _ := t.conditions(filter)
	if len(all) == 0 {
		return root
	}
	own, _, err := c.in.argument(root.Field, "filter")
	if err != nil {
		return root
	}
	if !own.IsNull() {
		all = append(all, own)
	}
	return c.with(root, "filter", together(all))
}

// with returns a root field with another value of an argument, whose query has no
// variables of its own.
func (c *compiler) with(root *selected, name string, v value.Value) *selected {
	c.in.vars = map[string]value.Value{name: v}
	*c.in.left += maxUses * sizeOf(v)
	f := *root.Field
	f.Arguments = slices.DeleteFunc(slices.Clone(f.Arguments), func(a *ast.Argument) bool { return a.Name == name })
	f.Arguments = append(f.Arguments, &ast.Argument{
		Name: name, Value: &ast.Value{Kind: ast.Variable, Raw: name}, Position: f.Position,
	})
	return &selected{key: root.key, Field: &f, sub: root.sub}
}

// translation turns a filter on a view into one on what its query reads.
type translation struct {
	v      *schema.Collection
	g      *collection
	fields []*selected
}

// conditions returns filters that hold wherever v does. They are exact if v holds
// wherever they do.
func (t *translation) conditions(v value.Value) (all []value.Value, exact bool) {
	exact = true
	for name, operand := range v.Members() {
		one, same := t.member(name, operand)
		all, exact = append(all, one...), exact && same
	}
	return all, exact
}

func (t *translation) member(name string, operand value.Value) (all []value.Value, exact bool) {
	switch name {
	case "_and":
		exact = true
		for _, o := range operand.List() {
			some, same := t.conditions(o)
			all, exact = append(all, some...), exact && same
		}
		return all, exact
	case "_or":
		exact = true
		var ors []value.Value
		for _, o := range operand.List() {
			some, same := t.conditions(o)
			if len(some) == 0 {
				return nil, false
			}
			ors, exact = append(ors, together(some)), exact && same
		}
		if operand.IsNull() {
			return nil, true
		}
		return []value.Value{only("_or", value.OfList(ors))}, exact
	case "_not":
		some, same := t.conditions(operand)
		if !same || len(some) == 0 {
			return nil, false
		}
		return []value.Value{only("_not", together(some))}, true
	}
	if source, ok := t.source(name); ok {
		return []value.Value{only(source, operand)}, true
	}
	return nil, false
}

// source returns the field that the query passes on as a field of the view.
func (t *translation) source(name string) (string, bool) {
	to, ok := t.v.Field(name)
	if !ok || to.Embedded != nil {
		return "", false
	}
	for _, s := range t.fields {
		if s.key != name || s.Name == "__typename" {
			continue
		}
		f := t.g.byName[canonical(s.Definition)]
		return f.name, f.role == roleValue && f.Type == to.Type
	}
	return "", false
}

func only(name string, v value.Value) value.Value {
	return value.OfMap(map[string]value.Value{name: v})
}

// together joins filters, at least one.
func together(all []value.Value) value.Value {
	if len(all) == 1 {
		return all[0]
	}
	return only("_and", value.OfList(all))
}

// mentions returns what the request names: a field that is not among it is not
// asked for, wherever it might be. It is nil if the request is not known.
func (c *compiler) mentions() map[string]bool {
	if c.text == "" {
		return nil
	}
	names := map[string]bool{}
	word := func(r rune) bool {
		return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	for name := range strings.FieldsFuncSeq(c.text, func(r rune) bool { return !word(r) }) {
		names[name] = true
	}
	for _, v := range c.in.vars {
		mention(names, v)
	}
	return names
}

// mention adds the names in a variable: keys of objects, and texts, as of enums.
func mention(names map[string]bool, v value.Value) {
	switch v.Kind() {
	case value.String:
		names[v.Text()] = true
	case value.List:
		for _, e := range v.List() {
			mention(names, e)
		}
	case value.Map:
		for key, e := range v.Members() {
			names[key] = true
			mention(names, e)
		}
	}
}

// leaveOut spares the columns that nobody asks for.
func (p *viewPlan) leaveOut(mentioned map[string]bool) {
	for i := range p.cols {
		if mentioned != nil && !mentioned[p.cols[i].to.Name] {
			p.cols[i].found = false
		}
	}
}

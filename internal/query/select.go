package query

import (
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/value"
)

// selected is one response key of a selection: all selections with that key,
// merged.
type selected struct {
	key        string
	*ast.Field                  // the first of them; the others agree in name and arguments
	sub        ast.SelectionSet // what they select, one after the other
}

// collect merges a selection set as the GraphQL specification says: fields in the
// order of their first appearance, fragments in place, without what directives
// exclude.
func (c *compiler) collect(set ast.SelectionSet) ([]*selected, error) {
	col := collector{c: c, byKey: map[string]*selected{}, seen: map[string]bool{}}
	err := col.add(set)
	return col.fields, err
}

type collector struct {
	c      *compiler
	fields []*selected
	byKey  map[string]*selected
	seen   map[string]bool // fragments in place
}

func (col *collector) add(set ast.SelectionSet) error {
	for _, s := range set {
		var err error
		switch s := s.(type) {
		case *ast.Field:
			err = col.field(s)
		case *ast.InlineFragment:
			err = col.fragment(s.Directives, s.SelectionSet)
		case *ast.FragmentSpread:
			if !col.seen[s.Name] && s.Definition != nil {
				var in bool
				if in, err = col.c.included(s.Directives); in {
					col.seen[s.Name] = true
					err = col.add(s.Definition.SelectionSet)
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (col *collector) field(f *ast.Field) error {
	in, err := col.c.included(f.Directives)
	if err != nil || !in {
		return err
	}
	if err := col.c.spend(1); err != nil {
		return err
	}
	s := col.byKey[f.Alias]
	if s == nil {
		s = &selected{key: f.Alias, Field: f}
		col.byKey[f.Alias] = s
		col.fields = append(col.fields, s)
	}
	s.sub = append(s.sub[:len(s.sub):len(s.sub)], f.SelectionSet...)
	return nil
}

func (col *collector) fragment(ds ast.DirectiveList, set ast.SelectionSet) error {
	in, err := col.c.included(ds)
	if err != nil || !in {
		return err
	}
	return col.add(set)
}

// included applies @skip and @include.
func (c *compiler) included(ds ast.DirectiveList) (bool, error) {
	for _, d := range ds {
		if d.Name != "skip" && d.Name != "include" {
			continue
		}
		a := d.Arguments.ForName("if")
		if a == nil {
			return false, wrongf(d.Position, "directive @%s needs the argument if", d.Name)
		}
		v, err := c.in.literal(ast.NonNullNamedType("Boolean", nil), a.Value)
		if err != nil {
			return false, wrong(d.Position, err)
		}
		if v.Kind() == value.Bool && v.Bool() == (d.Name == "skip") {
			return false, nil
		}
	}
	return true, nil
}

// spend counts what a plan costs.
func (c *compiler) spend(n int) error {
	if c.cost += n; c.cost > c.schema.limits.Cost {
		return tooLarge("the request has more than %d fields and conditions once its fragments are in place: ask for less at once", c.schema.limits.Cost)
	}
	return nil
}

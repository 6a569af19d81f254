package query

import (
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/value"
)

// Introspection: the generated schema as a client sees it. Every type of the
// specification has a table of how to write its fields.

// introspector writes one __schema or __type selection.
type introspector struct {
	c    *compiler
	s    *ast.Schema
	x    *run
	w    *writer
	subs map[*selected][]*selected // merged selections, each merged once
}

// described is a type as introspection describes it: a definition, or a list or
// non-null around another.
type described struct {
	def *ast.Definition
	typ *ast.Type // nil: def itself
}

// introspection plans __schema and __type.
func (c *compiler) introspection(f *selected) (column, error) {
	in := &introspector{c: c, s: c.schema.ast, subs: map[*selected][]*selected{}}
	if err := in.prepare(f); err != nil {
		return column{}, err
	}
	if f.Name == "__schema" {
		return column{write: func(x *run, _ *row) error { return in.on(x).schema(f) }}, nil
	}
	name, _, err := c.in.argument(f.Field, "name")
	if err != nil {
		return column{}, err
	}
	def := c.schema.ast.Types[name.Text()]
	return column{write: func(x *run, _ *row) error {
		if def == nil {
			x.out.text("null")
			return nil
		}
		return in.on(x).typ(f, described{def: def})
	}}, nil
}

// on returns the introspector of a run: plans are shared between runs.
func (in *introspector) on(x *run) *introspector {
	own := *in
	own.w, own.x = x.out, x
	return &own
}

// prepare merges all selections below f.
func (in *introspector) prepare(f *selected) error {
	if in.c.depth++; in.c.depth > in.c.schema.limits.Depth {
		return in.c.schema.limits.tooDeep()
	}
	defer func() { in.c.depth-- }()
	subs, err := in.c.collect(f.sub)
	if err != nil {
		return err
	}
	in.subs[f] = subs
	if _, _, err := in.c.in.argument(f.Field, "includeDeprecated"); err != nil {
		return err // it decides nothing, for nothing is deprecated
	}
	for _, s := range subs {
		if err := in.prepare(s); err != nil {
			return err
		}
	}
	return nil
}

// object writes what f selects; member writes the value of one field.
func (in *introspector) object(f *selected, typeName string, member func(s *selected) error) error {
	in.w.byte('{')
	for i, s := range in.subs[f] {
		if i > 0 {
			in.w.byte(',')
		}
		in.w.string(s.key)
		in.w.byte(':')
		if s.Name == "__typename" {
			in.w.string(typeName)
			continue
		}
		if err := member(s); err != nil {
			return err
		}
	}
	in.w.byte('}')
	if err := in.x.step(); err != nil {
		return err
	}
	return in.w.pass()
}

func listed[T any](in *introspector, list []T, write func(T) error) error {
	in.w.byte('[')
	for i, e := range list {
		if i > 0 {
			in.w.byte(',')
		}
		if err := write(e); err != nil {
			return err
		}
	}
	in.w.byte(']')
	return nil
}

func (in *introspector) null() error         { in.w.text("null"); return nil }
func (in *introspector) bool(b bool) error   { in.w.value(value.OfBool(b)); return nil }
func (in *introspector) text(s string) error { in.w.string(s); return nil }
func (in *introspector) help(s string) error { in.w.stringOrNull(s); return nil }

func (in *introspector) schema(f *selected) error {
	return in.object(f, "__Schema", func(s *selected) error {
		root := func(d *ast.Definition) error { return in.typ(s, described{def: d}) }
		switch s.Name {
		case "types":
			return listed(in, in.types(), func(d *ast.Definition) error { return in.typ(s, described{def: d}) })
		case "queryType":
			return root(in.s.Query)
		case "mutationType":
			return root(in.s.Mutation)
		case "subscriptionType":
			return root(in.s.Subscription)
		case "directives":
			return listed(in, in.directives(), func(d *ast.DirectiveDefinition) error { return in.directive(s, d) })
		}
		return in.null() // description
	})
}

func (in *introspector) types() []*ast.Definition {
	var ds []*ast.Definition
	for _, d := range in.s.Types {
		ds = append(ds, d)
	}
	slices.SortFunc(ds, func(a, b *ast.Definition) int { return strings.Compare(a.Name, b.Name) })
	return ds
}

func (in *introspector) directives() []*ast.DirectiveDefinition {
	var ds []*ast.DirectiveDefinition
	for _, d := range in.s.Directives {
		ds = append(ds, d)
	}
	slices.SortFunc(ds, func(a, b *ast.DirectiveDefinition) int { return strings.Compare(a.Name, b.Name) })
	return ds
}

func (in *introspector) typ(f *selected, t described) error {
	if t.def == nil {
		return in.wrapper(f, t.typ)
	}
	d := t.def
	return in.object(f, "__Type", func(s *selected) error {
		switch s.Name {
		case "kind":
			return in.text(string(d.Kind))
		case "name":
			return in.text(d.Name)
		case "description":
			return in.help(d.Description)
		case "fields":
			if d.Kind != ast.Object && d.Kind != ast.Interface {
				return in.null()
			}
			return listed(in, shown(d.Fields), func(fd *ast.FieldDefinition) error { return in.field(s, fd) })
		case "inputFields":
			if d.Kind != ast.InputObject {
				return in.null()
			}
			return listed(in, shown(d.Fields), func(fd *ast.FieldDefinition) error {
				return in.inputValue(s, fd.Name, fd.Description, fd.Type, fd.DefaultValue)
			})
		case "interfaces":
			if d.Kind != ast.Object && d.Kind != ast.Interface {
				return in.null()
			}
			return listed(in, d.Interfaces, in.text)
		case "enumValues":
			if d.Kind != ast.Enum {
				return in.null()
			}
			return listed(in, shownValues(d.EnumValues), func(v *ast.EnumValueDefinition) error { return in.enumValue(s, v) })
		case "isOneOf":
			if d.Kind != ast.InputObject {
				return in.null()
			}
			return in.bool(false)
		}
		return in.null() // possibleTypes, ofType, specifiedByURL
	})
}

// wrapper describes a list or non-null type; anything else is its definition.
func (in *introspector) wrapper(f *selected, t *ast.Type) error {
	kind, inner := "", *t
	switch {
	case t.NonNull:
		kind = "NON_NULL"
		inner.NonNull = false
	case t.Elem != nil:
		kind, inner = "LIST", *t.Elem
	default:
		return in.typ(f, described{def: in.s.Types[t.NamedType]})
	}
	return in.object(f, "__Type", func(s *selected) error {
		switch s.Name {
		case "kind":
			return in.text(kind)
		case "ofType":
			return in.typ(s, described{typ: &inner})
		}
		return in.null()
	})
}

// shown leaves out hidden twins and the introspection fields themselves.
func shown(fs ast.FieldList) ast.FieldList {
	var out ast.FieldList
	for _, f := range fs {
		if !isHidden(f.Directives) && !strings.HasPrefix(f.Name, "__") {
			out = append(out, f)
		}
	}
	return out
}

// shownValues leaves out the hidden twins of an enum.
func shownValues(vs ast.EnumValueList) ast.EnumValueList {
	var out ast.EnumValueList
	for _, v := range vs {
		if !isHidden(v.Directives) {
			out = append(out, v)
		}
	}
	return out
}

func shownArguments(args ast.ArgumentDefinitionList) ast.ArgumentDefinitionList {
	var out ast.ArgumentDefinitionList
	for _, a := range args {
		if !isHidden(a.Directives) {
			out = append(out, a)
		}
	}
	return out
}

func (in *introspector) field(f *selected, d *ast.FieldDefinition) error {
	return in.object(f, "__Field", func(s *selected) error {
		switch s.Name {
		case "name":
			return in.text(d.Name)
		case "description":
			return in.help(d.Description)
		case "args":
			return in.arguments(s, d.Arguments)
		case "type":
			return in.typ(s, described{typ: d.Type})
		case "isDeprecated":
			return in.bool(false)
		}
		return in.null() // deprecationReason
	})
}

func (in *introspector) arguments(f *selected, args ast.ArgumentDefinitionList) error {
	return listed(in, shownArguments(args), func(a *ast.ArgumentDefinition) error {
		return in.inputValue(f, a.Name, a.Description, a.Type, a.DefaultValue)
	})
}

func (in *introspector) inputValue(f *selected, name, description string, t *ast.Type, def *ast.Value) error {
	return in.object(f, "__InputValue", func(s *selected) error {
		switch s.Name {
		case "name":
			return in.text(name)
		case "description":
			return in.help(description)
		case "type":
			return in.typ(s, described{typ: t})
		case "defaultValue":
			if def != nil {
				return in.text(def.String())
			}
		case "isDeprecated":
			return in.bool(false)
		}
		return in.null()
	})
}

func (in *introspector) enumValue(f *selected, v *ast.EnumValueDefinition) error {
	return in.object(f, "__EnumValue", func(s *selected) error {
		switch s.Name {
		case "name":
			return in.text(v.Name)
		case "description":
			return in.help(v.Description)
		case "isDeprecated":
			return in.bool(false)
		}
		return in.null()
	})
}

func (in *introspector) directive(f *selected, d *ast.DirectiveDefinition) error {
	return in.object(f, "__Directive", func(s *selected) error {
		switch s.Name {
		case "name":
			return in.text(d.Name)
		case "description":
			return in.help(d.Description)
		case "isRepeatable":
			return in.bool(d.IsRepeatable)
		case "locations":
			return listed(in, d.Locations, func(l ast.DirectiveLocation) error { return in.text(string(l)) })
		case "args":
			return in.arguments(s, d.Arguments)
		}
		return in.null()
	})
}

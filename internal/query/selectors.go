package query

import (
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/value"
)

// The generated types by which documents are grouped and aggregated.

// functions are the aggregates, in the order in which introspection shows them.
var functions = []struct {
	name, typ, help string
	counts          bool // whatever is there, not the numbers of a field
}{
	{"_count", "Int", "How many there are, over all hosts named.", true},
	{"_sum", "Float", "The sum of the numbers that are not null: an integer if all are.", false},
	{"_avg", "Float", "The mean of the numbers that are not null; 0 of none.", false},
	{"_min", "Float", "The least number; null of none.", false},
	{"_max", "Float", "The greatest number; null of none.", false},
}

func fieldEnumName(c string) string         { return c + "Field" }
func numericFieldsName(c string) string     { return c + "NumericFieldsArg" }
func explicitName(c string) string          { return c + "ExplicitField" }
func numericName(c string) string           { return c + "__NumericSelector" }
func listCountName(c, f string) string      { return c + "__" + f + "__CountSelector" }
func listNumericName(c, f string) string    { return c + "__" + f + "__NumericSelector" }
func similarityName(c, f string) string     { return c + "__" + f + "__SimilaritySelector" }
func versionCountName(c string) string      { return c + "___version__CountSelector" }
func elementFilterName(t value.Type) string { return elementPrefix(t) + scalarName(t) + "FilterArg" }

// elementPrefix tells the conditions on elements that are never null from others.
func elementPrefix(t value.Type) string {
	if t&value.ListOf != 0 {
		return "NotNull"
	}
	return ""
}

func isNumericList(t value.Type) bool { return t.IsList() && t.Scalar().IsNumeric() }

// isInlineList reports whether documents carry the elements of the list.
func (f *field) isInlineList() bool { return f.role == roleValue && f.Type.IsList() }

// selectors makes the types that aggregates and groups of the collection need.
func (g *collection) selectors() []*ast.Definition {
	groups := &ast.Definition{Kind: ast.Enum, Name: fieldEnumName(g.Name)}
	numbers := &ast.Definition{Kind: ast.Enum, Name: numericFieldsName(g.Name)}
	var lists []*ast.Definition
	for _, f := range g.fields {
		switch f.role {
		case roleAggregate:
			addEnum(numbers, f.name, later[f.name])
			continue
		case roleSimilarity, roleConflicts, roleAccess, roleObject, roleObjects:
			continue
		case roleGroup:
			addEnum(groups, f.name, later[f.name])
		case roleOneID:
			addEnum(groups, f.name, laterRelationID(f.Name))
		default:
			addEnum(groups, f.name, "")
		}
		if f.role == roleValue && f.Type.Scalar().IsNumeric() {
			addEnum(numbers, f.name, "")
		}
		if f.isInlineList() {
			lists = append(lists, g.listSelectors(f)...)
		}
	}
	filter, order := filterName(g.Name), orderName(g.Name)
	if explicit := g.explicit(); explicit != nil {
		lists = append(lists, explicit)
	}
	return append(lists, groups, numbers,
		input(countName(g.Name), windowed(defined("filter", named(filter), ""))...),
		input(numericName(g.Name), windowed(
			defined("field", nonNull(numbers.Name), "A field, or an aggregate that the selection of the same documents asks for."),
			defined("filter", named(filter), ""),
			defined("order", listOf(order), "Which come first: of use with limit and offset."))...),
		input(versionCountName(g.Name), windowed()...))
}

// listSelectors makes the arguments of aggregates over an inline list.
func (g *collection) listSelectors(f *field) []*ast.Definition {
	filter := defined("filter", named(elementFilterName(f.Type)), "Only the elements that match.")
	ds := []*ast.Definition{input(listCountName(g.Name, f.name), windowed(filter)...)}
	if !isNumericList(f.Type) {
		return ds
	}
	return append(ds,
		input(listNumericName(g.Name, f.name), windowed(filter,
			defined("order", named("Ordering"), "Which come first: of use with limit and offset."))...),
		input(similarityName(g.Name, f.name),
			defined("vector", ast.NonNullListType(ast.NonNullNamedType(scalarName(f.Type), nil), nil), "As long as the list.")))
}

func input(name string, fields ...*ast.FieldDefinition) *ast.Definition {
	return &ast.Definition{Kind: ast.InputObject, Name: name, Fields: fields}
}

// windowed adds the members that say how many, and from where on.
func windowed(fields ...*ast.FieldDefinition) []*ast.FieldDefinition {
	return append(fields,
		defined("limit", named("Int"), "At most so many; 0 means all."),
		defined("offset", named("Int"), "Leave out so many from the start."))
}

// addEnum adds a value, and its hidden twin if there is another spelling of it.
func addEnum(d *ast.Definition, name, twin string) {
	d.EnumValues = append(d.EnumValues, &ast.EnumValueDefinition{Name: name})
	if twin != "" && d.EnumValues.ForName(twin) == nil {
		d.EnumValues = append(d.EnumValues, &ast.EnumValueDefinition{Name: twin, Directives: synonymOf(name)})
	}
}

// twinned returns a field with its hidden twin, if that name is free.
func (g *collection) twinned(d *ast.FieldDefinition) ast.FieldList {
	if twin := later[d.Name]; g.byName[twin] == nil {
		return ast.FieldList{d, hiddenTwin(d, twin)}
	}
	return ast.FieldList{d}
}

// aggregate defines a field that aggregates, with its hosts as arguments.
func (g *collection) aggregate(name string) *ast.FieldDefinition {
	for _, fn := range functions {
		if fn.name == name {
			return defined(name, named(fn.typ), fn.help, g.hosts(fn.counts)...)
		}
	}
	return nil
}

func (g *collection) hosts(counts bool) []*ast.ArgumentDefinition {
	selector := numericName
	if counts {
		selector = countName
	}
	group := argument("_group", named(selector(g.Name)), "The documents of the group.")
	twin := *group
	twin.Name, twin.Directives = later["_group"], synonymOf("_group")
	args := []*ast.ArgumentDefinition{group}
	for _, f := range g.fields {
		switch {
		case f.role == roleMany:
			args = append(args, argument(f.name, named(selector(f.Target)), ""))
		case f.isInlineList() && counts:
			args = append(args, argument(f.name, named(listCountName(g.Name, f.name)), "The elements of the list."))
		case f.isInlineList() && isNumericList(f.Type):
			args = append(args, argument(f.name, named(listNumericName(g.Name, f.name)), "The elements of the list."))
		case f.role == roleVersion && counts:
			args = append(args, argument(f.name, named(versionCountName(g.Name)), "The commits of the document."))
		}
	}
	if g.byName[twin.Name] == nil {
		args = append(args, &twin)
	}
	return args
}

// similarity defines _similarity, which takes one numeric list.
func (g *collection) similarity(name string) *ast.FieldDefinition {
	d := defined(name, named("Float"), "The cosine between a numeric list and a vector: 1 for the same direction, 0 if either is null or zero.")
	for _, f := range g.fields {
		if f.isInlineList() && isNumericList(f.Type) {
			d.Arguments = append(d.Arguments, argument(f.name, named(similarityName(g.Name, f.name)), ""))
		}
	}
	return d
}

func (g *collection) hasVectors() bool {
	for _, f := range g.fields {
		if f.isInlineList() && isNumericList(f.Type) {
			return true
		}
	}
	return false
}

// rootAggregates returns the root fields that aggregate documents of collections.
func rootAggregates(gs []*collection) ast.FieldList {
	if len(gs) == 0 {
		return nil
	}
	var fs ast.FieldList
	for _, fn := range functions {
		d := defined(fn.name, named(fn.typ), fn.help)
		for _, g := range gs {
			host := g.numeric
			if fn.counts {
				host = g.count
			}
			d.Arguments = append(d.Arguments, host)
		}
		fs = append(fs, d)
	}
	return fs
}

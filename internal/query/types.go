package query

import (
	"slices"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// role says how a field of a generated type gets its value.
type role uint8

const (
	roleValue      role = iota // stored, a scalar or a list of scalars
	roleOne                    // the related document
	roleMany                   // the related documents
	roleOneID                  // the docID of the related document
	roleDocID                  // _docID
	roleDeleted                // _deleted
	roleVersion                // _version
	roleConflicts              // _conflicts
	roleAccess                 // _acl
	roleGroup                  // _group
	roleAggregate              // _count, _sum, _avg, _min, _max
	roleSimilarity             // _similarity
	roleObject                 // of a view: an embedded object
	roleObjects                // a list of them
)

// field is a field of a generated type.
type field struct {
	*schema.Field // nil for the built-in ones
	name          string
	role          role
}

// stored reports whether documents of the collection carry the value themselves;
// if not, it is the other side of a relation that does.
func (f *field) stored() bool { return f.Field != nil && !f.IsVirtual() }

// collection is a collection with the types that are generated of it. They depend
// on little but the collection, so that a new schema shares those of the old.
type collection struct {
	*schema.Collection
	fields    []*field
	byName    map[string]*field
	types     []*ast.Definition
	read      *ast.FieldDefinition // of Query and Subscription
	mutations ast.FieldList
	count     *ast.ArgumentDefinition // of Query._count
	numeric   *ast.ArgumentDefinition // of Query._sum and the like
	hidden    []string                // relations whose other side is not in the set
	// embeddedTypes are the types of embedded objects: of a view, or of _acl.
	embeddedTypes map[string]*collection
}

// newCollection generates the types of c. The relations in hidden lead to
// collections that are not here yet: only the docIDs that c stores are shown.
func newCollection(c *schema.Collection, hidden []string) *collection {
	g := &collection{Collection: c, byName: map[string]*field{}, hidden: hidden}
	if c.View == nil {
		g.add(&field{name: "_docID", role: roleDocID})
	}
	for i := range c.Fields {
		g.addDeclared(&c.Fields[i])
	}
	if c.View == nil {
		g.add(&field{name: "_deleted", role: roleDeleted})
		g.add(&field{name: "_version", role: roleVersion})
	}
	if len(registers(c)) > 0 {
		g.add(&field{name: "_conflicts", role: roleConflicts})
	}
	if c.Access() != nil {
		g.addAccess()
	}
	g.add(&field{name: "_group", role: roleGroup})
	for _, fn := range functions {
		g.add(&field{name: fn.name, role: roleAggregate})
	}
	if g.hasVectors() {
		g.add(&field{name: "_similarity", role: roleSimilarity})
	}
	g.types = append([]*ast.Definition{g.object(), g.filter(), g.order(), g.input()}, g.selectors()...)
	g.roots()
	if c.View != nil {
		g.asView()
	}
	return g
}

// registers returns the fields of c that keep every value not overwritten.
func registers(c *schema.Collection) []*schema.Field {
	var fs []*schema.Field
	for i := range c.Fields {
		if c.Fields[i].Rule == crdt.MVR {
			fs = append(fs, &c.Fields[i])
		}
	}
	return fs
}

func (g *collection) add(f *field) {
	if g.byName[f.name] == nil {
		g.fields = append(g.fields, f)
		g.byName[f.name] = f
	}
}

func (g *collection) addDeclared(f *schema.Field) {
	switch {
	case f.Embedded != nil && f.EmbeddedList:
		g.add(&field{Field: f, name: f.Name, role: roleObjects})
	case f.Embedded != nil:
		g.add(&field{Field: f, name: f.Name, role: roleObject})
	case !f.IsRelation():
		g.add(&field{Field: f, name: f.Name})
	case slices.Contains(g.hidden, f.Name):
		if !f.IsVirtual() {
			g.add(&field{Field: f, name: f.IDName(), role: roleOneID})
		}
	case f.Type.IsList():
		g.add(&field{Field: f, name: f.Name, role: roleMany})
	default:
		g.add(&field{Field: f, name: f.Name, role: roleOne})
		g.add(&field{Field: f, name: f.IDName(), role: roleOneID})
	}
}

// scalarName returns the name that a scalar type has in the generated schema.
func scalarName(t value.Type) string {
	switch t.Scalar() {
	case value.TypeBoolean:
		return "Boolean"
	case value.TypeInt:
		return "Int"
	case value.TypeFloat64:
		return "Float64"
	case value.TypeFloat32:
		return "Float32"
	case value.TypeString:
		return "String"
	case value.TypeDateTime:
		return "DateTime"
	case value.TypeBlob:
		return "Blob"
	case value.TypeJSON:
		return "JSON"
	}
	return "ID"
}

// typeOf returns the GraphQL type of the values of t.
func typeOf(t value.Type) *ast.Type {
	named := ast.NamedType(scalarName(t), nil)
	if !t.IsList() {
		return named
	}
	named.NonNull = t&value.ListOf != 0
	return ast.ListType(named, nil)
}

func named(name string) *ast.Type         { return ast.NamedType(name, nil) }
func listOf(name string) *ast.Type        { return ast.ListType(ast.NamedType(name, nil), nil) }
func listOfNonNull(name string) *ast.Type { return ast.ListType(ast.NonNullNamedType(name, nil), nil) }
func nonNull(name string) *ast.Type       { return ast.NonNullNamedType(name, nil) }
func defined(name string, t *ast.Type, description string, args ...*ast.ArgumentDefinition) *ast.FieldDefinition {
	return &ast.FieldDefinition{Name: name, Type: t, Description: description, Arguments: args}
}
func argument(name string, t *ast.Type, description string) *ast.ArgumentDefinition {
	return &ast.ArgumentDefinition{Name: name, Type: t, Description: description}
}

// The arguments that lists of documents share.
func listArguments(c string) ast.ArgumentDefinitionList {
	return ast.ArgumentDefinitionList{
		argument("docID", typeDocIDs, "Only the documents with these docIDs."),
		argument("filter", named(filterName(c)), "Only the documents that match."),
		argument("groupBy", listOfNonNull(fieldEnumName(c)), "One result for each set of documents that agree in these fields; only they, _group and aggregates of it can be selected."),
		argument("order", listOf(orderName(c)), "Sort by these keys, each object one key; by docID if there are none."),
		argument("limit", named("Int"), "At most so many; 0 means all."),
		argument("offset", named("Int"), "Leave out so many from the start."),
	}
}

func (g *collection) object() *ast.Definition {
	d := &ast.Definition{Kind: ast.Object, Name: g.Name}
	for _, f := range g.fields {
		switch f.role {
		case roleDocID:
			d.Fields = append(d.Fields, defined(f.name, named("ID"), "The identity of the document, for ever."))
		case roleDeleted:
			d.Fields = append(d.Fields, defined(f.name, named("Boolean"), "Whether the document is deleted."))
		case roleVersion:
			d.Fields = append(d.Fields, defined(f.name, listOf("Commit"), "The commits of the document, newest first."))
		case roleConflicts:
			d.Fields = append(d.Fields, defined(f.name, named("JSON"), "By field, the values of multi-value registers that were written apart from the one shown."))
		case roleAccess:
			d.Fields = append(d.Fields, accessField())
		case roleOneID:
			d.Fields = append(d.Fields, defined(f.name, named("ID"), "The docID of "+f.Name+"."))
			d.Fields = append(d.Fields, g.laterID(d.Fields[len(d.Fields)-1], f)...)
		case roleOne:
			d.Fields = append(d.Fields, defined(f.name, named(f.Target), "",
				argument("filter", named(filterName(f.Target)), "Null unless the document matches.")))
		case roleMany:
			d.Fields = append(d.Fields, defined(f.name, listOf(f.Target), "",
				listArguments(f.Target)...))
		case roleGroup:
			d.Fields = append(d.Fields, g.twinned(defined(f.name, listOf(g.Name), "The documents of a group.", listArguments(g.Name)...))...)
		case roleAggregate:
			d.Fields = append(d.Fields, g.twinned(g.aggregate(f.name))...)
		case roleSimilarity:
			d.Fields = append(d.Fields, g.similarity(f.name))
		case roleObject, roleObjects:
			d.Fields = append(d.Fields, f.embeddedField())
		default:
			t := typeOf(f.Type)
			t.NonNull = f.NonNull
			d.Fields = append(d.Fields, defined(f.name, t, ""))
		}
	}
	return d
}

// laterID returns the hidden twin of author_id, if the name is free.
func (g *collection) laterID(d *ast.FieldDefinition, f *field) ast.FieldList {
	name := laterRelationID(f.Name)
	if g.byName[name] != nil {
		return nil
	}
	return ast.FieldList{hiddenTwin(d, name)}
}

func filterName(c string) string { return c + "FilterArg" }
func orderName(c string) string  { return c + "OrderArg" }
func inputName(c string) string  { return c + "MutationInputArg" }
func countName(c string) string  { return c + "__CountSelector" }

// blockName returns the name of the conditions on values of t.
func blockName(t value.Type) string {
	s := scalarName(t)
	switch {
	case t.Scalar() == value.TypeJSON && !t.IsList():
		return "JSON"
	case t&value.ListOf != 0:
		return "NotNull" + s + "ListOperatorBlock"
	case t.IsList():
		return s + "ListOperatorBlock"
	}
	return s + "OperatorBlock"
}

func (g *collection) filter() *ast.Definition {
	self := filterName(g.Name)
	d := &ast.Definition{Kind: ast.InputObject, Name: self, Fields: ast.FieldList{
		defined("_and", listOfNonNull(self), "All of these."),
		defined("_or", listOfNonNull(self), "At least one of these."),
		defined("_not", named(self), "Not this."),
		defined("_alias", named("JSON"), "By response key, conditions on what is selected: {_alias: {total: {_gt: 5}}}."),
	}}
	for _, f := range g.fields {
		switch f.role {
		case roleDocID:
			d.Fields = append(d.Fields, defined(f.name, named("IDOperatorBlock"), ""))
		case roleOneID:
			def := defined(f.name, named("IDOperatorBlock"), "")
			d.Fields = append(append(d.Fields, def), g.laterID(def, f)...)
		case roleOne:
			d.Fields = append(d.Fields, defined(f.name, named(filterName(f.Target)), "The related document matches."))
		case roleMany:
			d.Fields = append(d.Fields, defined(f.name, named(filterName(f.Target)), "At least one related document matches."))
		case roleValue:
			d.Fields = append(d.Fields, defined(f.name, named(blockName(f.Type)), ""))
		case roleObject, roleObjects:
			d.Fields = append(d.Fields, f.embeddedCondition())
		}
	}
	return d
}

func (g *collection) order() *ast.Definition {
	d := &ast.Definition{Kind: ast.InputObject, Name: orderName(g.Name), Fields: ast.FieldList{
		defined("_alias", named("JSON"), "Sort by what is selected under a response key: {_alias: {total: DESC}}."),
	}}
	for _, f := range g.fields {
		switch f.role {
		case roleDocID, roleValue:
			d.Fields = append(d.Fields, defined(f.name, named("Ordering"), ""))
		case roleOneID:
			def := defined(f.name, named("Ordering"), "")
			d.Fields = append(append(d.Fields, def), g.laterID(def, f)...)
		case roleOne:
			d.Fields = append(d.Fields, defined(f.name, named(orderName(f.Target)), ""))
		case roleObject:
			d.Fields = append(d.Fields, defined(f.name, named(orderName(f.Embedded.Name)), ""))
		}
	}
	return d
}

func (g *collection) input() *ast.Definition {
	d := &ast.Definition{Kind: ast.InputObject, Name: inputName(g.Name)}
	for _, f := range g.fields {
		if !f.stored() {
			continue
		}
		switch f.role {
		case roleValue:
			d.Fields = append(d.Fields, defined(f.name, typeOf(f.Type), ""))
		case roleOne:
			d.Fields = append(d.Fields, defined(f.name, named("ID"), "The docID of the related document."))
		case roleOneID:
			def := defined(f.name, named("ID"), "The docID of the related document.")
			d.Fields = append(append(d.Fields, def), g.laterID(def, f)...)
		}
	}
	if len(d.Fields) == 0 { // GraphQL has no empty input type
		d.Fields = ast.FieldList{defined("_", named("Boolean"), "The collection has no fields to write.")}
	}
	return d
}

// roots makes the root fields of the collection.
func (g *collection) roots() {
	filter, input := filterName(g.Name), inputName(g.Name)
	args := append(append(listArguments(g.Name), pastArguments()...),
		argument("showDeleted", named("Boolean"), "Deleted documents too, here and in relations."))
	g.read = defined(g.Name, listOf(g.Name), "Documents of "+g.Name+".", args...)
	g.count = argument(g.Name, named(countName(g.Name)), "")
	g.numeric = argument(g.Name, named(numericName(g.Name)), "")
	targets := ast.ArgumentDefinitionList{
		argument("docID", typeTargets, "Only the documents with these docIDs."),
		argument("filter", named(filter), "Only the documents that match."),
	}
	all := argument("all", named("Boolean"), "Required as true to change every document, with neither docID nor filter.")
	g.mutations = withTwins(ast.FieldList{
		defined(createPrefix+g.Name, listOf(g.Name), "Creates documents and returns them in the order of the input.",
			append(ast.ArgumentDefinitionList{argument("input", listOfNonNull(input), "")}, g.sealing()...)...),
		defined("update_"+g.Name, listOf(g.Name), "Changes documents and returns them.",
			append(slices.Clone(targets), argument("input", named(input), "Only the named fields change; null clears; counters add."), all)...),
		defined("delete_"+g.Name, listOf(g.Name), "Deletes documents and returns them.",
			append(slices.Clone(targets), all)...),
		defined("upsert_"+g.Name, listOf(g.Name), "Updates the document that matches, or creates one if none does.",
			argument("filter", nonNull(filter), ""),
			argument("create", nonNull(input), ""),
			argument("update", nonNull(input), "")),
	})
}

package query

import (
	"context"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator"

	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// Schema is the GraphQL schema generated of one set of collections: immutable but
// for the cache of documents checked against it, which is safe for concurrent use.
type Schema struct {
	ast         *ast.Schema
	collections map[string]*collection
	mutations   map[string]mutationRoot // root fields of Mutation
	limits      Limits
	unindexed   bool // requests use no index, to compare
	cache       cache

	cores *cores
	// pipeline returns the modules of a transform, ready to run.
	pipeline func(context.Context, *store.Tx, *schema.Transform) (schema.Pipeline, error)
}

// mutationRoot is what a root field of Mutation does, and to which collection.
type mutationRoot struct {
	verb string
	coll *collection
}

// NewSchema generates the schema of cs. Types of collections that prev has too are
// shared with it; prev may be nil and stays valid.
func NewSchema(cs []*schema.Collection, prev *Schema, limits Limits) *Schema {
	s := &Schema{
		collections: make(map[string]*collection, len(cs)),
		mutations:   make(map[string]mutationRoot, 5*len(cs)),
		limits:      limits.withDefaults(),
		ast: &ast.Schema{
			Types:         make(map[string]*ast.Definition, 6*len(cs)+100),
			Directives:    map[string]*ast.DirectiveDefinition{},
			PossibleTypes: make(map[string][]*ast.Definition, len(cs)+20),
			Implements:    map[string][]*ast.Definition{},
		},
	}
	for _, d := range builtin().Directives {
		s.ast.Directives[d.Name] = d
	}
	s.define(builtin().Definitions...)
	query := &ast.Definition{Kind: ast.Object, Name: "Query"}
	mutation := &ast.Definition{Kind: ast.Object, Name: "Mutation"}
	var gs []*collection
	among := make(map[string]*schema.Collection, len(cs))
	for _, c := range cs {
		among[c.Name] = c
	}
	for _, c := range cs {
		if s.ast.Types[c.Name] != nil { // a clash with a built-in type; no schema gets that far
			continue
		}
		g := generated(c, among, prev)
		s.collections[c.Name] = g
		s.define(g.types...)
		if c.Access() != nil {
			s.defineAccess()
		}
		query.Fields = append(query.Fields, g.read)
		gs = append(gs, g)
		mutation.Fields = append(mutation.Fields, g.mutations...)
		for _, m := range g.mutations {
			s.mutations[m.Name] = mutationRoot{verb(canonical(m)), g}
		}
	}
	s.define(s.roots(query, mutation, rootAggregates(gs))...)
	return s
}

// generated returns the types of c, those of prev if it had them.
func generated(c *schema.Collection, among map[string]*schema.Collection, prev *Schema) *collection {
	hidden := dangling(c, among)
	if prev != nil {
		if g := prev.collections[c.Name]; g != nil && g.Collection == c && slices.Equal(g.hidden, hidden) {
			return g
		}
	}
	return newCollection(c, hidden)
}

// dangling returns the relations of c whose other side is not among the
// collections: a peer may send a collection before those that it refers to.
func dangling(c *schema.Collection, among map[string]*schema.Collection) []string {
	var names []string
	for i := range c.Fields {
		f := &c.Fields[i]
		if !f.IsRelation() {
			continue
		}
		target, ok := among[f.Target]
		if ok && f.IsVirtual() {
			_, ok = c.Opposite(f, target)
		}
		if !ok {
			names = append(names, f.Name)
		}
	}
	return names
}

func (s *Schema) define(ds ...*ast.Definition) {
	for _, d := range ds {
		s.ast.Types[d.Name] = d
		if d.Kind == ast.Object {
			s.ast.PossibleTypes[d.Name] = []*ast.Definition{d}
		}
	}
}

// roots completes the three root types.
func (s *Schema) roots(query, mutation *ast.Definition, aggregates ast.FieldList) []*ast.Definition {
	dummy := defined("_", named("Boolean"), "Nothing: a type needs a field.")
	subscription := &ast.Definition{Kind: ast.Object, Name: "Subscription",
		Fields: append(s.followed(query.Fields), dummy)}
	query.Fields = append(query.Fields, aggregates...)
	query.Fields = withTwins(append(append(query.Fields, commitRoots()...), dummy))
	query.Fields = append(query.Fields, validator.QueryIntrospectionFields()...)
	mutation.Fields = append(mutation.Fields, dummy)
	s.ast.Query, s.ast.Mutation, s.ast.Subscription = query, mutation, subscription
	return []*ast.Definition{query, mutation, subscription}
}

// followed returns the root fields that can be subscribed to: those of collections.
func (s *Schema) followed(fs ast.FieldList) ast.FieldList {
	var kept ast.FieldList
	for _, f := range fs {
		if g := s.collections[f.Name]; g == nil || g.View == nil {
			kept = append(kept, f)
		}
	}
	return kept
}

// verb returns the verb of a mutation: create of create_User.
func verb(name string) string {
	for i := range name {
		if name[i] == '_' {
			return name[:i]
		}
	}
	return name
}

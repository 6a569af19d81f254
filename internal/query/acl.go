package query

import (
	"sync"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// Documents of collections with a policy have the field _acl. Its types begin with _,
// as no type of a collection does, so that they take no name from any.
const (
	accessName = "_Access"
	tupleName  = "_AccessTuple"
)

var (
	tupleObject = &schema.Embedded{Name: tupleName, Fields: []schema.Field{
		{Name: "relation", Type: value.TypeString},
		{Name: "subject", Type: value.TypeString},
	}}
	accessObject = &schema.Embedded{Name: accessName, Fields: []schema.Field{
		{Name: "owner", Type: value.TypeString},
		{Name: "pending", Type: value.TypeInt},
		{Name: "permissions", Type: value.TypeString | value.ListOf},
		{Name: "tuples", Embedded: tupleObject, EmbeddedList: true},
	}}
	accessHelp = map[string]string{
		"owner":       "The DID of whom the document belongs to. Null if two transfers of the ownership contradict each other.",
		"pending":     "How many commits do not count, unless the owner accepts them.",
		"permissions": "What the policy permits to whoever asks.",
		"tuples":      "Who has which relation.",
		"relation":    "A relation of the policy.",
		"subject":     "A DID, docID#relation for those who have the relation in another document, or * for everybody.",
	}
)

// accessTypes are the types of _acl.
var accessTypes = sync.OnceValue(func() map[string]*collection {
	all := map[string]*collection{}
	for _, e := range []*schema.Embedded{accessObject, tupleObject} {
		g := newEmbedded(e)
		g.embeddedTypes, g.types = all, g.types[:1]
		for _, f := range g.types[0].Fields {
			f.Description = accessHelp[f.Name]
		}
		all[e.Name] = g
	}
	return all
})

// defineAccess defines the types of _acl.
func (s *Schema) defineAccess() {
	for _, g := range accessTypes() {
		s.define(g.types...)
	}
}

// addAccess adds _acl to a collection with a policy.
func (g *collection) addAccess() {
	g.embeddedTypes = accessTypes()
	g.add(&field{Field: &schema.Field{Name: "_acl", Embedded: accessObject}, name: "_acl", role: roleAccess})
}

// source is how plans call the documents that a part of them begins with.
func (g *collection) source() string {
	if g.Access() != nil {
		return "readable " + g.Name
	}
	return g.Name
}

func accessField() *ast.FieldDefinition {
	return defined("_acl", named(accessName), "Who may do what with the document; of one as it was once, who could then.")
}

// rights plans _acl.
func (c *compiler) rights(g *collection, f *field, s *selected) (column, error) {
	write, err := c.objects(g, f, s)
	return column{write: func(x *run, r *row) error {
		rights, ok, err := x.tx.Rights(r.Doc)
		if err != nil {
			return err
		}
		v := value.Value{}
		if ok {
			v = rightsValue(rights)
		}
		write(x, v)
		return x.err
	}}, err
}

func rightsValue(r store.Rights) value.Value {
	permissions := make([]value.Value, len(r.Permissions))
	for i, p := range r.Permissions {
		permissions[i] = value.OfString(p)
	}
	tuples := make([]value.Value, len(r.Tuples))
	for i, t := range r.Tuples {
		tuples[i] = value.OfMap(map[string]value.Value{
			"relation": value.OfString(t.Relation),
			"subject":  value.OfString(t.Subject.String()),
		})
	}
	return value.OfMap(map[string]value.Value{
		"owner":       didValue(r.Owner),
		"pending":     value.OfInt(int64(r.Voided)),
		"permissions": value.OfList(permissions),
		"tuples":      value.OfList(tuples),
	})
}

func didValue(k ident.PublicKey) value.Value {
	if k == "" {
		return value.Value{}
	}
	return value.OfString(string(k.DID()))
}

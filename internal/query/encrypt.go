package query

import (
	"slices"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/veil"
)

// explicit makes the enum of the fields that can be encrypted, nil if there are none.
func (g *collection) explicit() *ast.Definition {
	d := &ast.Definition{Kind: ast.Enum, Name: explicitName(g.Name)}
	for _, f := range g.fields {
		if f.stored() && (f.role == roleValue || f.role == roleOne) {
			addEnum(d, f.name, "")
		}
	}
	if len(d.EnumValues) == 0 {
		return nil
	}
	return d
}

// sealing returns the arguments of a creation that say what is encrypted.
func (g *collection) sealing() ast.ArgumentDefinitionList {
	args := ast.ArgumentDefinitionList{
		argument("encrypt", named("Boolean"), "The documents can be read by those only who may, wherever they are kept. Needs a policy."),
	}
	if g.explicit() != nil {
		args = append(args, argument("encryptFields", listOfNonNull(explicitName(g.Name)), "These fields of the documents can be read by those only who may, with keys of their own. Needs a policy."))
	}
	return args
}

// cover reads what of the documents that a creation makes is encrypted.
func (c *compiler) cover(g *collection, f *selected) (cover veil.Cover, err error) {
	all, _, err := c.in.argument(f.Field, "encrypt")
	if err != nil {
		return cover, err
	}
	cover.All = all.Bool()
	if f.Definition.Arguments.ForName("encryptFields") == nil {
		return cover, nil
	}
	fields, given, err := c.in.argument(f.Field, "encryptFields")
	if err != nil {
		return cover, err
	}
	if given && !fields.IsNull() && len(fields.List()) == 0 {
		return cover, fault.Invalid.Errorf("encryptFields names no field, so nothing would be encrypted: name some, say encrypt: true for all, or leave it out")
	}
	for _, v := range fields.List() {
		if x := g.byName[v.Text()]; x != nil && x.stored() {
			cover.Fields = append(cover.Fields, x.ID)
		}
	}
	slices.Sort(cover.Fields)
	cover.Fields = slices.Compact(cover.Fields)
	return cover, nil
}

package query

import (
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// The dialect has two generations of names. The generated schema carries the
// names of the first; for every name below that the second generation spells
// differently it also carries a hidden twin: accepted wherever its original is,
// shown neither by introspection nor in this package, which asks canonical.

// synonyms maps names of the second generation to those of the first.
var synonyms = map[string]string{
	// operators
	"_neq": "_ne",
	"_geq": "_ge",
	"_leq": "_le",
	// aggregates and groups
	"COUNT": "_count",
	"SUM":   "_sum",
	"AVG":   "_avg",
	"MIN":   "_min",
	"MAX":   "_max",
	"GROUP": "_group",
	// roots
	"_commits": "commits",
}

// later maps back: the spelling of the second generation of a name of the first.
var later = func() map[string]string {
	m := map[string]string{}
	for new, old := range synonyms {
		m[old] = new
	}
	return m
}()

const (
	createPrefix      = "create_"
	laterCreatePrefix = "add_"
)

// laterRelationID is the later spelling of author_id: _authorID.
func laterRelationID(relation string) string { return "_" + relation + "ID" }

// synonymDirective marks a hidden twin; it is no directive that a request could
// name, for the schema does not declare it.
const synonymDirective = "synonym"

// hiddenTwin returns a copy of f under another name.
func hiddenTwin(f *ast.FieldDefinition, name string) *ast.FieldDefinition {
	t := *f
	t.Name = name
	t.Directives = synonymOf(f.Name)
	return &t
}

func synonymOf(name string) ast.DirectiveList {
	return ast.DirectiveList{{
		Name:      synonymDirective,
		Arguments: ast.ArgumentList{{Name: "of", Value: &ast.Value{Kind: ast.StringValue, Raw: name}}},
	}}
}

// withTwins adds the hidden twins of the fields that have one, unless the name is
// taken by a field of the user.
func withTwins(fs ast.FieldList) ast.FieldList {
	for _, f := range fs[:len(fs):len(fs)] {
		name, ok := later[f.Name]
		if strings.HasPrefix(f.Name, createPrefix) {
			name, ok = laterCreatePrefix+strings.TrimPrefix(f.Name, createPrefix), true
		}
		if ok && fs.ForName(name) == nil {
			fs = append(fs, hiddenTwin(f, name))
		}
	}
	return fs
}

// isHidden reports whether introspection leaves out what has these directives.
func isHidden(ds ast.DirectiveList) bool { return ds.ForName(synonymDirective) != nil }

// canonical returns the name that a field goes by in this package.
func canonical(f *ast.FieldDefinition) string { return canonicalName(f.Name, f.Directives) }

// canonicalName is canonical for anything that has a name and directives.
func canonicalName(name string, ds ast.DirectiveList) string {
	if d := ds.ForName(synonymDirective); d != nil {
		return d.Arguments[0].Value.Raw
	}
	return name
}

// canonicalOperator is canonical where no schema applies: inside JSON conditions.
func canonicalOperator(name string) string {
	if old, ok := synonyms[name]; ok {
		return old
	}
	return name
}

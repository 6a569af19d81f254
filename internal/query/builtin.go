package query

import (
	"sync"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator"
)

// builtin are the definitions that every generated schema shares.
var builtin = sync.OnceValue(func() *ast.SchemaDocument {
	doc := &ast.SchemaDocument{}
	prelude := validator.PreludeDocument()
	for _, d := range prelude.Definitions {
		d.BuiltIn = true
		if d.Name == "Int" {
			d.Description = "A signed whole number of 64 bits."
		}
		doc.Definitions = append(doc.Definitions, d)
	}
	for _, d := range prelude.Directives {
		switch d.Name {
		case "include", "skip", "deprecated", "specifiedBy":
			doc.Directives = append(doc.Directives, d)
		}
	}
	doc.Directives = append(doc.Directives, &ast.DirectiveDefinition{
		Name:        "live",
		Description: "The result is wanted again, as what changes in it, for as long as the reader follows.",
		Arguments:   ast.ArgumentDefinitionList{argument("if", named("Boolean"), "")},
		Locations:   []ast.DirectiveLocation{ast.LocationQuery},
		Position:    &ast.Position{Src: &ast.Source{BuiltIn: true}},
	})
	doc.Definitions = append(doc.Definitions,
		scalar("Blob", "Bytes, written as hexadecimal digits."),
		scalar("DateTime", "An instant in RFC 3339, with an offset and up to nine digits of a second."),
		scalar("JSON", "Any JSON value."),
		scalar("Float32", "A number in single precision."),
		scalar("Float64", "A number in double precision."),
		&ast.Definition{Kind: ast.Enum, Name: "Ordering", EnumValues: ast.EnumValueList{
			{Name: "ASC", Description: "Least first; null before everything."},
			{Name: "DESC", Description: "Greatest first; null after everything."},
		}},
	)
	doc.Definitions = append(doc.Definitions, commitTypes()...)
	types, explain := explainTypes()
	doc.Definitions, doc.Directives = append(doc.Definitions, types), append(doc.Directives, explain)
	for _, s := range []string{"Boolean", "Int", "Float32", "Float64", "String", "Blob", "DateTime", "ID", "JSON"} {
		doc.Definitions = append(doc.Definitions,
			operators(s+"OperatorBlock", s, false),
			operators("NotNull"+s+"OperatorBlock", s, true),
			quantifiers(s+"ListOperatorBlock", s+"OperatorBlock"),
			quantifiers("NotNull"+s+"ListOperatorBlock", "NotNull"+s+"OperatorBlock"),
			elementFilter(s+"FilterArg", s, false),
			elementFilter("NotNull"+s+"FilterArg", s, true))
	}
	return doc
})

func scalar(name, description string) *ast.Definition {
	return &ast.Definition{Kind: ast.Scalar, Name: name, Description: description}
}

// operators makes the conditions on one scalar.
func operators(name, scalar string, notNull bool) *ast.Definition {
	d := &ast.Definition{Kind: ast.InputObject, Name: name}
	add := func(t *ast.Type, names ...string) {
		for _, n := range names {
			d.Fields = append(d.Fields, defined(n, t, operatorHelp[n]))
		}
	}
	add(named(scalar), "_eq", "_ne")
	switch scalar {
	case "Int", "Float32", "Float64", "DateTime":
		add(named(scalar), "_gt", "_ge", "_lt", "_le")
	case "String", "Blob":
		add(named("String"), "_like", "_nlike", "_ilike", "_nilike")
	}
	list := listOf(scalar)
	if notNull {
		list = listOfNonNull(scalar)
	}
	add(list, "_in", "_nin")
	d.Fields = withTwins(d.Fields)
	return d
}

// elementFilter makes the conditions on the elements of a list that is aggregated.
func elementFilter(name, scalar string, notNull bool) *ast.Definition {
	d := operators(name, scalar, notNull)
	d.Fields = append(d.Fields,
		defined("_and", listOfNonNull(name), "All of these."),
		defined("_or", listOfNonNull(name), "At least one of these."))
	return d
}

// quantifiers makes the conditions on a list.
func quantifiers(name, block string) *ast.Definition {
	d := &ast.Definition{Kind: ast.InputObject, Name: name}
	for _, n := range []string{"_any", "_all", "_none"} {
		d.Fields = append(d.Fields, defined(n, named(block), operatorHelp[n]))
	}
	return d
}

var operatorHelp = map[string]string{
	"_eq":     "Equal; null equals null.",
	"_ne":     "Not equal; null differs from every value.",
	"_gt":     "Greater. Null is below every value.",
	"_ge":     "Greater or equal.",
	"_lt":     "Less; false for null.",
	"_le":     "Less or equal; false for null against a value.",
	"_in":     "One of these.",
	"_nin":    "None of these.",
	"_like":   "Matches the pattern: % stands for any text, _ for one character, a backslash before them for themselves.",
	"_nlike":  "Does not match the pattern; true for null.",
	"_ilike":  "As _like, letter case ignored.",
	"_nilike": "As _nlike, letter case ignored.",
	"_any":    "Some element matches.",
	"_all":    "Every element matches; false for null.",
	"_none":   "No element matches; false for null.",
}

// commitTypes makes the types of commits.
func commitTypes() []*ast.Definition {
	return []*ast.Definition{
		{Kind: ast.Object, Name: "Commit", Description: "One signed change of one document.", Fields: ast.FieldList{
			defined("cid", named("String"), "The name of the commit: a hash of its contents."),
			defined("height", named("Int"), "One more than the greatest height of its parents."),
			defined("docID", named("ID"), ""),
			defined("schemaVersionId", named("String"), "The schema version it was written under."),
			defined("collectionVersionId", named("String"), "The same."),
			defined("author", named("String"), "The DID of its author."),
			defined("time", named("DateTime"), "When it was written, by the clock of its author."),
			defined("links", listOf("CommitLink"), "Its parents."),
			defined("deltas", listOf("CommitDelta"), "What it changed."),
			defined("signature", named("Signature"), ""),
			defined("_group", listOf("Commit"), "The commits of a group."),
			defined("_count", named("Int"), "How many links, deltas, or commits of the group.",
				argument("field", named("commitCountFieldArg"), "")),
			hiddenTwin(defined("_group", listOf("Commit"), ""), later["_group"]),
			hiddenTwin(defined("_count", named("Int"), "", argument("field", named("commitCountFieldArg"), "")), later["_count"]),
		}},
		commitEnum("commitFields", "cid", "docID", "height", "author", "schemaVersionId", "collectionVersionId"),
		commitEnum("commitCountFieldArg", "links", "deltas", "_group"),
		{Kind: ast.Object, Name: "CommitLink", Fields: ast.FieldList{
			defined("cid", named("String"), ""),
		}},
		{Kind: ast.Object, Name: "CommitDelta", Fields: ast.FieldList{
			defined("fieldName", named("String"), "_deleted for the status of the document."),
			defined("kind", named("String"), "The rule and the type, such as \"lww String\"."),
			defined("value", named("JSON"), "The value set, or what a counter adds."),
		}},
		{Kind: ast.Object, Name: "Signature", Fields: ast.FieldList{
			defined("type", named("String"), ""),
			defined("identity", named("String"), "The DID of the key that signed."),
			defined("value", named("String"), "The signature in base64."),
		}},
		{Kind: ast.InputObject, Name: "commitsOrderArg", Fields: ast.FieldList{
			defined("height", named("Ordering"), ""),
			defined("cid", named("Ordering"), ""),
			defined("docID", named("Ordering"), ""),
		}},
	}
}

func commitEnum(name string, values ...string) *ast.Definition {
	d := &ast.Definition{Kind: ast.Enum, Name: name}
	for _, v := range values {
		addEnum(d, v, later[v])
	}
	return d
}

// commitRoots makes the root fields over commits.
func commitRoots() ast.FieldList {
	return ast.FieldList{
		defined("commits", listOf("Commit"), "Commits, newest first within a document.",
			argument("docID", typeDocID, "Only commits of this document."),
			argument("cid", typeCommit, "Only this commit; with depth, its ancestors too."),
			argument("fieldName", named("String"), "Only commits that changed this field."),
			argument("depth", named("Int"), "How many levels from the heads, or from cid."),
			argument("order", listOf("commitsOrderArg"), ""),
			argument("groupBy", listOfNonNull("commitFields"), "One result for each set of commits that agree in these; only they, _group and _count(field: _group) can be selected."),
			argument("limit", named("Int"), ""),
			argument("offset", named("Int"), "")),
		defined("latestCommits", listOf("Commit"), "The heads of a document.",
			argument("docID", typeOfOneDocID, ""),
			argument("fieldName", named("String"), "Only commits that changed this field.")),
	}
}

package query

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/core"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

// The rules of the GraphQL specification, in the order of their names: with a
// suggestion for what is misspelled, and without, because looking for one compares a
// name with all others.
var (
	helpfulRules = sync.OnceValue(func() []validator.Rule { return inOrderOfNames(ourRules()) })
	plainRules   = sync.OnceValue(func() []validator.Rule {
		r := ourRules()
		for _, plain := range []validator.Rule{
			rules.FieldsOnCorrectTypeRuleWithoutSuggestions,
			rules.KnownArgumentNamesRuleWithoutSuggestions,
			rules.KnownTypeNamesRuleWithoutSuggestions,
			rules.ScalarLeafsRuleWithoutSuggestions,
			rules.ValuesOfCorrectTypeRuleWithoutSuggestions,
		} {
			r.ReplaceRule(strings.TrimSuffix(plain.Name, "WithoutSuggestions"), plain.RuleFunc)
		}
		return inOrderOfNames(r)
	})
)

func ourRules() *rules.Rules {
	r := rules.NewDefaultRules()
	r.ReplaceRule(rules.VariablesInAllowedPositionRule.Name, variablesFit)
	return r
}

func inOrderOfNames(r *rules.Rules) []validator.Rule {
	var list []validator.Rule
	for name, f := range r.GetInner() {
		list = append(list, validator.Rule{Name: name, RuleFunc: f})
	}
	slices.SortFunc(list, func(a, b validator.Rule) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// broken returns where a document breaks rules. The parser's own function does the
// same, and sorts the rules for each request anew.
func broken(rs []validator.Rule, schema *ast.Schema, d *ast.QueryDocument) (es gqlerror.List) {
	observers := &core.Events{}
	for _, r := range rs {
		r.RuleFunc(observers, func(options ...core.ErrorOption) {
			e := &gqlerror.Error{Rule: r.Name}
			for _, o := range options {
				o(e)
			}
			es = append(es, e)
		})
	}
	core.Walk(schema, d, observers)
	return es
}

// The types of the arguments docID differ, as the dialect has it, and so do those of
// cid. They are told apart from equal ones by their identity.
var (
	typeDocIDs     = listOfNonNull("String") // of queries
	typeTargets    = listOf("ID")            // of mutations
	typeDocID      = named("ID")
	typeOfOneDocID = nonNull("ID")
	typeCommit     = named("ID")     // of commits
	typeAtCommit   = named("String") // of documents

	docIDTypes = []*ast.Type{typeDocIDs, typeDocIDs.Elem, typeTargets, typeTargets.Elem, typeDocID, typeOfOneDocID, typeCommit, typeAtCommit}
)

// variablesFit is the rule that a variable has the type of the place where it
// stands, except that docIDs and cids go by any variable whose type one can be written
// as: one variable serves queries and mutations.
func variablesFit(observers *core.Events, addError core.AddErrFunc) {
	observers.OnValue(func(w *core.Walker, v *ast.Value) {
		if v.Kind != ast.Variable || v.ExpectedType == nil || v.VariableDefinition == nil || w.CurrentOperation == nil {
			return
		}
		given, want := v.VariableDefinition, *v.ExpectedType
		if given.DefaultValue != nil && given.DefaultValue.Kind != ast.NullValue || v.ExpectedTypeHasDefault {
			want.NonNull = false
		}
		fits := given.Type.IsCompatible(&want) || asFloat64(given.Type).IsCompatible(&want)
		if slices.Contains(docIDTypes, v.ExpectedType) {
			fits = holdsDocIDs(given.Type, &want)
		}
		if !fits {
			addError(
				core.Message(`Variable "%s" of type "%s" used in position expecting type "%s".`, v, given.Type, v.ExpectedType),
				core.At(v.Position))
		}
	})
}

// asFloat64 returns a type with Float64 in place of Float: they are the same numbers,
// and the fields of a collection have the longer name.
func asFloat64(t *ast.Type) *ast.Type {
	switch {
	case t.Elem != nil:
		return &ast.Type{Elem: asFloat64(t.Elem), NonNull: t.NonNull}
	case t.NamedType == "Float":
		return &ast.Type{NamedType: "Float64", NonNull: t.NonNull}
	}
	return t
}

// holdsDocIDs reports whether a variable of a type may stand for docIDs. Whether
// elements are null is seen when they are there.
func holdsDocIDs(given, want *ast.Type) bool {
	elem := given
	if given.Elem != nil {
		elem = given.Elem
	}
	isText := elem.NamedType == "ID" || elem.NamedType == "String"
	return isText && (given.Elem == nil || want.Elem != nil) && (given.NonNull || !want.NonNull)
}

var (
	suggestions = regexp.MustCompile(` Did you mean ((?:"[^"]+"(?:, or |, | or )?)+)\?$`)
	suggestion  = regexp.MustCompile(`"([^"]+)"`)
)

// withoutHidden lets errors suggest the names that are shown, not their twins.
func (s *Schema) withoutHidden(es gqlerror.List) gqlerror.List {
	hidden := map[string]string{}
	for _, d := range s.ast.Types {
		for _, f := range d.Fields {
			if isHidden(f.Directives) {
				hidden[f.Name] = canonical(f)
			}
			for _, a := range f.Arguments {
				if isHidden(a.Directives) {
					hidden[a.Name] = canonicalName(a.Name, a.Directives)
				}
			}
		}
		for _, v := range d.EnumValues {
			if isHidden(v.Directives) {
				hidden[v.Name] = canonicalName(v.Name, v.Directives)
			}
		}
	}
	for _, e := range es {
		at := suggestions.FindStringSubmatchIndex(e.Message)
		if at == nil {
			continue
		}
		var shown []string
		for _, m := range suggestion.FindAllStringSubmatch(e.Message[at[2]:at[3]], -1) {
			name := m[1]
			if old, ok := hidden[name]; ok {
				name = old
			}
			if !slices.Contains(shown, name) {
				shown = append(shown, name)
			}
		}
		e.Message = e.Message[:at[0]] + " Did you mean " + core.QuotedOrList(shown...) + "?"
	}
	return es
}

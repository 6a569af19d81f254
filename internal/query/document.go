package query

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/lexer"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// document is a parsed text that fits the schema. It is never changed.
type document struct {
	text string
	ast  *ast.QueryDocument
	// plan is the plan of the only operation, if it takes no variables.
	plan atomic.Pointer[Plan]
}

// document returns the checked document of a text.
func (s *Schema) document(text string) (*document, error) {
	if d := s.cache.get(text); d != nil {
		return d, nil
	}
	if len(text) > s.limits.Text {
		return nil, tooLarge("the request text has %d bytes, at most %d are allowed: put bulk contents into variables", len(text), s.limits.Text)
	}
	tree, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: text}, s.limits.Tokens)
	if err != nil {
		return nil, unparsed(text, err, s.limits.Tokens)
	}
	if err := s.limits.check(text, tree); err != nil {
		return nil, err
	}
	if es := s.validate(text, tree); len(es) > 0 {
		return nil, refused(Validate, es)
	}
	d := &document{text: strings.Clone(text), ast: tree}
	s.cache.put(d)
	return d, nil
}

func tooLarge(format string, args ...any) error {
	err := fault.TooLarge.Errorf(format, args...)
	return Errors{&Error{Message: err.Error(), Stage: Validate, Err: err}}
}

func unparsed(text string, err error, tokens int) error {
	var g *gqlerror.Error
	if !errors.As(err, &g) {
		g = gqlerror.Wrap(err)
	}
	if strings.HasPrefix(g.Message, "exceeded token limit") {
		return tooLarge("the request text has more than %d tokens: put bulk contents into variables", tokens)
	}
	if strings.Contains(g.Message, lexer.Invalid.String()) || strings.HasPrefix(g.Message, "Cannot parse") {
		if why := schema.Unreadable(text); why != nil {
			g = why
		}
	}
	switch g.Message {
	case emptyList + "}":
		g.Message = "there is nothing between { and }: name at least one field, such as _docID, or leave the braces out"
	case emptyList + ")":
		g.Message = "there is nothing between ( and ): give an argument, or leave the parentheses out"
	}
	return refused(Parse, gqlerror.List{g})
}

// emptyList begins what the parser says of something in brackets that is empty,
// whatever it is.
const emptyList = "expected at least one definition, found "

// validate checks a document against the schema. Only what looks like the mistake
// of a person gets suggestions.
func (s *Schema) validate(text string, tree *ast.QueryDocument) gqlerror.List {
	es := broken(plainRules(), s.ast, tree)
	const longest = 64 // bytes of a word that a person has misspelled
	if len(es) == 0 || len(es) > maxErrors || longestWord(text) > longest {
		return es
	}
	return s.withoutHidden(broken(helpfulRules(), s.ast, tree))
}

func longestWord(text string) int {
	most, n := 0, 0
	for i := range len(text) {
		c := text[i]
		if c != '_' && (c < '0' || c > '9') && (lower(c) < 'a' || lower(c) > 'z') {
			n = 0
			continue
		}
		n++
		most = max(most, n)
	}
	return most
}

// check measures a document before anything walks it more than once.
func (l Limits) check(text string, d *ast.QueryDocument) error {
	if len(d.Fragments) > maxFragments {
		return tooLarge("the request has more than %d fragments: ask for less at once", maxFragments)
	}
	m := measure{limits: l, halves: halfCharacter.MatchString(text)}
	variables := 0
	for _, op := range d.Operations {
		if variables += len(op.VariableDefinitions); variables > maxVariables {
			return tooLarge("the request has more than %d variables: use a list or an input object as one", maxVariables)
		}
		for _, v := range op.VariableDefinitions {
			m.literal("$"+v.Variable, v.DefaultValue, 1)
			m.directives(v.Directives)
		}
		m.directives(op.Directives)
		m.selections(op.SelectionSet, 1)
	}
	for _, f := range d.Fragments {
		m.directives(f.Directives)
		m.selections(f.SelectionSet, 1)
	}
	return m.err
}

// measure walks a document until a limit is passed.
type measure struct {
	limits Limits
	halves bool // the text may write characters as two escapes, or half of one
	n      int  // selections
	err    error
}

// halfCharacter is an escape for half of a character beyond U+FFFF: what comes out
// of the parser is no text any more.
var halfCharacter = regexp.MustCompile(`\\u[dD][89abcdefABCDEF]`)

func (m *measure) selections(sel ast.SelectionSet, depth int) {
	if len(sel) > 0 && depth > m.limits.Depth {
		m.err = m.limits.tooDeep()
	}
	if m.n += len(sel); m.n > m.limits.Selections {
		m.err = tooLarge("the request has more than %d selections: ask for less at once", m.limits.Selections)
	}
	for _, s := range sel {
		if m.err != nil {
			return
		}
		switch s := s.(type) {
		case *ast.Field:
			for _, a := range s.Arguments {
				m.literal(a.Name, a.Value, 1)
			}
			m.directives(s.Directives)
			m.selections(s.SelectionSet, depth+1)
		case *ast.InlineFragment:
			m.directives(s.Directives)
			m.selections(s.SelectionSet, depth+1)
		case *ast.FragmentSpread:
			m.directives(s.Directives)
		}
	}
}

func (m *measure) directives(ds ast.DirectiveList) {
	for _, d := range ds {
		for _, a := range d.Arguments {
			m.literal(a.Name, a.Value, 1)
		}
	}
}

// literal measures a literal that is given for a name: an argument or a member.
func (m *measure) literal(name string, v *ast.Value, depth int) {
	if v == nil || m.err != nil {
		return
	}
	if v.Kind == ast.IntValue || v.Kind == ast.FloatValue {
		m.number(name, v)
	}
	if m.halves && v.Kind == ast.StringValue && strings.Contains(v.Raw, "\uFFFD") {
		m.err = wrong(v.Position, fault.Invalid.Errorf("%s: the text has an escape for half of a character, such as \\ud83d: write the character itself, or put the text into a variable", name))
	}
	if len(v.Children) > 0 && depth > maxLiteralDepth {
		m.err = tooLarge("lists and objects nest deeper than %d in the request: nest them less", maxLiteralDepth)
	}
	for _, c := range v.Children {
		of := name
		if v.Kind == ast.ObjectValue {
			of = c.Name
		}
		m.literal(of, c.Value, depth+1)
	}
}

// number refuses what no type holds: the rules would only say that the value
// around it is wrong.
func (m *measure) number(name string, v *ast.Value) {
	x, err := value.ParseNumber(v.Raw)
	if v.Kind == ast.IntValue && x.Kind() != value.Int {
		err = fault.Invalid.Errorf("the integer %.40s does not fit 64 bits: where text or a float will do, write it in quotes or with .0", v.Raw)
	}
	if err != nil {
		m.err = wrong(v.Position, fmt.Errorf("%s: %w", name, err))
	}
}

func (l Limits) tooDeep() error {
	return tooLarge("the request nests selections deeper than %d: ask for less at once", l.Depth)
}

// operation picks the operation that a request names.
func (d *document) operation(name string) (*ast.OperationDefinition, error) {
	if name == "" {
		switch len(d.ast.Operations) {
		case 0:
			return nil, wrongf(nil, "the request has no operation: write a query, mutation or subscription")
		case 1:
			return d.ast.Operations[0], nil
		}
		return nil, wrongf(nil, "Must provide operation name if query contains multiple operations.")
	}
	for _, op := range d.ast.Operations {
		if op.Name == name {
			return op, nil
		}
	}
	return nil, wrongf(nil, "Unknown operation named %q.", name)
}

package query

import (
	"errors"
	"strings"
	"sync/atomic"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"

	"github.com/pandodb/pando/internal/fault"
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
		return nil, unparsed(err, s.limits.Tokens)
	}
	if err := s.limits.check(tree); err != nil {
		return nil, err
	}
	if es := validator.Validate(s.ast, tree); len(es) > 0 {
		return nil, refused(Validate, mended(es))
	}
	d := &document{text: strings.Clone(text), ast: tree}
	s.cache.put(d)
	return d, nil
}

func tooLarge(format string, args ...any) error {
	err := fault.TooLarge.Errorf(format, args...)
	return Errors{&Error{Message: err.Error(), Stage: Validate, Err: err}}
}

func unparsed(err error, tokens int) error {
	var g *gqlerror.Error
	if !errors.As(err, &g) {
		g = gqlerror.Wrap(err)
	}
	if strings.HasPrefix(g.Message, "exceeded token limit") {
		return tooLarge("the request text has more than %d tokens: put bulk contents into variables", tokens)
	}
	return refused(Parse, gqlerror.List{g})
}

// mended corrects what the library says of integers: ours have 64 bits. One that
// is beyond them is reported once, not again for every object around it.
func mended(es gqlerror.List) gqlerror.List {
	const beyond = "non 32-bit signed integer"
	var out gqlerror.List
	number := "" // the last that was beyond
	for _, e := range es {
		if number != "" && strings.HasPrefix(e.Message, "Expected value of type") && strings.Contains(e.Message, number) {
			continue
		}
		if before, after, ok := strings.Cut(e.Message, beyond); ok {
			number = strings.TrimPrefix(after, " value: ")
			e.Message = before + "non 64-bit signed integer" + after
		}
		out = append(out, e)
	}
	return out
}

// check measures a document before anything walks it more than once.
func (l Limits) check(d *ast.QueryDocument) error {
	n := 0
	for _, op := range d.Operations {
		if err := l.walk(op.SelectionSet, 1, &n); err != nil {
			return err
		}
	}
	for _, f := range d.Fragments {
		if err := l.walk(f.SelectionSet, 1, &n); err != nil {
			return err
		}
	}
	return nil
}

func (l Limits) walk(sel ast.SelectionSet, depth int, n *int) error {
	if len(sel) > 0 && depth > l.Depth {
		return l.tooDeep()
	}
	if *n += len(sel); *n > l.Selections {
		return tooLarge("the request has more than %d selections: ask for less at once", l.Selections)
	}
	for _, s := range sel {
		var err error
		switch s := s.(type) {
		case *ast.Field:
			err = l.walk(s.SelectionSet, depth+1, n)
		case *ast.InlineFragment:
			err = l.walk(s.SelectionSet, depth+1, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
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

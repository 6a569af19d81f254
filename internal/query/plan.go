// Package query turns GraphQL text into a plan and runs it: text → document checked
// against the generated schema → plan → rows → JSON.
//
// It hides the dialect: the names and types generated of collections, what the
// conditions mean, and how selections are merged. Compile does all that needs no
// data; a plan is immutable, and conditions in it are closures over the bytes of
// documents, so that a scan allocates nothing per document. Rows are pulled
// through operators, without goroutines, and written as they come; only an order
// or a relation holds documents, within Limits.Held.
package query

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
)

// Request is one GraphQL request as it comes over a wire.
type Request struct {
	Query         string
	Variables     json.RawMessage // a JSON object; may be empty
	OperationName string
}

// Plan is a checked request: what to read and write, and in which order. It is
// immutable and may run any number of times, also at once.
type Plan struct {
	kind  ast.Operation
	roots []root
	told  *subscription // of a subscription, instead of roots
	held  int64
}

// Compile checks a request against the schema and plans it. It reads no data. All
// errors are of type Errors, and of a stage before Execute.
func Compile(s *Schema, req Request) (*Plan, error) {
	d, err := s.document(req.Query)
	if err != nil {
		return nil, err
	}
	op, err := d.operation(req.OperationName)
	if err != nil {
		return nil, err
	}
	constant := len(d.ast.Operations) == 1 && len(op.VariableDefinitions) == 0
	if constant {
		if p := d.plan.Load(); p != nil {
			_, err := given(req.Variables) // none is asked for, yet they must be some
			return p, err
		}
	}
	in, err := variables(s.ast, op, req.Variables)
	if err != nil {
		return nil, err
	}
	c := &compiler{schema: s, in: in}
	p := &Plan{kind: op.Operation, held: s.limits.Held}
	if op.Operation == ast.Subscription {
		p.told, err = c.subscription(op)
	} else {
		p.roots, err = c.roots(op)
	}
	if err != nil {
		return nil, err
	}
	if constant {
		d.plan.Store(p)
	}
	return p, nil
}

// ReadOnly reports whether running the plan changes nothing.
func (p *Plan) ReadOnly() bool { return p.kind != ast.Mutation }

// IsSubscription reports whether the plan is to be run for every change.
func (p *Plan) IsSubscription() bool { return p.kind == ast.Subscription }

// Run executes the plan and writes the value of data in the response, an object
// in the order of the selection. Root fields of a mutation run one after the
// other. After an error, of type Errors, what was written is an unfinished text
// and must be dropped, and the transaction rolled back.
func (p *Plan) Run(ctx context.Context, tx *store.Tx, w io.Writer) error {
	if p.IsSubscription() {
		return failed(nil, fault.Invalid.Errorf("a subscription has no one answer: follow its events"))
	}
	x := &run{ctx: ctx, tx: tx, most: p.held, out: &writer{to: w}}
	x.out.byte('{')
	for i := range p.roots {
		r := &p.roots[i]
		if i > 0 {
			x.out.byte(',')
		}
		x.out.buf = append(x.out.buf, r.label...)
		if err := r.write(x, nil); err != nil {
			return failed(r.pos, under(r.key, err))
		}
		// What a root field held is of no use to the next: mutations change it.
		x.groups, x.only, x.nears, x.folded, x.held = nil, nil, nil, nil, 0
	}
	x.out.byte('}')
	if err := x.out.flush(); err != nil {
		return failed(nil, fmt.Errorf("write response: %w", err))
	}
	return nil
}

// String shows the plan, one operator a line, sources first.
func (p *Plan) String() string {
	pr := &printer{}
	kind := string(p.kind)
	if kind == "" {
		kind = string(ast.Query)
	}
	pr.line(kind)
	if p.told != nil {
		pr.indent++
		p.told.tree(pr)
		return pr.b.String()
	}
	pr.columns(rootColumns(p.roots))
	return pr.b.String()
}

func rootColumns(roots []root) []column {
	cols := make([]column, len(roots))
	for i, r := range roots {
		cols[i] = r.column
	}
	return cols
}

// printer writes a plan as an indented text.
type printer struct {
	b      strings.Builder
	indent int
}

func (p *printer) line(text string) {
	p.b.WriteString(strings.Repeat("  ", p.indent))
	p.b.WriteString(text)
	p.b.WriteByte('\n')
}

// columns prints the leaves on one line and the rest below.
func (p *printer) columns(cols []column) {
	p.indent++
	defer func() { p.indent-- }()
	var leaves []string
	for _, c := range cols {
		if c.node == nil {
			leaves = append(leaves, c.key)
		}
	}
	if len(leaves) > 0 {
		p.line("select " + strings.Join(leaves, " "))
	}
	for _, c := range cols {
		if c.node != nil {
			p.line(c.key + ":")
			p.indent++
			c.node.tree(p)
			p.indent--
		}
	}
}

func (p *printer) operator(o operator) {
	if from := o.input(); from != nil {
		p.operator(from)
	}
	p.line(o.describe())
}

func (l *list) tree(p *printer) {
	p.operator(l.from)
	p.columns(l.object)
}

func (s *single) tree(p *printer) {
	how := "get "
	if !s.to.near {
		how = "group "
	}
	p.line(how + s.to.target.Name)
	if s.filter != "" {
		p.line("where " + s.filter)
	}
	p.columns(s.object)
}

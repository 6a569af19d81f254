package query

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/store"
)

// The ways to explain a request, arguments of @explain on a query or a mutation.
const (
	explainSimple  = "simple"  // the plan; nothing is run
	explainExecute = "execute" // the plan with what each part did; the request is run
	explainDebug   = "debug"   // the plan with the parts by their names in the program
)

func explainTypes() (*ast.Definition, *ast.DirectiveDefinition) {
	enum := &ast.Definition{Kind: ast.Enum, Name: "ExplainType", EnumValues: ast.EnumValueList{
		{Name: explainSimple, Description: "How the request would be answered; nothing is run."},
		{Name: explainExecute, Description: "The request is run, mutations are applied, and each part of the plan says what it did."},
		{Name: explainDebug, Description: "As simple, with the parts of the program."},
	}}
	return enum, &ast.DirectiveDefinition{
		Name:        "explain",
		Description: "Answers with the plan of the operation.",
		Arguments:   ast.ArgumentDefinitionList{argument("type", named(enum.Name), "simple if not given.")},
		Locations:   []ast.DirectiveLocation{ast.LocationQuery, ast.LocationMutation},
	}
}

// explained returns how an operation is to be explained, "" if it is not. The
// request says so, or the operation by a directive.
func (c *compiler) explained(op *ast.OperationDefinition, request string) (string, error) {
	switch request {
	case explainSimple, explainExecute, explainDebug:
		if op.Operation == ast.Subscription {
			return "", wrongf(op.Position, "a subscription has no plan to explain: explain the query")
		}
		return request, nil
	case "":
	default:
		return "", wrongf(nil, "explain: %.20q is none of %s, %s, %s", request, explainSimple, explainExecute, explainDebug)
	}
	d := op.Directives.ForName("explain")
	if d == nil {
		return "", nil
	}
	a := d.Arguments.ForName("type")
	if a == nil || !c.in.given(a.Value) {
		return explainSimple, nil
	}
	v, err := c.in.literal(named("ExplainType"), a.Value)
	if err != nil {
		return "", wrong(a.Position, fmt.Errorf("argument type: %w", err))
	}
	if v.IsNull() {
		return explainSimple, nil
	}
	return v.Text(), nil
}

// stats is what a part of a plan did in a run.
type stats struct {
	rows  int
	read  reads
	time  time.Duration
	chose string // at run time
}

// reads counts what was read.
type reads struct{ scanned, entries, fetched int }

func (r reads) minus(o reads) reads {
	return reads{r.scanned - o.scanned, r.entries - o.entries, r.fetched - o.fetched}
}

func (r reads) plus(o reads) reads { return r.minus(reads{}.minus(o)) }

// of returns what a part did, nil if that is not recorded.
func (x *run) of(part any) *stats {
	if x.stats == nil {
		return nil
	}
	if _, ok := part.(rowsOf); ok {
		return nil
	}
	s := x.stats[part]
	if s == nil {
		s = &stats{}
		x.stats[part] = s
	}
	return s
}

// rows returns the rows of an operator. What it did is recorded if the run is
// explained.
func (x *run) rows(o operator, parent *row) iter.Seq2[*row, error] {
	s := x.of(o)
	if s == nil {
		return o.rows(x, parent)
	}
	return func(yield func(*row, error) bool) {
		stop := x.watch(s)
		for r, err := range o.rows(x, parent) {
			stop()
			if err == nil {
				s.rows++
			}
			if !yield(r, err) {
				return
			}
			stop = x.watch(s)
		}
		stop()
	}
}

// watch records what is read, and the time that passes, until stop is called.
func (x *run) watch(s *stats) (stop func()) {
	if s == nil {
		return func() {}
	}
	began, read := time.Now(), x.touched
	return func() {
		s.time += time.Since(began)
		s.read = s.read.plus(x.touched.minus(read))
	}
}

// chose notes what an operator has chosen at run time.
func (x *run) chose(by, what operator) operator {
	if s := x.of(by); s != nil {
		s.chose = what.describe()
	}
	return what
}

// explain writes the plan, after running it if it is to tell what it did.
func (p *Plan) explain(ctx context.Context, tx *store.Tx, w io.Writer) error {
	pr := &printer{debug: p.how == explainDebug}
	if p.how == explainExecute {
		x := p.newRun(ctx, tx, io.Discard)
		x.stats = map[any]*stats{}
		began := time.Now()
		if err := p.run(x); err != nil {
			return err
		}
		pr.stats = x.stats
		pr.total = stats{read: x.touched, time: time.Since(began)}
	}
	p.print(pr)
	out := &writer{to: w}
	out.text(`{"explain":{"operationNode":`)
	out.nodes(pr.lines[1:], 1)
	out.text(`,"text":`)
	out.string(pr.text())
	out.text(`}}`)
	if err := out.flush(); err != nil {
		return failed(nil, fmt.Errorf("write response: %w", err))
	}
	return nil
}

// planLine is one line of a plan.
type planLine struct {
	indent int
	text   string
	part   any    // whose line it is
	did    *stats // by itself
}

// nodes writes lines as objects, those that are indented below another inside of it,
// and returns the lines that are left.
func (w *writer) nodes(lines []planLine, indent int) []planLine {
	w.byte('[')
	for first := true; len(lines) > 0 && lines[0].indent >= indent; first = false {
		if !first {
			w.byte(',')
		}
		l := lines[0]
		w.text(`{"step":`)
		w.string(strings.TrimSuffix(l.text, ":"))
		if l.part != nil {
			w.text(`,"node":`)
			w.string(nameOf(l.part))
		}
		if l.did != nil {
			w.stats(l.did)
		}
		if lines = lines[1:]; len(lines) > 0 && lines[0].indent > l.indent {
			w.text(`,"below":`)
			lines = w.nodes(lines, l.indent+1)
		}
		w.byte('}')
	}
	w.byte(']')
	return lines
}

// nameOf returns the name of a part in the program.
func nameOf(part any) string { return strings.TrimPrefix(fmt.Sprintf("%T", part), "*query.") }

func (w *writer) stats(s *stats) {
	for _, m := range []struct {
		name string
		n    int
	}{
		{"rows", s.rows}, {"scanned", s.read.scanned}, {"indexEntries", s.read.entries},
		{"documents", s.read.fetched}, {"microseconds", int(s.time.Microseconds())},
	} {
		w.text(`,"` + m.name + `":` + strconv.Itoa(m.n))
	}
	if s.chose != "" {
		w.text(`,"chose":`)
		w.string(s.chose)
	}
}

func (s *stats) String() string {
	var b strings.Builder
	if s.chose != "" {
		b.WriteString(" -> " + s.chose)
	}
	fmt.Fprintf(&b, " [%d rows", s.rows)
	s.read.append(&b)
	fmt.Fprintf(&b, ", %s]", s.time.Round(time.Microsecond))
	return b.String()
}

func (r reads) append(b *strings.Builder) {
	for _, n := range []struct {
		n    int
		what string
	}{{r.scanned, "scanned"}, {r.entries, "index entries"}, {r.fetched, "documents by docID"}} {
		if n.n > 0 {
			b.WriteString(", " + strconv.Itoa(n.n) + " " + n.what)
		}
	}
}

// of returns what a part did without what its inputs did.
func (p *printer) of(part any, inputs ...any) *stats {
	if _, ok := part.(rowsOf); ok || p.stats == nil {
		return nil
	}
	s := p.stats[part]
	if s == nil { // it was not run
		return nil
	}
	own := *s
	for _, in := range inputs {
		if i := p.stats[in]; i != nil {
			own.read, own.time = own.read.minus(i.read), own.time-i.time
		}
	}
	return &own
}

package query

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
)

// Request is one GraphQL request as it comes over a wire.
type Request struct {
	Query         string
	Variables     json.RawMessage // a JSON object; may be empty
	OperationName string
	Explain       string // simple, execute or debug: answer with the plan, as @explain(type: …) does
}

// Plan is a checked request: what to read and write, and in which order. It is
// immutable and may run any number of times, also at once.
type Plan struct {
	kind  ast.Operation
	roots []root
	told  *subscription // of a subscription, instead of roots
	live  *liveQuery    // of a query that is told again as its result changes
	held  int64
	cores *cores
	how   string // it is explained; "": it is answered
	reads []string
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
	constant := len(d.ast.Operations) == 1 && len(op.VariableDefinitions) == 0 && req.Explain == ""
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
	c := &compiler{schema: s, in: in, text: req.Query}
	p := &Plan{kind: op.Operation, held: s.limits.Held, cores: s.cores}
	if p.how, err = c.explained(op, req.Explain); err != nil {
		return nil, err
	}
	if op.Operation == ast.Subscription {
		p.told, err = c.subscription(op)
	} else {
		p.roots, err = c.roots(op)
	}
	if err == nil && op.Operation == ast.Query && p.how == "" {
		var live bool
		if live, err = c.isLive(op); live {
			p.live, err = c.live(op)
		}
	}
	if err != nil {
		return nil, err
	}
	p.reads = slices.Sorted(maps.Keys(c.reads))
	if constant {
		d.plan.Store(p)
	}
	return p, nil
}

// ReadOnly reports whether running the plan changes nothing.
func (p *Plan) ReadOnly() bool {
	return p.kind != ast.Mutation || p.how == explainSimple || p.how == explainDebug
}

// Reads returns the names of the collections that the answer depends on, in order.
func (p *Plan) Reads() []string { return p.reads }

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
	if p.how != "" {
		return p.explain(ctx, tx, w)
	}
	return p.run(p.newRun(ctx, tx, w))
}

func (p *Plan) newRun(ctx context.Context, tx *store.Tx, w io.Writer) *run {
	return &run{ctx: ctx, tx: tx, most: p.held, cores: p.cores, out: &writer{to: w}}
}

func (p *Plan) run(x *run) error {
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
		x.endRoot()
	}
	x.out.byte('}')
	if err := x.out.flush(); err != nil {
		return failed(nil, fmt.Errorf("write response: %w", err))
	}
	return nil
}

// endRoot drops what a root field held: it is of no use to the next, and mutations
// change it. Aggregates over whole collections are shared between root fields.
func (x *run) endRoot() {
	x.groups, x.only, x.nears, x.folded, x.held = nil, nil, nil, nil, 0
	maps.DeleteFunc(x.sums, func(t *tally, _ *tallied) bool { return t.to != nil })
}

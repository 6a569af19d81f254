package lens

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tetratelabs/wazero"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// Pipeline is a sequence of modules, the output of each the input of the next. It
// is safe for concurrent use.
type Pipeline struct {
	r      *Runtime
	stages []*stage
}

// stage is one module of a pipeline with instances that lie idle.
type stage struct {
	module wazero.CompiledModule
	step   Step

	mu   sync.Mutex // guards idle
	idle []*instance
}

// maxIdle is how many instances of a stage are kept: each may hold megabytes.
const maxIdle = 2

// Pipeline prepares modules to run one after the other, and tries each once: a
// module that refuses its arguments is found here.
func (r *Runtime) Pipeline(ctx context.Context, steps []Step) (*Pipeline, error) {
	if len(steps) == 0 || len(steps) > MaxSteps {
		return nil, fault.Invalid.Errorf("%d modules: a pipeline has 1 to %d", len(steps), MaxSteps)
	}
	p := &Pipeline{r: r}
	for i, s := range steps {
		m, err := r.compile(ctx, s.Module)
		if err == nil && s.Inverse {
			if _, ok := m.ExportedFunctions()["inverse"]; !ok {
				err = fault.Invalid.Errorf("the module cannot go back: it exports no function inverse")
			}
		}
		if err == nil && len(s.Arguments) > 0 {
			if _, ok := m.ExportedFunctions()["set_param"]; !ok {
				err = fault.Invalid.Errorf("the module takes no arguments: it exports no function set_param")
			}
		}
		if err != nil {
			return nil, fmt.Errorf("module %d: %w", i+1, err)
		}
		st := &stage{module: m, step: s}
		p.stages = append(p.stages, st)
		if err := p.try(ctx, st); err != nil {
			return nil, errors.Join(fmt.Errorf("module %d: %w", i+1, err), p.Close())
		}
	}
	return p, nil
}

// Open is Pipeline for a database: see pando.Options.
func (r *Runtime) Open(ctx context.Context, steps []Step) (pando.Pipeline, error) {
	p, err := r.Pipeline(ctx, steps)
	if err != nil {
		return nil, err // and no pipeline, not a nil one
	}
	return p, nil
}

// try makes the first instance of a stage.
func (p *Pipeline) try(ctx context.Context, st *stage) error {
	ctx, cancel := p.r.limit(ctx)
	defer cancel()
	in, err := p.r.instantiate(ctx, st)
	if err == nil {
		st.put(in)
	}
	return err
}

// Inverse returns the pipeline that goes the other way: the modules in reverse, each
// back. It fails if one of them cannot.
func (p *Pipeline) Inverse(ctx context.Context) (*Pipeline, error) {
	var steps []Step
	for _, st := range slices.Backward(p.stages) {
		s := st.step
		s.Inverse = !s.Inverse
		steps = append(steps, s)
	}
	return p.r.Pipeline(ctx, steps)
}

// Close frees the instances.
func (p *Pipeline) Close() error {
	var errs []error
	for _, st := range p.stages {
		st.mu.Lock()
		for _, in := range st.idle {
			errs = append(errs, in.close())
		}
		st.idle = nil
		st.mu.Unlock()
	}
	return errors.Join(errs...)
}

// Transform runs documents, JSON objects, through the pipeline. Modules may drop,
// add and change documents; the order is that in which the last one gives them.
func (p *Pipeline) Transform(ctx context.Context, docs [][]byte) ([][]byte, error) {
	ctx, cancel := p.r.limit(ctx)
	defer cancel()
	for i, st := range p.stages {
		out, err := p.r.run(ctx, st, docs)
		if err != nil {
			return nil, fmt.Errorf("module %d: %w", i+1, err)
		}
		docs = out
	}
	return docs, nil
}

// Each runs documents through the pipeline one by one: out[i] is what became of
// docs[i], nil if it was dropped. A module that makes several of one is refused.
func (p *Pipeline) Each(ctx context.Context, docs [][]byte) ([][]byte, error) {
	out := make([][]byte, len(docs))
	for i, d := range docs {
		got, err := p.Transform(ctx, [][]byte{d})
		if err != nil {
			return nil, err
		}
		switch len(got) {
		case 0:
		case 1:
			out[i] = got[0]
		default:
			return nil, fault.Invalid.Errorf("the modules made %d documents of one: a migration keeps them apart", len(got))
		}
	}
	return out, nil
}

func (r *Runtime) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.deadline)
}

// run feeds documents to an instance of a stage.
func (r *Runtime) run(ctx context.Context, st *stage, docs [][]byte) ([][]byte, error) {
	in := st.take()
	if in == nil {
		var err error
		if in, err = r.instantiate(ctx, st); err != nil {
			return nil, err
		}
	}
	out, err := in.run(ctx, docs)
	if err != nil {
		// What state it is in nobody knows.
		return nil, errors.Join(r.explain(ctx, err), in.close())
	}
	if in.worn() {
		return out, in.close()
	}
	st.put(in)
	return out, nil
}

// explain says in plain words why a module was stopped.
func (r *Runtime) explain(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return fault.TooLarge.Errorf("the module was stopped: it ran longer than %v", r.deadline)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (st *stage) take() *instance {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.idle) == 0 {
		return nil
	}
	in := st.idle[len(st.idle)-1]
	st.idle = st.idle[:len(st.idle)-1]
	return in
}

func (st *stage) put(in *instance) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.idle) < maxIdle {
		st.idle = append(st.idle, in)
		return
	}
	_ = in.close() // it has done its work
}

package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// pipelines are the pipelines of modules that were needed so far, by their
// descriptions.
type pipelines struct {
	mu     sync.Mutex // guards ready and closed
	ready  map[string]schema.Pipeline
	closed bool
}

// pipeline returns the pipeline of a transform whose modules are in the database.
func (s *Schemas) pipeline(ctx context.Context, tx *store.Tx, t *schema.Transform) (schema.Pipeline, error) {
	if s.Lenses == nil {
		return nil, schema.ErrNoLenses
	}
	name, err := json.Marshal(t)
	if err != nil {
		return nil, fault.Invalid.Errorf("transform: %w", err)
	}
	p := &s.pipelines
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fault.Closed.Errorf("the database is closed")
	}
	if l, ok := p.ready[string(name)]; ok {
		return l, nil
	}
	steps, err := tx.Steps(t)
	if err != nil {
		return nil, err
	}
	l, err := s.Lenses.Open(ctx, steps)
	if err != nil {
		return nil, err
	}
	if p.ready == nil {
		p.ready = map[string]schema.Pipeline{}
	}
	p.ready[string(name)] = l
	return l, nil
}

// Close frees what modules hold. Requests must have ended.
func (s *Schemas) Close() error {
	p := &s.pipelines
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var errs []error
	for _, l := range p.ready {
		errs = append(errs, l.Close())
	}
	p.ready = nil
	return errors.Join(errs...)
}

// keepTransform stores the modules of a view, and makes sure that they run.
func (s *Schemas) keepTransform(ctx context.Context, tx *store.Tx, src *schema.ViewSource) error {
	if src.Transform == nil {
		return nil
	}
	if len(src.Transform.Lenses) == 0 {
		src.Transform = nil
		return nil
	}
	t, err := tx.KeepModules(src.Transform)
	if err != nil {
		return err
	}
	src.Transform = t
	_, err = s.pipeline(ctx, tx, t)
	return err
}

// transformBatch is how many rows pass through the modules of a view at once: enough
// to spread what a call costs.
const transformBatch = 256

// transformed yields what the modules of a view make of its rows: objects with all
// that the query selects, in batches.
func (p *viewPlan) transformed(x *run) iter.Seq2[viewRow, error] {
	return func(yield func(viewRow, error) bool) {
		modules, err := p.pipeline(x.ctx, x.tx, p.of.View.Transform)
		if err != nil {
			yield(viewRow{}, err)
			return
		}
		var batch [][]byte
		pass := func() (more bool) {
			out, err := modules.Transform(x.ctx, batch)
			if batch = nil; err != nil {
				yield(viewRow{}, fmt.Errorf("transform: %w", err))
				return false
			}
			for _, text := range out {
				vals, err := p.shaped(text)
				if !yield(viewRow{vals: vals}, err) || err != nil {
					return false
				}
			}
			return true
		}
		for text, err := range p.texts(x) {
			if err != nil {
				yield(viewRow{}, err)
				return
			}
			if batch = append(batch, text); len(batch) == transformBatch && !pass() {
				return
			}
		}
		pass()
	}
}

// texts yields the rows of the query as JSON.
func (p *viewPlan) texts(x *run) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var text bytes.Buffer
		in := x.inner(&text)
		defer x.end(in)
		for r, err := range p.from.rows(in, nil) {
			text.Reset()
			if err == nil {
				err = p.from.object.write(in, r)
			}
			if err == nil {
				err = in.out.flush()
			}
			x.account(in)
			more := yield(bytes.Clone(text.Bytes()), err)
			if x.goOn(in); !more || err != nil {
				return
			}
		}
	}
}

// shaped reads the fields of the view from an object.
func (p *viewPlan) shaped(text []byte) ([]value.Value, error) {
	o, err := value.ParseJSON(text)
	if err != nil {
		return nil, fmt.Errorf("transform: the row that came out of it: %w", err)
	}
	vals := make([]value.Value, len(p.of.Fields))
	for i := range p.of.Fields {
		f := &p.of.Fields[i]
		m, _ := o.Get(f.Name)
		if vals[i], err = shape(f, m, value.MaxNesting); err != nil {
			return nil, fmt.Errorf("transform: field %s of the row that came out of it: %w", f.Name, err)
		}
	}
	return vals, nil
}

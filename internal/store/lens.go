package store

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
)

// A version of a collection may name modules that turn documents of the version before
// into its own, and back. They run on a node only if somebody there said so, by a
// patch or by AddLens: this entry says it, and whether the modules can go back. So no
// peer can make a node run code, or put an index of it to sleep.
//
//	g r version   0: they lead to the version; 1: also back
func runningKey(version dag.Digest) []byte { return globalKey(globalRunning, version[:]...) }

// modules are the pipelines between versions that were needed so far.
type modules struct {
	lenses schema.Lenses // nil: this program runs none
	kv     *kv.DB
	log    *slog.Logger

	mu     sync.Mutex // guards the rest
	ready  map[way]*schema.Modules
	closed bool
}

// way is a pipeline in one direction.
type way struct {
	lens string
	back bool
}

// in returns what finds the modules that run according to r, which must be read while
// it is open. What they cannot read goes to err.
func (m *modules) in(r reader, err *error) schema.Running {
	return func(c *schema.Collection, back bool) *schema.Modules {
		v, ok, failed := r.Get(runningKey(c.Version))
		if failed != nil && *err == nil {
			*err = failed
		}
		if !ok || len(v) != 1 || back && v[0] == 0 {
			return nil
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		w := way{c.Lens, back}
		if _, ok := m.ready[w]; !ok {
			m.set(w, schema.NewModules(func(ctx context.Context) (schema.Pipeline, error) { return m.load(ctx, c, back) }, m.warn))
		}
		return m.ready[w]
	}
}

func (m *modules) set(w way, to *schema.Modules) {
	if m.ready == nil {
		m.ready = map[way]*schema.Modules{}
	}
	m.ready[w] = to
}

// load opens the pipeline of a version with modules that are in the database.
func (m *modules) load(ctx context.Context, c *schema.Collection, back bool) (schema.Pipeline, error) {
	if m.lenses == nil {
		return nil, schema.ErrNoLenses
	}
	snap := m.kv.Snapshot()
	defer snap.Close()
	rule, _ := c.LensRule()
	steps, err := stepsOf(snap, rule.Transform(back))
	if err != nil {
		return nil, err
	}
	return m.lenses.Open(ctx, steps)
}

// prepare opens the pipeline of a version with modules that a transaction keeps.
func (m *modules) prepare(ctx context.Context, tx *Tx, c *schema.Collection, back bool) error {
	if m.lenses == nil {
		return schema.ErrNoLenses
	}
	rule, _ := c.LensRule()
	steps, err := stepsOf(tx.kv, rule.Transform(back))
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w := way{c.Lens, back}
	if old := m.ready[w]; old != nil && old.Ready() == nil {
		return nil
	}
	if m.closed {
		return fault.Closed.Errorf("the database is closed")
	}
	opened := schema.NewModules(func(context.Context) (schema.Pipeline, error) { return m.lenses.Open(ctx, steps) }, m.warn)
	if err := opened.Ready(); err != nil {
		return err
	}
	m.set(w, opened)
	return nil
}

func (m *modules) warn(err error) {
	m.log.Warn("a document did not pass the modules of a schema version: what they make of it shows as null; further ones are not told of", "err", err)
}

// close frees what modules hold, when nobody reads any more.
func (m *modules) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, one := range m.ready {
		errs = append(errs, one.Close())
	}
	m.ready, m.closed = nil, true
	return errors.Join(errs...)
}

// Running lets the modules that a version names run on this node, from the end of
// the transaction. They must be kept already, and are tried.
func (tx *Tx) Running(ctx context.Context, c *schema.Collection) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if err := tx.s.modules.prepare(ctx, tx, c, false); err != nil {
		return err
	}
	mark := []byte{1}
	switch err := tx.s.modules.prepare(ctx, tx, c, true); {
	case errors.Is(err, fault.Invalid):
		mark[0] = 0 // one of them cannot go back
	case err != nil:
		return err
	}
	tx.kv.Set(runningKey(c.Version), mark)
	return nil
}

// AddLens keeps the modules that lead from one version to another, which must name
// them, and lets them run on this node.
func (tx *Tx) AddLens(ctx context.Context, source, destination dag.Digest, t *schema.Transform) error {
	if err := tx.writable(); err != nil {
		return err
	}
	to, ok := tx.set.Version(destination)
	if !ok {
		return fault.NotFound.Errorf("schema version %s is unknown: list the versions that there are with 'pando schema versions'", destination)
	}
	if from, known := tx.set.Version(source); to.Previous != source {
		if known && from.Previous == destination {
			return fault.Invalid.Errorf("version %s comes before %s: give them in the other order", destination, source)
		}
		return fault.Invalid.Errorf("version %s follows %s, not %s: a lens leads from a version to the next", destination, to.Previous, source)
	}
	rule, ok := to.LensRule()
	if !ok {
		return fault.Invalid.Errorf("version %s names no modules, and what it is does not change: make a version that does, by a patch with lenses", destination)
	}
	if t == nil || len(t.Lenses) == 0 {
		return fault.Invalid.Errorf("no lenses: give the modules that version %s names: %s", destination, to.Lens)
	}
	kept, err := tx.KeepModules(t)
	if err != nil {
		return err
	}
	text, err := schema.LensRule{Lenses: kept.Lenses, Fields: rule.Fields}.Text()
	if err != nil {
		return err
	}
	if text != to.Lens {
		return fault.Invalid.Errorf("version %s names other lenses, or these with other arguments: it wants %s, with modules by their hashes", destination, to.Lens)
	}
	if err := tx.Running(ctx, to); err != nil {
		return err
	}
	m := tx.set.byID[to.ID]
	return tx.putVersions(m, m.versions, m.Version)
}

// stepsOf returns the modules of a transform that KeepModules returned.
func stepsOf(r getter, t *schema.Transform) ([]schema.LensStep, error) {
	var steps []schema.LensStep
	for _, l := range t.Lenses {
		d, ok := l.Stored()
		if !ok {
			return nil, fault.Invalid.Errorf("lens with path %.80q is not in the database", l.Path)
		}
		binary, ok, err := r.Get(moduleKey(d))
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fault.NotFound.Errorf("the module %s is not in the database: send it with the request", l.Path)
		}
		steps = append(steps, schema.LensStep{Module: slices.Clone(binary), Inverse: l.Inverse, Arguments: l.Arguments})
	}
	return steps, nil
}

package store

import (
	"crypto/sha256"
	"slices"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/schema"
)

// moduleKey names a WASM module by its hash: views and schema versions that use the
// same one share it.
func moduleKey(d dag.Digest) []byte { return globalKey(globalModule, d[:]...) }

// KeepModules stores the modules that a transform carries, and returns the transform
// that names them as stored. It is part of adding what uses them.
func (tx *Tx) KeepModules(t *schema.Transform) (*schema.Transform, error) {
	if t == nil {
		return nil, nil
	}
	kept := &schema.Transform{}
	for _, l := range t.Lenses {
		if _, ok := l.Stored(); !ok {
			binary, err := l.Given()
			if err != nil {
				return nil, err
			}
			d := dag.Digest(sha256.Sum256(binary))
			tx.kv.Set(moduleKey(d), binary)
			l.Path = schema.StoredPath(d)
		}
		kept.Lenses = append(kept.Lenses, l)
	}
	return kept, nil
}

// dropModules removes the modules of a transform that is gone, unless something else
// names them.
func (tx *Tx) dropModules(t *schema.Transform) {
	if t == nil {
		return
	}
	for _, l := range t.Lenses {
		if d, ok := l.Stored(); ok && !tx.set.names(d) {
			tx.kv.Delete(moduleKey(d))
		}
	}
}

// names reports whether a view or a version, whether it is used or not, names a module.
func (s *Set) names(module dag.Digest) bool {
	in := func(lenses []schema.Lens) bool {
		return slices.ContainsFunc(lenses, func(l schema.Lens) bool { d, _ := l.Stored(); return d == module })
	}
	for m := range s.members() {
		if m.View != nil && m.View.Transform != nil && in(m.View.Transform.Lenses) {
			return true
		}
		for _, v := range m.versions {
			if r, ok := v.LensRule(); ok && in(r.Lenses) {
				return true
			}
		}
	}
	return false
}

// Steps returns the modules of a transform that KeepModules returned.
func (tx *Tx) Steps(t *schema.Transform) ([]schema.LensStep, error) {
	return stepsOf(tx.kv, t)
}

package query

import (
	"fmt"

	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// fieldReader returns how a stored field is read from a row: directly from its
// cell, unless the field has more than that.
func fieldReader(f *schema.Field) reader {
	if f.IsDerived() {
		return func(x *run, r *row) value.Value {
			if r == nil {
				return value.Value{}
			}
			v, err := f.Read(r.State)
			if err != nil && x.err == nil {
				x.err = fmt.Errorf("field %s: %w", f.Name, err)
			}
			return v
		}
	}
	id, kind := f.ID, f.Kind()
	return func(_ *run, r *row) value.Value {
		if r == nil {
			return value.Value{}
		}
		v, _ := r.State.Value(id, kind)
		return v
	}
}

// elementsReader returns how the elements of a list are read from a row: they are
// valid until the next are read. It reports false if there is no list.
func (c *compiler) elementsReader(g *collection, f *field) func(x *run, r *row) ([]value.Value, bool) {
	if f.role != roleValue || !f.stored() || f.IsDerived() || g.View != nil {
		read := c.reader(g, f)
		return func(x *run, r *row) ([]value.Value, bool) {
			v := read(x, r)
			return v.List(), v.Kind() == value.List
		}
	}
	id, kind := f.ID, f.Kind()
	return func(x *run, r *row) (list []value.Value, ok bool) {
		if r == nil {
			return nil, false
		}
		x.elements, ok = r.State.Elements(x.elements[:0], id, kind)
		return x.elements, ok
	}
}

// onField compiles a condition on a stored field: the common case, without a call
// between the cell and the test.
func onField(f *schema.Field, holds func(value.Value) bool) predicate {
	if f.IsDerived() {
		read := fieldReader(f)
		return when(func(x *run, r *row) bool { return holds(read(x, r)) })
	}
	id, kind := f.ID, f.Kind()
	return when(func(_ *run, r *row) bool {
		if r == nil {
			return holds(value.Value{})
		}
		v, _ := r.State.Value(id, kind)
		return holds(v)
	})
}

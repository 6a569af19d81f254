package pando

import (
	"context"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// ViewSource is what a view is made of: the inside of a query, and the type of the
// rows that it yields.
type ViewSource = schema.ViewSource

// Transform is a pipeline of WASM modules that rows pass through, and Lens one of
// them.
type (
	Transform = schema.Transform
	Lens      = schema.Lens
)

// LensPath returns the Path of a Lens whose module goes with the request.
func LensPath(module []byte) string { return schema.GivenPath(module) }

// AddView adds a view: a collection to read whose rows come from a query. It
// concerns this database alone; peers do not hear of it.
func (db *DB) AddView(ctx context.Context, src ViewSource) (added *Collection, err error) {
	err = db.store.Update(ctx, db.who, func(tx *store.Tx) error {
		added, err = db.schemas.AddView(ctx, tx, src)
		return err
	})
	return added, err
}

// DropView removes a view that no other view reads.
func (db *DB) DropView(ctx context.Context, name string) error {
	return db.store.Update(ctx, db.who, func(tx *store.Tx) error { return db.schemas.DropView(tx, name) })
}

// Views returns the views in the order of their names. They are not among the
// collections: they hold no documents.
func (db *DB) Views() []*Collection { return db.store.Schema().Views() }

// View returns the view of that name, or NotFound.
func (s *shared) view(name string) (*Collection, error) {
	if v, ok := s.store.Schema().View(name); ok {
		return v, nil
	}
	return nil, fault.NotFound.Errorf("view %q does not exist", name)
}

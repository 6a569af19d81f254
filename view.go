package pando

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/query"
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

// Refreshed says what a refresh of a materialized view did.
type Refreshed = query.Refreshed

// RefreshView brings the stored rows of materialized views up to date, of all if
// none is named, a view after those that it reads. Each view is refreshed in a
// transaction of its own, beside writers. One that fails keeps none of the others from
// being refreshed: the error tells of those that were not.
func (db *DB) RefreshView(ctx context.Context, names ...string) ([]Refreshed, error) {
	db.refreshing.Lock()
	defer db.refreshing.Unlock()
	vs, err := db.schemas.InOrder(db.store.Schema(), names)
	if err != nil {
		return nil, err
	}
	var all []Refreshed
	var errs []any
	for _, v := range vs {
		did, err := db.refresh(ctx, v.Name)
		if ctx.Err() != nil || errors.Is(err, ErrClosed) {
			return all, err
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, did)
	}
	return all, notRefreshed(errs, len(vs))
}

// notRefreshed reports the views, of so many, that failed.
func notRefreshed(errs []any, of int) error {
	switch {
	case len(errs) == 0:
		return nil
	case of == 1:
		return errs[0].(error)
	}
	why := fmt.Errorf("%w"+strings.Repeat("; %w", len(errs)-1), errs...)
	return fmt.Errorf("%d of %d views were not refreshed: %w", len(errs), of, why)
}

// refreshAttempts is how often a refresh is tried while others change the schema.
const refreshAttempts = 3

func (db *DB) refresh(ctx context.Context, name string) (did Refreshed, err error) {
	for range refreshAttempts {
		did, err = db.refreshOnce(ctx, name)
		if !errors.Is(err, ErrConflict) {
			return did, err
		}
	}
	return did, err
}

// refreshOnce runs in an explicit transaction: what it reads may change meanwhile,
// the next refresh will see it. It reads as nobody, whoever asks for it: everybody
// sees the rows.
func (db *DB) refreshOnce(ctx context.Context, name string) (Refreshed, error) {
	tx, err := db.store.Begin(Caller{}, false)
	if err != nil {
		return Refreshed{}, err
	}
	defer tx.Discard()
	v, ok := tx.Set().View(name)
	if !ok {
		return Refreshed{}, fault.NotFound.Errorf("view %q does not exist", name)
	}
	did, err := db.schemas.Refresh(ctx, tx, v)
	if err != nil {
		return did, err
	}
	return did, tx.Commit(ctx)
}

// ViewState says how far the rows of a materialized view have come.
type ViewState struct {
	Rows      uint64
	Refreshed time.Time // zero: never
	Behind    uint64    // changes of documents since, whether they concern the view or not
}

// ViewState returns the state of a view, zero for one that is not materialized, or
// NotFound.
func (db *DB) ViewState(ctx context.Context, name string) (st ViewState, err error) {
	err = db.store.View(ctx, db.who, func(tx *store.Tx) error {
		v, ok := tx.Set().View(name)
		if !ok {
			return fault.NotFound.Errorf("view %q does not exist", name)
		}
		if !v.View.Materialized {
			return nil
		}
		at, err := tx.ViewState(v)
		if err == nil {
			st = ViewState{at.Rows, at.Refreshed, tx.Behind(at)}
		}
		return err
	})
	return st, err
}

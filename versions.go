package pando

import (
	"context"
	"strings"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// Migration says how fields of a version and fields of the one before show the same
// thing: rename, default, split, merge or cast.
type Migration = schema.Migration

// SchemaPatch is a change of collections by a new version of each.
type SchemaPatch struct {
	// Patch is a JSON Patch over the collections by name, such as
	// [{"op": "add", "path": "/User/Fields/-", "value": {"Name": "phone", "Kind": "String"}}].
	Patch     string
	Migration []Migration
	// Lenses are modules that lead from each version to the next, for what no rule of
	// a migration can express. They make the fields that the version before has not
	// got, or has in another type; LensFields says which, if not all.
	Lenses     *Transform
	LensFields []string
	// Activate says that this node uses the new versions from now on.
	Activate bool
}

// PatchSchema makes the next versions of collections, which follow those that are
// used, and returns them: none if nothing changes. Commits of all versions merge with
// each other; peers get the new versions, and use them when they are told to.
func (db *DB) PatchSchema(ctx context.Context, p SchemaPatch) (made []*Collection, err error) {
	err = db.store.Update(ctx, db.who, func(tx *store.Tx) error {
		made, err = patchSchema(ctx, tx, p)
		return err
	})
	return made, err
}

func patchSchema(ctx context.Context, tx *store.Tx, p SchemaPatch) ([]*Collection, error) {
	lens := schema.LensRule{Fields: p.LensFields}
	kept, err := tx.KeepModules(p.Lenses)
	if err != nil {
		return nil, err
	}
	if kept != nil {
		lens.Lenses = kept.Lenses
	}
	made, err := schema.Patch{Text: []byte(p.Patch), Migration: p.Migration, Lens: lens}.Apply(tx.Collections())
	if err != nil {
		return nil, err
	}
	for _, c := range made {
		if c.Lens == "" {
			continue
		}
		if err := tx.Running(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := tx.AddVersions(made); err != nil {
		return nil, err
	}
	for i, c := range made {
		if p.Activate {
			if err := tx.Activate(c.Version); err != nil {
				return nil, err
			}
		}
		made[i], _ = tx.Set().Version(c.Version)
	}
	return made, nil
}

// AddLens brings the modules that lead from one version to another, which a node that
// heard of the version from a peer lacks, and lets them run here. The version names
// them by their hashes: others are refused.
func (db *DB) AddLens(ctx context.Context, source, destination string, lenses *Transform) error {
	from, err := dag.ParseDigest(strings.TrimSpace(source))
	if err != nil {
		return err
	}
	to, err := dag.ParseDigest(strings.TrimSpace(destination))
	if err != nil {
		return err
	}
	return db.store.Update(ctx, db.who, func(tx *store.Tx) error { return tx.AddLens(ctx, from, to, lenses) })
}

// ActivateVersion makes the version of that name the one that this node uses, and
// returns it. Fields that it lacks are hidden, not lost: another version shows them.
func (db *DB) ActivateVersion(ctx context.Context, version string) (c *Collection, err error) {
	version = strings.TrimSpace(version)
	if version == "" {
		return nil, fault.Invalid.Errorf("schema version ID can't be empty: give the VersionID of one of the versions of a collection")
	}
	v, err := dag.ParseDigest(version)
	if err != nil {
		return nil, err
	}
	err = db.store.Update(ctx, db.who, func(tx *store.Tx) error {
		if err := tx.Activate(v); err != nil {
			return err
		}
		c, _ = tx.Set().Version(v)
		return nil
	})
	return c, err
}

// Versions returns the versions of all collections that this node knows, by name, of
// each the oldest first. IsActive tells which are used.
func (db *DB) Versions() []*Collection {
	return db.store.Schema().AllVersions()
}

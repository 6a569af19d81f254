package pando

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
)

// Archived says what an archive holds.
type Archived = store.Archived

// Save writes an archive of the whole database, of one moment, while others write:
// every version of its schema, its indexes and views, and every commit. Left out is
// what belongs to the node: its key, the peers it knows and the tickets it gave.
func (db *DB) Save(ctx context.Context, w io.Writer) (Archived, error) {
	return db.store.Archive(ctx, w)
}

// Restore makes the database in a directory from an archive: the same docIDs, commits
// and roots. It verifies everything on the way. An archive that is damaged or cut off
// is ErrCorrupt, and a directory that has a database already ErrExists; nothing has
// changed then. progress, which may be nil, hears how far it has come.
func Restore(ctx context.Context, archive io.Reader, dir string, progress func(Archived)) (done Archived, err error) {
	if dir == "" {
		return done, fault.Invalid.Errorf("restore: name a directory")
	}
	_, statErr := os.Stat(dir)
	if err := makeDirectory(dir, false); err != nil {
		return done, fmt.Errorf("restore: %w", err)
	}
	data := filepath.Join(dir, dataDir)
	if done, err = store.Restore(ctx, data, store.Options{}, archive, progress); err != nil && errors.Is(statErr, os.ErrNotExist) {
		_ = os.Remove(data + ".lock")
		_ = os.Remove(dir) // made for nothing; whatever else is in it stays
	}
	return done, err
}

package pando

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

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
// changed then. Of the options, which may be nil, it heeds the key of the store. progress,
// which may be nil too, hears how far it has come.
func Restore(ctx context.Context, archive io.Reader, dir string, o *Options, progress func(Archived)) (done Archived, err error) {
	if dir == "" {
		return done, fault.Invalid.Errorf("restore: name a directory")
	}
	data, so, err := place(ctx, dir, o)
	if err != nil {
		return done, fmt.Errorf("restore: %w", err)
	}
	_, statErr := os.Stat(dir)
	if err := makeDirectory(dir, false); err != nil {
		return done, fmt.Errorf("restore: %w", err)
	}
	if done, err = store.Restore(ctx, data, so, archive, progress); err != nil && errors.Is(statErr, os.ErrNotExist) {
		_ = os.Remove(data + ".lock")
		_ = os.Remove(dir) // made for nothing; whatever else is in it stays
	}
	return done, err
}

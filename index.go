package pando

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
)

// An index makes queries quicker and changes no answer. It is a matter of this node:
// it does not travel, and other nodes may have others. Writes keep it from the moment
// it is created; queries use it when the entries of the documents that were there are
// made, which happens in the background.

// IndexState is an index and how far it is.
type IndexState struct {
	Index
	Ready bool // queries use it
}

// CreateIndex adds an index to a collection and returns it as it was completed, with
// a name and an ID. It does not wait until the index is ready, unless that is to be
// unique: then two documents that have the same values already give Exists, and no
// index.
func (db *DB) CreateIndex(ctx context.Context, collection string, ix Index) (made Index, err error) {
	err = db.store.Update(ctx, db.who, func(tx *store.Tx) error {
		c, err := tx.Collection(collection)
		if err != nil {
			return err
		}
		made, err = tx.CreateIndex(c, ix)
		return err
	})
	if err != nil || !made.Unique {
		return db.shownIndex(collection, made), err
	}
	if err := db.AwaitIndex(ctx, collection, made.Name); err != nil {
		return Index{}, err
	}
	err = db.store.View(ctx, db.who, func(tx *store.Tx) error {
		c, err := tx.Collection(collection)
		if err != nil {
			return err
		}
		return tx.CheckUnique(c, &made)
	})
	if errors.Is(err, fault.Exists) {
		return Index{}, errors.Join(err, db.DropIndex(ctx, collection, made.Name))
	}
	return db.shownIndex(collection, made), err
}

func (db *DB) shownIndex(collection string, ix Index) Index {
	if c, ok := db.store.Schema().Collection(collection); ok {
		return c.DescribeIndex(ix)
	}
	return ix
}

// DropIndex removes an index, or gives NotFound. The index of a relation stays.
func (db *DB) DropIndex(ctx context.Context, collection, name string) error {
	return db.store.Update(ctx, db.who, func(tx *store.Tx) error {
		c, err := tx.Collection(collection)
		if err != nil {
			return err
		}
		return tx.DropIndex(c, name)
	})
}

// Indexes returns the indexes of a collection in the order of their IDs, those of
// relations among them.
func (db *DB) Indexes(collection string) ([]IndexState, error) {
	set := db.store.Schema()
	c, err := db.Collection(collection)
	if err != nil {
		return nil, err
	}
	all := []IndexState{}
	for _, ix := range c.Indexes {
		all = append(all, IndexState{c.DescribeIndex(ix), set.IndexReady(c, ix.Name)})
	}
	return all, nil
}

// AwaitIndex returns when queries use the index, or gives NotFound.
func (db *DB) AwaitIndex(ctx context.Context, collection, name string) error {
	for {
		all, err := db.Indexes(collection)
		if err != nil {
			return err
		}
		found := false
		for _, ix := range all {
			if ix.Name != name {
				continue
			}
			if ix.Ready {
				return nil
			}
			found = true
		}
		if !found {
			return fault.NotFound.Errorf("index with name doesn't exists. Name: %.140s", name)
		}
		// Whoever waits helps: errors come to light, and nobody waits for a retry.
		if err := db.store.BuildIndexes(ctx); err != nil {
			return err
		}
	}
}

// builder makes the entries that indexes lack, whenever the schema changes.
type builder struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// retryBuild is the pause after a build that failed, on a full disk for example.
const retryBuild = 10 * time.Second

func (s *shared) startBuilding(log *slog.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	s.builder.cancel = cancel
	s.builder.done.Go(func() {
		for ctx.Err() == nil {
			changed := s.store.SchemaChanged()
			err := s.store.BuildIndexes(ctx)
			var again <-chan time.Time
			if err != nil && ctx.Err() == nil {
				if log != nil {
					log.Warn("building an index failed: it is tried again", "problem", err, "pause", retryBuild)
				}
				again = time.After(retryBuild)
			}
			select {
			case <-changed:
			case <-again:
			case <-ctx.Done():
			}
		}
	})
}

// stop ends the build after the batch under way. It may be called twice.
func (b *builder) stop() {
	if b.cancel != nil {
		b.cancel()
	}
	b.done.Wait()
}

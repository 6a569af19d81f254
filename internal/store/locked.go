package store

import (
	"context"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// MaxLocked is up to where Locked counts: some milliseconds of work, on a hub that can read
// nothing of a million documents, too.
const MaxLocked = 10_000

// Locked returns how many documents of a collection are here that no key here opens, so that
// for callers they do not exist. It counts up to MaxLocked.
func (s *Store) Locked(ctx context.Context, id dag.CollectionID) (count int, err error) {
	err = s.View(ctx, System, func(tx *Tx) error {
		n, ok := tx.set.short(id)
		if !ok {
			return fault.NotFound.Errorf("collection %s is unknown", id)
		}
		prefix := collectionPrefix(tableLocked, n)
		for _, err := range tx.kv.Scan(prefix, after(prefix)) {
			if err != nil {
				return err
			}
			if count++; count == MaxLocked {
				return nil
			}
		}
		return nil
	})
	return count, err
}

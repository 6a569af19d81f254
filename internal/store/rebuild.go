package store

import (
	"context"
	"fmt"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// Rebuilt says what a rebuild kept.
type Rebuilt struct {
	Documents, Commits int
	// Lost are the commits that were damaged, or stood on damaged ones. The next
	// sync with a peer that has them fetches them again.
	Lost int
}

// Rebuild makes the database in dir anew from what is not derived: commits,
// schema, notes. Everything else comes out byte for byte as it was, if it was
// right. It works in a directory beside dir and swaps the two at the end, so that
// it may be interrupted at any time. The database must not be open.
func Rebuild(ctx context.Context, dir string, o Options, report func(Problem)) (r Rebuilt, err error) {
	fs := o.FS
	if fs == nil {
		fs = kv.Disk()
	}
	if err := settle(fs, dir); err != nil {
		return r, err
	}
	if _, err := fs.Stat(dir); err != nil {
		return r, fault.NotFound.Errorf("rebuild: there is no database in %s", dir)
	}
	fresh := dir + suffixFresh
	if err := fs.RemoveAll(fresh); err != nil {
		return r, fmt.Errorf("rebuild: %w", err)
	}
	if r, err = rebuildInto(ctx, fs, dir, fresh, o, report); err != nil {
		return r, err
	}
	return r, swap(fs, dir)
}

const (
	suffixFresh = ".fresh" // being made
	suffixReady = ".ready" // made; replaces the old one
	suffixOld   = ".old"   // replaced
)

// swap puts the fresh directory in the place of the old one. Each step is one
// rename; settle finishes what a crash interrupts.
func swap(fs kv.FS, dir string) error {
	if err := fs.Rename(dir+suffixFresh, dir+suffixReady); err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	return settle(fs, dir)
}

// settle finishes an interrupted swap.
func settle(fs kv.FS, dir string) error {
	if _, err := fs.Stat(dir + suffixReady); err != nil {
		return nil
	}
	if _, err := fs.Stat(dir); err == nil {
		if err := fs.RemoveAll(dir + suffixOld); err != nil {
			return fmt.Errorf("rebuild: %w", err)
		}
		if err := fs.Rename(dir, dir+suffixOld); err != nil {
			return fmt.Errorf("rebuild: %w", err)
		}
	}
	if err := fs.Rename(dir+suffixReady, dir); err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	return fs.RemoveAll(dir + suffixOld)
}

func rebuildInto(ctx context.Context, fs kv.FS, from, to string, o Options, report func(Problem)) (r Rebuilt, err error) {
	old, err := kv.Open(from, kv.Options{FS: fs, CacheBytes: o.CacheBytes, Logger: o.Logger})
	if err != nil {
		return r, err
	}
	defer old.Close()
	db, err := kv.Open(to, kv.Options{FS: fs, CacheBytes: o.CacheBytes, Logger: o.Logger})
	if err != nil {
		return r, err
	}
	b := &rebuild{ctx: ctx, old: old, new: db, report: report, counts: map[short]count{}}
	err = b.run()
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	return b.done, err
}

type rebuild struct {
	ctx      context.Context
	old, new *kv.DB
	batch    *kv.Batch
	report   func(Problem)
	counts   map[short]count
	done     Rebuilt
}

func (b *rebuild) run() error {
	snap := b.old.Snapshot()
	defer snap.Close()
	b.batch = b.new.NewBatch()
	for _, table := range []byte{tableGlobal, tableNote} {
		for e, err := range snap.Scan([]byte{table}, []byte{table + 1}) {
			if err != nil {
				return err
			}
			b.batch.Set(e.Key, e.Value)
		}
	}
	for h, err := range histories(snap) {
		if err == nil {
			err = context.Cause(b.ctx)
		}
		if err != nil {
			return err
		}
		b.history(h)
		if b.batch.Size() >= rebuildBatch {
			if err := b.flush(); err != nil {
				return err
			}
		}
	}
	for n, k := range b.counts {
		b.batch.Set(collectionPrefix(tableCount, n), k.append(nil))
	}
	return b.flush()
}

// rebuildBatch is when a rebuild writes what it has made: large enough to share
// the cost of a write, small enough for any memory.
const rebuildBatch = 4 << 20

func (b *rebuild) flush() error {
	p, err := b.new.Apply(b.batch)
	if err != nil {
		return err
	}
	b.batch = b.new.NewBatch()
	return p.Wait()
}

func (b *rebuild) history(h lineage) {
	f := fold{}
	for _, e := range h.entries {
		err := e.err
		if err == nil {
			err = f.add(e)
		}
		if err != nil {
			b.done.Lost++
			b.report(Problem{"commit", e.at.cid.String(), err.Error()})
			continue
		}
		b.done.Commits++
		b.batch.Set(e.at.key(), e.stored.append(nil))
		b.batch.Set(indexKey(e.at.cid), e.at.indexValue())
		b.batch.Set(feedKey(e.stored.seq), e.at.feedValue(e.stored.origin))
	}
	if len(f.commits) == 0 {
		return
	}
	b.done.Documents++
	b.batch.Set(documentKey(h.coll, h.doc), f.doc.Bytes())
	k := b.counts[h.coll]
	k.all++
	if !f.doc.Deleted() {
		k.alive++
	}
	b.counts[h.coll] = k
}

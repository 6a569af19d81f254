package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// Rebuilt says what a rebuild kept.
type Rebuilt struct {
	Documents, Commits int
	// Lost are the commits that could be read and were left out, because they are
	// damaged or stand on one that is missing. The next sync with a peer that has
	// them fetches them again.
	Lost int
	// Unreadable are the places where files are damaged and were stepped over. How
	// many commits were lost there nobody knows: they are not in Lost. The same sync
	// fetches them again; what only this node had is gone.
	Unreadable int
	// Gathered says that the files could not be read in order. What could be read in
	// them is there; if a file is missing, nobody knows what was in it.
	Gathered bool
}

// Rebuild makes the database in dir anew from what is not derived: commits,
// schema, notes, and from the rows of views. Everything else comes out byte for byte
// as it was, if it was right; if something was lost the feed starts a new epoch. It works in a
// directory beside dir and swaps the two at the end, so that it may be interrupted
// at any time. The database must not be open.
func Rebuild(ctx context.Context, dir string, o Options, report func(Problem)) (r Rebuilt, err error) {
	fs := o.FS
	if fs == nil {
		fs = kv.Disk()
	}
	if err := wantDatabase(fs, dir); err != nil {
		return r, err
	}
	// Until the end: a node that started between the two steps of the swap would
	// open what is about to be removed.
	swapping, err := lockSwap(fs, dir)
	if err != nil {
		return r, err
	}
	defer swapping.Close()
	if err := settle(fs, dir); err != nil {
		return r, err
	}
	fresh := dir + suffixFresh
	if err := fs.RemoveAll(fresh); err != nil {
		return r, fmt.Errorf("rebuild: %w", err)
	}
	if r, err = rebuildInto(ctx, fs, dir, fresh, o, report); err != nil {
		return r, errors.Join(err, fs.RemoveAll(fresh))
	}
	return r, swap(fs, dir)
}

// wantDatabase gives NotFound unless there is a directory, or one that is about to
// take its place.
func wantDatabase(fs kv.FS, dir string) error {
	for _, d := range []string{dir, dir + suffixReady} {
		if ok, err := exists(fs, d); ok || err != nil {
			return err
		}
	}
	return fault.NotFound.Errorf("rebuild: there is no database in %s", dir)
}

// lockSwap keeps the directory from being opened while a rebuild replaces it, which
// the lock inside of it cannot. The lock is a file beside it.
func lockSwap(fs kv.FS, dir string) (io.Closer, error) { return kv.Lock(dir+".lock", fs) }

const (
	suffixFresh    = ".fresh"    // being made
	suffixReady    = ".ready"    // made; replaces the old one
	suffixGathered = ".gathered" // what was found in damaged files
)

// swap puts the fresh directory in the place of the old one: once it is called
// ready, settle finishes what a crash interrupts.
func swap(fs kv.FS, dir string) error {
	if err := rename(fs, dir+suffixFresh, dir+suffixReady); err != nil {
		return err
	}
	return settle(fs, dir)
}

// settle finishes an interrupted swap.
func settle(fs kv.FS, dir string) error {
	ready, err := exists(fs, dir+suffixReady)
	if err != nil || !ready {
		return err
	}
	if err := fs.RemoveAll(dir); err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	return rename(fs, dir+suffixReady, dir)
}

func exists(fs kv.FS, dir string) (bool, error) {
	switch _, err := fs.Stat(dir); {
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	default:
		return false, fault.Unavailable.Errorf("open database: %w", err)
	}
}

// rename is durable on return.
func rename(fs kv.FS, from, to string) error {
	if err := fs.Rename(from, to); err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	parent, err := fs.OpenDir(fs.PathDir(to))
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	if err := errors.Join(parent.Sync(), parent.Close()); err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	return nil
}

// rebuildInto reads the database in order, if that goes, and else gathers what is in
// its files.
func rebuildInto(ctx context.Context, fs kv.FS, from, to string, o Options, report func(Problem)) (r Rebuilt, err error) {
	// Nobody is told of problems before it is clear that this is the way.
	var problems []Problem
	r, err = rebuildFrom(ctx, from, to, o, func(p Problem) { problems = append(problems, p) }, false)
	if !errors.Is(err, fault.Corrupt) {
		for _, p := range problems {
			report(p)
		}
		return r, err
	}
	report(Problem{"file", from, fmt.Sprintf("gathering what can be read in the files, because of this: %v", err)})
	gathered := from + suffixGathered
	if err := errors.Join(fs.RemoveAll(to), fs.RemoveAll(gathered)); err != nil {
		return r, fmt.Errorf("rebuild: %w", err)
	}
	defer func() { err = errors.Join(err, fs.RemoveAll(gathered)) }()
	bad, err := gather(ctx, from, gathered, o, report)
	if err != nil {
		return r, err
	}
	r, err = rebuildFrom(ctx, gathered, to, o, report, true)
	r.Unreadable += bad
	return r, err
}

// rebuildFrom makes the directory to from what another holds. It reports damage of the
// other as Corrupt.
func rebuildFrom(ctx context.Context, from, to string, o Options, report func(Problem), gathered bool) (r Rebuilt, err error) {
	old, err := kv.Open(from, kv.Options{FS: o.FS, CacheBytes: o.CacheBytes, ReadOnly: true})
	if err != nil {
		return r, err
	}
	defer old.Close()
	if err := old.Whole(); err != nil {
		return r, err
	}
	snap := old.Snapshot()
	defer snap.Close()
	if v, ok, err := snap.Get(globalKey(globalFormat)); err != nil {
		return r, err
	} else if !ok {
		return r, fault.NotFound.Errorf("rebuild: there is no database in %s", from)
	} else if err := checkFormat(v); err != nil && !isOlder(v) {
		return r, err
	}
	db, err := kv.Open(to, kv.Options{FS: o.FS, CacheBytes: o.CacheBytes, Logger: o.Logger})
	if err != nil {
		return r, err
	}
	b := &rebuild{ctx: ctx, old: snap, new: db, report: report, counts: map[short]count{}, opener: opener{keys: o.Keys}}
	b.done.Gathered = gathered
	if b.rand = o.Rand; b.rand == nil {
		b.rand = rand.Reader
	}
	err = b.run()
	return b.done, errors.Join(err, b.flushed.Wait(), db.Close())
}

type rebuild struct {
	ctx     context.Context
	old     *kv.Snapshot
	new     *kv.DB
	rand    io.Reader
	batch   *kv.Batch
	flushed kv.Pending // the last batch that was handed on
	report  func(Problem)
	counts  map[short]count
	opener  opener
	set     *Set // for the indexes; nil if the schema cannot be read
	done    Rebuilt
}

func (b *rebuild) run() error {
	b.batch = b.new.NewBatch()
	if err := b.kept(); err != nil {
		return err
	}
	b.beginIndexes()
	for h, err := range histories(b.old, []byte{tableCommit}, b.unreadable) {
		if err == nil && b.ctx.Err() != nil {
			err = context.Cause(b.ctx)
		}
		if err != nil {
			return fmt.Errorf("rebuild: the commits: %w", err)
		}
		b.history(h)
		if b.batch.Size() >= rebuildBatch {
			if err := b.flush(); err != nil {
				return err
			}
		}
	}
	if err := b.judge(); err != nil {
		return fmt.Errorf("rebuild: access: %w", err)
	}
	for n, k := range b.counts {
		b.batch.Set(collectionPrefix(tableCount, n), k.append(nil))
	}
	if b.done.Gathered || b.done.Lost+b.done.Unreadable > 0 {
		// The numbers of what was lost will be given again, to other commits.
		var epoch [16]byte
		if _, err := io.ReadFull(b.rand, epoch[:]); err != nil {
			return fmt.Errorf("new epoch of the feed: %w", err)
		}
		b.batch.Set(globalKey(globalEpoch), epoch[:])
	}
	return b.flush()
}

// kept copies what is not derived, besides the commits, and rows of views.
func (b *rebuild) kept() error {
	for _, table := range []byte{tableGlobal, tableNote} {
		for e, err := range b.old.Scan([]byte{table}, []byte{table + 1}) {
			if err != nil {
				return fmt.Errorf("rebuild: schema and notes: %w", err)
			}
			b.batch.Set(e.Key, e.Value)
		}
	}
	b.batch.Set(globalKey(globalFormat), binary.BigEndian.AppendUint32(nil, formatVersion))
	return b.rows()
}

// rows copies the rows of views: who made them anew would have to run the queries.
// Without some of them, the next refresh makes all.
func (b *rebuild) rows() error {
	for e, err := range b.old.Scan([]byte{tableRow}, []byte{tableRow + 1}) {
		if err != nil {
			b.unreadable(Problem{"view", "rows", fmt.Sprintf("refresh the views: %v", err)})
			return nil
		}
		b.batch.Set(e.Key, e.Value)
		if b.batch.Size() >= rebuildBatch {
			if err := b.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *rebuild) unreadable(p Problem) {
	b.done.Unreadable++
	b.report(p)
}

// rebuildBatch is when a rebuild writes what it has made: large enough to share
// the cost of a write, small enough for any memory.
const rebuildBatch = 4 << 20

// flush hands on what has been made, and waits until what was handed on before is
// durable: the disk works while the next is made.
func (b *rebuild) flush() error {
	p, err := b.new.Apply(b.batch)
	if err != nil {
		return err
	}
	b.batch = b.new.NewBatch()
	p, b.flushed = b.flushed, p
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
		b.batch.Set(indexKey(e.at.cid), e.at.indexValue(nil))
		b.batch.Set(feedKey(e.stored.seq), e.at.feedValue(e.stored.origin))
	}
	if len(f.entries) == 0 {
		return
	}
	if err := f.make(); err != nil {
		b.report(Problem{"document", h.doc.String(), err.Error()})
		return
	}
	b.done.Documents++
	b.batch.Set(documentKey(h.coll, h.doc), f.doc.Bytes())
	if b.set != nil && b.set.rules[h.coll] != nil {
		return // it is made once more when all groups are there
	}
	b.count(h, f.doc)
}

// count enters a document that is made.
func (b *rebuild) count(h lineage, d crdt.Document) {
	b.indexed(h, d)
	k := b.counts[h.coll]
	k.all++
	if !d.Deleted() {
		k.alive++
	}
	b.counts[h.coll] = k
}

// judge makes the documents of collections with policies once more, when all commits
// are there: who may write one can depend on any other.
func (b *rebuild) judge() error {
	if b.set == nil || len(b.set.rules) == 0 {
		return nil
	}
	if err := b.flush(); err != nil {
		return err
	}
	snap := b.new.Snapshot()
	defer snap.Close()
	m := memberships{shelf{snap, b.set}, newMemory()}
	for _, n := range slices.Sorted(maps.Keys(b.set.rules)) {
		for h, err := range histories(snap, collectionPrefix(tableCommit, n), b.unreadable) {
			if err == nil {
				err = context.Cause(b.ctx)
			}
			if err == nil {
				err = b.judged(h, m)
			}
			if err == nil && b.batch.Size() >= rebuildBatch {
				err = b.flush()
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *rebuild) judged(h lineage, m memberships) error {
	f := fold{}
	stored := map[dag.CID]entry{}
	lose := func(cid dag.CID, err error) {
		b.done.Lost++
		b.done.Commits--
		b.report(Problem{"commit", cid.String(), err.Error()})
		b.batch.Delete(stored[cid].at.key())
		b.batch.Delete(indexKey(cid))
		b.batch.Delete(feedKey(stored[cid].stored.seq))
	}
	for _, e := range h.entries {
		err := e.err
		stored[e.at.cid] = e
		if err == nil {
			err = f.add(e)
		}
		if err != nil {
			return err // it was added before
		}
	}
	switch err := f.judge(b.ctx, m, h.coll, b.opener, lose); {
	case errors.Is(err, fault.Unavailable):
		// It stays as it was made first, without saying whose it is: nobody reads it until
		// the schema is here and it is made once more.
		b.report(Problem{"document", h.doc.String(), fmt.Sprintf("it cannot be judged: %v", err)})
		b.count(h, f.doc)
		return nil
	case err != nil:
		return err
	}
	if len(f.entries) == 0 {
		b.done.Documents--
		b.batch.Delete(documentKey(h.coll, h.doc))
		return nil
	}
	for i, e := range f.entries {
		b.batch.Set(indexKey(e.at.cid), e.at.indexValue(f.above(i)))
	}
	b.batch.Set(documentKey(h.coll, h.doc), f.doc.Bytes())
	if log := f.events(); log != nil {
		b.batch.Set(eventsKey(h.coll, h.doc), log)
	}
	if locked(f.doc) {
		b.batch.Set(lockedKey(h.coll, h.doc), nil)
	}
	groups, err := groupsOf(h.doc, f.doc)
	for _, g := range groups {
		b.batch.Set(namedKey(dag.DocID(g), h.coll, h.doc), nil)
	}
	b.count(h, f.doc)
	return err
}

package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// gathering collects what is not derived from damaged files into a directory that
// can be read in order: every commit that is found anywhere, for a commit never
// changes, and of schema and notes what was written last.
type gathering struct {
	ctx    context.Context
	to     *kv.DB
	batch  *kv.Batch
	report func(Problem)
	newest map[string]kv.Found // of what can change: little
	bad    int                 // places stepped over
}

// gather fills the directory to with what can be read in the files of from, which may
// be damaged in any way. It returns how many places it stepped over.
func gather(ctx context.Context, from, to string, o Options, report func(Problem)) (bad int, err error) {
	db, err := kv.Open(to, kv.Options{FS: o.FS, CacheBytes: o.CacheBytes, Logger: o.Logger})
	if err != nil {
		return 0, err
	}
	g := &gathering{ctx: ctx, to: db, batch: db.NewBatch(), report: report, newest: map[string]kv.Found{}}
	err = g.run(from, o)
	return g.bad, errors.Join(err, db.Close())
}

func (g *gathering) run(from string, o Options) error {
	for f, err := range kv.Salvage(from, kv.Options{FS: o.FS}, g.damaged) {
		if err == nil && g.ctx.Err() != nil {
			err = context.Cause(g.ctx)
		}
		if err != nil {
			return err
		}
		if err := g.add(f); err != nil {
			return err
		}
	}
	for _, f := range g.newest {
		if !f.Deleted {
			g.batch.Set(f.Key, f.Value)
		}
	}
	if err := g.flush(); err != nil {
		return err
	}
	return g.globals()
}

func (g *gathering) damaged(p kv.Problem) {
	text := fmt.Sprintf("%d bytes at offset %d cannot be read: %v", p.Size, p.Offset, p.Err)
	switch {
	case p.Mended:
		text = fmt.Sprintf("of the %d bytes at offset %d one bit was wrong, and is mended", p.Size, p.Offset)
	case p.Offset < 0:
		text = p.Err.Error()
	}
	if !p.Mended {
		g.bad++
	}
	g.report(Problem{"file", p.File, text})
}

func (g *gathering) add(f kv.Found) error {
	if len(f.Key) == 0 {
		return nil
	}
	switch f.Key[0] {
	case tableCommit:
		if f.Deleted || f.Doubtful && !proven(f) {
			return nil
		}
		if g.batch.Set(f.Key, f.Value); g.batch.Size() >= rebuildBatch {
			return g.flush()
		}
	case tableGlobal, tableNote:
		old, ok := g.newest[string(f.Key)]
		if f.Doubtful || ok && old.Seq >= f.Seq {
			return nil
		}
		f.Key, f.Value = bytes.Clone(f.Key), bytes.Clone(f.Value)
		g.newest[string(f.Key)] = f
	}
	return nil
}

// proven reports whether a commit has the hash that it is found under.
func proven(f kv.Found) bool {
	at, err := parseCommitKey(f.Key)
	if err == nil {
		_, _, err = openStored(at, bytes.Clone(f.Value))
	}
	return err == nil
}

func (g *gathering) flush() error {
	p, err := g.to.Apply(g.batch)
	if err != nil {
		return err
	}
	g.batch = g.to.NewBatch()
	return p.Wait()
}

// globals makes good what is missing in the table of globals, so that the directory
// opens.
func (g *gathering) globals() error {
	snap := g.to.Snapshot()
	defer snap.Close()
	if _, ok, err := snap.Get(globalKey(globalFormat)); err != nil {
		return err
	} else if !ok {
		for range snap.Scan(nil, nil) { // something was found
			g.batch.Set(globalKey(globalFormat), binary.BigEndian.AppendUint32(nil, formatVersion))
			break
		}
	}
	known := map[short]bool{}
	prefix := globalKey(globalActive)
	for e, err := range snap.Scan(prefix, after(prefix)) {
		if err != nil {
			return err
		}
		n, version, indexes, err := parseEntry(e.Value)
		if err == nil {
			_, err = loadVersion(snap, version, indexes)
		}
		if err != nil {
			g.batch.Delete(e.Key)
			continue
		}
		known[n] = true
	}
	if err := g.orphans(snap, known); err != nil {
		return err
	}
	return g.flush()
}

// orphans remembers the numbers of the collections whose schema is lost: when a peer,
// or somebody, adds it again, the documents are there.
func (g *gathering) orphans(snap *kv.Snapshot, known map[short]bool) error {
	for lo := []byte{tableCommit}; lo != nil; {
		from := lo
		lo = nil
		for e, err := range snap.Scan(from, []byte{tableCommit + 1}) {
			if err != nil {
				return err
			}
			at, err := parseCommitKey(e.Key)
			if err != nil {
				continue // the rebuild reports it
			}
			cm, _, err := openStored(at, bytes.Clone(e.Value))
			if !known[at.coll] && (err != nil || cm.Root == nil) {
				continue // only the first commit of a document names the collection
			}
			if !known[at.coll] {
				g.bad++
				g.report(Problem{"schema", cm.Root.Collection.String(), "the schema of the collection is lost, its documents are kept: add it again, or sync with a peer"})
				g.batch.Set(globalKey(globalLost, cm.Root.Collection[:]...), binary.BigEndian.AppendUint32(nil, uint32(at.coll)))
			}
			known[at.coll] = true
			lo = after(collectionPrefix(tableCommit, at.coll))
			break
		}
	}
	return nil
}

// loadLost reads which numbers belong to collections whose schema is lost.
func loadLost(r reader) (map[dag.CollectionID]short, error) {
	lost := map[dag.CollectionID]short{}
	prefix := globalKey(globalLost)
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return nil, err
		}
		var id dag.CollectionID
		if copy(id[:], e.Key[len(prefix):]) != len(id) || len(e.Value) != 4 {
			return nil, fault.Corrupt.Errorf("number of a collection: malformed: the directory is damaged, restore it or sync a new one from a peer")
		}
		lost[id] = short(binary.BigEndian.Uint32(e.Value))
	}
	return lost, nil
}

package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"maps"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// Restore makes the database in dir from an archive. Every part is compared with its
// checksum, every commit with its name, signature and parents, every collection with
// its root; what is wrong with the archive is an error of kind Corrupt, and leaves
// nothing behind. dir must not exist. The feed starts anew.
func Restore(ctx context.Context, dir string, o Options, archive io.Reader, progress func(Archived)) (done Archived, err error) {
	fs := o.FS
	if fs == nil {
		fs = kv.Disk()
	}
	swapping, err := lockSwap(fs, dir)
	if err != nil {
		return done, err
	}
	defer swapping.Close()
	for _, d := range []string{dir, dir + suffixReady} {
		if there, err := exists(fs, d); err != nil {
			return done, err
		} else if there {
			return done, fault.Exists.Errorf("there is a database in %s: restore into a directory that has none", dir)
		}
	}
	fresh := dir + suffixFresh
	if err := fs.RemoveAll(fresh); err != nil {
		return done, fmt.Errorf("restore: %w", err)
	}
	db, err := kv.Open(fresh, kv.Options{FS: o.FS, CacheBytes: o.CacheBytes, Logger: o.Logger})
	if err != nil {
		return done, err
	}
	r := &restore{in: newPartReader(archive), progress: progress}
	r.rebuild = rebuild{ctx: ctx, new: db, rand: o.Rand, batch: db.NewBatch(), report: r.refuse, counts: map[short]count{}, opener: opener{keys: o.Keys}}
	if r.rand == nil {
		r.rand = rand.Reader
	}
	err = r.run()
	if err = errors.Join(err, r.flushed.Wait(), db.Close()); err != nil {
		return done, errors.Join(err, fs.RemoveAll(fresh))
	}
	return r.told, rename(fs, fresh, dir)
}

// restore makes a database from the parts of an archive, as a rebuild makes one from
// another.
type restore struct {
	rebuild
	in       *partReader
	progress func(Archived)
	told     Archived
	epoch    [16]byte
	begun    bool // the schema is there, commits follow
	schema   *Set

	coll    short // whose commits follow, 0 between collections
	id      dag.CollectionID
	last    place
	seq     uint64
	commits uint64 // of the collection
	held    []lineage
	size    int   // commits in held
	refused error // what report was told
}

func (r *restore) refuse(p Problem) {
	if r.refused == nil {
		r.refused = fault.Corrupt.Errorf("%s %s: %s", p.What, p.Name, p.Text)
	}
}

func (r *restore) run() error {
	for {
		at := r.in.offset
		kind, payload, err := r.in.next()
		if err == nil {
			err = context.Cause(r.ctx)
		}
		if err == nil {
			err = r.part(kind, payload)
		}
		switch {
		case errors.Is(err, fault.Invalid), errors.Is(err, fault.Corrupt):
			return fault.Corrupt.Errorf("archive: in the part at byte %d: %w", at, err)
		case err != nil:
			return err
		}
		if kind == partEnd {
			return r.finish()
		}
	}
}

// finish makes what depends on all documents.
func (r *restore) finish() error {
	made := maps.Clone(r.counts)
	if err := r.judge(); err != nil {
		return err
	}
	for n, k := range r.counts {
		if k != made[n] {
			r.batch.Set(collectionPrefix(tableCount, n), k.append(nil))
		}
	}
	if r.refused != nil {
		return r.refused
	}
	return r.flush()
}

// part takes in the next part.
func (r *restore) part(kind byte, payload []byte) error {
	in := cbor.NewReader(payload)
	switch {
	case kind == partHead && !r.headed():
		return r.head(in)
	case !r.headed():
		return fault.Corrupt.Errorf("the head is missing")
	case kind == partGlobal && !r.begun:
		return r.global(in)
	case kind == partCollection && r.coll == 0:
		return r.collection(in)
	case kind == partCommits && r.coll != 0:
		return r.envelopes(in)
	case kind == partRoot && r.coll != 0:
		return r.endCollection(payload)
	case kind == partEnd && r.coll == 0:
		if err := r.beginCommits(); err != nil { // there may have been no collection
			return err
		}
		return r.in.end(payload)
	}
	return fault.Corrupt.Errorf("a part of kind %q has no place here", kind)
}

func (r *restore) headed() bool { return r.epoch != [16]byte{} }

func (r *restore) head(in *cbor.Reader) error {
	n := in.Array()
	version := in.Uint()
	if err := in.Err(); err != nil {
		return err
	}
	if n != 1 || version != archiveVersion {
		return fault.Unavailable.Errorf("the archive has format version %d, this pando reads version %d: use a newer pando", version, archiveVersion)
	}
	if _, err := io.ReadFull(r.rand, r.epoch[:]); err != nil {
		return fmt.Errorf("new epoch of the feed: %w", err)
	}
	r.batch.Set(globalKey(globalFormat), binary.BigEndian.AppendUint32(nil, formatVersion))
	r.batch.Set(globalKey(globalEpoch), r.epoch[:])
	return in.Done()
}

func (r *restore) global(in *cbor.Reader) error {
	n, key, v := in.Array(), in.Bytes(), in.Bytes()
	if err := in.Done(); err != nil {
		return err
	}
	if n != 2 || !archivedGlobal(key) {
		return fault.Corrupt.Errorf("an entry %.20q is none of the schema", key)
	}
	r.batch.Set(key, v)
	return nil
}

// beginCommits opens the schema, which is whole now.
func (r *restore) beginCommits() error {
	if r.begun {
		return nil
	}
	r.begun = true
	if err := r.flush(); err != nil {
		return err
	}
	r.old = r.new.Snapshot()
	defer r.old.Close()
	var err error
	if r.schema, err = loadSet(r.old, &modules{}); err != nil {
		return err
	}
	r.beginIndexes()
	return nil
}

func (r *restore) collection(in *cbor.Reader) error {
	if err := r.beginCommits(); err != nil {
		return err
	}
	n, number, id := in.Array(), in.Uint(), in.Bytes()
	if err := in.Done(); err != nil {
		return err
	}
	if n != 2 || copy(r.id[:], id) != len(r.id) || number <= uint64(r.last.coll) {
		return fault.Corrupt.Errorf("a collection is malformed, or not in its place")
	}
	for known, is := range r.schema.holding() {
		if uint64(known) == number && is == r.id {
			r.coll, r.last, r.commits = known, place{coll: known}, 0
			r.told.Collections++
			return nil
		}
	}
	return fault.Corrupt.Errorf("collection %s is not in the schema under number %d", r.id, number)
}

// restoreBatch is how many commits are verified together: enough for all cores.
const restoreBatch = 2048

// envelopes takes in commits. They come in the order of their places, so those of a
// document side by side, parents first.
func (r *restore) envelopes(in *cbor.Reader) error {
	for in.Peek() != cbor.End {
		raw := in.Bytes()
		if err := in.Err(); err != nil {
			return err
		}
		cm, err := dag.Open(raw)
		if err != nil {
			return fmt.Errorf("commit %s: %w", nameOf(raw), err)
		}
		at := place{r.coll, cm.Doc, cm.Height, cm.CID}
		switch {
		case cm.HeaderOnly():
			return fault.Corrupt.Errorf("commit %s is one that no node applies", cm.CID)
		case cm.CheckCollection(r.id) != nil:
			return fault.Corrupt.Errorf("commit %s: %v", cm.CID, cm.CheckCollection(r.id))
		case r.last.compare(at) >= 0:
			return fault.Corrupt.Errorf("commit %s is not in its place", cm.CID)
		}
		if r.size >= restoreBatch && at.doc != r.last.doc {
			if err := r.settle(); err != nil {
				return err
			}
		}
		if len(r.held) == 0 || at.doc != r.last.doc {
			r.held = append(r.held, lineage{coll: at.coll, doc: at.doc})
		}
		r.last = at
		r.seq++
		r.commits++
		r.size++
		h := &r.held[len(r.held)-1]
		h.entries = append(h.entries, entry{at: at, stored: stored{seq: r.seq, envelope: raw}, commit: cm})
	}
	return in.Done()
}

// settle verifies and writes what is held.
func (r *restore) settle() error {
	var cs []*dag.Commit
	for _, h := range r.held {
		for _, e := range h.entries {
			cs = append(cs, e.commit)
		}
	}
	for _, i := range dag.Verify(cs) {
		return fault.Corrupt.Errorf("commit %s: its signature does not verify", cs[i].CID)
	}
	for _, h := range r.held {
		if r.history(h); r.refused != nil {
			return r.refused
		}
	}
	r.told.Documents, r.told.Commits = r.done.Documents, r.done.Commits
	if r.progress != nil {
		r.progress(r.told)
	}
	r.held, r.size = r.held[:0], 0
	if r.batch.Size() < rebuildBatch {
		return nil
	}
	return r.flush()
}

// endCollection compares what was made with what the archive says it must be.
func (r *restore) endCollection(want []byte) error {
	if err := r.settle(); err != nil {
		return err
	}
	if k, ok := r.counts[r.coll]; ok {
		r.batch.Set(collectionPrefix(tableCount, r.coll), k.append(nil))
	}
	if err := r.flush(); err != nil {
		return err
	}
	snap := r.new.Snapshot()
	defer snap.Close()
	documents, root, err := treeRoot(snap, r.coll)
	if err != nil {
		return err
	}
	if !bytes.Equal(endOf(documents, r.commits, root), want) {
		return fault.Corrupt.Errorf("the %d documents and %d commits of collection %s are not those that the archive was made of", documents, r.commits, r.id)
	}
	r.coll = 0
	return nil
}

// partReader reads the parts of an archive.
type partReader struct {
	in     *bufio.Reader
	sum    hash.Hash
	offset int64
}

func newPartReader(r io.Reader) *partReader {
	return &partReader{in: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
}

// next returns the next part, which is the caller's. Of the last one, the sum is that
// of what came before it.
func (p *partReader) next() (kind byte, payload []byte, err error) {
	if p.offset == 0 {
		magic := make([]byte, len(archiveMagic))
		if _, err := io.ReadFull(p.in, magic); err != nil || string(magic) != archiveMagic {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return 0, nil, fault.Unavailable.Errorf("read archive: %w", err)
			}
			return 0, nil, fault.Corrupt.Errorf("it does not begin as an archive of pando does: is it another file, or compressed?")
		}
		p.sum.Write(magic)
		p.offset += int64(len(magic))
	}
	var head [5]byte
	if err := p.read(head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxPart {
		return 0, nil, fault.Corrupt.Errorf("its length is damaged: %d bytes, at most %d can be", n, maxPart)
	}
	// In steps, so that what a damaged length takes is no more than what is there.
	for uint32(len(payload)) < n {
		step := make([]byte, min(n-uint32(len(payload)), partSize+64<<10))
		if err := p.read(step); err != nil {
			return 0, nil, err
		}
		if payload == nil {
			payload = step
		} else {
			payload = append(payload, step...)
		}
	}
	var crc [4]byte
	if err := p.read(crc[:]); err != nil {
		return 0, nil, err
	}
	if crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, payload) != binary.BigEndian.Uint32(crc[:]) {
		return 0, nil, fault.Corrupt.Errorf("it does not have its checksum: the archive is damaged")
	}
	if head[0] != partEnd {
		p.sum.Write(head[:])
		p.sum.Write(payload)
		p.sum.Write(crc[:])
	}
	return head[0], payload, nil
}

func (p *partReader) read(b []byte) error {
	n, err := io.ReadFull(p.in, b)
	p.offset += int64(n)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fault.Corrupt.Errorf("the archive has no end: it was cut off after %d bytes", p.offset)
	case err != nil:
		return fault.Unavailable.Errorf("read archive: %w", err)
	}
	return nil
}

// end checks the last part, and that nothing follows.
func (p *partReader) end(sum []byte) error {
	if !bytes.Equal(sum, p.sum.Sum(nil)) {
		return fault.Corrupt.Errorf("the archive does not have its checksum: parts are missing, or from another one")
	}
	switch _, err := p.in.ReadByte(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fault.Unavailable.Errorf("read archive: %w", err)
	}
	return fault.Corrupt.Errorf("something follows the end of the archive")
}

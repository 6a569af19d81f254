package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
	"iter"
	"slices"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/radix"
)

// An archive is everything that is not derived and belongs to the database rather
// than to the node: schema, with what the node chose of it, and commits. docs/format.md
// has its bytes. Each part has a checksum of its own, so that damage has a place.
const (
	archiveMagic = "pando archive 1\n"
	// archiveVersion is the format version of what is not derived. Archives outlive
	// directories, so it moves only with that.
	archiveVersion = 1

	partHead       = 'h' // [archiveVersion]
	partGlobal     = 'g' // [key, value] of the table of globals
	partCollection = 'c' // [short number, collection ID]: whose commits follow
	partCommits    = 'b' // envelopes, one after the other, each a byte string
	partRoot       = 'e' // [documents, commits, root] of the collection that ends here
	partEnd        = 'z' // SHA-256 of everything before

	// partSize is when a part of commits is full: little enough to be held.
	partSize = 256 << 10
	// maxPart bounds a part: the longest entry, a WASM module, several times.
	maxPart = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Archived says what an archive holds.
type Archived struct {
	Collections, Documents, Commits int
}

// Archive writes an archive of one snapshot; writers go on meanwhile.
func (s *Store) Archive(ctx context.Context, w io.Writer) (Archived, error) {
	a := archiver{ctx: ctx, sum: sha256.New(), out: bufio.NewWriterSize(w, 64<<10)}
	err := s.View(ctx, System, func(tx *Tx) error {
		a.tx = tx
		return a.run()
	})
	return a.done, err
}

type archiver struct {
	ctx  context.Context
	tx   *Tx
	sum  hash.Hash
	out  *bufio.Writer
	done Archived
}

func (a *archiver) run() error {
	if err := a.write([]byte(archiveMagic)); err != nil {
		return err
	}
	head := cbor.AppendUint(cbor.AppendArray(nil, 1), archiveVersion)
	if err := a.part(partHead, head); err != nil {
		return err
	}
	if err := a.globals(); err != nil {
		return err
	}
	for n, id := range a.tx.set.holding() {
		if err := a.collection(n, id); err != nil {
			return err
		}
		a.done.Collections++
	}
	if err := a.part(partEnd, a.sum.Sum(nil)); err != nil {
		return err
	}
	return a.out.Flush()
}

// holding yields the collections that may have documents, by their numbers.
func (s *Set) holding() iter.Seq2[short, dag.CollectionID] {
	ids := map[short]dag.CollectionID{}
	for m := range s.members() {
		if m.View == nil {
			ids[m.short] = m.ID
		}
	}
	for id, n := range s.lost {
		ids[n] = id
	}
	return func(yield func(short, dag.CollectionID) bool) {
		for n := range s.last + 1 {
			if id, ok := ids[n]; ok && !yield(n, id) {
				return
			}
		}
	}
}

// archivedGlobal reports whether an entry of the table of globals belongs to the
// database: not the format, the feed's identity and the peers of a directory.
func archivedGlobal(key []byte) bool {
	return len(key) > 1 && key[0] == tableGlobal && !slices.Contains([]byte{globalFormat, globalEpoch, globalOrigin}, key[1])
}

func (a *archiver) globals() error {
	for e, err := range a.tx.kv.Scan([]byte{tableGlobal}, []byte{tableGlobal + 1}) {
		if err != nil {
			return err
		}
		if !archivedGlobal(e.Key) {
			continue
		}
		b := cbor.AppendArray(nil, 2)
		b = cbor.AppendBytes(cbor.AppendBytes(b, e.Key), e.Value)
		if err := a.part(partGlobal, b); err != nil {
			return err
		}
	}
	return nil
}

func (a *archiver) collection(n short, id dag.CollectionID) error {
	b := cbor.AppendUint(cbor.AppendArray(nil, 2), uint64(n))
	if err := a.part(partCollection, cbor.AppendBytes(b, id[:])); err != nil {
		return err
	}
	commits := 0
	lo := collectionPrefix(tableCommit, n)
	b = b[:0]
	for e, err := range a.tx.kv.Scan(lo, after(lo)) {
		var at place
		var st stored
		if err == nil {
			err = context.Cause(a.ctx)
		}
		if err == nil {
			at, err = parseCommitKey(e.Key)
		}
		if err == nil {
			st, err = parseStored(at.cid, e.Value)
		}
		if err == nil && len(b)+len(st.envelope) > partSize && len(b) > 0 {
			err, b = a.part(partCommits, b), b[:0]
		}
		if err != nil {
			return err
		}
		b = cbor.AppendBytes(b, st.envelope)
		commits++
	}
	if len(b) > 0 {
		if err := a.part(partCommits, b); err != nil {
			return err
		}
	}
	documents, root, err := treeRoot(a.tx.kv, n)
	if err != nil {
		return err
	}
	a.done.Documents += int(documents)
	a.done.Commits += commits
	return a.part(partRoot, endOf(documents, uint64(commits), root))
}

// endOf is what a collection must come to.
func endOf(documents, commits uint64, root [32]byte) []byte {
	b := cbor.AppendUint(cbor.AppendArray(nil, 3), documents)
	return cbor.AppendBytes(cbor.AppendUint(b, commits), root[:])
}

// treeRoot makes the tree over the documents of a collection and returns its root.
func treeRoot(r reader, n short) (documents uint64, root [32]byte, err error) {
	t := radix.New()
	err = t.Refresh(func(lo, hi [32]byte) iter.Seq2[radix.Element, error] { return elements(r, n, lo, hi) })
	documents, root = t.Root()
	return documents, root, err
}

func (a *archiver) part(kind byte, payload []byte) error {
	if len(payload) > maxPart {
		return fault.TooLarge.Errorf("archive: an entry of %d bytes, at most %d can be", len(payload), maxPart)
	}
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload)))
	crc := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, payload)
	for _, b := range [][]byte{head, payload, binary.BigEndian.AppendUint32(nil, crc)} {
		if err := a.write(b); err != nil {
			return err
		}
	}
	return nil
}

func (a *archiver) write(b []byte) error {
	a.sum.Write(b)
	if _, err := a.out.Write(b); err != nil {
		return fault.Unavailable.Errorf("write archive: %w", err)
	}
	return nil
}

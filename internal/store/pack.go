package store

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math"
	"slices"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// Want asks for the commits of a document that the asker lacks.
type Want struct {
	Doc     dag.DocID
	Want    []dag.CID // the heads to reach; empty: all that this node has
	Have    []dag.CID // the asker's heads
	Locator []uint64  // ids of older ancestors that the asker has, see Locator
	After   Point     // only what comes after this point of the history
	Below   uint64    // only what is lower than this; 0: to the top
}

// Block is a commit as it travels.
type Block struct {
	CID      dag.CID
	Doc      dag.DocID
	Height   uint64
	Envelope []byte // valid until the next step
}

// Pack yields what the asker lacks of a document, parents first: the ancestors of
// what it wants less the ancestors of what it has. The cost follows the number of
// commits yielded, not the length of the history.
func (tx *Tx) Pack(coll dag.CollectionID, w Want) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		for {
			l, err := tx.Lacking(coll, w)
			if err != nil {
				yield(Block{}, err)
				return
			}
			for b, err := range tx.PackOf(l, w.After) {
				if !yield(b, err) || err != nil {
					return
				}
				w.After = Point{b.Height, b.CID}
			}
			if !l.Cut {
				return
			}
		}
	}
}

// Full yields every commit of the documents of a collection that the caller may read,
// documents in the order of their IDs after the given one, parents first: one
// sequential read.
func (tx *Tx) Full(coll dag.CollectionID, after_ dag.DocID) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		n, ok := tx.set.short(coll)
		if !ok {
			yield(Block{}, fault.NotFound.Errorf("full copy: collection %s is unknown", coll))
			return
		}
		lo := collectionPrefix(tableCommit, n)
		hi := after(lo)
		if after_ != (dag.DocID{}) {
			_, lo = documentRange(n, after_)
		}
		tx.blocks(lo, hi, yield)
	}
}

// blocks yields the commits between two keys, of documents that the caller may read.
func (tx *Tx) blocks(lo, hi []byte, yield func(Block, error) bool) {
	f := follower{tx: tx}
	for e, err := range tx.kv.Scan(lo, hi) {
		var at place
		var st stored
		var may bool
		if err == nil {
			at, err = parseCommitKey(e.Key)
		}
		if err == nil {
			may, err = f.passes(at)
		}
		if err == nil && !may {
			continue
		}
		if err == nil {
			st, err = parseStored(at.cid, e.Value)
		}
		if !yield(Block{at.cid, at.doc, at.height, st.envelope}, err) || err != nil {
			return
		}
	}
}

// located finds the commit of a document whose CID starts with those 8 bytes. Where there
// are two, made to look alike, nobody knows which is meant: it is none.
func (tx *Tx) located(n short, doc dag.DocID, id uint64) (found dag.CID, ok bool, err error) {
	lo := binary.BigEndian.AppendUint64([]byte{tableIndex}, id)
	for e, err := range tx.kv.Scan(lo, after(lo)) {
		if err != nil {
			return dag.CID{}, false, err
		}
		if len(e.Key) != 1+len(dag.CID{}) {
			return dag.CID{}, false, fault.Corrupt.Errorf("index key of %d bytes, want 33: run pando fsck --rebuild", len(e.Key))
		}
		cid := dag.CID(e.Key[1:])
		at, err := parseIndexValue(cid, e.Value)
		if err != nil {
			return dag.CID{}, false, err
		}
		if at.doc == doc && at.coll == n {
			if ok {
				return dag.CID{}, false, nil
			}
			found, ok = cid, true
		}
	}
	return found, ok, nil
}

// Locator returns the first 8 bytes of commits at distance 1, 2, 4, 8 … below the
// top of a document's history, so that a peer who does not know its heads can
// still tell what is shared.
func (tx *Tx) Locator(coll dag.CollectionID, doc dag.DocID) ([]uint64, error) {
	n, ok := tx.set.short(coll)
	if !ok {
		return nil, fault.NotFound.Errorf("locator: collection %s is unknown", coll)
	}
	d, _, err := tx.visible(n, doc)
	if err != nil {
		return nil, err
	}
	var top uint64
	for _, h := range d.Heads() {
		top = max(top, h.Height)
	}
	var ids []uint64
	for step := uint64(1); step < top && step < math.MaxInt64; step *= 2 {
		lo := commitKey(n, doc, top-step, dag.CID{})
		_, hi := documentRange(n, doc)
		for e, err := range tx.kv.Scan(lo, hi) {
			if err != nil {
				return nil, err
			}
			at, err := parseCommitKey(e.Key)
			if err != nil {
				return nil, err
			}
			ids = append(ids, binary.BigEndian.Uint64(at.cid[:]))
			break
		}
	}
	return ids, nil
}

// Heads returns the heads of a document, sorted; none if it is unknown, or the caller
// may not read it.
func (tx *Tx) Heads(coll dag.CollectionID, doc dag.DocID) ([]dag.CID, error) {
	n, ok := tx.set.short(coll)
	if !ok {
		return nil, nil
	}
	d, _, err := tx.visible(n, doc)
	if err != nil {
		return nil, err
	}
	var cids []dag.CID
	for _, h := range d.Heads() {
		cids = append(cids, h.Commit)
	}
	slices.SortFunc(cids, func(a, b dag.CID) int { return bytes.Compare(a[:], b[:]) })
	return cids, nil
}

package store

import (
	"bytes"
	"container/heap"
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
}

// Block is a commit as it travels.
type Block struct {
	CID      dag.CID
	Doc      dag.DocID
	Envelope []byte // valid until the next step
}

// Pack yields what the asker lacks of a document, parents first: the ancestors of
// what it wants less the ancestors of what it has. The cost follows the number of
// commits yielded, not the length of the history.
func (tx *Tx) Pack(coll dag.CollectionID, w Want) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		n, ok := tx.set.short(coll)
		if !ok {
			yield(Block{}, fault.NotFound.Errorf("pack: collection %s is unknown", coll))
			return
		}
		if len(w.Want) == 0 && len(w.Have) == 0 && len(w.Locator) == 0 {
			lo, hi := documentRange(n, w.Doc)
			tx.blocks(lo, hi, yield)
			return
		}
		places, err := tx.lacking(n, w)
		if err != nil {
			yield(Block{}, err)
			return
		}
		for _, at := range places {
			v, ok, err := tx.kv.Get(at.key())
			if err == nil && !ok {
				err = fault.Corrupt.Errorf("commit %s is indexed but missing: run pando fsck", at.cid)
			}
			var st stored
			if err == nil {
				st, err = parseStored(at.cid, v)
			}
			if !yield(Block{at.cid, at.doc, st.envelope}, err) || err != nil {
				return
			}
		}
	}
}

// Full yields every commit of a collection, documents in the order of their IDs
// after the given one, parents first: one sequential read.
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

func (tx *Tx) blocks(lo, hi []byte, yield func(Block, error) bool) {
	for e, err := range tx.kv.Scan(lo, hi) {
		var at place
		var st stored
		if err == nil {
			at, err = parseCommitKey(e.Key)
		}
		if err == nil {
			st, err = parseStored(at.cid, e.Value)
		}
		if !yield(Block{at.cid, at.doc, st.envelope}, err) || err != nil {
			return
		}
	}
}

// frontier is a heap of commits, the highest first, so that a commit is met only
// after all its descendants, and a walk ends as soon as all that is left is known
// to the asker.
type frontier struct {
	list   []place
	known  map[dag.CID]bool // by commit in the heap or met: whether the asker has it
	wanted int              // commits in the heap that the asker lacks
}

func (f *frontier) Len() int           { return len(f.list) }
func (f *frontier) Less(i, j int) bool { return f.list[i].compare(f.list[j]) > 0 }
func (f *frontier) Swap(i, j int)      { f.list[i], f.list[j] = f.list[j], f.list[i] }
func (f *frontier) Push(x any)         { f.list = append(f.list, x.(place)) }
func (f *frontier) Pop() any {
	x := f.list[len(f.list)-1]
	f.list = f.list[:len(f.list)-1]
	return x
}

func (f *frontier) add(at place, known bool) {
	was, met := f.known[at.cid]
	switch {
	case !met:
		f.known[at.cid] = known
		heap.Push(f, at)
		if !known {
			f.wanted++
		}
	case known && !was: // still in the heap: its descendants are higher
		f.known[at.cid] = true
		f.wanted--
	}
}

// lacking returns the commits to send, in the order of their keys.
func (tx *Tx) lacking(n short, w Want) ([]place, error) {
	f := &frontier{known: map[dag.CID]bool{}}
	want := w.Want
	if len(want) == 0 {
		d, _, err := tx.document(n, w.Doc)
		if err != nil {
			return nil, err
		}
		for _, h := range d.Heads() {
			want = append(want, h.Commit)
		}
	}
	have := slices.Clone(w.Have)
	for _, id := range w.Locator {
		cid, ok, err := tx.located(n, w.Doc, id)
		if err != nil {
			return nil, err
		}
		if ok {
			have = append(have, cid)
		}
	}
	for i, list := range [][]dag.CID{have, want} {
		for _, c := range list {
			at, ok, err := tx.where(c)
			if err != nil {
				return nil, err
			}
			if ok && at.doc == w.Doc && at.coll == n {
				f.add(at, i == 0)
			}
		}
	}
	var send []place
	for f.wanted > 0 {
		at := heap.Pop(f).(place)
		known := f.known[at.cid]
		if !known {
			f.wanted--
			send = append(send, at)
		}
		cm, _, err := tx.load(at)
		if err != nil {
			return nil, err
		}
		for _, p := range cm.Parents {
			up, ok, err := tx.where(p)
			if err != nil {
				return nil, err
			}
			if !ok {
				return nil, fault.Corrupt.Errorf("parent %s of commit %s is missing: run pando fsck --rebuild", p, at.cid)
			}
			f.add(up, known)
		}
	}
	slices.Reverse(send)
	return send, nil
}

// located finds the commit of a document whose CID starts with those 8 bytes.
func (tx *Tx) located(n short, doc dag.DocID, id uint64) (dag.CID, bool, error) {
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
			return cid, true, nil
		}
	}
	return dag.CID{}, false, nil
}

// Locator returns the first 8 bytes of commits at distance 1, 2, 4, 8 … below the
// top of a document's history, so that a peer who does not know its heads can
// still tell what is shared.
func (tx *Tx) Locator(coll dag.CollectionID, doc dag.DocID) ([]uint64, error) {
	n, ok := tx.set.short(coll)
	if !ok {
		return nil, fault.NotFound.Errorf("locator: collection %s is unknown", coll)
	}
	d, _, err := tx.document(n, doc)
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

// Heads returns the heads of a document, sorted; none if it is unknown.
func (tx *Tx) Heads(coll dag.CollectionID, doc dag.DocID) ([]dag.CID, error) {
	n, ok := tx.set.short(coll)
	if !ok {
		return nil, nil
	}
	d, _, err := tx.document(n, doc)
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

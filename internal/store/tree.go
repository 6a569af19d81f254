package store

import (
	"crypto/sha256"
	"iter"
	"sync"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/radix"
)

// tree is the radix-Merkle tree over the heads of a collection's documents. It is
// brought up to date when somebody asks, from a snapshot and the documents touched
// before it was taken.
type tree struct {
	mu    sync.Mutex // guards radix; held during a refresh, never by a writer
	radix *radix.Tree
}

type touch = dag.DocID

// maxTouched is how many changes are noted for a tree that nobody asks for; past
// it the whole tree is made anew, which a scan does about as fast.
const maxTouched = 1 << 16

// touch notes that a document's heads changed. s.mu is held.
func (s *Store) touch(n short, id dag.DocID) {
	if list := s.touched[n]; len(list) < maxTouched {
		s.touched[n] = append(list, id)
	}
}

// refreshed runs fn on the up-to-date tree of a collection and the snapshot that
// it describes.
func (s *Store) refreshed(n short, fn func(t *radix.Tree, snap *kv.Snapshot) error) error {
	s.treesMu.Lock()
	t := s.trees[n]
	if t == nil {
		t = &tree{radix: radix.New()}
		s.trees[n] = t
	}
	s.treesMu.Unlock()

	t.mu.Lock()
	defer t.mu.Unlock()
	s.mu.Lock()
	snap := s.kv.Snapshot()
	touched := s.touched[n]
	delete(s.touched, n)
	s.mu.Unlock()
	defer snap.Close()
	if len(touched) == maxTouched {
		t.radix = radix.New()
	}
	for _, id := range touched {
		t.radix.Touch(id)
	}
	err := t.radix.Refresh(func(lo, hi [32]byte) iter.Seq2[radix.Element, error] {
		return elements(snap, n, lo, hi)
	})
	if err != nil {
		t.radix = radix.New() // what was touched is not known any more
		return err
	}
	return fn(t.radix, snap)
}

// elements yields (docID, hash of its heads) for the documents from lo to hi.
func elements(snap reader, n short, lo, hi dag.DocID) iter.Seq2[radix.Element, error] {
	return func(yield func(radix.Element, error) bool) {
		buf := make([]byte, 0, 128)
		for e, err := range snap.Scan(documentKey(n, lo), append(documentKey(n, hi), 0)) {
			var el radix.Element
			var d crdt.Document
			if err == nil {
				el.Key, err = parseDocumentKey(e.Key)
			}
			if err == nil {
				d, err = crdt.Open(e.Value)
			}
			if err != nil {
				yield(el, err)
				return
			}
			buf, el.Sum = headSum(buf, el.Key, d)
			if !yield(el, nil) {
				return
			}
		}
	}
}

// headSum is what stands for a document in a tree: a hash of its docID and its heads.
// The docID is part of it, so that two documents whose heads are swapped do not look
// alike.
func headSum(buf []byte, id dag.DocID, d crdt.Document) ([]byte, [32]byte) {
	buf = append(buf[:0], id[:]...)
	for _, h := range d.Heads() {
		buf = append(buf, h.Commit[:]...)
	}
	return buf, sha256.Sum256(buf)
}

// Element returns the document as it stands in the tree over its collection.
func (d Doc) Element() radix.Element {
	_, sum := headSum(make([]byte, 0, 128), d.ID, d.State)
	return radix.Element{Key: d.ID, Sum: sum}
}

// Summary describes what a node holds of a collection. Two nodes with equal roots
// hold the same documents with the same heads.
type Summary struct {
	Collection dag.CollectionID
	Name       string
	Documents  uint64 // with the deleted ones
	Alive      uint64
	Root       [32]byte
	Seq        uint64 // of the durable feed; the root has all up to it, and perhaps more
}

// Summary returns the count and root of a collection.
func (s *Store) Summary(id dag.CollectionID) (Summary, error) {
	if err := s.gate.enter(); err != nil {
		return Summary{}, err
	}
	defer s.gate.leave()
	n, c, err := s.lookup(id)
	if err != nil {
		return Summary{}, err
	}
	sum := Summary{Collection: id, Name: c, Seq: s.Seq()}
	err = s.refreshed(n, func(t *radix.Tree, snap *kv.Snapshot) error {
		sum.Documents, sum.Root = t.Root()
		k, err := readCount(snap, n)
		sum.Alive = uint64(k.alive)
		return err
	})
	return sum, err
}

func (s *Store) lookup(id dag.CollectionID) (short, string, error) {
	set := s.set.Load()
	n, ok := set.short(id)
	if !ok {
		return 0, "", fault.NotFound.Errorf("collection %s is unknown", id)
	}
	c, _ := set.ByID(id)
	return n, c.Name, nil
}

// Node returns a node of a collection's tree; ok is false if there is nothing
// under the prefix, or the tree is not that deep.
func (s *Store) Node(id dag.CollectionID, p radix.Prefix) (node radix.Node, ok bool, err error) {
	if err := s.gate.enter(); err != nil {
		return node, false, err
	}
	defer s.gate.leave()
	n, _, err := s.lookup(id)
	if err != nil {
		return node, false, err
	}
	err = s.refreshed(n, func(t *radix.Tree, _ *kv.Snapshot) error {
		node, ok = t.Node(p)
		return nil
	})
	return node, ok, err
}

// Elements yields the elements of a collection's tree under a prefix, in the
// order of their keys.
func (s *Store) Elements(id dag.CollectionID, p radix.Prefix) iter.Seq2[radix.Element, error] {
	return func(yield func(radix.Element, error) bool) {
		if err := s.gate.enter(); err != nil {
			yield(radix.Element{}, err)
			return
		}
		defer s.gate.leave()
		n, _, err := s.lookup(id)
		if err != nil {
			yield(radix.Element{}, err)
			return
		}
		snap := s.kv.Snapshot()
		defer snap.Close()
		lo, hi := p.Range()
		elements(snap, n, lo, hi)(yield)
	}
}

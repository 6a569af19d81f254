package store

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// Tx is a transaction: the only door to documents. It sees the snapshot taken at
// its start and its own writes, and belongs to one goroutine at a time.
type Tx struct {
	s        *Store
	kv       *kv.Txn
	who      Caller
	set      *Set
	seq      uint64 // the feed as of the snapshot
	readOnly bool
	explicit bool // begun by Begin: only its writes are validated
	serial   bool // runs under the writer's lock: nothing can have changed
	done     bool // ended, or its function returned

	base    *Set                  // the collections at its start
	staged  map[dag.DocID]*staged // documents it changed
	pending []*pending            // its commits, in order
	byCID   map[dag.CID]*pending
	added   []*member            // collections it adds or changes
	reads   []dag.DocID          // documents it read
	scans   []short              // collections it read as a whole
	counts  map[short]count      // change of the counts
	undo    map[dag.DocID]staged // in Try: documents as they were at its start
	claims  []claim              // what it makes unique
	dropped [][]byte             // prefixes of indexes and views that it drops
	failed  error                // of a read that could not return it
	views   bool                 // it changes views or their rows
	policy  bool                 // it adds a policy
	unlocks bool                 // it opens documents that were locked
	ahead   ahead                // encrypted documents that it will create
	untold  []untold             // what follows it

	ctx    context.Context // of who waits for it; nil: of each call
	asked  sync.Once
	caller *Reading // what it may read, once it was asked
	recent recent   // documents that were looked at because of an index
}

// staged is a document that the transaction changed.
type staged struct {
	coll      short
	doc       crdt.Document
	folding   *crdt.Folding // of a merge, which is not done with the document: it is ahead of doc, and of the row
	voids     int           // void commits that the access state of folding does not count yet
	commits   []*pending
	log       []byte      // its events, if they were made anew and are not written yet, as the row is not
	unsettled bool        // commits of it may count otherwise now: to be folded again
	review    *acp.Review // of its events, in a merge; nil: what they come to is in the document
	inserted  bool        // the merge put an event among others, and made the state again
}

// document returns the document with all that was applied to it.
func (st *staged) document() (d crdt.Document, err error) {
	if st.folding != nil {
		if err = st.countVoids(); err == nil {
			st.doc, err = st.folding.Document()
		}
	}
	return st.doc, err
}

// countVoids enters void commits in the access state, all at once: each would copy it.
func (st *staged) countVoids() error {
	if st.voids == 0 {
		return nil
	}
	s, err := accessState(dag.DocID{}, st.folding)
	if err != nil {
		return err
	}
	st.folding.Attach(crdt.FieldAccess, crdt.KindAccess, s.WithVoided(s.Voided()+st.voids).Bytes())
	st.voids = 0
	return nil
}

// pending is a commit that the transaction applies.
type pending struct {
	place  place
	commit *dag.Commit
	own    bool   // still to be signed
	origin string // peer it came from; "" if local
	above  acp.Frontier
}

// Doc is one document as a transaction sees it. What Scan yields is valid until
// the next step of the scan; Clone keeps it longer.
type Doc struct {
	ID         dag.DocID
	Collection *schema.Collection
	State      crdt.Document
}

// Value returns the visible value of a field, Null if it has none.
func (d Doc) Value(f *schema.Field) value.Value { return f.Value(d.State) }

// Deleted reports whether the document is deleted.
func (d Doc) Deleted() bool { return d.State.Deleted() }

// Clone returns a copy that lives as long as it is held.
func (d Doc) Clone() (Doc, error) {
	st, err := crdt.Open(slices.Clone(d.State.Bytes()))
	d.State = st
	return d, err
}

// Set returns the collections as the transaction sees them. Until it adds some
// itself, this is the pointer that Store.Schema returned at its start.
func (tx *Tx) Set() *Set { return tx.set }

// Collections returns the collections in the order of their names.
func (tx *Tx) Collections() []*schema.Collection { return tx.set.Collections() }

// Collection returns the collection of that name, or NotFound.
func (tx *Tx) Collection(name string) (*schema.Collection, error) {
	if c, ok := tx.set.Collection(name); ok {
		return c, nil
	}
	return nil, fault.NotFound.Errorf("collection %q does not exist: add it with a schema, or join a peer that has it", name)
}

func (tx *Tx) short(c *schema.Collection) (short, error) {
	m, ok := tx.set.byID[c.ID]
	if !ok {
		return 0, fault.NotFound.Errorf("collection %q does not exist", c.Name)
	}
	return m.short, nil
}

// AddCollections adds collections; all or none.
func (tx *Tx) AddCollections(cs []*schema.Collection) error {
	if err := tx.writable(); err != nil {
		return err
	}
	return tx.addCollections(cs, nil)
}

// addCollections adds collections with their lineages, where they have more than
// the version that is used.
func (tx *Tx) addCollections(cs []*schema.Collection, lineages map[dag.CollectionID]schema.Lineage) error {
	set, added, err := tx.set.with(cs)
	if err != nil {
		return err
	}
	for _, m := range added {
		if l := lineages[m.ID]; l != nil {
			m.versions = l
		}
		for _, v := range m.versions {
			tx.kv.Set(globalKey(globalVersion, v.Version[:]...), v.Encode())
		}
		for _, x := range m.indexes {
			if x.ready {
				tx.kv.Set(x.prefix, x.state(built{ready: true}))
			}
		}
	}
	return tx.become(set)
}

func (tx *Tx) writable() error {
	switch {
	case tx.done:
		return errEnded
	case tx.readOnly:
		return fault.Denied.Errorf("the transaction is read-only: start one that may write")
	}
	return nil
}

var errEnded = fault.Invalid.Errorf("the transaction has ended: start a new one")

// Get returns a document, or NotFound if it does not exist or the caller may not read
// it. A deleted document is returned too; ask Doc.Deleted.
func (tx *Tx) Get(c *schema.Collection, id dag.DocID) (Doc, error) {
	if tx.done {
		return Doc{}, errEnded
	}
	n, err := tx.short(c)
	if err != nil {
		return Doc{}, err
	}
	st, ok, err := tx.visible(n, id)
	if err != nil {
		return Doc{}, err
	}
	if !ok {
		return Doc{}, notIn(c, id)
	}
	return Doc{id, c, st}, nil
}

func notIn(c *schema.Collection, id dag.DocID) error {
	return fault.NotFound.Errorf("document %s is not in collection %s", id, c.Name)
}

// document returns the merged state of a document, and whether it exists: also to who
// may not read it.
func (tx *Tx) document(coll short, id dag.DocID) (crdt.Document, bool, error) {
	if st, ok := tx.staged[id]; ok {
		d, err := st.document()
		return d, st.coll == coll, err
	}
	tx.read(id)
	raw, ok, err := tx.kv.Get(documentKey(coll, id))
	if err != nil || !ok {
		return crdt.Document{}, false, err
	}
	d, err := crdt.Open(raw)
	if err != nil {
		return crdt.Document{}, false, fault.Corrupt.Errorf("document %s: %w: run pando fsck --rebuild", id, err)
	}
	return d, true, nil
}

// read notes that the outcome depends on a document.
func (tx *Tx) read(id dag.DocID) {
	if !tx.readOnly && !tx.explicit {
		tx.reads = append(tx.reads, id)
	}
}

// scanned notes that the outcome depends on a collection as a whole.
func (tx *Tx) scanned(n short) {
	if !tx.readOnly && !tx.explicit && !slices.Contains(tx.scans, n) {
		tx.scans = append(tx.scans, n)
	}
}

// Range selects documents of a scan, by docID.
type Range struct {
	After   dag.DocID // exclusive; zero: from the start
	Through dag.DocID // inclusive; zero: to the end
	Deleted bool      // deleted documents too
}

// ReadOnly reports whether the transaction writes nothing. Its documents may then be
// read by several goroutines at once, as long as none ends it.
func (tx *Tx) ReadOnly() bool { return tx.readOnly }

// Guarded reports whether it is seen in each document of a collection if the caller may
// read it: then their number is not known without looking at all.
func (tx *Tx) Guarded(c *schema.Collection) bool {
	n, err := tx.short(c)
	if err != nil {
		return false
	}
	g := tx.guard(n)
	return !g.open()
}

// Scan yields the documents of a collection that the caller may read, in docID order.
func (tx *Tx) Scan(c *schema.Collection, r Range) iter.Seq2[Doc, error] {
	return func(yield func(Doc, error) bool) {
		if tx.done {
			yield(Doc{}, errEnded)
			return
		}
		n, err := tx.short(c)
		if err != nil {
			yield(Doc{}, err)
			return
		}
		tx.scanned(n)
		guard := tx.guard(n)
		lo := collectionPrefix(tableDocument, n)
		hi := after(lo)
		if r.After != (dag.DocID{}) {
			lo = append(documentKey(n, r.After), 0)
		}
		if r.Through != (dag.DocID{}) {
			hi = append(documentKey(n, r.Through), 0)
		}
		for e, err := range tx.kv.Scan(lo, hi) {
			if err != nil {
				yield(Doc{}, err)
				return
			}
			d := Doc{Collection: c}
			if d.ID, err = parseDocumentKey(e.Key); err == nil {
				d.State, err = crdt.Open(e.Value)
			}
			if err != nil {
				err = fault.Corrupt.Errorf("document %s: %w: run pando fsck --rebuild", d.ID, err)
			} else if !r.Deleted && d.State.Deleted() {
				continue
			} else if may, failed := guard.passes(d.ID, d.State); failed != nil {
				err = failed
			} else if !may {
				continue
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// count is how many documents a collection has, and how many are not deleted.
type count struct{ all, alive int64 }

func (c count) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(c.all))
	return binary.BigEndian.AppendUint64(b, uint64(c.alive))
}

func parseCount(v []byte) (count, error) {
	if len(v) != 16 {
		return count{}, fault.Corrupt.Errorf("count of a collection: %d bytes, want 16: run pando fsck --rebuild", len(v))
	}
	return count{int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))}, nil
}

func readCount(r getter, n short) (count, error) {
	v, ok, err := r.Get(collectionPrefix(tableCount, n))
	if err != nil || !ok {
		return count{}, err
	}
	return parseCount(v)
}

type getter interface {
	Get(key []byte) ([]byte, bool, error)
}

// Count returns how many documents of a collection are not deleted, of those that the
// caller may read. It reads one key, whatever the size of the collection, but for a
// collection with a policy: there it is a scan, unless System asks. Of a materialized
// view it counts the rows.
func (tx *Tx) Count(c *schema.Collection) (uint64, error) {
	n, err := tx.short(c)
	if err != nil {
		return 0, err
	}
	if g := tx.guard(n); g.open() {
		return tx.Size(c)
	}
	var count uint64
	for _, err := range tx.Scan(c, Range{}) {
		if err != nil {
			return 0, err
		}
		count++
	}
	return count, nil
}

// Size returns how many documents of a collection are not deleted, whoever may read
// them, at the cost of one key. It is for who chooses how to read the collection, and
// not to be told to callers.
func (tx *Tx) Size(c *schema.Collection) (uint64, error) {
	n, err := tx.short(c)
	if err != nil {
		return 0, err
	}
	if c.View != nil {
		st, err := tx.ViewState(c)
		return st.Rows, err
	}
	tx.scanned(n)
	k, err := readCount(tx.kv, n)
	return uint64(k.alive + tx.counts[n].alive), err
}

// Try runs fn and takes back what it wrote if it fails, so that the transaction
// goes on as it was before. It nests.
func (tx *Tx) Try(fn func() error) error {
	if tx.done {
		return errEnded
	}
	restore := tx.kv.Mark()
	views := tx.views
	set, added, pending, counts := tx.set, len(tx.added), len(tx.pending), maps.Clone(tx.counts)
	claims, dropped, told := len(tx.claims), len(tx.dropped), len(tx.untold)
	outer := tx.undo
	tx.undo = map[dag.DocID]staged{}
	err := fn()
	if tx.done {
		return errors.Join(err, errEnded)
	}
	inner := tx.undo
	tx.undo = outer
	if err == nil {
		for id, st := range inner {
			if _, kept := outer[id]; outer != nil && !kept {
				outer[id] = st
			}
		}
		return nil
	}
	restore()
	for id, st := range inner {
		if len(st.commits) == 0 {
			delete(tx.staged, id)
		} else {
			*tx.staged[id] = st
		}
	}
	for _, p := range tx.pending[pending:] {
		delete(tx.byCID, p.place.cid)
	}
	tx.views = views
	tx.set, tx.added, tx.pending, tx.counts = set, tx.added[:added], tx.pending[:pending], counts
	tx.claims, tx.dropped, tx.untold = tx.claims[:claims], tx.dropped[:dropped], tx.untold[:told]
	return err
}

// Discard ends the transaction and drops its writes. It may be called twice, and
// after Commit.
func (tx *Tx) Discard() { tx.release() }

func (tx *Tx) release() {
	s := tx.s
	s.mu.Lock()
	_, held := s.active[tx]
	delete(s.active, tx)
	s.mu.Unlock()
	if held {
		tx.done = true
		tx.kv.Close()
		s.gate.leave()
	}
}

// Commit makes the writes of an explicit transaction durable, all or none. It
// fails with a conflict if another transaction changed a document that this one
// wrote.
func (tx *Tx) Commit(ctx context.Context) error {
	switch {
	case tx.done:
		return errEnded
	case !tx.explicit:
		return fault.Invalid.Errorf("the transaction commits by itself when its function returns: return nil")
	}
	defer tx.release()
	r, err := tx.commit()
	if errors.Is(err, errStale) {
		return fault.Conflict.Errorf("transaction conflict: another transaction changed what this one wrote; please retry")
	}
	if err != nil {
		return err
	}
	return tx.s.wait(ctx, r)
}

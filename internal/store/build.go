package store

import (
	"bytes"
	"context"
	"slices"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
)

// kept reports whether who knew the indexes of a collection as they were has written
// and checked what they need as they are now.
func kept(was, now []*secondary) bool {
	return slices.EqualFunc(was, now, func(x, y *secondary) bool {
		if x.ID != y.ID || x.Unique != y.Unique || !bytes.Equal(x.form, y.form) {
			return false
		}
		// Of an index that is ready only what differs is written, which is too little
		// when it has to be built again; of one that is not, nothing is checked.
		return x.ready == y.ready || y.ready && !y.Unique
	})
}

// CreateIndex adds an index to a collection. Writes keep it from then on; queries
// use it when BuildIndexes has made the entries of the documents that are there.
func (tx *Tx) CreateIndex(c *schema.Collection, ix schema.Index) (schema.Index, error) {
	now, err := tx.current(c)
	if err != nil {
		return schema.Index{}, err
	}
	next, ix, err := now.WithIndex(ix)
	if err != nil {
		return schema.Index{}, err
	}
	return ix, tx.become(tx.set.changed(next))
}

// DropIndex removes an index of a collection.
func (tx *Tx) DropIndex(c *schema.Collection, name string) error {
	now, err := tx.current(c)
	if err != nil {
		return err
	}
	next, err := now.WithoutIndex(name)
	if err != nil {
		return err
	}
	m := tx.set.byID[c.ID]
	i := slices.IndexFunc(m.indexes, func(x *secondary) bool { return x.Name == name })
	if i >= 0 {
		tx.dropped = append(tx.dropped, m.indexes[i].prefix)
	}
	return tx.become(tx.set.changed(next))
}

// current returns the collection as the transaction sees it, to be changed.
func (tx *Tx) current(c *schema.Collection) (*schema.Collection, error) {
	if err := tx.writable(); err != nil {
		return nil, err
	}
	now, ok := tx.set.ByID(c.ID)
	if !ok {
		return nil, fault.NotFound.Errorf("collection %q does not exist", c.Name)
	}
	return now, nil
}

const (
	// buildDocuments and buildBytes are when a build writes what it has made: small
	// enough that writers who wait for the lock do not notice.
	buildDocuments = 1024
	buildBytes     = 1 << 20
)

// BuildIndexes makes the entries that indexes lack: of documents that were there
// before the index, or before its collection was known again. It returns when every
// index is ready. It works in batches, with no lock and no snapshot held from one to
// the next, and goes on where it ended when the database is opened again. A second
// call waits for the first.
func (s *Store) BuildIndexes(ctx context.Context) error {
	select {
	case s.building <- struct{}{}:
		defer func() { <-s.building }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.readOnly {
		return fault.Denied.Errorf("the database is open for reading only: open it for writing once, and its indexes are built")
	}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		more, err := s.buildSome()
		if err != nil || !more {
			return err
		}
	}
}

// buildSome makes one batch for the first collection with an index that is not
// ready, and reports whether there was one.
func (s *Store) buildSome() (more bool, err error) {
	tx, err := s.begin(System)
	if err != nil {
		return false, err
	}
	defer tx.release()
	tx.readOnly = true
	for m := range tx.set.members() {
		if slices.ContainsFunc(m.indexes, func(x *secondary) bool { return !x.ready }) {
			return true, tx.build(m)
		}
	}
	return false, nil
}

// build makes one batch of entries for the indexes of a collection that are least
// far. The first one of an index removes what it finds.
func (tx *Tx) build(m *member) error {
	var least []*secondary
	var from built
	for _, x := range m.indexes {
		if x.ready {
			continue
		}
		b, err := x.built(tx.kv)
		if err != nil {
			return err
		}
		order := compareIDs(b.done, from.done)
		switch {
		case len(least) == 0 || from.begun && !b.begun || from.begun == b.begun && order < 0:
			least, from = []*secondary{x}, b
		case from.begun == b.begun && order == 0:
			least = append(least, x)
		}
	}
	made := batch{of: m, indexes: least, from: from}
	if !from.begun {
		made.state.begun = true
		made.clear = true
		return tx.s.publishBuild(tx, made)
	}
	made.state = built{ready: true, begun: true, done: from.done}
	size, docs := 0, 0
	for d, err := range tx.Scan(m.Collection, Range{After: from.done}) {
		if err != nil {
			return err
		}
		for _, x := range least {
			for _, key := range x.entries(d.ID, d.State) {
				made.entries = append(made.entries, due{d.ID, key})
				size += len(key)
			}
		}
		made.state.done = d.ID
		if docs++; docs >= tx.s.buildStep || size >= buildBytes {
			made.state.ready = false
			break
		}
	}
	return tx.s.publishBuild(tx, made)
}

// batch is what a build makes at once.
type batch struct {
	of      *member
	indexes []*secondary
	entries []due
	from    built // how far the indexes were
	state   built // and are with the batch
	clear   bool  // remove all entries there are
}

type due struct {
	doc dag.DocID
	key []byte
}

// publishBuild writes a batch that was made on the snapshot of tx, unless the
// indexes of the collection are others by now. Documents that were changed since are
// left to who changed them: of an index that is not ready, a write makes all entries
// of its document.
func (s *Store) publishBuild(tx *Tx, made batch) error {
	if err := s.kv.WaitForRoom(); err != nil {
		return err
	}
	p, err := s.applyBuild(tx, made)
	if err != nil {
		return err
	}
	return p.Wait()
}

func (s *Store) applyBuild(tx *Tx, made batch) (kv.Pending, error) {
	s.writer.Lock()
	defer s.writer.Unlock()
	now := s.set.Load()
	if now != tx.base {
		if ok, err := s.goesOn(made, now); err != nil || !ok {
			return kv.Pending{}, err
		}
	}
	b := s.kv.NewBatch()
	for _, x := range made.indexes {
		if made.clear {
			b.DeleteRange(x.prefix, after(x.prefix))
		}
		b.Set(x.prefix, x.state(made.state))
	}
	for _, e := range made.entries {
		if s.written.docs[e.doc] <= tx.seq {
			b.Set(e.key, nil)
		}
	}
	if made.state.ready {
		now = now.ready(made.of.ID, made.indexes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.kv.Apply(b)
	if err == nil {
		s.setSchema(now)
	}
	return p, err
}

// goesOn reports whether a batch goes on from what there is: other versions may have
// been used meanwhile, and the same as before again.
func (s *Store) goesOn(made batch, now *Set) (bool, error) {
	if !kept(made.of.indexes, now.indexes[made.of.short]) {
		return false, nil
	}
	snap := s.kv.Snapshot()
	defer snap.Close()
	for _, x := range made.indexes {
		if b, err := x.built(snap); err != nil || b != made.from {
			return false, err
		}
	}
	return true, nil
}

// ready returns a set in which those indexes of a collection are ready.
func (s *Set) ready(id dag.CollectionID, indexes []*secondary) *Set {
	ms := slices.Collect(s.members())
	for i, m := range ms {
		if m.ID != id {
			continue
		}
		next := &member{m.Collection, m.short, slices.Clone(m.indexes), m.versions}
		for j, x := range next.indexes {
			if slices.ContainsFunc(indexes, func(o *secondary) bool { return o.ID == x.ID }) {
				done := *x
				done.ready = true
				next.indexes[j] = &done
			}
		}
		ms[i] = next
	}
	return newSet(ms, s.last, s.lost)
}

// setSchema makes a set the current one and wakes who waits for another. s.mu is
// held.
func (s *Store) setSchema(set *Set) {
	if set == s.set.Load() {
		return
	}
	s.set.Store(set)
	close(s.schemaChanged)
	s.schemaChanged = make(chan struct{})
}

// SchemaChanged returns a channel that is closed when Schema returns another set.
func (s *Store) SchemaChanged() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.schemaChanged
}

// IndexReady reports whether the index of that name has the entries of all documents.
func (s *Set) IndexReady(c *schema.Collection, name string) bool {
	m, ok := s.byID[c.ID]
	return ok && slices.ContainsFunc(m.indexes, func(x *secondary) bool { return x.Name == name && x.ready })
}

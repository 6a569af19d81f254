package query

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// Refreshed says what a refresh of a materialized view did.
type Refreshed struct {
	Name    string
	Rows    uint64 // how many there are now
	Written uint64 // rows that are new or different
	Removed uint64
	Whole   bool // every row was computed, not only those of documents that changed
}

// storedScan yields the stored rows of a materialized view.
type storedScan struct{ of *collection }

func (s *storedScan) input() operator  { return nil }
func (s *storedScan) describe() string { return "rows of " + s.of.Name }

func (s *storedScan) rows(x *run, _ *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		var r row
		n := uint64(0)
		for e, err := range x.tx.Rows(s.of.Collection) {
			if err == nil {
				err = x.step()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			r.Doc = store.Doc{ID: rowID(n), Collection: s.of.Collection, State: e.State}
			n++
			if !yield(&r, nil) {
				return
			}
		}
	}
}

// Refresh brings the stored rows of a materialized view up to the transaction's
// snapshot. Only what differs is written.
func (s *Schemas) Refresh(ctx context.Context, tx *store.Tx, v *schema.Collection) (Refreshed, error) {
	sc := s.Of(tx.Set())
	f := &refresh{s: sc, tx: tx, v: v, did: Refreshed{Name: v.Name}}
	f.x = &run{ctx: ctx, tx: tx, most: sc.limits.Held, out: &writer{}}
	if err := f.run(); err != nil {
		return f.did, fmt.Errorf("refresh view %s: %w", v.Name, err)
	}
	return f.did, nil
}

// refresh is one refresh of one view.
type refresh struct {
	s   *Schema
	tx  *store.Tx
	v   *schema.Collection
	x   *run
	did Refreshed
}

func (f *refresh) run() error {
	c := &compiler{schema: f.s, views: 1}
	root, err := c.viewRoot(f.v.View.Query)
	if err != nil {
		return err
	}
	st, err := f.tx.ViewState(f.v)
	if err != nil {
		return err
	}
	r := c.reachOf(f.v, root)
	sources := f.sources(root, r)
	docs, some, err := f.changes(r, st, sources)
	if err != nil {
		return err
	}
	if some {
		err = f.some(c, root, docs, st.Rows)
	} else {
		err = f.whole(c, root, r != nil)
	}
	if err != nil {
		return err
	}
	return f.tx.Refreshed(f.v, f.did.Rows, sources)
}

// sources names what the rows are made by: how what the view reads is read, and how
// rows are keyed.
func (f *refresh) sources(root *selected, r *reach) string {
	h := sha256.New()
	h.Write(f.v.Version[:])
	if r != nil {
		r.sources(h)
		return "documents " + hex.EncodeToString(h.Sum(nil))
	}
	return "list " + hex.EncodeToString(h.Sum(nil))
}

const (
	// fewChanges are looked at one by one whatever the size of the collection.
	fewChanges = 1_000
	// dearer is how many times as much a row costs that is looked up instead of
	// scanned.
	dearer = 5
)

// changes returns the documents whose rows may differ from those stored. It is false
// if all have to be computed: because nothing else will do, or because it is cheaper.
func (f *refresh) changes(r *reach, st store.ViewState, sources string) (docs docSet, ok bool, err error) {
	if r == nil || st.Refreshed.IsZero() || st.Sources != sources || !f.tx.Follows(st) {
		return nil, false, nil
	}
	size, err := f.tx.Size(r.at.Collection)
	if err != nil {
		return nil, false, err
	}
	if n := f.tx.Behind(st); n > fewChanges && n > size {
		return nil, false, nil
	}
	few := func(n int) bool { return n <= fewChanges || uint64(n)*dearer <= size }
	changed := map[dag.CollectionID]docSet{}
	for t, err := range f.tx.Touched(st.Seq) {
		if err == nil {
			err = f.x.step()
		}
		if err != nil {
			return nil, false, err
		}
		if changed[t.Collection] == nil {
			changed[t.Collection] = docSet{}
		}
		changed[t.Collection][t.Doc] = struct{}{}
		if !few(len(changed[r.at.ID])) {
			return nil, false, nil
		}
	}
	docs, err = f.affected(r, changed)
	return docs, few(len(docs)), err
}

// some computes the rows of some documents and stores what differs.
func (f *refresh) some(c *compiler, root *selected, docs docSet, rows uint64) error {
	f.did.Rows = rows
	if len(docs) == 0 {
		return nil
	}
	p, err := c.viewPlan(f.v, c.only(root, docs))
	if err != nil {
		return err
	}
	for r, err := range p.rows(f.x) {
		if err == nil {
			err = f.x.step()
		}
		if err != nil {
			return err
		}
		delete(docs, r.doc)
		added, err := f.put(r.doc[:], r)
		if err != nil {
			return err
		}
		if added {
			f.did.Rows++
		}
	}
	for id := range docs { // those that yield no row
		raw, err := f.tx.Row(f.v, id[:])
		if err != nil {
			return err
		}
		if raw == nil {
			continue
		}
		f.did.Rows--
		if err := f.remove([][]byte{id[:]}); err != nil {
			return err
		}
	}
	return nil
}

// only restricts a root field to some documents.
func (c *compiler) only(root *selected, docs docSet) *selected {
	ids := make([]value.Value, 0, len(docs))
	for id := range docs {
		ids = append(ids, value.OfString(id.String()))
	}
	return c.with(root, "docID", value.OfList(ids))
}

// whole computes every row and stores what differs. Rows that belong to documents
// are keyed by them, others by their place.
func (f *refresh) whole(c *compiler, root *selected, byDoc bool) error {
	f.did.Whole = true
	p, err := c.viewPlan(f.v, root)
	if err != nil {
		return err
	}
	seen := docSet{}
	var key []byte
	for r, err := range p.rows(f.x) {
		if err == nil {
			err = f.x.step()
		}
		if err != nil {
			return err
		}
		if key = binary.BigEndian.AppendUint64(key[:0], f.did.Rows); byDoc {
			key = append(key[:0], r.doc[:]...)
			if err := f.x.note(seen, r.doc); err != nil {
				return err
			}
		}
		if _, err := f.put(key, r); err != nil {
			return err
		}
		f.did.Rows++
	}
	var gone [][]byte
	for e, err := range f.tx.Rows(f.v) {
		if err == nil {
			err = f.x.step()
		}
		if err != nil {
			return err
		}
		if !f.belongs(e.Key, byDoc, seen) {
			gone = append(gone, bytes.Clone(e.Key))
		}
	}
	return f.remove(gone)
}

// belongs reports whether there is a row under a key.
func (f *refresh) belongs(key []byte, byDoc bool, seen docSet) bool {
	if byDoc {
		if len(key) != len(dag.DocID{}) {
			return false
		}
		_, ok := seen[dag.DocID(key)]
		return ok
	}
	return len(key) == 8 && binary.BigEndian.Uint64(key) < f.did.Rows
}

// put stores a row if it differs from the one there is, and reports whether there
// was none.
func (f *refresh) put(key []byte, r viewRow) (added bool, err error) {
	raw := f.v.Row(nil, r.vals).Bytes()
	old, err := f.tx.Row(f.v, key)
	if err != nil || bytes.Equal(old, raw) {
		return false, err
	}
	// It is held until the transaction commits.
	if err := f.x.reserve(int64(len(key) + len(raw))); err != nil {
		return false, err
	}
	f.did.Written++
	return old == nil, f.tx.SetRow(f.v, key, raw)
}

func (f *refresh) remove(keys [][]byte) error {
	for _, key := range keys {
		if err := f.tx.SetRow(f.v, key, nil); err != nil {
			return err
		}
		f.did.Removed++
	}
	return nil
}

// InOrder returns the materialized views among the named ones, all if none are, so
// that a view comes after those that it reads.
func (s *Schemas) InOrder(set *store.Set, names []string) ([]*schema.Collection, error) {
	o := &refreshOrder{c: &compiler{schema: s.Of(set)}, set: set, seen: map[string]bool{}}
	for _, v := range set.Views() {
		o.add(v)
	}
	if len(names) == 0 {
		return o.views, nil
	}
	wanted := map[string]bool{}
	for _, name := range names {
		v, ok := set.View(name)
		if !ok {
			return nil, fault.NotFound.Errorf("view %q does not exist", name)
		}
		if !v.View.Materialized {
			return nil, fault.Invalid.Errorf("view %s is computed on each query: there is nothing to refresh", name)
		}
		wanted[name] = true
	}
	var vs []*schema.Collection
	for _, v := range o.views {
		if wanted[v.Name] {
			vs = append(vs, v)
		}
	}
	return vs, nil
}

type refreshOrder struct {
	c     *compiler
	set   *store.Set
	seen  map[string]bool
	views []*schema.Collection
}

func (o *refreshOrder) add(v *schema.Collection) {
	if o.seen[v.Name] {
		return
	}
	o.seen[v.Name] = true
	if root, err := o.c.viewRoot(v.View.Query); err == nil {
		if below, ok := o.set.View(root.Name); ok {
			o.add(below)
		}
	}
	if v.View.Materialized {
		o.views = append(o.views, v)
	}
}

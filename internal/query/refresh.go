package query

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
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
	p, err := c.viewPlan(f.v, root)
	if err != nil {
		return err
	}
	if err := f.whole(p); err != nil {
		return err
	}
	return f.tx.Refreshed(f.v, f.did.Rows, f.sources(root))
}

// sources names what the rows are made by: the versions of what the view reads.
func (f *refresh) sources(root *selected) string {
	h := sha256.New()
	h.Write(f.v.Version[:])
	h.Write(f.s.collections[root.Name].Version[:])
	return hex.EncodeToString(h.Sum(nil))
}

// whole computes every row and stores what differs.
func (f *refresh) whole(p *viewPlan) error {
	f.did.Whole = true
	n := uint64(0)
	for r, err := range p.rows(f.x) {
		if err == nil {
			err = f.x.step()
		}
		if err != nil {
			return err
		}
		if err := f.put(binary.BigEndian.AppendUint64(nil, n), r); err != nil {
			return err
		}
		n++
	}
	f.did.Rows = n
	var gone [][]byte
	for e, err := range f.tx.Rows(f.v) {
		if err != nil {
			return err
		}
		if binary.BigEndian.Uint64(e.Key) >= n {
			gone = append(gone, bytes.Clone(e.Key))
		}
	}
	return f.remove(gone)
}

// put stores a row if it differs from the one there is.
func (f *refresh) put(key []byte, r viewRow) error {
	raw := f.v.Row(nil, r.vals).Bytes()
	old, err := f.tx.Row(f.v, key)
	if err != nil || bytes.Equal(old, raw) {
		return err
	}
	if err := f.x.reserve(int64(len(key) + len(raw))); err != nil {
		return err
	}
	f.did.Written++
	return f.tx.SetRow(f.v, key, raw)
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

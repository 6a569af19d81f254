package store

import (
	"encoding/binary"
	"encoding/json"
	"iter"
	"slices"
	"time"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
)

// Views are members of the Set that no peer hears of: they have a short number and
// a definition, and instead of commits a query.

// Views returns the views in the order of their names.
func (s *Set) Views() []*schema.Collection { return slices.Clone(s.views) }

// All returns collections and views.
func (s *Set) All() []*schema.Collection { return slices.Concat(s.list, s.views) }

// View returns the view of that name.
func (s *Set) View(name string) (*schema.Collection, bool) {
	c, ok := s.byName[name]
	return c, ok && c.View != nil
}

// checkNames returns Exists if two names in the set get in each other's way.
func (s *Set) checkNames() error {
	names := make([]string, 0, len(s.list)+len(s.views))
	for _, c := range s.list {
		names = append(names, c.Name)
	}
	for _, c := range s.views {
		names = append(names, c.Names()...)
	}
	return schema.CheckTogether(names)
}

// loadViews reads the definitions of the views.
func loadViews(r reader) ([]*member, error) {
	var ms []*member
	prefix := globalKey(globalView)
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return nil, err
		}
		m, err := parseView(e.Value)
		if err != nil {
			return nil, fault.Corrupt.Errorf("view %.140q: %w: the directory is damaged, restore it or add the view to a new one", e.Key[len(prefix):], err)
		}
		ms = append(ms, m)
	}
	return ms, nil
}

func parseView(v []byte) (*member, error) {
	if len(v) < 4 {
		return nil, fault.Corrupt.Errorf("%d bytes", len(v))
	}
	var src schema.ViewSource
	if err := json.Unmarshal(v[4:], &src); err != nil {
		return nil, err
	}
	c, err := schema.ParseView(src)
	return &member{Collection: c, short: short(binary.BigEndian.Uint32(v))}, err
}

func viewKey(name string) []byte { return globalKey(globalView, []byte(name)...) }

// AddView adds a view.
func (tx *Tx) AddView(c *schema.Collection) error {
	if err := tx.writable(); err != nil {
		return err
	}
	src, err := json.Marshal(c.View.ViewSource)
	if err != nil {
		return fault.Invalid.Errorf("view %s: %w", c.Name, err)
	}
	last := tx.set.last + 1
	// Rows of a view that once had the number were removed with it.
	set := newSet(append(slices.Collect(tx.set.members()), &member{Collection: c, short: last}), last, tx.set.lost)
	if err := set.checkNames(); err != nil {
		return err
	}
	tx.kv.Set(viewKey(c.Name), append(binary.BigEndian.AppendUint32(nil, uint32(last)), src...))
	tx.set, tx.views = set, true
	return nil
}

// DropView removes a view and its rows.
func (tx *Tx) DropView(name string) error {
	if err := tx.writable(); err != nil {
		return err
	}
	c, ok := tx.set.View(name)
	if !ok {
		return fault.NotFound.Errorf("view %q does not exist", name)
	}
	n, err := tx.short(c)
	if err != nil {
		return err
	}
	tx.dropped = append(tx.dropped, collectionPrefix(tableRow, n)) // also rows that a refresh stores meanwhile
	tx.kv.Delete(viewKey(name))
	var rest []*member
	for m := range tx.set.members() {
		if m.Name != name {
			rest = append(rest, m)
		}
	}
	tx.set, tx.views = newSet(rest, tx.set.last, tx.set.lost), true
	tx.dropModules(c.View.Transform)
	return nil
}

// ViewState is how far the rows of a materialized view have come.
type ViewState struct {
	Epoch     [16]byte  // of the feed
	Seq       uint64    // of the feed: changes up to here are in the rows
	Sources   string    // what the rows were made by; other sources make all rows anew
	Rows      uint64    // how many there are
	Refreshed time.Time // zero: never
}

// ViewRow is a stored row of a materialized view, valid until the next step. The
// order of the keys is that of the rows.
type ViewRow struct {
	Key   []byte
	State crdt.Document
}

func (tx *Tx) rowKey(v *schema.Collection, key []byte) ([]byte, error) {
	n, err := tx.short(v)
	return append(collectionPrefix(tableRow, n), key...), err
}

// ViewState returns the state of a materialized view, zero before its first refresh.
func (tx *Tx) ViewState(v *schema.Collection) (st ViewState, err error) {
	key, err := tx.rowKey(v, nil)
	if err != nil {
		return st, err
	}
	raw, ok, err := tx.kv.Get(key)
	if err != nil || !ok {
		return st, err
	}
	if err := json.Unmarshal(raw, &st); err != nil {
		return st, fault.Corrupt.Errorf("state of view %s: %w: drop the view and add it again", v.Name, err)
	}
	return st, nil
}

// Follows reports whether what happened since a state is in the feed.
func (tx *Tx) Follows(st ViewState) bool { return st.Epoch == tx.s.epoch && st.Seq <= tx.seq }

// Behind returns how many changes there have been since a state.
func (tx *Tx) Behind(st ViewState) uint64 {
	if !tx.Follows(st) {
		return tx.seq
	}
	return tx.seq - st.Seq
}

// Refreshed says that the rows of a view are those as of the transaction's snapshot.
func (tx *Tx) Refreshed(v *schema.Collection, rows uint64, sources string) error {
	if err := tx.writable(); err != nil {
		return err
	}
	key, err := tx.rowKey(v, nil)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(ViewState{tx.s.epoch, tx.seq, sources, rows, tx.s.now().UTC()})
	if err != nil {
		return err
	}
	tx.kv.Set(key, raw)
	tx.views = true
	return nil
}

// Rows yields the stored rows of a materialized view, in order.
func (tx *Tx) Rows(v *schema.Collection) iter.Seq2[ViewRow, error] {
	return func(yield func(ViewRow, error) bool) {
		if tx.done {
			yield(ViewRow{}, errEnded)
			return
		}
		prefix, err := tx.rowKey(v, nil)
		if err != nil {
			yield(ViewRow{}, err)
			return
		}
		for e, err := range tx.kv.Scan(append(prefix, 0), after(prefix)) {
			r := ViewRow{}
			if err == nil {
				r.Key = e.Key[len(prefix):]
				r.State, err = crdt.Open(e.Value)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// Row returns the stored row under a key, nil if there is none.
func (tx *Tx) Row(v *schema.Collection, key []byte) ([]byte, error) {
	k, err := tx.rowKey(v, key)
	if err != nil {
		return nil, err
	}
	raw, _, err := tx.kv.Get(k)
	return raw, err
}

// SetRow stores a row of a materialized view; nil removes it.
func (tx *Tx) SetRow(v *schema.Collection, key, row []byte) error {
	if err := tx.writable(); err != nil {
		return err
	}
	k, err := tx.rowKey(v, key)
	if err != nil {
		return err
	}
	if row == nil {
		tx.kv.Delete(k)
	} else {
		tx.kv.Set(k, row)
	}
	tx.views = true
	return nil
}

// Touched yields, for each change of the feed after a number and up to the snapshot,
// the document that it is of, if the caller may read it now.
func (tx *Tx) Touched(after uint64) iter.Seq2[Touched, error] {
	return func(yield func(Touched, error) bool) {
		ids := tx.set.ids()
		f := follower{tx: tx}
		for e, err := range tx.kv.Scan(feedKey(after+1), feedKey(tx.seq+1)) {
			var at place
			var may bool
			if err == nil {
				at, _, err = parseFeedValue(after, e.Value)
			}
			if err == nil {
				may, err = f.passes(at)
			}
			if err == nil && !may {
				continue
			}
			if !yield(Touched{ids[at.coll], at.doc}, err) || err != nil {
				return
			}
		}
	}
}

// Touched names a document that a change is of.
type Touched struct {
	Collection dag.CollectionID
	Doc        dag.DocID
}

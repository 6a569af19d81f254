package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"

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
	names := map[string]bool{}
	var cs []*schema.Collection
	for _, c := range s.All() {
		for _, name := range c.Names() {
			if names[name] {
				return fault.Exists.Errorf("collection already exists. Name: %s: choose another name", name)
			}
			names[name] = true
			cs = append(cs, &schema.Collection{Name: name})
		}
	}
	return schema.CheckTogether(cs)
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
	prefix := collectionPrefix(tableRow, n)
	for e, err := range tx.kv.Scan(prefix, after(prefix)) {
		if err != nil {
			return err
		}
		tx.kv.Delete(bytes.Clone(e.Key))
	}
	tx.kv.Delete(viewKey(name))
	var rest []*member
	for m := range tx.set.members() {
		if m.Name != name {
			rest = append(rest, m)
		}
	}
	tx.set, tx.views = newSet(rest, tx.set.last, tx.set.lost), true
	return nil
}

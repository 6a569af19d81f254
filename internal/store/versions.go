package store

import (
	"bytes"
	"slices"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
)

// Versions returns the versions of a collection that are known, the oldest first.
func (s *Set) Versions(id dag.CollectionID) schema.Lineage {
	m, ok := s.byID[id]
	if !ok {
		return nil
	}
	return m.versions
}

// AllVersions returns the versions of all collections, by name, of each the oldest
// first: as it is used, or else as one that is not.
func (s *Set) AllVersions() []*schema.Collection {
	var all []*schema.Collection
	for _, c := range s.list {
		for _, v := range s.byID[c.ID].versions {
			if v.Version != c.Version {
				v, _ = s.byID[c.ID].versions.Inactive(v.Version)
			} else {
				v = c
			}
			all = append(all, v)
		}
	}
	return all
}

// Version returns the collection that has a version, and that version as it is used,
// or else as one that is not.
func (s *Set) Version(v dag.Digest) (*schema.Collection, bool) {
	for m := range s.members() {
		if m.View == nil && m.Version == v {
			return m.Collection, true
		}
		if c, ok := m.versions.Inactive(v); ok {
			return c, true
		}
	}
	return nil, false
}

// AddVersions adds versions of collections; all or none. What is known already stays
// as it is. Of a collection that is known the new ones are not used until Activate;
// a new collection starts with the newest before its lineage branches.
func (tx *Tx) AddVersions(versions []*schema.Collection) error {
	if err := tx.writable(); err != nil {
		return err
	}
	var ids []dag.CollectionID
	byID := map[dag.CollectionID][]*schema.Collection{}
	for _, c := range versions {
		if byID[c.ID] == nil {
			ids = append(ids, c.ID)
		}
		byID[c.ID] = append(byID[c.ID], c)
	}
	var fresh []*schema.Collection
	lineages := map[dag.CollectionID]schema.Lineage{}
	for _, id := range ids {
		m, known := tx.set.byID[id]
		all := byID[id]
		if known {
			all = append(slices.Clone(all), m.versions...)
		}
		l, err := schema.NewLineage(all)
		if err != nil {
			return err
		}
		if known {
			if err := tx.setVersions(m, l, m.Version); err != nil {
				return err
			}
			continue
		}
		var failed error
		c, _ := l.Active(l.Undisputed().Version, tx.s.modules.in(tx.kv, &failed))
		if failed != nil {
			return failed
		}
		fresh, lineages[id] = append(fresh, c), l
	}
	if len(fresh) == 0 {
		return nil
	}
	return tx.addCollections(fresh, lineages)
}

// Activate makes a version the one that is used for its collection.
func (tx *Tx) Activate(v dag.Digest) error {
	if err := tx.writable(); err != nil {
		return err
	}
	for m := range tx.set.members() {
		if _, ok := m.versions.Version(v); ok {
			return tx.setVersions(m, m.versions, v)
		}
	}
	return fault.NotFound.Errorf("schema version %s is unknown: list the versions that there are with 'pando schema versions'", v)
}

// setVersions gives a collection its versions, and says which is used.
func (tx *Tx) setVersions(m *member, l schema.Lineage, active dag.Digest) error {
	if len(l) == len(m.versions) && m.Version == active {
		return nil // versions are only added
	}
	return tx.putVersions(m, l, active)
}

func (tx *Tx) putVersions(m *member, l schema.Lineage, active dag.Digest) error {
	var failed error
	c, ok := l.Active(active, tx.s.modules.in(tx.kv, &failed))
	if failed != nil {
		return failed
	}
	if !ok {
		return fault.NotFound.Errorf("schema version %s is unknown", active)
	}
	next := m.as(c.WithIndexesOf(m.Collection))
	next.versions = l
	set := tx.set.replaced(next)
	for _, x := range m.indexes {
		// Nobody keeps the entries while its fields are not there, and those of what
		// readers saw before are none of what they see now.
		if !slices.ContainsFunc(next.indexes, func(o *secondary) bool { return o.ID == x.ID && bytes.Equal(o.form, x.form) }) {
			tx.dropped = append(tx.dropped, x.prefix)
		}
	}
	for _, v := range l {
		if _, ok := m.versions.Version(v.Version); !ok {
			tx.kv.Set(globalKey(globalVersion, v.Version[:]...), v.Encode())
		}
	}
	return tx.become(set)
}

// replaced returns a set in which a member is another.
func (s *Set) replaced(next *member) *Set {
	ms := slices.Collect(s.members())
	for i, m := range ms {
		if m.ID == next.ID {
			ms[i] = next
		}
	}
	return newSet(ms, s.last, s.lost)
}

// become makes a set that of the transaction, and writes what is stored of the
// collections that are new or others now: some only because of those that their
// relations lead to.
func (tx *Tx) become(set *Set) error {
	for m := range set.members() {
		if m.View != nil || tx.set.byID[m.ID] == m {
			continue
		}
		entry, err := m.entry()
		if err != nil {
			return fault.Invalid.Errorf("collection %s: %w", m.Name, err)
		}
		tx.kv.Set(globalKey(globalActive, m.ID[:]...), entry)
		tx.added = append(tx.added, m)
	}
	tx.set = set
	return nil
}

// loadVersions reads all schema versions, by collection. What damage made
// unreadable is left out: a peer sends it again.
func loadVersions(r reader) (map[dag.CollectionID][]*schema.Collection, error) {
	all := map[dag.CollectionID][]*schema.Collection{}
	prefix := globalKey(globalVersion)
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return nil, err
		}
		if c, err := schema.Decode(bytes.Clone(e.Value)); err == nil {
			all[c.ID] = append(all[c.ID], c)
		}
	}
	return all, nil
}

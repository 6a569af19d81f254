package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"iter"
	"slices"
	"strings"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
)

// Set is an immutable snapshot of the collections of a database. A change of the
// schema makes a new Set; the pointer can therefore key whatever is derived of it.
type Set struct {
	list   []*schema.Collection // by name, without views
	views  []*schema.Collection // by name
	byName map[string]*schema.Collection
	byID   map[dag.CollectionID]*member
	last   short
	lost   map[dag.CollectionID]short // documents are here, the schema is not
	// indexes of the collections that have some; those of a collection are in the
	// order of its description.
	indexes map[short][]*secondary
	rules   map[short]*acp.Rules // of the collections that have a policy
}

// member is a collection of a set: the version of it that is used.
type member struct {
	*schema.Collection
	short    short
	indexes  []*secondary
	versions schema.Lineage // all that are known
}

func newSet(ms []*member, last short, lost map[dag.CollectionID]short) *Set {
	s := &Set{
		byName: make(map[string]*schema.Collection, len(ms)), byID: make(map[dag.CollectionID]*member, len(ms)),
		list: make([]*schema.Collection, 0, len(ms)), last: last, lost: lost,
		indexes: make(map[short][]*secondary, len(ms)), rules: map[short]*acp.Rules{},
	}
	for _, m := range ms {
		s.byName[m.Name] = m.Collection
	}
	for _, m := range ms {
		m = m.indexed(s.Collection)
		s.byName[m.Name] = m.Collection
		s.byID[m.ID] = m
		if m.View != nil {
			s.views = append(s.views, m.Collection)
			continue
		}
		s.list = append(s.list, m.Collection)
		if len(m.indexes) > 0 {
			s.indexes[m.short] = m.indexes
		}
		if rules := m.Access(); rules != nil {
			s.rules[m.short] = rules
		}
	}
	slices.SortFunc(s.views, func(a, b *schema.Collection) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.list, func(a, b *schema.Collection) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// Collections returns the collections in the order of their names.
func (s *Set) Collections() []*schema.Collection { return slices.Clone(s.list) }

// Collection returns the collection of that name.
func (s *Set) Collection(name string) (*schema.Collection, bool) {
	c, ok := s.byName[name]
	if !ok || c.View != nil {
		return nil, false
	}
	return c, true
}

// ByID returns the collection of that ID.
func (s *Set) ByID(id dag.CollectionID) (*schema.Collection, bool) {
	m, ok := s.byID[id]
	if !ok || m.View != nil {
		return nil, false
	}
	return m.Collection, true
}

// short returns the number of a collection. Views have no commits, whatever peers ask.
func (s *Set) short(id dag.CollectionID) (short, bool) {
	m, ok := s.byID[id]
	if !ok || m.View != nil {
		return 0, false
	}
	return m.short, true
}

// members yields collections and views.
func (s *Set) members() iter.Seq[*member] {
	return func(yield func(*member) bool) {
		for _, c := range slices.Concat(s.list, s.views) {
			if !yield(s.byID[c.ID]) {
				return
			}
		}
	}
}

// ids returns the collections by their numbers.
func (s *Set) ids() map[short]dag.CollectionID {
	ids := make(map[short]dag.CollectionID, len(s.byID))
	for id, m := range s.byID {
		ids[m.short] = id
	}
	return ids
}

// with returns a set that also holds cs. It refuses a name or an ID that is taken.
func (s *Set) with(cs []*schema.Collection) (*Set, []*member, error) {
	ms := slices.Collect(s.members())
	last := s.last
	names := map[string]bool{}
	var added []*member
	for _, c := range cs {
		if old, ok := s.byName[c.Name]; ok || names[c.Name] {
			if ok && old.ID != c.ID {
				return nil, nil, fault.Exists.Errorf("collection %s already exists with another definition (%s, not %s): use another name, or the same definition on every node", c.Name, old.ID, c.ID)
			}
			return nil, nil, fault.Exists.Errorf("collection already exists. Name: %s", c.Name)
		}
		names[c.Name] = true
		n, ok := s.lost[c.ID]
		if !ok {
			last++
			n = last
		}
		m := &member{Collection: c, short: n, versions: schema.Lineage{c}}
		ms, added = append(ms, m), append(added, m)
	}
	next := newSet(ms, last, s.lost)
	if err := next.checkNames(); err != nil {
		return nil, nil, err
	}
	for i, m := range added {
		added[i] = next.byID[m.ID]
		if _, lost := s.lost[m.ID]; !lost {
			for _, x := range added[i].indexes {
				x.ready = true // there are no documents
			}
		}
	}
	return next, added, nil
}

// changed returns a set in which the collection of c's ID is c.
func (s *Set) changed(c *schema.Collection) *Set {
	ms := slices.Collect(s.members())
	for i, m := range ms {
		if m.ID == c.ID {
			ms[i] = &member{c, m.short, m.indexes, m.versions}
		}
	}
	return newSet(ms, s.last, s.lost)
}

// indexed returns the member with the indexes that relations have by themselves,
// and all of them prepared.
func (m *member) indexed(others func(string) (*schema.Collection, bool)) *member {
	c := m.WithRelationIndexes(others)
	if c == m.Collection && len(m.indexes) == len(c.Indexes) {
		return m
	}
	return m.as(c)
}

// as returns the member with another version of the collection, or other indexes,
// prepared. What is built stays so where its entries are the same.
func (m *member) as(c *schema.Collection) *member {
	next := &member{Collection: c, short: m.short, versions: m.versions}
	for _, ix := range c.Indexes {
		x := newSecondary(c, m.short, ix)
		if x == nil {
			continue
		}
		if i := slices.IndexFunc(m.indexes, func(o *secondary) bool { return o.ID == ix.ID }); i >= 0 {
			x.ready = m.indexes[i].ready && bytes.Equal(m.indexes[i].form, x.form)
		}
		next.indexes = append(next.indexes, x)
	}
	return next
}

// entry is what is stored of a collection: its short number, the digest of its
// active version, and as JSON the indexes, which are a matter of this node.
func (m *member) entry() ([]byte, error) {
	b := binary.BigEndian.AppendUint32(nil, uint32(m.short))
	b = append(b, m.Version[:]...)
	indexes, err := json.Marshal(slices.Concat(m.Indexes, m.Dormant()))
	return append(b, indexes...), err
}

// parseEntry returns the short number, the version and the indexes.
func parseEntry(v []byte) (n short, version dag.Digest, indexes []schema.Index, err error) {
	if len(v) < 4+32 {
		return 0, version, nil, fault.Corrupt.Errorf("%d bytes", len(v))
	}
	n = short(binary.BigEndian.Uint32(v))
	copy(version[:], v[4:])
	return n, version, indexes, json.Unmarshal(v[4+32:], &indexes)
}

// loadSet reads the collections from the key space. Their modules are bound to run.
func loadSet(r reader, run *modules) (*Set, error) {
	var ms []*member
	var last short
	versions, err := loadVersions(r)
	if err != nil {
		return nil, err
	}
	prefix := globalKey(globalActive)
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return nil, err
		}
		m := &member{}
		var version dag.Digest
		var indexes []schema.Index
		if m.short, version, indexes, err = parseEntry(e.Value); err != nil {
			return nil, fault.Corrupt.Errorf("entry of a collection: %w: the directory is damaged, restore it or sync a new one from a peer", err)
		}
		if m.Collection, err = loadVersion(r, version, indexes); err != nil {
			return nil, err
		}
		m.versions = schema.Salvage(versions[m.ID], version)
		if c, ok := m.versions.Active(version, run.in(r, &err)); ok {
			m.Collection = c.WithIndexesOf(m.Collection)
		}
		if err != nil {
			return nil, err
		}
		last = max(last, m.short)
		ms = append(ms, m)
	}
	lost, err := loadLost(r)
	if err != nil {
		return nil, err
	}
	for _, n := range lost {
		last = max(last, n)
	}
	views, err := loadViews(r)
	if err != nil {
		return nil, err
	}
	for _, m := range views {
		last = max(last, m.short)
	}
	set := newSet(append(ms, views...), last, lost)
	for _, xs := range set.indexes {
		for _, x := range xs {
			b, err := x.built(r)
			if err != nil {
				return nil, err
			}
			x.ready = b.ready
		}
	}
	return set, nil
}

func loadVersion(r reader, version dag.Digest, indexes []schema.Index) (*schema.Collection, error) {
	raw, ok, err := r.Get(globalKey(globalVersion, version[:]...))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fault.Corrupt.Errorf("schema version %s is missing: the directory is damaged, restore it or sync a new one from a peer", version)
	}
	c, err := schema.Decode(bytes.Clone(raw))
	if err != nil {
		return nil, fault.Corrupt.Errorf("schema version %s: %w", version, err)
	}
	return c.WithIndexesOf(&schema.Collection{Indexes: indexes}), nil
}

// reader is what a snapshot and a transaction have in common.
type reader interface {
	Get(key []byte) ([]byte, bool, error)
	Scan(lo, hi []byte) iter.Seq2[kv.Entry, error]
}

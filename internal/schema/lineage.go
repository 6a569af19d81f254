package schema

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// Limits of one lineage: it is in memory, and travels in one message whenever two
// nodes know different versions.
const (
	MaxVersions = 256
	MaxLineage  = 480 << 10 // bytes of all versions together
)

// Lineage is the versions of one collection that a node knows, each with those it
// follows from: the oldest first, and in the same order on every node that knows
// the same ones.
type Lineage []*Collection

// NewLineage puts versions of one collection in order. It refuses one whose
// predecessor is not among them, or that cannot follow it.
func NewLineage(versions []*Collection) (Lineage, error) {
	byVersion := make(map[dag.Digest]*Collection, len(versions))
	size := 0
	for _, c := range versions {
		if byVersion[c.Version] == nil {
			size += len(c.encoded)
		}
		byVersion[c.Version] = c
	}
	if len(byVersion) > MaxVersions {
		return nil, fault.TooLarge.Errorf("collection %s has %d versions, more than %d: start a new collection", versions[0].Name, len(byVersion), MaxVersions)
	}
	if size > MaxLineage {
		return nil, fault.TooLarge.Errorf("the versions of collection %s have %d bytes, more than %d: start a new collection", versions[0].Name, size, MaxLineage)
	}
	depth := make(map[dag.Digest]int, len(versions))
	var depthOf func(c *Collection) (int, error) // digests chain, so there are no circles
	depthOf = func(c *Collection) (int, error) {
		if n, ok := depth[c.Version]; ok || c.isFirst() {
			return n, nil
		}
		prev := byVersion[c.Previous]
		if prev == nil {
			return 0, fault.Invalid.Errorf("version %s of %s follows %s, which is unknown: send all versions, the oldest first", c.Version, c.Name, c.Previous)
		}
		if err := c.Follows(prev); err != nil {
			return 0, err
		}
		n, err := depthOf(prev)
		depth[c.Version] = n + 1
		return n + 1, err
	}
	l := make(Lineage, 0, len(byVersion))
	for _, c := range byVersion {
		if _, err := depthOf(c); err != nil {
			return nil, err
		}
		l = append(l, c)
	}
	slices.SortFunc(l, func(a, b *Collection) int {
		if d := depth[a.Version] - depth[b.Version]; d != 0 {
			return d
		}
		return bytes.Compare(a.Version[:], b.Version[:])
	})
	return l, nil
}

// Salvage puts in order what is left of the versions of a collection: those whose
// predecessors are there, and the active one by itself if its are not.
func Salvage(versions []*Collection, active dag.Digest) Lineage {
	var whole []*Collection
	left := slices.Clone(versions)
	for grown := true; grown; {
		grown = false
		left = slices.DeleteFunc(left, func(c *Collection) bool {
			i := slices.IndexFunc(whole, func(p *Collection) bool { return p.Version == c.Previous })
			if !c.isFirst() && (i < 0 || c.Follows(whole[i]) != nil) {
				return false
			}
			whole, grown = append(whole, c), true
			return true
		})
	}
	l, err := NewLineage(whole)
	if err != nil {
		l = nil // there are more than there can be
	}
	if _, ok := l.Version(active); !ok {
		if i := slices.IndexFunc(versions, func(c *Collection) bool { return c.Version == active }); i >= 0 {
			l = append(l, versions[i])
		}
	}
	return l
}

// Version returns the version of that digest.
func (l Lineage) Version(v dag.Digest) (*Collection, bool) {
	i := slices.IndexFunc(l, func(c *Collection) bool { return c.Version == v })
	if i < 0 {
		return nil, false
	}
	return l[i], true
}

// Undisputed returns the version that a node starts with which has chosen none: the
// newest before the lineage branches.
func (l Lineage) Undisputed() *Collection {
	at := l[0]
	for {
		next := l.after(at)
		if len(next) != 1 {
			return at
		}
		at = next[0]
	}
}

func (l Lineage) after(c *Collection) []*Collection {
	var next []*Collection
	for _, n := range l {
		if n.Previous == c.Version {
			next = append(next, n)
		}
	}
	return next
}

// Active returns the version with its fields as its readers see them beside the
// other versions of the lineage: those that rules lead to and from are derived, and
// those that modules make which are running here; nil if none are.
func (l Lineage) Active(v dag.Digest, running Running) (*Collection, bool) {
	c, ok := l.Version(v)
	if !ok {
		return nil, false
	}
	seen := *c
	seen.Indexes, seen.lineage = nil, l
	if !slices.ContainsFunc(l, func(c *Collection) bool { return len(c.Rules) > 0 || c.Lens != "" }) {
		return &seen, true
	}
	seen.Fields = slices.Clone(c.Fields)
	w := newWalk(l, running)
	for i := range seen.Fields {
		f := &seen.Fields[i]
		if f.IsVirtual() || f.IsCounter() {
			continue
		}
		w.budget = maxTerms
		if t := w.term(c, f.Cell(), dag.Digest{}, nil); !t.plain() {
			form := sha256.Sum256(t.append(nil))
			f.derive, f.reading, f.made = t.value, string(form[:]), t.passes()
		}
	}
	return &seen, true
}

// Inactive returns the version as one that is described but not used.
func (l Lineage) Inactive(v dag.Digest) (*Collection, bool) {
	c, ok := l.Version(v)
	if !ok {
		return nil, false
	}
	shown := *c
	shown.inactive, shown.lineage = true, l
	return &shown, true
}

// FieldName returns the name of the stored field of that number, in this version or
// in the newest that has one.
func (c *Collection) FieldName(id crdt.FieldID) (string, bool) {
	if f, ok := c.FieldByID(id); ok {
		return f.Name, true
	}
	for _, v := range slices.Backward(c.lineage) {
		if f, ok := v.FieldByID(id); ok {
			return f.Name, true
		}
	}
	return "", false
}

// WithIndexesOf returns the collection with the indexes that another version of it
// has. Those on fields that this version lacks are kept for when it has them again.
func (c *Collection) WithIndexesOf(old *Collection) *Collection {
	next := *c
	next.Indexes, next.dormant, next.lastIndex = nil, nil, old.lastIndex
	for _, ix := range slices.Concat(old.Indexes, old.dormant) {
		one, _, err := next.WithIndex(c.translated(ix, old))
		switch {
		case err == nil:
			next = *one
		case !ix.Automatic:
			next.dormant = append(next.dormant, ix)
			next.lastIndex = max(next.lastIndex, ix.ID)
		}
	}
	return &next
}

// translated returns an index of another version with the fields under their names
// in this one.
func (c *Collection) translated(ix Index, old *Collection) Index {
	ix.Fields = slices.Clone(ix.Fields)
	for i := range ix.Fields {
		f, ok := old.Field(ix.Fields[i].Name)
		if !ok {
			continue
		}
		if g, ok := c.FieldByID(f.ID); ok {
			ix.Fields[i].Name = g.Name
		}
	}
	return ix
}

// Dormant returns the indexes on fields that this version lacks.
func (c *Collection) Dormant() []Index { return c.dormant }

// IsActive reports whether the version is the one that is used for its name.
func (c *Collection) IsActive() bool { return !c.inactive }

// AddedField returns the number of a field that a later version adds. It follows
// from what the field is, so that nodes which add the same field apart write to the
// same cell.
func AddedField(coll dag.CollectionID, name string, kind crdt.Kind, target string) crdt.FieldID {
	b := cbor.AppendArray([]byte(fieldDomain), 4)
	b = cbor.AppendBytes(b, coll[:])
	b = cbor.AppendText(b, name)
	b = cbor.AppendUint(b, uint64(kind))
	b = appendOptional(b, target)
	sum := sha256.Sum256(b)
	return crdt.FieldID(binary.BigEndian.Uint32(sum[:]) | addedFields)
}

const (
	fieldDomain = "pando/1 field\n"
	addedFields = 1 << 31 // added fields are above, those of first versions below
)

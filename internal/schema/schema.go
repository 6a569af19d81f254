// Package schema turns GraphQL type definitions into collections and back, and
// the values that people write into deltas.
//
// A collection is the same on every node that holds it: its digest does not
// depend on the order in which types or fields were declared, on spelling that
// means the same, or on what concerns one node only, such as indexes. The rest of
// Pando sees collections and fields, never the GraphQL parser.
package schema

import (
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/value"
)

// Collection is one version of a collection: immutable, content-addressed.
type Collection struct {
	Name     string
	ID       dag.CollectionID // digest of the first version of the lineage
	Version  dag.Digest       // digest of this version
	Previous dag.Digest       // zero for a first version
	Mode     dag.Mode
	Keys     []crdt.FieldID // ModeKeyed: the fields of the natural key, in order
	Fields   []Field        // sorted by name
	Policy   *Policy        // who may do what with the documents; nil: everybody everything
	Shards   int            // topics in which changes are told, a power of two; 0: one
	Rules    []Rule         // how the fields of the previous version show in these, and back
	Lens     string         // the LensRule of modules that do it where no rule can; "" if none
	// Indexes concern this node only: they are no part of Encode or the digest.
	Indexes []Index
	// View is what makes the collection a view; nil for one that holds documents.
	View *View

	lastIndex uint32 // highest ID that an index had

	dormant  []Index        // on fields that only other versions have
	byName   map[string]int // places in Fields, also of the id forms of relations
	encoded  []byte
	inactive bool    // another version of the collection is the one that is used
	lineage  Lineage // the versions that are known beside this one; nil: none
}

// Field is one declared field.
type Field struct {
	Name     string
	ID       crdt.FieldID // 0 for a virtual field
	Type     value.Type   // of a relation TypeRef, as a list if it has many
	Rule     crdt.Rule    // 0 for a virtual field
	NonNull  bool
	Target   string // of a relation: the name of the other collection
	Relation string // of a relation: its name; both sides carry the same
	Default  *value.Value
	Size     int // of a list: its exact length, 0 if free
	// Embedded is the type of the objects in a field of a view, nil for other
	// fields; EmbeddedList says that there is a list of them. They are stored as JSON.
	Embedded     *Embedded
	EmbeddedList bool

	derive  func(crdt.Document) (value.Value, error) // nil: the field shows its own cell
	reading string                                   // what derive depends on
	made    bool                                     // modules are part of that
}

// Limits of one collection. They keep a document within the 4,096 operations and
// a version within the size of one message, on every node alike.
const (
	MaxFields   = 1024
	MaxKeys     = 16
	MaxName     = 128     // bytes of the name of a type, field, relation or index
	MaxListSize = 1 << 16 // of a size constraint
	MaxShards   = 256     // a node follows 1,000 topics in all
	MaxEncoded  = 256 << 10
)

// Kind returns what operations on the field say of themselves.
func (f *Field) Kind() crdt.Kind { return crdt.KindOf(f.Rule, f.Type) }

// IsRelation reports whether the field leads to documents of a collection.
func (f *Field) IsRelation() bool { return f.Target != "" }

// IsVirtual reports whether the field stores nothing: it is the side of a
// relation that is found through the docIDs which the other side stores.
func (f *Field) IsVirtual() bool { return f.ID == 0 }

// IsCounter reports whether what is written to the field is added to it.
func (f *Field) IsCounter() bool { return f.Rule == crdt.PCounter || f.Rule == crdt.PNCounter }

// IDName returns the name under which a single relation is read and written as a
// docID, such as author_id, and "" for any other field.
func (f *Field) IDName() string {
	if !f.IsRelation() || f.Type.IsList() {
		return ""
	}
	return f.Name + "_id"
}

// TypeName returns the type of the field as SDL spells it.
func (f *Field) TypeName() string {
	name := f.Type.String()
	if f.Embedded != nil {
		return f.embeddedName()
	}
	if f.IsRelation() {
		name = f.Target
		if f.Type.IsList() {
			name = "[" + name + "]"
		}
	}
	if f.NonNull {
		name += "!"
	}
	return name
}

// Field returns the field of that name. The id form of a relation is not a field:
// see Relation.
func (c *Collection) Field(name string) (*Field, bool) {
	i, ok := c.byName[name]
	if !ok || c.Fields[i].Name != name {
		return nil, false
	}
	return &c.Fields[i], true
}

// FieldByID returns the stored field of that number.
func (c *Collection) FieldByID(id crdt.FieldID) (*Field, bool) {
	if id == 0 {
		return nil, false
	}
	for i := range c.Fields {
		if c.Fields[i].ID == id {
			return &c.Fields[i], true
		}
	}
	return nil, false
}

// Relation returns the single relation whose id form is name: author for
// author_id, and for _authorID, as a later dialect spells it.
func (c *Collection) Relation(idName string) (*Field, bool) {
	i, ok := c.byName[idName]
	if !ok || c.Fields[i].Name == idName {
		return nil, false
	}
	return &c.Fields[i], true
}

// Opposite returns the field of other that is the back side of the relation f of
// c, if it has one.
func (c *Collection) Opposite(f *Field, other *Collection) (*Field, bool) {
	for i := range other.Fields {
		g := &other.Fields[i]
		if g.Target == c.Name && g.Relation == f.Relation && other.Name == f.Target && g.IsVirtual() != f.IsVirtual() {
			return g, true
		}
	}
	return nil, false
}

// KeyFields returns the fields of the natural key in the order of Keys.
func (c *Collection) KeyFields() []*Field {
	var fs []*Field
	for _, id := range c.Keys {
		if f, ok := c.FieldByID(id); ok {
			fs = append(fs, f)
		}
	}
	return fs
}

func (c *Collection) isKey(f *Field) bool {
	for _, id := range c.Keys {
		if f.ID == id {
			return true
		}
	}
	return false
}

// lookUp fills byName, which the lookups need.
func (c *Collection) lookUp() {
	c.byName = make(map[string]int, 2*len(c.Fields))
	for i := range c.Fields {
		f := &c.Fields[i]
		c.byName[f.Name] = i
		if id := f.IDName(); id != "" {
			c.byName[id] = i
			c.byName["_"+f.Name+"ID"] = i
		}
	}
}

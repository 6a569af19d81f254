// Package schema turns GraphQL type definitions into collections and back, and
// the values that people write into deltas.
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
	Fields   []Field        // in order of declaration
}

// Field is one declared field.
type Field struct {
	Name     string
	ID       crdt.FieldID // 0 for a virtual field: the list side of a relation
	Type     value.Type
	Rule     crdt.Rule
	NonNull  bool
	Target   string // of a relation: the name of the other collection
	Relation string // of a relation: its name; both sides carry the same
	Default  *value.Value
	Size     int // of a list: its exact length, 0 if free
}

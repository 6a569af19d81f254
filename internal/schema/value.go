package schema

import (
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/value"
)

// Value returns what readers of this version of the collection see in the field,
// Null if there is nothing. Whoever shows, compares or indexes a field asks here.
func (f *Field) Value(d crdt.Document) value.Value {
	v, _ := f.Read(d)
	return v
}

// Read returns the Value, and an error if it takes modules that cannot run here.
func (f *Field) Read(d crdt.Document) (value.Value, error) {
	if f.derive != nil {
		return f.derive(d)
	}
	v, _ := d.Value(f.ID, f.Kind())
	return v, nil
}

// hasFallback reports whether something shows in the field where nothing was written.
// It follows from the version and those before it: what is created names the
// document, and that must not depend on which other versions a node knows.
func (c *Collection) hasFallback(f *Field) bool {
	for v, ok := c, true; ok; v, ok = c.lineage.Version(v.Previous) {
		for i := range v.Rules {
			if r := &v.Rules[i]; r.Op == OpDefault && r.To[0] == f.Cell() {
				return true
			}
		}
		if !v.hasCell(f.Cell()) {
			return false
		}
	}
	return false
}

// IsDerived reports whether the field can have a value that is not written in its
// own cell: Value is the only way to read it. The cell of any other field can be
// read directly, where a call matters.
func (f *Field) IsDerived() bool { return f.derive != nil }

// Reading tells apart the ways in which a field is derived: with the same number,
// kind and Reading, Value is the same of every document.
func (f *Field) Reading() string { return f.reading }

// IsMade reports whether modules make what the field shows, in some documents. Such
// a field has no index: who writes, or merges what peers wrote, runs no module.
func (f *Field) IsMade() bool { return f.made }

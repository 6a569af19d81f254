package schema

import (
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/value"
)

// Value returns what readers of this version of the collection see in the field,
// Null if there is nothing. Whoever shows, compares or indexes a field asks here.
func (f *Field) Value(d crdt.Document) value.Value {
	if f.derive != nil {
		return f.derive(d)
	}
	v, _ := d.Value(f.ID, f.Kind())
	return v
}

// IsDerived reports whether the field can have a value that is not written in its
// own cell: Value is the only way to read it. The cell of any other field can be
// read directly, where a call matters.
func (f *Field) IsDerived() bool { return f.derive != nil }

// Reading tells apart the ways in which a field is derived: with the same number,
// kind and Reading, Value is the same of every document.
func (f *Field) Reading() string { return f.reading }

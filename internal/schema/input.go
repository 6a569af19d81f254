package schema

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// Input is one field as somebody wrote it.
type Input struct {
	Name string
	Val  value.Value
}

// InputsOf returns the members of a JSON object as inputs.
func InputsOf(v value.Value) ([]Input, error) {
	if v.Kind() != value.Map {
		return nil, fault.Invalid.Errorf("a document is an object like {\"name\": \"Ada\"}: give one")
	}
	in := make([]Input, 0, v.Len())
	for name, val := range v.Members() {
		in = append(in, Input{name, val})
	}
	return in, nil
}

// Create returns what a new document with these fields is written as, sorted by
// field. Fields that are not mentioned get their default; an explicit null stays
// null, and null is written by not writing, unless something else would show then.
func (c *Collection) Create(in []Input) ([]crdt.Delta, error) {
	given, err := c.take(in)
	if err != nil {
		return nil, err
	}
	ds := make([]crdt.Delta, 0, len(c.Fields))
	for i := range c.Fields {
		f := &c.Fields[i]
		if f.IsVirtual() {
			continue
		}
		v := given[i].val
		switch {
		case !given[i].ok && f.Default != nil:
			v = *f.Default
		case v.IsNull() && f.NonNull:
			return nil, fault.Invalid.Errorf("%s.%s: a value is required: the field is %s", c.Name, f.Name, f.TypeName())
		case v.IsNull() && !(given[i].ok && c.hasFallback(f)):
			continue
		}
		d, err := f.delta(v)
		if err != nil {
			return nil, fmt.Errorf("%s.%w", c.Name, err)
		}
		ds = append(ds, d)
	}
	sortDeltas(ds)
	return ds, nil
}

// Update returns what changing these fields of current is written as, sorted by
// field: nothing for a field that already has the value. What is given for a
// counter is added to it, and null adds nothing.
func (c *Collection) Update(current crdt.Document, in []Input) ([]crdt.Delta, error) {
	given, err := c.take(in)
	if err != nil {
		return nil, err
	}
	var ds []crdt.Delta
	for i := range given {
		if !given[i].ok {
			continue
		}
		d, changed, err := c.change(current, &c.Fields[i], given[i].val)
		if err != nil {
			return nil, fmt.Errorf("%s.%w", c.Name, err)
		}
		if changed {
			ds = append(ds, d)
		}
	}
	boundOver(ds)
	sortDeltas(ds)
	return ds, nil
}

// maxOver is how many values of multi-value registers one change overwrites at most, and
// tagSize what each takes of its commit: half of what that may have. Those that are left
// stand beside the new value, and the next change overwrites them.
const (
	maxOver = 4096
	tagSize = 40
)

// boundOver leaves out values to be overwritten that the commit has no room for.
func boundOver(ds []crdt.Delta) {
	room := dag.MaxEnvelope - 16<<10
	for _, d := range ds {
		room -= len(d.Val.AppendBinary(nil))
	}
	left := min(max(room/tagSize, 0), maxOver)
	for i := range ds {
		ds[i].Over = ds[i].Over[:min(len(ds[i].Over), left)]
		left -= len(ds[i].Over)
	}
}

func (c *Collection) change(current crdt.Document, f *Field, v value.Value) (d crdt.Delta, changed bool, err error) {
	if v.IsNull() && f.NonNull {
		return d, false, fault.Invalid.Errorf("%s: the field is %s and cannot be null", f.Name, f.TypeName())
	}
	if f.IsCounter() {
		if v.IsNull() {
			return d, false, nil
		}
		// Adding nothing is a change only where there was nothing to add to.
		if d, err = f.delta(v); err != nil || !value.Equal(v, value.OfInt(0)) {
			if err == nil && current.Overflows(d) {
				sum, _ := current.Value(f.ID, f.Kind())
				err = fault.Invalid.Errorf("%s: the counter stands at %s, and adding %s would take it beyond what %s holds: add less, or use another field from here on", f.Name, sum, v, f.TypeName())
			}
			return d, err == nil, err
		}
		_, counts := current.Value(f.ID, f.Kind())
		return d, !counts, nil
	}
	old := f.Value(current)
	if same(old, v) && (f.Rule != crdt.MVR || len(current.Conflicts(f.ID, f.Kind())) == 0) {
		return d, false, nil
	}
	if c.isKey(f) {
		return d, false, fault.Invalid.Errorf("%s: the field is part of the key that names the document and cannot change: delete the document and create another", f.Name)
	}
	d, err = f.delta(v)
	if f.Rule == crdt.MVR {
		d.Over = current.Tags(f.ID, f.Kind())
	}
	return d, err == nil, err
}

// same reports whether two values are stored alike; unlike value.Equal it sees
// that an instant is written with another offset.
func same(a, b value.Value) bool {
	var x, y [128]byte
	return bytes.Equal(a.AppendBinary(x[:0]), b.AppendBinary(y[:0]))
}

// slot is what an input gives for one field.
type slot struct {
	val value.Value
	ok  bool // it is mentioned
}

// take finds the field of every input and makes its value one of the field's type.
// The result has a slot for each field of c.
func (c *Collection) take(in []Input) ([]slot, error) {
	given := make([]slot, len(c.Fields))
	for _, input := range in {
		i, err := c.writable(input.Name)
		if err != nil {
			return nil, err
		}
		f := &c.Fields[i]
		v, err := f.coerce(input.Val)
		if err != nil {
			return nil, fmt.Errorf("%s.%w", c.Name, err)
		}
		if given[i].ok && !same(given[i].val, v) {
			return nil, fault.Invalid.Errorf("%s.%s is given twice with different values: give it once, as %s", c.Name, f.Name, input.Name)
		}
		given[i] = slot{v, true}
	}
	return given, nil
}

func (c *Collection) writable(name string) (int, error) {
	i, ok := c.byName[name]
	switch {
	case !ok && name == docIDField:
		return 0, fault.Invalid.Errorf("%s.%s: a docID follows from the document and cannot be chosen: leave it out", c.Name, name)
	case !ok:
		return 0, fault.Invalid.Errorf("the given field does not exist. Name: %s: type %s has no such field: %s", name, c.Name, didYouMean(name, c.inputNames()))
	case c.Fields[i].IsVirtual():
		return 0, fault.Invalid.Errorf("cannot set relation from secondary side. Name: %s: set it in the documents of %s", name, c.Fields[i].Target)
	}
	return i, nil
}

// inputNames are the names that an input can have in both spellings of relations.
func (c *Collection) inputNames() []string {
	names := c.storedNames()
	for _, name := range names {
		if f, _ := c.Field(name); f.IsRelation() {
			names = append(names, f.IDName())
		}
	}
	return names
}

func (f *Field) coerce(loose value.Value) (value.Value, error) {
	v, err := value.Coerce(f.Type, loose)
	if err != nil {
		return v, fault.Invalid.Errorf("%s: %w", f.Name, err)
	}
	if v.IsNull() {
		return v, nil
	}
	if n := len(v.List()); f.Size > 0 && n != f.Size {
		return v, fault.Invalid.Errorf("%s: array size mismatch. Actual: %d, Expected: %d", f.Name, n, f.Size)
	}
	return v, nil
}

// delta writes v, a value of the field's type.
func (f *Field) delta(v value.Value) (crdt.Delta, error) {
	d := crdt.Delta{Field: f.ID, Kind: f.Kind(), Val: v}
	if !f.IsCounter() {
		return d, nil
	}
	if f.Rule == crdt.PCounter && value.Compare(v, value.OfInt(0)) < 0 {
		return d, fault.Invalid.Errorf("%s: value cannot be negative: a pcounter only grows, a pncounter goes both ways", f.Name)
	}
	var err error
	if d.Val, err = crdt.Increment(f.Type, v); err != nil {
		return d, fault.Invalid.Errorf("%s: %w", f.Name, err)
	}
	return d, nil
}

func sortDeltas(ds []crdt.Delta) {
	slices.SortFunc(ds, func(a, b crdt.Delta) int { return int(a.Field) - int(b.Field) })
}

package schema

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// DocIDField is the name under which the docID is read, filtered and indexed.
const DocIDField = docIDField

const docIDField = "_docID"

// maxIndexes bounds what every write of a document has to keep up, besides the
// indexes that relations have by themselves.
const maxIndexes = 64

// Index describes a secondary index. It is a matter of one node: indexes change
// how fast a query is answered, never the answer.
type Index struct {
	Name   string
	ID     uint32 // unique in the collection; 0 asks WithIndex for the next
	Fields []IndexField
	// Unique refuses writes on this node that give a second document the same
	// values, unless one is null. What nodes write apart is kept.
	Unique bool
	// Automatic is the index of a relation that was given none.
	Automatic bool `json:",omitempty"`
}

// IndexField is one column of an index.
type IndexField struct {
	Name       string // of a field, or _docID
	Descending bool
}

// WithIndex returns the collection with one index more, and that index as it was
// completed: with a name and an ID, and relations under their own names.
func (c *Collection) WithIndex(ix Index) (*Collection, Index, error) {
	ix.Fields = slices.Clone(ix.Fields)
	if err := c.completeIndex(&ix); err != nil {
		return nil, Index{}, err
	}
	next := *c
	next.Indexes = append(slices.Clone(c.Indexes), ix)
	next.lastIndex = max(c.lastIndex, ix.ID)
	return &next, ix, nil
}

// WithoutIndex returns the collection without the index of that name.
func (c *Collection) WithoutIndex(name string) (*Collection, error) {
	i := slices.IndexFunc(c.Indexes, func(ix Index) bool { return ix.Name == name })
	if i < 0 {
		return nil, fault.NotFound.Errorf("index with name doesn't exists. Name: %.140s: %s", name, didYouMean(name, c.indexNames()))
	}
	if c.Indexes[i].Automatic {
		return nil, fault.Invalid.Errorf("index %s belongs to the relation %s, which is followed by it: it stays", name, c.Indexes[i].Fields[0].Name)
	}
	next := *c
	next.lastIndex = max(c.lastIndex, c.Indexes[i].ID)
	next.Indexes = slices.Delete(slices.Clone(c.Indexes), i, i+1)
	return &next, nil
}

// WithRelationIndexes returns the collection with an index on each relation that it
// stores: relations are followed from either side. The index on a relation of one to
// one is unique. others finds the collections that relations lead to. If nothing
// changes it returns c itself.
func (c *Collection) WithRelationIndexes(others func(name string) (*Collection, bool)) *Collection {
	next := c
	for i := range c.Fields {
		if f := &c.Fields[i]; f.IsRelation() && !f.IsVirtual() {
			next = next.withRelationIndex(f, next.isOneToOne(f, others))
		}
	}
	return next
}

func (c *Collection) isOneToOne(f *Field, others func(name string) (*Collection, bool)) bool {
	other, ok := others(f.Target)
	if f.Target == c.Name {
		other, ok = c, true
	}
	if !ok {
		return false
	}
	g, ok := c.Opposite(f, other)
	return ok && !g.Type.IsList()
}

func (c *Collection) withRelationIndex(f *Field, unique bool) *Collection {
	mine := func(ix Index) bool { return ix.Fields[0].Name == f.Name }
	own := slices.IndexFunc(c.Indexes, func(ix Index) bool { return mine(ix) && ix.Automatic })
	serves := func(ix Index) bool {
		return mine(ix) && !ix.Automatic && (!unique || ix.Unique && len(ix.Fields) == 1)
	}
	switch {
	case own >= 0 && c.Indexes[own].Unique == unique:
		return c
	case own >= 0:
		next := *c
		next.Indexes = slices.Clone(c.Indexes)
		next.Indexes[own].Unique = unique
		return &next
	case slices.ContainsFunc(c.Indexes, serves):
		return c
	}
	next := *c
	ix := Index{Fields: []IndexField{{Name: f.Name}}, Unique: unique, Automatic: true}
	ix.ID = next.nextIndex()
	ix.Name = next.freeIndexName(f.Name)
	next.lastIndex = ix.ID
	next.Indexes = append(slices.Clone(c.Indexes), ix)
	return &next
}

// nextIndex returns an ID that no index of the collection has, or had since the
// database was opened.
func (c *Collection) nextIndex() uint32 {
	last := c.lastIndex
	for _, ix := range c.Indexes {
		last = max(last, ix.ID)
	}
	return last + 1
}

// IsMultiple reports whether a document can have several entries in an index on the
// field: one for each element of a list, or for each leaf of JSON.
func (f *Field) IsMultiple() bool { return f.Type.IsList() || f.Type == value.TypeJSON }

func (c *Collection) indexNames() []string {
	var names []string
	for _, ix := range c.Indexes {
		names = append(names, ix.Name)
	}
	return names
}

func (c *Collection) completeIndex(ix *Index) error {
	switch {
	case len(ix.Fields) == 0:
		return fault.Invalid.Errorf("index missing fields: name at least one field of %s", c.Name)
	case !ix.Automatic && c.declared() >= maxIndexes:
		return fault.TooLarge.Errorf("type %s has more than %d indexes: drop one", c.Name, maxIndexes)
	}
	for i := range ix.Fields {
		if err := c.completeColumn(ix, i); err != nil {
			return err
		}
	}
	if ix.Name == "" {
		ix.Name = c.freeIndexName(ix.Fields[0].Name)
	}
	if !isName(ix.Name) || len(ix.Name) > 3*MaxName {
		return fault.Invalid.Errorf("index with invalid name. Name: %.140s: use letters, digits and _, no digit first", ix.Name)
	}
	for _, o := range c.Indexes {
		if o.Name == ix.Name {
			return fault.Exists.Errorf("index with name already exists. Name: %s: choose another", ix.Name)
		}
		if ix.ID != 0 && o.ID == ix.ID {
			return fault.Exists.Errorf("index %d already exists under the name %s", ix.ID, o.Name)
		}
	}
	if ix.ID == 0 {
		ix.ID = c.nextIndex()
	}
	return nil
}

// declared returns how many indexes somebody asked for.
func (c *Collection) declared() (n int) {
	for _, ix := range c.Indexes {
		if !ix.Automatic {
			n++
		}
	}
	return n
}

func (c *Collection) completeColumn(ix *Index, i int) error {
	col := &ix.Fields[i]
	if col.Name == "" {
		return fault.Invalid.Errorf("index field missing name: name a field of %s", c.Name)
	}
	if col.Name != docIDField {
		f, ok := c.stored(col.Name)
		if !ok {
			return fault.Invalid.Errorf("creating an index on a non-existing property. Field: %.140s: %s", col.Name, didYouMean(col.Name, c.storedNames()))
		}
		if f.IsMade() {
			return fault.Invalid.Errorf("field %q has no index: what it shows is made by WASM modules, which run for readers only: filter it without, or write the values to a field of their own", f.Name)
		}
		col.Name = f.Name
	}
	if slices.ContainsFunc(ix.Fields[:i], func(o IndexField) bool { return o.Name == col.Name }) {
		return fault.Invalid.Errorf("index on %s names field %q twice: name it once", c.Name, col.Name)
	}
	if other := slices.IndexFunc(ix.Fields[:i], c.isMultiple); other >= 0 && c.isMultiple(*col) {
		return fault.Invalid.Errorf("index on %s: %s and %s both have several entries in each document: only one field of an index can be a list or JSON", c.Name, ix.Fields[other].Name, col.Name)
	}
	return nil
}

func (c *Collection) isMultiple(col IndexField) bool {
	f, ok := c.Field(col.Name)
	return ok && f.IsMultiple()
}

// freeIndexName makes the name that the dialect gives: it says ASC whatever the
// direction.
func (c *Collection) freeIndexName(first string) string {
	if f, ok := c.Field(first); ok && f.IsRelation() {
		first = f.IDName()
	}
	name := fmt.Sprintf("%s_%s_ASC", c.Name, first)
	taken := c.indexNames()
	for n := 2; ; n++ {
		if !slices.Contains(taken, name) {
			return name
		}
		name = fmt.Sprintf("%s_%s_ASC_%d", c.Name, first, n)
	}
}

// setIndexes reads @index: first of the fields, in the order of the text, then of
// the type. IDs and automatic names follow that order.
func (d *draft) setIndexes() error {
	for _, def := range d.def.Fields {
		if err := d.addIndexes(def.Directives, def.Name); err != nil {
			return err
		}
	}
	return d.addIndexes(d.def.Directives, "")
}

func (d *draft) addIndexes(list ast.DirectiveList, field string) error {
	for _, dir := range list.ForNames("index") {
		ix, err := d.index(dir, field)
		if err != nil {
			return err
		}
		next, _, err := d.WithIndex(ix)
		if err != nil {
			return atPos(dir.Position, err)
		}
		d.Indexes = next.Indexes
	}
	return nil
}

func (d *draft) index(dir *ast.Directive, field string) (Index, error) {
	var ix Index
	if v := argument(dir, "name"); v != nil {
		if ix.Name = v.Raw; v.Raw == "" {
			return ix, errorAt(v.Position, "index with invalid name. Name: %q: use letters, digits and _, no digit first, or leave it out", "")
		}
	}
	if v := argument(dir, "unique"); v != nil {
		ix.Unique = v.Raw == "true"
	}
	descending, err := direction(argument(dir, "direction"), false)
	if err != nil {
		return ix, err
	}
	for _, v := range elements(argument(dir, "includes")) {
		col, err := column(v, descending)
		if err != nil {
			return ix, err
		}
		ix.Fields = append(ix.Fields, col)
	}
	if field == "" {
		return ix, nil
	}
	own, ok := d.stored(field)
	if !ok {
		return ix, errorAt(dir.Position, "creating an index on a non-existing property. Field: %s: the side of a relation that stores nothing has nothing to index: put @index on the other side", field)
	}
	if !slices.ContainsFunc(ix.Fields, func(col IndexField) bool { f, ok := d.stored(col.Name); return ok && f == own }) {
		ix.Fields = slices.Insert(ix.Fields, 0, IndexField{own.Name, descending})
	}
	return ix, nil
}

func column(v *ast.Value, descending bool) (IndexField, error) {
	col := IndexField{Descending: descending}
	seen := map[string]bool{}
	for _, c := range v.Children {
		if seen[c.Name] {
			return col, errorAt(c.Position, "@index: %q is there twice in one entry: remove one", c.Name)
		}
		seen[c.Name] = true
		switch c.Name {
		case "field":
			if c.Value.Kind != ast.StringValue {
				return col, errorAt(c.Position, "@index: field takes a string")
			}
			col.Name = c.Value.Raw
		case "direction":
			var err error
			if col.Descending, err = direction(c.Value, descending); err != nil {
				return col, err
			}
		default:
			return col, errorAt(c.Position, "@index: an entry of includes has field and direction, no %s", strconv.Quote(c.Name))
		}
	}
	if col.Name == "" {
		return col, errorAt(v.Position, "index field missing name: write {field: \"…\"}")
	}
	return col, nil
}

func direction(v *ast.Value, otherwise bool) (descending bool, err error) {
	if v == nil || v.Kind == ast.NullValue {
		return otherwise, nil
	}
	if v.Kind == ast.EnumValue && (v.Raw == "ASC" || v.Raw == "DESC") {
		return v.Raw == "DESC", nil
	}
	return false, errorAt(v.Position, "@index: direction is ASC or DESC")
}

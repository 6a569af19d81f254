package schema

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/value"
)

// description is what clients read of a collection version. Its keys are those of
// the dialect; those that mean nothing here keep the value that says so.
type description struct {
	Name             string
	VersionID        string
	CollectionID     string
	Mode             string
	Sources          []source
	Fields           []fieldDescription
	Indexes          []Index
	Policy           *policyDescription
	Shards           int `json:",omitempty"`
	IsActive         bool
	IsMaterialized   bool
	IsBranchable     bool
	IsEmbeddedOnly   bool
	VectorEmbeddings []struct{}
}

// policyDescription names the policy of a collection.
type policyDescription struct {
	ID, ResourceName string
}

type source struct {
	SourceCollectionID string
	Transform          *transform
}

// transform is how documents show in this version and in the one before.
type transform struct {
	Lenses []Lens
	Fields []string    `json:",omitempty"` // that the lenses make, if not all
	Rules  []Migration // with names of both versions
}

type fieldDescription struct {
	Name         string
	FieldID      uint32 // 0 of the docID and of virtual fields
	Kind         any    // the number of the dialect, its object for a relation, or the SDL spelling of what the dialect lacks
	Typ          int
	Type         string // as SDL spells it
	RelationName *string
	IsPrimary    bool
	DefaultValue json.RawMessage
	Size         int
}

type relationKind struct {
	Array bool
	Name  string
}

// MarshalJSON returns the description of the version.
func (c *Collection) MarshalJSON() ([]byte, error) {
	if c.View != nil {
		return c.describeView()
	}
	d := description{
		Name: c.Name, VersionID: c.Version.String(), CollectionID: c.ID.String(),
		Mode: modeNames[c.Mode], Sources: []source{}, Indexes: []Index{}, VectorEmbeddings: []struct{}{},
		Fields:   []fieldDescription{docIDDescription},
		IsActive: !c.inactive, IsMaterialized: true, Shards: c.Shards,
	}
	if !c.isFirst() {
		d.Sources = append(d.Sources, source{c.Previous.String(), c.transform()})
	}
	if c.Policy != nil {
		d.Policy = &policyDescription{ID: c.Policy.ID.String(), ResourceName: c.Policy.Resource}
	}
	for i := range c.Fields {
		d.Fields = append(d.Fields, c.Fields[i].describe()...)
	}
	slices.SortStableFunc(d.Fields[1:], func(a, b fieldDescription) int { return strings.Compare(a.Name, b.Name) })
	for _, ix := range c.Indexes {
		d.Indexes = append(d.Indexes, c.DescribeIndex(ix))
	}
	return json.Marshal(d)
}

func (c *Collection) transform() *transform {
	if len(c.Rules) == 0 && c.Lens == "" {
		return nil
	}
	l, _ := c.LensRule()
	t := &transform{Lenses: append([]Lens{}, l.Lenses...), Fields: l.Fields, Rules: []Migration{}}
	prev, _ := c.lineage.Version(c.Previous)
	for i := range c.Rules {
		r := &c.Rules[i]
		m := Migration{Do: r.Op.String(), From: cellNames(prev, r.From), To: cellNames(c, r.To), Separator: r.Separator}
		if r.Value != nil {
			m.Value = r.Value.AppendJSON(nil)
		}
		t.Rules = append(t.Rules, m)
	}
	return t
}

// cellNames returns the names of fields, and the numbers of those that are unknown.
func cellNames(c *Collection, cells []Cell) Names {
	var names Names
	for _, cell := range cells {
		name := "#" + strconv.FormatUint(uint64(cell.ID), 10)
		if c != nil {
			if f, ok := c.FieldByID(cell.ID); ok {
				name = f.Name
			}
		}
		names = append(names, name)
	}
	return names
}

var docIDDescription = fieldDescription{Name: docIDField, Kind: 1, Type: "ID!"}

// DescribeIndex returns the index with relations under the names of what they store.
func (c *Collection) DescribeIndex(ix Index) Index {
	ix.Fields = slices.Clone(ix.Fields)
	for i := range ix.Fields {
		if f, ok := c.Field(ix.Fields[i].Name); ok && f.IsRelation() {
			ix.Fields[i].Name = f.IDName()
		}
	}
	return ix
}

// describe returns the entry of the field, and that of the id form of a relation.
func (f *Field) describe() []fieldDescription {
	d := fieldDescription{
		Name: f.Name, FieldID: uint32(f.ID), Kind: kindNumber(f.Type), Typ: typNumber(f.Rule),
		Type: f.TypeName(), Size: f.Size, DefaultValue: json.RawMessage("null"),
	}
	if f.Default != nil {
		d.DefaultValue = f.Default.AppendJSON(nil)
	}
	if !f.IsRelation() {
		return []fieldDescription{d}
	}
	d.Kind, d.RelationName, d.IsPrimary = relationKind{f.Type.IsList(), f.Target}, &f.Relation, !f.IsVirtual()
	if f.Type.IsList() {
		return []fieldDescription{d}
	}
	id := d
	id.Name, id.Kind, id.Type = f.IDName(), 1, "ID"
	if f.NonNull {
		id.Type = "ID!"
	}
	return []fieldDescription{d, id}
}

// typNumber is the number that the dialect gives a rule.
func typNumber(r crdt.Rule) int {
	switch r {
	case crdt.LWW:
		return 1
	case crdt.PNCounter:
		return 4
	case crdt.PCounter:
		return 5
	case crdt.MVR:
		return 6 // not in the dialect
	}
	return 0
}

// kindNumber is the number that the dialect gives a type, or the spelling of a
// type that it does not have.
func kindNumber(t value.Type) any {
	switch t {
	case value.TypeID:
		return 1
	case value.TypeBoolean:
		return 2
	case value.TypeBoolean | value.ListOf:
		return 3
	case value.TypeInt:
		return 4
	case value.TypeInt | value.ListOf:
		return 5
	case value.TypeFloat64:
		return 6
	case value.TypeFloat64 | value.ListOf:
		return 7
	case value.TypeFloat32:
		return 8
	case value.TypeFloat32 | value.ListOf:
		return 9
	case value.TypeDateTime:
		return 10
	case value.TypeString:
		return 11
	case value.TypeString | value.ListOf:
		return 12
	case value.TypeBlob:
		return 13
	case value.TypeJSON:
		return 14
	case value.TypeBoolean | value.ListOfNullable:
		return 18
	case value.TypeInt | value.ListOfNullable:
		return 19
	case value.TypeFloat64 | value.ListOfNullable:
		return 20
	case value.TypeString | value.ListOfNullable:
		return 21
	case value.TypeFloat32 | value.ListOfNullable:
		return 22
	}
	return t.String()
}

// schemaShape is what the dialect calls a schema.
type schemaShape struct {
	Root, VersionID, Name string
	Fields                []schemaField
}

type schemaField struct {
	Name string
	Kind any
	Typ  int
}

// SchemaJSON returns the part of the description that all nodes share, in the
// shape that the dialect calls a schema.
func (c *Collection) SchemaJSON() []byte {
	b, _ := json.Marshal(c.schemaShape()) // strings and integers alone
	return b
}

func (c *Collection) schemaShape() schemaShape {
	s := schemaShape{c.ID.String(), c.Version.String(), c.Name, []schemaField{{docIDField, 1, 0}}}
	if c.View != nil {
		s.Fields = s.Fields[:0]
	}
	for i := range c.Fields {
		f := &c.Fields[i]
		if f.IsVirtual() {
			continue
		}
		for _, d := range f.describe() {
			s.Fields = append(s.Fields, schemaField{d.Name, d.Kind, d.Typ})
		}
	}
	return s
}

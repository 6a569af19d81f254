package schema

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// check refuses what Parse would not have made: every rule that can be judged
// from one version alone is here, so that SDL and peers are held to the same.
func (c *Collection) check() error {
	if err := checkTypeName(c.Name); err != nil {
		return err
	}
	if len(c.Fields) > MaxFields {
		return fault.TooLarge.Errorf("type %s has %d fields, more than %d: split it", c.Name, len(c.Fields), MaxFields)
	}
	names := make(map[string]bool, len(c.Fields))
	numbers := make(map[crdt.FieldID]bool, len(c.Fields))
	for i := range c.Fields {
		f := &c.Fields[i]
		if err := checkField(f); err != nil {
			return err
		}
		if i > 0 && c.Fields[i-1].Name >= f.Name {
			return fault.Invalid.Errorf("field %q: fields are not sorted by name, or a name is there twice", f.Name)
		}
		names[f.Name] = true
		if f.IsVirtual() {
			continue
		}
		if numbers[f.ID] {
			return fault.Invalid.Errorf("field %q: number %d is there twice", f.Name, f.ID)
		}
		numbers[f.ID] = true
	}
	for i := range c.Fields {
		if id := c.Fields[i].IDName(); id != "" && names[id] {
			return fault.Invalid.Errorf("field %q: %q is the id form of a relation: rename the field", id, id)
		}
	}
	if err := c.checkNumbers(); err != nil {
		return err
	}
	if err := c.checkKeys(); err != nil {
		return err
	}
	if err := c.checkPolicy(); err != nil {
		return err
	}
	if n := c.Shards; n != 0 {
		if _, err := shards(c.Name, int64(n)); err != nil {
			return err
		}
	}
	if err := c.checkLens(); err != nil {
		return err
	}
	return c.checkRules()
}

// checkNumbers holds first versions to the one way of numbering: authors who
// declare the same type apart must end with the same collection.
func (c *Collection) checkNumbers() error {
	if !c.isFirst() {
		return nil
	}
	next := crdt.FirstField
	for i := range c.Fields {
		f := &c.Fields[i]
		if f.IsVirtual() {
			continue
		}
		if f.ID != next {
			return fault.Invalid.Errorf("field %q: number is %d, want %d: a first version numbers its fields in the order of their names", f.Name, f.ID, next)
		}
		next++
	}
	return nil
}

func (c *Collection) checkKeys() error {
	if (c.Mode == dag.ModeKeyed) != (len(c.Keys) > 0) {
		return fault.Invalid.Errorf("type %s: key fields and mode KEYED go together: give both or neither", c.Name)
	}
	if len(c.Keys) > MaxKeys {
		return fault.TooLarge.Errorf("type %s has %d key fields, more than %d", c.Name, len(c.Keys), MaxKeys)
	}
	for i, id := range c.Keys {
		f, ok := c.FieldByID(id)
		if !ok {
			return fault.Invalid.Errorf("type %s: key field number %d does not exist", c.Name, id)
		}
		if slices.Contains(c.Keys[:i], id) {
			return fault.Invalid.Errorf("field %q is in the key twice: name it once", f.Name)
		}
		if err := checkKey(f); err != nil {
			return err
		}
		if !f.NonNull {
			return fault.Invalid.Errorf("field %q: a key field cannot be null: write %s!", f.Name, f.TypeName())
		}
	}
	return nil
}

// checkKey reports why a field cannot be part of a natural key: nodes that create
// the same thing apart must write the same key bytes.
func checkKey(f *Field) error {
	if f.IsVirtual() || f.Rule != crdt.LWW {
		return fault.Invalid.Errorf("field %q cannot be a key field: only stored lww fields can", f.Name)
	}
	switch f.Type {
	case value.TypeID, value.TypeBoolean, value.TypeInt, value.TypeString, value.TypeDateTime, value.TypeBlob, value.TypeRef:
		return nil
	}
	return fault.Invalid.Errorf("field %q cannot be a key field: %s has no one spelling of equal values; use ID, String, Int, Boolean, DateTime, Blob or a relation", f.Name, f.TypeName())
}

func checkField(f *Field) error {
	if err := checkFieldName(f.Name); err != nil {
		return err
	}
	if f.ID != 0 && f.ID < crdt.FirstField {
		return fault.Invalid.Errorf("field %q: number %d is reserved: fields begin at %d", f.Name, f.ID, crdt.FirstField)
	}
	if err := checkKind(f); err != nil {
		return err
	}
	if err := checkRelation(f); err != nil {
		return err
	}
	if f.Size != 0 {
		if err := checkSize(f, int64(f.Size)); err != nil {
			return err
		}
	}
	if f.Default != nil {
		return checkDefault(f)
	}
	return nil
}

// checkKind reports whether type, rule and kind of field go together.
func checkKind(f *Field) error {
	if f.IsVirtual() {
		if f.Rule != 0 || f.Target == "" || f.Type != value.TypeRef && f.Type != value.TypeRef|value.ListOf {
			return fault.Invalid.Errorf("field %q has number 0 and is no virtual side of a relation", f.Name)
		}
		return nil
	}
	if !validType(f.Type) || f.IsRelation() != (f.Type == value.TypeRef) {
		return fault.Invalid.Errorf("field %q: %v is no type of a field", f.Name, f.Type)
	}
	if f.IsRelation() && f.Rule != crdt.LWW {
		return fault.Invalid.Errorf("field %q: a relation merges as lww, not %v: remove @crdt", f.Name, f.Rule)
	}
	switch f.Rule {
	case crdt.LWW, crdt.MVR:
		return nil
	case crdt.PCounter, crdt.PNCounter:
		if f.Type.IsNumeric() {
			return nil
		}
		return fault.Invalid.Errorf("CRDT type %v can't be assigned to field kind %s (field %q): counters are Int, Float64 or Float32", f.Rule, f.TypeName(), f.Name)
	}
	return fault.Invalid.Errorf("field %q: %v is not known: this node is older than the type", f.Name, f.Rule)
}

// validType reports whether a field can be stored as t. JSON and relations come
// alone: one holds lists by itself, and lists of the other are virtual.
func validType(t value.Type) bool {
	if s := t.Scalar(); s == value.TypeJSON || s == value.TypeRef {
		return t == s
	}
	return t.Valid()
}

func checkRelation(f *Field) error {
	if !f.IsRelation() {
		if f.Relation != "" {
			return fault.Invalid.Errorf("field %q has the relation name %q and is no relation", f.Name, f.Relation)
		}
		return nil
	}
	if err := checkTypeName(f.Target); err != nil {
		return err
	}
	if f.IsVirtual() && f.NonNull {
		return fault.Invalid.Errorf("field %q: only the side of a relation that stores the docID can be non-null: remove the !", f.Name)
	}
	return checkRelationName(f.Relation)
}

func checkRelationName(name string) error {
	if name == "" || len(name) > MaxName || !utf8.ValidString(name) {
		return fault.Invalid.Errorf("relation name %.140q: give a name of 1 to %d bytes", name, MaxName)
	}
	return nil
}

func checkSize(f *Field, n int64) error {
	if !f.Type.IsList() || f.IsRelation() {
		return fault.Invalid.Errorf("size constraint can only be applied to array fields. Actual: %s (field %q)", f.TypeName(), f.Name)
	}
	if n < 1 || n > MaxListSize {
		return fault.Invalid.Errorf("field %q: size %d is not between 1 and %d", f.Name, n, MaxListSize)
	}
	return nil
}

// checkDefault expects Default to be of the type already.
func checkDefault(f *Field) error {
	if f.Type.IsList() || f.IsRelation() {
		return fault.Invalid.Errorf("default value is not allowed for this field type. Name: %s, Type: %s", f.Name, f.TypeName())
	}
	if f.Default.IsNull() {
		return fault.Invalid.Errorf("default value is invalid: field %q: null is what a field holds without a default: remove it", f.Name)
	}
	d, err := f.delta(*f.Default)
	if err != nil {
		return fault.Invalid.Errorf("default value is invalid. Field: %w", err)
	}
	if err := crdt.CheckDelta(d); err != nil {
		return fault.Invalid.Errorf("default of field %q: %w", f.Name, err)
	}
	return checkLiteral(f, *f.Default)
}

// checkLiteral refuses objects that SDL cannot spell: their keys are names there.
func checkLiteral(f *Field, v value.Value) error {
	switch v.Kind() {
	case value.List:
		for _, e := range v.List() {
			if err := checkLiteral(f, e); err != nil {
				return err
			}
		}
	case value.Map:
		for key, e := range v.Members() {
			if !isName(key) {
				return fault.Invalid.Errorf("default of field %q: key %.40q is no GraphQL name: use letters, digits and _", f.Name, key)
			}
			if err := checkLiteral(f, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkFieldName(name string) error {
	if err := checkName("field", name); err != nil {
		return err
	}
	switch name {
	case "true", "false", "null": // could not be a member of the enum of the fields
		return fault.Invalid.Errorf("field name %q is a word of GraphQL: rename the field", name)
	}
	return nil
}

func checkTypeName(name string) error {
	if err := checkName("type", name); err != nil {
		return err
	}
	if isBuiltIn(name) {
		return fault.Invalid.Errorf("schema type already exists. Name: %s is a type or field of every Pando schema: rename the type", name)
	}
	return nil
}

func checkName(what, name string) error {
	switch {
	case len(name) > MaxName:
		return fault.Invalid.Errorf("%s name %.40q… has %d bytes, more than %d: shorten it", what, name, len(name), MaxName)
	case strings.HasPrefix(name, "_"):
		return fault.Invalid.Errorf("%s name %q begins with _, which is reserved for Pando's own: rename it", what, name)
	case !isName(name):
		return fault.Invalid.Errorf("%s name %q: use letters, digits and _, a letter first", what, name)
	}
	return nil
}

// isName reports whether s is a name as the GraphQL grammar defines it.
func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', i > 0 && c >= '0' && c <= '9':
		default:
			return false
		}
	}
	return s != ""
}

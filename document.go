package pando

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// Document is one document as a transaction saw it.
type Document struct {
	ID  DocID
	doc store.Doc
}

func document(d store.Doc, err error) (Document, error) { return Document{d.ID, d}, err }

// Heads returns the CIDs of the newest commits: one, or several while writes that
// were made apart have no common successor.
func (d Document) Heads() []CID {
	var cids []CID
	for _, h := range d.doc.State.Heads() {
		cids = append(cids, h.Commit)
	}
	return cids
}

// Get returns the value of a field: nil, bool, int64, float64, string, time.Time,
// []byte, DocID, []any or map[string]any. A field that does not exist is nil.
func (d Document) Get(field string) any {
	if d.doc.Collection == nil {
		return nil
	}
	f, ok := d.doc.Collection.Field(field)
	if !ok {
		f, ok = d.doc.Collection.Relation(field)
	}
	if !ok || f.IsVirtual() {
		return nil
	}
	return toGo(d.doc.Value(f))
}

// Conflicts returns the other values of a multi-value register: those that were
// written apart from the one that Get returns, and that nobody has overwritten.
func (d Document) Conflicts(field string) []any {
	if d.doc.Collection == nil {
		return nil
	}
	f, ok := d.doc.Collection.Field(field)
	if !ok || f.IsVirtual() {
		return nil
	}
	var all []any
	for _, v := range d.doc.State.Conflicts(f.ID, f.Kind()) {
		all = append(all, toGo(v))
	}
	return all
}

// Fields returns the fields that have a value. Relations are under their id names.
func (d Document) Fields() map[string]any {
	m := map[string]any{}
	if d.doc.Collection == nil {
		return m
	}
	for i := range d.doc.Collection.Fields {
		f := &d.doc.Collection.Fields[i]
		if f.IsVirtual() {
			continue
		}
		if v := d.doc.Value(f); !v.IsNull() {
			m[shownName(f)] = toGo(v)
		}
	}
	return m
}

func shownName(f *schema.Field) string {
	if id := f.IDName(); id != "" {
		return id
	}
	return f.Name
}

// AppendJSON appends the document as JSON: _docID, then the fields that have a
// value, by name.
func (d Document) AppendJSON(b []byte) []byte {
	b = append(b, `{"_docID":`...)
	b = value.AppendJSONString(b, d.ID.String())
	if d.doc.Collection != nil {
		for i := range d.doc.Collection.Fields {
			f := &d.doc.Collection.Fields[i]
			if f.IsVirtual() {
				continue
			}
			if v := d.doc.Value(f); !v.IsNull() {
				b = append(b, ',')
				b = value.AppendJSONString(b, shownName(f))
				b = append(b, ':')
				b = v.AppendJSON(b)
			}
		}
	}
	return append(b, '}')
}

// MarshalJSON returns the document as JSON.
func (d Document) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// Decode stores the fields in what v points to, as json.Unmarshal does.
func (d Document) Decode(v any) error {
	if err := json.Unmarshal(d.AppendJSON(nil), v); err != nil {
		return fault.Invalid.Errorf("document %s: %w", d.ID, err)
	}
	return nil
}

func toGo(v value.Value) any {
	switch v.Kind() {
	case value.Bool:
		return v.Bool()
	case value.Int:
		return v.Int()
	case value.Float32, value.Float64:
		return v.Float()
	case value.String:
		return v.Text()
	case value.Time:
		return v.Time()
	case value.Bytes:
		return v.Bytes()
	case value.Ref:
		return DocID(v.Ref())
	case value.List:
		list := make([]any, 0, v.Len())
		for _, e := range v.List() {
			list = append(list, toGo(e))
		}
		return list
	case value.Map:
		m := make(map[string]any, v.Len())
		for k, e := range v.Members() {
			m[k] = toGo(e)
		}
		return m
	}
	return nil
}

// inputs turns what a program hands over into fields.
func inputs(fields any) ([]schema.Input, error) {
	v, err := fromGo(fields)
	if err != nil {
		return nil, err
	}
	return schema.InputsOf(v)
}

// fromGo converts the common types directly and leaves the rest to encoding/json.
func fromGo(x any) (value.Value, error) {
	switch x := x.(type) {
	case nil:
		return value.Value{}, nil
	case bool:
		return value.OfBool(x), nil
	case int:
		return value.OfInt(int64(x)), nil
	case int64:
		return value.OfInt(x), nil
	case string:
		return value.OfString(x), nil
	case time.Time:
		return value.OfString(x.Format(time.RFC3339Nano)), nil
	case []byte:
		return value.OfString(fmt.Sprintf("%x", x)), nil
	case DocID:
		return value.OfString(x.String()), nil
	case json.RawMessage:
		return value.ParseJSON(x)
	case map[string]any:
		m := make(map[string]value.Value, len(x))
		for k, e := range x {
			v, err := fromGo(e)
			if err != nil {
				return v, fault.Invalid.Errorf("field %q: %w", k, err)
			}
			m[k] = v
		}
		return value.OfMap(m), nil
	case []any:
		list := make([]value.Value, len(x))
		for i, e := range x {
			v, err := fromGo(e)
			if err != nil {
				return v, fault.Invalid.Errorf("element %d: %w", i, err)
			}
			list[i] = v
		}
		return value.OfList(list), nil
	}
	raw, err := json.Marshal(x)
	if err != nil {
		return value.Value{}, fault.Invalid.Errorf("a value of type %T: %w", x, err)
	}
	return value.ParseJSON(raw)
}

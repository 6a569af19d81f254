package pando

import (
	"encoding/json"

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
func (d Document) AppendJSON(b []byte) []byte { return d.appendJSON(b, nil) }

// appendJSON writes the fields that inBase64 holds for as encoding/json expects
// bytes.
func (d Document) appendJSON(b []byte, inBase64 func(field string) bool) []byte {
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
				if f.Type.Scalar() == value.TypeBlob && inBase64 != nil && inBase64(shownName(f)) {
					b = appendBase64(b, v)
					continue
				}
				b = v.AppendJSON(b)
			}
		}
	}
	return append(b, '}')
}

// MarshalJSON returns the document as JSON.
func (d Document) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// Decode stores the fields in what v points to, as json.Unmarshal does. A Blob is
// read into a []byte as its bytes, and into anything else as hexadecimal digits.
func (d Document) Decode(v any) error {
	if err := json.Unmarshal(d.appendJSON(nil, bytesIn(v)), v); err != nil {
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

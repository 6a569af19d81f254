package schema

import (
	"encoding/json"
	"reflect"
	"slices"

	"github.com/pandodb/pando/internal/fault"
)

// entryOf is what an entry of the patched document stands for.
type entryOf struct {
	of         *Collection
	field      *Field // nil: the docID
	idForm     bool
	kind, text string // in JSON, before the patch
}

// name is what the entry was called.
func (e entryOf) name() string {
	switch {
	case e.field == nil:
		return docIDField
	case e.idForm:
		return e.field.IDName()
	}
	return e.field.Name
}

// refusal says how to get what a change of the entry was meant to reach.
func (e entryOf) refusal() error {
	if e.field == nil {
		return fault.Invalid.Errorf("every document has a %s, and it is a docID: leave the entry as it is", docIDField)
	}
	return fault.Invalid.Errorf("field %q belongs to the relation %s: change or remove that", e.name(), e.field.Name)
}

func identity(m map[string]any) uintptr { return reflect.ValueOf(m).Pointer() }

func (c *Collection) entryOf(name string, m map[string]any) entryOf {
	e := entryOf{of: c, kind: jsonOf(m["Kind"]), text: jsonOf(m)}
	if f, ok := c.Field(name); ok {
		e.field = f
	} else if f, ok := c.Relation(name); ok {
		e.field, e.idForm = f, true
	}
	return e
}

// jsonOf returns what was read from JSON as JSON, for comparing.
func jsonOf(v any) string {
	b, _ := json.Marshal(v) // what was read can be written
	return string(b)
}

// leaves notes the entry that an operation takes from its place.
func (d *desk) leaves(o operation) {
	text := o.Path
	if o.Op == "move" {
		text = o.From
	} else if o.Op != "remove" && o.Op != "replace" {
		return
	}
	path, err := pointer("path", text)
	if err != nil {
		return
	}
	v, err := d.get(path)
	if m, ok := v.(map[string]any); err == nil && ok {
		if was, known := d.origin[identity(m)]; known {
			d.gone = append(d.gone, was)
		}
	}
}

// keep takes an entry for the docID or the id form of a relation, which says what is
// so anyway.
func (r *revision) keep(was entryOf, known bool, text string) error {
	if r.kept[was.name()] {
		return fault.Invalid.Errorf("duplicate field. Name: %s", was.name())
	}
	r.kept[was.name()] = true
	same := was.text == text
	if !known { // in whatever words
		same = slices.Contains([]string{`"ID"`, `1`, `null`}, was.kind)
	}
	if !same {
		return was.refusal()
	}
	return nil
}

// checkKept refuses to remove what the new version has nevertheless.
func (d *desk) checkKept(r *revision) error {
	for _, was := range d.gone {
		if was.of != r.prev || r.kept[was.name()] || was.field != nil && !was.idForm {
			continue
		}
		if was.field == nil || slices.ContainsFunc(r.Fields, func(f Field) bool { return f.Name == was.field.Name && r.was[f.Name] == was.field }) {
			return was.refusal()
		}
	}
	return nil
}

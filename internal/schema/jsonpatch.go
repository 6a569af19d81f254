package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pandodb/pando/internal/fault"
)

// Limits of one patch, which comes from outside.
const (
	maxPatch      = 1 << 20 // bytes of its text
	maxOperations = 10_000
	maxCopied     = 4 << 20 // bytes that copy operations make together
)

// operation is one operation of a JSON Patch (RFC 6902).
type operation struct {
	Op    string          `json:"op"`
	Path  *string         `json:"path"`
	From  *string         `json:"from"`
	Value json.RawMessage `json:"value"`
}

// patcher applies operations to what encoding/json made of a document. In lists of
// objects an entry can be named by its member Name instead of its place.
type patcher struct {
	root   any
	copied int
}

func readPatch(text []byte) ([]operation, error) {
	if len(text) > maxPatch {
		return nil, fault.TooLarge.Errorf("patch has %d bytes, more than %d: apply it in parts", len(text), maxPatch)
	}
	var ops []operation
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	if err := decodeStrictly(text, &ops); err != nil {
		return nil, fault.Invalid.Errorf("patch is no JSON Patch, a list like [{\"op\": \"add\", \"path\": \"/User/Fields/-\", \"value\": {\"Name\": \"phone\", \"Kind\": \"String\"}}]: %w", unread(err))
	}
	if len(ops) > maxOperations {
		return nil, fault.TooLarge.Errorf("patch has %d operations, more than %d: apply it in parts", len(ops), maxOperations)
	}
	return ops, nil
}

// decodeStrictly reads one JSON value, with numbers as they are written, and
// refuses members that nobody reads.
func decodeStrictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fault.Invalid.Errorf("more text follows the value")
	}
	return nil
}

// unread says in the words of JSON why decodeStrictly failed.
func unread(err error) error {
	var t *json.UnmarshalTypeError
	if !errors.As(err, &t) {
		text := strings.TrimPrefix(err.Error(), "json: ")
		return fault.Invalid.Errorf("%s", strings.Replace(text, "unknown field", "unknown member", 1))
	}
	want := "a " + t.Type.Kind().String()
	switch t.Type.Kind() {
	case reflect.Slice:
		want = "a list"
	case reflect.Struct, reflect.Map:
		want = "an object"
	case reflect.Int:
		want = "an integer"
	case reflect.Bool:
		want = "true or false"
	}
	what := "it"
	if t.Field != "" {
		what = t.Field
	}
	return fault.Invalid.Errorf("%s is a JSON %s, want %s", what, t.Value, want)
}

func (p *patcher) apply(o operation) error {
	path, err := pointer("path", o.Path)
	if err != nil {
		return err
	}
	switch o.Op {
	case "add":
		v, err := o.value()
		if err != nil {
			return err
		}
		return p.add(path, v)
	case "remove":
		_, err := p.remove(path)
		return err
	case "replace":
		v, err := o.value()
		if err == nil {
			err = p.replace(path, v)
		}
		return err
	case "move", "copy":
		from, err := pointer("from", o.From)
		if err != nil {
			return err
		}
		return p.transfer(o.Op == "move", from, path)
	case "test":
		want, err := o.value()
		if err != nil {
			return err
		}
		if got, err := p.get(path); err != nil || !reflect.DeepEqual(got, want) {
			return fault.Invalid.Errorf("testing value %s failed: test failed", *o.Path)
		}
		return nil
	}
	return fault.Invalid.Errorf("operation %.40q is not known: there are add, remove, replace, move, copy, test", o.Op)
}

func (o operation) value() (v any, err error) {
	if o.Value == nil {
		return nil, fault.Invalid.Errorf("operation %s lacks its value", o.Op)
	}
	return v, decodeStrictly(o.Value, &v)
}

// pointer splits a JSON Pointer (RFC 6901).
func pointer(member string, text *string) ([]string, error) {
	if text == nil || !strings.HasPrefix(*text, "/") {
		return nil, fault.Invalid.Errorf("an operation needs a %s like /User/Fields/-", member)
	}
	steps := strings.Split((*text)[1:], "/")
	for i, s := range steps {
		steps[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(s)
	}
	return steps, nil
}

// at changes the container that the last step of a path leads into.
func (p *patcher) at(path []string, change func(in any, step string) (any, error)) (err error) {
	p.root, err = within(p.root, path, change)
	return err
}

func within(in any, path []string, change func(in any, step string) (any, error)) (any, error) {
	if len(path) == 1 {
		return change(in, path[0])
	}
	child, err := member(in, path[0])
	if err != nil {
		return nil, err
	}
	list, _ := in.([]any)
	at := entry(list, path[0]) // the change may be one of the name
	if child, err = within(child, path[1:], change); err != nil {
		return nil, err
	}
	if m, ok := in.(map[string]any); ok {
		m[path[0]] = child
	} else {
		list[at] = child
	}
	return in, nil
}

func member(in any, step string) (any, error) {
	switch c := in.(type) {
	case map[string]any:
		if v, ok := c[step]; ok {
			return v, nil
		}
	case []any:
		if i := entry(c, step); i >= 0 {
			return c[i], nil
		}
	}
	return nil, fault.Invalid.Errorf("path leads to %.140q, which does not exist", step)
}

// entry returns the place of the entry of a list that a step names, or -1.
func entry(list []any, step string) int {
	if i, err := strconv.Atoi(step); err == nil {
		if i < 0 || i >= len(list) || step != strconv.Itoa(i) {
			return -1
		}
		return i
	}
	return slices.IndexFunc(list, func(e any) bool {
		m, ok := e.(map[string]any)
		return ok && m["Name"] == step
	})
}

func (p *patcher) get(path []string) (any, error) {
	v, err := p.root, error(nil)
	for _, step := range path {
		if v, err = member(v, step); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (p *patcher) add(path []string, v any) error {
	return p.at(path, func(in any, step string) (any, error) {
		switch c := in.(type) {
		case map[string]any:
			c[step] = v
			return c, nil
		case []any:
			return insert(c, step, v)
		}
		return nil, fault.Invalid.Errorf("path leads into %.140q, which has no members", step)
	})
}

func insert(list []any, step string, v any) (any, error) {
	if step == "-" {
		return append(list, v), nil
	}
	if i, err := strconv.Atoi(step); err == nil {
		if i < 0 || i > len(list) {
			return nil, fault.Invalid.Errorf("path leads to entry %d of %d: append with -", i, len(list))
		}
		return slices.Insert(list, i, v), nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fault.Invalid.Errorf("path leads to entry %.140q: give an object with that Name", step)
	}
	if name, named := m["Name"]; named && name != step {
		return nil, fault.Invalid.Errorf("the index used does not match the given name. Index: %s, Name: %v", step, name)
	}
	m["Name"] = step
	return append(list, m), nil
}

func (p *patcher) replace(path []string, v any) error {
	return p.at(path, func(in any, step string) (any, error) {
		if _, err := member(in, step); err != nil {
			return nil, err
		}
		switch c := in.(type) {
		case map[string]any:
			c[step] = v
		case []any:
			c[entry(c, step)] = v
		}
		return in, nil
	})
}

func (p *patcher) remove(path []string) (removed any, err error) {
	err = p.at(path, func(in any, step string) (any, error) {
		if removed, err = member(in, step); err != nil {
			return nil, err
		}
		switch c := in.(type) {
		case map[string]any:
			delete(c, step)
		case []any:
			i := entry(c, step)
			return slices.Delete(c, i, i+1), nil
		}
		return in, nil
	})
	return removed, err
}

func (p *patcher) transfer(move bool, from, path []string) error {
	if move {
		if len(path) > len(from) && slices.Equal(path[:len(from)], from) {
			return fault.Invalid.Errorf("/%s cannot be moved into itself", strings.Join(from, "/"))
		}
		v, err := p.remove(from)
		if err != nil {
			return err
		}
		return p.add(path, v)
	}
	v, err := p.get(from)
	if err != nil {
		return err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if p.copied += len(text); p.copied > maxCopied {
		return fault.TooLarge.Errorf("the patch copies more than %d bytes", maxCopied)
	}
	var clone any
	if err := decodeStrictly(text, &clone); err != nil {
		return err
	}
	return p.add(path, clone)
}

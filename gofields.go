package pando

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// fromGo converts what a program hands over by the rules of encoding/json, except
// that bytes are bytes and not a text in base64.
func fromGo(x any) (value.Value, error) { return goValue(reflect.ValueOf(x), value.MaxNesting+1) }

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// goValue converts a value of at most so many levels.
func goValue(v reflect.Value, levels int) (value.Value, error) {
	if levels < 0 {
		return value.Value{}, fault.Invalid.Errorf("lists and objects nested more than %d deep", value.MaxNesting)
	}
	switch v.Kind() {
	case reflect.Invalid:
		return value.Value{}, nil
	case reflect.Interface:
		return goValue(v.Elem(), levels)
	case reflect.Pointer:
		if v.IsNil() {
			return value.Value{}, nil
		}
	}
	switch t := v.Type(); {
	case t.Implements(marshaler), t.Implements(textMarshaler):
		return marshalled(v.Interface(), levels)
	case v.CanAddr() && (reflect.PointerTo(t).Implements(marshaler) || reflect.PointerTo(t).Implements(textMarshaler)):
		return marshalled(v.Addr().Interface(), levels)
	}
	switch v.Kind() {
	case reflect.Pointer:
		return goValue(v.Elem(), levels-1) // a loop of pointers must end
	case reflect.Bool:
		return value.OfBool(v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return value.OfInt(v.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		if v.Uint() > math.MaxInt64 {
			return value.Value{}, fault.Invalid.Errorf("%d does not fit 64 bits with a sign: write it as a string", v.Uint())
		}
		return value.OfInt(int64(v.Uint())), nil
	case reflect.Float32, reflect.Float64:
		return float(v)
	case reflect.String:
		if v.Type() == reflect.TypeFor[json.Number]() {
			return value.ParseJSON([]byte(v.String()))
		}
		return value.OfString(v.String()), nil
	case reflect.Slice, reflect.Array:
		return listOf(v, levels)
	case reflect.Map:
		return mapOf(v, levels)
	case reflect.Struct:
		members := map[string]value.Value{}
		err := addFields(members, v, levels)
		return value.OfMap(members), err
	}
	return value.Value{}, fault.Invalid.Errorf("a value of type %s cannot be stored", v.Type())
}

// marshalled is what a type makes of itself.
func marshalled(x any, levels int) (value.Value, error) {
	raw, err := json.Marshal(x)
	if err != nil {
		return value.Value{}, fault.Invalid.Errorf("a value of type %T: %w", x, err)
	}
	return value.ParseJSONNested(raw, levels)
}

func float(v reflect.Value) (value.Value, error) {
	f := v.Float()
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return value.Value{}, fault.Invalid.Errorf("%v is no number: leave the field out, or set it to nil", f)
	}
	if v.Kind() == reflect.Float32 { // 0.1 is meant, not the float64 that is nearest to its float32
		f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'g', -1, 32), 64)
	}
	return value.OfFloat(f), nil
}

func isBytes(t reflect.Type) bool {
	return (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) && t.Elem().Kind() == reflect.Uint8
}

func listOf(v reflect.Value, levels int) (value.Value, error) {
	switch {
	case v.Kind() == reflect.Slice && v.IsNil():
		return value.Value{}, nil
	case isBytes(v.Type()):
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		return value.OfBytes(b), nil
	}
	list := make([]value.Value, v.Len())
	for i := range list {
		e, err := goValue(v.Index(i), levels-1)
		if err != nil {
			return e, fault.Invalid.Errorf("element %d: %w", i, err)
		}
		list[i] = e
	}
	return value.OfList(list), nil
}

func mapOf(v reflect.Value, levels int) (value.Value, error) {
	if v.IsNil() {
		return value.Value{}, nil
	}
	if v.Type().Key().Kind() != reflect.String {
		return value.Value{}, fault.Invalid.Errorf("a map with keys of type %s cannot be stored: use keys of type string", v.Type().Key())
	}
	members := make(map[string]value.Value, v.Len())
	for k, e := range v.Seq2() {
		m, err := goValue(e, levels-1)
		if err != nil {
			return m, fault.Invalid.Errorf("%s: %w", k.String(), err)
		}
		members[k.String()] = m
	}
	return value.OfMap(members), nil
}

// tagged is the name that a field of a struct goes by, and what its tag asks for.
type tagged struct {
	name                                string
	inline, omitEmpty, omitZero, asText bool
}

// tagOf returns false for a field that is not stored.
func tagOf(f reflect.StructField) (t tagged, ok bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" && options == "" {
		return t, false
	}
	t.name = name
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "omitempty":
			t.omitEmpty = true
		case "omitzero":
			t.omitZero = true
		case "string":
			t.asText = true
		}
	}
	inner := f.Type
	if inner.Kind() == reflect.Pointer {
		inner = inner.Elem()
	}
	t.inline = f.Anonymous && name == "" && inner.Kind() == reflect.Struct
	if name == "" {
		t.name = f.Name
	}
	return t, t.inline || f.IsExported()
}

// addFields adds the fields of a struct; those of embedded structs give way to
// its own.
func addFields(members map[string]value.Value, v reflect.Value, levels int) error {
	var embedded []reflect.Value
	own := map[string]bool{}
	for i := range v.NumField() {
		field := v.Field(i)
		t, ok := tagOf(v.Type().Field(i))
		if !ok || t.omitZero && field.IsZero() || t.omitEmpty && isEmpty(field) {
			continue
		}
		if t.inline {
			embedded = append(embedded, field)
			continue
		}
		m, err := goValue(field, levels-1)
		if err != nil {
			return fault.Invalid.Errorf("%s: %w", t.name, err)
		}
		if t.asText && m.Kind() != value.String && !m.IsNull() {
			m = value.OfString(m.String())
		}
		own[t.name], members[t.name] = true, m
	}
	for _, e := range embedded {
		if e = reflect.Indirect(e); !e.IsValid() {
			continue
		}
		inherited := map[string]value.Value{}
		if err := addFields(inherited, e, levels-1); err != nil {
			return err
		}
		for name, m := range inherited {
			if _, twice := members[name]; twice && !own[name] {
				return fault.Invalid.Errorf("%s embeds two fields of the name %s: rename one", v.Type(), name)
			}
			if !own[name] {
				members[name] = m
			}
		}
	}
	return nil
}

// isEmpty is what omitempty leaves out.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.Array, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// bytesIn returns which fields of the struct that v points to are bytes, or nil.
func bytesIn(v any) func(field string) bool {
	t := reflect.TypeOf(v)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	return func(field string) bool { return holdsBytes(t, field) }
}

// holdsBytes looks a field up as encoding/json does: letter case is ignored.
func holdsBytes(t reflect.Type, name string) bool {
	for _, f := range reflect.VisibleFields(t) {
		tag, ok := tagOf(f)
		if !ok || tag.inline || !strings.EqualFold(tag.name, name) {
			continue
		}
		of := f.Type
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice && !isBytes(of) {
			of = of.Elem()
		}
		decodes := reflect.PointerTo(of).Implements(reflect.TypeFor[json.Unmarshaler]()) ||
			reflect.PointerTo(of).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
		return of.Kind() == reflect.Slice && isBytes(of) && !decodes
	}
	return false
}

// appendBase64 appends bytes, or a list of them, as encoding/json reads them.
func appendBase64(b []byte, v value.Value) []byte {
	switch v.Kind() {
	case value.Bytes:
		b = base64.StdEncoding.AppendEncode(append(b, '"'), v.Bytes())
		return append(b, '"')
	case value.List:
		b = append(b, '[')
		for i, e := range v.List() {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendBase64(b, e)
		}
		return append(b, ']')
	}
	return append(b, "null"...)
}

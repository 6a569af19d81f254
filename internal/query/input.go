package query

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// inputs turn the literals of one operation and the variables of one request into
// values that fit the types of the schema.
type inputs struct {
	schema *ast.Schema
	vars   map[string]value.Value // those that are given or have a default
	left   *int                   // values that may still be used
}

const (
	// maxUsed is how many values may be used in a request, elements of lists and
	// members of objects counted one by one: what stands in a fragment counts each time.
	maxUsed = 1_000_000
	// maxUses is how often all of the variables may be used beside that: once is what
	// they are for, and a plan looks at some of them several times.
	maxUses = 16
)

// use counts values that are used.
func (in inputs) use(n int) error {
	if *in.left -= n; *in.left < 0 {
		return fault.TooLarge.Errorf("the request uses its long lists too often: ask for less at once")
	}
	return nil
}

// sizeOf counts the values that v is made of.
func sizeOf(v value.Value) int {
	n := 1
	for _, e := range v.List() {
		n += sizeOf(e)
	}
	for _, m := range v.Members() {
		n += sizeOf(m)
	}
	return n
}

// variables checks the variables of a request: a JSON object, or nothing. Members
// that the operation does not declare are ignored, as the specification says.
func variables(schema *ast.Schema, op *ast.OperationDefinition, raw json.RawMessage) (inputs, error) {
	left := maxUsed
	in := inputs{schema, map[string]value.Value{}, &left}
	given, err := given(raw)
	if err != nil {
		return in, err
	}
	for _, def := range op.VariableDefinitions {
		if err := in.variable(def, given); err != nil {
			return in, wrong(def.Position, fmt.Errorf("variable $%s: %w", def.Variable, err))
		}
		left += maxUses * sizeOf(in.vars[def.Variable])
	}
	return in, nil
}

// given reads the variables of a request.
func given(raw json.RawMessage) (value.Value, error) {
	if len(raw) == 0 {
		return value.Value{}, nil
	}
	v, err := value.ParseJSONNested(raw, maxVariableDepth)
	if err != nil {
		return v, wrongf(nil, "variables: %w", err)
	}
	if !v.IsNull() && v.Kind() != value.Map {
		return v, wrongf(nil, "variables: expected a JSON object, got %s", describe(v))
	}
	return v, nil
}

func (in inputs) variable(def *ast.VariableDefinition, given value.Value) error {
	v, ok := value.Value{}, false
	if given.Kind() == value.Map {
		v, ok = given.Get(def.Variable)
	}
	var err error
	switch {
	case ok:
		v, err = in.coerce(def.Type, v)
	case def.DefaultValue != nil:
		v, err = in.literal(def.Type, def.DefaultValue)
	case def.Type.NonNull:
		return fault.Invalid.Errorf("it is required, of type %s, and not given", def.Type)
	default:
		return nil
	}
	in.vars[def.Variable] = v
	return err
}

// given reports whether an argument or a member is there: not if it is a variable
// that is not.
func (in inputs) given(v *ast.Value) bool {
	if v.Kind != ast.Variable {
		return true
	}
	_, ok := in.vars[v.Raw]
	return ok
}

// argument returns the value of an argument of a field, and whether it is given.
func (in inputs) argument(f *ast.Field, name string) (value.Value, bool, error) {
	a := f.Arguments.ForName(name)
	if a == nil || !in.given(a.Value) {
		return value.Value{}, false, nil
	}
	def := f.Definition.Arguments.ForName(name)
	v, err := in.literal(def.Type, a.Value)
	if err != nil {
		return v, true, wrong(a.Position, fmt.Errorf("argument %s: %w", name, err))
	}
	return v, true, nil
}

// literal returns the value that a literal has as a t.
func (in inputs) literal(t *ast.Type, v *ast.Value) (value.Value, error) {
	switch v.Kind {
	case ast.Variable: // it was coerced to its own type, which fits
		x, ok := in.vars[v.Raw]
		if err := in.use(sizeOf(x)); err != nil {
			return x, err
		}
		if t.NonNull && (!ok || x.IsNull()) {
			return x, fault.Invalid.Errorf("expected %s, got null from $%s", t, v.Raw)
		}
		if ok && t.Elem != nil && !x.IsNull() && x.Kind() != value.List {
			x = value.OfList([]value.Value{x})
		}
		if t.Elem != nil && t.Elem.NonNull {
			for i, e := range x.List() {
				if e.IsNull() {
					return x, fault.Invalid.Errorf("element %d of $%s: expected %s, got null", i, v.Raw, t.Elem)
				}
			}
		}
		return x, nil
	case ast.NullValue:
		if t.NonNull {
			return value.Value{}, fault.Invalid.Errorf("expected %s, got null", t)
		}
		return value.Value{}, nil
	}
	if t.Elem != nil {
		return in.literalList(t, v)
	}
	def := in.schema.Types[t.NamedType]
	switch def.Kind {
	case ast.InputObject:
		return in.literalObject(def, v)
	case ast.Enum:
		if v.Kind != ast.EnumValue || def.EnumValues.ForName(v.Raw) == nil {
			return value.Value{}, notIn(def, v.String())
		}
		return enumValue(def, v.Raw), nil
	}
	x, err := in.free(v)
	if err != nil {
		return x, err
	}
	if v.Kind == ast.EnumValue && def.Name != "JSON" {
		return x, fault.Invalid.Errorf("expected %s, got %s: put quotes around text", def.Name, v.Raw)
	}
	if v.Kind == ast.FloatValue && (def.Name == "Int" || def.Name == "ID") {
		return x, fault.Invalid.Errorf("expected %s, got %s", def.Name, v.Raw)
	}
	return in.scalar(def, x)
}

func (in inputs) literalList(t *ast.Type, v *ast.Value) (value.Value, error) {
	if v.Kind != ast.ListValue { // the specification reads x as [x]
		x, err := in.literal(t.Elem, v)
		return value.OfList([]value.Value{x}), err
	}
	if err := in.use(len(v.Children)); err != nil {
		return value.Value{}, err
	}
	list := make([]value.Value, len(v.Children))
	for i, c := range v.Children {
		x, err := in.literal(t.Elem, c.Value)
		if err != nil {
			return x, fmt.Errorf("element %d: %w", i, err)
		}
		list[i] = x
	}
	return value.OfList(list), nil
}

func (in inputs) literalObject(def *ast.Definition, v *ast.Value) (value.Value, error) {
	if v.Kind != ast.ObjectValue {
		return value.Value{}, fault.Invalid.Errorf("expected an object of type %s, got %s", def.Name, v)
	}
	members := make(map[string]value.Value, len(v.Children))
	for _, c := range v.Children {
		f := def.Fields.ForName(c.Name)
		if f == nil {
			return value.Value{}, unknownMember(def, c.Name)
		}
		if !in.given(c.Value) {
			continue
		}
		x, err := in.literal(f.Type, c.Value)
		if err == nil {
			err = addMember(members, f, x)
		}
		if err != nil {
			return x, fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return complete(def, members)
}

// addMember adds a member under its canonical name.
func addMember(members map[string]value.Value, f *ast.FieldDefinition, v value.Value) error {
	name := canonical(f)
	if _, twice := members[name]; twice {
		return fault.Invalid.Errorf("it is given twice, as %s too", name)
	}
	members[name] = v
	return nil
}

// complete checks that nothing that an input object requires is missing.
func complete(def *ast.Definition, members map[string]value.Value) (value.Value, error) {
	for _, f := range def.Fields {
		if f.Type.NonNull && members[canonical(f)].IsNull() {
			return value.Value{}, fault.Invalid.Errorf("%s is required", f.Name)
		}
	}
	return value.OfMap(members), nil
}

func unknownMember(def *ast.Definition, name string) error {
	return fault.Invalid.Errorf("%s is not defined by type %s", name, def.Name)
}

// enumValue returns a value that the enum has, under its canonical name.
func enumValue(def *ast.Definition, name string) value.Value {
	return value.OfString(canonicalName(name, def.EnumValues.ForName(name).Directives))
}

func notIn(def *ast.Definition, got string) error {
	var names []string
	for _, v := range def.EnumValues {
		if !isHidden(v.Directives) {
			names = append(names, v.Name)
		}
	}
	return fault.Invalid.Errorf("expected one of %v, got %s", names, got)
}

// free returns the value of a literal as it stands.
func (in inputs) free(v *ast.Value) (value.Value, error) {
	if err := in.use(len(v.Children)); err != nil {
		return value.Value{}, err
	}
	switch v.Kind {
	case ast.Variable:
		return in.vars[v.Raw], in.use(sizeOf(in.vars[v.Raw]))
	case ast.IntValue, ast.FloatValue:
		return value.ParseNumber(v.Raw)
	case ast.StringValue, ast.BlockValue, ast.EnumValue:
		return value.OfString(v.Raw), nil
	case ast.BooleanValue:
		return value.OfBool(v.Raw == "true"), nil
	case ast.ListValue:
		list := make([]value.Value, len(v.Children))
		for i, c := range v.Children {
			x, err := in.free(c.Value)
			if err != nil {
				return x, fmt.Errorf("element %d: %w", i, err)
			}
			list[i] = x
		}
		return value.OfList(list), nil
	case ast.ObjectValue:
		members := make(map[string]value.Value, len(v.Children))
		for _, c := range v.Children {
			if !in.given(c.Value) {
				continue
			}
			x, err := in.free(c.Value)
			if err != nil {
				return x, fmt.Errorf("%s: %w", c.Name, err)
			}
			members[c.Name] = x
		}
		return value.OfMap(members), nil
	}
	return value.Value{}, nil
}

// coerce returns what a value of a variable is as a t.
func (in inputs) coerce(t *ast.Type, v value.Value) (value.Value, error) {
	if v.IsNull() {
		if t.NonNull {
			return v, fault.Invalid.Errorf("expected %s, got null", t)
		}
		return v, nil
	}
	if t.Elem != nil {
		return in.coerceList(t, v)
	}
	def := in.schema.Types[t.NamedType]
	switch def.Kind {
	case ast.InputObject:
		return in.coerceObject(def, v)
	case ast.Enum:
		if v.Kind() != value.String || def.EnumValues.ForName(v.Text()) == nil {
			return v, notIn(def, describe(v))
		}
		return enumValue(def, v.Text()), nil
	}
	return in.scalar(def, v)
}

func (in inputs) coerceList(t *ast.Type, v value.Value) (value.Value, error) {
	from := []value.Value{v}
	if v.Kind() == value.List {
		from = v.List()
	}
	list := make([]value.Value, len(from))
	for i, e := range from {
		x, err := in.coerce(t.Elem, e)
		if err != nil {
			return x, fmt.Errorf("element %d: %w", i, err)
		}
		list[i] = x
	}
	return value.OfList(list), nil
}

func (in inputs) coerceObject(def *ast.Definition, v value.Value) (value.Value, error) {
	if v.Kind() != value.Map {
		return v, fault.Invalid.Errorf("expected an object of type %s, got %s", def.Name, describe(v))
	}
	members := make(map[string]value.Value, v.Len())
	for name, m := range v.Members() {
		f := def.Fields.ForName(name)
		if f == nil {
			return v, unknownMember(def, name)
		}
		x, err := in.coerce(f.Type, m)
		if err == nil {
			err = addMember(members, f, x)
		}
		if err != nil {
			return x, fmt.Errorf("%s: %w", name, err)
		}
	}
	return complete(def, members)
}

// scalar returns v as a value of a scalar type; what would lose something is refused.
func (in inputs) scalar(def *ast.Definition, v value.Value) (value.Value, error) {
	if def.Name == "ID" && v.Kind() == value.Int { // the specification allows it
		return value.OfString(strconv.FormatInt(v.Int(), 10)), nil
	}
	t, ok := scalarTypes[def.Name]
	if !ok {
		return v, fault.Invalid.Errorf("type %s takes no value", def.Name)
	}
	return value.Coerce(t, v)
}

var scalarTypes = map[string]value.Type{
	"ID":       value.TypeID,
	"Boolean":  value.TypeBoolean,
	"Int":      value.TypeInt,
	"Float":    value.TypeFloat64,
	"Float64":  value.TypeFloat64,
	"Float32":  value.TypeFloat32,
	"String":   value.TypeString,
	"DateTime": value.TypeDateTime,
	"Blob":     value.TypeBlob,
	"JSON":     value.TypeJSON,
}

// describe shows a value in an error, cut to a length that a person reads.
func describe(v value.Value) string {
	const most = 80
	b := v.AppendJSON(nil)
	if len(b) > most {
		return string(b[:most]) + "…"
	}
	return string(b)
}

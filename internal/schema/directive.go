package schema

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// place is where a directive may stand.
type place uint8

const (
	onType place = 1 << iota
	onField
)

// argKind is what an argument of a directive takes.
type argKind uint8

const (
	argString argKind = iota
	argBool
	argInt
	argEnum
	argStrings // one or a list
	argObjects // one or a list
	argAny
)

func (k argKind) String() string {
	return [...]string{"a string", "true or false", "an integer", "a name without quotes", "a list of strings", "a list of objects", "any value"}[k]
}

type directive struct {
	places  place
	repeats bool
	args    map[string]argKind
}

var directives = map[string]directive{
	"crdt": {onField, false, map[string]argKind{"type": argEnum}},
	"default": {onField, false, map[string]argKind{
		"string": argAny, "bool": argAny, "int": argAny, "float": argAny, "float32": argAny, "float64": argAny,
		"dateTime": argAny, "json": argAny, "blob": argAny, "value": argAny,
	}},
	"index": {onType | onField, true, map[string]argKind{
		"name": argString, "unique": argBool, "direction": argEnum, "includes": argObjects,
	}},
	"primary":     {onField, false, nil},
	"relation":    {onField, false, map[string]argKind{"name": argString}},
	"constraints": {onField, false, map[string]argKind{"size": argInt}},
	"embedding": {onField, false, map[string]argKind{
		"fields": argStrings, "provider": argString, "model": argString, "url": argString, "template": argString,
	}},
	"policy":       {onType, false, map[string]argKind{"id": argString, "resource": argString}},
	"materialized": {onType, true, map[string]argKind{"if": argBool}},
	"branchable":   {onType, true, map[string]argKind{"if": argBool}},
	"sync":         {onType, false, map[string]argKind{"shards": argInt}},
	"docID":        {onType, false, map[string]argKind{"mode": argEnum, "fields": argStrings}},
}

func checkDirectives(list ast.DirectiveList, at place) error {
	seen := map[string]bool{}
	for _, dir := range list {
		def, ok := directives[dir.Name]
		if !ok {
			return errorAt(dir.Position, "unknown directive @%s: %s", dir.Name, didYouMean(dir.Name, slices.Sorted(maps.Keys(directives))))
		}
		if def.places&at == 0 {
			where := map[place]string{onType: "types", onField: "fields"}
			return errorAt(dir.Position, "@%s belongs to %s, not %s: move it", dir.Name, where[def.places], where[at])
		}
		if seen[dir.Name] && !def.repeats {
			return errorAt(dir.Position, "@%s is there twice: remove one", dir.Name)
		}
		seen[dir.Name] = true
		if err := checkArguments(dir, def); err != nil {
			return err
		}
	}
	return nil
}

func checkArguments(dir *ast.Directive, def directive) error {
	seen := map[string]bool{}
	for _, arg := range dir.Arguments {
		kind, ok := def.args[arg.Name]
		if !ok {
			return errorAt(arg.Position, "@%s has no argument %q: %s", dir.Name, arg.Name, didYouMean(arg.Name, slices.Sorted(maps.Keys(def.args))))
		}
		if seen[arg.Name] {
			return errorAt(arg.Position, "@%s: argument %q is there twice: remove one", dir.Name, arg.Name)
		}
		seen[arg.Name] = true
		if !takes(kind, arg.Value) {
			return errorAt(arg.Position, "@%s: argument %q takes %v", dir.Name, arg.Name, kind)
		}
	}
	return nil
}

func takes(k argKind, v *ast.Value) bool {
	if v.Kind == ast.NullValue || k == argAny {
		return true
	}
	each := func(k argKind, kind ast.ValueKind) bool {
		if v.Kind == kind {
			return true
		}
		return v.Kind == ast.ListValue && !slices.ContainsFunc(v.Children, func(c *ast.ChildValue) bool {
			return c.Value.Kind != kind && (kind != ast.StringValue || c.Value.Kind != ast.BlockValue)
		})
	}
	switch k {
	case argString:
		return v.Kind == ast.StringValue || v.Kind == ast.BlockValue
	case argBool:
		return v.Kind == ast.BooleanValue
	case argInt:
		return v.Kind == ast.IntValue
	case argEnum:
		return v.Kind == ast.EnumValue
	case argStrings:
		return each(k, ast.StringValue)
	case argObjects:
		return each(k, ast.ObjectValue)
	}
	return false
}

// argument returns the value of an argument; one that is null counts as not given.
func argument(dir *ast.Directive, name string) *ast.Value {
	arg := dir.Arguments.ForName(name)
	if arg == nil || arg.Value.Kind == ast.NullValue {
		return nil
	}
	return arg.Value
}

// elements returns the elements of a list, or the value itself as the only one.
func elements(v *ast.Value) []*ast.Value {
	if v == nil {
		return nil
	}
	if v.Kind != ast.ListValue {
		return []*ast.Value{v}
	}
	vs := make([]*ast.Value, len(v.Children))
	for i, c := range v.Children {
		vs[i] = c.Value
	}
	return vs
}

// defaultArgument is the argument of @default that each type goes with.
var defaultArgument = map[value.Type]string{
	value.TypeID: "string", value.TypeString: "string", value.TypeBoolean: "bool", value.TypeInt: "int",
	value.TypeFloat64: "float", value.TypeFloat32: "float32", value.TypeDateTime: "dateTime",
	value.TypeJSON: "json", value.TypeBlob: "blob",
}

func setDefault(f *Field, def *ast.FieldDefinition) error {
	dir := def.Directives.ForName("default")
	if dir == nil {
		return nil
	}
	if len(dir.Arguments) != 1 {
		return errorAt(dir.Position, "default value must specify one argument. Field: %s", f.Name)
	}
	if f.Type.IsList() || f.IsRelation() {
		return errorAt(dir.Position, "default value is not allowed for this field type. Name: %s, Type: %s", f.Name, f.TypeName())
	}
	arg := dir.Arguments[0]
	if arg.Value.Kind == ast.NullValue {
		return errorAt(arg.Position, "default value is invalid. Field: %s, Arg: %s: null is what a field holds without a default", f.Name, arg.Name)
	}
	want := defaultArgument[f.Type]
	if got := arg.Name; got != "value" && got != want && !(f.Type == value.TypeFloat64 && got == "float64") && !(f.Type == value.TypeFloat32 && got == "float") {
		return errorAt(arg.Position, "default value type must match field type. Name: %s, Expected: %s, Actual: %s", f.Name, want, got)
	}
	if arg.Value.Kind == ast.EnumValue && f.Type == value.TypeDateTime {
		return errorAt(arg.Position, "default value is invalid. Field: %s: %s would differ from node to node: set the time when creating", f.Name, arg.Value.Raw)
	}
	loose, err := literal(arg.Value, f.Type == value.TypeJSON, maxLiteral)
	if err != nil {
		return err
	}
	v, err := value.Coerce(f.Type, loose)
	if err != nil {
		return errorAt(arg.Value.Position, "default value is invalid. Field: %s: %w", f.Name, err)
	}
	f.Default = &v
	stored := *f
	stored.ID = crdt.FirstField
	return atPos(arg.Value.Position, checkDefault(&stored))
}

// maxLiteral is how deep a default may nest: it has to fit into the dag-cbor of
// the version and of every document, which nest at most 16 deep.
const maxLiteral = 12

// literal turns a value of SDL into one that Coerce takes. A name without quotes
// is a string in JSON and wrong everywhere else.
func literal(v *ast.Value, isJSON bool, depth int) (value.Value, error) {
	if depth == 0 {
		return value.Value{}, errorAt(v.Position, "value nests more than %d deep: flatten it", maxLiteral)
	}
	switch v.Kind {
	case ast.NullValue:
		return value.Value{}, nil
	case ast.BooleanValue:
		return value.OfBool(v.Raw == "true"), nil
	case ast.StringValue, ast.BlockValue:
		return value.OfString(v.Raw), nil
	case ast.IntValue, ast.FloatValue:
		n, err := value.ParseNumber(v.Raw)
		return n, atPos(v.Position, err)
	case ast.EnumValue:
		if isJSON {
			return value.OfString(v.Raw), nil
		}
		return value.Value{}, errorAt(v.Position, "%s is no value: put it in quotes", v.Raw)
	case ast.ListValue:
		var list []value.Value
		for _, c := range v.Children {
			e, err := literal(c.Value, isJSON, depth-1)
			if err != nil {
				return e, err
			}
			list = append(list, e)
		}
		return value.OfList(list), nil
	case ast.ObjectValue:
		return objectLiteral(v, isJSON, depth)
	}
	return value.Value{}, errorAt(v.Position, "a variable has no value here: write the value")
}

func objectLiteral(v *ast.Value, isJSON bool, depth int) (value.Value, error) {
	members := make(map[string]value.Value, len(v.Children))
	for _, c := range v.Children {
		if _, twice := members[c.Name]; twice {
			return value.Value{}, errorAt(c.Position, "key %q is there twice: remove one", c.Name)
		}
		e, err := literal(c.Value, isJSON, depth-1)
		if err != nil {
			return e, err
		}
		members[c.Name] = e
	}
	return value.OfMap(members), nil
}

func setSize(f *Field, def *ast.FieldDefinition) error {
	dir := def.Directives.ForName("constraints")
	if dir == nil {
		return nil
	}
	v := argument(dir, "size")
	if v == nil {
		return errorAt(dir.Position, "@constraints: give a size")
	}
	n, err := strconv.ParseInt(v.Raw, 10, 64)
	if err != nil {
		return errorAt(v.Position, "field %q: size %.40s is not between 1 and %d", f.Name, v.Raw, MaxListSize)
	}
	if err := checkSize(f, n); err != nil {
		return atPos(v.Position, err)
	}
	f.Size = int(n)
	return nil
}

// setMode reads @docID: how the docIDs of the collection come about.
func (d *draft) setMode() error {
	dir := d.def.Directives.ForName("docID")
	if dir == nil {
		return nil
	}
	mode, fields := argument(dir, "mode"), elements(argument(dir, "fields"))
	switch {
	case mode == nil && len(fields) > 0:
		d.Mode = dag.ModeKeyed
	case mode == nil:
		return errorAt(dir.Position, "@docID: give a mode: %s", strings.Join(modeNames, ", "))
	default:
		i := slices.Index(modeNames, mode.Raw)
		if i < 0 {
			return errorAt(mode.Position, "@docID: mode %q is not known: %s", mode.Raw, didYouMean(mode.Raw, modeNames))
		}
		d.Mode = dag.Mode(i)
	}
	if d.Mode != dag.ModeKeyed {
		if len(fields) > 0 {
			return errorAt(dir.Position, "@docID: fields go with mode KEYED only: remove them")
		}
		return nil
	}
	if len(fields) == 0 {
		return errorAt(dir.Position, "@docID: mode KEYED needs fields: [\"name\", …], whose values are the key")
	}
	for _, v := range fields {
		if err := d.addKey(v); err != nil {
			return err
		}
	}
	return nil
}

// modeNames are the modes in the order of their numbers.
var modeNames = []string{"CONTENT", "OWNED", "KEYED", "UNIQUE"}

func (d *draft) addKey(v *ast.Value) error {
	f, ok := d.stored(v.Raw)
	if !ok {
		return errorAt(v.Position, "@docID: type %s has no field %.140q that can be a key: %s", d.Name, v.Raw, didYouMean(v.Raw, d.storedNames()))
	}
	if err := checkKey(f); err != nil {
		return atPos(v.Position, err)
	}
	if d.isKey(f) {
		return errorAt(v.Position, "@docID: field %q is there twice: remove one", f.Name)
	}
	if len(d.Keys) == MaxKeys {
		return errorAt(v.Position, "@docID: more than %d key fields: fewer have to do", MaxKeys)
	}
	f.NonNull = true // a document without its key could not be named
	d.Keys = append(d.Keys, f.ID)
	return nil
}

// stored returns a stored field by its name or id form.
func (c *Collection) stored(name string) (*Field, bool) {
	f, ok := c.Field(name)
	if !ok {
		f, ok = c.Relation(name)
	}
	return f, ok && !f.IsVirtual()
}

func (c *Collection) storedNames() []string {
	var names []string
	for i := range c.Fields {
		if f := &c.Fields[i]; !f.IsVirtual() {
			names = append(names, f.Name)
		}
	}
	return names
}

// setShards reads @sync: in how many topics changes are told.
func (d *draft) setShards() error {
	dir := d.def.Directives.ForName("sync")
	if dir == nil {
		return nil
	}
	v := argument(dir, "shards")
	if v == nil {
		return errorAt(dir.Position, "@sync on %s: give shards: in how many topics its changes are told", d.Name)
	}
	n, err := strconv.ParseInt(v.Raw, 10, 32)
	if err != nil {
		n = -1 // too many digits
	}
	d.Shards, err = shards(d.Name, n)
	return atPos(v.Position, err)
}

// shards returns how many topics n stands for: 0 for one.
func shards(name string, n int64) (int, error) {
	if n < 1 || n > MaxShards || n&(n-1) != 0 {
		return 0, fault.Invalid.Errorf("shards of %s: take a power of two from 1 to %d", name, MaxShards)
	}
	if n == 1 {
		return 0, nil
	}
	return int(n), nil
}

// checkUnsupported refuses what this version cannot honour: taking it and doing
// nothing would promise something.
func checkUnsupported(d *draft) error {
	for _, dir := range d.def.Directives {
		v := argument(dir, "if")
		on := v == nil || v.Raw == "true"
		switch {
		case dir.Name == "branchable" && on:
			return errorAt(dir.Position, "@branchable on %s: this version keeps a history for each document, none for the collection: remove it", d.Name)
		case dir.Name == "materialized" && !on:
			return errorAt(dir.Position, "non-materialized collections are not supported. Collection: %s: remove @materialized", d.Name)
		}
	}
	for _, def := range d.def.Fields {
		if dir := def.Directives.ForName("embedding"); dir != nil {
			return errorAt(dir.Position, "@embedding on %s.%s: this version does not call embedding providers: remove it and write the vector yourself", d.Name, def.Name)
		}
	}
	return nil
}

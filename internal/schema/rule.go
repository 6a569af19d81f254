package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// Cell names where a field keeps its value: every version that has a field with
// this number and this kind reads and writes the same cell.
type Cell struct {
	ID   crdt.FieldID
	Kind crdt.Kind
}

// Cell returns the field's own cell.
func (f *Field) Cell() Cell { return Cell{f.ID, f.Kind()} }

// Op is what a rule does. Its number is part of the format of a version.
type Op uint8

const (
	OpDefault Op = 1 // To shows Value where nothing was written
	OpSplit   Op = 2 // From, cut at Separator, shows in To; joined, To shows in From
	OpMerge   Op = 3 // the other way round
	OpCast    Op = 4 // To and From are the same in different types
)

var opNames = [...]string{OpDefault: "default", OpSplit: "split", OpMerge: "merge", OpCast: "cast"}

// String returns the name that a migration spells.
func (o Op) String() string {
	if o == 0 || int(o) >= len(opNames) {
		return "unknown"
	}
	return opNames[o]
}

// Rule says how cells of the previous version and cells of this one show the same
// thing. It is applied when somebody reads, in either direction, and writes
// nothing: it is a function of the merged document, whatever the order in which
// the writes of both versions arrived.
type Rule struct {
	Op        Op
	From      []Cell       // of the previous version; none for OpDefault
	To        []Cell       // of this version
	Separator string       // of OpSplit and OpMerge
	Value     *value.Value // of OpDefault
}

// Limits of the rules of one version.
const (
	MaxRules     = 256
	MaxParts     = 16      // fields that one is split into or merged from
	MaxSeparator = 64      // bytes
	MaxLens      = 4 << 10 // bytes of a LensRule
)

func (r *Rule) check() error {
	from, to := 1, 1
	switch r.Op {
	case OpDefault:
		from = 0
	case OpSplit:
		to = len(r.To)
	case OpMerge:
		from = len(r.From)
	case OpCast:
	default:
		return fault.Invalid.Errorf("rule %d of a migration is not known: this node is older than the version", r.Op)
	}
	if len(r.From) != from || len(r.To) != to || from > MaxParts || to > MaxParts {
		return fault.Invalid.Errorf("%v takes %d fields from the previous version and makes %d: that is no %[1]v", r.Op, len(r.From), len(r.To))
	}
	parted := r.Op == OpSplit || r.Op == OpMerge
	if parted && max(from, to) < 2 {
		return fault.Invalid.Errorf("%v between two single fields: name at least two parts, or rename the field", r.Op)
	}
	if parted != (r.Separator != "") || len(r.Separator) > MaxSeparator || !utf8.ValidString(r.Separator) {
		return fault.Invalid.Errorf("%v: separator %.70q: give split and merge a text of 1 to %d bytes", r.Op, r.Separator, MaxSeparator)
	}
	if (r.Op == OpDefault) != (r.Value != nil) {
		return fault.Invalid.Errorf("%v: only a default has a value, and it needs one", r.Op)
	}
	for _, c := range slices.Concat(r.From, r.To) {
		if err := r.checkCell(c); err != nil {
			return err
		}
	}
	if r.Op == OpCast && !castable(r.From[0].Kind.Type(), r.To[0].Kind.Type()) {
		return fault.Invalid.Errorf("cast from %v to %v: there is no such conversion: add a field and write it", r.From[0].Kind.Type(), r.To[0].Kind.Type())
	}
	return nil
}

func (r *Rule) checkCell(c Cell) error {
	if c.ID < crdt.FirstField || !c.Kind.Known() {
		return fault.Invalid.Errorf("%v: field number %d of kind %v does not exist", r.Op, c.ID, c.Kind)
	}
	t := c.Kind.Type()
	switch {
	case c.Kind.Rule() != crdt.LWW:
		// Rules compare when fields were written, which nobody knows of a sum.
		return fault.Invalid.Errorf("%v of a %v field: only lww fields can be migrated", r.Op, c.Kind.Rule())
	case r.Op == OpDefault && (t == value.TypeRef || t.IsList()):
		return fault.Invalid.Errorf("%v of a field of type %v: only single values have one", r.Op, t)
	case (r.Op == OpSplit || r.Op == OpMerge) && t != value.TypeString:
		return fault.Invalid.Errorf("%v of a field of type %v: only String can be cut and joined", r.Op, t)
	}
	return nil
}

// checkRules holds the rules of a version to its fields.
func (c *Collection) checkRules() error {
	if len(c.Rules) > MaxRules {
		return fault.TooLarge.Errorf("type %s has %d migration rules, more than %d", c.Name, len(c.Rules), MaxRules)
	}
	if c.isFirst() && len(c.Rules) > 0 {
		return fault.Invalid.Errorf("type %s: a first version has nothing to migrate from", c.Name)
	}
	type use struct {
		Cell
		derived, to bool
	}
	seen := map[use]bool{}
	for i := range c.Rules {
		r := &c.Rules[i]
		if err := r.check(); err != nil {
			return err
		}
		for j, cell := range slices.Concat(r.From, r.To) {
			u := use{cell, r.Op != OpDefault, j >= len(r.From)}
			if slices.Contains(c.Keys, cell.ID) {
				return fault.Invalid.Errorf("%v: %s is part of the key that names the documents: it shows what was written to it", r.Op, c.called(cell.ID))
			}
			if seen[u] {
				return fault.Invalid.Errorf("%v: %s is in two rules, or twice in one: once has to do", r.Op, c.called(cell.ID))
			}
			seen[u] = true
		}
		for _, cell := range r.To {
			f, ok := c.FieldByID(cell.ID)
			if !ok || f.Cell() != cell {
				return fault.Invalid.Errorf("%v: the version has no field number %d of kind %v", r.Op, cell.ID, cell.Kind)
			}
			if r.Op == OpDefault {
				if err := checkShown(f, *r.Value); err != nil {
					return err
				}
			} else if f.NonNull {
				return fault.Invalid.Errorf("field %q cannot be %s: what a rule makes of another field can be null", f.Name, f.TypeName())
			}
		}
	}
	return nil
}

// called names a field for people. One that the version has not has only its number.
func (c *Collection) called(id crdt.FieldID) string {
	if f, ok := c.FieldByID(id); ok {
		return "field " + strconv.Quote(f.Name)
	}
	return fmt.Sprintf("field number %d", id)
}

// checkShown expects the value of a default to be one that could be written.
func checkShown(f *Field, v value.Value) error {
	g := *f
	g.Default = &v
	return checkDefault(&g)
}

// Follows returns an error if c cannot be the version after prev: what names
// documents stays, and rules lead to fields that prev has.
func (c *Collection) Follows(prev *Collection) error {
	switch {
	case c.ID != prev.ID || c.Previous != prev.Version:
		return fault.Invalid.Errorf("version %s of %s does not follow %s", c.Version, c.Name, prev.Version)
	case c.Name != prev.Name:
		return fault.Invalid.Errorf("version %s calls the collection %s, not %s: the name stays", c.Version, c.Name, prev.Name)
	case c.Mode != prev.Mode || !slices.Equal(c.Keys, prev.Keys):
		return fault.Invalid.Errorf("version %s of %s names its documents otherwise: mode and key stay", c.Version, c.Name)
	case !c.samePolicy(prev):
		return fault.Invalid.Errorf("version %s of %s has another policy: who may do what stays with the collection: make a new one", c.Version, c.Name)
	}
	for _, f := range prev.KeyFields() {
		if g, ok := c.FieldByID(f.ID); !ok || g.Kind() != f.Kind() || g.Target != f.Target {
			return fault.Invalid.Errorf("field %q is part of the key that names the documents: keep it, and its type", f.Name)
		}
	}
	for i := range c.Rules {
		for _, cell := range c.Rules[i].From {
			if !prev.hasCell(cell) {
				return fault.Invalid.Errorf("%v: the previous version has no field number %d of kind %v", c.Rules[i].Op, cell.ID, cell.Kind)
			}
		}
	}
	l, _ := c.LensRule()
	for _, name := range l.Fields {
		if f, ok := c.Field(name); !ok || prev.hasCell(f.Cell()) || c.tied(f.Cell(), true) {
			return fault.Invalid.Errorf("lens: field %q is no new one, or made by a rule: modules make fields that the version before has not got, or has in another type", name)
		}
	}
	return nil
}

func (c *Collection) isFirst() bool { return c.Previous == [32]byte{} }

func (c *Collection) hasCell(cell Cell) bool {
	f, ok := c.FieldByID(cell.ID)
	return ok && f.Kind() == cell.Kind
}

// cut returns what shows in part i of n.
func cut(v value.Value, separator string, i, n int) value.Value {
	if v.Kind() != value.String {
		return value.Value{}
	}
	parts := strings.SplitN(v.Text(), separator, n)
	if i >= len(parts) {
		return value.Value{}
	}
	return value.OfString(parts[i])
}

// joined is the inverse of cut. Parts that are null are left out.
func joined(parts []value.Value, separator string) value.Value {
	var texts []string
	for _, v := range parts {
		if v.Kind() == value.String {
			texts = append(texts, v.Text())
		}
	}
	if texts == nil {
		return value.Value{}
	}
	return value.OfString(strings.Join(texts, separator))
}

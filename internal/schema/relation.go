package schema

import (
	"maps"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/value"
)

// end is one side of a relation while it looks for the other.
type end struct {
	owner   string
	field   string
	target  string
	name    string // of the relation
	named   bool   // by @relation
	list    bool
	primary bool // by @primary, or because an existing collection stores it
	virtual bool
	pos     *ast.Position // nil in an existing collection
}

// setRelation reads @relation and @primary.
func (d *draft) setRelation(f *Field, def *ast.FieldDefinition) error {
	if !f.IsRelation() {
		for _, dir := range def.Directives {
			if dir.Name == "relation" || dir.Name == "primary" {
				return errorAt(dir.Position, "@%s on %s: %s is no type of a collection: remove it", dir.Name, f.Name, f.TypeName())
			}
		}
		return nil
	}
	e := &end{
		owner: d.Name, field: f.Name, target: f.Target, pos: def.Position,
		list:    f.Type.IsList(),
		primary: def.Directives.ForName("primary") != nil,
		name:    relationName(d.Name, f.Target),
	}
	if dir := def.Directives.ForName("relation"); dir != nil {
		v := argument(dir, "name")
		if v == nil {
			return errorAt(dir.Position, "@relation: give a name, the same on both sides")
		}
		if err := checkRelationName(v.Raw); err != nil {
			return atPos(v.Position, err)
		}
		e.name, e.named = v.Raw, true
	}
	f.Relation = e.name
	e.virtual = e.list
	d.ends[f.Name] = e
	return nil
}

// relationName is the name of a relation that was not given one.
func relationName(a, b string) string {
	a, b = strings.ToLower(a), strings.ToLower(b)
	return min(a, b) + "_" + max(a, b)
}

// relations finds for every relation of d its other side and decides which side
// stores the docID.
func (s *submission) relations(d *draft) error {
	for i := range d.Fields {
		f := &d.Fields[i]
		e := d.ends[f.Name]
		if e == nil {
			continue
		}
		if err := s.pair(e); err != nil {
			return err
		}
		if !e.virtual {
			continue
		}
		if f.NonNull {
			return errorAt(e.pos, "field %q: only the side of a relation that stores the docID can be non-null: remove the !, or move @primary here", f.Name)
		}
		f.Rule = 0
		if !e.list {
			f.Type = value.TypeRef
		}
	}
	return nil
}

// pair decides about e alone, by rules that come to the matching answer when the
// other side is asked.
func (s *submission) pair(e *end) error {
	same, back := s.sides(e)
	if e.owner == e.target {
		return s.pairSelf(e, same)
	}
	switch {
	case len(back) == 0 && e.list:
		return missing(e, "the other side of a list must be a single field: declare one of type %s in %s, or use a type in between for many to many", e.owner, e.target)
	case len(back) == 0 && !e.named && !s.namedApart(e):
		return nil
	case len(back) == 0 && e.named:
		if other := s.unnamedBack(e); other != nil {
			return missing(e, "%s.%s does not carry the name: give both sides the same @relation(name:)", other.owner, other.field)
		}
		if len(same) > 1 {
			return ambiguous(e, same)
		}
		return nil
	case len(back) == 0:
		return missing(e, "the field of %s that leads back has another name: give both sides the same @relation(name:)", e.target)
	case len(back) > 1:
		return ambiguous(e, back)
	case len(same) > 1:
		return ambiguous(e, same)
	}
	return pairWith(e, back[0])
}

// pairSelf pairs within one type, where both sides are among the same fields.
func (s *submission) pairSelf(e *end, same []*end) error {
	var others []*end
	primaries := 0
	for _, o := range same {
		if o.field != e.field {
			others = append(others, o)
		}
		if o.primary {
			primaries++
		}
	}
	lists := slices.ContainsFunc(same, func(o *end) bool { return o.list })
	alone := !lists && !e.named && (primaries == 0 || primaries == len(same))
	switch {
	case alone || len(same) == 1 && !e.list:
		return nil
	case len(same) == 1:
		return missing(e, "the other side of a list must be a single field of type %s: declare one", e.owner)
	case len(others) > 1 || !lists && !e.named:
		return ambiguous(e, same)
	}
	return pairWith(e, others[0])
}

// pairWith decides between exactly two sides.
func pairWith(e, other *end) error {
	switch {
	case e.list && other.list:
		return missing(e, "both sides are lists: use a type in between that has two single relations")
	case e.list || other.list:
		return nil
	case e.primary && other.primary:
		return errorAt(e.pos, "relation can only have a single field set as primary: %s.%s and %s.%s both have @primary", e.owner, e.field, other.owner, other.field)
	case !e.primary && !other.primary:
		return missing(e, "both sides are single: put @primary on %s.%s or %s.%s, where the docID shall be stored", e.owner, e.field, other.owner, other.field)
	}
	e.virtual = !e.primary
	return nil
}

// link is what two ends have in common that can be the sides of one relation.
type link struct{ owner, target, name string }

// collectEnds sorts the ends of the types of the submission, and those of existing
// collections that already lead to them, by what pairs them.
func (s *submission) collectEnds() {
	for _, d := range s.drafts {
		for _, field := range slices.Sorted(maps.Keys(d.ends)) {
			s.addEnd(d.ends[field])
		}
	}
	for _, c := range s.others {
		for i := range c.Fields {
			if f := &c.Fields[i]; s.byName[f.Target] != nil {
				s.addEnd(&end{
					owner: c.Name, field: f.Name, target: f.Target, name: f.Relation,
					named: f.Relation != relationName(c.Name, f.Target),
					list:  f.Type.IsList(), primary: !f.IsVirtual(), virtual: f.IsVirtual(),
				})
			}
		}
	}
}

func (s *submission) addEnd(e *end) {
	l := link{e.owner, e.target, e.name}
	s.ends[l] = append(s.ends[l], e)
	if e.named {
		l.name = ""
		s.ends[l] = append(s.ends[l], e) // no relation has an empty name
	}
}

// sides returns the ends that carry the name of e between the same two types:
// those in e's own type, e included, and those that lead back to it.
func (s *submission) sides(e *end) (same, back []*end) {
	same = s.ends[link{e.owner, e.target, e.name}]
	if e.owner != e.target {
		back = s.ends[link{e.target, e.owner, e.name}]
	}
	return same, back
}

// unnamedBack returns an end without @relation that leads back from e's target
// and finds no other partner either.
func (s *submission) unnamedBack(e *end) *end {
	name := relationName(e.owner, e.target)
	if e.owner == e.target || len(s.ends[link{e.owner, e.target, name}]) > 0 {
		return nil
	}
	for _, o := range s.ends[link{e.target, e.owner, name}] {
		return o
	}
	return nil
}

// namedApart reports whether the unnamed e is left alone while an end that leads
// back has a name which nothing in e's type carries.
func (s *submission) namedApart(e *end) bool {
	return slices.ContainsFunc(s.ends[link{owner: e.target, target: e.owner}], func(o *end) bool {
		_, back := s.sides(o)
		return len(back) == 0
	})
}

func missing(e *end, hint string, args ...any) error {
	args = append([]any{e.owner, e.name}, args...)
	return errorAt(e.pos, "relation missing field. Object: %s, RelationName: %s: "+hint, args...)
}

func ambiguous(e *end, among []*end) error {
	const few = 4
	var names []string
	for _, o := range among[:min(few, len(among))] {
		names = append(names, o.owner+"."+o.field)
	}
	return errorAt(e.pos, "relation %s of %s.%s could be any of %s: give each pair of fields its own @relation(name:)", e.name, e.owner, e.field, strings.Join(names, ", "))
}

// setRule reads @crdt.
func setRule(f *Field, def *ast.FieldDefinition) error {
	dir := def.Directives.ForName("crdt")
	if dir == nil {
		return nil
	}
	v := argument(dir, "type")
	if v == nil {
		return errorAt(dir.Position, "@crdt: give a type: lww, pcounter, pncounter or mvregister")
	}
	switch v.Raw {
	case "lww":
	case "pcounter":
		f.Rule = crdt.PCounter
	case "pncounter", "counter":
		f.Rule = crdt.PNCounter
	case "mvregister":
		f.Rule = crdt.MVR
	default:
		return errorAt(v.Position, "@crdt: type %q is not known: %s", v.Raw, didYouMean(v.Raw, []string{"lww", "pcounter", "pncounter", "mvregister"}))
	}
	stored := *f // whatever side of a relation it becomes, the rule is judged as if stored
	stored.ID, stored.Type = crdt.FirstField, f.Type
	if f.IsRelation() {
		stored.Type = value.TypeRef
	}
	return atPos(v.Position, checkKind(&stored))
}

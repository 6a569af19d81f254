package query

import (
	"fmt"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// predicate is a condition on a document. The row is nil where a relation leads
// nowhere: all its fields are null then. A failure to read related documents is
// left in the run.
type predicate = condition[*run, *row]

// scope is where a part of a filter stands.
type scope struct {
	*collection        // whose documents it is over
	level       *level // what is selected of them, for _alias; nil: nothing
	maybe       bool   // a relation leads there, so there may be no document
	depth       int
}

// filter compiles a filter over documents.
func (c *compiler) filter(s scope, v value.Value) (predicate, error) {
	if s.depth++; s.depth > maxConditionDepth {
		return predicate{}, fault.TooLarge.Errorf("conditions nest deeper than %d", maxConditionDepth)
	}
	if v.IsNull() {
		return predicate{}, nil
	}
	var all []predicate
	for name, operand := range v.Members() {
		one, err := c.member(s, name, operand)
		if err != nil {
			return predicate{}, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, one)
	}
	return allOf(all...), nil
}

// member compiles one member of a filter.
func (c *compiler) member(s scope, name string, operand value.Value) (predicate, error) {
	if err := c.spend(1); err != nil {
		return predicate{}, err
	}
	switch name {
	case "_and", "_or":
		return c.junction(s, name, operand)
	case "_not":
		if operand.IsNull() {
			return predicate{}, nil
		}
		p, err := c.filter(s, operand)
		return not(p), err
	case "_alias":
		return c.aliased(s, operand)
	}
	f := s.byName[name]
	if s.level != nil && !s.level.shows(f) {
		return predicate{}, notGrouped(f)
	}
	switch f.role {
	case roleOne:
		return c.overOne(s, f, operand)
	case roleMany:
		return c.overMany(s, f, operand)
	case roleObject, roleObjects:
		return c.overEmbedded(s, f, operand)
	}
	if f.conditionType() == value.TypeJSON {
		if err := c.spend(conditionsIn(operand)); err != nil {
			return predicate{}, err
		}
	}
	t, err := block(f.conditionType(), operand)
	if err != nil || t.truth != depends {
		return predicate{truth: t.truth}, err
	}
	holds := t.holds
	switch f.role {
	case roleValue:
		return onField(f.Field, holds), nil
	case roleDocID:
		return onID(s, operand, holds), nil
	}
	read := c.reader(s.collection, f)
	return when(func(x *run, r *row) bool { return holds(read(x, r)) }), nil
}

// onID compiles the conditions on _docID so that no value is made of each docID.
// It is null only where there is no document.
func onID(s scope, v value.Value, ofNull func(value.Value) bool) predicate {
	p := predicate{}
	if v.IsNull() {
		p.truth = never
	}
	for name, operand := range v.Members() {
		operands := operand.List()
		if name == "_eq" || name == "_ne" {
			operands = []value.Value{operand}
		}
		p = allOf(p, idIn(idSet(parseIDs(operands)), name == "_eq" || name == "_in"))
	}
	if !s.maybe {
		return p
	}
	of := p.truth == always
	return when(func(x *run, r *row) bool {
		switch {
		case r == nil:
			return ofNull(value.Value{})
		case p.truth != depends:
			return of
		}
		return p.holds(x, r)
	})
}

// idIn holds for the documents that are in a set, or for those that are not.
func idIn(ids map[dag.DocID]bool, wanted bool) predicate {
	if len(ids) == 0 {
		p := predicate{truth: always}
		if wanted {
			p.truth = never
		}
		return p
	}
	return when(func(_ *run, r *row) bool { return ids[r.ID] == wanted })
}

func idSet(ids []dag.DocID) map[dag.DocID]bool {
	set := make(map[dag.DocID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

func (f *field) conditionType() value.Type {
	if f.role == roleValue {
		return f.Type
	}
	return value.TypeRef
}

func (c *compiler) junction(s scope, name string, operand value.Value) (predicate, error) {
	if operand.IsNull() {
		return predicate{}, nil
	}
	ps := make([]predicate, operand.Len())
	for i, o := range operand.List() {
		var err error
		if ps[i], err = c.filter(s, o); err != nil {
			return predicate{}, fmt.Errorf("element %d: %w", i, err)
		}
	}
	if name == "_and" {
		return allOf(ps...), nil
	}
	return anyOf(ps...), nil
}

// docIDs returns the docIDs that a filter restricts documents to, if it does: the
// plan then looks these up and reads nothing else.
func docIDs(filter value.Value) (ids []dag.DocID, restricted bool) {
	if filter.Kind() != value.Map {
		return nil, false
	}
	if b, ok := filter.Get("_docID"); ok && b.Kind() == value.Map {
		if v, ok := b.Get("_eq"); ok {
			return parseIDs([]value.Value{v}), true
		}
		if v, ok := b.Get("_in"); ok && v.Kind() == value.List {
			return parseIDs(v.List()), true
		}
	}
	if and, ok := filter.Get("_and"); ok {
		for _, f := range and.List() {
			if ids, ok := docIDs(f); ok {
				return ids, true
			}
		}
	}
	return nil, false
}

// parseIDs returns the docIDs among vs; text that is none names no document.
func parseIDs(vs []value.Value) []dag.DocID {
	var ids []dag.DocID
	for _, v := range vs {
		if v.Kind() != value.String {
			continue
		}
		if id, err := value.ParseRef(v.Text()); err == nil {
			ids = append(ids, dag.DocID(id))
		}
	}
	return ids
}

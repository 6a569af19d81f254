package query

import (
	"fmt"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// predicate is a condition on a document; nil holds always. The row is nil where
// a relation leads nowhere: all its fields are null then. A failure to read
// related documents is left in the run.
type predicate func(x *run, r *row) bool

// filter compiles a filter over documents of g.
func (c *compiler) filter(g *collection, v value.Value, depth int) (predicate, error) {
	if depth > maxConditionDepth {
		return nil, fault.TooLarge.Errorf("conditions nest deeper than %d", maxConditionDepth)
	}
	if v.IsNull() {
		return nil, nil
	}
	var all []predicate
	for name, operand := range v.Members() {
		one, err := c.member(g, name, operand, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if one != nil {
			all = append(all, one)
		}
	}
	return allOf(all), nil
}

func allOf(ps []predicate) predicate {
	switch len(ps) {
	case 0:
		return nil
	case 1:
		return ps[0]
	}
	return func(x *run, r *row) bool {
		for _, p := range ps {
			if !p(x, r) {
				return false
			}
		}
		return true
	}
}

// member compiles one member of a filter.
func (c *compiler) member(g *collection, name string, operand value.Value, depth int) (predicate, error) {
	if err := c.spend(1); err != nil {
		return nil, err
	}
	switch name {
	case "_and", "_or":
		return c.junction(g, name, operand, depth)
	case "_not":
		if operand.IsNull() {
			return nil, nil
		}
		p, err := c.filter(g, operand, depth)
		return func(x *run, r *row) bool { return p != nil && !p(x, r) }, err
	}
	f := g.byName[name]
	switch f.role {
	case roleOne:
		return c.overOne(g, f, operand, depth)
	case roleMany:
		return c.overMany(g, f, operand, depth)
	}
	t, err := block(f.conditionType(), operand)
	if err != nil || t == nil {
		return nil, err
	}
	switch f.role {
	case roleValue: // the common case, without a call between
		id, kind := f.ID, f.Kind()
		return func(_ *run, r *row) bool {
			if r == nil {
				return t(value.Value{})
			}
			v, _ := r.State.Value(id, kind)
			return t(v)
		}, nil
	case roleDocID:
		holds := onID(operand)
		return func(_ *run, r *row) bool {
			if r == nil {
				return t(value.Value{})
			}
			return holds(r.ID)
		}, nil
	}
	read := c.reader(g, f)
	return func(x *run, r *row) bool { return t(read(x, r)) }, nil
}

// onID compiles the conditions on _docID, which block has checked and which is
// never null, so that no value is made of each docID.
func onID(v value.Value) func(dag.DocID) bool {
	var all []func(dag.DocID) bool
	for name, operand := range v.Members() {
		operands := operand.List()
		if name == "_eq" || name == "_ne" {
			operands = []value.Value{operand}
		}
		ids := idSet(parseIDs(operands))
		wanted := name == "_eq" || name == "_in"
		all = append(all, func(id dag.DocID) bool { return ids[id] == wanted })
	}
	return func(id dag.DocID) bool {
		for _, holds := range all {
			if !holds(id) {
				return false
			}
		}
		return !v.IsNull()
	}
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

func (c *compiler) junction(g *collection, name string, operand value.Value, depth int) (predicate, error) {
	if operand.IsNull() {
		return nil, nil
	}
	var ps []predicate
	for i, o := range operand.List() {
		p, err := c.filter(g, o, depth)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		if p == nil && name == "_or" {
			return nil, nil // one that always holds
		}
		if p != nil {
			ps = append(ps, p)
		}
	}
	if name == "_and" {
		return allOf(ps), nil
	}
	return func(x *run, r *row) bool {
		for _, p := range ps {
			if p(x, r) {
				return true
			}
		}
		return false
	}, nil
}

// overOne compiles a condition on the related document. Null means that there is
// none.
func (c *compiler) overOne(g *collection, f *field, operand value.Value, depth int) (predicate, error) {
	to := c.relation(g, f)
	if operand.IsNull() {
		return func(x *run, r *row) bool { return x.one(to, r) == nil }, nil
	}
	p, err := c.filter(to.target, operand, depth)
	if err != nil || p == nil {
		return nil, err
	}
	return func(x *run, r *row) bool {
		related := x.one(to, r)
		return x.err == nil && p(x, related)
	}, nil
}

// overMany compiles a condition that at least one related document must meet. The
// documents that have one are found with a single pass over the related
// collection.
func (c *compiler) overMany(g *collection, f *field, operand value.Value, depth int) (predicate, error) {
	to := c.relation(g, f)
	if operand.IsNull() {
		return func(x *run, r *row) bool { return r == nil || !x.hasAny(to, r) }, nil
	}
	p, err := c.filter(to.target, operand, depth)
	if err != nil {
		return nil, err
	}
	to.filter = p
	return func(x *run, r *row) bool { return r != nil && x.hasAny(to, r) }, nil
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

package query

import "github.com/pandodb/pando/internal/value"

// Conditions over relations.

// overOne compiles a condition on the related document. Null means that there is
// none.
func (c *compiler) overOne(s scope, f *field, operand value.Value) (predicate, error) {
	to := c.relation(s.collection, f)
	if operand.IsNull() {
		return when(func(x *run, r *row) bool { return x.one(to, r) == nil }), nil
	}
	p, err := c.filter(scope{collection: to.target, maybe: true, depth: s.depth}, operand)
	if err != nil || p.truth != depends {
		return p, err
	}
	over := c.follow(f, operand, to, p)
	return when(func(x *run, r *row) bool { return over.holds(x, r) }), nil
}

// overMany compiles a condition that at least one related document must meet. The
// documents that have one are found with a single pass over the related
// collection.
func (c *compiler) overMany(s scope, f *field, operand value.Value) (predicate, error) {
	to := c.relation(s.collection, f)
	if operand.IsNull() {
		return when(func(x *run, r *row) bool { return r == nil || !x.hasAny(to, r) }), nil
	}
	p, err := c.filter(scope{collection: to.target, depth: s.depth}, operand)
	if err != nil || p.truth == never {
		return p, err
	}
	to.filter, to.text = p, text(operand)
	to.ways = c.follow(f, operand, to, p).ways
	return when(func(x *run, r *row) bool { return r != nil && x.hasAny(to, r) }), nil
}

// followed names a condition over a relation in a filter.
type followed struct {
	field   *field
	operand value.Value
}

// overRelation is a condition on the document that a relation leads to, or on one of
// those.
type overRelation struct {
	to     *relation
	cond   predicate
	ways   []way // to the documents that meet it
	ofNone bool  // it holds where the relation leads nowhere
}

// follow notes a condition over a relation, so that the ways of the filter can turn
// it round.
func (c *compiler) follow(f *field, operand value.Value, to *relation, cond predicate) *overRelation {
	over := &overRelation{to: to, cond: cond}
	if f.role == roleOne {
		over.ofNone = cond.truth == always || cond.truth == depends && cond.holds(&run{}, nil)
	}
	if c.indexed() {
		over.ways = c.demandsOf(to.target, operand).all()
	}
	if c.over == nil {
		c.over = map[followed]*overRelation{}
	}
	c.over[followed{f, operand}] = over
	return over
}

// holds tells whether the condition holds for the document that a single relation
// leads to from r.
func (o *overRelation) holds(x *run, r *row) bool {
	if g := x.groups[o.to]; o.to.near && r != nil && g != nil && g.any != nil {
		id, ok := o.to.reference(r)
		if ok {
			_, ok = g.any[id]
		}
		return ok
	}
	related := x.one(o.to, r)
	return x.err == nil && o.cond.holds(x, related)
}

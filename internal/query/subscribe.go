package query

import (
	"bytes"
	"context"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// subscription is the root field of a subscription: which changes it is told of,
// and what it is shown of the document of each.
type subscription struct {
	coll   *collection
	cond   predicate
	text   string // of the filter, for people
	label  []byte
	object object
	pos    *ast.Position
	key    string
}

// toldOf are the arguments of a subscription's root field that have a meaning; those
// that say how a list is cut are let pass, as the dialect has it.
var toldOf = map[string]bool{"filter": true, "docID": true, "order": false, "limit": false, "offset": false, "showDeleted": false}

// subscription plans the only root field of a subscription.
func (c *compiler) subscription(op *ast.OperationDefinition) (*subscription, error) {
	fields, err := c.collect(op.SelectionSet)
	if err != nil {
		return nil, err
	}
	if len(fields) != 1 {
		return nil, wrongf(op.Position, "a subscription has one root field, this one has %d: send one subscription for each", len(fields))
	}
	f := fields[0]
	g := c.schema.collections[f.Name]
	if g != nil && g.View != nil {
		return nil, at(f, wrongf(f.Position, "%s is a view, whose rows change only with other documents: use a live query, query @live { … }", g.Name))
	}
	if g == nil {
		return nil, at(f, wrongf(f.Position, "there is no subscription to %s: name a collection", f.Name))
	}
	for _, a := range f.Arguments {
		if _, ok := toldOf[a.Name]; ok {
			continue
		}
		if v, _, err := c.in.argument(f.Field, a.Name); err != nil || !v.IsNull() {
			return nil, at(f, wrongf(a.Position, "argument %s: a subscription takes filter and docID: use a live query, query @live { … }", a.Name))
		}
	}
	c.reading(g)
	lv, err := c.level(g, f, nil)
	if err != nil {
		return nil, at(f, err)
	}
	w, err := c.wanted(lv, f)
	if err != nil {
		return nil, at(f, err)
	}
	w.cond = allOf(w.cond, w.computed)
	if w.restricted {
		w.cond = allOf(idIn(idSet(w.ids), true), w.cond)
	}
	s := &subscription{coll: g, cond: w.cond, text: text(w.filter), pos: f.Position, key: f.key, label: newColumn(f.key, nil).label}
	if s.object, _, err = c.columns(lv); err != nil {
		return nil, at(f, err)
	}
	c.finish()
	return s, nil
}

func (s *subscription) tree(p *printer) {
	p.line("changes of " + s.coll.Name)
	if s.text != "" {
		p.line("where " + s.text)
	}
	p.columns(s.object)
}

// Subscribed returns the collection of which a subscription is told.
func (p *Plan) Subscribed() *schema.Collection { return p.told.coll.Collection }

// Event writes the value of data in the event of a change, d being the document after
// it: a list of one document under the key of the root field. It returns false, and
// writes nothing, if the change does not concern the subscription. Related documents
// are those of the transaction.
func (p *Plan) Event(ctx context.Context, tx *store.Tx, d store.Doc, b *bytes.Buffer) (bool, error) {
	s := p.told
	x := &run{ctx: ctx, tx: tx, most: p.held, out: &writer{to: capped{b, p.held}}}
	r := &row{Doc: d}
	matches := s.cond.truth == always || s.cond.truth == depends && s.cond.holds(x, r)
	if x.err != nil {
		return false, failed(s.pos, under(s.key, x.err))
	}
	if !matches {
		return false, nil
	}
	begun := b.Len()
	x.out.byte('{')
	x.out.buf = append(x.out.buf, s.label...)
	x.out.byte('[')
	if err := s.object.write(x, r); err != nil {
		b.Truncate(begun)
		return false, failed(s.pos, under(s.key, under(0, err)))
	}
	x.out.text("]}")
	return true, x.out.flush()
}

// IsStream reports whether an operation of a text is a subscription. A text that is
// wrong is none.
func IsStream(s *Schema, text, operation string) bool {
	d, err := s.document(text)
	if err != nil {
		return false
	}
	op, err := d.operation(operation)
	return err == nil && op.Operation == ast.Subscription
}

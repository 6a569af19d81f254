package query

import (
	"fmt"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
	"github.com/pandodb/pando/internal/veil"
)

// change is a root field of a mutation: it changes documents and then writes what
// is selected of them, as they are after the change.
type change struct {
	list  list
	text  string
	from  operator // the documents to change; nil for create
	apply func(x *run) (rowsOf, error)
}

func (ch *change) write(x *run, _ *row) error {
	rows, err := ch.apply(x)
	if err != nil {
		return err
	}
	// What conditions have read is from before the change.
	x.groups, x.sums, x.only, x.nears = nil, nil, nil, nil
	l := ch.list
	l.from = rows
	return l.write(x, nil)
}

func (ch *change) tree(p *printer) {
	if ch.from != nil {
		p.operator(ch.from)
	}
	p.line(ch.text)
	p.columns(ch.list.object)
}

// mutation plans a root field of a mutation.
func (c *compiler) mutation(f *selected) (column, error) {
	m := c.schema.mutations[f.Name]
	ch := &change{text: m.verb + " " + m.coll.Name}
	var err error
	if m.verb != "create" { // which looks at no others
		c.reading(m.coll)
	}
	switch m.verb {
	case "create":
		ch.apply, err = c.create(m.coll, f)
	case "update":
		ch.apply, err = c.update(m.coll, f, ch)
	case "delete":
		ch.apply, err = c.delete(m.coll, f, ch)
	case "upsert":
		ch.apply, err = c.upsert(m.coll, f, ch)
	}
	if err != nil {
		return column{}, err
	}
	ch.list.object, ch.list.follows, err = c.object(m.coll, f)
	return column{write: ch.write, node: ch}, err
}

func (c *compiler) create(g *collection, f *selected) (func(*run) (rowsOf, error), error) {
	v, given, err := c.in.argument(f.Field, "input")
	if err != nil {
		return nil, err
	}
	if !given || v.IsNull() {
		return nil, wrongf(f.Position, "%s needs the argument input: an object, or a list of them", f.Name)
	}
	docs := make([][]schema.Input, v.Len())
	for i, o := range v.List() {
		if docs[i], err = schema.InputsOf(o); err != nil {
			return nil, argumentError(f, "input", fmt.Errorf("element %d: %w", i, err))
		}
	}
	cover, err := c.cover(g, f)
	if err != nil {
		return nil, err
	}
	return func(x *run) (rowsOf, error) {
		rows := make(rowsOf, 0, len(docs))
		for i, in := range docs {
			r, err := x.create(g, in, cover)
			if err == nil {
				err = x.step()
			}
			if err != nil {
				return nil, under(i, err)
			}
			rows = append(rows, r)
		}
		return rows, nil
	}, nil
}

func (x *run) create(g *collection, in []schema.Input, cover veil.Cover) (*row, error) {
	deltas, err := g.Create(in)
	if err != nil {
		return nil, err
	}
	if !cover.None() {
		return x.changed(x.tx.CreateEncrypted(g.Collection, deltas, cover))
	}
	return x.changed(x.tx.Create(g.Collection, deltas))
}

// changed holds a document that the transaction has changed.
func (x *run) changed(d store.Doc, err error) (*row, error) {
	if err != nil {
		return nil, err
	}
	r := &row{Doc: d}
	return r, x.reserve(r.size(0))
}

// affected plans which documents an update or a delete is for. A request that
// names none by docID or filter, perhaps because a variable was not given, is
// refused unless it says that it means all.
func (c *compiler) affected(g *collection, f *selected) (operator, error) {
	w, err := c.wanted(&level{collection: g}, f)
	if err != nil {
		return nil, err
	}
	all, _, err := c.in.argument(f.Field, "all")
	if err != nil {
		return nil, err
	}
	if !w.restricted && w.cond.truth == always && !all.Bool() {
		return nil, wrongf(f.Position, "%s names neither docID nor a filter that excludes anything: it would change every document; add all: true if that is meant", f.Name)
	}
	return c.matching(g, w), nil
}

// found returns the docIDs that an operator yields, before any of them changes.
func (x *run) found(from operator, most int) ([]dag.DocID, error) {
	var ids []dag.DocID
	for r, err := range x.rows(from, nil) {
		if err != nil {
			return nil, err
		}
		if err := x.reserve(int64(len(r.ID))); err != nil {
			return nil, err
		}
		if ids = append(ids, r.ID); len(ids) == most {
			break
		}
	}
	return ids, nil
}

func (c *compiler) update(g *collection, f *selected, ch *change) (func(*run) (rowsOf, error), error) {
	v, _, err := c.in.argument(f.Field, "input")
	if err != nil {
		return nil, err
	}
	in, err := inputsOf(v)
	if err != nil {
		return nil, argumentError(f, "input", err)
	}
	if ch.from, err = c.affected(g, f); err != nil {
		return nil, err
	}
	return func(x *run) (rowsOf, error) {
		return x.each(ch.from, func(id dag.DocID) (*row, error) { return x.update(g, id, in) })
	}, nil
}

func inputsOf(v value.Value) ([]schema.Input, error) {
	if v.IsNull() {
		return nil, nil
	}
	return schema.InputsOf(v)
}

// each changes the documents that an operator yields.
func (x *run) each(from operator, change func(dag.DocID) (*row, error)) (rowsOf, error) {
	ids, err := x.found(from, 0)
	if err != nil {
		return nil, err
	}
	rows := make(rowsOf, 0, len(ids))
	for i, id := range ids {
		r, err := change(id)
		if err == nil {
			err = x.step()
		}
		if err != nil {
			return nil, under(i, err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// update writes what differs; a document that has all values already is returned
// as it is, without a commit, to who may change it.
func (x *run) update(g *collection, id dag.DocID, in []schema.Input) (*row, error) {
	d, err := x.tx.Get(g.Collection, id)
	if err != nil {
		return nil, err
	}
	deltas, err := g.Update(d.State, in)
	if err != nil {
		return nil, err
	}
	return x.changed(x.tx.Write(g.Collection, id, deltas))
}

func (c *compiler) delete(g *collection, f *selected, ch *change) (func(*run) (rowsOf, error), error) {
	var err error
	if ch.from, err = c.affected(g, f); err != nil {
		return nil, err
	}
	return func(x *run) (rowsOf, error) {
		return x.each(ch.from, func(id dag.DocID) (*row, error) {
			return x.changed(x.tx.Delete(g.Collection, id))
		})
	}, nil
}

func (c *compiler) upsert(g *collection, f *selected, ch *change) (func(*run) (rowsOf, error), error) {
	w, err := c.wanted(&level{collection: g}, f)
	if err != nil {
		return nil, err
	}
	var in [2][]schema.Input
	for i, name := range []string{"create", "update"} {
		v, _, err := c.in.argument(f.Field, name)
		if err != nil {
			return nil, err
		}
		if in[i], err = inputsOf(v); err != nil {
			return nil, argumentError(f, name, err)
		}
	}
	ch.from = c.matching(g, w)
	return func(x *run) (rowsOf, error) {
		ids, err := x.found(ch.from, 2)
		if err != nil {
			return nil, err
		}
		var r *row
		switch len(ids) {
		case 0:
			r, err = x.create(g, in[0], veil.Cover{})
		case 1:
			r, err = x.update(g, ids[0], in[1])
		default:
			err = fault.Invalid.Errorf("cannot upsert multiple matching documents: narrow the filter until it matches one")
		}
		return rowsOf{r}, err
	}, nil
}

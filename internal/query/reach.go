package query

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// reach says of which documents a row of a view is made, if it belongs to one: that
// document, and those that relations lead to from there. When one of them changes,
// the row may.
type reach struct {
	at    *collection
	via   *field // the relation that leads here; nil where the rows belong
	below []*reach
}

// to returns where a relation leads.
func (r *reach) to(f *field, target *collection) *reach {
	for _, b := range r.below {
		if b.via.Field == f.Field {
			return b
		}
	}
	b := &reach{at: target, via: f}
	r.below = append(r.below, b)
	return b
}

// sources writes what rows depend on besides documents: how these are read.
func (r *reach) sources(h hash.Hash) {
	h.Write(r.at.Version[:])
	for i := range r.at.Fields {
		h.Write([]byte(r.at.Fields[i].Reading()))
	}
	for _, b := range r.below {
		b.sources(h)
	}
}

// reachOf returns the reach of the rows of a view, given its root field. It is nil if
// a row may depend on other documents too: as one of a limited list, as a group, by
// where it stands in an order; or if it is of the past, or passes through modules.
func (c *compiler) reachOf(v *schema.Collection, root *selected) *reach {
	g := c.schema.collections[root.Name]
	if g == nil || g.View != nil || v.View.Transform != nil {
		return nil
	}
	for _, a := range root.Arguments {
		if a.Name != "filter" && a.Name != "showDeleted" {
			return nil
		}
	}
	r := &reach{at: g}
	t := &tracing{c: c}
	t.level(r, root)
	if t.lost {
		return nil
	}
	return r
}

// tracing follows a selection to all relations in it. What it does not know is lost: its
// rows are computed anew whenever anything changes.
type tracing struct {
	c    *compiler
	lost bool
}

// level follows the arguments and the selection of a list of documents.
func (t *tracing) level(r *reach, f *selected) {
	for _, a := range f.Arguments {
		v, _, err := t.c.in.argument(f.Field, a.Name)
		switch name := a.Name; {
		case err != nil:
			t.lost = true
		case name == "filter":
			t.filter(r, v)
		case name == "order":
			for _, key := range v.List() {
				t.names(r, key)
			}
		case name == "groupBy":
			for _, field := range v.List() {
				t.field(r, field.Text())
			}
		case name == "docID", name == "limit", name == "offset", name == "showDeleted":
		default:
			t.lost = true
		}
	}
	fields, err := t.c.collect(f.sub)
	if err != nil {
		t.lost = true
	}
	for _, s := range fields {
		t.selection(r, s)
	}
}

func (t *tracing) selection(r *reach, s *selected) {
	if s.Name == "__typename" {
		return
	}
	name := canonical(s.Definition)
	f := r.at.byName[name]
	if f == nil {
		t.lost = true
		return
	}
	switch f.role {
	case roleOne, roleMany:
		t.level(r.to(f, t.c.schema.collections[f.Target]), s)
	case roleGroup:
		t.level(r, s)
	case roleAggregate:
		for _, a := range s.Arguments {
			t.host(r, s, a.Name)
		}
	case roleSimilarity:
	default:
		t.field(r, name)
	}
}

// host follows an argument of an aggregate: what it is over.
func (t *tracing) host(r *reach, s *selected, arg string) {
	v, _, err := t.c.in.argument(s.Field, arg)
	def := s.Definition.Arguments.ForName(arg)
	if err != nil || def == nil {
		t.lost = true
		return
	}
	name := canonicalName(arg, def.Directives)
	if f := r.at.byName[name]; f != nil && f.role == roleMany {
		r = r.to(f, t.c.schema.collections[f.Target])
	} else if name != "_group" {
		return // a list in the document, or its commits
	}
	if filter, ok := v.Get("filter"); ok {
		t.filter(r, filter)
	}
	if order, ok := v.Get("order"); ok {
		for _, key := range order.List() {
			t.names(r, key)
		}
	}
}

// field follows a field that has a value of its own.
func (t *tracing) field(r *reach, name string) {
	f := r.at.byName[name]
	switch {
	case f == nil:
		t.lost = true
	case f.role == roleOne, f.role == roleOneID && !f.stored():
		r.to(f, t.c.schema.collections[f.Target])
	}
}

// filter follows the names in a filter.
func (t *tracing) filter(r *reach, v value.Value) {
	for name, operand := range v.Members() {
		switch name {
		case "_and", "_or":
			for _, o := range operand.List() {
				t.filter(r, o)
			}
		case "_not":
			t.filter(r, operand)
		default:
			t.name(r, name, operand, t.filter)
		}
	}
}

// names follows the names in one object of an order.
func (t *tracing) names(r *reach, v value.Value) {
	for name, operand := range v.Members() {
		t.name(r, name, operand, t.names)
	}
}

func (t *tracing) name(r *reach, name string, operand value.Value, deeper func(*reach, value.Value)) {
	if name == "_alias" { // what is selected is followed there
		return
	}
	f := r.at.byName[name]
	if f != nil && (f.role == roleOne || f.role == roleMany) {
		deeper(r.to(f, t.c.schema.collections[f.Target]), operand)
		return
	}
	t.field(r, name)
}

// docSet is a set of documents.
type docSet map[dag.DocID]struct{}

// affected returns the documents here whose rows may have changed, given all
// documents that did, by collection.
func (f *refresh) affected(r *reach, changed map[dag.CollectionID]docSet) (docSet, error) {
	all := docSet{}
	for id := range changed[r.at.ID] {
		all[id] = struct{}{}
	}
	for _, b := range r.below {
		below, err := f.affected(b, changed)
		if err != nil {
			return nil, err
		}
		if len(below) == 0 {
			continue
		}
		if b.via.IsVirtual() {
			err = f.referred(all, r, b, below, changed[b.at.ID])
		} else {
			err = f.referring(all, r, b, below)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// referred adds the documents that those on the far side of a relation refer to, or
// ever did if they changed: they are missing now where they were.
func (f *refresh) referred(all docSet, r, b *reach, below, changed docSet) error {
	ref, ok := r.at.Opposite(b.via.Field, b.at.Collection)
	if !ok {
		return nil
	}
	for id := range below {
		if err := f.x.step(); err != nil {
			return err
		}
		d, err := f.tx.Get(b.at.Collection, id)
		if errors.Is(err, fault.NotFound) { // somebody refers to what is not here
			continue
		}
		if err != nil {
			return err
		}
		add(all, ref.Value(d.State))
		if _, ok := changed[id]; !ok {
			continue
		}
		for a, err := range f.tx.History(b.at.Collection, id) {
			if err != nil {
				return err
			}
			for _, op := range a.Deltas {
				if op.Field == ref.ID {
					add(all, op.Val)
				}
			}
		}
	}
	return nil
}

func add(all docSet, v value.Value) {
	if v.Kind() == value.Ref {
		all[dag.DocID(v.Ref())] = struct{}{}
	}
}

// referring adds the documents that refer to those on the near side of a relation. It
// asks as anybody would, so that an index helps.
func (f *refresh) referring(all docSet, r, b *reach, below docSet) error {
	text := fmt.Sprintf("query($ids: [ID]) { %s(filter: {%s: {_in: $ids}}) { _docID } }", r.at.Name, b.via.IDName())
	ids := make([]value.Value, 0, len(below))
	for id := range below {
		ids = append(ids, value.OfString(id.String()))
	}
	vars := value.OfMap(map[string]value.Value{"ids": value.OfList(ids)})
	p, err := Compile(f.s, Request{Query: text, Variables: vars.AppendJSON(nil)})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := p.Run(f.x.ctx, f.tx, &out); err != nil {
		return err
	}
	data, err := value.ParseJSON(out.Bytes())
	if err != nil {
		return err
	}
	rows, _ := data.Get(r.at.Name)
	for _, row := range rows.List() {
		text, _ := row.Get("_docID")
		id, err := dag.ParseDocID(strings.Clone(text.Text()))
		if err != nil {
			return err
		}
		all[id] = struct{}{}
	}
	return nil
}

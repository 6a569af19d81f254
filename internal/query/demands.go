package query

import (
	"slices"
	"strings"

	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// demands is what a filter demands of a document, all of it at once.
type demands struct {
	c     *compiler
	coll  *collection
	depth int
	count int // of all demands
	bound map[*schema.Field]*bound
	parts []element
	ways  []way
}

// bound is what is demanded of the value of a field.
type bound struct {
	spans
	count int // the demands it is made of
}

// element is what is demanded of one element of a list, or of one leaf of JSON.
type element struct {
	field *schema.Field
	path  []byte
	spans
}

// demandsOf takes a filter apart that has compiled.
func (c *compiler) demandsOf(g *collection, filter value.Value) *demands {
	d := &demands{c: c, coll: g}
	d.filter(filter, false)
	return d
}

func (d *demands) branch() *demands { return &demands{c: d.c, coll: d.coll, depth: d.depth + 1} }

// filter adds the demands of a filter, or of its opposite.
func (d *demands) filter(v value.Value, opposite bool) {
	n := 0
	if v.Kind() == value.Map {
		n = v.Len()
	}
	if opposite && n != 1 { // one of the members does not hold
		var branches []*demands
		for name, operand := range v.Members() {
			b := d.branch()
			b.member(name, operand, true)
			branches = append(branches, b)
		}
		d.oneOf(branches)
		return
	}
	for name, operand := range v.Members() {
		d.member(name, operand, opposite)
	}
}

func (d *demands) member(name string, operand value.Value, opposite bool) {
	switch name {
	case "_and", "_or":
		switch {
		case operand.IsNull():
			d.constant(!opposite)
		case (name == "_and") != opposite:
			for _, o := range elementsOf(operand) {
				d.filter(o, opposite)
			}
		default:
			var branches []*demands
			for _, o := range elementsOf(operand) {
				b := d.branch()
				b.filter(o, opposite)
				branches = append(branches, b)
			}
			d.oneOf(branches)
		}
		return
	case "_not":
		if operand.IsNull() {
			d.constant(!opposite)
			return
		}
		d.filter(operand, !opposite)
		return
	}
	f := d.coll.byName[name]
	if f == nil {
		d.count++
		return
	}
	d.field(f, operand, opposite)
}

func elementsOf(v value.Value) []value.Value {
	if v.Kind() == value.List {
		return v.List()
	}
	return []value.Value{v}
}

func (d *demands) constant(holds bool) {
	if !holds {
		d.oneOf(nil)
	}
}

// field adds a demand on a field.
func (d *demands) field(f *field, operand value.Value, opposite bool) {
	isJSON := f.role == roleValue && f.Type == value.TypeJSON
	isList := f.role == roleValue && f.Type.IsList()
	switch {
	case f.role == roleDocID && !opposite:
		d.docID(operand)
	case f.role == roleValue && !isJSON && !isList, f.role == roleOneID && f.stored():
		s := spansOf(f.conditionType(), operand)
		switch {
		case !opposite:
			d.bind(f.Field, s)
		case s.exact:
			d.bind(f.Field, s.not())
		default:
			d.count++
		}
	case isList && !opposite && operand.Kind() == value.Map:
		for name, block := range operand.Members() {
			if d.count++; name == "_any" && f.Type.Scalar() != value.TypeJSON {
				d.parts = append(d.parts, element{f.Field, nil, spansOf(f.Type.Scalar(), block)})
			}
		}
	case isJSON && !opposite:
		d.json(f.Field, nil, operand)
	case (f.role == roleOne || f.role == roleMany) && !opposite && !operand.IsNull():
		d.related(f, operand)
	default:
		d.count++
	}
}

func (d *demands) docID(block value.Value) {
	d.count++
	for name, v := range block.Members() {
		switch name {
		case "_eq":
			d.ways = append(d.ways, &byID{sortedIDs(parseIDs([]value.Value{v}))})
		case "_in":
			d.ways = append(d.ways, &byID{sortedIDs(parseIDs(v.List()))})
		}
	}
}

func (d *demands) bind(f *schema.Field, s spans) {
	d.count++
	if d.bound == nil {
		d.bound = map[*schema.Field]*bound{}
	}
	b := d.bound[f]
	if b == nil {
		d.bound[f] = &bound{s, 1}
		return
	}
	b.count++
	if d.c.joined += len(b.list) + len(s.list); d.c.joined > maxJoined {
		b.exact = false // what b leaves over is checked on the documents
		return
	}
	b.spans = b.and(s)
}

// oneOf adds the demand that one of the branches be met.
func (d *demands) oneOf(branches []*demands) {
	if f, s, ok := sameField(branches); ok {
		d.bind(f, s)
		return
	}
	d.count++
	u := &byUnion{}
	for _, b := range branches {
		ways := b.all()
		if len(ways) == 0 {
			return
		}
		u.branches = append(u.branches, ways)
	}
	d.ways = append(d.ways, u)
}

// sameField returns the values of a field that are demanded in one or the other
// branch, if none demands anything else.
func sameField(branches []*demands) (*schema.Field, spans, bool) {
	var field *schema.Field
	var each []spans
	for _, b := range branches {
		if len(b.bound) != 1 {
			return nil, noValue, false
		}
		for f, have := range b.bound {
			if have.count != b.count || field != nil && field != f {
				return nil, noValue, false
			}
			field, each = f, append(each, have.spans)
		}
	}
	return field, anyOfSpans(each), field != nil
}

// related adds a demand on the documents that a relation leads to.
func (d *demands) related(f *field, operand value.Value) {
	d.count++
	if d.depth > maxConditionDepth {
		return
	}
	over, ok := d.c.over[followed{f, operand}]
	if !ok || f.role == roleOne && over.ofNone {
		return // or where there is none: these are not found over the relation
	}
	w := &byRelation{coll: d.coll, to: over.to, cond: over.cond, far: over.ways, decides: over.to.near || f.role == roleMany}
	if over.to.near {
		if w.back = indexOn(d.coll, over.to.ref); w.back == nil {
			return
		}
	}
	d.ways = append(d.ways, w)
}

// json adds a demand on what is at a path of a JSON field. Only demands that a leaf
// must meet which is there: it has an entry.
func (d *demands) json(f *schema.Field, path []string, cond value.Value) {
	if cond.Kind() != value.Map {
		d.leaf(f, path, "_eq", cond)
		return
	}
	for name, operand := range cond.Members() {
		if !strings.HasPrefix(name, "_") {
			d.json(f, append(path[:len(path):len(path)], name), operand)
			continue
		}
		switch name = canonicalOperator(name); name {
		case "_and":
			for _, o := range elementsOf(operand) {
				d.json(f, path, o)
			}
		case "_or":
			var branches []*demands
			for _, o := range elementsOf(operand) {
				b := d.branch()
				b.json(f, path, o)
				branches = append(branches, b)
			}
			if !operand.IsNull() {
				d.oneOf(branches)
			}
		case "_any":
			d.count++ // the element may also be found deeper: see leaf
			d.json(f, path, operand)
		default:
			d.leaf(f, path, name, operand)
		}
	}
}

// leaf adds a demand on a leaf of JSON. The ranges are never exact: the elements of a
// list have entries as if they stood where the list does.
func (d *demands) leaf(f *schema.Field, path []string, op string, x value.Value) {
	d.count++
	var s spans
	switch op {
	case "_eq":
		if !isLeaf(x) {
			return
		}
		s = comparedTo(value.TypeJSON, op, x)
	case "_in":
		if slices.ContainsFunc(x.List(), func(e value.Value) bool { return !isLeaf(e) }) {
			return
		}
		s = comparedTo(value.TypeJSON, op, x)
	case "_gt", "_ge", "_lt", "_le":
		if !isLeaf(x) {
			return
		}
		s = comparedTo(value.TypeJSON, op, x)
	case "_like", "_ilike":
		s = likened(value.TypeString, op, x.Text()).and(spans{[]span{classOf(value.OfString(""))}, true})
	default:
		return
	}
	s.exact = false
	d.parts = append(d.parts, element{f, store.AppendPath([]byte{}, path), s})
}

// isLeaf reports whether a value in JSON has an entry of its own that a missing one
// could not stand for.
func isLeaf(v value.Value) bool {
	return !v.IsNull() && v.Kind() != value.List && v.Kind() != value.Map
}

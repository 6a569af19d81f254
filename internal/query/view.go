package query

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// maxViews is how many views may stand on each other: each is one more pass of
// every row through a plan.
const maxViews = 8

// asView takes from the generated types what rows of a view do not have: they are
// no documents.
func (g *collection) asView() {
	g.mutations = nil
	g.read.Description = "Rows of the view " + g.Name + "."
	g.read.Arguments = withoutArguments(g.read.Arguments)
	g.types = slices.DeleteFunc(g.types, func(d *ast.Definition) bool { return d.Name == inputName(g.Name) })
	for _, f := range g.types[0].Fields {
		f.Arguments = withoutArguments(f.Arguments)
	}
	g.embeddedTypes = map[string]*collection{}
	for _, e := range g.View.Embedded {
		of := newEmbedded(e)
		of.embeddedTypes = g.embeddedTypes
		g.embeddedTypes[e.Name] = of
		g.types = append(g.types, of.types...)
	}
}

// withoutArguments leaves out the arguments that are about documents.
func withoutArguments(args ast.ArgumentDefinitionList) ast.ArgumentDefinitionList {
	var kept ast.ArgumentDefinitionList
	for _, a := range args {
		switch a.Name {
		case "docID", "showDeleted", "cid", "asOf":
		default:
			kept = append(kept, a)
		}
	}
	return kept
}

// view plans the rows of a view, at least those that meet a filter. A query that no longer fits what it reads is an
// error only for who asks for the view.
func (c *compiler) view(g *collection, filter value.Value) operator {
	if g.View.Materialized {
		c.readingAll()
		return &storedScan{g}
	}
	v := &viewScan{of: g}
	inner := &compiler{schema: c.schema, cost: c.cost, views: c.views + 1, text: g.View.Query}
	if inner.views > maxViews {
		v.err = fault.TooLarge.Errorf("more than %d views stand on each other: let some read the collections themselves", maxViews)
		return v
	}
	if v.plan, v.err = inner.viewQuery(g.Collection, filter); v.err != nil {
		v.err = ofView(g.Name, "its query does not fit the collections that it reads as they are now: ", v.err)
	}
	if v.err == nil && g.View.Transform == nil {
		v.plan.leaveOut(c.mentions())
	}
	c.cost = inner.cost
	for name := range inner.reads {
		c.reading(c.schema.collections[name])
	}
	return v
}

// viewPlan is a view's query, planned, and the column for each field of the view.
type viewPlan struct {
	of   *schema.Collection
	from *list
	cols []viewColumn
	// pipeline returns the modules that rows pass through; nil if there are none.
	pipeline func(context.Context, *store.Tx, *schema.Transform) (schema.Pipeline, error)
}

// viewColumn brings what the query yields into a field of the view.
type viewColumn struct {
	to    *schema.Field
	from  column
	found bool // the query yields the field
}

// viewQuery plans the query of a view, for readers who want only rows that meet a
// filter.
func (c *compiler) viewQuery(v *schema.Collection, filter value.Value) (*viewPlan, error) {
	root, err := c.viewRoot(v.View.Query)
	if err != nil {
		return nil, err
	}
	return c.viewPlan(v, c.narrowed(v, root, filter))
}

func (c *compiler) viewPlan(v *schema.Collection, root *selected) (*viewPlan, error) {
	col, err := c.root(ast.Query, root)
	if err != nil {
		return nil, at(root, err)
	}
	c.finish()
	l, ok := col.node.(*list)
	if !ok {
		return nil, notAView(v.View.Query, root.Name+" yields no rows")
	}
	p := &viewPlan{of: v, from: l}
	if v.View.Transform != nil {
		p.pipeline = c.schema.pipeline
	}
	for i := range v.Fields {
		f := &v.Fields[i]
		vc := viewColumn{to: f}
		for _, col := range l.object {
			if col.key == f.Name {
				vc.from, vc.found = col, true
			}
		}
		p.cols = append(p.cols, vc)
	}
	return p, nil
}

// viewRoot returns the root field of a view's query.
func (c *compiler) viewRoot(text string) (*selected, error) {
	d, err := c.schema.document(viewText(text))
	if err != nil {
		return nil, err
	}
	op, err := d.operation("")
	if err != nil {
		return nil, err
	}
	if whole := viewText(text) == text; !whole && len(d.ast.Fragments) > 0 {
		return nil, notAView(text, "braces are closed that it did not open: write what would stand between them")
	}
	if op.Operation != ast.Query || len(op.VariableDefinitions) > 0 {
		return nil, notAView(text, "it must be a query without variables")
	}
	if c.in, err = variables(c.schema.ast, op, nil); err != nil {
		return nil, err
	}
	fields, err := c.collect(op.SelectionSet)
	if err != nil {
		return nil, err
	}
	if len(fields) != 1 {
		return nil, notAView(text, fmt.Sprintf("it has %d root fields, want one", len(fields)))
	}
	if c.schema.collections[fields[0].Name] == nil {
		return nil, notAView(text, fields[0].Name+" is neither a collection nor a view")
	}
	return fields[0], nil
}

// viewText returns the query of a view as a whole request: people write the inside
// of the braces, or all of it.
func viewText(query string) string {
	t := strings.TrimSpace(query)
	if strings.HasPrefix(t, "{") || strings.HasPrefix(t, "query ") || strings.HasPrefix(t, "query{") || strings.HasPrefix(t, "query(") {
		return query
	}
	return "{" + query + "\n}"
}

func notAView(query, reason string) error {
	return fault.Invalid.Errorf("the query provided is not valid as a View. Query: %.200s, Reason: %s", strings.TrimSpace(query), reason)
}

// CheckView returns why the query of a view, which need not be in the schema yet,
// is none or yields other types than the view declares; nil if all is well.
func CheckView(s *Schema, v *schema.Collection) error {
	c := &compiler{schema: s, views: 1}
	p, err := c.viewQuery(v, value.Value{})
	if err != nil {
		return err
	}
	if err := standsOn(p.from.from); err != nil {
		return fmt.Errorf("view %s: %w", v.Name, err)
	}
	if v.View.Materialized && !onStored(p.from.from) {
		if err := c.checkOpen(v.Name); err != nil {
			return err
		}
	}
	if v.View.Transform != nil {
		return nil // what comes out of it is seen with the first row
	}
	root, err := c.viewRoot(v.View.Query)
	if err != nil {
		return err
	}
	return c.checkFields(v.Name, v.Fields, root.sub)
}

// standsOn returns why a view that an operator stands on has no rows; nil if all have.
func standsOn(o operator) error {
	for ; o != nil; o = o.input() {
		if v, ok := o.(*viewScan); ok {
			if v.err != nil {
				return v.err
			}
			return standsOn(v.plan.from.from)
		}
	}
	return nil
}

// onStored reports whether an operator stands on the stored rows of a view: whoever
// made them has been checked.
func onStored(o operator) bool {
	for ; o != nil; o = o.input() {
		switch v := o.(type) {
		case *storedScan:
			return true
		case *viewScan:
			return onStored(v.plan.from.from)
		}
	}
	return false
}

// checkOpen refuses a view whose stored rows, which everybody reads, would be made of
// documents that not everybody may read.
func (c *compiler) checkOpen(view string) error {
	for _, name := range slices.Sorted(maps.Keys(c.reads)) {
		if c.schema.collections[name].Access() != nil {
			return fault.Invalid.Errorf("materialized views do not support ACP. Collection: %s: it reads %s, which has a policy, and its stored rows would be the same for everybody: add @materialized(if: false), then each reader gets rows of what he may read", view, name)
		}
	}
	return nil
}

// checkFields compares declared fields with a selection.
func (c *compiler) checkFields(of string, fs []schema.Field, set ast.SelectionSet) error {
	sel, err := c.collect(set)
	if err != nil {
		return err
	}
	for i := range fs {
		for _, s := range sel {
			if s.key != fs[i].Name {
				continue
			}
			if err := c.checkField(of, &fs[i], s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *compiler) checkField(of string, f *schema.Field, s *selected) error {
	t := s.Definition.Type
	list := t.Elem != nil
	elem := t.NamedType
	if list {
		elem = t.Elem.NamedType
	}
	differs := func(hint string) error {
		return fault.Invalid.Errorf("view %s: field %s is declared as %s, and the query yields %s: %s", of, f.Name, f.TypeName(), t, hint)
	}
	switch {
	case f.Embedded != nil && len(s.sub) == 0:
		return differs("select an object")
	case f.Embedded != nil && list != f.EmbeddedList:
		return differs("declare a list where the query yields one")
	case f.Embedded != nil:
		return c.checkFields(f.Embedded.Name, f.Embedded.Fields, s.sub)
	case f.Type == value.TypeJSON:
		return nil
	case len(s.sub) > 0:
		return differs("declare an interface with the fields that are selected")
	case list != f.Type.IsList() || !converts(elem, scalarName(f.Type)):
		return differs("declare the type that the query yields")
	}
	return nil
}

// converts reports whether values of a scalar always are values of another.
func converts(from, to string) bool {
	switch {
	case from == to, from == "JSON":
		return true
	case to == "Float64" || to == "Float32":
		return from == "Int" || from == "Float" || from == "Float32" || from == "Float64"
	case to == "Int":
		return from == "Float" // sums of integers are integers
	case to == "String" || to == "ID":
		return from == "ID" || from == "String" || from == "DateTime" || from == "Blob" || from == "CRDTType"
	}
	return false
}

// viewScan yields the rows of a view, each as it is computed.
type viewScan struct {
	of   *collection
	plan *viewPlan
	err  error
}

func (v *viewScan) describe() string { return "view " + v.of.Name }
func (v *viewScan) input() operator {
	if v.plan == nil {
		return nil
	}
	return v.plan.from.from
}

func (v *viewScan) rows(x *run, _ *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		if v.err != nil {
			yield(nil, v.err)
			return
		}
		var r row
		var raw []byte
		n := uint64(0)
		for src, err := range v.plan.rows(x) {
			if err == nil {
				err = x.step()
			}
			if err != nil {
				yield(nil, ofView(v.of.Name, "", err))
				return
			}
			r.Doc = store.Doc{ID: rowID(n), Collection: v.of.Collection, State: v.of.Row(raw[:0], src.vals)}
			raw = r.State.Bytes()
			n++
			if !yield(&r, nil) {
				return
			}
		}
	}
}

// rowID numbers the rows of a view, which have no docIDs.
func rowID(n uint64) (id dag.DocID) {
	binary.BigEndian.PutUint64(id[len(id)-8:], n)
	return id
}

// viewRow is one row of a view: of which document it is made, if it is one, and
// its values in the order of the fields. It is valid until the next step.
type viewRow struct {
	doc  dag.DocID
	vals []value.Value
}

// rows runs the plan, one row after the other.
func (p *viewPlan) rows(x *run) iter.Seq2[viewRow, error] {
	if p.pipeline != nil {
		return p.transformed(x)
	}
	return func(yield func(viewRow, error) bool) {
		var text bytes.Buffer
		in := x.inner(&text)
		defer x.end(in)
		vals := make([]value.Value, len(p.cols))
		for r, err := range p.from.rows(in, nil) {
			for i := 0; i < len(p.cols) && err == nil; i++ {
				vals[i], err = p.cols[i].value(in, r, &text)
			}
			x.account(in)
			more := yield(viewRow{doc: docOf(r), vals: vals}, err)
			if x.goOn(in); !more || err != nil {
				return
			}
		}
	}
}

// inner begins a run of the query of a view inside of another. What it writes goes
// to text; what it holds is held by both.
func (x *run) inner(text *bytes.Buffer) *run {
	return &run{ctx: x.ctx, tx: x.tx, out: &writer{to: capped{text, x.most}}, held: x.held, most: x.most, stats: x.stats}
}

// account takes over what an inner run has read and holds since it went on.
func (x *run) account(in *run) {
	x.touched = x.touched.plus(in.touched)
	in.touched = reads{}
	in.own += in.held - x.held
	x.held = in.held
}

// goOn lets an inner run go on, which knows what is held beside it.
func (x *run) goOn(in *run) { in.held = x.held }

// end ends an inner run: what its relations hold is dropped with it.
func (x *run) end(in *run) {
	x.account(in)
	x.release(in.own)
}

func docOf(r *row) dag.DocID {
	if r == nil {
		return dag.DocID{}
	}
	return r.ID
}

// value returns the value of a field. What is not simply read is written as in an
// answer, and read from there.
func (c *viewColumn) value(x *run, r *row, text *bytes.Buffer) (v value.Value, err error) {
	switch {
	case !c.found:
		return v, nil
	case c.from.read != nil:
		v = c.from.read(x, r)
		err = x.err
	default:
		text.Reset()
		if err = c.from.write(x, r); err == nil {
			err = x.out.flush()
		}
		if err == nil {
			v, err = value.ParseJSON(bytes.Clone(text.Bytes()))
		}
	}
	if err == nil {
		v, err = shape(c.to, v, value.MaxNesting)
	}
	if err != nil {
		return v, fmt.Errorf("field %s: %w", c.to.Name, err)
	}
	return v, nil
}

// shape brings a value into the form that a field of a view declares.
func shape(f *schema.Field, v value.Value, levels int) (value.Value, error) {
	switch {
	case v.IsNull():
		return v, nil
	case f.Embedded == nil && v.Kind() == value.Ref:
		return value.OfString(value.RefText(v.Ref())), nil
	case f.Embedded == nil:
		return value.Coerce(f.Type, v)
	case levels <= 1:
		return v, fault.Invalid.Errorf("objects nest deeper than %d", value.MaxNesting)
	case !f.EmbeddedList:
		return shapeObject(f.Embedded, v, levels)
	case v.Kind() != value.List:
		return v, fault.Invalid.Errorf("expected a list of objects, got %s", describe(v))
	}
	list := make([]value.Value, v.Len())
	for i, e := range v.List() {
		var err error
		if list[i], err = shapeObject(f.Embedded, e, levels-1); err != nil {
			return v, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return value.OfList(list), nil
}

func shapeObject(e *schema.Embedded, v value.Value, levels int) (value.Value, error) {
	if v.IsNull() {
		return v, nil
	}
	if v.Kind() != value.Map {
		return v, fault.Invalid.Errorf("expected an object, got %s", describe(v))
	}
	members := make(map[string]value.Value, len(e.Fields))
	for i := range e.Fields {
		f := &e.Fields[i]
		m, ok := v.Get(f.Name)
		if !ok || m.IsNull() {
			continue
		}
		m, err := shape(f, m, levels-1)
		if err != nil {
			return v, fmt.Errorf("%s: %w", f.Name, err)
		}
		members[f.Name] = m
	}
	return value.OfMap(members), nil
}

// AddView adds a view to the schema that a transaction sees.
func (s *Schemas) AddView(ctx context.Context, tx *store.Tx, src schema.ViewSource) (*schema.Collection, error) {
	if err := s.keepTransform(ctx, tx, &src); err != nil {
		return nil, err
	}
	v, err := schema.ParseView(src)
	if err != nil {
		return nil, err
	}
	if err := CheckView(s.Of(tx.Set()), v); err != nil {
		return nil, err
	}
	return v, tx.AddView(v)
}

// DropView removes a view that no other view reads.
func (s *Schemas) DropView(tx *store.Tx, name string) error {
	if _, ok := tx.Set().Collection(name); ok {
		return fault.NotFound.Errorf("there is no view %s: it is a collection, and collections are not removed", name)
	}
	c := &compiler{schema: s.Of(tx.Set())}
	for _, v := range tx.Set().Views() {
		if root, err := c.viewRoot(v.View.Query); err == nil && root.Name == name {
			return fault.Invalid.Errorf("view %s is read by view %s: drop that first", name, v.Name)
		}
	}
	return tx.DropView(name)
}

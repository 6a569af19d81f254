package query

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// compiler makes the plan of one operation. It reads no data.
type compiler struct {
	schema  *Schema
	in      inputs
	top     []*selected // the root fields
	tallies []*tally
	cost    int
	joined  int // spans of conditions on one field
	depth   int
	marks   bool // objects say which document they show
	// shared counts the uses of what a run keeps beside the rows, such as relations: a
	// part of the plan without any is about each row alone.
	shared  int
	deleted bool // the root field under way shows deleted documents
	asOf    *instant
	over    map[followed]*overRelation
	commit  *dag.CID        // at which the root field under way looks
	views   int             // that the plan is within
	text    string          // of the request; empty if it is not known
	reads   map[string]bool // collections that the answer depends on
}

// reading notes that the answer depends on the documents of a collection.
func (c *compiler) reading(g *collection) {
	if g.View != nil {
		return // on those that it is made of
	}
	if c.reads == nil {
		c.reads = map[string]bool{}
	}
	c.reads[g.Name] = true
}

// readingAll is reading for what may depend on any.
func (c *compiler) readingAll() {
	for _, g := range c.schema.collections {
		c.reading(g)
	}
}

// node is a part of a plan that people may want to see.
type node interface{ tree(p *printer) }

// root is a root field.
type root struct {
	column
	pos *ast.Position
}

func (c *compiler) roots(op *ast.OperationDefinition) ([]root, error) {
	fields, err := c.collect(op.SelectionSet)
	if err != nil {
		return nil, err
	}
	c.top = fields
	var roots []root
	for _, f := range fields {
		c.deleted, c.asOf, c.commit, c.over = false, nil, nil, nil
		col, err := c.root(op.Operation, f)
		if err != nil {
			return nil, at(f, err)
		}
		c.finish()
		col.key, col.label = f.key, newColumn(f.key, nil).label
		roots = append(roots, root{col, f.Position})
	}
	return roots, nil
}

// at puts a field in front of the path of an error, and gives one without a place
// that of the field. Errors pass through it once for each field on their way up.
func at(f *selected, err error) error {
	var es Errors
	if errors.As(err, &es) {
		if es[0].Locations == nil {
			es[0].Locations = locate(f.Position)
		}
		es[0].Path = slices.Insert(es[0].Path, 0, any(f.key))
		return es
	}
	return at(f, wrong(f.Position, err))
}

func (c *compiler) root(kind ast.Operation, f *selected) (column, error) {
	switch name := canonical(f.Definition); {
	case f.Name == "__typename":
		return constant(f.ObjectDefinition.Name), nil
	case f.Name == "__schema", f.Name == "__type":
		return c.introspection(f)
	case f.Name == "_":
		return column{write: func(x *run, _ *row) error { x.out.text("null"); return nil }}, nil
	case kind == ast.Mutation:
		return c.mutation(f)
	case name == "_count":
		return c.rootCount(f)
	case functionOf(name) != nil:
		return c.rootAggregate(f, functionOf(name))
	case name == "commits", name == "latestCommits":
		c.readingAll()
		return c.commits(name, f)
	}
	g := c.schema.collections[f.Name]
	c.reading(g)
	v, _, err := c.in.argument(f.Field, "showDeleted")
	if err != nil {
		return column{}, err
	}
	c.deleted = v.Bool()
	if c.asOf, c.commit, err = c.past(kind, f); err != nil {
		return column{}, err
	}
	l, err := c.documents(g, f, nil)
	if err != nil {
		return column{}, err
	}
	return column{write: l.write, node: l}, nil
}

func constant(text string) column {
	b := string(appendString(nil, text))
	return column{write: func(x *run, _ *row) error { x.out.text(b); return nil }}
}

// wanted is what the arguments of a field say of a list of documents.
type wanted struct {
	filter        value.Value
	cond          predicate
	ids           []dag.DocID
	restricted    bool      // to ids
	alone         bool      // the filter is about each document alone
	keysAlone     bool      // and so are the keys
	named         bool      // by the argument docID
	computed      predicate // on what is computed of the documents or groups
	text          string    // of computed
	keys          []sortKey
	limit, offset int
	first         bool // only the first matches are needed, in docID order
}

// most is how many matches are needed in docID order, 0 for all.
func (w wanted) most() int {
	if !w.first || len(w.keys) > 0 || w.limit == 0 || w.offset < 0 {
		return 0
	}
	return w.limit + w.offset
}

// wanted reads the arguments of f; lv is what f selects.
func (c *compiler) wanted(lv *level, f *selected) (w wanted, err error) {
	filter, _, err := c.in.argument(f.Field, "filter")
	if err != nil {
		return w, err
	}
	if err := c.chosenBy(&w, lv, filter); err != nil {
		return w, argumentError(f, "filter", err)
	}
	ids, restricted, err := c.targets(f)
	if err != nil {
		return w, err
	}
	w.named = restricted
	if restricted {
		w.ids, w.restricted = ids, true
	}
	if w.limit, w.offset, err = c.window(f); err != nil {
		return w, err
	}
	order, _, err := c.in.argument(f.Field, "order")
	if err != nil {
		return w, err
	}
	before := c.shared
	if w.keys, err = c.order(lv, order); err != nil {
		return w, argumentError(f, "order", err)
	}
	w.keysAlone = c.shared == before
	return w, nil
}

// chosenBy compiles a filter: what is on the documents alone comes first, where
// they are found; what is on aliases comes once these are computed.
func (c *compiler) chosenBy(w *wanted, lv *level, filter value.Value) (err error) {
	var computed value.Value
	w.filter, computed = split(filter)
	before := c.shared
	defer func() { w.alone = c.shared == before }()
	if w.cond, err = c.filter(scope{collection: lv.collection}, w.filter); err != nil {
		return err
	}
	w.ids, w.restricted = docIDs(w.filter)
	w.text = text(computed)
	w.computed, err = c.filter(scope{collection: lv.collection, level: lv}, computed)
	return err
}

// documents plans a list of documents of g: what a root field or a list relation
// selects. The source is a scan, a lookup, or where the relation leads.
func (c *compiler) documents(g *collection, f *selected, to *relation) (*list, error) {
	lv, err := c.level(g, f, nil)
	if err != nil {
		return nil, err
	}
	l := &list{}
	if l.object, l.follows, err = c.columns(lv); err != nil {
		return nil, err
	}
	w, err := c.wanted(lv, f)
	if err != nil {
		return nil, err
	}
	if to == nil {
		l.from = c.arranged(lv, w)
		return l, nil
	}
	l.from = w.of(lv, c.children(w, to))
	to.next = l.follows
	return l, nil
}

// children returns where the relation leads, as far as wanted.
func (c *compiler) children(w wanted, to *relation) operator {
	cond := w.cond
	if w.restricted { // few enough to be tested one by one
		cond = allOf(idIn(idSet(w.ids), true), cond)
	}
	to.filter, to.text = cond, text(w.filter)
	if to.indexed {
		to.ways = c.demandsOf(to.target, w.filter).all()
	}
	return &children{to}
}

// of returns the documents or groups of the level that are wanted, in order.
func (w wanted) of(lv *level, from operator) operator {
	if lv.by != nil {
		lv.by.from = from
		from = lv.by
		if w.computed.truth == always && len(w.keys) == 0 && w.limit > 0 && w.offset >= 0 {
			lv.by.most = w.limit + w.offset
		}
	}
	return w.window(chosen(from, w.computed, w.text))
}

// matching returns the documents of g that meet the conditions, in docID order.
func (c *compiler) matching(g *collection, w wanted) operator {
	deleted := c.deleted || c.asOf != nil // who is deleted today may not have been
	var from operator = &scan{g, deleted}
	switch {
	case g.View != nil:
		from = c.view(g, w.filter)
	case c.commit != nil:
		from = c.atCommit(g, c.commit, w)
	case w.restricted:
		from = newLookup(g, w.ids, deleted)
	case c.indexed():
		from = c.access(g, w)
	}
	if c.asOf != nil {
		from = &then{from, c.asOf, c.deleted}
	}
	from = chosen(from, w.cond, text(w.filter))
	if o, ok := from.(*where); ok {
		o.pure = w.alone
		if a, ok := o.from.(*access); ok {
			a.alone = w.alone
		}
	}
	return from
}

// window returns the rows in order, as many as are wanted.
func (w wanted) window(from operator) operator {
	if len(w.keys) > 0 {
		s := w.sorting()
		s.from = from
		from = &s
	}
	return w.slice(from)
}

func (w wanted) sorting() sortBy {
	s := sortBy{keys: w.keys, pure: w.keysAlone}
	if w.limit > 0 && w.offset >= 0 {
		s.most = w.limit + w.offset
	}
	return s
}

func (w wanted) slice(from operator) operator {
	if w.limit > 0 || w.offset != 0 {
		from = &slice{from, w.offset, w.limit}
	}
	return from
}

func argumentError(f *selected, name string, err error) error {
	pos := f.Position
	if a := f.Arguments.ForName(name); a != nil {
		pos = a.Position
	}
	var es Errors
	if errors.As(err, &es) { // a limit, not the argument
		return err
	}
	return wrong(pos, fmt.Errorf("argument %s: %w", name, err))
}

// text shows a filter in a plan.
func text(v value.Value) string {
	if v.IsNull() {
		return ""
	}
	return describe(v)
}

// targets reads the argument docID. Null and a variable that is not given mean
// that documents are not restricted.
func (c *compiler) targets(f *selected) (ids []dag.DocID, restricted bool, err error) {
	v, _, err := c.in.argument(f.Field, "docID")
	if err != nil || v.IsNull() {
		return nil, false, err
	}
	return parseIDs(v.List()), true, nil
}

// window reads limit and offset. A limit of 0 or less is none; nothing comes after
// a negative offset.
func (c *compiler) window(f *selected) (limit, offset int, err error) {
	l, _, err := c.in.argument(f.Field, "limit")
	if err != nil {
		return 0, 0, err
	}
	o, _, err := c.in.argument(f.Field, "offset")
	limit, offset = windowOf(l, o)
	return limit, offset, err
}

func windowOf(limit, offset value.Value) (int, int) {
	// Half of the range, so that their sum is in it.
	clamp := func(v value.Value) int { return int(min(max(v.Int(), -1), math.MaxInt64/2)) }
	return max(clamp(limit), 0), clamp(offset)
}

// object plans what is selected of each document of g, and returns the relations
// that it follows.
func (c *compiler) object(g *collection, f *selected) (object, []*relation, error) {
	lv, err := c.level(g, f, nil)
	if err != nil {
		return nil, nil, err
	}
	return c.columns(lv)
}

// columns plans all that is selected at a level.
func (c *compiler) columns(lv *level) (object, []*relation, error) {
	if c.depth++; c.depth > c.schema.limits.Depth {
		return nil, nil, c.schema.limits.tooDeep()
	}
	defer func() { c.depth-- }()
	o := make(object, 0, len(lv.fields))
	var follows []*relation
	for _, s := range lv.fields {
		col, err := c.planned(lv, s)
		if err != nil {
			return nil, nil, err
		}
		follows = append(follows, col.follows...)
		o = append(o, col)
	}
	if c.marks {
		o = marked(o)
	}
	return o, follows, nil
}

// planned plans what is selected under one response key, once.
func (c *compiler) planned(lv *level, s *selected) (column, error) {
	if col, ok := lv.columns[s.key]; ok {
		return col, nil
	}
	if lv.columns == nil {
		lv.columns = make(map[string]column, len(lv.fields))
	}
	col, to, err := c.column(lv, s)
	if err != nil {
		return col, at(s, err)
	}
	if to != nil {
		col.follows = append(col.follows, to)
	}
	col.key, col.label = s.key, newColumn(s.key, nil).label
	lv.columns[s.key] = col
	return col, nil
}

func (c *compiler) column(lv *level, s *selected) (column, *relation, error) {
	g := lv.collection
	if s.Name == "__typename" {
		return constant(g.Name), nil, nil
	}
	f := g.byName[canonical(s.Definition)]
	if !lv.shows(f) {
		return column{}, nil, notGrouped(f)
	}
	col, to, err := c.fieldColumn(lv, f, s)
	col.of, col.args = f, len(s.Arguments) > 0
	if col.read != nil && col.write == nil {
		read := col.read
		col.write = func(x *run, r *row) error {
			x.out.value(read(x, r))
			return x.err
		}
	}
	return col, to, err
}

func (c *compiler) fieldColumn(lv *level, f *field, s *selected) (column, *relation, error) {
	g := lv.collection
	switch f.role {
	case roleGroup:
		col, err := c.members(lv, s)
		return col, nil, err
	case roleAggregate:
		col, err := c.aggregate(lv, s, functionOf(f.name))
		return col, nil, err
	case roleSimilarity:
		col, err := c.similarity(lv, s)
		return col, nil, err
	case roleDocID:
		return column{read: c.reader(g, f), write: func(x *run, r *row) error {
			x.out.byte('"')
			x.out.buf = value.AppendRefText(x.out.buf, r.ID)
			x.out.byte('"')
			return nil
		}}, nil, nil
	case roleDeleted:
		return column{read: c.reader(g, f)}, nil, nil
	case roleConflicts:
		return conflicts(registers(g.Collection)), nil, nil
	case roleAccess:
		col, err := c.rights(g, f, s)
		return col, nil, err
	case roleVersion:
		return c.versions(g, s)
	case roleOne:
		return c.relatedOne(g, f, s)
	case roleMany:
		to := c.relation(g, f)
		l, err := c.documents(to.target, s, to)
		if err != nil {
			return column{}, nil, err
		}
		return column{write: l.write, node: l}, to, nil
	case roleObject, roleObjects:
		col, err := c.embedded(g, f, s)
		return col, nil, err
	}
	return column{read: c.reader(g, f)}, nil, nil
}

// conflicts writes the values of multi-value registers that are not shown.
func conflicts(fs []*schema.Field) column {
	return column{write: func(x *run, r *row) error {
		m := map[string]value.Value{}
		for _, f := range fs {
			if vs := r.State.Conflicts(f.ID, f.Kind()); len(vs) > 0 {
				m[f.Name] = value.OfList(vs)
			}
		}
		x.out.value(value.OfMap(m))
		return nil
	}}
}

// relatedOne plans a single relation.
func (c *compiler) relatedOne(g *collection, f *field, s *selected) (column, *relation, error) {
	to := c.relation(g, f)
	filter, _, err := c.in.argument(s.Field, "filter")
	if err != nil {
		return column{}, nil, err
	}
	cond, err := c.filter(scope{collection: to.target}, filter)
	if err != nil {
		return column{}, nil, argumentError(s, "filter", err)
	}
	o, next, err := c.object(to.target, s)
	if err != nil {
		return column{}, nil, err
	}
	to.next = next
	if !to.near {
		// The far side is held once for all: what it refers to is known.
		to.text = text(filter)
	}
	write := func(x *run, r *row) error {
		related := x.one(to, r)
		if related != nil && (cond.truth == never || cond.truth == depends && !cond.holds(x, related)) {
			related = nil
		}
		if x.err != nil {
			return x.err
		}
		if related == nil {
			x.out.text("null")
			return nil
		}
		return o.write(x, related)
	}
	return column{write: write, node: &single{to, o, text(filter)}}, to, nil
}

// single is a single relation, for people.
type single struct {
	to     *relation
	object object
	filter string
}

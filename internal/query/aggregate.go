package query

import (
	"fmt"
	"slices"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

var errNoGroup = fault.Invalid.Errorf("_group may only be referenced when within a groupBy request")

// host is what an aggregate is over: it adds to an accumulator what it has for a
// row.
type host func(x *run, r *row, into *acc)

// aggregation is an aggregate over its hosts, as it is being planned.
type aggregation struct {
	c     *compiler
	lv    *level
	fn    function
	hosts []host
	far   []*relation
	nodes []node
}

// aggregate plans an aggregate of a document or a group.
func (c *compiler) aggregate(lv *level, s *selected, fn *function) (column, error) {
	c.shared++
	a := &aggregation{c: c, lv: lv, fn: *fn}
	err := a.over(s, func(name string, v value.Value) error {
		f := lv.byName[name]
		if f.role == roleGroup {
			if lv.by == nil {
				return errNoGroup
			}
			return a.ofGroup(v)
		}
		if lv.by != nil {
			return notGrouped(f)
		}
		switch f.role {
		case roleMany:
			return a.ofRelation(f, v)
		case roleVersion:
			a.ofVersions(v)
			return nil
		}
		return a.ofList(f, v)
	})
	return column{read: a.read(), follows: a.far, node: a.node()}, err
}

// rootAggregate plans an aggregate of collections.
func (c *compiler) rootAggregate(f *selected, fn *function) (column, error) {
	a := &aggregation{c: c, lv: &level{fields: c.top}, fn: *fn}
	err := a.over(f, func(name string, v value.Value) error {
		c.reading(c.schema.collections[name])
		return a.ofCollection(c.schema.collections[name], v)
	})
	read := a.read()
	return column{node: a.node(), write: func(x *run, _ *row) error {
		x.out.value(read(x, &row{}))
		return x.err
	}}, err
}

// over plans the hosts that are given as arguments.
func (a *aggregation) over(s *selected, add func(name string, v value.Value) error) error {
	for _, arg := range s.Arguments {
		v, given, err := a.c.in.argument(s.Field, arg.Name)
		if err != nil {
			return err
		}
		if !given {
			continue
		}
		if err := a.c.spend(1); err != nil {
			return err
		}
		def := s.Definition.Arguments.ForName(arg.Name)
		if err := add(canonicalName(def.Name, def.Directives), v); err != nil {
			return argumentError(s, arg.Name, err)
		}
	}
	if len(a.hosts) == 0 {
		return fault.Invalid.Errorf("aggregate must be provided with a property to aggregate: write %s with at least one of its arguments", a.fn)
	}
	return nil
}

// read returns what reads the result.
func (a *aggregation) read() reader {
	fn, hosts := a.fn, a.hosts
	return func(x *run, r *row) value.Value {
		if r == nil || x.err != nil {
			return value.Value{}
		}
		all := x.accumulator()
		for _, h := range hosts {
			h(x, r, all)
		}
		x.reads--
		if x.err != nil {
			return value.Value{}
		}
		v, err := all.result(fn)
		if err != nil {
			x.err = err
		}
		return v
	}
}

// accumulator returns one that is empty, and not that of an aggregate which is
// being read. They are kept, for each document needs one.
func (x *run) accumulator() *acc {
	if x.reads == len(x.accs) {
		x.accs = append(x.accs, &acc{})
	}
	a := x.accs[x.reads]
	x.reads++
	*a = acc{}
	return a
}

// sources are what an aggregate reads, for people.
type sources []node

func (s sources) tree(p *printer) {
	for _, n := range s {
		n.tree(p)
	}
}

func (a *aggregation) node() node {
	if len(a.nodes) == 0 {
		return nil
	}
	return sources(a.nodes)
}

// picked is what an argument says: which documents, in which order, and what is
// read of each.
type picked struct {
	wanted
	level *level // what the same documents are asked for beside the aggregate
	read  reader
	list  func(*run, *row) ([]value.Value, bool) // instead of read
	alone bool                                   // all that is asked of a document is about itself
}

// streams reports whether rows can be taken in as they pass.
func (p *picked) streams() bool {
	return p.level.by == nil && (len(p.keys) == 0 || p.limit == 0 && p.offset == 0)
}

// slot returns the accumulator for rows that pass.
func (p *picked) slot(fn function) slot {
	cond := allOf(p.cond, p.computed)
	if p.restricted {
		cond = allOf(idIn(idSet(p.ids), true), cond)
	}
	return slot{fn: fn, cond: cond, filter: p.filter, own: p.computed.truth != always, read: p.read, list: p.list, limit: p.limit, offset: p.offset}
}

// pick reads the argument of a host whose documents are of g. What aliases and
// aggregates in it mean is said by the selection of the host beside the aggregate.
func (a *aggregation) pick(host string, g *collection, v value.Value) (*picked, error) {
	get := func(name string) value.Value { m, _ := v.Get(name); return m }
	filter, order, field := get("filter"), get("order"), get("field").Text()
	p := &picked{}
	before := a.c.shared
	var err error
	p.level, err = a.c.beside(a.lv, g, host, functionOf(field) != nil || mentionsAlias(filter) || mentionsAlias(order))
	if err != nil {
		return nil, err
	}
	if err := a.c.chosenBy(&p.wanted, p.level, filter); err != nil {
		return nil, fmtUnder("filter", err)
	}
	p.limit, p.offset = windowOf(get("limit"), get("offset"))
	if p.keys, err = a.c.order(p.level, order); err != nil {
		return nil, fmtUnder("order", err)
	}
	if p.limit == 0 && p.offset == 0 {
		p.keys = nil
	}
	if a.fn != fnCount {
		p.read, err = a.field(p.level, field)
		if f := g.byName[field]; err == nil && f.isInlineList() {
			p.list = a.c.elementsReader(g, f)
		}
	}
	p.alone = a.c.shared == before && p.limit == 0 && p.offset == 0
	return p, err
}

// beside returns what the documents of a host are asked for beside an aggregate
// over them, if that is needed to know what is meant.
func (c *compiler) beside(lv *level, g *collection, host string, needed bool) (*level, error) {
	if !needed {
		return &level{collection: g}, nil
	}
	s := selectionOf(lv.fields, host)
	if s == nil {
		return nil, fault.Invalid.Errorf("%s is not selected: an alias, or an aggregate of aggregates, is one that the selection of %s beside has", host, host)
	}
	if lv.by == nil {
		lv = nil
	}
	return c.level(g, s, lv)
}

// field returns what reads the field that is aggregated.
func (a *aggregation) field(lv *level, name string) (reader, error) {
	f := lv.byName[name]
	if f.role != roleAggregate {
		if !lv.shows(f) {
			return nil, notGrouped(f)
		}
		return a.c.reader(lv.collection, f), nil
	}
	s := selectionOf(lv.fields, name)
	if s == nil {
		return nil, fault.Invalid.Errorf("unable to identify aggregate child: %s of %s is not selected beside the aggregate", name, lv.Name)
	}
	col, err := a.c.planned(lv, s)
	return col.read, err
}

// through adds a host whose rows have to be ordered or grouped first.
func (a *aggregation) through(p *picked, from operator) {
	from = p.of(p.level, from)
	s := slot{fn: a.fn, read: p.read, list: p.list}
	a.hosts = append(a.hosts, func(x *run, r *row, into *acc) {
		err := x.pass(x.rows(from, r), func(r *row) { s.add(x, into, r) })
		if err != nil {
			x.err = err
		}
	})
	a.nodes = append(a.nodes, &list{from: from})
}

func (a *aggregation) ofGroup(v value.Value) error {
	p, err := a.pick("_group", a.lv.collection, v)
	if err != nil {
		return err
	}
	by, fn := a.lv.by, a.fn
	if !p.streams() {
		by.hold = true
		a.through(p, p.ofGroup(p.level))
		return nil
	}
	i := len(by.slots)
	by.inTurn = by.inTurn || !p.alone
	by.slots = append(by.slots, p.slot(fn))
	a.hosts = append(a.hosts, func(_ *run, r *row, into *acc) { into.merge(fn, &r.group.accs[i]) })
	return nil
}

func (a *aggregation) ofRelation(f *field, v value.Value) error {
	to := a.c.relation(a.lv.collection, f)
	p, err := a.pick(f.name, to.target, v)
	if err != nil {
		return err
	}
	if !p.streams() {
		if p.level.by != nil {
			p.level.by.kept = true
		}
		a.through(p, a.c.children(p.wanted, to))
		a.far = append(a.far, to)
		return nil
	}
	t := a.lv.tallies[f.name]
	if t == nil {
		t, to.tallied = &tally{to: to}, true
		if a.lv.tallies == nil {
			a.lv.tallies = map[string]*tally{}
		}
		a.lv.tallies[f.name] = t
		a.c.tallies = append(a.c.tallies, t)
	}
	a.far = append(a.far, t.to)
	a.tally(t, p)
	return nil
}

func (a *aggregation) ofCollection(g *collection, v value.Value) error {
	p, err := a.pick(g.Name, g, v)
	if err != nil {
		return err
	}
	from := a.c.matching(g, p.wanted)
	if !p.streams() {
		a.through(p, from)
		return nil
	}
	// Root fields with one filter share one pass.
	name := g.Name + p.filter.String()
	i := slices.IndexFunc(a.c.tallies, func(t *tally) bool { return t.from != nil && t.name == name })
	var t *tally
	if i >= 0 {
		t = a.c.tallies[i]
	} else {
		t = &tally{from: from, name: name}
		a.c.tallies = append(a.c.tallies, t)
	}
	p.cond, p.restricted = predicate{}, false
	t.inTurn = t.inTurn || !p.alone
	a.tally(t, p)
	return nil
}

// tally adds a host that reads a tally.
func (a *aggregation) tally(t *tally, p *picked) {
	fn, i := a.fn, t.add(p.slot(a.fn))
	a.nodes = append(a.nodes, t)
	a.hosts = append(a.hosts, func(x *run, r *row, into *acc) {
		d := x.tallied(t)
		switch {
		case x.err != nil:
		case t.to == nil:
			into.merge(fn, &d.accs[i])
		default:
			if accs := d.of(r.ID, len(t.slots)); accs != nil {
				into.merge(fn, &accs[i])
			}
		}
	})
}

// ofVersions adds a host of commits, which are counted.
func (a *aggregation) ofVersions(v value.Value) {
	limit, _ := v.Get("limit")
	offset, _ := v.Get("offset")
	s := slot{fn: a.fn}
	s.limit, s.offset = windowOf(limit, offset)
	a.hosts = append(a.hosts, func(x *run, r *row, into *acc) {
		var own acc
		for _, err := range (&commits{}).madeOf(x, r) {
			if err == nil {
				err = x.step()
			}
			if err != nil {
				x.err = err
				return
			}
			s.add(x, &own, r)
		}
		into.merge(fnCount, &own)
	})
}

// ofList adds an inline list.
func (a *aggregation) ofList(f *field, v value.Value) error {
	get := func(name string) value.Value { m, _ := v.Get(name); return m }
	l := &elements{read: a.c.elementsReader(a.lv.collection, f), fn: a.fn}
	err := a.c.spend(conditionsIn(get("filter")))
	if err != nil {
		return err
	}
	if l.cond, err = elementsThat(f.Type, get("filter"), 0); err != nil {
		return fmtUnder("filter", err)
	}
	l.limit, l.offset = windowOf(get("limit"), get("offset"))
	if l.limit > 0 || l.offset != 0 {
		l.order = get("order").Text()
	}
	a.hosts = append(a.hosts, l.add)
	return nil
}

// elements is an inline list whose elements are aggregated.
type elements struct {
	read          func(*run, *row) ([]value.Value, bool)
	fn            function
	cond          test
	order         string // ASC, DESC or "": as they stand
	limit, offset int
}

func (l *elements) add(x *run, r *row, into *acc) {
	list, _ := l.read(x, r)
	if l.order != "" {
		list = slices.Clone(list)
		slices.SortStableFunc(list, func(a, b value.Value) int {
			if l.order == "DESC" {
				return value.Compare(b, a)
			}
			return value.Compare(a, b)
		})
	}
	seen := 0
	for i := range list {
		if !l.cond.of(list[i]) {
			continue
		}
		if seen++; l.offset < 0 || seen <= l.offset {
			continue
		}
		if l.limit > 0 && seen > l.offset+l.limit {
			return
		}
		if l.fn == fnCount {
			into.n++
		} else {
			into.add(l.fn, &list[i])
		}
	}
}

// elementsThat compiles the conditions on the elements of a list.
func elementsThat(t value.Type, v value.Value, depth int) (test, error) {
	if depth > maxConditionDepth {
		return test{}, fault.TooLarge.Errorf("conditions nest deeper than %d", maxConditionDepth)
	}
	var all test
	for name, operand := range v.Members() {
		var one test
		var err error
		switch name {
		case "_and", "_or":
			one, err = elementJunction(t, name, operand, depth)
		default:
			one, err = compare(t.Scalar(), name, operand)
		}
		if err != nil {
			return test{}, fmtUnder(name, err)
		}
		all = both(all, one)
	}
	return all, nil
}

func elementJunction(t value.Type, name string, operand value.Value, depth int) (test, error) {
	if operand.IsNull() {
		return test{}, nil
	}
	var all test
	for i, o := range operand.List() {
		one, err := elementsThat(t, o, depth+1)
		if err != nil {
			return test{}, fmt.Errorf("element %d: %w", i, err)
		}
		if name == "_or" { // a or b: not (not a and not b)
			one = negate(one)
		}
		all = both(all, one)
	}
	if name == "_or" {
		return negate(all), nil
	}
	return all, nil
}

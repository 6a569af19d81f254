package query

import (
	"iter"
	"strings"
)

// groupBy yields one row for each set of rows that agree in keys, in the order in
// which the first of each comes. A group accumulates while rows pass; the rows
// themselves are held only where somebody asks for them.
type groupBy struct {
	from  operator
	keys  []reader
	names []string
	slots []slot // aggregates over the rows of each group
	hold  bool   // hold the rows
	kept  bool   // the rows that come are held already, by whoever yields them
	most  int    // groups wanted by whoever limits; 0: all
	// inTurn says that something depends on more than each row.
	inTurn bool
}

// group is what a row carries that stands for several.
type group struct {
	accs []acc
	rows rowsOf
}

func (g *groupBy) add(key reader, name string) {
	g.keys, g.names = append(g.keys, key), append(g.names, name)
}

func (g *groupBy) input() operator { return g.from }

func (g *groupBy) describe() string {
	text := "group by " + strings.Join(g.names, ", ")
	if len(g.names) == 0 {
		text = "group all"
	}
	if len(g.slots) > 0 {
		text += ":"
		for _, s := range g.slots {
			text += " " + s.fn.String()
		}
	}
	if g.hold {
		text += " (holds the documents)"
	}
	return text
}

func (g *groupBy) rows(x *run, parent *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		groups, size, err := g.collect(x, parent)
		if parent != nil { // at the root they live as long as the answer
			defer x.release(size)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		for _, r := range groups {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// grouper makes groups of rows.
type grouper struct {
	*groupBy
	byKey   map[string]*row
	groups  []*row   // in the order in which the first row of each came
	keysOf  []string // of the groups
	size    int64    // that they are held for
	made    groupSlab
	scratch []byte
}

// collect reads all rows, and returns the groups with the size they were held for.
func (g *groupBy) collect(x *run, parent *row) ([]*row, int64, error) {
	from := g.from
	if !g.inTurn && !g.hold && g.most == 0 && parent == nil {
		p, rest, err := x.widely(from)
		switch {
		case err != nil:
			return nil, 0, err
		case p != nil:
			return g.collectParts(x, p)
		}
		from = rest
	}
	in := grouper{groupBy: g, byKey: map[string]*row{}}
	for r, err := range x.rows(from, parent) {
		if err == nil {
			err = in.add(x, r)
		}
		if err != nil {
			return nil, in.size, err
		}
	}
	return in.groups, in.size, nil
}

// collectParts is collect with the help of other cores.
func (g *groupBy) collectParts(x *run, p *wide) ([]*row, int64, error) {
	parts := make([]grouper, p.parts)
	err := x.spread(p, func(_, part int, w *run, r *row) error {
		in := &parts[part]
		if in.groupBy == nil {
			in.groupBy, in.byKey = g, map[string]*row{}
		}
		return in.add(w, r)
	})
	all := grouper{groupBy: g, byKey: map[string]*row{}}
	for i := range parts {
		if err == nil {
			all.merge(&parts[i])
		}
		all.size += parts[i].size
	}
	return all.groups, all.size, err
}

// merge takes in the groups of a later part.
func (g *grouper) merge(o *grouper) {
	for i, r := range o.groups {
		of, known := g.byKey[o.keysOf[i]]
		if !known {
			g.byKey[o.keysOf[i]] = r
			g.groups = append(g.groups, r)
			continue
		}
		for j := range g.slots {
			of.group.accs[j].merge(g.slots[j].fn, &r.group.accs[j])
		}
	}
}

// add takes in a row.
func (g *grouper) add(x *run, r *row) (err error) {
	g.scratch = g.scratch[:0]
	for _, k := range g.keys {
		g.scratch = k(x, r).AppendKey(g.scratch)
	}
	if x.err != nil {
		return x.err
	}
	of, known := g.byKey[string(g.scratch)]
	if !known && g.most > 0 && len(g.groups) == g.most {
		return nil
	}
	held := r
	if !g.kept && (g.hold || !known) {
		if held, err = x.hold(r, 0); err != nil {
			return err
		}
		g.size += held.size(0)
	}
	if !known {
		more := int64(len(g.scratch) + len(g.slots)*accSize + groupSize)
		if err := x.reserve(more); err != nil {
			return err
		}
		g.size += more
		of = g.made.next(held, len(g.groups), len(g.slots))
		key := string(g.scratch)
		g.byKey[key] = of
		g.groups, g.keysOf = append(g.groups, of), append(g.keysOf, key)
	}
	if g.hold {
		of.group.rows = append(of.group.rows, held)
	}
	addAll(x, g.slots, of.group.accs, r)
	return x.err
}

// groupSlab makes groups in chunks: there may be one for nearly every row.
type groupSlab struct {
	rows []groupRow
	accs []acc
}

type groupRow struct {
	row
	of group
}

func (s *groupSlab) next(first *row, made, slots int) *row {
	if len(s.rows) == 0 {
		n := min(max(made, 1), 256)
		s.rows = make([]groupRow, n)
		s.accs = make([]acc, n*slots)
	}
	g := &s.rows[0]
	s.rows = s.rows[1:]
	g.of.accs, s.accs = s.accs[:slots:slots], s.accs[slots:]
	g.row = row{Doc: first.Doc, group: &g.of}
	return &g.row
}

// groupSize is what a group takes beside its key and its accumulators.
const groupSize = 200

// members yields the documents of a group.
type members struct{}

func (members) input() operator  { return nil }
func (members) describe() string { return "documents of the group" }

func (members) rows(x *run, parent *row) iter.Seq2[*row, error] {
	if parent == nil || parent.group == nil {
		return nothing{}.rows(x, parent)
	}
	return parent.group.rows.rows(x, nil)
}

// members plans _group.
func (c *compiler) members(lv *level, s *selected) (column, error) {
	if lv.by == nil {
		return column{}, errNoGroup
	}
	lv.by.hold = true
	inner, err := c.level(lv.collection, s, lv)
	if err != nil {
		return column{}, err
	}
	l := &list{}
	if l.object, l.follows, err = c.columns(inner); err != nil {
		return column{}, err
	}
	w, err := c.wanted(inner, s)
	if err != nil {
		return column{}, err
	}
	l.from = w.of(inner, w.ofGroup(inner))
	return column{write: l.write, node: l}, nil
}

// ofGroup returns the documents of a group that are wanted.
func (w wanted) ofGroup(inner *level) operator {
	if inner.by != nil {
		inner.by.kept = true
	}
	cond := w.cond
	if w.restricted {
		cond = allOf(idIn(idSet(w.ids), true), cond)
	}
	return chosen(members{}, cond, text(w.filter))
}

package query

import (
	"fmt"
	"strconv"

	"github.com/pandodb/pando/internal/value"
)

// count is the root field _count: documents that match, over the collections it
// names.
type count struct{ hosts []countHost }

type countHost struct {
	coll *collection
	from operator // nil: all documents, whose number the store knows
}

// rootCount plans _count(T: {filter}).
func (c *compiler) rootCount(f *selected) (column, error) {
	n := &count{}
	for _, a := range f.Arguments {
		v, given, err := c.in.argument(f.Field, a.Name)
		if err != nil {
			return column{}, err
		}
		if !given {
			continue
		}
		g := c.schema.collections[a.Name]
		from, err := c.counted(g, v)
		if err != nil {
			return column{}, argumentError(f, a.Name, err)
		}
		n.hosts = append(n.hosts, countHost{g, from})
	}
	if len(n.hosts) == 0 {
		return column{}, wrongf(f.Position, "aggregate must be provided with a property to aggregate: write _count(T: {}) for a collection T")
	}
	return column{write: n.write, node: n}, nil
}

func (c *compiler) counted(g *collection, v value.Value) (operator, error) {
	var w wanted
	c.reading(g)
	filter, _ := v.Get("filter")
	lv, err := c.beside(&level{fields: c.top}, g, g.Name, mentionsAlias(filter))
	if err != nil {
		return nil, err
	}
	if err = c.chosenBy(&w, lv, filter); err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	limit, _ := v.Get("limit")
	offset, _ := v.Get("offset")
	w.limit, w.offset = windowOf(limit, offset)
	if (g.View == nil || g.View.Materialized) && w.cond.truth == always && w.computed.truth == always && w.limit == 0 && w.offset == 0 {
		return nil, nil
	}
	return w.of(lv, c.matching(g, w)), nil
}

func (n *count) write(x *run, _ *row) error {
	var sum uint64
	for _, h := range n.hosts {
		from := h.from
		if from == nil && !x.tx.Guarded(h.coll.Collection) {
			all, err := x.tx.Count(h.coll.Collection)
			if err != nil {
				return err
			}
			sum += all
			continue
		}
		if from == nil { // who may read is seen in each document
			from = &scan{coll: h.coll}
		}
		n, err := x.count(from)
		if err != nil {
			return err
		}
		sum += n
	}
	x.out.buf = strconv.AppendUint(x.out.buf, sum, 10)
	return nil
}

func (n *count) tree(p *printer) {
	for _, h := range n.hosts {
		if h.from == nil {
			p.line("size of " + h.coll.source())
			continue
		}
		p.operator(h.from)
		p.line("count")
	}
}

// count returns how many rows an operator yields, without reading the documents if
// an index tells.
func (x *run) count(from operator) (n uint64, err error) {
	if w, ok := from.(*where); ok {
		if a, ok := w.from.(*access); ok {
			return a.count(x, w.text)
		}
		if w.pure {
			p, rest, err := x.widely(w)
			if err != nil {
				return 0, err
			}
			if p != nil {
				return x.number(p)
			}
			from = rest
		}
	} else if p, _, err := x.widely(from); err != nil {
		return 0, err
	} else if p != nil {
		return x.number(p)
	}
	for _, err := range x.rows(from, nil) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// count returns how many documents meet the filter.
func (a *access) count(x *run, text string) (uint64, error) {
	defer x.watch(x.of(a))()
	fs := usable(x, a.ways)
	for i, f := range fs {
		if f, ok := f.(*indexFinder); ok && f.w.exact {
			f.each, f.only = costEntry, f.w.once
			fs[0], fs[i] = fs[i], fs[0]
		}
	}
	most, err := a.scanCost(x)
	if err != nil {
		return 0, err
	}
	won, err := race(x, fs, most)
	if err != nil {
		return 0, err
	}
	if f, ok := won.(*indexFinder); ok && f.w.exact {
		x.chose(a, &fetch{text: f.taken() + ", counted"})
		if f.only {
			return uint64(f.n), nil
		}
		return uint64(len(sortedIDs(f.ids))), nil
	}
	rest := chosen(x.chose(a, a.source(x, won)), a.cond, text)
	if w, ok := rest.(*where); ok {
		w.pure = a.alone
	}
	return x.count(rest)
}

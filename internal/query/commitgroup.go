package query

import (
	"iter"
	"slices"
	"strconv"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
)

// commitKeys say by what commits are grouped, and under which names it is shown.
var commitKeys = map[string]func(a store.Applied) string{
	"cid":                 func(a store.Applied) string { return string(a.CID[:]) },
	"docID":               func(a store.Applied) string { return string(a.Doc[:]) },
	"height":              func(a store.Applied) string { return strconv.FormatUint(a.Height, 10) },
	"author":              func(a store.Applied) string { return string(a.Author.Key.DID()) },
	"schemaVersionId":     func(a store.Applied) string { return string(a.Schema[:]) },
	"collectionVersionId": func(a store.Applied) string { return string(a.Schema[:]) },
}

// commitGroups groups commits, in the order in which the first of each group comes.
type commitGroups struct {
	by      []string
	columns []commitGroupColumn
	hold    bool // the commits, for _group
}

type commitGroupColumn struct {
	label []byte
	write func(w *writer, g *commitGroup)
}

type commitGroup struct {
	first store.Applied
	n     int
	rows  []store.Applied
}

// commitGroups plans what is selected of groups of commits; nil without groupBy.
func (c *compiler) commitGroups(f *selected) (*commitGroups, error) {
	by, _, err := c.in.argument(f.Field, "groupBy")
	if err != nil || by.IsNull() {
		return nil, err
	}
	g := &commitGroups{}
	for _, v := range by.List() {
		g.by = append(g.by, v.Text())
	}
	fields, err := c.collect(f.sub)
	if err != nil {
		return nil, err
	}
	for _, s := range fields {
		write, err := g.column(c, s)
		if err != nil {
			return nil, at(s, err)
		}
		g.columns = append(g.columns, commitGroupColumn{newColumn(s.key, nil).label, write})
	}
	return g, nil
}

func (g *commitGroups) column(c *compiler, s *selected) (func(w *writer, g *commitGroup), error) {
	switch name := canonicalName(s.Name, s.Definition.Directives); {
	case name == "_group":
		g.hold = true
		columns, err := c.commitColumns(s)
		return func(w *writer, g *commitGroup) {
			w.byte('[')
			for i, a := range g.rows {
				if i > 0 {
					w.byte(',')
				}
				writeCommit(w, columns, a)
			}
			w.byte(']')
		}, err
	case name == "_count":
		v, _, err := c.in.argument(s.Field, "field")
		if err == nil && v.Text() != "_group" {
			err = fault.Invalid.Errorf("cannot select a non-group-by field at group-level: write _count(field: _group)")
		}
		return func(w *writer, g *commitGroup) { w.buf = strconv.AppendInt(w.buf, int64(g.n), 10) }, err
	case name != "__typename" && !slices.Contains(g.by, name):
		return nil, fault.Invalid.Errorf("cannot select a non-group-by field at group-level. Field: %s: add it to groupBy, or select it inside _group", name)
	}
	write, err := c.commitColumn(s)
	return func(w *writer, g *commitGroup) { write(w, g.first) }, err
}

// orders reports whether groups can be sorted by the keys.
func (g *commitGroups) orders(keys []commitKey) error {
	for _, k := range keys {
		if !slices.Contains(g.by, k.name) {
			return fault.Invalid.Errorf("cannot order groups by %s, which is not among groupBy", k.name)
		}
	}
	return nil
}

// listGroups groups the commits and writes the groups.
func (n *commits) listGroups(x *run, from iter.Seq2[store.Applied, error]) error {
	groups, err := n.groups.of(x, from)
	if err != nil {
		return err
	}
	slices.SortStableFunc(groups, func(a, b *commitGroup) int { return n.compare(a.first, b.first) })
	w := x.out
	w.byte('[')
	for i, g := range cutOut(groups, n.limit, n.offset) {
		if i > 0 {
			w.byte(',')
		}
		w.byte('{')
		for k, c := range n.groups.columns {
			if k > 0 {
				w.byte(',')
			}
			w.buf = append(w.buf, c.label...)
			c.write(w, g)
		}
		w.byte('}')
		if err := w.pass(); err != nil {
			return err
		}
	}
	w.byte(']')
	return nil
}

// cutOut returns what limit and offset leave.
func cutOut[T any](all []T, limit, offset int) []T {
	if offset < 0 {
		return nil
	}
	all = all[min(offset, len(all)):]
	if limit > 0 {
		all = all[:min(limit, len(all))]
	}
	return all
}

func (g *commitGroups) of(x *run, from iter.Seq2[store.Applied, error]) ([]*commitGroup, error) {
	byKey := map[string]*commitGroup{}
	var all []*commitGroup
	var key []byte
	for a, err := range from {
		if err == nil {
			err = x.step()
		}
		if err != nil {
			return nil, err
		}
		key = key[:0]
		for _, name := range g.by {
			key = append(append(key, commitKeys[name](a)...), 0)
		}
		of := byKey[string(key)]
		if of == nil || g.hold {
			if err := x.reserve(commitSize(a)); err != nil {
				return nil, err
			}
		}
		if of == nil {
			of = &commitGroup{first: a}
			byKey[string(key)] = of
			all = append(all, of)
		}
		if of.n++; g.hold {
			of.rows = append(of.rows, a)
		}
	}
	return all, nil
}

// commitSize is what holding a commit takes.
func commitSize(a store.Applied) int64 { return int64(len(a.Envelope())) + 500 }

// countOf plans _count of a commit: its links, or its deltas.
func (c *compiler) countOf(s *selected) (func(w *writer, a store.Applied), error) {
	v, _, err := c.in.argument(s.Field, "field")
	if err != nil {
		return nil, err
	}
	switch v.Text() {
	case "links":
		return func(w *writer, a store.Applied) { w.buf = strconv.AppendInt(w.buf, int64(len(a.Parents)), 10) }, nil
	case "deltas":
		return func(w *writer, a store.Applied) {
			if a.HeaderOnly() {
				w.text("null")
				return
			}
			w.buf = strconv.AppendInt(w.buf, int64(len(a.Deltas)), 10)
		}, nil
	case "_group":
		return nil, errNoGroup
	}
	return nil, fault.Invalid.Errorf("aggregate must be provided with a property to aggregate: write _count(field: links)")
}

package schema

import (
	"encoding/binary"
	"slices"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/value"
)

// term is how one cell is read beside other cells that show the same thing in other
// versions: whichever was written last counts. It is a pure function of the
// document, and the document of its commits, so all nodes with the same versions
// and the same commits read the same.
type term struct {
	cell     Cell
	ties     []tie // nearest version first
	fallback *value.Value
}

// tie leads from a cell to those that a rule ties it to. On one side of a rule is
// the whole, on the other are its parts; a cast has one part.
type tie struct {
	rule  *Rule
	whole bool    // the other side is the whole
	at    int     // then the cell is this part of it
	of    int     // of so many
	cells []*term // of the other side

	pass *passage // not nil: in place of a rule, modules make the cell, at this place
}

// reading is a document under way through terms.
type reading struct {
	crdt.Document
	err error // of modules that do not run
}

// known is a value and when it was written.
type known struct {
	val     value.Value
	stamp   crdt.Stamp
	written bool
}

func (k known) newer(than known) bool {
	return k.written && (!than.written || k.stamp.Compare(than.stamp) > 0)
}

func (t *term) plain() bool { return len(t.ties) == 0 && t.fallback == nil }

// value is the Value of a derived field.
func (t *term) value(d crdt.Document) (value.Value, error) {
	r := reading{Document: d}
	k := t.read(&r)
	if !k.written && t.fallback != nil {
		return *t.fallback, r.err
	}
	return k.val, r.err
}

// passes reports whether modules make what the term reads.
func (t *term) passes() bool {
	return slices.ContainsFunc(t.ties, func(l tie) bool {
		return l.pass != nil || slices.ContainsFunc(l.cells, (*term).passes)
	})
}

func (t *term) read(d *reading) known {
	var k known
	if k.stamp, k.written = d.Stamp(t.cell.ID, t.cell.Kind); k.written {
		k.val, _ = d.Value(t.cell.ID, t.cell.Kind)
	}
	for i := range t.ties {
		k = t.ties[i].read(d, k, t.cell)
	}
	return k
}

// read returns own, or what the other side says if that is newer.
func (l *tie) read(d *reading, own known, cell Cell) known {
	if l.pass != nil {
		return l.pass.read(d, own, l.at)
	}
	if l.whole {
		if w := l.cells[0].read(d); w.newer(own) {
			return known{l.part(w.val, l.at, l.of, cell), w.stamp, true}
		}
		return own
	}
	parts := make([]known, len(l.cells))
	newest := own
	for i, t := range l.cells {
		if parts[i] = t.read(d); parts[i].newer(newest) {
			newest = parts[i]
		}
	}
	if !newest.newer(own) {
		return own
	}
	vals := make([]value.Value, len(parts))
	for i, p := range parts {
		if vals[i] = p.val; !p.newer(own) { // the part is as the whole was when that was written
			vals[i] = l.part(own.val, i, len(parts), l.cells[i].cell)
		}
	}
	return known{joined(vals, l.rule.Separator), newest.stamp, true}
}

func (l *tie) part(whole value.Value, i, n int, cell Cell) value.Value {
	if l.rule.Op == OpCast {
		return cast(whole, cell.Kind.Type())
	}
	return cut(whole, l.rule.Separator, i, n)
}

// append writes what tells the term from another.
func (t *term) append(b []byte) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(t.cell.ID)), uint64(t.cell.Kind))
	if t.fallback != nil {
		b = t.fallback.AppendBinary(append(b, 'd'))
	}
	for _, l := range t.ties {
		if l.pass != nil {
			b = append(append(b, 'm', byte(l.at>>8), byte(l.at)), l.pass.form[:]...)
			continue
		}
		b = append(b, 'l', byte(l.rule.Op), byte(l.at), byte(len(l.cells)))
		b = append(append(b, l.rule.Separator...), 0)
		for _, c := range l.cells {
			b = c.append(b)
		}
	}
	return append(b, 'e')
}

// maxTerms bounds what reading one field can cost, whatever versions peers send: a
// field is read from at most so many cells, those of the nearest versions.
const maxTerms = 64

// walk finds the cells that show the same thing, from version to version.
type walk struct {
	versions map[dag.Digest]*Collection
	after    map[dag.Digest][]*Collection
	budget   int

	running  Running // nil: no modules run
	passages map[edge]*passage
}

func newWalk(l Lineage, running Running) *walk {
	w := &walk{
		versions: make(map[dag.Digest]*Collection, len(l)), after: make(map[dag.Digest][]*Collection, len(l)),
		running: running, passages: map[edge]*passage{},
	}
	for _, c := range l {
		w.versions[c.Version] = c
		w.after[c.Previous] = append(w.after[c.Previous], c)
	}
	return w
}

// term returns how cell is read by readers of c. from is the version that the walk
// comes from; path are the cells that lead here, which are not read again.
func (w *walk) term(c *Collection, cell Cell, from dag.Digest, path []Cell) *term {
	t := &term{cell: cell}
	w.budget--
	w.extend(t, c, from, nil, path)
	return t
}

// extend adds what the neighbours of c know of the cell, and theirs: all but from, in
// their order, up to the one that is until.
func (w *walk) extend(t *term, c *Collection, from dag.Digest, until *Collection, path []Cell) {
	path = append(slices.Clip(path), t.cell)
	prev := w.versions[c.Previous]
	if prev != nil && prev == until {
		return
	}
	if prev != nil && prev.Version != from {
		w.cross(t, c, prev, c.Rules, from, path)
	}
	for _, next := range w.after[c.Version] {
		if next == until {
			return
		}
		if next.Version != from {
			w.cross(t, c, next, next.Rules, from, path)
		}
	}
}

// cross goes from c, where the walk came from another neighbour, by the rules and the
// modules between them.
func (w *walk) cross(t *term, c, to *Collection, rules []Rule, came dag.Digest, path []Cell) {
	back := c.Previous == to.Version
	for i := range rules {
		r := &rules[i]
		here, there := r.From, r.To
		if back {
			here, there = r.To, r.From
		}
		at := slices.Index(here, t.cell)
		switch {
		case at < 0:
		case r.Op == OpDefault:
			if t.fallback == nil {
				t.fallback = r.Value
			}
		case w.budget >= len(there) && !slices.ContainsFunc(there, func(c Cell) bool { return slices.Contains(path, c) }):
			l := tie{rule: r, at: at, of: len(here), whole: len(there) == 1}
			for _, cell := range there {
				l.cells = append(l.cells, w.term(to, cell, c.Version, path))
			}
			t.ties = append(t.ties, l)
		}
	}
	if p := w.passage(c, to, came); p != nil {
		if at := c.place(t.cell); p.here.fields[at].made {
			t.ties = append(t.ties, tie{pass: p, at: at})
		}
	}
	if to.hasCell(t.cell) {
		w.extend(t, to, c.Version, nil, path[:len(path)-1])
	}
}

package query

import (
	"iter"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// relation is one use of a relation in a plan: where it leads, and which of the
// documents there count.
type relation struct {
	name    string
	target  *collection
	deleted bool
	asOf    *instant
	// One side of a relation stores the docID of the other.
	near bool // this side does
	ref  *schema.Field
	// filter is on the documents that are grouped or looked for.
	filter predicate
	text   string
	ways   []way         // to these
	back   *schema.Index // leads to them from the documents that they refer to; nil: none does
	next   []*relation   // relations that the selection on the other side follows
	// indexed says that documents of the far side may be found along indexes.
	indexed bool
	tallied bool // only aggregates are made of the documents
}

// relation returns a new use of the relation f of g.
func (c *compiler) relation(g *collection, f *field) *relation {
	c.shared++
	c.reading(c.schema.collections[f.Target])
	to := &relation{name: f.name, target: c.schema.collections[f.Target], deleted: c.deleted, asOf: c.asOf, indexed: c.indexed()}
	ref := f.Field
	to.near = !f.IsVirtual()
	if !to.near {
		ref, _ = g.Opposite(f.Field, to.target.Collection) // it has one, or the field would be hidden
	}
	to.ref = ref
	if !to.near && to.indexed {
		to.back = indexOn(to.target, ref)
	}
	return to
}

// reference returns the docID that a row stores for the relation.
func (to *relation) reference(r *row) (dag.DocID, bool) {
	v := to.ref.Value(r.State)
	if v.Kind() != value.Ref {
		return dag.DocID{}, false
	}
	return dag.DocID(v.Ref()), true
}

// one returns the document that a single relation leads to, or nil.
func (x *run) one(to *relation, r *row) *row {
	if r == nil || x.err != nil {
		return nil
	}
	if !to.near {
		if rows := x.related(to, r); len(rows) > 0 {
			return rows[0]
		}
		return nil
	}
	id, ok := to.reference(r)
	if !ok {
		return nil
	}
	if !to.deleted && to.asOf == nil {
		return x.nearby(to.target, id)
	}
	related, err := x.get(to.target, id, true)
	if related != nil && to.asOf != nil {
		related, err = x.oneAsOf(related, to.asOf)
	}
	if related != nil && related.Deleted() && !to.deleted {
		related = nil
	}
	if err != nil {
		x.err = err
	}
	return related
}

// grouping holds documents by the document that they refer to.
type grouping struct {
	rows map[dag.DocID][]*row   // as far as rows are wanted
	any  map[dag.DocID]struct{} // else: all that are referred to
	// complete says that the rows are those of all documents that the relation is
	// followed from; else of those that have an entry.
	complete bool
	cost     int   // of having looked up
	fetched  int   // documents that were
	size     int64 // of those among them that count
	held     int64 // of these, so much is held
}

// sources yields the documents that may be on the far end of the relation.
func (to *relation) sources(x *run) iter.Seq2[*row, error] {
	var from operator = &scan{to.target, to.deleted || to.asOf != nil}
	if to.asOf != nil {
		from = &then{from, to.asOf, to.deleted}
	}
	if len(to.ways) > 0 {
		from = &access{coll: to.target, ways: to.ways, cond: to.filter}
	}
	return x.rows(chosen(from, to.filter, to.text), nil)
}

// grouped returns the documents of the far side by what they refer to. They are
// read with one pass the first time, so that following a relation from many
// documents costs no more than from one.
func (x *run) grouped(to *relation) *grouping {
	g := x.groups[to]
	if g != nil && g.complete {
		return g
	}
	if g != nil {
		x.release(g.held)
	}
	g = &grouping{rows: map[dag.DocID][]*row{}, complete: true}
	x.keep(to, g)
	only := x.only[to]
	for r, err := range to.sources(x) {
		if err != nil {
			x.err = err
			return g
		}
		id, ok := to.reference(r)
		if !ok {
			continue
		}
		if _, wanted := only[id]; !wanted && only != nil {
			continue
		}
		held, err := x.hold(r, 0)
		if err != nil {
			x.err = err
			return g
		}
		g.rows[id] = append(g.rows[id], held)
	}
	if only != nil {
		x.restrict(to.next, g.all())
	}
	return g
}

func (g *grouping) all() iter.Seq[*row] {
	return func(yield func(*row) bool) {
		for _, rows := range g.rows {
			for _, r := range rows {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// restrict says that the run will follow relations from these rows only: the
// passes over their far sides then hold no more than is asked for.
func (x *run) restrict(tos []*relation, from iter.Seq[*row]) {
	if len(tos) == 0 {
		return
	}
	ids := map[dag.DocID]struct{}{}
	for r := range from {
		if err := x.note(ids, r.ID); err != nil {
			x.err = err
			return
		}
	}
	if x.only == nil {
		x.only = map[*relation]map[dag.DocID]struct{}{}
	}
	for _, to := range tos {
		if !to.near {
			x.only[to] = ids
		}
	}
}

// hasAny reports whether any document of the far side refers to r.
func (x *run) hasAny(to *relation, r *row) bool {
	if x.err != nil {
		return false
	}
	g := x.groups[to]
	if g == nil || g.any == nil {
		if has, ok := x.lookUpAny(to, r.ID); ok {
			return has
		}
		g = &grouping{any: map[dag.DocID]struct{}{}}
		x.keep(to, g)
		for far, err := range to.sources(x) {
			if err == nil {
				if id, ok := to.reference(far); ok {
					err = x.note(g.any, id)
				}
			}
			if err != nil {
				x.err = err
				return false
			}
		}
	}
	_, ok := g.any[r.ID]
	return ok
}

// note adds a docID to a set.
func (x *run) note(set map[dag.DocID]struct{}, id dag.DocID) error {
	const entry = 64 // bytes of a set per docID
	if _, ok := set[id]; ok {
		return nil
	}
	set[id] = struct{}{}
	return x.reserve(entry)
}

func (x *run) keep(to *relation, g *grouping) {
	if x.groups == nil {
		x.groups = map[*relation]*grouping{}
	}
	x.groups[to] = g
}

// children yields the documents of the far side that refer to the parent.
type children struct{ to *relation }

func (c *children) input() operator { return nil }
func (c *children) describe() string {
	return c.to.describe()
}

func (to *relation) describe() string {
	text := "group " + to.target.source()
	if to.back != nil && !to.tallied {
		text = "by index " + to.back.Name + " | " + text
	}
	if to.text != "" {
		text += " where " + to.text
	}
	return text
}

func (c *children) rows(x *run, parent *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		if parent == nil {
			return
		}
		rows := x.related(c.to, parent)
		if x.err != nil {
			yield(nil, x.err)
			return
		}
		rowsOf(rows).rows(x, nil)(yield)
	}
}

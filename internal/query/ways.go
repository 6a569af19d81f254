package query

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// A way finds, without reading all documents of a collection, documents among
// which are all that meet a filter. Ways are made of the filter alone; which of
// them is the shortest is seen when they are gone.
type way interface {
	// finder returns the way for one run.
	finder(x *run) finder
	describe() string
}

// byID is the way to documents that the filter names.
type byID struct{ ids []dag.DocID }

// byIndex is the way through ranges of an index.
type byIndex struct {
	coll   *collection
	ix     *schema.Index
	ranges []store.IndexRange // disjoint, in the order of the index
	column []string           // the columns that they narrow
	exact  bool               // nothing else is in the ranges than what the filter asks for
	once   bool               // no document has two entries in them
}

// byUnion is the ways of the branches of _or, all of which are gone.
type byUnion struct{ branches [][]way }

// byRelation is the way over a relation: from the documents of the far side that
// meet the condition there.
type byRelation struct {
	coll    *collection
	to      *relation
	cond    predicate     // on the documents of the far side
	far     []way         // to these, if there are any but the scan
	back    *schema.Index // from them, if they do not say themselves whom they refer to
	decides bool          // the condition holds for all that it leads to, and for no other
}

const (
	// maxRanges is how many ranges of an index are made of the combinations of values
	// of several columns. More are left to the check on the documents.
	maxRanges = 1000
	// maxWays is how many ways are tried for one filter: each is gone for some time
	// before the shortest is known.
	maxWays = 8
	// maxJoined is how many spans are looked at for one request to find those that
	// several conditions on a field have in common: each condition goes over all.
	maxJoined = 1_000_000
)

// all returns the ways to the documents that meet the demands, none if there is
// only the scan.
func (d *demands) all() []way {
	ways := d.ways
	for i := range d.coll.Indexes {
		ix := &d.coll.Indexes[i]
		several := severalOf(d.coll, ix)
		if several == nil {
			if w := d.through(ix, nil); w != nil && len(w.column) > 0 {
				ways = append(ways, w)
			}
			continue
		}
		for k := range d.parts {
			if p := &d.parts[k]; p.field == several {
				if w := d.through(ix, p); len(w.column) > 0 {
					ways = append(ways, w)
				}
			}
		}
	}
	return ways[:min(len(ways), maxWays)]
}

// severalOf returns the field of an index of which a document may have several
// entries, or none; nil if it has one entry of each document.
func severalOf(g *collection, ix *schema.Index) *schema.Field {
	for _, col := range ix.Fields {
		if f, ok := g.Field(col.Name); ok && (f.Type.IsList() || f.Type == value.TypeJSON) {
			return f
		}
	}
	return nil
}

// through returns the way through an index: the first columns are narrowed to the
// values demanded, up to one of which there is more than single values.
func (d *demands) through(ix *schema.Index, p *element) *byIndex {
	w := &byIndex{coll: d.coll, ix: ix, ranges: []store.IndexRange{{}}, exact: true, once: p == nil}
	met := 0
	for _, col := range ix.Fields {
		f, ok := d.coll.Field(col.Name)
		if !ok {
			break
		}
		have, path := spans{}, []byte(nil)
		switch b := d.bound[f]; {
		case p != nil && p.field == f:
			have, path = p.spans, p.path
			met++
			w.once = len(have.list) == 1 && have.list[0].isPoint()
		case b != nil:
			have = b.spans
			met += b.count
		default:
			ok = false
		}
		if !ok {
			break
		}
		w.exact = w.exact && have.exact
		w.column = append(w.column, col.Name)
		if !w.narrow(have.list, path, col.Descending) {
			break
		}
	}
	w.exact = w.exact && met == d.count
	return w
}

// narrow appends a column to the ranges. It reports whether another can follow.
func (w *byIndex) narrow(list []span, path []byte, desc bool) bool {
	if desc {
		turned := make([]span, len(list))
		for i, s := range list {
			turned[len(list)-1-i] = s.descending()
		}
		list = turned
	}
	if len(w.ranges)*len(list) > maxRanges && len(w.ranges) > 1 {
		w.column = w.column[:len(w.column)-1]
		w.exact = false
		return false
	}
	single := true
	next := make([]store.IndexRange, 0, len(w.ranges)*len(list))
	for _, r := range w.ranges {
		for _, s := range list {
			head := slices.Concat(r.Lo, path)
			n := store.IndexRange{Lo: slices.Concat(head, s.lo)}
			if s.hi != nil {
				n.Hi = slices.Concat(head, s.hi)
			} else {
				n.Hi = after(head)
			}
			next = append(next, n)
			single = single && isPoint(s, desc)
		}
	}
	w.ranges = next
	return single
}

func isPoint(s span, desc bool) bool {
	if desc {
		s = s.descending()
	}
	return s.isPoint()
}

// order is how an index yields the documents of a filter in an order that is asked
// for.
type order struct {
	byIndex
	reverse bool
	// prefix is how many columns the order is about; documents with equal values in
	// these follow one another in docID order. whole: it is about all columns.
	prefix int
	whole  bool
}

// ordered returns the index that yields the documents in the order of keys, or nil.
func (d *demands) ordered(keys []sortKey) *order {
	var best *order
	most := -1 // columns of one value: the more, the fewer entries the walk is over
	for i := range d.coll.Indexes {
		ix := &d.coll.Indexes[i]
		if severalOf(d.coll, ix) != nil {
			continue
		}
		reverse, prefix, ok := d.serves(ix, keys)
		if n := d.singles(ix); ok && n > most {
			best, most = &order{*d.through(ix, nil), reverse, prefix, prefix == len(ix.Fields)}, n
		}
	}
	return best
}

// singles counts the columns at the beginning of an index of which one value is
// demanded.
func (d *demands) singles(ix *schema.Index) (n int) {
	for n < len(ix.Fields) && d.singleColumn(ix.Fields[n].Name) {
		n++
	}
	return n
}

// serves reports whether the columns of an index are in the order of keys, or in
// the opposite order. A column of which one value is demanded is in any.
func (d *demands) serves(ix *schema.Index, keys []sortKey) (reverse bool, prefix int, ok bool) {
	first := true
	for _, k := range keys {
		if k.field == nil {
			return false, 0, false
		}
		if d.single(k.field) {
			continue
		}
		for prefix < len(ix.Fields) && d.singleColumn(ix.Fields[prefix].Name) {
			prefix++
		}
		if prefix == len(ix.Fields) {
			return false, 0, false
		}
		col := ix.Fields[prefix]
		f, found := d.coll.Field(col.Name)
		if !found || f != k.field {
			return false, 0, false
		}
		turned := col.Descending != k.desc
		if !first && turned != reverse {
			return false, 0, false
		}
		first, reverse = false, turned
		prefix++
	}
	return reverse, prefix, !first
}

func (d *demands) singleColumn(name string) bool {
	f, ok := d.coll.Field(name)
	return ok && d.single(f)
}

// single reports whether one value is demanded of a field.
func (d *demands) single(f *schema.Field) bool {
	b := d.bound[f]
	return b != nil && len(b.list) == 1 && b.list[0].isPoint()
}

// indexOn returns the shortest index of g that begins with a field, one by which all
// documents are found; nil if there is none.
func indexOn(g *collection, f *schema.Field) *schema.Index {
	var best *schema.Index
	for i := range g.Indexes {
		ix := &g.Indexes[i]
		first, ok := g.Field(ix.Fields[0].Name)
		if !ok || first.ID != f.ID || severalOf(g, ix) != nil {
			continue
		}
		if best == nil || len(ix.Fields) < len(best.Fields) {
			best = ix
		}
	}
	return best
}

func sortedIDs(ids []dag.DocID) []dag.DocID {
	slices.SortFunc(ids, compareIDs)
	return slices.Compact(ids)
}

func (w *byID) describe() string { return fmt.Sprintf("%d docIDs", len(w.ids)) }

func (w *byIndex) describe() string {
	n := fmt.Sprintf("%d ranges", len(w.ranges))
	if len(w.ranges) == 1 {
		n = "1 range"
	}
	return fmt.Sprintf("index %s, %s of %s", w.ix.Name, n, strings.Join(w.column, ", "))
}

func (w *byUnion) describe() string {
	var branches []string
	for _, ways := range w.branches {
		branches = append(branches, alternatives(ways))
	}
	return "all of (" + strings.Join(branches, " + ") + ")"
}

func (w *byRelation) describe() string {
	text := "relation " + w.to.name + " from " + w.to.target.source()
	if len(w.far) > 0 {
		text += " by " + alternatives(w.far)
	}
	return text
}

func alternatives(ways []way) string {
	var texts []string
	for _, w := range ways {
		texts = append(texts, w.describe())
	}
	return strings.Join(texts, " | ")
}

package query

import (
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// Match is a filter over the documents of one collection that depends on nothing but
// each document. It is immutable, and may be asked from several goroutines at once.
type Match struct {
	coll *collection
	cond predicate
	from operator
	held int64
}

// maxMatchText is how long the text of such a filter may be: it is kept, and sent to
// peers with every comparison.
const maxMatchText = 16 << 10

// CompileMatch makes a Match of the text of a filter, as it stands in the argument
// filter of a query: an object.
func CompileMatch(s *Schema, name, text string) (*Match, error) {
	if len(text) > maxMatchText {
		return nil, fault.TooLarge.Errorf("the filter has %d bytes, at most %d are allowed", len(text), maxMatchText)
	}
	g := s.collections[name]
	if g == nil || g.View != nil {
		return nil, fault.NotFound.Errorf("collection %q does not exist", name)
	}
	// On a line of its own: the text may end with a comment.
	d, err := s.document("query { " + name + "(filter: " + text + "\n) { _docID } }")
	if err != nil {
		return nil, err
	}
	f, err := onlyFilter(d)
	if err != nil {
		return nil, err
	}
	in, err := variables(s.ast, d.ast.Operations[0], nil)
	if err != nil {
		return nil, err
	}
	c := &compiler{schema: s, in: in}
	fields, err := c.collect(d.ast.Operations[0].SelectionSet)
	if err != nil {
		return nil, err
	}
	filter, _, err := in.argument(f, "filter")
	if err != nil {
		return nil, err
	}
	if other := g.foreign(filter); other != "" {
		return nil, fault.Invalid.Errorf("the filter asks for %s, which is not a field of the document itself: use fields of %s alone, of a relation its ID, such as author_id", other, name)
	}
	lv, err := c.level(g, fields[0], nil)
	if err != nil {
		return nil, err
	}
	w, err := c.wanted(lv, fields[0])
	if err != nil {
		return nil, err
	}
	m := &Match{coll: g, cond: w.cond, from: c.matching(g, w), held: s.limits.Held}
	c.finish()
	return m, nil
}

// onlyFilter returns the only field of a document whose text was put together, if the
// filter did not bring anything besides.
func onlyFilter(d *document) (*ast.Field, error) {
	if ops := d.ast.Operations; len(ops) == 1 && len(d.ast.Fragments) == 0 && len(ops[0].SelectionSet) == 1 {
		f, ok := ops[0].SelectionSet[0].(*ast.Field)
		if ok && len(f.Arguments) == 1 && len(f.SelectionSet) == 1 && len(f.Directives) == 0 &&
			f.Arguments[0].Name == "filter" && f.Arguments[0].Value.Kind == ast.ObjectValue {
			return f, nil
		}
	}
	return nil, fault.Invalid.Errorf(`a filter is one object, such as {text: {_eq: "x"}}`)
}

// foreign returns the name of something that a filter asks for and that is no part of
// the document, or "".
func (g *collection) foreign(filter value.Value) string {
	for _, name := range slices.Sorted(maps.Keys(maps.Collect(filter.Members()))) {
		v, _ := filter.Get(name)
		switch name {
		case "_not":
			if other := g.foreign(v); other != "" {
				return other
			}
		case "_and", "_or":
			for _, e := range v.List() {
				if other := g.foreign(e); other != "" {
					return other
				}
			}
		default:
			if !g.byName[name].own() {
				return name
			}
		}
	}
	return ""
}

// Collection returns the collection of the documents.
func (m *Match) Collection() *schema.Collection { return m.coll.Collection }

// Holds reports whether a document meets the filter. A deleted one does not.
func (m *Match) Holds(ctx context.Context, tx *store.Tx, d store.Doc) (bool, error) {
	if d.Deleted() || m.cond.truth != depends {
		return !d.Deleted() && m.cond.truth == always, nil
	}
	x := m.run(ctx, tx)
	holds := m.cond.holds(x, &row{Doc: d})
	return holds && x.err == nil, x.err
}

// Documents yields the documents that meet the filter, in docID order, by way of
// indexes where there are some. Each is valid until the next step.
func (m *Match) Documents(ctx context.Context, tx *store.Tx) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		x := m.run(ctx, tx)
		for r, err := range x.rows(m.from, nil) {
			if err == nil {
				err = x.err
			}
			if err != nil {
				yield(store.Doc{}, err)
				return
			}
			if !yield(r.Doc, nil) {
				return
			}
		}
	}
}

func (m *Match) run(ctx context.Context, tx *store.Tx) *run {
	return &run{ctx: ctx, tx: tx, most: m.held, out: &writer{}}
}

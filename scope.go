package pando

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/query"
	"github.com/pandodb/pando/internal/store"
)

// Scope says which documents of a collection somebody keeps. The zero value is none.
type Scope struct {
	// Whole is every document; there is nothing else to say then.
	Whole bool
	// Filter is an object as in the argument filter of a query, over fields of the
	// document itself; "" selects nothing. A deleted document does not meet it.
	Filter string
	// Docs are documents that belong to it whatever they hold, deleted ones too.
	Docs []DocID
}

// Whole is the scope of every document.
var Whole = Scope{Whole: true}

// MaxScopeDocs is how many documents a scope names one by one: they are sent with every
// comparison. More are better described by a filter.
const MaxScopeDocs = 4096

// None reports whether nothing belongs to the scope.
func (s Scope) None() bool { return !s.Whole && s.Filter == "" && len(s.Docs) == 0 }

// Canonical returns the scope as it is kept and sent: without space around the filter,
// with the documents in order, each once. Two scopes are the same if these are.
func (s Scope) Canonical() Scope {
	if s.Whole {
		return Whole
	}
	docs := slices.Clone(s.Docs)
	slices.SortFunc(docs, DocID.Compare)
	return Scope{Filter: strings.TrimSpace(s.Filter), Docs: slices.Compact(docs)}
}

// Equal reports whether two scopes say the same in the same words.
func (s Scope) Equal(other Scope) bool {
	a, b := s.Canonical(), other.Canonical()
	return a.Whole == b.Whole && a.Filter == b.Filter && slices.Equal(a.Docs, b.Docs)
}

// String describes the scope for people.
func (s Scope) String() string {
	switch {
	case s.Whole:
		return "whole"
	case s.None():
		return "none"
	case s.Filter == "" && len(s.Docs) == 1:
		return "document " + s.Docs[0].String()
	case s.Filter == "":
		return documents(len(s.Docs))
	case len(s.Docs) == 0:
		return "where " + s.Filter
	}
	return fmt.Sprintf("where %s, and %s", s.Filter, documents(len(s.Docs)))
}

func documents(n int) string {
	if n == 1 {
		return "1 document"
	}
	return fmt.Sprintf("%d documents", n)
}

// check refuses what is too much.
func (s Scope) check() error {
	if len(s.Docs) > MaxScopeDocs {
		return fault.TooLarge.Errorf("a scope of %d documents, at most %d can be named: describe them by a filter", len(s.Docs), MaxScopeDocs)
	}
	return nil
}

// Matcher tells which documents of a collection belong to all of some scopes. It follows
// changes of the schema, and is safe for concurrent use.
type Matcher struct {
	db     *DB
	coll   CollectionID
	scopes []Scope
	by     *Reader // may read what belongs; nil: that is not asked
	plan   atomic.Pointer[matchPlan]
}

// matchPlan is what a Matcher asks of documents under one set of collections.
type matchPlan struct {
	set     *store.Set
	coll    *Collection
	matches []*query.Match // of each scope, nil where it has no filter
}

// Matcher returns what tells the documents of some scopes. A filter that does not fit
// the collection as this node uses it gives Invalid.
func (r *Replica) Matcher(coll CollectionID, scopes ...Scope) (*Matcher, error) {
	m := &Matcher{db: r.db, coll: coll}
	for _, s := range scopes {
		if err := s.check(); err != nil {
			return nil, err
		}
		if !s.Whole {
			m.scopes = append(m.scopes, s.Canonical())
		}
	}
	_, err := m.under(r.db.store.Schema())
	return m, err
}

// under returns the plan for a set of collections.
func (m *Matcher) under(set *store.Set) (*matchPlan, error) {
	if p := m.plan.Load(); p != nil && p.set == set {
		return p, nil
	}
	c, ok := set.ByID(m.coll)
	if !ok {
		return nil, fault.NotFound.Errorf("collection %s is unknown", m.coll)
	}
	p := &matchPlan{set: set, coll: c, matches: make([]*query.Match, len(m.scopes))}
	for i, s := range m.scopes {
		if s.Filter == "" {
			continue
		}
		var err error
		if p.matches[i], err = query.CompileMatch(m.db.schemas.Of(set), c.Name, s.Filter); err != nil {
			if fault.Of(err) == nil || errors.Is(err, fault.Invalid) {
				err = fault.Invalid.Errorf("filter on %s: %s", c.Name, err)
			}
			return nil, err
		}
	}
	m.plan.Store(p)
	return p, nil
}

// holds reports whether a document belongs to all scopes but one.
func (m *Matcher) holds(ctx context.Context, tx *store.Tx, p *matchPlan, d store.Doc, but int) (bool, error) {
	for i, s := range m.scopes {
		if i == but {
			continue
		}
		in := named(s.Docs, d.ID)
		if !in && p.matches[i] != nil {
			var err error
			if in, err = p.matches[i].Holds(ctx, tx, d); err != nil {
				return false, err
			}
		}
		if !in {
			return false, nil
		}
	}
	return true, nil
}

func named(docs []DocID, id DocID) bool {
	_, ok := slices.BinarySearchFunc(docs, id, DocID.Compare)
	return ok
}

// Matches reports whether a document is here and belongs to all scopes.
func (m *Matcher) Matches(ctx context.Context, doc DocID) (in bool, err error) {
	for e, err := range m.Some(ctx, []DocID{doc}) {
		return e.In, err
	}
	return false, nil
}

// Judged is a document that was looked at: as it stands in a tree, and whether it belongs.
type Judged struct {
	Element
	In bool
}

// Some looks at some documents, and yields those that are here, in the order of docIDs.
func (m *Matcher) Some(ctx context.Context, docs []DocID) iter.Seq2[Judged, error] {
	docs = slices.Clone(docs)
	slices.SortFunc(docs, DocID.Compare)
	docs = slices.Compact(docs)
	return m.read(ctx, func(tx *store.Tx, p *matchPlan, yield func(Judged, error) bool) {
		m.some(ctx, tx, p, docs, yield)
	})
}

func (m *Matcher) some(ctx context.Context, tx *store.Tx, p *matchPlan, docs []DocID, yield func(Judged, error) bool) {
	for d, err := range tx.GetMany(p.coll, docs) {
		j := Judged{}
		if err == nil {
			j.Element = d.Element()
			j.In, err = m.holds(ctx, tx, p, d, -1)
		}
		if !yield(j, err) || err != nil {
			return
		}
	}
}

// All yields the documents that belong to all scopes, in the order of docIDs, found by
// way of indexes where there are some.
func (m *Matcher) All(ctx context.Context) iter.Seq2[Element, error] {
	return func(yield func(Element, error) bool) {
		all := m.read(ctx, func(tx *store.Tx, p *matchPlan, yield func(Judged, error) bool) { m.all(ctx, tx, p, yield) })
		for j, err := range all {
			if !yield(j.Element, err) || err != nil {
				return
			}
		}
	}
}

func (m *Matcher) all(ctx context.Context, tx *store.Tx, p *matchPlan, yield func(Judged, error) bool) {
	first := 0 // the scope by which documents are found; those without a filter are short
	for i := range m.scopes {
		if p.matches[i] == nil {
			first = i
		}
	}
	for d, err := range m.source(ctx, tx, p, first) {
		j := Judged{In: true}
		if err == nil {
			j.Element = d.Element()
			j.In, err = m.holds(ctx, tx, p, d, first)
		}
		if (j.In || err != nil) && (!yield(j, err) || err != nil) {
			return
		}
	}
}

// source yields the documents of one scope, in the order of docIDs; of no scope, all.
func (m *Matcher) source(ctx context.Context, tx *store.Tx, p *matchPlan, i int) iter.Seq2[store.Doc, error] {
	if len(m.scopes) == 0 {
		return tx.Scan(p.coll, store.Range{Deleted: true})
	}
	list := tx.GetMany(p.coll, m.scopes[i].Docs)
	if p.matches[i] == nil {
		return list
	}
	found := p.matches[i].Documents(ctx, tx)
	if len(m.scopes[i].Docs) == 0 {
		return found
	}
	return both(list, found)
}

// both merges two sequences in the order of docIDs.
func both(a, b iter.Seq2[store.Doc, error]) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		next, stop := iter.Pull2(a)
		defer stop()
		left, err, more := next()
		for d, bad := range b {
			for more && err == nil && bad == nil && bytes.Compare(left.ID[:], d.ID[:]) < 0 {
				if !yield(left, nil) {
					return
				}
				left, err, more = next()
			}
			if more && err == nil && bad == nil && left.ID == d.ID {
				left, err, more = next()
			}
			if err != nil {
				bad = err
			}
			if !yield(d, bad) || bad != nil {
				return
			}
		}
		for ; more; left, err, more = next() {
			if !yield(left, err) || err != nil {
				return
			}
		}
	}
}

// read runs fn on a snapshot, under the schema of which it looks at documents.
func (m *Matcher) read(ctx context.Context, fn func(*store.Tx, *matchPlan, func(Judged, error) bool)) iter.Seq2[Judged, error] {
	return func(yield func(Judged, error) bool) {
		who := store.System
		if m.by != nil {
			who = m.by.caller()
		}
		err := m.db.store.View(ctx, who, func(tx *store.Tx) error {
			p, err := m.under(tx.Set())
			if err == nil {
				fn(tx, p, yield)
			}
			return err
		})
		if err != nil {
			yield(Judged{}, err)
		}
	}
}

// Matching yields the documents of a collection that belong to a scope, in the order of
// docIDs.
func (r *Replica) Matching(ctx context.Context, coll CollectionID, s Scope) iter.Seq2[DocID, error] {
	return func(yield func(DocID, error) bool) {
		m, err := r.Matcher(coll, s)
		if err != nil {
			yield(DocID{}, err)
			return
		}
		for e, err := range m.All(ctx) {
			if !yield(e.Key, err) || err != nil {
				return
			}
		}
	}
}

package query

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
	"github.com/pandodb/pando/internal/value"
)

// A root field may look at the past: at the document that a commit and its ancestors
// make, or at every document as of an instant, which holds for the relations below
// it too. What is wanted of the documents is applied to them as they were, so no
// index helps. Nothing is written.

// instant is the moment as of which documents are read; nil is now.
type instant struct {
	hlc  uint64 // the commits up to here
	text string
}

func (i *instant) String() string { return "as of " + i.text }

// past reads the arguments of a root field that lead into the past.
func (c *compiler) past(kind ast.Operation, f *selected) (at *instant, commit *dag.CID, err error) {
	asOf, _, err := c.in.argument(f.Field, "asOf")
	if err != nil {
		return nil, nil, err
	}
	cid, _, err := c.in.argument(f.Field, "cid")
	switch {
	case err != nil || asOf.IsNull() && cid.IsNull():
		return nil, nil, err
	case kind == ast.Subscription:
		return nil, nil, wrongf(f.Position, "a subscription tells what happens from now on: cid and asOf are arguments of queries")
	case cid.IsNull():
		return &instant{dag.HLCUpTo(asOf.Time()), describe(asOf)}, nil, nil
	case !asOf.IsNull():
		return nil, nil, wrongf(f.Position, "cid and asOf exclude each other: ask for a document at a commit, or for documents at an instant")
	}
	id, err := dag.ParseCID(cid.Text())
	if err != nil {
		return nil, nil, argumentError(f, "cid", fmt.Errorf("invalid cid: %w", err))
	}
	return nil, &id, nil
}

// then yields documents as they were at an instant, those that existed. What it is
// given are the documents of today, deleted ones too.
type then struct {
	from    operator
	at      *instant
	deleted bool // documents too that were deleted by then
}

func (t *then) input() operator  { return t.from }
func (t *then) describe() string { return t.at.String() }

func (t *then) rows(x *run, parent *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		for r, err := range x.rows(t.from, parent) {
			if err == nil {
				r, err = x.asOf(r, t.at)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if r == nil || r.Deleted() && !t.deleted {
				continue
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// asOf returns a row as it was, or nil if it was not.
func (x *run) asOf(r *row, at *instant) (*row, error) {
	if r.State.Newest() <= at.hlc {
		return r, nil
	}
	if old, ok := x.folded[r.ID]; ok {
		return old, nil
	}
	d, err := x.tx.PastOf(x.ctx, r.Doc, at.hlc)
	if errors.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, x.explained(err)
	}
	return &row{Doc: d}, nil
}

// explained gives an error that came of a caller who has gone its kind.
func (x *run) explained(err error) error {
	if x.ctx.Err() != nil {
		return fault.Unavailable.Errorf("the request was cancelled: %w", context.Cause(x.ctx))
	}
	return err
}

// oneAsOf is asOf of a document that a relation leads to. As it may lead there from
// many, the document is remembered, while there is room.
func (x *run) oneAsOf(r *row, at *instant) (*row, error) {
	old, err := x.asOf(r, at)
	if err != nil || old == r {
		return old, err
	}
	if _, ok := x.folded[r.ID]; ok {
		return old, nil
	}
	size := r.size(0)
	if old != nil {
		size += old.size(0)
	}
	if x.held+size > x.most/2 { // the rest is for what has to be held
		return old, nil
	}
	if err := x.reserve(size); err != nil {
		return nil, err
	}
	if x.folded == nil {
		x.folded = map[dag.DocID]*row{}
	}
	x.folded[r.ID] = old
	return old, nil
}

// atCommit yields the document that a commit and its ancestors make.
type atCommit struct {
	coll    *collection
	cid     dag.CID
	deleted bool
	docs    map[dag.DocID]bool // which it must be one of; nil: any
}

func (a *atCommit) input() operator { return nil }
func (a *atCommit) describe() string {
	return "get " + a.coll.source() + " at commit " + a.cid.String()
}

func (a *atCommit) rows(x *run, _ *row) iter.Seq2[*row, error] {
	return func(yield func(*row, error) bool) {
		d, err := x.tx.At(x.ctx, a.coll.Collection, a.cid)
		if err == nil && a.docs != nil && !a.docs[d.ID] {
			err = fault.Invalid.Errorf("cid does not belong to document: %s is of document %s", a.cid, d.ID)
		}
		if err != nil {
			yield(nil, x.explained(err))
			return
		}
		if !d.Deleted() || a.deleted {
			yield(&row{Doc: d}, nil)
		}
	}
}

// atCommit returns the source of the documents at a commit. No docID names no
// document; a docID that is not the commit's is a mistake.
func (c *compiler) atCommit(g *collection, cid *dag.CID, w wanted) operator {
	c.commit = nil // what is below is of today
	a := &atCommit{coll: g, cid: *cid, deleted: c.deleted}
	if w.named {
		a.docs = idSet(w.ids)
	}
	if w.named && len(w.ids) == 0 {
		return nothing{}
	}
	return a
}

// madeOf yields the commits that a row was made of, newest first: of a document as
// it was, not what came later.
func (n *commits) madeOf(x *run, r *row) iter.Seq2[store.Applied, error] {
	return func(yield func(store.Applied, error) bool) {
		made := map[dag.CID]bool{}
		for _, h := range r.State.Heads() {
			made[h.Commit] = true
		}
		for a, err := range n.ofDocument(x, r.Collection, r.ID) {
			if err == nil && !made[a.CID] {
				continue
			}
			if !yield(a, err) || err != nil {
				return
			}
			for _, p := range a.Parents {
				made[p] = true
			}
		}
	}
}

// pastArguments are those of the root field of a collection.
func pastArguments() ast.ArgumentDefinitionList {
	return ast.ArgumentDefinitionList{
		argument("cid", typeAtCommit, "The document as this commit and its ancestors make it."),
		argument("asOf", named(scalarName(value.TypeDateTime)), "Documents as they were at that time, here and in relations."),
	}
}

package store

import (
	"context"
	"errors"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
)

// foldOf returns the document that some of its commits make, or NotFound if there
// are none, the caller may not read it now, or a key of that time is not here. keep must
// choose with every commit its ancestors too: commits come in topological order. It costs
// a pass over the history of the document.
func (tx *Tx) foldOf(ctx context.Context, c *schema.Collection, id dag.DocID, keep func(*Applied) bool) (Doc, error) {
	d, _, err := tx.foldAnyOf(ctx, c, id, keep)
	return tx.opened(d, err)
}

// opened returns a document of the past, or NotFound if a key of that time is not here.
func (tx *Tx) opened(d Doc, err error) (Doc, error) {
	if err == nil && !tx.opens(d.State) {
		return Doc{}, fault.NotFound.Errorf("document %s of collection %s cannot be read as it was then: a key of that time is not here", d.ID, d.Collection.Name)
	}
	return d, err
}

// opens reports whether a document of the past may be shown to the caller as far as keys
// go. Who was void later may have written under a key of his own: without that the
// document would look as nobody ever wrote it.
func (tx *Tx) opens(d crdt.Document) bool {
	return tx.who.system || tx.who.peer != nil || !locked(d)
}

// foldAnyOf is foldOf, whether keys are here or not, with who could do what then.
func (tx *Tx) foldAnyOf(ctx context.Context, c *schema.Collection, id dag.DocID, keep func(*Applied) bool) (d Doc, rights acp.State, err error) {
	if tx.done {
		return Doc{}, rights, errEnded
	}
	n, err := tx.short(c)
	if err != nil {
		return Doc{}, rights, err
	}
	var state crdt.Document
	var j *judged
	may, err := tx.mayRead(n, id)
	if err == nil && may {
		state, j, err = tx.refold(ctx, n, id, keep)
	}
	if errors.Is(err, errNoCommits) || err == nil && len(state.Bytes()) == 0 {
		return Doc{}, rights, fault.NotFound.Errorf("document %s of collection %s did not exist then", id, c.Name)
	}
	if err == nil && j != nil {
		rights = j.State
	}
	return Doc{id, c, state}, rights, err
}

// AsOf returns the document as it was made by the commits up to an instant of the
// hybrid clock, or NotFound. A document that has not changed since costs no more
// than Get, another one a pass over its history.
func (tx *Tx) AsOf(ctx context.Context, c *schema.Collection, id dag.DocID, hlc uint64) (Doc, error) {
	d, err := tx.Get(c, id)
	if err != nil {
		return Doc{}, err
	}
	return tx.PastOf(ctx, d, hlc)
}

// PastOf is AsOf of a document at hand.
func (tx *Tx) PastOf(ctx context.Context, d Doc, hlc uint64) (Doc, error) {
	if d.State.Newest() <= hlc {
		return d, nil
	}
	return tx.foldOf(ctx, d.Collection, d.ID, func(a *Applied) bool { return a.HLC <= hlc })
}

// At returns the document as its commit cid and the ancestors of cid make it. It is
// NotFound as FindCommit is, Invalid if the commit is one of another collection.
// Its cost follows the length of the history up to there.
func (tx *Tx) At(ctx context.Context, c *schema.Collection, cid dag.CID) (Doc, error) {
	if tx.done {
		return Doc{}, errEnded
	}
	n, err := tx.short(c)
	if err != nil {
		return Doc{}, err
	}
	at, err := tx.find(cid)
	switch {
	case err != nil:
		return Doc{}, err
	case at.coll != n:
		other := "another collection"
		if o := tx.collection(at.coll); o != nil {
			other = "collection " + o.Name
		}
		return Doc{}, fault.Invalid.Errorf("commit %s is of %s, not of %s", cid, other, c.Name)
	}
	now, _, err := tx.document(n, at.doc)
	if err != nil {
		return Doc{}, err
	}
	if hs := now.Heads(); len(hs) == 1 && hs[0].Commit == cid {
		return Doc{at.doc, c, now}, nil // all is its ancestor
	}
	ancestors, err := tx.ancestors(ctx, at)
	if err != nil {
		return Doc{}, err
	}
	return tx.foldOf(ctx, c, at.doc, func(a *Applied) bool { return ancestors[a.CID] })
}

// ancestors returns a commit and all commits below it. The set is what is held of a
// history, however long: no commit is.
func (tx *Tx) ancestors(ctx context.Context, at place) (map[dag.CID]bool, error) {
	met := map[dag.CID]bool{}
	return met, tx.gather(ctx, at, met)
}

// gather adds a commit and all commits below it to those that were met, with what is
// below them.
func (tx *Tx) gather(ctx context.Context, at place, met map[dag.CID]bool) error {
	if met[at.cid] {
		return nil
	}
	met[at.cid] = true
	for next := []place{at}; len(next) > 0; {
		at, next = next[len(next)-1], next[:len(next)-1]
		cm, err := tx.commitAt(at)
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		for _, p := range cm.Parents {
			if met[p] {
				continue
			}
			met[p] = true
			up, ok, err := tx.where(p)
			if err != nil {
				return err
			}
			if !ok {
				return fault.Corrupt.Errorf("parent %s of commit %s is missing: run pando fsck --rebuild", p, at.cid)
			}
			next = append(next, up)
		}
	}
	return nil
}

// commitAt reads a commit, which may be one of the transaction.
func (tx *Tx) commitAt(at place) (*dag.Commit, error) {
	if p, ok := tx.byCID[at.cid]; ok {
		return p.commit, nil
	}
	cm, _, err := tx.load(at)
	return cm, err
}

package store

import (
	"context"
	"errors"
	"slices"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/schema"
)

const (
	// maxPartings bounds how many commits are looked at that may have taken a right:
	// the newest. Each costs a pass over the history.
	maxPartings = 4
	// maxParting bounds what is told of one document: who lacks more than that was
	// away for long, and does not hear of its end.
	maxParting = 256
)

// Partings returns what those identities may be told last of a document which they
// could read, and can no more: the commits that took the right, and what these stand
// on and they lack. All of that they could read when the right was taken. Of a commit
// that does more than change rights nothing is told, nor of rights that were held by
// way of a group. heads are those that they have, all that is below the commits if nil.
// The commits come in the order in which they apply.
func (tx *Tx) Partings(ctx context.Context, c *schema.Collection, id dag.DocID, heads []dag.CID, keys ...ident.PublicKey) ([]Applied, error) {
	if c.Access() == nil || len(keys) == 0 {
		return nil, nil
	}
	n, err := tx.short(c)
	if err != nil {
		return nil, err
	}
	d, ok, err := tx.document(n, id)
	if err != nil || !ok {
		return nil, err
	}
	may, err := tx.Reading(keys...).ReadableDoc(Doc{id, c, d})
	if err != nil || may {
		return nil, err
	}
	p := parting{tx: tx, c: c, n: n, id: id, keys: keys, told: map[dag.CID]bool{}, has: map[dag.CID]bool{}}
	for _, h := range heads {
		if err := p.add(ctx, p.has, h); err != nil {
			return nil, err
		}
	}
	if err := p.find(ctx, heads == nil); err != nil || len(p.told) > maxParting {
		return nil, err
	}
	var all []Applied
	for a, err := range tx.historyOf(n, id) {
		if err != nil {
			return nil, err
		}
		if p.told[a.CID] {
			all = append(all, a)
		}
	}
	return all, nil
}

// parting is what somebody is to be told last of a document.
type parting struct {
	tx   *Tx
	c    *schema.Collection
	n    short
	id   dag.DocID
	keys []ident.PublicKey
	has  map[dag.CID]bool // what they have
	told map[dag.CID]bool
}

// add adds a commit with its ancestors, if it is here.
func (p *parting) add(ctx context.Context, to map[dag.CID]bool, cid dag.CID) error {
	at, ok, err := p.tx.where(cid)
	if err != nil || !ok || at.doc != p.id || at.coll != p.n {
		return err
	}
	return p.tx.gather(ctx, at, to)
}

// find finds the commits that took the right, and what they stand on, unless that is
// there already.
func (p *parting) find(ctx context.Context, alone bool) error {
	var took []Applied
	for a, err := range p.tx.historyOf(p.n, p.id) {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if takes(a.Commit, p.keys) {
			took = append(took, a)
		}
	}
	for _, a := range took[max(0, len(took)-maxPartings):] {
		below, err := p.tx.ancestors(ctx, place{p.n, p.id, a.Height, a.CID})
		if err != nil {
			return err
		}
		delete(below, a.CID)
		could, err := p.could(ctx, below)
		if err != nil {
			return err
		}
		if !could || p.has[a.CID] {
			continue
		}
		p.told[a.CID] = true
		for c := range below {
			if !alone && !p.has[c] {
				p.told[c] = true
			}
		}
	}
	return nil
}

// could reports whether the identities could read the document as some commits make it.
func (p *parting) could(ctx context.Context, commits map[dag.CID]bool) (bool, error) {
	then, _, err := p.tx.refold(ctx, p.n, p.id, func(b *Applied) bool { return commits[b.CID] })
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return p.tx.Reading(p.keys...).ReadableDoc(Doc{p.id, p.c, then})
}

// takes reports whether a commit does nothing but change rights, and may take that of
// the identities to read.
func takes(cm *dag.Commit, keys []ident.PublicKey) bool {
	if slices.ContainsFunc(cm.Segs, func(s dag.Segment) bool { return s.Group != 0 }) ||
		slices.ContainsFunc(cm.Deltas, func(d crdt.Delta) bool { return d.Field != crdt.FieldAccess && d.Field != crdt.FieldKeys }) {
		return false
	}
	ops, err := acp.Ops(cm.Deltas)
	return err == nil && slices.ContainsFunc(ops, func(o acp.Op) bool {
		return o.Kind == acp.Transfer || o.Kind == acp.Revoke && (o.Subject.All || slices.Contains(keys, o.Subject.Key))
	})
}

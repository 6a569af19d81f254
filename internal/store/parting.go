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

// maxPartings bounds how many commits are looked at that may have taken a right: the
// newest. Each costs a pass over the history.
const maxPartings = 4

// Partings returns the commits that took the right to read a document from those
// identities, who had it by all that such a commit stands on, and have it no more: what
// they may be told last. Commits that say anything else are left out, and those that
// took the right by way of a group. They come in the order in which they apply.
func (tx *Tx) Partings(ctx context.Context, c *schema.Collection, id dag.DocID, keys ...ident.PublicKey) ([]Applied, error) {
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
	var candidates []Applied
	for a, err := range tx.historyOf(n, id) {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return nil, err
		}
		if takes(a.Commit, keys) {
			candidates = append(candidates, a)
		}
	}
	candidates = candidates[max(0, len(candidates)-maxPartings):]
	var found []Applied
	for _, a := range candidates {
		had, err := tx.couldRead(ctx, c, n, a, keys)
		if err != nil {
			return nil, err
		}
		if had {
			found = append(found, a)
		}
	}
	return found, nil
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

// couldRead reports whether the identities could read the document as the ancestors of a
// commit make it.
func (tx *Tx) couldRead(ctx context.Context, c *schema.Collection, n short, a Applied, keys []ident.PublicKey) (bool, error) {
	below, err := tx.ancestors(ctx, place{n, a.Doc, a.Height, a.CID})
	if err != nil {
		return false, err
	}
	delete(below, a.CID)
	then, _, err := tx.refold(ctx, n, a.Doc, func(b *Applied) bool { return below[b.CID] })
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return tx.Reading(keys...).ReadableDoc(Doc{a.Doc, c, then})
}

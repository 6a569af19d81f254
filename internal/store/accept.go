package store

import (
	"bytes"
	"context"
	"slices"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
)

// Pending returns the commits of a document that are void: what people wrote while
// their right to was being taken away. The owner can accept them. They come in the
// order in which they apply.
func (tx *Tx) Pending(ctx context.Context, c *schema.Collection, id dag.DocID) ([]Applied, error) {
	d, err := tx.Get(c, id)
	if err != nil {
		return nil, err
	}
	a, err := AccessOf(d)
	if err != nil || a.Voided() == 0 {
		return nil, err
	}
	n, err := tx.short(c)
	if err != nil {
		return nil, err
	}
	_, j, err := tx.refold(ctx, n, id, all)
	if err != nil {
		return nil, err
	}
	var void []Applied
	i := 0
	for a, err := range tx.historyOf(n, id) {
		if err != nil {
			return nil, err
		}
		if j.Verdicts[i] == acp.Void {
			void = append(void, a)
		}
		i++
	}
	return void, nil
}

// maxOver is how many heads a commit names because it accepts what is below them. The others
// that it may name are for what lets its author accept.
const maxOver = dag.MaxParents / 2

// Accept lets commits count that are pending, all if none is named, and returns how many.
// Only the owner may. A commit accepts what is below it, and names so many heads: of what
// was written beside each other by many it takes several.
func (tx *Tx) Accept(ctx context.Context, c *schema.Collection, id dag.DocID, named ...dag.CID) (int, error) {
	void, err := tx.Pending(ctx, c, id)
	if err != nil {
		return 0, err
	}
	var all []dag.CID
	for _, a := range void {
		if len(named) == 0 || slices.Contains(named, a.CID) {
			all = append(all, a.CID)
		}
	}
	for _, cid := range named {
		if !slices.Contains(all, cid) {
			return 0, fault.NotFound.Errorf("commit %s is none of document %s that waits for being accepted", cid, id)
		}
	}
	if len(all) == 0 {
		return 0, nil
	}
	n, err := tx.short(c)
	if err != nil {
		return 0, err
	}
	over, err := tx.over(n, id, all)
	if err != nil {
		return 0, err
	}
	slices.SortFunc(all, func(a, b dag.CID) int {
		x, y := over[a], over[b]
		return bytes.Compare(x[:], y[:])
	})
	for len(all) > 0 {
		part := underFew(all, over)
		if _, err := tx.WriteAccess(c, id, acp.Op{Kind: acp.Accept, Commits: part}); err != nil {
			return 0, err
		}
		all = all[len(part):]
	}
	left, err := tx.Pending(ctx, c, id)
	if err != nil {
		return 0, err
	}
	accepted := len(over)
	for _, a := range left {
		if _, ok := over[a.CID]; ok {
			accepted--
		}
	}
	return accepted, nil
}

// underFew returns the first of some commits that one commit can accept: they are below few heads.
func underFew(all []dag.CID, over map[dag.CID]dag.CID) (part []acp.ID) {
	heads := 0
	for i, cid := range all {
		if i == 0 || over[cid] != over[all[i-1]] {
			heads++
		}
		if heads > maxOver || i == acp.MaxAccepted {
			break
		}
		part = append(part, acp.ID(cid))
	}
	return part
}

// over returns for each of some commits of a document a head that it is below, or is. It
// costs a pass over the history, and holds what is above the commits.
func (tx *Tx) over(n short, id dag.DocID, below []dag.CID) (map[dag.CID]dag.CID, error) {
	head := make(map[dag.CID]dag.CID, len(below)) // of each that is above: itself, as far as is known
	for _, cid := range below {
		head[cid] = cid
	}
	type step struct {
		cid     dag.CID
		parents []dag.CID
	}
	var above []step
	for a, err := range tx.historyOf(n, id) {
		if err != nil {
			return nil, err
		}
		_, is := head[a.CID]
		if is || slices.ContainsFunc(a.Parents, func(p dag.CID) bool { _, ok := head[p]; return ok }) {
			head[a.CID] = a.CID
			above = append(above, step{a.CID, a.Parents})
		}
	}
	for _, s := range slices.Backward(above) { // children first
		for _, p := range s.parents {
			if head[p] == p {
				head[p] = head[s.cid]
			}
		}
	}
	found := make(map[dag.CID]dag.CID, len(below))
	for _, cid := range below {
		found[cid] = head[cid]
	}
	return found, nil
}

// overAccepted returns those of some heads that a commit has to name to have what it accepts
// among its ancestors.
func (tx *Tx) overAccepted(n short, cm *dag.Commit, heads []crdt.Head) (chosen []crdt.Head, err error) {
	ops, err := acp.Ops(cm.Deltas)
	if err != nil {
		return nil, err
	}
	var all []dag.CID
	for _, o := range ops {
		for _, cid := range o.Commits {
			all = append(all, dag.CID(cid))
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	over, err := tx.over(n, cm.Doc, all)
	if err != nil {
		return nil, err
	}
	wanted := make(map[dag.CID]bool, len(over))
	for _, head := range over {
		wanted[head] = true
	}
	for _, h := range heads {
		if wanted[h.Commit] && len(chosen) < maxOver {
			chosen = append(chosen, h)
		}
	}
	return chosen, nil
}

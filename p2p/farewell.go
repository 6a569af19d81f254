package p2p

import (
	"context"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
)

// Whoever lost the right to read a document gets nothing of it any more, and would not
// learn why: it would go on writing what counts nowhere. So it is told the commit that
// took the right, which says nothing else, and what it lacks below that: all of it it
// could read. That is the last it hears of the document. Rights that are held through a group end
// without a word.

// parted reports whether a commit takes rights: whom it leaves without may be told.
func parted(cm *dag.Commit) bool {
	ops, err := acp.Ops(cm.Deltas)
	return err == nil && slices.ContainsFunc(ops, func(o acp.Op) bool { return o.Kind == acp.Revoke || o.Kind == acp.Transfer })
}

// farewell tells a peer that it may read a document no more, if it could, with what it
// lacks below that. heads are those that it has, if it said so.
func (n *Node) farewell(ctx context.Context, p peer.ID, id dag.CollectionID, doc dag.DocID, by pando.Reader, heads []dag.CID) {
	if !n.tellable(p) {
		return
	}
	all, err := n.replica.Partings(ctx, id, doc, heads, by)
	if err != nil {
		n.log.Debug("it cannot be told what took a right", "document", doc, "error", err)
		return
	}
	for _, c := range all {
		n.queue(p, news{collection: id, commit: c, parting: true})
	}
}

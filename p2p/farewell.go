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
	return takes(cm, func(acp.Subject) bool { return true })
}

// partedFrom reports whether it may have taken those of a reader. To find that out for
// sure takes passes over the history of the document.
func partedFrom(cm *dag.Commit, by pando.Reader) bool {
	keys := by.Keys()
	return takes(cm, func(from acp.Subject) bool { return from.All || slices.Contains(keys, from.Key) })
}

func takes(cm *dag.Commit, from func(acp.Subject) bool) bool {
	ops, err := acp.Ops(cm.Deltas)
	return err == nil && slices.ContainsFunc(ops, func(o acp.Op) bool { return o.Kind == acp.Transfer || o.Kind == acp.Revoke && from(o.Subject) })
}

// maxFarewells bounds the documents of which a session finds whether the peer is to be told
// that it may read them no more: it may show what it likes, and each costs passes over a
// history. Of the others it is told in the next one.
const maxFarewells = 64

// farewell tells a peer that it may read a document no more, if it could.
func (n *Node) farewell(ctx context.Context, p peer.ID, id dag.CollectionID, doc dag.DocID, by pando.Reader) {
	n.sayFarewell(p, id, doc, n.partings(ctx, p, id, doc, by, nil))
}

// partings returns what a peer is to be told of a document that it may read no more, if it
// could, with what it lacks below that. heads are those that it has, if it said so.
func (n *Node) partings(ctx context.Context, p peer.ID, id dag.CollectionID, doc dag.DocID, by pando.Reader, heads []dag.CID) []dag.CID {
	if !n.tellable(p) {
		return nil
	}
	all, err := n.replica.Partings(ctx, id, doc, heads, by)
	if err != nil {
		n.log.Debug("it cannot be told what took a right", "document", doc, "error", err)
		return nil
	}
	return all
}

// sayFarewell tells a peer the last of a document, and reports whether there is room to.
func (n *Node) sayFarewell(p peer.ID, id dag.CollectionID, doc dag.DocID, all []dag.CID) bool {
	for _, c := range all {
		if !n.queue(p, news{collection: id, commit: c, parting: &doc}) {
			return false
		}
	}
	return true
}

// notTold lets the ends of rights that a peer could not be told be found by comparing again.
func (n *Node) notTold(p peer.ID, some []news) {
	for _, x := range some {
		if x.parting != nil {
			n.agreements.reopen(sharing{p, x.collection}, *x.parting)
		}
	}
}

// outOfSight compares soon with the members that may read a document, if its rights changed
// and this node may not read it, any more or ever: none of them shows it here, so that they
// have what is here of it is known only when it was given.
func (n *Node) outOfSight(ctx context.Context, id dag.CollectionID, doc dag.DocID) {
	peers, as := n.sharers(id), []pando.Reader{n.ownReader()}
	for _, p := range peers {
		as = append(as, n.readerOf(p))
	}
	may, err := n.replica.MayRead(ctx, id, doc, as...)
	if err != nil || may[0] {
		return
	}
	for i, p := range peers {
		if may[i+1] {
			n.compareSoon(p)
		}
	}
}

package p2p

import (
	"context"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
)

// returning tells commits that come though they are known from those that are repeated.
// Of a document with more heads than can be named, all that stands beside the others comes
// again, however much that is: each commit once, in the order of their points.
type returning struct {
	n    *Node
	id   dag.CollectionID
	last map[dag.DocID]pando.Point // of documents with that many heads
}

// among returns how many commits come once more and are not repeated: at most those that
// are here of documents with many heads, in all packs of a stream together.
func (r *returning) among(ctx context.Context, envelopes [][]byte) (once int, err error) {
	few, later := map[dag.DocID]bool{}, []dag.CID(nil)
	for _, e := range envelopes {
		c, err := dag.Open(e)
		if err != nil || few[c.Doc] {
			continue // what cannot be read is deferred
		}
		last, many := r.last[c.Doc]
		if !many {
			heads, err := r.n.replica.Heads(ctx, r.id, c.Doc)
			if err != nil {
				return 0, err
			}
			if few[c.Doc] = len(heads) <= maxOldHeads; few[c.Doc] {
				continue
			}
		}
		if at := (pando.Point{Height: c.Height, CID: c.CID}); at.Compare(last) > 0 {
			if r.last == nil {
				r.last = map[dag.DocID]pando.Point{}
			}
			r.last[c.Doc] = at
			later = append(later, c.CID)
		}
	}
	left, err := r.n.lacking(ctx, later) // which anybody can make more of
	return len(later) - len(left), err
}

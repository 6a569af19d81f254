package p2p

import (
	"context"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/veil"
)

// A blind node wants nothing but what is sealed, and says so. Whoever gives it something
// else all the same gives it in vain.

// sealedOnly returns those of some commits that this node takes from a peer: if it is
// blind, those of documents that are here, or that begin sealed as a whole.
func (n *Node) sealedOnly(ctx context.Context, id dag.CollectionID, envelopes [][]byte, from peer.ID) ([][]byte, error) {
	if !n.identities.own.Blind || !n.protected(id) {
		return envelopes, nil
	}
	takes, left := map[dag.DocID]bool{}, make([][]byte, 0, len(envelopes))
	for _, e := range envelopes {
		c, err := dag.Open(e)
		if err != nil {
			left = append(left, e) // merging says what is wrong
			continue
		}
		take, known := takes[c.Doc]
		if !known {
			heads, err := n.replica.Heads(ctx, id, c.Doc)
			if err != nil {
				return nil, err
			}
			if take = len(heads) > 0 || sealsAll(c); !take && len(c.Parents) > 0 {
				n.repair(from) // it may be of one that is sealed, and comes with its beginning then
			}
			takes[c.Doc] = take
		}
		if take {
			left = append(left, e)
		}
	}
	return left, nil
}

// sealsAll reports whether a commit begins a document of which everything is encrypted.
func sealsAll(c *dag.Commit) bool {
	ops, err := veil.Ops(c.Deltas)
	return err == nil && len(c.Parents) == 0 && slices.ContainsFunc(ops, func(o veil.Op) bool { return o.Kind == veil.Hide && o.Cover.All })
}

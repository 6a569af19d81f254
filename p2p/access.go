package p2p

import (
	"github.com/libp2p/go-libp2p/core/peer"
)

// Access returns whom this node lets connect.
func (n *Node) Access() Access { return n.host.Access() }

// AccessChange says which peers go on and off the lists of a node, by peer id, address
// or did:key.
type AccessChange struct {
	// Remove takes peers off both lists, before the others are put on them.
	Remove []string
	// Allow lets peers connect, and takes them off the list of those denied. Any peer may
	// connect to an open node; to a closed one with such a list nobody else may, but
	// those that the operator named. Allowing a peer shares nothing with it.
	Allow []string
	// Deny keeps peers out, and ends their connections. It goes before all else that
	// speaks for them.
	Deny []string
}

// ChangeAccess changes the lists, durably and all or nothing, and applies them to the
// connections that there are.
func (n *Node) ChangeAccess(c AccessChange) error {
	var ids [3][]peer.ID
	for i, peers := range [][]string{c.Remove, c.Allow, c.Deny} {
		var err error
		if ids[i], err = parseIDs(peers); err != nil {
			return err
		}
		for _, p := range ids[i] {
			if p == n.host.ID() {
				return errSelf(p)
			}
		}
	}
	if err := n.host.ChangeAccess(ids[1], ids[2], ids[0]); err != nil {
		return err
	}
	n.dial.Set(0) // who was shut out may be dialed now
	return nil
}

// Allow is ChangeAccess for some peers to let in.
func (n *Node) Allow(peers ...string) error { return n.ChangeAccess(AccessChange{Allow: peers}) }

// Deny is ChangeAccess for some peers to keep out.
func (n *Node) Deny(peers ...string) error { return n.ChangeAccess(AccessChange{Deny: peers}) }

// Unlist is ChangeAccess for some peers to take off the lists.
func (n *Node) Unlist(peers ...string) error { return n.ChangeAccess(AccessChange{Remove: peers}) }

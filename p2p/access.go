package p2p

import (
	"github.com/libp2p/go-libp2p/core/peer"
)

// Access returns whom this node lets connect.
func (n *Node) Access() Access { return n.gate.access() }

// Allow lets peers connect, by peer id or did:key, over restarts too, and takes them
// off the list of those denied. Any peer may connect to an open node; to a closed one
// with such a list nobody else may, but those that the operator named. Allowing a peer
// shares nothing with it.
func (n *Node) Allow(peers ...string) error { return n.relist(peers, n.allow) }

// Deny keeps peers out, by peer id or did:key, over restarts too, and ends their
// connections. It goes before all else that speaks for them.
func (n *Node) Deny(peers ...string) error { return n.relist(peers, n.deny) }

// Unlist takes peers off the lists of those allowed and denied.
func (n *Node) Unlist(peers ...string) error { return n.relist(peers, n.unlist) }

func (n *Node) allow(ids []peer.ID) error  { return n.gate.change(ids, nil, nil) }
func (n *Node) deny(ids []peer.ID) error   { return n.gate.change(nil, ids, nil) }
func (n *Node) unlist(ids []peer.ID) error { return n.gate.change(nil, nil, ids) }

// relist changes the lists and applies them to the connections that there are.
func (n *Node) relist(peers []string, change func([]peer.ID) error) error {
	ids, err := parseIDs(peers)
	if err != nil {
		return err
	}
	for _, p := range ids {
		if p == n.host.ID() {
			return errSelf(p)
		}
	}
	if err := change(ids); err != nil {
		return err
	}
	for _, p := range n.host.Network().Peers() {
		for _, c := range n.host.Network().ConnsToPeer(p) {
			n.meet(c)
		}
	}
	n.dial.set(0) // who was shut out may be dialed now
	return nil
}

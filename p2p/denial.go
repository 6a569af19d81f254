package p2p

import (
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
)

// Denial is what a peer was denied: it asked for what it may not read, or broke the
// protocol, as with a commit that its author may not make.
type Denial struct {
	Kind       string // DeniedReading or DeniedBreach
	Peer       string
	What       string // the message it came with, or what was wrong
	Collection pando.CollectionID
}

// The kinds of denials.
const (
	DeniedReading = "peer-reading"
	DeniedBreach  = "peer-breach"
)

// OnDenied lets fn hear of each denial from now on; it must not wait for anything.
func (n *Node) OnDenied(fn func(Denial)) { n.onDenied.Store(&fn) }

func (n *Node) denied(kind string, p peer.ID, what string, id pando.CollectionID) {
	if fn := n.onDenied.Load(); fn != nil {
		(*fn)(Denial{kind, p.String(), what, id})
	}
}

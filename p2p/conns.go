package p2p

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/pace"
)

// here reports whether a peer is connected, be it through a relay that limits.
func (n *Node) here(p peer.ID) bool {
	c := n.host.Network().Connectedness(p)
	return c == network.Connected || c == network.Limited
}

// Connection is one connection with a peer.
type Connection struct {
	Addr    string
	Inbound bool
	Relay   string // peer ID of the relay that it goes through; "": it is direct
	Limited bool   // by the relay: only differences of a few commits pass
	Since   time.Time
}

// connections returns the connections with a peer, direct ones first.
func (n *Node) connections(p peer.ID) []Connection {
	var all []Connection
	for _, c := range n.host.Network().ConnsToPeer(p) {
		s := c.Stat()
		one := Connection{Addr: c.RemoteMultiaddr().String(), Inbound: s.Direction == network.DirInbound, Limited: s.Limited, Since: s.Opened}
		if relayed(c) {
			one.Relay, _ = c.RemoteMultiaddr().ValueForProtocol(ma.P_P2P)
		}
		all = append(all, one)
	}
	slices.SortStableFunc(all, func(a, b Connection) int { return strings.Compare(a.Relay, b.Relay) })
	return all
}

// crossing is how far apart connections may be that both sides opened at the same
// time, or one side over several transports.
const crossing = time.Second

// supersede closes what is left of older connections with a peer when it opens
// another: it does so only if it has none, as after a loss of power. Otherwise its
// end would be noticed only by silence.
func (n *Node) supersede(all network.Network, fresh network.Conn) {
	n.meet(fresh)
	if relayed(fresh) {
		return // which is made beside a direct one now and then
	}
	for _, old := range all.ConnsToPeer(fresh.RemotePeer()) {
		if relayed(old) {
			n.spawn(func(ctx context.Context) { n.retire(ctx, old) })
		}
	}
	if fresh.Stat().Direction != network.DirInbound {
		return
	}
	for _, old := range all.ConnsToPeer(fresh.RemotePeer()) {
		if old != fresh && !relayed(old) && fresh.Stat().Opened.Sub(old.Stat().Opened) > crossing {
			n.spawn(func(context.Context) { old.Close() }) // it leads nowhere
		}
	}
}

const (
	// retireAfter is how long a relayed connection stays beside a direct one, and how
	// often it is looked at then; retireLooks how often that is before it is closed
	// whatever goes over it.
	retireAfter = 5 * time.Second
	retireLooks = 60
)

// retire closes a relayed connection that a direct one took the place of, when what
// began on it is at its end.
func (n *Node) retire(ctx context.Context, old network.Conn) {
	for range retireLooks {
		if !pace.Sleep(ctx, retireAfter) || old.IsClosed() {
			return
		}
		if !slices.ContainsFunc(old.GetStreams(), ours) {
			break
		}
	}
	direct := func(c network.Conn) bool { return !relayed(c) && !c.IsClosed() }
	if slices.ContainsFunc(n.host.Network().ConnsToPeer(old.RemotePeer()), direct) {
		old.Close() // whatever fails there, nobody uses it any more
	}
}

// ours reports whether a stream is of Pando's protocols: gossip begins anew by itself.
func ours(s network.Stream) bool { return strings.HasPrefix(string(s.Protocol()), "/pando/") }

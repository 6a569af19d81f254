package host

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/pace"
)

// Addrs returns where the host listens, the transports that others should try
// first in front.
func (h *Host) Addrs() []ma.Multiaddr {
	addrs := slices.Clone(h.Host.Addrs())
	slices.SortStableFunc(addrs, func(a, b ma.Multiaddr) int { return rank(a) - rank(b) })
	return addrs
}

func rank(a ma.Multiaddr) int {
	r := 0
	for _, p := range a.Protocols() {
		switch p.Code {
		case ma.P_TCP:
			r += 1
		case ma.P_WS, ma.P_WSS:
			r += 2
		case ma.P_CIRCUIT:
			r += 4
		}
	}
	return r
}

// Connect connects to a peer that this host lets connect, be it through a relay. What
// fails is told in one line.
func (h *Host) Connect(ctx context.Context, p peer.AddrInfo) error {
	if err := h.Refuses(p.ID); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := h.Host.Connect(network.WithAllowLimitedConn(ctx, "pando"), p); err != nil {
		return fault.Unavailable.Errorf("connect to %s: %w: is it running, and does it listen on an address that this machine reaches?", p.ID, undialed(err))
	}
	return nil
}

// Afresh forgets what went wrong with a peer, and addresses at which it was tried.
func (h *Host) Afresh(p peer.ID) {
	if dialer, ok := h.Network().(interface{ Backoff() *swarm.DialBackoff }); ok {
		dialer.Backoff().Clear(p)
	}
	if !h.Here(p) {
		h.Peerstore().ClearAddrs(p)
	}
}

// Here reports whether a peer is connected, be it through a relay that limits.
func (h *Host) Here(p peer.ID) bool {
	c := h.Network().Connectedness(p)
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

// Connections returns the connections with a peer, direct ones first.
func (h *Host) Connections(p peer.ID) []Connection {
	var all []Connection
	for _, c := range h.Network().ConnsToPeer(p) {
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
// end would be noticed only by silence. Clients of the API may be several with one key,
// so a connection that serves one is asked first whether it is alive.
func (h *Host) supersede(all network.Network, fresh network.Conn) {
	h.meet(fresh)
	if relayed(fresh) {
		return // which is made beside a direct one now and then
	}
	for _, old := range all.ConnsToPeer(fresh.RemotePeer()) {
		if relayed(old) {
			h.spawn(func(ctx context.Context) { h.retire(ctx, old) })
		}
	}
	if fresh.Stat().Direction != network.DirInbound {
		return
	}
	for _, old := range all.ConnsToPeer(fresh.RemotePeer()) {
		if old != fresh && !relayed(old) && fresh.Stat().Opened.Sub(old.Stat().Opened) > crossing {
			h.spawn(func(ctx context.Context) {
				if !HasLine(old) || !Answers(ctx, old) {
					old.Close() // it leads nowhere
				}
			})
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
func (h *Host) retire(ctx context.Context, old network.Conn) {
	for range retireLooks {
		if !pace.Sleep(ctx, retireAfter) || old.IsClosed() {
			return
		}
		if !slices.ContainsFunc(old.GetStreams(), ours) {
			break
		}
	}
	direct := func(c network.Conn) bool { return !relayed(c) && !c.IsClosed() }
	if slices.ContainsFunc(h.Network().ConnsToPeer(old.RemotePeer()), direct) {
		old.Close() // whatever fails there, nobody uses it any more
	}
}

// ours reports whether a stream is of Pando's protocols: gossip begins anew by itself.
func ours(s network.Stream) bool { return strings.HasPrefix(string(s.Protocol()), "/pando/") }

// pingTimeout is for the answer of a peer whether it is there, which does not depend on
// how busy it is.
const pingTimeout = 5 * time.Second

// Answers reports whether the other end of a connection is alive: it greets on
// every new stream, before it is said what the stream is for.
func Answers(ctx context.Context, c network.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	s, err := c.NewStream(network.WithNoDial(ctx, "ping"))
	if err != nil {
		return ctx.Err() == nil // a limit of this node says nothing
	}
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	const greeting = "/multistream/1.0.0\n"
	if _, err := s.Write(append([]byte{byte(len(greeting))}, greeting...)); err != nil {
		return false
	}
	_, err = s.Read(make([]byte, 1))
	return err == nil
}

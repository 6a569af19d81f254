package host

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/pandodb/pando/internal/pace"
)

const (
	// punchLook is how often the node looks for peers that only a relay connects.
	punchLook = 2 * time.Second
	// punchFirst and punchMost are between attempts to punch a hole to one peer. The
	// first fails often: a peer that has just started does not know yet at which address
	// others see it. The others are for routers that change their ways, and networks
	// that a machine moves to.
	punchFirst = 2 * time.Second
	punchMost  = 10 * time.Minute
)

// addPuncher makes what replaces connections through relays by direct ones (DCUtR). The
// host would make one attempt for each connection, and keep it to itself.
func (h *ownHost) addPuncher(tracer holepunch.EventTracer) (err error) {
	var opts []holepunch.Option
	if tracer != nil {
		opts = append(opts, holepunch.WithTracer(tracer))
	}
	if h.puncher, err = holepunch.NewService(h.BasicHost, h.IDService(), h.punchAddrs, opts...); err == nil {
		h.endPunching = sync.OnceValue(h.puncher.Close)
	}
	return err
}

// punchAddrs are the addresses at which others see this host, also those of which one
// of them alone has told: a relay is often the only one.
func (h *ownHost) punchAddrs() []ma.Multiaddr {
	addrs := append(h.AllAddrs(), h.parts.observed.Addrs(1)...)
	return slices.DeleteFunc(ma.Unique(addrs), func(a ma.Multiaddr) bool { return !manet.IsPublicAddr(a) })
}

// keepPunching tries again and again to reach peers directly that reached this node
// through a relay.
func (h *Host) keepPunching(ctx context.Context) {
	type attempts struct {
		failed int
		next   time.Time
	}
	defer context.AfterFunc(ctx, func() { h.own.endPunching() })() // and with it the attempt that runs
	tried := map[peer.ID]*attempts{}
	for pace.Sleep(ctx, punchLook) {
		// Before others have told at which address they see this host, an attempt would
		// wait for that, and not be ended by anything.
		if !slices.Contains(h.own.Mux().Protocols(), holepunch.Protocol) {
			continue
		}
		relayed := h.relayedTo()
		for p := range tried {
			if !slices.Contains(relayed, p) {
				delete(tried, p)
			}
		}
		for _, p := range relayed {
			a := tried[p]
			if a == nil { // the host itself does the first attempt
				a = &attempts{next: time.Now().Add(punchFirst)}
				tried[p] = a
			}
			if time.Now().Before(a.next) {
				continue
			}
			err := h.own.puncher.DirectConnect(p)
			if errors.Is(err, holepunch.ErrHolePunchActive) {
				continue
			}
			if err != nil {
				h.log.Debug("no hole was punched", "peer", p, "error", err)
			}
			a.failed++
			a.next = time.Now().Add(pace.Jitter(min(punchFirst<<min(a.failed, 16), punchMost), 0.5))
		}
	}
}

// relayedTo returns the familiar peers that have reached this node through a relay, and in no
// other way. Only the one that was reached tries to punch: both at once would be in
// each other's way.
func (h *Host) relayedTo() []peer.ID {
	var all []peer.ID
	for _, p := range h.ties.Peers() {
		if !h.familiar(p) {
			continue // it would choose where this node sends packets, again and again
		}
		conns := h.Network().ConnsToPeer(p)
		direct := slices.ContainsFunc(conns, func(c network.Conn) bool { return !relayed(c) })
		inbound := slices.ContainsFunc(conns, func(c network.Conn) bool { return c.Stat().Direction == network.DirInbound })
		if !direct && inbound {
			all = append(all, p)
		}
	}
	return all
}

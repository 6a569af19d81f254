package p2p

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"

	"github.com/pandodb/pando/internal/fault"
)

// startMDNS announces the node in the local network, and connects to others. A
// peer found this way is not trusted for that: it has to prove what it shares.
func (n *Node) startMDNS() error {
	service := mdns.NewMdnsService(n.host, mdnsService, newFound(n))
	if err := service.Start(); err != nil {
		return fault.Unavailable.Errorf("announce in the local network: %w: listen on an address that others can reach, or turn discovery off", err)
	}
	n.spawn(func(ctx context.Context) {
		<-ctx.Done()
		service.Close() // it has nothing to say that could still be done
	})
	return nil
}

const mdnsService = "_pando._udp"

// found dials peers that are found, so many at once: anybody may announce any number.
// Those who are there are announced again.
type found struct {
	n     *Node
	dials chan struct{}
}

func newFound(n *Node) found { return found{n, make(chan struct{}, maxDials)} }

// HandlePeerFound is called by the discovery, in a goroutine of its own.
func (f found) HandlePeerFound(p peer.AddrInfo) {
	if !f.n.enter() {
		return
	}
	defer f.n.leave()
	if _, err := f.n.companion(p.ID); err == nil || f.n.isBanned(p.ID) {
		return
	}
	select {
	case f.dials <- struct{}{}:
		defer func() { <-f.dials }()
	default:
		return
	}
	ctx, cancel := context.WithTimeout(f.n.ctx, dialTimeout)
	defer cancel()
	if err := f.n.connect(ctx, p); err != nil {
		f.n.log.Debug("peer found nearby cannot be reached", "peer", p.ID, "error", err)
	}
}

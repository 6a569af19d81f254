package host

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"

	"github.com/pandodb/pando/internal/fault"
)

const mdnsService = "_pando._udp"

// Announce announces this host in the local network until it closes, and tells of
// others there, so many at once: anybody may announce any number. Those who are there
// are announced again.
func (h *Host) Announce(found func(context.Context, peer.AddrInfo)) error {
	service := mdns.NewMdnsService(h.Host, mdnsService, newNearby(h, found))
	if err := service.Start(); err != nil {
		return fault.Unavailable.Errorf("announce in the local network: %w: listen on an address that others can reach, or turn discovery off", err)
	}
	h.spawn(func(ctx context.Context) {
		<-ctx.Done()
		service.Close() // it has nothing to say that could still be done
	})
	return nil
}

// nearby are the peers in the local network.
type nearby struct {
	h     *Host
	found func(context.Context, peer.AddrInfo)
	calls chan struct{}
}

func newNearby(h *Host, found func(context.Context, peer.AddrInfo)) nearby {
	return nearby{h, found, make(chan struct{}, maxNearby)}
}

// HandlePeerFound is called by the library, in a goroutine of its own.
func (n nearby) HandlePeerFound(p peer.AddrInfo) {
	if !n.h.enter() {
		return
	}
	defer n.h.leave()
	select {
	case n.calls <- struct{}{}:
		defer func() { <-n.calls }()
	default:
		return
	}
	n.found(n.h.ctx, p)
}

package host

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Anybody in a local network may announce any number of peers.
func TestAnnouncementsNearbyLeadToFewDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Host{ctx: t.Context()}
		var passed atomic.Int32
		hang, end := context.WithCancel(t.Context())
		n := newNearby(h, func(context.Context, peer.AddrInfo) { <-hang.Done() })
		for range 100 {
			go func() {
				n.HandlePeerFound(peer.AddrInfo{ID: "somebody"})
				passed.Add(1)
			}()
		}
		synctest.Wait()
		if n := passed.Load(); n != 100-maxNearby {
			t.Errorf("%d of 100 peers are dialed at once, want %d", 100-n, maxNearby)
		}
		end()
		synctest.Wait()
		if n := passed.Load(); n != 100 {
			t.Errorf("%d calls do not end", 100-n)
		}
	})
}

package p2p

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/pace"
)

// stallAfter is how long nothing may move in an exchange before the peer is asked
// whether it is there.
const stallAfter = 5 * time.Second

// keepAlive closes the connection of a stream whose peer is gone while w waits for
// it. A peer that only takes its time answers on another stream.
func (n *Node) keepAlive(ctx context.Context, c network.Conn, w *wire) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		before := w.bytes()
		for pace.Sleep(ctx, stallAfter) {
			now := w.bytes()
			if now == before && !host.Answers(ctx, c) && ctx.Err() == nil {
				n.log.Debug("peer is gone", "peer", c.RemotePeer())
				c.Close() // whatever fails there, it is gone for this node
				return
			}
			before = now
		}
	})
	return func() {
		cancel()
		watch.Wait()
	}
}

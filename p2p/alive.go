package p2p

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/pandodb/pando/internal/pace"
)

const (
	// stallAfter is how long nothing may move in an exchange before the peer is asked
	// whether it is there.
	stallAfter = 5 * time.Second
	// pingTimeout is for its answer, which does not depend on how busy it is.
	pingTimeout = 5 * time.Second
)

// keepAlive closes the connection of a stream whose peer is gone while w waits for
// it. A peer that only takes its time answers on another stream.
func (n *Node) keepAlive(ctx context.Context, c network.Conn, w *wire) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		before := w.bytes()
		for pace.Sleep(ctx, stallAfter) {
			now := w.bytes()
			if now == before && !answers(ctx, c) && ctx.Err() == nil {
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

// answers reports whether the other end of a connection is alive: it greets on
// every new stream, before it is said what the stream is for.
func answers(ctx context.Context, c network.Conn) bool {
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

package api

import (
	"context"
	"net"

	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/p2p"
)

// ofLine adds to the context of a connection over libp2p who its other end is.
func ofLine(ctx context.Context, c net.Conn) context.Context {
	if line, ok := c.(*p2p.Line); ok {
		return withPeer(ctx, line.Peer())
	}
	return ctx
}

// Knows reports whether the owner of a key is somebody to the node: whom it belongs to, or
// who was let in by name. That everybody may be a user does not open a closed node.
func (s *Server) Knows(key ident.PublicKey) bool { return key != "" && s.rights.names(key.DID()) }

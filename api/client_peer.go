package api

import (
	"context"
	"net"
	"net/http"
	"strings"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/p2p"
)

// isPeerAddress reports whether an address is one of libp2p, such as
// /ip4/192.0.2.1/tcp/9171/p2p/12D3Koo….
func isPeerAddress(address string) bool { return strings.HasPrefix(address, "/") }

// NewPeerClient returns a client of the node at a multiaddr, which ends with /p2p/PEERID, over
// libp2p. To the node it is whom the key belongs to, without a token; the zero Identity is
// one that is made for this client. The key must be an ed25519 one. Nobody but
// the node that the address names can read what goes there, or answer.
func NewPeerClient(address string, key pando.Identity) (*Client, error) {
	d, err := p2p.NewDialer(address, key)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		MaxConnsPerHost:     p2p.LinesPerClient,
		MaxIdleConnsPerHost: p2p.LinesPerClient,
		IdleConnTimeout:     idleTimeout / 2, // before the node drops it
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return d.Dial(ctx) },
	}
	c := &Client{base: "http://" + d.Peer(), line: d}
	c.transport(t)
	return c, nil
}

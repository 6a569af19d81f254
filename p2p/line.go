package p2p

import (
	"context"
	"net"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/ident"
)

// Line is a stream between a client of the API and a node, as a connection: both ends
// know each other by their keys, and nobody between them can read or change what goes over it.
type Line = host.Line

// LinesPerClient is how many lines a client may have open.
const LinesPerClient = host.LinesPerClient

// Lines accepts clients of the API, each connection a *Line, until it is closed or the
// node is; there is one at a time. Which clients may do what is for the caller to
// decide: anybody who may connect gets a line. Of known clients a closed node knows that
// they are no strangers.
func (n *Node) Lines(known func(ident.PublicKey) bool) net.Listener { return n.host.Lines(known) }

// Dialer opens lines to one node, as a client that is no peer: it listens nowhere and
// has no database.
type Dialer struct {
	host *host.Host
	to   peer.AddrInfo
}

// NewDialer returns a dialer of the node at a multiaddr, which ends with /p2p/PEERID.
// To the node the client is whom the key belongs to; the zero Key is one that is made
// for this dialer. Only an ed25519 key names a peer.
func NewDialer(addr string, key ident.Key) (*Dialer, error) {
	a, err := parsePeer(addr)
	if err != nil {
		return nil, err
	}
	to, err := peer.AddrInfoFromP2pAddr(a)
	if err != nil {
		return nil, err
	}
	if len(to.Addrs) == 0 {
		return nil, fault.Invalid.Errorf("address %q says who the node is, and not where: write it as /ip4/192.0.2.1/tcp/9171/p2p/12D3Koo…", addr)
	}
	if key.IsZero() {
		if key, err = ident.Generate(ident.EdDSA); err != nil {
			return nil, err
		}
	}
	h, err := host.New(host.Config{Key: key})
	if err != nil {
		return nil, err
	}
	if err := h.Listen(); err != nil { // nowhere: it is ready to dial
		h.Close()
		return nil, err
	}
	return &Dialer{h, *to}, nil
}

// Dial opens a line. The node at its other end is the one that the address names, or
// there is none.
func (d *Dialer) Dial(ctx context.Context) (*Line, error) {
	return d.host.Line(ctx, d.to)
}

// Peer returns the ID of the node.
func (d *Dialer) Peer() string { return d.to.ID.String() }

// Close ends all lines.
func (d *Dialer) Close() error { return d.host.Close() }

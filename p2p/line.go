package p2p

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/ident"
)

// protocolAPI carries the API of a node: a stream of it is what a TCP connection is to
// HTTP. What is said on it is a matter of who accepts.
const protocolAPI protocol.ID = "/pando/api/1"

const (
	// LinesPerClient is how many lines a client may have open: it opens one for each request
	// that runs at the same time, unless it speaks HTTP/2.
	LinesPerClient = 32
	// maxLines is how many there are of all clients together, of which each takes some
	// ten kilobytes while it is idle.
	maxLines = 512
	// maxStrangeLines is how many of them there may be when one more of a stranger comes:
	// strangers leave room for those whom the node knows.
	maxStrangeLines = maxLines - 4*LinesPerClient
	// dialLine is how long a client tries to reach a node.
	dialLine = 20 * time.Second
)

// Line is a stream between a client of the API and a node, as a connection: both ends
// know each other by their keys, and nobody between them can read or change what goes over it.
type Line struct {
	network.Stream
	once sync.Once
	end  func()
}

// Peer is whose key the other end has proved to hold.
func (l *Line) Peer() ident.PublicKey { return publicKeyOf(l.Stream.Conn().RemotePeer()) }

// LocalAddr returns the peer ID of this end.
func (l *Line) LocalAddr() net.Addr { return lineAddr(l.Stream.Conn().LocalPeer()) }

// RemoteAddr returns the peer ID of the other end.
func (l *Line) RemoteAddr() net.Addr { return lineAddr(l.Stream.Conn().RemotePeer()) }

// Close ends the line.
func (l *Line) Close() error {
	l.once.Do(l.end)
	return l.Stream.Close()
}

type lineAddr peer.ID

func (lineAddr) Network() string  { return "libp2p" }
func (a lineAddr) String() string { return peer.ID(a).String() }

// lines accepts clients of the API.
type lines struct {
	n      *Node
	known  func(ident.PublicKey) bool
	accept chan *Line
	done   chan struct{}
	once   sync.Once

	mu   sync.Mutex // guards what follows
	open map[peer.ID]int
	all  int
}

// Lines accepts clients of the API, each connection a *Line, until it is closed or the
// node is; there is one at a time. Which clients may do what is for the caller to
// decide: anybody who may connect gets a line. Of known clients a closed node knows that
// they are no strangers.
func (n *Node) Lines(known func(ident.PublicKey) bool) net.Listener {
	l := &lines{n: n, known: known, accept: make(chan *Line), done: make(chan struct{}), open: map[peer.ID]int{}}
	n.lines.Store(l)
	n.host.SetStreamHandler(protocolAPI, l.handle)
	return l
}

// knows reports whether a peer is a known client of the API.
func (l *lines) knows(p peer.ID) bool {
	return l != nil && l.known(publicKeyOf(p))
}

// hasLine reports whether a client of the API uses a connection.
func hasLine(c network.Conn) bool {
	return slices.ContainsFunc(c.GetStreams(), func(s network.Stream) bool { return s.Protocol() == protocolAPI })
}

func (l *lines) handle(s network.Stream) {
	p := s.Conn().RemotePeer()
	if s.Conn().Stat().Limited || l.n.host.Locked(p) || !l.enter(p) {
		s.Reset()
		return
	}
	line := &Line{Stream: s, end: func() { l.leave(p) }}
	select {
	case l.accept <- line:
	case <-l.done:
		line.end()
		s.Reset()
	case <-l.n.ctx.Done():
		line.end()
		s.Reset()
	}
}

func (l *lines) enter(p peer.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := maxLines
	if !l.knows(p) {
		most = maxStrangeLines
	}
	if l.open[p] >= LinesPerClient || l.all >= most {
		return false
	}
	l.open[p]++
	l.all++
	return true
}

func (l *lines) leave(p peer.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.open[p]--; l.open[p] == 0 {
		delete(l.open, p)
	}
}

// Accept waits for the next client.
func (l *lines) Accept() (net.Conn, error) {
	select {
	case line := <-l.accept:
		return line, nil
	case <-l.done:
	case <-l.n.ctx.Done():
	}
	return nil, net.ErrClosed
}

// Close accepts no more clients.
func (l *lines) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.n.host.RemoveStreamHandler(protocolAPI)
	})
	return nil
}

// Addr returns the peer ID of the node.
func (l *lines) Addr() net.Addr { return lineAddr(l.n.host.ID()) }

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
	ctx, cancel := context.WithTimeout(ctx, dialLine)
	defer cancel()
	if err := d.host.Connect(ctx, d.to); err != nil {
		return nil, err
	}
	s, err := d.host.NewStream(ctx, d.to.ID, protocolAPI)
	var other multistream.ErrNotSupported[protocol.ID]
	switch {
	case errors.As(err, &other):
		return nil, fault.Unavailable.Errorf("node %s does not serve its API to peers: it is of an older version, or was started without", d.to.ID)
	case err != nil:
		return nil, fault.Unavailable.Errorf("node %s: %w", d.to.ID, host.Plainly(err))
	}
	return &Line{Stream: s, end: func() {}}, nil
}

// Peer returns the ID of the node.
func (d *Dialer) Peer() string { return d.to.ID.String() }

// Close ends all lines.
func (d *Dialer) Close() error { return d.host.Close() }

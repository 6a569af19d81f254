package host

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// protocolAPI carries the API of a node: a stream of it is what a TCP connection is to
// HTTP. What is said on it is a matter of who accepts.
const protocolAPI protocol.ID = "/pando/api/1"

// Line is a stream between a client of the API and a node, as a connection: both ends
// know each other by their keys, and nobody between them can read or change what goes over it.
type Line struct {
	network.Stream
	once sync.Once
	end  func()
}

// Peer is whose key the other end has proved to hold.
func (l *Line) Peer() ident.PublicKey { return KeyOf(l.Stream.Conn().RemotePeer()) }

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
	h      *Host
	known  func(ident.PublicKey) bool
	accept chan *Line
	done   chan struct{}
	once   sync.Once

	mu   sync.Mutex // guards what follows
	open map[peer.ID]int
	all  int
}

// Lines accepts clients of the API, each connection a *Line, until it is closed or the
// host is; there is one at a time. Which clients may do what is for the caller to
// decide: anybody who may connect gets a line. Of known clients a closed host knows that
// they are no strangers.
func (h *Host) Lines(known func(ident.PublicKey) bool) net.Listener {
	l := &lines{h: h, known: known, accept: make(chan *Line), done: make(chan struct{}), open: map[peer.ID]int{}}
	h.lines.Store(l)
	h.SetStreamHandler(protocolAPI, l.handle)
	return l
}

// knows reports whether a peer is a known client of the API.
func (l *lines) knows(p peer.ID) bool {
	return l != nil && l.known(KeyOf(p))
}

// HasLine reports whether a client of the API uses a connection.
func HasLine(c network.Conn) bool {
	return slices.ContainsFunc(c.GetStreams(), func(s network.Stream) bool { return s.Protocol() == protocolAPI })
}

func (l *lines) handle(s network.Stream) {
	p := s.Conn().RemotePeer()
	if s.Conn().Stat().Limited || l.h.Locked(p) || !l.enter(p) {
		s.Reset()
		return
	}
	line := &Line{Stream: s, end: func() { l.leave(p) }}
	select {
	case l.accept <- line:
	case <-l.done:
		line.end()
		s.Reset()
	case <-l.h.ctx.Done():
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
	case <-l.h.ctx.Done():
	}
	return nil, net.ErrClosed
}

// Close accepts no more clients.
func (l *lines) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.h.RemoveStreamHandler(protocolAPI)
	})
	return nil
}

// Addr returns the peer ID of the host.
func (l *lines) Addr() net.Addr { return lineAddr(l.h.ID()) }

// Line opens a line to a node, as a client.
func (h *Host) Line(ctx context.Context, to peer.AddrInfo) (*Line, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLine)
	defer cancel()
	if err := h.Connect(ctx, to); err != nil {
		return nil, err
	}
	s, err := h.NewStream(ctx, to.ID, protocolAPI)
	var other multistream.ErrNotSupported[protocol.ID]
	switch {
	case errors.As(err, &other):
		return nil, fault.Unavailable.Errorf("node %s does not serve its API to peers: it is of an older version, or was started without", to.ID)
	case err != nil:
		return nil, fault.Unavailable.Errorf("node %s: %w", to.ID, Plainly(err))
	}
	return &Line{Stream: s, end: func() {}}, nil
}

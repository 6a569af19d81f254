package host

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"

	corecm "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	blankhost "github.com/libp2p/go-libp2p/p2p/host/blank"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/observedaddrs"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/quic-go/quic-go"

	"github.com/pandodb/pando/internal/fault"
)

// newOwnHost makes a libp2p host of the parts that Pando uses. The library's own
// constructor takes in every transport there is, among them WebRTC: a third of the
// program, most of which an idle node would keep in memory. There is no metrics
// registry.
//
// A host that others may reach finds out whether they do (AutoNAT), and has holes
// punched into what keeps them out. One on the loopback interface does neither; it
// can dial through relays, as all can.
func newOwnHost(c Config, gater corecm.ConnectionGater, tracer holepunch.EventTracer) (*ownHost, error) {
	addrs, err := listenAddrs(c.Listen)
	if err != nil {
		return nil, err
	}
	seed, err := c.Key.LibP2PSeed()
	if err != nil {
		return nil, fmt.Errorf("identity of the peer: %w", err)
	}
	p, err := newParts(seed, c, gater)
	if err != nil {
		return nil, fmt.Errorf("start the network: %w", err)
	}
	for _, a := range addrs {
		if t := p.swarm.TransportForListening(a); t == nil || !t.CanDial(a) {
			p.close()
			return nil, errListen(a.String(), errNoTransport)
		}
	}
	opts := &basichost.HostOpts{EventBus: p.bus, ConnManager: p.conns, UserAgent: userAgent, EnablePing: true}
	open := !onlyLoopback(addrs)
	if open {
		if opts.AutoNATv2, opts.ObservedAddrsManager, err = p.reachability(c.QUIC); err != nil {
			p.close()
			return nil, fmt.Errorf("start the network: %w", err)
		}
		if c.NATMap {
			opts.NATManager = basichost.NewNATManager
		}
	}
	h, err := basichost.NewHost(p.swarm, opts)
	if err != nil {
		p.close()
		return nil, fmt.Errorf("start the network: %w", err)
	}
	own := &ownHost{BasicHost: h, parts: p, addrs: addrs, open: open}
	err = own.addCircuits()
	if err == nil && open {
		err = own.addPuncher(tracer)
	}
	if err != nil {
		own.Close()
		return nil, fmt.Errorf("start the network: %w", err)
	}
	return own, nil
}

const userAgent = "pando"

// ownHost is a host of the library together with what it does not close itself.
type ownHost struct {
	*basichost.BasicHost
	parts parts
	addrs []ma.Multiaddr
	open  bool // it listens beyond this machine

	started     bool
	puncher     *holepunch.Service // nil if it does not
	endPunching func() error
}

// addCircuits adds the transport through relays. It needs the host: a connection
// through a relay is a stream to it.
func (h *ownHost) addCircuits() error {
	circuits, err := circuit.New(h.BasicHost, h.parts.upgrader)
	if err != nil {
		return err
	}
	if err := h.parts.swarm.AddTransport(circuits); err != nil {
		return err
	}
	if h.open {
		h.addrs = append(h.addrs, anyCircuit)
		circuits.Start()
	}
	return nil
}

// anyCircuit stands for all relays that let others in to this host.
var anyCircuit = ma.StringCast("/p2p-circuit")

// listen lets others in.
func (h *ownHost) listen() error {
	for _, a := range h.addrs {
		if err := h.parts.swarm.Listen(a); err != nil {
			return fault.Unavailable.Errorf("listen on %s: %w: choose another address with --p2paddr, one of this machine that nothing else uses", a, err)
		}
	}
	if h.parts.observed != nil {
		h.parts.observed.Start(h.parts.swarm)
	}
	h.start()
	return nil
}

func (h *ownHost) start() {
	h.started = true
	h.Start()
}

// Close ends the connections first: the host tells each peer that its protocols
// are gone, and would wait for those that died.
func (h *ownHost) Close() error {
	var err error
	if !h.started {
		h.start() // the library closes AutoNAT as if it had been
	}
	if h.puncher != nil {
		err = h.endPunching()
	}
	err = errors.Join(err, h.parts.swarm.Close(), h.BasicHost.Close(), h.parts.quic.Close())
	if h.parts.observed != nil {
		err = errors.Join(err, h.parts.observed.Close())
	}
	if d := h.parts.dialer; d.quic != nil { // AutoNAT closed the swarm, and nothing else
		err = errors.Join(err, d.swarm.Peerstore().Close(), d.quic.Close())
	}
	return err
}

// parts are what a host is made of.
type parts struct {
	private  crypto.PrivKey
	bus      event.Bus
	swarm    *swarm.Swarm
	upgrader transport.Upgrader
	quic     *quicreuse.ConnManager
	conns    *connmgr.BasicConnMgr
	limits   network.ResourceManager
	observed *observedaddrs.Manager // addresses at which others see this host; nil: it asks nobody
	dialer   dialer
}

// dialer dials others back that ask AutoNAT whether they can be reached: with a key
// and a port of its own, because what keeps strangers out lets in whom one talks to.
type dialer struct {
	swarm *swarm.Swarm
	quic  *quicreuse.ConnManager
}

func newParts(seed []byte, c Config, gater corecm.ConnectionGater) (p parts, err error) {
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.private, err = crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed)); err != nil {
		return p, err
	}
	if p.limits, err = resources(c.Relay, c.Streams); err != nil {
		return p, err
	}
	if p.conns, err = connmgr.NewConnManager(connsOf(c.Relay)); err != nil {
		return p, err
	}
	p.bus = eventbus.NewBus()
	if p.swarm, err = newSwarm(p.private, p.bus, p.limits, swarm.WithConnectionGater(gater), swarm.WithDialTimeout(DialTimeout)); err != nil {
		return p, err
	}
	if p.quic, err = newQUIC(seed, p.limits, c.QUIC); err != nil {
		return p, err
	}
	p.upgrader, err = addTransports(p.swarm, p.private, p.quic, p.limits, gater)
	return p, err
}

// newSwarm makes what holds connections, without a transport yet.
func newSwarm(private crypto.PrivKey, bus event.Bus, limits network.ResourceManager, opts ...swarm.Option) (*swarm.Swarm, error) {
	id, err := peer.IDFromPrivateKey(private)
	if err != nil {
		return nil, err
	}
	known, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(known.AddPrivKey(id, private), known.AddPubKey(id, private.GetPublic())); err != nil {
		return nil, err
	}
	return swarm.NewSwarm(id, known, bus, append(opts, swarm.WithResourceManager(limits))...)
}

func addTransports(s *swarm.Swarm, private crypto.PrivKey, quics *quicreuse.ConnManager, limits network.ResourceManager, gater corecm.ConnectionGater) (transport.Upgrader, error) {
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	secure, err := noise.New(noise.ID, private, muxers)
	if err != nil {
		return nil, err
	}
	up, err := upgrader.New([]sec.SecureTransport{secure}, muxers, nil, limits, gater)
	if err != nil {
		return nil, err
	}
	quic, err := libp2pquic.NewTransport(private, quics, nil, gater, limits)
	if err != nil {
		return nil, err
	}
	// One port for TCP and WebSocket. Without SO_REUSEPORT: with it, a second node
	// could listen on the same port and get half of the connections.
	ports := tcpreuse.NewConnMgr(false, up)
	plain, err := tcp.NewTCPTransport(up, limits, ports)
	if err != nil {
		return nil, err
	}
	web, err := websocket.New(up, limits, ports)
	if err != nil {
		return nil, err
	}
	return up, errors.Join(s.AddTransport(quic), s.AddTransport(plain), s.AddTransport(web))
}

// reachability makes what finds out whether others reach this host, and tells them
// the same.
func (p *parts) reachability(own []quicreuse.Option) (*autonatv2.AutoNAT, *observedaddrs.Manager, error) {
	private, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	seed := make([]byte, 32)
	rand.Read(seed)
	if p.dialer.quic, err = newQUIC(seed, p.limits, own); err != nil {
		return nil, nil, err
	}
	bus := eventbus.NewBus()
	if p.dialer.swarm, err = newSwarm(private, bus, p.limits, swarm.WithDialRanker(swarm.NoDelayDialRanker),
		// A node dials too few others to know from them whether UDP gets out.
		swarm.WithUDPBlackHoleSuccessCounter(nil), swarm.WithReadOnlyBlackHoleDetector()); err != nil {
		return nil, nil, err
	}
	if _, err := addTransports(p.dialer.swarm, private, p.dialer.quic, p.limits, nil); err != nil {
		return nil, nil, err
	}
	nat, err := autonatv2.New(blankhost.NewBlankHost(p.dialer.swarm, blankhost.WithEventBus(bus)))
	if err != nil {
		return nil, nil, err
	}
	p.observed, err = observedaddrs.NewManager(p.bus, p.swarm)
	return nat, p.observed, err
}

// newQUIC makes what all QUIC connections share. The keys need only be the node's
// own and stay the same.
func newQUIC(seed []byte, limits network.ResourceManager, own []quicreuse.Option) (*quicreuse.ConnManager, error) {
	derive := func(label string) (key [32]byte) {
		mac := hmac.New(sha256.New, seed)
		mac.Write([]byte(label))
		return [32]byte(mac.Sum(nil))
	}
	return quicreuse.NewConnManager(
		quic.StatelessResetKey(derive("pando/quic reset/1")), quic.TokenGeneratorKey(derive("pando/quic token/1")),
		append(slices.Clip(own),
			quicreuse.VerifySourceAddress(func(a net.Addr) bool { return limits.VerifySourceAddress(a) }),
			// Counted from the first packet on, not from the end of the handshake.
			quicreuse.ConnContext(func(ctx context.Context, c *quic.ClientInfo) (context.Context, error) {
				addr, err := quicreuse.ToQuicMultiaddr(c.RemoteAddr, quic.Version1)
				if err != nil {
					addr = nil // the limits that need none hold still
				}
				scope, err := limits.OpenConnection(network.DirInbound, false, addr)
				if err != nil {
					return ctx, err
				}
				ctx = network.WithConnManagementScope(ctx, scope)
				context.AfterFunc(ctx, scope.Done)
				return ctx, nil
			}))...)
}

// close releases parts of which no host was made.
func (p *parts) close() {
	if p.swarm != nil {
		p.swarm.Close()
	}
	if p.dialer.swarm != nil {
		p.dialer.swarm.Close()
		p.dialer.swarm.Peerstore().Close()
	}
	if p.conns != nil {
		p.conns.Close()
	}
	for _, q := range []*quicreuse.ConnManager{p.quic, p.dialer.quic} {
		if q != nil {
			q.Close()
		}
	}
	if p.limits != nil {
		p.limits.Close()
	}
}

// onlyLoopback reports whether nobody but this machine can use some addresses.
func onlyLoopback(addrs []ma.Multiaddr) bool {
	return !slices.ContainsFunc(addrs, func(a ma.Multiaddr) bool { return !manet.IsIPLoopback(a) })
}

// CheckListen says what is wrong with addresses to listen on, before anything is begun.
func CheckListen(texts []string) error {
	_, err := listenAddrs(texts)
	return err
}

// listenAddrs reads the addresses to listen on. Every TCP port takes WebSocket
// connections too.
func listenAddrs(texts []string) ([]ma.Multiaddr, error) {
	var addrs []ma.Multiaddr
	for _, s := range texts {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, errListen(s, err)
		}
		if !listenable(a) {
			return nil, errListen(s, errNoTransport)
		}
		addrs = append(addrs, a)
		if ps := a.Protocols(); ps[len(ps)-1].Code == ma.P_TCP {
			addrs = append(addrs, a.Encapsulate(ma.StringCast("/ws")))
		}
	}
	return slices.CompactFunc(addrs, ma.Multiaddr.Equal), nil
}

// listenable reports whether an address begins as one that some transport listens on.
func listenable(a ma.Multiaddr) bool {
	var codes [3]int
	for i, p := range a.Protocols() {
		if i < len(codes) {
			codes[i] = p.Code
		}
	}
	tcp := codes[1] == ma.P_TCP
	quic := codes[1] == ma.P_UDP && codes[2] == ma.P_QUIC_V1
	zone := codes[0] == ma.P_IP6ZONE // the address itself comes after it
	return zone || (codes[0] == ma.P_IP4 || codes[0] == ma.P_IP6) && (tcp || quic)
}

var errNoTransport = errors.New("no transport listens there")

func errListen(addr string, why error) error {
	return fault.Invalid.Errorf("address to listen on %q: %w: write it as /ip4/127.0.0.1/tcp/9171 or /ip4/0.0.0.0/udp/9171/quic-v1", addr, why)
}

package p2p

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"

	corecm "github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// The protocols of Pando in their newest version, and all versions that this node
// speaks, the newest first: two peers use the newest that both know. A version adds
// types of messages; what one has means the same in all later ones.
const (
	protocolSync  protocol.ID = "/pando/sync/2"
	protocolFetch protocol.ID = "/pando/fetch/2"
)

var (
	syncProtocols  = []protocol.ID{protocolSync, "/pando/sync/1"}
	fetchProtocols = []protocol.ID{protocolFetch, "/pando/fetch/1"}
)

// versionOf is the number that a protocol ends with, the newest if it has none.
func versionOf(id protocol.ID) uint64 {
	v, err := strconv.ParseUint(path.Base(string(id)), 10, 8)
	if err != nil {
		return protocolVersion
	}
	return v
}

// DefaultListen is where a node listens that was not told otherwise: nobody but
// the same machine gets in.
var DefaultListen = []string{"/ip4/127.0.0.1/udp/9171/quic-v1", "/ip4/127.0.0.1/tcp/9171"}

const (
	// Connections are trimmed to the lower number when there are more than the higher.
	connsLow, connsHigh = 96, 128
	// connsPerAddr is how many connections one IP address may hold. The library's 8
	// is passed by any office behind one NAT.
	connsPerAddr = 128
)

// newHost makes a libp2p host of the parts that Pando uses. The library's own
// constructor takes in every transport there is, among them WebRTC: a third of the
// program, most of which an idle node would keep in memory. There is no relay, no
// DHT, no hole punching, no metrics registry.
func newHost(key ident.Key, listen []string, gater corecm.ConnectionGater) (*ownHost, error) {
	addrs, err := listenAddrs(listen)
	if err != nil {
		return nil, err
	}
	seed, err := key.LibP2PSeed()
	if err != nil {
		return nil, fmt.Errorf("identity of the peer: %w", err)
	}
	p, err := newParts(seed, gater)
	if err != nil {
		return nil, fmt.Errorf("start the network: %w", err)
	}
	for _, a := range addrs {
		if t := p.swarm.TransportForListening(a); t == nil || !t.CanDial(a) {
			p.close()
			return nil, errListen(a.String(), errNoTransport)
		}
	}
	h, err := basichost.NewHost(p.swarm, &basichost.HostOpts{
		EventBus: p.bus, ConnManager: p.conns, UserAgent: userAgent, EnablePing: true,
	})
	if err != nil {
		p.close()
		return nil, fmt.Errorf("start the network: %w", err)
	}
	return &ownHost{h, p, addrs}, nil
}

const userAgent = "pando"

// ownHost is a host together with what it does not close itself.
type ownHost struct {
	*basichost.BasicHost
	parts parts
	addrs []ma.Multiaddr
}

// listen lets others in.
func (h *ownHost) listen() error {
	for _, a := range h.addrs {
		if err := h.parts.swarm.Listen(a); err != nil {
			return fault.Unavailable.Errorf("listen on %s: %w: choose another address, or stop what uses it", a, err)
		}
	}
	h.Start()
	return nil
}

// Close ends the connections first: the host tells each peer that its protocols
// are gone, and would wait for those that died.
func (h *ownHost) Close() error {
	return errors.Join(h.parts.swarm.Close(), h.BasicHost.Close(), h.parts.quic.Close())
}

// parts are what a host is made of.
type parts struct {
	bus    event.Bus
	swarm  *swarm.Swarm
	quic   *quicreuse.ConnManager
	conns  *connmgr.BasicConnMgr
	limits network.ResourceManager
}

func newParts(seed []byte, gater corecm.ConnectionGater) (p parts, err error) {
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	private, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return p, err
	}
	id, err := peer.IDFromPrivateKey(private)
	if err != nil {
		return p, err
	}
	known, err := pstoremem.NewPeerstore()
	if err != nil {
		return p, err
	}
	if err := errors.Join(known.AddPrivKey(id, private), known.AddPubKey(id, private.GetPublic())); err != nil {
		return p, err
	}
	if p.limits, err = resources(); err != nil {
		return p, err
	}
	if p.conns, err = connmgr.NewConnManager(connsLow, connsHigh); err != nil {
		return p, err
	}
	p.bus = eventbus.NewBus()
	p.swarm, err = swarm.NewSwarm(id, known, p.bus,
		swarm.WithConnectionGater(gater), swarm.WithResourceManager(p.limits), swarm.WithDialTimeout(dialTimeout))
	if err != nil {
		return p, err
	}
	if p.quic, err = newQUIC(seed, p.limits); err != nil {
		return p, err
	}
	return p, p.addTransports(private, gater)
}

func (p *parts) addTransports(private crypto.PrivKey, gater corecm.ConnectionGater) error {
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	secure, err := noise.New(noise.ID, private, muxers)
	if err != nil {
		return err
	}
	up, err := upgrader.New([]sec.SecureTransport{secure}, muxers, nil, p.limits, gater)
	if err != nil {
		return err
	}
	quic, err := libp2pquic.NewTransport(private, p.quic, nil, gater, p.limits)
	if err != nil {
		return err
	}
	// One port for TCP and WebSocket. Without SO_REUSEPORT: with it, a second node
	// could listen on the same port and get half of the connections.
	ports := tcpreuse.NewConnMgr(false, up)
	plain, err := tcp.NewTCPTransport(up, p.limits, ports)
	if err != nil {
		return err
	}
	web, err := websocket.New(up, p.limits, ports)
	if err != nil {
		return err
	}
	return errors.Join(p.swarm.AddTransport(quic), p.swarm.AddTransport(plain), p.swarm.AddTransport(web))
}

// newQUIC makes what all QUIC connections share. The keys need only be the node's
// own and stay the same.
func newQUIC(seed []byte, limits network.ResourceManager) (*quicreuse.ConnManager, error) {
	derive := func(label string) (key [32]byte) {
		mac := hmac.New(sha256.New, seed)
		mac.Write([]byte(label))
		return [32]byte(mac.Sum(nil))
	}
	return quicreuse.NewConnManager(
		quic.StatelessResetKey(derive("pando/quic reset/1")), quic.TokenGeneratorKey(derive("pando/quic token/1")),
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
		}))
}

// close releases parts of which no host was made.
func (p *parts) close() {
	if p.swarm != nil {
		p.swarm.Close()
	}
	if p.conns != nil {
		p.conns.Close()
	}
	if p.quic != nil {
		p.quic.Close()
	}
	if p.limits != nil {
		p.limits.Close()
	}
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
		addrs = append(addrs, a)
		if ps := a.Protocols(); ps[len(ps)-1].Code == ma.P_TCP {
			addrs = append(addrs, a.Encapsulate(ma.StringCast("/ws")))
		}
	}
	return slices.CompactFunc(addrs, ma.Multiaddr.Equal), nil
}

var errNoTransport = errors.New("no transport listens there")

func errListen(addr string, why error) error {
	return fault.Invalid.Errorf("address to listen on %q: %w: write it as /ip4/127.0.0.1/tcp/9171 or /ip4/0.0.0.0/udp/9171/quic-v1", addr, why)
}

// resources bounds what peers may hold open. The limits of the protocols are the
// same as those that their handlers enforce with an answer; these are the last
// line, for peers that do not read answers.
func resources() (network.ResourceManager, error) {
	scaling := rcmgr.DefaultLimits
	partial := rcmgr.PartialLimitConfig{
		ProtocolPeer: map[protocol.ID]rcmgr.ResourceLimits{},
		Protocol:     map[protocol.ID]rcmgr.ResourceLimits{},
	}
	bound := func(id protocol.ID, most [2]int) {
		partial.ProtocolPeer[id] = rcmgr.ResourceLimits{
			Streams: rcmgr.LimitVal(2 * most[0]), StreamsInbound: rcmgr.LimitVal(most[0]), StreamsOutbound: rcmgr.LimitVal(most[0])}
		partial.Protocol[id] = rcmgr.ResourceLimits{
			Streams: rcmgr.LimitVal(2 * most[1]), StreamsInbound: rcmgr.LimitVal(most[1]), StreamsOutbound: rcmgr.LimitVal(most[1])}
	}
	for _, id := range syncProtocols {
		bound(id, [2]int{2 * sessionsPerPeer, 2 * maxSessions})
	}
	for _, id := range fetchProtocols {
		bound(id, [2]int{2 * fetchesPerPeer, 2 * maxFetches})
	}
	limiter := rcmgr.NewFixedLimiter(partial.Build(scaling.AutoScale()))
	return rcmgr.NewResourceManager(limiter, rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{ConnCount: connsPerAddr, PrefixLength: 32}},
			[]rcmgr.ConnLimitPerSubnet{{ConnCount: connsPerAddr, PrefixLength: 56}}))
}

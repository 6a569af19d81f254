package p2p

import (
	"crypto/ed25519"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// The protocols of Pando. The number changes when a peer that knows only the old
// one could not take part.
const (
	protocolSync  protocol.ID = "/pando/sync/1"
	protocolFetch protocol.ID = "/pando/fetch/1"
)

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

// newHost makes a libp2p host with what Pando uses and no more: each service that
// is left out is memory and goroutines of every idle node. There is no relay, no
// DHT, no hole punching, no metrics registry.
func newHost(key ident.Key, listen []string) (host.Host, error) {
	seed, err := key.LibP2PSeed()
	if err != nil {
		return nil, fmt.Errorf("identity of the peer: %w", err)
	}
	private, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return nil, err
	}
	addrs, err := listenAddrs(listen)
	if err != nil {
		return nil, err
	}
	limits, err := resources()
	if err != nil {
		return nil, err
	}
	conns, err := connmgr.NewConnManager(connsLow, connsHigh)
	if err != nil {
		return nil, err
	}
	h, err := libp2p.New(
		libp2p.Identity(private),
		libp2p.ListenAddrs(addrs...),
		libp2p.Transport(libp2pquic.NewTransport),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(websocket.New),
		libp2p.ShareTCPListener(),
		libp2p.Security(noise.ID, noise.New),
		libp2p.ResourceManager(limits),
		libp2p.ConnectionManager(conns),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.UserAgent("pando"),
	)
	if err != nil {
		return nil, fault.Unavailable.Errorf("listen on %v: %w: choose another address, or stop what uses it", listen, err)
	}
	return h, nil
}

// listenAddrs reads the addresses to listen on. Every TCP port takes WebSocket
// connections too.
func listenAddrs(texts []string) ([]ma.Multiaddr, error) {
	var addrs []ma.Multiaddr
	for _, s := range texts {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, fault.Invalid.Errorf("address to listen on %q: %w: write it as /ip4/127.0.0.1/tcp/9171 or /ip4/0.0.0.0/udp/9171/quic-v1", s, err)
		}
		addrs = append(addrs, a)
		if ps := a.Protocols(); ps[len(ps)-1].Code == ma.P_TCP {
			addrs = append(addrs, a.Encapsulate(ma.StringCast("/ws")))
		}
	}
	return slices.CompactFunc(addrs, ma.Multiaddr.Equal), nil
}

// resources bounds what peers may hold open. The limits of the protocols are the
// same as those that their handlers enforce with an answer; these are the last
// line, for peers that do not read answers.
func resources() (network.ResourceManager, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	partial := rcmgr.PartialLimitConfig{
		ProtocolPeer: map[protocol.ID]rcmgr.ResourceLimits{},
		Protocol:     map[protocol.ID]rcmgr.ResourceLimits{},
	}
	for id, most := range map[protocol.ID][2]int{
		protocolSync:  {2 * sessionsPerPeer, 2 * maxSessions},
		protocolFetch: {2 * fetchesPerPeer, 2 * maxFetches},
	} {
		partial.ProtocolPeer[id] = rcmgr.ResourceLimits{
			Streams: rcmgr.LimitVal(2 * most[0]), StreamsInbound: rcmgr.LimitVal(most[0]), StreamsOutbound: rcmgr.LimitVal(most[0])}
		partial.Protocol[id] = rcmgr.ResourceLimits{
			Streams: rcmgr.LimitVal(2 * most[1]), StreamsInbound: rcmgr.LimitVal(most[1]), StreamsOutbound: rcmgr.LimitVal(most[1])}
	}
	limiter := rcmgr.NewFixedLimiter(partial.Build(scaling.AutoScale()))
	return rcmgr.NewResourceManager(limiter, rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{ConnCount: connsPerAddr, PrefixLength: 32}},
			[]rcmgr.ConnLimitPerSubnet{{ConnCount: connsPerAddr, PrefixLength: 56}}))
}

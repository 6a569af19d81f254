package host

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	circuits "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/x/rate"
)

// What holds for any dealing with a peer.
const (
	// DialTimeout is how long it may take to connect to a peer.
	DialTimeout = 15 * time.Second
	// StrangerTimeout is how long a peer may take to prove something, in all.
	StrangerTimeout = 10 * time.Second
	// MaxAddrs bounds the addresses that are kept of one peer, MaxAddrBytes one of them:
	// DNS names are at most 255.
	MaxAddrs     = 16
	MaxAddrBytes = 512
)

// Who may be connected.
const (
	// maxAtDoor is how many peers may be connected that have proved nothing: a member does
	// within a second, so that whoever wants to keep others out has to connect more often
	// than this many times a second.
	maxAtDoor = 32
	// maxListed bounds the peers that the operator allowed and denied: people write them.
	maxListed = 1 << 14
)

const (
	// Connections are trimmed to the lower number when there are more than the higher.
	connsLow, connsHigh = 96, 128
	// A relay is there for many that have no other way.
	hubConnsLow, hubConnsHigh = maxPlaces, maxPlaces + maxPlaces/4
	// connsPerAddr is how many connections one IP address may hold. The library's 8
	// is passed by any office behind one NAT.
	connsPerAddr = 128
	// connRate is how many new ones it may open a second, in the long run. The library's
	// one in 5 seconds would keep such an office out for minutes after a restart.
	connRate = 5
	// halfOpen is how many connections may be under way that have no name yet, which
	// takes as many as eight addresses may hold. One that says nothing ends in seconds.
	halfOpen = 8 * connsPerAddr
	// streamsOfPeer is how many streams a peer may open here, of all protocols together:
	// what a relay carries for one is most of them. streamsOfAll is for each connection,
	// of members that keep to what is usual.
	streamsOfPeer = 160
	streamsOfAll  = 16
	// namelessStreams is how many streams may be open of which nobody said yet what they
	// are for: all that strangers can open.
	namelessStreams = maxAtDoor * streamsOfPeer
)

// What finding peers costs.
const (
	// maxNearby is how many peers that announce themselves in the local network are dialed
	// at once, maxLookups how many are asked by a lookup in the directory.
	maxNearby  = 8
	maxLookups = 8
	// maxEntries bounds what others list here, some 6 MiB of memory; maxEntriesOf what
	// one of them does.
	maxEntries       = 1 << 14
	maxEntriesOf     = 1024
	directoryPerPeer = 16
	maxDirectory     = 128
)

// What carrying connections for others may cost.
const (
	relayBuffer  = 16 << 10 // of each direction
	relayMessage = 4 << 10  // of the protocol between a relay and its peers
	// maxPlaces is how many peers may be reached through this node, maxStrangerPlaces
	// how many of them may be no members.
	maxPlaces         = 1024
	maxStrangerPlaces = 64
	// maxCarried is how many connections between members are carried, 32 MiB of buffers,
	// and maxCarriedOf how many of them one peer calls, or is called by.
	maxCarried   = 1024
	maxCarriedOf = 64
	// maxLimited is how many are carried of which an end is no member, beside those of
	// members, maxLimitedFrom how many of them one peer calls, so that all strangers at
	// the door find room, and maxLimitedTo by how many one is called.
	maxLimited     = maxAtDoor * maxLimitedFrom
	maxLimitedFrom = 4
	maxLimitedTo   = 16
	// maxAsking is how many requests of a member are under way, and maxAskingOfStranger
	// of others: those that are carried, and a few more.
	maxAsking           = maxCarriedOf + 8
	maxAskingOfStranger = maxLimitedFrom + 4
	// limitedBytes and LimitedFor is what a connection may carry, each way, of which
	// an end is no member: enough to greet, and to find a direct way.
	limitedBytes = 128 << 10
	LimitedFor   = 2 * time.Minute

	// reserveFor is how long a place at a relay lasts, renewBefore how long before that
	// it is renewed. One that is not lasts as long as the connection at most.
	reserveFor  = time.Hour
	renewBefore = 10 * time.Minute
	// relaysWanted is how many relays let others in to this node: one may fail.
	relaysWanted = 2
	// reachDelay gathers what happens at once.
	reachDelay = 100 * time.Millisecond
)

// connsOf is how many connections a host has, a relay more.
func connsOf(hub bool) (low, high int) {
	if hub {
		return hubConnsLow, hubConnsHigh
	}
	return connsLow, connsHigh
}

// What clients of the API may hold.
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

// resources bounds what peers may hold open. The limits of the protocols are the
// same as those that their handlers enforce with an answer; these are the last
// line, for peers that do not read answers.
//
// The library would have the number of connections and streams follow from the memory
// of the machine, so that a small one holds fewer than a relay is for, and a few dozen
// that say nothing keep out everybody else.
func resources(hub bool, streams map[protocol.ID][2]int) (network.ResourceManager, error) {
	_, high := connsOf(hub)
	conns := 2 * high // of which those that are too many are closed after a moment
	scaling := rcmgr.DefaultLimits
	partial := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: rcmgr.LimitVal(conns + halfOpen), ConnsInbound: rcmgr.LimitVal(conns + halfOpen), ConnsOutbound: rcmgr.LimitVal(conns),
			Streams: rcmgr.LimitVal(2*conns*streamsOfAll + namelessStreams), StreamsInbound: rcmgr.LimitVal(conns*streamsOfAll + namelessStreams),
			StreamsOutbound: rcmgr.LimitVal(conns * streamsOfAll)},
		Transient: rcmgr.ResourceLimits{
			Conns: rcmgr.LimitVal(halfOpen + conns), ConnsInbound: halfOpen, ConnsOutbound: rcmgr.LimitVal(conns),
			Streams: rcmgr.LimitVal(namelessStreams + 2*conns), StreamsInbound: namelessStreams, StreamsOutbound: rcmgr.LimitVal(2 * conns)},
		PeerDefault: rcmgr.ResourceLimits{
			Streams: 2 * streamsOfPeer, StreamsInbound: streamsOfPeer, StreamsOutbound: streamsOfPeer},
		ProtocolDefault: rcmgr.ResourceLimits{
			Streams: rcmgr.LimitVal(4 * conns), StreamsInbound: rcmgr.LimitVal(2 * conns), StreamsOutbound: rcmgr.LimitVal(2 * conns)},
		ProtocolPeer: map[protocol.ID]rcmgr.ResourceLimits{},
		Protocol:     map[protocol.ID]rcmgr.ResourceLimits{},
	}
	bound := func(id protocol.ID, most [2]int) {
		partial.ProtocolPeer[id] = rcmgr.ResourceLimits{
			Streams: rcmgr.LimitVal(2 * most[0]), StreamsInbound: rcmgr.LimitVal(most[0]), StreamsOutbound: rcmgr.LimitVal(most[0])}
		partial.Protocol[id] = rcmgr.ResourceLimits{
			Streams: rcmgr.LimitVal(2 * most[1]), StreamsInbound: rcmgr.LimitVal(most[1]), StreamsOutbound: rcmgr.LimitVal(most[1])}
	}
	for id, most := range streams {
		bound(id, most)
	}
	bound(protocolAPI, [2]int{2 * LinesPerClient, 2 * maxLines}) // so that who is refused hears of it
	bound(protocolDHT, [2]int{directoryPerPeer, maxDirectory})
	bound(circuits.ProtoIDv2Hop, [2]int{maxAsking, 2 * (maxCarried + maxLimited)})
	bound(circuits.ProtoIDv2Stop, [2]int{2 * maxCarriedOf, 2 * maxCarried})
	bound(holepunch.Protocol, [2]int{2, 64})
	bound(autonatv2.DialProtocol, [2]int{2, 32})
	bound(autonatv2.DialBackProtocol, [2]int{2, 32})
	limiter := rcmgr.NewFixedLimiter(partial.Build(scaling.AutoScale()))
	perAddr := rate.Limit{RPS: connRate, Burst: connsPerAddr}
	return rcmgr.NewResourceManager(limiter, rcmgr.WithMetricsDisabled(),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{
				{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, {Prefix: netip.MustParsePrefix("::1/128")}, // no limit
			},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: perAddr}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: perAddr}},
				GracePeriod:      time.Minute,
			},
		}),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{ConnCount: connsPerAddr, PrefixLength: 32}},
			[]rcmgr.ConnLimitPerSubnet{{ConnCount: connsPerAddr, PrefixLength: 56}}))
}

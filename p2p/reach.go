package p2p

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	circuits "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/pace"
)

// reach is how others reach this node: directly, as far as it is known, and through
// relays where they do not.
type reach struct {
	wake pace.Alarm

	mu      sync.Mutex // guards what follows
	public  network.Reachability
	relays  map[peer.ID]*circuit.Reservation
	refused map[peer.ID]*attempt // relays that gave no place
}

func newReach() *reach {
	return &reach{wake: pace.NewAlarm(), relays: map[peer.ID]*circuit.Reservation{}, refused: map[peer.ID]*attempt{}}
}

var reachEvents = []any{
	new(event.EvtHostReachableAddrsChanged), new(event.EvtPeerIdentificationCompleted),
	new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
}

// startReach has this node find out whether others reach it, and relays let them in
// as long as they are not known to.
func (n *Node) startReach() error {
	bus := n.host.EventBus()
	events, err := bus.Subscribe(reachEvents)
	if err != nil {
		return fmt.Errorf("watch how others reach this node: %w", err)
	}
	general, err := bus.Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
	if err != nil {
		return fmt.Errorf("tell how others reach this node: %w", err)
	}
	relayed, err := bus.Emitter(new(event.EvtAutoRelayAddrsUpdated), eventbus.Stateful)
	if err != nil {
		return fmt.Errorf("tell how others reach this node: %w", err)
	}
	n.spawn(func(ctx context.Context) { n.watchReach(ctx, events, general) })
	n.spawn(func(ctx context.Context) { n.keepRelays(ctx, relayed) })
	return nil
}

func (n *Node) watchReach(ctx context.Context, events event.Subscription, tell event.Emitter) {
	defer events.Close()
	defer tell.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events.Out():
			if !ok {
				return
			}
			if e, ok := e.(event.EvtHostReachableAddrsChanged); ok {
				n.reached(e, tell)
			}
			n.reach.wake.Set(reachDelay)
		}
	}
}

// keepRelays has relays let others in. Relays are connected members, and peers that
// the operator named; no others.
func (n *Node) keepRelays(ctx context.Context, tell event.Emitter) {
	defer tell.Close()
	n.reach.wake.Set(0)
	var told []ma.Multiaddr
	for n.reach.wake.Wait(ctx) {
		n.reserve(ctx)
		addrs := n.relayAddrs()
		if slices.EqualFunc(addrs, told, ma.Multiaddr.Equal) {
			continue
		}
		told = addrs
		if err := tell.Emit(event.EvtAutoRelayAddrsUpdated{RelayAddrs: slices.Clone(addrs)}); err != nil {
			n.log.Debug("addresses through relays are not announced", "error", err)
		}
	}
}

// reached notes what others found out about this node's addresses. One address that
// lets them in is enough.
func (n *Node) reached(e event.EvtHostReachableAddrsChanged, tell event.Emitter) {
	now := network.ReachabilityUnknown
	switch {
	case len(e.Reachable) > 0:
		now = network.ReachabilityPublic
	case len(e.Unreachable) > 0:
		now = network.ReachabilityPrivate
	}
	n.reach.mu.Lock()
	changed := n.reach.public != now
	n.reach.public = now
	n.reach.mu.Unlock()
	if changed {
		n.log.Info("whether others reach this node directly has changed", "reachable", reachText(now))
		tell.Emit(event.EvtLocalReachabilityChanged{Reachability: now})
	}
}

func reachText(r network.Reachability) string {
	switch r {
	case network.ReachabilityPublic:
		return "public"
	case network.ReachabilityPrivate:
		return "private"
	}
	return "unknown"
}

// reserve sees to it that there are enough relays, and none that is not needed.
func (n *Node) reserve(ctx context.Context) {
	r := n.reach
	now := time.Now()
	r.mu.Lock()
	for p, place := range r.relays {
		if r.public == network.ReachabilityPublic || now.After(place.Expiration) || !n.here(p) {
			delete(r.relays, p)
			n.host.ConnManager().Unprotect(p, relayTag)
		}
	}
	for p, a := range r.refused {
		if now.Sub(a.next) > retryMost {
			delete(r.refused, p)
		}
	}
	public := r.public == network.ReachabilityPublic
	r.mu.Unlock()
	next := reserveFor
	if !public {
		next = n.reserveMore(ctx, now)
	}
	r.wake.Set(next)
}

// reserveMore takes and renews places at relays, and returns when to do so again.
func (n *Node) reserveMore(ctx context.Context, now time.Time) time.Duration {
	next := reserveFor
	have := 0
	for _, p := range n.relaysToAsk(now) {
		r := n.reach
		r.mu.Lock()
		place, known := r.relays[p]
		r.mu.Unlock()
		if known && place.Expiration.Sub(now) > renewBefore {
			have++
			next = min(next, place.Expiration.Sub(now)-renewBefore)
			continue
		}
		if have >= relaysWanted {
			break
		}
		place, err := n.reserveAt(ctx, p)
		r.mu.Lock()
		if err != nil {
			delete(r.relays, p)
			a := r.refused[p]
			if a == nil {
				a = &attempt{}
				r.refused[p] = a
			}
			a.failures++
			again := pace.Backoff(a.failures)
			a.next = now.Add(again)
			next = min(next, again)
		} else {
			have++
			r.relays[p] = place
			delete(r.refused, p)
			next = min(next, max(place.Expiration.Sub(now)-renewBefore, retryFirst))
		}
		r.mu.Unlock()
		n.log.Debug("asked a relay for a place", "relay", p, "error", err)
	}
	return next
}

// relaysToAsk returns connected relays, those in use first.
func (n *Node) relaysToAsk(now time.Time) []peer.ID {
	var used, fresh []peer.ID
	for _, c := range n.connected() {
		if !n.named(c.id) && !n.admission.knows(c.id) {
			continue
		}
		n.reach.mu.Lock()
		a, uses := n.reach.refused[c.id], n.reach.relays[c.id] != nil
		n.reach.mu.Unlock()
		if a != nil && now.Before(a.next) {
			continue
		}
		hop, err := n.host.Peerstore().SupportsProtocols(c.id, circuits.ProtoIDv2Hop)
		direct := slices.ContainsFunc(n.host.Network().ConnsToPeer(c.id), func(c network.Conn) bool { return !relayed(c) })
		switch {
		case err != nil || len(hop) == 0 || !direct:
		case uses:
			used = append(used, c.id)
		default:
			fresh = append(fresh, c.id)
		}
	}
	return append(used, fresh...)
}

func (n *Node) reserveAt(ctx context.Context, p peer.ID) (*circuit.Reservation, error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "relay"), dialTimeout)
	defer cancel()
	place, err := circuit.Reserve(ctx, n.host, peer.AddrInfo{ID: p})
	if err == nil {
		n.host.ConnManager().Protect(p, relayTag)
	}
	return place, err
}

const relayTag = connTag + "/relay"

// relayAddrs returns the addresses at which relays let others in.
func (n *Node) relayAddrs() []ma.Multiaddr {
	n.reach.mu.Lock()
	defer n.reach.mu.Unlock()
	var all []ma.Multiaddr
	for p, place := range n.reach.relays {
		own := ma.StringCast("/p2p/" + p.String())
		addrs := slices.Clone(place.Addrs)
		if len(addrs) == 0 {
			for _, a := range n.host.Peerstore().Addrs(p) {
				addrs = append(addrs, a.Encapsulate(own))
			}
		}
		for _, a := range addrs[:min(len(addrs), maxAddrs/relaysWanted)] {
			if id, err := peer.IDFromP2PAddr(a); err == nil && id == p && !isCircuit(a) {
				all = append(all, a.Encapsulate(anyCircuit))
			}
		}
	}
	slices.SortFunc(all, ma.Multiaddr.Compare)
	return all
}

// Reach is how others reach a node.
type Reach struct {
	// Direct is "public" if others were seen to reach an address of the node,
	// "private" if they were seen not to, and "unknown" before.
	Direct string
	Addrs  []AddrReach
	Relays []RelayPlace // that let others in
	Relay  *Relaying    // if this node is a relay itself
	// Directory is how this node takes part in the directory of peers; nil: it does not.
	Directory *Directory
}

// Directory is the part that a node takes in the directory of peers.
type Directory struct {
	Peers  int // that it knows, and that keep the directory together with it
	Listed int // secrets of collections under which this node is listed
}

// AddrReach is an address at which the node listens, and whether others reach it:
// "reachable", "unreachable" or "unknown". Nobody asks about addresses that are of a
// local network.
type AddrReach struct {
	Addr, State string
}

// RelayPlace is a relay that lets others in to this node.
type RelayPlace struct {
	Relay   string // peer ID
	Until   time.Time
	Limited bool // it carries what it takes to find a direct way, and no more
}

// Relaying is what a node does as a relay.
type Relaying struct {
	Places      int // peers that are reached through it
	Connections int // that it carries now
	Bytes       uint64
}

// Reach returns how others reach this node.
func (n *Node) Reach() Reach {
	var out Reach
	n.reach.mu.Lock()
	out.Direct = reachText(n.reach.public)
	for p, place := range n.reach.relays {
		out.Relays = append(out.Relays, RelayPlace{p.String(), place.Expiration, place.LimitData > 0 || place.LimitDuration > 0})
	}
	n.reach.mu.Unlock()
	slices.SortFunc(out.Relays, func(a, b RelayPlace) int { return strings.Compare(a.Relay, b.Relay) })
	var all, yes, no []ma.Multiaddr
	if own, ok := n.host.(*ownHost); ok {
		all = own.AllAddrs()
		yes, no, _ = own.ConfirmedAddrs()
	} else {
		all = n.addrs()
	}
	for _, a := range all {
		s := "unknown"
		switch {
		case slices.ContainsFunc(yes, a.Equal):
			s = "reachable"
		case slices.ContainsFunc(no, a.Equal):
			s = "unreachable"
		}
		out.Addrs = append(out.Addrs, AddrReach{a.String(), s})
	}
	if d := n.directory; d != nil {
		d.mu.Lock()
		out.Directory = &Directory{Peers: d.kad.RoutingTable().Size(), Listed: len(d.listed)}
		d.mu.Unlock()
	}
	if n.hub != nil {
		n.hub.mu.Lock()
		out.Relay = &Relaying{Places: len(n.hub.places), Connections: len(n.hub.carried), Bytes: n.count.RelayedBytes.Load()}
		n.hub.mu.Unlock()
	}
	return out
}

package host

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
	refused map[peer.ID]*refusal // relays that gave no place
}

// refusal is of a relay that gave no place.
type refusal struct {
	next  time.Time // when to ask again
	times int       // in a row
}

func newReach() *reach {
	return &reach{wake: pace.NewAlarm(), relays: map[peer.ID]*circuit.Reservation{}, refused: map[peer.ID]*refusal{}}
}

var reachEvents = []any{
	new(event.EvtHostReachableAddrsChanged), new(event.EvtPeerIdentificationCompleted),
	new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
}

// startReach has this node find out whether others reach it, and relays let them in
// as long as they are not known to.
func (h *Host) startReach() error {
	bus := h.EventBus()
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
	h.spawn(func(ctx context.Context) { h.watchReach(ctx, events, general) })
	h.spawn(func(ctx context.Context) { h.keepRelays(ctx, relayed) })
	return nil
}

func (h *Host) watchReach(ctx context.Context, events event.Subscription, tell event.Emitter) {
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
				h.reached(e, tell)
			}
			h.reach.wake.Set(reachDelay)
		}
	}
}

// keepRelays has relays let others in. Relays are connected members, and peers that
// the operator named; no others.
func (h *Host) keepRelays(ctx context.Context, tell event.Emitter) {
	defer tell.Close()
	h.reach.wake.Set(0)
	var told []ma.Multiaddr
	for h.reach.wake.Wait(ctx) {
		h.reserve(ctx)
		addrs := h.relayAddrs()
		if slices.EqualFunc(addrs, told, ma.Multiaddr.Equal) {
			continue
		}
		told = addrs
		if err := tell.Emit(event.EvtAutoRelayAddrsUpdated{RelayAddrs: slices.Clone(addrs)}); err != nil {
			h.log.Debug("addresses through relays are not announced", "error", err)
		}
	}
}

// reached notes what others found out about this node's addresses. One address that
// lets them in is enough.
func (h *Host) reached(e event.EvtHostReachableAddrsChanged, tell event.Emitter) {
	now := network.ReachabilityUnknown
	switch {
	case len(e.Reachable) > 0:
		now = network.ReachabilityPublic
	case len(e.Unreachable) > 0:
		now = network.ReachabilityPrivate
	}
	h.reach.mu.Lock()
	changed := h.reach.public != now
	h.reach.public = now
	h.reach.mu.Unlock()
	if changed {
		h.log.Info("whether others reach this node directly has changed", "reachable", reachText(now))
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
func (h *Host) reserve(ctx context.Context) {
	r := h.reach
	now := time.Now()
	r.mu.Lock()
	for p, place := range r.relays {
		if r.public == network.ReachabilityPublic || now.After(place.Expiration) || !h.Here(p) {
			delete(r.relays, p)
			h.ConnManager().Unprotect(p, relayTag)
		}
	}
	for p, a := range r.refused {
		if now.Sub(a.next) > pace.Most {
			delete(r.refused, p)
		}
	}
	public := r.public == network.ReachabilityPublic
	r.mu.Unlock()
	next := reserveFor
	if !public {
		next = h.reserveMore(ctx, now)
	}
	r.wake.Set(next)
}

// reserveMore takes and renews places at relays, and returns when to do so again.
func (h *Host) reserveMore(ctx context.Context, now time.Time) time.Duration {
	next := reserveFor
	have := 0
	for _, p := range h.relaysToAsk(now) {
		r := h.reach
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
		place, err := h.reserveAt(ctx, p)
		r.mu.Lock()
		if err != nil {
			delete(r.relays, p)
			a := r.refused[p]
			if a == nil {
				a = &refusal{}
				r.refused[p] = a
			}
			a.times++
			again := pace.Backoff(a.times)
			a.next = now.Add(again)
			next = min(next, again)
		} else {
			have++
			r.relays[p] = place
			delete(r.refused, p)
			next = min(next, max(place.Expiration.Sub(now)-renewBefore, pace.First))
		}
		r.mu.Unlock()
		h.log.Debug("asked a relay for a place", "relay", p, "error", err)
	}
	return next
}

// relaysToAsk returns connected relays, those in use first.
func (h *Host) relaysToAsk(now time.Time) []peer.ID {
	var used, fresh []peer.ID
	for _, p := range h.ties.Peers() {
		if !h.known(p) {
			continue
		}
		h.reach.mu.Lock()
		a, uses := h.reach.refused[p], h.reach.relays[p] != nil
		h.reach.mu.Unlock()
		if a != nil && now.Before(a.next) {
			continue
		}
		hop, err := h.Peerstore().SupportsProtocols(p, circuits.ProtoIDv2Hop)
		direct := slices.ContainsFunc(h.Network().ConnsToPeer(p), func(c network.Conn) bool { return !relayed(c) })
		switch {
		case err != nil || len(hop) == 0 || !direct:
		case uses:
			used = append(used, p)
		default:
			fresh = append(fresh, p)
		}
	}
	return append(used, fresh...)
}

func (h *Host) reserveAt(ctx context.Context, p peer.ID) (*circuit.Reservation, error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "relay"), DialTimeout)
	defer cancel()
	place, err := circuit.Reserve(ctx, h, peer.AddrInfo{ID: p})
	if err == nil {
		h.ConnManager().Protect(p, relayTag)
	}
	return place, err
}

// relayTag marks connections to the connection manager, which closes others first when
// there are too many.
const relayTag = "pando/relay"

// relayAddrs returns the addresses at which relays let others in.
func (h *Host) relayAddrs() []ma.Multiaddr {
	h.reach.mu.Lock()
	defer h.reach.mu.Unlock()
	var all []ma.Multiaddr
	for p, place := range h.reach.relays {
		own := ma.StringCast("/p2p/" + p.String())
		addrs := slices.Clone(place.Addrs)
		if len(addrs) == 0 {
			for _, a := range h.Peerstore().Addrs(p) {
				addrs = append(addrs, a.Encapsulate(own))
			}
		}
		for _, a := range addrs[:min(len(addrs), MaxAddrs/relaysWanted)] {
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
func (h *Host) Reach() Reach {
	var out Reach
	h.reach.mu.Lock()
	out.Direct = reachText(h.reach.public)
	for p, place := range h.reach.relays {
		out.Relays = append(out.Relays, RelayPlace{p.String(), place.Expiration, place.LimitData > 0 || place.LimitDuration > 0})
	}
	h.reach.mu.Unlock()
	slices.SortFunc(out.Relays, func(a, b RelayPlace) int { return strings.Compare(a.Relay, b.Relay) })
	var all, yes, no []ma.Multiaddr
	if h.own != nil {
		all = h.own.AllAddrs()
		yes, no, _ = h.own.ConfirmedAddrs()
	} else {
		all = h.Addrs()
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
	if d := h.directory; d != nil {
		out.Directory = &Directory{Peers: h.DirectoryPeers()}
	}
	if h.hub != nil {
		h.hub.mu.Lock()
		out.Relay = &Relaying{Places: len(h.hub.places), Connections: len(h.hub.carried), Bytes: h.count.relayedBytes.Load()}
		h.hub.mu.Unlock()
	}
	return out
}

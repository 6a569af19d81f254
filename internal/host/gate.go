package host

import (
	"maps"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/fault"
)

// gate decides who may be connected at all, which admission to collections comes
// after. A node is open or closed: to an open one anybody may connect, and learns
// nothing. A closed one with a list of allowed peers refuses all others at once; one
// without gives them a moment to prove a secret, see door. Whoever is denied stays
// outside of both, whatever else speaks for them.
//
// The host asks it with every connection. A host that was brought along may not: its
// connections are looked at when they are there.
type gate struct {
	closed bool
	ties   Ties
	save   func(on map[peer.ID]bool, off []peer.ID) error

	mu       sync.Mutex       // guards what follows
	settings map[peer.ID]bool // allowed by this start alone
	allowed  map[peer.ID]bool
	denied   map[peer.ID]bool
	expected map[peer.ID]int // whom the operator is naming at this moment
}

func newGate(c Config, ties Ties) *gate {
	g := &gate{closed: c.Closed || len(c.Allow) > 0, ties: ties, save: c.Save, settings: map[peer.ID]bool{},
		allowed: map[peer.ID]bool{}, denied: map[peer.ID]bool{}, expected: map[peer.ID]int{}}
	for _, p := range c.Allow {
		g.settings[p] = true
	}
	for p, allowed := range c.Listed {
		if allowed {
			g.allowed[p] = true
		} else {
			g.denied[p] = true
		}
	}
	return g
}

// refuses returns why a peer may not be connected, nil if it may.
func (g *gate) refuses(p peer.ID) error {
	named := g.ties.Named(p)
	if !g.shut(p, named) {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.denied[p] {
		return fault.Denied.Errorf("peer %s is denied here: to let it in, allow it", p)
	}
	return fault.Denied.Errorf("peer %s is not among those that this node allows: allow it first", p)
}

// shut reports whether a peer, named by the operator in other ways or not, has to
// stay outside.
func (g *gate) shut(p peer.ID, named bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	listed := g.closed && len(g.allowed)+len(g.settings) > 0
	return g.denied[p] || listed && !named && !g.allowed[p] && !g.settings[p] && g.expected[p] == 0
}

// allows reports whether a peer is on the list of those allowed.
func (g *gate) allows(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.allowed[p] || g.settings[p]
}

// expect lets a peer in that the operator is about to name, until done.
func (g *gate) expect(p peer.ID) (done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expected[p]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.expected[p]--; g.expected[p] == 0 {
			delete(g.expected, p)
		}
	}
}

// change is ChangeAccess without what follows for connections.
func (g *gate) change(allow, deny, remove []peer.ID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	allowed, denied := maps.Clone(g.allowed), maps.Clone(g.denied)
	for _, p := range remove {
		delete(allowed, p)
		delete(denied, p)
	}
	for _, p := range allow {
		allowed[p] = true
		delete(denied, p)
	}
	for _, p := range deny {
		denied[p] = true
		delete(allowed, p)
	}
	if n := len(allowed) + len(denied); n > maxListed {
		return fault.TooLarge.Errorf("%d peers on the lists of those allowed and denied, at most %d fit: remove some", n, maxListed)
	}
	if g.closed && len(remove) == 0 && len(g.allowed) > 0 && len(allowed)+len(g.settings) == 0 {
		return fault.Invalid.Errorf("nobody would be left on the list of those allowed, and without one whoever holds a ticket may connect: allow another peer first, or take this one off the list")
	}
	on, off := map[peer.ID]bool{}, []peer.ID(nil)
	for _, p := range slices.Concat(allow, deny, remove) {
		switch {
		case allowed[p]:
			on[p] = true
		case denied[p]:
			on[p] = false
		default:
			off = append(off, p)
		}
	}
	if err := g.save(on, off); err != nil {
		return err
	}
	g.allowed, g.denied = allowed, denied
	return nil
}

// Refuses returns why a peer may not be connected, nil if it may.
func (h *Host) Refuses(p peer.ID) error { return h.gate.refuses(p) }

// Shut reports whether a peer, named by the operator or not, has to stay outside. It
// asks nobody.
func (h *Host) Shut(p peer.ID, named bool) bool { return h.gate.shut(p, named) }

// Expect lets a peer in that the operator is about to name, until done.
func (h *Host) Expect(p peer.ID) (done func()) { return h.gate.expect(p) }

// Access returns whom this host lets connect.
func (h *Host) Access() Access { return h.gate.access() }

// ChangeAccess changes the lists of peers, durably and all or nothing, and applies them to
// the connections that there are. Those to remove are taken off before.
func (h *Host) ChangeAccess(allow, deny, remove []peer.ID) error {
	if err := h.gate.change(allow, deny, remove); err != nil {
		return err
	}
	h.meetAll()
	return nil
}

// Access says whom a node lets connect. What may be synced is another question.
type Access struct {
	Closed  bool     // only those allowed may connect, or with none of them who proves a secret
	Allowed []string // peer ids
	Denied  []string // who may never connect
}

func (g *gate) access() Access {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := maps.Clone(g.allowed)
	maps.Copy(all, g.settings)
	return Access{g.closed, texts(all), texts(g.denied)}
}

func texts(ids map[peer.ID]bool) []string {
	out := []string{}
	for p := range ids {
		out = append(out, p.String())
	}
	slices.Sort(out)
	return out
}

// The host asks these. Accepted connections have no name before they are secured.

func (g *gate) InterceptPeerDial(p peer.ID) bool { return g.refuses(p) == nil }

func (g *gate) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

func (g *gate) InterceptSecured(d network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.refuses(p) == nil && (d == network.DirOutbound || !g.ties.Banned(p))
}

func (g *gate) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	return g.refuses(c.RemotePeer()) == nil, 0
}

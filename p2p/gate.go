package p2p

import (
	"maps"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
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
	named  func(peer.ID) bool // by the operator, in other ways
	banned func(peer.ID) bool // for a while, because it broke the protocol
	notes  notes

	mu       sync.Mutex       // guards what follows
	settings map[peer.ID]bool // allowed by this start alone
	allowed  map[peer.ID]bool
	denied   map[peer.ID]bool
	expected map[peer.ID]int // whom the operator is naming at this moment
}

func newGate(c Config, named, banned func(peer.ID) bool) (*gate, error) {
	g := &gate{closed: c.Closed || len(c.Allow) > 0, named: named, banned: banned, settings: map[peer.ID]bool{},
		allowed: map[peer.ID]bool{}, denied: map[peer.ID]bool{}, expected: map[peer.ID]int{}}
	ids, err := parseIDs(c.Allow)
	for _, p := range ids {
		g.settings[p] = true
	}
	return g, err
}

// load reads the lists that the operator keeps.
func (g *gate) load(n notes) error {
	g.notes = n
	return n.each(noteAccess, func(key string, r *cbor.Reader) error {
		if r.Bool() {
			g.allowed[peer.ID(key)] = true
		} else {
			g.denied[peer.ID(key)] = true
		}
		return nil
	})
}

// refuses returns why a peer may not be connected, nil if it may.
func (g *gate) refuses(p peer.ID) error {
	named := g.named(p)
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

// change puts peers on lists, or takes them off both, durably.
func (g *gate) change(allow, deny, remove []peer.ID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	allowed, denied := maps.Clone(g.allowed), maps.Clone(g.denied)
	m := map[string][]byte{}
	put := func(p peer.ID, on, off map[peer.ID]bool, note []byte) {
		delete(off, p)
		if on != nil {
			on[p] = true
		}
		m[noteAccess+string(p)] = note
	}
	for _, p := range remove {
		put(p, nil, allowed, nil)
		put(p, nil, denied, nil)
	}
	for _, p := range allow {
		put(p, allowed, denied, cbor.AppendBool(nil, true))
	}
	for _, p := range deny {
		put(p, denied, allowed, cbor.AppendBool(nil, false))
	}
	if n := len(allowed) + len(denied); n > maxListed {
		return fault.TooLarge.Errorf("%d peers on the lists of those allowed and denied, at most %d fit: remove some", n, maxListed)
	}
	if g.closed && len(remove) == 0 && len(g.allowed) > 0 && len(allowed)+len(g.settings) == 0 {
		return fault.Invalid.Errorf("nobody would be left on the list of those allowed, and without one whoever holds a ticket may connect: allow another peer first, or take this one off the list")
	}
	if err := g.notes.put(m); err != nil {
		return err
	}
	g.allowed, g.denied = allowed, denied
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
	return g.refuses(p) == nil && (d == network.DirOutbound || !g.banned(p))
}

func (g *gate) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	return g.refuses(c.RemotePeer()) == nil, 0
}

// parseIDs reads names of peers: peer ids, addresses that end with one, or the DIDs
// that their commits are signed with.
func parseIDs(texts []string) ([]peer.ID, error) {
	var out []peer.ID
	for _, s := range texts {
		p, err := parseID(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func parseID(s string) (peer.ID, error) {
	if len(s) > 4 && s[:4] == "did:" {
		return peerOfDID(s)
	}
	if len(s) > 0 && s[0] == '/' {
		a, err := peer.AddrInfoFromString(s)
		if err != nil {
			return "", fault.Invalid.Errorf("peer %q: %w: want an address that ends with /p2p/PEERID", s, err)
		}
		return a.ID, nil
	}
	p, err := peer.Decode(s)
	if err != nil {
		return "", fault.Invalid.Errorf("peer %q: %w: want a peer id, such as 12D3KooW…, or a did:key", s, err)
	}
	return p, nil
}

// peerOfDID returns the peer whose key a DID names: a node signs with the key that
// it is known by, unless it was given another.
func peerOfDID(s string) (peer.ID, error) {
	d, err := ident.ParseDID(s)
	if err != nil {
		return "", err
	}
	k, err := d.PublicKey()
	if err != nil {
		return "", err
	}
	if k.Algorithm() != ident.EdDSA {
		return "", fault.Invalid.Errorf("%s is of an %s key, which no peer has: name its peer id", s, k.Algorithm())
	}
	public, err := crypto.UnmarshalEd25519PublicKey([]byte(k[2:])) // after the name of the algorithm
	if err != nil {
		return "", fault.Invalid.Errorf("%s: %w", s, err)
	}
	return peer.IDFromPublicKey(public)
}

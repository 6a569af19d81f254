package host

import (
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/ident"
)

// What strangers have carried takes nothing of what members may have carried, not even
// to the same peer, and each stranger leaves room for others.
func TestCarryingForStrangersTakesNothingFromMembers(t *testing.T) {
	t.Parallel()
	h := newHub(&Host{ties: nobody{}})
	fill := func(from, to string, limited bool) (all []*carriage) {
		for {
			c := &carriage{from: peer.ID(from), to: peer.ID(to), limited: limited}
			if !h.begin(c) {
				return all
			}
			if all = append(all, c); len(all) > 2*maxCarried {
				t.Fatalf("%d connections are carried from %s to %s, and no end", len(all), from, to)
			}
		}
	}
	var all []*carriage
	for i := range 2 * maxAtDoor {
		all = append(all, fill(fmt.Sprint("stranger ", i), "ada", true)...)
		all = append(all, fill(fmt.Sprint("stranger ", i), fmt.Sprint("place ", i), true)...)
	}
	if len(all) != maxLimited {
		t.Errorf("%d connections of strangers are carried, want %d", len(all), maxLimited)
	}
	if n := h.ends[terminal{"ada", true, true}]; n != maxLimitedTo {
		t.Errorf("strangers have %d connections to one peer, want %d", n, maxLimitedTo)
	}
	of := fill("bob", "ada", false)
	if len(of) != maxCarriedOf {
		t.Errorf("a member has %d connections carried beside strangers, want %d", len(of), maxCarriedOf)
	}
	members := len(of)
	all = append(all, of...)
	for i := range maxCarried {
		of := fill(fmt.Sprint("member ", i), fmt.Sprint("member ", i+1), false)
		members += len(of)
		all = append(all, of...)
	}
	if members != maxCarried {
		t.Errorf("%d connections of members are carried, want %d", members, maxCarried)
	}
	for _, c := range all {
		h.finish(c)
	}
	if len(h.carried)+len(h.ends)+h.under[true]+h.under[false] != 0 {
		t.Errorf("of nothing is left %+v, %+v", h.ends, h.under)
	}
}

// acquainted are ties with peers that are connected, some of them members.
type acquainted struct {
	nobody
	peers, members []peer.ID
}

func (a *acquainted) Peers() []peer.ID      { return a.peers }
func (a *acquainted) Member(p peer.ID) bool { return slices.Contains(a.members, p) }

// listening makes a host on this machine.
func listening(t *testing.T, c Config) *Host {
	t.Helper()
	var err error
	if c.Key, err = ident.Generate(ident.EdDSA); err != nil {
		t.Fatal(err)
	}
	c.Listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1"}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if err := h.Listen(); err != nil {
		t.Fatal(err)
	}
	return h
}

func at(h *Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// A stranger would choose where this host sends packets, again and again.
func TestHolesArePunchedForMembersOnly(t *testing.T) {
	t.Parallel()
	known := &acquainted{}
	behind, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1")) // and relays
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	hub, a, b := listening(t, Config{Relay: true}), listening(t, Config{Host: behind, Ties: known}), listening(t, Config{})
	if err := a.Connect(t.Context(), at(hub)); err != nil {
		t.Fatal(err)
	}
	if _, err := circuit.Reserve(t.Context(), a, at(hub)); err != nil {
		t.Fatal(err)
	}
	through := ma.StringCast(fmt.Sprintf("%s/p2p/%s/p2p-circuit", hub.Addrs()[0], hub.ID()))
	if err := b.Connect(t.Context(), peer.AddrInfo{ID: a.ID(), Addrs: []ma.Multiaddr{through}}); err != nil {
		t.Fatal(err)
	}
	if all := a.Connections(b.ID()); len(all) != 1 || !all[0].Limited || all[0].Relay != hub.ID().String() {
		t.Fatalf("they are connected by %+v, want a limited connection through the relay", all)
	}
	known.peers = []peer.ID{hub.ID(), b.ID()}
	if to := a.relayedTo(); len(to) > 0 {
		t.Errorf("for strangers holes are punched: %v", to)
	}
	known.members = known.peers
	if to := a.relayedTo(); !slices.Equal(to, []peer.ID{b.ID()}) {
		t.Errorf("holes are punched to %v, want to %s", to, b.ID())
	}
}

// Who dials a host before it listens would be told of no protocol.
func TestAHostThatIsNotReadyLetsNobodyIn(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", free.Addr().(*net.TCPAddr).Port)
	free.Close()
	key, err := ident.Generate(ident.EdDSA)
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{Key: key, Listen: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	to := peer.AddrInfo{ID: h.ID(), Addrs: []ma.Multiaddr{ma.StringCast(addr)}}
	if err := listening(t, Config{}).Connect(t.Context(), to); err == nil {
		t.Error("a host that is not ready lets others in")
	}
	if err := h.Listen(); err != nil {
		t.Fatal(err)
	}
	if err := listening(t, Config{}).Connect(t.Context(), to); err != nil {
		t.Error(err)
	}
}

package p2p

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/record"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/ident"
)

// The tests of this file run hosts as the node itself makes them, where the others
// have the library's.

// wall makes a member a machine behind a firewall: nobody gets in but whom it sent
// something before.
func (w *world) wall(m *member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.walls[m.ip()] = map[string]bool{}
}

var endpoints sync.Mutex

// here puts a member's UDP sockets in the world.
func (m *member) here() []quicreuse.Option {
	var port atomic.Int32
	port.Store(20000)
	return []quicreuse.Option{
		quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return m, nil }),
		quicreuse.OverrideListenUDP(func(_ string, a *net.UDPAddr) (net.PacketConn, error) {
			at := *a
			if at.IP.IsUnspecified() {
				at.IP = net.ParseIP(m.ip()).To4()
			}
			if at.Port == 0 {
				at.Port = int(port.Add(1))
			}
			endpoints.Lock() // which the network makes one at a time
			defer endpoints.Unlock()
			return m.w.net.NewEndpoint(&at, link), nil
		}),
	}
}

func (m *member) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) {
	return net.ParseIP(m.ip()).To4(), nil
}

// own starts the member with a host of its own making.
func (m *member) own(c Config, trusted ...*member) *Node {
	m.w.t.Helper()
	raw, err := m.key.Raw()
	if err != nil {
		m.w.t.Fatal(err)
	}
	if c.Key, err = ident.GenerateFrom(ident.EdDSA, bytes.NewReader(ed25519.PrivateKey(raw).Seed())); err != nil {
		m.w.t.Fatal(err)
	}
	c.Listen, c.hosted = []string{strings.Split(m.addr(), "/p2p/")[0]}, func(h *host.Config) { h.QUIC = m.here() }
	for _, p := range trusted {
		c.Peers = append(c.Peers, p.addr())
	}
	if os.Getenv("PANDO_LOG") != "" {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", m.i)
	}
	if m.node, err = Start(m.w.t.Context(), m.db, c); err != nil {
		m.w.t.Fatal(err)
	}
	return m.node
}

func TestNodesFindOutWhetherOthersReachThem(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		outside, inside := w.member(0), w.member(1)
		w.wall(inside)
		addSchema(t, outside.db, schemaText)
		outside.own(Config{}, inside)
		inside.own(Config{}, outside)
		converge(t, 10*time.Second, outside, inside)
		for m, want := range map[*member]Reach{
			outside: {Direct: "public", Addrs: []AddrReach{{Addr: "/ip4/1.0.0.1/udp/8000/quic-v1", State: "reachable"}}},
			inside:  {Direct: "private", Addrs: []AddrReach{{Addr: "/ip4/1.0.0.2/udp/8000/quic-v1", State: "unreachable"}}},
		} {
			eventually(t, 5*time.Minute, func() (bool, string) { // three times, at least two minutes apart
				got := m.node.Reach()
				return reflect.DeepEqual(got, want), fmt.Sprintf("%+v, want %+v", got, want)
			})
		}
	})
}

// A closed node with a list refuses those who try whether it is reached, as all others.
// That says nothing, and it goes on telling where it listens.
func TestWhoRefusesToBeReachedIsNotSaidToBeOutOfReach(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		closed, member := w.member(0), w.member(1)
		addSchema(t, closed.db, schemaText)
		closed.own(Config{Closed: true, Allow: []string{member.id().String()}}, member)
		member.own(Config{Relay: true}, closed)
		converge(t, 10*time.Second, closed, member)
		eventually(t, 5*time.Minute, func() (bool, string) { return member.node.Reach().Direct == "public", "the member does not know yet" })
		time.Sleep(10 * time.Minute) // it is tried again and again
		want := Reach{Direct: "unknown", Addrs: []AddrReach{{Addr: "/ip4/1.0.0.1/udp/8000/quic-v1", State: "unknown"}}}
		got := closed.node.Reach()
		if got.Relays = nil; !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
		if own := closed.node.Info().Addrs; !slices.Contains(own, want.Addrs[0].Addr) {
			t.Errorf("it tells only %v", own)
		}
	})
}

// circuitOf waits until a relay lets others in to a member, and returns the address.
func circuitOf(t *testing.T, m *member) string {
	t.Helper()
	var at string
	eventually(t, time.Minute, func() (bool, string) {
		for _, a := range m.node.Info().Addrs {
			if strings.Contains(a, "/p2p-circuit") {
				at = a + "/p2p/" + m.node.Info().ID
			}
		}
		return at != "", strings.Join(m.node.Info().Addrs, " ")
	})
	return at
}

// ways tells how a member is connected with another.
func ways(m, to *member) (direct, through int) {
	for _, c := range m.node.host.Connections(to.id()) {
		if c.Relay == "" {
			direct++
		} else {
			through++
		}
	}
	return direct, through
}

func TestTwoBehindFirewallsFindEachOtherThroughARelayAndPunchThrough(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		hub, a, b := w.member(0), w.member(1), w.member(2)
		w.wall(a)
		w.wall(b)
		addSchema(t, hub.db, schemaText)
		hub.own(Config{Relay: true}, a, b)
		a.own(Config{}, hub)
		b.own(Config{}, hub)
		converge(t, 10*time.Second, hub, a, b)
		if err := b.node.Connect(t.Context(), circuitOf(t, a)); err != nil {
			t.Fatal(err)
		}
		took := eventually(t, 30*time.Second, func() (bool, string) {
			direct, through := ways(a, b)
			return direct > 0 && through == 0, fmt.Sprint(a.node.host.Connections(b.id()))
		})
		if n := a.node.Counters().Punched + b.node.Counters().Punched; n == 0 {
			t.Error("the counters know of no connection that became direct")
		}
		t.Logf("directly connected, and by nothing else, after %v", took)
		createUsers(t, a.db, "a", 100)
		converge(t, 10*time.Second, a, b)
	})
}

// What lets no stranger in lets nobody be punched through to: members are carried for
// as long as they like.
func TestMembersGoOnThroughTheRelayWhereNoHoleCanBePunched(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		hub, a, b := w.member(0), w.member(1), w.member(2)
		w.cut([]*member{a}, []*member{b})
		w.wall(a)
		w.wall(b)
		addSchema(t, hub.db, schemaText)
		hub.own(Config{Relay: true}, a, b)
		a.own(Config{}, hub)
		b.own(Config{}, hub)
		converge(t, 10*time.Second, hub, a, b)
		addSchema(t, a.db, `type Book { title: String }`) // which the hub hears of, for it is named
		if err := b.node.Connect(t.Context(), circuitOf(t, a)); err != nil {
			t.Fatal(err)
		}
		before := hub.node.Counters().RelayedBytes
		createUsers(t, a.db, "a", 2000)
		time.Sleep(3 * limitedFor)
		if direct, through := ways(b, a); direct > 0 || through == 0 {
			t.Errorf("b has %d direct connections with a and %d through the hub", direct, through)
		}
		for _, c := range b.node.host.Connections(a.id()) {
			if c.Limited {
				t.Errorf("a connection of members is limited: %+v", c)
			}
		}
		converge(t, 10*time.Second, hub, a, b)
		if moved := hub.node.Counters().RelayedBytes - before; moved == 0 {
			t.Error("the hub says that it carried nothing")
		}
		if r := hub.node.Reach(); r.Relay == nil || r.Relay.Places != 2 || r.Relay.Connections == 0 {
			t.Errorf("the hub tells of itself: %+v", r.Relay)
		}
	})
}

// Whoever joins by a ticket is unknown to the relay that the ticket leads through. It
// proves itself there first.
func TestATicketLeadsThroughARelay(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		hub, a, b := w.member(0), w.member(1), w.member(2)
		w.cut([]*member{a}, []*member{b})
		w.wall(a)
		w.wall(b)
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "a", 3000)
		hub.own(Config{Relay: true}, a)
		a.own(Config{}, hub)
		b.own(Config{})
		converge(t, 10*time.Second, hub, a)
		circuitOf(t, a)
		ticket, err := a.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.node.Join(t.Context(), ticket, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.Documents != 3000 {
			t.Errorf("%d documents came, want 3000", got.Documents)
		}
	})
}

// A relay that is no member carries enough to greet, and small differences.
func TestThroughAForeignRelayOnlySmallDifferencesPass(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		hub, a, b := w.member(0), w.member(1), w.member(2)
		w.wall(a)
		w.wall(b)
		addSchema(t, a.db, schemaText)
		hub.own(Config{Relay: true})
		a.own(Config{}, hub)
		b.own(Config{}, hub)
		circuitOf(t, a)
		ticket, err := a.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.node.Join(t.Context(), ticket, nil); err != nil {
			t.Fatal("an empty collection:", err)
		}
		eventually(t, 30*time.Second, func() (bool, string) {
			direct, _ := ways(b, a)
			return direct > 0, fmt.Sprint(b.node.host.Connections(a.id()))
		})
		createUsers(t, a.db, "a", 1)
		createUsers(t, b.db, "b", 1)
		converge(t, 10*time.Second, a, b)
		time.Sleep(2 * antiEntropyEvery) // each knows how far it is in the other's feed

		// Now no direct way is left, and b comes back.
		w.cut([]*member{a}, []*member{b})
		b.stop()
		createUsers(t, a.db, "few", 20)
		b.own(Config{}, hub)
		converge(t, 5*time.Minute, a, b)
		for _, c := range b.node.host.Connections(a.id()) {
			if !c.Limited {
				t.Errorf("the hub is no member, but does not limit: %+v", c)
			}
		}
		b.stop()
		createUsers(t, a.db, "many", 1000)
		b.own(Config{}, hub)
		eventually(t, 5*time.Minute, func() (bool, string) {
			s, err := b.node.Status(t.Context())
			text := fmt.Sprintf("%+v", s.Peers)
			return err == nil && strings.Contains(text, "Limited:true"), text
		})
		time.Sleep(time.Minute)
		if n := documents(t, b); n != 22 {
			t.Errorf("%d documents are there, want the 22 that came before", n)
		}
		w.heal([]*member{a}, []*member{b})
		converge(t, 10*time.Minute, a, b)
	})
}

// Two nodes that joined by a third know each other from it, and go on without it.
func TestMembersTellOfEachOther(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		center, b, c := w.member(0), w.member(1), w.member(2)
		addSchema(t, center.db, schemaText)
		center.own(Config{Exchange: true})
		ticket, err := center.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []*member{b, c} {
			m.own(Config{Exchange: true})
			if _, err := m.node.Join(t.Context(), ticket, nil); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, 30*time.Second, func() (bool, string) {
			direct, _ := ways(b, c)
			return direct > 0, "b is not connected with c"
		})
		w.cut([]*member{center}, []*member{b, c})
		createUsers(t, b.db, "b", 10)
		converge(t, 10*time.Second, b, c)
		if n := b.node.Counters().Introduced + c.node.Counters().Introduced; n == 0 {
			t.Error("the counters know of nobody introduced")
		}
	})
}

func TestRecordsOfPeersAreTheirOwn(t *testing.T) {
	t.Parallel()
	signed := func(signer, of int) []byte {
		key, _, err := crypto.GenerateEd25519Key(mathrand.NewChaCha8([32]byte{byte(signer)}))
		if err != nil {
			t.Fatal(err)
		}
		about, _, err := crypto.GenerateEd25519Key(mathrand.NewChaCha8([32]byte{byte(of)}))
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(about)
		if err != nil {
			t.Fatal(err)
		}
		var addrs []ma.Multiaddr
		for port := range 40 {
			addrs = append(addrs, ma.StringCast(fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", port+1)))
		}
		e, err := record.Seal(peer.PeerRecordFromAddrInfo(peer.AddrInfo{ID: id, Addrs: addrs}), key)
		if err != nil {
			t.Fatal(err)
		}
		b, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if got, err := readPeerRecord(signed(1, 1)); err != nil || len(got.Addrs) != maxAddrs {
		t.Errorf("a record with 40 addresses: %d of them, %v, want %d", len(got.Addrs), err, maxAddrs)
	}
	if _, err := readPeerRecord(signed(2, 1)); !errors.Is(err, fault.Invalid) {
		t.Errorf("a record that another signed: %v, want invalid", err)
	}
	if _, err := readPeerRecord([]byte{1, 2, 3}); err == nil {
		t.Error("no record is read as one")
	}
}

// Who asks for members has to be one, and gets no more than it asked for.
func TestStrangersAreToldOfNobody(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, stranger := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		a.own(Config{})
		stranger.own(Config{})
		to, err := peer.AddrInfoFromString(a.addr())
		if err != nil {
			t.Fatal(err)
		}
		if err := stranger.node.connect(t.Context(), *to); err != nil {
			t.Fatal(err)
		}
		s, err := stranger.node.open(t.Context(), a.id(), []protocol.ID{protocolPeers})
		if err != nil {
			t.Fatal(err)
		}
		wire := newAsking(s, &stranger.node.traffic)
		wire.version = protocolVersion
		_, err = stranger.node.receivePeers(wire, &getPeers{Proof: fill[proof](1), Most: 3})
		if !errors.Is(err, fault.Denied) {
			t.Errorf("a stranger asks for members: %v, want denied", err)
		}
	})
}

// Two members lost sight of each other, and have moved meanwhile. Both know a third
// node, which has nothing to do with what they share.
func TestTheDirectoryFindsAMemberThatNobodyIntroduced(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		third, a, b := w.member(0), w.member(1), w.member(2)
		addSchema(t, a.db, schemaText)
		third.own(Config{DHT: true})
		a.own(Config{}, b)
		b.own(Config{}, a)
		converge(t, 10*time.Second, a, b)
		a.stop()
		b.stop()
		a.port, b.port = 8001, 8002
		createUsers(t, a.db, "moved", 10)
		a.own(Config{DHT: true}, third)
		b.own(Config{DHT: true}, third)
		t.Logf("found after %v", converge(t, 10*time.Minute, a, b))
		for _, m := range []*member{a, b} {
			eventually(t, 2*listTimeout, func() (bool, string) {
				d := m.node.Reach().Directory
				return d != nil && d.Peers > 0 && d.Listed == 1, fmt.Sprintf("member %d says of its part: %+v", m.i, d)
			})
		}
		// In a network this small whoever looks for anything meets everybody. The entry is
		// there all the same.
		ring, _ := b.node.admission.keys()
		id := ring.ids[0]
		found := third.node.lookUp(t.Context(), claim{id, ring.secrets[id][0]})
		for _, m := range []*member{a, b} {
			if !slices.ContainsFunc(found, func(p peer.AddrInfo) bool { return p.ID == m.id() }) {
				t.Errorf("member %d is not listed: %v", m.i, found)
			}
		}
		if found := third.node.lookUp(t.Context(), claim{id, ident.Secret{1}}); len(found) > 0 {
			t.Errorf("under another secret somebody is listed: %v", found)
		}
		if n := len(third.db.Collections()); n != 0 {
			t.Errorf("the third node learned of %d collections", n)
		}
	})
}

// Nobody does anything: two nodes behind firewalls that know one hub hear of each other
// there, meet through it, and need it no more.
func TestMembersBehindFirewallsMeetByThemselves(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		hub, a, b := w.member(0), w.member(1), w.member(2)
		w.wall(a)
		w.wall(b)
		addSchema(t, hub.db, schemaText)
		hub.own(Config{Relay: true, Exchange: true}, a, b)
		a.own(Config{Exchange: true}, hub)
		b.own(Config{Exchange: true}, hub)
		took := eventually(t, exchangeEvery, func() (bool, string) {
			direct, through := ways(a, b)
			return direct > 0 && through == 0, fmt.Sprint(a.node.host.Connections(b.id()))
		})
		t.Logf("directly connected after %v", took)
		hub.stop()
		createUsers(t, a.db, "a", 10)
		converge(t, 10*time.Second, a, b)
	})
}

// A relay may die: there is another, and it is used again when it is back.
func TestWhoIsBehindAFirewallIsReachedByTwoRelays(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		first, second, third, a := w.member(0), w.member(1), w.member(2), w.member(3)
		w.wall(a)
		addSchema(t, first.db, schemaText)
		hubs := []*member{first, second, third}
		for _, h := range hubs {
			h.own(Config{Relay: true}, a)
		}
		a.own(Config{}, hubs...)
		through := func() (ids []string) {
			for _, r := range a.node.Reach().Relays {
				ids = append(ids, r.Relay)
			}
			return ids
		}
		eventually(t, time.Minute, func() (bool, string) { return len(through()) == relaysWanted, fmt.Sprint(through()) })
		used := through()
		for _, h := range hubs {
			if h.id().String() == used[0] {
				h.stop()
			}
		}
		eventually(t, time.Minute, func() (bool, string) {
			now := through()
			return len(now) == relaysWanted && !slices.Contains(now, used[0]), fmt.Sprint(now)
		})
		for _, at := range a.node.Info().Addrs {
			if strings.Contains(at, used[0]) {
				t.Errorf("the address %s leads through a relay that is gone", at)
			}
		}
		time.Sleep(3 * reserveFor) // places are renewed in time
		if now := through(); len(now) != relaysWanted {
			t.Errorf("after some hours the relays are %v", now)
		}
	})
}

package p2p

import (
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
)

// dialThrough connects a member with another through a hub, and returns the connection.
func dialThrough(t *testing.T, hub, from, to *member) network.Conn {
	t.Helper()
	at := ma.StringCast(hub.addr() + "/p2p-circuit")
	ctx := network.WithAllowLimitedConn(t.Context(), "test")
	if err := from.node.host.Connect(ctx, peer.AddrInfo{ID: to.id(), Addrs: []ma.Multiaddr{at}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range from.node.host.Network().ConnsToPeer(to.id()) {
		if relayed(c) {
			return c
		}
	}
	t.Fatal("the connection does not go through the hub")
	return nil
}

func hubOf(t *testing.T, hub *member) peer.AddrInfo {
	t.Helper()
	info, err := peer.AddrInfoFromString(hub.addr())
	if err != nil {
		t.Fatal(err)
	}
	return *info
}

// Strangers may use a relay to find a direct way, not to move what they like.
func TestARelayCarriesLittleForStrangers(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		hub, a, b := w.member(0), w.member(1), w.member(2)
		w.cut([]*member{a}, []*member{b})
		hub.own(Config{Relay: true})
		a.own(Config{})
		b.own(Config{})
		a.node.host.SetStreamHandler("/test/sink", func(s network.Stream) { io.Copy(io.Discard, s) })
		if _, err := circuit.Reserve(t.Context(), a.node.host, hubOf(t, hub)); err != nil {
			t.Fatal(err)
		}
		c := dialThrough(t, hub, b, a)
		if !c.Stat().Limited {
			t.Error("a connection of strangers has no limits")
		}
		s, err := b.node.host.NewStream(network.WithAllowLimitedConn(t.Context(), "test"), a.id(), "/test/sink")
		if err != nil {
			t.Fatal(err)
		}
		s.SetDeadline(time.Now().Add(time.Minute))
		for range 64 { // 1 MiB
			if _, err = s.Write(make([]byte, 16<<10)); err != nil {
				break
			}
		}
		if err == nil {
			t.Error("a stranger moved a megabyte through the relay")
		}
		if n := hub.node.Counters().RelayedBytes; n > 2*limitedBytes {
			t.Errorf("the relay carried %d bytes, allowed are %d each way", n, limitedBytes)
		}
		eventually(t, 2*limitedFor, func() (bool, string) {
			return hub.node.Reach().Relay.Connections == 0, "the relay goes on carrying the connection"
		})
	})
}

func TestAClosedRelayCarriesNoStrangers(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		hub, a := w.member(0), w.member(1)
		hub.own(Config{Relay: true, Closed: true})
		a.own(Config{})
		if _, err := circuit.Reserve(t.Context(), a.node.host, hubOf(t, hub)); err == nil {
			t.Error("a stranger has a place at a closed relay")
		}
	})
}

// Two strangers that turn out to be members are not held to the limits of strangers.
func TestLimitsEndWithTheProof(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		hub, a, b := w.member(0), w.member(1), w.member(2)
		w.cut([]*member{a}, []*member{b})
		addSchema(t, hub.db, schemaText)
		hub.own(Config{Relay: true})
		ticket, err := hub.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		a.own(Config{})
		b.own(Config{})
		if _, err := circuit.Reserve(t.Context(), a.node.host, hubOf(t, hub)); err != nil {
			t.Fatal(err)
		}
		c := dialThrough(t, hub, b, a)
		for _, m := range []*member{a, b} {
			if _, err := m.node.Join(t.Context(), ticket, nil); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, 10*time.Second, func() (bool, string) { return c.IsClosed(), "the limited connection stays" })
		if c := dialThrough(t, hub, b, a); c.Stat().Limited {
			t.Error("members are carried within limits")
		}
	})
}

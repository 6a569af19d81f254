package p2p

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	circuits "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
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
		if _, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT); err == nil {
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

// Strangers who ask a relay for one thing after the other, and wait for no answer, keep
// no member from its place.
func TestStrangersThatFillARelayLeaveMembersTheirPlaces(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		hub, a := w.member(0), w.member(1)
		addSchema(t, hub.db, schemaText)
		hub.own(Config{Relay: true}, a)
		var asking sync.WaitGroup
		defer asking.Wait()
		var strangers []*member
		for i := range maxAtDoor {
			x := w.member(2 + i)
			strangers = append(strangers, x)
			if err := x.up().Connect(t.Context(), hubOf(t, hub)); err != nil {
				t.Fatal(err)
			}
			asking.Go(func() {
				if _, err := circuit.Reserve(t.Context(), x.host, hubOf(t, hub)); err != nil {
					t.Errorf("stranger %d finds no place: %v", i, err)
				}
			})
		}
		asking.Wait()
		for _, x := range strangers {
			for range 100 {
				asking.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if s, err := x.host.NewStream(ctx, hub.id(), circuits.ProtoIDv2Hop); err == nil {
						s.Write([]byte{1}) // of a message that does not come
					}
				})
			}
		}
		asking.Wait()
		time.Sleep(time.Second) // until all have come
		open := 0
		for _, x := range strangers {
			n := 0
			for _, c := range hub.node.host.Network().ConnsToPeer(x.id()) {
				for _, s := range c.GetStreams() {
					if s.Protocol() == circuits.ProtoIDv2Hop {
						n++
					}
				}
			}
			if open += n; n > maxAskingOfStranger {
				t.Errorf("stranger %d has %d requests under way", x.i, n)
			}
		}
		if open == 0 {
			t.Error("no request is under way: this proves nothing")
		}
		a.own(Config{}, hub)
		if _, err := circuit.Reserve(t.Context(), a.node.host, hubOf(t, hub)); err != nil {
			t.Errorf("a member finds no place: %v", err)
		}
		if n := hub.node.Reach().Relay.Places; n > maxStrangerPlaces+1 {
			t.Errorf("%d places are taken", n)
		}
	})
}

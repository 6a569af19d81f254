package p2p

import (
	"context"
	"fmt"
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
		eventually(t, time.Second, func() (bool, string) { return len(a.node.connected()) > 1, "they have not met" })
		if to := a.node.relayedTo(); len(to) > 0 {
			t.Errorf("for strangers holes are punched again and again: %v", to)
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

// What strangers have carried takes nothing of what members may have carried, not even
// to the same peer, and each stranger leaves room for others.
func TestCarryingForStrangersTakesNothingFromMembers(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		hub := w.member(0)
		h := hub.own(Config{Relay: true}).hub
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
		hub.node.hub.mu.Lock()
		for p, n := range hub.node.hub.asking {
			if open += n; n > maxAskingOfStranger {
				t.Errorf("stranger %s has %d requests under way", p, n)
			}
		}
		hub.node.hub.mu.Unlock()
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

package p2p

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	manet "github.com/multiformats/go-multiaddr/net"
)

// The tests of this file are about the limits of a host as the node makes it, where the
// hosts of most others have none.

// Streams of which nobody says what they are for are not those of any protocol.
func TestStreamsThatAreForNothingStarveNobody(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		a.own(Config{}, b)
		for i := range 8 {
			x := w.member(2 + i)
			x.up()
			if err := x.host.Connect(t.Context(), hubOf(t, a)); err != nil {
				t.Fatal(err)
			}
			c := x.host.Network().ConnsToPeer(a.id())[0]
			for range 2 * streamsOfPeer {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				s, err := c.NewStream(ctx)
				cancel()
				if err != nil {
					break // the transport has limits of its own
				}
				s.Write([]byte{1})
			}
		}
		b.own(Config{}, a)
		converge(t, 3*time.Second, a, b)
	})
}

// Whoever connects and says nothing takes the place of nobody else.
func TestConnectionsThatSayNothingStarveNobody(t *testing.T) {
	a := startNode(t, openDB(t, ""), Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	b := startNode(t, openDB(t, ""), Config{})
	at, err := manet.ToNetAddr(a.host.Network().ListenAddresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range connsPerAddr {
		c, err := dialer.DialContext(t.Context(), "tcp", at.String())
		if err != nil {
			t.Skipf("another address of this machine: %v", err)
		}
		defer c.Close()
		c.Write([]byte("\x13/mu")) // as a peer begins
	}
	eventually(t, 10*time.Second, func() (bool, string) {
		var here network.ScopeStat
		a.host.Network().ResourceManager().ViewTransient(func(s network.ResourceScope) error { here = s.Stat(); return nil })
		return here.NumConnsInbound >= connsPerAddr, fmt.Sprintf("%d connections stand in the way", here.NumConnsInbound)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := b.Connect(ctx, a.Info().Addrs[0]+"/p2p/"+a.Info().ID); err != nil {
		t.Error(err)
	}
}

// Who tells a node whether others reach it does so under a name that nobody knows, and
// introduces itself to nobody.
func TestWhoDoesNotIntroduceItselfMaySayWhatItHasToSay(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, x := w.member(0), w.member(1)
		a.own(Config{})
		heard := make(chan struct{})
		a.node.host.SetStreamHandler("/test", func(s network.Stream) {
			close(heard)
			s.Close()
		})
		x.up().RemoveStreamHandler(identify.ID)
		if err := x.host.Connect(t.Context(), hubOf(t, a)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond) // of a dialer that takes its time
		if s, err := x.host.NewStream(network.WithNoDial(t.Context(), "test"), a.id(), "/test"); err != nil {
			t.Fatal(err)
		} else {
			s.Write([]byte{1})
		}
		select {
		case <-heard:
		case <-time.After(time.Second):
			t.Error("the connection was closed before it could say anything")
		}
		eventually(t, 10*time.Second, func() (bool, string) { return !a.node.host.Here(x.id()), "the connection that leads nowhere stays" })
	})
}

// What peers say of where they are is kept as long as they are connected, or strangers who
// come and go would leave no room for members.
func TestOfWhoLeftNothingIsToldToMembers(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, x := w.member(0), w.member(1)
		f := a.own(Config{}).finder
		count := func() int {
			f.mu.Lock()
			defer f.mu.Unlock()
			return len(f.records)
		}
		if err := x.up().Connect(t.Context(), hubOf(t, a)); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Second, func() (bool, string) { return count() == 1, "it did not introduce itself" })
		x.stop()
		eventually(t, time.Second, func() (bool, string) { return count() == 0, "what it said is kept" })
	})
}

package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/pace"
)

// Strangers, as many as there are places for members, greet now and then to keep
// theirs.
func TestStrangersStarveNobody(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		ctx, stop := context.WithCancel(t.Context())
		var strangers sync.WaitGroup
		defer strangers.Wait()
		defer stop()
		for i := range maxSessions / sessionsPerPeer {
			y := w.member(10 + i)
			h := y.up()
			if err := h.Connect(ctx, peer.AddrInfo{ID: a.id(), Addrs: a.host.Addrs()}); err != nil {
				t.Fatal(err)
			}
			for range sessionsPerPeer {
				strangers.Go(func() {
					for ctx.Err() == nil {
						s, err := h.NewStream(ctx, a.id(), protocolSync)
						if err != nil {
							return
						}
						wire := newWire(s, new(traffic))
						for wire.send(&hello{}) == nil {
							if _, err := wire.receive(); err != nil || !pace.Sleep(ctx, 5*time.Second) {
								break
							}
						}
						wire.abort()
						pace.Sleep(ctx, time.Second)
					}
				})
			}
		}
		time.Sleep(10 * time.Second)
		for range 20 {
			if _, err := b.node.sync(t.Context(), a.id(), errand{}); err != nil {
				t.Errorf("an honest peer is kept out: %v", err)
			}
			time.Sleep(5 * time.Second)
		}
		c := w.member(2) // whom nobody knows yet either
		c.start()
		ticket, err := a.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.node.Join(t.Context(), ticket, nil); err != nil {
			t.Errorf("nobody can join: %v", err)
		}
	})
}

func TestNothingIsKeptOfStrangers(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		_, a, b, _ := attack(t, w, false)
		for i := range 5 {
			y := w.member(10 + i)
			h := y.up()
			if err := h.Connect(t.Context(), peer.AddrInfo{ID: a.id(), Addrs: a.host.Addrs()}); err != nil {
				t.Fatal(err)
			}
			s, err := h.NewStream(t.Context(), a.id(), protocolSync)
			if err != nil {
				t.Fatal(err)
			}
			wire := newWire(s, new(traffic))
			wire.send(&hello{})
			wire.receive()
			if i == 0 {
				a.node.punish(y.id(), errors.New("for the test"))
			}
			y.stop()
		}
		time.Sleep(quarantine + 2*sweepEvery)
		a.node.admission.mu.Lock()
		proofs, members := len(a.node.admission.proofs), len(a.node.admission.members)
		a.node.admission.mu.Unlock()
		a.node.mu.Lock()
		banned := len(a.node.banned)
		a.node.mu.Unlock()
		if proofs > 1 || members != 1 || banned != 0 {
			t.Errorf("kept of strangers: proofs %d, members %d, banned %d, want those of one member", proofs, members, banned)
		}
		id := b.id()
		if err := a.node.Forget(id.String()); err != nil {
			t.Fatal(err)
		}
		b.stop()
		time.Sleep(2 * sweepEvery)
		a.node.cursors.mu.Lock()
		defer a.node.cursors.mu.Unlock()
		if n := len(a.node.cursors.at); n != 0 {
			t.Errorf("%d cursors of nobody", n)
		}
	})
}

func TestAFailedConnectTrustsNobody(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		a.start()
		if err := a.node.Connect(t.Context(), b.addr()); err == nil {
			t.Error("connected to nobody")
		}
		if len(a.node.Peers()) > 0 || a.node.named(b.id()) {
			t.Error("a peer that could not be reached is trusted")
		}
		for i := range maxReplicators {
			a.node.replicators[peer.ID(fmt.Sprint(i))] = &replicator{due: pace.NewAlarm()}
		}
		if err := a.node.AddReplicator(t.Context(), b.addr(), nil); err == nil || a.node.named(b.id()) {
			t.Errorf("a replicator too many: got %v, and its peer is trusted: %v", err, a.node.named(b.id()))
		}
		clear(a.node.replicators)
	})
}

// What is remembered after a restart is what held last.
func TestNotesSayWhatHeldLast(t *testing.T) {
	db := openDB(t, "")
	n := startNode(t, db, Config{})
	id, err := peer.Decode("12D3KooWKRyzVWW6ChFjQjK4miCty85Niy48tpPV95XdKu1BcvMA")
	if err != nil {
		t.Fatal(err)
	}
	addr := "/ip4/127.0.0.1/tcp/1/p2p/" + id.String()
	for range 50 {
		var at sync.WaitGroup
		at.Go(func() { n.AddReplicator(t.Context(), addr, nil) })
		at.Go(func() { n.RemoveReplicator(t.Context(), id.String(), nil) })
		at.Go(func() { n.Forget(id.String()) })
		at.Go(func() {
			n.remember(peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/2")}}, false)
		})
		at.Wait()
		noted, err := n.notes.peers()
		if err != nil {
			t.Fatal(err)
		}
		replicators, err := n.notes.replicators()
		if err != nil {
			t.Fatal(err)
		}
		n.mu.Lock()
		known, ok := n.known[id]
		pushed := len(n.replicators)
		n.mu.Unlock()
		if was, is := noted[id]; is != ok || was.trusted != known.trusted || len(was.addrs) != len(known.addrs) || len(replicators) != pushed {
			t.Fatalf("noted %+v %v and %d replicators, while %+v %v and %d hold", was, is, len(replicators), known, ok, pushed)
		}
	}
}

func TestNamedPeersDoNotWaitForTheDead(t *testing.T) {
	n := startNode(t, openDB(t, ""), Config{})
	n.stop(errors.New("nothing is dialed but by this test"))
	n.tasks.Wait()
	somewhere := []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/9171")}
	now := time.Now()
	for i := range 100 {
		n.known[peer.ID(fmt.Sprint("dead", i))] = acquaintance{addrs: somewhere, seen: now.Add(-time.Duration(i) * time.Hour)}
	}
	due, _ := n.dialable(now)
	if len(due) != maxDials || due[0].ID != "dead0" {
		t.Errorf("%d dials, of %v first: want %d, the last seen first", len(due), due[0].ID, maxDials)
	}
	n.known["named"] = acquaintance{addrs: somewhere, trusted: true}
	if due, _ := n.dialable(now); len(due) != 1 || due[0].ID != "named" {
		t.Errorf("while others are being dialed: got %v, want the one named", due)
	}
}

func TestTheLongestUnseenMakesRoom(t *testing.T) {
	n := startNode(t, openDB(t, ""), Config{})
	n.mu.Lock()
	for i := range maxKnownPeers {
		n.known[peer.ID(fmt.Sprint("gone", i))] = acquaintance{seen: time.Now().Add(-time.Duration(i+1) * time.Minute)}
	}
	n.known["named"] = acquaintance{trusted: true}
	n.mu.Unlock()
	oldest := peer.ID(fmt.Sprint("gone", maxKnownPeers-1))
	if err := n.remember(peer.AddrInfo{ID: "new"}, false); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	_, stays := n.known[oldest]
	_, fresh := n.known["new"]
	_, named := n.known["named"]
	n.mu.Unlock()
	if stays || !fresh || !named {
		t.Errorf("the oldest stays: %v; the new one is known: %v; the one named: %v", stays, fresh, named)
	}
	n.sweepOnce(time.Now().Add(2 * forgetAfter))
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.known) != 1 {
		t.Errorf("%d peers are known after two months, want the one named", len(n.known))
	}
}

// relay passes packets on between one client and a server, until it is cut.
func relay(t *testing.T, server *net.UDPAddr) (at int, cut func()) {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.DialUDP("udp", nil, server)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // guards client
	var client *net.UDPAddr
	var running sync.WaitGroup
	running.Go(func() {
		for b := make([]byte, 2048); ; {
			n, from, err := front.ReadFromUDP(b)
			if err != nil {
				return
			}
			mu.Lock()
			client = from
			mu.Unlock()
			back.Write(b[:n])
		}
	})
	running.Go(func() {
		for b := make([]byte, 2048); ; {
			n, err := back.Read(b)
			if err != nil {
				return
			}
			mu.Lock()
			to := client
			mu.Unlock()
			front.WriteToUDP(b[:n], to)
		}
	})
	var once sync.Once
	cut = func() {
		once.Do(func() {
			front.Close()
			back.Close()
			running.Wait()
		})
	}
	t.Cleanup(cut)
	return front.LocalAddr().(*net.UDPAddr).Port, cut
}

func TestCloseDoesNotWaitForTheDead(t *testing.T) {
	a := startNode(t, openDB(t, ""), Config{Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}})
	b := startNode(t, openDB(t, ""), Config{Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}})
	port := 0
	for _, p := range strings.Split(a.Info().Addrs[0], "/") {
		fmt.Sscan(p, &port)
		if port > 1024 {
			break
		}
	}
	at, cut := relay(t, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err := b.Connect(t.Context(), fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1/p2p/%s", at, a.Info().ID)); err != nil {
		t.Fatal(err)
	}
	cut()
	start := time.Now()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("close took %v with a peer that is dead", took)
	}
}

// When there are too many connections, those of strangers go.
func TestConnectionsOfMembersAreKept(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		_, a, b, _ := attack(t, w, false)
		c := w.member(4)
		c.start()
		ticket, err := a.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.node.Join(t.Context(), ticket, nil); err != nil {
			t.Fatal(err)
		}
		conns := a.host.ConnManager()
		if !conns.IsProtected(b.id(), connTag) {
			t.Error("a named peer is not protected")
		}
		if info := conns.GetTagInfo(c.id()); info == nil || info.Tags[connTag] != memberValue {
			t.Errorf("a member has no value: %+v", info)
		}
	})
}

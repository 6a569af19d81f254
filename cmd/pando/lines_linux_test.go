package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando/api"
)

// onLines makes hosts with addresses 20.0.0.1, 2, … joined by lines of a quality. The
// nodes take those for public ones; nothing leaves the namespaces.
func onLines(t *testing.T, line quality, names ...string) (*exchange, []*host) {
	t.Helper()
	return onLinesAt(t, line, "20.0.0", names...)
}

func onLinesAt(t *testing.T, line quality, network string, names ...string) (*exchange, []*host) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts nodes on hosts of their own")
	}
	x := newExchange(t, line)
	var hosts []*host
	for i, name := range names {
		h := newHost(t, name)
		x.plug(h, fmt.Sprintf("%s.%d", network, i+1), nil)
		hosts = append(hosts, h)
	}
	return x, hosts
}

// status is what the host's node says about itself and its peers.
func (h *host) status() (s api.Status) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.run("", "status", "--json")), &s); err != nil {
		h.t.Fatal(err)
	}
	return s
}

// notes makes n documents with some text each.
func notes(from, n int) string {
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "{\"text\":\"note %d %s\"}\n", from+i, strings.Repeat("x", 100))
	}
	return lines.String()
}

// agree waits until two hosts hold the same documents, n of them.
func agree(t *testing.T, n uint64, a, b *host) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		x, y := a.status(), b.status()
		if x.Root == y.Root && x.Documents == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s and %s do not agree: %d and %d documents, want %d\n%s\n%s", a.name, b.name, x.Documents, y.Documents, n,
				a.run("", "status"), b.run("", "status"))
		}
	}
}

// A bad line: one packet in twenty is lost, one in ten overtakes others, 100 ms
// there and back, 10 Mbit/s.
func TestABadLine(t *testing.T) {
	x, hosts := onLines(t, quality{delay: 50 * time.Millisecond, loss: 0.05, reorder: 0.1, rate: 10_000_000}, "ada", "bob")
	ada, bob := hosts[0], hosts[1]
	ada.start()
	bob.start()
	ada.run("type Note { text: String }", "schema", "add", "-")
	ada.run(notes(0, 2000), "import", "Note", "-")
	bob.run(ada.run("", "share", "Note"), "join", "-")
	agree(t, 2000, ada, bob)
	bob.run(notes(2000, 200), "import", "Note", "-")
	ada.run(notes(2200, 200), "import", "Note", "-")
	agree(t, 2400, ada, bob)
	if x.carried() < 100 {
		t.Errorf("the line carried %d packets: the nodes took another way", x.carried())
	}
}

// A line that is cut in the middle of a transfer: what came stays, and the rest
// comes when the line is back.
func TestALineIsCutInTheMiddle(t *testing.T) {
	slow := quality{delay: 10 * time.Millisecond, rate: 4_000_000}
	x, hosts := onLines(t, slow, "ada", "bob")
	ada, bob := hosts[0], hosts[1]
	ada.start()
	bob.start()
	ada.run("type Note { text: String }", "schema", "add", "-")
	ada.run(notes(0, 10_000), "import", "Note", "-")
	ticket := ada.run("", "share", "Note")
	join := bob.command("join", "-")
	join.Stdin = strings.NewReader(ticket)
	if err := join.Start(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for bob.status().Documents < 1000 {
		if time.Since(began) > time.Minute {
			t.Fatal("nothing comes")
		}
	}
	x.quality(quality{cut: true})
	ada.run(notes(10_000, 100), "import", "Note", "-")
	got := bob.status().Documents
	if got >= 10_000 {
		t.Fatal("everything came before the line was cut")
	}
	join.Wait() // it may give up, or go on: the node goes on anyway
	x.quality(slow)
	agree(t, 10_100, ada, bob)
}

// A node behind a router with NAT takes part: it reaches the other, and what the
// other makes reaches it.
func TestANATBetween(t *testing.T) {
	x, hosts := onLines(t, quality{delay: 5 * time.Millisecond}, "ada")
	ada, bob := hosts[0], newHost(t, "bob")
	x.plug(bob, "192.168.1.2", newNAT("21.0.0.1", false))
	ada.start()
	bob.start()
	ada.run("type Note { text: String }", "schema", "add", "-")
	bob.run(ada.run("", "share", "Note"), "join", "-")
	ada.run(notes(0, 10), "import", "Note", "-")
	bob.run(notes(10, 10), "import", "Note", "-")
	agree(t, 20, ada, bob)
	bob.stop()
	ada.run(notes(20, 10), "import", "Note", "-")
	bob.start()
	agree(t, 30, ada, bob)
}

// behindRouters makes ada and bob, each behind a router of its own, and a hub with a
// public address that relays. Ada has joined the hub; bob gets a ticket of ada's.
func behindRouters(t *testing.T, hard bool) (hub, ada, bob *host) {
	t.Helper()
	return behindRoutersAt(t, hard, "20.0.0", "21.0.0.1", "22.0.0.1")
}

func behindRoutersAt(t *testing.T, hard bool, network, first, second string) (hub, ada, bob *host) {
	t.Helper()
	x, hosts := onLinesAt(t, quality{delay: 10 * time.Millisecond}, network, "hub")
	hub, ada, bob = hosts[0], newHost(t, "ada"), newHost(t, "bob")
	x.plug(ada, "192.168.1.2", newNAT(first, hard))
	x.plug(bob, "192.168.2.2", newNAT(second, hard))
	hub.start("--relay")
	ada.start()
	bob.start()
	hub.run("type Note { text: String }", "schema", "add", "-")
	ada.run(hub.run("", "share", "Note"), "join", "-")
	var ticket string
	patiently(t, time.Minute, "ada has no address by way of the hub", func() bool {
		return strings.Contains(ada.run("", "peer", "info"), "p2p-circuit")
	})
	ticket = ada.run("", "share", "Note")
	bob.run(ticket, "join", "-")
	return hub, ada, bob
}

func patiently(t *testing.T, d time.Duration, otherwise string, fn func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !fn(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(otherwise)
		}
	}
}

// Two nodes behind routers meet at a relay, and punch a hole: then they need it no more.
func TestNodesBehindRoutersMeetDirectly(t *testing.T) {
	hub, ada, bob := behindRouters(t, false)
	patiently(t, time.Minute, "no hole was punched", func() bool { return bob.direct(ada) })
	hub.stop()
	ada.run(notes(0, 10), "import", "Note", "-")
	agree(t, 10, ada, bob)
}

// Where routers cannot be punched through, the relay carries on.
func TestNodesBehindHardRoutersGoOnThroughTheRelay(t *testing.T) {
	_, ada, bob := behindRouters(t, true)
	ada.run(notes(0, 1000), "import", "Note", "-")
	bob.run(notes(1000, 10), "import", "Note", "-")
	agree(t, 1010, ada, bob)
	if bob.direct(ada) {
		t.Error("the routers of this test can be punched through: it shows nothing")
	}
}

// Where no address is a public one, nodes go on through the relay, and end when they
// are told to: nothing waits for an address.
func TestNodesWithoutPublicAddressesEnd(t *testing.T) {
	_, ada, bob := behindRoutersAt(t, false, "203.0.113", "198.51.100.1", "198.51.100.2")
	ada.run(notes(0, 10), "import", "Note", "-")
	agree(t, 10, ada, bob)
	time.Sleep(5 * time.Second) // by then, punching would have begun
	bob.stop()
	ada.stop()
}

// direct reports whether the host has a connection with another's node that no relay
// carries.
func (h *host) direct(to *host) bool {
	h.t.Helper()
	id, _, _ := strings.Cut(to.run("", "peer", "info"), "\n")
	for _, p := range h.status().Peers {
		if p.ID == id {
			return p.Connected && p.Direct()
		}
	}
	return false
}

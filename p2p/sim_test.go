package p2p

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"

	"github.com/pandodb/pando"
)

// world is a network of nodes under virtual time: the real protocols and
// databases, on wires that exist only here.
type world struct {
	t   *testing.T
	net *simnet.Simnet

	bits int // per second of each member's line, both ways; 0: those of link

	mu      sync.Mutex
	latency time.Duration // one way
	cuts    map[[2]string]bool
	walls   map[string]map[string]bool // by the IP address of who is behind: to whom it sent something
}

// member is one machine of a world.
type member struct {
	w    *world
	i    int
	dir  string
	port int
	key  crypto.PrivKey
	db   *pando.DB
	host host.Host
	node *Node

	config Config // of the node, beside host and peers
}

const mbit = 1_000_000

var link = simnet.NodeBiDiLinkSettings{
	Downlink: simnet.LinkSettings{BitsPerSecond: 100 * mbit},
	Uplink:   simnet.LinkSettings{BitsPerSecond: 100 * mbit},
}

// raceDetector is whether the tests run with it.
var raceDetector bool

// simulate runs fn in a world of its own, beside those of other tests: what is measured
// in one is counted, or virtual.
func simulate(t *testing.T, rtt time.Duration, fn func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	simulateInTurn(t, rtt, fn)
}

// simulateInTurn is simulate beside no other test, for what the whole process shows, or
// for several worlds of one test. With the race detector of Go 1.26 timers
// under virtual time crash the runtime now and then (in racereleaseacquireg, called
// for a timer of a bubble on an idle thread), so there it has to be asked for.
func simulateInTurn(t *testing.T, rtt time.Duration, fn func(t *testing.T, w *world)) {
	t.Helper()
	if raceDetector && os.Getenv("PANDO_RACE_SIMULATED") == "" {
		t.Skip("the race detector and virtual time do not go together: set PANDO_RACE_SIMULATED=1 to try")
	}
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, latency: rtt / 2, cuts: map[[2]string]bool{}, walls: map[string]map[string]bool{}}
		w.net = &simnet.Simnet{LatencyFunc: w.route, Logger: slog.New(slog.DiscardHandler)}
		w.net.Start()
		// The library tells again in up to a second what a queue had no room for, and does
		// not look whether it is closed before.
		t.Cleanup(func() { time.Sleep(2 * time.Second) })
		t.Cleanup(w.net.Close)
		fn(t, w)
	})
}

var nowhere = &net.UDPAddr{IP: net.IPv4(203, 0, 113, 1).To4(), Port: 1}

func (w *world) route(p *simnet.Packet) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	from, to := hostOf(p.From), hostOf(p.To)
	if w.cuts[[2]string{from, to}] || w.cuts[[2]string{to, from}] {
		p.To = nowhere
		return w.latency
	}
	if sent := w.walls[from]; sent != nil {
		sent[p.To.String()] = true
	}
	if sent := w.walls[to]; sent != nil && !sent[p.From.String()] {
		p.To = nowhere
	}
	return w.latency
}

func hostOf(a net.Addr) string { return a.(*net.UDPAddr).IP.String() }

// cut loses all packets between two groups of members.
func (w *world) cut(a, b []*member)  { w.setCut(a, b, true) }
func (w *world) heal(a, b []*member) { w.setCut(a, b, false) }

func (w *world) setCut(a, b []*member, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range a {
		for _, y := range b {
			w.cuts[[2]string{x.ip(), y.ip()}] = cut
		}
	}
}

// member makes a machine with an empty database.
func (w *world) member(i int) *member { return w.memberAt(i, "") }

// memberAt makes one whose database is in a directory.
func (w *world) memberAt(i int, dir string) *member {
	w.t.Helper()
	m := &member{w: w, i: i, dir: dir, port: 8000, key: keyOf(w.t, i), db: openDB(w.t, dir)}
	w.t.Cleanup(m.stop)
	return m
}

// keyOf returns the key of a member, always the same.
func keyOf(t *testing.T, i int) crypto.PrivKey {
	t.Helper()
	private, _, err := crypto.GenerateEd25519Key(rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), 1}))
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func (w *world) members(n int) []*member {
	w.t.Helper()
	ms := make([]*member, n)
	for i := range ms {
		ms[i] = w.member(i)
	}
	return ms
}

func (m *member) ip() string { return simnet.IntToPublicIPv4(m.i).String() }
func (m *member) id() peer.ID {
	id, err := peer.IDFromPrivateKey(m.key)
	if err != nil {
		m.w.t.Fatal(err)
	}
	return id
}
func (m *member) addr() string {
	return fmt.Sprintf("/ip4/%s/udp/%d/quic-v1/p2p/%s", m.ip(), m.port, m.id())
}

// line is how a member is connected.
func (w *world) line() simnet.NodeBiDiLinkSettings {
	if w.bits == 0 {
		return link
	}
	each := simnet.LinkSettings{BitsPerSecond: w.bits}
	return simnet.NodeBiDiLinkSettings{Downlink: each, Uplink: each}
}

// up starts the member's host.
func (m *member) up() host.Host {
	m.w.t.Helper()
	h, err := libp2p.New(
		libp2p.Identity(m.key),
		libp2p.ListenAddrStrings(strings.Split(m.addr(), "/p2p/")[0]),
		simlibp2p.QUICSimnet(m.w.net, m.w.line()),
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.DisableMetrics(),
		libp2p.DisableRelay(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
	)
	if err != nil {
		m.w.t.Fatal(err)
	}
	m.host = h
	return h
}

// start makes the member a node that trusts the given members.
func (m *member) start(trusted ...*member) *Node {
	m.w.t.Helper()
	var peers []string
	for _, p := range trusted {
		peers = append(peers, p.addr())
	}
	c := m.config
	c.Host, c.Peers = m.up(), peers
	if os.Getenv("PANDO_LOG") != "" {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", m.i)
	}
	n, err := Start(m.w.t.Context(), m.db, c)
	if err != nil {
		m.w.t.Fatal(err)
	}
	m.node = n
	return n
}

// stop ends the node and the host; the database stays.
func (m *member) stop() {
	if m.node != nil {
		m.node.Close()
		m.node = nil
	}
	if m.host != nil {
		m.host.Close()
		m.host = nil
	}
}

// restart ends everything, loses what is in memory only, and starts again.
func (m *member) restart(trusted ...*member) *Node {
	m.w.t.Helper()
	m.stop()
	m.reopen()
	return m.start(trusted...)
}

func (m *member) reopen() {
	m.w.t.Helper()
	if err := m.db.Close(); err != nil {
		m.w.t.Fatal(err)
	}
	m.db = openDB(m.w.t, m.dir)
}

// startAll starts members that all trust the first, and the first all of them.
func startAll(ms []*member) {
	ms[0].start(ms[1:]...)
	for _, m := range ms[1:] {
		m.start(ms[0])
	}
}

// holdings describes what databases hold, one line each, and looks again only at those
// that changed: it is asked for every millisecond.
type holdings struct {
	lines []string
	at    []state
}

type state struct {
	db          *pando.DB
	seq         uint64
	collections int
}

func (h *holdings) look(t *testing.T, dbs []*pando.DB) []string {
	t.Helper()
	if h.at == nil {
		h.lines, h.at = make([]string, len(dbs)), make([]state, len(dbs))
	}
	for i, db := range dbs {
		now := state{db, db.Seq(), len(db.Collections())}
		if h.at[i] == now {
			continue
		}
		sums, err := db.Replica().Summaries(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, s := range sums {
			fmt.Fprintf(&b, "%s %d %x ", s.Name, s.Documents, s.Root[:8])
		}
		h.lines[i], h.at[i] = b.String(), now
	}
	return h.lines
}

// roots describes what each member holds, one line each.
func roots(ms []*member) []string { return new(holdings).look(ms[0].w.t, databases(ms)) }

func databases(ms []*member) (dbs []*pando.DB) {
	for _, m := range ms {
		dbs = append(dbs, m.db)
	}
	return dbs
}

func same(lines []string) bool {
	for _, l := range lines {
		if l != lines[0] || l == "" {
			return false
		}
	}
	return true
}

// converge waits until all members hold the same, and returns how long it took.
func converge(t *testing.T, within time.Duration, ms ...*member) time.Duration {
	t.Helper()
	return equal(t, within, func() []*pando.DB { return databases(ms) })
}

// equal waits until databases hold the same, and returns how long it took.
func equal(t *testing.T, within time.Duration, dbs func() []*pando.DB) time.Duration {
	t.Helper()
	var h holdings
	return eventually(t, within, func() (bool, string) {
		lines := h.look(t, dbs())
		return same(lines), strings.Join(lines, "\n")
	})
}

// eventually waits in virtual time.
func eventually(t *testing.T, within time.Duration, ok func() (bool, string)) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		done, what := ok()
		if took := time.Since(start); done {
			return took
		} else if took > within {
			t.Fatalf("not within %v:\n%s", within, what)
		}
		time.Sleep(time.Millisecond)
	}
}

func documents(t *testing.T, m *member) uint64 {
	t.Helper()
	sums, err := m.db.Replica().Summaries(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for _, s := range sums {
		n += s.Documents
	}
	return n
}

// Two nodes that name each other need nothing else: the schema, and which secret
// of the two that they made is to hold, travel with the first session.
func TestNamedPeersConverge(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(2)
		addSchema(t, ms[0].db, schemaText)
		createUsers(t, ms[0].db, "a", 100)
		startAll(ms)
		t.Logf("schema and 100 documents after %v", converge(t, 5*time.Second, ms...))
	})
}

func TestBothSidesBroughtTheSameSchema(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(2)
		for i, m := range ms {
			addSchema(t, m.db, schemaText)
			createUsers(t, m.db, fmt.Sprint("node", i), 100)
		}
		startAll(ms)
		converge(t, 5*time.Second, ms...)
		if n := documents(t, ms[1]); n != 200 {
			t.Errorf("%d documents, want 200", n)
		}
	})
}

func TestEightNodesConvergeLive(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(8)
		addSchema(t, ms[0].db, schemaText)
		createUsers(t, ms[0].db, "first", 50)
		startAll(ms)
		t.Logf("all have the schema and 50 documents after %v", converge(t, 10*time.Second, ms...))
		for i, m := range ms {
			createUsers(t, m.db, fmt.Sprint("live", i), 5)
		}
		t.Logf("live changes of all are everywhere after %v", converge(t, 5*time.Second, ms...))
	})
}

func TestPartitionHeals(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(8)
		addSchema(t, ms[0].db, schemaText)
		startAll(ms)
		converge(t, 10*time.Second, ms...)
		left, right := ms[:4], ms[4:]
		w.cut(left, right)
		time.Sleep(2 * time.Minute) // connections break
		createUsers(t, ms[1].db, "left", 20)
		createUsers(t, ms[6].db, "right", 20)
		time.Sleep(time.Minute)
		w.heal(left, right)
		t.Logf("healed after %v", converge(t, 10*time.Minute, ms...))
		if n := documents(t, ms[7]); n != 40 {
			t.Errorf("%d documents, want 40", n)
		}
	})
}

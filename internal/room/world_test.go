package room

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
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

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/ident"
)

// world is a network of members under virtual time: the real gossip, on wires that exist
// only here.
type world struct {
	t   *testing.T
	net *simnet.Simnet
}

// notes is the one collection that there is, Note.
var notes = dag.CollectionID{1}

// member is a node that shares notes with whomever it is connected with.
type member struct {
	host.Host
	t       testing.TB
	key     ident.Key
	gossip  *gossip.Gossip
	rooms   *Rooms
	mu      sync.Mutex // guards what follows
	secrets map[dag.CollectionID][]ident.Secret
	changed chan struct{}
}

// raceDetector is whether the tests run with it.
var raceDetector bool

// simulate runs fn in a world of its own, beside those of other tests.
func simulate(t *testing.T, rtt time.Duration, fn func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	if raceDetector {
		t.Skip("the race detector and virtual time do not go together: see package p2p")
	}
	synctest.Test(t, func(t *testing.T) {
		w := &world{t, &simnet.Simnet{LatencyFunc: func(*simnet.Packet) time.Duration { return rtt / 2 }, Logger: slog.New(slog.DiscardHandler)}}
		w.net.Start()
		t.Cleanup(func() { time.Sleep(2 * time.Second) }) // the library looks later whether it is closed
		t.Cleanup(w.net.Close)
		fn(t, w)
	})
}

// members makes members that nobody is connected with.
func (w *world) members(n int) []*member {
	w.t.Helper()
	fast := simnet.LinkSettings{BitsPerSecond: 100_000_000}
	ms := make([]*member, n)
	for i := range ms {
		ms[i] = newMember(w.t, byte(i), libp2p.ListenAddrStrings(fmt.Sprintf("/ip4/%s/udp/8000/quic-v1", simnet.IntToPublicIPv4(i))),
			simlibp2p.QUICSimnet(w.net, simnet.NodeBiDiLinkSettings{Downlink: fast, Uplink: fast}))
	}
	return ms
}

// chat makes members that all know nobody but the first.
func (w *world) chat(n int) []*member {
	w.t.Helper()
	ms := w.members(n)
	for _, m := range ms[1:] {
		m.meet(ms[0])
	}
	return ms
}

func newMember(t testing.TB, i byte, how ...libp2p.Option) *member {
	t.Helper()
	own, _, err := crypto.GenerateEd25519Key(rand.NewChaCha8([32]byte{i, 1}))
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(append(how, libp2p.Identity(own), libp2p.DisableIdentifyAddressDiscovery(), libp2p.DisableMetrics(),
		libp2p.DisableRelay(), libp2p.ResourceManager(&network.NullResourceManager{}))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(context.Background())
	m := &member{Host: h, t: t, key: newKey(t, i+100), changed: make(chan struct{}), secrets: map[dag.CollectionID][]ident.Secret{notes: {{9}}}}
	m.gossip = gossip.New(gossip.Config{Ties: m, Quarantine: time.Minute})
	m.rooms = New(ctx, Config{Key: m.key, Gossip: m.gossip, Members: m})
	if err := m.gossip.Start(ctx, h); err != nil {
		t.Fatal(err)
	}
	var run sync.WaitGroup
	run.Go(func() { m.rooms.Run(ctx) })
	t.Cleanup(func() {
		stop(fault.Closed.Errorf("the node is closed"))
		run.Wait()
		h.Close()
	})
	return m
}

func newKey(t testing.TB, n byte) ident.Key {
	t.Helper()
	k, err := ident.GenerateFrom(ident.EdDSA, bytes.NewReader(bytes.Repeat([]byte{n}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// meet connects two members.
func (m *member) meet(o *member) {
	m.t.Helper()
	if err := m.Connect(m.t.Context(), peer.AddrInfo{ID: o.ID(), Addrs: o.Addrs()}); err != nil {
		m.t.Fatal(err)
	}
}

// vanish ends all connections, without a word in any room.
func (m *member) vanish() {
	for _, p := range m.Network().Peers() {
		m.Network().ClosePeer(p)
	}
}

// adopt gives a member other secrets of notes.
func (m *member) adopt(secrets []ident.Secret) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secrets = map[dag.CollectionID][]ident.Secret{notes: secrets}
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *member) Collection(name string) (dag.CollectionID, error) {
	if name != "Note" {
		return dag.CollectionID{}, fault.NotFound.Errorf("no collection %s", name)
	}
	return notes, nil
}

func (m *member) Names() map[dag.CollectionID]string {
	return map[dag.CollectionID]string{notes: "Note"}
}

func (m *member) Secrets() (map[dag.CollectionID][]ident.Secret, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.secrets, m.changed
}

func (m *member) Sharing(dag.CollectionID) []peer.ID { return m.Network().Peers() }

func (m *member) Follows(p peer.ID, topics []string) { m.rooms.Follows(p, topics) }

func (m *member) Lost(p peer.ID, topics []string) {
	if slices.ContainsFunc(topics, func(name string) bool { return !m.rooms.Lost(name) }) {
		m.t.Errorf("of %q some is no room", topics)
	}
}

func (m *member) Locked(peer.ID) bool                       { return false }
func (m *member) Banned(peer.ID) bool                       { return false }
func (m *member) Standing(peer.ID) float64                  { return 0 }
func (m *member) Scored(map[peer.ID]float64)                {}
func (m *member) Grafted(peer.ID, string)                   {}
func (m *member) Moved(peer.ID, dag.CollectionID, int, int) {}

// eventually waits in virtual time.
func eventually(t *testing.T, within time.Duration, ok func() (bool, string)) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		done, what := ok()
		if done {
			return
		}
		if time.Since(start) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

package p2p

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/fault"
)

// knock connects a machine without a node to a member, and returns whether it is
// still connected after a time.
func knock(t *testing.T, x, a *member, after time.Duration) bool {
	t.Helper()
	if x.host == nil {
		x.up()
	}
	x.host.Connect(t.Context(), peer.AddrInfo{ID: a.id(), Addrs: a.host.Addrs()})
	time.Sleep(after)
	return a.host.Network().Connectedness(x.id()) == network.Connected
}

func TestAnAllowListKeepsEverybodyElseOut(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, friend, named, other := w.member(0), w.member(1), w.member(2), w.member(3)
		a.config.Allow = []string{friend.id().String()}
		a.start()
		if knock(t, other, a, time.Second) {
			t.Error("a peer that is not on the list is connected")
		}
		if !knock(t, friend, a, time.Minute) {
			t.Error("a peer on the list was sent away")
		}
		named.start()
		if err := a.node.Connect(t.Context(), named.addr()); err != nil {
			t.Errorf("a peer that the operator names: %v", err)
		}
		if err := a.node.Allow(other.id().String()); err != nil {
			t.Fatal(err)
		}
		if !knock(t, other, a, time.Minute) {
			t.Error("a peer that was allowed later was sent away")
		}
		if err := a.node.Unlist(other.id().String()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if a.host.Network().Connectedness(other.id()) == network.Connected {
			t.Error("a peer that was taken off the list is connected still")
		}
		if c := a.node.Counters(); c.Gated < 2 {
			t.Errorf("%d connections were counted as refused, want at least 2", c.Gated)
		}
	})
}

func TestWhoIsDeniedStaysOutsideWhateverSpeaksForIt(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		if err := a.node.Deny(b.id().String()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := a.node.companion(b.id()); err == nil {
			t.Error("a named peer is connected although it is denied")
		}
		if err := a.node.Connect(t.Context(), b.addr()); !errors.Is(err, fault.Denied) {
			t.Errorf("connect to a peer that is denied: %v, want kind Denied", err)
		}
		if err := a.node.Allow(b.id().String()); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, func() (bool, string) {
			_, err := a.node.companion(b.id())
			return err == nil, "it was allowed again, and is not connected"
		})
	})
}

// A closed node without a list: whoever has a ticket gets in, others are gone after
// ten seconds.
func TestAClosedNodeSendsStrangersAway(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b, x := w.member(0), w.member(1), w.member(2)
		a.config.Closed = true
		addSchema(t, a.db, schemaText)
		createUsers(t, a.db, "a", 5)
		a.start()
		b.start()
		ticket, err := a.node.Share(nil)
		if err != nil {
			t.Fatal(err)
		}
		if !knock(t, x, a, time.Second) {
			t.Error("a stranger has no time to prove anything")
		}
		if _, err := b.node.Join(t.Context(), ticket, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(strangerTimeout)
		if a.host.Network().Connectedness(x.id()) == network.Connected {
			t.Error("a stranger is connected after ten seconds")
		}
		time.Sleep(10 * time.Minute)
		if _, err := a.node.companion(b.id()); err != nil {
			t.Error("who joined by a ticket was sent away too")
		}
		if c := a.node.Counters(); c.Pruned != 1 {
			t.Errorf("%d strangers sent away, want 1", c.Pruned)
		}
	})
}

// What is announced is sealed. A closed node does not even send it to who waits at
// the door, nor hears what that says.
func TestNothingIsAnnouncedToStrangersAtAClosedDoor(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b, x := w.member(0), w.member(1), w.member(2)
		a.config.Closed = true
		id := addSchema(t, a.db, schemaText)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		x.up()
		ps, err := pubsub.NewGossipSub(ctx, x.host, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
			pubsub.WithMessageIdFn(func(m *pb.Message) string { return string(m.Data) }))
		if err != nil {
			t.Fatal(err)
		}
		s, _ := a.node.admission.secret(id)
		overheard, err := ps.Join(topicName(s, id))
		if err != nil {
			t.Fatal(err)
		}
		sub, err := overheard.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Cancel()
		if !knock(t, x, a, 4*time.Second) {
			t.Fatal("the stranger is not at the door")
		}
		for i := range 3 {
			createUsers(t, a.db, fmt.Sprint("confidential", i), 1)
			overheard.Publish(ctx, []byte{byte(i)})
			time.Sleep(time.Second)
		}
		converge(t, time.Second, a, b)
		if got := a.node.Counters().InvalidCommits; got > 0 {
			t.Errorf("%d announcements of a stranger were listened to", got)
		}
		hearing, end := context.WithTimeout(ctx, time.Second)
		defer end()
		for {
			m, err := sub.Next(hearing)
			if err != nil {
				return // nothing more
			}
			if m.ReceivedFrom != x.id() {
				t.Errorf("a stranger heard %d bytes", len(m.Data))
			}
		}
	})
}

// The newest stranger takes the place of the oldest, also at an open node.
func TestTheDoorHasRoomForSomeStrangersOnly(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		_, a, b, _ := attack(t, w, false)
		const more = 10
		var strangers []*member
		for i := range maxAtDoor + more {
			x := w.member(10 + i)
			strangers = append(strangers, x)
			if knock(t, x, a, 50*time.Millisecond) == false {
				t.Fatalf("stranger %d found no place", i)
			}
		}
		time.Sleep(time.Second)
		here := 0
		for _, x := range strangers {
			if a.host.Network().Connectedness(x.id()) == network.Connected {
				here++
			}
		}
		if here > maxAtDoor {
			t.Errorf("%d strangers are connected, want %d", here, maxAtDoor)
		}
		if a.host.Network().Connectedness(strangers[0].id()) == network.Connected {
			t.Error("the oldest is connected still")
		}
		createUsers(t, b.db, "meanwhile", 3)
		converge(t, time.Second, a, b)
	})
}

func TestListsOutliveRestarts(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	n := startNode(t, db, Config{})
	friend, foe := testPeer(t, 1), testPeer(t, 2)
	if err := n.Allow(friend); err != nil {
		t.Fatal(err)
	}
	if err := n.Deny(friend, foe); err != nil {
		t.Fatal(err)
	}
	if err := n.Allow(friend); err != nil {
		t.Fatal(err)
	}
	n.Close()
	n = startNode(t, db, Config{Closed: true})
	got := n.Access()
	if !got.Closed || !slices.Equal(got.Allowed, []string{friend}) || !slices.Equal(got.Denied, []string{foe}) {
		t.Errorf("got %+v, want %s allowed and %s denied", got, friend, foe)
	}
	if err := n.Deny(n.Info().ID); !errors.Is(err, fault.Invalid) {
		t.Errorf("a node denied itself: %v", err)
	}
}

func TestPeersAreNamedByTheirDIDToo(t *testing.T) {
	db := openDB(t, "")
	n := startNode(t, db, Config{})
	id, err := parseID(string(db.Identity().DID()))
	if err != nil || id.String() != n.Info().ID {
		t.Errorf("got %v, %v, want the peer %s", id, err, n.Info().ID)
	}
	for _, bad := range []string{"", "did:key:zzz", "did:web:example.org", "nobody", "/ip4/127.0.0.1/tcp/1",
		"did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"} {
		if _, err := parseID(bad); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v, want kind Invalid", bad, err)
		}
	}
}

// testPeer returns the id of a peer that does not exist.
func testPeer(t *testing.T, seed byte) string {
	t.Helper()
	private, _, err := crypto.GenerateEd25519Key(rand.NewChaCha8([32]byte{seed}))
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

// What is refused has changed nothing, and nobody opens a closed node by denying.
func TestListsChangeAllOrNothing(t *testing.T) {
	n := startNode(t, openDB(t, ""), Config{Closed: true})
	x, y := startNode(t, openDB(t, ""), Config{}).Info().ID, startNode(t, openDB(t, ""), Config{}).Info().ID
	if err := n.ChangeAccess(AccessChange{Allow: []string{x}, Deny: []string{y}}); err != nil {
		t.Fatal(err)
	}
	want := n.Access()
	for name, c := range map[string]AccessChange{
		"one of the names is none": {Remove: []string{y}, Deny: []string{"did:key:zzz"}},
		"it is the node itself":    {Remove: []string{y}, Allow: []string{n.Info().ID}},
		"nobody would be allowed":  {Deny: []string{x}},
	} {
		if err := n.ChangeAccess(c); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
		if got := n.Access(); !slices.Equal(got.Allowed, want.Allowed) || !slices.Equal(got.Denied, want.Denied) {
			t.Errorf("%s: the lists are %+v, want %+v", name, got, want)
		}
	}
	if err := n.Unlist(x); err != nil {
		t.Fatal(err)
	}
}

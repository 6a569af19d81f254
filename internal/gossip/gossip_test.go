package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/x/simlibp2p"
	"github.com/marcopolo/simnet"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

func channel(name string, secret byte) Channel {
	s := ident.Secret{secret}
	return Channel{Name: prefix + name, Collection: dag.CollectionID{1}, Secret: s, Key: s.Derive("test")}
}

func seal(t *testing.T, c Channel, said string) []byte {
	t.Helper()
	message, err := c.Seal([]byte(said))
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// Two nodes that say the same make one message, and something else, or another
// topic, another nonce.
func TestTheSameIsOneMessage(t *testing.T) {
	t.Parallel()
	here, there := channel("here", 2), channel("there", 2)
	one, two := seal(t, here, "a"), seal(t, here, "a")
	if string(one) != string(two) {
		t.Error("two nodes sealed the same in two ways")
	}
	if got, want := len(one), len("a")+Overhead; got != want {
		t.Errorf("a message of one byte has %d, want %d", got, want)
	}
	nonces := map[string]bool{string(one[:24]): true, string(seal(t, here, "b")[:24]): true, string(seal(t, there, "a")[:24]): true}
	if len(nonces) != 3 {
		t.Errorf("%d nonces for three different messages", len(nonces))
	}
}

// Only what a member sealed, for this topic, and nobody changed, is opened.
func TestOnlyWhatMembersSayIsOpened(t *testing.T) {
	t.Parallel()
	c := channel("here", 2)
	message := seal(t, c, "hello")
	if said, err := c.Open(message); err != nil || string(said) != "hello" {
		t.Fatalf("opened %q: %v", said, err)
	}
	changed := append([]byte{}, message...)
	changed[len(changed)-1] ^= 1
	for what, m := range map[string][]byte{
		"changed": changed, "cut short": message[:9], "nothing": nil, "in clear": []byte("hello, and so much more that a nonce would fit"),
		"under another secret": seal(t, channel("here", 3), "hello"), "of another topic": seal(t, channel("there", 2), "hello"),
	} {
		if said, err := c.Open(m); !errors.Is(err, fault.Invalid) {
			t.Errorf("a message %s: %q %v, want it invalid", what, said, err)
		}
	}
}

// What peers say that they follow takes no more memory than is given to it.
func TestAFloodOfSubscriptionsIsNotRemembered(t *testing.T) {
	t.Parallel()
	b := newBound()
	var all []*pb.RPC_SubOpts
	yes := true
	for i := range 10 * maxTopicsOfPeer {
		name := fmt.Sprint(prefix, "1/", i)
		all = append(all, &pb.RPC_SubOpts{Subscribe: &yes, Topicid: &name})
	}
	far := prefix + string(make([]byte, maxTopicName))
	foreign := "somebody else's topic"
	all = append(all, &pb.RPC_SubOpts{Subscribe: &yes, Topicid: &far}, &pb.RPC_SubOpts{Subscribe: &yes, Topicid: &foreign})
	taken := 0
	for len(all) > 0 { // in messages of a good size
		part := all[:min(len(all), 1000)]
		all = all[len(part):]
		kept, err := b.FilterIncomingSubscriptions("flood", part)
		if err != nil {
			t.Fatal(err)
		}
		taken += len(kept)
	}
	if taken != maxTopicsOfPeer || b.exceeded.Load() != 9*maxTopicsOfPeer {
		t.Errorf("%d subscriptions of one peer were taken and %d not, want %d", taken, b.exceeded.Load(), maxTopicsOfPeer)
	}
	b.keepOnly(func(peer.ID) bool { return false })
	if len(b.of) > 0 {
		t.Error("the topics of a peer that is gone are remembered")
	}
}

// node is somebody who gossips, and what it was asked and told.
type node struct {
	host.Host
	*Gossip

	mu             sync.Mutex // guards what follows
	banned         map[peer.ID]bool
	follows        []string
	received, sent map[dag.CollectionID]int
}

func (n *node) Banned(p peer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.banned[p]
}

func (n *node) Follows(p peer.ID, topics []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.follows = append(n.follows, topics...)
}

func (n *node) Moved(p peer.ID, id dag.CollectionID, received, sent int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.received[id] += received
	n.sent[id] += sent
}

func (n *node) Locked(peer.ID) bool        { return false }
func (n *node) Standing(peer.ID) float64   { return 0 }
func (n *node) Scored(map[peer.ID]float64) {}
func (n *node) Grafted(peer.ID, string)    {}
func (n *node) Lost(peer.ID, []string)     {}

// raceDetector is whether the tests run with it.
var raceDetector bool

// among makes nodes that are all connected, under virtual time.
func among(t *testing.T, n int, fn func(t *testing.T, nodes []*node)) {
	t.Helper()
	t.Parallel()
	if raceDetector {
		t.Skip("the race detector and virtual time do not go together: see package p2p")
	}
	synctest.Test(t, func(t *testing.T) {
		wire := &simnet.Simnet{LatencyFunc: func(*simnet.Packet) time.Duration { return 10 * time.Millisecond }, Logger: slog.New(slog.DiscardHandler)}
		wire.Start()
		t.Cleanup(func() { time.Sleep(2 * time.Second) }) // the library looks later whether it is closed
		t.Cleanup(wire.Close)
		ctx, stop := context.WithCancel(t.Context())
		t.Cleanup(stop)
		fast := simnet.LinkSettings{BitsPerSecond: 100_000_000}
		var nodes []*node
		for i := range n {
			key, _, err := crypto.GenerateEd25519Key(rand.NewChaCha8([32]byte{byte(i)}))
			if err != nil {
				t.Fatal(err)
			}
			h, err := libp2p.New(libp2p.Identity(key), libp2p.ListenAddrStrings(fmt.Sprintf("/ip4/%s/udp/8000/quic-v1", simnet.IntToPublicIPv4(i))),
				simlibp2p.QUICSimnet(wire, simnet.NodeBiDiLinkSettings{Downlink: fast, Uplink: fast}), libp2p.DisableIdentifyAddressDiscovery(),
				libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.ResourceManager(&network.NullResourceManager{}))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { h.Close() })
			one := &node{Host: h, banned: map[peer.ID]bool{}, received: map[dag.CollectionID]int{}, sent: map[dag.CollectionID]int{}}
			one.Gossip = New(Config{Ties: one, Quarantine: time.Minute})
			if err := one.Start(ctx, h); err != nil {
				t.Fatal(err)
			}
			for _, other := range nodes {
				if err := h.Connect(ctx, peer.AddrInfo{ID: other.ID(), Addrs: other.Addrs()}); err != nil {
					t.Fatal(err)
				}
			}
			nodes = append(nodes, one)
		}
		fn(t, nodes)
	})
}

// join lets a node listen, and tells, after a while, what it heard since it was asked last.
func join(t *testing.T, n *node, c Channel) (*Topic, func() string) {
	t.Helper()
	var mu sync.Mutex
	var heard []string
	topic, err := n.Join(c, func(from peer.ID, said []byte, err error) Verdict {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			heard = append(heard, "invalid")
			return Reject
		}
		heard = append(heard, string(said))
		return Accept
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := topic.Listen(); err != nil {
		t.Fatal(err)
	}
	return topic, func() string {
		time.Sleep(2 * time.Second) // of virtual time
		mu.Lock()
		defer mu.Unlock()
		defer func() { heard = nil }()
		return fmt.Sprint(heard)
	}
}

// Who follows a topic hears what is said there, once; who left or is banned does not
// count, and who lacks the secret hears nothing but that it cannot be opened.
func TestWhoFollowsHears(t *testing.T) {
	among(t, 3, func(t *testing.T, nodes []*node) {
		a, b, eve := nodes[0], nodes[1], nodes[2]
		c, guess := channel("room", 2), channel("room", 3)
		from, _ := join(t, a, c)
		to, heard := join(t, b, c)
		_, guessed := join(t, eve, guess)
		check := func(what string, heard func() string, want string) {
			t.Helper()
			if got := heard(); got != want {
				t.Errorf("%s: heard %s, want %s", what, got, want)
			}
		}
		check("before", heard, "[]")
		if err := from.Publish(t.Context(), []byte("hello")); err != nil {
			t.Fatal(err)
		}
		check("a member", heard, "[hello]")
		check("who does not know the secret", guessed, "[invalid]")
		if a.sent[c.Collection] == 0 || b.received[c.Collection] == 0 || a.Counters().Sent == 0 {
			t.Errorf("bytes sent %v, received %v", a.sent, b.received)
		}
		if len(a.follows) != 2 || len(a.Followers(c.Name)) != 2 {
			t.Errorf("follow %v, want the two others", a.follows)
		}
		b.mu.Lock()
		b.banned[a.ID()] = true
		b.mu.Unlock()
		if err := from.Publish(t.Context(), []byte("hello again")); err != nil {
			t.Fatal(err)
		}
		check("of who is banned", heard, "[]")
		if err := to.Leave(); err != nil || b.Topics() != 0 {
			t.Errorf("in %d topics after the only one was left: %v", b.Topics(), err)
		}
	})
}

// A node takes part in so many topics, and in others when it left some.
func TestSoManyTopics(t *testing.T) {
	among(t, 1, func(t *testing.T, nodes []*node) {
		var all []*Topic
		for i := range MaxTopics {
			topic, err := nodes[0].Join(channel(fmt.Sprint(i), 1), nil)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, topic)
		}
		if _, err := nodes[0].Join(channel("one more", 1), nil); !errors.Is(err, fault.Unavailable) {
			t.Errorf("one more: %v, want unavailable", err)
		}
		if err := all[0].Leave(); err != nil {
			t.Fatal(err)
		}
		if _, err := nodes[0].Join(channel("one more", 1), nil); err != nil {
			t.Errorf("after one was left: %v", err)
		}
	})
}

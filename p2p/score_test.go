package p2p

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// prunes counts how often a peer was put out of a mesh.
type prunes struct{ n atomic.Int64 }

func (p *prunes) Trace(e *pb.TraceEvent) {
	if e.GetType() == pb.TraceEvent_PRUNE {
		p.n.Add(1)
	}
}

// A member that is blamed is put out of the mesh, hears of no change while it is out
// of favour, and is heard and told again when that has faded.
func TestABlamedPeerFallsOutOfTheMesh(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		x, a, _, id := attack(t, w, true)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		out := new(prunes)
		ps, err := pubsub.NewGossipSub(ctx, x.host, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
			pubsub.WithEventTracer(out), pubsub.WithMessageIdFn(func(m *pb.Message) string { return string(m.Data) }))
		if err != nil {
			t.Fatal(err)
		}
		s, _ := a.node.admission.secret(id)
		topic, err := ps.Join(topicName(s, id))
		if err != nil {
			t.Fatal(err)
		}
		sub, err := topic.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Cancel()
		var heard atomic.Int64
		go func() {
			for {
				if _, err := sub.Next(ctx); err != nil {
					return
				}
				heard.Add(1)
			}
		}()
		hears := func(name string) bool {
			before := heard.Load()
			createUsers(t, a.db, name, 1)
			time.Sleep(3 * time.Second) // of virtual time: heartbeats, and what they repair
			return heard.Load() > before
		}
		score := func() float64 {
			for _, p := range a.node.Peers() {
				if p.ID == x.id().String() {
					return p.Score
				}
			}
			t.Fatal("the peer is not listed")
			return 0
		}
		time.Sleep(3 * time.Second)
		a.node.remember(peer.AddrInfo{ID: x.id(), Addrs: x.host.Addrs()}, false)
		if !hears("early") || score() != 0 || out.n.Load() != 0 {
			t.Fatalf("in good standing: score %v, put out of the mesh %d times", score(), out.n.Load())
		}
		a.node.blame(x.id(), 250, "for the test")
		if got := score(); got > -249 {
			t.Errorf("blamed, and its score is %v", got)
		}
		if hears("meanwhile") {
			t.Error("a blamed peer hears of what is made")
		}
		if out.n.Load() == 0 {
			t.Error("a blamed peer stays in the mesh")
		}
		time.Sleep(8 * quarantine)
		a.node.sweepOnce(time.Now())
		if !hears("late") || score() != 0 {
			t.Errorf("forgiven, and it hears nothing, with a score of %v", score())
		}
	})
}

// What is remembered of peers that misbehave is bounded, and the worst are
// remembered longest.
func TestTheWorstAreRemembered(t *testing.T) {
	s, now := newScores(), time.Now()
	s.add("worst", 300, now)
	for i := range 3 * maxBlamed {
		s.add(peer.ID(fmt.Sprint(i)), 20, now.Add(time.Duration(i)*time.Millisecond))
	}
	if len(s.blamed) != maxBlamed {
		t.Errorf("%d peers are remembered, want %d", len(s.blamed), maxBlamed)
	}
	if got := s.blame("worst", now); got != 300 {
		t.Errorf("the worst of all has %v points, want 300", got)
	}
	if got := s.blame("worst", now.Add(quarantine)); got != 150 {
		t.Errorf("later it has %v points, want 150", got)
	}
	s.sweep(now.Add(6 * quarantine))
	if len(s.blamed) != 1 {
		t.Errorf("%d peers are blamed still, want the worst alone", len(s.blamed))
	}
}

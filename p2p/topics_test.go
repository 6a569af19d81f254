package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// chat is a world of members of one collection, all introduced by the first.
func chat(t *testing.T, w *world, n int) []*member {
	t.Helper()
	ms := w.members(n)
	addSchema(t, ms[0].db, `type Note { text: String }`)
	startAll(ms)
	converge(t, 10*time.Second, ms...)
	for _, m := range ms[1:] {
		eventually(t, 5*time.Second, func() (bool, string) {
			_, ok := m.node.admission.member(ms[0].id(), noteID(t, m))
			return ok, "not a member yet"
		})
	}
	return ms
}

func noteID(t *testing.T, m *member) dag.CollectionID {
	t.Helper()
	c, err := m.db.Collection("Note")
	if err != nil {
		t.Fatal(err)
	}
	return c.ID
}

func subscribe(t *testing.T, m *member, topic string, o TopicOptions) *Subscription {
	t.Helper()
	s, err := m.node.Subscribe(t.Context(), topic, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func publish(t *testing.T, m *member, topic, text string) int {
	t.Helper()
	reached, err := m.node.Publish(t.Context(), topic, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return reached
}

// hears waits for the next message, and says what it tells, and of whom.
func hears(t *testing.T, s *Subscription, ms ...*member) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m, err := s.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, one := range ms {
		if m.From == one.db.Identity().DID() {
			return fmt.Sprintf("%d %s %s", i, m.Kind, m.Data)
		}
	}
	return fmt.Sprintf("stranger %s %s", m.Kind, m.Data)
}

func wantHeard(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// Two who know nobody but a third talk over it, although it takes no part; and hear
// of each other when they come, change, and go.
func TestChatOverSomebodyElse(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := chat(t, w, 3)
		ada := subscribe(t, ms[1], "Note/room", TopicOptions{Presence: true, State: []byte("ada")})
		wantHeard(t, hears(t, ada, ms...), "1 here ada")
		time.Sleep(time.Second)
		start := time.Now()
		bob := subscribe(t, ms[2], "Note/room", TopicOptions{Presence: true, State: []byte("bob")})
		wantHeard(t, hears(t, bob, ms...), "2 here bob")
		wantHeard(t, hears(t, ada, ms...), "2 here bob")
		wantHeard(t, hears(t, bob, ms...), "1 here ada")
		t.Logf("both know of each other after %v", time.Since(start))

		start = time.Now()
		publish(t, ms[1], "Note/room", "hello")
		wantHeard(t, hears(t, bob, ms...), "1 message hello")
		t.Logf("heard over two links after %v", time.Since(start))
		wantHeard(t, hears(t, ada, ms...), "1 message hello") // what this node says, too
		publish(t, ms[2], "Note/room", "hi")
		wantHeard(t, hears(t, ada, ms...), "2 message hi")
		wantHeard(t, hears(t, bob, ms...), "2 message hi")
		publish(t, ms[0], "Note/room", "from outside")
		wantHeard(t, hears(t, ada, ms...), "0 message from outside")
		wantHeard(t, hears(t, bob, ms...), "0 message from outside")

		if err := bob.SetState([]byte("bob is typing")); err != nil {
			t.Fatal(err)
		}
		wantHeard(t, hears(t, ada, ms...), "2 here bob is typing")
		wantHeard(t, hears(t, bob, ms...), "2 here bob is typing")
		who, err := ms[0].node.Present(t.Context(), "Note/room")
		if err != nil || len(who) != 2 {
			t.Errorf("present, seen from outside: %+v %v, want 2", who, err)
		}
		bob.Close()
		wantHeard(t, hears(t, ada, ms...), "2 gone ")
		who, err = ms[1].node.Present(t.Context(), "Note/room")
		if err != nil || len(who) != 1 || !who[0].Self {
			t.Errorf("present: %+v %v, want this node alone", who, err)
		}
	})
}

// A node that closes ends its listeners.
func TestClosingEndsListeners(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := chat(t, w, 2)
		s := subscribe(t, ms[1], "Note/room", TopicOptions{})
		ended := make(chan error, 1)
		go func() { _, err := s.Next(t.Context()); ended <- err }()
		ms[1].node.Close()
		if err := <-ended; !errors.Is(err, fault.Closed) {
			t.Errorf("the listener heard %v, want closed", err)
		}
		if _, err := ms[1].node.Publish(t.Context(), "Note/room", nil); err == nil {
			t.Error("a closed node publishes")
		}
		s.Close()
	})
}

// rumours are the names of rooms of which a stranger hears.
type rumours struct {
	mu    sync.Mutex // guards names
	names []string
}

func (r *rumours) CanSubscribe(string) bool { return true }

func (r *rumours) FilterIncomingSubscriptions(_ peer.ID, all []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range all {
		if strings.HasPrefix(s.GetTopicid(), "/pando/room/") {
			r.names = append(r.names, s.GetTopicid())
		}
	}
	return all, nil
}

// room waits until one is heard of.
func (r *rumours) room(t *testing.T) (name string) {
	t.Helper()
	eventually(t, 5*time.Second, func() (bool, string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.names) > 0 {
			name = r.names[0]
		}
		return name != "", "no room is heard of"
	})
	return name
}

// A connected peer that is no member sees that there is a room, and nothing else.
func TestStrangersReadNothing(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := chat(t, w, 2)
		s := subscribe(t, ms[1], "Note/room", TopicOptions{})
		stranger := w.member(9)
		h := stranger.up()
		seen := new(rumours)
		ps, err := pubsub.NewGossipSub(t.Context(), h, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
			pubsub.WithSubscriptionFilter(seen), pubsub.WithMessageIdFn(func(m *pb.Message) string { return string(m.Data) }))
		if err != nil {
			t.Fatal(err)
		}
		info, err := peer.AddrInfoFromString(ms[1].addr())
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Connect(t.Context(), *info); err != nil {
			t.Fatal(err)
		}
		name := seen.room(t)
		if strings.Contains(name, "room/1/Note") || strings.Contains(name, "/room/room") {
			t.Errorf("the line says its name: %s", name)
		}
		topic, err := ps.Join(name)
		if err != nil {
			t.Fatal(err)
		}
		ear, err := topic.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		publish(t, ms[1], "Note/room", "a secret of ours")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		m, err := ear.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(m.Data, []byte("secret")) || bytes.Contains(m.Data, []byte("room")) {
			t.Errorf("a stranger reads %q", m.Data)
		}
		topic.Publish(t.Context(), []byte("I was never here"))
		eventually(t, 5*time.Second, func() (bool, string) {
			return ms[1].node.Counters().TopicRefused > 0, "what a stranger says is not refused"
		})
		if got := hears(t, s, ms...); got != "1 message a secret of ours" {
			t.Errorf("heard %q", got)
		}
	})
}

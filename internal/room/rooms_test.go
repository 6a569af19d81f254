package room

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/libp2p/go-libp2p"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/ident"
)

func subscribe(t *testing.T, m *member, topic string, o Options) *Subscription {
	t.Helper()
	s, err := m.rooms.Subscribe(t.Context(), topic, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func publish(t *testing.T, m *member, topic, text string) int {
	t.Helper()
	reached, err := m.rooms.Publish(t.Context(), topic, []byte(text))
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
		if m.From == one.key.DID() {
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

// The way between two members may lead over several nodes that take no part.
func TestChatOverAChain(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(4)
		for i := range 3 {
			ms[i].meet(ms[i+1])
		}
		time.Sleep(2 * time.Second)
		end := subscribe(t, ms[3], "Note/far", Options{})
		time.Sleep(time.Second)
		publish(t, ms[0], "Note/far", "from the other end")
		wantHeard(t, hears(t, end, ms...), "0 message from the other end")

		// Who carries stops when there is nobody to carry for.
		end.Close()
		eventually(t, 10*time.Minute, func() (bool, string) {
			left := 0
			for _, m := range ms {
				m.rooms.mu.Lock()
				left += len(m.rooms.lines) + len(m.rooms.all)
				m.rooms.mu.Unlock()
			}
			return left == 0, fmt.Sprint(left, " rooms and lines are left")
		})
	})
}

// A member that vanishes without a word is gone when it missed its time.
func TestVanishedMemberIsGone(t *testing.T) {
	simulate(t, 40*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.chat(2)
		a := subscribe(t, ms[0], "Note/room", Options{Presence: true})
		b := subscribe(t, ms[1], "Note/room", Options{})
		wantHeard(t, hears(t, a, ms...), "0 here ")
		wantHeard(t, hears(t, a, ms...), "1 here ")
		ms[1].vanish()
		start := time.Now()
		wantHeard(t, hears(t, a, ms...), "1 gone ")
		if took := time.Since(start); took > 3*presenceEvery+10*time.Second {
			t.Errorf("gone after %v", took)
		}
		ms[1].meet(ms[0])
		wantHeard(t, hears(t, a, ms...), "1 here ")
		b.Close()
		wantHeard(t, hears(t, a, ms...), "1 gone ")
	})
}

// Who listens elsewhere hears nothing, and a topic that nobody can mean is refused.
func TestTopicNames(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.chat(2)
		other := subscribe(t, ms[1], "Note/other", Options{})
		room := subscribe(t, ms[1], "Note/room/1 ☃", Options{})
		time.Sleep(time.Second) // until others know
		if reached := publish(t, ms[0], "Note/room/1 ☃", "x"); reached != 1 {
			t.Errorf("handed to %d peers, want 1", reached)
		}
		wantHeard(t, hears(t, room, ms...), "0 message x")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if m, err := other.Next(ctx); err == nil {
			t.Errorf("heard %+v in another room", m)
		}
		got := []string{}
		for _, st := range ms[1].rooms.Topics() {
			got = append(got, fmt.Sprintf("%s %d %d %v", st.Name, st.Listeners, st.Heard, st.Carried))
		}
		if want := []string{"Note/other 1 0 false", "Note/room/1 ☃ 1 1 false"}; !slices.Equal(got, want) {
			t.Errorf("topics %q, want %q", got, want)
		}
		for topic, kind := range map[string]error{
			"": fault.Invalid, "Note": fault.Invalid, "Note/": fault.Invalid, "/room": fault.Invalid, "Nothing/room": fault.NotFound,
			"Note/a\nb": fault.Invalid, "Note/\xff": fault.Invalid, "Note/" + strings.Repeat("x", maxRoomName+1): fault.TooLarge,
		} {
			if _, err := ms[0].rooms.Publish(t.Context(), topic, nil); !errors.Is(err, kind) {
				t.Errorf("publish to %q: %v, want %v", topic, err, kind)
			}
			if _, err := ms[0].rooms.Subscribe(t.Context(), topic, Options{}); !errors.Is(err, kind) {
				t.Errorf("subscribe to %q: %v, want %v", topic, err, kind)
			}
		}
		if _, err := ms[0].rooms.Publish(t.Context(), "Note/room", make([]byte, MaxMessage+1)); !errors.Is(err, fault.TooLarge) {
			t.Errorf("a message that is too large: %v", err)
		}
		if publish(t, ms[0], "Note/room/1 ☃", strings.Repeat("x", MaxMessage)); len(hears(t, room, ms...)) < MaxMessage {
			t.Error("the largest message was not heard")
		}
		if err := room.SetState(make([]byte, MaxState+1)); !errors.Is(err, fault.TooLarge) {
			t.Errorf("a state that is too large: %v", err)
		}
	})
}

// Who publishes in many rooms leaves those where nobody listens sooner; in those where
// somebody does, a node can be so many times.
func TestSoManyRooms(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.chat(3)
		for i := range 2 * maxRooms {
			publish(t, ms[1], fmt.Sprint("Note/", i), "x")
		}
		if all := ms[1].rooms.Topics(); len(all) != maxRooms {
			t.Errorf("in %d rooms, want %d", len(all), maxRooms)
		}
		for i := range maxRooms {
			subscribe(t, ms[1], fmt.Sprint("Note/", i), Options{})
		}
		if _, err := ms[1].rooms.Publish(t.Context(), "Note/one more", nil); !errors.Is(err, fault.Unavailable) {
			t.Errorf("one more room: %v, want unavailable", err)
		}
		time.Sleep(2 * time.Minute)
		carried := 0
		for _, st := range ms[0].rooms.Topics() {
			if st.Carried {
				carried++
			}
		}
		if carried == 0 || carried > maxRoomsCarried {
			t.Errorf("the node between carries %d rooms, want some, and at most %d", carried, maxRoomsCarried)
		}
	})
}

// A secret that gave way to another takes its part of a room with it.
func TestRoomsLeaveSecretsThatGaveWay(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a := w.members(1)[0]
		sub := subscribe(t, a, "Note/lobby", Options{})
		const most = 8
		for i := range byte(2 * most) {
			a.adopt(append([]ident.Secret{{3: 100 - i}}, a.secrets[notes][:min(len(a.secrets[notes]), most-1)]...))
			time.Sleep(time.Second)
		}
		if got := len(a.rooms.lines); got != most {
			t.Errorf("%d topics for a room of %d secrets", got, most)
		}
		sub.Close()
		time.Sleep(2 * linger)
		if lines, rooms := len(a.rooms.lines), len(a.rooms.all); lines+rooms > 0 {
			t.Errorf("%d rooms in %d topics are left", rooms, lines)
		}
	})
}

// A listener that does not read loses the oldest, and is told how many.
func TestSlowListenerLosesTheOldest(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.chat(2)
		s := subscribe(t, ms[1], "Note/room", Options{})
		time.Sleep(time.Second) // until others know
		const all = queueMessages + 44
		for i := range all {
			publish(t, ms[0], "Note/room", fmt.Sprint(i))
		}
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		m, err := s.Next(ctx)
		if err != nil || m.Dropped != 44 {
			t.Errorf("after %d messages the first is %q with %d dropped, want 44: %v", all, m.Data, m.Dropped, err)
		}
		heard := 1
		for ; heard < queueMessages; heard++ {
			if m, err := s.Next(ctx); err != nil || m.Dropped != 0 {
				t.Fatalf("message %d: %v %v", heard, m, err)
			}
		}
	})
}

// A sender waits for its turn, or is told when it comes.
func TestSenderIsHeldBack(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.chat(2)
		start := time.Now()
		const all = 160
		for i := range all {
			publish(t, ms[0], "Note/room", fmt.Sprint(i))
		}
		free := senderFlow.items * senderFlow.burst
		if took, want := time.Since(start), (all-free)/senderFlow.items; took.Seconds() < want-0.1 || took.Seconds() > want+0.5 {
			t.Errorf("%d messages in %v, want %v s", all, took, want)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := ms[0].rooms.Publish(ctx, "Note/room", nil); !errors.Is(err, fault.Unavailable) {
			t.Errorf("one more at once: %v, want unavailable", err)
		}
	})
}

// forged is a line in the hands of somebody who knows the secret, and makes posts
// as it likes.
type forged struct {
	*line
	key ident.Key
	seq uint64
}

func forge(t *testing.T, m *member, room string, key ident.Key) *forged {
	t.Helper()
	s := m.secrets[notes][0]
	return &forged{newLine(claim{notes, s}, tagOf(s, notes, room)), key, 0}
}

func (f *forged) post(t *testing.T, change func(*post)) []byte {
	t.Helper()
	f.seq++
	p := &post{room: "room", kind: postSaid, from: f.key.Public(), run: 1, seq: f.seq, sent: uint64(time.Now().UnixMilli()), body: []byte("x")}
	if change != nil {
		change(p)
	}
	if err := p.sign(f.key, f.Collection); err != nil {
		t.Fatal(err)
	}
	return p.append(nil)
}

// What breaks the rules is rejected, which counts against who passed it on; what
// comes too late, twice or too fast is not passed on, and nobody's fault.
func TestPostsAreJudged(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.chat(2)
		n := ms[1].rooms
		s := subscribe(t, ms[1], "Note/room", Options{})
		eve := forge(t, ms[1], "room", newKey(t, 7))
		c := n.lines[eve.Name]
		from := ms[0].ID()
		now := time.Now()
		hear := func(said []byte) gossip.Verdict { return n.hear(c, from, said, nil, now) }
		check := func(what string, got, want gossip.Verdict) {
			t.Helper()
			if got != want {
				t.Errorf("%s: verdict %d, want %d", what, got, want)
			}
		}
		const accept, reject, ignore = gossip.Accept, gossip.Reject, gossip.Ignore

		first := eve.post(t, nil)
		check("a post", hear(first), accept)
		check("the same", hear(first), ignore)
		check("a broken seal", n.hear(c, from, nil, fault.Invalid.Errorf("not sealed"), now), reject)
		check("cut short", hear(first[:9]), reject)
		wrong := eve.post(t, nil)
		wrong[len(wrong)-1] ^= 1
		check("a wrong signature", hear(wrong), reject)
		check("somebody else's name", hear(func() []byte {
			p := &post{room: "room", from: newKey(t, 8).Public(), run: 1, seq: 1, sent: uint64(now.UnixMilli())}
			p.sign(eve.key, eve.Collection)
			return p.append(nil)
		}()), reject)
		check("of another room", hear(eve.post(t, func(p *post) { p.room = "attic" })), reject)
		check("a body that is too large", hear(eve.post(t, func(p *post) { p.body = make([]byte, MaxMessage+1) })), reject)
		check("a presence without end", hear(eve.post(t, func(p *post) { p.kind, p.body = postHere, here{lasts: 2 * presenceMost}.append() })), reject)
		check("a state that is too large", hear(eve.post(t, func(p *post) {
			p.kind, p.body = postHere, here{lasts: time.Minute, state: make([]byte, MaxState+1)}.append()
		})), reject)
		check("another version", hear([]byte{0x82, 2, 0}), ignore)
		check("of a kind to come", hear(eve.post(t, func(p *post) { p.kind = 99 })), accept)
		check("an hour late", hear(eve.post(t, func(p *post) { p.sent -= 3_600_000 })), accept)
		check("two hours late", hear(eve.post(t, func(p *post) { p.sent -= 7_200_000 })), ignore)
		check("two hours early", hear(eve.post(t, func(p *post) { p.sent += 7_200_000 })), ignore)
		check("at the end of time", hear(eve.post(t, func(p *post) { p.sent = 1<<64 - 1 })), ignore)
		check("of an earlier run", hear(eve.post(t, func(p *post) { p.run = 0 })), ignore)
		check("in the name of the receiver", hear(forge(t, ms[1], "room", ms[1].key).post(t, nil)), ignore)

		passed := 0
		for range 1000 {
			if hear(eve.post(t, nil)) == accept {
				passed++
			}
		}
		if most := int(othersFlow.items * othersFlow.burst); passed > most {
			t.Errorf("%d of 1000 posts at once passed, want at most %d", passed, most)
		}
		heard := 0
		for ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond); ; heard++ {
			if _, err := s.Next(ctx); err != nil {
				cancel()
				break
			}
		}
		if want := 2 + passed; heard != want {
			t.Errorf("heard %d, want %d", heard, want)
		}
		if c := n.Counters(); c.Refused != 8 || c.Dropped == 0 {
			t.Errorf("refused %d, dropped %d, want 8 and some", c.Refused, c.Dropped)
		}
	})
}

// A member that floods a room is not passed on beyond its share, and the others go on to
// hear each other.
func TestFloodOfOneIsHeldBack(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.chat(4)
		var listeners []*Subscription
		for _, m := range ms[:3] {
			listeners = append(listeners, subscribe(t, m, "Note/room", Options{}))
		}
		subscribe(t, ms[3], "Note/room", Options{})
		time.Sleep(2 * time.Second)
		eve := forge(t, ms[3], "room", newKey(t, 7))
		const seconds, each, honest = 5, 1000, 10
		var talk sync.WaitGroup
		talk.Go(func() {
			for range seconds * each {
				if err := ms[3].rooms.lines[eve.Name].topic.Publish(t.Context(), eve.post(t, nil)); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second / each)
			}
		})
		talk.Go(func() {
			for range seconds * honest {
				publish(t, ms[1], "Note/room", "honest")
				time.Sleep(time.Second / honest)
			}
		})
		start := time.Now()
		var counts [3]map[string]int
		var last [3]time.Duration // neighbours offer again, for some seconds, what was dropped unread
		for i, s := range listeners {
			counts[i] = map[string]int{}
			talk.Go(func() {
				for {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					m, err := s.Next(ctx)
					cancel()
					if err != nil {
						return
					}
					counts[i][string(m.Data)]++
					last[i] = time.Since(start)
				}
			})
		}
		talk.Wait()
		for i, c := range counts {
			most := int(othersFlow.items*(othersFlow.burst+last[i].Seconds())) + 1
			if last[i] > 3*seconds*time.Second {
				t.Errorf("member %d heard the flood for %v", i, last[i])
			}
			if c["honest"] != seconds*honest || c["x"] > most {
				t.Errorf("member %d heard %d of %d honest messages, and %d of %d of the flood, want at most %d", i, c["honest"], seconds*honest, c["x"], seconds*each, most)
			}
		}
		t.Logf("heard %v of %d honest messages and %d of a flood, for %v", counts, seconds*honest, seconds*each, last)
	})
}

// Many names of one hand take no more memory than the room has places.
func TestManyNamesAreForgotten(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.chat(2)
		n := ms[1].rooms
		subscribe(t, ms[1], "Note/room", Options{})
		c := n.lines[forge(t, ms[1], "room", newKey(t, 7)).Name]
		now := time.Now()
		for i := range 2 * maxAuthors {
			key, err := ident.GenerateFrom(ident.EdDSA, bytes.NewReader(bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 32)))
			if err != nil {
				t.Fatal(err)
			}
			eve := forge(t, ms[1], "room", key)
			now = now.Add(10 * time.Millisecond)
			if got := n.hear(c, ms[0].ID(), eve.post(t, func(p *post) {
				p.kind, p.body = postHere, here{lasts: time.Minute, state: make([]byte, 100)}.append()
			}), nil, now); got != gossip.Accept {
				t.Fatalf("post %d: verdict %d, want accepted", i, got)
			}
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if known := len(c.room.authors); known != maxAuthors || n.states != 100*maxAuthors {
			t.Errorf("%d names and %d bytes of state are kept, want %d and %d", known, n.states, maxAuthors, 100*maxAuthors)
		}
	})
}

// The window over sequence numbers says of each whether it is new, or too old to tell.
func TestSequenceNumbers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s seen
		had, most := map[uint64]bool{}, uint64(0)
		for range rapid.IntRange(1, 300).Draw(t, "numbers") {
			seq := rapid.Uint64Range(1, 200).Draw(t, "number")
			want := !had[seq] && (seq > most || most-seq < 64)
			if got := s.add(seq); got != want {
				t.Fatalf("number %d with %d as the highest: new %v, want %v", seq, most, got, want)
			}
			had[seq], most = true, max(most, seq)
		}
	})
}

// What others make of the protocol must come to the same bytes.
func TestPostsAreAsDocumented(t *testing.T) {
	t.Parallel()
	key, id := newKey(t, 1), dag.CollectionID(bytes.Repeat([]byte{0xaa}, 32))
	c := claim{id, ident.Secret(bytes.Repeat([]byte{0xbb}, 16))}
	line := newLine(c, tagOf(c.secret, id, "lobby"))
	var b strings.Builder
	fmt.Fprintf(&b, "collection %x\nsecret %x\nroom lobby\ntopic %s\n", id[:], c.secret, line.Name)
	for _, p := range []*post{
		{kind: postSaid, seq: 1, body: []byte("hello")},
		{kind: postHere, seq: 2, body: here{lasts: time.Minute, asks: true, state: []byte("Ada")}.append()},
		{kind: postGone, seq: 3},
		{kind: postWho, seq: 4},
	} {
		p.room, p.from, p.run, p.sent = "lobby", key.Public(), 1_700_000_000_000, 1_700_000_000_000+p.seq
		if err := p.sign(key, id); err != nil {
			t.Fatal(err)
		}
		sealed, err := line.Seal(p.append(nil))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "post %x\ndata %x\n", p.append(nil), sealed)
		said, err := line.Open(sealed)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := line.read(said); err != nil || got.kind != p.kind || !bytes.Equal(got.body, p.body) {
			t.Errorf("read back as %+v: %v", got, err)
		}
	}
	want, err := os.ReadFile(filepath.Join("testdata", "room.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("documented is\n%s\nnow\n%s", want, b.String())
	}
}

// Whoever comes at the very moment when one more may pass is counted like any other.
func TestBucketsHold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := flow{items: float64(rapid.IntRange(1, 50).Draw(t, "a second")), bytes: 1e9, burst: 4}
		var b bucket
		start, passed := time.Unix(1, 0), 0
		now := start
		for range 2000 {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{1, 5, 25}).Draw(t, "after")) * time.Millisecond)
			if b.take(f, 1, now) == 0 {
				passed++
			}
		}
		if most := int(f.items*(f.burst+now.Sub(start).Seconds())) + 1; passed > most {
			t.Fatalf("%d passed in %v, want at most %d", passed, now.Sub(start), most)
		}
	})
}

func FuzzPost(f *testing.F) {
	key := newKey(f, 1)
	for _, p := range []*post{
		{room: "a", kind: postSaid, from: key.Public(), run: 1, seq: 1, sent: 1, body: []byte("hi")},
		{room: "a", kind: postHere, from: key.Public(), run: 1, seq: 2, sent: 1, body: here{lasts: time.Minute, asks: true, state: []byte("x")}.append()},
		{room: "a", kind: postGone, from: key.Public(), run: 1, seq: 3, sent: 1},
	} {
		if err := p.sign(key, dag.CollectionID{}); err != nil {
			f.Fatal(err)
		}
		f.Add(p.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readPost(b, dag.CollectionID{})
		if err == nil && !bytes.Equal(p.append(nil), b) {
			t.Errorf("%x is read as a post that is written %x", b, p.append(nil))
		}
	})
}

// Members talk at once, each connected with six others: everybody hears
// everything once, soon.
func TestRoomUnderLoad(t *testing.T) {
	simulate(t, 80*time.Millisecond, func(t *testing.T, w *world) {
		const members, speakers, each = 16, 8, 20
		ms := w.members(members)
		for i, m := range ms {
			for _, d := range []int{1, 2, 7} {
				m.meet(ms[(i+d)%members])
			}
		}
		var listeners []*Subscription
		for _, m := range ms {
			listeners = append(listeners, subscribe(t, m, "Note/room", Options{}))
		}
		time.Sleep(5 * time.Second)
		before := ms[5].gossip.Counters().Received
		var talk sync.WaitGroup
		for i, m := range ms[:speakers] {
			talk.Go(func() {
				for j := range each {
					publish(t, m, "Note/room", fmt.Sprintf("%d %d %d", i, j, time.Now().UnixNano()))
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		var took []time.Duration
		var mu sync.Mutex
		for _, s := range listeners {
			talk.Go(func() {
				had := map[string]bool{}
				for len(had) < speakers*each {
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					m, err := s.Next(ctx)
					cancel()
					if err != nil || had[string(m.Data)] {
						t.Errorf("%d of %d messages were heard, and then %q: %v", len(had), speakers*each, m.Data, err)
						return
					}
					had[string(m.Data)] = true
					var i, j, at int64
					fmt.Sscan(string(m.Data), &i, &j, &at)
					mu.Lock()
					took = append(took, time.Duration(time.Now().UnixNano()-at))
					mu.Unlock()
				}
			})
		}
		talk.Wait()
		slices.Sort(took)
		got := ms[5].gossip.Counters().Received - before
		p50, p99 := took[len(took)/2], took[len(took)*99/100]
		t.Logf("%d messages heard by %d members: p50 %v, p99 %v, last %v, %d bytes for each", speakers*each, members, p50, p99, took[len(took)-1], got/(speakers*each))
		if p99 > 400*time.Millisecond {
			t.Errorf("p99 is %v", p99)
		}
		if per := got / (speakers * each); per > 2048 {
			t.Errorf("a member takes %d bytes for each message", per)
		}
	})
}

// What it costs to judge a post and hand it to a listener.
func BenchmarkPost(b *testing.B) {
	m := newMember(b, 1, libp2p.NoListenAddrs)
	n, id, own := m.rooms, notes, m.secrets[notes][0]
	s, err := n.Subscribe(b.Context(), "Note/room", Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	line := newLine(claim{id, own}, tagOf(own, id, "room"))
	key := newKey(b, 7)
	c, now := n.lines[line.Name], time.Now()
	p := &post{room: "room", from: key.Public(), run: 1, sent: uint64(now.UnixMilli()), body: []byte("hello")}
	for b.Loop() {
		b.StopTimer()
		p.seq++
		if err := p.sign(key, id); err != nil {
			b.Fatal(err)
		}
		message, err := line.Seal(p.append(nil))
		if err != nil {
			b.Fatal(err)
		}
		now = now.Add(time.Second / 20)
		p.sent = uint64(now.UnixMilli())
		b.StartTimer()
		said, err := line.Open(message)
		if got := n.hear(c, "another", said, err, now); got != gossip.Accept {
			b.Fatalf("verdict %d", got)
		}
	}
}

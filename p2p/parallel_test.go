package p2p

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"pgregory.net/rapid"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/pace"
)

// copies makes members that hold the same, and know each other.
func copies(t *testing.T, w *world, n int, fill func(db *pando.DB)) []*member {
	t.Helper()
	ms := w.members(n)
	addSchema(t, ms[0].db, schemaText)
	fill(ms[0].db)
	startAll(ms)
	converge(t, time.Minute, ms...)
	time.Sleep(5 * time.Second)
	return ms
}

// fillUsers creates documents that do not shrink on the way.
func fillUsers(t testing.TB, db *pando.DB, n, size int) {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{byte(n)})
	err := db.Update(t.Context(), func(tx *pando.Tx) error {
		users, err := tx.Collection("User")
		for i := 0; i < n && err == nil; i++ {
			name := make([]byte, size/2)
			rng.Read(name)
			_, err = users.Create(map[string]any{"name": fmt.Sprintf("%x", name), "points": i})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sent returns how many bytes each member sent in sync and fetch streams.
func sent(ms []*member) (out []uint64) {
	for _, m := range ms {
		out = append(out, m.node.Counters().Sent)
	}
	return out
}

func minus(a, b []uint64) (out []uint64) {
	for i := range a {
		out = append(out, a[i]-b[i])
	}
	return out
}

func sum(all []uint64) (n uint64) {
	for _, v := range all {
		n += v
	}
	return n
}

// newcomer makes a node that is connected with members and knows that they share the
// collection, but has nothing yet.
func newcomer(t *testing.T, w *world, i int, ms []*member) *member {
	t.Helper()
	b := w.member(i)
	b.start(ms...)
	for _, m := range ms {
		m.node.host.Peerstore().AddAddrs(b.id(), b.host.Addrs(), time.Hour)
		if err := m.node.Connect(t.Context(), b.addr()); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// A new node that knows several members copies from all of them: each gives a part,
// and hardly anything comes twice.
func TestACopyComesFromAllMembers(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		w.bits = 20 * mbit
		ms := copies(t, w, 3, func(db *pando.DB) {
			fillUsers(t, db, 1200, 4000)
		})
		before := sent(ms)
		b := newcomer(t, w, 3, ms)
		took := converge(t, 10*time.Second, append(ms, b)...)
		gave := minus(sent(ms), before)
		t.Logf("1,200 documents of 4 KB after %v: the members gave %v", took, gave)
		if slices.Min(gave) < sum(gave)/8 {
			t.Errorf("the members gave %v bytes, want a good part from each", gave)
		}
		one := oneCopy(t, w, ms[0])
		t.Logf("one copy has %d bytes, this one %d", one, sum(gave))
		if total := sum(gave); total > one*13/10 {
			t.Errorf("%d bytes in all, one copy has %d", total, one)
		}
	})
}

// oneCopy returns what a copy from one member alone costs.
func oneCopy(t *testing.T, w *world, m *member) uint64 {
	t.Helper()
	c := w.member(50)
	c.start(m)
	before := m.node.Counters().Sent
	if err := m.node.Connect(t.Context(), c.addr()); err != nil {
		t.Fatal(err)
	}
	converge(t, 10*time.Second, m, c)
	return m.node.Counters().Sent - before
}

// A member that takes questions and does not answer holds up a copy for as long as it
// takes to notice, not until its streams time out.
func TestAStallingMemberIsPassedBy(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		w.bits = 20 * mbit
		ms := copies(t, w, 3, func(db *pando.DB) { fillUsers(t, db, 1200, 4000) })
		ms[2].host.SetStreamHandler(protocolFetch, func(s network.Stream) {
			io.Copy(io.Discard, s)
			s.Reset()
		})
		took := converge(t, 12*time.Second, append(ms, newcomer(t, w, 3, ms))...)
		t.Logf("equal after %v, with one of three stalling", took)
	})
}

// empty makes a member answer all that it is asked for by saying that there is nothing.
func empty(m *member) {
	m.host.SetStreamHandler(protocolFetch, func(s network.Stream) {
		defer s.Close()
		w := newWire(s, new(traffic))
		for {
			m, err := w.receive()
			mark := uint64(1)
			switch m := m.(type) {
			case *fetch:
				if mark = uint64(len(m.Items)); m.Heads {
					w.send(&heads{})
				}
			}
			if err != nil || w.send(&end{mark}) != nil {
				return
			}
		}
	})
}

// A member that says to have everything and gives nothing leaves no gap, whether it
// is asked first or beside others, and its emptiness is nobody else's fault.
func TestAnEmptyHandedMemberLeavesNoGap(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		w.bits = 20 * mbit
		ms := copies(t, w, 3, func(db *pando.DB) { fillUsers(t, db, 1200, 4000) })
		empty(ms[1])
		b := newcomer(t, w, 3, ms)
		took := converge(t, 20*time.Second, append(ms, b)...)
		c := b.node.Counters()
		t.Logf("equal after %v; %d had nothing to give", took, c.Useless)
		if c.Useless > 1 || b.node.blamed(ms[0].id()) || b.node.blamed(ms[2].id()) {
			t.Errorf("honest members are blamed: %v %v", b.node.blamed(ms[0].id()), b.node.blamed(ms[2].id()))
		}
	})
}

// Whoever of the members dies in the middle, what it held is got of the others.
func TestACopyOutlivesAMember(t *testing.T) {
	for dies := range 3 {
		t.Run(fmt.Sprint(dies), func(t *testing.T) {
			simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
				w.bits = 20 * mbit
				ms := copies(t, w, 3, func(db *pando.DB) { fillUsers(t, db, 800, 4000) })
				b := newcomer(t, w, 3, ms)
				eventually(t, 10*time.Second, func() (bool, string) { return documents(t, b) > 100, "nothing comes" })
				if n := documents(t, b); n == 800 {
					t.Fatal("all came at once: make it more")
				}
				others := slices.Delete(slices.Clone(ms), dies, dies+1)
				ms[dies].kill(append(others, b)...)
				took := converge(t, 40*time.Second, append(others, b)...)
				t.Logf("equal %v after member %d died", took, dies)
			})
		})
	}
}

// A copy that was cut off, by the loss of all members and a restart, goes on about
// where it was, and ends as a plain copy.
func TestACutCopyGoesOn(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		w.bits = 20 * mbit
		ms := copies(t, w, 2, func(db *pando.DB) { fillUsers(t, db, 1200, 4000) })
		b := newcomer(t, w, 3, ms)
		eventually(t, 10*time.Second, func() (bool, string) { return documents(t, b) > 200, "nothing comes" })
		b.kill(ms...)
		before := sent(ms)
		had := documents(t, b)
		if had == 1200 {
			t.Fatal("all came at once: make it more")
		}
		b.start(ms...)
		converge(t, 20*time.Second, append(ms, b)...)
		again := sum(minus(sent(ms), before))
		t.Logf("%d documents had come; the rest took %d bytes", had, again)
		// Where it went on in several places, all but the first are begun anew: while that
		// is less than a quarter of the copy.
		if limit := uint64(1200 * 4300 * 12 / 10); again > limit {
			t.Errorf("going on took %d bytes, want at most %d", again, limit)
		}
		id := b.db.Collections()[0].ID
		want, _ := plainCopy(t, ms[0].db, id)
		if got, _ := plainCopy(t, b.db, id); !sameCommits(got, want) {
			t.Error("the copy is not a plain copy")
		}
	})
}

// One document with a long history comes in parts, from all who have it.
func TestALongHistoryComesFromAllMembers(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		w.bits = 20 * mbit
		ms := w.members(3)
		id := addSchema(t, ms[0].db, schemaText)
		createUsers(t, ms[0].db, "a", 1)
		_, docs := plainCopy(t, ms[0].db, id)
		for range 20 { // what does not shrink on the way
			rename(t, ms[0].db, docs[0], 100, 1000)
		}
		startAll(ms)
		converge(t, time.Minute, ms...)
		time.Sleep(5 * time.Second)
		i := 3
		for b := w.member(i); b.id() > ms[0].id() || b.id() > ms[1].id() || b.id() > ms[2].id(); b = w.member(i) {
			i++ // it shall be the one that asks
		}
		before := sent(ms)
		b := newcomer(t, w, i, ms)
		took := converge(t, 30*time.Second, append(ms, b)...)
		gave := minus(sent(ms), before)
		t.Logf("2,000 commits of 1 KB after %v: the members gave %v", took, gave)
		// Of the copy, and not of what was sent: so few documents a member that greets first
		// may push before it is asked by others.
		commits, _ := plainCopy(t, b.db, id)
		size := uint64(0)
		for _, c := range commits {
			size += uint64(len(c))
		}
		if slices.Min(gave) < size/10 {
			t.Errorf("the members gave %v bytes of %d, want some from each", gave, size)
		}
	})
}

// rename writes a document so many times, with names that do not shrink on the way.
func rename(t testing.TB, db *pando.DB, id pando.DocID, times, size int) {
	t.Helper()
	name := make([]byte, size/2)
	err := db.Update(t.Context(), func(tx *pando.Tx) error {
		users, err := tx.Collection("User")
		for i := 0; i < times && err == nil; i++ {
			binary.BigEndian.PutUint64(name, uint64(db.Seq())<<20|uint64(i))
			rand.NewChaCha8([32]byte(append(name[:8:8], make([]byte, 24)...))).Read(name)
			_, err = users.Update(id, map[string]any{"name": fmt.Sprintf("%x", name)})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Ranges, wherever a copy goes on and however often they are split, touch each other
// and leave nothing out.
func TestRangesTouchEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.Uint64Range(0, 2_000_000).Draw(t, "documents")
		var token *pando.DocID
		if rapid.Bool().Draw(t, "goes on") {
			token = &pando.DocID{}
			copy(token[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "token"))
		}
		all := ranges(count, token)
		for range rapid.IntRange(0, 6).Draw(t, "splits") {
			i := rapid.IntRange(0, len(all)-1).Draw(t, "which")
			after, until := all[i].now()
			done := docBefore(uint64((span(nil, after) + span(after, until)/3) * (1 << 63) * 2))
			if rapid.Bool().Draw(t, "gets on") && (after == nil || done.Compare(*after) > 0) && (until == nil || done.Compare(*until) < 0) {
				all[i].advance(done)
			}
			if half := all[i].split(time.Duration(rapid.IntRange(0, 10).Draw(t, "seconds")) * time.Second); half != nil {
				all = slices.Insert(all, i+1, half)
			}
		}
		at := token
		for i, r := range all {
			_, until := r.now()
			if (r.first == nil) != (at == nil) || at != nil && *r.first != *at {
				t.Fatalf("range %d of %d begins at %v, the one before ends at %v", i, len(all), r.first, at)
			}
			if at != nil && until != nil && until.Compare(*at) < 0 {
				t.Fatalf("range %d ends before it begins", i)
			}
			at = until
		}
		if at != nil {
			t.Fatalf("the last range ends at %v", at)
		}
	})
}

// What came of a range is judged by what is here, not by what the peer said.
func TestARangeIsJudgedByWhatIsHere(t *testing.T) {
	db := openDB(t, "")
	id := addSchema(t, db, schemaText)
	createUsers(t, db, "a", 400)
	co := &convoy{n: &Node{replica: db.Replica()}, id: id}
	for claimed, want := range map[uint64]bool{400: true, 1000: true, 4000: false} {
		for i, r := range ranges(4*rangeDocuments, nil) { // in quarters
			r.count = claimed
			r.advance(docBefore(1 << 63))
			got, err := r.here(t.Context(), co)
			if err != nil || got != want {
				t.Errorf("quarter %d of %d documents claimed, 400 here: %v, %v, want %v", i, claimed, got, err, want)
			}
			if after, _ := r.now(); !want && after != r.first {
				t.Errorf("it is not asked for from its beginning again")
			}
		}
	}
}

// A replicator leaves the first copy of a large collection to the target, which asks for
// it itself. That is no failure, and holds up no other collection.
func TestAReplicatorLeavesALargeCopyToItsTarget(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		w.bits = 5 * mbit
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		small := addSchema(t, a.db, `type Note { text: String }`)
		fillUsers(t, a.db, 1000, 4000)
		err := a.db.Update(t.Context(), func(tx *pando.Tx) error {
			notes, err := tx.Collection("Note")
			if err == nil {
				_, err = notes.Create(map[string]any{"text": "short"})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		a.start()
		b.start(a)
		if err := a.node.AddReplicator(t.Context(), b.addr(), nil); err != nil {
			t.Fatal(err)
		}
		var noted, done time.Duration
		start := time.Now()
		eventually(t, time.Minute, func() (bool, string) {
			r := a.node.Replicators()[0]
			if r.State == Failing {
				t.Fatalf("it is failing after %v: %s", time.Since(start), r.Problem)
			}
			if r.Behind > 0 && r.Lag == 0 && time.Since(start) > 0 {
				t.Fatalf("after %v it is %d behind, since now", time.Since(start), r.Behind)
			}
			if notes, err := b.db.Replica().Summary(t.Context(), small); noted == 0 && err == nil && notes.Documents == 1 {
				noted = time.Since(start)
			}
			done = time.Since(start)
			return r.Behind == 0, fmt.Sprintf("%+v", r)
		})
		if n := documents(t, b); n != 1001 {
			t.Errorf("acknowledged with %d documents there, want all", n)
		}
		t.Logf("the small collection came after %v, all after %v", noted, done)
		if noted > done/3 {
			t.Errorf("the small collection came after %v, the large one after %v: it waited", noted, done)
		}
	})
}

// withheld is something that is shown, and never given.
type withheld struct{}

func (withheld) get(fl *flight, _ *fetching) (intake, error) {
	for pace.Sleep(fl.ctx, stallsAfter/2) {
		fl.brought(0, 0, 0)
	}
	return intake{}, errTaken
}
func (withheld) here(context.Context, *convoy) (bool, error) { return false, nil }

// A member that shows much and gives it drop by drop holds up nobody but itself: neither
// by showing what nobody else has, nor by saying to have more than all others.
func TestAWithheldCopyHoldsUpNobody(t *testing.T) {
	for name, c := range map[string]struct {
		count  uint64
		only   bool
		within time.Duration
	}{
		"what nobody else has":  {1, true, 10 * time.Second},
		"more than others have": {1 << 40, false, 2 * awaitedIdle},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
				ms := copies(t, w, 3, func(db *pando.DB) { createUsers(t, db, "a", 10) })
				a, liar, b := ms[1], ms[2], ms[0]
				a.stop()
				createUsers(t, a.db, "later", 10)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				co := b.node.newConvoy(ctx, b.db.Collections()[0].ID, liar.id(), c.count)
				co.queue(withheld{}).only = c.only
				go co.run(nil)
				a.start(b)
				t.Logf("equal after %v", converge(t, c.within, a, b))
			})
		})
	}
}

// A difference that is large, and less than a copy, comes from all who have it too: what
// is here with other heads, and what is not here at all.
func TestALargeDifferenceComesFromAllMembers(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		w.bits = 20 * mbit
		ms := copies(t, w, 4, func(db *pando.DB) { fillUsers(t, db, 300, 400) })
		b, others := ms[1], []*member{ms[0], ms[2], ms[3]}
		id := b.db.Collections()[0].ID
		b.node.cursors.dropCollection(id) // or a log would be enough
		if err := b.node.cursors.write(); err != nil {
			t.Fatal(err)
		}
		b.stop()
		_, docs := plainCopy(t, b.db, id)
		for _, doc := range docs {
			rename(t, ms[0].db, doc, 1, 4000)
		}
		fillUsers(t, ms[0].db, 600, 4000)
		converge(t, time.Minute, others...)
		before := sent(others)
		b.start(others...)
		for _, m := range others {
			m.node.host.Peerstore().AddAddrs(b.id(), b.host.Addrs(), time.Hour)
			if err := m.node.Connect(t.Context(), b.addr()); err != nil {
				t.Fatal(err)
			}
		}
		converge(t, 20*time.Second, ms...)
		gave := minus(sent(others), before)
		t.Logf("the members gave %v", gave)
		if slices.Min(gave) < sum(gave)/10 {
			t.Errorf("the members gave %v bytes, want a part from each", gave)
		}
		want, _ := plainCopy(t, ms[0].db, id)
		if got, _ := plainCopy(t, b.db, id); !sameCommits(got, want) {
			t.Error("what is here is not a plain copy")
		}
	})
}

// Two sessions that begin at the same moment copy a collection once: whichever finds that
// the other was first waits for it, at whatever point that turns out.
func TestACopyThatBeganMeanwhileIsNotMadeTwice(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := copies(t, w, 2, func(db *pando.DB) { createUsers(t, db, "a", 10) })
		a, b := ms[0], ms[1]
		id := b.db.Collections()[0].ID
		stream, err := b.node.open(t.Context(), a.id(), syncProtocols)
		if err != nil {
			t.Fatal(err)
		}
		s := &session{n: b.node, w: newAsking(stream, &b.node.traffic), peer: a.id(), ctx: t.Context()}
		defer s.w.abort()
		ctx, cancel := context.WithCancel(t.Context())
		other := b.node.newConvoy(ctx, id, a.id(), 10)
		other.queue(withheld{})
		go other.run(nil)
		eventually(t, time.Second, func() (bool, string) { return b.node.convoyOf(id) == other, "no copy is under way" })
		time.AfterFunc(3*time.Second, cancel)
		start := time.Now()
		if err := s.pullFull(pair{id: id, theirs: card{Count: 10}}, cursor{}); err != nil {
			t.Fatal(err)
		}
		if asked, took := s.w.written.Load(), time.Since(start); asked > 0 || took < 3*time.Second {
			t.Errorf("%d bytes were asked for beside the copy; the session went on after %v, want when that is over", asked, took)
		}
	})
}

package p2p

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// story is what a node remembers of a change, without its times, which must not go back.
func story(t *testing.T, m *member, id string) string {
	t.Helper()
	all, err := m.node.Trace(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("%d traces of %s, want one", len(all), id)
	}
	var steps []string
	for i, e := range all[0].Events {
		step := string(e.Stage)
		if e.Way != "" {
			step += " by " + e.Way
		}
		if e.Peer != "" {
			step += " of " + e.Peer[len(e.Peer)-4:]
		}
		steps = append(steps, step)
		if i > 1 && e.At.Before(all[0].Events[i-1].At) {
			t.Errorf("%s at %v, before %s", step, e.At, steps[i-1])
		}
	}
	return strings.Join(steps, "; ")
}

func short4(m *member) string { id := m.id().String(); return id[len(id)-4:] }

// newest returns the docID and the CID of the change that was made last.
func newest(t *testing.T, db *pando.DB) (doc, commit string) {
	t.Helper()
	for c, err := range db.Replica().Log(t.Context(), db.Seq()-1) {
		if err != nil {
			t.Fatal(err)
		}
		doc, commit = c.Doc.String(), c.Commit.String()
	}
	return doc, commit
}

func TestTheWayOfAChangeIsToldByBothNodes(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, b := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		startAll([]*member{a, b})
		converge(t, 5*time.Second, a, b)
		time.Sleep(5 * time.Second)

		createUsers(t, a.db, "small", 1)
		converge(t, 5*time.Second, a, b)
		synctest.Wait()
		doc, commit := newest(t, a.db)
		if got, want := story(t, a, commit), "written; synced; announced"; got != want {
			t.Errorf("its author says %q, want %q", got, want)
		}
		want := fmt.Sprintf("written; heard by gossip of %[1]s; merging by gossip of %[1]s; visible by gossip of %[1]s", short4(a))
		if got := story(t, b, commit); got != want {
			t.Errorf("the other says %q, want %q", got, want)
		}
		if got := story(t, b, doc); got != want {
			t.Errorf("asked for the document it says %q, want %q", got, want)
		}

		createUsers(t, a.db, strings.Repeat("large", 2000), 1)
		converge(t, 5*time.Second, a, b)
		synctest.Wait()
		_, commit = newest(t, a.db)
		want = fmt.Sprintf("written; heard by gossip, header only of %[1]s; asked of %[1]s; merging by fetch of %[1]s; visible by fetch of %[1]s", short4(a))
		if got := story(t, b, commit); got != want {
			t.Errorf("of a large change it says %q, want %q", got, want)
		}

		w.cut([]*member{a}, []*member{b})
		createUsers(t, a.db, "missed", 1)
		time.Sleep(2 * time.Minute)
		w.heal([]*member{a}, []*member{b})
		converge(t, 10*time.Minute, a, b)
		synctest.Wait()
		_, commit = newest(t, a.db)
		if got := story(t, b, commit); strings.Contains(got, "heard") || !strings.Contains(got, "visible by") {
			t.Errorf("of what was missed it says %q, want how it came without having been heard of", got)
		}
		recent, err := b.node.Recent(t.Context(), 2)
		if err != nil || len(recent) != 2 || recent[0].Commit.String() != commit {
			t.Errorf("the last two changes are %+v, %v; want the missed one first", recent, err)
		}
	})
}

// Who keeps a part hears of a change by its watch, and its trace says so.
func TestTheWayOfAChangeIntoAPart(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		a, part := w.member(0), w.member(1)
		addSchema(t, a.db, schemaText)
		a.start()
		keepPart(t, part, Scope{Filter: best}, a)
		isTold(t, part, 1)
		exec(t, a.db, `mutation { create_User(input: {name: "new", points: 1000}) { _docID } }`)
		soon(t, part, `{ User { name } }`, `{"User":[{"name":"new"}]}`)
		synctest.Wait()
		_, commit := newest(t, a.db)
		if got, want := story(t, part, commit), fmt.Sprintf("written; merging by watch of %[1]s; visible by watch of %[1]s", short4(a)); got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
	})
}

func TestTracingWhatIsNotThere(t *testing.T) {
	n := startNode(t, openDB(t, ""), Config{})
	for _, c := range []struct {
		id   string
		want error
	}{
		{"", fault.Invalid},
		{"bafy", fault.Invalid},
		{dag.CID{1}.String(), fault.NotFound},
		{dag.DocID{1}.String(), fault.NotFound},
	} {
		if _, err := n.Trace(t.Context(), c.id); !errors.Is(err, c.want) {
			t.Errorf("trace of %q: got %v, want %v", c.id, err, c.want)
		}
	}
	if all, err := n.Recent(t.Context(), -1); err != nil || len(all) != 0 {
		t.Errorf("minus one recent changes: %v, %v", all, err)
	}
}

// What was written lately is remembered however much is copied meanwhile, and the
// memory does not grow.
func TestACopyDoesNotPushOutWhatIsLive(t *testing.T) {
	n := &Node{log: slog.New(slog.DiscardHandler)}
	mine := dag.CID{1}
	n.mark(mine, Synced, "", "")
	many := make([]dag.CID, 1000)
	for i := range 100 {
		for j := range many {
			many[j] = dag.CID{2, byte(i), byte(j), byte(j >> 8)}
		}
		n.came(many, BySession, "peer", time.Now())
	}
	if got := n.traces.of(mine); len(got) != 1 {
		t.Errorf("%d events of a live change after a copy, want 1", len(got))
	}
	if got := n.traces.of(many[999]); len(got) != 2 {
		t.Errorf("%d events of the last commit of the copy, want 2", len(got))
	}
	for i := range 3 * maxMarks {
		n.mark(dag.CID{3, byte(i), byte(i >> 8), byte(i >> 16)}, Synced, "", "")
	}
	if len(n.traces.live.all) != maxMarks || len(n.traces.bulk.all) != maxMarks {
		t.Errorf("%d and %d marks, want %d each", len(n.traces.live.all), len(n.traces.bulk.all), maxMarks)
	}
	newest := n.traces.newest()
	last := 3*maxMarks - 1
	if want := (dag.CID{3, byte(last), byte(last >> 8), byte(last >> 16)}); newest[0] != want || slices.Contains(newest, mine) {
		t.Errorf("the newest is %x, want %x, and what is old forgotten", newest[0][:4], want[:4])
	}
}

// Four marks on each node that a change comes to, against some 50 us to merge it.
func BenchmarkMark(b *testing.B) {
	n := &Node{log: slog.New(slog.DiscardHandler)}
	from := peer.ID("a peer")
	for b.Loop() {
		n.mark(dag.CID{1}, Heard, ByGossip, from)
	}
}

// What a merge of a pack from a peer notes, for each commit.
func BenchmarkMarkPack(b *testing.B) {
	n := &Node{log: slog.New(slog.DiscardHandler)}
	pack := make([]dag.CID, packCommits)
	begun := time.Now()
	for b.Loop() {
		n.came(pack, BySession, "a peer", begun)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/packCommits, "ns/commit")
}

package p2p

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
)

// TestManyNodes runs 200 nodes with the real stack, or 500 with PANDO_LONG=1: what is
// written anywhere is everywhere within what light takes for a few hops, at a price
// in bytes that is known, and while nodes come and go nothing is lost.
func TestManyNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("200 databases")
	}
	count := 200
	if os.Getenv("PANDO_LONG") != "" {
		count = 500
	}
	simulate(t, 80*time.Millisecond, func(t *testing.T, w *world) { // 40 ms one way
		ms := w.members(count)
		addSchema(t, ms[0].db, schemaText)
		rng := rand.New(rand.NewPCG(1, uint64(count)))
		for i, m := range ms { // each names four that came before, as people do who join
			var known []*member
			for range min(i, 4) {
				if o := ms[rng.IntN(i)]; !slices.Contains(known, o) {
					known = append(known, o)
				}
			}
			m.start(known...)
			for _, o := range known {
				if err := o.node.trust(*m.info()); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Logf("all have the schema after %v", eventually(t, 5*time.Minute, func() (bool, string) {
			for _, m := range ms {
				if len(m.db.Collections()) == 0 {
					return false, fmt.Sprintf("node %d has no schema", m.i)
				}
			}
			return true, ""
		}))
		time.Sleep(15 * time.Second) // meshes form, and what the schema set in motion ends
		spreadsQuickly(t, ms, rng)
		outlivesChurn(t, w, ms, rng)
	})
}

// spreadsQuickly has single nodes write, and measures when and at what price it
// is everywhere.
func spreadsQuickly(t *testing.T, ms []*member, rng *rand.Rand) {
	t.Helper()
	const commits = 100
	var mu sync.Mutex // guards late and written
	written := map[pando.CID]time.Time{}
	var late []time.Duration
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	before := gossiped(ms)
	for _, m := range ms {
		since := m.db.Seq()
		readers.Go(func() {
			for c, err := range m.db.Replica().Changes(ctx, since) {
				if err != nil {
					return
				}
				mu.Lock()
				at, known := written[c.Commit] // by its author: nobody is sooner
				if !known {
					at = time.Now()
					written[c.Commit] = at
				}
				late = append(late, time.Since(at))
				mu.Unlock()
			}
		})
	}
	for i := range commits {
		createUsers(t, ms[rng.IntN(len(ms))].db, fmt.Sprint("quick", i, "-"), 1)
		time.Sleep(50 * time.Millisecond)
	}
	evenAll(t, time.Minute, ms)
	time.Sleep(time.Second)
	cancel()
	readers.Wait()
	slices.Sort(late)
	if want := commits * len(ms); len(late) != want {
		t.Fatalf("%d arrivals, want %d", len(late), want)
	}
	at := func(share int) time.Duration { return late[len(late)*share/1000] }
	price := (gossiped(ms) - before) / uint64(commits*len(ms))
	t.Logf("%d nodes: p50 %v, p99 %v, p99.9 %v, last %v; %d bytes per commit and node",
		len(ms), at(500), at(990), at(999), late[len(late)-1], price)
	if at(990) > 250*time.Millisecond {
		t.Errorf("p99 is %v, want at most 250 ms", at(990))
	}
	if price > 2048 {
		t.Errorf("%d bytes per commit and node, want at most 2 KB", price)
	}
}

func gossiped(ms []*member) (bytes uint64) {
	for _, m := range ms {
		bytes += m.node.Counters().GossipReceived
	}
	return bytes
}

// outlivesChurn lets every tenth node vanish while others write, and come back.
func outlivesChurn(t *testing.T, w *world, ms []*member, rng *rand.Rand) {
	t.Helper()
	var gone, here []*member
	for i, m := range ms {
		if i%10 == 9 {
			gone = append(gone, m)
		} else {
			here = append(here, m)
		}
	}
	w.cut(gone, ms) // without a word
	for i := range 20 {
		createUsers(t, here[rng.IntN(len(here))].db, fmt.Sprint("without", i, "-"), 1)
		createUsers(t, gone[i%len(gone)].db, fmt.Sprint("alone", i, "-"), 1)
		time.Sleep(time.Second)
	}
	t.Logf("those who stayed are equal after %v", evenAll(t, time.Minute, here))
	w.heal(gone, ms)
	t.Logf("all are equal %v after the others came back", evenAll(t, 5*time.Minute, ms))
	for _, m := range ms {
		if c := m.node.Counters(); c.Mismatches+c.Breaches+c.InvalidCommits > 0 {
			t.Fatalf("node %d: %+v", m.i, c)
		}
	}
}

// info is what others need to find the member.
func (m *member) info() *peer.AddrInfo {
	m.w.t.Helper()
	infos, err := parsePeers([]string{m.addr()})
	if err != nil {
		m.w.t.Fatal(err)
	}
	return &infos[0]
}

// evenAll waits until many members hold the same. It looks rarely: each look is one at
// every database.
func evenAll(t *testing.T, within time.Duration, ms []*member) time.Duration {
	t.Helper()
	start := time.Now()
	for lines := roots(ms); !same(lines); lines = roots(ms) {
		if time.Since(start) > within {
			slices.Sort(lines)
			t.Fatalf("not equal within %v: %q", within, slices.Compact(lines))
		}
		time.Sleep(500 * time.Millisecond)
	}
	return time.Since(start)
}

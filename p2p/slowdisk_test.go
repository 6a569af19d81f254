package p2p

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/kv"
)

// Nodes whose disks take 40 ms for each sync, all written to at once, lose nothing,
// agree soon after, and never call copies identical that are not. In real time: locks
// are held during a sync, which virtual time does not go on beside.
func TestSlowDisksOnlyTakeLonger(t *testing.T) {
	if testing.Short() {
		t.Skip("takes real seconds")
	}
	var dbs []*pando.DB
	var nodes []*Node
	for i := range 3 {
		disk := newModelDisk(kv.NewCrashFS())
		disk.slow.Store(int64(40 * time.Millisecond))
		db, err := pando.Open(kv.On(t.Context(), disk), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		n := startNode(t, db, Config{})
		if i == 0 {
			addSchema(t, db, schemaText)
		} else {
			ticket, err := nodes[0].Share(nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := n.Join(t.Context(), ticket, nil); err != nil {
				t.Fatal(err)
			}
		}
		dbs, nodes = append(dbs, db), append(nodes, n)
	}
	const each, writers = 20, 4
	var writing sync.WaitGroup
	for i, db := range dbs {
		for w := range writers {
			writing.Go(func() {
				for k := range each {
					createUsers(t, db, fmt.Sprintf("node %d writer %d number %d.", i, w, k), 1)
				}
			})
		}
	}
	for range 5 {
		before := held(t, dbs)
		status, err := nodes[1].Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		after := held(t, dbs)
		for _, p := range status.Peers {
			for i, n := range nodes {
				still := before[i] == after[i] && before[1] == after[1]
				if p.ID == n.Info().ID && p.Collections[0].State == Identical && still && before[i].Root != before[1].Root {
					t.Error("copies that differ are called identical")
				}
			}
		}
	}
	writing.Wait()
	end := time.Now().Add(time.Minute)
	for all := held(t, dbs); all[0].Root != all[1].Root || all[1].Root != all[2].Root || all[0].Documents != 3*writers*each; all = held(t, dbs) {
		if time.Now().After(end) {
			t.Fatalf("they do not agree on %d documents: %+v", 3*writers*each, all)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// held is what each database holds of its only collection.
func held(t *testing.T, dbs []*pando.DB) (all [3]pando.Summary) {
	t.Helper()
	for i, db := range dbs {
		sums, err := db.Replica().Summaries(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all[i] = sums[0]
	}
	return all
}

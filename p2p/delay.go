package p2p

import (
	"slices"
	"sync"
	"time"

	"github.com/pandodb/pando/internal/dag"
)

// Delays says how long changes were on their way from their author to this node, by
// the clocks of both: those that came by gossip since the start.
type Delays struct {
	Count   uint64
	Total   time.Duration
	Buckets []uint64 // changes up to the DelayBounds of the same place, each counted once
	// P50 and P99 are of the last thousand changes.
	P50, P99 time.Duration
}

// DelayBounds are what the buckets of Delays go up to. What takes longer is only counted.
var DelayBounds = []time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// lastDelays is of how many changes the percentiles are.
const lastDelays = 1000

// delays measures. Its zero value is ready.
type delays struct {
	mu      sync.Mutex // guards what follows
	count   uint64
	total   time.Duration
	buckets [13]uint64
	last    []time.Duration
	next    int // where the next of last goes, once it is full
}

// note counts the commits among told that were applied; both are in the same order.
func (d *delays) note(part []told, applied []dag.CID, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range part {
		if len(applied) == 0 {
			return
		}
		if t.commit.CID == applied[0] {
			applied = applied[1:]
			d.add(max(0, now.Sub(dag.HLCTime(t.commit.HLC)))) // a clock that is ahead is no news from the future
		}
	}
}

func (d *delays) add(took time.Duration) {
	d.count++
	d.total += took
	if i, _ := slices.BinarySearch(DelayBounds, took); i < len(d.buckets) {
		d.buckets[i]++
	}
	if len(d.last) < lastDelays {
		d.last = append(d.last, took)
		return
	}
	d.last[d.next] = took
	d.next = (d.next + 1) % lastDelays
}

// Delays returns how long changes were on their way to this node.
func (n *Node) Delays() Delays {
	d := &n.delays
	d.mu.Lock()
	defer d.mu.Unlock()
	out := Delays{Count: d.count, Total: d.total, Buckets: slices.Clone(d.buckets[:])}
	if len(d.last) > 0 {
		sorted := slices.Sorted(slices.Values(d.last))
		out.P50, out.P99 = sorted[len(sorted)/2], sorted[len(sorted)*99/100]
	}
	return out
}

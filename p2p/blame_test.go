package p2p

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// Nodes that are all written to at once differ whenever they compare, and what differs
// comes by gossip before the comparison brings it. Nobody is to blame for that.
func TestBusyNodesBlameNobody(t *testing.T) {
	simulate(t, 20*time.Millisecond, func(t *testing.T, w *world) {
		ms := w.members(6)
		addSchema(t, ms[0].db, schemaText)
		startAll(ms) // a star
		converge(t, 10*time.Second, ms...)
		var writers sync.WaitGroup
		for i, m := range ms {
			writers.Go(func() {
				for j := range 150 {
					createUsers(t, m.db, fmt.Sprint("by", i, "-", j, "-"), 1)
					time.Sleep(time.Duration(20+7*((i+j)%5)) * time.Millisecond)
					for _, c := range m.node.connected() {
						if j%10 == i {
							c.next.Set(0) // as whoever misses something does
						}
					}
				}
			})
		}
		writers.Wait()
		converge(t, time.Minute, ms...)
		for i, m := range ms {
			if c := m.node.Counters(); c.Blamed > 0 {
				t.Errorf("node %d blamed others %d times", i, c.Blamed)
			}
		}
	})
}

package p2p

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A peer whose disk is full is sent next to nothing, both sides say why the copies
// differ, and when there is room again, they soon do not.
func TestNothingIsSentToAFullDisk(t *testing.T) {
	for name, count := range map[string]int{"a little": 40, "a whole collection": sharedDocuments + 100} {
		t.Run(name, func(t *testing.T) {
			model(t, 2, func(t *testing.T, _ *modelNet, ms []*machine) {
				a, b := ms[0], ms[1]
				addSchema(t, a.db, schemaText)
				a.join(b)
				b.join(a)
				createUsers(t, a.db, "first", 50)
				equalRoots(t, time.Minute, ms...)
				b.disk.low.Store(true)
				createUsers(t, a.db, "more", count)
				time.Sleep(3 * time.Minute)
				before := a.node.Counters().Sent
				for i := range 10 {
					createUsers(t, a.db, fmt.Sprint("again", i), 1) // it hears of more, too
					time.Sleep(time.Minute)
				}
				if sent := a.node.Counters().Sent - before; sent > 64<<10 {
					t.Errorf("in ten minutes %d bytes went to a peer that can store nothing", sent)
				}
				for _, m := range ms {
					if p := m.node.Peers()[0].Problem; !strings.Contains(p, "disk") {
						t.Errorf("%s says %q, want a word of the disk", m.name(), p)
					}
				}
				b.disk.low.Store(false)
				equalRoots(t, 2*time.Minute, ms...)
				time.Sleep(2 * holdMost)
				for _, m := range ms {
					if p := m.node.Peers()[0].Problem; p != "" {
						t.Errorf("%s still says %q", m.name(), p)
					}
				}
			})
		})
	}
}

// Whoever can store nothing still gives what it has.
func TestAFullDiskGives(t *testing.T) {
	model(t, 2, func(t *testing.T, _ *modelNet, ms []*machine) {
		a, b := ms[0], ms[1]
		addSchema(t, a.db, schemaText)
		a.join(b)
		b.join(a)
		equalRoots(t, time.Minute, ms...)
		a.leave()
		createUsers(t, a.db, "a", 30)
		createUsers(t, b.db, "b", 30)
		b.disk.low.Store(true)
		a.join(b)
		eventually(t, 5*time.Minute, func() (bool, string) {
			return modelDocuments(t, a) == 60, "what the full one has did not come"
		})
	})
}

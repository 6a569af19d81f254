package host

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/fault"
)

// disk keeps lists over restarts.
type disk struct {
	listed map[peer.ID]bool
	full   error
}

func (d *disk) save(on map[peer.ID]bool, off []peer.ID) error {
	if d.full == nil {
		maps.Copy(d.listed, on)
		for _, p := range off {
			delete(d.listed, p)
		}
	}
	return d.full
}

// Whatever was changed on the lists, and whether it lasted or not: a host that starts with
// what was kept has the same lists.
func TestWhatIsKeptOfTheListsIsWhatHolds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := &disk{listed: map[peer.ID]bool{}}
		start := func() *gate { return newGate(Config{Closed: true, Listed: d.listed, Save: d.save}, nobody{}) }
		g := start()
		some := rapid.SliceOfN(rapid.SampledFrom([]peer.ID{"ada", "bob", "cyd", "dan"}), 0, 3)
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			d.full = nil
			if rapid.Bool().Draw(t, "the disk is full") {
				d.full = fault.Unavailable.Errorf("the disk is full")
			}
			allow, deny, remove := some.Draw(t, "allow"), some.Draw(t, "deny"), some.Draw(t, "remove")
			before := g.access()
			err := g.change(allow, deny, remove)
			now, again := g.access(), start().access()
			if !slices.Equal(now.Allowed, again.Allowed) || !slices.Equal(now.Denied, again.Denied) {
				t.Fatalf("the lists are %+v, after a restart %+v", now, again)
			}
			if err != nil && (!slices.Equal(now.Allowed, before.Allowed) || !slices.Equal(now.Denied, before.Denied)) {
				t.Fatalf("a change that failed (%v) made %+v of %+v", err, now, before)
			}
			if d.full != nil && err == nil {
				t.Fatal("what could not be kept holds all the same")
			}
			for _, p := range deny {
				if err == nil && !errors.Is(g.refuses(p), fault.Denied) {
					t.Fatalf("%s is denied, and not refused", p)
				}
			}
		}
	})
}

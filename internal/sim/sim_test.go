package sim

import (
	"errors"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/pandodb/pando/internal/schema"
)

var (
	oneSeed   = flag.Uint64("seed", 0, "the seed of one history to play, with its trace")
	histories = flag.Int("histories", 10_000, "how many histories TestSim plays")
	firstSeed = flag.Uint64("first", 1, "the seed of the first of them")
)

func collections(t testing.TB) []*schema.Collection {
	t.Helper()
	cs, err := Collections()
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

// TestSim plays many histories. One that fails is shrunk and printed; to see it
// again: go test ./internal/sim -run TestSim -seed N
func TestSim(t *testing.T) {
	t.Parallel()
	o := Options{Collections: collections(t)}
	if *oneSeed != 0 {
		trace, err := Run(*oneSeed, nil, o)
		if err != nil {
			fail(t, err, o)
		}
		for _, l := range trace {
			t.Log(l)
		}
		return
	}
	n := *histories
	if testing.Short() || underRace {
		n = min(n, 500)
	}
	var next, failed atomic.Int64
	for i := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("worker ", i), func(t *testing.T) {
			t.Parallel()
			for failed.Load() == 0 {
				k := next.Add(1) - 1
				if k >= int64(n) {
					return
				}
				if _, err := Run(*firstSeed+uint64(k), nil, o); err != nil {
					failed.Add(1)
					fail(t, err, o)
				}
			}
		})
	}
}

func fail(t *testing.T, err error, o Options) {
	t.Helper()
	var f *Failure
	if errors.As(err, &f) {
		f = Shrink(f, o, 300)
		t.Fatalf("%v\nplay it again: go test ./internal/sim -run TestSim -seed %d", f, f.Seed)
	}
	t.Fatal(err)
}

// A seed stands for one history, to the byte: the trace names every CID.
func TestSeedsReplayExactly(t *testing.T) {
	t.Parallel()
	o := Options{Collections: collections(t)}
	for seed := uint64(1); seed <= 40; seed++ {
		a, err := Run(seed, nil, o)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Run(seed, nil, o)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a, b) {
			t.Fatalf("seed %d has two histories:\n%v\n%v", seed, a, b)
		}
	}
}

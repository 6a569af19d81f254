package p2p

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// queue lets some wait in a lane, each of whom notes its turn and leaves.
func (l *lanes) queue(ctx context.Context, in lane, count int, went func(lane)) {
	for range count {
		go func() {
			t, err := l.enter(ctx, in)
			if err != nil {
				return
			}
			went(in)
			t.leave()
		}()
	}
	synctest.Wait()
}

// While all lanes are full, each gets its share, the least urgent too; a lane that
// is empty takes nothing from the others.
func TestLanesShareTheTurns(t *testing.T) {
	for _, c := range []struct {
		waiting map[lane]int
		after   int // turns
		want    [len(laneShares)]int
	}{
		{map[lane]int{catchUp: 100, backfill: 100, live: 100, interactive: 100}, 150,
			[...]int{catchUp: 20, backfill: 10, live: 40, interactive: 80}},
		{map[lane]int{catchUp: 100, backfill: 100}, 90, [...]int{catchUp: 60, backfill: 30, live: 0, interactive: 0}},
		{map[lane]int{backfill: 100}, 100, [...]int{catchUp: 0, backfill: 100, live: 0, interactive: 0}},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLanes(1)
			first, err := l.enter(t.Context(), live)
			if err != nil {
				t.Fatal(err)
			}
			var got [len(laneShares)]int
			turns := 0
			for in, count := range c.waiting {
				l.queue(t.Context(), in, count, func(in lane) { // one at a time
					if turns++; turns <= c.after {
						got[in]++
					}
				})
			}
			if n := l.queued(); n[backfill] != c.waiting[backfill] {
				t.Errorf("%d wait in the last lane, want %d", n[backfill], c.waiting[backfill])
			}
			first.leave()
			synctest.Wait()
			for in := range got {
				if d := got[in] - c.want[in]; d < -1 || d > 1 {
					t.Errorf("%v waiting: the turns were %v, want %v", c.waiting, got, c.want)
					break
				}
			}
			if n := l.queued(); n != [len(laneShares)]int{} {
				t.Errorf("at the end %v wait", n)
			}
		})
	}
}

// Who did nothing for long has no turns in store, and who comes late has to wait for
// the turn under way alone.
func TestAnIdleLaneSavesNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(1)
		for range 1000 {
			turn, err := l.enter(t.Context(), backfill)
			if err != nil {
				t.Fatal(err)
			}
			turn.leave()
		}
		first, _ := l.enter(t.Context(), backfill)
		var order []lane
		went := func(in lane) { order = append(order, in) }
		l.queue(t.Context(), backfill, 10, went)
		l.queue(t.Context(), catchUp, 10, went)
		first.leave()
		synctest.Wait()
		inFirstNine := 0
		for _, in := range order[:9] {
			if in == backfill {
				inFirstNine++
			}
		}
		if inFirstNine < 3 || inFirstNine > 4 {
			t.Errorf("%d of the first 9 turns were the backfill's, want its third: %v", inFirstNine, order)
		}
		first, _ = l.enter(t.Context(), backfill)
		order = nil
		l.queue(t.Context(), backfill, 10, went)
		l.queue(t.Context(), interactive, 1, went)
		first.leave()
		synctest.Wait()
		if order[0] != interactive {
			t.Errorf("somebody waited behind a backfill: %v", order)
		}
	})
}

// A peer that does not read keeps its turn for a moment; one that gives up takes none.
func TestAStuckTurnEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(1)
		stuck, err := l.enter(t.Context(), live)
		if err != nil {
			t.Fatal(err)
		}
		stuck.atMost(longestTurn)
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var went atomic.Int64
		l.queue(ctx, interactive, 3, func(lane) { went.Add(1) })
		cancel()
		synctest.Wait()
		next, err := l.enter(t.Context(), backfill)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != longestTurn || went.Load() != 0 {
			t.Errorf("the next turn came after %v, %d went before, want %v and none", took, went.Load(), longestTurn)
		}
		stuck.leave() // which is over
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.enter(ctx, live); err == nil {
			t.Error("a turn that ended twice made room for two")
		}
		next.leave()
	})
}

// What all streams together may hold is bounded, and a stream that holds nothing is
// not held up by those that do.
func TestUnappliedBytesOfAllStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{}
		var one, other atomic.Int64
		one.Store(maxUnappliedAll)
		n.unapplied.add(3, maxUnappliedAll)
		if q := n.unapplied.size(); q.Items != 3 || q.Bytes != maxUnappliedAll {
			t.Errorf("as a queue it is %+v", q)
		}
		if !n.mayRead(t.Context(), &other, nil) {
			t.Error("a stream that holds nothing may not read")
		}
		read := make(chan time.Duration)
		start := time.Now()
		go func() {
			n.mayRead(t.Context(), &one, nil)
			read <- time.Since(start)
		}()
		time.Sleep(time.Minute)
		n.unapplied.add(0, -1)
		if took := <-read; took != time.Minute {
			t.Errorf("the full one read on after %v, want when there was room, after a minute", took)
		}
		n.unapplied.add(0, 1)
		stop := make(chan struct{})
		close(stop)
		if n.mayRead(t.Context(), &one, stop) {
			t.Error("a stream that nobody wants reads on")
		}
	})
}

package p2p

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pandodb/pando/internal/fault"
)

// lane is how urgent it is what a node reads, sends or merges. The zero value is
// what sessions do when nobody waits for them.
type lane int

const (
	catchUp     lane = iota // logs, and what a comparison of trees found
	backfill                // full copies
	live                    // what was announced
	interactive             // somebody waits for it
)

// laneShares are the turns of each lane while all have something to do.
var laneShares = [...]uint64{catchUp: 2, backfill: 1, live: 4, interactive: 8}

// How much is done at once, of all lanes together.
const (
	// packsAtOnce is how many packs are on their way to peers: enough to fill a line
	// while the database is read.
	packsAtOnce = 4
	// mergesAtOnce is how many packs are verified and merged: one while another is
	// written, for there is one writer.
	mergesAtOnce = 2
	// longestTurn is for how long a pack on its way keeps others from theirs: a peer
	// that reads slowly, or not at all, holds up itself alone.
	longestTurn = 250 * time.Millisecond
)

// lanes gives turns at what there is only so much of. Whoever comes while there is
// room goes at once; of those who wait, each lane gets its share, and in a lane who
// came first goes first. No lane waits for ever, and none saves up turns.
type lanes struct {
	mu      sync.Mutex // guards what follows
	free    int
	now     uint64                  // how far the lane that went last had come
	passed  [len(laneShares)]uint64 // how far each has come: turns by share
	waiting [len(laneShares)][]*turn
}

// turn is one place in the lanes.
type turn struct {
	lanes *lanes
	come  chan struct{} // closed when it is there
	left  bool
	timer *time.Timer
}

func newLanes(places int) *lanes { return &lanes{free: places} }

// perTurn is how far a turn brings a lane of share 1.
const perTurn = 8

// enter waits for a turn, which ends with leave.
func (l *lanes) enter(ctx context.Context, in lane) (*turn, error) {
	t := &turn{lanes: l, come: make(chan struct{})}
	l.mu.Lock()
	if len(l.waiting[in]) == 0 {
		l.passed[in] = max(l.passed[in], l.now)
	}
	l.waiting[in] = append(l.waiting[in], t)
	l.admit()
	l.mu.Unlock()
	select {
	case <-t.come:
		return t, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	l.waiting[in] = slices.DeleteFunc(l.waiting[in], func(o *turn) bool { return o == t })
	l.mu.Unlock()
	select {
	case <-t.come: // it came just now
		t.leave()
	default:
	}
	return nil, fault.Unavailable.Errorf("wait for a turn: %w", context.Cause(ctx))
}

// admit lets those go for whom there is room. l.mu is held.
func (l *lanes) admit() {
	for l.free > 0 {
		next := -1
		for i := len(l.waiting) - 1; i >= 0; i-- { // the more urgent goes first among equals
			if len(l.waiting[i]) > 0 && (next < 0 || l.passed[i] < l.passed[next]) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		l.now = l.passed[next]
		l.passed[next] += perTurn / laneShares[next]
		t := l.waiting[next][0]
		l.waiting[next] = l.waiting[next][1:]
		l.free--
		close(t.come)
	}
}

// atMost ends the turn after some time, if nothing does before.
func (t *turn) atMost(d time.Duration) *turn {
	t.lanes.mu.Lock()
	defer t.lanes.mu.Unlock()
	t.timer = time.AfterFunc(d, t.leave)
	return t
}

// leave ends the turn. To leave twice does no harm.
func (t *turn) leave() {
	t.lanes.mu.Lock()
	defer t.lanes.mu.Unlock()
	if t.left {
		return
	}
	t.left = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.lanes.free++
	t.lanes.admit()
}

// queued returns how many wait in each lane.
func (l *lanes) queued() (out [len(laneShares)]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, w := range l.waiting {
		out[i] = len(w)
	}
	return out
}

type laneKey struct{}

// inLane says what is being done for: it goes with the context as the time does that
// there is for it, through functions to which both are the same.
func inLane(ctx context.Context, in lane) context.Context {
	return context.WithValue(ctx, laneKey{}, in)
}

func laneOf(ctx context.Context) lane {
	in, _ := ctx.Value(laneKey{}).(lane)
	return in
}

// unapplied bounds what was read of all streams together and is not merged yet.
// Each stream may always hold one frame, so that none waits for those that stand
// still.
type unapplied struct {
	mu      sync.Mutex // guards what follows
	bytes   int
	commits int
	freed   chan struct{} // closed when there is less, nil if nobody waits
}

// add counts commits that were read and their bytes, or with a minus what was merged.
func (u *unapplied) add(commits, bytes int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.commits += commits
	if u.bytes += bytes; bytes < 0 && u.freed != nil {
		close(u.freed)
		u.freed = nil
	}
}

// full returns a channel that is closed when there is less, or nil if there is room.
func (u *unapplied) full() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bytes < maxUnappliedAll {
		return nil
	}
	if u.freed == nil {
		u.freed = make(chan struct{})
	}
	return u.freed
}

// size is what is read and not merged yet.
func (u *unapplied) size() Queue {
	u.mu.Lock()
	defer u.mu.Unlock()
	return Queue{Name: "read ahead", Items: u.commits, Bytes: u.bytes}
}

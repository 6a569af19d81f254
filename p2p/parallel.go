package p2p

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/pace"
)

// convoy gets what one peer is known to have from several at once. It is cut into
// pieces, which all peers take from one queue: who is fast takes more, what a slow
// one holds is taken over in the end, and what a dead one held at once. Only the one
// peer is known to have everything, so only its answer settles that there is nothing
// more; what another did not bring is asked for again, and counts against it if it
// should have had it.
type convoy struct {
	n     *Node
	id    dag.CollectionID
	main  peer.ID
	count uint64 // of its documents
	ctx   context.Context
	stop  context.CancelFunc
	tell  func(documents, commits, bytes int) // may be nil
	noted func()                              // called with a piece that is done, likewise
	done  chan struct{}                       // closed when it is over

	telling sync.Mutex // held while tell runs

	mu       sync.Mutex    // guards what follows
	ranges   []*rangePiece // of a full copy, in their order
	todo     []*piece      // in the order in which they are best taken
	flights  []*flight
	sources  map[peer.ID]*source
	live     int           // sources that are asked still
	left     int           // pieces that are not done
	finished int           // those that are,
	spent    time.Duration // and what they took
	begun    time.Time
	got      time.Time     // when a piece was done last
	changed  chan struct{} // closed and replaced when there may be something new to do
	ended    bool
	total    intake
	problem  error // the last, of any source
	workers  sync.WaitGroup
}

// piece is a part of the work.
type piece struct {
	job
	order   int
	only    bool             // nobody but the main peer is asked
	refused map[peer.ID]bool // had nothing of it
	flights int
	asked   bool // to be given up for by who waits behind it
	done    bool
}

// job is what a piece consists of. Several peers may be at the same one.
type job interface {
	// get asks for the piece and merges it.
	get(fl *flight, f *fetching) (intake, error)
	// here reports whether what came can be all. Otherwise what is left of the job is
	// what did not come.
	here(ctx context.Context, co *convoy) (bool, error)
}

// flight is a piece that a peer was asked for.
type flight struct {
	co     *convoy
	piece  *piece
	peer   peer.ID
	ctx    context.Context
	cancel context.CancelFunc

	// Guarded by convoy.mu.
	begun, moved time.Time // when it began, and brought something last
	waits        bool      // for pieces before it
}

// source is a peer that takes part.
type source struct {
	failures int
	gone     bool
}

const (
	// maxSources is how many peers are asked at once for one collection, and
	// askedAtOnce for how many pieces each: while one is merged, the next is on its way.
	maxSources  = 8
	askedAtOnce = 2
	// stallsAfter is when a peer that brings nothing has its piece taken over.
	stallsAfter = 2 * time.Second
	// lookEvery is how often somebody without work looks for pieces to take over.
	lookEvery = 250 * time.Millisecond
	// maxFailures is how often the main peer may fail; others may not.
	maxFailures = 3
	// awaitedMost is for how long others wait for a convoy in which they do not take part,
	// awaitedIdle how long if no piece of it is done.
	awaitedMost = 10 * time.Minute
	awaitedIdle = time.Minute
	// sourcesEvery is how often it is looked for more peers to ask.
	sourcesEvery = time.Second
)

var (
	// errGivesWay ends a flight whose worker is needed for a piece before it.
	errGivesWay = errors.New("given up for another piece")
	errEmpty    = errors.New("none of the documents came that it shows")
	errTaken    = errors.New("another peer was faster")
)

func (n *Node) newConvoy(ctx context.Context, id dag.CollectionID, main peer.ID, count uint64) *convoy {
	ctx, stop := context.WithCancel(ctx)
	return &convoy{n: n, id: id, main: main, count: count, ctx: ctx, stop: stop, done: make(chan struct{}),
		sources: map[peer.ID]*source{}, changed: make(chan struct{}), begun: time.Now(), got: time.Now()}
}

// convoyOf returns the convoy that gets a collection now, if there is one.
func (n *Node) convoyOf(id dag.CollectionID) *convoy {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.convoys[id]
}

// run gets all pieces. idle is called now and then meanwhile. At most one convoy runs
// for a collection: if there is another, run returns false.
func (co *convoy) run(idle func() error) (total intake, ran bool, err error) {
	n := co.n
	n.mu.Lock()
	if n.convoys[co.id] != nil {
		n.mu.Unlock()
		co.stop()
		return total, false, nil
	}
	n.convoys[co.id] = co
	n.mu.Unlock()
	defer func() {
		co.mu.Lock()
		co.ended = true
		co.wake()
		co.mu.Unlock()
		co.stop()
		co.workers.Wait()
		n.mu.Lock()
		delete(n.convoys, co.id)
		n.mu.Unlock()
		close(co.done)
		total = co.total
	}()
	co.add(co.main)
	var looked time.Time
	for {
		if time.Since(looked) >= sourcesEvery {
			looked = time.Now()
			for _, p := range n.sources(co.id, co.main, co.count) {
				co.add(p)
			}
			if idle != nil {
				if err := idle(); err != nil {
					return total, true, err
				}
			}
		}
		over, changed, err := co.state()
		if over {
			return total, true, err
		}
		if !waitChanged(co.ctx, changed, sourcesEvery) {
			return total, true, fault.Unavailable.Errorf("get a collection: %w", context.Cause(co.ctx))
		}
	}
}

// state reports whether the convoy is over: all is there, or nobody is left to ask.
func (co *convoy) state() (over bool, changed <-chan struct{}, err error) {
	co.mu.Lock()
	defer co.mu.Unlock()
	switch {
	case co.left == 0:
		return true, nil, nil
	case co.live == 0 || co.stuck():
		if err = co.problem; err == nil {
			err = fault.Unavailable.Errorf("nobody is left to ask for %d parts of a collection", co.left)
		}
		return true, nil, err
	}
	return false, co.changed, nil
}

// stuck reports whether all that is left may only be asked of peers that are gone.
func (co *convoy) stuck() bool {
	return len(co.flights) == 0 && !slices.ContainsFunc(co.todo, co.anyone)
}

// awaited reports whether a session with a peer waits for the convoy, so that nothing is
// got twice. If the peer takes part, that is as long as there is something that it can be
// asked for: what only the main peer shows, it may withhold for ever. Otherwise nothing
// is known but that the convoy gets on.
func (co *convoy) awaited(p peer.ID) bool {
	co.mu.Lock()
	defer co.mu.Unlock()
	if src := co.sources[p]; src == nil || src.gone {
		return time.Since(co.begun) < awaitedMost && time.Since(co.got) < awaitedIdle
	}
	return slices.ContainsFunc(co.todo, func(pc *piece) bool { return co.may(pc, p) }) ||
		slices.ContainsFunc(co.flights, func(fl *flight) bool { return co.may(fl.piece, p) })
}

// anyone reports whether somebody can be asked for a piece. co.mu is held.
func (co *convoy) anyone(pc *piece) bool {
	for p, src := range co.sources {
		if !src.gone && co.may(pc, p) {
			return true
		}
	}
	return false
}

// queue adds a job behind the others.
func (co *convoy) queue(j job) *piece {
	co.mu.Lock()
	defer co.mu.Unlock()
	return co.queueHeld(j)
}

func (co *convoy) queueHeld(j job) *piece {
	pc := &piece{job: j, order: co.finished + co.left, refused: map[peer.ID]bool{}}
	co.left++
	co.todo = append(co.todo, pc)
	if r, ok := j.(*rangePiece); ok {
		r.settled = func() bool { return pc.done }
	}
	co.wake()
	return pc
}

// wake lets everybody look again. co.mu is held.
func (co *convoy) wake() {
	close(co.changed)
	co.changed = make(chan struct{})
}

// add lets a peer take part.
func (co *convoy) add(p peer.ID) {
	co.mu.Lock()
	defer co.mu.Unlock()
	if co.ended || co.sources[p] != nil || co.live >= maxSources {
		return
	}
	co.sources[p] = &source{}
	co.live++
	for range askedAtOnce {
		co.workers.Go(func() { co.work(p) })
	}
}

// work takes pieces for a peer until there are none.
func (co *convoy) work(p peer.ID) {
	var f *fetching
	for {
		fl := co.take(p)
		if fl == nil {
			break
		}
		var got intake
		var err error
		if f == nil {
			if f, err = co.n.openFetch(co.ctx, p, co.id); err == nil && f.w.version < versionOfParts {
				err = fault.Unavailable.Errorf("peer %s cannot be asked for parts", p)
			}
		}
		if err == nil {
			stop := context.AfterFunc(fl.ctx, f.w.abort)
			f.merged = func(b *blocks, _ pando.Merged) error {
				fl.brought(int(b.Documents), len(b.Envelopes), b.size())
				return nil
			}
			got, err = fl.piece.get(fl, f)
			if !stop() && err == nil {
				err = errTaken
			}
		}
		if f != nil && (err != nil || f.spoiled) {
			co.book(f)
			f.close(cmp.Or(err, errEnough))
			f = nil
		}
		co.finish(fl, got, err)
		if busy := new(refuse); errors.As(err, &busy) && busy.Code == refusedBusy {
			pace.Sleep(co.ctx, pace.Jitter(max(busy.After, busyFor), 0.5))
		}
	}
	if f != nil {
		co.book(f)
		f.close(nil)
	}
}

func (co *convoy) book(f *fetching) {
	co.mu.Lock()
	defer co.mu.Unlock()
	co.total.Bytes += f.w.bytes()
}

// take waits for a piece that a peer may get; nil when it gets no more.
func (co *convoy) take(p peer.ID) *flight {
	for {
		co.mu.Lock()
		if co.ended || co.left == 0 || co.sources[p].gone {
			co.mu.Unlock()
			return nil
		}
		if pc := co.choose(p, time.Now()); pc != nil {
			fl := co.start(pc, p)
			co.mu.Unlock()
			return fl
		}
		changed := co.changed
		co.mu.Unlock()
		if !waitChanged(co.ctx, changed, lookEvery) {
			return nil
		}
	}
}

// waitChanged returns true when changed is closed, or after d, and false when ctx ends.
func waitChanged(ctx context.Context, changed <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-ctx.Done():
		return false
	}
	return true
}

func (co *convoy) start(pc *piece, p peer.ID) *flight {
	now := time.Now()
	fl := &flight{co: co, piece: pc, peer: p, begun: now, moved: now}
	fl.ctx, fl.cancel = context.WithCancel(co.ctx)
	pc.flights++
	pc.asked = false
	co.flights = append(co.flights, fl)
	co.todo = slices.DeleteFunc(co.todo, func(o *piece) bool { return o == pc })
	return fl
}

// choose returns what a peer is best asked for: what another lets lie, then what
// nobody was asked for, and in the end what takes another much longer than usual.
func (co *convoy) choose(p peer.ID, now time.Time) *piece {
	for _, fl := range co.flights {
		if co.may(fl.piece, p) && co.takenOver(fl.piece, p, func(fl *flight) bool { return fl.stalls(now) }) {
			return fl.piece
		}
	}
	for _, pc := range co.todo {
		if co.may(pc, p) {
			return pc
		}
	}
	if pc := co.split(p, now); pc != nil {
		return pc
	}
	if co.finished == 0 {
		return nil
	}
	usual := max(2*co.spent/time.Duration(co.finished), stallsAfter/2)
	for _, fl := range co.flights {
		if co.may(fl.piece, p) && co.takenOver(fl.piece, p, func(fl *flight) bool { return !fl.waits && now.Sub(fl.begun) > usual }) {
			return fl.piece
		}
	}
	return nil
}

// takenOver reports whether all who are at a piece are so slow that a peer, which is not
// among them, should try: however many they are, or two could hold it for ever. co.mu is
// held.
func (co *convoy) takenOver(pc *piece, p peer.ID, slow func(*flight) bool) bool {
	return !slices.ContainsFunc(co.flights, func(fl *flight) bool { return fl.piece == pc && (fl.peer == p || !slow(fl)) })
}

// split takes half of what a peer that has most to do for still has to give.
func (co *convoy) split(p peer.ID, now time.Time) *piece {
	for _, fl := range co.flights {
		r, ok := fl.piece.job.(*rangePiece)
		if !ok || fl.peer == p || fl.piece.only || fl.piece.flights > 1 || !co.may(fl.piece, p) {
			continue
		}
		if half := r.split(now.Sub(fl.begun)); half != nil {
			at := slices.Index(co.ranges, r)
			co.ranges = slices.Insert(co.ranges, at+1, half)
			return co.queueHeld(half)
		}
	}
	return nil
}

func (co *convoy) may(pc *piece, p peer.ID) bool {
	return !pc.done && !pc.refused[p] && (!pc.only || p == co.main)
}

func (fl *flight) stalls(now time.Time) bool { return !fl.waits && now.Sub(fl.moved) > stallsAfter }

// brought notes that something came.
func (fl *flight) brought(documents, commits, bytes int) {
	co := fl.co
	co.mu.Lock()
	fl.moved = time.Now()
	co.mu.Unlock()
	if co.tell != nil { // which may take its time
		co.telling.Lock()
		defer co.telling.Unlock()
		co.tell(documents, commits, bytes)
	}
}

// finish draws the consequences of how a flight ended.
func (co *convoy) finish(fl *flight, got intake, err error) {
	defer fl.cancel()
	here := false
	if err == nil {
		here, err = fl.piece.here(co.ctx, co)
		here = here && (len(got.Missing) == 0 || fl.peer == co.main)
	}
	if err == nil && fl.peer == co.main {
		co.n.wantMissing(co.main, co.id, got.Missing)
	}
	co.mu.Lock()
	defer co.mu.Unlock()
	defer co.wake()
	pc, src := fl.piece, co.sources[fl.peer]
	pc.flights--
	co.flights = slices.DeleteFunc(co.flights, func(o *flight) bool { return o == fl })
	co.total.include(got)
	switch {
	case pc.done: // by another
	case err == nil && (here || fl.peer == co.main):
		co.complete(pc, time.Since(fl.begun))
	case err == nil:
		pc.refused[fl.peer] = true
		co.again(pc)
		if _, counted := pc.job.(*rangePiece); counted { // by its own count
			co.disappointed(fl.peer, src)
		} else {
			pc.only = true
		}
	case errors.Is(err, errGivesWay):
		co.again(pc)
	default:
		co.again(pc)
		co.failed(fl.peer, src, err)
	}
}

// complete settles a piece. co.mu is held.
func (co *convoy) complete(pc *piece, took time.Duration) {
	pc.done = true
	co.left--
	co.finished++
	co.spent += took
	co.got = time.Now()
	for _, fl := range co.flights {
		if fl.piece == pc {
			fl.cancel()
		}
	}
	if co.noted != nil {
		co.noted()
	}
}

// again puts a piece back at its place in the queue. co.mu is held.
func (co *convoy) again(pc *piece) {
	if pc.flights > 0 || slices.Contains(co.todo, pc) {
		return
	}
	at, _ := slices.BinarySearchFunc(co.todo, pc.order, func(o *piece, order int) int { return o.order - order })
	co.todo = slices.Insert(co.todo, at, pc)
}

// disappointed notes that a peer had not what it should: nothing more is asked of it.
// co.mu is held.
func (co *convoy) disappointed(p peer.ID, src *source) {
	if !src.gone {
		src.gone = true
		co.live--
		co.n.count.Useless.Add(1)
		co.n.blame(p, blameUseless, "it has much less of a collection than it says")
	}
}

// failed notes that a peer could not be asked. co.mu is held.
func (co *convoy) failed(p peer.ID, src *source, err error) {
	if co.ctx.Err() != nil || src.gone {
		return
	}
	co.problem = err
	busy := new(refuse)
	if errors.Is(err, errEmpty) {
		src.failures = maxFailures
	}
	if src.failures++; p == co.main && (src.failures < maxFailures || errors.As(err, &busy) && busy.Code == refusedBusy && src.failures < 20*maxFailures) {
		return
	}
	src.gone = true
	co.live--
	co.n.log.Debug("a peer is asked for no more parts of a collection", "peer", p, "error", err)
}

// sources returns peers that can be asked for parts of a collection which another has:
// members that speak the version, and said to have about as much. Those that have just
// the same come first.
func (n *Node) sources(id dag.CollectionID, main peer.ID, count uint64) (out []peer.ID) {
	var same []peer.ID
	cards := map[peer.ID]card{}
	n.mu.Lock()
	for p, c := range n.companions {
		if its, ok := c.cards[id]; ok {
			cards[p] = its
		}
	}
	n.mu.Unlock()
	for p, its := range cards {
		if p == main || its.ofPart() || its.Count < count/2 || its.Count == 0 || !n.givesParts(p) || n.blamed(p) {
			continue
		}
		if _, ok := n.admission.member(p, id); !ok {
			continue
		}
		if its.Root == cards[main].Root {
			same = append(same, p)
		} else {
			out = append(out, p)
		}
	}
	slices.Sort(same)
	slices.Sort(out)
	return append(same, out...)
}

// givesParts reports whether a peer speaks a version that has parts.
func (n *Node) givesParts(p peer.ID) bool {
	ok, err := n.host.Peerstore().SupportsProtocols(p, protocolFetch)
	return err == nil && len(ok) > 0
}

package p2p

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/pace"
)

// watches are those that this node asked others for: up to watchesPerPart for each
// collection of which it keeps a part.
type watches struct {
	alarm pace.Alarm

	mu     sync.Mutex // guards what follows
	open   map[sharing]*openWatch
	pauses map[sharing]pause // of peers that refused, or failed
}

type openWatch struct {
	form string // of the scope that it was asked for
	stop context.CancelFunc
	told bool // the peer tells
}

type pause struct {
	until    time.Time
	failures int
}

func newWatches() *watches {
	return &watches{alarm: pace.NewAlarm(), open: map[sharing]*openWatch{}, pauses: map[sharing]pause{}}
}

// keepWatches sees to it that this node is told of every part that it keeps, by members
// that keep the whole, or parts if there are no others, whoever comes and goes.
func (n *Node) keepWatches(ctx context.Context) {
	for n.watches.alarm.Wait(ctx) {
		if next := n.adjustWatches(time.Now()); next > 0 {
			n.watches.alarm.Set(next)
		}
	}
}

// adjustWatches ends the watches that are not wanted any more, begins those that are
// lacking, and returns in how long to look again; 0 if nothing is to be waited for.
func (n *Node) adjustWatches(now time.Time) (next time.Duration) {
	n.mu.Lock()
	parts := maps.Clone(n.scopes)
	n.mu.Unlock()
	maps.DeleteFunc(parts, func(id dag.CollectionID, s Scope) bool { return s.None() || !n.has(id) })
	w := n.watches
	w.mu.Lock()
	defer w.mu.Unlock()
	for s, o := range w.open {
		if part, ok := parts[s.collection]; !ok || o.form != string(appendScope(nil, part)) {
			o.stop() // and begins anew when it has ended
		}
	}
	for id, scope := range parts {
		whole, others := n.keepers(id)
		began, told, wait := n.watchSome(id, scope, whole, now)
		if told {
			w.stop(id, others) // they tell less
		} else if began == 0 {
			_, _, later := n.watchSome(id, scope, others, now)
			wait = sooner(wait, later)
		}
		next = sooner(next, wait)
	}
	maps.DeleteFunc(w.pauses, func(s sharing, p pause) bool { return now.Sub(p.until) > quarantine })
	return next
}

// keepers returns the connected members of a collection that keep the whole of it, and
// the others.
func (n *Node) keepers(id dag.CollectionID) (whole, others []peer.ID) {
	for _, p := range n.sharers(id) {
		if n.keepsPart(p, id) {
			others = append(others, p)
		} else {
			whole = append(whole, p)
		}
	}
	return whole, others
}

// watchSome watches up to watchesPerPart of some members, and returns how many it does,
// whether any tells already, and in how long to ask one that has a pause, or 0.
// n.watches.mu is held.
func (n *Node) watchSome(id dag.CollectionID, scope Scope, members []peer.ID, now time.Time) (open int, told bool, next time.Duration) {
	w := n.watches
	for _, p := range members {
		if o := w.open[sharing{p, id}]; o != nil {
			open, told = open+1, told || o.told
		}
	}
	for _, p := range members {
		s := sharing{p, id}
		if open >= watchesPerPart {
			break
		}
		if w.open[s] != nil {
			continue
		}
		if left := w.pauses[s].until.Sub(now); left > 0 {
			next = sooner(next, left)
		} else if n.beginWatch(s, scope) {
			open++
		}
	}
	return open, told, next
}

// stop ends the watches of some members. mu is held.
func (w *watches) stop(id dag.CollectionID, members []peer.ID) {
	for _, p := range members {
		if o := w.open[sharing{p, id}]; o != nil {
			o.stop()
		}
	}
}

// sooner returns the shorter of two times, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// beginWatch starts one watch. n.watches.mu is held.
func (n *Node) beginWatch(s sharing, scope Scope) bool {
	ctx, stop := context.WithCancel(n.ctx)
	o := &openWatch{form: string(appendScope(nil, scope)), stop: stop}
	started := n.spawn(func(context.Context) {
		defer stop()
		err := n.watch(ctx, s, scope, o)
		n.watchEnded(s, o, err, ctx.Err() != nil)
	})
	if started {
		n.watches.open[s] = o
	}
	return started
}

// watchEnded draws the consequences of the end of a watch: what was missed is found by
// comparing, and another watch takes its place, with another member if need be.
func (n *Node) watchEnded(s sharing, o *openWatch, err error, wanted bool) {
	w := n.watches
	w.mu.Lock()
	delete(w.open, s)
	switch busy := new(refuse); {
	case wanted:
		delete(w.pauses, s)
	default:
		failures := w.pauses[s].failures + 1
		if o.told { // it went well for some time
			failures = 1
		}
		d := pace.Backoff(failures)
		if errors.As(err, &busy) {
			d = max(d, busy.After)
		}
		w.pauses[s] = pause{time.Now().Add(d), failures}
		n.log.Debug("a watch ended", "peer", s.peer, "collection", s.collection, "error", err)
	}
	w.mu.Unlock()
	n.goFrom(s)
	if o.told {
		n.repair(s.peer)
	}
	w.alarm.Set(0)
}

// watchAgain looks for what should be watched soon.
func (n *Node) watchAgain() { n.watches.alarm.Set(0) }

// watch asks a member to be told of a part, and takes in what it tells, until it ends.
func (n *Node) watch(ctx context.Context, at sharing, scope Scope, o *openWatch) error {
	if err := n.stores(false); err != nil {
		return err
	}
	ctx = inLane(ctx, live)
	ask, err := n.askToWatch(ctx, at, scope)
	if err != nil {
		return err
	}
	s, err := n.open(ctx, at.peer, watchProtocols)
	if err != nil {
		return err
	}
	w := newAsking(s, &n.traffic)
	w.version, w.patient = protocolVersion, watchPatience
	w.about(at.collection)
	defer w.abort()
	defer context.AfterFunc(ctx, w.abort)()
	if err := w.send(ask); err != nil {
		return err
	}
	for {
		m, err := w.receive()
		if err != nil {
			n.judge(at.peer, err)
			return err
		}
		switch m := m.(type) {
		case *watching:
			n.nowWatching(at, o, m)
		case *blocks:
			if err := n.takeWatched(ctx, at, m.Envelopes); err != nil {
				n.judge(at.peer, err)
				return err
			}
		default:
			err := breach("%T on a stream for watching", m)
			n.judge(at.peer, err)
			return err
		}
	}
}

// askToWatch makes the request: what this node has of documents tells what it missed.
func (n *Node) askToWatch(ctx context.Context, at sharing, scope Scope) (*watch, error) {
	by, ok := n.admission.member(at.peer, at.collection)
	shown, known := n.admission.with(at.peer).mine[claim{at.collection, by.secret}]
	if !ok || !known {
		return nil, fault.Denied.Errorf("watch: %s has not proved to share collection %s", at.peer, at.collection)
	}
	ask, size, to := &watch{Proof: shown, Scope: scope}, 0, n.reader(at.peer, at.collection)
	for _, doc := range scope.Docs[:min(len(scope.Docs), maxItems)] {
		heads, err := to.Heads(ctx, at.collection, doc)
		if err != nil {
			return nil, err
		}
		if len(heads) > maxHeads { // or all others would come again
			continue
		}
		if size += 64 + 32*len(heads); size < maxFrame/2 { // of the others comparing tells
			ask.Have = append(ask.Have, docHeads{doc, heads})
		}
	}
	return ask, nil
}

// nowWatching takes note that the peer tells from now on, and of documents with topics.
func (n *Node) nowWatching(at sharing, o *openWatch, m *watching) {
	n.watches.mu.Lock()
	first := !o.told
	o.told = true
	if first {
		delete(n.watches.pauses, at)
	}
	n.watches.mu.Unlock()
	if first {
		n.watchAgain() // there may be others who tell less
		// What was before is found by comparing.
		if c, err := n.companion(at.peer); err == nil {
			c.next.Set(pace.Jitter(repairDelay, 0.5))
		}
	}
	n.goTo(at, m)
}

// takeWatched merges what a watch told.
func (n *Node) takeWatched(ctx context.Context, at sharing, envelopes [][]byte) error {
	n.count.WatchHeard.Add(uint64(len(envelopes)))
	begun := time.Now()
	got, err := n.merge(ctx, at.collection, envelopes, at.peer)
	n.came(got.Commits, ByWatch, at.peer, begun)
	n.postpone(at, envelopes, got.Future)
	if len(got.Missing) > 0 { // mostly of documents that belong to the part from now on
		docs := orphans(envelopes, got.Missing)
		n.wantMissing(at.peer, at.collection, n.fetchAnnounced(ctx, at.peer, at.collection, docs))
	}
	return err
}

// orphans returns the commits among some that were not taken because others are
// missing, which come with them when they are asked for.
func orphans(envelopes [][]byte, missing map[dag.DocID][]dag.CID) map[dag.DocID][]dag.CID {
	docs := map[dag.DocID][]dag.CID{}
	for _, e := range envelopes {
		c, err := dag.Open(e)
		if err != nil || missing[c.Doc] == nil {
			continue
		}
		docs[c.Doc] = append(slices.DeleteFunc(docs[c.Doc], func(p dag.CID) bool { return slices.Contains(c.Parents, p) }), c.CID)
	}
	return docs
}

// told reports how many members tell this node of parts that it keeps.
func (w *watches) told() (all int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.open {
		if o.told {
			all++
		}
	}
	return all
}

// tellers returns the members that tell this node of its part of a collection, or a
// member if none does yet.
func (n *Node) tellers(id dag.CollectionID) []peer.ID {
	w := n.watches
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []peer.ID
	for s, o := range w.open {
		if s.collection == id && o.told {
			all = append(all, s.peer)
		}
	}
	if len(all) == 0 {
		all = n.sharers(id)
		all = all[:min(len(all), 1)]
	}
	slices.Sort(all)
	return all
}

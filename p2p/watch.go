package p2p

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// A node that keeps a part of a collection does not follow its topics, where it would
// hear of all of it. It watches: it asks a member that keeps the whole or, where nobody
// does, parts, to be told of what changes in its part, over a stream that stays open.
// Nothing depends on that stream: whenever one begins or ends, the two compare.

// watch asks to be told of a part of a collection.
type watch struct {
	Proof proof
	Scope Scope
	Have  []docHeads // what the asker has of documents that the scope names
}

func (m *watch) append(b []byte) []byte {
	b = appendScope(cbor.AppendBytes(begin(b, msgWatch), m.Proof[:]), m.Scope)
	return appendDocHeads(b, m.Have)
}

func readWatch(r *cbor.Reader) message {
	m := new(watch)
	exactly(r, "a proof", m.Proof[:])
	m.Scope = readScope(r)
	m.Have = readDocHeads(r, maxItems, maxHeads)
	return m
}

// watching says that the asker is told from now on and, again and again, that it still
// is. It names documents that have a topic of their own, or have it no more.
type watching struct{ Meet, Part []dag.DocID }

func (m *watching) append(b []byte) []byte {
	return appendDocs(appendDocs(begin(b, msgWatching), m.Meet), m.Part)
}

func readWatching(r *cbor.Reader) message { return &watching{readDocs(r), readDocs(r)} }

func appendDocs(b []byte, docs []dag.DocID) []byte {
	b = cbor.AppendArray(b, len(docs))
	for _, d := range docs {
		b = cbor.AppendBytes(b, d[:])
	}
	return b
}

func readDocs(r *cbor.Reader) (docs []dag.DocID) {
	for n := list(r, "documents", maxHot); n > 0 && r.Err() == nil; n-- {
		var d dag.DocID
		exactly(r, "a docID", d[:])
		docs = append(docs, d)
	}
	return docs
}

// lookouts are the parts of collections that peers watch here.
type lookouts struct {
	mu      sync.Mutex                               // guards what follows, and what lookouts and watchers say it does
	of      map[dag.CollectionID]map[string]*lookout // by scope, in canonical form
	filters map[dag.CollectionID][]*lookout          // those with a part
	named   map[uint64][]*lookout                    // the others, by the beginning of each docID
	docs    int                                      // that they name, together
	number  int                                      // of watchers
	hot     *hotDocs
}

// beginning is by what documents are looked up that scopes name.
func beginning(doc dag.DocID) uint64 { return binary.BigEndian.Uint64(doc[:]) }

// add begins to tell a lookout, if there is room. l.mu is held.
func (l *lookouts) add(at *lookout) bool {
	if at.part == nil {
		if l.docs+len(at.scope.Docs) > maxNamedDocs {
			return false
		}
		l.docs += len(at.scope.Docs)
		for _, d := range at.scope.Docs {
			l.named[beginning(d)] = append(l.named[beginning(d)], at)
		}
	} else {
		l.filters[at.id] = append(l.filters[at.id], at)
	}
	if l.of[at.id] == nil {
		l.of[at.id] = map[string]*lookout{}
	}
	l.of[at.id][at.form] = at
	return true
}

// remove ends that. l.mu is held.
func (l *lookouts) remove(at *lookout) {
	others := func(all []*lookout) []*lookout {
		return slices.DeleteFunc(all, func(o *lookout) bool { return o == at })
	}
	if at.part == nil {
		l.docs -= len(at.scope.Docs)
		for _, d := range at.scope.Docs {
			if l.named[beginning(d)] = others(l.named[beginning(d)]); len(l.named[beginning(d)]) == 0 {
				delete(l.named, beginning(d))
			}
		}
	} else if l.filters[at.id] = others(l.filters[at.id]); len(l.filters[at.id]) == 0 {
		delete(l.filters, at.id)
	}
	if delete(l.of[at.id], at.form); len(l.of[at.id]) == 0 {
		delete(l.of, at.id)
	}
}

// naming yields the lookouts whose scopes are documents alone, and this one among them.
// l.mu is held.
func (l *lookouts) naming(id dag.CollectionID, doc dag.DocID) iter.Seq[*lookout] {
	return func(yield func(*lookout) bool) {
		for _, at := range l.named[beginning(doc)] {
			if at.id != id {
				continue
			}
			if _, named := slices.BinarySearchFunc(at.scope.Docs, doc, dag.DocID.Compare); named && !yield(at) {
				return
			}
		}
	}
}

// lookout finds, in all that changes, what concerns one scope. All who watch the same
// share it.
type lookout struct {
	id    dag.CollectionID
	form  string
	scope Scope
	part  *pando.Part // of a filter; nil: the scope names documents, and that is all
	wake  chan struct{}
	stop  context.CancelFunc
	size  int64 // of part; guarded by lookouts.mu, as watchers is

	watchers map[*watcher]bool
}

// watcher is one peer that watches a part.
type watcher struct {
	peer peer.ID
	on   *lookout
	wake chan struct{} // something has changed
	send chan struct{} // something is to be sent

	// Guarded by lookouts.mu.
	changes    []dag.CID // that concern the scope
	ready      []dag.CID // those that it may read
	lost       bool      // something that it had to be told
	meet, part []dag.DocID
}

func newLookouts() *lookouts {
	return &lookouts{of: map[dag.CollectionID]map[string]*lookout{}, filters: map[dag.CollectionID][]*lookout{},
		named: map[uint64][]*lookout{}, hot: newHotDocs()}
}

func (n *Node) handleWatch(s network.Stream) { n.handle(s, aWatch, n.serveWatch) }

var tooManyWatched = &refuse{Code: refusedBusy, Text: "too much is watched here already", After: retryFirst}

// watchFrom begins a watch of a peer: what changes from now on is in its queue.
func (n *Node) watchFrom(ctx context.Context, p peer.ID, id dag.CollectionID, s Scope) (*watcher, error) {
	x := &watcher{peer: p, wake: make(chan struct{}, 1), send: make(chan struct{}, 1)}
	form := string(appendScope(nil, s))
	if !n.lookouts.join(x, id, form) {
		at, err := n.lookOut(ctx, id, form, s)
		if err != nil {
			return nil, err
		}
		if !n.lookouts.joinNew(x, at) {
			return nil, tooManyWatched
		}
	}
	x.on.poke() // for what changed meanwhile
	n.heat(x, +1)
	return x, nil
}

// join adds a watcher to a lookout that there is already.
func (l *lookouts) join(x *watcher, id dag.CollectionID, form string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.joinHeld(x, id, form)
}

func (l *lookouts) joinHeld(x *watcher, id dag.CollectionID, form string) bool {
	if x.on = l.of[id][form]; x.on == nil {
		return false
	}
	x.on.watchers[x] = true
	l.number++
	return true
}

// joinNew adds a watcher to a new lookout, or to one that another came with first.
func (l *lookouts) joinNew(x *watcher, at *lookout) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.joinHeld(x, at.id, at.form) {
		at.stop()
		return true
	}
	if !l.add(at) {
		at.stop()
		return false
	}
	return l.joinHeld(x, at.id, at.form)
}

// lookOut begins to look out for a scope.
func (n *Node) lookOut(ctx context.Context, id dag.CollectionID, form string, s Scope) (*lookout, error) {
	at := &lookout{id: id, form: form, scope: s, wake: make(chan struct{}, 1), watchers: map[*watcher]bool{}, stop: func() {}}
	if s.Filter == "" {
		return at, nil
	}
	part, err := n.replica.Part(id, s)
	if err != nil {
		return nil, err
	}
	// It may be a pass over the collection, and who asks chooses the filter.
	select {
	case n.parts.turns <- struct{}{}:
		_, err = part.Summary(ctx)
		<-n.parts.turns
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	at.part, at.size = part, part.Bytes()
	l, all := n.lookouts, at.size
	l.mu.Lock()
	for _, of := range l.of {
		for _, o := range of {
			all += o.size
		}
	}
	l.mu.Unlock()
	if all > maxWatchedBytes {
		return nil, tooManyWatched
	}
	own, stop := context.WithCancel(n.ctx)
	at.stop = stop
	if !n.spawn(func(context.Context) { n.look(own, at) }) {
		stop()
		return nil, fault.Closed.Errorf("the node is closed")
	}
	return at, nil
}

// watchEnds takes a watcher away, and with the last the lookout.
func (n *Node) watchEnds(x *watcher) {
	n.heat(x, -1)
	l := n.lookouts
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number--
	delete(x.on.watchers, x)
	if len(x.on.watchers) == 0 {
		x.on.stop()
		l.remove(x.on)
	}
}

func (at *lookout) poke() { poke(at.wake) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will look anyway
	}
}

// tell is told of every change, and passes it to those whom it concerns. It must not
// take long.
func (l *lookouts) tell(c pando.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.filters[c.Collection] {
		at.poke()
	}
	if len(l.named[beginning(c.Doc)]) == 0 || l.hot.tell(c) {
		return // who takes part in the topic of the document hears it there, and the others are told then
	}
	for at := range l.naming(c.Collection, c.Doc) {
		l.deliver(at, c)
	}
}

// deliver puts a change into the queues of those who watch. l.mu is held.
func (l *lookouts) deliver(at *lookout, c pando.Change) {
	for x := range at.watchers {
		x.take(c)
	}
}

// take adds a change to the queue of a watcher. lookouts.mu is held.
func (x *watcher) take(c pando.Change) {
	if c.Origin == x.peer.String() {
		return
	}
	if len(x.changes) >= maxWatchQueue {
		x.lost, x.changes = true, nil
	}
	if !x.lost {
		x.changes = append(x.changes, c.Commit)
	}
	poke(x.wake)
}

// look finds what concerns a filter, whenever something changed: documents that
// belong to it now, and those that belonged to it before.
func (n *Node) look(ctx context.Context, at *lookout) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-at.wake:
		}
		changes, whole, err := n.changesOf(ctx, at)
		l := n.lookouts
		l.mu.Lock()
		if at.size = at.part.Bytes(); err != nil || !whole {
			for x := range at.watchers {
				x.lost = true
				poke(x.wake)
			}
		}
		for _, c := range changes {
			l.deliver(at, c)
		}
		l.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			n.log.Debug("a watched part cannot be read", "collection", at.id, "error", err)
		}
	}
}

// changesOf returns what changed in a part since the last time. whole is false if
// that cannot be told, because all of it is judged otherwise now.
func (n *Node) changesOf(ctx context.Context, at *lookout) (changes []pando.Change, whole bool, err error) {
	step, err := at.part.Follow(ctx)
	if err != nil || step.Anew {
		return nil, err == nil && !step.Anew, err
	}
	for c, err := range n.replica.Log(ctx, step.After) {
		if err != nil {
			return nil, false, err
		}
		if c.Seq > step.Until {
			break
		}
		if c.Collection == at.id && step.Docs[c.Doc] {
			changes = append(changes, c)
		}
	}
	return changes, true, nil
}

// serveWatch tells one peer of a part as it changes, for as long as both want.
func (n *Node) serveWatch(ctx context.Context, w *wire, place *seat) error {
	w.version = protocolVersion // the number of the protocol's name is its own
	ctx = inLane(ctx, live)
	m, err := w.receive()
	if err == io.EOF {
		return nil
	}
	if err != nil {
		return err
	}
	ask, ok := m.(*watch)
	if !ok {
		return breach("%T on a stream for watching", m)
	}
	id, err := n.admitWatch(w, place, ask)
	if err != nil {
		return err
	}
	x, err := n.watchFrom(ctx, place.peer, id, ask.Scope)
	if errors.Is(err, fault.Invalid) {
		return &refuse{Code: refusedInvalid, Text: err.Error()}
	}
	if err != nil {
		return err
	}
	defer n.watchEnds(x)
	gone := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() { // what comes, if anything does, is the end
		defer close(gone)
		w.s.SetReadDeadline(time.Time{})
		w.r.ReadByte()
	})
	defer reader.Wait()
	defer w.s.CloseRead()
	ctx, stop := context.WithCancel(ctx)
	var sifting sync.WaitGroup
	sifting.Go(func() { n.sift(ctx, x) })
	defer sifting.Wait()
	defer stop()
	if err := w.send(&watching{}); err != nil {
		return err
	}
	out, before := n.reader(place.peer, id).sender(ctx, w), w.written.Load()
	for _, d := range ask.Have {
		if err := out.sendDocument(ctx, pando.Want{Doc: d.Doc, Have: d.Heads}); err != nil {
			return err
		}
	}
	if err := out.flush(); err != nil {
		return err
	}
	n.chargeBytes(place.peer, w, before)
	return n.tellWatcher(ctx, w, out, x, gone)
}

var (
	keepsNothing = &refuse{Code: refusedPart, Text: "this node keeps nothing of the collection itself", After: retryMost}
	keepsLess    = &refuse{Code: refusedPart, Text: "this node keeps less of the collection since now", After: retryFirst}
)

// admitWatch returns the collection that a peer may watch a part of.
func (n *Node) admitWatch(w *wire, place *seat, ask *watch) (dag.CollectionID, error) {
	c, ok := n.admission.admits(place.peer, ask.Proof)
	if !ok {
		return c.id, &refuse{Code: refusedAdmission, Text: "this collection is not shared with you"}
	}
	if err := place.proved(); err != nil {
		return c.id, err
	}
	w.about(c.id)
	if err := n.charge(place.peer, ask); err != nil {
		return c.id, err
	}
	if n.scopeOf(c.id).None() || !n.has(c.id) {
		return c.id, keepsNothing
	}
	if ask.Scope.Whole || ask.Scope.None() {
		return c.id, &refuse{Code: refusedInvalid, Text: "all of a collection is told of in its topics, and of nothing there is nothing to tell"}
	}
	return c.id, nil
}

// sift finds what a watcher may read of what changed, while it is sent other things. So
// that something was lost depends on that alone: a peer that stops reading is not told how
// much changes that it may not read, and meets a filter of its choice.
func (n *Node) sift(ctx context.Context, x *watcher) {
	l := n.lookouts
	for {
		select {
		case <-ctx.Done():
			return
		case <-x.wake:
		}
		l.mu.Lock()
		changes := x.changes
		x.changes = nil
		l.mu.Unlock()
		ready, err := n.reader(x.peer, x.on.id).those(ctx, changes)
		l.mu.Lock()
		if err != nil || len(x.ready)+len(ready) > maxWatchQueue {
			x.lost, ready = true, nil
		}
		x.ready = append(x.ready, ready...)
		l.mu.Unlock()
		poke(x.send)
	}
}

// tellWatcher tells a watcher what is put into its queue, until it is gone.
func (n *Node) tellWatcher(ctx context.Context, w *wire, out *sender, x *watcher, gone chan struct{}) error {
	beat := time.NewTicker(watchBeat)
	defer beat.Stop()
	l, whole := n.lookouts, !n.partial(x.on.id)
	for {
		beats := false
		select {
		case <-gone:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C:
			beats = true
		case <-x.send:
		}
		l.mu.Lock()
		changes, lost, news := x.ready, x.lost, watching{x.meet, x.part}
		x.ready, x.meet, x.part = nil, nil, nil
		l.mu.Unlock()
		if s := n.scopeOf(x.on.id); s.None() || whole && !s.Whole {
			return keepsLess // who watches chooses anew by whom to be told
		}
		if lost {
			return &refuse{Code: refusedBusy, Text: "more changed than can be told: compare instead", After: retryFirst}
		}
		out.again()
		if err := out.sendCommits(ctx, changes); err != nil {
			return err
		}
		n.count.Watched.Add(uint64(len(changes)))
		if beats || len(news.Meet)+len(news.Part) > 0 {
			if err := w.send(&news); err != nil {
				return err
			}
		}
	}
}

// sendCommits sends those of some commits that are here.
func (s *sender) sendCommits(ctx context.Context, commits []dag.CID) error {
	for _, c := range commits {
		envelope, err := s.to.Block(ctx, c)
		if errors.Is(err, fault.NotFound) {
			continue
		}
		if err == nil {
			err = s.add(envelope)
		}
		if err != nil {
			return err
		}
	}
	return s.flush()
}

// noteKeeper notes whether a peer keeps less than all of a collection, as it said last.
func (n *Node) noteKeeper(p peer.ID, id dag.CollectionID, part bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.companions[p]
	if c != nil && c.parts[id] != part {
		n.watchAgain()
	}
	switch {
	case c == nil:
	case !part:
		delete(c.parts, id)
	case c.parts == nil:
		c.parts = map[dag.CollectionID]bool{id: true}
	default:
		c.parts[id] = true
	}
}

// keepsPart reports whether a connected peer keeps less than all of a collection: what
// concerns it, it hears from whom it watches.
func (n *Node) keepsPart(p peer.ID, id dag.CollectionID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.companions[p]
	return c != nil && c.parts[id]
}

func (l *lookouts) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.number
}

package pando

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/query"
	"github.com/pandodb/pando/internal/store"
)

// hub finds the live queries that a change concerns. One goroutine reads the feed for
// all of them: it runs while there are any, and ends with the last or with Close.
//
// It holds the snapshot up to which everybody has been told. Looking at a changed
// document as it was there and as it is now finds every result that it leaves, enters
// or stays in by a few look-ups, however many others there are.
type hub struct {
	store *store.Store
	turns chan struct{} // one token per whole result that is being made, at most maxTurns
	held  atomic.Int64  // bytes of results, and of events that wait for their readers

	mu      sync.Mutex // guards what follows, and what is kept of live queries
	told    *store.Tx  // the snapshot up to which they have been told; nil without any
	watched map[CollectionID]*watched
	groups  map[DocID]set // on which it depends what their readers may read
	count   int
	looks   uint64 // documents looked at
	end     context.CancelFunc
	ended   chan struct{}
	closed  bool
}

// live is one live query that is being followed.
type live struct {
	who     Caller      // the reader
	result  *query.Live // guarded by the hub's mu if it is kept document by document
	asked   []DocID     // groups that the hub watches for it; guarded by the hub's mu
	seen    uint64      // the last look at a document that concerned it, as the next two guarded by the hub's mu
	step    uint64      // the last step that did
	member  bool        // of the hub
	size    int64       // of the result, as it is counted; guarded as that is
	telling int64       // what the reader is told right now, as it is counted; the reader's

	mu    sync.Mutex // guards what waits for the reader
	wake  chan struct{}
	patch []byte // operations with their brackets; counted
	seq   uint64 // up to which the patch tells
	dirty bool   // the result is to be made anew
	stale bool   // the reader needs the whole result: too much has changed meanwhile
	err   error
}

// maxPatch is how much of changes waits for a reader before it is told the whole result
// instead.
const maxPatch = 1 << 20

// maxTurns bounds how many results are made as a whole at once: each takes much memory,
// and others want to write meanwhile.
const maxTurns = 4

// maxHeld bounds what all live queries of a database hold together: a machine has room
// for that beside everything else.
const maxHeld = 256 << 20

// eventCopies is how often an event is in memory while it is sent: as it was made, and
// in the message of whoever sends it.
const eventCopies = 3

// turn waits until a result may be made; whoever makes it gives the turn back.
func (h *hub) turn(ctx context.Context) error {
	select {
	case h.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reserve counts n bytes in, unless that is too much.
func (h *hub) reserve(n int64) error {
	if n > 0 && h.held.Add(n) > maxHeld {
		h.held.Add(-n)
		return fault.Unavailable.Errorf("live queries hold %d MiB together, which leaves no room for this one: add a limit or a filter, or retry later", maxHeld>>20)
	}
	return nil
}

func (h *hub) release(n int64) { h.held.Add(-n) }

// resize counts the result as it is now.
func (h *hub) resize(l *live) error {
	now := l.result.Held()
	if now <= l.size {
		h.release(l.size - now)
	} else if err := h.reserve(now - l.size); err != nil {
		return err
	}
	l.size = now
	return nil
}

// signal tells the reader to look.
func (l *live) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // it will
	}
}

// join loads a result and follows it from there.
func (h *hub) join(ctx context.Context, l *live) (data []byte, seq uint64, err error) {
	if err := h.turn(ctx); err != nil {
		return nil, 0, err
	}
	defer func() { <-h.turns }()
	tx, err := h.store.Begin(store.System, true)
	if err != nil {
		return nil, 0, err
	}
	seen := tx.As(l.who)
	if data, err = l.result.Load(ctx, seen); err != nil {
		tx.Discard()
		return nil, 0, err
	}
	first := int64(len(data)) * eventCopies
	if err = h.reserve(first); err == nil {
		l.telling = first
		err = h.resize(l)
	}
	if err != nil {
		tx.Discard()
		return nil, 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		tx.Discard()
		return nil, 0, errClosed
	}
	seq = tx.Seq()
	if h.told == nil {
		h.begin(tx)
	} else {
		tx.Discard()
		if err := h.step(ctx); err != nil {
			return nil, 0, err
		}
	}
	if err := h.store.Await(ctx, seq); err != nil {
		h.leave(l)
		return nil, 0, err
	}
	h.watch(l)
	h.ask(l, seen)
	return data, seq, h.catchUp(ctx, l, seq)
}

var errClosed = fault.Closed.Errorf("the database is closed")

// catchUp tells a live query, loaded at seq, what has changed since.
func (h *hub) catchUp(ctx context.Context, l *live, seq uint64) error {
	if seq >= h.told.Seq() {
		return nil
	}
	if !l.result.Kept() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.dirty = true
		l.signal()
		return nil
	}
	done := map[DocID]bool{}
	seen := h.told.As(l.who)
	for ch, err := range h.told.Changed(seq) {
		if err != nil {
			return err
		}
		if _, ok := h.groups[ch.Doc][l]; ok {
			l.again()
			return nil
		}
		w := h.watched[ch.Collection]
		if w == nil || done[ch.Doc] {
			continue
		}
		done[ch.Doc] = true
		d, ok, err := query.GetOrNone(h.told, w.coll, ch.Doc)
		if err == nil && ok {
			err = l.change(ctx, seen, d)
		}
		if err != nil {
			return err
		}
	}
	h.ask(l, seen)
	h.publish(l)
	return nil
}

// change tells a result of a document, if its reader may know of it.
func (l *live) change(ctx context.Context, seen *store.Tx, d store.Doc) error {
	may, err := seen.MayRead(d)
	switch {
	case err != nil:
		return err
	case !may:
		return l.result.Gone(ctx, seen, d.Collection, d.ID)
	}
	return l.result.Change(ctx, seen, d)
}

// again lets the reader be told the whole result.
func (l *live) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stale = true
	l.signal()
}

// ask watches the groups that it took to say what a reader may read. mu is held.
func (h *hub) ask(l *live, seen *store.Tx) (news bool) {
	for _, g := range seen.Asked() {
		if _, known := h.groups[g][l]; !known && l.member {
			put(h.groups, g, l)
			l.asked = append(l.asked, g)
			news = true
		}
	}
	return news
}

// begin starts to follow the feed from a snapshot on.
func (h *hub) begin(tx *store.Tx) {
	ctx, cancel := context.WithCancel(context.Background())
	h.told, h.end, h.ended = tx, cancel, make(chan struct{})
	h.watched, h.groups = map[CollectionID]*watched{}, map[DocID]set{}
	go h.follow(ctx, tx.Seq(), h.ended)
}

func (h *hub) follow(ctx context.Context, seq uint64, ended chan struct{}) {
	defer close(ended)
	for {
		err := h.store.Await(ctx, seq+1)
		if ctx.Err() != nil {
			return
		}
		h.mu.Lock()
		if err == nil && ctx.Err() == nil {
			err = h.step(ctx)
		}
		if h.told != nil {
			seq = h.told.Seq()
		}
		if err != nil && ctx.Err() == nil {
			for _, l := range h.all() {
				l.fail(err)
			}
			err = errors.Join(err, errClosed)
		}
		h.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (l *live) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	l.signal()
}

// step tells everybody concerned of what has changed since the snapshot, and takes a
// new one. mu is held.
func (h *hub) step(ctx context.Context) error {
	next, err := h.store.Begin(store.System, true)
	if err != nil {
		return err
	}
	touched, err := h.compare(ctx, next)
	if err == nil {
		err = h.store.Await(ctx, next.Seq())
	}
	if err != nil {
		next.Discard()
		return err
	}
	if next.Set() != h.told.Set() { // fields may read otherwise, and plans are for the old ones
		touched = h.all()
		for _, l := range touched {
			l.again()
		}
	}
	h.told.Discard()
	h.told = next
	for _, l := range touched {
		h.publish(l)
	}
	return nil
}

// compare looks at the documents that differ between two snapshots, and returns the
// live queries that were told of one.
func (h *hub) compare(ctx context.Context, next *store.Tx) (touched []*live, err error) {
	done := map[DocID]bool{}
	seq := next.Seq()
	var concerned []*live
	seen := map[*live]*store.Tx{} // the snapshot as readers see it
	for ch, err := range next.Changed(h.told.Seq()) {
		if err != nil {
			return nil, err
		}
		for l := range h.groups[ch.Doc] { // who knows which documents come and go
			if touched = l.touch(touched, seq); l.result.Kept() {
				l.again()
			}
		}
		w := h.watched[ch.Collection]
		if w == nil || done[ch.Doc] {
			continue
		}
		done[ch.Doc] = true
		now, ok, err := query.GetOrNone(next, w.coll, ch.Doc)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		before, existed, err := query.GetOrNone(h.told, w.coll, ch.Doc)
		if err != nil {
			return nil, err
		}
		concerned = w.concerned(concerned[:0], now)
		if existed {
			concerned = w.concerned(concerned, before)
		}
		h.looks++
		for _, l := range concerned {
			if l.seen == h.looks {
				continue
			}
			l.seen = h.looks
			if touched = l.touch(touched, seq); !l.result.Kept() {
				continue
			}
			as := next
			if w.coll.Access() != nil {
				if as = seen[l]; as == nil {
					as = next.As(l.who)
					seen[l] = as
				}
			}
			if err := l.change(ctx, as, now); err != nil {
				l.fail(err)
			}
		}
	}
	for l, tx := range seen {
		h.ask(l, tx)
	}
	return touched, nil
}

// touch appends the live query to those that a step concerns, once.
func (l *live) touch(touched []*live, step uint64) []*live {
	if l.step == step {
		return touched
	}
	l.step = step
	return append(touched, l)
}

// publish hands what has changed to the reader. mu is held, and what is told durable.
func (h *hub) publish(l *live) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.result.Kept() {
		l.dirty = true
		l.signal()
		return
	}
	if err := h.resize(l); err != nil && l.err == nil {
		l.err = err
		l.signal()
	}
	patch := l.result.TakePatch()
	if patch == nil || l.stale {
		return
	}
	h.release(int64(len(l.patch)))
	if l.patch == nil {
		l.patch = patch
	} else {
		l.patch = append(append(l.patch[:len(l.patch)-1], ','), patch[1:]...)
	}
	if l.seq = h.told.Seq(); len(l.patch) > maxPatch || h.reserve(int64(len(l.patch))) != nil {
		l.patch, l.stale = nil, true
	}
	l.signal()
}

// leave ends that a live query is followed. It may be called twice. mu is held; the
// goroutine is waited for by whoever closes the database.
func (h *hub) leave(l *live) {
	h.unwatch(l)
	if h.count == 0 && h.told != nil {
		h.end()
		h.told.Discard()
		h.told, h.watched, h.groups = nil, nil, nil
	}
}

// part is leave for a reader.
func (h *hub) part(l *live) {
	h.mu.Lock()
	h.leave(l)
	ended, idle := h.ended, h.count == 0
	l.mu.Lock()
	h.release(l.size + l.telling + int64(len(l.patch)))
	l.size, l.telling, l.patch = 0, 0, nil
	l.mu.Unlock()
	h.mu.Unlock()
	if idle && ended != nil {
		<-ended
	}
}

// close ends all, and waits for the goroutine.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	for _, l := range h.all() {
		l.fail(errClosed)
		h.leave(l)
	}
	ended := h.ended
	h.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// watched are the live queries over a collection, by what of it concerns them.
type watched struct {
	coll   *Collection
	all    set
	docs   map[DocID]set
	fields []*watchedField
}

// watchedField are those that ask for certain values of a field.
type watchedField struct {
	field *Field
	by    map[string]set
}

type set map[*live]struct{}

// concerned appends the live queries that a document concerns.
func (w *watched) concerned(list []*live, d store.Doc) []*live {
	for l := range w.all {
		list = append(list, l)
	}
	for l := range w.docs[d.ID] {
		list = append(list, l)
	}
	var scratch [64]byte
	for _, f := range w.fields {
		for l := range f.by[string(query.Key(scratch[:0], f.field, d))] {
			list = append(list, l)
		}
	}
	return list
}

func (h *hub) watch(l *live) {
	h.count++
	l.member = true
	for _, in := range l.result.Interests() {
		w := h.watched[in.Collection.ID]
		if w == nil {
			w = &watched{coll: in.Collection, all: set{}, docs: map[DocID]set{}}
			h.watched[in.Collection.ID] = w
		}
		w.coll = in.Collection // the newest version
		switch {
		case in.Docs != nil:
			for _, id := range in.Docs {
				put(w.docs, id, l)
			}
		case in.Field != nil:
			f := w.field(in.Field)
			for _, k := range in.Keys {
				put(f.by, k, l)
			}
		default:
			w.all[l] = struct{}{}
		}
	}
}

// asked watches the groups that it took to make a result anew. If others have been
// told of more meanwhile, what they were told of may be one of these groups.
func (h *hub) asked(l *live, tx *store.Tx) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.told != nil && h.ask(l, tx) && h.told.Seq() > tx.Seq() {
		h.publish(l)
	}
}

func (w *watched) field(f *Field) *watchedField {
	for _, g := range w.fields {
		if g.field == f {
			return g
		}
	}
	g := &watchedField{f, map[string]set{}}
	w.fields = append(w.fields, g)
	return g
}

func put[K comparable](m map[K]set, k K, l *live) {
	if m[k] == nil {
		m[k] = set{}
	}
	m[k][l] = struct{}{}
}

func drop[K comparable](m map[K]set, k K, l *live) {
	if delete(m[k], l); len(m[k]) == 0 {
		delete(m, k)
	}
}

// unwatch does nothing if the live query is not watched.
func (h *hub) unwatch(l *live) {
	if !l.member {
		return
	}
	l.member = false
	h.count--
	for _, g := range l.asked {
		drop(h.groups, g, l)
	}
	l.asked = nil
	for _, in := range l.result.Interests() {
		w := h.watched[in.Collection.ID]
		delete(w.all, l)
		for _, id := range in.Docs {
			drop(w.docs, id, l)
		}
		if in.Field == nil {
			continue
		}
		f := w.field(in.Field)
		for _, k := range in.Keys {
			drop(f.by, k, l)
		}
		if len(f.by) == 0 {
			w.fields = slices.DeleteFunc(w.fields, func(g *watchedField) bool { return g == f })
		}
	}
}

// all returns every live query.
func (h *hub) all() (list []*live) {
	seen := set{}
	add := func(s set) {
		for l := range s {
			if _, ok := seen[l]; !ok {
				seen[l] = struct{}{}
				list = append(list, l)
			}
		}
	}
	for _, w := range h.watched {
		add(w.all)
		for _, s := range w.docs {
			add(s)
		}
		for _, f := range w.fields {
			for _, s := range f.by {
				add(s)
			}
		}
	}
	return list
}

// followLive tells of a live query: the whole result, then its changes.
func (s *subscriber) followLive(ctx context.Context, yield func(Event, error) bool) error {
	if s.heartbeat > 0 && !yield(Event{Cursor: s.db.cursor(s.after)}, nil) {
		return errEnough
	}
	for revision := uint64(1); ; {
		err := s.tellLive(ctx, &revision, yield)
		if err != errStale {
			return err
		}
		s.resume = false
		if err := s.compile(); err != nil {
			return err
		}
		if !s.plan.IsLive() {
			return refused(fault.Invalid.Errorf("the request is no live query any more"))
		}
	}
}

// errStale says that the whole result has to be told again.
var errStale = fault.Conflict.Errorf("too much has changed")

func (s *subscriber) tellLive(ctx context.Context, revision *uint64, yield func(Event, error) bool) error {
	h := &s.db.hub
	l := &live{who: s.db.who, result: s.plan.Live(), wake: make(chan struct{}, 1)}
	data, seq, err := h.join(ctx, l)
	defer h.part(l)
	if err != nil {
		return err
	}
	e := Event{Data: data}
	if s.resume && s.unchanged(ctx, l.result.Interests(), seq) {
		e = Event{Patch: json.RawMessage("[]")}
	}
	for s.after = seq; ; {
		e.Cursor = s.db.cursor(s.after)
		if !e.IsHeartbeat() {
			e.Revision = *revision
			*revision++
			s.cover(&e)
		}
		if !yield(e, nil) {
			return errEnough
		}
		h.release(l.telling)
		l.telling = 0
		if e, err = s.nextLive(ctx, l); err != nil {
			return err
		}
	}
}

// unchanged reports whether nothing that a result may depend on has changed from the
// cursor of the reader up to seq, as far as that is soon seen.
func (s *subscriber) unchanged(ctx context.Context, ins []query.Interest, seq uint64) bool {
	seen := 0
	for ch, err := range s.db.store.Log(ctx, store.System, s.after) {
		if err == nil && ch.Seq > seq {
			return true
		}
		concerns := func(in query.Interest) bool {
			return in.Collection.ID == ch.Collection || in.Collection.Access() != nil && s.protects(ch.Collection)
		}
		if seen++; err != nil || seen > eventPage || slices.ContainsFunc(ins, concerns) {
			return false
		}
	}
	return true
}

// protects reports whether a change of a collection can say who may read others: its
// documents can be groups.
func (s *subscriber) protects(coll CollectionID) bool {
	c, ok := s.set.ByID(coll)
	return !ok || c.Access() != nil
}

// nextLive waits for a change, or until it is time for a heartbeat.
func (s *subscriber) nextLive(ctx context.Context, l *live) (Event, error) {
	var beat <-chan time.Time
	if s.heartbeat > 0 {
		t := time.NewTimer(s.heartbeat)
		defer t.Stop()
		beat = t.C
	}
	for {
		select {
		case <-l.wake:
		case <-beat:
			return Event{}, nil
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
		l.mu.Lock()
		patch, at, dirty, stale, err := l.patch, l.seq, l.dirty, l.stale, l.err
		l.patch, l.dirty = nil, false
		l.mu.Unlock()
		l.telling += int64(len(patch)) // as it was counted
		switch {
		case err != nil:
			return Event{}, err
		case stale:
			return Event{}, errStale
		case dirty:
			if patch, at, err = s.anew(ctx, l); err != nil {
				return Event{}, err
			}
		}
		if patch != nil {
			s.after = at
			return Event{Patch: json.RawMessage(patch)}, nil
		}
	}
}

// anew makes a result that is not kept document by document again. It takes no more
// than about half of the time: the changes of the other half come together.
func (s *subscriber) anew(ctx context.Context, l *live) (patch []byte, seq uint64, err error) {
	h := &s.db.hub
	if err := h.turn(ctx); err != nil {
		return nil, 0, err
	}
	begun := time.Now()
	err = s.db.store.View(ctx, s.db.who, func(tx *store.Tx) error {
		seq = tx.Seq()
		defer func() { h.asked(l, tx) }()
		return l.result.Anew(ctx, tx)
	})
	if err == nil {
		err = h.resize(l)
	}
	<-h.turns
	if err != nil {
		return nil, 0, err
	}
	if patch = l.result.TakePatch(); patch != nil {
		return patch, seq, s.db.store.Await(ctx, seq)
	}
	rest := time.NewTimer(min(time.Since(begun), time.Second))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return nil, 0, err
}

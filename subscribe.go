package pando

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/query"
	"github.com/pandodb/pando/internal/store"
)

// Cursor marks a place in the feed of one database directory, as events carry it: who
// keeps the last one resumes after it. "" is no place.
type Cursor string

// Event is what a subscription tells of one change, or a live query of several. What
// has neither data nor a patch is a heartbeat.
type Event struct {
	Cursor Cursor
	// Data is the document under the key of the root field; of a live query, the whole
	// result.
	Data json.RawMessage
	// Patch says how the result of a live query has changed: a JSON Patch (RFC 6902) of
	// the operations add, remove and replace.
	Patch json.RawMessage
	// Revision counts the events of a live query but heartbeats, from 1.
	Revision uint64
	// Coverage tells of the collections that the events depend on and of which the database
	// does not keep everything, as Result does: in the first event, and in the next one
	// after what is kept has changed. Nil says nothing new; empty, that all is kept by now.
	Coverage []Coverage
}

// IsHeartbeat reports whether the event tells of nothing but its cursor.
func (e Event) IsHeartbeat() bool { return e.Data == nil && e.Patch == nil }

// AppendJSON appends the event as it is sent: {"data": …}, of a live query
// {"data": …, "revision": 1} or {"patch": […], "revision": 2}. Coverage is among the
// extensions.
func (e Event) AppendJSON(b []byte) []byte {
	b = e.appendBody(b)
	if e.Coverage != nil {
		b = append(appendCoverageList(append(b, `,"extensions":{`...), e.Coverage), '}')
	}
	return append(b, '}')
}

func (e Event) appendBody(b []byte) []byte {
	if e.Patch != nil {
		b = append(append(b, `{"patch":`...), e.Patch...)
	} else {
		b = append(append(b, `{"data":`...), e.Data...)
	}
	if e.Revision > 0 {
		b = strconv.AppendUint(append(b, `,"revision":`...), e.Revision, 10)
	}
	return b
}

// AppendMessage appends the event with its cursor in it, for a way to send it that has
// no place for one: {"data": …, "extensions": {"cursor": …}}.
func (e Event) AppendMessage(b []byte) []byte {
	b = append(e.appendBody(b), `,"extensions":{"cursor":"`...)
	b = append(append(b, e.Cursor...), '"')
	if e.Coverage != nil {
		b = appendCoverageList(append(b, ','), e.Coverage)
	}
	return append(b, "}}"...)
}

// SubscribeOptions configure a subscription. The zero value tells of what changes from
// now on.
type SubscribeOptions struct {
	// After resumes behind the event that had this cursor.
	After Cursor
	// Heartbeat makes an event without data come first, and then whenever nothing was
	// told for that long: its cursor says how far the feed has been looked through.
	Heartbeat time.Duration
}

// Subscribe follows a GraphQL subscription or a live query, query @live { … }.
//
// A subscription is told of every change, local or remote, of a document that matches: created, updated or deleted, one event each, with
// the document as it was after it. The filter is applied to that, too. Events come in
// the order of the feed, durable before they are told, from the moment of the call on.
// A slow reader slows nobody and loses nothing.
//
// A live query is told its whole result, and then what changes in it, several writes
// in one event if they come fast. A slow reader is told the whole result again when
// too much has changed meanwhile, and so is one that resumes; but an empty patch says
// that what it knew at its cursor is still whole.
//
// Both end with the context's error, or Closed.
func (db *DB) Subscribe(ctx context.Context, r Request, o SubscribeOptions) iter.Seq2[Event, error] {
	s := &subscriber{db: db, request: r, heartbeat: o.Heartbeat}
	err := s.start(o.After)
	return func(yield func(Event, error) bool) {
		if err == nil {
			err = s.tell(ctx, yield)
		}
		if err != nil && err != errEnough {
			yield(Event{}, err)
		}
	}
}

// Streams reports whether a request is for Subscribe and not for Exec. It says nothing
// of whether it is right.
func (db *DB) Streams(r Request) bool {
	// The text is parsed, which a large mutation should not be twice.
	if strings.Contains(r.Query, "subscription") && query.IsStream(db.schemas.Of(db.store.Schema()), r.Query, r.OperationName) {
		return true
	}
	if !strings.Contains(r.Query, "@live") {
		return false
	}
	p, err := db.compile(db.store.Schema(), r)
	return err == nil && p.IsLive()
}

// cursor names a place in the feed.
func (db *DB) cursor(seq uint64) Cursor {
	return Cursor(db.cursorPrefix() + strconv.FormatUint(seq, 10))
}

func (db *DB) cursorPrefix() string {
	epoch := db.store.Epoch()
	return hex.EncodeToString(epoch[:8]) + "-" // enough to tell directories apart
}

// place returns the number in the feed that a cursor names.
func (db *DB) place(c Cursor) (uint64, error) {
	text, ok := strings.CutPrefix(string(c), db.cursorPrefix())
	if !ok {
		return 0, fault.Invalid.Errorf("cursor %.60q is not one of this database, or from before it was made anew: start without one", c)
	}
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil || seq > db.store.Seq() {
		return 0, fault.Invalid.Errorf("cursor %.60q names no change of this database: start without one", c)
	}
	return seq, nil
}

// subscriber is one subscription on its way through the feed.
type subscriber struct {
	db        *DB
	request   Request
	heartbeat time.Duration
	set       *store.Set // that the plan is for
	plan      *query.Plan
	after     uint64 // told so far
	resume    bool   // a live query: the reader knows the result as it was then
	covered   []Coverage
}

// cover adds to an event what is kept of the collections that it depends on, if the
// reader does not know.
func (s *subscriber) cover(e *Event) {
	now := s.db.partial(s.plan.Reads())
	if !slices.EqualFunc(now, s.covered, func(a, b Coverage) bool {
		return a.Name == b.Name && a.Complete() == b.Complete() && a.Scope.Equal(b.Scope)
	}) {
		s.covered, e.Coverage = now, append([]Coverage{}, now...)
	}
}

// errEnough says that nobody wants more events.
var errEnough = fault.Closed.Errorf("nobody listens any more")

func (s *subscriber) start(after Cursor) (err error) {
	if err := s.compile(); err != nil {
		return err
	}
	s.after = s.db.store.Seq()
	if after == "" {
		return nil
	}
	seq, err := s.db.place(after)
	if s.plan.IsLive() {
		if s.resume = err == nil; s.resume { // else the reader is told the whole result
			s.after = seq
		}
		return nil
	}
	s.after = seq
	return refused(err)
}

// refused marks an error as one of the request, not of the data.
func refused(err error) error {
	if err == nil {
		return nil
	}
	return query.Errors{{Message: err.Error(), Stage: query.Validate, Err: err}}
}

// compile plans the request for the collections as they are now.
func (s *subscriber) compile() error {
	set := s.db.store.Schema()
	if set == s.set {
		return nil
	}
	p, err := s.db.compile(set, s.request)
	if err == nil && !p.IsSubscription() && !p.IsLive() {
		err = refused(fault.Invalid.Errorf("the request is no subscription and no live query: run it with Exec"))
	}
	if err != nil {
		return err
	}
	s.set, s.plan = set, p
	return nil
}

func (s *subscriber) tell(ctx context.Context, yield func(Event, error) bool) error {
	if s.plan.IsLive() {
		return s.followLive(ctx, yield)
	}
	return s.follow(ctx, yield)
}

func (s *subscriber) follow(ctx context.Context, yield func(Event, error) bool) error {
	told := s.heartbeat == 0 // so that the first heartbeat comes at once
	for {
		if !told && !yield(Event{Cursor: s.db.cursor(s.after)}, nil) {
			return errEnough
		}
		told = true
		for s.after < s.db.store.Seq() {
			events, err := s.next(ctx)
			for _, e := range events {
				if s.cover(&e); !yield(e, nil) {
					return errEnough
				}
			}
			if err != nil {
				return err
			}
		}
		var err error
		if told, err = s.wait(ctx); err != nil {
			return err
		}
	}
}

// wait returns true when there is more in the feed, false when it is time for a
// heartbeat.
func (s *subscriber) wait(ctx context.Context) (bool, error) {
	patient := ctx
	if s.heartbeat > 0 {
		var cancel context.CancelFunc
		patient, cancel = context.WithTimeout(ctx, s.heartbeat)
		defer cancel()
	}
	err := s.db.store.Await(patient, s.after+1)
	if err != nil && patient.Err() != nil && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

const (
	// eventPage is how many entries of the feed are looked at in one snapshot.
	eventPage = 1024
	// eventBytes is how much of events is made before the first of them is told.
	eventBytes = 1 << 20
)

// next makes the events of the next entries of the feed. No snapshot is open when it
// returns, so that a reader may take its time.
func (s *subscriber) next(ctx context.Context) (events []Event, err error) {
	if err := s.compile(); err != nil {
		return nil, err
	}
	var changes []Change
	end, seen := s.after, 0
	// All of the feed, so that its end is reached; who may read what is asked with the
	// documents.
	for ch, err := range s.db.store.Log(ctx, store.System, s.after) {
		if err != nil {
			return nil, err
		}
		if end = ch.Seq; ch.Collection == s.plan.Subscribed().ID {
			changes = append(changes, ch)
		}
		if seen++; seen == eventPage {
			break
		}
	}
	if len(changes) > 0 {
		if err := s.db.store.View(ctx, s.db.who, func(tx *store.Tx) error {
			events, err = s.events(ctx, tx, changes, &end)
			return err
		}); err != nil {
			return events, err
		}
	}
	s.after = end
	return events, nil
}

// readable returns the changes of documents that may be read now.
func readable(tx *store.Tx, c *Collection, changes []Change) ([]Change, error) {
	if c.Access() == nil {
		return changes, nil
	}
	var failed error
	known := map[DocID]bool{}
	return slices.DeleteFunc(changes, func(ch Change) bool {
		may, ok := known[ch.Doc]
		if !ok && failed == nil {
			_, may, failed = query.GetOrNone(tx, c, ch.Doc)
			known[ch.Doc] = may
		}
		return !may
	}), failed
}

// events makes the events of changes. If they grow too large together, end becomes the
// last change that was looked at.
func (s *subscriber) events(ctx context.Context, tx *store.Tx, changes []Change, end *uint64) (events []Event, err error) {
	changes, err = readable(tx, s.plan.Subscribed(), changes)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	var ends []int
	n := 0
	for d, err := range tx.Replay(ctx, s.plan.Subscribed(), changes) {
		if err != nil {
			return nil, err
		}
		told := false
		if len(d.State.Bytes()) > 0 { // or a key of that time is not here
			told, err = s.plan.Event(ctx, tx, d, &b)
		}
		if err != nil {
			return nil, err
		}
		if told {
			events = append(events, Event{Cursor: s.db.cursor(changes[n].Seq)})
			ends = append(ends, b.Len())
		}
		if n++; b.Len() >= eventBytes {
			*end = changes[n-1].Seq
			break
		}
	}
	from := 0
	for i, to := range ends {
		events[i].Data = b.Bytes()[from:to:to]
		from = to
	}
	return events, nil
}

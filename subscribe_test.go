package pando_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pandodb/pando"
)

const songs = `
type Singer { name: String, songs: [Song] }
type Song { title: String, plays: Int @crdt(type: pncounter), stars: Int, singer: Singer }
type Other { title: String, stars: Int }`

// listener follows a subscription or a live query from the moment it is made.
type listener struct {
	t    *testing.T
	next func() (pando.Event, error, bool)
	last pando.Event
}

func listen(t *testing.T, db *pando.DB, request string, o pando.SubscribeOptions) *listener {
	t.Helper()
	next, stop := iter.Pull2(db.Subscribe(t.Context(), pando.Request{Query: request}, o))
	t.Cleanup(stop)
	return &listener{t: t, next: next}
}

// hears checks the data of the next event.
func (l *listener) hears(want string) {
	l.t.Helper()
	e, err, ok := l.next()
	if err != nil || !ok {
		l.t.Fatalf("got %v, %v, want the event %s", ok, err, want)
	}
	l.last = e
	if string(e.Data) != want {
		l.t.Errorf("heard\n%s, want\n%s", e.Data, want)
	}
}

func idOf(t *testing.T, answer string) string {
	t.Helper()
	_, rest, ok := strings.Cut(answer, `"_docID":"`)
	id, _, _ := strings.Cut(rest, `"`)
	if !ok {
		t.Fatalf("no docID in %s", answer)
	}
	return id
}

func TestSubscriberHearsOfEachMatchingChange(t *testing.T) {
	t.Parallel()
	db := node(t, songs)
	l := listen(t, db, `subscription { s: Song(filter: {stars: {_ge: 3}}) { title stars plays _deleted } }`, pando.SubscribeOptions{})
	id := idOf(t, run(t, db, `mutation { create_Song(input: {title: "Tide", stars: 4}) { _docID } }`))
	run(t, db, `mutation { create_Other(input: {title: "Tide", stars: 5}) { _docID } }`) // of another collection
	run(t, db, fmt.Sprintf(`mutation { update_Song(docID: %q, input: {plays: 2}) { _docID } }`, id))
	run(t, db, fmt.Sprintf(`mutation { update_Song(docID: %q, input: {stars: 1}) { _docID } }`, id)) // does not match
	run(t, db, fmt.Sprintf(`mutation { update_Song(docID: %q, input: {stars: 3, plays: 5}) { _docID } }`, id))
	run(t, db, fmt.Sprintf(`mutation { delete_Song(docID: %q) { _docID } }`, id))
	l.hears(`{"s":[{"title":"Tide","stars":4,"plays":null,"_deleted":false}]}`)
	l.hears(`{"s":[{"title":"Tide","stars":4,"plays":2,"_deleted":false}]}`)
	l.hears(`{"s":[{"title":"Tide","stars":3,"plays":7,"_deleted":false}]}`)
	l.hears(`{"s":[{"title":"Tide","stars":3,"plays":7,"_deleted":true}]}`)
}

func TestSubscriberHearsOfWhatPeersBring(t *testing.T) {
	t.Parallel()
	here, there := node(t, songs), node(t, songs)
	run(t, there, `mutation { create_Song(input: [{title: "Tide", stars: 4}, {title: "Ebb", stars: 2}]) { _docID } }`)
	l := listen(t, here, `subscription { Song(filter: {stars: {_gt: 3}}) { title singer { name } } }`, pando.SubscribeOptions{})
	c, err := here.Collection("Song")
	if err != nil {
		t.Fatal(err)
	}
	pull(t, here, there, c.ID)
	l.hears(`{"Song":[{"title":"Tide","singer":null}]}`)
}

func TestSubscriptionToOneDocument(t *testing.T) {
	t.Parallel()
	db := node(t, songs)
	id := idOf(t, run(t, db, `mutation { create_Song(input: {title: "Tide"}) { _docID } }`))
	l := listen(t, db, fmt.Sprintf(`subscription { Song(docID: %q, limit: 0, order: {title: ASC}) { title } }`, id), pando.SubscribeOptions{})
	run(t, db, `mutation { update_Song(filter: {title: {_eq: "Tide"}}, input: {title: "Ebb"}) { _docID } }`)
	run(t, db, `mutation { create_Song(input: {title: "Flood"}) { _docID } }`)
	run(t, db, `mutation { update_Song(filter: {title: {_eq: "Ebb"}}, input: {title: "Tide"}) { _docID } }`)
	l.hears(`{"Song":[{"title":"Ebb"}]}`)
	l.hears(`{"Song":[{"title":"Tide"}]}`)
}

// A subscriber that comes back hears of all that it has missed, as it was then.
func TestSubscriberResumesAfterItsCursor(t *testing.T) {
	t.Parallel()
	db := node(t, songs)
	const request = `subscription { Song { title plays } }`
	first := listen(t, db, request, pando.SubscribeOptions{})
	id := idOf(t, run(t, db, `mutation { create_Song(input: {title: "Tide"}) { _docID } }`))
	var all []string
	first.hears(`{"Song":[{"title":"Tide","plays":null}]}`)
	cursors := []pando.Cursor{first.last.Cursor}
	for i := range 5 {
		run(t, db, fmt.Sprintf(`mutation { update_Song(docID: %q, input: {plays: 1}) { _docID } create_Other(input: {stars: %d}) { _docID } }`, id, i))
		all = append(all, fmt.Sprintf(`{"Song":[{"title":"Tide","plays":%d}]}`, i+1))
		first.hears(all[i])
		cursors = append(cursors, first.last.Cursor)
	}
	for i, c := range cursors[:5] {
		again := listen(t, db, request, pando.SubscribeOptions{After: c})
		for _, want := range all[i:] {
			again.hears(want)
		}
		if again.last.Cursor != cursors[5] {
			t.Errorf("the last event has cursor %s after a resume, %s before", again.last.Cursor, cursors[5])
		}
	}
}

func TestCursorOfAnotherDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	db, other := node(t, songs), node(t, songs)
	l := listen(t, other, `subscription { Song { title } }`, pando.SubscribeOptions{})
	run(t, other, `mutation { create_Song(input: {title: "Tide"}) { _docID } }`)
	l.hears(`{"Song":[{"title":"Tide"}]}`)
	for _, c := range []pando.Cursor{l.last.Cursor, "1", l.last.Cursor[:17] + "99", l.last.Cursor[:17] + "x"} {
		of := db
		if c != l.last.Cursor {
			of = other
		}
		if _, err, _ := listen(t, of, `subscription { Song { title } }`, pando.SubscribeOptions{After: c}).next(); !errors.Is(err, pando.ErrInvalid) {
			t.Errorf("cursor %q: got %v, want it refused", c, err)
		}
	}
}

func TestWrongSubscriptionsAreRefused(t *testing.T) {
	t.Parallel()
	db := node(t, songs)
	for request, want := range map[string]string{
		`subscription { Song { title } Other { title } }`:         "only one top level field",
		`subscription { _ }`:                                      "no subscription to _",
		`subscription { Song { nothing } }`:                       "Cannot query field",
		`{ Song { title } }`:                                      "no subscription",
		`mutation { create_Song(input: {title: "x"}) { title } }`: "no subscription",
	} {
		if _, err, _ := listen(t, db, request, pando.SubscribeOptions{}).next(); !errors.Is(err, pando.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it refused with %q", request, err, want)
		}
	}
	if err := db.Exec(t.Context(), pando.Request{Query: `subscription { Song { title } }`}).Err(); !errors.Is(err, pando.ErrInvalid) {
		t.Errorf("Exec of a subscription: %v, want it refused", err)
	}
}

func TestIdleSubscriptionBeatsAndItsCursorMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := node(t, songs)
		l := listen(t, db, `subscription { Song { title } }`, pando.SubscribeOptions{Heartbeat: time.Minute})
		l.hears("") // at once: it is open
		begun, opened := time.Now(), l.last.Cursor
		run(t, db, `mutation { create_Other(input: {title: "Tide"}) { _docID } }`)
		l.hears("")
		if waited := time.Since(begun); waited != time.Minute || l.last.Cursor == opened {
			t.Errorf("after %v a heartbeat with cursor %s, want it after a minute and behind %s", waited, l.last.Cursor, opened)
		}
		again := listen(t, db, `subscription { Song { title } }`, pando.SubscribeOptions{After: l.last.Cursor})
		run(t, db, `mutation { create_Song(input: {title: "Tide"}) { _docID } }`)
		l.hears(`{"Song":[{"title":"Tide"}]}`)
		again.hears(`{"Song":[{"title":"Tide"}]}`)
	})
}

func TestSubscriptionEndsWithItsReaderAndWithTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := node(t, songs)
		ctx, cancel := context.WithCancel(t.Context())
		ends := make(chan error, 2)
		follow := func(ctx context.Context) {
			for _, err := range db.Subscribe(ctx, pando.Request{Query: `subscription { Song { title } }`}, pando.SubscribeOptions{Heartbeat: time.Hour}) {
				if err != nil {
					ends <- err
				}
			}
		}
		go follow(ctx)
		synctest.Wait()
		cancel()
		if err := <-ends; !errors.Is(err, context.Canceled) {
			t.Errorf("a reader that has gone: %v", err)
		}
		go follow(t.Context())
		synctest.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ends; !errors.Is(err, pando.ErrClosed) {
			t.Errorf("a closed database: %v", err)
		}
	})
}

// A reader that sleeps loses nothing, and costs no memory while it sleeps: what it is
// told later is what was, change by change.
func TestSlowSubscriberHearsOfEveryChange(t *testing.T) {
	t.Parallel()
	db := node(t, songs)
	l := listen(t, db, `subscription { Song { plays } }`, pando.SubscribeOptions{})
	var doc pando.Document
	if err := db.Update(t.Context(), func(tx *pando.Tx) error {
		c, err := tx.Collection("Song")
		if err == nil {
			doc, err = c.Create(map[string]any{"title": "Tide"})
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	const changes = 3000
	for range changes / 100 {
		if err := db.Update(t.Context(), func(tx *pando.Tx) error {
			c, err := tx.Collection("Song")
			if err != nil {
				return err
			}
			for range 100 {
				if err == nil {
					_, err = c.Update(doc.ID, map[string]any{"plays": 1})
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	l.hears(`{"Song":[{"plays":null}]}`)
	for i := range changes {
		l.hears(fmt.Sprintf(`{"Song":[{"plays":%d}]}`, i+1))
	}
}

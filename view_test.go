package pando_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pandodb/pando"
)

const played = `type Song { title: String  plays: Int  singer: Singer }  type Singer { name: String  songs: [Song] }`

func addView(t *testing.T, db *pando.DB, query, sdl string) {
	t.Helper()
	if _, err := db.AddView(t.Context(), pando.ViewSource{Query: query, SDL: sdl}); err != nil {
		t.Fatalf("view %s: %v", query, err)
	}
}

// A view concerns one node: peers neither see it nor may take its name away.
func TestViewsStayHere(t *testing.T) {
	t.Parallel()
	a, b := node(t, played), node(t, played)
	addView(t, a, `Song { title }`, `type Title @materialized(if: false) { title: String }`)
	run(t, a, `mutation { create_Song(input: {title: "x"}) { title } }`)

	if got := len(a.Collections()); got != 2 {
		t.Errorf("a has %d collections with a view beside them, want 2", got)
	}
	sums, err := a.Replica().Summaries(t.Context())
	if err != nil || len(sums) != 2 {
		t.Errorf("a offers %d collections, %v; want 2", len(sums), err)
	}
	v := a.Views()[0]
	if _, err := a.Replica().Schema(t.Context(), v.ID); !errors.Is(err, pando.ErrNotFound) {
		t.Errorf("a peer asked for the view and got %v, want not found", err)
	}
	taken, err := b.AddSchema(t.Context(), `type Title { title: String }`)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Replica().AddSchema(t.Context(), [][]byte{taken[0].Encode()}); !errors.Is(err, pando.ErrExists) {
		t.Errorf("a peer brought a collection of the view's name: %v, want exists", err)
	}
	if got, want := run(t, a, `{ Title { title } }`), `{"Title":[{"title":"x"}]}`; got != want {
		t.Errorf("the view shows %s, want %s", got, want)
	}
	err = a.View(t.Context(), func(tx *pando.Tx) error {
		_, err := tx.Collection("Title")
		return err
	})
	if !errors.Is(err, pando.ErrNotFound) {
		t.Errorf("a transaction found documents of the view: %v", err)
	}
}

// Views are refreshed beside writers and changes of the schema; the last refresh
// shows everything.
func TestRefreshBesideWriters(t *testing.T) {
	t.Parallel()
	db := node(t, played)
	const query = `Song(filter: {plays: {_gt: 2}}) { title plays singer { name } }`
	addView(t, db, query, `type Now @materialized(if: false) { title: String plays: Int singer: NowSinger } interface NowSinger { name: String }`)
	addView(t, db, query, `type Then { title: String plays: Int singer: ThenSinger } interface ThenSinger { name: String }`)
	var work sync.WaitGroup
	failed := make(chan error, 100)
	for w := range 3 {
		work.Go(func() {
			for i := range 20 {
				res := db.Exec(t.Context(), pando.Request{Query: fmt.Sprintf(
					`mutation { create_Song(input: {title: "%d of %d", plays: %d}) { _docID } update_Song(filter: {plays: {_eq: %d}}, input: {plays: %d}) { title } }`, i, w, i%7, i%5, i%6)})
				failed <- res.Err()
			}
		})
	}
	work.Go(func() {
		for range 15 {
			_, err := db.RefreshView(t.Context())
			failed <- err
		}
	})
	work.Go(func() {
		for i := range 3 {
			_, err := db.AddSchema(t.Context(), fmt.Sprintf("type Extra%d { a: Int }", i))
			failed <- err
		}
	})
	work.Wait()
	close(failed)
	for err := range failed {
		if err != nil && !errors.Is(err, pando.ErrConflict) { // a refresh that lost to three schemas in a row
			t.Error(err)
		}
	}
	did, err := db.RefreshView(t.Context(), "Then")
	if err != nil {
		t.Fatal(err)
	}
	show := ` { title plays singer { name } }`
	got, want := run(t, db, `{ rows: Then`+show+` n: _count(Then: {}) }`), run(t, db, `{ rows: Now`+show+` n: _count(Now: {}) }`)
	if got != want {
		t.Errorf("refreshed (%+v):\n got %s\nwant %s", did, got, want)
	}
	st, err := db.ViewState(t.Context(), "Then")
	if err != nil || st.Behind != 0 || st.Rows != did[0].Rows || st.Refreshed.IsZero() {
		t.Errorf("state is %+v, %v; want %d rows, nothing behind", st, err, did[0].Rows)
	}
}

// What a refresh stored is there after a restart, and the next goes on from it.
func TestRefreshGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *pando.DB {
		db, err := pando.Open(t.Context(), dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	if _, err := db.AddSchema(t.Context(), played); err != nil {
		t.Fatal(err)
	}
	addView(t, db, `Song { title }`, `type Title { title: String }`)
	run(t, db, `mutation { create_Song(input: [{title: "a"}, {title: "b"}]) { title } }`)
	if _, err := db.RefreshView(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, db, `mutation { create_Song(input: {title: "c"}) { title } }`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open()
	defer db.Close()
	if got, want := run(t, db, `{ _count(Title: {}) }`), `{"_count":2}`; got != want {
		t.Errorf("after a restart: %s, want %s", got, want)
	}
	did, err := db.RefreshView(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r := did[0]; r.Whole || r.Written != 1 || r.Rows != 3 {
		t.Errorf("the refresh did %+v, want one row of three written, without computing the others", r)
	}
	if err := db.DropView(t.Context(), "Title"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.RefreshView(t.Context(), "Title"); !errors.Is(err, pando.ErrNotFound) {
		t.Errorf("refresh of a view that is gone: %v, want not found", err)
	}
}

// A live query of a view that is computed hears of what the view reads.
func TestLiveQueryOfAView(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := node(t, played)
		addView(t, db, `Song(filter: {plays: {_gt: 2}}) { title }`, `type Hit @materialized(if: false) { title: String }`)
		run(t, db, `mutation { create_Song(input: {title: "Tide", plays: 5}) { title } }`)
		w := watch(t, db, `query @live { Hit(order: {title: ASC}) { title } }`, pando.SubscribeOptions{})
		w.hears(`{"Hit":[{"title":"Tide"}]}`)
		run(t, db, `mutation { create_Song(input: {title: "Ebb", plays: 3}) { title } }`)
		if e, err, _ := w.next(); err != nil || e.Patch == nil {
			t.Fatalf("after a change of the view heard %v, %v", e, err)
		}
		if got, want := string(fresh(t, db, `{ Hit(order: {title: ASC}) { title } }`)), `{"Hit":[{"title":"Ebb"},{"title":"Tide"}]}`; got != want {
			t.Errorf("the view shows %s, want %s", got, want)
		}
	})
}

// A view whose query a new version of a collection breaks says so, by its name, and
// keeps no other view from being refreshed.
func TestAViewThatBreaksIsAloneWithIt(t *testing.T) {
	t.Parallel()
	db := node(t, played)
	addView(t, db, `Song(filter: {plays: {_gt: 2}}) { title }`, `type Broken { title: String }`)
	addView(t, db, `Song { title plays }`, `type AlsoBroken { title: String plays: Int }`)
	addView(t, db, `Song(filter: {plays: {_gt: 2}}) { title length: plays }`, `type Now @materialized(if: false) { title: String length: Int }`)
	addView(t, db, `Song { title }`, `type Title { title: String }`)
	run(t, db, `mutation { create_Song(input: {title: "Tide", plays: 5}) { title } }`)
	patch(t, db, `[{"op": "remove", "path": "/Song/Fields/plays"}]`)

	did, err := db.RefreshView(t.Context())
	if !errors.Is(err, pando.ErrInvalid) || !strings.Contains(err.Error(), "2 of 3 views were not refreshed") ||
		!strings.Contains(err.Error(), "view Broken: ") || !strings.Contains(err.Error(), "view AlsoBroken: ") {
		t.Errorf("a refresh of all says %v, want the two that were not refreshed, and why", err)
	}
	if len(did) != 1 || did[0].Name != "Title" {
		t.Errorf("refreshed %+v, want the one view that can be", did)
	}
	if got, want := run(t, db, `{ Title { title } }`), `{"Title":[{"title":"Tide"}]}`; got != want {
		t.Errorf("the other view shows %s, want %s", got, want)
	}
	_, err = db.RefreshView(t.Context(), "Broken")
	if !errors.Is(err, pando.ErrInvalid) || strings.Contains(err.Error(), "of 1") {
		t.Errorf("a refresh of it alone says %v, want why it failed", err)
	}
	err = db.Exec(t.Context(), pando.Request{Query: `{ Now { title } }`}).Err()
	if want := `view Now: its query does not fit the collections that it reads as they are now: `; !errors.Is(err, pando.ErrInvalid) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("reading a broken view: %v, want %s…", err, want)
	}
	if _, err := db.AddView(t.Context(), pando.ViewSource{Query: `Now { title }`, SDL: `type Above @materialized(if: false) { title: String }`}); !errors.Is(err, pando.ErrInvalid) {
		t.Errorf("a view was put on a broken one: %v, want invalid", err)
	}
}

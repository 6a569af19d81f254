package pando_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
)

// failer is a test, or one case of a property.
type failer interface {
	Fatalf(format string, args ...any)
}

// decoded is JSON as a client has it.
func decoded(t failer, raw []byte) (v any) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return v
}

// patched applies a JSON Patch of the three operations that are promised, as RFC 6902
// has them.
func patched(t failer, doc any, patch []byte) any {
	var ops []struct {
		Op, Path string
		Value    json.RawMessage
	}
	if err := json.Unmarshal(patch, &ops); err != nil {
		t.Fatalf("%s: %v", patch, err)
	}
	for _, o := range ops {
		var v any
		if o.Op != "remove" {
			v = decoded(t, o.Value)
		}
		if o.Path == "" {
			doc = v
			continue
		}
		var steps []string
		for _, s := range strings.Split(o.Path[1:], "/") {
			steps = append(steps, strings.NewReplacer("~1", "/", "~0", "~").Replace(s))
		}
		doc = edited(t, doc, o.Op, steps, v)
	}
	return doc
}

func edited(t failer, at any, op string, steps []string, v any) any {
	if len(steps) == 0 {
		if op != "replace" {
			t.Fatalf("operation %s of a value", op)
		}
		return v
	}
	switch at := at.(type) {
	case map[string]any:
		old, ok := at[steps[0]]
		if !ok {
			t.Fatalf("no member %s in %v", steps[0], at)
		}
		at[steps[0]] = edited(t, old, op, steps[1:], v)
		return at
	case []any:
		i, err := strconv.Atoi(steps[0])
		if err != nil || i < 0 || i > len(at) || i == len(at) && op != "add" {
			t.Fatalf("%s at %s of %d elements", op, steps[0], len(at))
		}
		if len(steps) > 1 || op == "replace" {
			at[i] = edited(t, at[i], op, steps[1:], v)
			return at
		}
		if op == "add" {
			return slices.Insert(at, i, v)
		}
		return slices.Delete(at, i, i+1)
	}
	t.Fatalf("%s below %v", op, at)
	return nil
}

// watcher is a client of a live query, which knows its result.
type watcher struct {
	*listener
	db       *pando.DB
	request  string
	result   any
	revision uint64
	events   int
	whole    int // times it was told the whole result
}

func watch(t *testing.T, db *pando.DB, request string, o pando.SubscribeOptions) *watcher {
	t.Helper()
	o.Heartbeat = time.Minute
	w := &watcher{listener: listen(t, db, request, o), db: db, request: request}
	w.hears("") // it is open
	return w
}

// hear takes one event in, and reports whether it was none: nothing goes on.
func (w *watcher) hear(t failer) (idle bool) {
	e, err, ok := w.next()
	if err != nil || !ok {
		t.Fatalf("%s: %v", w.request, err)
	}
	w.last = e
	if e.IsHeartbeat() {
		return true
	}
	if w.revision++; e.Revision != w.revision {
		t.Fatalf("%s: revision %d, want %d", w.request, e.Revision, w.revision)
	}
	w.events++
	if e.Patch != nil {
		w.result = patched(t, w.result, e.Patch)
		return false
	}
	w.result, w.whole = decoded(t, e.Data), w.whole+1
	return false
}

// settles takes events in until nothing goes on, and compares with a fresh query.
func (w *watcher) settles(t failer) {
	for !w.hear(t) {
	}
	w.compare(t, fresh(t, w.db, w.request))
}

func fresh(t failer, db *pando.DB, request string) []byte {
	res := db.Exec(context.Background(), pando.Request{Query: request})
	if err := res.Err(); err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	return res.Data
}

func (w *watcher) compare(t failer, want []byte) {
	if !reflect.DeepEqual(w.result, decoded(t, want)) {
		got, _ := json.Marshal(w.result)
		t.Fatalf("%s: the client has\n%s, a fresh query\n%s", w.request, got, want)
	}
}

// liveRequests are results that are kept document by document, and others.
var liveRequests = []string{
	`query @live { Song { title stars } }`,
	`query @live { Song(filter: {stars: {_eq: 3}}) { _docID title plays } }`,
	`query @live { Song(filter: {stars: {_in: [1, null]}, title: {_like: "a%"}}) { title } }`,
	`query @live { Song(order: [{stars: DESC}, {title: ASC}], limit: 3) { title stars } }`,
	`query @live { s: Song(order: {plays: ASC}, limit: 2, offset: 2) { title plays _deleted __typename } }`,
	`query @live { Song(order: {stars: DESC}, offset: 1) { title } other: Song(filter: {stars: {_gt: 3}}, limit: 1) { stars } }`,
	`query @live { Song(limit: 4) { title stars } Other { title } }`,
	`query @live { Song(filter: {singer_id: {_ne: null}}) { title singer_id } }`,
	`query @live { Singer { name songs(order: {stars: ASC}, limit: 2) { title } } }`,
	`query @live { Song(filter: {singer: {name: {_eq: "Ada"}}}) { title singer { name } } }`,
	`query @live { _count(Song: {filter: {stars: {_gt: 2}}}) Singer(order: {name: DESC}) { name _count(songs: {}) } }`,
	`query @live { Song(groupBy: [stars], order: {stars: ASC}) { stars _group(limit: 2) { title } } }`,
}

// writer makes random changes.
type writer struct {
	n       int
	singers []string
}

func (m *writer) write(t failer, draw func(label string, n int) int, db *pando.DB) {
	stars := func() string {
		if s := draw("stars", 6); s > 0 {
			return strconv.Itoa(s)
		}
		return "null"
	}
	some := func() string {
		return []string{
			`{stars: {_eq: ` + stars() + `}}`, `{plays: {_gt: ` + stars() + `}}`,
			fmt.Sprintf(`{title: {_like: "%%%d"}}`, draw("digit", 10)), `{stars: {_ge: ` + strconv.Itoa(draw("at least", 6)) + `}}`,
		}[draw("filter", 4)]
	}
	var request string
	switch draw("kind", 8) {
	case 0, 1, 2:
		m.n++
		singer := "null"
		if len(m.singers) > 0 && draw("sung", 2) == 1 {
			singer = strconv.Quote(m.singers[draw("singer", len(m.singers))])
		}
		request = fmt.Sprintf(`create_Song(input: {title: "%c%d", stars: %s, singer: %s}) { _docID }`, "abc"[draw("letter", 3)], m.n, stars(), singer)
	case 3:
		m.n++
		request = fmt.Sprintf(`create_Singer(input: {name: "%s %d"}) { _docID }`, []string{"Ada", "Bo"}[draw("name", 2)], m.n)
		if m.n%2 == 0 {
			request = strings.Replace(request, fmt.Sprint(" ", m.n), "", 1)
		}
	case 4:
		request = fmt.Sprintf(`update_Song(filter: %s, input: {stars: %s}) { title }`, some(), stars())
	case 5:
		request = fmt.Sprintf(`update_Song(filter: %s, input: {plays: %d}) { title }`, some(), draw("plays", 3)-1)
	case 6:
		request = fmt.Sprintf(`delete_Song(filter: %s) { title }`, some())
	case 7:
		m.n++
		request = fmt.Sprintf(`create_Other(input: {title: "other %d"}) { title }`, m.n)
	}
	res := db.Exec(context.Background(), pando.Request{Query: "mutation { " + request + " }"})
	if err := res.Err(); err != nil && !errors.Is(err, pando.ErrExists) {
		t.Fatalf("%s: %v", request, err)
	}
	if strings.Contains(request, "create_Singer") && res.Err() == nil {
		_, rest, _ := strings.Cut(string(res.Data), `"_docID":"`)
		id, _, _ := strings.Cut(rest, `"`)
		m.singers = append(m.singers, id)
	}
}

// fill makes enough songs that the ends of limited lists are far from that of the
// collection.
func fill(t *testing.T, db *pando.DB) {
	t.Helper()
	var songs []string
	for i := range 60 {
		songs = append(songs, fmt.Sprintf(`{title: "%c old %d", stars: %d}`, "abc"[i%3], i, i%6))
	}
	run(t, db, "mutation { create_Song(input: ["+strings.Join(songs, ",")+"]) { _docID } }")
}

// Whoever applies the events has exactly what a fresh query returns: at every event, as
// of its cursor, and when all is quiet. Rests and resumes in between change nothing.
func TestClientOfALiveQueryHasWhatAFreshQueryReturns(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		script := rapid.SliceOfN(rapid.IntRange(0, 1<<16), 60, 200).Draw(r, "script")
		if failed := followed(t, script); failed != "" {
			r.Fatalf("%s", failed)
		}
	})
}

// caught is a failer whose failure ends a bubble and not the test.
type caught struct{}

type failure string

func (caught) Fatalf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// followed plays a script of choices, and returns what went wrong.
func followed(t *testing.T, script []int) (failed string) {
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if p := recover(); p != nil {
				f, ok := p.(failure)
				if !ok {
					panic(p)
				}
				failed = string(f)
			}
		}()
		draw := func(_ string, n int) int {
			if len(script) == 0 {
				return 0
			}
			c := script[0] % n
			script = script[1:]
			return c
		}
		db, peer := node(t, songs), node(t, songs)
		c, err := db.Collection("Song")
		if err != nil {
			t.Fatal(err)
		}
		fill(t, db)
		request := liveRequests[draw("request", len(liveRequests))]
		var r caught
		w := watch(t, db, request, pando.SubscribeOptions{})
		w.settles(r)
		then := map[string][]byte{}
		m := &writer{}
		for len(script) > 0 {
			switch draw("step", 6) {
			case 0:
				pull(t, peer, db, c.ID)
				m.write(r, draw, peer)
				pull(t, db, peer, c.ID)
			case 1: // the connection breaks, and the client comes back
				again := watch(t, db, request, pando.SubscribeOptions{After: w.last.Cursor})
				again.result = w.result
				w = again
			case 2:
				for !w.hear(r) {
					if want := then[string(w.last.Cursor)]; want != nil {
						w.compare(r, want)
					}
				}
			default:
				m.write(r, draw, db)
			}
			// Snapshots are taken between transactions, so this is how one of them saw it.
			then[cursorOf(w, db)] = fresh(r, db, request)
		}
		w.settles(r)
	})
	return failed
}

// cursorOf returns the cursor of the newest change.
func cursorOf(w *watcher, db *pando.DB) string {
	prefix, _, _ := strings.Cut(string(w.last.Cursor), "-")
	return fmt.Sprint(prefix, "-", db.Seq())
}

func TestLiveQueriesUnderConcurrentWriters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, peer := node(t, songs), node(t, songs)
		defer peer.Close()
		defer db.Close()
		c, err := db.Collection("Song")
		if err != nil {
			t.Fatal(err)
		}
		fill(t, db)
		var clients []*watcher
		for _, request := range liveRequests {
			clients = append(clients, watch(t, db, request, pando.SubscribeOptions{}))
		}
		for round := range 5 {
			var writers sync.WaitGroup
			for n := range 4 {
				writers.Go(func() {
					seed := uint64(round*4 + n)
					m := &writer{n: 1000 * int(seed+1)}
					draw := func(_ string, n int) int {
						seed = seed*6364136223846793005 + 1442695040888963407
						return int(seed>>33) % n
					}
					to := db
					if n == 0 {
						to = peer
					}
					for range 20 {
						m.write(t, draw, to)
					}
					if n == 0 {
						pull(t, db, peer, c.ID)
					}
				})
			}
			for _, w := range clients {
				w.hear(t) // while they write
			}
			writers.Wait()
			for _, w := range clients {
				w.settles(t)
			}
		}
	})
}

func TestLiveQueryTellsOfItsOwnChangesOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := node(t, songs)
		w := watch(t, db, `query @live { Song(filter: {stars: {_eq: 3}}) { title } }`, pando.SubscribeOptions{})
		w.hears(`{"Song":[]}`)
		run(t, db, `mutation { create_Song(input: [{title: "Tide", stars: 3}, {title: "Ebb", stars: 2}]) { title } }`)
		hearsPatch := func(want string) {
			t.Helper()
			if e, err, _ := w.next(); err != nil || string(e.Patch) != want {
				t.Errorf("heard %s %s %v, want the patch %s", e.Data, e.Patch, err, want)
			}
		}
		hearsPatch(`[{"op":"add","path":"/Song/0","value":{"title":"Tide"}}]`)
		run(t, db, `mutation { update_Song(filter: {title: {_eq: "Tide"}}, input: {plays: 7}) { title } }`) // not shown
		run(t, db, `mutation { update_Song(filter: {title: {_eq: "Ebb"}}, input: {plays: 7}) { title } }`)
		hearsPatch("") // a heartbeat
		run(t, db, `mutation { update_Song(filter: {title: {_eq: "Tide"}}, input: {title: "Flood"}) { title } }`)
		hearsPatch(`[{"op":"replace","path":"/Song/0","value":{"title":"Flood"}}]`)
		run(t, db, `mutation { update_Song(filter: {title: {_eq: "Flood"}}, input: {stars: 4}) { title } }`)
		hearsPatch(`[{"op":"remove","path":"/Song/0"}]`)
	})
}

func TestLiveQueryThatIsMadeAnewTellsWhatDiffers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := node(t, songs)
		id := idOf(t, run(t, db, `mutation { create_Singer(input: {name: "Ada"}) { _docID } }`))
		w := watch(t, db, `query @live { Singer { name songs(order: {title: ASC}) { title stars } } }`, pando.SubscribeOptions{})
		w.hears(`{"Singer":[{"name":"Ada","songs":[]}]}`)
		for _, step := range []struct{ mutation, want string }{
			{`create_Song(input: {title: "Tide", singer: "` + id + `"})`, `[{"op":"add","path":"/Singer/0/songs/0","value":{"title":"Tide","stars":null}}]`},
			{`create_Song(input: {title: "Ebb", singer: "` + id + `"})`, `[{"op":"add","path":"/Singer/0/songs/0","value":{"title":"Ebb","stars":null}}]`},
			{`update_Song(filter: {title: {_eq: "Tide"}}, input: {stars: 2})`, `[{"op":"replace","path":"/Singer/0/songs/1/stars","value":2}]`},
			{`delete_Song(filter: {title: {_eq: "Ebb"}})`, `[{"op":"remove","path":"/Singer/0/songs/0"}]`},
		} {
			run(t, db, "mutation { "+step.mutation+" { title } }")
			if e, err, _ := w.next(); err != nil || string(e.Patch) != step.want {
				t.Errorf("after %s heard %s %v, want %s", step.mutation, e.Patch, err, step.want)
			}
		}
	})
}

func TestResumedLiveQueryIsToldNothingIfNothingChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := node(t, songs)
		run(t, db, `mutation { create_Song(input: {title: "Tide"}) { title } }`)
		const request = `query @live { Song { title } }`
		w := watch(t, db, request, pando.SubscribeOptions{})
		w.hears(`{"Song":[{"title":"Tide"}]}`)
		cursor := w.last.Cursor
		run(t, db, `mutation { create_Other(input: {title: "Tide"}) { title } }`)
		again := watch(t, db, request, pando.SubscribeOptions{After: cursor})
		if e, err, _ := again.next(); err != nil || string(e.Patch) != "[]" || e.Revision != 1 {
			t.Errorf("heard %s %s %v, want an empty patch", e.Data, e.Patch, err)
		}
		run(t, db, `mutation { create_Song(input: {title: "Ebb"}) { title } }`)
		late := watch(t, db, request, pando.SubscribeOptions{After: cursor})
		late.settles(t)
		if late.whole != 1 {
			t.Errorf("told the whole result %d times, want once", late.whole)
		}
	})
}

func TestSlowReaderOfALiveQueryIsToldTheWholeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := node(t, songs)
		w := watch(t, db, `query @live { Song(limit: 5) { title } }`, pando.SubscribeOptions{})
		w.settles(t)
		id := idOf(t, run(t, db, `mutation { create_Song(input: {title: "Tide"}) { _docID } }`))
		for i := range 60 { // more than waits for anybody
			run(t, db, fmt.Sprintf(`mutation { update_Song(docID: %q, input: {title: "%d%s"}) { _docID } }`, id, i, strings.Repeat("x", 20_000)))
			synctest.Wait() // it has been looked at by itself
		}
		w.settles(t)
		if w.whole != 2 || w.events != 2 {
			t.Errorf("%d events, of them %d whole results; want the two whole results", w.events, w.whole)
		}
	})
}

// Where documents look the same, one in the place of another is no change.
func TestLiveQueryTellsNothingWhereNothingLooksDifferent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := node(t, songs)
		for stars := range 5 {
			run(t, db, fmt.Sprintf(`mutation { create_Song(input: {title: "Tide", stars: %d}) { title } }`, stars))
		}
		w := watch(t, db, `query @live { Song(order: {stars: ASC}, limit: 2, offset: 1) { title } }`, pando.SubscribeOptions{})
		w.settles(t)
		for _, step := range []string{"0, 9", "9, 0", "1, 8", "2, 7", "8, 1", "7, 0"} {
			from, to, _ := strings.Cut(step, ", ")
			run(t, db, `mutation { update_Song(filter: {stars: {_eq: `+from+`}}, input: {stars: `+to+`}) { title } }`)
			w.settles(t)
			if w.events != 1 {
				t.Fatalf("from %s: told of %s", step, w.last.Patch)
			}
		}
		run(t, db, `mutation { update_Song(filter: {stars: {_eq: 1}}, input: {title: "Ebb"}) { title } }`)
		w.settles(t)
		if w.events != 2 {
			t.Errorf("a change that is seen: %d events", w.events)
		}
	})
}

// Readers that take their time hold what they are told: together no more than there is
// room for.
func TestLiveQueriesTogetherAreBounded(t *testing.T) {
	t.Parallel()
	db := node(t, songs)
	for i := range 70 {
		run(t, db, fmt.Sprintf(`mutation { create_Song(input: {title: "%d%s"}) { title } }`, i, strings.Repeat("x", 200<<10)))
	}
	for _, request := range []string{`query @live { Song { title } }`, `query @live { Song { title singer { name } } }`} {
		var refused error
		var stops []func()
		for len(stops) < 10 && refused == nil {
			next, stop := iter.Pull2(db.Subscribe(t.Context(), pando.Request{Query: request}, pando.SubscribeOptions{}))
			stops = append(stops, stop)
			_, refused, _ = next()
		}
		if !errors.Is(refused, fault.Unavailable) || len(stops) < 4 {
			t.Errorf("%s: the %dth ended with %v", request, len(stops), refused)
		}
		for _, stop := range stops {
			stop()
		}
	}
}

func TestLiveQueryFollowsAChangeOfTheSchema(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := node(t, songs)
		w := watch(t, db, `query @live { Song { title } }`, pando.SubscribeOptions{})
		w.settles(t)
		if _, err := db.AddSchema(t.Context(), `type Album { name: String }`); err != nil {
			t.Fatal(err)
		}
		run(t, db, `mutation { create_Song(input: {title: "Tide"}) { title } }`)
		w.settles(t)
	})
}

func TestLiveQueryEndsWithItsReaderAndWithTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine is left
		db := node(t, songs)
		ctx, cancel := context.WithCancel(t.Context())
		ends := make(chan error, 20)
		follow := func(ctx context.Context, request string) {
			for _, err := range db.Subscribe(ctx, pando.Request{Query: request}, pando.SubscribeOptions{}) {
				if err != nil {
					ends <- err
				}
			}
		}
		for _, r := range liveRequests[:2] {
			go follow(ctx, r)
		}
		synctest.Wait()
		cancel()
		for range 2 {
			if err := <-ends; !errors.Is(err, context.Canceled) {
				t.Errorf("a reader that has gone: %v", err)
			}
		}
		for _, r := range liveRequests {
			go follow(t.Context(), r)
		}
		synctest.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		for range liveRequests {
			if err := <-ends; !errors.Is(err, pando.ErrClosed) {
				t.Errorf("a closed database: %v", err)
			}
		}
	})
}

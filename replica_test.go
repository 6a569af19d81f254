package pando_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/pandodb/pando"
)

// node is a database in memory with the schema of the tests.
func node(t *testing.T, sdl string) *pando.DB {
	t.Helper()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.AddSchema(t.Context(), sdl); err != nil {
		t.Fatal(err)
	}
	return db
}

func run(t *testing.T, db *pando.DB, request string) string {
	t.Helper()
	res := db.Exec(t.Context(), pando.Request{Query: request})
	if err := res.Err(); err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	return string(res.Data)
}

// pull brings all that from holds of a collection to db.
func pull(t *testing.T, db, from *pando.DB, coll pando.CollectionID) pando.Merged {
	t.Helper()
	var pack [][]byte
	for b, err := range from.Replica().Full(t.Context(), coll, pando.DocID{}) {
		if err != nil {
			t.Fatal(err)
		}
		pack = append(pack, bytes.Clone(b.Envelope))
	}
	m, err := db.Replica().Merge(t.Context(), coll, pack, "peer")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func same(t *testing.T, a, b *pando.DB, coll pando.CollectionID) {
	t.Helper()
	x, err := a.Replica().Summary(t.Context(), coll)
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Replica().Summary(t.Context(), coll)
	if err != nil {
		t.Fatal(err)
	}
	if x.Root != y.Root || x.Documents != y.Documents || x.Alive != y.Alive {
		t.Fatalf("replicas differ: %d documents (%d alive) root %x, %d (%d) root %x", x.Documents, x.Alive, x.Root, y.Documents, y.Alive, y.Root)
	}
}

func TestConcurrentValuesOfAMultiValueRegisterAreAllThere(t *testing.T) {
	t.Parallel()
	sdl := `type Page @docID(mode: KEYED, fields: ["path"]) { path: String! title: String @crdt(type: mvregister) }`
	a, b := node(t, sdl), node(t, sdl)
	coll := a.Collections()[0].ID
	run(t, a, `mutation { create_Page(input: {path: "/", title: "old"}) { path } }`)
	pull(t, b, a, coll)
	run(t, a, `mutation { update_Page(filter: {path: {_eq: "/"}}, input: {title: "from a"}) { path } }`)
	run(t, b, `mutation { update_Page(filter: {path: {_eq: "/"}}, input: {title: "from b"}) { path } }`)
	pull(t, a, b, coll)
	pull(t, b, a, coll)
	same(t, a, b, coll)

	got := run(t, a, `{ Page { title _conflicts } }`)
	one, other := `{"Page":[{"title":"from a","_conflicts":{"title":["from b"]}}]}`, `{"Page":[{"title":"from b","_conflicts":{"title":["from a"]}}]}`
	if got != one && got != other {
		t.Fatalf("both values and nothing older: got %s", got)
	}
	if again := run(t, b, `{ Page { title _conflicts } }`); again != got {
		t.Fatalf("b shows %s, a shows %s", again, got)
	}
	err := a.View(t.Context(), func(tx *pando.Tx) error {
		pages, err := tx.Collection("Page")
		if err != nil {
			return err
		}
		for page, err := range pages.All() {
			if err != nil {
				return err
			}
			if c := page.Conflicts("title"); len(c) != 1 || c[0] == page.Get("title") {
				t.Errorf("Conflicts gives %v beside %v", c, page.Get("title"))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	// Whoever writes next has seen both, and settles it.
	run(t, b, `mutation { update_Page(filter: {path: {_eq: "/"}}, input: {title: "settled"}) { path } }`)
	pull(t, a, b, coll)
	if got, want := run(t, a, `{ Page { title _conflicts } }`), `{"Page":[{"title":"settled","_conflicts":{}}]}`; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func TestAFailedRequestLeavesItsTransactionAsItWas(t *testing.T) {
	t.Parallel()
	db := node(t, `type N { n: Int }`)
	tx, err := db.Begin(t.Context(), pando.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	create := func(list string) error {
		return tx.Exec(t.Context(), pando.Request{Query: `mutation { create_N(input: ` + list + `) { n } }`}).Err()
	}
	if err := create(`[{n: 1}]`); err != nil {
		t.Fatal(err)
	}
	if err := create(`[{n: 2}, {n: 3}, {n: 1}]`); !errors.Is(err, pando.ErrExists) {
		t.Fatalf("creating n=1 twice: %v, want Exists", err)
	}
	if err := create(`[{n: 4}]`); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := run(t, db, `{ N(order: {n: ASC}) { n } _count(N: {}) }`), `{"N":[{"n":1},{"n":4}],"_count":2}`; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func TestCloseEndsWhatIsOpen(t *testing.T) {
	t.Parallel()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.AddSchema(t.Context(), `type N { n: Int }`); err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin(t.Context(), pando.TxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		for _, err := range db.Changes(context.Background(), 0) {
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, pando.ErrClosed) {
		t.Errorf("the feed ended with %v, want Closed", err)
	}
	if err := tx.Exec(t.Context(), pando.Request{Query: `{ N { n } }`}).Err(); err == nil {
		t.Error("a transaction outlived its database")
	}
	if _, err := db.Begin(t.Context(), pando.TxOptions{}); !errors.Is(err, pando.ErrClosed) {
		t.Errorf("Begin after Close: %v, want Closed", err)
	}
	if err := db.Exec(t.Context(), pando.Request{Query: `{ N { n } }`}).Err(); !errors.Is(err, pando.ErrClosed) {
		t.Errorf("Exec after Close: %v, want Closed", err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestADatabaseComesBackAsItWas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var did pando.DID
	var root [32]byte
	for open := range 3 {
		db, err := pando.Open(t.Context(), dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if open == 0 {
			did = db.Identity().DID()
			if _, err := db.AddSchema(t.Context(), `type N { n: Int tag: String @index }`); err != nil {
				t.Fatal(err)
			}
			for i := range 50 {
				run(t, db, fmt.Sprintf(`mutation { create_N(input: {n: %d}) { n } }`, i))
			}
		}
		if got := db.Identity().DID(); got != did {
			t.Errorf("open %d: identity is %s, was %s", open, got, did)
		}
		c, err := db.Collection("N")
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Indexes) != 1 {
			t.Errorf("open %d: indexes are %v, want the one on tag", open, c.Indexes)
		}
		s, err := db.Replica().Summary(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if open == 0 {
			root = s.Root
		}
		if s.Root != root || s.Alive != 50 || db.Seq() != 50 {
			t.Errorf("open %d: %d documents, seq %d, root %x, want 50, 50, %x", open, s.Alive, db.Seq(), s.Root, root)
		}
		if _, err := pando.Open(t.Context(), dir, nil); !errors.Is(err, pando.ErrUnavailable) {
			t.Errorf("open %d: opening it twice: %v, want Unavailable", open, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClosingDoesNotWaitForAReaderOfTheFeed(t *testing.T) {
	t.Parallel()
	db := node(t, `type N { n: Int }`)
	run(t, db, `mutation { create_N(input: [{n: 1}, {n: 2}]) { n } }`)
	var seen int
	for c, err := range db.Changes(t.Context(), 0) {
		if err != nil {
			if !errors.Is(err, pando.ErrClosed) {
				t.Errorf("the feed ended with %v, want Closed", err)
			}
			break
		}
		if seen++; c.Seq == 2 {
			// In the middle of the loop: nothing may be held that Close waits for.
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if seen != 2 {
		t.Errorf("saw %d changes, want 2", seen)
	}
}

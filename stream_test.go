package pando_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/pandodb/pando"
)

// pagesOf is a database of n documents of about size bytes each.
func pagesOf(t testing.TB, n, size int, o *pando.Options) *pando.DB {
	t.Helper()
	return pagesIn(t, "", n, size, o)
}

func pagesIn(t testing.TB, dir string, n, size int, o *pando.Options) *pando.DB {
	t.Helper()
	db, err := pando.Open(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.AddSchema(context.Background(), "type Page { n: Int text: String }"); err != nil && n > 0 {
		t.Fatal(err)
	}
	text := string(bytes.Repeat([]byte("x"), size))
	for from := 0; from < n; from += 1000 {
		if err := db.Update(context.Background(), func(tx *pando.Tx) error {
			pages, err := tx.Collection("Page")
			if err != nil {
				return err
			}
			for i := from; i < min(from+1000, n); i++ {
				if _, err := pages.Create(map[string]any{"n": i, "text": text}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func TestStreamWritesWhatExecAnswers(t *testing.T) {
	t.Parallel()
	db := pagesOf(t, 3000, 1000, nil)
	for _, query := range []string{
		`{ Page { _docID n text } }`, // larger than what is held back
		`{ Page(limit: 2) { n } _count(Page: {}) }`,
		`mutation { update_Page(filter: {n: {_eq: 1}}, input: {n: 1}) { n } }`,
	} {
		var out bytes.Buffer
		if err := db.Stream(t.Context(), pando.Request{Query: query}, &out).Err(); err != nil {
			t.Fatal(err)
		}
		want := db.Exec(t.Context(), pando.Request{Query: query}).AppendJSON(nil)
		if !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s: got %.100s… (%d bytes), want %.100s… (%d bytes)", query, out.Bytes(), out.Len(), want, len(want))
		}
	}
}

// A failure that comes early leaves nothing behind, one that comes late a text that
// nobody takes for an answer.
func TestStreamThatFails(t *testing.T) {
	t.Parallel()
	db := pagesOf(t, 3000, 1000, &pando.Options{Limits: pando.Limits{Held: 1 << 20}})
	for _, c := range []struct {
		name, query string
		late        bool
	}{
		{"a mistake", `{ Page { nn } }`, false},
		{"early", `{ Page(order: {n: ASC}) { n } }`, false},
		{"late", `{ Page { text } sorted: Page(order: {n: ASC}) { n } }`, true},
	} {
		var out bytes.Buffer
		res := db.Stream(t.Context(), pando.Request{Query: c.query}, &out)
		if len(res.Errors) == 0 {
			t.Errorf("%s: no errors", c.name)
		}
		if late := out.Len() > 0; late != c.late || json.Valid(out.Bytes()) {
			t.Errorf("%s: %d bytes were written: %.60s…", c.name, out.Len(), out.Bytes())
		}
	}
}

func TestStreamEndsWithItsReader(t *testing.T) {
	t.Parallel()
	db := pagesOf(t, 3000, 1000, nil)
	gone := errors.New("the reader has gone")
	res := db.Stream(t.Context(), pando.Request{Query: `{ Page { text } }`}, writerFunc(func([]byte) (int, error) { return 0, gone }))
	if !errors.Is(res.Err(), gone) {
		t.Errorf("got %v, want %v", res.Err(), gone)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// What a query of a whole collection takes does not grow with the collection.
func TestStreamTakesLittleMemory(t *testing.T) {
	const most = 8 << 20
	dir, o := t.TempDir(), &pando.Options{CacheBytes: 1 << 20}
	if err := pagesIn(t, dir, 20_000, 1000, o).Close(); err != nil {
		t.Fatal(err)
	}
	db := pagesIn(t, dir, 0, 0, o) // which has written nothing
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, sent, next := heap(), 0, 0
	res := db.Stream(t.Context(), pando.Request{Query: `{ Page { n text } }`}, writerFunc(func(p []byte) (int, error) {
		if sent += len(p); sent > next {
			next += 2 << 20
			if now := heap(); now > before+most {
				return 0, fmt.Errorf("after %d bytes of the answer the heap is %d MiB, from %d", sent, now>>20, before>>20)
			}
		}
		return len(p), nil
	}))
	if err := res.Err(); err != nil || sent < 20e6 {
		t.Errorf("%d bytes, %v", sent, err)
	}
}

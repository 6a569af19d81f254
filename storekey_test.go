package pando_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pandodb/pando"
)

var storeKey = bytes.Repeat([]byte{7}, 32)

// diary writes a text into a database on disk, into documents and an index, and closes it.
func diary(t *testing.T, dir, text string, o *pando.Options) {
	t.Helper()
	db, err := pando.Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.AddSchema(t.Context(), `type Page { text: String @index day: Int }`); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		must(t, db, fmt.Sprintf(`mutation { create_Page(input: {text: "%s", day: %d}) { _docID } }`, text, i))
	}
}

// pieces returns which files of a directory hold 16 bytes of a text.
func pieces(t *testing.T, dir, text string) (in []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an open database removes what it needs no more
		}
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for i := range len(text) - 16 {
			if bytes.Contains(raw, []byte(text[i:i+16])) {
				in = append(in, filepath.Base(path))
				break
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// A laptop is stolen. Of what was written in the diary nothing is in the files, while
// it was open, after it was closed, and after a rebuild.
func TestStolenDirectoryTellsNothing(t *testing.T) {
	t.Parallel()
	const secret = "Today I hid the treasure under the third oak from the gate"
	plain, hidden := t.TempDir(), t.TempDir()
	o := &pando.Options{StoreKey: storeKey}
	diary(t, plain, secret, nil)
	diary(t, hidden, secret, o)
	if in := pieces(t, plain, secret); len(in) == 0 {
		t.Error("without a key nothing of the text is in the files: the test does not look")
	}
	for range 2 {
		if in := pieces(t, hidden, secret); len(in) > 0 {
			t.Errorf("with a key the text is in %v", in)
		}
		db, err := pando.Open(t.Context(), hidden, o)
		if err != nil {
			t.Fatal(err)
		}
		if got := must(t, db, `{ _count(Page: {filter: {text: {_like: "%oak%"}}}) }`); got != `{"_count":50}` {
			t.Errorf("with the key the diary has %s", got)
		}
		if in := pieces(t, hidden, secret); len(in) > 0 {
			t.Errorf("while it is open the text is in %v", in)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := pando.Rebuild(t.Context(), hidden, o, func(p pando.Problem) { t.Errorf("%+v", p) })
		if err != nil || r.Documents != 50 {
			t.Fatalf("rebuilt %+v, %v", r, err)
		}
	}
}

// The wrong key, no key, or one too many: each is refused with what to do, and the
// directory stays as it was, also of a rebuild, which is what people try then.
func TestWrongStoreKeyChangesNothing(t *testing.T) {
	t.Parallel()
	plain, hidden := t.TempDir(), t.TempDir()
	diary(t, plain, "nothing in particular", nil)
	diary(t, hidden, "something in particular", &pando.Options{StoreKey: storeKey})
	for _, c := range []struct {
		what, dir string
		key       []byte
		kind      error
		says      string
	}{
		{"no key", hidden, nil, pando.ErrDenied, "give the store key"},
		{"another key", hidden, bytes.Repeat([]byte{8}, 32), pando.ErrDenied, "not the one"},
		{"half a key", hidden, storeKey[:16], pando.ErrInvalid, "must have 32"},
		{"a key where none was", plain, storeKey, pando.ErrInvalid, "restore it with the key into a new directory"},
	} {
		before := listing(t, c.dir)
		o := &pando.Options{StoreKey: c.key}
		if _, err := pando.Open(t.Context(), c.dir, o); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: opening gives %v, want %v that says %q", c.what, err, c.kind, c.says)
		}
		if _, err := pando.Rebuild(t.Context(), c.dir, o, func(p pando.Problem) { t.Errorf("%s: %+v", c.what, p) }); !errors.Is(err, c.kind) {
			t.Errorf("%s: a rebuild gives %v, want %v", c.what, err, c.kind)
		}
		if after := listing(t, c.dir); after != before {
			t.Errorf("%s: the directory was\n%s\nand is\n%s", c.what, before, after)
		}
	}
	for what, o := range map[string]*pando.Options{"plain": nil, "hidden": {StoreKey: storeKey}} {
		dir := map[string]string{"plain": plain, "hidden": hidden}[what]
		db, err := pando.Open(t.Context(), dir, o)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		db.Close()
	}
}

// listing names the files of a directory, with their sizes and when they were written.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if info.Size() > 0 && !d.IsDir() { // not locks
			fmt.Fprintln(&b, path, info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The way from a plain store to an encrypted one, and back, is an archive.
func TestArchiveTakesADatabaseBehindAKey(t *testing.T) {
	t.Parallel()
	const secret = "the combination is 23-42-17, left first"
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "encrypted")
	diary(t, from, secret, nil)
	db, err := pando.Open(t.Context(), from, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var archive bytes.Buffer
	if _, err := db.Save(t.Context(), &archive); err != nil {
		t.Fatal(err)
	}
	o := &pando.Options{StoreKey: storeKey}
	if _, err := pando.Restore(t.Context(), &archive, to, o, nil); err != nil {
		t.Fatal(err)
	}
	if in := pieces(t, to, secret); len(in) > 0 {
		t.Errorf("the text is in %v", in)
	}
	again, err := pando.Open(t.Context(), to, o)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	const query = `{ Page(order: {day: ASC}) { _docID text day } }`
	if got, want := must(t, again, query), must(t, db, query); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What a store key costs: the same work without and with it.
func BenchmarkStoreKey(b *testing.B) {
	for how, key := range map[string][]byte{"plain": nil, "encrypted": storeKey} {
		open := func(b *testing.B) *pando.DB {
			db, err := pando.Open(b.Context(), b.TempDir(), &pando.Options{StoreKey: key, CacheBytes: 1 << 20})
			if err == nil {
				_, err = db.AddSchema(b.Context(), `type Page { text: String day: Int }`)
			}
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { db.Close() })
			return db
		}
		text := strings.Repeat("lorem ipsum ", 30)
		load := func(b *testing.B, db *pando.DB, from, n int) {
			err := db.Update(b.Context(), func(tx *pando.Tx) error {
				pages, err := tx.Collection("Page")
				for i := from; err == nil && i < from+n; i++ {
					_, err = pages.Create(map[string]any{"text": fmt.Sprint(i, text), "day": i})
				}
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		b.Run("create/"+how, func(b *testing.B) {
			db, i := open(b), 0
			for b.Loop() {
				load(b, db, i, 1)
				i++
			}
		})
		b.Run("import1000/"+how, func(b *testing.B) {
			db, i := open(b), 0
			for b.Loop() {
				load(b, db, i, 1000)
				i += 1000
			}
		})
		b.Run("scan20000/"+how, func(b *testing.B) {
			db := open(b)
			for i := range 20 {
				load(b, db, i*1000, 1000)
			}
			for b.Loop() {
				must(b, db, `{ _count(Page: {filter: {text: {_like: "%none%"}}}) }`)
			}
		})
	}
}

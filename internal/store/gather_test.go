package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// damagedCopy copies a directory, one file of it changed; nil removes it.
func damagedCopy(t *testing.T, from kv.FS, name string, change func([]byte) []byte) kv.FS {
	t.Helper()
	to := kv.NewMemFS()
	copyDir(t, from, to, "db")
	path := to.PathJoin("db", name)
	raw := readFile(t, to, path)
	if raw = change(raw); raw == nil {
		if err := to.Remove(path); err != nil {
			t.Fatal(err)
		}
		return to
	}
	f, err := to.Create(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return to
}

func readFile(t *testing.T, files kv.FS, path string) []byte {
	t.Helper()
	f, err := files.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Each file of a database is damaged in turn. A rebuild keeps all commits but those
// where the damage is, the schema and the notes, and a peer brings back the rest.
func TestRebuildGathersWhatIsWhole(t *testing.T) {
	t.Parallel()
	for _, tables := range []bool{true, false} {
		n, peer := newNode(t, "ada"), newNode(t, "bob")
		const inTables, inAll = 120, 200
		for i := range inAll {
			if i == inTables && tables {
				n.reopen() // makes tables of what is in the log
			}
			n.create("Page", "title", fmt.Sprint("page ", i), "body", strings.Repeat(fmt.Sprint(i), 30))
		}
		if err := n.SetNotes(map[string][]byte{"peer/1": []byte("cursor")}); err != nil {
			t.Fatal(err)
		}
		peer.merge("Page", n.everything("Page"))
		want, err := peer.Summary(n.coll("Page").ID)
		if err != nil {
			t.Fatal(err)
		}
		epoch, whole := n.Epoch(), n.fs
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		names, err := whole.List("db")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			size := len(readFile(t, whole, whole.PathJoin("db", name)))
			held := 0
			switch table := strings.HasSuffix(name, ".sst"); {
			case table:
				held = inTables
			case strings.HasSuffix(name, ".log") && tables:
				held = inAll - inTables
			case strings.HasSuffix(name, ".log"):
				held = inAll
			case name == "LOCK":
				continue
			}
			check := func(what string, most int, change func([]byte) []byte) {
				t.Helper()
				what = fmt.Sprintf("%s of %d bytes, %s", name, size, what)
				n.fs = damagedCopy(t, whole, name, change)
				s, err := Open("db", n.options())
				if err == nil {
					err = s.Check(context.Background(), func(Problem) {})
					_ = s.Close()
				}
				if err != nil && (!errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "fsck --rebuild")) {
					t.Errorf("%s: start and check give %v, want Corrupt and what to do", what, err)
				}
				n.fs = damagedCopy(t, whole, name, change)
				r, problems := n.rebuild()
				if inAll-r.Commits > most || r.Gathered != (len(problems) > 0) {
					t.Fatalf("%s: rebuild gives %+v and %v, want all of %d commits but %d", what, r, problems, inAll, most)
				}
				n.open()
				if r.Gathered == (n.Epoch() == epoch) {
					t.Errorf("%s: gathered is %v, and the epoch is the same: %v", what, r.Gathered, n.Epoch() == epoch)
				}
				if _, ok := n.Schema().Collection("Page"); !ok {
					if most == 0 {
						t.Errorf("%s: the schema is lost", what)
					}
					n.addSchema(testSDL)
				}
				n.merge("Page", peer.everything("Page"))
				wantSound(t, n)
				if got, err := n.Summary(n.coll("Page").ID); err != nil || got.Root != want.Root {
					t.Errorf("%s: after sync there are %d documents, %v, want %d", what, got.Documents, err, want.Documents)
				}
				if err := n.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if size == 0 {
				check("removed", held, func([]byte) []byte { return nil })
				continue
			}
			const places = 8
			for i := range places {
				at := (size - 1) * i / (places - 1)
				check(fmt.Sprint("a bit turned at ", at), min(held, 1), func(b []byte) []byte { b[at] ^= 1 << i; return b })
			}
			if held == inAll {
				continue // without the schema there is no database
			}
			check("removed", held, func([]byte) []byte { return nil })
			check("cut in half", held, func(b []byte) []byte { return b[:size/2] })
		}
	}
}

// The schema was in a part of the log that is lost, and the documents are not: when it
// is added again they are there, and commits of peers go on from them.
func TestDocumentsWithoutSchemaWaitForIt(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	page := n.create("Page", "title", "kept", "hits", 1)
	note := n.create("Note", "text", "kept too")
	n.damage(func(b *kv.Batch, snap *kv.Snapshot) {
		id := n.coll("Page").ID
		b.Delete(globalKey(globalActive, id[:]...))
	})
	// Damage elsewhere makes the rebuild gather.
	n.fs = damagedCopy(t, n.fs, markerOf(t, n.fs), func([]byte) []byte { return nil })
	r, problems := n.rebuild()
	if r.Commits != 2 || len(problems) != 2 || !strings.Contains(problems[1].Text, "schema") {
		t.Errorf("rebuild gives %+v and %v, want the loss of the schema told", r, problems)
	}
	n.open()
	if got := n.field("Note", note, "text"); got != `"kept too"` {
		t.Errorf("the document whose schema is there is %q", got)
	}
	var again []string
	for line := range strings.SplitSeq(testSDL, "\n") {
		if strings.Contains(line, "type Page") || strings.Contains(line, "type Late") {
			again = append(again, line)
		}
	}
	n.addSchema("type Late { text: String }")
	n.addSchema(strings.Join(again, "\n"))
	if got := n.field("Page", page, "title"); got != `"kept"` {
		t.Errorf("the document is %q after its schema came again", got)
	}
	n.set("Page", page, "hits", 1)
	n.create("Late", "text", "a")
	if err := n.BuildIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := n.entries("Page", "Page_hits_ASC", IndexRange{}, false, map[dag.DocID]string{page: "page"}); got != "2 page" {
		t.Errorf("the index has %s after its schema came again, want the document", got)
	}
	n.reopen()
	wantSound(t, n)
	if got := n.field("Page", page, "hits"); got != "2" {
		t.Errorf("hits is %s, want 2", got)
	}
}

func markerOf(t *testing.T, files kv.FS) string {
	t.Helper()
	names, err := files.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "marker.manifest") {
			return name
		}
	}
	t.Fatal("there is no marker")
	return ""
}

// Nobody opens a directory while it is replaced.
func TestRebuildHoldsTheDirectory(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	n.create("Page", "title", "a")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	o := n.options()
	tried := 0
	o.FS = renameFS{n.fs, func() {
		tried++
		_, err := Open("db", n.options())
		wantKind(t, err, fault.Unavailable, "opening during the swap")
	}}
	if _, err := Rebuild(t.Context(), "db", o, func(Problem) {}); err != nil {
		t.Fatal(err)
	}
	if tried < 2 {
		t.Errorf("the swap has %d steps, want two at least", tried)
	}
	n.open()
	wantSound(t, n)
}

type renameFS struct {
	kv.FS
	during func()
}

func (r renameFS) Rename(from, to string) error {
	if strings.HasPrefix(to, "db.ready") || to == "db" {
		r.during()
	}
	return r.FS.Rename(from, to)
}

// A transaction begins while a commit waits for the disk to take what was written.
func TestBeginningDoesNotWaitForRoom(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	held := &heldTables{FS: n.fs, gate: make(chan struct{})}
	n.fs = held
	n.open()
	held.hold.Store(true)
	done := make(chan error, 1)
	go func() {
		for i := 0; ; i++ { // until a commit has to wait for tables
			select {
			case <-held.gate:
				done <- nil
				return
			default:
			}
			err := n.Store.Update(context.Background(), As(n.key), func(tx *Tx) error {
				_, err := createIn(tx, "Page", "title", fmt.Sprint(i), "body", strings.Repeat("x", 100_000))
				return err
			})
			if err != nil {
				done <- err
				return
			}
		}
	}()
	stalled := func() bool { // the writer's lock is held for long
		for range 100 {
			if n.writer.TryLock() {
				n.writer.Unlock()
				return false
			}
			time.Sleep(time.Millisecond)
		}
		return true
	}
	for !stalled() {
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
	}
	begun := make(chan struct{})
	go func() {
		n.view(func(*Tx) error { return nil })
		close(begun)
	}()
	select {
	case <-begun:
	case <-time.After(10 * time.Second):
		t.Error("a transaction does not begin while a commit waits for room")
	}
	close(held.gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// heldTables takes no tables until its gate opens.
type heldTables struct {
	kv.FS
	hold atomic.Bool
	gate chan struct{}
}

func (h *heldTables) Create(name string, c kv.WriteCategory) (kv.File, error) {
	if strings.HasSuffix(name, ".sst") && h.hold.Load() {
		<-h.gate
	}
	return h.FS.Create(name, c)
}

package store

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// The disk is full. Writers hear of it, readers go on, and after a restart with room
// everything that was acknowledged is there, and nothing by halves.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	disk := newSlowFS(n.fs)
	n.fs = disk
	n.open()
	id := n.create("Page", "title", "a", "hits", 1)
	before := n.log(0)
	disk.fill(true)
	err := n.Update(context.Background(), As(n.key), func(tx *Tx) error {
		_, err := updateIn(tx, "Page", id, "hits", 1)
		return err
	})
	if !errors.Is(err, fault.Unavailable) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "full") {
		t.Fatalf("writing to a full disk gives %v, want Unavailable that says so", err)
	}
	_, err = n.Merge(t.Context(), n.coll("Page").ID, envelopes(rootOf(t, n.coll("Page"), keyOf("bob"), testStart, "title", "b")), "peer")
	wantKind(t, err, fault.Unavailable, "merging on a full disk")
	wantKind(t, n.SetNotes(map[string][]byte{"a": []byte("b")}), fault.Unavailable, "a note on a full disk")
	if got := n.get("Page", id); got.ID != id {
		t.Error("the document cannot be read on a full disk")
	}
	_ = n.Close() // may complain
	disk.fill(false)
	n.open()
	after := n.log(0)
	if len(after) < len(before) || len(after) > len(before)+1 {
		t.Errorf("the feed has %d entries, want the %d acknowledged, and one at most that was not", len(after), len(before))
	}
	n.set("Page", id, "hits", 10)
	wantSound(t, n)
}

// The disk fails in the middle of a transaction, which can be read then, and is perhaps
// not on the disk. Nobody is told that it is: not who wrote it, not a peer that sends it
// once more, not who asks whether what is read is safe. After a restart it is there as a
// whole or not at all.
func TestDiskThatFailsWhileATransactionIsApplied(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	disk := newSlowFS(n.fs)
	n.fs = disk
	n.open()
	n.create("Page", "title", "a")
	before := n.Seq()
	page := n.coll("Page")
	var pack [][]byte // more than one log takes
	for range 40 {
		pack = append(pack, envelopes(rootOf(t, page, keyOf("bob"), n.now.tick(), "body", strings.Repeat("x", 250_000)))...)
	}
	disk.wear()
	_, err := n.Merge(t.Context(), page.ID, pack, "peer")
	wantKind(t, err, fault.Unavailable, "merging while the disk fails")
	again, err := n.Merge(t.Context(), page.ID, pack, "peer")
	if wantKind(t, err, fault.Unavailable, "merging the same once more"); again.Known > 0 {
		t.Errorf("%d commits are said to be known that may not be on the disk", again.Known)
	}
	wantKind(t, n.Settle(t.Context()), fault.Unavailable, "waiting until all is on the disk")
	if got := n.Seq(); got != before {
		t.Errorf("the feed is at %d, want %d, which is on the disk", got, before)
	}
	_ = n.Close() // may complain
	n.fs = disk.FS
	n.open()
	if got, all := n.Seq(), before+uint64(len(pack)); got != before && got != all {
		t.Errorf("after a restart the feed is at %d, want %d or %d", got, before, all)
	}
	if m, err := n.Merge(t.Context(), page.ID, pack, "peer"); err != nil || m.Applied+m.Known != len(pack) {
		t.Errorf("merging after a restart gives %d new and %d known, %v", m.Applied, m.Known, err)
	}
	wantTree(t, n)
	wantSound(t, n)
}

// A power loss takes back whole transactions that were not acknowledged, or none.
func TestPowerLossKeepsTransactionsWhole(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{strict, generous} {
		n := newNode(t, "ada")
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		files := kv.NewCrashFS()
		slow := newSlowFS(files)
		n.fs = slow
		n.open()
		n.addSchema(testSDL)
		id := n.create("Page", "title", "a", "hits", 1)
		stuck := slow.hold()
		done := make(chan error, 1)
		go func() {
			done <- n.Store.Update(context.Background(), As(n.key), func(tx *Tx) error {
				for _, title := range []string{"b", "c", "d"} {
					if _, err := createIn(tx, "Page", "title", title); err != nil {
						return err
					}
				}
				_, err := updateIn(tx, "Page", id, "hits", 1)
				return err
			})
		}()
		<-stuck
		left := files.Crash(seed)
		slow.release()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		n.fs = left
		n.open()
		if got := n.Seq(); got != 1 && got != 5 {
			t.Errorf("the feed is at %d, want 1 or 5", got)
		}
		if want := map[uint64]string{1: "1", 5: "2"}[n.Seq()]; n.field("Page", id, "hits") != want {
			t.Errorf("hits is %s, want %s", n.field("Page", id, "hits"), want)
		}
		wantTree(t, n)
		wantSound(t, n)
	}
}

func TestNotes(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	set := func(notes map[string][]byte) {
		t.Helper()
		if err := n.SetNotes(notes); err != nil {
			t.Fatal(err)
		}
	}
	set(map[string][]byte{"peer/a": []byte("1"), "peer/b": []byte("2"), "want/a": []byte("3"), "peer0": {}})
	set(map[string][]byte{"peer/a": nil, "peer/c": []byte("4")})
	n.reopen()
	var got []string
	for e, err := range n.Notes([]byte("peer/")) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(e.Key)+"="+string(e.Value))
	}
	if strings.Join(got, " ") != "peer/b=2 peer/c=4" {
		t.Errorf("notes of peers are %v", got)
	}
	if v, ok, err := n.Note([]byte("want/a")); string(v) != "3" || !ok || err != nil {
		t.Errorf("note is %q, %v, %v", v, ok, err)
	}
	if _, ok, err := n.Note([]byte("peer/a")); ok || err != nil {
		t.Errorf("a deleted note is there: %v, %v", ok, err)
	}
}

// What recent transactions changed is remembered as long as somebody may ask.
func TestHistoryIsTrimmed(t *testing.T) {
	t.Parallel()
	h := newHistory()
	doc := func(i int) dag.DocID { return dag.DocID{byte(i), byte(i >> 8)} }
	for i := range 3 * minTrim {
		h.add(uint64(i+1), 1, doc(i%5000))
		if h.full() {
			oldest := uint64(max(0, i-100))
			h.trim(oldest)
			if len(h.log) > 101 {
				t.Fatalf("%d changes are remembered, want those after %d", len(h.log), oldest)
			}
		}
	}
	for k := 3*minTrim - 100; k < 3*minTrim; k++ {
		if got := h.docs[doc(k%5000)]; got != uint64(k+1) {
			t.Errorf("document %d was changed by %d, remembered is %d", k%5000, k+1, got)
		}
	}
	if len(h.docs) > 2*minTrim {
		t.Errorf("%d documents are remembered", len(h.docs))
	}
}

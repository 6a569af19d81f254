package crdt_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// The bytes of a document are compared between nodes and kept on disk: this test
// fails when they change, and then the version must change too.
func TestCanonicalForm(t *testing.T) {
	t.Parallel()
	commit := func(c byte) string { return strings.Repeat(string(c), 32) }
	tag := func(c byte, op uint32) crdt.Tag { return crdt.Tag{Commit: [32]byte([]byte(commit(c))), Op: op} }
	doc := everyOrder(t, []crdt.Change{
		{Commit: tag('b', 0).Commit, Height: 1, HLC: 0x0102, Deltas: []crdt.Delta{
			set(crdt.FieldStatus, crdt.KindStatus, value.OfBool(false)),
			set(16, lwwInt, value.OfInt(5)),
			set(300, mvrInt, value.OfInt(6)),
			add(17, 40),
		}},
		{Commit: tag('a', 0).Commit, Height: 1, HLC: 0x0103, Deltas: []crdt.Delta{
			set(300, mvrInt, value.Value{}, tag('x', 2)),
			set(16, lwwInt, value.OfInt(7)),
			add(17, -50),
		}},
		{Commit: tag('c', 0).Commit, Parents: [][32]byte{tag('a', 0).Commit}, Height: 2, HLC: 0x0104},
	})
	want := "\x01" + // version
		"\x03" + // commits
		commit('a') + "\x00\x00\x00\x00\x00\x00\x01\x03" +
		commit('b') + "\x00\x00\x00\x00\x00\x00\x01\x02" +
		commit('c') + "\x00\x00\x00\x00\x00\x00\x01\x04" +
		"\x02" + "\x01\x01" + "\x02\x02" + // heads: b at height 1, c at height 2
		"\x00\x01\x02\x03" + "\x01\x00" + "\x01" + // status: by b, operation 0, false
		"\x10\x01\x03\x03" + "\x00\x01" + "\x47" + // field 16: by a, operation 1, 7
		"\x11\x03\x03\x03" + "-10" + // field 17
		"\xac\x02\x04\x03\x2a" + "\x02" + // field 300: two live writes
		"\x00\x00\x01\x00" + // by a, operation 0, null
		"\x01\x02\x01\x46" + // by b, operation 2, 6
		commit('x') + "\x02" // a tombstone
	if got := string(doc.Bytes()); got != want {
		t.Fatalf("canonical form:\n got %q\nwant %q", got, want)
	}
	again, err := crdt.Open([]byte(want))
	if err != nil || again.Check() != nil {
		t.Fatalf("open: %v, check: %v", err, again.Check())
	}
}

func TestEmptyDocument(t *testing.T) {
	t.Parallel()
	doc, err := crdt.Open(nil)
	if err != nil || doc.Check() != nil || doc.Bytes() != nil || len(doc.Heads()) != 0 || doc.Deleted() {
		t.Fatalf("got %v (%v), want a document without anything", doc, err)
	}
	if _, ok := doc.Value(16, lwwInt); ok {
		t.Fatal("an empty document has a value")
	}
}

func TestDamageIsNoticed(t *testing.T) {
	t.Parallel()
	raw := sample(t).Bytes()
	newer := bytes.Clone(raw)
	newer[0]++
	if _, err := crdt.Open(newer); !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("another version: got %v", err)
	}
	for n := 1; n < len(raw); n++ {
		doc, err := crdt.Open(raw[:n])
		if err == nil {
			err = doc.Check()
		}
		// Cut between two cells it is a document, of which only a checksum
		// knows that it is not the one that was written.
		if err != nil && !errors.Is(err, fault.Corrupt) {
			t.Errorf("cut to %d bytes: got %v, want fault.Corrupt", n, err)
		}
	}
}

// The greatest commits that a hostile author can make, all aimed at one register,
// fold as any other; the log says in what time.
func TestFoldOfHugeCommits(t *testing.T) {
	t.Parallel()
	const ops = 4096
	var adds, kills crdt.Change
	adds, kills = crdt.Change{Commit: id("adds")}, crdt.Change{Commit: id("kills"), Parents: ids("adds")}
	for i := range ops {
		adds.Deltas = append(adds.Deltas, set(16, mvrInt, value.OfInt(int64(i))))
		kills.Deltas = append(kills.Deltas, set(16, mvrInt, value.OfInt(int64(i)),
			crdt.Tag{Commit: id("adds"), Op: uint32(i)}, crdt.Tag{Commit: id(fmt.Sprint(i))}))
	}
	start := time.Now()
	doc, err := takeAll([]crdt.Change{adds, kills})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d operations, then as many that overwrite two tags each: %v", ops, time.Since(start))
	if got := len(doc.Tags(16, mvrInt)); got != ops {
		t.Fatalf("%d live writes, want those of the second commit", got)
	}
	if err := doc.Check(); err != nil {
		t.Fatal(err)
	}
}

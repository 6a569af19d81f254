package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/value"
)

func (n *node) archive() []byte {
	n.t.Helper()
	var out bytes.Buffer
	if _, err := n.Archive(context.Background(), &out); err != nil {
		n.t.Fatal(err)
	}
	return out.Bytes()
}

// restored opens what an archive restores to.
func restored(t tester, archive []byte) (*node, Archived) {
	t.Helper()
	n := &node{t: t, fs: kv.NewMemFS(), key: keyOf("restored"), now: &clock{now: testStart}, rng: &counterReader{}}
	done, err := Restore(context.Background(), "db", n.options(), bytes.NewReader(archive), nil)
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	n.open()
	t.Cleanup(func() { n.Close() })
	return n, done
}

// What is restored is the same database: schema, documents, commits, roots; and an
// archive of it is the archive that it came from.
func TestArchiveIsTheDatabase(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	aHistory(t, n)
	archive := n.archive()
	again, done := restored(t, archive)
	if want := (Archived{Collections: 4, Documents: 25, Commits: 41}); done != want {
		t.Errorf("got %+v, want %+v", done, want)
	}
	for _, c := range n.Schema().Collections() {
		wantEqual(t, n, again, c.Name)
	}
	if err := again.Check(context.Background(), func(p Problem) { t.Errorf("check: %s", p) }); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(again.archive(), archive) {
		t.Error("an archive of what was restored is another one")
	}
	if again.Epoch() == n.Epoch() {
		t.Error("the feed has the identity of another one")
	}
	again.create("Page", "title", "life goes on")
	if got, want := again.Seq(), uint64(42); got != want {
		t.Errorf("the feed is at %d, want %d", got, want)
	}
}

func TestArchiveOfWhateverArrived(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := newNode(t, "ada")
		n.merge("Page", envelopes(graph(t, n)...))
		archive := n.archive()
		again, _ := restored(t, archive)
		wantEqual(t, n, again, "Page")
		if !bytes.Equal(again.archive(), archive) {
			t.Error("an archive of what was restored is another one")
		}
	})
}

// The bytes of an archive are for ever: one that was made is restored, and made again
// as it was. To make it: go test ./internal/store -run ArchiveIsGolden -rewrite
func TestArchiveIsGolden(t *testing.T) {
	t.Parallel()
	const name = "../../testdata/format/v1/archive.hex"
	n := newNode(t, "ada")
	id := n.create("City", "name", "Bern", "people", 1)
	n.set("City", id, "people", 2)
	n.create("Page", "title", "a", "hits", 3, "tags", "x")
	if f := flag.Lookup("rewrite"); f.Value.String() == "true" {
		if err := os.WriteFile(name, []byte(hex.Dump(n.archive())), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dump, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	golden := undump(t, string(dump))
	again, done := restored(t, golden)
	if want := (Archived{Collections: 4, Documents: 2, Commits: 3}); done != want {
		t.Errorf("got %+v, want %+v", done, want)
	}
	if got := again.field("City", id, "people"); got != "2" {
		t.Errorf("got %s people", got)
	}
	if !bytes.Equal(again.archive(), golden) {
		t.Error("an archive of what was restored is another one")
	}
}

// undump reads what hex.Dump writes.
func undump(t testing.TB, dump string) (raw []byte) {
	t.Helper()
	for line := range strings.Lines(dump) {
		text, _, _ := strings.Cut(line[10:], "|")
		b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, b...)
	}
	return raw
}

// An archive holds one moment, whatever is written while it is made.
func TestArchiveIsOfOneMoment(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	for i := range 50 {
		n.create("Page", "title", fmt.Sprint(i), "body", strings.Repeat("x", 20_000))
	}
	want := n.archive()
	var got bytes.Buffer
	late := 0
	if _, err := n.Archive(context.Background(), writerFunc(func(p []byte) (int, error) {
		n.create("Page", "title", fmt.Sprint("late ", late))
		late++
		return got.Write(p)
	})); err != nil {
		t.Fatal(err)
	}
	if late == 0 || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d writes beside it changed the archive", late)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestArchiveOfAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	s, err := Open("db", Options{FS: kv.NewMemFS()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var out bytes.Buffer
	if _, err := s.Archive(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	if _, done := restored(t, out.Bytes()); done != (Archived{}) {
		t.Errorf("got %+v, want nothing", done)
	}
}

// A damaged archive, or one that was cut off, is refused with a word on what is wrong,
// and nothing of it stays.
func TestDamagedArchiveIsRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	n.create("Page", "title", "a")
	n.set("Page", n.create("Page", "title", "b"), "title", "c")
	archive := n.archive()
	refused := func(name, says string, damaged []byte) {
		t.Helper()
		fs := kv.NewMemFS()
		_, err := Restore(context.Background(), "db", Options{FS: fs}, bytes.NewReader(damaged), nil)
		if !errors.Is(err, fault.Corrupt) || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%s: got %v, want corrupt, with %q", name, err, says)
		}
		for _, dir := range []string{"db", "db" + suffixFresh} {
			if there, err := exists(fs, dir); there || err != nil {
				t.Errorf("%s: %s is there: %v", name, dir, err)
			}
		}
	}
	for i := range archive {
		if i%7 == 0 {
			refused(fmt.Sprint("cut at ", i), "archive: in the part at byte", archive[:i])
		}
		if i%5 == 0 {
			damaged := slices.Clone(archive)
			damaged[i] ^= 1 << (i % 8)
			refused(fmt.Sprint("a bit at ", i), "archive: in the part at byte", damaged)
		}
	}
	refused("cut", "it was cut off after 999 bytes", archive[:999])
	refused("nothing", "does not begin as an archive", nil)
	refused("another file", "is it another file", []byte(strings.Repeat("PK", 100)))
	refused("more", "something follows the end", append(slices.Clone(archive), 0))

	parts := partsOf(t, archive)
	if !bytes.Equal(sealed(parts), archive) {
		t.Fatal("the parts of an archive do not make it again")
	}
	without := func(i int) []byte { return sealed(slices.Delete(slices.Clone(parts), i, i+1)) }
	commits := slices.IndexFunc(parts, func(p []byte) bool { return p[0] == partCommits })
	refused("without commits", "are not those that the archive was made of", without(commits))
	refused("without schema", "not in the schema", without(1))
	refused("twice", "not in its place", sealed(slices.Insert(slices.Clone(parts), commits, parts[commits])))
	refused("without an end", "has no place here", without(commits+1))
	refused("without a head", "the head is missing", without(0))
}

func TestArchiveIsNotRestoredOverADatabase(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	id := n.create("Page", "title", "kept")
	archive := n.archive()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(context.Background(), "db", n.options(), bytes.NewReader(archive), nil); !errors.Is(err, fault.Exists) {
		t.Errorf("got %v, want exists", err)
	}
	n.open()
	if got := n.field("Page", id, "title"); got != `"kept"` {
		t.Errorf("got %s", got)
	}
}

func TestArchiveOfANewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	parts := partsOf(t, newNode(t, "ada").archive())
	parts[0] = []byte{partHead, 0x81, archiveVersion + 1}
	_, err := Restore(context.Background(), "db", Options{FS: kv.NewMemFS()}, bytes.NewReader(sealed(parts)), nil)
	if !errors.Is(err, fault.Unavailable) || !strings.Contains(fmt.Sprint(err), "newer pando") {
		t.Errorf("got %v", err)
	}
}

// partsOf takes an archive apart: kinds and payloads, without the end.
func partsOf(t testing.TB, archive []byte) (parts [][]byte) {
	t.Helper()
	in := newPartReader(bytes.NewReader(archive))
	for {
		kind, payload, err := in.next()
		if err != nil {
			t.Fatal(err)
		}
		if kind == partEnd {
			return parts
		}
		parts = append(parts, append([]byte{kind}, payload...))
	}
}

// sealed makes an archive of parts, with all its checksums.
func sealed(parts [][]byte) []byte {
	var out bytes.Buffer
	a := archiver{sum: sha256.New(), out: bufio.NewWriter(&out)}
	_ = a.write([]byte(archiveMagic))
	for _, p := range parts {
		_ = a.part(p[0], p[1:])
	}
	_ = a.part(partEnd, a.sum.Sum(nil))
	_ = a.out.Flush()
	return out.Bytes()
}

// Whatever the parts hold, however right their checksums are: it restores to a sound
// database, or not at all.
func FuzzRestore(f *testing.F) {
	n := newNode(f, "ada")
	page := n.coll("Page")
	id := n.create("Page", "title", "a", "hits", 1, "tags", "x")
	n.set("Page", id, "title", "b")
	root := rootOf(f, page, keyOf("bob"), testStart, "title", "c")
	hits := page.Fields[1]
	add, err := crdt.Increment(value.TypeInt, value.OfInt(1))
	if err != nil {
		f.Fatal(err)
	}
	n.merge("Page", envelopes(root, childOf(f, keyOf("eve"), []crdt.Delta{{Field: hits.ID, Kind: crdt.KindOf(crdt.PNCounter, value.TypeInt), Val: add}}, root)))
	archive := n.archive()
	f.Add(archive, false)
	var loose []byte
	for _, p := range partsOf(f, archive) {
		loose = append(binary.BigEndian.AppendUint32(loose, uint32(len(p))), p...)
	}
	f.Add(loose, true)
	f.Fuzz(func(t *testing.T, raw []byte, parts bool) {
		if parts { // lengths and payloads, to be given checksums
			var list [][]byte
			for len(raw) > 4 {
				n := min(int(binary.BigEndian.Uint32(raw)&0xffff), len(raw)-4)
				if n == 0 {
					return
				}
				list, raw = append(list, raw[4:4+n]), raw[4+n:]
			}
			raw = sealed(list)
		}
		fs := kv.NewMemFS()
		if _, err := Restore(context.Background(), "db", Options{FS: fs}, bytes.NewReader(raw), nil); err != nil {
			return
		}
		s, err := Open("db", Options{FS: fs})
		if err != nil {
			t.Fatalf("what was restored does not open: %v", err)
		}
		defer s.Close()
		if err := s.Check(context.Background(), func(p Problem) { t.Errorf("check: %s", p) }); err != nil {
			t.Error(err)
		}
		if _, err := s.Archive(context.Background(), io.Discard); err != nil {
			t.Error(err)
		}
	})
}

// The archive says how many bytes there are before it says which.
func TestArchivePartOfAnyLength(t *testing.T) {
	t.Parallel()
	head := []byte{partGlobal, 0xff, 0xff, 0xff, 0xff}
	raw := append([]byte(archiveMagic), binary.BigEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))...)
	if _, _, err := newPartReader(bytes.NewReader(raw)).next(); !errors.Is(err, fault.Corrupt) {
		t.Errorf("got %v, want corrupt", err)
	}
}

func BenchmarkArchive(b *testing.B) {
	const count = 20_000
	n := benchNode(b, nil)
	n.fillUsers(b, count)
	var archive []byte
	b.Run("save", func(b *testing.B) {
		for b.Loop() {
			var out bytes.Buffer
			if _, err := n.Archive(context.Background(), &out); err != nil {
				b.Fatal(err)
			}
			archive = out.Bytes()
		}
		perSecond(b, count)
	})
	b.Run("restore", func(b *testing.B) {
		dir := b.TempDir()
		i := 0
		for b.Loop() {
			i++
			if _, err := Restore(context.Background(), fmt.Sprint(dir, "/", i), Options{}, bytes.NewReader(archive), nil); err != nil {
				b.Fatal(err)
			}
		}
		perSecond(b, count)
	})
}

package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/kv"
)

// aHistory fills a node with documents of every mode, concurrent writes, writes
// that wait for others, deletions, and commits of two peers.
func aHistory(t tester, n *node) {
	t.Helper()
	page := n.coll("Page")
	var ids []dag.DocID
	for i := range 20 {
		ids = append(ids, n.create("Page", "title", fmt.Sprint("page ", i), "hits", i, "tags", "new"))
	}
	n.create("City", "name", "Bern", "people", 1)
	n.create("Note", "text", "a")
	n.create("Deed", "text", "a")
	root := rootOf(t, page, keyOf("bob"), testStart, "title", "shared", "hits", 1, "tags", "b")
	n.create("Page", "title", "shared", "hits", 1, "tags", "b")
	c := page
	add, err := c.Update(n.get("Page", root.Doc).State, fields("hits", 5, "tags", "late"))
	if err != nil {
		t.Fatal(err)
	}
	n.merge("Page", envelopes(root, childOf(t, keyOf("bob"), add, root)))
	if _, err := n.Merge(context.Background(), page.ID, envelopes(rootOf(t, page, keyOf("eve"), testStart, "title", "of eve")), "another peer"); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		switch i % 3 {
		case 0:
			n.set("Page", id, "hits", 1, "body", strings.Repeat("x", 10*i))
		case 1:
			n.update(func(tx *Tx) error { _, err := tx.Delete(page, id); return err })
		}
	}
	if err := n.SetNotes(map[string][]byte{"peer/1": []byte("cursor")}); err != nil {
		t.Fatal(err)
	}
}

// damaged opens the closed node's key space and changes it.
func (n *node) damage(fn func(b *kv.Batch, snap *kv.Snapshot)) {
	n.t.Helper()
	if err := n.Close(); err != nil {
		n.t.Fatal(err)
	}
	db, err := kv.Open("db", kv.Options{FS: n.fs})
	if err != nil {
		n.t.Fatal(err)
	}
	defer db.Close()
	snap := db.Snapshot()
	defer snap.Close()
	b := db.NewBatch()
	fn(b, snap)
	p, err := db.Apply(b)
	if err == nil {
		err = p.Wait()
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) rebuild() (r Rebuilt, problems []Problem) {
	n.t.Helper()
	r, err := Rebuild(context.Background(), "db", n.options(), func(p Problem) { problems = append(problems, p) })
	if err != nil {
		n.t.Fatalf("rebuild: %v", err)
	}
	return r, problems
}

// first returns the first entry of a table.
func first(t tester, snap *kv.Snapshot, table byte) (key, value []byte) {
	t.Helper()
	for e, err := range snap.Scan([]byte{table}, []byte{table + 1}) {
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{}, e.Key...), append([]byte{}, e.Value...)
	}
	t.Fatalf("table %c is empty", table)
	return nil, nil
}

func flipped(v []byte) []byte {
	v = append([]byte{}, v...)
	v[len(v)-1] ^= 1
	return v
}

func TestSoundDatabaseHasNoProblems(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	aHistory(t, n)
	wantSound(t, n)
	n.reopen()
	wantSound(t, n)
}

// Every derived entry that is changed, missing or too many is found, and a rebuild
// makes the key space what it was, byte for byte.
func TestRebuildMakesDerivedEntriesAgain(t *testing.T) {
	t.Parallel()
	tables := map[string]byte{"index": tableIndex, "document": tableDocument, "feed": tableFeed, "count": tableCount, "events": tableEvent}
	for name, table := range tables {
		for kind, damage := range map[string]func(b *kv.Batch, key, value []byte){
			"changed": func(b *kv.Batch, key, value []byte) { b.Set(key, flipped(value)) },
			"missing": func(b *kv.Batch, key, _ []byte) { b.Delete(key) },
			"extra": func(b *kv.Batch, key, value []byte) {
				key = append([]byte{}, key...)
				key[len(key)-1] ^= 0x55
				b.Set(key, value)
			},
			"cut": func(b *kv.Batch, key, value []byte) { b.Set(key, value[:len(value)-1]) },
		} {
			if name == "count" && kind == "cut" {
				continue // refused when the directory is opened
			}
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				n := newNode(t, "ada").policed()
				aHistory(t, n)
				n.mustDo("Paper", n.create("Paper", "title", "shared"), grantTo("reader", person("bob")))
				want := n.dump()
				n.damage(func(b *kv.Batch, snap *kv.Snapshot) {
					key, value := first(t, snap, table)
					damage(b, key, value)
				})
				n.open()
				found := n.problems()
				if len(found) == 0 || found[0].What != name {
					t.Errorf("check finds %v, want a problem of the %s", found, name)
				}
				if err := n.Close(); err != nil {
					t.Fatal(err)
				}
				r, problems := n.rebuild()
				if len(problems) > 0 || r.Lost > 0 || r.Commits == 0 {
					t.Errorf("rebuild gives %+v with %v, want nothing lost", r, problems)
				}
				n.open()
				wantSound(t, n)
				wantSame(t, n.dump(), want)
			})
		}
	}
}

func TestRebuildOfSoundDatabaseChangesNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	aHistory(t, n)
	want := n.dump()
	epoch, seq := n.Epoch(), n.Seq()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		n.rebuild()
	}
	n.open()
	wantSame(t, n.dump(), want)
	if n.Epoch() != epoch || n.Seq() != seq {
		t.Errorf("epoch %x and feed %d, want %x and %d", n.Epoch(), n.Seq(), epoch, seq)
	}
}

// A commit that is damaged is reported and left out, and so is what stands on it.
// A peer brings both back.
func TestDamagedCommitIsLeftOutAndComesBack(t *testing.T) {
	t.Parallel()
	for kind, damage := range map[string]func([]byte) []byte{
		"flipped":   flipped,
		"signature": func(v []byte) []byte { return damagedSignature(t, v) },
		"cut":       func(v []byte) []byte { return v[:len(v)/2] },
		"empty":     func([]byte) []byte { return nil },
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			n, peer := newNode(t, "ada"), newNode(t, "bob")
			id := n.create("Page", "title", "a", "hits", 1)
			n.set("Page", id, "hits", 1)
			other := n.create("Page", "title", "b")
			before := n.pack("Page", Want{Doc: id})
			peer.merge("Page", n.everything("Page"))
			epoch := n.Epoch()
			n.damage(func(b *kv.Batch, snap *kv.Snapshot) {
				lo, _ := documentRange(1+short(indexOf(n, "Page")), id)
				for e := range snap.Scan(lo, nil) {
					b.Set(e.Key, damage(e.Value))
					break
				}
			})
			n.open()
			found := n.problems()
			if len(found) < 2 || found[0].What != "commit" {
				t.Errorf("check finds %v, want the commit and the one on top of it", found)
			}
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			r, problems := n.rebuild()
			if r.Lost != 2 || r.Commits != 1 || len(problems) != 2 {
				t.Errorf("rebuild gives %+v with %v, want 2 commits lost and 1 kept", r, problems)
			}
			n.open()
			wantSound(t, n)
			if n.Epoch() == epoch {
				t.Error("the epoch of the feed is the old one, although numbers of it will be given again")
			}
			if n.heads("Page", other) == nil || n.heads("Page", id) != nil {
				t.Error("want the other document to be there, and this one not")
			}
			n.merge("Page", peer.pack("Page", Want{Doc: id}))
			if after := n.pack("Page", Want{Doc: id}); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Error("the document did not come back as it was")
			}
			wantSound(t, n)
		})
	}
}

// damagedSignature changes a bit of the signature in a stored commit.
func damagedSignature(t tester, v []byte) []byte {
	st, err := parseStored(dag.CID{}, v)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dag.Open(append([]byte{}, st.envelope...))
	if err != nil {
		t.Fatal(err)
	}
	c.Sig[3] ^= 1 // aliases the envelope
	return stored{st.seq, st.origin, c.Envelope()}.append(nil)
}

// indexOf returns the place of a collection among the short numbers.
func indexOf(n *node, name string) int {
	k, _ := n.Schema().short(n.coll(name).ID)
	return int(k) - 1
}

func TestKeyThatIsNoneIsReported(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	aHistory(t, n)
	n.damage(func(b *kv.Batch, _ *kv.Snapshot) { b.Set([]byte{tableCommit, 1, 2}, []byte("?")) })
	n.open()
	if found := n.problems(); len(found) != 1 || found[0].What != "commit" {
		t.Errorf("check finds %v, want the key", found)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if r, _ := n.rebuild(); r.Unreadable != 1 || r.Lost != 0 {
		t.Errorf("rebuild gives %+v, want one thing unreadable", r)
	}
	n.open()
	wantSound(t, n)
}

// Blocks of a file fail their checksums: check names them, a rebuild saves all the
// rest, and a peer brings back what was lost.
func TestDamagedBlocksAreSteppedOver(t *testing.T) {
	t.Parallel()
	n, peer := newNode(t, "ada"), newNode(t, "bob")
	n.update(func(tx *Tx) error {
		for i := range 600 {
			if _, err := createIn(tx, "Page", "title", fmt.Sprint("page ", i), "body", strings.Repeat(fmt.Sprint(i), 50)); err != nil {
				return err
			}
		}
		return nil
	})
	peer.merge("Page", n.everything("Page"))
	want, err := peer.Summary(n.coll("Page").ID)
	if err != nil {
		t.Fatal(err)
	}
	n.reopen() // makes tables of what is in the log
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	hurt := 0
	names, err := n.fs.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := n.fs.OpenReadWrite(n.fs.PathJoin("db", name), "test")
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{info.Size() / 10, info.Size() / 5, info.Size() / 5 * 2} { // the commits come first
			if _, err := f.WriteAt([]byte{0xff, 0, 0xff}, at); err != nil {
				t.Fatal(err)
			}
			hurt++
		}
		f.Close()
	}
	if hurt == 0 {
		t.Fatal("there is no table to damage")
	}
	n.open()
	blocks := 0
	for _, p := range n.problems() {
		if p.What != "file" || !strings.Contains(p.Text, "offset") {
			t.Errorf("check finds %v, want blocks of files only", p)
		}
		blocks++
	}
	if blocks == 0 {
		t.Error("check finds no damaged block")
	}
	err = n.View(t.Context(), System, func(tx *Tx) error {
		for _, err := range tx.Full(n.coll("Page").ID, dag.DocID{}) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	wantKind(t, err, fault.Corrupt, "reading over a damaged block")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	r, problems := n.rebuild()
	if r.Unreadable == 0 || len(problems) == 0 || r.Commits == 0 || r.Commits >= 600 {
		t.Errorf("rebuild gives %+v, want some blocks lost and most commits kept", r)
	}
	if r.Commits < 400 {
		t.Errorf("rebuild keeps %d of 600 commits with %d damaged blocks", r.Commits, blocks)
	}
	n.open()
	wantSound(t, n)
	n.merge("Page", peer.everything("Page"))
	wantSound(t, n)
	if got, err := n.Summary(n.coll("Page").ID); err != nil || got.Root != want.Root {
		t.Errorf("after sync the root is %x, %v, want %x", got.Root, err, want.Root)
	}
}

// A rebuild is cut by a power loss at each step of the file system in turn. What
// is there afterwards is the database, whole.
func TestRebuildCanBeInterrupted(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	files := kv.NewCrashFS()
	n.fs = files
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.open()
	n.addSchema(testSDL)
	aHistory(t, n)
	want := n.dump()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for step := 0; ; step++ {
		cut := &cutFS{FS: files.Crash(generous).FS, at: step}
		crashing := kv.NewCrashFS()
		copyDir(t, cut.FS, crashing, "db")
		cut.FS, cut.crash = crashing, crashing
		o := n.options()
		o.FS = cut
		_, err := Rebuild(context.Background(), "db", o, func(p Problem) { t.Errorf("step %d: %v", step, p) })
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if cut.left == nil {
			if step < 5 {
				t.Fatalf("the rebuild took %d steps, the test looks at the wrong ones", step)
			}
			break
		}
		for _, loss := range cut.left {
			n.fs = loss
			n.open()
			wantSame(t, n.dump(), want)
			wantSound(t, n)
			if _, err := loss.Stat("db" + suffixReady); err == nil {
				t.Errorf("step %d: the rebuilt directory is left over", step)
			}
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// Seeds of kv.CrashFS.Crash that keep nothing, or everything, of what was not synced.
var strict, generous = crashSeeds()

// cutFS notes what a power loss would leave before a certain change of the
// directories.
type cutFS struct {
	kv.FS
	crash *kv.CrashFS
	at    int // which change
	n     int
	left  []*kv.CrashFS // with all that was not synced, and without
}

func (c *cutFS) step() {
	if c.n == c.at {
		for _, seed := range []uint64{strict, generous, 2, 3, 4} {
			c.left = append(c.left, c.crash.Crash(seed))
		}
	}
	c.n++
}

func (c *cutFS) Rename(from, to string) error {
	c.step()
	err := c.FS.Rename(from, to)
	c.step()
	return err
}

func (c *cutFS) RemoveAll(name string) error {
	c.step()
	return c.FS.RemoveAll(name)
}

func (c *cutFS) MkdirAll(name string, perm os.FileMode) error {
	c.step()
	return c.FS.MkdirAll(name, perm)
}

func TestRebuildNeedsADatabase(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	_, err := Rebuild(t.Context(), "elsewhere", n.options(), nil)
	wantKind(t, err, fault.NotFound, "rebuilding what is not there")
	_, err = Rebuild(t.Context(), "db", n.options(), nil)
	wantKind(t, err, fault.Unavailable, "rebuilding an open database")
	if err := n.fs.MkdirAll("empty", 0o700); err != nil {
		t.Fatal(err)
	}
	o := n.options()
	_, err = Rebuild(t.Context(), "empty", o, nil)
	wantKind(t, err, fault.NotFound, "rebuilding an empty directory")
	wantSound(t, n)
}

func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	aHistory(t, n)
	n.damage(func(b *kv.Batch, _ *kv.Snapshot) {
		b.Set(globalKey(globalFormat), binary.BigEndian.AppendUint32(nil, formatVersion+1))
	})
	_, err := Open("db", n.options())
	if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), fmt.Sprint("version ", formatVersion+1)) {
		t.Errorf("opening a newer format gives %v, want Unavailable with both versions", err)
	}
	_, err = Rebuild(t.Context(), "db", n.options(), nil)
	wantKind(t, err, fault.Unavailable, "rebuilding a newer format")
}

// What an older version made of the commits a rebuild makes as this one does.
func TestOlderFormatIsRebuilt(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada").policed()
	aHistory(t, n)
	id := n.create("Paper", "title", "shared")
	n.mustDo("Paper", id, grantTo("reader", person("bob")))
	want := n.dump()
	n.damage(func(b *kv.Batch, snap *kv.Snapshot) {
		b.Set(globalKey(globalFormat), binary.BigEndian.AppendUint32(nil, oldestFormat))
		key, log := first(t, snap, tableEvent) // it was in the row, behind the rest of the state
		b.Delete(key)
		key[0] = tableDocument
		row, _, err := snap.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		d, err := crdt.Open(row)
		if err != nil {
			t.Fatal(err)
		}
		state := append([]byte{1}, d.Attached(crdt.FieldAccess, crdt.KindAccess)[1:]...)
		b.Set(key, d.Attach(crdt.FieldAccess, crdt.KindAccess, append(state, log...)).Bytes())
	})
	_, err := Open("db", n.options())
	if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "fsck --rebuild") {
		t.Errorf("opening an older format gives %v, want Unavailable and what to do", err)
	}
	if r, problems := n.rebuild(); len(problems) > 0 || r.Lost > 0 {
		t.Errorf("rebuild gives %+v with %v, want nothing lost", r, problems)
	}
	n.open()
	wantSound(t, n)
	wantSame(t, n.dump(), want)
}

func TestDirectoryWithoutFormatIsNotOverwritten(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	aHistory(t, n)
	n.damage(func(b *kv.Batch, _ *kv.Snapshot) { b.Delete(globalKey(globalFormat)) })
	_, err := Open("db", n.options())
	wantKind(t, err, fault.Corrupt, "opening a directory without a format version")
}

func TestSecondOpenIsRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	_, err := Open("db", n.options())
	if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "another pando node uses") {
		t.Errorf("opening twice gives %v, want Unavailable that says who has it", err)
	}
	n.create("Page", "title", "still working")
}

// crashSeeds finds them: Crash draws the share that survives from the seed.
func crashSeeds() (none, all uint64) {
	for seed := uint64(1); none == 0 || all == 0; seed++ {
		switch rand.New(rand.NewPCG(seed, seed)).IntN(101) {
		case 0:
			none = seed
		case 100:
			all = seed
		}
	}
	return none, all
}

// copyDir copies a directory and makes it durable.
func copyDir(t tester, from, to kv.FS, dir string) {
	t.Helper()
	if err := to.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	names, err := from.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		in, err := from.Open(from.PathJoin(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		out, err := to.Create(to.PathJoin(dir, name), "test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(out, in); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(out.Sync(), out.Close(), in.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{dir, "/"} {
		f, err := to.OpenDir(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/value"
)

// graph draws the commits of a few documents: roots, and children of up to three
// commits, by two authors.
func graph(t *rapid.T, n *node) []*dag.Commit {
	keys := []ident.Key{keyOf("bob"), keyOf("eve")}
	hits := field(t, n, "hits")
	var all []*dag.Commit
	docs := map[dag.DocID][]*dag.Commit{}
	for i := range rapid.IntRange(1, 14).Draw(t, "commits") {
		key := rapid.SampledFrom(keys).Draw(t, "author")
		if i == 0 || rapid.IntRange(0, 5).Draw(t, "root") == 0 {
			title := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "title")
			c := rootOf(t, n.coll("Page"), key, testStart.Add(time.Duration(i)*time.Millisecond), "title", title)
			all, docs[c.Doc] = append(all, c), append(docs[c.Doc], c)
			continue
		}
		base := rapid.SampledFrom(all).Draw(t, "below")
		parents := []*dag.Commit{base}
		for range rapid.IntRange(0, 2).Draw(t, "more") {
			if p := rapid.SampledFrom(docs[base.Doc]).Draw(t, "parent"); !slices.Contains(parents, p) {
				parents = append(parents, p)
			}
		}
		add, err := crdt.Increment(value.TypeInt, value.OfInt(int64(i)))
		if err != nil {
			t.Fatal(err)
		}
		c := childOf(t, key, []crdt.Delta{{Field: hits.ID, Kind: hits.Kind(), Val: add}}, parents...)
		all, docs[c.Doc] = append(all, c), append(docs[c.Doc], c)
	}
	return all
}

// Packs arrive in any order, with commits repeated and left out. What has its
// parents is applied, what was there is known, and missing is exactly what has to
// be fetched. When everything has come, the documents are what they are anywhere.
func TestMergeOfWhateverArrives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n, other := newNode(t, "ada"), newNode(t, "bob")
		all := graph(t, n)
		other.merge("Page", envelopes(all...))
		applied := map[dag.CID]bool{}
		for round := 0; len(applied) < len(uniq(all)); round++ {
			pack := rapid.SliceOfN(rapid.SampledFrom(all), 0, 2*len(all)).Draw(t, "pack")
			if round > 4 {
				pack = all // at last the others come, in order
			}
			want := Merged{Missing: map[dag.DocID][]dag.CID{}}
			waiting := map[dag.CID]bool{}
			for _, c := range pack {
				if applied[c.CID] {
					want.Known++
					continue
				}
				lacks := slices.DeleteFunc(slices.Clone(c.Parents), func(p dag.CID) bool { return applied[p] })
				if len(lacks) == 0 {
					applied[c.CID] = true
					want.Applied++
					want.Commits = append(want.Commits, c.CID)
					continue
				}
				waiting[c.CID] = true
				for _, p := range lacks {
					if !waiting[p] && !slices.Contains(want.Missing[c.Doc], p) {
						want.Missing[c.Doc] = append(want.Missing[c.Doc], p)
					}
				}
			}
			got := n.merge("Page", envelopes(pack...))
			if got.Applied != want.Applied || got.Known != want.Known || !slices.Equal(got.Commits, want.Commits) || !maps.EqualFunc(got.Missing, want.Missing, slices.Equal) {
				t.Fatalf("merge of %d gives %+v, want %+v", len(pack), got, want)
			}
		}
		wantEqual(t, n, other, "Page")
		wantSound(t, n)
	})
}

func uniq(cs []*dag.Commit) map[dag.CID]bool {
	ids := map[dag.CID]bool{}
	for _, c := range cs {
		ids[c.CID] = true
	}
	return ids
}

// wantEqual compares the documents of two nodes, byte by byte.
func wantEqual(t tester, a, b *node, coll string) {
	t.Helper()
	docs := func(n *node) map[dag.DocID]string {
		all := map[dag.DocID]string{}
		n.view(func(tx *Tx) error {
			for d, err := range tx.Scan(n.coll(coll), Range{Deleted: true}) {
				if err != nil {
					return err
				}
				all[d.ID] = string(d.State.Bytes())
			}
			return nil
		})
		return all
	}
	if x, y := docs(a), docs(b); !maps.Equal(x, y) {
		t.Fatalf("documents of %s differ: %d and %d of them", coll, len(x), len(y))
	}
	x, err := a.Summary(a.coll(coll).ID)
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Summary(b.coll(coll).ID)
	if err != nil {
		t.Fatal(err)
	}
	if x.Root != y.Root || x.Documents != y.Documents || x.Alive != y.Alive {
		t.Fatalf("summaries differ: %+v and %+v", x, y)
	}
}

// Two nodes count while apart, on histories that join and branch again. Neither
// increment is lost or doubled, whatever the order of arrival.
func TestCounterOverDiamonds(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	hits := field(t, n, "hits")
	add := func(i int64) []crdt.Delta {
		return []crdt.Delta{{Field: hits.ID, Kind: hits.Kind(), Val: value.OfInt(i)}}
	}
	bob := keyOf("bob")
	root := rootOf(t, n.coll("Page"), bob, testStart, "title", "a", "hits", 1)
	left, right := childOf(t, bob, add(2), root), childOf(t, bob, add(5), root)
	high := childOf(t, bob, add(10), childOf(t, bob, add(100), left)) // unequal heights
	join := childOf(t, bob, add(1000), high, right)
	// The commit between left and high is only reachable through high.
	between := childOf(t, bob, add(100), left)
	orders := [][]*dag.Commit{
		{root, left, right, between, high, join},
		{root, right, left, between, high, join},
		{root, left, between, high, right, join},
	}
	for i, order := range orders {
		m := newNode(t, fmt.Sprint("node ", i))
		for _, c := range order {
			m.merge("Page", envelopes(c))
			m.merge("Page", envelopes(order...)) // again and again
		}
		if got := m.field("Page", root.Doc, "hits"); got != "1118" {
			t.Errorf("order %d: hits is %s, want 1118", i, got)
		}
	}
}

// A commit that breaks a rule is refused with its place; what came before it is kept,
// what came after it is not looked at.
func TestInvalidCommitEndsTheMerge(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	page := n.coll("Page")
	bob := keyOf("bob")
	root := rootOf(t, page, bob, testStart, "title", "a")
	strange := rootOf(t, page, bob, testStart, "title", "strange")
	child := childOf(t, bob, nil, root)
	after := rootOf(t, page, bob, testStart, "title", "after")
	n.merge("Page", envelopes(strange))
	bent := func(change func(c *dag.Commit)) []byte {
		c := dag.Commit{Doc: root.Doc, Parents: []dag.CID{root.CID}, Height: 2, HLC: root.HLC + 1, Schema: page.Version}
		change(&c)
		return forge(t, bob, c).Envelope()
	}
	signature := bytes.Clone(child.Envelope())
	signature[len(child.Header())+10] ^= 1
	for what, bad := range map[string][]byte{
		"too high":           bent(func(c *dag.Commit) { c.Height = 3 }),
		"too early":          bent(func(c *dag.Commit) { c.HLC = root.HLC }),
		"of two documents":   bent(func(c *dag.Commit) { c.Parents = append(c.Parents, strange.CID) }),
		"of strange parents": bent(func(c *dag.Commit) { c.Parents = []dag.CID{strange.CID} }),
		"of a strange parent and an unknown one": bent(func(c *dag.Commit) {
			c.Parents = []dag.CID{strange.CID, after.CID}
		}),
		"of another collection": forge(t, bob, dag.Commit{
			Root:   &dag.RootSeed{Mode: dag.ModeContent, Collection: n.coll("City").ID, Seed: dag.ContentSeed(nil)},
			Height: 1, HLC: 1,
		}).Envelope(),
		"badly signed": signature,
		"no commit":    []byte("hello"),
		"nothing":      nil,
	} {
		t.Run(what, func(t *testing.T) {
			m := newNode(t, "node")
			m.merge("Page", envelopes(strange))
			got, err := m.Merge(t.Context(), page.ID, [][]byte{root.Envelope(), bad, after.Envelope()}, "peer")
			var invalid *InvalidCommit
			if !errors.As(err, &invalid) || invalid.Index != 1 || !errors.Is(err, fault.Invalid) {
				t.Fatalf("merge gives %v, want the second commit to be invalid", err)
			}
			if got.Applied != 1 || len(m.heads("Page", root.Doc)) != 1 || m.heads("Page", after.Doc) != nil {
				t.Errorf("%+v, want the first commit to be applied and no other", got)
			}
			m.reopen()
			if heads := m.heads("Page", root.Doc); !slices.Equal(heads, []dag.CID{root.CID}) {
				t.Errorf("after a restart the heads are %v, want the first commit", heads)
			}
			wantSound(t, m)
		})
	}
}

// Commits that are open are merged like any, whether their signatures were verified
// before or not. What was verified is nothing else.
func TestOpenCommitsAreVerifiedOnce(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	page := n.coll("Page")
	bob := keyOf("bob")
	opened := func(title string) *dag.Commit {
		t.Helper()
		c, err := dag.Open(rootOf(t, page, bob, testStart, "title", title).Envelope())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	unseen, seen, bent, forged := opened("unseen"), opened("seen"), opened("bent"), opened("forged")
	forged.Sig = bytes.Clone(forged.Sig)
	forged.Sig[3] ^= 1
	if bad := dag.Verify([]*dag.Commit{seen, bent, forged}); !slices.Equal(bad, []int{2}) {
		t.Fatalf("commits %v are refused, want the third", bad)
	}
	bent.Sig = bytes.Clone(bent.Sig)
	bent.Sig[3] ^= 1
	for c, want := range map[*dag.Commit]bool{unseen: false, seen: true, bent: false, forged: false} {
		if got := c.Verified(); got != want {
			t.Errorf("%s verified: %v, want %v", c.CID, got, want)
		}
	}
	if m, err := n.MergeCommits(t.Context(), page.ID, []*dag.Commit{unseen, seen}, "peer"); err != nil || m.Applied != 2 {
		t.Errorf("merge gives %+v, %v, want both applied", m, err)
	}
	for _, c := range []*dag.Commit{bent, forged} {
		if _, err := n.MergeCommits(t.Context(), page.ID, []*dag.Commit{c}, "peer"); !errors.Is(err, fault.Invalid) {
			t.Errorf("merge of a forged commit gives %v, want Invalid", err)
		}
	}
	wantSound(t, n)
}

func TestCommitsOfTheFutureWait(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	bob := keyOf("bob")
	page := n.coll("Page")
	root := rootOf(t, page, bob, testStart, "title", "a")
	near := forge(t, bob, dag.Commit{Doc: root.Doc, Parents: []dag.CID{root.CID}, Height: 2, HLC: dag.HLC(testStart.Add(4*time.Minute), 0)})
	far := forge(t, bob, dag.Commit{Doc: root.Doc, Parents: []dag.CID{root.CID}, Height: 2, HLC: dag.HLC(testStart.Add(time.Hour), 0)})
	top := childOf(t, bob, nil, far)
	pack := envelopes(root, near, far, top)
	got := n.merge("Page", pack)
	if got.Applied != 2 || !slices.Equal(got.Future, []dag.CID{far.CID, top.CID}) || len(got.Missing) > 0 {
		t.Fatalf("merge gives %+v, want two applied, two waiting and nothing to fetch", got)
	}
	n.now.set(testStart.Add(56 * time.Minute))
	if got := n.merge("Page", pack); got.Applied != 2 || got.Known != 2 || len(got.Future) > 0 {
		t.Fatalf("an hour later merge gives %+v, want the other two", got)
	}
}

// What only a newer version can judge waits too: it is no fault of who sent it.
func TestCommitsOfNewerVersionsWait(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	page := n.coll("Page")
	bob := keyOf("bob")
	root := rootOf(t, page, bob, testStart, "title", "a")
	newer := func() []byte { // an envelope around a header of format 2
		header := cbor.AppendArray(nil, 2)
		header = cbor.AppendUint(header, 2)
		header = cbor.AppendText(header, "who knows")
		b := cbor.AppendArray(nil, 3)
		b = cbor.AppendBytes(b, header)
		b = cbor.AppendBytes(b, make([]byte, 64))
		return cbor.AppendNull(b)
	}()
	last := rootOf(t, page, bob, testStart, "title", "last")
	got := n.merge("Page", [][]byte{root.Envelope(), newer, last.Envelope()})
	if got.Applied != 2 || len(got.Future) != 1 {
		t.Errorf("merge gives %+v, want two applied and one waiting", got)
	}
}

func TestHeaderWithoutPayloadIsFetched(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	root := rootOf(t, n.coll("Page"), keyOf("bob"), testStart, "title", "a")
	head, err := dag.OpenHeader(root.Header(), root.Sig)
	if err != nil {
		t.Fatal(err)
	}
	got := n.merge("Page", envelopes(head))
	if got.Applied != 0 || !slices.Equal(got.Missing[root.Doc], []dag.CID{root.CID}) {
		t.Errorf("merge gives %+v, want the commit itself to be missing", got)
	}
	if got := n.merge("Page", envelopes(root)); got.Applied != 1 {
		t.Errorf("with its payload merge gives %+v, want it applied", got)
	}
}

func TestMergeNeedsTheCollection(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	root := rootOf(t, n.coll("Page"), keyOf("bob"), testStart, "title", "a")
	_, err := n.Merge(t.Context(), dag.CollectionID{1}, envelopes(root), "peer")
	wantKind(t, err, fault.NotFound, "a merge into an unknown collection")
}

// Two nodes that create the same contents have the same document, and so have two
// that create the same natural key; unique and owned documents stay apart.
func TestSameContentsAreTheSameDocument(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, "ada"), newNode(t, "bob")
	for _, c := range []struct {
		coll string
		nv   []any
		more []any
		same bool
	}{
		{"Page", []any{"title", "a", "hits", 1}, []any{"title", "a", "hits", 1}, true},
		{"City", []any{"name", "Bern", "people", 1}, []any{"name", "Bern", "people", 2}, true},
		{"Note", []any{"text", "a"}, []any{"text", "a"}, false},
		{"Deed", []any{"text", "a"}, []any{"text", "a"}, false},
	} {
		x, y := a.create(c.coll, c.nv...), b.create(c.coll, c.more...)
		if (x == y) != c.same {
			t.Errorf("%s: %s and %s, want the same: %v", c.coll, x, y, c.same)
		}
		a.merge(c.coll, b.everything(c.coll))
		b.merge(c.coll, a.everything(c.coll))
		wantEqual(t, a, b, c.coll)
		if heads := len(a.heads(c.coll, x)); heads != 1 && !c.same || c.same && heads != 2 {
			t.Errorf("%s: %d heads", c.coll, heads)
		}
	}
	if got := a.field("Page", a.create("Page", "title", "b"), "hits"); got != "null" {
		t.Errorf("hits of a new page is %s, want null", got)
	}
}

// A merge that finds its commits known is acknowledged only when they are durable:
// another transaction may have applied them and be waiting for the disk.
func TestKnownCommitsAreDurable(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ada")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	slow := newSlowFS(n.fs)
	n.fs = slow
	n.open()
	root := rootOf(t, n.coll("Page"), keyOf("bob"), testStart, "title", "a")
	seq := n.Seq()
	stuck := slow.hold()
	first := make(chan error)
	go func() {
		_, err := n.Store.Merge(context.Background(), n.coll("Page").ID, envelopes(root), "peer")
		first <- err
	}()
	<-stuck
	for len(n.heads("Page", root.Doc)) == 0 { // it becomes visible before it is durable
		select {
		case err := <-first:
			t.Fatalf("the merge ends with %v although the disk holds", err)
		default:
		}
	}
	if n.Seq() != seq {
		t.Errorf("the feed is told to be at %d before that is durable", n.Seq())
	}
	if sum, err := n.Summary(n.coll("Page").ID); err != nil || sum.Seq != seq {
		t.Errorf("the summary says %d, %v before that is durable", sum.Seq, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := n.Merge(ctx, n.coll("Page").ID, envelopes(root), "other")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a merge of what is not durable yet gives %v, want it to wait", err)
	}
	slow.release()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if m := n.merge("Page", envelopes(root)); m.Known != 1 {
		t.Errorf("merge gives %+v, want it known", m)
	}
}

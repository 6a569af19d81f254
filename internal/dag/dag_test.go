package dag

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/value"
)

// What travels to another node is read there as what it was.
func TestCommitTravels(t *testing.T) {
	for _, s := range specimens(t) {
		got, err := Open(slices.Clone(s.Envelope()))
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if !reflect.DeepEqual(got.Deltas, s.Deltas) && len(got.Deltas)+len(s.Deltas) > 0 {
			// Values may differ in how they hold the same; compare what they say.
			if a, b := appendDeltas(nil, got.Deltas), appendDeltas(nil, s.Deltas); !bytes.Equal(a, b) {
				t.Errorf("%s: operations %v, want %v", s.name, got.Deltas, s.Deltas)
			}
		}
		if got.CID != s.CID || got.Doc != s.Doc || !bytes.Equal(got.Envelope(), s.Envelope()) {
			t.Errorf("%s: read as commit %s of %s, want %s of %s", s.name, got.CID, got.Doc, s.CID, s.Doc)
		}
		if again := reencode(got); !bytes.Equal(again, s.Envelope()) {
			t.Errorf("%s: written again\n%x, want\n%x", s.name, again, s.Envelope())
		}
		if bad := Verify([]*Commit{got}); bad != nil {
			t.Errorf("%s: its signature is refused", s.name)
		}
	}
}

// The acceptance figure of the sync protocol.
func TestSmallCommitsAreSmall(t *testing.T) {
	k := ada(t)
	first := seal(t, root(k, title("Ada"), hits(10)), k)
	next := seal(t, child(k, []*Commit{first}, title("Bob"), hits(1)), k)
	for name, c := range map[string]*Commit{"create": first, "update": next} {
		n := len(c.Envelope())
		t.Logf("%s of 2 small fields: %d bytes", name, n)
		if n > 300 {
			t.Errorf("%s of 2 small fields takes %d bytes, want at most 300", name, n)
		}
	}
}

// A commit is known by its CID before it is signed, and whoever signs it.
func TestSignatureIsNoPartOfTheName(t *testing.T) {
	k := ada(t)
	c := root(k, title("Ada"))
	if err := Prepare(c); err != nil {
		t.Fatal(err)
	}
	cid := c.CID
	if c.Envelope() != nil {
		t.Error("a commit without signature has an envelope")
	}
	if err := c.Sign(k); err != nil {
		t.Fatal(err)
	}
	if c.CID != cid || c.CID != CID(sha256.Sum256(c.Header())) {
		t.Errorf("signed as %s, prepared as %s", c.CID, cid)
	}
}

func TestOnlyTheAuthorSigns(t *testing.T) {
	bob := key(t, ident.EdDSA, "Bob")
	c := root(ada(t), title("Ada"))
	if err := c.Sign(ada(t)); !errors.Is(err, fault.Invalid) {
		t.Errorf("signing what is not prepared: %v, want invalid", err)
	}
	if _, err := Seal(c, bob); !errors.Is(err, fault.Denied) {
		t.Errorf("Bob signs for Ada: %v, want denied", err)
	}
	if _, err := Seal(c, ident.Key{}); !errors.Is(err, fault.Denied) {
		t.Errorf("nobody signs for Ada: %v, want denied", err)
	}
}

func TestParentsAreWrittenInOneOrder(t *testing.T) {
	k := ada(t)
	first := seal(t, root(k, title("Ada")), k)
	left, right := seal(t, child(k, []*Commit{first}, hits(1)), k), seal(t, child(k, []*Commit{first}, hits(2)), k)
	a := seal(t, child(k, []*Commit{left, right}, hits(3)), k)
	b := seal(t, child(k, []*Commit{right, left, right}, hits(3)), k)
	if a.CID != b.CID || len(b.Parents) != 2 {
		t.Errorf("the order of the heads changes the commit: %s, %s", a.CID, b.CID)
	}
}

func TestPrepareTwiceIsPrepareOnce(t *testing.T) {
	k := ada(t)
	first := seal(t, root(k, title("Ada")), k)
	c := child(k, []*Commit{first}, hits(1))
	c.AddSegment(2, 1, []byte("sealed"))
	once := bytes.Clone(seal(t, c, k).Envelope())
	if twice := seal(t, c, k).Envelope(); !bytes.Equal(once, twice) {
		t.Errorf("prepared again: %x, want %x", twice, once)
	}
}

func TestHeaderAlone(t *testing.T) {
	k := ada(t)
	full := seal(t, root(k, title("Ada")), k)
	c, err := OpenHeader(full.Header(), full.Sig)
	if err != nil {
		t.Fatal(err)
	}
	if c.CID != full.CID || c.Doc != full.Doc || !c.HeaderOnly() || c.Deltas != nil {
		t.Errorf("announced as %s of %s, want %s of %s without payload", c.CID, c.Doc, full.CID, full.Doc)
	}
	if bad := Verify([]*Commit{c}); bad != nil {
		t.Error("the signature of a header alone is refused")
	}
	again, err := Open(c.Envelope())
	if err != nil || again.CID != full.CID || !again.HeaderOnly() {
		t.Errorf("its envelope is read as %v, %v", again, err)
	}
	if full.HeaderOnly() {
		t.Error("a whole commit says that its payload is missing")
	}
}

// The docID says what it was made from.
func TestDocumentsAreNamedByTheirMode(t *testing.T) {
	k, bob := ada(t), key(t, ident.EdDSA, "Bob")
	a, b := []crdt.Delta{title("Ada"), hits(1)}, []crdt.Delta{title("Bob"), hits(1)}
	if !bytes.Equal(ContentSeed(a), ContentSeed([]crdt.Delta{a[1], a[0]})) {
		t.Error("content: the order of the fields changes the document")
	}
	if bytes.Equal(ContentSeed(a), ContentSeed(b)) {
		t.Error("content: different fields, same document")
	}
	if bytes.Equal(OwnedSeed(k.Public(), a), OwnedSeed(bob.Public(), a)) {
		t.Error("owned: different authors, same document")
	}
	at := func(t time.Time) crdt.Delta {
		return crdt.Delta{Field: 20, Kind: crdt.KindOf(crdt.LWW, value.TypeDateTime), Val: value.OfTime(t)}
	}
	berlin := time.FixedZone("", 3600)
	if !bytes.Equal(KeyedSeed([]crdt.Delta{a[0], at(noon)}), KeyedSeed([]crdt.Delta{a[0], at(noon.In(berlin))})) {
		t.Error("keyed: the same instant in two time zones, two documents")
	}
	if bytes.Equal(KeyedSeed(a), KeyedSeed([]crdt.Delta{a[1], a[0]})) {
		t.Error("keyed: the order of the key fields makes no difference")
	}
	one := RootSeed{Mode: ModeContent, Collection: pages, Seed: ContentSeed(a)}
	other := one
	other.Collection[0] ^= 1
	keyed := one
	keyed.Mode = ModeKeyed
	named := one
	named.Namespace = []byte("n")
	ids := map[DocID]bool{one.DocID(): true, other.DocID(): true, keyed.DocID(): true, named.DocID(): true}
	if len(ids) != 4 {
		t.Error("collection, mode or namespace is no part of the docID")
	}
	if _, err := UniqueSeed(k.Public(), strings.NewReader("short")); err == nil {
		t.Error("unique: made from too few random bytes")
	}
}

func TestParentsDecideHeightAndClock(t *testing.T) {
	k := ada(t)
	first := seal(t, root(k, title("Ada")), k)
	low := seal(t, child(k, []*Commit{first}, hits(1)), k)
	high := seal(t, child(k, []*Commit{low}, hits(2)), k)
	if err := first.CheckParents(nil); err != nil {
		t.Errorf("a root: %v", err)
	}
	good := child(k, []*Commit{first, high}, hits(3))
	if err := seal(t, good, k).CheckParents([]ParentInfo{info(high), info(first)}); err != nil {
		t.Errorf("1 above the highest, later than the latest: %v", err)
	}
	for name, tell := range map[string]func(c *Commit, ps []ParentInfo) []ParentInfo{
		"height too high":     func(c *Commit, ps []ParentInfo) []ParentInfo { c.Height++; return ps },
		"height too low":      func(c *Commit, ps []ParentInfo) []ParentInfo { c.Height--; return ps },
		"height of the lower": func(c *Commit, ps []ParentInfo) []ParentInfo { c.Height = 2; return ps },
		"clock not later":     func(c *Commit, ps []ParentInfo) []ParentInfo { c.HLC = high.HLC; return ps },
		"another document":    func(c *Commit, ps []ParentInfo) []ParentInfo { ps[1].Doc[0] ^= 1; return ps },
		"a parent missing":    func(c *Commit, ps []ParentInfo) []ParentInfo { return ps[1:] },
		"not its parent":      func(c *Commit, ps []ParentInfo) []ParentInfo { ps[0].CID[0] ^= 1; return ps },
	} {
		c := child(k, []*Commit{first, high}, hits(3))
		ps := tell(c, []ParentInfo{info(first), info(high)})
		if err := seal(t, c, k).CheckParents(ps); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
}

func TestClock(t *testing.T) {
	start := HLC(noon, 0)
	if got := HLCTime(start); !got.Equal(noon) {
		t.Errorf("time of HLC(%s) = %s", noon, got)
	}
	if got := HLC(noon.Add(-time.Hour), start); got != start+1 {
		t.Errorf("a clock that lags gives %d, want %d", got, start+1)
	}
	if got := HLC(noon.Add(time.Second), start); !HLCTime(got).Equal(noon.Add(time.Second)) {
		t.Errorf("a clock that runs gives %s", HLCTime(got))
	}
	if got := HLC(time.Unix(-5, 0), 0); got != 1 {
		t.Errorf("a clock before 1970 gives %d, want 1", got)
	}
	for _, c := range []struct {
		ahead time.Duration
		want  bool
	}{{-time.Hour, false}, {0, false}, {MaxAhead, false}, {MaxAhead + time.Millisecond, true}, {200 * 365 * 24 * time.Hour, true}} {
		if got := Future(HLC(noon.Add(c.ahead), 0), noon); got != c.want {
			t.Errorf("a commit %s ahead waits: %v, want %v", c.ahead, got, c.want)
		}
	}
	if !Future(MaxNumber, noon) {
		t.Error("the largest clock value does not wait")
	}
}

func TestDeferredIsNotInvalid(t *testing.T) {
	if !errors.Is(ErrDeferred, fault.Unavailable) || errors.Is(ErrDeferred, fault.Invalid) {
		t.Errorf("deferred is of kind %v", fault.Of(ErrDeferred))
	}
}

func TestVerifyFindsTheForged(t *testing.T) {
	authors := []ident.Key{ada(t), key(t, ident.ES256K, "Dan"), key(t, ident.ES256, "Carol"), key(t, ident.EdDSA, "Bob")}
	var all []*Commit
	for i := range 300 {
		k := authors[i%len(authors)*min(1, i%7)] // mostly Ada
		all = append(all, seal(t, root(k, title(fmt.Sprint(i))), k))
	}
	for _, n := range []int{0, 1, 2, 7, 9, 64, 65, 130, 300} {
		cs := slices.Clone(all[:n])
		if bad := Verify(cs); bad != nil {
			t.Errorf("%d honest commits: %v are refused", n, bad)
		}
		var want []int
		for i := range cs {
			if i%50 == 3 || i == n-1 {
				forged := *cs[i]
				forged.Sig = bytes.Clone(forged.Sig)
				forged.Sig[5] ^= 1
				cs[i] = &forged
				want = append(want, i)
			}
		}
		if got := Verify(cs); !slices.Equal(got, want) {
			t.Errorf("%d commits: forged are %v, want %v", n, got, want)
		}
	}
}

func TestIDsHaveOneSpelling(t *testing.T) {
	id := [32]byte(sha256.Sum256([]byte("x")))
	for name, c := range map[string]struct {
		text  string
		start string
		parse func(string) ([32]byte, error)
	}{
		"cid":        {CID(id).String(), "bafyrei", func(s string) ([32]byte, error) { x, err := ParseCID(s); return x, err }},
		"docID":      {DocID(id).String(), "bafkrei", func(s string) ([32]byte, error) { x, err := ParseDocID(s); return x, err }},
		"collection": {CollectionID(id).String(), "bafkrei", func(s string) ([32]byte, error) { x, err := ParseCollectionID(s); return x, err }},
		"digest":     {Digest(id).String(), "bafkrei", func(s string) ([32]byte, error) { x, err := ParseDigest(s); return x, err }},
	} {
		if !strings.HasPrefix(c.text, c.start) || len(c.text) != 59 {
			t.Errorf("%s prints as %s, want %s… of 59 characters", name, c.text, c.start)
		}
		if got, err := c.parse(c.text); err != nil || got != id {
			t.Errorf("%s: ParseX(%s) = %x, %v", name, c.text, got, err)
		}
		last := c.text[58]
		for _, wrong := range []string{
			"", "b", c.text[1:], c.text + "a", strings.ToUpper(c.text), "z" + c.text[1:], c.text[:58] + "\n", c.text[:30] + "=" + c.text[31:],
			c.text[:58] + string(last+1), // the same bytes, spare bits set
			"bafzbei" + c.text[7:],       // another codec
			"bafkqaaa", strings.Repeat("b", 1<<20),
		} {
			if got, err := c.parse(wrong); !errors.Is(err, fault.Invalid) || got != [32]byte{} {
				t.Errorf("%s: parse %.70q = %x, %v, want invalid", name, wrong, got, err)
			}
		}
	}
	if _, err := ParseDocID(CID(id).String()); !errors.Is(err, fault.Invalid) {
		t.Error("the name of a commit is taken for that of a document")
	}
}

func TestIDsInJSON(t *testing.T) {
	type ids struct {
		C CID
		D DocID
		L CollectionID
		V Digest
		M map[DocID]CID
	}
	id := [32]byte(sha256.Sum256([]byte("x")))
	in := ids{CID(id), DocID(id), CollectionID(id), Digest(id), map[DocID]CID{DocID(id): CID(id)}}
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out ids
	if err := json.Unmarshal(raw, &out); err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("%s is read as %v, %v", raw, out, err)
	}
	if CID(id).IsZero() || !(CID{}).IsZero() || CID(id).Compare(CID{}) <= 0 {
		t.Error("zero or order of IDs is wrong")
	}
}

// Whatever can be made can be read, and is one commit.
func TestAnyCommitTravels(t *testing.T) {
	keys := []ident.Key{ada(t), key(t, ident.ES256K, "Dan"), key(t, ident.ES256, "Carol")}
	first := seal(t, root(keys[0], title("Ada")), keys[0])
	rapid.Check(t, func(rt *rapid.T) {
		k := rapid.SampledFrom(keys).Draw(rt, "author")
		c := &Commit{Author: Author{Key: k.Public()}, Deltas: drawDeltas(rt)}
		c.HLC = rapid.Uint64Max(MaxNumber).Draw(rt, "hlc")
		if rapid.Bool().Draw(rt, "root") {
			c.Height, c.Root = 1, &RootSeed{Mode: ModeKeyed, Seed: KeyedSeed(c.Deltas), Namespace: rapid.SliceOfN(rapid.Byte(), 0, MaxNamespace).Draw(rt, "namespace")}
		} else {
			c.Doc, c.Height = first.Doc, rapid.Uint64Range(2, MaxNumber).Draw(rt, "height")
			c.Parents = drawLinks(rt, 1, MaxParents)
			c.Kind = CommitKind(rapid.IntRange(0, int(lastKind)).Draw(rt, "kind"))
		}
		c.Auth = drawLinks(rt, 0, MaxAuth)
		if c.Kind != Write {
			c.Deltas = nil
		}
		groups := rapid.SliceOfNDistinct(rapid.Uint64Range(1, MaxNumber), 1, MaxSegments-1, rapid.ID).Draw(rt, "groups")
		for _, g := range groups {
			c.AddSegment(g, rapid.Uint64Max(MaxNumber).Draw(rt, "epoch"), rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(rt, "sealed"))
		}
		if rapid.Bool().Draw(rt, "txn") {
			c.Txn = &Txn{Count: rapid.Uint64Range(1, MaxNumber).Draw(rt, "count")}
		}
		env, err := Seal(c, k)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := Open(env)
		if err != nil {
			rt.Fatal(err)
		}
		if got.CID != c.CID || got.Doc != c.Doc || !bytes.Equal(reencode(got), env) {
			rt.Fatalf("read as\n%x, want\n%x", reencode(got), env)
		}
		if cap(env) != len(env) {
			rt.Fatalf("the size of the envelope was computed as %d, is %d", cap(env), len(env))
		}
		if Verify([]*Commit{got}) != nil {
			rt.Fatal("its signature is refused")
		}
	})
}

func drawLinks(rt *rapid.T, least, most int) []CID {
	n := rapid.IntRange(least, most).Draw(rt, "links")
	ids := make([]CID, n)
	for i := range ids {
		ids[i] = sha256.Sum256([]byte{byte(i), rapid.Byte().Draw(rt, "link")})
	}
	return ids
}

func drawDeltas(rt *rapid.T) []crdt.Delta {
	some := append(everyType(), title("x"), hits(-1), tag("new"), deleted())
	return rapid.SliceOfN(rapid.SampledFrom(some), 0, 20).Draw(rt, "operations")
}

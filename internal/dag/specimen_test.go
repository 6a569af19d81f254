package dag

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/value"
)

// key makes a person's key, the same in every run.
func key(t testing.TB, alg ident.Algorithm, name string) ident.Key {
	t.Helper()
	k, err := ident.GenerateFrom(alg, rand.NewChaCha8(sha256.Sum256([]byte(name))))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ada(t testing.TB) ident.Key { return key(t, ident.EdDSA, "Ada") }

// noon is when the commits of the tests begin.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var (
	pages   = CollectionID(sha256.Sum256([]byte("type Page")))
	version = Digest(pages)
)

const (
	fieldTitle crdt.FieldID = crdt.FirstField + iota
	fieldHits
	fieldTags
)

func title(s string) crdt.Delta {
	return crdt.Delta{Field: fieldTitle, Kind: crdt.KindOf(crdt.LWW, value.TypeString), Val: value.OfString(s)}
}

func hits(n int64) crdt.Delta {
	return crdt.Delta{Field: fieldHits, Kind: crdt.KindOf(crdt.PNCounter, value.TypeInt), Val: value.OfInt(n)}
}

func tag(s string, over ...crdt.Tag) crdt.Delta {
	return crdt.Delta{Field: fieldTags, Kind: crdt.KindOf(crdt.MVR, value.TypeString), Val: value.OfString(s), Over: over}
}

func deleted() crdt.Delta {
	return crdt.Delta{Field: crdt.FieldStatus, Kind: crdt.KindStatus, Val: value.OfBool(true)}
}

// root drafts the first commit of a page.
func root(k ident.Key, deltas ...crdt.Delta) *Commit {
	return &Commit{
		Root:   &RootSeed{Collection: pages, Seed: ContentSeed(deltas)},
		Height: 1, HLC: HLC(noon, 0), Author: Author{Key: k.Public()}, Schema: version, Deltas: deltas,
	}
}

// child drafts a commit on top of others.
func child(k ident.Key, parents []*Commit, deltas ...crdt.Delta) *Commit {
	c := &Commit{Doc: parents[0].Doc, Author: Author{Key: k.Public()}, Schema: version, Deltas: deltas}
	for _, p := range parents {
		c.Parents = append(c.Parents, p.CID)
		c.Height, c.HLC = max(c.Height, p.Height+1), max(c.HLC, p.HLC+1)
	}
	return c
}

// delegate lets a gateway sign for the author, within an hour from noon.
func delegate(t testing.TB, c *Commit, author, gateway ident.Key, collections ...CollectionID) {
	t.Helper()
	d := ident.Delegation{Author: author.Public(), Gateway: gateway.Public(), NotBefore: noon, NotAfter: noon.Add(time.Hour)}
	for _, id := range collections {
		d.Collections = append(d.Collections, id)
	}
	proof, err := d.Seal(author)
	if err != nil {
		t.Fatal(err)
	}
	c.Author = Author{Key: author.Public(), Via: gateway.Public()}
	c.Proof = proof
}

func seal(t testing.TB, c *Commit, k ident.Key) *Commit {
	t.Helper()
	if _, err := Seal(c, k); err != nil {
		t.Fatal(err)
	}
	return c
}

// specimen is one commit that shows a part of the format.
type specimen struct {
	name, note string
	*Commit
}

// specimens are the commits of the golden files: they never change.
func specimens(t testing.TB) []specimen {
	t.Helper()
	author, bob := ada(t), key(t, ident.EdDSA, "Bob")
	var all []specimen
	add := func(name, note string, c *Commit, k ident.Key) *Commit {
		t.Helper()
		all = append(all, specimen{name, note, seal(t, c, k)})
		return c
	}
	fields := []crdt.Delta{title("Ada"), hits(10), tag("new")}

	first := add("root-content", "a document named by its initial fields", root(author, fields...), author)

	c := root(author, fields...)
	c.Root.Mode, c.Root.Seed = ModeOwned, OwnedSeed(author.Public(), fields)
	add("root-owned", "a document named by its author and its initial fields", c, author)

	c = root(author, fields...)
	c.Root.Mode, c.Root.Seed = ModeKeyed, KeyedSeed(fields[:1])
	add("root-keyed", "a document named by its key field, the title", c, author)

	c = root(author, fields...)
	seed, err := UniqueSeed(author.Public(), bytes.NewReader([]byte("sixteen random b")))
	if err != nil {
		t.Fatal(err)
	}
	c.Root.Mode, c.Root.Seed, c.Root.Namespace = ModeUnique, seed, []byte("example")
	add("root-unique", "a document named by its author and 16 random bytes, in a namespace", c, author)

	add("root-empty", "a document without fields", root(author), author)

	left := add("update", "one parent", child(author, []*Commit{first}, title("Ada Lovelace")), author)
	right := add("update-p256", "one parent, by a P-256 author", child(key(t, ident.ES256, "Carol"), []*Commit{first}, hits(-3)), key(t, ident.ES256, "Carol"))
	both := add("update-two-parents", "merges two heads and overwrites a multi-value register, by a secp256k1 author",
		child(key(t, ident.ES256K, "Dan"), []*Commit{left, right}, tag("old", crdt.Tag{Commit: first.CID, Op: 2})), key(t, ident.ES256K, "Dan"))
	add("delete", "the document is deleted", child(author, []*Commit{both}, deleted()), author)

	c = child(author, []*Commit{both}, hits(1))
	c.Txn = &Txn{ID: [16]byte([]byte("transaction no 1")), Count: 2}
	c.Auth = []CID{first.CID, left.CID}
	add("txn", "one of the two commits of a transaction, with links to what its author relied on", c, author)

	c = child(author, []*Commit{both}, title("public"))
	c.AddSegment(7, 3, []byte("sealed for group seven, epoch three"))
	c.AddSegment(2, 1, []byte("sealed for group two"))
	add("segments", "one segment in clear and two encrypted ones", c, author)

	c = child(author, []*Commit{both})
	c.AddSegment(2, 1, []byte("sealed for group two"))
	add("encrypted", "nothing in clear", c, author)

	c = child(author, []*Commit{both}, title("by proxy"))
	delegate(t, c, author, bob)
	add("delegated", "signed by a gateway on behalf of the author, for an hour", c, bob)

	c = child(author, []*Commit{both}, title("by proxy, in pages only"))
	delegate(t, c, author, bob, pages)
	add("delegated-pages", "signed by a gateway that may write to one collection", c, bob)

	c = child(author, []*Commit{both})
	c.Kind = Checkpoint
	c.AddSegment(0, 0, []byte("a state that a later version of the format describes"))
	add("checkpoint", "a kind whose payload this version does not look into", c, author)

	void := crdt.Delta{Field: fieldHits, Kind: crdt.KindOf(crdt.PNCounter, value.TypeInt), Void: true, Raw: []byte("\x64many")}
	unknown := crdt.Delta{Field: 99, Kind: 0x7f01, Void: true, Raw: []byte("\xa1\x61k\x82\x01\xf6")}
	add("void", "an increment that is a text, and a rule that does not exist", child(author, []*Commit{both}, void, unknown), author)

	add("types", "one operation of every type", child(author, []*Commit{both}, everyType()...), author)

	announced, err := OpenHeader(both.Header(), both.Sig)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, specimen{"header-only", "the payload of update-two-parents left out", announced})
	return all
}

// everyType returns an operation for each type and rule of the format.
func everyType() []crdt.Delta {
	instant := value.OfTime(time.Date(2026, 3, 1, 12, 30, 0, 5_000_000, time.FixedZone("", 2*3600)))
	vals := []struct {
		t value.Type
		v value.Value
	}{
		{value.TypeID, value.OfString("id-1")},
		{value.TypeBoolean, value.OfBool(false)},
		{value.TypeInt, value.OfInt(-1 << 63)},
		{value.TypeFloat64, value.OfFloat(0.1)},
		{value.TypeFloat32, value.OfFloat32(0.5)},
		{value.TypeString, value.OfString("grün")},
		{value.TypeDateTime, instant},
		{value.TypeBlob, value.OfBytes([]byte{0, 1, 0xff})},
		{value.TypeJSON, value.OfMap(map[string]value.Value{"bb": value.OfInt(1), "a": value.OfList([]value.Value{value.Value{}, value.OfFloat(1.5)})})},
		{value.TypeRef, value.OfRef(sha256.Sum256([]byte("another document")))},
		{value.TypeInt | value.ListOf, value.OfList([]value.Value{value.OfInt(1), value.OfInt(2)})},
		{value.TypeString | value.ListOfNullable, value.OfList([]value.Value{value.OfString("a"), value.Value{}})},
		{value.TypeString, value.Value{}},
	}
	var ds []crdt.Delta
	for i, x := range vals {
		ds = append(ds, crdt.Delta{Field: crdt.FirstField + crdt.FieldID(i), Kind: crdt.KindOf(crdt.LWW, x.t), Val: x.v})
	}
	return append(ds,
		crdt.Delta{Field: 40, Kind: crdt.KindOf(crdt.PCounter, value.TypeInt), Val: value.OfInt(3)},
		crdt.Delta{Field: 41, Kind: crdt.KindOf(crdt.PNCounter, value.TypeFloat64), Val: value.OfString("-0.1")},
		crdt.Delta{Field: 42, Kind: crdt.KindOf(crdt.MVR, value.TypeInt), Val: value.OfInt(5)},
	)
}

// info is what the children of c are checked against.
func info(c *Commit) ParentInfo { return ParentInfo{c.CID, c.Doc, c.Height, c.HLC} }

// reencode writes the envelope again from the fields of the commit alone.
func reencode(c *Commit) []byte {
	again := *c
	again.Payload = slices.Clone(c.Payload)
	for i, s := range c.Segs {
		if c.Kind == Write && s.Group == 0 && !c.HeaderOnly() {
			again.Payload[i] = appendDeltas(nil, c.Deltas)
		}
	}
	again.header = again.appendHeader(nil)
	return again.appendEnvelope(nil)
}

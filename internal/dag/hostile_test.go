package dag

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/value"
)

// Eve changes one bit of Ada's commit, any bit. Either it is refused, or its
// signature is, or it is another commit that Ada did not sign.
func TestEveryBitIsProtected(t *testing.T) {
	k := ada(t)
	first := seal(t, root(k, title("Ada"), hits(1)), k)
	gateway := child(k, []*Commit{first}, title("Bob"))
	delegate(t, gateway, k, key(t, ident.EdDSA, "Bob"))
	seal(t, gateway, key(t, ident.EdDSA, "Bob"))
	for name, c := range map[string]*Commit{"create": first, "update": seal(t, child(k, []*Commit{first}, hits(2)), k), "gateway": gateway} {
		opened := 0
		for i := range 8 * len(c.Envelope()) {
			env := bytes.Clone(c.Envelope())
			env[i/8] ^= 1 << (i % 8)
			got, err := Open(env)
			if err != nil {
				if !errors.Is(err, fault.Invalid) && !errors.Is(err, ErrDeferred) {
					t.Errorf("%s: bit %d: %v, want invalid", name, i, err)
				}
				continue
			}
			opened++
			if Verify([]*Commit{got}) == nil {
				t.Errorf("%s: bit %d changed: still a commit of its author's", name, i)
			}
		}
		t.Logf("%s: %d bits, %d were left to the signature", name, 8*len(c.Envelope()), opened)
	}
}

// Cut short or with something behind, a commit is no commit.
func TestPartsOfACommitAreRefused(t *testing.T) {
	k := ada(t)
	env := seal(t, root(k, title("Ada"), hits(1)), k).Envelope()
	for n := range env {
		if _, err := Open(env[:n:n]); !errors.Is(err, fault.Invalid) {
			t.Errorf("%d of %d bytes: %v, want invalid", n, len(env), err)
		}
	}
	if _, err := Open(slices.Concat(env, env)); !errors.Is(err, fault.Invalid) {
		t.Errorf("twice: %v, want invalid", err)
	}
}

// Another valid signature of the same author, a second envelope: one commit.
func TestTwoSignaturesAreOneCommit(t *testing.T) {
	k := ada(t)
	c := seal(t, root(k, title("Ada")), k)
	other := *c
	other.Sig = bytes.Clone(c.Sig)
	other.Sig[3] ^= 1
	again, err := Open(other.appendEnvelope(nil))
	if err != nil || again.CID != c.CID {
		t.Errorf("the name depends on the signature: %v, %v", again, err)
	}
}

// Eve signs Ada's commit as her own: another commit, with another author in it.
func TestACommitIsItsAuthors(t *testing.T) {
	k, eve := ada(t), key(t, ident.EdDSA, "Eve")
	c := seal(t, root(k, title("Ada")), k)
	env := forge(t, c, eve, func(h [][]byte) [][]byte { return h })
	if got, err := Open(env); err != nil || Verify([]*Commit{got}) == nil {
		t.Errorf("Eve's signature stands for Ada's: %v", err)
	}
	env = forge(t, c, eve, func(h [][]byte) [][]byte { h[hAuthor] = keyItem(eve.Public()); return h })
	if got, err := Open(env); err != nil || got.CID == c.CID {
		t.Errorf("Eve's copy has the name of Ada's commit: %v", err)
	}
}

// A signature is for one purpose: nothing that a key signed elsewhere, not even
// the bare hash, signs a commit.
func TestSignaturesAreForCommitsOnly(t *testing.T) {
	k := ada(t)
	c := *seal(t, root(k, title("Ada")), k)
	for name, msg := range map[string][]byte{"hash": c.CID[:], "header": c.header, "text": []byte(c.CID.String())} {
		sig, err := k.Sign(msg)
		if err != nil {
			t.Fatal(err)
		}
		c.Sig = sig
		if Verify([]*Commit{&c}) == nil {
			t.Errorf("the signature of its %s signs a commit", name)
		}
	}
}

// Hashes made for one purpose do not stand for another.
func TestHashesHaveOnePurpose(t *testing.T) {
	k := ada(t)
	c := seal(t, root(k, title("Ada")), k)
	same := map[[32]byte]string{}
	for name, sum := range map[string][32]byte{
		"commit":             c.CID,
		"document":           c.Doc,
		"content":            [32]byte(ContentSeed(c.Deltas)),
		"key":                [32]byte(KeyedSeed(c.Deltas)),
		"segment":            c.Segs[0].Hash,
		"root without label": sha256.Sum256(appendRootSeed(nil, *c.Root)),
	} {
		if other, ok := same[sum]; ok {
			t.Errorf("%s and %s have one hash", name, other)
		}
		same[sum] = name
	}
}

// What a liar says of height, clock and parents, and what honest nodes answer.
func TestLiesAboutThePast(t *testing.T) {
	k, eve := ada(t), key(t, ident.EdDSA, "Eve")
	first := seal(t, root(k, title("Ada")), k)
	second := seal(t, child(k, []*Commit{first}, hits(1)), k)
	elsewhere := seal(t, root(k, title("Another")), k)
	for name, c := range map[string]struct {
		tell    func(c *Commit)
		parents []*Commit
	}{
		"jumps up to win":              {func(c *Commit) { c.Height = 1 << 40 }, []*Commit{second}},
		"hides below its parent":       {func(c *Commit) { c.Height = 2 }, []*Commit{second}},
		"dates back to its parent":     {func(c *Commit) { c.HLC = second.HLC }, []*Commit{second}},
		"dates back before its parent": {func(c *Commit) { c.HLC = 0 }, []*Commit{second}},
		"joins two documents":          {func(c *Commit) {}, []*Commit{second, elsewhere}},
		"moves to another document":    {func(c *Commit) { c.Doc = elsewhere.Doc }, []*Commit{second}},
	} {
		lie := child(eve, c.parents, hits(5))
		c.tell(lie)
		got, err := Open(seal(t, lie, eve).Envelope())
		if err != nil {
			t.Errorf("%s: its own bytes say nothing wrong, yet %v", name, err)
			continue
		}
		var infos []ParentInfo
		for _, p := range c.parents {
			infos = append(infos, info(p))
		}
		if err := got.CheckParents(infos); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	// A clock of next year wins every race, so it waits until next year.
	early := child(eve, []*Commit{second}, title("I win"))
	early.HLC = HLC(noon.AddDate(1, 0, 0), 0)
	got, err := Open(seal(t, early, eve).Envelope())
	if err != nil || got.CheckParents([]ParentInfo{info(second)}) != nil {
		t.Errorf("a commit of next year is invalid, want it deferred: %v", err)
	} else if !Future(got.HLC, noon) || Future(got.HLC, noon.AddDate(1, 0, 0)) {
		t.Error("a commit of next year does not wait for next year")
	}
}

// Two commits of one author on the same parents contradict each other. Both are
// kept: that is plain concurrency.
func TestEquivocationIsConcurrency(t *testing.T) {
	k := ada(t)
	first := seal(t, root(k, title("Ada")), k)
	yes, no := seal(t, child(k, []*Commit{first}, title("yes")), k), seal(t, child(k, []*Commit{first}, title("no")), k)
	both := seal(t, child(k, []*Commit{yes, no}, hits(1)), k)
	if err := both.CheckParents([]ParentInfo{info(yes), info(no)}); err != nil || Verify([]*Commit{yes, no, both}) != nil {
		t.Errorf("a commit on both is refused: %v", err)
	}
}

// An operation that lies about its type changes nothing, and its commit stays
// valid: nodes that cannot look inside must come to the same heads.
func TestTypeConfusionIsVoid(t *testing.T) {
	k := ada(t)
	first := seal(t, root(k, title("Ada")), k)
	for name, d := range map[string]crdt.Delta{
		"an increment that is a map":     {Field: fieldHits, Kind: crdt.KindOf(crdt.PNCounter, value.TypeInt), Void: true, Raw: []byte("\xa0")},
		"a title that is a number":       {Field: fieldTitle, Kind: crdt.KindOf(crdt.LWW, value.TypeString), Void: true, Raw: []byte("\x05")},
		"a register without its tags":    {Field: fieldTags, Kind: crdt.KindOf(crdt.MVR, value.TypeString), Void: true, Raw: []byte("\x61x")},
		"an unknown rule":                {Field: fieldTags, Kind: 0xff06, Void: true, Raw: []byte("\x61x")},
		"a status that is not a boolean": {Field: crdt.FieldStatus, Kind: crdt.KindOf(crdt.LWW, value.TypeBoolean), Void: true, Raw: []byte("\x01")},
	} {
		c := seal(t, child(k, []*Commit{first}, hits(1), d), k)
		got, err := Open(c.Envelope())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(got.Deltas) != 2 || got.Deltas[0].Void || !got.Deltas[1].Void {
			t.Errorf("%s: read as %v, want the second operation void", name, got.Deltas)
		}
	}
}

// No few bytes make a node reserve much memory or time.
func TestSmallLiesCostLittle(t *testing.T) {
	huge := "\x9b\x00\x00\x00\x7f\xff\xff\xff\xff" // an array of 2^39 items
	for name, env := range map[string]string{
		"segments":  "\x83\x41\x00\x40" + huge,
		"envelope":  huge,
		"header":    "\x83\x59\xff\xff" + huge,
		"nested":    string(bytes.Repeat([]byte{0x81}, 1<<16)),
		"long text": "\x7b\x7f\xff\xff\xff\xff\xff\xff\xff",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Open([]byte(env))
		runtime.ReadMemStats(&after)
		if !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 2*uint64(len(env))+64<<10 {
			t.Errorf("%s: %d bytes made it allocate %d", name, len(env), took)
		}
	}
	if _, err := Open(make([]byte, 64<<20)); !errors.Is(err, fault.Invalid) {
		t.Error("64 MB are taken for a commit")
	}
}

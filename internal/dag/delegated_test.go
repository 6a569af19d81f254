package dag

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// byProxy drafts a commit of Ada's on top of first that the gateway is to sign.
func byProxy(t testing.TB, first *Commit, gateway ident.Key, collections ...CollectionID) *Commit {
	t.Helper()
	c := child(ada(t), []*Commit{first}, title("by proxy"))
	delegate(t, c, ada(t), gateway, collections...)
	return c
}

// forged is what a gateway sends that does not ask Prepare whether it may.
func forged(t testing.TB, c *Commit, gateway ident.Key, proof []byte) []byte {
	t.Helper()
	f := *c
	f.Proof = proof
	f.Author.Proof = sha256.Sum256(proof)
	f.Segs, f.Payload = nil, nil
	f.AddSegment(0, 0, appendDeltas(nil, f.Deltas))
	f.Segs[0].Len, f.Segs[0].Hash = uint64(len(f.Payload[0])), sha256.Sum256(f.Payload[0])
	return resign(t, &f, gateway, f.appendHeader(nil))
}

// Ada lets Bob's gateway write for her; the commit is hers, and names the gateway.
func TestAGatewayWritesForItsUser(t *testing.T) {
	bob := key(t, ident.EdDSA, "Bob")
	first := seal(t, root(ada(t), title("Ada")), ada(t))
	for name, c := range map[string]*Commit{
		"everywhere": byProxy(t, first, bob),
		"in pages":   byProxy(t, first, bob, pages),
		"a root": func() *Commit {
			c := root(ada(t), title("new"))
			delegate(t, c, ada(t), bob, pages)
			return c
		}(),
	} {
		got, err := Open(seal(t, c, bob).Envelope())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Author.Key != ada(t).Public() || got.Author.Via != bob.Public() {
			t.Errorf("%s: author %s, gateway %s", name, got.Author.Key, got.Author.Via)
		}
		if bad := Verify([]*Commit{got}); bad != nil || !got.Verified() {
			t.Errorf("%s: it does not verify", name)
		}
		if err := got.CheckCollection(pages); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A gateway does more than its user allowed. That is invalid from the bytes alone.
func TestAGatewayStaysWithinItsDelegation(t *testing.T) {
	k, bob, eve := ada(t), key(t, ident.EdDSA, "Bob"), key(t, ident.ES256, "Eve")
	first := seal(t, root(k, title("Ada")), k)
	grant := func(author, gateway ident.Key, from, to time.Time) []byte {
		b, err := ident.Delegation{Author: author.Public(), Gateway: gateway.Public(), NotBefore: from, NotAfter: to}.Seal(author)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	hour := noon.Add(time.Hour)
	good := grant(k, bob, noon, hour)
	c := byProxy(t, first, bob)
	for name, f := range map[string]struct {
		by    ident.Key
		proof []byte
		at    time.Time
		ok    bool
	}{
		"as allowed":                {bob, good, noon.Add(time.Minute), true},
		"to the last millisecond":   {bob, good, hour, true},
		"with a word of nobody's":   {bob, []byte("trust me"), noon, false},
		"for another gateway":       {eve, good, noon, false},
		"with the word of another":  {bob, grant(eve, bob, noon, hour), noon, false},
		"after its end":             {bob, good, hour.Add(time.Millisecond), false},
		"before its beginning":      {bob, good, noon.Add(-time.Millisecond), false},
		"with something behind":     {bob, append(bytes.Clone(good), 0), noon, false},
		"with half a word":          {bob, good[:len(good)/2], noon, false},
		"with one that it gave out": {bob, grant(bob, k, noon, hour), noon, false},
	} {
		draft := *c
		draft.Author.Via, draft.HLC = f.by.Public(), HLC(f.at, 0)
		got, err := Open(forged(t, &draft, f.by, f.proof))
		if f.ok {
			if err != nil || Verify([]*Commit{got}) != nil {
				t.Errorf("%s: %v, want valid", name, err)
			}
			continue
		}
		if !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
		draft.Proof = f.proof
		if err := Prepare(&draft); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: the gateway is not told: %v", name, err)
		}
	}
}

// The gateway writes a delegation itself. Only the signature tells, so that it costs no
// more than one verification, on all cores.
func TestAGatewayCannotSignItsOwnDelegation(t *testing.T) {
	k, bob := ada(t), key(t, ident.EdDSA, "Bob")
	first := seal(t, root(k, title("Ada")), k)
	c := byProxy(t, first, bob)
	text := cbor.NewReader(c.Proof)
	text.Array()
	words := text.Bytes()
	sig, err := bob.Sign(append([]byte("pando/1 delegation\n"), words...))
	if err != nil {
		t.Fatal(err)
	}
	self := cbor.AppendBytes(cbor.AppendBytes(cbor.AppendArray(nil, 2), words), sig)
	got, err := Open(forged(t, c, bob, self))
	if err != nil {
		t.Fatal(err)
	}
	good := seal(t, byProxy(t, first, bob), bob)
	if bad := Verify([]*Commit{good, got, good}); len(bad) != 1 || bad[0] != 1 || got.Verified() {
		t.Errorf("Verify finds %v, want the second", bad)
	}
}

// What is delegated for one collection counts in no other.
func TestADelegationIsForItsCollections(t *testing.T) {
	k, bob := ada(t), key(t, ident.EdDSA, "Bob")
	first := seal(t, root(k, title("Ada")), k)
	c := seal(t, byProxy(t, first, bob, CollectionID{1}, CollectionID{2}), bob)
	if err := c.CheckCollection(CollectionID{2}); err != nil {
		t.Error(err)
	}
	if err := c.CheckCollection(pages); !errors.Is(err, fault.Invalid) {
		t.Errorf("in a third: %v, want invalid", err)
	}
	if err := first.CheckCollection(CollectionID{2}); !errors.Is(err, fault.Invalid) {
		t.Errorf("a root in another collection: %v, want invalid", err)
	}
}

// A header that was announced tells nothing of the delegation. What was verified of
// it does not count for the commit that comes with its proof.
func TestAHeaderAloneSaysNothingOfItsDelegation(t *testing.T) {
	k, bob := ada(t), key(t, ident.EdDSA, "Bob")
	first := seal(t, root(k, title("Ada")), k)
	c := byProxy(t, first, bob)
	seal(t, c, bob)
	header, err := OpenHeader(c.Header(), c.Sig)
	if err != nil || Verify([]*Commit{header}) != nil || !header.Verified() {
		t.Fatalf("the header: %v", err)
	}
	header.Proof = c.Proof
	if header.Verified() {
		t.Error("with its proof it counts as verified")
	}
}

// Commits of one gateway cost one verification of its delegation.
func BenchmarkVerifyDelegated(b *testing.B) {
	const n = 1024
	bob := key(b, ident.EdDSA, "Bob")
	first := seal(b, root(ada(b), title("Ada")), ada(b))
	plain, delegated := make([]*Commit, n), make([]*Commit, n)
	for i := range n {
		plain[i] = seal(b, child(ada(b), []*Commit{first}, hits(int64(i))), ada(b))
		c := child(ada(b), []*Commit{first}, hits(int64(i)))
		delegate(b, c, ada(b), bob, pages)
		delegated[i] = seal(b, c, bob)
	}
	for name, cs := range map[string][]*Commit{"plain": plain, "delegated": delegated} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				for _, c := range cs {
					if _, err := Open(c.Envelope()); err != nil {
						b.Fatal(err)
					}
				}
				if bad := Verify(cs); bad != nil {
					b.Fatal(bad)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/commit")
		})
	}
}

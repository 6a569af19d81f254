package ident

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
)

// phone is Ada's word, and her phone's, that the phone acts for her for an hour.
func phone(t testing.TB, alg Algorithm) (c Certificate, ada, peer Key) {
	ada, peer = testKey(t, alg, 1), testKey(t, EdDSA, 2)
	return Certificate{Owner: ada.Public(), Peer: peer.Public(), NotBefore: noon, NotAfter: noon.Add(time.Hour)}, ada, peer
}

func certify(t testing.TB, c Certificate, owner, peer Key) []byte {
	t.Helper()
	b, err := c.Seal(owner, peer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestACertificateSaysForWhomAPeerActsAndWhen(t *testing.T) {
	for _, alg := range algorithms {
		c, ada, peer := phone(t, alg)
		got, err := OpenCertificate(certify(t, c, ada, peer))
		if err != nil {
			t.Fatal(err)
		}
		if got.Owner != ada.Public() || got.Peer != peer.Public() || !got.NotBefore.Equal(c.NotBefore) || !got.NotAfter.Equal(c.NotAfter) {
			t.Errorf("%s: opened as %+v, want %+v", alg, got, c)
		}
		for name, c := range map[string]struct {
			peer  PublicKey
			at    time.Time
			valid bool
		}{
			"within":               {peer.Public(), noon.Add(time.Minute), true},
			"at its beginning":     {peer.Public(), noon, true},
			"in its last instant":  {peer.Public(), noon.Add(time.Hour + time.Microsecond), true},
			"before it begins":     {peer.Public(), noon.Add(-time.Millisecond), false},
			"after its end":        {peer.Public(), noon.Add(time.Hour + time.Millisecond), false},
			"shown by another":     {testKey(t, EdDSA, 3).Public(), noon, false},
			"shown by Ada herself": {ada.Public(), noon, false},
			"shown by nobody":      {"", noon, false},
		} {
			err := got.Valid(c.peer, c.at)
			if (err == nil) != c.valid || err != nil && !errors.Is(err, fault.Denied) {
				t.Errorf("%s, %s: %v, want valid %v", alg, name, err, c.valid)
			}
		}
		if err := got.Valid(peer.Public(), noon.Add(2*time.Hour)); err == nil || !strings.Contains(err.Error(), "ended at 2026-03-01T13:00:00Z") {
			t.Errorf("late: %v, want when it ended", err)
		}
	}
}

func TestCertificatesThatNobodyCanMake(t *testing.T) {
	whole, ada, peer := phone(t, ES256)
	for name, change := range map[string]func(c *Certificate){
		"no owner":                  func(c *Certificate) { c.Owner = "" },
		"no peer":                   func(c *Certificate) { c.Peer = "" },
		"a malformed owner":         func(c *Certificate) { c.Owner = c.Owner[:30] },
		"a peer that can be no one": func(c *Certificate) { c.Peer = testKey(t, ES256K, 2).Public() },
		"for itself":                func(c *Certificate) { c.Owner = c.Peer },
		"ends before it began":      func(c *Certificate) { c.NotAfter = c.NotBefore.Add(-time.Millisecond) },
		"before time":               func(c *Certificate) { c.NotBefore = time.Time{} },
		"after time":                func(c *Certificate) { c.NotAfter = time.UnixMilli(maxInstant + 1) },
	} {
		c := whole
		change(&c)
		if b, err := c.Seal(ada, peer); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: sealed as %x, %v", name, b, err)
		}
	}
	eve := testKey(t, EdDSA, 9)
	for name, keys := range map[string][2]Key{
		"Eve says that Ada's phone is hers": {eve, peer},
		"Eve says that she is Ada's phone":  {ada, eve},
		"the keys in the wrong order":       {peer, ada},
		"no keys":                           {},
	} {
		if b, err := whole.Seal(keys[0], keys[1]); !errors.Is(err, fault.Denied) {
			t.Errorf("%s: sealed as %x, %v", name, b, err)
		}
	}
}

// What is signed by others than the two, in another order or for another purpose, is
// no certificate, whatever it says.
func TestACertificateNeedsBothSignatures(t *testing.T) {
	c, ada, peer := phone(t, EdDSA)
	eve := testKey(t, EdDSA, 9)
	text := c.append(nil)
	newer := bytes.Clone(text)
	newer[1] = 2
	for name, forge := range map[string]struct {
		domain string
		text   []byte
		keys   []Key
	}{
		"signed by Ada alone":         {certificateDomain, text, []Key{ada}},
		"signed by Ada twice":         {certificateDomain, text, []Key{ada, ada}},
		"signed by the peer twice":    {certificateDomain, text, []Key{peer, peer}},
		"signed by Eve for Ada":       {certificateDomain, text, []Key{eve, peer}},
		"signed by Eve for the peer":  {certificateDomain, text, []Key{ada, eve}},
		"in the wrong order":          {certificateDomain, text, []Key{peer, ada}},
		"with a third signature":      {certificateDomain, text, []Key{ada, peer, eve}},
		"as a delegation":             {delegationDomain, text, []Key{ada, peer}},
		"without a domain":            {"", text, []Key{ada, peer}},
		"of another version":          {certificateDomain, newer, []Key{ada, peer}},
		"with something behind":       {certificateDomain, append(bytes.Clone(text), 0xf6), []Key{ada, peer}},
		"that is empty":               {certificateDomain, nil, []Key{ada, peer}},
		"of a size that nobody needs": {certificateDomain, make([]byte, MaxCertificateSize), []Key{ada, peer}},
	} {
		b, err := seal(forge.domain, forge.text, forge.keys...)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := OpenCertificate(b); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: opened as %+v, %v", name, got, err)
		}
	}
}

// Eve alters a certificate in any bit: to her own peer, to later.
func TestAnAlteredCertificateIsRefused(t *testing.T) {
	for _, alg := range algorithms {
		c, ada, peer := phone(t, alg)
		b := certify(t, c, ada, peer)
		if _, err := OpenCertificate(b); err != nil {
			t.Fatal(err)
		}
		for i := range 8 * len(b) {
			forged := bytes.Clone(b)
			forged[i/8] ^= 1 << (i % 8)
			if got, err := OpenCertificate(forged); !errors.Is(err, fault.Invalid) {
				t.Errorf("%s: bit %d altered: opened as %+v, %v", alg, i, got, err)
			}
		}
		for n := range b {
			if _, err := OpenCertificate(b[:n:n]); !errors.Is(err, fault.Invalid) {
				t.Errorf("%s: cut to %d bytes: %v", alg, n, err)
			}
		}
		if _, err := OpenCertificate(append(bytes.Clone(b), 0)); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: with a byte behind: %v", alg, err)
		}
	}
}

func TestAnyCertificateComesBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		owner, peer := testKey(t, rapid.SampledFrom(algorithms).Draw(rt, "alg"), 1), testKey(t, EdDSA, 2)
		from := rapid.Int64Range(0, maxInstant).Draw(rt, "from")
		c := Certificate{Owner: owner.Public(), Peer: peer.Public(),
			NotBefore: time.UnixMilli(from), NotAfter: time.UnixMilli(rapid.Int64Range(from, maxInstant).Draw(rt, "to"))}
		b, err := c.Seal(owner, peer)
		if err != nil {
			rt.Fatal(err)
		}
		if len(b) > MaxCertificateSize {
			rt.Fatalf("%d bytes, more than %d", len(b), MaxCertificateSize)
		}
		got, err := OpenCertificate(b)
		if err != nil {
			rt.Fatal(err)
		}
		if err := got.Valid(c.Peer, c.NotAfter); err != nil {
			rt.Fatal(err)
		}
		if again, err := got.Seal(owner, peer); err != nil || !bytes.Equal(again, b) {
			rt.Fatalf("sealed again as %x, %v, want %x", again, err, b)
		}
	})
}

// The bytes are part of the format: another implementation makes the same of these keys.
func TestTheBytesOfACertificate(t *testing.T) {
	c, ada, peer := phone(t, EdDSA)
	const text = "85" + "01" +
		"5822ed01" + "ADA" +
		"5822ed01" + "PEER" +
		"1b0000019ca9450a00" + "1b0000019ca97bf880"
	want := strings.NewReplacer("ADA", hex.EncodeToString([]byte(ada.Public()[2:])), "PEER", hex.EncodeToString([]byte(peer.Public()[2:]))).Replace(text)
	b := certify(t, c, ada, peer)
	s, err := readStatement("certificate", b, 2)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(s.text); got != want {
		t.Errorf("text %s, want %s", got, want)
	}
	signed := append([]byte("pando/1 certificate\n"), s.text...)
	if !ada.Public().Verify(signed, s.sigs[0]) || !peer.Public().Verify(signed, s.sigs[1]) {
		t.Error("the signatures are not of the domain and the text, the owner's first")
	}
}

func FuzzOpenCertificate(f *testing.F) {
	for _, alg := range algorithms {
		c, ada, peer := phone(f, alg)
		f.Add(certify(f, c, ada, peer))
	}
	f.Add([]byte("\x83\x9b\x00\x00\x00\x7f\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = OpenCertificate(b)
		c, s, err := parseCertificate(b)
		if err != nil {
			if !errors.Is(err, fault.Invalid) || len(err.Error()) > 400 {
				t.Errorf("an error of %d characters: %v", len(err.Error()), err)
			}
			return
		}
		again := cbor.AppendBytes(cbor.AppendArray(nil, 3), c.append(nil))
		for _, sig := range s.sigs {
			again = cbor.AppendBytes(again, sig)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("read\n%x, written again\n%x", b, again)
		}
	})
}

// What each connection of a peer costs: two verifications at first, none later.
func BenchmarkOpenCertificate(b *testing.B) {
	c, ada, peer := phone(b, EdDSA)
	raw := certify(b, c, ada, peer)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			clear(certified.good)
			if _, err := OpenCertificate(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			if _, err := OpenCertificate(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}

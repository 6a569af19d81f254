package ident

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mr-tron/base58"
	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/fault"
)

var algorithms = []Algorithm{EdDSA, ES256K, ES256}

// testKey makes the n-th key of an algorithm, the same in every run.
func testKey(t testing.TB, alg Algorithm, n uint64) Key {
	t.Helper()
	k, err := GenerateFrom(alg, rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The identity of the seed of 32 zero bytes is published in many places.
func TestDIDOfTheZeroSeed(t *testing.T) {
	k, err := GenerateFrom(EdDSA, bytes.NewReader(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	const want = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
	if got := k.DID(); got != want {
		t.Errorf("did of the zero seed = %s, want %s", got, want)
	}
}

// The DID methods name the curves by how a did:key begins.
func TestDIDBeginsByAlgorithm(t *testing.T) {
	for alg, start := range map[Algorithm]string{EdDSA: "did:key:z6Mk", ES256K: "did:key:zQ3s", ES256: "did:key:zDn"} {
		for n := range uint64(20) {
			if did := testKey(t, alg, n).DID(); !strings.HasPrefix(string(did), start) {
				t.Errorf("%s key: did %s does not begin with %s", alg, did, start)
			}
		}
	}
}

func TestDIDNamesItsKey(t *testing.T) {
	for _, alg := range algorithms {
		k := testKey(t, alg, 1)
		d, err := ParseDID(string(k.DID()))
		if err != nil {
			t.Fatalf("%s: %v", k.DID(), err)
		}
		got, err := d.PublicKey()
		if err != nil || got != k.Public() {
			t.Errorf("public key of %s = %x, %v, want %x", d, got, err, k.Public())
		}
	}
}

func TestMalformedDIDs(t *testing.T) {
	good := string(testKey(t, EdDSA, 1).DID())
	for name, s := range map[string]string{
		"empty":            "",
		"not a did":        "alice",
		"other method":     "did:web:example.com",
		"other base":       "did:key:f" + good[9:],
		"no key":           "did:key:z",
		"bad digit":        good[:20] + "0" + good[21:],
		"shortened":        good[:len(good)-2],
		"lengthened":       good + "1",
		"leading zero":     "did:key:z1" + good[9:],
		"fragment":         good + "#" + good[8:],
		"very long":        good + strings.Repeat("z", 1<<20),
		"unknown codec":    didPrefix + encodeBase58("\xec\x01"+strings.Repeat("k", 32)), // X25519
		"not compressed":   didPrefix + encodeBase58(p256Prefix+"\x04"+strings.Repeat("k", 32)),
		"a byte too few":   didPrefix + encodeBase58(secp256k1Prefix+"\x02"+strings.Repeat("k", 31)),
		"a space in front": " " + good,
	} {
		if _, err := ParseDID(s); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: ParseDID(%.60q) = %v, want invalid", name, s, err)
		} else if len(err.Error()) > 300 {
			t.Errorf("%s: an error of %d characters repeats its input", name, len(err.Error()))
		}
	}
}

func TestBase58AgreesWithAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "raw")
		if rapid.Bool().Draw(t, "zeros") {
			raw = append(make([]byte, 3), raw...)
		}
		text := encodeBase58(string(raw))
		if want := base58.Encode(raw); text != want {
			t.Fatalf("encodeBase58(%x) = %s, want %s", raw, text, want)
		}
		if back, ok := decodeBase58(text); !ok || back != string(raw) {
			t.Fatalf("decodeBase58(%s) = %x, %v, want %x", text, back, ok, raw)
		}
	})
}

func TestSignatures(t *testing.T) {
	msg := []byte("the change that Ada made")
	for _, alg := range algorithms {
		t.Run(string(alg), func(t *testing.T) {
			ada, bob := testKey(t, alg, 1), testKey(t, alg, 2)
			sig, err := ada.Sign(msg)
			if err != nil {
				t.Fatal(err)
			}
			if len(sig) != SignatureSize {
				t.Errorf("signature of %d bytes, want %d", len(sig), SignatureSize)
			}
			if !ada.Public().Verify(msg, sig) {
				t.Error("Ada's own signature is refused")
			}
			if again, _ := ada.Sign(msg); !bytes.Equal(sig, again) {
				t.Error("the same message got another signature")
			}
			if bob.Public().Verify(msg, sig) {
				t.Error("Bob's key accepts Ada's signature")
			}
			if ada.Public().Verify(append(msg, '!'), sig) {
				t.Error("an altered message is accepted")
			}
			for i := range sig {
				forged := bytes.Clone(sig)
				forged[i] ^= 0x10
				if ada.Public().Verify(msg, forged) {
					t.Errorf("a signature altered at byte %d is accepted", i)
				}
			}
			for _, wrong := range [][]byte{nil, sig[:63], append(bytes.Clone(sig), 0), make([]byte, 64), bytes.Repeat([]byte{0xff}, 64)} {
				if ada.Public().Verify(msg, wrong) {
					t.Errorf("signature %x is accepted", wrong)
				}
			}
		})
	}
}

// Whoever sees an ECDSA signature (r, s) can make (r, n-s) without the key. Both
// cannot count, or a commit would have two signed forms.
func TestMirroredSignatureIsRefused(t *testing.T) {
	orders := map[Algorithm]string{
		ES256:  "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
		ES256K: "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
	}
	for alg, order := range orders {
		n := new(big.Int).SetBytes(unhex(t, order))
		k := testKey(t, alg, 1)
		for i := range 20 {
			msg := fmt.Appendf(nil, "message %d", i)
			sig, err := k.Sign(msg)
			if err != nil {
				t.Fatal(err)
			}
			s := new(big.Int).SetBytes(sig[32:])
			s.Sub(n, s).FillBytes(sig[32:])
			if k.Public().Verify(msg, sig) {
				t.Errorf("%s: the mirrored signature of %q is accepted", alg, msg)
			}
		}
	}
}

// The example of RFC 6979, A.2.5, with its s mirrored into the lower half.
func TestDeterministicP256(t *testing.T) {
	secret := unhex(t, "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
	k, err := ParseKey(append([]byte(p256PrivPrefix), secret...))
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).SetBytes(unhex(t, "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"))
	s.Sub(p256Order, s)
	want := append(unhex(t, "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"), s.Bytes()...)
	got, err := k.Sign([]byte("sample"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("signature of \"sample\" = %x, %v, want %x", got, err, want)
	}
}

// Signatures made from points of small order are where verifiers differ: ZIP-215
// accepts them all, alone and in a batch, and so must every node.
func TestSmallOrderPointsGetOneVerdict(t *testing.T) {
	ff := strings.Repeat("ff", 30)
	points := []string{
		"01" + strings.Repeat("00", 31),        // the neutral point
		"01" + strings.Repeat("00", 30) + "80", // the same with the sign of zero set
		"ee" + ff + "7f",                       // the same, y not reduced
		"ec" + ff + "7f",                       // order 2
		strings.Repeat("00", 32),               // order 4
		strings.Repeat("00", 31) + "80",        // order 4
		"ed" + ff + "7f",                       // order 4, y not reduced
	}
	msg := []byte("Zcash")
	honest := testKey(t, EdDSA, 1)
	honestSig, _ := honest.Sign(msg)
	refusedByStd := 0
	for _, a := range points {
		for _, r := range points {
			k := PublicKey(ed25519Prefix + string(unhex(t, a)))
			sig := append(unhex(t, r), make([]byte, 32)...)
			if !ed25519.Verify(ed25519.PublicKey(k[2:]), msg, sig) {
				refusedByStd++
			}
			if !k.Verify(msg, sig) {
				t.Errorf("key %s, R %s: refused alone", a, r)
			}
			var b Batch
			for range minBatch {
				b.Add(honest.Public(), msg, honestSig)
			}
			b.Add(k, msg, sig)
			if !b.verifyTogether() {
				t.Errorf("key %s, R %s: refused in a batch", a, r)
			}
		}
	}
	if refusedByStd == 0 {
		t.Error("the standard library accepts all of them: the test shows nothing")
	}
}

// A batch of any mixture finds exactly the signatures that fail alone.
func TestBatchFindsTheBadOnes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var b Batch
		n := rapid.IntRange(0, 3*minBatch).Draw(rt, "n")
		onlyEd := rapid.Bool().Draw(rt, "only ed25519")
		badShare := rapid.SampledFrom([]int{0, 0, 10, 100}).Draw(rt, "bad share")
		var want []int
		for i := range n {
			alg := EdDSA
			if !onlyEd {
				alg = rapid.SampledFrom(algorithms).Draw(rt, "alg")
			}
			k := testKey(t, alg, uint64(i%3))
			msg := fmt.Appendf(nil, "message %d", i)
			sig, err := k.Sign(msg)
			if err != nil {
				rt.Fatal(err)
			}
			if rapid.IntRange(1, 100).Draw(rt, "luck") <= badShare {
				want = append(want, i)
				switch rapid.IntRange(0, 2).Draw(rt, "how") {
				case 0:
					sig[40] ^= 1
				case 1:
					sig = sig[:10]
				case 2:
					k.public = k.public[:20]
				}
			}
			b.Add(k.Public(), msg, sig)
		}
		if got := b.Verify(); !slices.Equal(got, want) {
			rt.Fatalf("bad = %v, want %v", got, want)
		}
		if b.Len() != 0 {
			rt.Fatal("the batch is not empty after Verify")
		}
	})
}

func TestKeyTravelsAsBytes(t *testing.T) {
	for _, alg := range algorithms {
		k := testKey(t, alg, 7)
		got, err := ParseKey(k.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		a, _ := k.Sign([]byte("m"))
		b, _ := got.Sign([]byte("m"))
		if got.Public() != k.Public() || !bytes.Equal(a, b) {
			t.Errorf("%s: the parsed key is another", alg)
		}
	}
	for name, raw := range map[string][]byte{
		"empty":             nil,
		"too short":         testKey(t, EdDSA, 1).Marshal()[:33],
		"too long":          append(testKey(t, EdDSA, 1).Marshal(), 0),
		"a public key":      []byte(testKey(t, EdDSA, 1).Public()),
		"zero scalar":       append([]byte(secp256k1PrivPrefix), make([]byte, 32)...),
		"scalar too large":  append([]byte(p256PrivPrefix), bytes.Repeat([]byte{0xff}, 32)...),
		"unknown algorithm": append([]byte("\x99\x99"), make([]byte, 32)...),
	} {
		if _, err := ParseKey(raw); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
}

func TestZeroKeySignsNothing(t *testing.T) {
	var k Key
	if _, err := k.Sign([]byte("m")); !errors.Is(err, fault.Denied) {
		t.Errorf("Sign = %v, want denied", err)
	}
	if !k.IsZero() || k.Public() != "" || k.DID() != "" || k.Marshal() != nil {
		t.Error("the zero key is somebody's")
	}
	if PublicKey("").Verify(nil, make([]byte, 64)) {
		t.Error("nobody's signature is accepted")
	}
}

func TestOnlyEd25519NamesAPeer(t *testing.T) {
	ed := testKey(t, EdDSA, 1)
	seed, err := ed.LibP2PSeed()
	if err != nil || string(ed25519.NewKeyFromSeed(seed)[32:]) != string(ed.Public()[2:]) {
		t.Errorf("the seed of an Ed25519 key does not make the key again: %v", err)
	}
	if _, err := testKey(t, ES256, 1).LibP2PSeed(); !errors.Is(err, fault.Invalid) {
		t.Errorf("seed of a P-256 key: %v, want invalid", err)
	}
}

func TestKeysDoNotPrintTheirSecret(t *testing.T) {
	k := testKey(t, EdDSA, 1)
	secret := hex.EncodeToString(k.secret[:4])
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for _, s := range []string{fmt.Sprintf(verb, k), fmt.Sprintf(verb, []Key{k}), fmt.Sprintf(verb, struct{ K Key }{k})} {
			if strings.Contains(s, secret) || !strings.Contains(s, string(k.DID())) {
				t.Errorf("%s prints %s", verb, s)
			}
		}
	}
}

func FuzzPublicKey(f *testing.F) {
	for _, alg := range algorithms {
		k := testKey(f, alg, 1)
		sig, _ := k.Sign([]byte("m"))
		f.Add([]byte(k.Public()), sig)
	}
	f.Fuzz(func(t *testing.T, raw, sig []byte) {
		k := PublicKey(raw)
		if k.Check() != nil {
			if k.Verify([]byte("m"), sig) {
				t.Error("a malformed key verifies")
			}
			return
		}
		if back, err := k.DID().PublicKey(); err != nil || back != k {
			t.Errorf("key %x: its DID names %x, %v", raw, back, err)
		}
		good := k.Verify([]byte("m"), sig)
		var b Batch
		for range minBatch {
			b.Add(k, []byte("m"), sig)
		}
		if bad := b.Verify(); (len(bad) == 0) != good {
			t.Errorf("key %x, signature %x: alone %v, in a batch bad %v", raw, sig, good, bad)
		}
	})
}

func FuzzDID(f *testing.F) {
	for _, alg := range algorithms {
		f.Add(string(testKey(f, alg, 1).DID()))
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDID(s)
		if err != nil {
			return
		}
		k, err := d.PublicKey()
		if err != nil || string(k.DID()) != s {
			t.Errorf("ParseDID(%q) is not canonical: %s, %v", s, k.DID(), err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	for _, alg := range algorithms {
		b.Run(string(alg), func(b *testing.B) {
			k := testKey(b, alg, 1)
			for b.Loop() {
				k.Sign([]byte("m"))
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range algorithms {
		b.Run(string(alg), func(b *testing.B) {
			k := testKey(b, alg, 1)
			sig, _ := k.Sign([]byte("m"))
			for b.Loop() {
				k.Public().Verify([]byte("m"), sig)
			}
		})
	}
}

func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{2, 4, 8, 16, 64, 256, 1024} {
		for _, authors := range []uint64{3, 1 << 20} {
			b.Run(fmt.Sprintf("%d/authors=%d", n, min(authors, uint64(n))), func(b *testing.B) {
				var batch Batch
				keys, sigs := make([]PublicKey, n), make([][]byte, n)
				for i := range n {
					k := testKey(b, EdDSA, uint64(i)%authors)
					keys[i] = k.Public()
					sigs[i], _ = k.Sign([]byte("m"))
				}
				for b.Loop() {
					for i := range n {
						batch.Add(keys[i], []byte("m"), sigs[i])
					}
					batch.Verify()
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/sig")
			})
		}
	}
}

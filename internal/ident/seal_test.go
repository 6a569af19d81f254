package ident

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/pandodb/pando/internal/fault"
)

func TestASealedTextIsForOnePerson(t *testing.T) {
	text, info := []byte("the key of epoch 3"), []byte("wrap")
	for _, alg := range algorithms {
		ada, eve := testKey(t, alg, 1), testKey(t, alg, 2)
		sealed, err := Seal(ada.Public(), info, text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ada.Open(info, sealed); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: Ada reads %q, %v", alg, got, err)
		}
		if bytes.Contains(sealed, text) || len(sealed) > len(text)+sealOverhead {
			t.Errorf("%s: sealed as %x", alg, sealed)
		}
		if again, _ := Seal(ada.Public(), info, text); bytes.Equal(again, sealed) {
			t.Errorf("%s: the same text is sealed alike twice", alg)
		}
		for name, open := range map[string]func() ([]byte, error){
			"Eve's key":     func() ([]byte, error) { return eve.Open(info, sealed) },
			"another info":  func() ([]byte, error) { return ada.Open([]byte("wrap 2"), sealed) },
			"no info":       func() ([]byte, error) { return ada.Open(nil, sealed) },
			"nothing":       func() ([]byte, error) { return ada.Open(info, nil) },
			"too much":      func() ([]byte, error) { return ada.Open(info, make([]byte, MaxSealed+1)) },
			"a byte behind": func() ([]byte, error) { return ada.Open(info, append(bytes.Clone(sealed), 0)) },
		} {
			if got, err := open(); !errors.Is(err, fault.Invalid) {
				t.Errorf("%s: %s opens it as %q, %v", alg, name, got, err)
			}
		}
		for i := range sealed {
			altered := bytes.Clone(sealed)
			altered[i] ^= 1
			if got, err := ada.Open(info, altered); !errors.Is(err, fault.Invalid) {
				t.Errorf("%s: altered at byte %d: opens as %q, %v", alg, i, got, err)
			}
			if got, err := ada.Open(info, sealed[:i:i]); !errors.Is(err, fault.Invalid) {
				t.Errorf("%s: cut to %d bytes: opens as %q, %v", alg, i, got, err)
			}
		}
	}
	if _, err := (Key{}).Open(info, text); !errors.Is(err, fault.Denied) {
		t.Errorf("nobody opens it: %v", err)
	}
}

func TestSealOfNothingAndOfTheMost(t *testing.T) {
	for _, alg := range algorithms {
		k := testKey(t, alg, 1)
		for _, n := range []int{0, MaxSealed - sealOverhead} {
			sealed, err := Seal(k.Public(), nil, make([]byte, n))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := k.Open(nil, sealed); err != nil || len(got) != n {
				t.Errorf("%s: of %d bytes %d come back, %v", alg, n, len(got), err)
			}
		}
		if _, err := Seal(k.Public(), nil, make([]byte, MaxSealed)); !errors.Is(err, fault.TooLarge) {
			t.Errorf("%s: too much: %v", alg, err)
		}
	}
}

// Sealing to a key that nobody has, or that everybody has, is refused.
func TestSealToWhatIsNoKey(t *testing.T) {
	ff := strings.Repeat("ff", 30)
	for name, k := range map[string]PublicKey{
		"nobody":                ed25519Prefix,
		"the zero key":          "",
		"no point":              PublicKey(ed25519Prefix + string(unhex(t, "02"+strings.Repeat("00", 31)))),
		"the neutral point":     PublicKey(ed25519Prefix + string(unhex(t, "01"+strings.Repeat("00", 31)))),
		"order 2":               PublicKey(ed25519Prefix + string(unhex(t, "ec"+ff+"7f"))),
		"order 4":               PublicKey(ed25519Prefix + strings.Repeat("\x00", 32)),
		"order 4, not reduced":  PublicKey(ed25519Prefix + string(unhex(t, "ed"+ff+"7f"))),
		"order 8":               PublicKey(ed25519Prefix + string(unhex(t, "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"))),
		"no point of P-256":     PublicKey(p256Prefix + "\x02" + strings.Repeat("\xff", 32)),
		"no point of secp256k1": PublicKey(secp256k1Prefix + "\x02" + strings.Repeat("\xff", 32)),
	} {
		if sealed, err := Seal(k, nil, []byte("secret")); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: sealed as %x, %v", name, sealed, err)
		}
	}
}

// Eve sends a text sealed from a point of small order, which makes the agreed secret
// one that she knows.
func TestTextsFromSmallOrderAreRefused(t *testing.T) {
	k := testKey(t, EdDSA, 1)
	for _, u := range []string{"00", "01"} {
		enc := append(unhex(t, u), make([]byte, 31)...)
		if got, err := k.Open(nil, append(enc, make([]byte, 48)...)); !errors.Is(err, fault.Invalid) {
			t.Errorf("from u = %s: opens as %q, %v", u, got, err)
		}
	}
}

// The X25519 key of an Ed25519 key is the one that everybody else makes of it: the
// public map and the private one meet.
func TestAgreementKeysMeet(t *testing.T) {
	for _, alg := range []Algorithm{EdDSA, ES256} {
		for n := range uint64(20) {
			k := testKey(t, alg, n)
			priv, err := k.agreement()
			if err != nil {
				t.Fatal(err)
			}
			pub, err := k.Public().agreement()
			if err != nil || !pub.Equal(priv.PublicKey()) {
				t.Errorf("%s key %d: public %x, want %x, %v", alg, n, pub.Bytes(), priv.PublicKey().Bytes(), err)
			}
		}
	}
}

// What was sealed once opens for ever. The secret of each key is 32 bytes 0x01.
func TestSealedTextsOfVersion1(t *testing.T) {
	for alg, text := range sealedVectors {
		k, err := GenerateFrom(alg, bytes.NewReader(bytes.Repeat([]byte{1}, 32)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Open([]byte("info"), unhex(t, text)); err != nil || string(got) != "sealed in version 1" {
			t.Errorf("%s: opens as %q, %v", alg, got, err)
		}
	}
	k, _ := GenerateFrom(ES256K, bytes.NewReader(bytes.Repeat([]byte{1}, 32)))
	e := secp256k1.PrivKeyFromBytes(bytes.Repeat([]byte{2}, 32))
	got, err := sealFrom(e, k.Public(), []byte("info"), []byte("sealed in version 1"))
	if want := sealedVectors[ES256K]; err != nil || hex.EncodeToString(got) != want {
		t.Errorf("with the ephemeral key 02…: sealed as %x, %v, want %s", got, err, want)
	}
}

var sealedVectors = map[Algorithm]string{
	EdDSA:  "5484ad29d487b4a5b18fa0eb0c169a842c7b5a984139b1da3a0b5526b0f6cf40bc2c08a505b364eec12fe30864d27f00df98f60a41a430e98a7b656193b3c793efea4a",
	ES256:  "0400da5809bf2e3ec9a205029f2839fcfab95d45876cdd146d1c0690b9b5bc0c67febdd79f05daef029d3443e153456e6f372a1552cd3eb3074424946cba6d9146517077e623416c67030b908028f8856837ccd9be0ac0c124ba1e553b29ca6f64de2417",
	ES256K: "024d4b6cd1361032ca9bd2aeb9d900aa4d45d9ead80ac9423374c451a7254d0766e70ebbffd4ac95863e6e98c5d1ba607f42bc0f20d14c81912a71c38639ba7a6a1b9be5",
}

func FuzzOpenSealed(f *testing.F) {
	for _, alg := range algorithms {
		sealed, err := Seal(testKey(f, alg, 1).Public(), nil, []byte("text"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sealed)
	}
	f.Fuzz(func(t *testing.T, sealed []byte) {
		for _, alg := range algorithms {
			if got, err := testKey(t, alg, 3).Open(nil, sealed); err == nil {
				t.Errorf("%s: made-up bytes open as %q", alg, got)
			}
		}
	})
}

func BenchmarkSealed(b *testing.B) {
	text := make([]byte, 32)
	for _, alg := range algorithms {
		k := testKey(b, alg, 1)
		b.Run(fmt.Sprintf("%s/seal", alg), func(b *testing.B) {
			for b.Loop() {
				if _, err := Seal(k.Public(), nil, text); err != nil {
					b.Fatal(err)
				}
			}
		})
		sealed, _ := Seal(k.Public(), nil, text)
		b.Run(fmt.Sprintf("%s/open", alg), func(b *testing.B) {
			for b.Loop() {
				if _, err := k.Open(nil, sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

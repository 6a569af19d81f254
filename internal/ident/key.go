package ident

import (
	"crypto"
	stdecdsa "crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/pandodb/pando/internal/fault"
)

// The multicodec prefixes of private keys.
const (
	ed25519PrivPrefix   = "\x80\x26"
	secp256k1PrivPrefix = "\x81\x26"
	p256PrivPrefix      = "\x86\x26"
)

// secretSize is the length of every secret: an Ed25519 seed or a scalar.
const secretSize = 32

// Key is a private key. The zero Key signs nothing. A Key prints as its DID,
// never as its secret.
type Key struct {
	public PublicKey
	secret [secretSize]byte
	signer signer // made from secret once
}

// signer makes a signature of SignatureSize bytes.
type signer interface {
	sign(msg []byte) ([]byte, error)
}

// Generate makes a new key from the system's random source.
func Generate(alg Algorithm) (Key, error) { return GenerateFrom(alg, rand.Reader) }

// GenerateFrom makes a key from the bytes of r: the same bytes make the same key.
func GenerateFrom(alg Algorithm, r io.Reader) (Key, error) {
	for {
		var secret [secretSize]byte
		if _, err := io.ReadFull(r, secret[:]); err != nil {
			return Key{}, fmt.Errorf("generate %s key: %w", alg, err)
		}
		k, err := newKey(alg, secret)
		// Not every 32 bytes are a scalar of the curve: nearly all are, so draw again.
		if err == nil || alg.unknown() {
			return k, err
		}
	}
}

func (a Algorithm) unknown() bool { return a != EdDSA && a != ES256K && a != ES256 }

func newKey(alg Algorithm, secret [secretSize]byte) (Key, error) {
	k := Key{secret: secret}
	switch alg {
	case EdDSA:
		priv := ed25519.NewKeyFromSeed(secret[:])
		k.signer = edSigner([ed25519.PrivateKeySize]byte(priv))
		k.public = PublicKey(ed25519Prefix + string(priv.Public().(ed25519.PublicKey)))
	case ES256K:
		var d secp256k1.ModNScalar
		if overflow := d.SetByteSlice(secret[:]); overflow || d.IsZero() {
			return Key{}, fault.Invalid.Errorf("private key for %s is outside the order of the curve", alg)
		}
		priv := secp256k1.NewPrivateKey(&d)
		k.signer = secpSigner{priv}
		k.public = PublicKey(secp256k1Prefix + string(priv.PubKey().SerializeCompressed()))
	case ES256:
		priv, err := stdecdsa.ParseRawPrivateKey(elliptic.P256(), secret[:])
		if err != nil {
			return Key{}, fault.Invalid.Errorf("private key for %s is outside the order of the curve", alg)
		}
		point, err := priv.PublicKey.Bytes() // 4 ‖ x ‖ y
		if err != nil {
			return Key{}, fmt.Errorf("public key for %s: %w", alg, err)
		}
		k.signer = p256Signer{priv}
		compressed := append([]byte(p256Prefix), 2+point[64]&1)
		k.public = PublicKey(append(compressed, point[1:33]...))
	default:
		return Key{}, fault.Invalid.Errorf("unknown key algorithm %q: want %s, %s or %s", string(alg), EdDSA, ES256K, ES256)
	}
	return k, nil
}

// IsZero reports whether k is no key at all.
func (k Key) IsZero() bool { return k.signer == nil }

// Public returns the public half, "" for the zero Key.
func (k Key) Public() PublicKey { return k.public }

// DID returns the name of the key's owner, "" for the zero Key.
func (k Key) DID() DID { return k.public.DID() }

// Algorithm returns the scheme of the key.
func (k Key) Algorithm() Algorithm { return k.public.Algorithm() }

// Sign returns the signature of msg. The same key and message give the same
// signature always.
func (k Key) Sign(msg []byte) ([]byte, error) {
	if k.signer == nil {
		return nil, fault.Denied.Errorf("no private key to sign with: name an identity first")
	}
	return k.signer.sign(msg)
}

// LibP2PSeed returns the Ed25519 seed from which the network makes its peer
// identity. Other algorithms have none.
func (k Key) LibP2PSeed() ([]byte, error) {
	if k.Algorithm() != EdDSA {
		return nil, fault.Invalid.Errorf("a %s key cannot name a peer: use an %s key", k.Algorithm(), EdDSA)
	}
	return append([]byte(nil), k.secret[:]...), nil
}

// Marshal returns the private key in its multicodec form, nil for the zero Key.
func (k Key) Marshal() []byte {
	prefix := ""
	switch k.Algorithm() {
	case EdDSA:
		prefix = ed25519PrivPrefix
	case ES256K:
		prefix = secp256k1PrivPrefix
	case ES256:
		prefix = p256PrivPrefix
	default:
		return nil
	}
	return append([]byte(prefix), k.secret[:]...)
}

// ParseKey is the inverse of Key.Marshal.
func ParseKey(b []byte) (Key, error) {
	if len(b) != prefixSize+secretSize {
		return Key{}, fault.Invalid.Errorf("private key of %d bytes, want %d", len(b), prefixSize+secretSize)
	}
	secret := [secretSize]byte(b[prefixSize:])
	switch string(b[:prefixSize]) {
	case ed25519PrivPrefix:
		return newKey(EdDSA, secret)
	case secp256k1PrivPrefix:
		return newKey(ES256K, secret)
	case p256PrivPrefix:
		return newKey(ES256, secret)
	}
	return Key{}, fault.Invalid.Errorf("private key of unknown algorithm: want Ed25519, secp256k1 or P-256 in multicodec form")
}

// Format prints the DID whatever the verb, so that no log or message shows the secret.
func (k Key) Format(f fmt.State, _ rune) {
	if k.IsZero() {
		io.WriteString(f, "no key")
		return
	}
	io.WriteString(f, "private key of "+string(k.DID()))
}

// edSigner is an array, not a slice, so that Keys can be compared.
type edSigner [ed25519.PrivateKeySize]byte

func (s edSigner) sign(msg []byte) ([]byte, error) {
	return ed25519.Sign(s[:], msg), nil
}

type secpSigner struct{ priv *secp256k1.PrivateKey }

func (s secpSigner) sign(msg []byte) ([]byte, error) {
	sum := sha256.Sum256(msg)
	sig := ecdsa.Sign(s.priv, sum[:]) // RFC 6979, and always the lower s
	r, low := sig.R(), sig.S()
	out := make([]byte, SignatureSize)
	r.PutBytesUnchecked(out[:32])
	low.PutBytesUnchecked(out[32:])
	return out, nil
}

type p256Signer struct{ priv *stdecdsa.PrivateKey }

func (s p256Signer) sign(msg []byte) ([]byte, error) {
	sum := sha256.Sum256(msg)
	der, err := s.priv.Sign(nil, sum[:], crypto.SHA256) // no randomness: RFC 6979
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", ES256, err)
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return nil, fmt.Errorf("sign with %s: %w", ES256, err)
	}
	if sig.S.Cmp(p256HalfOrder) > 0 {
		sig.S.Sub(p256Order, sig.S)
	}
	out := make([]byte, SignatureSize)
	sig.R.FillBytes(out[:32])
	sig.S.FillBytes(out[32:])
	return out, nil
}

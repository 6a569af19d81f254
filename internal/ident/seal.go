package ident

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"

	"filippo.io/edwards25519"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/pandodb/pando/internal/fault"
)

// sealDomain begins the info of every sealed text: what was sealed here opens for
// nothing else that uses the same keys.
const sealDomain = "pando/1 seal\n"

// MaxSealed bounds what Open looks at. Keys are sealed, not contents.
const MaxSealed = 64 << 10

// Seal encrypts a short text to the owner of a key. info says what the text is for: it
// is not part of the result, and Open needs the same. Everybody can seal, so that a
// text opens says nothing of who sealed it.
//
// For Ed25519 and P-256 the result is that of HPKE (RFC 9180) in base mode with
// DHKEM(X25519, HKDF-SHA256) or DHKEM(P-256, HKDF-SHA256), HKDF-SHA256 and
// ChaCha20-Poly1305: enc ‖ ciphertext, info = "pando/1 seal\n" ‖ info, no aad. The
// X25519 key is that of the Ed25519 key by the birational map, u = (1+y)/(1−y). HPKE
// has no KEM for secp256k1; see sealSecp256k1.
func Seal(to PublicKey, info, plaintext []byte) ([]byte, error) {
	if err := to.Check(); err != nil {
		return nil, fault.Invalid.Errorf("seal: %w", err)
	}
	if len(plaintext) > MaxSealed-sealOverhead {
		return nil, fault.TooLarge.Errorf("seal: %d bytes, want at most %d: seal a key, and encrypt with it", len(plaintext), MaxSealed-sealOverhead)
	}
	if to.Algorithm() == ES256K {
		return sealSecp256k1(to, info, plaintext)
	}
	pub, err := to.agreement()
	if err != nil {
		return nil, err
	}
	k, err := hpke.NewDHKEMPublicKey(pub)
	if err != nil {
		return nil, fault.Invalid.Errorf("seal to %s: %w", to, err)
	}
	sealed, err := hpke.Seal(k, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), sealInfo(info), plaintext)
	if err != nil {
		return nil, fault.Invalid.Errorf("seal to %s: %w", to, err)
	}
	return sealed, nil
}

// Open is the inverse of Seal, for the owner of the key. It gives Invalid whatever is
// wrong: another recipient, other info, altered bytes.
func (k Key) Open(info, sealed []byte) ([]byte, error) {
	if k.IsZero() {
		return nil, fault.Denied.Errorf("no private key to open with: name an identity first")
	}
	if len(sealed) > MaxSealed {
		return nil, fault.Invalid.Errorf("sealed text of %d bytes, want at most %d", len(sealed), MaxSealed)
	}
	if s, ok := k.signer.(secpSigner); ok {
		return openSecp256k1(s.priv, k.public, info, sealed)
	}
	priv, err := k.agreement()
	if err != nil {
		return nil, err
	}
	h, err := hpke.NewDHKEMPrivateKey(priv)
	if err != nil {
		return nil, fault.Invalid.Errorf("open with %s: %w", k, err)
	}
	text, err := hpke.Open(h, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), sealInfo(info), sealed)
	if err != nil {
		return nil, k.errOpen()
	}
	return text, nil
}

func (k Key) errOpen() error {
	return fault.Invalid.Errorf("the sealed text does not open with the key of %s: it is for somebody or something else, or was altered", k.DID())
}

func sealInfo(info []byte) []byte { return append([]byte(sealDomain), info...) }

// agreement returns the public key as one that keys are agreed on with.
func (k PublicKey) agreement() (*ecdh.PublicKey, error) {
	if k.Algorithm() == ES256 {
		pub, err := ecdh.P256().NewPublicKey(uncompressedP256(k))
		if err != nil {
			return nil, errNoPoint(k)
		}
		return pub, nil
	}
	p, err := new(edwards25519.Point).SetBytes([]byte(k[prefixSize:]))
	if err != nil {
		return nil, errNoPoint(k)
	}
	// With a point of small order the agreed secret is known to everybody.
	if new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return nil, errNoPoint(k)
	}
	return ecdh.X25519().NewPublicKey(p.BytesMontgomery())
}

func errNoPoint(k PublicKey) error {
	return fault.Invalid.Errorf("seal to %s: that is no key that anybody has", k)
}

// agreement returns the private half of PublicKey.agreement.
func (k Key) agreement() (*ecdh.PrivateKey, error) {
	if k.Algorithm() == ES256 {
		return ecdh.P256().NewPrivateKey(k.secret[:])
	}
	h := sha512.Sum512(k.secret[:]) // its first half, clamped, is the scalar of the Ed25519 key
	return ecdh.X25519().NewPrivateKey(h[:32])
}

// sealOverhead is the most that Seal adds: an uncompressed point and a tag.
const sealOverhead = 65 + chacha20poly1305.Overhead

// sealSecp256k1 is Seal for secp256k1, with E an ephemeral key, R the recipient's, both
// as compressed points of 33 bytes, and x the x-coordinate of their Diffie-Hellman point,
// 32 bytes, big-endian:
//
//	k ‖ n  = HKDF-SHA256(secret: x, salt: E ‖ R, info: "pando/1 seal secp256k1\n" ‖ info), 32 + 12 bytes
//	sealed = E ‖ ChaCha20-Poly1305(key k, nonce n, aad: E ‖ R, plaintext)
//
// Each E is used once, so no key ever meets a second nonce. The order of the group is
// prime: there are no points of small order.
func sealSecp256k1(to PublicKey, info, plaintext []byte) ([]byte, error) {
	e, err := secp256k1.GeneratePrivateKeyFromRand(rand.Reader)
	if err != nil {
		return nil, fault.Unavailable.Errorf("seal: random bytes: %w", err)
	}
	return sealFrom(e, to, info, plaintext)
}

// sealFrom is sealSecp256k1 with a given ephemeral key.
func sealFrom(e *secp256k1.PrivateKey, to PublicKey, info, plaintext []byte) ([]byte, error) {
	r, err := secp256k1.ParsePubKey([]byte(to[prefixSize:]))
	if err != nil {
		return nil, errNoPoint(to)
	}
	sealed := e.PubKey().SerializeCompressed()
	both := append(sealed[:len(sealed):len(sealed)], to[prefixSize:]...)
	k, nonce, err := agreedSecp256k1(e, r, both, info)
	if err != nil {
		return nil, err
	}
	a, err := chacha20poly1305.New(k)
	if err != nil {
		return nil, err
	}
	return a.Seal(sealed, nonce, plaintext, both), nil
}

func openSecp256k1(priv *secp256k1.PrivateKey, public PublicKey, info, sealed []byte) ([]byte, error) {
	bad := Key{public: public}.errOpen()
	if len(sealed) < compressedSize {
		return nil, bad
	}
	point := sealed[:compressedSize:compressedSize]
	e, err := secp256k1.ParsePubKey(point)
	if err != nil {
		return nil, bad
	}
	both := append(point, public[prefixSize:]...)
	k, nonce, err := agreedSecp256k1(priv, e, both, info)
	if err != nil {
		return nil, err
	}
	a, err := chacha20poly1305.New(k)
	if err != nil {
		return nil, err
	}
	text, err := a.Open(nil, nonce, sealed[compressedSize:], both)
	if err != nil {
		return nil, bad
	}
	return text, nil
}

func agreedSecp256k1(priv *secp256k1.PrivateKey, pub *secp256k1.PublicKey, both, info []byte) (key, nonce []byte, err error) {
	x := secp256k1.GenerateSharedSecret(priv, pub)
	const size = chacha20poly1305.KeySize + chacha20poly1305.NonceSize
	out, err := hkdf.Key(sha256.New, x, both, "pando/1 seal secp256k1\n"+string(info), size)
	if err != nil {
		return nil, nil, err
	}
	return out[:chacha20poly1305.KeySize], out[chacha20poly1305.KeySize:], nil
}

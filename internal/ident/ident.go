// Package ident holds who somebody is: key pairs, the DIDs that name them, and
// signatures, with one verdict on every node; and what members know, their Secret.
//
// It hides the signature algorithms. A signature that one node accepts and
// another refuses would split them for ever, so Ed25519 follows the ZIP-215
// rules, alone and in batches alike, and of the two ECDSA signatures (s and n-s)
// that fit a message only the one with the lower s counts.
package ident

import (
	"github.com/pandodb/pando/internal/fault"
)

// Algorithm names a signature scheme as JOSE does.
type Algorithm string

const (
	EdDSA  Algorithm = "EdDSA"  // Ed25519, the default
	ES256K Algorithm = "ES256K" // ECDSA over secp256k1 with SHA-256
	ES256  Algorithm = "ES256"  // ECDSA over P-256 with SHA-256
)

const (
	// SignatureSize is the length of a signature, whatever the algorithm.
	SignatureSize = 64
	// MaxPublicKeySize is the length of the longest public key.
	MaxPublicKeySize = prefixSize + compressedSize

	prefixSize     = 2  // all our multicodecs are varints of two bytes
	ed25519Size    = 32 // of a public key, and of a seed
	compressedSize = 33 // of a point on an ECDSA curve: parity and x
)

// The multicodec prefixes of public keys, as they stand in a DID.
const (
	ed25519Prefix   = "\xed\x01"
	secp256k1Prefix = "\xe7\x01"
	p256Prefix      = "\x80\x24"
)

// PublicKey is a public key in its multicodec form: a two-byte prefix that names
// the algorithm, then 32 bytes for Ed25519 or a compressed point of 33 bytes.
// The zero value is nobody's.
type PublicKey string

// Algorithm returns the scheme of the key, or "" if the prefix names none we know.
func (k PublicKey) Algorithm() Algorithm {
	if len(k) < prefixSize {
		return ""
	}
	switch k[:prefixSize] {
	case ed25519Prefix:
		return EdDSA
	case secp256k1Prefix:
		return ES256K
	case p256Prefix:
		return ES256
	}
	return ""
}

// Check returns why k is not a well-formed public key: a known prefix with the
// right number of bytes after it. Whether these are a point of the curve is left
// to Verify, which costs far more and refuses everything if they are not.
func (k PublicKey) Check() error {
	want := 0
	switch k.Algorithm() {
	case EdDSA:
		want = prefixSize + ed25519Size
	case ES256K, ES256:
		want = prefixSize + compressedSize
	default:
		return fault.Invalid.Errorf("public key of unknown algorithm: want Ed25519, secp256k1 or P-256 in multicodec form")
	}
	if len(k) != want {
		return fault.Invalid.Errorf("public key for %s of %d bytes, want %d", k.Algorithm(), len(k), want)
	}
	if want == prefixSize+compressedSize && k[prefixSize] != 2 && k[prefixSize] != 3 {
		return fault.Invalid.Errorf("public key for %s is not a compressed point: first byte %#02x, want 0x02 or 0x03", k.Algorithm(), k[prefixSize])
	}
	return nil
}

// Verify reports whether sig is k's signature of msg.
func (k PublicKey) Verify(msg, sig []byte) bool {
	if len(sig) != SignatureSize || k.Check() != nil {
		return false
	}
	switch k.Algorithm() {
	case EdDSA:
		return verifyEd25519(k, msg, sig)
	case ES256K:
		return verifySecp256k1(k, msg, sig)
	case ES256:
		return verifyP256(k, msg, sig)
	}
	return false
}

// DID returns the did:key of k, or "" for the zero key.
func (k PublicKey) DID() DID {
	if k == "" {
		return ""
	}
	return DID(didPrefix + encodeBase58(string(k)))
}

// String returns the DID.
func (k PublicKey) String() string { return string(k.DID()) }

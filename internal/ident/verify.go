package ident

import (
	stdecdsa "crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/hdevalence/ed25519consensus"
)

// verifyEd25519 applies the rules of ZIP-215. What the standard library accepts
// is a subset of them and it is twice as fast, so the slow way is only taken by
// what it refuses: crafted and forged signatures.
func verifyEd25519(k PublicKey, msg, sig []byte) bool {
	pub := ed25519.PublicKey(k[prefixSize:])
	return ed25519.Verify(pub, msg, sig) || ed25519consensus.Verify(pub, msg, sig)
}

func verifySecp256k1(k PublicKey, msg, sig []byte) bool {
	pub, err := secp256k1.ParsePubKey([]byte(k[prefixSize:]))
	if err != nil {
		return false
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) { // they overflow: a second form of a smaller number
		return false
	}
	if s.IsOverHalfOrder() {
		return false
	}
	sum := sha256.Sum256(msg)
	return ecdsa.NewSignature(&r, &s).Verify(sum[:], pub)
}

var (
	p256Order     = elliptic.P256().Params().N
	p256HalfOrder = new(big.Int).Rsh(p256Order, 1)
)

func verifyP256(k PublicKey, msg, sig []byte) bool {
	pub, err := stdecdsa.ParseUncompressedPublicKey(elliptic.P256(), uncompressedP256(k))
	if err != nil {
		return false
	}
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	if s.Cmp(p256HalfOrder) > 0 {
		return false
	}
	sum := sha256.Sum256(msg)
	return stdecdsa.Verify(pub, sum[:], r, s) // refuses r and s outside 1..n-1
}

// uncompressedP256 returns 4 ‖ x ‖ y, or nothing, which nobody takes for a point, if the key
// is none of the curve.
func uncompressedP256(k PublicKey) []byte {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), []byte(k[prefixSize:]))
	if x == nil {
		return nil
	}
	point := make([]byte, 65)
	point[0] = 4
	x.FillBytes(point[1:33])
	y.FillBytes(point[33:])
	return point
}

// minBatch is the number of Ed25519 signatures from which verifying them
// together is faster than one by one.
const minBatch = 4

// Batch verifies many signatures at once, which costs about half as much for
// Ed25519 as one by one. The verdicts are those of PublicKey.Verify. The zero
// value is empty and ready for use; it keeps what Add is given until Verify.
type Batch struct {
	entries []entry
}

type entry struct {
	key      PublicKey
	msg, sig []byte
}

// Add puts one signature into the batch.
func (b *Batch) Add(k PublicKey, msg, sig []byte) {
	b.entries = append(b.entries, entry{k, msg, sig})
}

// Grow makes room for n more signatures.
func (b *Batch) Grow(n int) {
	if free := cap(b.entries) - len(b.entries); free < n {
		b.entries = append(make([]entry, 0, len(b.entries)+n), b.entries...)
	}
}

// Len returns the number of signatures added since the last Verify.
func (b *Batch) Len() int { return len(b.entries) }

// Verify returns, in ascending order, the positions of the signatures that are
// wrong, counted in the order of Add, and empties the batch.
func (b *Batch) Verify() (bad []int) {
	together := b.verifyTogether()
	for i, e := range b.entries {
		if together && e.key.Algorithm() == EdDSA {
			continue
		}
		if !e.key.Verify(e.msg, e.sig) {
			bad = append(bad, i)
		}
	}
	clear(b.entries)
	b.entries = b.entries[:0]
	return bad
}

// verifyTogether reports that every Ed25519 signature of the batch is good. False
// means nothing: there may be too few to be worth it, or one bad among them.
func (b *Batch) verifyTogether() bool {
	n := 0
	for _, e := range b.entries {
		if e.key.Algorithm() == EdDSA {
			n++
		}
	}
	if n < minBatch {
		return false
	}
	v := ed25519consensus.NewPreallocatedBatchVerifier(n)
	for _, e := range b.entries {
		if e.key.Algorithm() == EdDSA {
			v.Add(ed25519.PublicKey(e.key[prefixSize:]), e.msg, e.sig)
		}
	}
	return v.Verify()
}

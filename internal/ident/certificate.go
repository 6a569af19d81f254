package ident

import (
	"crypto/sha256"
	"time"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
)

// Certificate is the word of an identity and of a peer that the peer acts for the
// identity, between two instants, both included: it may read what the identity may
// read. Whoever else holds the certificate can do nothing with it, for the peer's key
// is proved by each connection. That both signed means that nobody can pass off
// somebody's peer as their own, nor themselves as somebody's peer.
//
// It lets nothing be signed: commits are signed by the identity's own key, or under a
// Delegation. It cannot be taken back, so make it short and renew it.
type Certificate struct {
	Owner PublicKey // the identity that the peer acts for
	Peer  PublicKey // an Ed25519 key: what its peer id is made of
	// NotBefore and NotAfter count in whole milliseconds. Clocks differ: a certificate
	// that is to be good at once begins a while ago.
	NotBefore, NotAfter time.Time
}

// MaxCertificateSize bounds what OpenCertificate looks at. No certificate is as large.
const MaxCertificateSize = 512

const (
	certificateVersion = 1
	certificateParts   = 5
	certificateDomain  = "pando/1 certificate\n"
)

// Seal returns the certificate in its one form, signed by both.
func (c Certificate) Seal(owner, peer Key) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if owner.Public() != c.Owner {
		return nil, fault.Denied.Errorf("seal certificate: the key is %s, want that of the owner %s", owner, c.Owner)
	}
	if peer.Public() != c.Peer {
		return nil, fault.Denied.Errorf("seal certificate: the key is %s, want that of the peer %s", peer, c.Peer)
	}
	return seal(certificateDomain, c.append(nil), owner, peer)
}

// OpenCertificate decodes a certificate strictly and verifies both signatures. It
// gives Invalid for everything that Seal does not make, on every node. One that was
// found good lately costs no second verification. Whether it holds now, and for whom,
// Valid tells.
func OpenCertificate(b []byte) (Certificate, error) {
	if len(b) > MaxCertificateSize {
		return Certificate{}, fault.Invalid.Errorf("certificate of %d bytes, want at most %d", len(b), MaxCertificateSize)
	}
	id := sha256.Sum256(b)
	if c, ok := certified.get(id); ok {
		return c, nil
	}
	c, s, err := parseCertificate(b)
	if err != nil {
		return Certificate{}, err
	}
	if !s.signed(certificateDomain, c.Owner, c.Peer) {
		return Certificate{}, fault.Invalid.Errorf("certificate: the signatures are not those of its owner %s and its peer %s", c.Owner, c.Peer)
	}
	certified.put(id, c)
	return c, nil
}

// Valid returns why the certificate does not let a peer act for its owner at that
// time, or nil.
func (c Certificate) Valid(peer PublicKey, now time.Time) error {
	switch {
	case peer != c.Peer:
		return fault.Denied.Errorf("certificate: made for the peer %s, not for %s", c.Peer, peer)
	case now.Before(c.NotBefore):
		return fault.Denied.Errorf("certificate: it begins at %s, after %s: check the clocks", stamp(c.NotBefore), stamp(now))
	case now.Truncate(time.Millisecond).After(c.NotAfter):
		return fault.Denied.Errorf("certificate: it ended at %s, before %s: its owner has to make a new one", stamp(c.NotAfter), stamp(now))
	}
	return nil
}

func (c Certificate) check() error {
	if err := c.Owner.Check(); err != nil {
		return fault.Invalid.Errorf("certificate: owner: %w", err)
	}
	if err := c.Peer.Check(); err != nil {
		return fault.Invalid.Errorf("certificate: peer: %w", err)
	}
	if c.Peer.Algorithm() != EdDSA {
		return fault.Invalid.Errorf("certificate: a %s key cannot name a peer, want an %s key", c.Peer.Algorithm(), EdDSA)
	}
	if c.Owner == c.Peer {
		return fault.Invalid.Errorf("certificate: owner and peer are the same: a peer needs none to act for itself")
	}
	return checkSpan("certificate", c.NotBefore, c.NotAfter)
}

func (c Certificate) append(b []byte) []byte {
	b = cbor.AppendArray(b, certificateParts)
	b = cbor.AppendUint(b, certificateVersion)
	b = cbor.AppendBytes(b, []byte(c.Owner))
	b = cbor.AppendBytes(b, []byte(c.Peer))
	b = cbor.AppendUint(b, uint64(c.NotBefore.UnixMilli()))
	return cbor.AppendUint(b, uint64(c.NotAfter.UnixMilli()))
}

func parseCertificate(b []byte) (c Certificate, s statement, err error) {
	if s, err = readStatement("certificate", b, 2); err != nil {
		return c, s, err
	}
	r := cbor.NewReader(s.text)
	parts, version := r.Array(), r.Uint()
	if r.Err() == nil && (parts != certificateParts || version != certificateVersion) {
		return c, s, fault.Invalid.Errorf("certificate: version %d with %d parts, want version %d with %d", version, parts, certificateVersion, certificateParts)
	}
	c.Owner, c.Peer = PublicKey(r.Bytes()), PublicKey(r.Bytes())
	c.NotBefore, c.NotAfter = readInstant(r), readInstant(r)
	if err := r.Done(); err != nil {
		return Certificate{}, s, fault.Invalid.Errorf("certificate: %w", err)
	}
	if err := c.check(); err != nil {
		return Certificate{}, s, err
	}
	return c, s, nil
}

// certified are the certificates that were found good lately.
var certified = proofs[Certificate]{good: map[[32]byte]Certificate{}}

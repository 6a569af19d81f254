package host

import (
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// ed25519Code is the multicodec of Ed25519 public keys.
const ed25519Code = "\xed\x01"

// KeyOf returns the key that a peer ID is made of, "" if that is not one of Pando's.
func KeyOf(p peer.ID) ident.PublicKey {
	public, err := p.ExtractPublicKey()
	if err != nil || public.Type() != crypto.Ed25519 {
		return ""
	}
	raw, err := public.Raw()
	if err != nil {
		return ""
	}
	return ident.PublicKey(ed25519Code + string(raw))
}

// PeerOf is the inverse of KeyOf.
func PeerOf(k ident.PublicKey) (peer.ID, error) {
	if k.Algorithm() != ident.EdDSA {
		return "", fault.Invalid.Errorf("%s is of an %s key, which no peer has: name its peer id", k.DID(), k.Algorithm())
	}
	public, err := crypto.UnmarshalEd25519PublicKey([]byte(k[len(ed25519Code):]))
	if err != nil {
		return "", fault.Invalid.Errorf("%s: %w", k.DID(), err)
	}
	return peer.IDFromPublicKey(public)
}

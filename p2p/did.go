package p2p

import (
	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// ed25519Prefix is the multicodec of Ed25519 public keys.
const ed25519Prefix = "\xed\x01"

// DIDOf returns the DID of the key by which a node is known to its peers: of a peer id, of an
// address that ends with one, or of a did:key.
func DIDOf(peer string) (pando.DID, error) {
	id, err := parseID(peer)
	if err != nil {
		return "", err
	}
	public, err := id.ExtractPublicKey()
	if err != nil || public.Type() != crypto.Ed25519 {
		return "", fault.Invalid.Errorf("peer %q: it is not known by an Ed25519 key, as nodes are: want a peer id, such as 12D3KooW…", peer)
	}
	raw, err := public.Raw()
	if err != nil {
		return "", fault.Invalid.Errorf("peer %q: %w", peer, err)
	}
	return ident.PublicKey(ed25519Prefix + string(raw)).DID(), nil
}

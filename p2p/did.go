package p2p

import (
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// DIDOf returns the DID of the key by which a node is known to its peers: of a peer id, of an
// address that ends with one, or of a did:key.
func DIDOf(name string) (pando.DID, error) {
	id, err := parseID(name)
	if err != nil {
		return "", err
	}
	key := publicKeyOf(id)
	if key == "" {
		return "", fault.Invalid.Errorf("peer %q: it is not known by an Ed25519 key, as nodes are: want a peer id, such as 12D3KooW…", name)
	}
	return key.DID(), nil
}

// ed25519Code is the multicodec of Ed25519 public keys.
const ed25519Code = "\xed\x01"

// publicKeyOf returns the key that a peer ID is made of, "" if that is not one of Pando's.
func publicKeyOf(p peer.ID) ident.PublicKey {
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

// parseIDs reads names of peers: peer ids, addresses that end with one, or the DIDs
// that their commits are signed with.
func parseIDs(texts []string) ([]peer.ID, error) {
	var out []peer.ID
	for _, s := range texts {
		p, err := parseID(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func parseID(s string) (peer.ID, error) {
	if len(s) > 4 && s[:4] == "did:" {
		return peerOfDID(s)
	}
	if len(s) > 0 && s[0] == '/' {
		a, err := peer.AddrInfoFromString(s)
		if err != nil {
			return "", fault.Invalid.Errorf("peer %q: %w: want an address that ends with /p2p/PEERID", s, err)
		}
		return a.ID, nil
	}
	p, err := peer.Decode(s)
	if err != nil {
		return "", fault.Invalid.Errorf("peer %q: %w: want a peer id, such as 12D3KooW…, or a did:key", s, err)
	}
	return p, nil
}

// peerOfDID returns the peer whose key a DID names: a node signs with the key that
// it is known by, unless it was given another.
func peerOfDID(s string) (peer.ID, error) {
	d, err := ident.ParseDID(s)
	if err != nil {
		return "", err
	}
	k, err := d.PublicKey()
	if err != nil {
		return "", err
	}
	if k.Algorithm() != ident.EdDSA {
		return "", fault.Invalid.Errorf("%s is of an %s key, which no peer has: name its peer id", s, k.Algorithm())
	}
	public, err := crypto.UnmarshalEd25519PublicKey([]byte(k[len(ed25519Code):]))
	if err != nil {
		return "", fault.Invalid.Errorf("%s: %w", s, err)
	}
	return peer.IDFromPublicKey(public)
}

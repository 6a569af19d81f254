package p2p

import (
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/ident"
)

// DIDOf returns the DID of the key by which a node is known to its peers: of a peer id, of an
// address that ends with one, or of a did:key.
func DIDOf(name string) (pando.DID, error) {
	id, err := parseID(name)
	if err != nil {
		return "", err
	}
	key := host.KeyOf(id)
	if key == "" {
		return "", fault.Invalid.Errorf("peer %q: it is not known by an Ed25519 key, as nodes are: want a peer id, such as 12D3KooW…", name)
	}
	return key.DID(), nil
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
	return host.PeerOf(k)
}

package p2p

import (
	"errors"
	"testing"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

func TestAPeerIsAlsoADID(t *testing.T) {
	t.Parallel()
	k, err := ident.Generate(ident.EdDSA)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peerOfDID(string(k.DID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{id.String(), "/ip4/192.0.2.1/tcp/9171/p2p/" + id.String(), string(k.DID())} {
		if got, err := DIDOf(name); err != nil || got != k.DID() {
			t.Errorf("%s: %s, %v, want %s", name, got, err, k.DID())
		}
	}
	// The peer id of an RSA key is a hash, and the last one is of no key at all.
	for _, name := range []string{"", "ada", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "1", "did:web:example.org"} {
		if got, err := DIDOf(name); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %s, %v, want invalid", name, got, err)
		}
	}
}

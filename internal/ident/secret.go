package ident

import (
	"crypto/hmac"
	"crypto/sha256"
)

// Secret is what the members of a collection know, and nobody else. It is sent to new
// members only: what is shown to others, or seals something, follows from it.
type Secret [16]byte

// Derive returns what stands for the secret in one use: HMAC-SHA256 under it over the label
// of that use, so that no value of one serves in another, and parts. Each part has a
// fixed length or, as a peer ID, says itself how long it is.
func (s Secret) Derive(label string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, s[:])
	h.Write([]byte(label))
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

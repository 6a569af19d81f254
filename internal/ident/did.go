package ident

import (
	"slices"

	"github.com/pandodb/pando/internal/fault"
)

// DID names an identity: the did:key of its public key, such as "did:key:z6Mk…".
// A DID made by ParseDID or PublicKey.DID is canonical, so equal identities are
// equal strings.
type DID string

// didPrefix ends in z, which marks base58btc.
const didPrefix = "did:key:z"

// maxDIDSize bounds the work of decoding: base58 needs 1.37 characters a byte.
const maxDIDSize = len(didPrefix) + MaxPublicKeySize*138/100 + 1

// ParseDID returns s as a DID, or Invalid if it is not the did:key of a key that
// we can verify.
func ParseDID(s string) (DID, error) {
	d := DID(s)
	if _, err := d.PublicKey(); err != nil {
		return "", err
	}
	return d, nil
}

// PublicKey returns the key that d names.
func (d DID) PublicKey() (PublicKey, error) {
	if len(d) < len(didPrefix) || d[:len(didPrefix)] != didPrefix {
		return "", fault.Invalid.Errorf("did %.80q: want a did:key in base58, such as did:key:z6Mk…", string(d))
	}
	if len(d) > maxDIDSize {
		return "", fault.Invalid.Errorf("did %.80q…: %d characters, want at most %d", string(d), len(d), maxDIDSize)
	}
	raw, ok := decodeBase58(string(d[len(didPrefix):]))
	if !ok {
		return "", fault.Invalid.Errorf("did %q: a character is not of the base58 alphabet", string(d))
	}
	k := PublicKey(raw)
	if err := k.Check(); err != nil {
		return "", fault.Invalid.Errorf("did %q: %w", string(d), err)
	}
	return k, nil
}

// String returns the text of the DID.
func (d DID) String() string { return string(d) }

const base58Alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

var base58Digit = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range len(base58Alphabet) {
		t[base58Alphabet[i]] = int8(i)
	}
	return t
}()

// encodeBase58 writes raw as one big number in base 58, with a '1' for every
// leading zero byte.
func encodeBase58(raw string) string {
	zeros := 0
	for zeros < len(raw) && raw[zeros] == 0 {
		zeros++
	}
	digits := make([]byte, 0, len(raw)*138/100+1) // least significant first
	for i := zeros; i < len(raw); i++ {
		carry := int(raw[i])
		for j, d := range digits {
			carry += int(d) << 8
			digits[j] = byte(carry % 58)
			carry /= 58
		}
		for ; carry > 0; carry /= 58 {
			digits = append(digits, byte(carry%58))
		}
	}
	text := make([]byte, 0, zeros+len(digits))
	for range zeros {
		text = append(text, base58Alphabet[0])
	}
	for i := len(digits) - 1; i >= 0; i-- {
		text = append(text, base58Alphabet[digits[i]])
	}
	return string(text)
}

// decodeBase58 is the inverse of encodeBase58. Its time is quadratic: the caller
// bounds the length.
func decodeBase58(text string) (string, bool) {
	zeros := 0
	for zeros < len(text) && text[zeros] == base58Alphabet[0] {
		zeros++
	}
	raw := make([]byte, 0, len(text)) // least significant first
	for i := zeros; i < len(text); i++ {
		carry := int(base58Digit[text[i]])
		if carry < 0 {
			return "", false
		}
		for j, b := range raw {
			carry += int(b) * 58
			raw[j] = byte(carry)
			carry >>= 8
		}
		for ; carry > 0; carry >>= 8 {
			raw = append(raw, byte(carry))
		}
	}
	for range zeros {
		raw = append(raw, 0)
	}
	slices.Reverse(raw)
	return string(raw), true
}

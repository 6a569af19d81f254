package radix

import (
	"encoding/hex"

	"github.com/pandodb/pando/internal/fault"
)

// maxLen is the number of nibbles in a key.
const maxLen = 2 * len(Element{}.Key)

// Prefix is the beginning of keys: up to 64 nibbles, the high one of a byte
// first. The zero value is the prefix of all keys. Prefixes are comparable.
type Prefix struct {
	bits [32]byte // nibbles past n are 0
	n    uint8
}

// PrefixOf returns the first n nibbles of key; n is at most 64.
func PrefixOf(key [32]byte, n int) Prefix {
	p := Prefix{n: uint8(n)}
	copy(p.bits[:], key[:(n+1)/2])
	if n%2 == 1 {
		p.bits[n/2] &= 0xf0
	}
	return p
}

// Len returns the number of nibbles.
func (p Prefix) Len() int { return int(p.n) }

// At returns the nibble with index i, counted from 0.
func (p Prefix) At(i int) int { return nibble(&p.bits, i) }

// Child returns the prefix that is longer by the nibble i. A whole key has no
// children: it is its own.
func (p Prefix) Child(i int) Prefix {
	if p.Len() == maxLen {
		return p
	}
	p.bits[p.n/2] |= byte(i&0xf) << (4 * (1 - p.n%2))
	p.n++
	return p
}

// Contains reports whether key begins with the prefix.
func (p Prefix) Contains(key [32]byte) bool { return PrefixOf(key, p.Len()) == p }

// Range returns the first and the last key that begin with the prefix.
func (p Prefix) Range() (lo, hi [32]byte) {
	lo, hi = p.bits, p.bits
	for i := p.Len(); i < maxLen; i++ {
		hi[i/2] |= 0xf << (4 * (1 - i%2))
	}
	return lo, hi
}

// String returns the nibbles in hexadecimal.
func (p Prefix) String() string { return hex.EncodeToString(p.bits[:])[:p.n] }

// AppendBinary appends the form of the prefix on the wire: the number of
// nibbles in one byte, then the nibbles, two in a byte, a last lone one high.
func (p Prefix) AppendBinary(b []byte) []byte {
	return append(append(b, p.n), p.bits[:(p.n+1)/2]...)
}

// ParsePrefix reads what AppendBinary wrote, and nothing else.
func ParsePrefix(b []byte) (Prefix, error) {
	if len(b) == 0 || int(b[0]) > maxLen || len(b) != 1+(int(b[0])+1)/2 {
		return Prefix{}, fault.Invalid.Errorf("prefix of keys: %d bytes are not a length of at most %d and as many nibbles", len(b), maxLen)
	}
	var key [32]byte
	copy(key[:], b[1:])
	p := PrefixOf(key, int(b[0]))
	if p.bits != key {
		return Prefix{}, fault.Invalid.Errorf("prefix of keys: the unused half of the last byte is not 0")
	}
	return p, nil
}

func nibble(key *[32]byte, i int) int { return int(key[i/2]>>(4*(1-i%2))) & 0xf }

package token

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/pandodb/pando/internal/ident"
)

// maxKept bounds the memory of verified tokens to some 6 MB if all carry delegations of
// the largest size, and to less than 1 MB as they are.
const maxKept = 1024

// Verifier verifies the tokens that are shown to a node. One that was found good lately
// costs no second verification of its signature. It is safe for concurrent use.
type Verifier struct {
	audience ident.DID

	mu   sync.Mutex // guards good
	good map[[sha256.Size]byte]*Claims
}

// NewVerifier returns a verifier of tokens for a node.
func NewVerifier(audience ident.DID) *Verifier {
	return &Verifier{audience: audience, good: map[[sha256.Size]byte]*Claims{}}
}

// Audience returns for whom tokens must be.
func (v *Verifier) Audience() ident.DID { return v.audience }

// Verify is the function of that name, for the node of the verifier. The result must not
// be changed.
func (v *Verifier) Verify(text string, now time.Time) (*Claims, error) {
	if len(text) > MaxSize {
		return open(text) // which says so
	}
	var room [1 << 10]byte // most tokens fit, and cost no allocation
	id := sha256.Sum256(append(room[:0], text...))
	v.mu.Lock()
	c := v.good[id]
	v.mu.Unlock()
	if c != nil {
		if err := c.Holds(now); err != nil {
			return nil, err
		}
		return c, nil
	}
	c, err := Verify(text, v.audience, now)
	if err == nil {
		v.keep(id, c, now)
	}
	return c, err
}

// keep remembers a token. Who comes back after its place was given away is verified once
// more.
func (v *Verifier) keep(id [sha256.Size]byte, c *Claims, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.good) >= maxKept {
		for old, held := range v.good {
			if held.Holds(now) != nil {
				delete(v.good, old)
			}
		}
	}
	for old := range v.good {
		if len(v.good) < maxKept {
			break
		}
		delete(v.good, old)
	}
	v.good[id] = c
}

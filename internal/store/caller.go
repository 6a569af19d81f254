package store

import (
	"crypto/sha256"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
)

// Caller is on whose behalf a transaction runs: what it may read, and how what it
// writes is signed. The zero Caller is nobody: it reads what everybody may read and
// signs nothing.
type Caller struct {
	Key    ident.Key         // signs
	Author ident.PublicKey   // on whose behalf; "": the key's own; alone, see Drafting
	Proof  []byte            // the delegation by which Key may sign for Author; nil without Author
	Reads  []ident.PublicKey // further identities that it reads as: it has proved that it acts for them

	system bool
	peer   *Peer // it takes commits elsewhere
}

// Peer says what is given to another node besides what its identities may read. What is
// locked here is given too: keys may be there.
type Peer struct {
	Hub   bool // also what is sealed as a whole, and it cannot read
	Blind bool // nothing but what is sealed as a whole
}

// As returns the caller who takes commits to another node, as those identities.
func (p Peer) As(keys ...ident.PublicKey) Caller { return Caller{Reads: keys, peer: &p} }

// System is the database itself: it reads everything and signs nothing. Merges,
// checks and the making of indexes run as System.
var System = Caller{system: true}

// As returns the caller who owns a key.
func As(key ident.Key) Caller { return Caller{Key: key} }

// IsSystem reports whether the caller is the database itself.
func (c Caller) IsSystem() bool { return c.system }

// Public returns who the caller is to others, "" if nobody: the author of its commits.
func (c Caller) Public() ident.PublicKey {
	if c.Author != "" {
		return c.Author
	}
	return c.Key.Public()
}

// Keys returns the identities that the caller reads as.
func (c Caller) Keys() []ident.PublicKey {
	var keys []ident.PublicKey
	if k := c.Public(); k != "" {
		keys = append(keys, k)
	}
	return append(keys, c.Reads...)
}

// signs completes who made a commit.
func (c Caller) signs(cm *dag.Commit) {
	cm.Author = dag.Author{Key: c.Public()}
	if c.Author != "" && c.Author != c.Key.Public() && !c.Key.IsZero() {
		cm.Author.Via, cm.Author.Proof = c.Key.Public(), sha256.Sum256(c.Proof)
		cm.Proof = c.Proof
	}
}

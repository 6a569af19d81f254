// Package veil hides the contents of documents from those who keep them and may not
// read them: which parts of a commit are encrypted, under which secrets, who is given
// these, and which of them may still be used.
//
// It is pure: no clock, no storage, no network; randomness comes in as an argument.
//
// An epoch is a time in the life of a document with one secret, of which the keys of
// its encrypted segments are derived. Commits begin epochs, give their secrets to
// readers, and seal the secret of an earlier epoch under that of a later one, by
// operations in clear on a reserved field ([Op]). What they come to is a [State],
// which is a function of the set of the document's commits and does not depend on
// which secrets are known here. A [Finder] finds secrets with the private keys that a
// node has; a [Plan] says what a writer has to do so that exactly the readers can
// read what it writes. [State.Check] is what everybody checks, also who can read
// nothing. docs/design/0010-encryption.md says why.
package veil

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/pandodb/pando/internal/acp"
)

// ID names a commit or a document.
type ID = acp.ID

// Limits. Those of a commit are part of the rules.
const (
	// MaxReaders bounds the keys that one commit gives an epoch to: a wrap has some
	// 120 bytes, and a commit at most 256 KiB.
	MaxReaders = 1024
	// MaxFields bounds the fields with keys of their own. A commit has at most 8
	// segments: that in clear, that of the document, and these.
	MaxFields = 6
	// MaxLinks bounds the earlier epochs that one commit seals under a later one.
	MaxLinks = 64
	// maxSealed bounds a wrapped secret. That to a point of P-256 is the longest.
	maxSealed = 128
)

const (
	secretSize = 32

	epochDomain   = "pando/1 epoch\n"
	wrapDomain    = "pando/1 epoch secret\n"
	linkDomain    = "pando/1 epoch link\n"
	segmentDomain = "pando/1 segment\n"
)

// EpochID names an epoch for ever: the hash of its document and its secret. So who is
// given a secret knows that it is the right one, and nobody can give two.
type EpochID [32]byte

// Compare orders by bytes.
func (e EpochID) Compare(o EpochID) int { return bytes.Compare(e[:], o[:]) }

// Number is what the header of a commit calls the epoch: the first 63 bits.
func (e EpochID) Number() uint64 { return binary.BigEndian.Uint64(e[:]) >> 1 }

// Secret is what the keys of an epoch are derived of.
type Secret [secretSize]byte

// NewSecret draws a secret.
func NewSecret(r io.Reader) (s Secret, err error) {
	if _, err := io.ReadFull(r, s[:]); err != nil {
		return s, fmt.Errorf("random bytes for a secret: %w", err)
	}
	return s, nil
}

// Epoch returns the epoch of a document that has this secret.
func (s Secret) Epoch(doc ID) EpochID {
	b := make([]byte, 0, len(epochDomain)+len(doc)+len(s))
	b = append(append(append(b, epochDomain...), doc[:]...), s[:]...)
	return sha256.Sum256(b)
}

// String hides the secret from logs.
func (s Secret) String() string { return "secret" }

// GoString hides the secret from logs.
func (s Secret) GoString() string { return "secret" }

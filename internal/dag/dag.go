// Package dag defines the commit: the signed, content-addressed unit of change,
// its one canonical form, and what makes it valid.
//
// It hides the bytes. Whether a commit is valid follows from its bytes and its
// parents alone, so that every node gives the same verdict for ever; nothing here
// reads a clock, a disk or a schema. The format is written down in docs/format.md.
package dag

import (
	"slices"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/ident"
)

// CID names a commit: the SHA-256 of its header. Its text form is a CIDv1
// (dag-cbor, sha2-256) in lower-case base32.
type CID [32]byte

// DocID names a document for ever. Its text form is a CIDv1 (raw, sha2-256) in
// lower-case base32.
type DocID [32]byte

// CollectionID names a collection: the digest of its first schema version.
// Digest names a schema version. Both print as CIDv1 (raw, sha2-256).
type (
	CollectionID [32]byte
	Digest       [32]byte
)

// CommitKind says what a commit is for.
type CommitKind uint8

const (
	Write      CommitKind = 0
	Checkpoint CommitKind = 1
	Redact     CommitKind = 2
	Key        CommitKind = 3

	lastKind = Key
)

// Mode says how a docID comes about.
type Mode uint8

const (
	ModeContent Mode = 0 // from the initial fields: the same contents are the same document
	ModeOwned   Mode = 1 // from the author and the initial fields; only that author may sign a root
	ModeKeyed   Mode = 2 // from the values of the schema's key fields
	ModeUnique  Mode = 3 // from the author and 16 random bytes; only that author may sign a root

	lastMode = ModeUnique
)

// RootSeed is what a docID is the hash of. It travels in root commits.
type RootSeed struct {
	Mode       Mode
	Namespace  []byte // at most MaxNamespace bytes
	Collection CollectionID
	Seed       []byte // at most MaxSeed bytes
}

// Author is who made a commit. If a gateway signed on behalf of the author, Via
// is the gateway's key and Proof the hash of the delegation that allows it.
type Author struct {
	Key   ident.PublicKey
	Via   ident.PublicKey // zero: the author signed
	Proof [32]byte
}

// Signer returns the key that signs: the author's, or that of the gateway.
func (a Author) Signer() ident.PublicKey {
	if a.Via != "" {
		return a.Via
	}
	return a.Key
}

// Txn ties the commits of one transaction over several documents together.
type Txn struct {
	ID    [16]byte
	Count uint64
}

// Segment describes one part of the payload; group 0 is in clear.
type Segment struct {
	Group, Epoch, Len uint64
	Hash              [32]byte
}

// Commit is one signed change of one document.
//
// To make one, fill in Root (or Doc and Parents), Height, HLC, Author.Key, Schema
// and Deltas, then Prepare and Sign it, or Seal. After that, as after Open, it
// must not be changed, and may be read by many.
type Commit struct {
	CID     CID
	Kind    CommitKind
	Doc     DocID
	Root    *RootSeed // of a commit without parents
	Parents []CID     // sorted, unique
	Height  uint64
	HLC     uint64
	Author  Author
	Txn     *Txn
	Schema  Digest
	Auth    []CID
	Segs    []Segment
	Payload [][]byte     // per segment; nil if the commit came as a header alone
	Deltas  []crdt.Delta // of the segment in clear
	Sig     []byte
	Proof   []byte

	header   []byte // whose hash is CID
	envelope []byte // nil until signed
	verified []byte // the mark of when Verify found the signature right
}

// Envelope returns the bytes in which the commit is stored and travels, nil if it
// is not signed yet. They must not be changed.
func (c *Commit) Envelope() []byte { return c.envelope }

// Header returns the bytes that the CID is the hash of, nil before Prepare. They
// must not be changed.
func (c *Commit) Header() []byte { return c.header }

// HeaderOnly reports that the payload is missing: the commit can be checked and
// named as a parent, but not applied.
func (c *Commit) HeaderOnly() bool { return c.Payload == nil }

// Delegated reports that a gateway signed on behalf of the author.
func (c *Commit) Delegated() bool { return c.Author.Via != "" }

// AddSegment adds a part of the payload that this package does not look into: to
// a Write an encrypted one, of a group other than 0. Call it before Prepare.
func (c *Commit) AddSegment(group, epoch uint64, payload []byte) {
	s := Segment{Group: group, Epoch: epoch}
	at, _ := slices.BinarySearchFunc(c.Segs, group, func(s Segment, group uint64) int { return compareUint(s.Group, group) })
	c.Segs = slices.Insert(c.Segs, at, s)
	c.Payload = slices.Insert(c.Payload, at, payload)
}

// Package dag defines the commit: the signed, content-addressed unit of change,
// its one canonical form, and what makes it valid.
package dag

import (
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
)

// Mode says how a docID comes about.
type Mode uint8

const (
	ModeContent Mode = 0 // from the initial fields: the same contents are the same document
	ModeOwned   Mode = 1 // from the author and the initial fields; only that author may sign a root
	ModeKeyed   Mode = 2 // from the values of the schema's key fields
	ModeUnique  Mode = 3 // from the author and 16 random bytes
)

// RootSeed is what a docID is the hash of. It travels in root commits.
type RootSeed struct {
	Mode       Mode
	Namespace  []byte
	Collection CollectionID
	Seed       []byte // at most 256 bytes
}

// Author is who made a commit. If a gateway signed on behalf of the author, Via
// is the gateway's key and Proof the hash of the delegation that allows it.
type Author struct {
	Key   ident.PublicKey
	Via   ident.PublicKey // zero: the author signed
	Proof [32]byte
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
	Deltas  []crdt.Delta // of the segments in clear
	Sig     []byte
	Proof   []byte
}

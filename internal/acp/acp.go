// Package acp decides who may read and write a document: what a policy says, what
// the access operations in the document's history amount to, and which commits
// count.
//
// It is pure: no clock, no storage, no network. All it says of a document is a
// function of the set of the document's commits, so every node comes to the same
// state, byte for byte, and to the same verdicts, whatever the order in which
// commits arrived. The rules are those of docs/access.md, "What a history means";
// oracle_test.go evaluates them literally.
//
// A commit with access operations, operations on keys or auth links is an event. Everything follows
// from the events, so a State holds these, each with the events it stands on. A
// commit that stands on all of them, as nearly all do, is judged by the summary
// in front: the owner and the tuples that are held.
package acp

import (
	"bytes"

	"github.com/pandodb/pando/internal/ident"
)

// ID names a commit or a document.
type ID [32]byte

// Compare orders by bytes.
func (d ID) Compare(o ID) int { return bytes.Compare(d[:], o[:]) }

// Limits. They are part of the rules: every node must refuse the same commits, so
// each speaks of a commit and its ancestors only.
const (
	// MaxOps bounds the access operations of one commit: what one commit adds to
	// the state, and the time to judge it.
	MaxOps = 256
	// MaxAccepted bounds the commits that one commit accepts, which the state of
	// the document keeps.
	MaxAccepted = 256
	// MaxEvents bounds the events below an event: what a state costs to decode. Its
	// owner may add as many again: nobody can fill a document up so that he could not
	// be sent away any more.
	MaxEvents = 4096
	// MaxKnown bounds the auth links of a commit and its ancestors, each counted once:
	// each question who is in a group looks at them. It is as many as anchors can be
	// that name one group. Its owner may name as many again, as of events.
	MaxKnown = 4096
	// MaxTuples bounds the tuples that are held with a commit that grants.
	MaxTuples = 4096
)

// Commit is what package acp needs to know of a commit.
type Commit struct {
	ID     ID
	Height uint64
	Author ident.PublicKey
	// Before are the events it stands on, as State.Join of what its parents have
	// below them and are themselves. State.Above says it of each commit.
	Before Frontier
	Need   Need
	// Auth are its auth links, sorted: what it knows of groups, more than its
	// ancestors do.
	Auth []ID
}

// Event reports whether the commit is part of the access state of its document.
func (c *Commit) Event() bool { return len(c.Need.Ops) > 0 || len(c.Auth) > 0 || c.Need.Keys }

// Members says who belonged to groups.
type Members interface {
	// Member reports whether the key has the relation in the group document, as of
	// the given commits and all their ancestors. Commits of other documents among
	// them are for groups within the group. A group that none of them belongs to
	// has no members. The answer must depend on nothing else. known is sorted.
	Member(known []ID, group ID, relation string, key ident.PublicKey) (bool, error)
}

// Verdict says whether the operations of a valid commit count.
type Verdict uint8

const (
	// Counts: the operations of the commit count.
	Counts Verdict = iota + 1
	// Void: the commit is structure only.
	Void
)

// String returns the name of the verdict.
func (v Verdict) String() string {
	switch v {
	case Counts:
		return "counts"
	case Void:
		return "void"
	}
	return "no verdict"
}

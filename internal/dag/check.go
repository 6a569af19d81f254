package dag

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/pandodb/pando/internal/fault"
)

// Limits of a commit. They are part of the format: a commit beyond them is
// invalid on every node.
const (
	// MaxEnvelope bounds what one commit can make a peer hold in memory, and is a
	// fraction of one frame of the sync protocol.
	MaxEnvelope = 256 << 10
	// MaxParents and MaxAuth bound the work of checking one commit. A document
	// with more heads is gathered by several commits.
	MaxParents = 32
	MaxAuth    = 32
	// MaxSegments is enough for a handful of reader groups in one document.
	MaxSegments = 8
	// MaxOps bounds the state that one commit can add to a document.
	MaxOps = 4096
	// MaxSeed leaves room for the longest public key and a hash, several times.
	MaxSeed = 256
	// MaxNamespace is the length of two hashes.
	MaxNamespace = 64
	// MaxNumber bounds every number of the header: some languages have no
	// unsigned integers of 64 bits.
	MaxNumber = math.MaxInt64
)

// MaxAhead is how far a commit's clock may run before ours. One that is further
// ahead waits; rejecting it would make validity depend on the time of receipt.
const MaxAhead = 5 * time.Minute

// ErrDeferred marks a commit that breaks no rule but cannot be applied now: its
// parents are missing, its clock is ahead, or its format is newer than this node.
var ErrDeferred = fault.Unavailable.Errorf("commit cannot be applied yet")

func invalid(format string, args ...any) error {
	return fault.Invalid.Errorf("commit: "+format, args...)
}

// check returns which rule the commit breaks, of those that need nothing but the
// commit and no cryptography.
func (c *Commit) check() error {
	if c.Kind > lastKind {
		return invalid("kind %d is unknown: want at most %d", c.Kind, lastKind)
	}
	if err := c.checkPlace(); err != nil {
		return err
	}
	if err := c.Author.check(); err != nil {
		return err
	}
	if c.Txn != nil && (c.Txn.Count == 0 || c.Txn.Count > MaxNumber) {
		return invalid("transaction of %d commits: count this one too", c.Txn.Count)
	}
	if len(c.Auth) > MaxAuth {
		return invalid("%d auth links, want at most %d", len(c.Auth), MaxAuth)
	}
	if !sortedUnique(c.Auth) {
		return invalid("auth links are not sorted and unique")
	}
	return c.checkSegments()
}

// checkPlace checks where the commit stands in its document's graph.
func (c *Commit) checkPlace() error {
	if len(c.Parents) > MaxParents {
		return invalid("%d parents, want at most %d: merge the heads in several commits", len(c.Parents), MaxParents)
	}
	if !sortedUnique(c.Parents) {
		return invalid("parents are not sorted and unique")
	}
	if c.HLC > MaxNumber {
		return invalid("hlc %d is too large: want at most 2^63-1", c.HLC)
	}
	if c.Root == nil {
		if len(c.Parents) == 0 {
			return invalid("neither parents nor a root seed: a document begins with its seed")
		}
		if c.Height < 2 || c.Height > MaxNumber {
			return invalid("height %d with %d parents: want 1 more than the highest parent", c.Height, len(c.Parents))
		}
		return nil
	}
	if len(c.Parents) > 0 {
		return invalid("a root seed and %d parents: only a commit without parents has a seed", len(c.Parents))
	}
	if c.Height != 1 {
		return invalid("height %d of a commit without parents, want 1", c.Height)
	}
	if c.Kind != Write {
		return invalid("kind %d without parents: a document begins with a write", c.Kind)
	}
	return c.Root.check()
}

func (s *RootSeed) check() error {
	switch {
	case s.Mode > lastMode:
		return invalid("root seed of mode %d is unknown: want at most %d", s.Mode, lastMode)
	case len(s.Namespace) > MaxNamespace:
		return invalid("namespace of %d bytes, want at most %d", len(s.Namespace), MaxNamespace)
	case len(s.Seed) > MaxSeed:
		return invalid("root seed of %d bytes, want at most %d", len(s.Seed), MaxSeed)
	}
	return nil
}

func (a *Author) check() error {
	if err := a.Key.Check(); err != nil {
		return invalid("author: %w", err)
	}
	if a.Via == "" {
		if a.Proof != [32]byte{} {
			return invalid("the proof of a delegation without a gateway: name the gateway")
		}
		return nil
	}
	if err := a.Via.Check(); err != nil {
		return invalid("gateway: %w", err)
	}
	if a.Via == a.Key {
		return invalid("author and gateway are the same: leave the gateway out")
	}
	return nil
}

func (c *Commit) checkSegments() error {
	if len(c.Segs) == 0 || len(c.Segs) > MaxSegments {
		return invalid("%d segments, want 1 to %d", len(c.Segs), MaxSegments)
	}
	for i, s := range c.Segs {
		switch {
		case s.Group > MaxNumber || s.Epoch > MaxNumber:
			return invalid("segment %d: group or epoch is too large: want at most 2^63-1", i)
		case i > 0 && s.Group <= c.Segs[i-1].Group:
			return invalid("segment %d: group %d after group %d: want one segment a group, in order", i, s.Group, c.Segs[i-1].Group)
		case s.Group == 0 && s.Epoch != 0:
			return invalid("segment %d: epoch %d of group 0, which has no keys: want 0", i, s.Epoch)
		case s.Len > MaxEnvelope:
			return invalid("segment %d: %d bytes, want at most %d for the whole commit", i, s.Len, MaxEnvelope)
		}
	}
	return nil
}

func sortedUnique(ids []CID) bool {
	for i := 1; i < len(ids); i++ {
		if ids[i-1].Compare(ids[i]) >= 0 {
			return false
		}
	}
	return true
}

func compareUint(a, b uint64) int { return cmp.Compare(a, b) }

// ParentInfo is what the check of a commit needs to know of a parent.
type ParentInfo struct {
	CID    CID
	Doc    DocID
	Height uint64
	HLC    uint64
}

// CheckParents returns Invalid if the commit may not stand on its parents, which
// are given all, in any order: they must belong to its document, be one lower at
// most, and be earlier.
func (c *Commit) CheckParents(parents []ParentInfo) error {
	if len(parents) != len(c.Parents) {
		return invalid("checked against %d parents, has %d", len(parents), len(c.Parents))
	}
	var height, hlc uint64
	for _, p := range parents {
		if _, ok := slices.BinarySearchFunc(c.Parents, p.CID, CID.Compare); !ok {
			return invalid("checked against %s, which is no parent", p.CID)
		}
		if p.Doc != c.Doc {
			return invalid("parent %s belongs to document %s: want one of %s", p.CID, p.Doc, c.Doc)
		}
		height, hlc = max(height, p.Height), max(hlc, p.HLC)
	}
	if c.Height != height+1 {
		return invalid("height %d, want %d: 1 more than the highest parent", c.Height, height+1)
	}
	if len(parents) > 0 && c.HLC <= hlc {
		return invalid("hlc %d, want more than %d, the latest parent's", c.HLC, hlc)
	}
	return nil
}

// hlcLogicalBits is how many bits of a clock value count within a millisecond.
const hlcLogicalBits = 16

// HLC returns the clock value of a new commit made at now on top of commits of
// which the latest is after: the time in milliseconds, or the next value that is
// larger than after if the wall clock lags behind.
func HLC(now time.Time, after uint64) uint64 {
	ms := uint64(max(0, now.UnixMilli()))
	return max(ms<<hlcLogicalBits, after+1)
}

// HLCUpTo returns the latest clock value of an instant: commits up to it have an
// HLCTime that is not after t.
func HLCUpTo(t time.Time) uint64 {
	ms := t.UnixMilli()
	switch {
	case ms < 0:
		return 0
	case ms > MaxNumber>>hlcLogicalBits:
		return MaxNumber
	}
	return uint64(ms)<<hlcLogicalBits | 1<<hlcLogicalBits - 1
}

// HLCTime returns the wall-clock part of a clock value.
func HLCTime(hlc uint64) time.Time {
	return time.UnixMilli(int64(hlc >> hlcLogicalBits)).UTC()
}

// Future reports that a commit with that clock value must wait: it is more than
// MaxAhead ahead of now.
func Future(hlc uint64, now time.Time) bool {
	return HLCTime(hlc).Sub(now) > MaxAhead
}

package ident

import (
	"bytes"
	"crypto/sha256"
	"math"
	"slices"
	"time"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
)

// Delegation is an author's word that a gateway may sign commits for them: in some
// collections or in all, with clocks between two instants, both included. It names the
// gateway, so whoever else sees it can do nothing with it.
type Delegation struct {
	Author, Gateway PublicKey
	// Collections are those that the gateway may write to; empty: all.
	Collections [][32]byte
	// NotBefore and NotAfter count in whole milliseconds.
	NotBefore, NotAfter time.Time
}

// Limits of a delegation. They are part of the format.
const (
	// MaxDelegated is how many collections a delegation can name: whoever needs more
	// leaves them out, or has several delegations.
	MaxDelegated = 64
	// MaxDelegationSize bounds what travels with each commit of a gateway.
	MaxDelegationSize = 4 << 10
	// maxInstant is the last millisecond that the clock of a commit can tell.
	maxInstant = math.MaxInt64 >> 16
)

const (
	delegationVersion = 1
	delegationParts   = 6
	delegationDomain  = "pando/1 delegation\n"
)

// Seal returns the delegation in its one form, signed by the author, whose key k is.
func (d Delegation) Seal(k Key) ([]byte, error) {
	d.Collections = slices.Clone(d.Collections)
	slices.SortFunc(d.Collections, compareHashes)
	d.Collections = slices.Compact(d.Collections)
	if err := d.check(); err != nil {
		return nil, err
	}
	if k.Public() != d.Author {
		return nil, fault.Denied.Errorf("seal delegation: the key is %s, want that of the author %s", k, d.Author)
	}
	return seal(delegationDomain, d.append(nil), k)
}

// ParseDelegation decodes a delegation strictly: it accepts one form only. Whether
// the signature is the author's is left to OpenDelegation.
func ParseDelegation(b []byte) (Delegation, error) {
	d, _, err := parseDelegation(b)
	return d, err
}

// OpenDelegation decodes a delegation and verifies its signature. It gives Invalid
// for everything that Seal does not make, on every node. One that was found good
// lately costs no second verification. The result must not be changed.
func OpenDelegation(b []byte) (Delegation, error) {
	if len(b) > MaxDelegationSize {
		return Delegation{}, errDelegationSize(len(b))
	}
	id := sha256.Sum256(b)
	if d, ok := opened.get(id); ok {
		return d, nil
	}
	d, s, err := parseDelegation(b)
	if err != nil {
		return Delegation{}, err
	}
	if !s.signed(delegationDomain, d.Author) {
		return Delegation{}, fault.Invalid.Errorf("delegation: the signature is not that of its author %s", d.Author)
	}
	opened.put(id, d)
	return d, nil
}

// AllowsAt returns why the delegation does not let a gateway sign a commit with that clock,
// or nil. Whether it extends to the collection is said by Covers.
func (d Delegation) AllowsAt(gateway PublicKey, at time.Time) error {
	switch {
	case gateway != d.Gateway:
		return fault.Denied.Errorf("delegation: made for the gateway %s, not for %s", d.Gateway, gateway)
	case at.Before(d.NotBefore):
		return fault.Denied.Errorf("delegation: it begins at %s, after %s", stamp(d.NotBefore), stamp(at))
	case at.Truncate(time.Millisecond).After(d.NotAfter):
		return fault.Denied.Errorf("delegation: it ended at %s, before %s: get a new one from its author", stamp(d.NotAfter), stamp(at))
	}
	return nil
}

// Covers returns why the delegation does not extend to a collection, or nil.
func (d Delegation) Covers(collection [32]byte) error {
	if len(d.Collections) == 0 {
		return nil
	}
	if _, ok := slices.BinarySearchFunc(d.Collections, collection, compareHashes); !ok {
		return fault.Denied.Errorf("delegation: it does not extend to this collection")
	}
	return nil
}

func (d Delegation) check() error {
	if err := d.Author.Check(); err != nil {
		return fault.Invalid.Errorf("delegation: author: %w", err)
	}
	if err := d.Gateway.Check(); err != nil {
		return fault.Invalid.Errorf("delegation: gateway: %w", err)
	}
	if d.Author == d.Gateway {
		return fault.Invalid.Errorf("delegation: author and gateway are the same: nothing is delegated")
	}
	if len(d.Collections) > MaxDelegated {
		return fault.Invalid.Errorf("delegation: %d collections, want at most %d, or none for all", len(d.Collections), MaxDelegated)
	}
	for i := 1; i < len(d.Collections); i++ {
		if compareHashes(d.Collections[i-1], d.Collections[i]) >= 0 {
			return fault.Invalid.Errorf("delegation: collections are not sorted and unique")
		}
	}
	return checkSpan("delegation", d.NotBefore, d.NotAfter)
}

func (d Delegation) append(b []byte) []byte {
	b = cbor.AppendArray(b, delegationParts)
	b = cbor.AppendUint(b, delegationVersion)
	b = cbor.AppendBytes(b, []byte(d.Author))
	b = cbor.AppendBytes(b, []byte(d.Gateway))
	if len(d.Collections) == 0 {
		b = cbor.AppendNull(b)
	} else {
		b = cbor.AppendArray(b, len(d.Collections))
		for _, c := range d.Collections {
			b = cbor.AppendBytes(b, c[:])
		}
	}
	b = cbor.AppendUint(b, uint64(d.NotBefore.UnixMilli()))
	return cbor.AppendUint(b, uint64(d.NotAfter.UnixMilli()))
}

func parseDelegation(b []byte) (d Delegation, s statement, err error) {
	if len(b) > MaxDelegationSize {
		return d, s, errDelegationSize(len(b))
	}
	if s, err = readStatement("delegation", b, 1); err != nil {
		return d, s, err
	}
	r := cbor.NewReader(s.text)
	parts, version := r.Array(), r.Uint()
	if r.Err() == nil && (parts != delegationParts || version != delegationVersion) {
		return d, s, fault.Invalid.Errorf("delegation: version %d with %d parts, want version %d with %d", version, parts, delegationVersion, delegationParts)
	}
	d.Author, d.Gateway = PublicKey(r.Bytes()), PublicKey(r.Bytes())
	if !r.Null() {
		d.Collections = readCollections(r)
	}
	d.NotBefore, d.NotAfter = readInstant(r), readInstant(r)
	if err := r.Done(); err != nil {
		return Delegation{}, s, fault.Invalid.Errorf("delegation: %w", err)
	}
	if err := d.check(); err != nil {
		return Delegation{}, s, err
	}
	return d, s, nil
}

func readCollections(r *cbor.Reader) [][32]byte {
	n := r.Array()
	if r.Err() == nil && (n == 0 || n > MaxDelegated) {
		r.Fail(fault.Invalid.Errorf("%d collections, want 1 to %d, or null for all", n, MaxDelegated))
	}
	if r.Err() != nil {
		return nil
	}
	list := make([][32]byte, n)
	for i := range list {
		raw := r.Bytes()
		if r.Err() == nil && len(raw) != len(list[i]) {
			r.Fail(fault.Invalid.Errorf("collection of %d bytes, want %d", len(raw), len(list[i])))
		}
		copy(list[i][:], raw)
	}
	return list
}

func compareHashes(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }

func errDelegationSize(n int) error {
	return fault.Invalid.Errorf("delegation of %d bytes, want at most %d", n, MaxDelegationSize)
}

var opened = proofs[Delegation]{good: map[[32]byte]Delegation{}}

package dag

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/value"
)

// What is hashed or signed begins with what it is, so that no bytes made for one
// purpose can stand for another.
const (
	docIDDomain     = "pando/1 document\n"
	contentDomain   = "pando/1 content\n"
	keyDomain       = "pando/1 key\n"
	signatureDomain = "pando/1 commit\n"
)

// uniqueSize is how many random bytes make a docID unique.
const uniqueSize = 16

// DocID returns the name of the document that begins with s.
func (s RootSeed) DocID() DocID {
	var buf [512]byte // docIDDomain, head bytes and the largest seed: no allocation
	return sha256.Sum256(appendRootSeed(append(buf[:0], docIDDomain...), s))
}

func appendRootSeed(b []byte, s RootSeed) []byte {
	b = cbor.AppendArray(b, 4)
	b = cbor.AppendUint(b, uint64(s.Mode))
	b = cbor.AppendBytes(b, s.Namespace)
	b = cbor.AppendBytes(b, s.Collection[:])
	return cbor.AppendBytes(b, s.Seed)
}

// ContentSeed returns the seed of a document in ModeContent: the hash of its
// initial operations in the order of their fields.
func ContentSeed(deltas []crdt.Delta) []byte {
	if !sorted(deltas) {
		deltas = slices.Clone(deltas)
		slices.SortStableFunc(deltas, compareFields)
	}
	return contentSeed(appendDeltas(nil, deltas))
}

func contentSeed(segment []byte) []byte {
	h := sha256.New()
	io.WriteString(h, contentDomain)
	h.Write(segment)
	return h.Sum(nil)
}

// OwnedSeed returns the seed of a document in ModeOwned.
func OwnedSeed(author ident.PublicKey, deltas []crdt.Delta) []byte {
	return append([]byte(author), ContentSeed(deltas)...)
}

// UniqueSeed returns the seed of a document in ModeUnique, with random bytes from r.
func UniqueSeed(author ident.PublicKey, r io.Reader) ([]byte, error) {
	seed := make([]byte, len(author)+uniqueSize)
	copy(seed, author)
	if _, err := io.ReadFull(r, seed[len(author):]); err != nil {
		return nil, fmt.Errorf("random bytes for a docID: %w", err)
	}
	return seed, nil
}

// SealedSeed returns the seed of a document in ModeOwned of which something is
// encrypted, with random bytes from r in place of the hash of its initial operations:
// that would tell who guesses them that he is right.
func SealedSeed(author ident.PublicKey, r io.Reader) ([]byte, error) {
	seed := make([]byte, len(author)+sha256.Size)
	copy(seed, author)
	if _, err := io.ReadFull(r, seed[len(author):]); err != nil {
		return nil, fmt.Errorf("random bytes for a docID: %w", err)
	}
	return seed, nil
}

// KeyedSeed returns the seed of a document in ModeKeyed: the hash of what is
// written to the key fields, given in the order of the schema. Instants that are
// equal are the same key, whatever the UTC offset they were written with.
func KeyedSeed(keys []crdt.Delta) []byte {
	b := cbor.AppendArray([]byte(keyDomain), len(keys))
	for _, d := range keys {
		b = value.AppendCBOR(b, d.Kind.Type(), inUTC(d.Val))
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

func inUTC(v value.Value) value.Value {
	switch v.Kind() {
	case value.Time:
		return value.OfTime(v.Time().In(time.UTC))
	case value.List:
		list := slices.Clone(v.List())
		for i := range list {
			list[i] = inUTC(list[i])
		}
		return value.OfList(list)
	}
	return v
}

func appendDeltas(b []byte, deltas []crdt.Delta) []byte {
	b = cbor.AppendArray(b, len(deltas))
	for _, d := range deltas {
		b = crdt.AppendDelta(b, d)
	}
	return b
}

func sorted(deltas []crdt.Delta) bool { return slices.IsSortedFunc(deltas, compareFields) }

func compareFields(a, b crdt.Delta) int {
	return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Kind, b.Kind))
}

// checkSeed returns why c may not begin the document that its seed names. What
// the seed says of the initial operations is checked if all of them are in clear.
func (c *Commit) checkSeed() error {
	s := c.Root
	rest, author := s.Seed, []byte(c.Author.Key)
	if s.Mode == ModeOwned || s.Mode == ModeUnique {
		var own bool
		if rest, own = bytes.CutPrefix(rest, author); !own {
			return invalid("the root seed names another author: only that author may begin the document")
		}
	}
	want := sha256.Size
	if s.Mode == ModeUnique {
		want = uniqueSize
	}
	if len(rest) != want {
		return invalid("root seed of mode %d ends in %d bytes, want %d", s.Mode, len(rest), want)
	}
	if s.Mode != ModeContent && s.Mode != ModeOwned || len(c.Segs) != 1 || c.Segs[0].Group != 0 || c.HeaderOnly() {
		return nil
	}
	segment := c.Payload[0]
	if !sorted(c.Deltas) {
		in := slices.Clone(c.Deltas)
		slices.SortStableFunc(in, compareFields)
		segment = appendDeltas(nil, in)
	}
	if !bytes.Equal(rest, contentSeed(segment)) {
		return invalid("the root seed is not the hash of the initial fields: make it with the same operations")
	}
	return nil
}

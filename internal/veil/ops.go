package veil

import (
	"slices"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// OpKind is what an operation on keys does. Its number is part of the commit format.
type OpKind uint8

const (
	Hide    OpKind = 1 // says which fields of the document are encrypted, for ever: in a first commit
	Begin   OpKind = 2 // begins an epoch
	Give    OpKind = 3 // gives the secret of an epoch to readers, wrapped to each
	Link    OpKind = 4 // seals the secret of an earlier epoch under that of a later one
	Publish OpKind = 5 // gives the secret of an epoch to everyone
)

// String returns the name of the kind.
func (k OpKind) String() string {
	switch k {
	case Hide:
		return "hide"
	case Begin:
		return "begin"
	case Give:
		return "give"
	case Link:
		return "link"
	case Publish:
		return "publish"
	}
	return "unknown operation on keys"
}

// Op is an operation on keys.
type Op struct {
	Kind   OpKind
	Cover  Cover   // of Hide
	Epoch  EpochID // of all others
	Wraps  []Wrap  // of Give, sorted by key
	Older  EpochID // of Link: whose secret is sealed
	Sealed []byte  // of Link
	Secret Secret  // of Publish
}

// Wrap is a secret sealed to the owner of a key.
type Wrap struct {
	To     ident.PublicKey
	Sealed []byte
}

// Delta returns the operation as it stands in a commit.
func (o Op) Delta() crdt.Delta {
	return crdt.Delta{Field: crdt.FieldKeys, Kind: crdt.KindKeys, Void: true, Raw: o.append(nil)}
}

func (o *Op) append(b []byte) []byte {
	part := func(parts int) {
		b = cbor.AppendArray(b, parts)
		b = cbor.AppendUint(b, uint64(o.Kind))
		b = cbor.AppendBytes(b, o.Epoch[:])
	}
	switch o.Kind {
	case Hide:
		b = cbor.AppendArray(b, 3)
		b = cbor.AppendUint(b, uint64(Hide))
		b = cbor.AppendBool(b, o.Cover.All)
		b = cbor.AppendArray(b, len(o.Cover.Fields))
		for _, f := range o.Cover.Fields {
			b = cbor.AppendUint(b, uint64(f))
		}
	case Begin:
		part(2)
	case Give:
		part(3)
		b = cbor.AppendArray(b, len(o.Wraps))
		for _, w := range o.Wraps {
			b = cbor.AppendArray(b, 2)
			b = cbor.AppendBytes(b, []byte(w.To))
			b = cbor.AppendBytes(b, w.Sealed)
		}
	case Link:
		part(4)
		b = cbor.AppendBytes(b, o.Older[:])
		b = cbor.AppendBytes(b, o.Sealed)
	case Publish:
		part(3)
		b = cbor.AppendBytes(b, o.Secret[:])
	}
	return b
}

// Ops returns the operations on keys among those of a commit. One that is malformed
// makes a commit invalid in a collection with a policy.
func Ops(deltas []crdt.Delta) ([]Op, error) {
	var ops []Op
	for i := range deltas {
		d := &deltas[i]
		if d.Field != crdt.FieldKeys {
			continue
		}
		if d.Kind != crdt.KindKeys {
			return nil, fault.Invalid.Errorf("operation %d: kind %v on the field of keys: use another field", i, d.Kind)
		}
		op, err := readOp(d.Raw)
		if err != nil {
			return nil, fault.Invalid.Errorf("operation %d: %w", i, err)
		}
		ops = append(ops, op)
	}
	return ops, checkOps(ops)
}

// checkOps checks what operations of one commit have to do with each other.
func checkOps(ops []Op) error {
	var n [Publish + 1]int
	readers := 0
	for _, o := range ops {
		n[o.Kind]++
		readers += len(o.Wraps)
	}
	switch {
	case n[Hide] > 1:
		return fault.Invalid.Errorf("%d operations say what is encrypted: want one", n[Hide])
	case n[Begin] > 1:
		return fault.Invalid.Errorf("%d epochs begin in one commit: want one", n[Begin])
	case n[Link]+n[Publish] > MaxLinks:
		return fault.Invalid.Errorf("%d secrets are sealed or published in one commit, want at most %d", n[Link]+n[Publish], MaxLinks)
	case readers > MaxReaders || n[Give] > MaxLinks:
		return fault.Invalid.Errorf("keys for %d readers in one commit, want at most %d", readers, MaxReaders)
	}
	return nil
}

// parts of an operation by its kind.
var parts = [...]int{Hide: 3, Begin: 2, Give: 3, Link: 4, Publish: 3}

func readOp(raw []byte) (op Op, err error) {
	r := cbor.NewReader(raw)
	n := r.Array()
	kind := r.Uint()
	if r.Err() == nil && (kind < uint64(Hide) || kind > uint64(Publish)) {
		r.Fail(fault.Invalid.Errorf("operation on keys of unknown kind %d: want 1 to %d", kind, Publish))
	}
	if r.Err() != nil {
		return Op{}, r.Err()
	}
	if op.Kind = OpKind(kind); op.Kind == Hide {
		op.Cover = readCover(r)
	} else {
		op.Epoch = readEpoch(r)
	}
	switch op.Kind {
	case Give:
		op.Wraps = readWraps(r)
	case Link:
		op.Older = readEpoch(r)
		if op.Sealed = r.Bytes(); r.Err() == nil && len(op.Sealed) != linkSize {
			r.Fail(fault.Invalid.Errorf("link of %d bytes, want %d", len(op.Sealed), linkSize))
		}
		if r.Err() == nil && op.Older == op.Epoch {
			r.Fail(fault.Invalid.Errorf("link from an epoch to itself"))
		}
	case Publish:
		op.Secret = Secret(readHash(r, "secret"))
	}
	if err := r.Done(); err != nil {
		return Op{}, err
	}
	if n != parts[op.Kind] {
		return Op{}, fault.Invalid.Errorf("%v of %d parts, want %d", op.Kind, n, parts[op.Kind])
	}
	return op, nil
}

func readCover(r *cbor.Reader) (c Cover) {
	c.All = r.Bool()
	n := r.Array()
	if r.Err() == nil && n > MaxFields {
		r.Fail(fault.Invalid.Errorf("%d fields with keys of their own, want at most %d", n, MaxFields))
	}
	for range n {
		if f := r.Uint(); r.Err() != nil {
			return c
		} else if f < uint64(crdt.FirstField) || f > 1<<32-1 {
			r.Fail(fault.Invalid.Errorf("field %d is not one that can be encrypted", f))
		} else if k := len(c.Fields); k > 0 && c.Fields[k-1] >= crdt.FieldID(f) {
			r.Fail(fault.Invalid.Errorf("encrypted fields are not sorted and unique"))
		} else {
			c.Fields = append(c.Fields, crdt.FieldID(f))
		}
	}
	if r.Err() == nil && c.None() {
		r.Fail(fault.Invalid.Errorf("nothing is encrypted: leave the operation out"))
	}
	return c
}

func readWraps(r *cbor.Reader) []Wrap {
	n := r.Array()
	if r.Err() == nil && (n == 0 || n > MaxReaders) {
		r.Fail(fault.Invalid.Errorf("keys for %d readers in one operation, want 1 to %d", n, MaxReaders))
	}
	if r.Err() != nil {
		return nil
	}
	wraps := make([]Wrap, 0, n)
	for range n {
		if parts := r.Array(); r.Err() == nil && parts != 2 {
			r.Fail(fault.Invalid.Errorf("wrap of %d parts, want 2: a key and what is sealed to it", parts))
		}
		w := Wrap{To: ident.PublicKey(r.Bytes()), Sealed: r.Bytes()}
		if r.Err() != nil {
			return nil
		}
		switch err := w.To.Check(); {
		case err != nil:
			r.Fail(fault.Invalid.Errorf("wrap: %w", err))
		case len(w.Sealed) == 0 || len(w.Sealed) > maxSealed:
			r.Fail(fault.Invalid.Errorf("wrap of %d bytes, want 1 to %d", len(w.Sealed), maxSealed))
		case len(wraps) > 0 && wraps[len(wraps)-1].To >= w.To:
			r.Fail(fault.Invalid.Errorf("wraps are not sorted by key and unique"))
		}
		wraps = append(wraps, w)
	}
	return wraps
}

func readEpoch(r *cbor.Reader) EpochID { return readHash(r, "epoch") }

func readHash(r *cbor.Reader, what string) (h [32]byte) {
	b := r.Bytes()
	if r.Err() == nil && len(b) != len(h) {
		r.Fail(fault.Invalid.Errorf("%s of %d bytes, want %d", what, len(b), len(h)))
	}
	copy(h[:], b)
	return h
}

// Cover says which fields of a document are encrypted.
type Cover struct {
	All    bool           // all, but the reserved ones
	Fields []crdt.FieldID // with keys of their own; sorted, unique
}

// None reports whether nothing is encrypted.
func (c Cover) None() bool { return !c.All && len(c.Fields) == 0 }

// Group returns the group of keys under which operations on a field are sealed, 0 if
// they stand in clear.
func (c Cover) Group(f crdt.FieldID) uint64 {
	if f < crdt.FirstField {
		return 0
	}
	if _, own := slices.BinarySearch(c.Fields, f); own {
		return uint64(f)
	}
	if c.All {
		return GroupDocument
	}
	return 0
}

// has reports whether segments of the group belong in the document.
func (c Cover) has(group uint64) bool {
	if group == GroupDocument {
		return c.All
	}
	return group >= uint64(crdt.FirstField) && group < 1<<32 && c.Group(crdt.FieldID(group)) == group
}

// with returns what either says. Only whoever begins a document twice makes them
// differ.
func (c Cover) with(o Cover) Cover {
	fields := slices.Concat(c.Fields, o.Fields)
	slices.Sort(fields)
	return Cover{c.All || o.All, slices.Compact(fields)}
}

package crdt

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"unsafe"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

const (
	formatVersion = 1
	entrySize     = 32 + 8 // identity and HLC of a commit in the table
)

// Document is the merged state of a document: an immutable view over its
// canonical bytes. The zero Document has no commits. What its methods return may
// alias those bytes.
type Document struct {
	raw []byte
	// Where the parts begin: places, not slices, so that a document passes in
	// registers. The table has entrySize bytes for each commit.
	tableAt, tableEnd, headsAt, cellsAt uint32
}

func (d Document) table() []byte { return d.raw[d.tableAt:d.tableEnd] }
func (d Document) heads() []byte { return d.raw[d.headsAt:d.cellsAt] }
func (d Document) cells() []byte { return d.raw[d.cellsAt:] }

// Open returns the document whose canonical bytes are raw, which must not change
// afterwards. It looks only as far as it must to find the cells: damage beyond
// that shows as absent values, and as an error of Fold and Check.
func Open(raw []byte) (Document, error) {
	if len(raw) == 0 {
		return Document{}, nil
	}
	if raw[0] != formatVersion {
		return Document{}, fault.Corrupt.Errorf("document has format version %d, want %d: was it written by a newer pando?", raw[0], formatVersion)
	}
	if uint64(len(raw)) > math.MaxUint32 {
		return Document{}, corrupt("it has more than 4 GiB")
	}
	n, rest := uvarint(raw[1:])
	if rest == nil || n > uint64(len(rest))/entrySize {
		return Document{}, corrupt("table of commits")
	}
	at := func() uint32 { return uint32(len(raw) - len(rest)) }
	d := Document{raw: raw, tableAt: at()}
	rest = rest[n*entrySize:]
	d.tableEnd = at()
	heads, rest := uvarint(rest)
	if rest == nil || heads > n {
		return Document{}, corrupt("number of heads")
	}
	d.headsAt = at()
	for range heads {
		var i uint64
		if i, rest = uvarint(rest); rest == nil || i >= n {
			return Document{}, corrupt("heads")
		}
		if _, rest = uvarint(rest); rest == nil {
			return Document{}, corrupt("heads")
		}
	}
	d.cellsAt = at()
	return d, nil
}

func corrupt(what string) error {
	return fault.Corrupt.Errorf("document is damaged: %s: rebuild it from its commits", what)
}

// Bytes returns the canonical bytes: nil for a document without commits.
func (d Document) Bytes() []byte { return d.raw }

// Empty reports whether there are no commits.
func (d Document) Empty() bool { return len(d.raw) == 0 }

// Check returns an error unless the bytes are canonical: the other methods do not
// look further than they need.
func (d Document) Check() error {
	if len(d.raw) == 0 {
		return nil
	}
	if len(d.heads()) == 0 {
		return corrupt("no heads")
	}
	s, err := d.parse()
	if err != nil {
		return err
	}
	for _, c := range s.cells {
		for _, w := range c.writes {
			if v, ok := decode(w.val); !ok || !bytes.Equal(v.AppendBinary(nil), w.val) {
				return corrupt("value")
			}
		}
	}
	if !bytes.Equal(s.encode(), d.raw) {
		return corrupt("not canonical")
	}
	return nil
}

// Heads returns the commits that no other commit has as a parent, sorted.
func (d Document) Heads() []Head {
	heads := make([]Head, 0, len(d.heads())/2)
	for b := d.heads(); len(b) > 0; {
		var i, height uint64
		i, b = uvarint(b)
		height, b = uvarint(b)
		commit, hlc := d.commit(i)
		heads = append(heads, Head{Commit: commit, Height: height, HLC: hlc})
	}
	return heads
}

// HeadCount returns how many heads there are.
func (d Document) HeadCount() int {
	n := 0
	for b := d.heads(); len(b) > 0; n++ {
		_, b = uvarint(b)
		_, b = uvarint(b)
	}
	return n
}

// Newest returns the HLC of the newest commit, 0 if there are none: it is a head.
func (d Document) Newest() uint64 {
	var newest uint64
	for b := d.heads(); len(b) > 0; {
		var i uint64
		i, b = uvarint(b)
		_, b = uvarint(b)
		_, hlc := d.commit(i)
		newest = max(newest, hlc)
	}
	return newest
}

// Deleted reports whether the status register says so.
func (d Document) Deleted() bool {
	// The status would be the first cell. Every scan asks, and most documents have none.
	if cells := d.cells(); len(cells) == 0 || cells[0] != byte(FieldStatus) {
		return false
	}
	v, ok := d.Value(FieldStatus, KindStatus)
	return ok && v.Kind() == value.Bool && v.Bool()
}

// Value returns what readers see of a cell, and false if it was never written. A
// register that was set to null is there, and Null. Registers allocate nothing.
func (d Document) Value(f FieldID, k Kind) (v value.Value, ok bool) {
	payload, ok := d.find(f, k)
	if !ok {
		return v, false
	}
	switch k.Rule() {
	case LWW:
		if len(payload) > 2 && payload[0]|payload[1] < 0x80 { // places in a small table
			return decode(payload[2:])
		}
		_, payload = uvarint(payload)
		if _, payload = uvarint(payload); payload == nil {
			return v, false
		}
		return decode(payload)
	case PCounter, PNCounter:
		return shown(k.Type(), unsafe.String(unsafe.SliceData(payload), len(payload)))
	case MVR:
		if w, ok := d.newest(payload); ok {
			return decode(w.val)
		}
	}
	return v, false
}

// Elements appends the elements of the list that Value returns, and false if it is
// no list. It allocates nothing of its own for registers.
func (d Document) Elements(list []value.Value, f FieldID, k Kind) ([]value.Value, bool) {
	if k.Rule() == LWW {
		payload, ok := d.find(f, k)
		if !ok {
			return list, false
		}
		_, payload = uvarint(payload)
		_, payload = uvarint(payload)
		return value.DecodeElements(list, payload)
	}
	v, ok := d.Value(f, k)
	return append(list, v.List()...), ok && v.Kind() == value.List
}

// Conflicts returns the live values of a multi-value register other than the one
// that Value returns, newest stamp first.
func (d Document) Conflicts(f FieldID, k Kind) []value.Value {
	var all []stamped
	for w := range d.live(f, k) {
		all = append(all, w)
	}
	if len(all) < 2 {
		return nil
	}
	slices.SortFunc(all, func(a, b stamped) int { return b.Compare(a.Stamp) })
	others := make([]value.Value, 0, len(all)-1)
	for _, w := range all[1:] {
		if v, ok := decode(w.val); ok {
			others = append(others, v)
		}
	}
	return others
}

// Stamp returns who set the value that Value returns. Counters have no stamp.
func (d Document) Stamp(f FieldID, k Kind) (Stamp, bool) {
	payload, ok := d.find(f, k)
	if !ok {
		return Stamp{}, false
	}
	switch k.Rule() {
	case LWW:
		i, rest := uvarint(payload)
		op, rest := uvarint(rest)
		return d.stamp(i, op), rest != nil && d.has(i)
	case MVR:
		w, ok := d.newest(payload)
		return w.Stamp, ok
	}
	return Stamp{}, false
}

// Tags returns the live writes of a multi-value register, sorted: what a new write
// by somebody who saw them must overwrite.
func (d Document) Tags(f FieldID, k Kind) []Tag {
	var tags []Tag
	for w := range d.live(f, k) {
		tags = append(tags, Tag{Commit: w.Commit, Op: w.Op})
	}
	return tags
}

// Fields returns every cell that operations wrote, in order of field and then kind:
// also those of unknown fields, and registers of which only tombstones are left.
func (d Document) Fields() iter.Seq2[FieldID, Kind] {
	return func(yield func(FieldID, Kind) bool) {
		for b := d.cells(); len(b) > 0; {
			f, k, _, rest := nextCell(b)
			if rest == nil || !k.attached() && !yield(f, k) {
				return
			}
			b = rest
		}
	}
}

// find returns the payload of a cell. Scans live in this loop: nearly every cell has
// a field number and a length of one byte.
func (d Document) find(f FieldID, k Kind) ([]byte, bool) {
	for b := d.cells(); len(b) >= 4; {
		if b[0]|b[3] >= 0x80 {
			field, kind, payload, rest := nextCell(b)
			if rest == nil || field > f {
				return nil, false
			}
			if field == f && kind == k {
				return payload, true
			}
			b = rest
			continue
		}
		field, end := FieldID(b[0]), 4+int(b[3])
		if field > f || end > len(b) {
			return nil, false
		}
		if field == f && Kind(b[1])<<8|Kind(b[2]) == k {
			return b[4:end:end], true
		}
		b = b[end:]
	}
	return nil, false
}

// nextCell splits the first cell off b; rest is nil if it is damaged.
func nextCell(b []byte) (f FieldID, k Kind, payload, rest []byte) {
	field, b := uvarint(b)
	if len(b) < 2 || field > 1<<32-1 {
		return 0, 0, nil, nil
	}
	k = Kind(b[0])<<8 | Kind(b[1])
	n, b := uvarint(b[2:])
	if b == nil || n > uint64(len(b)) {
		return 0, 0, nil, nil
	}
	return FieldID(field), k, b[:n:n], b[n:]
}

// stamped is one live write of a multi-value register.
type stamped struct {
	Stamp
	val []byte
}

// live returns the live writes of a multi-value register in order of their tags.
func (d Document) live(f FieldID, k Kind) iter.Seq[stamped] {
	return func(yield func(stamped) bool) {
		payload, ok := d.find(f, k)
		if !ok || k.Rule() != MVR {
			return
		}
		d.eachLive(payload, yield)
	}
}

func (d Document) newest(payload []byte) (newest stamped, ok bool) {
	d.eachLive(payload, func(w stamped) bool {
		if !ok || newest.Compare(w.Stamp) < 0 {
			newest, ok = w, true
		}
		return true
	})
	return newest, ok
}

func (d Document) eachLive(payload []byte, yield func(stamped) bool) {
	n, b := uvarint(payload)
	for ; n > 0; n-- {
		i, op, val, rest := nextLive(b)
		if rest == nil || !d.has(i) || !yield(stamped{d.stamp(i, op), val}) {
			return
		}
		b = rest
	}
}

// nextLive splits the first live write off b; rest is nil if it is damaged.
func nextLive(b []byte) (i, op uint64, val, rest []byte) {
	i, b = uvarint(b)
	op, b = uvarint(b)
	n, b := uvarint(b)
	if b == nil || n > uint64(len(b)) {
		return 0, 0, nil, nil
	}
	return i, op, b[:n:n], b[n:]
}

// has reports whether the table of commits has a place i.
func (d Document) has(i uint64) bool { return i < uint64(len(d.table())/entrySize) }

// commit returns the commit at a place of the table, zero if there is none.
func (d Document) commit(i uint64) (commit [32]byte, hlc uint64) {
	if !d.has(i) {
		return commit, 0
	}
	e := d.table()[i*entrySize:][:entrySize]
	return [32]byte(e[:32]), binary.BigEndian.Uint64(e[32:])
}

func (d Document) stamp(i, op uint64) Stamp {
	commit, hlc := d.commit(i)
	return Stamp{HLC: hlc, Commit: commit, Op: uint32(op)}
}

// decode returns the value of which b is the binary form, and all of it.
func decode(b []byte) (value.Value, bool) {
	return value.DecodeWhole(b)
}

// uvarint splits a number off b; rest is nil, and stays it, if there is none.
func uvarint(b []byte) (n uint64, rest []byte) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), b[1:]
	}
	return longUvarint(b)
}

func longUvarint(b []byte) (n uint64, rest []byte) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil
	}
	return n, b[size:]
}

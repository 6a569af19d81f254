package crdt

import (
	"encoding/binary"

	"github.com/pandodb/pando/internal/value"
)

// Row returns a document that nobody wrote: registers that hold vals, for rows
// that are computed. It has no commits, so none of its values has a stamp. kinds
// are registers, and fields ascend; a field whose value is Null is left out. The
// bytes are appended to b, which the document keeps.
func Row(b []byte, fields []FieldID, kinds []Kind, vals []value.Value) Document {
	const empty = 3 // version, no commits, no heads
	raw := append(b, formatVersion, 0, 0)
	start := len(raw) - empty
	for i, v := range vals {
		if v.IsNull() {
			continue
		}
		raw = binary.AppendUvarint(raw, uint64(fields[i]))
		raw = append(raw, byte(kinds[i]>>8), byte(kinds[i]))
		// The length stands before the value, and its own size depends on it: most
		// values are short, the others are moved.
		at := len(raw)
		raw = append(raw, 0, 0, 0) // length, place of the commit, index
		raw = v.AppendBinary(raw)
		n := len(raw) - at - 1
		if n < 0x80 {
			raw[at] = byte(n)
			continue
		}
		var length [binary.MaxVarintLen64]byte
		size := binary.PutUvarint(length[:], uint64(n))
		raw = append(raw, length[1:size]...) // room
		copy(raw[at+size:], raw[at+1:at+1+n])
		copy(raw[at:], length[:size])
	}
	return Document{raw: raw[start:], tableAt: 2, tableEnd: 2, headsAt: empty, cellsAt: empty}
}

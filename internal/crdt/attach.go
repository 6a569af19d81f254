package crdt

import "encoding/binary"

// Attached returns what was attached to a cell of KindAccess or KindKeys, nil if
// nothing was. It is part of the bytes of the document.
func (d Document) Attached(f FieldID, k Kind) []byte {
	if !k.attached() {
		return nil
	}
	payload, _ := d.find(f, k)
	return payload
}

// Attachments returns what Attached returns of the fields for access and for keys, in one
// pass: who checks each document of a scan asks for both.
func (d Document) Attachments() (access, keys []byte) {
	for b := d.cells(); len(b) >= 5 && b[0] <= byte(FieldKeys); {
		var payload []byte
		at := b[:3]
		if end := 4 + int(b[3]); b[3] < 0x80 && end <= len(b) {
			payload, b = b[4:end:end], b[end:]
		} else if end := 5 + int(b[3]&0x7f) + int(b[4])<<7; b[3] >= 0x80 && b[4] < 0x80 && end <= len(b) {
			payload, b = b[5:end:end], b[end:]
		} else if _, _, payload, b = nextCell(b); b == nil {
			break
		}
		switch field, kind := FieldID(at[0]), Kind(at[1])<<8|Kind(at[2]); {
		case field == FieldAccess && kind == KindAccess:
			access = payload
		case field == FieldKeys && kind == KindKeys:
			keys = payload
		}
	}
	return access, keys
}

// Attach returns the document with that payload in a cell of KindAccess or KindKeys,
// in place of what was there; an empty one takes the cell away. For other kinds the
// document stays as it is. A document without commits carries nothing.
func (d Document) Attach(f FieldID, k Kind, payload []byte) Document {
	if !k.attached() || len(d.raw) == 0 {
		return d
	}
	from, to := d.place(f, k)
	raw := make([]byte, 0, len(d.raw)+len(payload)+3*binary.MaxVarintLen32)
	raw = append(raw, d.raw[:from]...)
	if len(payload) > 0 {
		raw = binary.AppendUvarint(raw, uint64(f))
		raw = append(raw, byte(k>>8), byte(k))
		raw = binary.AppendUvarint(raw, uint64(len(payload)))
		raw = append(raw, payload...)
	}
	d.raw = append(raw, d.raw[to:]...)
	return d
}

// place returns where the cell stands in the bytes, or would.
func (d Document) place(f FieldID, k Kind) (from, to int) {
	b := d.cells()
	for len(b) > 0 {
		field, kind, _, rest := nextCell(b)
		if rest == nil || field > f || field == f && kind > k {
			break
		}
		if field == f && kind == k {
			return len(d.raw) - len(b), len(d.raw) - len(rest)
		}
		b = rest
	}
	return len(d.raw) - len(b), len(d.raw) - len(b)
}

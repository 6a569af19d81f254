package crdt

import (
	"bytes"
	"math"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// minTag is the size of the shortest encoded tag: it bounds how many fit in an
// argument.
const minTag = 1 + 2 + 32 + 1

// AppendDelta appends the commit form of d. What CheckDelta refuses is encoded as
// something, not necessarily as d.
func AppendDelta(b []byte, d Delta) []byte {
	b = cbor.AppendArray(b, 3)
	b = cbor.AppendUint(b, uint64(d.Field))
	b = cbor.AppendUint(b, uint64(d.Kind))
	if d.Void || !d.Kind.Known() {
		if len(d.Raw) == 0 {
			return cbor.AppendNull(b)
		}
		return append(b, d.Raw...)
	}
	switch d.Kind.Rule() {
	case LWW:
		return value.AppendCBOR(b, d.Kind.Type(), d.Val)
	case MVR:
		b = cbor.AppendArray(b, 2)
		b = value.AppendCBOR(b, d.Kind.Type(), d.Val)
		b = cbor.AppendArray(b, len(d.Over))
		for _, t := range d.Over {
			b = cbor.AppendArray(b, 2)
			b = cbor.AppendBytes(b, t.Commit[:])
			b = cbor.AppendUint(b, uint64(t.Op))
		}
		return b
	}
	switch d.Val.Kind() {
	case value.Int:
		return cbor.AppendInt(b, d.Val.Int())
	case value.String:
		return cbor.AppendText(b, d.Val.Text())
	}
	return cbor.AppendNull(b)
}

// ReadDelta reads one operation. An argument that does not fit makes the delta
// void; whatever else is wrong, above all bytes that are not canonical, fails r.
// The delta aliases the input of r.
func ReadDelta(r *cbor.Reader) Delta {
	n := r.Array()
	field, kind := r.Uint(), r.Uint()
	raw := r.Skip()
	if r.Err() == nil {
		switch {
		case n != 3:
			r.Fail(fault.Invalid.Errorf("operation has %d parts, want 3: field, kind and argument", n))
		case field > math.MaxUint32:
			r.Fail(fault.Invalid.Errorf("field number %d of an operation is too large: want less than 2^32", field))
		case kind > math.MaxUint16:
			r.Fail(fault.Invalid.Errorf("kind %d of an operation is too large: want less than 2^16", kind))
		}
	}
	if r.Err() != nil {
		return Delta{}
	}
	d := Delta{Field: FieldID(field), Kind: Kind(kind)}
	if err := d.read(raw); err != nil {
		return Delta{Field: d.Field, Kind: d.Kind, Void: true, Raw: raw}
	}
	return d
}

// CheckDelta returns why d would be void or would not come back as it is: for
// those who are about to write it. Operations of KindAccess and KindKeys, on the fields
// that they are for, are void here, and as good as their argument is canonical.
func CheckDelta(d Delta) error {
	if d.Void && d.attaches() {
		r := cbor.NewReader(AppendDelta(nil, d))
		r.Skip()
		return r.Done()
	}
	if d.Void {
		return fault.Invalid.Errorf("field %d: the operation is void: give a value of its kind, %v", d.Field, d.Kind)
	}
	const usual = 128 // bytes of an operation on a scalar
	r := cbor.NewReader(AppendDelta(make([]byte, 0, usual), d))
	r.Array()
	r.Uint()
	r.Uint()
	raw := r.Skip()
	if err := r.Done(); err != nil {
		return fault.Invalid.Errorf("field %d: %w", d.Field, err)
	}
	got := Delta{Field: d.Field, Kind: d.Kind}
	if err := got.read(raw); err != nil {
		return fault.Invalid.Errorf("field %d: %w", d.Field, err)
	}
	// A value of another kind can be encoded as one that fits; other nodes would
	// store what they decode.
	var a, b [usual]byte
	if !bytes.Equal(got.Val.AppendBinary(a[:0]), d.Val.AppendBinary(b[:0])) {
		return fault.Invalid.Errorf("field %d: the value does not fit its kind, %v: convert it first", d.Field, d.Kind)
	}
	return nil
}

// attaches reports whether the operation is one of those that another package takes apart.
func (d *Delta) attaches() bool {
	return d.Field == FieldAccess && d.Kind == KindAccess || d.Field == FieldKeys && d.Kind == KindKeys
}

// read takes the argument apart. An error means that the operation is void.
func (d *Delta) read(raw []byte) error {
	if !d.Kind.Known() {
		return fault.Invalid.Errorf("kind %v is unknown: use a rule and a type that go together", d.Kind)
	}
	r := cbor.NewReader(raw)
	switch d.Kind.Rule() {
	case LWW:
		return d.readValue(r)
	case MVR:
		return d.readMVR(r, len(raw))
	}
	if d.Kind.Type() == value.TypeInt {
		d.Val = value.OfInt(r.Int())
	} else {
		d.Val = value.OfString(r.Text())
	}
	if r.Err() != nil {
		d.Val = value.Value{}
	}
	_, err := increment(d.Kind, d.Val)
	return err
}

func (d *Delta) readValue(r *cbor.Reader) error {
	v, fits := value.FromCBOR(r, d.Kind.Type())
	if !fits {
		return fault.Invalid.Errorf("the value does not fit the type %v: convert it first", d.Kind.Type())
	}
	d.Val = v
	return r.Err()
}

func (d *Delta) readMVR(r *cbor.Reader, size int) error {
	if n := r.Array(); r.Err() != nil || n != 2 {
		return fault.Invalid.Errorf("argument of an mvregister is not a value and the tags it overwrites: give both")
	}
	if err := d.readValue(r); err != nil {
		return err
	}
	n := r.Array()
	d.Over = make([]Tag, 0, min(n, size/minTag))
	for range n {
		parts, commit, op := r.Array(), r.Bytes(), r.Uint()
		if r.Err() != nil || parts != 2 || len(commit) != 32 || op > math.MaxUint32 {
			return fault.Invalid.Errorf("overwritten tag is malformed: give a commit of 32 bytes and an index below 2^32")
		}
		t := Tag{Commit: [32]byte(commit), Op: uint32(op)}
		if k := len(d.Over); k > 0 && d.Over[k-1].Compare(t) >= 0 {
			return fault.Invalid.Errorf("overwritten tags are not sorted and unique: sort them by commit and index")
		}
		d.Over = append(d.Over, t)
	}
	return r.Err()
}

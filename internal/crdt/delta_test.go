package crdt_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// operation returns the commit form of an operation with the argument arg.
func operation(k crdt.Kind, arg []byte) []byte {
	b := cbor.AppendArray(nil, 3)
	b = cbor.AppendUint(b, 16)
	b = cbor.AppendUint(b, uint64(k))
	return append(b, arg...)
}

func TestVoidOperations(t *testing.T) {
	t.Parallel()
	text := func(s string) []byte { return cbor.AppendText(nil, s) }
	integer := func(i int64) []byte { return cbor.AppendInt(nil, i) }
	null := cbor.AppendNull(nil)
	tag := func(name string, op uint64) []byte {
		c := id(name)
		return cbor.AppendUint(cbor.AppendBytes(cbor.AppendArray(nil, 2), c[:]), op)
	}
	mvr := func(v []byte, tags ...[]byte) []byte {
		b := append(cbor.AppendArray(nil, 2), v...)
		return append(cbor.AppendArray(b, len(tags)), bytes.Join(tags, nil)...)
	}
	lwwJSON, lwwUnknown := crdt.KindOf(crdt.LWW, value.TypeJSON), crdt.KindOf(crdt.LWW, 0x0f)
	bothLists := crdt.KindOf(crdt.LWW, value.TypeInt|value.ListOf|value.ListOfNullable)
	a, b := "a", "b"
	if ids(a, b)[0] != id(a) {
		a, b = b, a
	}
	for _, test := range []struct {
		name string
		kind crdt.Kind
		arg  []byte
		void bool
	}{
		{"a value of the type", lwwInt, integer(-5), false},
		{"null", lwwInt, null, false},
		{"another type", lwwInt, text("5"), true},
		{"any value for JSON", lwwJSON, mvr(text("x"), integer(1)), false},
		{"no type", crdt.KindOf(crdt.LWW, value.TypeNone), null, true},
		{"unknown type", lwwUnknown, null, true},
		{"a list of both sorts", bothLists, null, true},
		{"unknown rule", crdt.KindOf(77, value.TypeInt), integer(1), true},
		{"no rule", crdt.KindOf(0, value.TypeInt), integer(1), true},
		{"an increment", countInt, integer(-5), false},
		{"a negative increment of a pcounter", pcountInt, integer(-5), true},
		{"nothing added to a pcounter", pcountInt, integer(0), false},
		{"null for a counter", countInt, null, true},
		{"text for an Int counter", countInt, text("5"), true},
		{"more than 64 bits", countInt, cbor.AppendUint(nil, 1<<63), true},
		{"a counter of texts", crdt.KindOf(crdt.PNCounter, value.TypeString), text("5"), true},
		{"a decimal", countFloat, text("-12.5"), false},
		{"a float for a decimal", countFloat, cbor.AppendFloat(nil, 12.5), true},
		{"an int for a decimal", countFloat, integer(12), true},
		{"zero", countFloat, text("0"), false},
		{"minus zero", countFloat, text("-0"), true},
		{"a trailing zero", countFloat, text("1.50"), true},
		{"a leading zero", countFloat, text("01"), true},
		{"no integer part", countFloat, text(".5"), true},
		{"no fraction", countFloat, text("5."), true},
		{"an exponent", countFloat, text("5e3"), true},
		{"a plus sign", countFloat, text("+5"), true},
		{"two points", countFloat, text("1.2.3"), true},
		{"infinity", countFloat, text("inf"), true},
		{"an empty decimal", countFloat, text(""), true},
		{"a sign alone", countFloat, text("-"), true},
		{"as many digits as there may be", countFloat, text(strings.Repeat("9", crdt.MaxDigits) + "." + strings.Repeat("9", crdt.MaxFraction)), false},
		{"a digit more", countFloat, text(strings.Repeat("9", crdt.MaxDigits+1)), true},
		{"a decimal more", countFloat, text("0." + strings.Repeat("9", crdt.MaxFraction+1)), true},
		{"a negative decimal for a pcounter", crdt.KindOf(crdt.PCounter, value.TypeFloat64), text("-0.5"), true},
		{"a write that overwrites two", mvrInt, mvr(integer(1), tag(a, 0), tag(b, 7)), false},
		{"a write that overwrites none", mvrInt, mvr(null), false},
		{"a value alone", mvrInt, integer(1), true},
		{"an mvregister of another type", mvrInt, mvr(text("1")), true},
		{"unsorted tags", mvrInt, mvr(integer(1), tag(b, 0), tag(a, 0)), true},
		{"a tag twice", mvrInt, mvr(integer(1), tag(a, 0), tag(a, 0)), true},
		{"an index beyond 32 bits", mvrInt, mvr(integer(1), tag(a, 1<<32)), true},
		{"a short commit", mvrInt, mvr(integer(1), cbor.AppendUint(cbor.AppendBytes(cbor.AppendArray(nil, 2), make([]byte, 31)), 0)), true},
		{"three parts of a tag", mvrInt, mvr(integer(1), append([]byte{0x83}, append(tag(a, 0)[1:], 0)...)), true},
	} {
		in := operation(test.kind, test.arg)
		r := cbor.NewReader(in)
		d := crdt.ReadDelta(r)
		if err := r.Done(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if d.Void != test.void {
			t.Errorf("%s: void is %v, want %v", test.name, d.Void, test.void)
		}
		if out := crdt.AppendDelta(nil, d); !bytes.Equal(out, in) {
			t.Errorf("%s: read %x, wrote %x", test.name, in, out)
		}
		if err := crdt.CheckDelta(d); (err != nil) != test.void || err != nil && !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: check: %v", test.name, err)
		}
	}
}

func TestInvalidOperations(t *testing.T) {
	t.Parallel()
	for name, in := range map[string][]byte{
		"two parts":          {0x82, 0x10, 0x19, 0x01, 0x03},
		"four parts":         {0x84, 0x10, 0x19, 0x01, 0x03, 0x01, 0x01},
		"no array":           {0x01},
		"negative field":     {0x83, 0x20, 0x19, 0x01, 0x03, 0x01},
		"field of 33 bits":   {0x83, 0x1b, 0, 0, 0, 1, 0, 0, 0, 0, 0x19, 0x01, 0x03, 0x01},
		"kind of 17 bits":    {0x83, 0x10, 0x1a, 0, 1, 0, 0, 0x01},
		"field not minimal":  {0x83, 0x18, 0x10, 0x19, 0x01, 0x03, 0x01},
		"argument malformed": {0x83, 0x10, 0x19, 0x01, 0x03, 0x18, 0x01},
		"nothing":            {},
	} {
		r := cbor.NewReader(in)
		crdt.ReadDelta(r)
		// The bytes are input of somebody, not of this package: the error must say so.
		if err := r.Done(); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want an error that is fault.Invalid", name, err)
		}
	}
}

func TestCheckDeltaSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]crdt.Delta{
		"only a pncounter":    {Field: 16, Kind: pcountInt, Val: value.OfInt(-1)},
		"give a number":       {Field: 16, Kind: countInt, Val: value.OfBool(true)},
		"canonical decimal":   {Field: 16, Kind: countFloat, Val: value.OfString("1e5")},
		"sort them":           {Field: 16, Kind: mvrInt, Val: value.OfInt(1), Over: []crdt.Tag{{Op: 1}, {Op: 1}}},
		"unknown":             {Field: 16, Kind: crdt.KindOf(50, value.TypeInt), Val: value.OfInt(1)},
		"does not fit":        {Field: 16, Kind: lwwInt, Val: value.OfString("1")},
		"convert it":          {Field: 16, Kind: lwwInt, Val: value.OfFloat(1)},
		"the operation is vo": {Field: 16, Kind: lwwInt, Void: true},
	} {
		if err := crdt.CheckDelta(d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", d, err, want)
		}
	}
}

package veil_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/veil"
)

// What does not say exactly one thing about keys makes a commit invalid on every node: other
// bytes, or other readings of the same, would let nodes disagree on who is given which keys.
func TestOperationsThatAreNone(t *testing.T) {
	t.Parallel()
	sized := func(n int) []byte { return cbor.AppendBytes(nil, make([]byte, n)) }
	op := func(kind uint64, parts int, rest ...[]byte) []byte {
		return slices.Concat(append([][]byte{cbor.AppendUint(cbor.AppendArray(nil, parts), kind)}, rest...)...)
	}
	list := func(items ...[]byte) []byte {
		return slices.Concat(append([][]byte{cbor.AppendArray(nil, len(items))}, items...)...)
	}
	fields := func(all bool, numbers ...uint64) []byte {
		b := cbor.AppendArray(cbor.AppendBool(nil, all), len(numbers))
		for _, n := range numbers {
			b = cbor.AppendUint(b, n)
		}
		return b
	}
	low, high := people[1].Public(), people[2].Public()
	if low > high {
		low, high = high, low
	}
	wrap := func(to string, n int) []byte { return list(cbor.AppendBytes(nil, []byte(to)), sized(n)) }
	some := wrap(string(low), 80)
	other := cbor.AppendBytes(nil, bytes.Repeat([]byte{1}, 32))
	const link = 32 + 24 + 16
	read := func(raw []byte) error {
		_, err := veil.Ops([]crdt.Delta{{Field: crdt.FieldKeys, Kind: crdt.KindKeys, Void: true, Raw: raw}})
		return err
	}
	for what, raw := range map[string][]byte{
		"hide all":    op(1, 3, fields(true)),
		"hide fields": op(1, 3, fields(false, 16, 18)),
		"begin":       op(2, 2, sized(32)),
		"give":        op(3, 3, sized(32), list(some, wrap(string(high), 128))),
		"link":        op(4, 4, sized(32), other, sized(link)),
		"publish":     op(5, 3, sized(32), sized(32)),
	} {
		if err := read(raw); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, raw := range map[string][]byte{
		"kind 0":                       op(0, 2, sized(32)),
		"kind 6":                       op(6, 2, sized(32)),
		"a kind beyond a byte":         op(258, 2, sized(32)),
		"no kind":                      list(),
		"hide of two parts":            op(1, 2, fields(true)),
		"begin of three":               op(2, 3, sized(32)),
		"nothing hidden":               op(1, 3, fields(false)),
		"seven fields":                 op(1, 3, fields(false, 16, 17, 18, 19, 20, 21, 22)),
		"a reserved field":             op(1, 3, fields(true, 15)),
		"a field beyond all numbers":   op(1, 3, fields(false, 1<<32+16)),
		"fields in disorder":           op(1, 3, fields(false, 18, 16)),
		"a field twice":                op(1, 3, fields(false, 16, 16)),
		"a short epoch":                op(2, 2, sized(31)),
		"a long epoch":                 op(2, 2, sized(33)),
		"keys for nobody":              op(3, 3, sized(32), list()),
		"a wrap of one part":           op(3, 3, sized(32), list(list(cbor.AppendBytes(nil, []byte(low))))),
		"a wrap of three":              op(3, 3, sized(32), list(list(cbor.AppendBytes(nil, []byte(low)), sized(80), sized(1)))),
		"a wrap to no key":             op(3, 3, sized(32), list(wrap(string(low[:33]), 80))),
		"a wrap of nothing":            op(3, 3, sized(32), list(wrap(string(low), 0))),
		"a wrap of too much":           op(3, 3, sized(32), list(wrap(string(low), 129))),
		"wraps in disorder":            op(3, 3, sized(32), list(wrap(string(high), 80), some)),
		"a reader twice":               op(3, 3, sized(32), list(some, some)),
		"a short link":                 op(4, 4, sized(32), other, sized(link-1)),
		"a long link":                  op(4, 4, sized(32), other, sized(link+1)),
		"a link to itself":             op(4, 4, other, other, sized(link)),
		"a short secret":               op(5, 3, sized(32), sized(31)),
		"something after the end":      append(op(2, 2, sized(32)), 0),
		"keys for readers without end": op(3, 3, sized(32), append(cbor.AppendArray(nil, veil.MaxReaders+1), bytes.Repeat(some, veil.MaxReaders+1)...)),
	} {
		if err := read(raw); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want invalid", what, err)
		}
	}
	another := crdt.Delta{Field: crdt.FieldKeys, Kind: crdt.KindAccess, Void: true, Raw: op(2, 2, sized(32))}
	if _, err := veil.Ops([]crdt.Delta{another}); !errors.Is(err, fault.Invalid) {
		t.Errorf("another kind on the field of keys: %v, want invalid", err)
	}
}

// A commit does so much with keys and no more.
func TestOperationsOfACommitAreBounded(t *testing.T) {
	t.Parallel()
	try := func(n int, o veil.Op) error {
		_, err := veil.Ops(slices.Repeat([]crdt.Delta{o.Delta()}, n))
		return err
	}
	give := func(readers int) (o veil.Op) {
		o.Kind = veil.Give
		for i := range readers {
			o.Wraps = append(o.Wraps, veil.Wrap{To: someKey(i), Sealed: []byte("sealed")})
		}
		slices.SortFunc(o.Wraps, func(a, b veil.Wrap) int { return bytes.Compare([]byte(a.To), []byte(b.To)) })
		return o
	}
	for what, c := range map[string]struct {
		op   veil.Op
		most int
	}{
		"links":   {veil.Op{Kind: veil.Link, Older: veil.EpochID{1}, Sealed: make([]byte, 32+24+16)}, veil.MaxLinks},
		"secrets": {veil.Op{Kind: veil.Publish}, veil.MaxLinks},
		"gifts":   {give(1), veil.MaxLinks},
		"readers": {give(veil.MaxReaders / 4), 4},
	} {
		if err := try(c.most, c.op); err != nil {
			t.Errorf("%d %s: %v", c.most, what, err)
		}
		if err := try(c.most+1, c.op); !errors.Is(err, fault.Invalid) {
			t.Errorf("%d %s: %v, want invalid", c.most+1, what, err)
		}
	}
}

package cbor_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ipld/go-ipld-prime"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
)

const cid = "01711220" + "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What one peer may send to another in the hope of a second spelling of the
// same commit, of a crash, or of a large allocation.
func TestHostileInputIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "", "ends where an item"},
		{"uint in one byte too many", "1817", "shortest form"},
		{"uint in two bytes", "1900ff", "shortest form"},
		{"uint in four bytes", "1a0000ffff", "shortest form"},
		{"uint in eight bytes", "1b00000000ffffffff", "shortest form"},
		{"negative not minimal", "3800", "shortest form"},
		{"text length not minimal", "780161", "shortest form"},
		{"array length not minimal", "980100", "shortest form"},
		{"tag not minimal", "d9002a450001020304", "shortest form"},
		{"uint cut short", "19ff", "cut short"},
		{"negative below 64 bits", "3b8000000000000000", "does not fit"},
		{"reserved additional information", "1c", "definite"},
		{"indefinite bytes", "5f4100ff", "definite"},
		{"indefinite text", "7f6161ff", "definite"},
		{"indefinite array", "9f00ff", "definite"},
		{"indefinite map", "bf616100ff", "definite"},
		{"break", "ff", "no dag-cbor item"},
		{"bytes cut short", "4401", "cut short"},
		{"bytes longer than memory", "5bffffffffffffffff", "cut short"},
		{"text longer than memory", "7bffffffffffffffff", "cut short"},
		{"array of 2^64-1", "9bffffffffffffffff", "cut short"},
		{"array of more items than bytes", "83 00", "cut short"},
		{"map of 2^63", "bb8000000000000000", "cut short"},
		{"map of more pairs than bytes", "a2 6161 00", "cut short"},
		{"map value missing", "a1 6161", "ends where an item"},
		{"text not UTF-8", "61ff", "UTF-8"},
		{"text with a surrogate", "63eda080", "UTF-8"},
		{"text overlong", "62c080", "UTF-8"},
		{"map key is a number", "a1 00 00", "want text"},
		{"map key is bytes", "a1 4161 00", "want text"},
		{"map keys twice", "a2 6161 00 6161 01", "unique and sorted"},
		{"map keys unsorted", "a2 6162 00 6161 00", "unique and sorted"},
		{"map keys long before short", "a2 626161 00 6162 00", "unique and sorted"},
		{"undefined", "f7", "no dag-cbor item"},
		{"simple value", "f0", "no dag-cbor item"},
		{"simple value in two bytes", "f8ff", "no dag-cbor item"},
		{"false in two bytes", "f814", "no dag-cbor item"},
		{"half float", "f93c00", "64 bits"},
		{"single float", "fa3f800000", "64 bits"},
		{"float cut short", "fb3ff0", "cut short"},
		{"NaN", "fb7ff8000000000000", "no canonical form"},
		{"infinity", "fb7ff0000000000000", "no canonical form"},
		{"negative infinity", "fbfff0000000000000", "no canonical form"},
		{"negative zero", "fb8000000000000000", "no canonical form"},
		{"a date tag", "c074323031332d30332d32315432303a30343a30305a", "only tag 42"},
		{"a bignum tag", "c249010000000000000000", "only tag 42"},
		{"link without bytes", "d82a00", "want bytes"},
		{"link as text", "d82a6161", "want bytes"},
		{"link empty", "d82a40", "not a binary CID"},
		{"link without prefix", "d82a 5824" + cid, "not a binary CID"},
		{"link with other prefix", "d82a 5825 01" + cid, "not a binary CID"},
		{"link cut short", "d82a 5824 00" + cid[:70], "not a binary CID"},
		{"link too long", "d82a 5826 00" + cid + "00", "not a binary CID"},
		{"link whose version is not minimal", "d82a 5826 00 8100" + cid[2:], "not a binary CID"},
		{"tag in tag", "d82ad82a450001020304", "want bytes"},
		{"too deep arrays", strings.Repeat("81", 17) + "00", "nested more than 16"},
		{"too deep maps", strings.Repeat("a16161", 17) + "00", "nested more than 16"},
		{"very deep", strings.Repeat("81", 1<<20) + "00", "nested more than 16"},
		{"trailing bytes", "0000", "follow the end"},
		{"hidden in an array", "82 00 1817", "shortest form"},
		{"hidden in a map", "a1 6161 1817", "shortest form"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := cbor.NewReader(unhex(t, c.in))
			r.Skip()
			err := r.Done()
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, fault.Invalid) {
				t.Fatalf("Skip(%.60s): got error %v, want fault.Invalid with %q", c.in, err, c.want)
			}
		})
	}
}

func TestEveryTypeIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	link := unhex(t, cid)
	var b []byte
	b = cbor.AppendArray(b, 14)
	b = cbor.AppendUint(b, math.MaxUint64)
	b = cbor.AppendInt(b, math.MinInt64)
	b = cbor.AppendInt(b, math.MaxInt64)
	b = cbor.AppendInt(b, -1)
	b = cbor.AppendBytes(b, []byte{0, 1})
	b = cbor.AppendText(b, "grüße")
	b = cbor.AppendMap(b, 2)
	b = cbor.AppendText(b, "b")
	b = cbor.AppendBool(b, true)
	b = cbor.AppendText(b, "aa")
	b = cbor.AppendBool(b, false)
	b = cbor.AppendNull(b)
	b = cbor.AppendFloat(b, -1.5)
	b = cbor.AppendFloat(b, math.Copysign(0, -1))
	b = cbor.AppendLink(b, link)
	b = cbor.AppendBytes(b, nil)
	b = cbor.AppendText(b, "")
	b = cbor.AppendArray(b, 0)

	r := cbor.NewReader(b)
	equal(t, r.Array(), 14)
	equal(t, r.Uint(), uint64(math.MaxUint64))
	equal(t, r.Int(), math.MinInt64)
	equal(t, r.Int(), math.MaxInt64)
	equal(t, r.Peek(), cbor.NegInt)
	equal(t, r.Int(), -1)
	equal(t, string(r.Bytes()), "\x00\x01")
	equal(t, r.Text(), "grüße")
	equal(t, r.Map(), 2)
	equal(t, r.Text(), "b")
	equal(t, r.Bool(), true)
	equal(t, r.Text(), "aa")
	equal(t, r.Null(), false)
	equal(t, r.Bool(), false)
	equal(t, r.Null(), true)
	equal(t, r.Float(), -1.5)
	equal(t, math.Signbit(r.Float()), false)
	equal(t, string(r.Link()), string(link))
	equal(t, len(r.Bytes()), 0)
	equal(t, r.Text(), "")
	equal(t, r.Array(), 0)
	equal(t, r.Peek(), cbor.End)
	equal(t, r.Done(), nil)
}

func TestTheFirstErrorStays(t *testing.T) {
	t.Parallel()
	r := cbor.NewReader(cbor.AppendText(cbor.AppendUint(nil, 7), "x"))
	equal(t, r.Text(), "")
	first := r.Err()
	if first == nil || !strings.Contains(first.Error(), "found unsigned integer, want text") {
		t.Fatalf("Text at an integer: got error %v", first)
	}
	equal(t, r.Uint(), 0)
	equal(t, r.Peek(), cbor.End)
	equal(t, r.Array()+r.Map()+len(r.Skip())+len(r.Link())+len(r.Bytes()), 0)
	r.Fail(errors.New("later"))
	equal(t, r.Done(), first)
	r.Reset(cbor.AppendUint(nil, 7))
	equal(t, r.Uint(), 7)
	equal(t, r.Done(), nil)
}

// A map read by hand, key by key, obeys the same rules as one that is skipped.
func TestMapReadByHandIsChecked(t *testing.T) {
	t.Parallel()
	r := cbor.NewReader(unhex(t, "a1 6161 a2 6162 00 6161 00"))
	equal(t, r.Map(), 0)
	if r.Err() == nil {
		t.Fatal("a map with unsorted keys inside was accepted")
	}
}

func TestCIDVersion0IsALink(t *testing.T) {
	t.Parallel()
	v0 := unhex(t, cid[4:])
	r := cbor.NewReader(cbor.AppendLink(nil, v0))
	equal(t, string(r.Link()), string(v0))
	equal(t, r.Done(), nil)
}

func TestAnyItemRoundTrips(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := drawItem(t, cbor.MaxNesting)
		r := cbor.NewReader(want)
		got := r.Skip()
		if err := r.Done(); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("Skip(%x): got %x, %v", want, got, err)
		}
		if got := rewrite(t, want); !bytes.Equal(got, want) {
			t.Fatalf("read and written again: got %x, want %x", got, want)
		}
		checkOracle(t, want)
	})
}

func FuzzSkip(f *testing.F) {
	for _, s := range []string{"00", "3bffffffffffffffff", "d82a582500" + cid, "a2616100626161f6", "fb3ff8000000000000", "8301820203816161"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := cbor.NewReader(in)
		r.Skip()
		if r.Done() != nil {
			return
		}
		if got := rewrite(t, in); !bytes.Equal(got, in) {
			t.Fatalf("read and written again: got %x, want %x", got, in)
		}
		checkOracle(t, in)
	})
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// rewrite reads in with the typed methods and writes what it got.
func rewrite(t failer, in []byte) []byte {
	t.Helper()
	r := cbor.NewReader(in)
	out := copyItem(nil, r)
	if err := r.Done(); err != nil {
		t.Fatalf("typed reading of %x, which Skip accepts: %v", in, err)
	}
	return out
}

func copyItem(b []byte, r *cbor.Reader) []byte {
	switch r.Peek() {
	case cbor.Uint:
		return cbor.AppendUint(b, r.Uint())
	case cbor.NegInt:
		return cbor.AppendInt(b, r.Int())
	case cbor.Bytes:
		return cbor.AppendBytes(b, r.Bytes())
	case cbor.Text:
		return cbor.AppendText(b, r.Text())
	case cbor.Tag:
		return cbor.AppendLink(b, r.Link())
	case cbor.Bool:
		return cbor.AppendBool(b, r.Bool())
	case cbor.Float:
		return cbor.AppendFloat(b, r.Float())
	case cbor.Array:
		n := r.Array()
		b = cbor.AppendArray(b, n)
		for range n {
			b = copyItem(b, r)
		}
		return b
	case cbor.Map:
		n := r.Map()
		b = cbor.AppendMap(b, n)
		for range n {
			b = copyItem(cbor.AppendText(b, r.Text()), r)
		}
		return b
	}
	if r.Null() {
		return cbor.AppendNull(b)
	}
	return b
}

// checkOracle lets another implementation of dag-cbor read and write the item.
func checkOracle(t failer, in []byte) {
	t.Helper()
	nb := basicnode.Prototype.Any.NewBuilder()
	if err := dagcbor.Decode(nb, bytes.NewReader(in)); err != nil {
		t.Fatalf("go-ipld-prime refuses %x: %v", in, err)
	}
	got, err := ipld.Encode(nb.Build(), dagcbor.Encode)
	if err != nil {
		t.Fatalf("go-ipld-prime cannot write %x: %v", in, err)
	}
	if !bytes.Equal(got, in) {
		t.Fatalf("go-ipld-prime writes %x, want %x", got, in)
	}
}

func drawItem(t *rapid.T, nesting int) []byte {
	kinds := 8
	if nesting > 0 {
		kinds = 10
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return cbor.AppendUint(nil, rapid.Uint64().Draw(t, "uint"))
	case 1:
		return cbor.AppendInt(nil, rapid.Int64().Draw(t, "int"))
	case 2:
		return cbor.AppendBytes(nil, rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
	case 3:
		return cbor.AppendText(nil, rapid.String().Draw(t, "text"))
	case 4:
		return cbor.AppendBool(nil, rapid.Bool().Draw(t, "bool"))
	case 5:
		return cbor.AppendNull(nil)
	case 6:
		f := rapid.Float64().Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) })
		return cbor.AppendFloat(nil, f.Draw(t, "float"))
	case 7:
		digest := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest")
		return cbor.AppendLink(nil, append([]byte{1, 0x71, 0x12, 32}, digest...))
	case 8:
		n := rapid.IntRange(0, 4).Draw(t, "len")
		b := cbor.AppendArray(nil, n)
		for range n {
			b = append(b, drawItem(t, nesting-1)...)
		}
		return b
	default:
		keys := rapid.SliceOfNDistinct(rapid.String(), 0, 4, rapid.ID).Draw(t, "keys")
		slices.SortFunc(keys, cbor.CompareKeys)
		b := cbor.AppendMap(nil, len(keys))
		for _, k := range keys {
			b = append(cbor.AppendText(b, k), drawItem(t, nesting-1)...)
		}
		return b
	}
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// header has the shape and size of the header of a commit.
func header() []byte {
	link := append([]byte{1, 0x71, 0x12, 32}, make([]byte, 32)...)
	b := cbor.AppendArray(nil, 9)
	b = cbor.AppendUint(b, 1)
	b = cbor.AppendBytes(b, link[4:])
	b = cbor.AppendArray(b, 2)
	b = cbor.AppendLink(cbor.AppendLink(b, link), link)
	b = cbor.AppendUint(b, 12)
	b = cbor.AppendUint(b, 1<<60)
	b = cbor.AppendBytes(b, link)
	b = cbor.AppendNull(b)
	b = cbor.AppendText(b, "a text of some length, as fields have them")
	return cbor.AppendMap(b, 0)
}

func BenchmarkSkip(b *testing.B) {
	in := header()
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	var r cbor.Reader
	for b.Loop() {
		r.Reset(in)
		if r.Skip(); r.Done() != nil {
			b.Fatal(r.Err())
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = buf[:0]
		buf = cbor.AppendArray(buf, 3)
		buf = cbor.AppendUint(buf, 17)
		buf = cbor.AppendInt(buf, -1<<40)
		buf = cbor.AppendText(buf, "a text")
	}
}

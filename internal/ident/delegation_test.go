package ident

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// office is Ada's word that a gateway may write her notes for an hour.
func office(t testing.TB) (d Delegation, ada, gateway Key) {
	ada, gateway = testKey(t, EdDSA, 1), testKey(t, ES256, 2)
	d = Delegation{Author: ada.Public(), Gateway: gateway.Public(), Collections: [][32]byte{{1}, {2}},
		NotBefore: noon, NotAfter: noon.Add(time.Hour)}
	return d, ada, gateway
}

func sealed(t testing.TB, d Delegation, k Key) []byte {
	t.Helper()
	b, err := d.Seal(k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestADelegationSaysWhoWhereAndWhen(t *testing.T) {
	d, ada, gateway := office(t)
	got, err := OpenDelegation(sealed(t, d, ada))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		gateway    PublicKey
		collection byte
		at         time.Time
		allowed    bool
	}{
		"as it is meant":         {gateway.Public(), 1, noon.Add(time.Minute), true},
		"the other collection":   {gateway.Public(), 2, noon.Add(time.Minute), true},
		"at its beginning":       {gateway.Public(), 1, noon, true},
		"at its end":             {gateway.Public(), 1, noon.Add(time.Hour), true},
		"within its last moment": {gateway.Public(), 1, noon.Add(time.Hour + time.Microsecond), true},
		"too early":              {gateway.Public(), 1, noon.Add(-time.Millisecond), false},
		"too late":               {gateway.Public(), 1, noon.Add(time.Hour + time.Millisecond), false},
		"another gateway":        {testKey(t, EdDSA, 3).Public(), 1, noon, false},
		"the author herself":     {ada.Public(), 1, noon, false},
		"a third collection":     {gateway.Public(), 3, noon, false},
	} {
		err := allows(got, c.gateway, [32]byte{c.collection}, c.at)
		if (err == nil) != c.allowed || err != nil && !errors.Is(err, fault.Denied) {
			t.Errorf("%s: %v, want allowed %v", name, err, c.allowed)
		}
	}
	d.Collections = nil
	if got, err = OpenDelegation(sealed(t, d, ada)); err != nil || allows(got, gateway.Public(), [32]byte{9}, noon) != nil {
		t.Errorf("without collections it does not extend to all: %v", err)
	}
}

func TestDelegationsThatNobodyCanMake(t *testing.T) {
	whole, ada, gateway := office(t)
	for name, change := range map[string]func(d *Delegation){
		"no author":            func(d *Delegation) { d.Author = "" },
		"no gateway":           func(d *Delegation) { d.Gateway = "" },
		"a malformed gateway":  func(d *Delegation) { d.Gateway = d.Gateway[:30] },
		"to oneself":           func(d *Delegation) { d.Gateway = ada.Public() },
		"for somebody else":    func(d *Delegation) { d.Author = testKey(t, EdDSA, 4).Public() },
		"ends before it began": func(d *Delegation) { d.NotAfter = d.NotBefore.Add(-time.Millisecond) },
		"before time":          func(d *Delegation) { d.NotBefore = time.Time{} },
		"after time":           func(d *Delegation) { d.NotAfter = time.UnixMilli(maxInstant + 1) },
		"too many collections": func(d *Delegation) {
			for i := range MaxDelegated + 1 {
				d.Collections = append(d.Collections, [32]byte{9, byte(i)})
			}
		},
	} {
		d := whole
		change(&d)
		if b, err := d.Seal(ada); !errors.Is(err, fault.Invalid) && !errors.Is(err, fault.Denied) {
			t.Errorf("%s: sealed as %x, %v", name, b, err)
		}
	}
	if _, err := whole.Seal(gateway); !errors.Is(err, fault.Denied) {
		t.Errorf("the gateway signs its own delegation: %v", err)
	}
	whole.Collections = nil
	for i := range MaxDelegated {
		whole.Collections = append(whole.Collections, [32]byte{byte(MaxDelegated - i)}, [32]byte{byte(i + 1)})
	}
	if b := sealed(t, whole, ada); len(b) > MaxDelegationSize {
		t.Errorf("the largest delegation has %d bytes, more than %d", len(b), MaxDelegationSize)
	}
}

// Eve alters a delegation in any bit: to her own gateway, to later, to more.
func TestAnAlteredDelegationIsRefused(t *testing.T) {
	for _, alg := range algorithms {
		ada := testKey(t, alg, 7)
		d, _, _ := office(t)
		d.Author = ada.Public()
		b := sealed(t, d, ada)
		if _, err := OpenDelegation(b); err != nil {
			t.Fatal(err)
		}
		for i := range 8 * len(b) {
			forged := bytes.Clone(b)
			forged[i/8] ^= 1 << (i % 8)
			if got, err := OpenDelegation(forged); !errors.Is(err, fault.Invalid) {
				t.Errorf("%s: bit %d altered: opened as %+v, %v", alg, i, got, err)
			}
		}
		for n := range b {
			if _, err := OpenDelegation(b[:n:n]); !errors.Is(err, fault.Invalid) {
				t.Errorf("%s: cut to %d bytes: %v", alg, n, err)
			}
		}
		if _, err := OpenDelegation(append(bytes.Clone(b), 0)); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: with a byte behind: %v", alg, err)
		}
	}
}

// Another spelling of the same words is another proof, so none other counts, not even
// if the author signs it.
func TestADelegationHasOneForm(t *testing.T) {
	d, ada, _ := office(t)
	text := d.append(nil)
	reversed := d
	reversed.Collections = [][32]byte{{2}, {1}}
	twice := d
	twice.Collections = [][32]byte{{1}, {1}}
	empty := Delegation{Author: d.Author, Gateway: d.Gateway, NotBefore: noon, NotAfter: noon}.append(nil)
	empty[len(empty)-2*9-1] = 0x80 // the null before the two instants
	long := bytes.Replace(text, binary.BigEndian.AppendUint64([]byte{0x1b}, uint64(noon.UnixMilli())), cbor.AppendText(nil, noon.String()), 1)
	sized := func(n int) []byte { // the first of the two collections
		first := cbor.AppendBytes(nil, d.Collections[0][:])
		return bytes.Replace(text, first, cbor.AppendBytes(nil, append(d.Collections[0][:], 0)[:n]), 1)
	}
	ends := func(ms uint64) []byte { return append(text[:len(text)-9:len(text)-9], cbor.AppendUint(nil, ms)...) }
	newer := bytes.Clone(text)
	newer[1] = 2
	for name, text := range map[string][]byte{
		"collections in another order":  reversed.append(nil),
		"a collection twice":            twice.append(nil),
		"a list of no collections":      empty,
		"a date as text":                long,
		"another version":               newer,
		"something behind":              append(bytes.Clone(text), 0xf6),
		"a collection with a byte less": sized(31),
		"a collection with a byte more": sized(33),
		"an end that nobody can tell":   ends(maxInstant + 1),
		"an end beyond all numbers":     ends(math.MaxUint64),
	} {
		if bytes.Equal(text, d.append(nil)) {
			t.Fatalf("%s: the test changes nothing", name)
		}
		b, err := seal(delegationDomain, text, ada)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := OpenDelegation(b); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: opened as %+v, %v", name, got, err)
		}
	}
	for _, n := range []int{0, SignatureSize - 1, SignatureSize + 1} {
		b := cbor.AppendBytes(cbor.AppendBytes(cbor.AppendArray(nil, 2), text), make([]byte, n))
		if got, err := ParseDelegation(b); !errors.Is(err, fault.Invalid) {
			t.Errorf("with a signature of %d bytes: parsed as %+v, %v", n, got, err)
		}
	}
	for _, domain := range []string{"", "pando/1 commit\n"} {
		if b, _ := seal(domain, text, ada); bytes.Equal(b, sealed(t, d, ada)) {
			t.Errorf("a signature under %q is one of a delegation", domain)
		} else if _, err := OpenDelegation(b); err == nil {
			t.Errorf("a text signed under %q is taken for a delegation", domain)
		}
	}
}

func TestAnyDelegationComesBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		k := testKey(t, rapid.SampledFrom(algorithms).Draw(rt, "alg"), 1)
		d := Delegation{Author: k.Public(), Gateway: testKey(t, rapid.SampledFrom(algorithms).Draw(rt, "gateway"), 2).Public()}
		for _, c := range rapid.SliceOfNDistinct(rapid.Byte(), 0, 10, rapid.ID).Draw(rt, "collections") {
			d.Collections = append(d.Collections, [32]byte{c})
		}
		from := rapid.Int64Range(0, maxInstant).Draw(rt, "from")
		d.NotBefore, d.NotAfter = time.UnixMilli(from), time.UnixMilli(rapid.Int64Range(from, maxInstant).Draw(rt, "to"))
		b, err := d.Seal(k)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := OpenDelegation(b)
		if err != nil {
			rt.Fatal(err)
		}
		for _, c := range d.Collections {
			if err := allows(got, d.Gateway, c, d.NotBefore); err != nil {
				rt.Fatal(err)
			}
		}
		if again, err := got.Seal(k); err != nil || !bytes.Equal(again, b) {
			rt.Fatalf("sealed again as %x, %v, want %x", again, err, b)
		}
	})
}

// The memory of good delegations does not grow without end.
func TestVerifiedDelegationsAreBounded(t *testing.T) {
	p := proofs[Delegation]{good: map[[32]byte]Delegation{}}
	for i := range 3 * maxOpened {
		id := [32]byte{byte(i), byte(i >> 8)}
		p.put(id, Delegation{})
		if _, ok := p.get(id); !ok || len(p.good) > maxOpened {
			t.Fatalf("after %d: the last is known %v, %d are held, want at most %d", i, ok, len(p.good), maxOpened)
		}
	}
}

func FuzzOpenDelegation(f *testing.F) {
	d, ada, _ := office(f)
	f.Add(sealed(f, d, ada))
	d.Collections = nil
	f.Add(sealed(f, d, ada))
	f.Add([]byte("\x82\x9b\x00\x00\x00\x7f\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, s, err := parseDelegation(b)
		if err != nil {
			if !errors.Is(err, fault.Invalid) || len(err.Error()) > 400 {
				t.Errorf("an error of %d characters: %v", len(err.Error()), err)
			}
			return
		}
		again := cbor.AppendBytes(cbor.AppendBytes(cbor.AppendArray(nil, 2), d.append(nil)), s.sigs[0])
		if !bytes.Equal(again, b) {
			t.Errorf("read\n%x, written again\n%x", b, again)
		}
	})
}

// 10,000 commits under one delegation cost one verification.
func BenchmarkOpenDelegation(b *testing.B) {
	d, _, _ := office(b)
	for _, alg := range algorithms {
		k := testKey(b, alg, 9)
		d.Author = k.Public()
		raw := sealed(b, d, k)
		b.Run(fmt.Sprintf("%s/first", alg), func(b *testing.B) {
			for b.Loop() {
				clear(opened.good)
				if _, err := OpenDelegation(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%s/again", alg), func(b *testing.B) {
			for b.Loop() {
				if _, err := OpenDelegation(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestDelegationErrorsAreForPeople(t *testing.T) {
	d, ada, gateway := office(t)
	got, err := OpenDelegation(sealed(t, d, ada))
	if err != nil {
		t.Fatal(err)
	}
	err = allows(got, gateway.Public(), [32]byte{1}, noon.Add(2*time.Hour))
	if err == nil || !strings.Contains(err.Error(), "ended at 2026-03-01T13:00:00Z") {
		t.Errorf("late: %v, want when it ended", err)
	}
}

// allows asks what a commit is asked for that names a delegation.
func allows(d Delegation, gateway PublicKey, collection [32]byte, at time.Time) error {
	if err := d.AllowsAt(gateway, at); err != nil {
		return err
	}
	return d.Covers(collection)
}

package radix_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/radix"
)

// set is the truth that trees are about.
type set map[[32]byte][32]byte

func (s set) source(lo, hi [32]byte) iter.Seq2[radix.Element, error] {
	return func(yield func(radix.Element, error) bool) {
		for _, k := range slices.SortedFunc(maps.Keys(s), compare) {
			if compare(k, lo) >= 0 && compare(k, hi) <= 0 && !yield(radix.Element{Key: k, Sum: s[k]}, nil) {
				return
			}
		}
	}
}

func compare(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }

// key spreads numbers like hashes do; crowded ones share a long prefix.
func key(n uint64, crowded bool) [32]byte {
	k := sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))
	if crowded {
		copy(k[:], "pando")
	}
	return k
}

func setOf(n uint64) set {
	s := set{}
	for i := range n {
		s[key(i, false)] = key(i+1, false)
	}
	return s
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func refresh(t fataler, tree *radix.Tree, s set) {
	t.Helper()
	if err := tree.Refresh(s.source); err != nil {
		t.Fatalf("refresh: %v", err)
	}
}

func fresh(t fataler, s set) *radix.Tree {
	t.Helper()
	tree := radix.New()
	refresh(t, tree, s)
	return tree
}

// same walks over both trees and fails at the first node that differs.
func same(t fataler, got, want *radix.Tree, p radix.Prefix) {
	t.Helper()
	g, gok := got.Node(p)
	w, wok := want.Node(p)
	if g != w || gok != wok {
		t.Fatalf("node %q is %+v %v, want %+v %v", p, g, gok, w, wok)
	}
	if gok && !g.Leaf {
		for i := range 16 {
			same(t, got, want, p.Child(i))
		}
	}
}

// naive is the definition of the hash, in so many words.
func naive(s set, prefix string) [32]byte {
	members := set{}
	for k, sum := range s {
		if strings.HasPrefix(hex.EncodeToString(k[:]), prefix) {
			members[k] = sum
		}
	}
	var b []byte
	if len(members) > 32 {
		b = append(b, "pando radix node 1"...)
		for _, nibble := range "0123456789abcdef" {
			child := naive(members, prefix+string(nibble))
			b = append(b, child[:]...)
		}
		return sha256.Sum256(b)
	}
	b = append(b, "pando radix leaf 1"...)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, byte(len(members)))
	for _, k := range slices.SortedFunc(maps.Keys(members), compare) {
		sum := members[k]
		b = append(append(b, k[:]...), sum[:]...)
	}
	return sha256.Sum256(b)
}

func TestHistoryLeavesNoTrace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, tree := set{}, radix.New()
		step := func(n uint64, crowded, remove bool) {
			k := key(n, crowded)
			if remove {
				delete(s, k)
			} else {
				s[k] = key(uint64(len(s)), false)
			}
			tree.Touch(k)
		}
		t.Repeat(map[string]func(*rapid.T){
			"one": func(t *rapid.T) {
				step(rapid.Uint64Range(0, 400).Draw(t, "n"), rapid.Bool().Draw(t, "crowded"), rapid.Bool().Draw(t, "remove"))
			},
			"many": func(t *rapid.T) {
				from, n := rapid.Uint64Range(0, 400).Draw(t, "from"), rapid.Uint64Range(0, 200).Draw(t, "n")
				crowded, remove := rapid.Bool().Draw(t, "crowded"), rapid.Bool().Draw(t, "remove")
				for i := range n {
					step(from+i, crowded, remove)
				}
			},
			"touched for nothing": func(t *rapid.T) {
				tree.Touch(key(rapid.Uint64().Draw(t, "n"), false))
			},
			"": func(t *rapid.T) {
				if !rapid.Bool().Draw(t, "refresh") {
					return
				}
				refresh(t, tree, s)
				same(t, tree, fresh(t, s), radix.Prefix{})
				n, sum := tree.Root()
				if want := naive(s, ""); n != uint64(len(s)) || sum != want {
					t.Fatalf("root is %d elements, %x; want %d, %x", n, sum, len(s), want)
				}
			},
		})
	})
}

// difference finds by hashes what a peer lacks, as a session between peers does.
func difference(t fataler, a, b *radix.Tree, as, bs set, p radix.Prefix, found map[[32]byte]bool) {
	an, aok := a.Node(p)
	bn, bok := b.Node(p)
	switch {
	case !aok && !bok:
		t.Fatalf("both trees end above %q, although the nodes there differ", p)
	case aok && bok && an.Sum == bn.Sum:
		return
	case aok && bok && !an.Leaf && !bn.Leaf:
		for i := range 16 {
			if an.Children[i] != bn.Children[i] {
				difference(t, a, b, as, bs, p.Child(i), found)
			}
		}
		return
	}
	lo, hi := p.Range()
	for e := range as.source(lo, hi) {
		if sum, ok := bs[e.Key]; !ok || sum != e.Sum {
			found[e.Key] = true
		}
	}
	for e := range bs.source(lo, hi) {
		if _, ok := as[e.Key]; !ok {
			found[e.Key] = true
		}
	}
}

func TestDifferenceIsFoundByHashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := setOf(rapid.Uint64Range(0, 1200).Draw(t, "size"))
		b, want := maps.Clone(a), map[[32]byte]bool{}
		for _, n := range rapid.SliceOfN(rapid.Uint64Range(0, 1500), 0, 40).Draw(t, "changed") {
			k := key(n, false)
			if _, ok := b[k]; ok && n%2 == 0 {
				delete(b, k)
			} else {
				b[k] = key(n+7, false)
			}
			want[k] = true
		}
		ta, tb, got := fresh(t, a), fresh(t, b), map[[32]byte]bool{}
		difference(t, ta, tb, a, b, radix.Prefix{}, got)
		maps.DeleteFunc(want, func(k [32]byte, _ bool) bool { // changed back
			av, aok := a[k]
			bv, bok := b[k]
			return aok == bok && av == bv
		})
		if !maps.Equal(got, want) {
			t.Fatalf("%d keys differ, want %d", len(got), len(want))
		}
		_, sa := ta.Root()
		_, sb := tb.Root()
		if (sa == sb) != (len(want) == 0) {
			t.Fatalf("%d keys differ, but equal roots: %v", len(want), sa == sb)
		}
	})
}

func TestLeafHoldsUpTo32(t *testing.T) {
	s := setOf(32)
	tree := fresh(t, s)
	if n, _ := tree.Node(radix.Prefix{}); !n.Leaf || n.Count != 32 {
		t.Fatalf("32 elements make %+v, want a leaf", n)
	}
	if _, ok := tree.Node(radix.Prefix{}.Child(3)); ok {
		t.Fatal("there is a node below a leaf")
	}
	extra := key(99, false)
	s[extra] = extra
	tree.Touch(extra)
	refresh(t, tree, s)
	if n, _ := tree.Node(radix.Prefix{}); n.Leaf || n.Count != 33 {
		t.Fatalf("33 elements make %+v, want no leaf", n)
	}
	delete(s, extra)
	tree.Touch(extra)
	refresh(t, tree, s)
	if n, _ := tree.Node(radix.Prefix{}); !n.Leaf || n.Count != 32 {
		t.Fatalf("back at 32 elements there is %+v, want a leaf", n)
	}
}

// The hashes are part of the protocol: peers of different versions compare them.
func TestHashesStayTheSame(t *testing.T) {
	for size, want := range map[uint64]string{
		0:    "cb79f1ad1eb563bc9f48e77dcb3bf56f6f268f4c487d0c52d35cef82146a8e78",
		1:    "4805bc7d385885b544e93a8f150e4c0333715fd144abc1e2e180537f9c58b679",
		1000: "7bde4ae04d80418f6fad9a481d02533beaf526ea2d85b12424912bafd083ec6b",
	} {
		if _, sum := fresh(t, setOf(size)).Root(); hex.EncodeToString(sum[:]) != want {
			t.Errorf("root of %d elements is %x, want %s", size, sum, want)
		}
	}
}

func TestReadsOnlyWhatWasTouched(t *testing.T) {
	s := setOf(5000)
	tree := fresh(t, s)
	k := key(4711, false)
	s[k] = k
	tree.Touch(k)
	read := 0
	err := tree.Refresh(func(lo, hi [32]byte) iter.Seq2[radix.Element, error] {
		return func(yield func(radix.Element, error) bool) {
			for e, err := range s.source(lo, hi) {
				if read++; !yield(e, err) {
					return
				}
			}
		}
	})
	if err != nil || read > radix.LeafMax {
		t.Fatalf("one change of 5000 elements read %d (%v), want at most a leaf", read, err)
	}
	same(t, tree, fresh(t, s), radix.Prefix{})
}

func TestRefreshGoesOnAfterAnError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := setOf(700)
		tree := fresh(t, s)
		for _, n := range rapid.SliceOfN(rapid.Uint64Range(0, 1400), 1, 300).Draw(t, "touched") {
			k := key(n, false)
			if _, ok := s[k]; ok {
				delete(s, k)
			} else {
				s[k] = k
			}
			tree.Touch(k)
		}
		broken := errors.New("the disk is gone")
		left := rapid.IntRange(0, 400).Draw(t, "readable")
		err := tree.Refresh(func(lo, hi [32]byte) iter.Seq2[radix.Element, error] {
			return func(yield func(radix.Element, error) bool) {
				for e := range s.source(lo, hi) {
					if left--; left < 0 {
						yield(radix.Element{}, broken)
						return
					}
					if !yield(e, nil) {
						return
					}
				}
			}
		})
		if err != nil && !errors.Is(err, broken) {
			t.Fatalf("refresh: %v, want what the source said", err)
		}
		refresh(t, tree, s)
		same(t, tree, fresh(t, s), radix.Prefix{})
	})
}

func TestDisorderlySourceIsRefused(t *testing.T) {
	a, b := key(1, false), key(2, false)
	if compare(a, b) > 0 {
		a, b = b, a
	}
	for name, keys := range map[string][][32]byte{"descending": {b, a}, "twice": {a, a}} {
		err := radix.New().Refresh(func(lo, hi [32]byte) iter.Seq2[radix.Element, error] {
			return func(yield func(radix.Element, error) bool) {
				for _, k := range keys {
					if !yield(radix.Element{Key: k}, nil) {
						return
					}
				}
			}
		})
		if !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v, want Corrupt", name, err)
		}
	}
}

func TestPrefixes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := key(rapid.Uint64().Draw(t, "key"), false)
		n := rapid.IntRange(0, 64).Draw(t, "length")
		p, grown := radix.PrefixOf(k, n), radix.Prefix{}
		for i := range n {
			grown = grown.Child(p.At(i))
		}
		if grown != p || p.Len() != n || p.String() != hex.EncodeToString(k[:])[:n] {
			t.Fatalf("prefix of %d nibbles of %x is %q, grown %q", n, k, p, grown)
		}
		lo, hi := p.Range()
		if !p.Contains(k) || !p.Contains(lo) || !p.Contains(hi) || compare(lo, k) > 0 || compare(k, hi) > 0 {
			t.Fatalf("%x is not between %x and %x", k, lo, hi)
		}
		if n > 0 && radix.PrefixOf(k, n-1).Child(p.At(n-1)^1).Contains(k) {
			t.Fatal("the sibling contains the key as well")
		}
		back, err := radix.ParsePrefix(p.AppendBinary(nil))
		if err != nil || back != p {
			t.Fatalf("%q comes back as %q: %v", p, back, err)
		}
	})
}

func FuzzParsePrefix(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{3, 0xab, 0xc0})
	f.Add([]byte{3, 0xab, 0xc1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := radix.ParsePrefix(b); err == nil && !bytes.Equal(p.AppendBinary(nil), b) {
			t.Fatalf("%x was read as %q, which is written %x", b, p, p.AppendBinary(nil))
		}
	})
}

// sorted is a big set as the store has it: in order, found by bisection.
type sorted []radix.Element

func million(n int) sorted {
	s := make(sorted, n)
	for i := range s {
		s[i].Key = key(uint64(i), false)
		s[i].Sum = s[i].Key
	}
	slices.SortFunc(s, func(a, b radix.Element) int { return compare(a.Key, b.Key) })
	return s
}

func (s sorted) source(lo, hi [32]byte) iter.Seq2[radix.Element, error] {
	return func(yield func(radix.Element, error) bool) {
		i, _ := slices.BinarySearchFunc(s, lo, func(e radix.Element, k [32]byte) int { return compare(e.Key, k) })
		for ; i < len(s) && compare(s[i].Key, hi) <= 0; i++ {
			if !yield(s[i], nil) {
				return
			}
		}
	}
}

const benchSize = 1_000_000

func BenchmarkRebuildMillion(b *testing.B) {
	s := million(benchSize)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var tree *radix.Tree
	for b.Loop() {
		tree = radix.New()
		if err := tree.Refresh(s.source); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB/tree")
	runtime.KeepAlive(tree)
	runtime.KeepAlive(s)
}

func BenchmarkTouchOfMillion(b *testing.B) {
	s := million(benchSize)
	tree := radix.New()
	if err := tree.Refresh(s.source); err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		tree.Touch(s[i%benchSize].Key)
		i += 7919
	}
}

// The touched keys are spread: each leaf that is read again holds one.
func BenchmarkRefreshAfter(b *testing.B) {
	s := million(benchSize)
	tree := radix.New()
	if err := tree.Refresh(s.source); err != nil {
		b.Fatal(err)
	}
	for name, n := range map[string]int{"1": 1, "1000": 1000} {
		b.Run(name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				for range n {
					tree.Touch(s[i%benchSize].Key)
					i += 7919
				}
				if err := tree.Refresh(s.source); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

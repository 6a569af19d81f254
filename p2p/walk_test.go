package p2p

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/radix"
)

// set is a collection of which only keys and sums matter.
type set struct {
	elements []radix.Element // by key
	tree     *radix.Tree
}

func newSet(m map[[32]byte][32]byte) *set {
	s := &set{tree: radix.New()}
	for k, v := range m {
		s.elements = append(s.elements, radix.Element{Key: k, Sum: v})
	}
	slices.SortFunc(s.elements, func(a, b radix.Element) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	if err := s.tree.Refresh(s.between); err != nil {
		panic(err)
	}
	return s
}

func (s *set) between(lo, hi [32]byte) iter.Seq2[radix.Element, error] {
	return func(yield func(radix.Element, error) bool) {
		at, _ := slices.BinarySearchFunc(s.elements, lo, func(e radix.Element, k [32]byte) int { return bytes.Compare(e.Key[:], k[:]) })
		for _, e := range s.elements[at:] {
			if bytes.Compare(e.Key[:], hi[:]) > 0 || !yield(e, nil) {
				return
			}
		}
	}
}

func (s *set) Node(_ context.Context, p radix.Prefix) (radix.Node, bool, error) {
	n, ok := s.tree.Node(p)
	return n, ok, nil
}

func (s *set) Elements(_ context.Context, p radix.Prefix) iter.Seq2[radix.Element, error] {
	return s.between(p.Range())
}

// compare walks two sets, and counts round trips and bytes of both directions.
func compare(t interface{ Fatal(...any) }, a, b *set) (d difference, trips, size int) {
	salt := newSalt(fill[nonce](1), fill[nonce](2))
	d, err := walk(context.Background(), a, salt, 0, func(ps []radix.Prefix, levels uint64) ([]treeNode, error) {
		trips++
		size += len((&getNodes{0, levels, ps}).append(nil))
		var out []treeNode
		for _, p := range ps {
			n, err := answerNode(context.Background(), b, salt, p, levels)
			if err != nil {
				return nil, err
			}
			raw := n.append(nil) // over the wire and back
			size += len(raw)
			r := cbor.NewReader(raw)
			n = readTreeNode(r)
			if err := r.Done(); err != nil {
				return nil, err
			}
			out = append(out, n)
		}
		return out, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return d, trips, size
}

func hashOf(parts ...any) [32]byte { return sha256.Sum256([]byte(fmt.Sprint(parts...))) }

// What a walk finds is the difference of the sets, whatever their sizes.
func TestWalkFindsTheDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		common := rapid.IntRange(0, 3000).Draw(t, "common")
		changed := rapid.IntRange(0, 60).Draw(t, "changed")
		onlyA := rapid.IntRange(0, 200).Draw(t, "only here")
		onlyB := rapid.IntRange(0, 200).Draw(t, "only there")
		seed := rapid.Uint64().Draw(t, "seed")
		// Documents that agree in so many bytes that they share the part of their
		// keys that a leaf shows.
		twins := rapid.IntRange(0, 4).Draw(t, "twins")
		a, b := map[[32]byte][32]byte{}, map[[32]byte][32]byte{}
		for i := range common {
			k := hashOf(seed, "common", i)
			a[k], b[k] = hashOf(i), hashOf(i)
		}
		both, mine, theirs := map[dag.DocID]bool{}, map[dag.DocID]bool{}, map[dag.DocID]bool{}
		for i := range changed {
			k := hashOf(seed, "changed", i)
			a[k], b[k] = hashOf("a", i), hashOf("b", i)
			both[k] = true
		}
		for i := range onlyA {
			k := hashOf(seed, "a", i)
			a[k], mine[k] = hashOf(i), true
		}
		for i := range onlyB {
			k := hashOf(seed, "b", i)
			b[k], theirs[k] = hashOf(i), true
		}
		for i := range twins {
			k := hashOf(seed, "twin")
			binary.BigEndian.PutUint64(k[24:], uint64(i))
			if i%2 == 0 {
				a[k], mine[k] = hashOf(i), true
			} else {
				b[k], theirs[k] = hashOf(i), true
			}
		}
		d, _, _ := compare(t, newSet(a), newSet(b))
		for _, doc := range append(d.Both, d.Mine...) {
			// A twin may be listed as held by both: then its heads are compared by name.
			if !both[doc] && !mine[doc] {
				t.Fatalf("%s was found, and is equal", doc)
			}
			delete(both, doc)
			delete(mine, doc)
		}
		if len(both) > 0 || len(mine) > 0 {
			t.Fatalf("%d changed and %d own documents were not found", len(both), len(mine))
		}
		for doc := range theirs {
			found := slices.ContainsFunc(d.Theirs, func(p []byte) bool { return bytes.HasPrefix(doc[:], p) })
			if !found && twins < 2 {
				t.Fatalf("%s is only there, and was not found", doc)
			}
		}
	})
}

func TestEqualSetsCostOneQuestion(t *testing.T) {
	m := map[[32]byte][32]byte{}
	for i := range 5000 {
		m[hashOf(i)] = hashOf("v", i)
	}
	d, trips, _ := compare(t, newSet(m), newSet(m))
	if d.size() != 0 || trips != 1 {
		t.Errorf("got %d differences in %d round trips, want none in 1", d.size(), trips)
	}
}

// The figures that the protocol promises.
func TestAHundredOfAMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("a million elements")
	}
	m := make(map[[32]byte][32]byte, 1_000_000)
	var key [8]byte
	for i := range 1_000_000 {
		binary.BigEndian.PutUint64(key[:], uint64(i))
		k := sha256.Sum256(key[:])
		m[k] = k
	}
	a := newSet(m)
	for i := range 100 {
		binary.BigEndian.PutUint64(key[:], uint64(i*9973))
		m[sha256.Sum256(key[:])] = hashOf(i)
	}
	d, trips, size := compare(t, a, newSet(m))
	t.Logf("%d differences in %d round trips and %d bytes", d.size(), trips, size)
	if len(d.Both) != 100 || trips > 5 || size > 60_000 {
		t.Errorf("found %d in %d round trips and %d bytes, want 100 in at most 5 and 60,000", len(d.Both), trips, size)
	}
}

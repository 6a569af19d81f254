package p2p

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
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
	return compareUpTo(t, a, b, 0)
}

func compareUpTo(t interface{ Fatal(...any) }, a, b *set, limit int) (d difference, trips, size int) {
	salt := newSalt(fill[nonce](1), fill[nonce](2))
	d, err := walk(context.Background(), a, salt, limit, func(ps []radix.Prefix, levels uint64) ([]treeNode, error) {
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

// fibber answers a walk with trees that nobody has.
func fibber(node func(p radix.Prefix, levels uint64) treeNode) (ask asker, asked *int) {
	asked = new(int)
	return func(ps []radix.Prefix, levels uint64) ([]treeNode, error) {
		*asked += len(ps)
		out := make([]treeNode, len(ps))
		for i, p := range ps {
			out[i] = node(p, levels)
		}
		return out, nil
	}, asked
}

func fullNode() *[16]short {
	hs := new([16]short)
	for i := range hs {
		hs[i] = short{1, byte(i)}
	}
	return hs
}

// A peer decides what a walk is told, not how long it lasts and what it costs.
func TestAWalkThroughLiesEnds(t *testing.T) {
	widest := new([16]treeGrandchild)
	for i := range widest {
		widest[i].children = fullNode()
	}
	late := func(p radix.Prefix, _ uint64) treeNode { // all differ, and documents are deep
		if p.Len() < 12 {
			return treeNode{children: fullNode()}
		}
		return treeNode{leaf: []leafElement{{short{9}, short{9}}}}
	}
	for name, node := range map[string]func(radix.Prefix, uint64) treeNode{
		"inner nodes without end": func(radix.Prefix, uint64) treeNode { return treeNode{children: fullNode()} },
		"two levels always":       func(radix.Prefix, uint64) treeNode { return treeNode{wide: widest} },
		"leaves of two levels": func(p radix.Prefix, _ uint64) treeNode {
			t := treeNode{wide: new([16]treeGrandchild)}
			t.wide[3].leaf = short{1}
			return t
		},
	} {
		ask, asked := fibber(node)
		d, err := walk(t.Context(), newSet(nil), salt{}, 0, ask)
		if fault.Of(err) != fault.Invalid || *asked > 1<<20 || d.size() > maxFound+leafDocuments {
			t.Errorf("%s: %v after %d nodes, %d found: want a breach, soon", name, err, *asked, d.size())
		}
	}
	ask, asked := fibber(late)
	d, err := walk(t.Context(), newSet(nil), salt{}, 0, ask)
	if err != nil || !d.Cut || d.size() < maxFound || d.size() > maxFound+walkAtOnce*leafDocuments || *asked > 1<<20 {
		t.Errorf("got %d found, cut %v, %v after %d nodes: want about %d, and that there is more", d.size(), d.Cut, err, *asked, maxFound)
	}
}

// A walk with a limit finds the rest when what it found is no difference any more.
func TestAWalkGoesOnWhereItWasCut(t *testing.T) {
	a, b := map[[32]byte][32]byte{}, map[[32]byte][32]byte{}
	for i := range 500 {
		a[hashOf("a", i)], b[hashOf("b", i)] = hashOf(i), hashOf(i)
	}
	for walks := 1; ; walks++ {
		d, _, _ := compareUpTo(t, newSet(a), newSet(b), 300)
		for _, k := range d.Mine {
			b[k] = a[k]
		}
		for _, p := range d.Theirs {
			for k, v := range b {
				if bytes.HasPrefix(k[:], p) {
					a[k] = v
				}
			}
		}
		if !d.Cut {
			if d, _, _ := compare(t, newSet(a), newSet(b)); d.size() != 0 || walks == 1 || len(a) != 1000 {
				t.Errorf("after %d walks %d documents differ, %d are here: want none after a few, and 1000", walks, d.size(), len(a))
			}
			return
		}
		if walks == 20 {
			t.Fatal("20 walks were all cut")
		}
	}
}

// Who only gives asks for what lies where it has something: what else the peer has, however
// much that is, costs nothing.
func TestGivingCostsWhatThereIsToGive(t *testing.T) {
	a, b := map[[32]byte][32]byte{}, map[[32]byte][32]byte{}
	for i := range 10 {
		a[hashOf("mine", i)] = hashOf(i)
	}
	for i := range 20_000 {
		b[hashOf("theirs", i)] = hashOf(i)
	}
	salt := newSalt(fill[nonce](1), fill[nonce](2))
	theirs, asked := newSet(b), 0
	d, err := walkToGive(t.Context(), newSet(a), salt, func(ps []radix.Prefix, levels uint64) (out []treeNode, err error) {
		asked += len(ps)
		for _, p := range ps {
			n, err := answerNode(t.Context(), theirs, salt, p, levels)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		}
		return out, nil
	})
	if err != nil || len(d.Mine) != 10 || len(d.Both)+len(d.Theirs) > 0 {
		t.Fatalf("to give: %d, %d and %d, want 10 documents that are here only: %v", len(d.Mine), len(d.Both), len(d.Theirs), err)
	}
	if asked > 10*4 {
		t.Errorf("%d nodes were asked for to give 10 documents", asked)
	}
}

// walk compares l with a peer's tree; a limit of 0 is maxFound.
func walk(ctx context.Context, l local, s salt, limit int, ask asker) (difference, error) {
	if limit == 0 {
		limit = maxFound
	}
	w := walker{ctx: ctx, local: l, salt: s, limit: limit}
	err := w.run(ask)
	return w.found, err
}

// walkToGive is walk for one that takes nothing.
func walkToGive(ctx context.Context, l local, s salt, ask asker) (difference, error) {
	w := walker{ctx: ctx, local: l, salt: s, limit: math.MaxInt, giving: true}
	err := w.run(ask)
	return w.found, err
}

// Where more differs for ever than can be remembered, in a collection with a policy, each
// walk finds some of it. None of it hides what comes behind it from all of them.
func TestWhatDiffersForEverHidesNothing(t *testing.T) {
	many, none := map[[32]byte][32]byte{}, newSet(nil)
	for i := range 3000 {
		many[sha256.Sum256([]byte{byte(i), byte(i >> 8)})] = [32]byte{1}
	}
	all := newSet(many)
	for name, sides := range map[string][2]*set{"here": {all, none}, "there": {none, all}} {
		found := map[string]bool{}
		for range 300 {
			mine, theirs := sides[0], sides[1]
			w := walker{ctx: t.Context(), local: mine, limit: 64, agreed: &agreed{agreements: newAgreements(), here: mine}}
			w.found.sums = map[dag.DocID][32]byte{}
			err := w.run(func(ps []radix.Prefix, levels uint64) (out []treeNode, err error) {
				for _, p := range ps {
					n, err := answerNode(t.Context(), theirs, salt{}, p, levels)
					if err != nil {
						return nil, err
					}
					out = append(out, n)
				}
				return out, nil
			})
			if err != nil || !w.found.Cut || w.found.size() > 64+leafDocuments {
				t.Fatalf("%s: %d documents, cut %v: %v", name, w.found.size(), w.found.Cut, err)
			}
			for _, doc := range w.found.Mine {
				found[string(doc[:8])] = true
			}
			for _, first := range w.found.Theirs {
				found[string(first[:8])] = true
			}
		}
		if len(found) < 2900 {
			t.Errorf("of what is %s only, 300 walks found %d of 3000 documents", name, len(found))
		}
	}
}

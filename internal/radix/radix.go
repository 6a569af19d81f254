// Package radix summarises a set, so that two peers find out by a few hashes
// where their sets differ.
//
// Elements are keys with a sum each. A tree of 16 branches divides them by the
// nibbles of the key; at most LeafMax elements are a leaf. Both the shape and
// the hashes follow from the set alone, not from its history. Keys are expected
// to be hashes: evenly spread, and costly to crowd under one prefix.
//
// The package is pure. It keeps hashes and counts only, and reads the elements
// anew, through a Source, where something was touched.
package radix

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"math/bits"

	"github.com/pandodb/pando/internal/fault"
)

// LeafMax is the most elements a leaf has. Peers exchange a leaf whole, so it
// is about what fits in a packet; halving it would double the tree's memory.
const LeafMax = 32

// fanout is the number of children of a node that is not a leaf.
const fanout = 16

// Element is a member of the set: a key, and the sum of what is stored under it.
type Element struct{ Key, Sum [32]byte }

// Source yields the elements with lo ≤ key ≤ hi in the order of keys.
type Source func(lo, hi [32]byte) iter.Seq2[Element, error]

// Child is what a node knows of a node below it.
type Child struct {
	Count uint64
	Sum   [32]byte
}

// Node is a summary of the elements under one prefix.
type Node struct {
	Child
	Leaf     bool // at most LeafMax elements, no children
	Children [fanout]Child
}

// Tree is the summary of a set. It is not safe for concurrent use.
type Tree struct {
	root  branch
	dirty bool
}

// branch is a node as its parent holds it.
type branch struct {
	Child
	inner *inner // nil for a leaf
}

// inner is a node that is not a leaf. Leaves have no memory of their own: most
// nodes are leaves, and what is known of them is 33 bytes.
type inner struct {
	count  uint64
	sums   [fanout][32]byte
	leaves [fanout]uint8   // how many elements, for children that are leaves
	below  *[fanout]*inner // children that are not; nil if all are leaves
	dirty  uint16          // children to look at, by bit
}

// New returns a tree about which nothing is known: its first Refresh reads the
// whole set.
func New() *Tree {
	return &Tree{root: branch{Child: Child{Sum: emptySum}}, dirty: true}
}

// Touch notes that the element with that key was added, changed or removed.
func (t *Tree) Touch(key [32]byte) {
	t.dirty = true
	n := t.root.inner
	for depth := 0; n != nil; depth++ {
		i := nibble(&key, depth)
		n.dirty |= 1 << i
		n = n.child(i)
	}
}

// Refresh brings the tree up to date by reading the elements around the touched
// keys. After an error the tree is to be refreshed again before it is used.
func (t *Tree) Refresh(src Source) error {
	if !t.dirty {
		return nil
	}
	root, err := refresh(src, Prefix{}, t.root)
	if err != nil {
		return err
	}
	t.root, t.dirty = root, false
	return nil
}

// Root returns the number of elements and the hash of all, as of the last
// Refresh.
func (t *Tree) Root() (count uint64, sum [32]byte) { return t.root.Count, t.root.Sum }

// Node returns the node at p as of the last Refresh, and whether there is one:
// there is none below a leaf.
func (t *Tree) Node(p Prefix) (n Node, ok bool) {
	at := t.root
	for depth := range p.Len() {
		if at.inner == nil {
			return Node{}, false
		}
		at = at.inner.branch(p.At(depth))
	}
	n = Node{Child: at.Child, Leaf: at.inner == nil}
	if !n.Leaf {
		for i := range n.Children {
			n.Children[i] = at.inner.branch(i).Child
		}
	}
	return n, true
}

func (n *inner) child(i int) *inner {
	if n.below == nil {
		return nil
	}
	return n.below[i]
}

func (n *inner) branch(i int) branch {
	b := branch{Child{uint64(n.leaves[i]), n.sums[i]}, n.child(i)}
	if b.inner != nil {
		b.Count = b.inner.count
	}
	return b
}

func (n *inner) set(i int, b branch) {
	n.sums[i] = b.Sum
	n.dirty &^= 1 << i
	if b.inner == nil {
		n.leaves[i] = uint8(b.Count)
		if n.below != nil {
			n.below[i] = nil
			if *n.below == ([fanout]*inner{}) {
				n.below = nil
			}
		}
		return
	}
	n.leaves[i] = 0
	if n.below == nil {
		n.below = new([fanout]*inner)
	}
	n.below[i] = b.inner
}

// seal computes what follows from the children.
func (n *inner) seal() branch {
	n.count = 0
	for i := range fanout {
		n.count += n.branch(i).Count
	}
	return branch{Child{n.count, innerSum(&n.sums)}, n}
}

// dirtyCount returns how many elements there were in the leaves to be read.
func (n *inner) dirtyCount() uint64 {
	var sum uint64
	for d := n.dirty; d != 0; d &= d - 1 {
		i := bits.TrailingZeros16(d)
		if below := n.child(i); below != nil {
			sum += below.dirtyCount()
		} else {
			sum += uint64(n.leaves[i])
		}
	}
	return sum
}

// refresh returns b, which is at p and dirty, as it should be.
func refresh(src Source, p Prefix, b branch) (branch, error) {
	n := b.inner
	// One scan over everything beats many over more than half of it.
	if n == nil || n.dirtyCount() > n.count/2 {
		return read(src, p)
	}
	for n.dirty != 0 {
		i := bits.TrailingZeros16(n.dirty)
		next, err := refresh(src, p.Child(i), n.branch(i))
		if err != nil {
			return branch{}, err
		}
		n.set(i, next)
	}
	if next := n.seal(); next.Count > LeafMax {
		return next, nil
	}
	return read(src, p) // so few now that they are a leaf
}

// read makes the node at p from the elements.
func read(src Source, p Prefix) (branch, error) {
	lo, hi := p.Range()
	next, stop := iter.Pull2(src(lo, hi))
	defer stop()
	b := builder{next: next, hi: hi, last: lo, first: true}
	made := b.build(p)
	return made, b.err
}

// builder makes nodes from a stream of elements in the order of keys. It looks
// as far ahead as it takes to know whether the elements are a leaf.
type builder struct {
	next  func() (Element, error, bool)
	ahead []Element // at most LeafMax+1
	hi    [32]byte  // the stream may not go beyond
	last  [32]byte  // and has come to here
	first bool
	done  bool
	err   error
}

// build makes the node at p. The elements ahead do not begin before p. Keys are
// different, so that at their full length it is a leaf at last.
func (b *builder) build(p Prefix) branch {
	b.fill()
	n := len(b.ahead)
	for n > 0 && !p.Contains(b.ahead[n-1].Key) {
		n--
	}
	if n <= LeafMax {
		leaf := branch{Child: Child{uint64(n), leafSum(b.ahead[:n])}}
		b.ahead = append(b.ahead[:0], b.ahead[n:]...)
		return leaf
	}
	made := new(inner)
	for i := range fanout {
		made.set(i, b.build(p.Child(i)))
		if b.err != nil {
			break
		}
	}
	return made.seal()
}

func (b *builder) fill() {
	for !b.done && b.err == nil && len(b.ahead) <= LeafMax {
		e, err, ok := b.next()
		switch {
		case !ok:
			b.done = true
		case err != nil:
			b.err = err
		default:
			b.take(e)
		}
	}
}

// take checks the order, without which the tree would be wrong in silence.
func (b *builder) take(e Element) {
	order := bytes.Compare(e.Key[:], b.last[:])
	if order < 0 || order == 0 && !b.first || bytes.Compare(e.Key[:], b.hi[:]) > 0 {
		b.err = fault.Corrupt.Errorf("the elements of a tree come out of order, or outside of what was asked for, at key %x; rebuild the indexes", e.Key)
		return
	}
	b.first, b.last = false, e.Key
	b.ahead = append(b.ahead, e)
}

// The tags keep a leaf from being taken for an inner node. They are part of the
// protocol between peers.
const (
	leafTag  = "pando radix leaf 1"
	innerTag = "pando radix node 1"
)

var emptySum = leafSum(nil)

// leafSum hashes the tag, the number of elements as 8 bytes big-endian, and key
// and sum of each.
func leafSum(elements []Element) [32]byte {
	var buf [len(leafTag) + 8 + (LeafMax+1)*64]byte
	b := append(buf[:0], leafTag...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(elements)))
	for i := range elements {
		b = append(b, elements[i].Key[:]...)
		b = append(b, elements[i].Sum[:]...)
	}
	return sha256.Sum256(b)
}

// innerSum hashes the tag and the hashes of the children.
func innerSum(sums *[fanout][32]byte) [32]byte {
	var buf [len(innerTag) + fanout*32]byte
	b := append(buf[:0], innerTag...)
	for i := range sums {
		b = append(b, sums[i][:]...)
	}
	return sha256.Sum256(b)
}

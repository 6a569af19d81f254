package p2p

import (
	"bytes"
	"context"
	"crypto/sha256"
	"iter"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/radix"
)

// Two peers find out where their collections differ by walking their trees
// together: one asks for the hashes under some prefixes, compares them with its
// own, and asks on where they differ. Everything a peer shows is hashed with a
// salt of both nonces, so that 8 bytes are enough: whoever wants two different
// documents to look alike would have to know the salt beforehand.

// salt is both nonces, that of the one who opened the session first.
type salt [2 * len(nonce{})]byte

func newSalt(asker, answerer nonce) salt {
	return salt(append(append([]byte(nil), asker[:]...), answerer[:]...))
}

// short is a salted hash of a node or of a document's sum, cut to 8 bytes. Zero
// stands for nothing; a node that happens to hash to zero is compared one level
// further down.
type short [8]byte

func (s salt) node(sum [32]byte) short {
	var b [len(salt{}) + 32]byte
	copy(b[copy(b[:], s[:]):], sum[:])
	h := sha256.Sum256(b[:])
	return short(h[:8])
}

func (s salt) element(e radix.Element) short {
	var b [len(salt{}) + 64]byte
	n := copy(b[:], s[:])
	n += copy(b[n:], e.Key[:])
	copy(b[n:], e.Sum[:])
	h := sha256.Sum256(b[:])
	return short(h[:8])
}

// treeNode is what a peer says about one prefix. At most one of its parts is set.
type treeNode struct {
	leaf     []leafElement       // all documents under the prefix
	children *[16]short          // the children, as hashes
	wide     *[16]treeGrandchild // the children, each with its own
}

// treeGrandchild is a child in an answer of two levels.
type treeGrandchild struct {
	leaf     short // hash of a child that is a leaf
	children *[16]short
}

func (t treeGrandchild) empty() bool { return t.children == nil && t.leaf == short{} }

// leafElement is a document in a leaf: 8 bytes of its docID, from the byte on in
// which the prefix ends, and its salted hash. Two documents that agree in these 8
// bytes are possible, with effort; both sides then treat them as one group.
type leafElement struct{ key, sum short }

func (t treeNode) append(b []byte) []byte {
	switch {
	case t.wide != nil:
		b = cbor.AppendArray(b, 16)
		for _, g := range t.wide {
			switch {
			case g.children != nil:
				b = appendShorts(b, g.children)
			case g.leaf != short{}:
				b = cbor.AppendBytes(b, g.leaf[:])
			default:
				b = cbor.AppendNull(b)
			}
		}
		return b
	case t.children != nil:
		return appendShorts(b, t.children)
	case len(t.leaf) > 0:
		packed := make([]byte, 0, 16*len(t.leaf))
		for _, e := range t.leaf {
			packed = append(append(packed, e.key[:]...), e.sum[:]...)
		}
		return cbor.AppendBytes(b, packed)
	}
	return cbor.AppendNull(b)
}

// appendShorts writes which of 16 hashes are not zero, as bits from the lowest,
// and those.
func appendShorts(b []byte, hs *[16]short) []byte {
	var set uint64
	packed := make([]byte, 0, 16*8)
	for i, h := range hs {
		if h != (short{}) {
			set |= 1 << i
			packed = append(packed, h[:]...)
		}
	}
	return cbor.AppendBytes(cbor.AppendUint(cbor.AppendArray(b, 2), set), packed)
}

func readTreeNode(r *cbor.Reader) treeNode {
	var t treeNode
	switch r.Peek() {
	case cbor.Null:
		r.Null()
	case cbor.Bytes:
		packed := r.Bytes()
		if len(packed) == 0 || len(packed)%16 != 0 || len(packed) > 16*leafDocuments {
			r.Fail(fault.Invalid.Errorf("a leaf of %d bytes, want 1 to %d documents of 16", len(packed), leafDocuments))
			return t
		}
		for ; len(packed) > 0; packed = packed[16:] {
			t.leaf = append(t.leaf, leafElement{short(packed[:8]), short(packed[8:16])})
		}
	default:
		switch n := r.Array(); n {
		case 2:
			t.children = readShorts(r)
		case 16:
			t.wide = new([16]treeGrandchild)
			for i := range t.wide {
				t.wide[i] = readGrandchild(r)
			}
		default:
			r.Fail(fault.Invalid.Errorf("a tree node of %d items, want 2 or 16", n))
		}
	}
	return t
}

func readGrandchild(r *cbor.Reader) treeGrandchild {
	var g treeGrandchild
	switch r.Peek() {
	case cbor.Null:
		r.Null()
	case cbor.Bytes:
		exactly(r, "a hash", g.leaf[:])
		if r.Err() == nil && g.leaf == (short{}) {
			r.Fail(fault.Invalid.Errorf("a hash of zero, which is written as null"))
		}
	default:
		tuple(r, 2)
		g.children = readShorts(r)
	}
	return g
}

func readShorts(r *cbor.Reader) *[16]short {
	set, packed := r.Uint(), r.Bytes()
	if r.Err() != nil {
		return nil
	}
	if set >= 1<<16 || len(packed) != 8*bits.OnesCount64(set) {
		r.Fail(fault.Invalid.Errorf("%d bytes of hashes for the children %b", len(packed), set))
		return nil
	}
	hs := new([16]short)
	for i := range hs {
		if set&(1<<i) == 0 {
			continue
		}
		copy(hs[i][:], packed)
		if hs[i] == (short{}) {
			r.Fail(fault.Invalid.Errorf("a hash of zero, which is left out"))
		}
		packed = packed[8:]
	}
	return hs
}

// local is this node's side of a walk.
type local interface {
	Node(context.Context, radix.Prefix) (radix.Node, bool, error)
	Elements(context.Context, radix.Prefix) iter.Seq2[radix.Element, error]
}

// answerNode describes what l holds under p to a peer.
func answerNode(ctx context.Context, l local, s salt, p radix.Prefix, levels uint64) (treeNode, error) {
	n, ok, err := l.Node(ctx, p)
	if err != nil {
		return treeNode{}, err
	}
	if !ok || n.Leaf {
		return answerLeaf(ctx, l, s, p)
	}
	if levels == 1 {
		return treeNode{children: s.children(n)}, nil
	}
	t := treeNode{wide: new([16]treeGrandchild)}
	for i, c := range n.Children {
		if c.Count == 0 {
			continue
		}
		below, ok, err := l.Node(ctx, p.Child(i))
		if err != nil {
			return treeNode{}, err
		}
		if ok && !below.Leaf {
			t.wide[i].children = s.children(below)
		} else {
			t.wide[i].leaf = s.node(c.Sum)
		}
	}
	return t, nil
}

func (s salt) children(n radix.Node) *[16]short {
	hs := new([16]short)
	for i, c := range n.Children {
		if c.Count > 0 {
			hs[i] = s.node(c.Sum)
		}
	}
	return hs
}

// answerLeaf lists the documents under p. The tree may have grown since the
// prefix was asked for because of a write in between; then the list is cut, and
// the next comparison finds the rest.
func answerLeaf(ctx context.Context, l local, s salt, p radix.Prefix) (treeNode, error) {
	var t treeNode
	for e, err := range l.Elements(ctx, p) {
		if err != nil {
			return t, err
		}
		if len(t.leaf) == leafDocuments {
			break
		}
		t.leaf = append(t.leaf, leafElement{keyPart(p, e.Key), s.element(e)})
	}
	return t, nil
}

// keyPart is the 8 bytes of a key that stand for it in a leaf under p.
func keyPart(p radix.Prefix, key [32]byte) short {
	at := keyPartAt(p)
	return short(key[at : at+8])
}

func keyPartAt(p radix.Prefix) int { return min(p.Len()/2, 32-8) }

// difference is what a walk found.
type difference struct {
	Both   []dag.DocID // here and there, with other heads
	Mine   []dag.DocID // here only
	Theirs [][]byte    // there only, or not to be read here by the peer: the first bytes of their docIDs
	Cut    bool        // there may be more: the walk was ended by its limit

	sums map[dag.DocID][32]byte // of Mine, where the walk has something agreed
}

func (d difference) size() int {
	return len(d.Both) + len(d.Mine) + len(d.Theirs)
}

// asker asks a peer for the tree nodes under prefixes.
type asker func(ps []radix.Prefix, levels uint64) ([]treeNode, error)

// walker compares a tree of this side with that of a peer, until so many documents were
// found. One that is giving takes nothing: it looks for what the peer lacks alone, of
// which there is no more than is here.
type walker struct {
	ctx    context.Context
	local  local
	salt   salt
	limit  int
	giving bool
	agreed *agreed        // of a collection with a policy: what need not be exchanged; else nil
	next   []radix.Prefix // differ; those to ask about first are last
	found  difference
}

// run goes down before it goes on to the side: so there is never more to ask about
// than some levels of what was asked at once, however the peer's tree looks.
func (w *walker) run(ask asker) error {
	w.next = []radix.Prefix{{}}
	for len(w.next) > 0 && w.found.size() < w.limit {
		if len(w.next) > maxPending {
			return breach("a tree in which %d nodes differ and no documents", len(w.next))
		}
		at := max(0, len(w.next)-min(walkAtOnce, w.limit/2))
		asked := slices.Clone(w.next[at:])
		w.next = w.next[:at]
		levels := uint64(1)
		if len(asked) <= wideNodes {
			levels = 2
		}
		answers, err := ask(asked, levels)
		if err != nil {
			return err
		}
		for i, p := range asked {
			if answers[i].wide != nil && levels == 1 {
				return breach("two levels of a tree where one was asked for")
			}
			if err := w.compare(p, answers[i]); err != nil {
				return err
			}
			if w.found.size() >= w.limit {
				w.found.Cut = w.found.Cut || i+1 < len(asked)
				break
			}
		}
		if below := w.next[at:]; w.agreed != nil { // what differs for ever must not always hide the same behind it
			rand.Shuffle(len(below), func(i, j int) { below[i], below[j] = below[j], below[i] })
		}
	}
	w.found.Cut = w.found.Cut || len(w.next) > 0
	return nil
}

func (w *walker) compare(p radix.Prefix, t treeNode) error {
	switch {
	case t.wide != nil:
		return w.compareWide(p, t.wide)
	case t.children != nil:
		return w.compareChildren(p, t.children)
	case len(t.leaf) > 0:
		return w.compareLeaf(p, t.leaf)
	}
	return w.onlyMine(p)
}

// inner refuses a node with children where there are so few keys left that all of
// them are a leaf: else the tree might go on for ever.
func inner(p radix.Prefix) error {
	if p.Len() >= 63 {
		return breach("a tree deeper than docIDs are long")
	}
	return nil
}

func (w *walker) compareWide(p radix.Prefix, theirs *[16]treeGrandchild) error {
	if err := inner(p); err != nil {
		return err
	}
	mine, err := w.children(p)
	if err != nil {
		return err
	}
	for i, g := range theirs {
		c := p.Child(i)
		switch {
		case g.empty():
			err = w.onlyMine(c)
		case g.children != nil:
			err = w.compareChildren(c, g.children)
		case mine[i] != g.leaf:
			err = w.goOn(c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// children returns this side's hashes below p, zero where there is nothing or
// where the tree ends before.
func (w *walker) children(p radix.Prefix) (*[16]short, error) {
	n, ok, err := w.local.Node(w.ctx, p)
	if err != nil || !ok || n.Leaf {
		return new([16]short), err
	}
	return w.salt.children(n), nil
}

func (w *walker) compareChildren(p radix.Prefix, theirs *[16]short) error {
	if err := inner(p); err != nil {
		return err
	}
	mine, err := w.children(p)
	if err != nil {
		return err
	}
	for i, h := range theirs {
		switch {
		case h == short{}:
			err = w.onlyMine(p.Child(i))
		case h != mine[i]:
			err = w.goOn(p.Child(i))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// goOn notes that p differs. Who only gives looks no further where it has nothing.
func (w *walker) goOn(p radix.Prefix) error {
	if !w.giving {
		w.next = append(w.next, p)
		return nil
	}
	for _, err := range w.local.Elements(w.ctx, p) {
		w.next = append(w.next, p)
		return err
	}
	return nil
}

// onlyMine notes what is under p as unknown to the peer.
func (w *walker) onlyMine(p radix.Prefix) error {
	if w.agreed != nil && p.Len() < 2 { // as in run: begin anywhere
		for i, first := 0, rand.IntN(16); i < 16; i++ {
			if err := w.onlyMine(p.Child((first + i) % 16)); err != nil {
				return err
			}
		}
		return nil
	}
	for e, err := range w.local.Elements(w.ctx, p) {
		if err != nil {
			return err
		}
		if w.found.size() >= w.limit {
			w.found.Cut = true
			return nil
		}
		w.mine(e)
	}
	return nil
}

// mine notes a document that is here only, unless the peer was given it as it is.
func (w *walker) mine(e radix.Element) {
	if w.agreed != nil {
		if w.agreed.given(e) {
			return
		}
		w.found.sums[e.Key] = e.Sum
	}
	w.found.Mine = append(w.found.Mine, e.Key)
}

func (w *walker) compareLeaf(p radix.Prefix, theirs []leafElement) error {
	unseen := map[short][]short{} // their hashes by part of the key
	for _, e := range theirs {
		unseen[e.key] = append(unseen[e.key], e.sum)
	}
	mine := map[short][]radix.Element{} // documents here that are not exactly there
	for e, err := range w.local.Elements(w.ctx, p) {
		if err != nil {
			return err
		}
		key, sum := keyPart(p, e.Key), w.salt.element(e)
		if !remove(unseen, key, sum) {
			mine[key] = append(mine[key], e)
		}
	}
	if w.agreed != nil && !w.giving {
		if err := w.sortUnseen(p, unseen, mine); err != nil {
			return err
		}
	}
	for key, docs := range mine {
		if len(unseen[key]) == 0 {
			for _, e := range docs {
				w.mine(e)
			}
			continue
		}
		for _, e := range docs {
			w.found.Both = append(w.found.Both, e.Key)
		}
		if len(unseen[key]) > len(docs) && !w.giving {
			w.found.Theirs = append(w.found.Theirs, docPrefix(p, key))
		}
		delete(unseen, key)
	}
	for key, sums := range unseen {
		if len(sums) > 0 && !w.giving {
			w.found.Theirs = append(w.found.Theirs, docPrefix(p, key))
		}
	}
	return nil
}

// remove takes one sum out of the list under key and reports whether it was there.
func remove(m map[short][]short, key, sum short) bool {
	for i, s := range m[key] {
		if s == sum {
			m[key] = append(m[key][:i:i], m[key][i+1:]...)
			return true
		}
	}
	return false
}

// docPrefix is the beginning of the docIDs that a leaf element under p stands for.
func docPrefix(p radix.Prefix, key short) []byte {
	lo, _ := p.Range()
	return append(bytes.Clone(lo[:keyPartAt(p)]), key[:]...)
}

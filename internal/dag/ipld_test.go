package dag

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/datamodel"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	"github.com/ipld/go-ipld-prime/traversal"
)

// Another implementation of dag-cbor understands every part of a commit and
// writes the same bytes.
func TestIPLDReadsCommits(t *testing.T) {
	for _, s := range specimens(t) {
		blocks := [][]byte{s.Envelope(), s.Header()}
		if s.Kind == Write {
			for i, p := range s.Payload {
				if s.Segs[i].Group == 0 {
					blocks = append(blocks, p)
				}
			}
		}
		for _, block := range blocks {
			node := decodeIPLD(t, block)
			var again bytes.Buffer
			if err := dagcbor.Encode(node, &again); err != nil {
				t.Errorf("%s: %v", s.name, err)
			} else if !bytes.Equal(again.Bytes(), block) {
				t.Errorf("%s: go-ipld-prime writes\n%x, want\n%x", s.name, again.Bytes(), block)
			}
		}
	}
}

func decodeIPLD(t *testing.T, block []byte) datamodel.Node {
	t.Helper()
	b := basicnode.Prototype.Any.NewBuilder()
	if err := dagcbor.Decode(b, bytes.NewReader(block)); err != nil {
		t.Fatalf("%x: %v", block, err)
	}
	return b.Build()
}

// A tool that knows nothing of Pando walks a document's history from its head to
// its root by the links, and finds every hash to be right.
func TestIPLDWalksTheHistory(t *testing.T) {
	k := ada(t)
	first := seal(t, root(k, title("Ada")), k)
	all := []*Commit{first}
	for i := range 8 { // a stack of diamonds
		top := all[len(all)-1]
		left := seal(t, child(k, []*Commit{top}, hits(int64(i))), k)
		right := seal(t, child(k, []*Commit{top}, hits(100)), k)
		all = append(all, left, right, seal(t, child(k, []*Commit{left, right}, title(fmt.Sprint(i))), k))
	}
	blocks := map[string][]byte{}
	for _, c := range all {
		blocks[c.CID.String()] = c.Header()
	}

	links := cidlink.DefaultLinkSystem() // checks hashes
	links.StorageReadOpener = func(_ ipld.LinkContext, l datamodel.Link) (io.Reader, error) {
		block, ok := blocks[l.String()]
		if !ok {
			return nil, fmt.Errorf("no block %s", l)
		}
		return bytes.NewReader(block), nil
	}
	seen := map[string]bool{}
	walk := []datamodel.Link{ipldLink(t, all[len(all)-1].CID)}
	for len(walk) > 0 {
		l := walk[0]
		walk = walk[1:]
		if seen[l.String()] {
			continue
		}
		seen[l.String()] = true
		node, err := links.Load(ipld.LinkContext{}, l, basicnode.Prototype.Any)
		if err != nil {
			t.Fatal(err)
		}
		found, err := traversal.SelectLinks(node)
		if err != nil {
			t.Fatal(err)
		}
		walk = append(walk, found...)
	}
	if len(seen) != len(all) {
		t.Errorf("the walk found %d commits, want %d", len(seen), len(all))
	}
}

func ipldLink(t *testing.T, id CID) datamodel.Link {
	t.Helper()
	c, err := cid.Decode(id.String())
	if err != nil {
		t.Fatal(err)
	}
	p := c.Prefix()
	if p.Version != 1 || p.Codec != cid.DagCBOR || !bytes.Equal(c.Hash()[2:], id[:]) {
		t.Errorf("%s is read as %v with hash %x", id, p, c.Hash())
	}
	return cidlink.Link{Cid: c}
}

// The text forms are those of the multiformats libraries.
func TestIDsAreCIDs(t *testing.T) {
	id := [32]byte{1, 2, 3}
	for text, codec := range map[string]uint64{CID(id).String(): cid.DagCBOR, DocID(id).String(): cid.Raw, CollectionID(id).String(): cid.Raw, Digest(id).String(): cid.Raw} {
		c, err := cid.Decode(text)
		if err != nil || c.String() != text || c.Prefix().Codec != codec || !bytes.Equal(c.Hash()[2:], id[:]) {
			t.Errorf("%s is read as %v, %v", text, c, err)
		}
	}
}

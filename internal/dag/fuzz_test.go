package dag

import (
	"bytes"
	"crypto/sha256"
	"testing"
)

// Whatever Open accepts has one form: written again from what was understood, it
// gives the same bytes.
func FuzzOpen(f *testing.F) {
	for _, s := range specimens(f) {
		f.Add(s.Envelope())
	}
	f.Fuzz(func(t *testing.T, env []byte) {
		in := bytes.Clone(env)
		c, err := Open(env)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Envelope(), in) || !bytes.Equal(reencode(c), in) {
			t.Errorf("read\n%x, written again\n%x", in, reencode(c))
		}
		checkNames(t, c)
	})
}

// The fuzzer cannot guess hashes, so this one takes the operations and makes the
// commit around them.
func FuzzOperations(f *testing.F) {
	k := ada(f)
	first := seal(f, root(k, title("Ada")), k)
	for _, s := range specimens(f) {
		for _, p := range s.Payload {
			f.Add(p)
		}
	}
	f.Fuzz(func(t *testing.T, segment []byte) {
		c := *seal(t, child(k, []*Commit{first}), k)
		c.Payload = [][]byte{segment}
		c.Segs = []Segment{{Len: uint64(len(segment)), Hash: sha256.Sum256(segment)}}
		env := resign(t, &c, k, c.appendHeader(nil))
		got, err := Open(env)
		if err != nil {
			return
		}
		if again := reencode(got); !bytes.Equal(again, env) {
			t.Errorf("operations %x, written again %x", segment, appendDeltas(nil, got.Deltas))
		}
	})
}

func FuzzOpenHeader(f *testing.F) {
	for _, s := range specimens(f) {
		f.Add(s.Header(), s.Sig)
	}
	f.Fuzz(func(t *testing.T, header, sig []byte) {
		c, err := OpenHeader(header, sig)
		if err != nil {
			return
		}
		if again := c.appendHeader(nil); !bytes.Equal(again, header) {
			t.Errorf("read\n%x, written again\n%x", header, again)
		}
		if back, err := Open(c.Envelope()); err != nil || back.CID != c.CID {
			t.Errorf("its envelope %x is read as %v, %v", c.Envelope(), back, err)
		}
		checkNames(t, c)
	})
}

func checkNames(t *testing.T, c *Commit) {
	t.Helper()
	if c.CID != CID(sha256.Sum256(c.Header())) {
		t.Errorf("named %s, which is not the hash of its header", c.CID)
	}
	if c.Root != nil && c.Doc != c.Root.DocID() {
		t.Errorf("of document %s, but its seed is that of %s", c.Doc, c.Root.DocID())
	}
	Verify([]*Commit{c}) // must not panic on keys that are no points
}

func FuzzParseIDs(f *testing.F) {
	f.Add(CID{1}.String())
	f.Add(DocID{1}.String())
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseCID(s); err == nil && id.String() != s {
			t.Errorf("%q is read as %s", s, id)
		}
		if id, err := ParseDocID(s); err == nil && id.String() != s {
			t.Errorf("%q is read as %s", s, id)
		}
		if id, err := ParseCollectionID(s); err == nil && id.String() != s {
			t.Errorf("%q is read as %s", s, id)
		}
		if id, err := ParseDigest(s); err == nil && id.String() != s {
			t.Errorf("%q is read as %s", s, id)
		}
	})
}

package dag

import (
	"crypto/sha256"
	"slices"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

const (
	formatVersion = 1
	headerParts   = 11
)

// headerRoom is the size of a usual header, with one parent and one segment.
const headerRoom = 256

// Prepare completes a commit that was filled in: it sorts the links, encodes the
// operations as the segment in clear and derives Doc and CID. The CID does not
// depend on the signature, so a commit can be named and applied before it is
// signed. Prepare gives Invalid if other nodes would refuse the commit.
func Prepare(c *Commit) error {
	c.Parents, c.Auth = sortLinks(c.Parents), sortLinks(c.Auth)
	c.header, c.envelope, c.Sig = nil, nil, nil
	if c.Kind == Write {
		if len(c.Deltas) > MaxOps {
			return invalid("%d operations, want at most %d: split the change", len(c.Deltas), MaxOps)
		}
		if len(c.Segs) > 0 && c.Segs[0].Group == 0 { // of an earlier Prepare
			c.Segs, c.Payload = c.Segs[1:], c.Payload[1:]
		}
		if len(c.Deltas) > 0 || len(c.Segs) == 0 {
			c.AddSegment(0, 0, appendDeltas(nil, c.Deltas))
		}
	}
	for i, p := range c.Payload {
		c.Segs[i].Len = uint64(len(p))
		c.Segs[i].Hash = sha256.Sum256(p)
	}
	if n := c.payloadSize(); n > MaxEnvelope {
		return fault.TooLarge.Errorf("the change has %d bytes, and a commit at most %d: split it, or keep large contents elsewhere and their address here", n, MaxEnvelope)
	}
	if c.Delegated() {
		c.Author.Proof = sha256.Sum256(c.Proof)
	}
	if err := c.checkDraft(); err != nil {
		return err
	}
	c.header = c.appendHeader(make([]byte, 0, headerRoom))
	c.CID = sha256.Sum256(c.header)
	if n := c.envelopeSize(); n > MaxEnvelope {
		return invalid("%d bytes, want at most %d: split the change", n, MaxEnvelope)
	}
	return nil
}

func (c *Commit) payloadSize() (n int) {
	for _, p := range c.Payload {
		n += len(p)
	}
	return n
}

func (c *Commit) checkDraft() error {
	if c.Kind != Write && len(c.Deltas) > 0 {
		return invalid("operations in a commit of kind %d: only a write has them", c.Kind)
	}
	if err := c.checkProof(); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	if c.Root == nil {
		return nil
	}
	if id := c.Root.DocID(); c.Doc.IsZero() {
		c.Doc = id
	} else if c.Doc != id {
		return invalid("document %s, but the root seed is that of %s", c.Doc, id)
	}
	return c.checkSeed()
}

// Sign signs a prepared commit with the key of its author, or its gateway.
func (c *Commit) Sign(k ident.Key) error {
	if c.header == nil {
		return fault.Invalid.Errorf("sign commit: it is not prepared")
	}
	if k.Public() != c.Author.Signer() {
		return fault.Denied.Errorf("sign commit %s: the key is %s, want that of %s", c.CID, k, c.Author.Signer())
	}
	sig, err := k.Sign(signedMessage(c.CID))
	if err != nil {
		return err
	}
	c.Sig = sig
	c.envelope = c.appendEnvelope(make([]byte, 0, c.envelopeSize()))
	return nil
}

// Seal prepares and signs a commit and returns its envelope.
func Seal(c *Commit, k ident.Key) ([]byte, error) {
	if err := Prepare(c); err != nil {
		return nil, err
	}
	if err := c.Sign(k); err != nil {
		return nil, err
	}
	return c.envelope, nil
}

func signedMessage(c CID) []byte {
	return append(append(make([]byte, 0, len(signatureDomain)+len(c)), signatureDomain...), c[:]...)
}

// sortLinks puts links in order, so that two authors who saw the same heads write
// the same parents. The caller's slice stays as it is.
func sortLinks(ids []CID) []CID {
	if sortedUnique(ids) {
		return ids
	}
	ids = slices.Clone(ids)
	slices.SortFunc(ids, CID.Compare)
	return slices.Compact(ids)
}

func (c *Commit) appendHeader(b []byte) []byte {
	b = cbor.AppendArray(b, headerParts)
	b = cbor.AppendUint(b, formatVersion)
	b = cbor.AppendUint(b, uint64(c.Kind))
	if c.Root != nil {
		b = appendRootSeed(b, *c.Root)
	} else {
		b = cbor.AppendBytes(b, c.Doc[:])
	}
	b = appendLinks(b, c.Parents)
	b = cbor.AppendUint(b, c.Height)
	b = cbor.AppendUint(b, c.HLC)
	b = c.Author.append(b)
	if c.Txn == nil {
		b = cbor.AppendNull(b)
	} else {
		b = cbor.AppendArray(b, 2)
		b = cbor.AppendBytes(b, c.Txn.ID[:])
		b = cbor.AppendUint(b, c.Txn.Count)
	}
	b = cbor.AppendBytes(b, c.Schema[:])
	b = appendLinks(b, c.Auth)
	b = cbor.AppendArray(b, len(c.Segs))
	for i := range c.Segs {
		s := &c.Segs[i]
		b = cbor.AppendArray(b, 4)
		b = cbor.AppendUint(b, s.Group)
		b = cbor.AppendUint(b, s.Epoch)
		b = cbor.AppendUint(b, s.Len)
		b = cbor.AppendBytes(b, s.Hash[:])
	}
	return b
}

func (a *Author) append(b []byte) []byte {
	if a.Via == "" {
		return cbor.AppendBytes(b, []byte(a.Key))
	}
	b = cbor.AppendArray(b, 3)
	b = cbor.AppendBytes(b, []byte(a.Key))
	b = cbor.AppendBytes(b, []byte(a.Via))
	return cbor.AppendBytes(b, a.Proof[:])
}

func appendLinks(b []byte, ids []CID) []byte {
	b = cbor.AppendArray(b, len(ids))
	for _, id := range ids {
		var raw [binarySize]byte
		copy(raw[:], cidPrefix)
		copy(raw[prefixSize:], id[:])
		b = cbor.AppendLink(b, raw[:])
	}
	return b
}

func (c *Commit) appendEnvelope(b []byte) []byte {
	parts := 3
	if len(c.Proof) > 0 {
		parts = 4
	}
	b = cbor.AppendArray(b, parts)
	b = cbor.AppendBytes(b, c.header)
	b = cbor.AppendBytes(b, c.Sig)
	if c.HeaderOnly() {
		b = cbor.AppendNull(b)
	} else {
		b = cbor.AppendArray(b, len(c.Payload))
		for _, p := range c.Payload {
			b = cbor.AppendBytes(b, p)
		}
	}
	if len(c.Proof) > 0 {
		b = cbor.AppendBytes(b, c.Proof)
	}
	return b
}

// envelopeSize returns the exact number of bytes of the envelope.
func (c *Commit) envelopeSize() int {
	n := 1 + bytesSize(len(c.header)) + bytesSize(ident.SignatureSize) + 1 // segments: at most 8, or null
	for _, p := range c.Payload {
		n += bytesSize(len(p))
	}
	if len(c.Proof) > 0 {
		n += bytesSize(len(c.Proof))
	}
	return n
}

// bytesSize returns how many bytes a byte string takes with its length.
func bytesSize(n int) int {
	switch {
	case n < 24:
		return n + 1
	case n < 1<<8:
		return n + 2
	case n < 1<<16:
		return n + 3
	}
	return n + 5
}

package dag

import (
	"crypto/sha256"
	"fmt"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Open decodes a commit and checks everything that follows from its own bytes,
// except the signature: that is for Verify, many at a time. What is wrong is
// Invalid, and wrong on every node; a newer format is ErrDeferred. If the payload
// was left out the commit is HeaderOnly.
//
// The commit keeps and aliases the envelope, which must not change any more.
func Open(envelope []byte) (*Commit, error) {
	c := &Commit{envelope: envelope}
	if err := c.open(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Commit) open() error {
	if len(c.envelope) > MaxEnvelope {
		return invalid("%d bytes, want at most %d", len(c.envelope), MaxEnvelope)
	}
	r := cbor.NewReader(c.envelope)
	parts := r.Array()
	c.header, c.Sig = r.Bytes(), r.Bytes()
	if err := r.Err(); err != nil {
		return fmt.Errorf("commit: envelope: %w", err)
	}
	if err := c.readHeader(); err != nil {
		return err
	}
	if parts != 3 && parts != 4 {
		return invalid("envelope of %d parts, want 3 or 4", parts)
	}
	if !r.Null() {
		c.readPayload(r)
	}
	if parts == 4 {
		if c.Proof = r.Bytes(); r.Err() == nil && len(c.Proof) == 0 {
			return invalid("the proof of the delegation is empty: send it along")
		}
	}
	if err := r.Done(); err != nil {
		return fmt.Errorf("commit: envelope: %w", err)
	}
	if err := c.checkProof(); err != nil {
		return err
	}
	if err := c.openPayload(); err != nil {
		return err
	}
	if c.Root != nil {
		return c.checkSeed()
	}
	return nil
}

// OpenHeader decodes a commit that was announced without its payload, and checks
// what can be checked without: all but the operations and the proof of a
// delegation. The commit aliases header and sig.
func OpenHeader(header, sig []byte) (*Commit, error) {
	c := &Commit{header: header, Sig: sig}
	if n := c.envelopeSize(); n > MaxEnvelope {
		return nil, invalid("%d bytes, want at most %d", n, MaxEnvelope)
	}
	if err := c.readHeader(); err != nil {
		return nil, err
	}
	if c.Root != nil {
		if err := c.checkSeed(); err != nil {
			return nil, err
		}
	}
	c.envelope = c.appendEnvelope(make([]byte, 0, c.envelopeSize()))
	return c, nil
}

// Parents returns the parents of a commit that was opened before, without looking at
// the rest of it.
func Parents(envelope []byte) ([]CID, error) {
	r := cbor.NewReader(envelope)
	r.Array()
	header := r.Bytes()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("commit: envelope: %w", err)
	}
	r = cbor.NewReader(header)
	r.Array()
	r.Uint() // format
	r.Uint() // kind
	if r.Peek() == cbor.Array {
		return nil, r.Err() // a root has none
	}
	r.Bytes() // docID
	parents := readLinks(r, "parents", MaxParents)
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("commit: header: %w", err)
	}
	return parents, nil
}

// readHeader fills in what the header says, names the commit and checks it.
func (c *Commit) readHeader() error {
	r := cbor.NewReader(c.header)
	parts, version := r.Array(), r.Uint()
	if r.Err() == nil && version > formatVersion {
		return fmt.Errorf("commit of format %d, this node knows %d, upgrade it: %w", version, formatVersion, ErrDeferred)
	}
	if r.Err() == nil && (version != formatVersion || parts != headerParts) {
		return invalid("header of format %d with %d parts, want format %d with %d", version, parts, formatVersion, headerParts)
	}
	if len(c.Sig) != ident.SignatureSize {
		return invalid("signature of %d bytes, want %d", len(c.Sig), ident.SignatureSize)
	}
	c.Kind = CommitKind(number(r, "kind", uint64(lastKind)))
	if r.Peek() == cbor.Array {
		c.Root = readRootSeed(r)
		c.Doc = c.Root.DocID()
	} else {
		c.Doc = readHash(r, "docID")
	}
	c.Parents = readLinks(r, "parents", MaxParents)
	c.Height = number(r, "height", MaxNumber)
	c.HLC = number(r, "hlc", MaxNumber)
	c.Author = readAuthor(r)
	c.Txn = readTxn(r)
	c.Schema = readHash(r, "schema version")
	c.Auth = readLinks(r, "auth links", MaxAuth)
	c.Segs = readSegments(r)
	if err := r.Done(); err != nil {
		return fmt.Errorf("commit: header: %w", err)
	}
	c.CID = sha256.Sum256(c.header)
	return c.check()
}

func readRootSeed(r *cbor.Reader) *RootSeed {
	if n := r.Array(); r.Err() == nil && n != 4 {
		r.Fail(fault.Invalid.Errorf("root seed of %d parts, want 4", n))
	}
	s := &RootSeed{Mode: Mode(number(r, "mode of the root seed", uint64(lastMode)))}
	s.Namespace = r.Bytes()
	s.Collection = readHash(r, "collection")
	s.Seed = r.Bytes()
	return s
}

func readAuthor(r *cbor.Reader) (a Author) {
	if r.Peek() != cbor.Array {
		a.Key = ident.PublicKey(r.Bytes())
		return a
	}
	if n := r.Array(); r.Err() == nil && n != 3 {
		r.Fail(fault.Invalid.Errorf("author of %d parts, want 3: author, gateway and proof", n))
	}
	a.Key = ident.PublicKey(r.Bytes())
	a.Via = ident.PublicKey(r.Bytes())
	a.Proof = readHash(r, "proof")
	if r.Err() == nil && a.Via == "" {
		r.Fail(fault.Invalid.Errorf("gateway without a key: write the author alone"))
	}
	return a
}

func readTxn(r *cbor.Reader) *Txn {
	if r.Null() {
		return nil
	}
	if n := r.Array(); r.Err() == nil && n != 2 {
		r.Fail(fault.Invalid.Errorf("transaction of %d parts, want 2", n))
	}
	id := r.Bytes()
	t := &Txn{Count: number(r, "count of the transaction", MaxNumber)}
	if r.Err() == nil && len(id) != len(t.ID) {
		r.Fail(fault.Invalid.Errorf("transaction id of %d bytes, want %d", len(id), len(t.ID)))
	}
	copy(t.ID[:], id)
	return t
}

func readSegments(r *cbor.Reader) []Segment {
	n := count(r, "segments", MaxSegments)
	segs := make([]Segment, n)
	for i := range segs {
		if n := r.Array(); r.Err() == nil && n != 4 {
			r.Fail(fault.Invalid.Errorf("segment of %d parts, want 4", n))
		}
		segs[i] = Segment{
			Group: number(r, "group", MaxNumber),
			Epoch: number(r, "epoch", MaxNumber),
			Len:   number(r, "length of a segment", MaxEnvelope),
			Hash:  readHash(r, "segment"),
		}
	}
	return segs
}

func readLinks(r *cbor.Reader, what string, most int) []CID {
	n := count(r, what, most)
	if n == 0 {
		return nil
	}
	ids := make([]CID, n)
	for i := range ids {
		raw := r.Link()
		if r.Err() != nil {
			return nil
		}
		if len(raw) != binarySize || string(raw[:prefixSize]) != cidPrefix {
			r.Fail(fault.Invalid.Errorf("%s: a link to something else than a commit: want a CIDv1 of dag-cbor with sha2-256", what))
			return nil
		}
		ids[i] = CID(raw[prefixSize:])
	}
	return ids
}

// count reads the head of an array of at most that many items.
func count(r *cbor.Reader, what string, most int) int {
	n := r.Array()
	if n > most {
		r.Fail(fault.Invalid.Errorf("%d %s, want at most %d", n, what, most))
		return 0
	}
	return n
}

func number(r *cbor.Reader, what string, most uint64) uint64 {
	n := r.Uint()
	if n > most {
		r.Fail(fault.Invalid.Errorf("%s %d is too large: want at most %d", what, n, most))
		return 0
	}
	return n
}

func readHash(r *cbor.Reader, what string) (h [32]byte) {
	raw := r.Bytes()
	if r.Err() == nil && len(raw) != len(h) {
		r.Fail(fault.Invalid.Errorf("%s of %d bytes, want %d", what, len(raw), len(h)))
	}
	copy(h[:], raw)
	return h
}

// readPayload reads the segments of the envelope.
func (c *Commit) readPayload(r *cbor.Reader) {
	n := r.Array()
	if r.Err() == nil && n != len(c.Segs) {
		r.Fail(fault.Invalid.Errorf("%d segments, the header names %d", n, len(c.Segs)))
	}
	if r.Err() != nil {
		return
	}
	c.Payload = make([][]byte, n)
	for i := range c.Payload {
		c.Payload[i] = r.Bytes()
	}
}

// openPayload checks the segments against the header and decodes the operations.
func (c *Commit) openPayload() error {
	for i, p := range c.Payload {
		s := &c.Segs[i]
		if uint64(len(p)) != s.Len || sha256.Sum256(p) != s.Hash {
			return invalid("segment %d is not the one that the header names", i)
		}
		if s.Group != 0 || c.Kind != Write {
			continue
		}
		if err := c.readDeltas(p); err != nil {
			return err
		}
	}
	return nil
}

func (c *Commit) readDeltas(segment []byte) error {
	r := cbor.NewReader(segment)
	n := count(r, "operations", MaxOps)
	c.Deltas = make([]crdt.Delta, 0, n)
	for i := 0; i < n && r.Err() == nil; i++ {
		c.Deltas = append(c.Deltas, crdt.ReadDelta(r))
	}
	if err := r.Done(); err != nil {
		return fmt.Errorf("commit: operations: %w", err)
	}
	return nil
}

// checkProof checks that the envelope brings the proof of a delegation if there
// is one, and that it allows the commit, except for the author's signature on it, which
// is for Verify. A commit without payload may come without proof too.
func (c *Commit) checkProof() error {
	switch {
	case !c.Delegated() && len(c.Proof) > 0:
		return invalid("the proof of a delegation without a gateway: leave it out")
	case c.Delegated() && len(c.Proof) == 0 && !c.HeaderOnly():
		return invalid("the proof of the delegation is missing: send it along")
	case len(c.Proof) > 0 && sha256.Sum256(c.Proof) != c.Author.Proof:
		return invalid("the proof of the delegation is not the one that the header names")
	case len(c.Proof) > 0:
		return c.checkDelegation()
	}
	return nil
}

func (c *Commit) checkDelegation() error {
	d, err := ident.ParseDelegation(c.Proof)
	if err != nil {
		return invalid("%w", err)
	}
	if d.Author != c.Author.Key {
		return invalid("the delegation is of %s, and the author is %s", d.Author, c.Author.Key)
	}
	if err := d.AllowsAt(c.Author.Via, HLCTime(c.HLC)); err != nil {
		return invalid("%v", err) // for ever: the clock is the commit's own
	}
	return nil
}

// CheckCollection returns Invalid if the commit cannot be one of that collection: its
// root begins in another, or the delegation of its gateway does not extend to this one.
// Only roots name their collection, for the others it is that of their parents.
func (c *Commit) CheckCollection(id CollectionID) error {
	if c.Root != nil && c.Root.Collection != id {
		return invalid("root of collection %s in collection %s", c.Root.Collection, id)
	}
	if len(c.Proof) == 0 {
		return nil
	}
	d, err := ident.ParseDelegation(c.Proof)
	if err != nil {
		return invalid("%w", err)
	}
	if err := d.Covers(id); err != nil {
		return invalid("%v", err)
	}
	return nil
}

package schema

import (
	"bytes"
	"crypto/sha256"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// A version of a collection, and what its digest is over, is this dag-cbor:
//
//	Version = [ format: 1, name: text, mode: uint, keys: [*uint],
//	            previous: null / [ collection: bytes .size 32, version: bytes .size 32 ],
//	            policy: null,                          ; for a later format
//	            fields: [*Field] ]                     ; sorted by name
//	Field   = [ number: uint, name: text, kind: uint, nonnull: bool,
//	            target: null / text, relation: null / text, size: uint,
//	            default: null / any ]
//
// Number and rule of a virtual field are 0. Defaults are encoded as commits encode
// values of the type.
const (
	formatVersion = 1
	versionItems  = 7
	fieldItems    = 8
	digestDomain  = "pando/1 schema\n" // what a digest is of, so that no other hash can pass for one
)

// Encode returns the canonical form of the version, which travels between peers.
// The caller must not change it.
func (c *Collection) Encode() []byte { return c.encoded }

// Decode reads what Encode wrote and refuses whatever a correct node would not
// have written. Indexes are not part of it.
func Decode(b []byte) (*Collection, error) {
	if len(b) > MaxEncoded {
		return nil, fault.TooLarge.Errorf("schema version has %d bytes, more than %d: split the type", len(b), MaxEncoded)
	}
	b = bytes.Clone(b) // the version outlives the caller's buffer
	r := cbor.NewReader(b)
	c := readCollection(r)
	if err := r.Done(); err != nil {
		return nil, fault.Invalid.Errorf("schema version: %w", err)
	}
	if err := c.check(); err != nil {
		return nil, fault.Invalid.Errorf("schema version: %w", err)
	}
	// A default that is decoded, checked and encoded again must come out alike, or
	// one version would have two digests.
	if !bytes.Equal(c.appendTo(nil), b) {
		return nil, fault.Invalid.Errorf("schema version: collection %s is not in canonical form: encode it again", c.Name)
	}
	c.seal(b)
	return c, nil
}

// seal makes encoded the form of c and derives what depends on it.
func (c *Collection) seal(encoded []byte) {
	c.encoded = encoded
	c.Version = digest(encoded)
	if c.Previous == (dag.Digest{}) {
		c.ID = dag.CollectionID(c.Version)
	}
	c.lookUp()
}

func digest(encoded []byte) dag.Digest {
	h := sha256.New()
	h.Write([]byte(digestDomain))
	h.Write(encoded)
	return dag.Digest(h.Sum(nil))
}

func (c *Collection) appendTo(b []byte) []byte {
	b = cbor.AppendArray(b, versionItems)
	b = cbor.AppendUint(b, formatVersion)
	b = cbor.AppendText(b, c.Name)
	b = cbor.AppendUint(b, uint64(c.Mode))
	b = cbor.AppendArray(b, len(c.Keys))
	for _, id := range c.Keys {
		b = cbor.AppendUint(b, uint64(id))
	}
	if c.Previous == (dag.Digest{}) {
		b = cbor.AppendNull(b)
	} else {
		b = cbor.AppendArray(b, 2)
		b = cbor.AppendBytes(b, c.ID[:])
		b = cbor.AppendBytes(b, c.Previous[:])
	}
	b = cbor.AppendNull(b)
	b = cbor.AppendArray(b, len(c.Fields))
	for i := range c.Fields {
		b = c.Fields[i].appendTo(b)
	}
	return b
}

func (f *Field) appendTo(b []byte) []byte {
	b = cbor.AppendArray(b, fieldItems)
	b = cbor.AppendUint(b, uint64(f.ID))
	b = cbor.AppendText(b, f.Name)
	b = cbor.AppendUint(b, uint64(f.Kind()))
	b = cbor.AppendBool(b, f.NonNull)
	b = appendOptional(b, f.Target)
	b = appendOptional(b, f.Relation)
	b = cbor.AppendUint(b, uint64(f.Size))
	if f.Default == nil {
		return cbor.AppendNull(b)
	}
	return value.AppendCBOR(b, f.Type, *f.Default)
}

func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return cbor.AppendNull(b)
	}
	return cbor.AppendText(b, s)
}

func readCollection(r *cbor.Reader) *Collection {
	c := &Collection{}
	readArray(r, versionItems, "a schema version")
	if v := r.Uint(); v != formatVersion && r.Err() == nil {
		r.Fail(fault.Invalid.Errorf("format %d is not known: this node reads format %d, a newer one may read it", v, formatVersion))
	}
	c.Name = r.Text()
	c.Mode = dag.Mode(readUint(r, uint64(dag.ModeUnique), "mode"))
	for range readCount(r, MaxKeys, "key fields") {
		c.Keys = append(c.Keys, crdt.FieldID(readUint(r, 1<<32-1, "field number")))
	}
	if !r.Null() {
		readArray(r, 2, "the previous version")
		c.ID = dag.CollectionID(readHash(r))
		c.Previous = dag.Digest(readHash(r))
		if r.Err() == nil && (c.Previous == dag.Digest{} || c.ID == dag.CollectionID{}) {
			r.Fail(fault.Invalid.Errorf("the previous version is all zeros: write null for a first version"))
		}
	}
	if !r.Null() {
		r.Fail(fault.Invalid.Errorf("collection %s has a policy: this node cannot honour it, a newer one may", c.Name))
	}
	for range readCount(r, MaxFields, "fields") {
		c.Fields = append(c.Fields, readField(r))
	}
	return c
}

func readField(r *cbor.Reader) Field {
	var f Field
	readArray(r, fieldItems, "a field")
	f.ID = crdt.FieldID(readUint(r, 1<<32-1, "field number"))
	f.Name = r.Text()
	k := crdt.Kind(readUint(r, 1<<16-1, "kind"))
	f.Rule, f.Type = k.Rule(), k.Type()
	f.NonNull = r.Bool()
	if !r.Null() {
		f.Target = r.Text()
	}
	if !r.Null() {
		f.Relation = r.Text()
	}
	f.Size = int(readUint(r, MaxListSize, "size"))
	if r.Null() || r.Err() != nil {
		return f
	}
	if err := checkKind(&f); err != nil { // before its codec is asked
		r.Fail(err)
		return f
	}
	v, fits := value.FromCBOR(r, f.Type)
	if !fits && r.Err() == nil {
		r.Fail(fault.Invalid.Errorf("field %.140q: the default is no %v", f.Name, f.Type))
	}
	f.Default = &v
	return f
}

func readArray(r *cbor.Reader, want int, what string) {
	if n := r.Array(); n != want && r.Err() == nil {
		r.Fail(fault.Invalid.Errorf("%s has %d items, want %d", what, n, want))
	}
}

func readCount(r *cbor.Reader, limit int, what string) int {
	n := r.Array()
	if n > limit {
		r.Fail(fault.TooLarge.Errorf("%d %s, more than %d", n, what, limit))
		return 0
	}
	return n
}

func readUint(r *cbor.Reader, limit uint64, what string) uint64 {
	n := r.Uint()
	if n > limit {
		r.Fail(fault.Invalid.Errorf("%s %d is greater than %d", what, n, limit))
		return 0
	}
	return n
}

func readHash(r *cbor.Reader) (h [32]byte) {
	b := r.Bytes()
	if len(b) != len(h) && r.Err() == nil {
		r.Fail(fault.Invalid.Errorf("a digest has %d bytes, want %d", len(b), len(h)))
	}
	copy(h[:], b)
	return h
}

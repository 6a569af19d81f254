package schema

import (
	"bytes"
	"crypto/sha256"
	"math/bits"

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
//	            policy: null,                          ; see format 4
//	            fields: [*Field] ]                     ; sorted by name
//	Field   = [ number: uint, name: text, kind: uint, nonnull: bool,
//	            target: null / text, relation: null / text, size: uint,
//	            default: null / any ]
//
// A version with rules or a lens has format 2, one without has format 1, so that
// nodes which know no more read it too:
//
//	Version = [ format: 2, name, mode, keys, previous, policy: null,
//	            fields, rules: [*Rule], lens: null / text ]
//	Rule    = [ op: uint, from: [*Cell], to: [*Cell], argument: null / text / any ]
//	Cell    = [ number: uint, kind: uint ]
//
// A version whose changes are told in more than one topic has format 3, which is
// format 2 and one item behind:
//
//	Version = [ format: 3, …, lens, shards: uint ]     ; their logarithm, 1 to 8
//
// A version with a policy has format 4, in which everything is said: the policy
// itself in canonical form, so that whoever has the collection judges by it.
//
//	Version = [ format: 4, name, mode, keys, previous,
//	            policy: [ bytes, resource: text ],
//	            fields, rules, lens, shards: uint ]    ; 0 to 8
//
// The argument is the separator of a split or a merge, and the value of a default.
// Number and rule of a virtual field are 0. Defaults are encoded as commits encode
// values of the type.
const (
	formatVersion = 1
	versionItems  = 7
	formatRules   = 2
	rulesItems    = 9
	formatShards  = 3
	shardsItems   = 10
	formatPolicy  = 4
	policyItems   = 10
	fieldItems    = 8
	ruleItems     = 4
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
	format := c.format()
	b = cbor.AppendUint(cbor.AppendArray(b, items[format]), format)
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
	if c.Policy == nil {
		b = cbor.AppendNull(b)
	} else {
		b = cbor.AppendText(cbor.AppendBytes(cbor.AppendArray(b, 2), c.Policy.policy.Encode()), c.Policy.Resource)
	}
	b = cbor.AppendArray(b, len(c.Fields))
	for i := range c.Fields {
		b = c.Fields[i].appendTo(b)
	}
	if format == formatVersion {
		return b
	}
	b = cbor.AppendArray(b, len(c.Rules))
	for i := range c.Rules {
		b = c.Rules[i].appendTo(b)
	}
	if b = appendOptional(b, c.Lens); format == formatRules {
		return b
	}
	return cbor.AppendUint(b, uint64(bits.TrailingZeros(uint(max(c.Shards, 1)))))
}

// items is how many a version of each format has.
var items = map[uint64]int{formatVersion: versionItems, formatRules: rulesItems, formatShards: shardsItems, formatPolicy: policyItems}

// format returns the lowest that says all of the version.
func (c *Collection) format() uint64 {
	switch {
	case c.Policy != nil:
		return formatPolicy
	case c.Shards > 0:
		return formatShards
	case len(c.Rules) > 0 || c.Lens != "":
		return formatRules
	}
	return formatVersion
}

func (r *Rule) appendTo(b []byte) []byte {
	b = cbor.AppendArray(b, ruleItems)
	b = cbor.AppendUint(b, uint64(r.Op))
	for _, cells := range [][]Cell{r.From, r.To} {
		b = cbor.AppendArray(b, len(cells))
		for _, c := range cells {
			b = cbor.AppendArray(b, 2)
			b = cbor.AppendUint(cbor.AppendUint(b, uint64(c.ID)), uint64(c.Kind))
		}
	}
	if r.Value != nil {
		return value.AppendCBOR(b, r.To[0].Kind.Type(), *r.Value)
	}
	return appendOptional(b, r.Separator)
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
	format := readFormat(r)
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
		c.Policy = readPolicy(r, c.Name, format)
	}
	for range readCount(r, MaxFields, "fields") {
		c.Fields = append(c.Fields, readField(r))
	}
	if format == formatVersion {
		return c
	}
	for range readCount(r, MaxRules, "rules") {
		c.Rules = append(c.Rules, readRule(r))
	}
	if !r.Null() {
		c.Lens = r.Text()
	}
	if format >= formatShards {
		if n := readUint(r, uint64(bits.TrailingZeros(MaxShards)), "logarithm of shards"); n > 0 {
			c.Shards = 1 << n
		}
	}
	return c
}

// readFormat reads what a version begins with.
func readFormat(r *cbor.Reader) (format uint64) {
	n, v := r.Array(), r.Uint()
	switch {
	case r.Err() != nil:
	case items[v] == 0:
		r.Fail(fault.Invalid.Errorf("format %d is not known: this node reads formats %d to %d, a newer one may read it", v, formatVersion, formatPolicy))
	case n != items[v]:
		r.Fail(fault.Invalid.Errorf("a schema version of format %d has %d items", v, n))
	}
	return v
}

func readRule(r *cbor.Reader) Rule {
	var rule Rule
	readArray(r, ruleItems, "a rule")
	rule.Op = Op(readUint(r, 255, "rule"))
	for _, cells := range []*[]Cell{&rule.From, &rule.To} {
		for range readCount(r, MaxParts, "fields of a rule") {
			readArray(r, 2, "a cell")
			id := crdt.FieldID(readUint(r, 1<<32-1, "field number"))
			*cells = append(*cells, Cell{id, crdt.Kind(readUint(r, 1<<16-1, "kind"))})
		}
	}
	if r.Null() || r.Err() != nil {
		return rule
	}
	if rule.Op != OpDefault {
		rule.Separator = r.Text()
		return rule
	}
	if len(rule.To) != 1 || !validType(rule.To[0].Kind.Type()) { // before its codec is asked
		r.Fail(fault.Invalid.Errorf("default of %d fields, or of an unknown type", len(rule.To)))
		return rule
	}
	v, fits := value.FromCBOR(r, rule.To[0].Kind.Type())
	if !fits && r.Err() == nil {
		r.Fail(fault.Invalid.Errorf("the value of a default is no %v", rule.To[0].Kind.Type()))
	}
	rule.Value = &v
	return rule
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

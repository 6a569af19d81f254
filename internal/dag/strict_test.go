package dag

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// The parts of a header, in order.
const (
	hVersion = iota
	hKind
	hDoc
	hParents
	hHeight
	hHLC
	hAuthor
	hTxn
	hSchema
	hAuth
	hSegs
)

// forge takes a good commit apart, lets change alter the encoded parts of its
// header, and puts it together again with a fitting signature: whatever is wrong
// with the result, it is what change did.
func forge(t testing.TB, c *Commit, k ident.Key, change func(h [][]byte) [][]byte) []byte {
	t.Helper()
	r := cbor.NewReader(c.header)
	parts := make([][]byte, r.Array())
	for i := range parts {
		parts[i] = r.Skip()
	}
	if err := r.Done(); err != nil {
		t.Fatal(err)
	}
	parts = change(parts)
	header := append(cbor.AppendArray(nil, len(parts)), bytes.Join(parts, nil)...)
	return resign(t, c, k, header)
}

func resign(t testing.TB, c *Commit, k ident.Key, header []byte) []byte {
	t.Helper()
	sig, err := k.Sign(signedMessage(sha256.Sum256(header)))
	if err != nil {
		t.Fatal(err)
	}
	forged := *c
	forged.header, forged.Sig = header, sig
	return forged.appendEnvelope(nil)
}

func uintItem(v uint64) []byte { return cbor.AppendUint(nil, v) }
func bytesItem(n int) []byte   { return cbor.AppendBytes(nil, make([]byte, n)) }
func arrayItem(es ...[]byte) []byte {
	return append(cbor.AppendArray(nil, len(es)), bytes.Join(es, nil)...)
}
func linksItem(ids ...CID) []byte      { return appendLinks(nil, ids) }
func linkItem(cid string) []byte       { return cbor.AppendLink(nil, []byte(cid)) }
func rawItem(s string) []byte          { return []byte(s) }
func textItem(s string) []byte         { return cbor.AppendText(nil, s) }
func keyItem(k ident.PublicKey) []byte { return cbor.AppendBytes(nil, []byte(k)) }

// Each row breaks one rule of the header and keeps all others.
func TestHeaderRules(t *testing.T) {
	k, bob := ada(t), key(t, ident.EdDSA, "Bob")
	first := seal(t, root(k, title("Ada"), hits(1)), k)
	next := seal(t, child(k, []*Commit{first}, title("Bob")), k)
	parent := first.CID
	var many []CID
	for i := range byte(MaxParents + 1) {
		many = append(many, CID{i})
	}
	seg := func(group, epoch, n uint64, hash []byte) []byte {
		return arrayItem(uintItem(group), uintItem(epoch), uintItem(n), hash)
	}
	s := next.Segs[0]
	hash := cbor.AppendBytes(nil, s.Hash[:])
	good := seg(0, 0, s.Len, hash)
	rootSeed := appendRootSeed(nil, *first.Root)
	seed := func(mode uint64, namespace, collection, seed int) []byte {
		return arrayItem(uintItem(mode), bytesItem(namespace), bytesItem(collection), bytesItem(seed))
	}
	raw := "\x01\x71\x12\x20" + strings.Repeat("h", 32)

	for _, c := range []struct {
		name string
		part int
		item []byte
	}{
		{"version 0", hVersion, uintItem(0)},
		{"version is text", hVersion, textItem("1")},
		{"unknown kind", hKind, uintItem(4)},
		{"kind that wraps to 0", hKind, uintItem(256)},
		{"docID too short", hDoc, bytesItem(31)},
		{"docID too long", hDoc, bytesItem(33)},
		{"docID is text", hDoc, textItem(strings.Repeat("x", 32))},
		{"a root seed and parents", hDoc, rootSeed},
		{"no parents, no root seed", hParents, linksItem()},
		{"parent twice", hParents, linksItem(parent, parent)},
		{"parents not sorted", hParents, linksItem(CID{2}, CID{1})},
		{"too many parents", hParents, linksItem(many...)},
		{"parents null", hParents, rawItem("\xf6")},
		{"parent is bytes, not a link", hParents, arrayItem(bytesItem(36))},
		{"parent of another codec", hParents, arrayItem(linkItem(rawPrefix + raw[4:]))},
		{"parent of another hash", hParents, arrayItem(linkItem("\x01\x71\x13\x20" + raw[4:]))},
		{"parent of version 0", hParents, arrayItem(linkItem(raw[2:]))},
		{"parent cut short", hParents, arrayItem(linkItem(raw[:35]))},
		{"parent too long", hParents, arrayItem(linkItem(raw + "h"))},
		{"height 0", hHeight, uintItem(0)},
		{"height 1 with parents", hHeight, uintItem(1)},
		{"height beyond 2^63", hHeight, uintItem(1 << 63)},
		{"height negative", hHeight, cbor.AppendInt(nil, -2)},
		{"height is a float", hHeight, cbor.AppendFloat(nil, 2)},
		{"hlc beyond 2^63", hHLC, uintItem(1 << 63)},
		{"no author", hAuthor, bytesItem(0)},
		{"author without prefix", hAuthor, cbor.AppendBytes(nil, []byte(k.Public()[2:]))},
		{"author with an unknown prefix", hAuthor, bytesItem(34)},
		{"author cut short", hAuthor, keyItem(k.Public()[:33])},
		{"author null", hAuthor, rawItem("\xf6")},
		{"gateway without proof", hAuthor, arrayItem(keyItem(k.Public()), keyItem(bob.Public()))},
		{"gateway is the author", hAuthor, arrayItem(keyItem(k.Public()), keyItem(k.Public()), bytesItem(32))},
		{"gateway is nobody", hAuthor, arrayItem(keyItem(k.Public()), bytesItem(0), bytesItem(32))},
		{"gateway is malformed", hAuthor, arrayItem(keyItem(k.Public()), bytesItem(34), bytesItem(32))},
		{"gateway, but no proof in the envelope", hAuthor, arrayItem(keyItem(k.Public()), keyItem(bob.Public()), bytesItem(32))},
		{"txn without count", hTxn, arrayItem(bytesItem(16))},
		{"txn of none", hTxn, arrayItem(bytesItem(16), uintItem(0))},
		{"txn id too short", hTxn, arrayItem(bytesItem(15), uintItem(2))},
		{"txn id too long", hTxn, arrayItem(bytesItem(17), uintItem(2))},
		{"txn count beyond 2^63", hTxn, arrayItem(bytesItem(16), uintItem(1<<63))},
		{"txn empty", hTxn, arrayItem()},
		{"schema too short", hSchema, bytesItem(31)},
		{"schema null", hSchema, rawItem("\xf6")},
		{"auth not sorted", hAuth, linksItem(CID{2}, CID{1})},
		{"auth twice", hAuth, linksItem(CID{2}, CID{2})},
		{"too many auth links", hAuth, linksItem(many...)},
		{"no segments", hSegs, arrayItem()},
		{"a segment more than there is", hSegs, arrayItem(good, seg(1, 0, 0, hash))},
		{"two segments of a group", hSegs, arrayItem(good, good)},
		{"segment of wrong length", hSegs, arrayItem(seg(0, 0, s.Len+1, hash))},
		{"segment of wrong hash", hSegs, arrayItem(seg(0, 0, s.Len, bytesItem(32)))},
		{"epoch of the group in clear", hSegs, arrayItem(seg(0, 1, s.Len, hash))},
		{"segment beyond the limit", hSegs, arrayItem(seg(0, 0, MaxEnvelope+1, hash))},
		{"group beyond 2^63", hSegs, arrayItem(seg(1<<63, 0, s.Len, hash))},
		{"segment of 3 parts", hSegs, arrayItem(arrayItem(uintItem(0), uintItem(0), hash))},
		{"segment hash too short", hSegs, arrayItem(seg(0, 0, s.Len, bytesItem(31)))},
	} {
		env := forge(t, next, k, func(h [][]byte) [][]byte { h[c.part] = c.item; return h })
		expectInvalid(t, c.name, env)
	}

	for _, c := range []struct {
		name string
		seed []byte
	}{
		{"seed of an unknown mode", seed(4, 0, 32, 32)},
		{"seed of a mode that wraps to 0", seed(256, 0, 32, 32)},
		{"namespace too long", seed(0, MaxNamespace+1, 32, 32)},
		{"collection too short", seed(0, 0, 31, 32)},
		{"seed of 3 parts", arrayItem(uintItem(0), bytesItem(0), bytesItem(32))},
		{"seed too long", seed(2, 0, 32, MaxSeed+1)},
		{"content seed too short", seed(0, 0, 32, 31)},
		{"content seed of other fields", seed(0, 0, 32, 32)},
		{"owned by nobody", seed(1, 0, 32, 32)},
		{"keyed seed too short", seed(2, 0, 32, 16)},
		{"unique of nobody", seed(3, 0, 32, 50)},
		{"no seed", bytesItem(32)},
	} {
		env := forge(t, first, k, func(h [][]byte) [][]byte { h[hDoc] = c.seed; return h })
		expectInvalid(t, c.name, env)
	}
	expectInvalid(t, "root of height 2", forge(t, first, k, func(h [][]byte) [][]byte { h[hHeight] = uintItem(2); return h }))
	expectInvalid(t, "root with parents", forge(t, first, k, func(h [][]byte) [][]byte { h[hParents] = linksItem(parent); return h }))
	expectInvalid(t, "root that is a checkpoint", forge(t, first, k, func(h [][]byte) [][]byte { h[hKind] = uintItem(1); return h }))
	expectInvalid(t, "a part too few", forge(t, next, k, func(h [][]byte) [][]byte { return h[:hSegs] }))
	expectInvalid(t, "a part too many", forge(t, next, k, func(h [][]byte) [][]byte { return append(h, uintItem(0)) }))

	if _, err := Open(forge(t, next, k, func(h [][]byte) [][]byte { return h })); err != nil {
		t.Errorf("unchanged: %v", err) // else the rows above show nothing
	}
}

func expectInvalid(t *testing.T, name string, env []byte) {
	t.Helper()
	c, err := Open(env)
	if !errors.Is(err, fault.Invalid) || c != nil {
		t.Errorf("%s: %v, want invalid", name, err)
	}
	if err != nil && len(err.Error()) > 500 {
		t.Errorf("%s: an error of %d characters repeats its input", name, len(err.Error()))
	}
}

// A later format is no offence: the sender may know more than this node.
func TestNewerFormatWaits(t *testing.T) {
	k := ada(t)
	first := seal(t, root(k, title("Ada")), k)
	env := forge(t, first, k, func(h [][]byte) [][]byte { h[hVersion] = uintItem(2); return append(h, uintItem(7)) })
	if _, err := Open(env); !errors.Is(err, ErrDeferred) || errors.Is(err, fault.Invalid) {
		t.Errorf("version 2: %v, want deferred", err)
	}
}

func TestSeedsBindTheirAuthor(t *testing.T) {
	k, eve := ada(t), key(t, ident.EdDSA, "Eve")
	fields := []crdt.Delta{title("Ada"), hits(1)}
	unique, err := UniqueSeed(k.Public(), bytes.NewReader(make([]byte, 16)))
	if err != nil {
		t.Fatal(err)
	}
	for name, seed := range map[string]*RootSeed{
		"owned":  {Mode: ModeOwned, Collection: pages, Seed: OwnedSeed(k.Public(), fields)},
		"unique": {Mode: ModeUnique, Collection: pages, Seed: unique},
	} {
		c := root(k, fields...)
		c.Root = seed
		seal(t, c, k)
		if _, err := Open(c.Envelope()); err != nil {
			t.Errorf("%s: Ada's own root: %v", name, err)
		}
		stolen := forge(t, c, eve, func(h [][]byte) [][]byte { h[hAuthor] = keyItem(eve.Public()); return h })
		expectInvalid(t, name+": Eve begins Ada's document", stolen)
	}
}

// The fields of a root must be those that the seed was made from, in any order,
// as far as they are in clear.
func TestSeedsBindTheFields(t *testing.T) {
	k := ada(t)
	fields := []crdt.Delta{hits(1), title("Ada")} // not in the order of the fields
	c := seal(t, root(k, fields...), k)
	if _, err := Open(c.Envelope()); err != nil {
		t.Errorf("fields in another order: %v", err)
	}
	other := root(k, title("Eve"))
	other.Root = c.Root
	if err := Prepare(other); !errors.Is(err, fault.Invalid) {
		t.Errorf("another document's seed: %v, want invalid", err)
	}
	sealed := root(k, title("Ada"))
	sealed.Root.Seed = ContentSeed(fields)
	sealed.AddSegment(2, 1, []byte("the hits, sealed"))
	if _, err := Seal(sealed, k); err != nil {
		t.Errorf("a part of the fields is encrypted: %v", err)
	}
}

// What Open would refuse is not made.
func TestPrepareRefusesWhatOpenRefuses(t *testing.T) {
	k, bob := ada(t), key(t, ident.EdDSA, "Bob")
	first := seal(t, root(k, title("Ada")), k)
	var many []CID
	for i := range byte(MaxParents + 1) {
		many = append(many, CID{i})
	}
	for name, spoil := range map[string]func(c *Commit){
		"no author":           func(c *Commit) { c.Author.Key = "" },
		"unknown kind":        func(c *Commit) { c.Kind = 9 },
		"too many parents":    func(c *Commit) { c.Parents = many },
		"too many auth links": func(c *Commit) { c.Auth = many },
		"no parents":          func(c *Commit) { c.Parents = nil },
		"wrong height":        func(c *Commit) { c.Height = 1 },
		"clock out of range":  func(c *Commit) { c.HLC = 1 << 63 },
		"empty transaction":   func(c *Commit) { c.Txn = &Txn{} },
		"root with parents":   func(c *Commit) { c.Root = first.Root },
		"too many operations": func(c *Commit) { c.Deltas = slices.Repeat([]crdt.Delta{hits(1)}, MaxOps+1) },
		"too large":           func(c *Commit) { c.Deltas = []crdt.Delta{title(strings.Repeat("x", MaxEnvelope))} },
		"too many segments": func(c *Commit) {
			for g := range uint64(MaxSegments) {
				c.AddSegment(g+1, 0, nil)
			}
		},
		"two for one group":    func(c *Commit) { c.AddSegment(3, 0, nil); c.AddSegment(3, 1, nil) },
		"group out of range":   func(c *Commit) { c.AddSegment(1<<63, 0, nil) },
		"proof hash, no proof": func(c *Commit) { c.Author.Proof[0] = 1 },
		"operations in a key":  func(c *Commit) { c.Kind = Key; c.AddSegment(0, 0, nil) },
		"gateway, no proof":    func(c *Commit) { c.Author.Via = bob.Public() },
		"proof, no gateway":    func(c *Commit) { c.Proof = []byte("proof") },
		"own gateway":          func(c *Commit) { c.Author.Via, c.Proof = k.Public(), []byte("proof") },
		"checkpoint of nought": func(c *Commit) { c.Kind, c.Deltas = Checkpoint, nil },
	} {
		c := child(k, []*Commit{first}, hits(1))
		spoil(c)
		if err := Prepare(c); !errors.Is(err, fault.Invalid) && !(name == "too large" && errors.Is(err, fault.TooLarge)) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	for name, spoil := range map[string]func(c *Commit){
		"docID of another seed": func(c *Commit) { c.Doc[0] = 1 },
		"unknown mode":          func(c *Commit) { c.Root.Mode = lastMode + 1 },
		"namespace too long":    func(c *Commit) { c.Root.Namespace = make([]byte, MaxNamespace+1) },
		"seed too long":         func(c *Commit) { c.Root.Seed = make([]byte, MaxSeed+1) },
		"root of a checkpoint":  func(c *Commit) { c.Kind, c.Deltas = Checkpoint, nil; c.AddSegment(1, 0, nil) },
	} {
		c := root(k, title("Ada"))
		spoil(c)
		if err := Prepare(c); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
}

// The rules of what stands around the header.
func TestEnvelopeRules(t *testing.T) {
	k, bob := ada(t), key(t, ident.EdDSA, "Bob")
	first := seal(t, root(k, title("Ada")), k)
	gateway := child(k, []*Commit{first}, title("Bob"))
	delegate(t, gateway, k, bob)
	seal(t, gateway, bob)
	other := *gateway
	delegate(t, &other, k, bob, pages)
	for name, c := range map[string]struct {
		from   *Commit
		change func(c *Commit)
	}{
		"signature too short":       {first, func(c *Commit) { c.Sig = c.Sig[:63] }},
		"signature too long":        {first, func(c *Commit) { c.Sig = append(bytes.Clone(c.Sig), 0) }},
		"no signature":              {first, func(c *Commit) { c.Sig = nil }},
		"proof without gateway":     {first, func(c *Commit) { c.Proof = []byte("delegation") }},
		"gateway without proof":     {gateway, func(c *Commit) { c.Proof = nil }},
		"another proof":             {gateway, func(c *Commit) { c.Proof = other.Proof }},
		"another proof, no payload": {gateway, func(c *Commit) { c.Proof, c.Payload = other.Proof, nil }},
		"another payload":           {first, func(c *Commit) { c.Payload = gateway.Payload }},
		"a segment too many":        {first, func(c *Commit) { c.Payload = append(slices.Clone(c.Payload), nil) }},
		"no segments":               {first, func(c *Commit) { c.Payload = [][]byte{} }},
	} {
		changed := *c.from
		c.change(&changed)
		expectInvalid(t, name, changed.appendEnvelope(nil))
	}
	empty := *gateway
	empty.Proof = nil
	env := append(empty.appendEnvelope(nil), 0x40)
	env[0]++
	empty.Author.Proof = sha256.Sum256(nil)
	expectInvalid(t, "proof of no bytes, wrong hash", env)
	env = append(resign(t, &empty, bob, empty.appendHeader(nil)), 0x40)
	env[0]++
	expectInvalid(t, "proof of no bytes, fitting hash", env)

	empty.Payload = nil
	env = append(resign(t, &empty, bob, empty.appendHeader(nil)), 0x40)
	env[0]++
	expectInvalid(t, "proof of no bytes, payload left out", env)

	pruned := *gateway
	pruned.Payload, pruned.Proof = nil, nil
	if _, err := Open(pruned.appendEnvelope(nil)); err != nil {
		t.Errorf("payload and proof left out: %v", err)
	}
}

// A gateway's part of the header, in commits that bring the proof it names.
func TestGatewayRules(t *testing.T) {
	k, bob := ada(t), key(t, ident.EdDSA, "Bob")
	first := seal(t, root(k, title("Ada")), k)
	c := child(k, []*Commit{first}, title("Bob"))
	delegate(t, c, k, bob)
	seal(t, c, bob)
	proof := cbor.AppendBytes(nil, c.Author.Proof[:])
	author, via := keyItem(k.Public()), keyItem(bob.Public())
	for name, item := range map[string][]byte{
		"gateway is the author":   arrayItem(author, author, proof),
		"gateway is malformed":    arrayItem(author, bytesItem(34), proof),
		"gateway is nobody":       arrayItem(author, bytesItem(0), proof),
		"author is malformed":     arrayItem(bytesItem(34), via, proof),
		"two gateways":            arrayItem(author, via, via, proof),
		"proof of the wrong size": arrayItem(author, via, bytesItem(31)),
		"no gateway":              author,
	} {
		expectInvalid(t, name, forge(t, c, bob, func(h [][]byte) [][]byte { h[hAuthor] = item; return h }))
	}
	if _, err := Open(forge(t, c, bob, func(h [][]byte) [][]byte { h[hAuthor] = arrayItem(author, via, proof); return h })); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// Just within the limits everything works.
func TestLimitsAreInclusive(t *testing.T) {
	k := ada(t)
	first := seal(t, root(k, title("Ada")), k)
	c := child(k, []*Commit{first}, slices.Repeat([]crdt.Delta{hits(1)}, MaxOps)...)
	for i := range byte(MaxParents - 1) {
		c.Parents = append(c.Parents, CID{i})
		c.Auth = append(c.Auth, CID{i})
	}
	for g := range uint64(MaxSegments - 1) {
		c.AddSegment(g+1, MaxNumber, []byte("sealed"))
	}
	c.Height, c.HLC = MaxNumber, MaxNumber
	if err := Prepare(c); err != nil {
		t.Fatal(err)
	}
	c.AddSegment(100, 0, make([]byte, MaxEnvelope-c.envelopeSize()-100))
	c.Segs, c.Payload = slices.Delete(c.Segs, 1, 2), slices.Delete(c.Payload, 1, 2)
	if err := Prepare(c); err != nil {
		t.Fatal(err)
	}
	last := len(c.Payload) - 1
	c.Payload[last] = append(c.Payload[last], make([]byte, MaxEnvelope-c.envelopeSize())...)
	env, err := Seal(c, k)
	if err != nil || len(env) != MaxEnvelope {
		t.Fatalf("envelope of %d bytes, want %d: %v", len(env), MaxEnvelope, err)
	}
	if _, err := Open(env); err != nil {
		t.Error(err)
	}
	c.Payload[last] = append(c.Payload[last], 0)
	if err := Prepare(c); !errors.Is(err, fault.Invalid) {
		t.Errorf("a byte more: %v, want invalid", err)
	}
	expectInvalid(t, "a byte more", resign(t, c, k, c.header))
}

// Each item of a commit, written in any other way that CBOR has for it, is
// refused, though everything around it fits: hashes, lengths and signature.
func TestOtherSpellingsAreRefused(t *testing.T) {
	tried := 0
	for _, s := range specimens(t) {
		k := signerOf(t, s.Commit)
		for name, header := range respell(s.header) {
			tried++
			expectInvalid(t, s.name+": header: "+name, resign(t, s.Commit, k, header))
			if _, err := OpenHeader(header, s.Sig); !errors.Is(err, fault.Invalid) {
				t.Errorf("%s: header alone: %s: %v, want invalid", s.name, name, err)
			}
		}
		for name, env := range respell(s.Envelope()) {
			tried++
			expectInvalid(t, s.name+": envelope: "+name, env)
		}
		if s.HeaderOnly() || s.Kind != Write || s.Segs[0].Group != 0 {
			continue
		}
		for name, segment := range respell(s.Payload[0]) {
			tried++
			c := *s.Commit
			c.Segs, c.Payload = slices.Clone(c.Segs), slices.Clone(c.Payload)
			c.Payload[0] = segment
			c.Segs[0].Len, c.Segs[0].Hash = uint64(len(segment)), sha256.Sum256(segment)
			expectInvalid(t, s.name+": operations: "+name, resign(t, &c, k, c.appendHeader(nil)))
		}
	}
	t.Logf("%d spellings", tried)
}

func signerOf(t testing.TB, c *Commit) ident.Key {
	t.Helper()
	for _, k := range []ident.Key{ada(t), key(t, ident.EdDSA, "Bob"), key(t, ident.ES256, "Carol"), key(t, ident.ES256K, "Dan")} {
		if k.Public() == c.Author.Signer() {
			return k
		}
	}
	t.Fatal("nobody signed")
	return ident.Key{}
}

// respell returns item with each of its parts, at any depth, written in ways that
// mean the same in CBOR but are not canonical.
func respell(item []byte) map[string][]byte {
	out := map[string][]byte{"bytes behind": append(bytes.Clone(item), 0xf6)}
	for at := 0; at < len(item); {
		head, size := item[at], 1
		major, short := head>>5, head&0x1f
		n := uint64(short)
		if short >= 24 && major != 7 {
			size += 1 << (short - 24)
			var wide [8]byte
			copy(wide[8-(size-1):], item[at+1:at+size])
			n = binary.BigEndian.Uint64(wide[:])
		}
		replace := func(name string, with ...byte) {
			out[fmt.Sprintf("byte %d: %s", at, name)] = slices.Concat(item[:at], with, item[at+size:])
		}
		if major != 7 {
			for width := max(1, 2*(size-1)); width <= 8; width *= 2 {
				longer := binary.BigEndian.AppendUint64(nil, n)[8-width:]
				info := map[int]byte{1: 24, 2: 25, 4: 26, 8: 27}[width]
				replace(fmt.Sprintf("%d bytes for the number", width), append([]byte{major<<5 | info}, longer...)...)
			}
		}
		end := at + size + int(n)
		switch major {
		case 2, 3: // in pieces
			with := slices.Concat([]byte{major<<5 | 31}, item[at:end], []byte{0xff})
			out[fmt.Sprintf("byte %d: indefinite string", at)] = slices.Concat(item[:at], with, item[end:])
			at = end
		case 7:
			switch short {
			case 27:
				at += 8
			case 22:
				replace("undefined", 0xf7)
			default:
				replace("simple value in two bytes", 0xf8, short)
			}
			at++
		default:
			if major == 4 && n > 0 && n < 23 { // and the items stay as they are
				replace("one item more announced", head+1)
				replace("one item less announced", head-1)
			}
			if major == 6 {
				replace("another tag", 0xd8, 0x2b)
			} else {
				replace("tagged", append([]byte{0xd9, 0xd9, 0xf7}, item[at:at+size]...)...) // "this is CBOR"
			}
			at += size
		}
	}
	return out
}

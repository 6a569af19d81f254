package schema_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

const goldenDir = "../../testdata/format/v1"

// The specimens together use everything that a version can say.
var specimens = []struct{ name, sdl string }{
	{"empty", "type Empty"},
	{"user", "type User { name: String  age: Int }"},
	{"types", `type Types {
		id: ID  ok: Boolean!  n: Int  f: Float  g: Float32  s: String  at: DateTime  b: Blob  j: JSON
		ns: [Int!]  ms: [Float]!  v: [Float32!] @constraints(size: 3)
		up: Int @crdt(type: pcounter)  both: Float @crdt(type: pncounter)  many: String @crdt(type: mvregister)
	}`},
	{"defaults", `type Defaults @docID(mode: UNIQUE) {
		ok: Boolean @default(bool: true)  n: Int @default(int: -5)  f: Float @default(float: 0.1)  g: Float32 @default(float32: 0.1)
		s: String! @default(string: "Oslo")  at: DateTime @default(dateTime: "2020-01-02T03:04:05.5+02:00")
		b: Blob @default(blob: "00ff")  j: JSON @default(json: {a: [1, 2.5, null]})
	}`},
	{"relations", `type Book @docID(mode: KEYED, fields: ["title", "author"]) { title: String  author: Author  shelf: Shelf @relation(name: "place") }
		type Author @docID(mode: OWNED) { books: [Book]  mentor: Author }
		type Shelf { book: Book @primary @relation(name: "place")  seen: Book }`},
	{"shards", "type Event @sync(shards: 16) { at: DateTime }"},
	{"policy", `type Note @policy(id: "bafkreidvykxrxmerr7in2muv2idyocw2i2wqdklt22klp7756is474mtsy", resource: "note") { text: String }
		type Folder @docID(mode: UNIQUE) @policy(id: "bafkreidvykxrxmerr7in2muv2idyocw2i2wqdklt22klp7756is474mtsy", resource: "folder") @sync(shards: 2) { name: String }`},
}

// A collection keeps its ID for ever: peers and databases know it by nothing else.
func TestGoldenCollections(t *testing.T) {
	rewrite := flag.Lookup("rewrite").Value.String() == "true" // only what is missing
	for _, s := range specimens {
		t.Run(s.name, func(t *testing.T) {
			cs, err := schema.Parse(s.sdl, nil, policy(t, noted))
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			fmt.Fprintf(&got, "%s\n", s.sdl)
			for _, c := range cs {
				fmt.Fprintf(&got, "\n%s %s\nencoded %x\n", c.Name, c.ID, c.Encode())
			}
			path := filepath.Join(goldenDir, "collection-"+s.name+".txt")
			want, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) && rewrite {
				want, err = got.Bytes(), os.WriteFile(path, got.Bytes(), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Fatalf("collections are made as\n%s\nwant\n%s", got.Bytes(), want)
			}
			mustReadGolden(t, string(want))
		})
	}
}

func mustReadGolden(t *testing.T, file string) {
	t.Helper()
	var id string
	for line := range strings.Lines(file) {
		line = strings.TrimSuffix(line, "\n")
		text, ok := strings.CutPrefix(line, "encoded ")
		if !ok {
			if i := strings.LastIndex(line, " "); i >= 0 {
				id = line[i+1:]
			}
			continue
		}
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		c, err := schema.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if c.ID.String() != id || c.Version != dag.Digest(c.ID) {
			t.Errorf("%s is read as %s, want %s", c.Name, c.ID, id)
		}
	}
}

// version and column are what a peer may send; the tests change one thing each.
type version struct {
	format, mode any
	name         string
	keys         []uint64
	previous     func([]byte) []byte
	policy       func([]byte) []byte
	columns      []column
}

type column struct {
	number           uint64
	name             string
	kind             crdt.Kind
	nonNull          bool
	target, relation string
	size             uint64
	fallback         func([]byte) []byte
}

func (v version) encode() []byte {
	b := cbor.AppendArray(nil, 7)
	b = cbor.AppendUint(b, uint64(v.format.(int)))
	b = cbor.AppendText(b, v.name)
	b = cbor.AppendUint(b, uint64(v.mode.(int)))
	b = cbor.AppendArray(b, len(v.keys))
	for _, k := range v.keys {
		b = cbor.AppendUint(b, k)
	}
	b = orNull(b, v.previous)
	b = orNull(b, v.policy)
	b = cbor.AppendArray(b, len(v.columns))
	for _, c := range v.columns {
		b = cbor.AppendArray(b, 8)
		b = cbor.AppendUint(b, c.number)
		b = cbor.AppendText(b, c.name)
		b = cbor.AppendUint(b, uint64(c.kind))
		b = cbor.AppendBool(b, c.nonNull)
		for _, s := range []string{c.target, c.relation} {
			if s == "" {
				b = cbor.AppendNull(b)
			} else {
				b = cbor.AppendText(b, s)
			}
		}
		b = cbor.AppendUint(b, c.size)
		b = orNull(b, c.fallback)
	}
	return b
}

func orNull(b []byte, f func([]byte) []byte) []byte {
	if f == nil {
		return cbor.AppendNull(b)
	}
	return f(b)
}

func text(s string) func([]byte) []byte {
	return func(b []byte) []byte { return cbor.AppendText(b, s) }
}

func lineage(collection, previous byte) func([]byte) []byte {
	return func(b []byte) []byte {
		b = cbor.AppendArray(b, 2)
		b = cbor.AppendBytes(b, bytes.Repeat([]byte{collection}, 32))
		return cbor.AppendBytes(b, bytes.Repeat([]byte{previous}, 32))
	}
}

var (
	lwwString = crdt.KindOf(crdt.LWW, value.TypeString)
	lwwRef    = crdt.KindOf(crdt.LWW, value.TypeRef)
)

func sound() version {
	return version{format: 1, name: "Book", mode: int(dag.ModeKeyed), keys: []uint64{18}, columns: []column{
		{number: 16, name: "author", kind: lwwRef, target: "Author", relation: "author_book"},
		{number: 0, name: "copies", kind: crdt.KindOf(0, value.TypeRef|value.ListOf), target: "Copy", relation: "book_copy"},
		{number: 17, name: "tags", kind: lwwString | crdt.Kind(value.ListOf), size: 2},
		{number: 18, name: "title", kind: lwwString, nonNull: true, fallback: text("untitled")},
	}}
}

func TestDecodeRefusesWhatParseWouldNotMake(t *testing.T) {
	t.Parallel()
	if _, err := schema.Decode(sound().encode()); err != nil {
		t.Fatalf("the sound version is refused: %v", err)
	}
	for name, change := range map[string]func(*version){
		"a format of the future":             func(v *version) { v.format = 2 },
		"a policy":                           func(v *version) { v.policy = text("p") },
		"an unknown mode":                    func(v *version) { v.mode = 4 },
		"a reserved type name":               func(v *version) { v.name = "Query" },
		"a type name that is no name":        func(v *version) { v.name = "a-b" },
		"no type name":                       func(v *version) { v.name = "" },
		"a key in another mode":              func(v *version) { v.mode = 0 },
		"no key in mode keyed":               func(v *version) { v.keys = nil },
		"a key that is no field":             func(v *version) { v.keys = []uint64{99} },
		"a key twice":                        func(v *version) { v.keys = []uint64{18, 18} },
		"a nullable key":                     func(v *version) { v.columns[3].nonNull = false },
		"a list as key":                      func(v *version) { v.columns[2].nonNull = true; v.keys = []uint64{17} },
		"a virtual field as key":             func(v *version) { v.keys = []uint64{0} },
		"fields out of order":                func(v *version) { v.columns[2], v.columns[3] = v.columns[3], v.columns[2] },
		"a field twice":                      func(v *version) { v.columns[3].name = "tags" },
		"a field with a reserved name":       func(v *version) { v.columns[0].name = "_docID" },
		"a reserved number":                  func(v *version) { v.columns[0].number = 15 },
		"a number twice":                     func(v *version) { v.columns[2].number = 16 },
		"numbers against the order of names": func(v *version) { v.columns[0].number, v.columns[2].number = 17, 16 },
		"a gap in the numbers":               func(v *version) { v.columns[3].number = 19; v.keys = []uint64{19} },
		"a field named like an id form":      func(v *version) { v.columns[1] = column{0, "author_id", v.columns[1].kind, false, "Copy", "r", 0, nil} },
		"an unknown rule":                    func(v *version) { v.columns[3].kind = crdt.KindOf(9, value.TypeString) },
		"an unknown type":                    func(v *version) { v.columns[3].kind = crdt.KindOf(crdt.LWW, 0x0f) },
		"no type":                            func(v *version) { v.columns[3].kind = crdt.KindOf(crdt.LWW, 0) },
		"a list of lists":                    func(v *version) { v.columns[2].kind |= crdt.Kind(value.ListOfNullable) },
		"a list of JSON":                     func(v *version) { v.columns[2].kind = crdt.KindOf(crdt.LWW, value.TypeJSON|value.ListOf) },
		"a counter of text":                  func(v *version) { v.columns[2].kind = crdt.KindOf(crdt.PCounter, value.TypeString) },
		"a relation without target":          func(v *version) { v.columns[0].target = "" },
		"a relation without name":            func(v *version) { v.columns[0].relation = "" },
		"a relation to a reserved name":      func(v *version) { v.columns[0].target = "Commit" },
		"a relation that counts":             func(v *version) { v.columns[0].kind = crdt.KindOf(crdt.PCounter, value.TypeRef) },
		"a stored list of relations":         func(v *version) { v.columns[0].kind = lwwRef | crdt.Kind(value.ListOf) },
		"text with a target":                 func(v *version) { v.columns[3].target = "Author" },
		"text with a relation name":          func(v *version) { v.columns[3].relation = "r" },
		"a virtual field with a rule":        func(v *version) { v.columns[1].kind = crdt.KindOf(crdt.LWW, value.TypeRef|value.ListOf) },
		"a virtual field of text":            func(v *version) { v.columns[1].kind = crdt.KindOf(0, value.TypeString) },
		"a virtual field that is non-null":   func(v *version) { v.columns[1].nonNull = true },
		"a size on text":                     func(v *version) { v.columns[3].size = 1 },
		"a size out of range":                func(v *version) { v.columns[2].size = schema.MaxListSize + 1 },
		"a default of another type":          func(v *version) { v.columns[3].fallback = func(b []byte) []byte { return cbor.AppendUint(b, 1) } },
		"a default of a list":                func(v *version) { v.columns[2].fallback = func(b []byte) []byte { return cbor.AppendArray(b, 0) } },
		"a default of a relation": func(v *version) {
			v.columns[0].fallback = func(b []byte) []byte { return cbor.AppendBytes(b, make([]byte, 32)) }
		},
		"a default that SDL cannot spell": func(v *version) {
			v.columns[3] = column{number: 18, name: "title", kind: crdt.KindOf(crdt.LWW, value.TypeJSON), fallback: func(b []byte) []byte {
				return cbor.AppendNull(cbor.AppendText(cbor.AppendMap(b, 1), "a b"))
			}}
			v.mode, v.keys = 0, nil
		},
		"a lineage of zeros": func(v *version) { v.previous = lineage(1, 0) },
		"half a lineage":     func(v *version) { v.previous = func(b []byte) []byte { return cbor.AppendArray(b, 0) } },
		"a short digest": func(v *version) {
			v.previous = func(b []byte) []byte {
				return cbor.AppendBytes(cbor.AppendBytes(cbor.AppendArray(b, 2), []byte{1}), []byte{2})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := sound()
			change(&v)
			c, err := schema.Decode(v.encode())
			if err == nil {
				t.Fatalf("was accepted as\n%s", c.SDL())
			}
			if fault.Of(err) == nil {
				t.Fatalf("error without a kind: %v", err)
			}
		})
	}
}

func TestLaterVersionsKeepTheirLineage(t *testing.T) {
	t.Parallel()
	v := sound()
	v.previous = lineage(1, 2)
	v.columns[0].number, v.columns[2].number = 17, 16 // a later field may have any number
	c, err := schema.Decode(v.encode())
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != dag.CollectionID(bytes.Repeat([]byte{1}, 32)) || c.Previous != dag.Digest(bytes.Repeat([]byte{2}, 32)) {
		t.Fatalf("lineage is %s, %s", c.ID, c.Previous)
	}
	if c.Version == dag.Digest(c.ID) {
		t.Fatal("a later version has the digest of the first")
	}
}

func TestTheVersionOutlivesItsBuffer(t *testing.T) {
	t.Parallel()
	raw := sound().encode()
	c, err := schema.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := c.SDL()
	for i := range raw {
		raw[i] = 'x'
	}
	if got := c.SDL(); got != want {
		t.Fatalf("the version changed with the buffer it was read from:\n%s\nwant\n%s", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sound().encode())
	for _, s := range specimens {
		if cs, err := schema.Parse(s.sdl, nil, policy(f, noted)); err == nil {
			for _, c := range cs {
				f.Add(c.Encode())
			}
		}
	}
	for _, c := range people(f) {
		f.Add(c.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := schema.Decode(b)
		if err != nil {
			if fault.Of(err) == nil {
				t.Fatalf("error without a kind: %v", err)
			}
			return
		}
		if !bytes.Equal(c.Encode(), b) {
			t.Fatal("what was decoded encodes to something else")
		}
		if _, err := c.MarshalJSON(); err != nil {
			t.Fatal(err)
		}
	})
}

// Hostile text neither panics nor gets a version that its SDL would not give again.
func FuzzParse(f *testing.F) {
	known := policy(f, noted)
	for _, s := range specimens {
		f.Add(s.sdl)
	}
	f.Add(`type A @index(includes: [{field: "a"}]) { a: Int @crdt(type: pcounter) @default(int: 1) } type B {}`)
	f.Add("type A { a: [[[[")
	f.Add("type A { b: B @relation(name: \"\\u00e9\\\"\") } type B @docID(fields: \"x\") { x: String @default(string: \"\"\"\n a\"\"\") }")
	f.Fuzz(func(t *testing.T, text string) {
		cs, err := schema.Parse(text, nil, known)
		if err != nil {
			if fault.Of(err) == nil {
				t.Fatalf("error without a kind: %v", err)
			}
			return
		}
		again, err := schema.Parse(sdl(cs), nil, known)
		if err != nil {
			t.Fatalf("SDL of what was parsed is refused: %v\n%s", err, sdl(cs))
		}
		mustEqualVersions(t, again, cs, "from SDL")
	})
}

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
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// follow returns the version that a patch makes of the newest one of a lineage.
func follow(t testing.TB, l schema.Lineage, patch string, rules ...schema.Migration) schema.Lineage {
	t.Helper()
	used, _ := l.Active(l[len(l)-1].Version, nil)
	made, err := schema.Patch{Text: []byte(patch), Migration: rules}.Apply([]*schema.Collection{used})
	if err != nil || len(made) != 1 {
		t.Fatalf("%s makes %v, %v", patch, made, err)
	}
	next, err := schema.NewLineage(append(slices.Clone(l), made[0]))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func first(t testing.TB, sdl string) schema.Lineage {
	t.Helper()
	l, err := schema.NewLineage(parse(t, sdl))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const splitName = `[{"op": "remove", "path": "/User/Fields/name"},
	{"op": "add", "path": "/User/Fields/first", "value": {"Kind": "String"}},
	{"op": "add", "path": "/User/Fields/last", "value": {"Kind": "String"}}]`

var (
	bySpace = schema.Migration{Do: "split", From: schema.Names{"name"}, To: schema.Names{"first", "last"}}
	sorted  = schema.Migration{Do: "merge", From: schema.Names{"last", "first"}, To: schema.Names{"sorted"}, Separator: ", "}
)

// people is a lineage with each kind of rule.
func people(t testing.TB) schema.Lineage {
	t.Helper()
	l := first(t, `type User { name: String  age: Int }`)
	l = follow(t, l, splitName, bySpace)
	l = follow(t, l, `[{"op": "replace", "path": "/User/Fields/age/Kind", "value": "String"},
		{"op": "add", "path": "/User/Fields/-", "value": {"Name": "city", "Kind": "String!"}}]`,
		schema.Migration{Do: "default", To: schema.Names{"city"}, Value: []byte(`"Oslo"`)})
	return follow(t, l, `[{"op": "remove", "path": "/User/Fields/first"}, {"op": "remove", "path": "/User/Fields/last"},
		{"op": "add", "path": "/User/Fields/sorted", "value": {"Kind": "String"}}]`, sorted)
}

// Later versions keep their bytes for ever, too.
func TestGoldenVersions(t *testing.T) {
	var got bytes.Buffer
	for _, c := range people(t) {
		fmt.Fprintf(&got, "%s %s\nencoded %x\n", c.Name, c.Version, c.Encode())
	}
	path := filepath.Join(goldenDir, "versions-user.txt")
	want, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && flag.Lookup("rewrite").Value.String() == "true" {
		want, err = got.Bytes(), os.WriteFile(path, got.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Fatalf("versions are made as\n%s\nwant\n%s", got.Bytes(), want)
	}
	for line := range strings.Lines(string(want)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "encoded "); ok {
			raw, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			if c, err := schema.Decode(raw); err != nil || !bytes.Equal(c.Encode(), raw) {
				t.Errorf("%s is read as %v, %v", text, c, err)
			}
		}
	}
}

func TestALineageIsWholeAndBounded(t *testing.T) {
	t.Parallel()
	l := people(t)
	back := slices.Clone(l)
	slices.Reverse(back)
	again, err := schema.NewLineage(append(back, l...))
	if err != nil || !slices.EqualFunc(again, l, func(a, b *schema.Collection) bool { return a.Version == b.Version }) {
		t.Errorf("versions in another order, and twice, make %v, %v", again, err)
	}
	if got := l.Undisputed(); got != l[3] {
		t.Errorf("a node starts with %s, want the newest", got.Version)
	}
	branch := follow(t, l[:2], `[{"op": "remove", "path": "/User/Fields/age"}]`)
	if whole, err := schema.NewLineage(append(slices.Clone(l), branch[2])); err != nil || whole.Undisputed().Version != l[1].Version {
		t.Errorf("beside a branch a node starts with %v, %v; want the version before it", whole.Undisputed().Version, err)
	}
	if _, err := schema.NewLineage(schema.Lineage{l[0], l[2]}); !errors.Is(err, fault.Invalid) {
		t.Errorf("a gap: %v, want Invalid", err)
	}
	if got := schema.Salvage(schema.Lineage{l[0], l[2], l[3]}, l[3].Version); len(got) != 2 {
		t.Errorf("what is left of a damaged lineage is %v, want the first and the one that is used", got)
	}
	long := schema.Lineage{l[0]}
	for i := range schema.MaxVersions {
		used, _ := long.Active(long[len(long)-1].Version, nil)
		made, err := schema.Patch{Text: fmt.Appendf(nil, `[{"op": "add", "path": "/User/Fields/age/DefaultValue", "value": %d}]`, i+1)}.Apply([]*schema.Collection{used})
		if err != nil {
			t.Fatal(err)
		}
		long = append(long, made[0])
	}
	if _, err := schema.NewLineage(long); !errors.Is(err, fault.TooLarge) {
		t.Errorf("%d versions: %v, want TooLarge", len(long), err)
	}
}

// A document that writers of all versions change one after the other shows in each
// what it would if all had written in that one.
func TestEveryVersionShowsWhatWasWrittenLast(t *testing.T) {
	t.Parallel()
	l := people(t)
	read := func(d crdt.Document, version int, field string) string {
		c, _ := l.Active(l[version].Version, nil)
		f, ok := c.Field(field)
		if !ok {
			t.Fatalf("version %d has no field %s", version+1, field)
		}
		if v := f.Value(d); v.Kind() == value.String {
			return v.Text()
		} else {
			return v.String()
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		word := rapid.StringMatching(`[a-z]{1,5}`)
		var book notebook
		book.knownCommits = map[[32]byte]bool{}
		given, family, age, city := "", "", 0, "Oslo"
		for range rapid.IntRange(1, 15).Draw(rt, "writes") {
			v := rapid.IntRange(0, 3).Draw(rt, "version")
			var in []schema.Input
			set := func(name string, val value.Value) { in = append(in, schema.Input{Name: name, Val: val}) }
			switch {
			case v == 0 || given == "":
				v, given, family, age = 0, word.Draw(rt, "given"), word.Draw(rt, "family"), rapid.IntRange(0, 99).Draw(rt, "age")
				set("name", value.OfString(given+" "+family))
				set("age", value.OfInt(int64(age)))
			case v == 3:
				given, family = word.Draw(rt, "given"), word.Draw(rt, "family")
				set("sorted", value.OfString(family+", "+given))
			case rapid.Bool().Draw(rt, "the family name"):
				family = word.Draw(rt, "family")
				set("last", value.OfString(family))
			default:
				given = word.Draw(rt, "given")
				set("first", value.OfString(given))
			}
			if v > 1 && rapid.Bool().Draw(rt, "more") {
				age, city = rapid.IntRange(0, 99).Draw(rt, "age"), word.Draw(rt, "city")
				set("age", value.OfString(strconv.Itoa(age)))
				set("city", value.OfString(city))
			}
			c, _ := l.Active(l[v].Version, nil)
			ds, err := c.Update(book.doc, in)
			if err != nil {
				rt.Fatal(err)
			}
			if len(ds) > 0 {
				book.apply(t, ds, false)
			}
			for version, want := range []map[string]string{
				{"name": given + " " + family, "age": strconv.Itoa(age)},
				{"first": given, "last": family, "age": strconv.Itoa(age)},
				{"first": given, "last": family, "age": strconv.Itoa(age), "city": city},
				{"sorted": family + ", " + given, "age": strconv.Itoa(age), "city": city},
			} {
				for field, want := range want {
					if got := read(book.doc, version, field); got != want {
						rt.Fatalf("version %d shows %s %q, want %q", version+1, field, got, want)
					}
				}
			}
		}
	})
}

// What a value is in another type, and what comes back.
func TestCasts(t *testing.T) {
	t.Parallel()
	types := map[string]value.Type{"ID": value.TypeID, "Boolean": value.TypeBoolean, "Int": value.TypeInt, "Float64": value.TypeFloat64,
		"Float32": value.TypeFloat32, "String": value.TypeString, "DateTime": value.TypeDateTime, "Blob": value.TypeBlob, "JSON": value.TypeJSON}
	for _, c := range []struct{ from, val, to, want string }{
		{"Int", `5`, "String", `"5"`}, {"String", `"5"`, "Int", `5`}, {"String", `"5.0"`, "Int", `5`}, {"String", `"5.5"`, "Int", `null`},
		{"String", `" 5"`, "Int", `null`}, {"String", `"NaN"`, "Float64", `null`}, {"String", `"-1e3"`, "Float64", `-1000`}, {"String", `"0x10"`, "Int", `null`},
		{"Float64", `5.5`, "Int", `null`}, {"Float64", `5`, "Int", `5`}, {"Int", `9007199254740993`, "Float64", `9007199254740992`},
		{"Float64", `1e300`, "Float32", `null`}, {"Float64", `0.1`, "Float32", `0.1`}, {"Float64", `0.1`, "String", `"0.1"`},
		{"Boolean", `true`, "Int", `1`}, {"Int", `1`, "Boolean", `true`}, {"Int", `2`, "Boolean", `null`}, {"Boolean", `false`, "String", `"false"`},
		{"String", `"true"`, "Boolean", `true`}, {"String", `"yes"`, "Boolean", `null`}, {"ID", `"x"`, "String", `"x"`}, {"String", `"x"`, "ID", `"x"`},
		{"DateTime", `"2024-02-29T12:00:00.5+01:00"`, "String", `"2024-02-29T12:00:00.5+01:00"`},
		{"String", `"2024-02-29T12:00:00.5+01:00"`, "DateTime", `"2024-02-29T12:00:00.5+01:00"`}, {"String", `"today"`, "DateTime", `null`},
		{"Blob", `"00FF"`, "String", `"00ff"`}, {"String", `"00ff"`, "Blob", `"00ff"`}, {"String", `"0"`, "Blob", `null`},
		{"JSON", `{"a":1}`, "String", `"{\"a\":1}"`}, {"JSON", `"x"`, "String", `"x"`}, {"String", `"x"`, "JSON", `"x"`},
		{"JSON", `7`, "Int", `7`}, {"JSON", `[7]`, "Int", `null`}, {"DateTime", `"2020-01-01T00:00:00Z"`, "JSON", `"2020-01-01T00:00:00Z"`},
		{"Blob", `"c0"`, "JSON", `"c0"`}, {"Int", `null`, "String", `null`},
	} {
		l := first(t, "type T { f: "+c.from+" }")
		l = follow(t, l, `[{"op": "replace", "path": "/T/Fields/f/Kind", "value": "`+c.to+`"}]`)
		old, _ := l.Active(l[0].Version, nil)
		book := notebook{knownCommits: map[[32]byte]bool{}}
		if c.val != "null" {
			ds, err := old.Create(inputs(t, `{"f": `+c.val+`}`))
			if err != nil {
				t.Fatal(err)
			}
			book.apply(t, ds, false)
		}
		next, _ := l.Active(l[1].Version, nil)
		f, _ := next.Field("f")
		v := f.Value(book.doc)
		if got := v.String(); got != c.want {
			t.Errorf("%s %s is %s as %s, want %s", c.from, c.val, got, c.to, c.want)
		}
		if !v.IsNull() {
			if w, err := value.Coerce(types[c.to], v); err != nil || w.Kind() != v.Kind() {
				t.Errorf("%s %s is %v as %s: not of that type: %v", c.from, c.val, v.Kind(), c.to, err)
			}
		}
	}
}

func BenchmarkDerivedField(b *testing.B) {
	l := people(b)
	c, _ := l.Active(l[0].Version, nil)
	ds, err := c.Create(inputs(b, `{"name": "Ada Lovelace", "age": 36}`))
	if err != nil {
		b.Fatal(err)
	}
	doc, err := crdt.Document{}.Fold(crdt.Change{Commit: [32]byte{1}, Height: 1, HLC: 1, Deltas: ds}, func([32]byte) bool { return false })
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range []struct {
		name    string
		version int
		field   string
	}{{"own cell of the whole", 0, "name"}, {"part", 1, "first"}, {"cast", 2, "age"}, {"merge of a split", 3, "sorted"}} {
		c, _ := l.Active(l[r.version].Version, nil)
		f, _ := c.Field(r.field)
		b.Run(r.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if f.Value(doc).IsNull() {
					b.Fatal("nothing there")
				}
			}
		})
	}
	plain := first(b, `type User { name: String  age: Int }`)
	p, _ := plain.Active(plain[0].Version, nil)
	f, _ := p.Field("name")
	b.Run("field without rules", func(b *testing.B) {
		for b.Loop() {
			if f.Value(doc).IsNull() {
				b.Fatal("nothing there")
			}
		}
	})
}

// rawRule is a rule as a peer may send it.
type rawRule struct {
	op       uint64
	from, to []schema.Cell
	arg      func([]byte) []byte
}

// later encodes a version of format 2 that follows another: two strings 16 and 17, an
// Int 18 and a counter 19, with a key field if asked for.
func later(first bool, keyed bool, lens string, rules ...rawRule) []byte {
	b := cbor.AppendUint(cbor.AppendArray(nil, 9), 2)
	b = cbor.AppendText(b, "T")
	if keyed {
		b = cbor.AppendUint(cbor.AppendArray(cbor.AppendUint(b, 2), 1), 16)
	} else {
		b = cbor.AppendArray(cbor.AppendUint(b, 0), 0)
	}
	if first {
		b = cbor.AppendNull(b)
	} else {
		b = lineage(1, 2)(b)
	}
	b = cbor.AppendNull(b)
	kinds := []crdt.Kind{crdt.KindOf(crdt.LWW, value.TypeString), crdt.KindOf(crdt.LWW, value.TypeString),
		crdt.KindOf(crdt.LWW, value.TypeInt), crdt.KindOf(crdt.PNCounter, value.TypeInt)}
	b = cbor.AppendArray(b, len(kinds))
	for i, k := range kinds {
		b = cbor.AppendUint(cbor.AppendArray(b, 8), uint64(16+i))
		b = cbor.AppendUint(cbor.AppendText(b, string(rune('a'+i))), uint64(k))
		b = cbor.AppendNull(cbor.AppendNull(cbor.AppendBool(b, keyed && i == 0)))
		b = cbor.AppendNull(cbor.AppendUint(b, 0))
	}
	b = cbor.AppendArray(b, len(rules))
	for _, r := range rules {
		b = cbor.AppendUint(cbor.AppendArray(b, 4), r.op)
		for _, cells := range [][]schema.Cell{r.from, r.to} {
			b = cbor.AppendArray(b, len(cells))
			for _, c := range cells {
				b = cbor.AppendUint(cbor.AppendUint(cbor.AppendArray(b, 2), uint64(c.ID)), uint64(c.Kind))
			}
		}
		b = orNull(b, r.arg)
	}
	if lens == "" {
		return cbor.AppendNull(b)
	}
	return cbor.AppendText(b, lens)
}

var lensPath = schema.StoredPath([32]byte{7})

func TestRulesOfPeersAreHeldToTheFormat(t *testing.T) {
	t.Parallel()
	str, num := crdt.KindOf(crdt.LWW, value.TypeString), crdt.KindOf(crdt.LWW, value.TypeInt)
	a, b, n, sum := schema.Cell{ID: 16, Kind: str}, schema.Cell{ID: 17, Kind: str}, schema.Cell{ID: 18, Kind: num}, schema.Cell{ID: 19, Kind: crdt.KindOf(crdt.PNCounter, value.TypeInt)}
	old := schema.Cell{ID: 99, Kind: str}
	many := make([]schema.Cell, schema.MaxParts+1)
	for i := range many {
		many[i] = schema.Cell{ID: crdt.FieldID(20 + i), Kind: str}
	}
	cells := func(cs ...schema.Cell) []schema.Cell { return cs }
	three := func(b []byte) []byte { return cbor.AppendUint(b, 3) }
	split := rawRule{2, cells(old), cells(a, b), text(" ")}
	for name, raw := range map[string][]byte{
		"a split":              later(false, false, "", split),
		"a merge":              later(false, false, "", rawRule{3, cells(old, schema.Cell{ID: 98, Kind: str}), cells(a), text(" ")}),
		"a cast":               later(false, false, "", rawRule{4, cells(old), cells(n), nil}),
		"a default":            later(false, false, "", rawRule{1, nil, cells(n), three}),
		"a default and a cast": later(false, false, "", rawRule{1, nil, cells(n), three}, rawRule{4, cells(old), cells(n), nil}),
		"a lens":               later(false, false, `{"Lenses":[{"Path":"`+lensPath+`"}]}`),
		"a lens for a field":   later(false, false, `{"Lenses":[{"Path":"`+lensPath+`","Inverse":true,"Arguments":{"a":1}}],"Fields":["a"]}`),
	} {
		if c, err := schema.Decode(raw); err != nil || !bytes.Equal(c.Encode(), raw) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, raw := range map[string][]byte{
		"a rule in a first version":       later(true, false, "", split),
		"a lens in a first version":       later(true, false, `{"Lenses":[{"Path":"`+lensPath+`"}]}`),
		"format 2 without need":           later(false, false, ""),
		"an unknown rule":                 later(false, false, "", rawRule{5, cells(old), cells(a), nil}),
		"a rule of nothing":               later(false, false, "", rawRule{2, nil, nil, text(" ")}),
		"a split into one":                later(false, false, "", rawRule{2, cells(old), cells(a), text(" ")}),
		"a split of two":                  later(false, false, "", rawRule{2, cells(old, b), cells(a, b), text(" ")}),
		"too many parts":                  later(false, false, "", rawRule{3, many, cells(a), text(" ")}),
		"a split without separator":       later(false, false, "", rawRule{2, cells(old), cells(a, b), nil}),
		"a long separator":                later(false, false, "", rawRule{2, cells(old), cells(a, b), text(strings.Repeat("x", 65))}),
		"a cast with separator":           later(false, false, "", rawRule{4, cells(old), cells(n), text(" ")}),
		"a cast to the same type":         later(false, false, "", rawRule{4, cells(old), cells(a), nil}),
		"a cast of two":                   later(false, false, "", rawRule{4, cells(old, b), cells(n), nil}),
		"a cast of a counter":             later(false, false, "", rawRule{4, cells(old), cells(sum), nil}),
		"a split of numbers":              later(false, false, "", rawRule{2, cells(n), cells(a, b), text(" ")}),
		"a default of a counter":          later(false, false, "", rawRule{1, nil, cells(sum), three}),
		"a default without value":         later(false, false, "", rawRule{1, nil, cells(n), nil}),
		"a default of another type":       later(false, false, "", rawRule{1, nil, cells(n), text("3")}),
		"a default of two":                later(false, false, "", rawRule{1, nil, cells(n, a), three}),
		"a default from a field":          later(false, false, "", rawRule{1, cells(old), cells(n), three}),
		"a field that is not there":       later(false, false, "", rawRule{2, cells(b), cells(a, old), text(" ")}),
		"a field of another kind":         later(false, false, "", rawRule{4, cells(old), cells(schema.Cell{ID: 16, Kind: num}), nil}),
		"two rules for one field":         later(false, false, "", split, rawRule{4, cells(n), cells(a), nil}),
		"two rules from one field":        later(false, false, "", split, rawRule{4, cells(old), cells(n), nil}),
		"a reserved number":               later(false, false, "", rawRule{4, cells(schema.Cell{ID: 0, Kind: str}), cells(n), nil}),
		"a rule with a key field":         later(false, true, "", split),
		"a lens with a long name":         later(false, false, strings.Repeat("x", schema.MaxLens+1)),
		"a lens that is no JSON":          later(false, false, "lens"),
		"a lens without modules":          later(false, false, `{"Lenses":[]}`),
		"a lens with too many modules":    later(false, false, `{"Lenses":[`+strings.Repeat(`{"Path":"`+lensPath+`"},`, schema.MaxLensSteps)+`{"Path":"`+lensPath+`"}]}`),
		"a lens that is a file":           later(false, false, `{"Lenses":[{"Path":"file:///m.wasm"}]}`),
		"a lens in another form":          later(false, false, `{"Lenses": [{"Path":"`+lensPath+`"}]}`),
		"a lens with more":                later(false, false, `{"Lenses":[{"Path":"`+lensPath+`","Name":"x"}]}`),
		"a lens for no field":             later(false, false, `{"Lenses":[{"Path":"`+lensPath+`"}],"Fields":["z"]}`),
		"a lens for a counter":            later(false, false, `{"Lenses":[{"Path":"`+lensPath+`"}],"Fields":["d"]}`),
		"a lens for a field twice":        later(false, false, `{"Lenses":[{"Path":"`+lensPath+`"}],"Fields":["a","a"]}`),
		"more after the version":          append(later(false, false, "", split), 0),
		"a version that ends in its rule": later(false, false, "", split)[:40],
	} {
		if _, err := schema.Decode(raw); !errors.Is(err, fault.Invalid) && !errors.Is(err, fault.TooLarge) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
}

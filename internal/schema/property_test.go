package schema_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

// drawn is a submission: the text of its types, each a head and its fields.
type drawn struct {
	heads  []string
	fields [][]string
}

func (d drawn) String() string {
	var b strings.Builder
	for i, head := range d.heads {
		fmt.Fprintf(&b, "%s {%s}\n", head, strings.Join(d.fields[i], "\n"))
	}
	return b.String()
}

// shuffled is the same submission in another order of types and fields.
func (d drawn) shuffled(t *rapid.T) drawn {
	var s drawn
	for _, i := range rapid.Permutation(indexesOf(d.heads)).Draw(t, "types") {
		s.heads = append(s.heads, d.heads[i])
		s.fields = append(s.fields, rapid.Permutation(d.fields[i]).Draw(t, "fields"))
	}
	return s
}

func indexesOf[T any](s []T) []int {
	is := make([]int, len(s))
	for i := range is {
		is[i] = i
	}
	return is
}

var columns = []string{
	"ID", "Boolean", "Int", "Float", "Float32", "String", "DateTime", "Blob", "JSON", "String!", "[Int]!", "[DateTime]",
	"[Float32!] @constraints(size: 3)", "Int @crdt(type: pcounter)", "Float @crdt(type: pncounter) @default(float: -0.25)",
	"JSON @crdt(type: mvregister)", "Int @default(int: -7) @index", "Boolean! @default(bool: false)",
	`DateTime @default(dateTime: "1999-12-31T23:59:59.125-11:30")`, `Blob @default(blob: "c0ffee")`,
	`JSON @default(json: {a: [1, 2.5, {b: null}], c: "d"})`, "Float32 @default(float32: 3.4e38)", "Float @default(float: 1e300)",
}

func drawSchema(t *rapid.T) drawn {
	var d drawn
	n := rapid.IntRange(1, 5).Draw(t, "types")
	for i := range n {
		head := fmt.Sprintf("type T%d", i)
		note := fmt.Sprintf("@policy(id: %q, resource: \"note\")", dag.Digest(policy(t, noted).Sum()))
		head += rapid.SampledFrom([]string{"", "", "@docID(mode: OWNED)", "@docID(mode: UNIQUE)", `@docID(mode: KEYED, fields: ["key"])`,
			note, "@docID(mode: UNIQUE) " + note}).Draw(t, "mode")
		head += rapid.SampledFrom([]string{"", "", "", " @sync(shards: 2)", " @sync(shards: 64)"}).Draw(t, "shards")
		fields := []string{"key: String"}
		for j, c := range rapid.SliceOfN(rapid.SampledFrom(columns), 0, 6).Draw(t, "columns") {
			fields = append(fields, fmt.Sprintf("f%d: %s", j, c))
		}
		if rapid.Bool().Draw(t, "text") {
			text := rapid.StringN(0, 12, -1).Draw(t, "default")
			fields = append(fields, "text: String @default(string: "+quoted(text)+")")
		}
		d.heads, d.fields = append(d.heads, head), append(d.fields, fields)
	}
	for r := range rapid.IntRange(0, 6).Draw(t, "relations") {
		d.relate(t, r, rapid.IntRange(0, n-1).Draw(t, "from"), rapid.IntRange(0, n-1).Draw(t, "to"))
	}
	return d
}

// relate adds a relation of any shape that is allowed.
func (d *drawn) relate(t *rapid.T, r, from, to int) {
	name := fmt.Sprintf("@relation(name: \"r%d\")", r)
	mark := rapid.SampledFrom([]string{"", "!"}).Draw(t, "non-null")
	single := fmt.Sprintf("s%d: T%d%s %s", r, to, mark, name)
	switch rapid.SampledFrom([]string{"one-sided", "many", "one"}).Draw(t, "shape") {
	case "many":
		d.fields[to] = append(d.fields[to], fmt.Sprintf("back%d: [T%d] %s", r, from, name))
	case "one":
		single += " @primary"
		d.fields[to] = append(d.fields[to], fmt.Sprintf("back%d: T%d %s", r, from, name))
	}
	d.fields[from] = append(d.fields[from], single)
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // its escapes are GraphQL's
	return string(b)
}

func parse(t rapid.TB, sdl string) []*schema.Collection {
	t.Helper()
	cs, err := schema.Parse(sdl, nil, policy(t, noted))
	if err != nil {
		t.Fatalf("parse: %v in\n%s", err, sdl)
	}
	return cs
}

func versions(cs []*schema.Collection) map[string]string {
	ids := map[string]string{}
	for _, c := range cs {
		ids[c.Name] = c.Version.String()
	}
	return ids
}

func mustEqualVersions(t rapid.TB, got, want []*schema.Collection, what string) {
	t.Helper()
	g, w := versions(got), versions(want)
	if len(g) != len(w) {
		t.Fatalf("%s: %d collections, want %d", what, len(g), len(w))
	}
	for name := range w {
		if g[name] != w[name] {
			t.Fatalf("%s: version of %s is %s, want %s", what, name, g[name], w[name])
		}
	}
}

func TestOrderOfDeclarationDoesNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := drawSchema(t)
		mustEqualVersions(t, parse(t, d.shuffled(t).String()), parse(t, d.String()), "in another order")
	})
}

func TestSDLSaysTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cs := parse(t, drawSchema(t).String())
		again := parse(t, sdl(cs))
		mustEqualVersions(t, again, cs, "from SDL")
		for i := range cs {
			if got, want := fmt.Sprint(again[i].Indexes), fmt.Sprint(cs[i].Indexes); got != want {
				t.Fatalf("indexes of %s from SDL are %s, want %s", cs[i].Name, got, want)
			}
		}
		if got, want := sdl(again), sdl(cs); got != want {
			t.Fatalf("SDL of SDL is\n%s\nwant\n%s", got, want)
		}
	})
}

func TestVersionsTravel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		for _, c := range parse(t, drawSchema(t).String()) {
			got, err := schema.Decode(c.Encode())
			if err != nil {
				t.Fatalf("decode %s: %v", c.Name, err)
			}
			if !bytes.Equal(got.Encode(), c.Encode()) || got.Version != c.Version || got.ID != c.ID {
				t.Fatalf("%s decodes to another version", c.Name)
			}
			got.Indexes = c.Indexes
			if g, w := got.SDL(), c.SDL(); g != w {
				t.Fatalf("decoded to\n%s\nwant\n%s", g, w)
			}
		}
	})
}

func TestEverySideFindsTheOther(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cs := parse(t, drawSchema(t).String())
		for _, c := range cs {
			for i := range c.Fields {
				f := &c.Fields[i]
				if !f.IsRelation() {
					continue
				}
				target := cs[slices.IndexFunc(cs, func(o *schema.Collection) bool { return o.Name == f.Target })]
				g, ok := c.Opposite(f, target)
				if !ok && f.IsVirtual() {
					t.Fatalf("%s.%s is virtual and has no other side", c.Name, f.Name)
				}
				if !ok {
					continue
				}
				if back, ok := target.Opposite(g, c); !ok || back != f {
					t.Fatalf("%s.%s leads to %s, which does not lead back", c.Name, f.Name, g.Name)
				}
			}
		}
	})
}

// Whatever JSON is given: either an error, or operations that no node finds void
// and that an update with the same input does not repeat.
func TestInputIsWrittenAsGiven(t *testing.T) {
	t.Parallel()
	c := parse(t, `type T {
		id: ID  ok: Boolean  n: Int  f: Float  g: Float32  s: String  at: DateTime  b: Blob  j: JSON
		xs: [Int!]  ys: [String]  hits: Float @crdt(type: pncounter)  m: JSON @crdt(type: mvregister)  t: T
	}`)[0]
	rapid.Check(t, func(t *rapid.T) {
		var in []schema.Input
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"id", "ok", "n", "f", "g", "s", "at", "b", "j", "xs", "ys", "hits", "m", "t_id"}), rapid.ID).Draw(t, "names") {
			in = append(in, schema.Input{Name: name, Val: drawLoose(3).Draw(t, name)})
		}
		ds, err := c.Create(in)
		if err != nil {
			return
		}
		for i, d := range ds {
			if err := crdt.CheckDelta(d); err != nil {
				t.Fatalf("create writes a void operation: %v", err)
			}
			if i > 0 && ds[i-1].Field >= d.Field {
				t.Fatal("operations are not sorted by field")
			}
		}
		doc, err := crdt.Document{}.Fold(crdt.Change{Commit: [32]byte{1}, Height: 1, HLC: 1, Deltas: ds}, func([32]byte) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.Update(doc, slices.DeleteFunc(in, func(i schema.Input) bool { return i.Name == "hits" }))
		if err != nil || len(again) > 0 {
			t.Fatalf("update with the same values writes %v, %v; want nothing", again, err)
		}
	})
}

func drawLoose(depth int) *rapid.Generator[value.Value] {
	scalars := []*rapid.Generator[value.Value]{
		rapid.Just(value.Value{}),
		rapid.Map(rapid.Bool(), value.OfBool),
		rapid.Map(rapid.Int64(), value.OfInt),
		rapid.Map(rapid.Float64Range(-1e300, 1e300), value.OfFloat),
		rapid.Map(rapid.String(), value.OfString),
		rapid.Map(rapid.SampledFrom([]string{"", "00ff", "2020-01-01T00:00:00Z", "2020-01-01T00:00:00.5+02:00", value.RefText([32]byte{1})}), value.OfString),
	}
	if depth == 0 {
		return rapid.OneOf(scalars...)
	}
	return rapid.OneOf(append(scalars,
		rapid.Map(rapid.SliceOfN(drawLoose(depth-1), 0, 3), value.OfList),
		rapid.Map(rapid.MapOfN(rapid.String(), drawLoose(depth-1), 0, 3), value.OfMap),
	)...)
}

package schema_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
)

const library = `
type Book { title: String  author: Author  hits: Int @crdt(type: pcounter)  meta: JSON }
type Author { name: String  books: [Book] }`

func TestLookups(t *testing.T) {
	t.Parallel()
	cs := parse(t, library)
	book, author := cs[0], cs[1]

	title, ok := book.Field("title")
	if !ok || title.Name != "title" || title.Kind() != crdt.KindOf(crdt.LWW, value.TypeString) {
		t.Fatalf("Field(title) is %+v, %v", title, ok)
	}
	if f, ok := book.FieldByID(title.ID); !ok || f != title {
		t.Fatalf("FieldByID(%d) is %+v, %v", title.ID, f, ok)
	}
	for _, name := range []string{"author_id", "_authorID", "nobody", ""} {
		if f, ok := book.Field(name); ok {
			t.Errorf("Field(%q) is %+v, want none", name, f)
		}
	}
	for _, id := range []crdt.FieldID{0, 1, 99} {
		if f, ok := author.FieldByID(id); ok {
			t.Errorf("FieldByID(%d) is %+v, want none", id, f)
		}
	}
	for _, name := range []string{"author_id", "_authorID"} {
		if f, ok := book.Relation(name); !ok || f.Name != "author" || f.IDName() != "author_id" {
			t.Errorf("Relation(%q) is %+v, %v", name, f, ok)
		}
	}
	for _, name := range []string{"author", "title_id", "books_id"} {
		if f, ok := book.Relation(name); ok {
			t.Errorf("Relation(%q) is %+v, want none", name, f)
		}
	}
	if f, ok := author.Relation("books_id"); ok {
		t.Errorf("a list has the id form %+v", f)
	}
}

func TestIndexesAreAddedAndDropped(t *testing.T) {
	t.Parallel()
	book := parse(t, library)[0]
	one, ix, err := book.WithIndex(schema.Index{Fields: []schema.IndexField{{Name: "author_id"}, {Name: "title", Descending: true}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(ix), "{Book_author_id_ASC 1 [{author false} {title true}] false false}"; got != want {
		t.Fatalf("index is %s, want %s", got, want)
	}
	if len(book.Indexes) != 0 {
		t.Fatal("the collection without the index changed")
	}
	if one.Version != book.Version {
		t.Fatal("an index changed the version")
	}
	two, ix, err := one.WithIndex(schema.Index{ID: 7, Fields: []schema.IndexField{{Name: "title"}}})
	if err != nil || ix.ID != 7 {
		t.Fatalf("an index with an ID of its own is %v, %v", ix, err)
	}
	if _, _, err := two.WithIndex(schema.Index{ID: 7, Name: "x", Fields: []schema.IndexField{{Name: "title"}}}); !errors.Is(err, fault.Exists) {
		t.Fatalf("a second index 7: %v, want Exists", err)
	}
	if _, err := two.WithoutIndex("Book_titel_ASC"); !errors.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "did you mean Book_title_ASC?") {
		t.Fatalf("dropping an unknown index: %v", err)
	}
	left, err := two.WithoutIndex("Book_author_id_ASC")
	if err != nil || len(left.Indexes) != 1 || len(two.Indexes) != 2 {
		t.Fatalf("dropping leaves %v, %v", left, err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	fields := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "f%d: Int\n", i)
		}
		return b.String()
	}
	long := strings.Repeat("x", schema.MaxEncoded)
	for name, c := range map[string]struct {
		sdl  string
		kind *fault.Kind // nil: accepted
	}{
		"all the fields there can be":  {"type A {" + fields(schema.MaxFields) + "}", nil},
		"a field too many":             {"type A {" + fields(schema.MaxFields+1) + "}", fault.TooLarge},
		"a default beyond the version": {`type A { a: String @default(string: "` + long + `") }`, fault.TooLarge},
		"a text too long":              {strings.Repeat("# nothing\n", 1<<17), fault.TooLarge},
		"too many tokens":              {strings.Repeat("[", 300_000), fault.Invalid},
		"too many types":               {manyTypes(1001), fault.TooLarge},
		"many types":                   {manyTypes(1000), nil},
		"a deep list":                  {"type A { a: " + strings.Repeat("[", 900) + "Int" + strings.Repeat("]", 900) + "}", fault.Invalid},
		"a deeper list":                {"type A { a: " + strings.Repeat("[", 90_000), fault.Invalid},
		"a deep value":                 {"type A { a: JSON @default(json: " + strings.Repeat("[", 90_000), fault.Invalid},
		"a name of a megabyte":         {"type A { a: " + strings.Repeat("x", 1<<19) + " }", fault.Invalid},
		"no UTF-8":                     {"type A { a: \xff }", fault.Invalid},
		"many relations":               {manyRelations(schema.MaxFields), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := schema.Parse(c.sdl, nil)
			if fault.Of(err) != c.kind {
				t.Fatalf("error is %.200v, want of kind %v", err, c.kind)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Fatalf("error has %d bytes: nobody reads that", len(err.Error()))
			}
		})
	}
}

func manyTypes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "type A%d { a: Int }\n", i)
	}
	return b.String()
}

func manyRelations(n int) string {
	var b strings.Builder
	b.WriteString("type B { x: Int }\ntype A {\n")
	for i := range n {
		fmt.Fprintf(&b, "  b%d: B\n", i)
	}
	return b.String() + "}"
}

func inputs(t testing.TB, text string) []schema.Input {
	t.Helper()
	v, err := value.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	in, err := schema.InputsOf(v)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

const tenFields = `type T { a: String b: String c: Int d: Int e: Float f: Float g: Boolean h: DateTime i: [String!] j: Int @crdt(type: pcounter) }`

const tenValues = `{"a": "Ada", "b": "Lovelace", "c": 1, "d": 2, "e": 1.5, "f": 2.5, "g": true, "h": "2020-01-01T00:00:00Z", "i": ["x", "y"], "j": 1}`

func BenchmarkCreate(b *testing.B) {
	c := parse(b, tenFields)[0]
	in := inputs(b, tenValues)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Create(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	c := parse(b, tenFields)[0]
	ds, err := c.Create(inputs(b, tenValues))
	if err != nil {
		b.Fatal(err)
	}
	doc, err := crdt.Document{}.Fold(crdt.Change{Commit: [32]byte{1}, Height: 1, HLC: 1, Deltas: ds}, func([32]byte) bool { return false })
	if err != nil {
		b.Fatal(err)
	}
	in := inputs(b, `{"a": "Ada", "c": 7}`)
	b.ReportAllocs()
	for b.Loop() {
		if ds, err := c.Update(doc, in); err != nil || len(ds) != 1 {
			b.Fatal(ds, err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := schema.Parse(library, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	raw := parse(b, tenFields)[0].Encode()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := schema.Decode(raw); err != nil {
			b.Fatal(err)
		}
	}
}

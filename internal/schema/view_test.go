package schema

import (
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/value"
)

// A view is named by its definition, and its rows hold what its fields declare.
func TestParseView(t *testing.T) {
	t.Parallel()
	src := ViewSource{Query: "Book { title author { name } }", SDL: `
		type Shelf @materialized(if: false) @materialized { title: String  authors: [Who]  n: Int }
		interface Who { name: String  of: Who }`}
	v, err := ParseView(src)
	if err != nil {
		t.Fatal(err)
	}
	if !v.View.Materialized {
		t.Error("two @materialized, one of them true, make no materialized view")
	}
	f, _ := v.Field("authors")
	if f.Embedded == nil || !f.EmbeddedList || f.Embedded.Fields[1].Embedded != f.Embedded {
		t.Errorf("authors is %+v, want a list of Who, which holds Who", f)
	}
	again, err := ParseView(src)
	if err != nil || again.ID != v.ID {
		t.Errorf("the same definition is %v, then %v (%v)", v.ID, again.ID, err)
	}
	row := v.Row(nil, []value.Value{{}, value.OfInt(7), value.OfString("x")})
	for name, want := range map[string]value.Value{"authors": {}, "n": value.OfInt(7), "title": value.OfString("x")} {
		f, _ := v.Field(name)
		if got := f.Value(row); !value.Equal(got, want) {
			t.Errorf("%s of the row is %v, want %v", name, got, want)
		}
	}
	for _, text := range []string{string(v.SchemaJSON()), must(v.MarshalJSON())} {
		if strings.Contains(text, "_docID") {
			t.Errorf("the description of a view has docIDs: %s", text)
		}
	}
}

func must(b []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(b)
}

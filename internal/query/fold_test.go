package query

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// emptyFilterOf draws filters that say nothing of any document: what is left when
// the variables of a request are not given.
func emptyFilterOf(depth int) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		f := map[string]any{}
		for range rapid.IntRange(0, 2).Draw(t, "members") {
			kind := rapid.IntRange(0, 5).Draw(t, "kind")
			switch {
			case kind == 0 && depth > 0:
				f["_not"] = emptyFilterOf(depth-1).Draw(t, "not")
			case kind <= 2 && depth > 0:
				list := []any{}
				for range rapid.IntRange(0, 2).Draw(t, "n") {
					list = append(list, emptyFilterOf(depth-1).Draw(t, "of"))
				}
				f[[]string{"", "_and", "_or"}[kind]] = list
			default:
				field := rapid.SampledFrom([]string{"i", "f", "s", "b"}).Draw(t, "field")
				f[field] = rapid.SampledFrom([]map[string]any{{}, {"_in": []any{}}, {"_nin": []any{}}}).Draw(t, "block")
			}
		}
		return f
	})
}

// What is known of a filter before the data is read is what the data says, and an
// update through one that excludes nothing is refused, however it is written.
func TestFiltersThatExcludeNothingChangeNothing(t *testing.T) {
	d := open(t)
	d.mustAdd(`type T { n: Int i: Int f: Float s: String b: Boolean l: [Int] }`)
	docs := oracleDocs(t, d, 40)
	rapid.Check(t, func(t *rapid.T) {
		empty := rapid.Bool().Draw(t, "empty")
		filters := filterOf(3)
		if empty {
			filters = emptyFilterOf(4)
		}
		filter := filters.Draw(t, "filter")
		text, err := json.Marshal(filter)
		if err != nil {
			t.Fatal(err)
		}
		matching := 0
		for _, doc := range docs {
			if doc.matches(filter) {
				matching++
			}
		}
		got := truthOf(t, d, string(text))
		switch {
		case got == always && matching < len(docs), got == never && matching > 0, empty && got == depends:
			t.Fatalf("%s: known to hold %v, matches %d of %d", text, got, matching, len(docs))
		}
		_, err = d.exec(Request{
			Query:     `mutation ($f: TFilterArg) { update_T(filter: $f, input: {}) { n } }`,
			Variables: []byte(`{"f": ` + string(text) + `}`),
		})
		if refused := err != nil; refused != (got == always) {
			t.Fatalf("%s: known to hold %v, an update with it gives %v", text, got, err)
		}
	})
}

// truthOf returns what is known of a filter over T, given as JSON.
func truthOf(t interface{ Fatal(...any) }, d *dbase, filter string) truth {
	s := d.generated()
	doc, err := s.document(`query ($f: TFilterArg) { T(filter: $f) { n } }`)
	if err != nil {
		t.Fatal(err)
	}
	in, err := variables(s.ast, doc.ast.Operations[0], []byte(`{"f": `+filter+`}`))
	if err != nil {
		t.Fatal(filter, err)
	}
	p, err := (&compiler{schema: s, in: in}).filter(scope{collection: s.collections["T"]}, in.vars["f"])
	if err != nil {
		t.Fatal(filter, err)
	}
	return p.truth
}

func TestConstantFilters(t *testing.T) {
	d := open(t)
	d.mustAdd(`type T { n: Int b: Boolean j: JSON l: [Int] raw: Blob one: T @relation(name: "r") @primary many: T @relation(name: "r") list: [U] } type U { m: Int t: T }`)
	d.must(`mutation { create_T(input: [{n: 1}, {n: 2}]) { n } }`)
	tests := map[truth][]string{
		always: {`{}`, `null`, `{"_not": {"_or": []}}`, `{"_not": {"_not": {}}}`, `{"_and": []}`, `{"_or": [{"n": {"_eq": 1}}, {}]}`,
			`{"_not": {"_and": [{"_not": {}}, {"n": {"_eq": 1}}]}}`, `{"n": {"_ge": null}}`, `{"_not": {"n": {"_lt": null}}}`,
			`{"n": {"_nin": []}}`, `{"_not": {"n": {"_in": []}}}`, `{"_docID": {"_ne": null}}`, `{"_docID": {"_nin": ["no docID"]}}`,
			`{"_not": {"_docID": {"_eq": "no docID"}}}`, `{"one_id": {"_ne": "no docID"}}`, `{"_not": {"_docID": null}}`, `{"one": {}}`, `{"one": {"_not": {"_or": []}}}`,
			`{"_not": {"list": {"_or": []}}}`, `{"_not": {"l": {"_any": {"_in": []}}}}`,
			`{"j": {}}`, `{"j": {"_not": {"_or": []}}}`, `{"j": {"x": {"y": {}, "_or": null}}}`, `{"j": {"_nin": []}}`, `{"_not": {"j": {"x": {"_in": []}}}}`,
			`{"j": {"_or": [{"x": 1}, {}]}}`},
		never: {`{"_or": []}`, `{"_not": {}}`, `{"n": {"_eq": 1, "_in": []}}`, `{"_docID": null}`, `{"one": {"n": {"_in": []}}}`,
			`{"list": {"m": {"_lt": null}}}`, `{"j": {"_not": {}}}`, `{"l": {"_any": {"_in": []}}}`, `{"_docID": {"_in": []}}`},
		depends: {`{"n": {"_eq": 1}}`, `{"n": null}`, `{"list": {}}`, `{"list": null}`, `{"one": null}`, `{"l": {"_all": {}}}`, `{"l": {"_none": {"_in": []}}}`,
			`{"one": {"_docID": {"_ne": null}}}`, `{"j": {"_any": {}}}`, `{"j": {"x": {"_ge": null}}}`, `{"n": {"_gt": null}}`},
	}
	for want, filters := range tests {
		for _, filter := range filters {
			if got := truthOf(t, d, filter); got != want {
				t.Errorf("%s: known to hold %d, want %d", filter, got, want)
			}
			_, err := d.exec(Request{Query: `mutation ($f: TFilterArg) { delete_T(filter: $f) { n } }`, Variables: []byte(`{"f": ` + filter + `}`)})
			if refused := err != nil && strings.Contains(err.Error(), "all: true"); refused != (want == always) {
				t.Errorf("%s: a delete with it gives %v", filter, err)
			}
			out, err := d.exec(Request{Query: `query ($f: TFilterArg) { T(filter: $f, showDeleted: true) { n } }`, Variables: []byte(`{"f": ` + filter + `}`)})
			if n := map[truth]int{always: 2, never: 0, depends: strings.Count(string(out), `"n"`)}[want]; err != nil || strings.Count(string(out), `"n"`) != n {
				t.Errorf("%s: finds %s, %v", filter, out, err)
			}
		}
	}
	p, err := Compile(d.generated(), Request{Query: `{ T(filter: {_not: {}}) { n } }`})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p); !strings.Contains(got, "nothing") || strings.Contains(got, "scan") {
		t.Errorf("a filter that nothing meets is planned as\n%s", got)
	}
}

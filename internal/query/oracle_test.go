package query

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The oracle evaluates filters and orders over plain maps, by the tables of the
// dialect and in no way like the package does.

type oracleDoc map[string]any // nil, int, float64, string, bool, []any; "id" the docID

// below compares two values that are not null; ok is false for different sorts.
func below(a, b any) (c int, ok bool) {
	num := func(v any) (float64, bool) {
		switch v := v.(type) {
		case int:
			return float64(v), true
		case float64:
			return v, true
		}
		return 0, false
	}
	if x, isNum := num(a); isNum {
		y, isNum := num(b)
		switch {
		case !isNum:
			return 0, false
		case x < y:
			return -1, true
		case x > y:
			return 1, true
		}
		return 0, true
	}
	if x, isText := a.(string); isText {
		y, isText := b.(string)
		return strings.Compare(x, y), isText
	}
	x, y := a == true, b == true
	switch {
	case x == y:
		return 0, true
	case y:
		return -1, true
	}
	return 1, true
}

// holds is the table of conditions against null.
func holds(op string, d, v any) bool {
	same := func(a, b any) bool {
		if a == nil || b == nil {
			return a == nil && b == nil
		}
		c, ok := below(a, b)
		return ok && c == 0
	}
	in := func() bool { return slices.ContainsFunc(v.([]any), func(e any) bool { return same(d, e) }) }
	switch op {
	case "_eq":
		return same(d, v)
	case "_ne":
		return !same(d, v)
	case "_in":
		return in()
	case "_nin":
		return !in()
	case "_like":
		return d != nil && likeOracle(d.(string), v.(string))
	case "_nlike":
		return d == nil || !likeOracle(d.(string), v.(string))
	case "_ilike":
		return d != nil && likeOracle(strings.ToLower(d.(string)), strings.ToLower(v.(string)))
	case "_nilike":
		return d == nil || !likeOracle(strings.ToLower(d.(string)), strings.ToLower(v.(string)))
	}
	switch {
	case d == nil && v == nil:
		return op == "_ge" || op == "_le"
	case d == nil:
		return false
	case v == nil:
		return op == "_gt" || op == "_ge"
	}
	c, _ := below(d, v)
	switch op {
	case "_gt":
		return c > 0
	case "_ge":
		return c >= 0
	case "_lt":
		return c < 0
	}
	return c <= 0
}

// likeOracle matches by trying all ways, letter by letter.
func likeOracle(s, p string) bool {
	return likeRunes([]rune(s), []rune(p))
}

func likeRunes(s, p []rune) bool {
	if len(p) == 0 {
		return len(s) == 0
	}
	switch c := p[0]; {
	case c == '%':
		return likeRunes(s, p[1:]) || len(s) > 0 && likeRunes(s[1:], p)
	case c == '_':
		return len(s) > 0 && likeRunes(s[1:], p[1:])
	case c == '\\' && len(p) > 1 && strings.ContainsRune(`%_\`, p[1]):
		p = p[1:]
	}
	return len(s) > 0 && s[0] == p[0] && likeRunes(s[1:], p[1:])
}

// matches evaluates a filter.
func (d oracleDoc) matches(filter map[string]any) bool {
	for name, v := range filter {
		var ok bool
		switch name {
		case "_and":
			ok = true
			for _, f := range v.([]any) {
				ok = ok && d.matches(f.(map[string]any))
			}
		case "_or":
			for _, f := range v.([]any) {
				ok = ok || d.matches(f.(map[string]any))
			}
		case "_not":
			ok = !d.matches(v.(map[string]any))
		default:
			ok = true
			for op, operand := range v.(map[string]any) {
				ok = ok && d.condition(name, op, operand)
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

func (d oracleDoc) condition(name, op string, operand any) bool {
	if !strings.HasPrefix(name, "l") {
		return holds(op, d[name], operand)
	}
	list, isList := d[name].([]any)
	if !isList {
		return false
	}
	n := 0
	for _, e := range list {
		ok := true
		for op, v := range operand.(map[string]any) {
			ok = ok && holds(op, e, v)
		}
		if ok {
			n++
		}
	}
	switch op {
	case "_any":
		return n > 0
	case "_all":
		return n == len(list)
	}
	return n == 0
}

// compareOracle orders values, null first.
func compareOracle(a, b any) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	c, _ := below(a, b)
	return c
}

var (
	oracleFields = []string{"i", "f", "s", "b", "l"}
	texts        = rapid.SampledFrom([]string{"", "a", "b", "ab", "ba", "aBa", "A", "äÖ", "%", "_", "aaab"})
	patterns     = rapid.SampledFrom([]string{"", "%", "%%", "a%", "%a", "%a%", "a%b", "a%a%b", "_", "A%", "%ö", "%b%a%", "ab", "%a%a", "_b", "%_a%", `\_`, `\%%`, "__"})
)

// valueOf draws a value of a field.
func valueOf(field string) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		if rapid.IntRange(0, 4).Draw(t, "null") == 0 {
			return nil
		}
		switch field {
		case "i":
			return rapid.IntRange(-2, 2).Draw(t, "i")
		case "f":
			return rapid.SampledFrom([]any{-1.5, 0.0, 1.0, 1.5, 2.0}).Draw(t, "f")
		case "b":
			return rapid.Bool().Draw(t, "b")
		case "l":
			return anys(rapid.SliceOfN(valueOf("i"), 0, 3).Draw(t, "l"))
		}
		return texts.Draw(t, "s")
	})
}

func anys(vs []any) []any {
	if vs == nil {
		return []any{}
	}
	return vs
}

func operatorsOf(field string) []string {
	switch field {
	case "b":
		return []string{"_eq", "_ne", "_in", "_nin"}
	case "s":
		return []string{"_eq", "_ne", "_in", "_nin", "_like", "_nlike", "_ilike", "_nilike"}
	}
	return []string{"_eq", "_ne", "_gt", "_ge", "_lt", "_le", "_in", "_nin"}
}

// blockOf draws the conditions on a field.
func blockOf(field string) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		if field == "l" {
			op := rapid.SampledFrom([]string{"_any", "_all", "_none"}).Draw(t, "quantifier")
			return map[string]any{op: blockOf("i").Draw(t, "elements")}
		}
		block := map[string]any{}
		for range rapid.IntRange(0, 2).Draw(t, "n") {
			op := rapid.SampledFrom(operatorsOf(field)).Draw(t, "op")
			switch {
			case strings.HasSuffix(op, "in"):
				block[op] = anys(rapid.SliceOfN(valueOf(field), 0, 12).Draw(t, "list"))
			case strings.HasSuffix(op, "like"):
				block[op] = patterns.Draw(t, "pattern")
			default:
				block[op] = valueOf(field).Draw(t, "operand")
			}
		}
		return block
	})
}

func filterOf(depth int) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		f := map[string]any{}
		for range rapid.IntRange(0, 2).Draw(t, "members") {
			kind := rapid.IntRange(0, 6).Draw(t, "kind")
			if kind > 2 || depth == 0 {
				field := rapid.SampledFrom(oracleFields).Draw(t, "field")
				f[field] = blockOf(field).Draw(t, "block")
				continue
			}
			if kind == 0 {
				f["_not"] = filterOf(depth-1).Draw(t, "not")
				continue
			}
			list := []any{}
			for range rapid.IntRange(0, 3).Draw(t, "n") {
				list = append(list, filterOf(depth-1).Draw(t, "of"))
			}
			f[[]string{"", "_and", "_or"}[kind]] = list
		}
		return f
	})
}

// Whatever the filter, order, limit and offset, the answer is that of the oracle.
func TestAnswersEqualTheOracle(t *testing.T) {
	d := open(t)
	d.mustAdd(`type T { n: Int i: Int f: Float s: String b: Boolean l: [Int] }`)
	docs := oracleDocs(t, d, 60)
	rapid.Check(t, func(t *rapid.T) {
		filter := filterOf(3).Draw(t, "filter")
		keys := rapid.SliceOfN(rapid.SampledFrom([]string{"i", "f", "s", "b"}), 0, 3).Draw(t, "order")
		desc := rapid.SliceOfN(rapid.Bool(), 3, 3).Draw(t, "desc")
		limit, offset := rapid.IntRange(-1, 9).Draw(t, "limit"), rapid.IntRange(0, 9).Draw(t, "offset")

		want := []any{}
		order := []any{}
		sorted := slices.Clone(docs)
		slices.SortStableFunc(sorted, func(a, b oracleDoc) int {
			for i, k := range keys {
				c := compareOracle(a[k], b[k])
				if desc[i] {
					c = -c
				}
				if c != 0 {
					return c
				}
			}
			return 0
		})
		for i, k := range keys {
			order = append(order, map[string]any{k: map[bool]string{true: "DESC", false: "ASC"}[desc[i]]})
		}
		for _, doc := range sorted {
			if doc.matches(filter) {
				want = append(want, doc["n"])
			}
		}
		want = want[min(offset, len(want)):]
		if limit > 0 {
			want = want[:min(limit, len(want))]
		}

		vars, err := json.Marshal(map[string]any{"f": filter, "o": order, "l": limit, "s": offset})
		if err != nil {
			t.Fatal(err)
		}
		out, err := d.exec(Request{Query: `query ($f: TFilterArg, $o: [TOrderArg], $l: Int, $s: Int) { T(filter: $f, order: $o, limit: $l, offset: $s) { n } }`, Variables: vars})
		if err != nil {
			t.Fatalf("%s: %v", vars, err)
		}
		var got struct{ T []struct{ N int } }
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		ns := []any{}
		for _, r := range got.T {
			ns = append(ns, r.N)
		}
		if fmt.Sprint(ns) != fmt.Sprint(want) {
			t.Fatalf("%s: got %v, want %v", vars, ns, want)
		}
	})
}

// oracleDocs creates random documents and returns them in docID order.
func oracleDocs(t *testing.T, d *dbase, n int) []oracleDoc {
	t.Helper()
	byID := map[string]oracleDoc{}
	for i := range n {
		doc := oracleDoc{"n": i}
		for _, f := range oracleFields {
			doc[f] = valueOf(f).Example(i*7 + len(f))
		}
		in, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		out, err := d.exec(Request{Query: `mutation ($in: [TMutationInputArg!]) { create_T(input: $in) { _docID } }`, Variables: []byte(`{"in": ` + string(in) + `}`)})
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		byID[docIDOf.FindStringSubmatch(string(out))[1]] = doc
	}
	// Base32 in this alphabet does not sort like the bytes behind it.
	var docs []oracleDoc
	var ids struct {
		T []struct {
			ID string `json:"_docID"`
		}
	}
	if err := json.Unmarshal([]byte(d.must(`{ T { _docID } }`)), &ids); err != nil {
		t.Fatal(err)
	}
	for _, r := range ids.T {
		docs = append(docs, byID[r.ID])
	}
	return docs
}

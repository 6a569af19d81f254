package query

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The oracle of aggregates works on plain maps, list by list, in no way like the
// package does. All numbers are halves, so that sums are exact in any order.

// choice is what the arguments of a list or an aggregate say.
type choice struct {
	filter        map[string]any
	keys          []string
	desc          []bool
	limit, offset int
}

func choiceOf(fields ...string) *rapid.Generator[choice] {
	return rapid.Custom(func(t *rapid.T) choice {
		return choice{
			filter: filterOf(2).Draw(t, "filter"),
			keys:   rapid.SliceOfN(rapid.SampledFrom(fields), 0, 2).Draw(t, "order"),
			desc:   rapid.SliceOfN(rapid.Bool(), 2, 2).Draw(t, "desc"),
			limit:  rapid.SampledFrom([]int{0, 0, 1, 2, 5, -1}).Draw(t, "limit"),
			offset: rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "offset"),
		}
	})
}

// of returns the documents that are chosen.
func (c choice) of(docs []oracleDoc) []oracleDoc {
	var out []oracleDoc
	for _, d := range docs {
		if d.matches(c.filter) {
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, func(a, b oracleDoc) int {
		for i, k := range c.keys {
			cmp := compareOracle(a[k], b[k])
			if c.desc[i] {
				cmp = -cmp
			}
			if cmp != 0 {
				return cmp
			}
		}
		return 0
	})
	return cut(out, c.limit, c.offset)
}

func cut[T any](s []T, limit, offset int) []T {
	s = s[min(offset, len(s)):]
	if limit > 0 {
		s = s[:min(limit, len(s))]
	}
	return s
}

// arguments returns the choice as members of variables.
func (c choice) arguments(order bool) map[string]any {
	m := map[string]any{"filter": c.filter, "limit": c.limit, "offset": c.offset}
	keys := []any{}
	for i, k := range c.keys {
		keys = append(keys, map[string]any{k: map[bool]string{true: "DESC", false: "ASC"}[c.desc[i]]})
	}
	if order {
		m["order"] = keys
	}
	return m
}

// graphqlText writes plain values as a GraphQL literal.
func graphqlText(v any) string {
	switch v := v.(type) {
	case map[string]any:
		var b strings.Builder
		for _, k := range slices.Sorted(maps.Keys(v)) {
			fmt.Fprintf(&b, "%s: %s ", k, graphqlText(v[k]))
		}
		return "{" + b.String() + "}"
	case []any:
		var b strings.Builder
		for _, e := range v {
			b.WriteString(graphqlText(e) + " ")
		}
		return "[" + b.String() + "]"
	case string:
		if v == "ASC" || v == "DESC" {
			return v
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// numbers collects what a field of documents has: the elements of a list, too.
func numbers(docs []oracleDoc, field string) (out []any) {
	for _, d := range docs {
		if list, ok := d[field].([]any); ok {
			out = append(out, list...)
		} else {
			out = append(out, d[field])
		}
	}
	return out
}

// aggregated is the table of the aggregates.
func aggregated(fn string, values []any) any {
	if fn == "_count" {
		return float64(len(values))
	}
	var nums []float64
	for _, v := range values {
		switch v := v.(type) {
		case int:
			nums = append(nums, float64(v))
		case float64:
			nums = append(nums, v)
		}
	}
	sum := 0.0
	for _, n := range nums {
		sum += n
	}
	switch {
	case fn == "_sum":
		return sum
	case fn == "_avg" && len(nums) == 0:
		return 0.0
	case fn == "_avg":
		return sum / float64(len(nums))
	case len(nums) == 0:
		return nil
	case fn == "_min":
		return slices.Min(nums)
	}
	return slices.Max(nums)
}

func counted(docs []oracleDoc) []any { return make([]any, len(docs)) }

var aggregateNames = rapid.SampledFrom([]string{"_count", "_sum", "_avg", "_min", "_max"})

// oneOf draws an aggregate over documents and returns its text, and what it is of
// documents.
func oneOf(t *rapid.T, host string) (string, func([]oracleDoc) any) {
	fn := aggregateNames.Draw(t, "function")
	field := rapid.SampledFrom([]string{"i", "f", "l"}).Draw(t, "field")
	c := choiceOf("i", "f", "s", "b").Draw(t, "choice")
	if fn == "_count" {
		c.keys = nil
		return fmt.Sprintf("%s(%s: %s)", fn, host, graphqlText(c.arguments(false))), func(docs []oracleDoc) any { return aggregated(fn, counted(c.of(docs))) }
	}
	args := graphqlText(c.arguments(true))
	return fmt.Sprintf("%s(%s: {field: %s %s)", fn, host, field, args[1:]), func(docs []oracleDoc) any { return aggregated(fn, numbers(c.of(docs), field)) }
}

// family of the oracle: documents in docID order, and by parent.
func oracleFamily(t *testing.T, d *dbase) (parents []oracleDoc, children map[any][]oracleDoc, all []oracleDoc) {
	t.Helper()
	d.mustAdd(`type P { n: Int i: Int l: [Int] cs: [T] } type T { n: Int i: Int f: Float s: String b: Boolean l: [Int] p: P }`)
	for n := range 6 {
		d.must(fmt.Sprintf(`mutation { create_P(input: {n: %d, i: %d, l: [%[1]d, null, 1]}) { n } }`, n, n%3))
	}
	var got struct {
		P []struct {
			N  int
			ID string `json:"_docID"`
		}
	}
	if err := json.Unmarshal([]byte(d.must(`{ P { n _docID } }`)), &got); err != nil {
		t.Fatal(err)
	}
	for _, p := range got.P {
		parents = append(parents, oracleDoc{"n": p.N, "i": p.N % 3, "l": []any{p.N, nil, 1}, "id": p.ID})
	}
	all = oracleDocs(t, d, 60)
	children = map[any][]oracleDoc{}
	for _, c := range all {
		n := c["n"].(int)
		if n%7 == 6 { // nobody's
			continue
		}
		p := parents[n%5]
		d.must(fmt.Sprintf(`mutation { update_T(filter: {n: {_eq: %d}}, input: {p: %q}) { n } }`, n, p["id"]))
		c["p"] = p["n"]
		children[p["n"]] = append(children[p["n"]], c)
	}
	return parents, children, all
}

func equalJSON(t *rapid.T, query string, out []byte, want map[string]any) {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	plain, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var expected map[string]any
	if err := json.Unmarshal(plain, &expected); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, expected) {
		t.Fatalf("%s: got %s, want %s", query, out, plain)
	}
}

// Whatever is aggregated, at the root, of related documents and of inline lists, it
// is what the oracle says.
func TestAggregatesEqualTheOracle(t *testing.T) {
	d := open(t)
	parents, children, all := oracleFamily(t, d)
	rapid.Check(t, func(t *rapid.T) {
		root, ofAll := oneOf(t, "T")
		again, ofAllAgain := oneOf(t, "T")
		rel, ofChildren := oneOf(t, "cs")
		rel2, ofChildren2 := oneOf(t, "cs")
		fn := aggregateNames.Draw(t, "of the list")
		block := blockOf("i").Draw(t, "elements")
		limit, offset := rapid.IntRange(0, 2).Draw(t, "limit"), rapid.IntRange(0, 2).Draw(t, "offset")
		least := rapid.IntRange(-1, 9).Draw(t, "least")

		query := fmt.Sprintf(`{ r: %s r2: %s P(filter: {_alias: {c: {_ge: %d}}}, order: [{_alias: {c: DESC}}]) { n a: %s b: %s c: _count(cs: {}) l: %s(l: {filter: %s limit: %d offset: %d}) d: _max(cs: {field: _count}) cs { _count(l: {}) } } }`,
			root, again, least, rel, rel2, fn, graphqlText(block), limit, offset)
		ps := []any{}
		sorted := slices.Clone(parents)
		slices.SortStableFunc(sorted, func(a, b oracleDoc) int { return len(children[b["n"]]) - len(children[a["n"]]) })
		for _, p := range sorted {
			own := children[p["n"]]
			if len(own) < least {
				continue
			}
			var elements []any
			for _, e := range p["l"].([]any) {
				ok := true
				for op, v := range block {
					ok = ok && holds(op, e, v)
				}
				if ok {
					elements = append(elements, e)
				}
			}
			counts, lists := []any{}, []any{}
			for _, c := range own {
				list, _ := c["l"].([]any)
				counts = append(counts, len(list))
				lists = append(lists, map[string]any{"_count": len(list)})
			}
			ps = append(ps, map[string]any{"n": p["n"], "a": ofChildren(own), "b": ofChildren2(own), "c": len(own),
				"l": aggregated(fn, cut(elements, limit, offset)), "d": aggregated("_max", counts), "cs": lists})
		}
		out, err := d.exec(Request{Query: query})
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		equalJSON(t, query, out, map[string]any{"r": ofAll(all), "r2": ofAllAgain(all), "P": ps})
	})
}

// grouped parts documents by fields, in the order of their first appearance.
func grouped(docs []oracleDoc, by []string) (groups [][]oracleDoc) {
	at := map[string]int{}
	for _, d := range docs {
		var key []any
		for _, f := range by {
			key = append(key, d[f])
		}
		k := graphqlText(key)
		if _, ok := at[k]; !ok {
			at[k] = len(groups)
			groups = append(groups, nil)
		}
		groups[at[k]] = append(groups[at[k]], d)
	}
	return groups
}

// Whatever documents are grouped by, at the root, of a relation and within groups,
// the groups are those of the oracle.
func TestGroupsEqualTheOracle(t *testing.T) {
	d := open(t)
	parents, children, all := oracleFamily(t, d)
	rapid.Check(t, func(t *rapid.T) {
		fields := rapid.SampledFrom([]string{"i", "f", "s", "b", "l"})
		by := rapid.SliceOfNDistinct(fields, 0, 2, rapid.ID).Draw(t, "by")
		inner := rapid.SliceOfNDistinct(fields, 1, 2, rapid.ID).Draw(t, "inner")
		agg, ofGroup := oneOf(t, "_group")
		agg2, ofGroup2 := oneOf(t, "_group")
		filter := filterOf(2).Draw(t, "filter")
		members := choiceOf("i", "f", "s", "b").Draw(t, "members")
		limit, offset := rapid.IntRange(0, 4).Draw(t, "limit"), rapid.IntRange(0, 2).Draw(t, "offset")
		order := rapid.SampledFrom([]string{"", "order: {_alias: {n: DESC}}"}).Draw(t, "order of groups")
		least := rapid.IntRange(0, 3).Draw(t, "least")

		args := graphqlText(members.arguments(true))
		body := fmt.Sprintf(`%s n: _count(_group: {}) x: %s y: %s m: _max(_group: {field: _count}) docs: _group(%s) { n } _group(groupBy: [%s]) { %s %s _count(_group: {}) docs: _group { n } }`,
			strings.Join(by, " "), agg, agg2, args[1:len(args)-1], strings.Join(inner, " "), strings.Join(by, " "), strings.Join(inner, " "))
		group := fmt.Sprintf(`(groupBy: [%s], limit: %d, offset: %d, %s, filter: {_and: [%s], _alias: {n: {_gt: %d}}})`, strings.Join(by, " "), limit, offset, order, graphqlText(filter), least)
		query := fmt.Sprintf(`{ T%s { %s } P { n cs%s { %s } } }`, group, body, group, body)

		show := func(docs []oracleDoc) []any {
			out := []any{}
			for _, d := range docs {
				out = append(out, map[string]any{"n": d["n"]})
			}
			return out
		}
		groups := func(docs []oracleDoc) []any {
			var kept [][]oracleDoc
			for _, g := range grouped(choice{filter: filter}.of(docs), by) {
				if len(g) > least {
					kept = append(kept, g)
				}
			}
			if order != "" {
				slices.SortStableFunc(kept, func(a, b []oracleDoc) int { return len(b) - len(a) })
			}
			out := []any{}
			for _, g := range cut(kept, limit, offset) {
				m := map[string]any{"n": len(g), "x": ofGroup(g), "y": ofGroup2(g), "docs": show(members.of(g))}
				for _, f := range by {
					m[f] = g[0][f]
				}
				within, counts := []any{}, []any{}
				for _, in := range grouped(g, inner) {
					w := map[string]any{"_count": len(in), "docs": show(in)}
					for _, f := range append(slices.Clone(by), inner...) {
						w[f] = in[0][f]
					}
					within = append(within, w)
					counts = append(counts, len(in))
				}
				m["_group"], m["m"] = within, aggregated("_max", counts)
				out = append(out, m)
			}
			return out
		}
		ps := []any{}
		for _, p := range parents {
			ps = append(ps, map[string]any{"n": p["n"], "cs": groups(children[p["n"]])})
		}
		out, err := d.exec(Request{Query: query})
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		equalJSON(t, query, out, map[string]any{"T": groups(all), "P": ps})
	})
}

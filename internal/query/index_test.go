package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/store"
)

// The world of the property test: every kind of field, relations in all shapes.
const indexedWorld = `
type T %s { n: Int i: Int f: Float g: Float32 s: String b: Boolean d: DateTime x: Blob
  l: [Int] m: [String!] j: JSON
  boss: T @relation(name: "boss") staff: [T] @relation(name: "boss")
  us: [U] v: V @primary }
type U %s { n: Int s: String t: T }
type V %s { n: Int i: Int t: T }`

var indexable = map[string][]string{
	"T": {"i", "f", "g", "s", "b", "d", "x", "l", "m", "j", "boss", "v", "n"},
	"U": {"n", "s", "t"},
	"V": {"n", "i"},
}

// indexesOf draws the indexes of a type, with at most one column each that has
// several entries per document.
func indexesOf(t *rapid.T, typ string) string {
	var b strings.Builder
	for range rapid.IntRange(0, 5).Draw(t, "indexes") {
		fields := rapid.SliceOfNDistinct(rapid.SampledFrom(indexable[typ]), 1, 3, rapid.ID).Draw(t, "columns")
		several := 0
		var cols []string
		for _, f := range fields {
			if typ == "T" && slices.Contains([]string{"l", "m", "j"}, f) {
				if several++; several > 1 {
					continue
				}
			}
			cols = append(cols, fmt.Sprintf(`{field: %q, direction: %s}`, f, rapid.SampledFrom([]string{"ASC", "DESC"}).Draw(t, "direction")))
		}
		fmt.Fprintf(&b, "@index(includes: [%s]) ", strings.Join(cols, ", "))
	}
	return b.String()
}

var (
	indexTexts  = []string{`""`, `"a"`, `"ab"`, `"abc"`, `"b"`, `"A"`, `"ä"`, `"a%"`, `"a_"`, `"zz"`}
	indexTimes  = []string{`"2020-01-01T00:00:00Z"`, `"2020-01-01T01:00:00+01:00"`, `"2021-05-05T05:05:05.5Z"`, `"1950-01-01T00:00:00Z"`}
	indexBlobs  = []string{`""`, `"00"`, `"ff"`, `"00ff"`, `"ab"`}
	indexFloats = []string{"-1.5", "0", "1", "1.5", "2", "9007199254740992"}
	indexInts   = []string{"-2", "-1", "0", "1", "2", "9007199254740993"}
	indexJSON   = []string{`1`, `1.5`, `"a"`, `true`, `[]`, `{}`, `[1,2]`, `[1,[2,"a"]]`, `{"a":1}`, `{"a":null}`, `{"a":{"b":"x"}}`, `{"a":{"b":2},"s":"a"}`,
		`{"a":[1,null,"a"]}`, `{"a":[{"b":1},{"b":2}]}`, `{"a":"ab","s":false}`, `{"a":[]}`, `{"s":"abc"}`, `{"a":1,"s":1}`}
)

func literalsOf(field string) []string {
	switch field {
	case "n", "i", "l":
		return indexInts
	case "f", "g":
		return indexFloats
	case "b":
		return []string{"true", "false"}
	case "d":
		return indexTimes
	case "x":
		return indexBlobs
	}
	return indexTexts
}

func orNull(t *rapid.T, from []string) string {
	if rapid.IntRange(0, 4).Draw(t, "null") == 0 {
		return "null"
	}
	return rapid.SampledFrom(from).Draw(t, "value")
}

func drawValues(t *rapid.T, from []string, nulls bool) string {
	if rapid.IntRange(0, 4).Draw(t, "null") == 0 && nulls {
		return "null"
	}
	var es []string
	for range rapid.IntRange(0, 3).Draw(t, "length") {
		e := rapid.SampledFrom(from).Draw(t, "element")
		if nulls {
			e = orNull(t, from)
		}
		es = append(es, e)
	}
	return "[" + strings.Join(es, ",") + "]"
}

// drawDoc draws the JSON of a document; ids are those a relation may lead to.
func drawDocument(t *rapid.T, typ string, n int, ids map[string][]string) string {
	m := []string{fmt.Sprintf(`"n":%d`, n)}
	put := func(f, v string) { m = append(m, fmt.Sprintf("%q:%s", f, v)) }
	ref := func(f, typ string) {
		if len(ids[typ]) > 0 && rapid.IntRange(0, 3).Draw(t, "linked") > 0 {
			put(f, `"`+rapid.SampledFrom(ids[typ]).Draw(t, f)+`"`)
		}
	}
	switch typ {
	case "T":
		for _, f := range []string{"i", "f", "g", "s", "b", "d", "x"} {
			put(f, orNull(t, literalsOf(f)))
		}
		put("l", drawValues(t, indexInts, true))
		if rapid.Bool().Draw(t, "has m") {
			put("m", drawValues(t, indexTexts, false))
		}
		put("j", orNull(t, indexJSON))
		ref("boss_id", "T")
	case "U":
		put("s", orNull(t, indexTexts))
		ref("t_id", "T")
	case "V":
		put("i", orNull(t, indexInts))
	}
	return "{" + strings.Join(m, ",") + "}"
}

func drawConditions(t *rapid.T, field string) string {
	ops := []string{"_eq", "_ne", "_in", "_nin"}
	switch field {
	case "s", "x":
		ops = append(ops, "_like", "_nlike", "_ilike", "_nilike", "_like")
	case "b":
	default:
		ops = append(ops, "_gt", "_ge", "_lt", "_le")
	}
	var b []string
	for _, op := range rapid.SliceOfNDistinct(rapid.SampledFrom(ops), 0, 2, rapid.ID).Draw(t, "operators") {
		v := orNull(t, literalsOf(field))
		switch {
		case strings.HasSuffix(op, "in"):
			v = drawValues(t, literalsOf(field), true)
			if v == "null" {
				v = "[]"
			}
		case strings.HasSuffix(op, "like"):
			v = rapid.SampledFrom([]string{`"a%"`, `"%a"`, `"ab"`, `"%"`, `"a_"`, `""`, `"a%b%"`, `"00%"`}).Draw(t, "pattern")
		}
		b = append(b, fmt.Sprintf("%q:%s", op, v))
	}
	return "{" + strings.Join(b, ",") + "}"
}

func drawJSONCondition(t *rapid.T, depth int) string {
	switch k := rapid.IntRange(0, 9).Draw(t, "json"); {
	case k < 4 && depth > 0:
		var b []string
		for _, step := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "s"}), 1, 2, rapid.ID).Draw(t, "steps") {
			b = append(b, fmt.Sprintf("%q:%s", step, drawJSONCondition(t, depth-1)))
		}
		return "{" + strings.Join(b, ",") + "}"
	case k == 4 && depth > 0:
		op := rapid.SampledFrom([]string{"_any", "_all", "_none", "_not"}).Draw(t, "quantifier")
		return fmt.Sprintf("{%q:%s}", op, drawJSONCondition(t, depth-1))
	case k == 5 && depth > 0:
		op := rapid.SampledFrom([]string{"_and", "_or"}).Draw(t, "junction")
		return fmt.Sprintf("{%q:[%s,%s]}", op, drawJSONCondition(t, depth-1), drawJSONCondition(t, depth-1))
	case k == 6:
		return orNull(t, indexJSON)
	}
	op := rapid.SampledFrom([]string{"_eq", "_ne", "_gt", "_ge", "_lt", "_le", "_in", "_nin", "_like", "_nlike"}).Draw(t, "operator")
	v := orNull(t, indexJSON)
	switch {
	case strings.HasSuffix(op, "in"):
		v = drawValues(t, indexJSON, true)
		if v == "null" {
			v = "[null]"
		}
	case strings.HasSuffix(op, "like"):
		v = rapid.SampledFrom([]string{`"a%"`, `"%a"`, `"ab"`}).Draw(t, "pattern")
	}
	return fmt.Sprintf("{%q:%s}", op, v)
}

// drawFilter draws a filter over documents of a type, as JSON.
func drawWhere(t *rapid.T, typ string, depth int, ids map[string][]string) string {
	var m []string
	seen := map[string]bool{}
	put := func(name, v string) {
		if !seen[name] {
			seen[name] = true
			m = append(m, fmt.Sprintf("%q:%s", name, v))
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, "members") {
		kind := rapid.IntRange(0, 11).Draw(t, "kind")
		switch {
		case kind == 0 && depth > 0:
			put("_not", drawWhere(t, typ, depth-1, ids))
		case kind <= 2 && depth > 0:
			var list []string
			for range rapid.IntRange(0, 3).Draw(t, "branches") {
				list = append(list, drawWhere(t, typ, depth-1, ids))
			}
			put([]string{"_and", "_or", "_or"}[kind], "["+strings.Join(list, ",")+"]")
		case kind <= 4 && depth > 0:
			to := map[string][][2]string{"T": {{"boss", "T"}, {"staff", "T"}, {"us", "U"}, {"v", "V"}}, "U": {{"t", "T"}}, "V": {{"t", "T"}}}[typ]
			r := rapid.SampledFrom(to).Draw(t, "relation")
			if rapid.IntRange(0, 7).Draw(t, "nothing") == 0 {
				put(r[0], "null")
			} else {
				put(r[0], drawWhere(t, r[1], depth-1, ids))
			}
		case kind == 5 && typ != "V":
			f, to := "boss_id", "T"
			if typ == "U" {
				f = "t_id"
			}
			from := []string{`"none"`}
			for _, id := range ids[to] {
				from = append(from, `"`+id+`"`)
			}
			op := rapid.SampledFrom([]string{"_eq", "_ne", "_in", "_nin"}).Draw(t, "operator")
			v := orNull(t, from)
			if strings.HasSuffix(op, "in") {
				v = "[" + v + "," + orNull(t, from) + "]"
			}
			put(f, fmt.Sprintf("{%q:%s}", op, v))
		default:
			f := rapid.SampledFrom(append([]string{"_docID"}, indexable[typ]...)).Draw(t, "field")
			switch f {
			case "_docID":
				from := []string{`"none"`}
				for _, id := range ids[typ] {
					from = append(from, `"`+id+`"`)
				}
				op := rapid.SampledFrom([]string{"_in", "_nin"}).Draw(t, "operator")
				put(f, fmt.Sprintf("{%q:%s}", op, drawValues(t, from, false)))
			case "boss", "v", "t":
			case "l", "m":
				op := rapid.SampledFrom([]string{"_any", "_any", "_all", "_none"}).Draw(t, "quantifier")
				block := drawConditions(t, map[string]string{"l": "i", "m": "s"}[f])
				if f == "m" && strings.Contains(block, "null") {
					block = "{}"
				}
				put(f, fmt.Sprintf("{%q:%s}", op, block))
			case "j":
				put(f, drawJSONCondition(t, 3))
			default:
				put(f, drawConditions(t, f))
			}
		}
	}
	return "{" + strings.Join(m, ",") + "}"
}

func drawKeys(t *rapid.T, typ string) string {
	var keys []string
	for range rapid.IntRange(0, 3).Draw(t, "keys") {
		f := rapid.SampledFrom(append(slices.Clone(indexable[typ]), "_docID")).Draw(t, "key")
		way := rapid.SampledFrom([]string{"ASC", "DESC"}).Draw(t, "way")
		switch f {
		case "boss", "v":
			if rapid.Bool().Draw(t, "id") && f == "boss" {
				keys = append(keys, fmt.Sprintf("{%s_id:%s}", f, way))
			} else {
				keys = append(keys, fmt.Sprintf("{%s:{n:%s}}", f, way))
			}
		case "t":
			keys = append(keys, fmt.Sprintf("{t:{s:%s}}", way))
		default:
			keys = append(keys, fmt.Sprintf("{%s:%s}", f, way))
		}
	}
	return "[" + strings.Join(keys, ",") + "]"
}

func drawWindow(t *rapid.T) string {
	return fmt.Sprintf("limit: %d, offset: %d",
		rapid.SampledFrom([]int{0, 0, 1, 2, 3, 10}).Draw(t, "limit"), rapid.SampledFrom([]int{0, 0, 0, 1, 3}).Draw(t, "offset"))
}

// drawQuery draws a query with its variables.
func drawRead(t *rapid.T, ids map[string][]string) Request {
	typ := rapid.SampledFrom([]string{"T", "T", "T", "U", "V"}).Draw(t, "type")
	filter, inner := drawWhere(t, typ, 2, ids), drawWhere(t, "U", 1, ids)
	if typ == "T" && rapid.Bool().Draw(t, "plain") { // one condition, which is the most that an index sees
		f := rapid.SampledFrom([]string{"i", "f", "g", "s", "b", "d", "x"}).Draw(t, "field")
		filter = fmt.Sprintf("{%q:%s}", f, drawConditions(t, f))
	}
	if rapid.IntRange(0, 5).Draw(t, "count") == 0 {
		return Request{Query: fmt.Sprintf(`query ($f: %[1]sFilterArg) { _count(%[1]s: {filter: $f}) }`, typ), Variables: []byte(`{"f":` + filter + `}`)}
	}
	selection := map[string]string{
		"T": fmt.Sprintf(`_docID n boss { n v { n } } us(filter: $g, order: %s, %s) { n s t { n us { n } } } staff { n } v { n } _count(us: {})`, drawKeys(t, "U"), drawWindow(t)),
		"U": `_docID n t(filter: {}) { n us(filter: $g) { n } boss { n } }`,
		"V": `_docID n t { n us(filter: $g) { n } }`,
	}[typ]
	if rapid.Bool().Draw(t, "flat") {
		selection = "_docID n"
	}
	if !strings.Contains(selection, "$g") {
		return Request{Query: fmt.Sprintf(`query ($f: %[1]sFilterArg) { %[1]s(filter: $f, order: %s, %s) { %s } }`, typ, drawKeys(t, typ), drawWindow(t), selection),
			Variables: []byte(`{"f":` + filter + `}`)}
	}
	return Request{Query: fmt.Sprintf(`query ($f: %[1]sFilterArg, $g: UFilterArg) { %[1]s(filter: $f, order: %s, %s) { %s } }`, typ, drawKeys(t, typ), drawWindow(t), selection),
		Variables: []byte(`{"f":` + filter + `,"g":` + inner + `}`)}
}

// Whatever indexes there are, a query gives the same rows in the same order as
// without: also for documents that were deleted, and for writes that are not
// committed yet.
func TestIndexesChangeNoAnswer(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := open(t)
		d.mustAdd(fmt.Sprintf(indexedWorld, indexesOf(rt, "T"), indexesOf(rt, "U"), indexesOf(rt, "V")))
		ids := map[string][]string{}
		drawWorld(rt, d, ids)
		plain := NewSchema(d.store.Schema().Collections(), nil, Limits{})
		plain.unindexed = true
		errStop := errors.New("stop")
		err := d.store.Update(context.Background(), store.As(d.key), func(tx *store.Tx) error {
			if rapid.Bool().Draw(rt, "own writes") {
				for _, m := range drawChanges(rt, ids) {
					if _, err := d.in(tx, d.generated(), m); err != nil {
						return err
					}
				}
			}
			for range 30 {
				q := drawRead(rt, ids)
				if _, err := Compile(plain, q); err != nil {
					continue // conditions on JSON are not all sound
				}
				got, err := d.in(tx, d.generated(), q)
				if err != nil {
					rt.Fatalf("%s %s: %v", q.Query, q.Variables, err)
				}
				want, err := d.in(tx, plain, q)
				if err != nil {
					rt.Fatalf("%s %s: %v", q.Query, q.Variables, err)
				}
				if got != want {
					p, _ := Compile(d.generated(), q)
					rt.Fatalf("%s %s\n%s\ngot  %s\nwant %s", q.Query, q.Variables, p, got, want)
				}
			}
			return errStop
		})
		if !errors.Is(err, errStop) {
			rt.Fatal(err)
		}
	})
}

// in runs a request in a transaction.
func (d *dbase) in(tx *store.Tx, s *Schema, r Request) (string, error) {
	p, err := Compile(s, r)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = p.Run(context.Background(), tx, &out)
	return out.String(), err
}

// drawWorld fills a database, and deletes some of it.
func drawWorld(t *rapid.T, d *dbase, ids map[string][]string) {
	for _, typ := range []string{"V", "T", "T", "U", "U"} {
		var docs []string
		for range rapid.IntRange(0, 12).Draw(t, "documents") {
			docs = append(docs, drawDocument(t, typ, len(docs)+100*len(ids[typ]), ids))
		}
		for i, doc := range docs {
			out, err := d.exec(Request{
				Query:     fmt.Sprintf(`mutation ($in: [%[1]sMutationInputArg!]!) { create_%[1]s(input: $in) { _docID } }`, typ),
				Variables: json.RawMessage(`{"in":[` + doc + `]}`),
			})
			if err != nil {
				t.Fatalf("%s: %v", doc, err)
			}
			ids[typ] = append(ids[typ], docIDOf.FindStringSubmatch(string(out))[1])
			_ = i
		}
	}
	vs := slices.Clone(ids["V"])
	for _, id := range ids["T"] { // one to one
		if len(vs) > 0 && rapid.Bool().Draw(t, "has v") {
			d.must(fmt.Sprintf(`mutation { update_T(docID: %q, input: {v_id: %q}) { _docID } }`, id, vs[0]))
			vs = vs[1:]
		}
	}
	for _, typ := range []string{"T", "U", "V"} {
		for _, id := range ids[typ] {
			if rapid.IntRange(0, 9).Draw(t, "deleted") == 0 {
				d.must(fmt.Sprintf(`mutation { delete_%s(docID: %q) { _docID } }`, typ, id))
			}
		}
	}
}

// drawChanges draws mutations of a world.
func drawChanges(t *rapid.T, ids map[string][]string) []Request {
	var rs []Request
	for range rapid.IntRange(1, 4).Draw(t, "changes") {
		typ := rapid.SampledFrom([]string{"T", "U"}).Draw(t, "type")
		switch rapid.IntRange(0, 2).Draw(t, "change") {
		case 0:
			rs = append(rs, Request{
				Query:     fmt.Sprintf(`mutation ($in: [%[1]sMutationInputArg!]!) { create_%[1]s(input: $in) { _docID } }`, typ),
				Variables: json.RawMessage(`{"in":[` + drawDocument(t, typ, 5000+len(rs), ids) + `]}`),
			})
		case 1:
			rs = append(rs, Request{Query: fmt.Sprintf(`mutation { update_%s(filter: {s: {_ge: null}, n: {_lt: 300}}, input: {s: %s}) { _docID } }`, typ, orNull(t, indexTexts))})
			rs[len(rs)-1].Query = strings.Replace(rs[len(rs)-1].Query, "s: {_ge: null}, ", "", 1)
		default:
			rs = append(rs, Request{Query: fmt.Sprintf(`mutation { delete_%s(filter: {s: {_eq: %s}}) { _docID } }`, typ, orNull(t, indexTexts))})
		}
	}
	return rs
}

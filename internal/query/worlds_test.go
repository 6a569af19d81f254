package query

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/schema"
)

// A world is a random schema with random documents, known twice: to databases, and as
// plain Go values to the naive evaluator.
type world struct {
	types []*naiveType
	next  int             // number of the next document: no two are alike
	taken map[string]bool // links of one-to-one relations that were ever made
	past  []past          // the documents at moments
}

// past is what the documents were at a moment, by the clocks of the databases.
type past struct {
	at   []time.Time
	docs [][]*naiveDoc // by type
}

// remember notes what the documents are now.
func (w *world) remember(ds ...*dbase) {
	var p past
	for _, d := range ds {
		p.at = append(p.at, d.options.Now())
	}
	for _, t := range w.types {
		docs := slices.Clone(t.docs)
		for i, d := range docs {
			old := *d
			old.values = maps.Clone(d.values)
			docs[i] = &old
		}
		p.docs = append(p.docs, docs)
	}
	w.past = append(w.past, p)
}

// as runs fn while the world is as it was.
func (w *world) as(p past, fn func()) {
	swap := func() {
		for i, t := range w.types {
			t.docs, p.docs[i] = p.docs[i], t.docs
		}
	}
	swap()
	defer swap()
	fn()
}

// pools have few values, so that conditions meet documents. Floats are such that their
// sums do not depend on the order.
var pools = map[string][]any{
	"Int":      {int64(-2), int64(0), int64(1), int64(2), int64(64), int64(9223372036854775807), int64(-9223372036854775808)},
	"Float":    {-1.5, 0.0, 0.25, 1.0, 1.5, 2.0, 1e9},
	"Float32":  {float32(-1.5), float32(0.5), float32(1), float32(16777216)},
	"String":   {"", "a", "b", "ab", "ba", "aBa", "A", "äÖ", "%", "_", "aaab", "quote \" and \\ and\nline"},
	"ID":       {"", "a", "b", "a1"},
	"Boolean":  {false, true},
	"DateTime": {"2020-01-01T00:00:00Z", "2020-01-01T02:00:00+02:00", "2019-12-31T23:59:59.5Z", "2020-01-01T00:00:00.000000001Z", "1969-12-31T23:59:59-03:30", "9999-01-01T00:00:00Z"},
	"Blob":     {"00", "0a", "ff00", "0a0b"},
}

var worldKinds = []string{
	"Int", "Float", "Float32", "String", "ID", "Boolean", "DateTime", "Blob", "JSON", "Int", "String",
	"[Int]", "[Int!]", "[Float]", "[String]", "[String!]", "[Boolean]", "[Float32!]", "[DateTime]",
}

// newWorld draws a schema.
func newWorld(t *rapid.T) *world {
	w := &world{taken: map[string]bool{}}
	for i := range rapid.IntRange(1, 3).Draw(t, "types") {
		typ := &naiveType{name: string(rune('A' + i))}
		typ.fields = append(typ.fields, &naiveField{name: "n", kind: "Int"})
		for k := range rapid.IntRange(1, 6).Draw(t, "fields") {
			kind := rapid.SampledFrom(worldKinds).Draw(t, "kind")
			typ.fields = append(typ.fields, &naiveField{name: fmt.Sprintf("f%d", k), kind: kind, list: kind[0] == '[', json: kind == "JSON"})
		}
		w.types = append(w.types, typ)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "relations") {
		from, to := rapid.SampledFrom(w.types).Draw(t, "from"), rapid.SampledFrom(w.types).Draw(t, "to")
		near := &naiveField{name: fmt.Sprintf("r%d", i), to: to}
		from.fields = append(from.fields, near)
		if back := rapid.SampledFrom([]string{"", "many", "many", "one"}).Draw(t, "back"); back != "" {
			to.fields = append(to.fields, &naiveField{name: fmt.Sprintf("b%d", i), to: from, many: back == "many", far: near.name})
		}
	}
	for _, typ := range w.types {
		for range rapid.IntRange(0, 3).Draw(t, "indexes") {
			typ.indexes = append(typ.indexes, drawIndex(t, typ))
		}
	}
	return w
}

// drawIndex draws an index of one to three columns, of which at most one has many values.
func drawIndex(t *rapid.T, typ *naiveType) schema.Index {
	var ix schema.Index
	many := false
	for range rapid.SampledFrom([]int{1, 1, 2, 3}).Draw(t, "columns") {
		f := rapid.SampledFrom(typ.fields).Draw(t, "column")
		taken := slices.ContainsFunc(ix.Fields, func(c schema.IndexField) bool { return c.Name == f.name })
		if f.far != "" || taken || many && (f.list || f.json) {
			continue
		}
		many = many || f.list || f.json
		ix.Fields = append(ix.Fields, schema.IndexField{Name: f.name, Descending: rapid.Bool().Draw(t, "descending")})
	}
	if len(ix.Fields) == 0 {
		ix.Fields = []schema.IndexField{{Name: "_docID"}}
	}
	return ix
}

func indexText(ix schema.Index) string {
	var columns []string
	for _, c := range ix.Fields {
		columns = append(columns, fmt.Sprintf("{field: %q, direction: %s}", c.Name, map[bool]string{false: "ASC", true: "DESC"}[c.Descending]))
	}
	return " @index(includes: [" + strings.Join(columns, ", ") + "])"
}

// sdl writes the schema.
func (w *world) sdl(indexed bool) string {
	var b strings.Builder
	for _, typ := range w.types {
		b.WriteString("type " + typ.name)
		if indexed {
			for _, ix := range typ.indexes {
				b.WriteString(indexText(ix))
			}
		}
		b.WriteString(" {\n")
		for _, f := range typ.fields {
			switch {
			case f.to == nil:
				fmt.Fprintf(&b, "  %s: %s\n", f.name, f.kind)
			case f.many:
				fmt.Fprintf(&b, "  %s: [%s] @relation(name: %q)\n", f.name, f.to.name, f.name[1:]+"rel")
			case f.far != "":
				fmt.Fprintf(&b, "  %s: %s @relation(name: %q)\n", f.name, f.to.name, f.name[1:]+"rel")
			case w.paired(f):
				fmt.Fprintf(&b, "  %s: %s @primary @relation(name: %q)\n", f.name, f.to.name, f.name[1:]+"rel")
			default:
				fmt.Fprintf(&b, "  %s: %s @relation(name: %q)\n", f.name, f.to.name, f.name[1:]+"rel")
			}
		}
		b.WriteString("}\n")
	}
	return strings.ReplaceAll(b.String(), `name: "`, `name: "r`)
}

// paired reports whether a stored relation is one to one.
func (w *world) paired(f *naiveField) bool {
	for _, b := range f.to.fields {
		if b.far == f.name && !b.many {
			return true
		}
	}
	return false
}

// drawJSON draws any JSON value.
func drawJSON(t *rapid.T, depth int) any {
	kind := rapid.IntRange(0, 7).Draw(t, "json")
	if depth == 0 && kind > 4 {
		kind -= 3
	}
	switch kind {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.SampledFrom([]any{int64(0), int64(1), int64(2), 1.5}).Draw(t, "number")
	case 3, 4:
		return rapid.SampledFrom([]any{"", "x", "y", "xy"}).Draw(t, "text")
	case 5:
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "n") {
			list = append(list, drawJSON(t, depth-1))
		}
		return list
	}
	object := map[string]any{}
	for _, k := range []string{"a", "b"} {
		if rapid.Bool().Draw(t, k) {
			object[k] = drawJSON(t, depth-1)
		}
	}
	return object
}

// drawValue draws what a document holds in a field, or an operand for it.
func drawValue(t *rapid.T, kind string, json bool) any {
	if json {
		return drawJSON(t, 2)
	}
	if rapid.IntRange(0, 4).Draw(t, "null") == 0 {
		return nil
	}
	return rapid.SampledFrom(pools[kind]).Draw(t, kind)
}

func drawField(t *rapid.T, f *naiveField) any {
	if !f.list {
		return drawValue(t, f.elem(), f.json)
	}
	if rapid.IntRange(0, 4).Draw(t, "null list") == 0 {
		return nil
	}
	list := []any{}
	for range rapid.IntRange(0, 3).Draw(t, "n") {
		e := drawValue(t, f.elem(), false)
		if e == nil && strings.HasSuffix(f.kind, "!]") {
			continue
		}
		list = append(list, e)
	}
	return list
}

// stored is what a field of that kind holds of a value in a request.
func stored(kind string, v any) any {
	if kind == "JSON" {
		return v
	}
	return operandOf(kind, v)
}

// drawLink draws a document that a relation may lead to, or nil.
func (w *world) drawLink(t *rapid.T, f *naiveField) any {
	if len(f.to.docs) == 0 || rapid.IntRange(0, 3).Draw(t, "no link") == 0 {
		return nil
	}
	id := rapid.SampledFrom(f.to.docs).Draw(t, f.name).id
	if w.paired(f) {
		place := f.name + string(id)
		if w.taken[place] {
			return nil
		}
		w.taken[place] = true
	}
	return id
}

// change draws a change of the documents, makes it here, and returns the mutation. A
// document that is created gets its docID from the answer; touched are the others that
// the answer tells of.
func (w *world) change(t *rapid.T) (text string, made *naiveDoc, touched []*naiveDoc) {
	typ := rapid.SampledFrom(w.types).Draw(t, "type")
	var alive []*naiveDoc
	for _, d := range typ.docs {
		if !d.deleted {
			alive = append(alive, d)
		}
	}
	what := rapid.IntRange(0, 11).Draw(t, "change")
	if what < 7 || len(alive) == 0 {
		d := &naiveDoc{typ: typ, values: map[string]any{"n": int64(w.next)}}
		input := map[string]any{"n": int64(w.next)}
		w.next++
		w.set(t, []*naiveDoc{d}, input, 5)
		return fmt.Sprintf("mutation { x: create_%s(input: %s) { _docID } }", typ.name, literal(input)), d, nil
	}
	touched = []*naiveDoc{rapid.SampledFrom(alive).Draw(t, "document")}
	which := fmt.Sprintf("docID: %q", touched[0].id)
	if what < 9 {
		// The second part holds always; without it, a filter that does is refused.
		filter := map[string]any{"_and": []any{w.drawFilter(t, typ, 2), map[string]any{"n": map[string]any{"_ge": int64(0)}}}}
		which, touched = "filter: "+literal(filter), nil
		for _, d := range alive {
			if d.meets(typ, filter, false) {
				touched = append(touched, d)
			}
		}
	}
	if what == 8 && len(touched) < 5 || what == 11 {
		for _, d := range touched {
			d.deleted = true
		}
		return fmt.Sprintf("mutation { x: delete_%s(%s) { _docID } }", typ.name, which), nil, touched
	}
	input := map[string]any{}
	w.set(t, touched, input, 2)
	return fmt.Sprintf("mutation { x: update_%s(%s, input: %s) { _docID } }", typ.name, which, literal(input)), nil, touched
}

// set draws values for some fields, of five the given number.
func (w *world) set(t *rapid.T, docs []*naiveDoc, input map[string]any, often int) {
	if len(docs) == 0 {
		return
	}
	for _, f := range docs[0].typ.fields {
		if f.name == "n" || f.far != "" || rapid.IntRange(1, 5).Draw(t, "set") > often {
			continue
		}
		v := any(nil)
		switch {
		case f.to == nil:
			v = drawField(t, f)
		case len(docs) == 1 || !w.paired(f): // or two would have one link
			v = w.drawLink(t, f)
		}
		input[f.name] = v
		for _, d := range docs {
			d.values[f.name] = stored(f.elem(), v)
			if id, ok := v.(docID); ok {
				d.values[f.name] = id
			}
		}
	}
}

// insert takes a document in, at its place in the order.
func (w *world) insert(d *naiveDoc) {
	at, _ := slices.BinarySearchFunc(d.typ.docs, d, func(a, b *naiveDoc) int { return naiveCompare(a.id, b.id) })
	d.typ.docs = slices.Insert(d.typ.docs, at, d)
}

// drawFilter draws a filter over documents of a type.
func (w *world) drawFilter(t *rapid.T, typ *naiveType, depth int) map[string]any {
	filter := map[string]any{}
	for range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "members") {
		kind := rapid.IntRange(0, 9).Draw(t, "member")
		switch {
		case depth > 0 && kind == 0:
			filter["_not"] = w.drawFilter(t, typ, depth-1)
		case depth > 0 && kind <= 2:
			list := []any{}
			for range rapid.IntRange(0, 3).Draw(t, "n") {
				list = append(list, w.drawFilter(t, typ, depth-1))
			}
			filter[[]string{"_and", "_or"}[kind-1]] = list
		case kind == 3:
			filter["_docID"] = w.drawIDBlock(t, typ)
		default:
			w.drawCondition(t, typ, filter, depth)
		}
	}
	return filter
}

func (w *world) drawCondition(t *rapid.T, typ *naiveType, filter map[string]any, depth int) {
	f := rapid.SampledFrom(typ.fields).Draw(t, "field")
	switch {
	case rapid.IntRange(0, 14).Draw(t, "null") == 0:
		filter[f.name] = nil
	case f.to != nil && !f.many && (depth == 0 || rapid.Bool().Draw(t, "id")):
		filter[f.name+"_id"] = w.drawIDBlock(t, f.to)
	case f.to != nil:
		filter[f.name] = w.drawFilter(t, f.to, max(depth-1, 0))
	case f.json:
		filter[f.name] = drawJSONFilter(t, 3)
	case f.list:
		op := rapid.SampledFrom([]string{"_any", "_all", "_none"}).Draw(t, "quantifier")
		filter[f.name] = map[string]any{op: drawBlock(t, f.elem(), !strings.HasSuffix(f.kind, "!]"))}
	default:
		filter[f.name] = drawBlock(t, f.elem(), true)
	}
}

// drawIDBlock draws conditions on docIDs of a type.
func (w *world) drawIDBlock(t *rapid.T, typ *naiveType) map[string]any {
	one := func() any {
		if len(typ.docs) == 0 || rapid.IntRange(0, 3).Draw(t, "other") == 0 {
			return rapid.SampledFrom([]any{nil, "nonsense"}).Draw(t, "no docID")
		}
		return string(rapid.SampledFrom(typ.docs).Draw(t, "docID").id)
	}
	switch op := rapid.SampledFrom([]string{"_eq", "_eq", "_ne", "_in", "_nin"}).Draw(t, "op"); op {
	case "_in", "_nin":
		list := []any{}
		for range rapid.IntRange(0, 4).Draw(t, "n") {
			list = append(list, one())
		}
		return map[string]any{op: list}
	default:
		return map[string]any{op: one()}
	}
}

// drawBlock draws the operators on a value. Elements that cannot be null are not
// compared with null.
func drawBlock(t *rapid.T, kind string, nullable bool) map[string]any {
	operand := func() any {
		v := drawValue(t, kind, false)
		if v == nil && !nullable {
			return pools[kind][0]
		}
		return v
	}
	ops := []string{"_eq", "_ne", "_in", "_nin"}
	switch kind {
	case "String":
		ops = append(ops, "_like", "_nlike", "_ilike", "_nilike")
	case "Int", "Float", "Float32", "DateTime":
		ops = append(ops, "_gt", "_ge", "_lt", "_le")
	}
	block := map[string]any{}
	for range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "operators") {
		op := rapid.SampledFrom(ops).Draw(t, "op")
		switch {
		case strings.HasSuffix(op, "in"):
			list := []any{}
			for range rapid.SampledFrom([]int{0, 1, 2, 3, 10}).Draw(t, "n") {
				list = append(list, operand())
			}
			block[op] = list
		case strings.HasSuffix(op, "like"):
			block[op] = patterns.Draw(t, "pattern")
		default:
			block[op] = operand()
		}
	}
	return block
}

// drawJSONFilter draws a condition on JSON.
func drawJSONFilter(t *rapid.T, depth int) any {
	block := map[string]any{}
	for range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "members") {
		kind := rapid.IntRange(0, 11).Draw(t, "member")
		if depth == 0 && kind > 4 {
			kind -= 7
		}
		switch {
		case kind <= 1:
			block[rapid.SampledFrom([]string{"_eq", "_ne"}).Draw(t, "op")] = drawJSON(t, 2)
		case kind == 2:
			v := rapid.SampledFrom([]any{nil, int64(0), int64(1), 1.5, 1.0, "x", "", true}).Draw(t, "operand")
			block[rapid.SampledFrom([]string{"_gt", "_ge", "_lt", "_le"}).Draw(t, "op")] = v
		case kind == 3:
			list := []any{}
			for range rapid.SampledFrom([]int{0, 1, 2, 9}).Draw(t, "n") {
				list = append(list, drawJSON(t, 1))
			}
			block[rapid.SampledFrom([]string{"_in", "_nin"}).Draw(t, "op")] = list
		case kind == 4:
			block[rapid.SampledFrom([]string{"_like", "_nlike", "_ilike", "_nilike"}).Draw(t, "op")] = rapid.SampledFrom([]any{"%", "x%", "%Y", "%", ""}).Draw(t, "pattern")
		case kind == 5:
			block[rapid.SampledFrom([]string{"_any", "_all", "_none"}).Draw(t, "op")] = drawJSONFilter(t, depth-1)
		case kind == 6:
			block["_not"] = drawJSONFilter(t, depth-1)
		case kind == 7:
			list := []any{}
			for range rapid.IntRange(0, 2).Draw(t, "n") {
				list = append(list, drawJSONFilter(t, depth-1))
			}
			block[rapid.SampledFrom([]string{"_and", "_or"}).Draw(t, "op")] = list
		case kind == 8:
			block[rapid.SampledFrom([]string{"a", "b"}).Draw(t, "step")] = drawJSON(t, 0) // shorthand
		default:
			block[rapid.SampledFrom([]string{"a", "b"}).Draw(t, "step")] = drawJSONFilter(t, depth-1)
		}
	}
	return block
}

// drawOrder draws keys, over single relations too.
func (w *world) drawOrder(t *rapid.T, typ *naiveType) (keys []naiveKey) {
	for range rapid.SampledFrom([]int{0, 0, 1, 1, 2, 3}).Draw(t, "keys") {
		k := naiveKey{desc: rapid.Bool().Draw(t, "desc")}
		at := typ
		for at != nil {
			var names []string
			for _, f := range at.fields {
				switch {
				case f.to == nil && !f.json:
					names = append(names, f.name)
				case f.to != nil && !f.many:
					names = append(names, f.name+"_id")
					if len(k.path) < 3 {
						names = append(names, f.name)
					}
				}
			}
			names = append(names, "_docID")
			name := rapid.SampledFrom(names).Draw(t, "by")
			k.path = append(k.path, name)
			f := at.field(name)
			if at = nil; f != nil {
				at = f.to
			}
		}
		keys = append(keys, k)
	}
	return keys
}

// drawArgs draws the arguments of a list.
func (w *world) drawArgs(t *rapid.T, typ *naiveType) (a naiveArgs) {
	if rapid.IntRange(0, 5).Draw(t, "by docID") == 0 {
		ids := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "n") {
			id := any("nonsense")
			if len(typ.docs) > 0 {
				id = string(rapid.SampledFrom(typ.docs).Draw(t, "docID").id)
			}
			ids = append(ids, id)
		}
		if a.docID = any(ids); len(ids) == 1 {
			a.docID = ids[0]
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "filter") > 0 {
		a.filter = w.drawFilter(t, typ, 2)
	}
	a.order = w.drawOrder(t, typ)
	if rapid.IntRange(0, 2).Draw(t, "limited") == 0 {
		a.limit = rapid.SampledFrom([]any{-1, 0, 1, 2, 3, 7, 100}).Draw(t, "limit")
	}
	if rapid.IntRange(0, 3).Draw(t, "skips") == 0 {
		a.offset = rapid.SampledFrom([]any{-1, 0, 1, 2, 5, 100}).Draw(t, "offset")
	}
	return a
}

// drawSelection draws what is read of documents of a type.
func (w *world) drawSelection(t *rapid.T, typ *naiveType, depth int) []naiveSelection {
	sel := []naiveSelection{{key: "n", name: "n"}}
	for i := range rapid.IntRange(0, 4).Draw(t, "selected") {
		s := naiveSelection{key: fmt.Sprintf("k%d", i)}
		if rapid.IntRange(0, 3).Draw(t, "aggregate") == 0 {
			if s.agg = w.drawAggregate(t, typ.hosts()); s.agg != nil {
				s.name = s.agg.name
				sel = append(sel, s)
				continue
			}
		}
		f := rapid.SampledFrom(typ.fields).Draw(t, "field")
		switch {
		case f.to != nil && depth > 0 && f.many && rapid.IntRange(0, 3).Draw(t, "grouped") == 0:
			s.name, s.field = f.name, f
			w.drawGroups(t, f.to, &s.args, &s.inner, depth-1)
		case f.to != nil && depth > 0:
			s.name, s.field = f.name, f
			if f.many {
				s.args = w.drawArgs(t, f.to)
			} else if rapid.Bool().Draw(t, "filter") {
				s.args.filter = w.drawFilter(t, f.to, 1)
			}
			s.inner = w.drawSelection(t, f.to, depth-1)
			if f.many {
				s.args.drawAliases(t, s.inner)
			}
		case f.to != nil && !f.many:
			s.name = f.name + "_id"
		case f.to == nil && rapid.IntRange(0, 4).Draw(t, "special") > 0:
			s.name = f.name
		default:
			s.name = rapid.SampledFrom([]string{"_docID", "_deleted", "__typename"}).Draw(t, "special")
		}
		sel = append(sel, s)
	}
	return sel
}

// arguments writes arguments as in a request, with parentheses, unless there are none.
func (a *naiveArgs) arguments() string {
	var parts []string
	if a.docID != nil {
		parts = append(parts, "docID: "+literal(a.docID))
	}
	if a.groupBy != nil {
		parts = append(parts, "groupBy: ["+strings.Join(a.groupBy, ", ")+"]")
	}
	if f := a.wholeFilter(); f != nil {
		parts = append(parts, "filter: "+literal(f))
	}
	if a.order != nil {
		parts = append(parts, "order: "+literal(orderValue(a.order)))
	}
	if a.limit != nil {
		parts = append(parts, fmt.Sprintf("limit: %d", a.limit))
	}
	if a.offset != nil {
		parts = append(parts, fmt.Sprintf("offset: %d", a.offset))
	}
	if a.asOf != "" {
		parts = append(parts, fmt.Sprintf("asOf: %q", a.asOf))
	}
	if a.deleted {
		parts = append(parts, "showDeleted: true")
	}
	if len(parts) == 0 {
		return ""
	}
	return "(" + strings.Join(parts, ", ") + ")"
}

type enum string

func orderValue(keys []naiveKey) any {
	list := []any{}
	for _, k := range keys {
		var v any = enum("ASC")
		if k.desc {
			v = enum("DESC")
		}
		for _, step := range slices.Backward(k.path) {
			v = map[string]any{step: v}
		}
		list = append(list, v)
	}
	return list
}

func selectionText(sel []naiveSelection) string {
	var b strings.Builder
	b.WriteString("{")
	for _, s := range sel {
		b.WriteString(" ")
		if s.key != s.name {
			b.WriteString(s.key + ": ")
		}
		b.WriteString(s.name)
		if s.agg != nil {
			b.WriteString(s.agg.arguments())
		}
		if s.field != nil || s.name == "_group" {
			b.WriteString(s.args.arguments() + " " + selectionText(s.inner))
		}
	}
	return b.String() + " }"
}

// literal writes a value as GraphQL does.
func literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case enum:
		return string(v)
	case string, docID:
		b, err := json.Marshal(fmt.Sprint(v))
		if err != nil {
			panic(err)
		}
		return string(b)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = literal(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, k+": "+literal(v[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(v)
}

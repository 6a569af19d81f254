package query

import (
	"bytes"
	"cmp"
	"encoding/base32"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/pandodb/pando/internal/schema"
)

// The naive evaluator answers requests over plain Go values, by the tables of the
// dialect, as slowly as it likes, and shares no code with the package. Values are
// nil, bool, int64, float64 (float32 for Float32), string, moment, []any,
// map[string]any, and docID.

// moment is a DateTime with the text that was given.
type moment struct {
	at   time.Time
	text string
}

// docID is the text of a docID as the database made it.
type docID string

// bytesOf returns what docIDs are ordered by: the alphabet of base32 has another order.
func (id docID) bytesOf() []byte {
	b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(string(id)[1:]))
	if err != nil {
		panic(err)
	}
	return b
}

// naiveField is a field of a type of the world.
type naiveField struct {
	name string
	kind string // as in the schema: Int, [Int!], …; "" for relations
	json bool
	list bool

	to   *naiveType // of a relation
	many bool       // the far side is a list
	far  string     // the field of the other side that holds the link, if this one does not
}

func (f *naiveField) elem() string { return strings.Trim(f.kind, "[]!") }

type naiveType struct {
	name    string
	fields  []*naiveField  // without _docID
	indexes []schema.Index // for databases that have indexes
	docs    []*naiveDoc    // in docID order
}

func (t *naiveType) field(name string) *naiveField {
	for _, f := range t.fields {
		if f.name == name {
			return f
		}
	}
	return nil
}

type naiveDoc struct {
	typ     *naiveType
	id      docID
	values  map[string]any // links under the name of their relation, as docID
	deleted bool
}

// get returns the value of a scalar field, of _docID, or of the id of a relation.
func (d *naiveDoc) get(name string, deleted bool) any {
	if d == nil {
		return nil
	}
	if name == "_docID" {
		return d.id
	}
	if f := d.typ.field(name); f != nil {
		return d.values[name]
	}
	f := d.typ.field(strings.TrimSuffix(name, "_id"))
	if f.far == "" {
		return d.values[f.name]
	}
	if far := d.follow(f, deleted); len(far) > 0 {
		return far[0].id
	}
	return nil
}

// follow returns the documents that a relation leads to.
func (d *naiveDoc) follow(f *naiveField, deleted bool) (to []*naiveDoc) {
	if d == nil {
		return nil
	}
	for _, o := range f.to.docs {
		if o.deleted && !deleted {
			continue
		}
		if f.far == "" && d.values[f.name] == o.id || f.far != "" && o.values[f.far] == d.id {
			to = append(to, o)
		}
	}
	return to
}

// meets evaluates a filter on a document, or on the null where a relation leads nowhere.
func (d *naiveDoc) meets(t *naiveType, filter any, deleted bool) bool {
	if filter == nil {
		return true
	}
	for name, v := range filter.(map[string]any) {
		var ok bool
		switch name {
		case "_and", "_or":
			ok = v == nil || name == "_and"
			if v != nil {
				for _, f := range v.([]any) {
					if one := d.meets(t, f, deleted); name == "_and" {
						ok = ok && one
					} else {
						ok = ok || one
					}
				}
			}
		case "_not":
			ok = v == nil || !d.meets(t, v, deleted)
		default:
			ok = d.condition(t, name, v, deleted)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (d *naiveDoc) condition(t *naiveType, name string, v any, deleted bool) bool {
	f := t.field(name)
	if f != nil && f.to != nil {
		related := d.follow(f, deleted)
		if v == nil {
			return len(related) == 0
		}
		if !f.many {
			if len(related) == 0 {
				return (*naiveDoc)(nil).meets(f.to, v, deleted)
			}
			return related[0].meets(f.to, v, deleted)
		}
		return slices.ContainsFunc(related, func(o *naiveDoc) bool { return o.meets(f.to, v, deleted) })
	}
	kind := "ID"
	if f != nil {
		kind = f.elem()
	}
	datum := d.get(name, deleted)
	switch {
	case f != nil && f.json:
		return jsonMeets(datum, false, v)
	case v == nil:
		return datum == nil
	case f == nil || !f.list:
		return blockMeets(kind, datum, v)
	}
	for op, block := range v.(map[string]any) {
		list, ok := datum.([]any)
		if !ok || !quantified(op, list, func(e any) bool { return blockMeets(kind, e, block) }) {
			return false
		}
	}
	return true
}

func quantified(op string, list []any, holds func(any) bool) bool {
	n := 0
	for _, e := range list {
		if holds(e) {
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

func blockMeets(kind string, d, block any) bool {
	if block == nil {
		return d == nil
	}
	for op, v := range block.(map[string]any) {
		if !naiveHolds(op, d, operandOf(kind, v)) {
			return false
		}
	}
	return true
}

// operandOf makes of an operand in a request what a field of that kind would hold.
func operandOf(kind string, v any) any {
	switch x := v.(type) {
	case []any:
		all := []any{}
		for _, e := range x {
			all = append(all, operandOf(kind, e))
		}
		return all
	case string:
		switch kind {
		case "DateTime":
			at, err := time.Parse(time.RFC3339Nano, x)
			if err != nil {
				panic(err)
			}
			return moment{at, x}
		case "Blob":
			return strings.ToLower(x)
		}
	case docID:
		return string(x)
	case float64:
		if kind == "Float32" {
			return float32(x)
		}
	}
	return v
}

// naiveHolds is the table of conditions against null.
func naiveHolds(op string, d, v any) bool {
	if id, ok := d.(docID); ok {
		d = string(id)
	}
	switch op {
	case "_ne":
		return !naiveHolds("_eq", d, v)
	case "_nin":
		return !naiveHolds("_in", d, v)
	case "_nlike":
		return !naiveHolds("_like", d, v)
	case "_nilike":
		return !naiveHolds("_ilike", d, v)
	case "_in":
		return slices.ContainsFunc(v.([]any), func(e any) bool { return naiveHolds("_eq", d, e) })
	case "_like", "_ilike":
		s, ok := d.(string)
		if op == "_ilike" {
			return ok && likeOracle(strings.ToLower(s), strings.ToLower(v.(string)))
		}
		return ok && likeOracle(s, v.(string))
	case "_eq":
		return naiveEqual(d, v)
	}
	switch {
	case d == nil && v == nil:
		return op == "_ge" || op == "_le"
	case d == nil:
		return false
	case v == nil:
		return op == "_gt" || op == "_ge"
	case rankOf(d) != rankOf(v):
		return false
	}
	c := naiveCompare(d, v)
	return op == "_gt" && c > 0 || op == "_ge" && c >= 0 || op == "_lt" && c < 0 || op == "_le" && c <= 0
}

func naiveEqual(a, b any) bool {
	if rankOf(a) != rankOf(b) {
		return false
	}
	switch a := a.(type) {
	case map[string]any:
		return maps.EqualFunc(a, b.(map[string]any), naiveEqual)
	case []any:
		return slices.EqualFunc(a, b.([]any), naiveEqual)
	}
	return naiveCompare(a, b) == 0
}

// rankOf is the place of a sort of values in an order.
func rankOf(v any) int {
	switch v.(type) {
	case nil:
		return 0
	case bool:
		return 1
	case int64, float64, float32, mean:
		return 2
	case string, docID:
		return 3
	case moment:
		return 4
	case []any:
		return 5
	}
	return 6
}

// naiveCompare orders values, null first, and sorts of values by rank.
func naiveCompare(a, b any) int {
	if c := cmp.Compare(rankOf(a), rankOf(b)); c != 0 {
		return c
	}
	switch a := a.(type) {
	case nil:
		return 0
	case bool:
		return map[bool]int{true: 1}[a] - map[bool]int{true: 1}[b.(bool)]
	case string:
		return strings.Compare(a, fmt.Sprint(b))
	case docID:
		return bytes.Compare(a.bytesOf(), b.(docID).bytesOf())
	case moment:
		return a.at.Compare(b.(moment).at)
	case []any:
		return slices.CompareFunc(a, b.([]any), naiveCompare)
	case map[string]any:
		panic("objects are in no order that the dialect knows")
	}
	return exact(a).Cmp(exact(b)) // no rounding between integers and floats
}

func exact(v any) *big.Float {
	f := new(big.Float).SetPrec(200)
	switch v := v.(type) {
	case int64:
		return f.SetInt64(v)
	case float32:
		return f.SetFloat64(float64(v))
	case mean:
		return f.SetFloat64(float64(v))
	case overflow: // there will be an error instead of an answer
		return f
	}
	return f.SetFloat64(v.(float64))
}

// jsonMeets evaluates a condition on JSON; missing says that a path led to no member.
func jsonMeets(d any, missing bool, cond any) bool {
	block, isBlock := cond.(map[string]any)
	if !isBlock {
		return naiveEqual(d, cond)
	}
	for name, v := range block {
		var ok bool
		switch name {
		case "_and", "_or":
			ok = name == "_and"
			for _, c := range v.([]any) {
				if one := jsonMeets(d, missing, c); name == "_and" {
					ok = ok && one
				} else {
					ok = ok || one
				}
			}
		case "_not":
			ok = !jsonMeets(d, missing, v)
		case "_any", "_all", "_none":
			list, isList := d.([]any)
			ok = isList && quantified(name, list, func(e any) bool { return jsonMeets(e, false, v) })
		case "_ne":
			ok = !missing && naiveHolds(name, d, v)
		default:
			if strings.HasPrefix(name, "_") {
				ok = naiveHolds(name, d, v)
				break
			}
			ok = jsonPath(d, missing, name, v)
		}
		if !ok {
			return false
		}
	}
	return true
}

func jsonPath(d any, missing bool, name string, cond any) bool {
	if asksNothingOf(cond) {
		return true
	}
	if d == nil {
		return jsonMeets(nil, missing, cond)
	}
	object, ok := d.(map[string]any)
	if !ok {
		return false
	}
	v, ok := object[name]
	return jsonMeets(v, !ok, cond)
}

// asksNothingOf reports whether a path ends without any operator.
func asksNothingOf(cond any) bool {
	block, ok := cond.(map[string]any)
	for name, v := range block {
		ok = ok && !strings.HasPrefix(name, "_") && asksNothingOf(v)
	}
	return ok
}

// naiveKey is one key of an order: a path over single relations to a field.
type naiveKey struct {
	path []string
	desc bool
}

func (d *naiveDoc) at(t *naiveType, path []string, deleted bool) any {
	if len(path) == 1 {
		return d.get(path[0], deleted)
	}
	f := t.field(path[0])
	var next *naiveDoc
	if related := d.follow(f, deleted); len(related) > 0 {
		next = related[0]
	}
	return next.at(f.to, path[1:], deleted)
}

// naiveArgs are the arguments of a list of documents. Absent ones are nil.
type naiveArgs struct {
	docID   any // text or list
	filter  any
	order   []naiveKey
	limit   any
	offset  any
	deleted bool   // showDeleted of the root
	asOf    string // of the root

	aliases map[string]any // conditions on what is selected
	groupBy []string       // nil: no groups
}

// rows answers a list of documents, or of groups of them.
func (a *naiveArgs) rows(t *naiveType, docs []*naiveDoc, sel []naiveSelection) []any {
	var units [][]*naiveDoc // what makes a row
	for _, d := range docs {
		if d.deleted && !a.deleted || !a.named(d) || !d.meets(t, a.filter, a.deleted) {
			continue
		}
		i := -1
		if a.groupBy != nil {
			i = slices.IndexFunc(units, func(u []*naiveDoc) bool { return a.alike(u[0], d) })
		}
		if i < 0 {
			units = append(units, []*naiveDoc{d})
		} else {
			units[i] = append(units[i], d)
		}
	}
	type row struct {
		unit   []*naiveDoc
		answer map[string]any
	}
	var found []row
	for _, u := range units {
		r := row{u, a.answer(u, sel)}
		if a.meetsAliases(r.answer) {
			found = append(found, r)
		}
	}
	slices.SortStableFunc(found, func(x, y row) int {
		for _, k := range a.order {
			var c int
			if k.path[0] == "_alias" {
				c = naiveCompare(x.answer[k.path[1]], y.answer[k.path[1]])
			} else {
				c = naiveCompare(x.unit[0].at(t, k.path, a.deleted), y.unit[0].at(t, k.path, a.deleted))
			}
			if k.desc {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
	rows := []any{}
	for _, r := range window(found, a.limit, a.offset) {
		rows = append(rows, r.answer)
	}
	return rows
}

// window applies limit and offset.
func window[T any](all []T, limit, offset any) []T {
	if n, ok := offset.(int); ok {
		if n < 0 {
			return nil
		}
		all = all[min(n, len(all)):]
	}
	if n, ok := limit.(int); ok && n > 0 {
		all = all[:min(n, len(all))]
	}
	return all
}

// alike reports whether two documents are of one group.
func (a *naiveArgs) alike(x, y *naiveDoc) bool {
	for _, name := range a.groupBy {
		if f := x.typ.field(name); f != nil && f.to != nil {
			name += "_id"
		}
		if naiveCompare(x.get(name, a.deleted), y.get(name, a.deleted)) != 0 {
			return false
		}
	}
	return true
}

// answer returns the row of a document or of a group.
func (a *naiveArgs) answer(unit []*naiveDoc, sel []naiveSelection) map[string]any {
	if a.groupBy == nil {
		return unit[0].answer(sel, a.deleted)
	}
	out := map[string]any{}
	for _, s := range sel {
		switch {
		case s.name == "_group":
			args := s.args
			args.deleted = a.deleted
			out[s.key] = args.rows(unit[0].typ, unit, s.inner)
		case s.agg != nil:
			out[s.key] = s.agg.of(func(naiveHost) []*naiveDoc { return unit }, nil, a.deleted)
		default:
			maps.Copy(out, unit[0].answer([]naiveSelection{s}, a.deleted))
		}
	}
	return out
}

func (a *naiveArgs) meetsAliases(answer map[string]any) bool {
	for key, block := range a.aliases {
		for op, v := range block.(map[string]any) {
			d := answer[key]
			if f, ok := d.(mean); ok {
				d = float64(f)
			}
			if !naiveHolds(op, d, v) {
				return false
			}
		}
	}
	return true
}

// wholeFilter is the filter with the conditions on aliases.
func (a *naiveArgs) wholeFilter() any {
	if a.aliases == nil {
		return a.filter
	}
	whole := map[string]any{"_alias": a.aliases}
	if f, ok := a.filter.(map[string]any); ok {
		maps.Copy(whole, f)
	}
	return whole
}

func (a *naiveArgs) named(d *naiveDoc) bool {
	switch ids := a.docID.(type) {
	case string:
		return ids == string(d.id)
	case []any:
		return slices.Contains(ids, any(string(d.id)))
	}
	return true
}

// naiveSelection is a field of a request with its arguments.
type naiveSelection struct {
	key   string // in the answer
	name  string
	field *naiveField // of a relation
	args  naiveArgs
	inner []naiveSelection
	agg   *naiveAggregate
}

// answer returns what the selections say of a document.
func (d *naiveDoc) answer(sel []naiveSelection, deleted bool) map[string]any {
	out := map[string]any{}
	for _, s := range sel {
		switch {
		case s.name == "__typename":
			out[s.key] = d.typ.name
		case s.name == "_deleted":
			out[s.key] = d.deleted
		case s.agg != nil:
			out[s.key] = s.agg.of(func(h naiveHost) []*naiveDoc { return d.follow(h.field, deleted) }, d, deleted)
		case s.field == nil:
			out[s.key] = d.get(s.name, deleted)
		case s.field.many:
			args := s.args
			args.deleted = deleted
			out[s.key] = args.rows(s.field.to, d.follow(s.field, deleted), s.inner)
		default:
			out[s.key] = nil
			if related := d.follow(s.field, deleted); len(related) > 0 && related[0].meets(s.field.to, s.args.filter, deleted) {
				out[s.key] = related[0].answer(s.inner, deleted)
			}
		}
	}
	return out
}

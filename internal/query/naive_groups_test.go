package query

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"

	"pgregory.net/rapid"
)

// naiveHost is what an aggregate is over: documents, or the elements of a list.
type naiveHost struct {
	name  string
	typ   *naiveType  // of the documents
	field *naiveField // a relation, or a list
	args  naiveArgs   // filter, order, limit, offset; of a list, the filter is a block
	desc  any         // order of a list, bool
	of    string      // the field of the documents
}

type naiveAggregate struct {
	name  string // _count …
	hosts []naiveHost
}

// mean is a number that is rounded somewhere.
type mean float64

// overflow is the answer of a sum that does not fit, and overflown how many there were,
// also in rows that are not in the answer.
type overflow struct{}

var overflown int

// asking is held while somebody counts.
var asking sync.Mutex

// of computes the aggregate over what the hosts have.
func (g *naiveAggregate) of(docs func(naiveHost) []*naiveDoc, d *naiveDoc, deleted bool) any {
	var all []any
	for _, h := range g.hosts {
		if h.typ == nil { // a list of a document
			list, _ := d.values[h.name].([]any)
			all = append(all, h.elements(list)...)
			continue
		}
		args := h.args
		args.deleted = deleted
		for _, row := range args.rows(h.typ, docs(h), h.selection()) {
			all = append(all, row.(map[string]any)["v"])
		}
	}
	if g.name == "_count" {
		return int64(len(all))
	}
	return summary(g.name, all)
}

func (h naiveHost) selection() []naiveSelection {
	if h.of == "" {
		return nil
	}
	return []naiveSelection{{key: "v", name: h.of}}
}

func (h naiveHost) elements(list []any) []any {
	var all []any
	for _, e := range list {
		if h.args.filter == nil || blockMeets(h.field.elem(), e, h.args.filter) {
			all = append(all, e)
		}
	}
	if h.desc != nil {
		slices.SortStableFunc(all, func(a, b any) int {
			if h.desc == true {
				return naiveCompare(b, a)
			}
			return naiveCompare(a, b)
		})
	}
	return window(all, h.args.limit, h.args.offset)
}

// summary is what an aggregate says of values.
func summary(name string, all []any) any {
	all = slices.DeleteFunc(all, func(v any) bool { return v == nil })
	switch name {
	case "_min", "_max":
		var best any
		for _, v := range all {
			if c := naiveCompare(v, best); best == nil || name == "_min" && c < 0 || name == "_max" && c > 0 {
				best = v
			}
		}
		return best
	}
	sum, whole := new(big.Float).SetPrec(300), true
	for _, v := range all {
		sum.Add(sum, exact(v))
		_, isInt := v.(int64)
		whole = whole && isInt
	}
	switch {
	case name == "_avg" && len(all) == 0:
		return mean(0)
	case name == "_avg":
		f, _ := sum.Quo(sum, big.NewFloat(float64(len(all)))).Float64()
		return mean(f)
	case !whole:
		f, _ := sum.Float64()
		return mean(f)
	}
	i, accuracy := sum.Int64()
	if accuracy != big.Exact {
		overflown++
		return overflow{}
	}
	return i
}

// overflows reports whether an answer has a sum in it that does not fit.
func overflows(v any) bool {
	switch v := v.(type) {
	case overflow:
		return true
	case []any:
		return slices.ContainsFunc(v, overflows)
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), overflows)
	}
	return false
}

// hosts returns what aggregates on a document may be over.
func (t *naiveType) hosts() (hosts []naiveHost) {
	for _, f := range t.fields {
		switch {
		case f.many:
			hosts = append(hosts, naiveHost{name: f.name, typ: f.to, field: f})
		case f.list:
			hosts = append(hosts, naiveHost{name: f.name, field: f})
		}
	}
	return hosts
}

func numeric(kind string) bool { return kind == "Int" || strings.HasPrefix(kind, "Float") }

// drawAggregate draws an aggregate over one or two hosts, nil if there are none.
func (w *world) drawAggregate(t *rapid.T, hosts []naiveHost) *naiveAggregate {
	g := &naiveAggregate{name: rapid.SampledFrom([]string{"_count", "_count", "_sum", "_avg", "_min", "_max"}).Draw(t, "of")}
	hosts = slices.DeleteFunc(hosts, func(h naiveHost) bool {
		return g.name != "_count" && h.typ == nil && !numeric(h.field.elem())
	})
	for range rapid.SampledFrom([]int{1, 1, 2}).Draw(t, "hosts") {
		if len(hosts) == 0 {
			break
		}
		i := rapid.IntRange(0, len(hosts)-1).Draw(t, "host")
		g.hosts = append(g.hosts, w.drawSelector(t, hosts[i], g.name != "_count"))
		hosts = slices.Delete(hosts, i, i+1)
	}
	if len(g.hosts) == 0 {
		return nil
	}
	return g
}

func (w *world) drawSelector(t *rapid.T, h naiveHost, ordered bool) naiveHost {
	if h.typ == nil {
		if rapid.Bool().Draw(t, "filter") {
			h.args.filter = drawBlock(t, h.field.elem(), !strings.HasSuffix(h.field.kind, "!]"))
		}
		if ordered && rapid.Bool().Draw(t, "order") {
			h.desc = rapid.Bool().Draw(t, "desc")
		}
	} else {
		if rapid.Bool().Draw(t, "filter") {
			h.args.filter = w.drawFilter(t, h.typ, 1)
		}
		if ordered {
			h.args.order = w.drawOrder(t, h.typ)
			var names []string
			for _, f := range h.typ.fields {
				if numeric(f.kind) {
					names = append(names, f.name)
				}
			}
			h.of = rapid.SampledFrom(names).Draw(t, "field")
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "limited") == 0 {
		h.args.limit = rapid.SampledFrom([]any{0, 1, 2, 5}).Draw(t, "limit")
	}
	if rapid.IntRange(0, 3).Draw(t, "skips") == 0 {
		h.args.offset = rapid.SampledFrom([]any{0, 1, 2}).Draw(t, "offset")
	}
	return h
}

// drawGroups draws the arguments and the selection of groups.
func (w *world) drawGroups(t *rapid.T, typ *naiveType, a *naiveArgs, sel *[]naiveSelection, depth int) {
	*a = w.drawArgs(t, typ)
	a.order, a.groupBy, *sel = nil, []string{}, nil
	for i := range rapid.IntRange(0, 2).Draw(t, "by") {
		f := rapid.SampledFrom(typ.fields).Draw(t, "field")
		if f.many || f.list || f.json || f.far != "" || slices.Contains(a.groupBy, f.name) {
			continue
		}
		a.groupBy = append(a.groupBy, f.name)
		s := naiveSelection{key: fmt.Sprintf("g%d", i), name: f.name}
		switch {
		case f.to == nil:
		case depth > 0 && rapid.Bool().Draw(t, "object"):
			s.field, s.inner = f, w.drawSelection(t, f.to, depth-1)
		default:
			s.name = f.name + "_id"
		}
		*sel = append(*sel, s)
		if rapid.Bool().Draw(t, "order") {
			name := f.name
			if f.to != nil {
				name += "_id"
			}
			a.order = append(a.order, naiveKey{path: []string{name}, desc: rapid.Bool().Draw(t, "desc")})
		}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "aggregates") {
		g := w.drawAggregate(t, []naiveHost{{name: "_group", typ: typ}})
		*sel = append(*sel, naiveSelection{key: fmt.Sprintf("a%d", i), name: g.name, agg: g})
	}
	if len(*sel) == 0 || rapid.Bool().Draw(t, "members") {
		s := naiveSelection{key: "members", name: "_group"}
		if depth > 0 && rapid.IntRange(0, 2).Draw(t, "again") == 0 {
			w.drawGroups(t, typ, &s.args, &s.inner, depth-1)
		} else {
			s.args, s.inner = w.drawArgs(t, typ), w.drawSelection(t, typ, max(depth-1, 0))
		}
		*sel = append(*sel, s)
	}
	a.drawAliases(t, *sel)
}

// drawAliases draws conditions on aggregates that are selected, and orders by them.
func (a *naiveArgs) drawAliases(t *rapid.T, sel []naiveSelection) {
	for _, s := range sel {
		if s.agg == nil {
			continue
		}
		if rapid.IntRange(0, 5).Draw(t, "alias filter") == 0 {
			op := rapid.SampledFrom([]string{"_eq", "_ne", "_gt", "_ge", "_lt", "_le"}).Draw(t, "op")
			if a.aliases == nil {
				a.aliases = map[string]any{}
			}
			a.aliases[s.key] = map[string]any{op: rapid.SampledFrom([]any{int64(0), int64(1), int64(2), 1.5, nil}).Draw(t, "operand")}
		}
		if rapid.IntRange(0, 5).Draw(t, "alias order") == 0 {
			a.order = append(a.order, naiveKey{path: []string{"_alias", s.key}, desc: rapid.Bool().Draw(t, "desc")})
		}
	}
}

// arguments writes the hosts of an aggregate as in a request.
func (g *naiveAggregate) arguments() string {
	var hosts []string
	for _, h := range g.hosts {
		var parts []string
		if h.of != "" {
			parts = append(parts, "field: "+h.of)
		}
		if h.desc != nil {
			parts = append(parts, "order: "+map[any]string{true: "DESC", false: "ASC"}[h.desc])
		}
		if args := h.args.arguments(); args != "" {
			parts = append(parts, args[1:len(args)-1])
		}
		hosts = append(hosts, h.name+": {"+strings.Join(parts, ", ")+"}")
	}
	return "(" + strings.Join(hosts, ", ") + ")"
}

// differ says where an answer is not what it must be, "" if it is.
func differ(path string, got, want any) string {
	bad := fmt.Sprintf("%s: got %v, want %v", path, got, want)
	switch want := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(want) {
			return bad
		}
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if d := differ(path+"."+k, g[k], want[k]); d != "" {
				return d
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(want) {
			return bad
		}
		for i := range want {
			if d := differ(fmt.Sprintf("%s[%d]", path, i), g[i], want[i]); d != "" {
				return d
			}
		}
		return ""
	case nil, bool:
		if got == want {
			return ""
		}
	case moment:
		if got == want.text {
			return ""
		}
	case string, docID:
		if got == fmt.Sprint(want) {
			return ""
		}
	default:
		if n, ok := got.(json.Number); ok && sameNumber(string(n), want) {
			return ""
		}
	}
	return bad
}

func sameNumber(text string, want any) bool {
	switch want := want.(type) {
	case int64:
		return text == strconv.FormatInt(want, 10)
	case float32:
		f, err := strconv.ParseFloat(text, 32)
		return err == nil && float32(f) == want
	case mean:
		f, err := strconv.ParseFloat(text, 64)
		return err == nil && math.Abs(f-float64(want)) <= 1e-12*math.Abs(f)
	}
	f, err := strconv.ParseFloat(text, 64)
	return err == nil && f == want
}

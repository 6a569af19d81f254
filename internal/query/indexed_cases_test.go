package query

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/store"
)

// sameBothWays runs a query with indexes and without, and compares the answer with
// what it must be.
func (d *dbase) sameBothWays(t *testing.T, query, want string) {
	t.Helper()
	plain := NewSchema(d.store.Schema().Collections(), nil, Limits{})
	plain.unindexed = true
	for how, s := range map[string]*Schema{"with indexes": d.generated(), "without": plain} {
		err := d.store.View(context.Background(), store.System, func(tx *store.Tx) error {
			got, err := d.in(tx, s, Request{Query: query})
			if err != nil {
				return err
			}
			if got != want {
				t.Errorf("%s %s:\ngot  %s\nwant %s", query, how, got, want)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s %s: %v", query, how, err)
		}
	}
}

// The cases in which other databases of this dialect answer differently once there is
// an index.
func TestAnIndexChangesNoAnswer(t *testing.T) {
	d := open(t)
	d.mustAdd(`type D { n: Int @index(direction: DESC) age: Int @index s: String @index u: String @index(unique: true) l: [Int] @index j: JSON @index x: Blob @index }`)
	d.must(`mutation { create_D(input: [
	  {n: 1, age: 1, s: "a", u: "one", l: [1, 2], j: {a: 1, s: "x"}, x: "00ff"},
	  {n: 2, age: 20, s: "b", u: "two", l: [], j: {a: 2}, x: null},
	  {n: 3, age: 20, s: "c", l: [2, 2], j: {s: "x"}},
	  {n: 4, age: null, s: null, j: 7},
	  {n: 5, age: 3, s: "a", l: [null], j: null, x: "ab"}]) { n } }`)
	for name, tt := range map[string]struct{ query, want string }{
		"or on one field":            {`{ D(filter: {_or: [{age: {_eq: 1}}, {age: {_eq: 20}}]}, order: {n: ASC}) { n } }`, "1 2 3"},
		"or on two fields":           {`{ D(filter: {_or: [{age: {_eq: 1}}, {s: {_eq: "c"}}]}, order: {n: ASC}) { n } }`, "1 3"},
		"all of an empty list":       {`{ D(filter: {l: {_all: {_eq: 2}}}, order: {n: ASC}) { n } }`, "2 3"},
		"a path that is not there":   {`{ D(filter: {j: {a: {_eq: null}}}, order: {n: ASC}) { n } }`, "3 5"},
		"nin at a path":              {`{ D(filter: {j: {a: {_nin: [1]}}}, order: {n: ASC}) { n } }`, "2 3 5"},
		"two paths":                  {`{ D(filter: {j: {a: {_eq: 1}, s: {_eq: "x"}}}) { n } }`, "1"},
		"a path in short":            {`{ D(filter: {j: {a: 1}}) { n } }`, "1"},
		"like on bytes, some null":   {`{ D(filter: {x: {_like: "00%"}}) { n } }`, "1"},
		"nlike on bytes, some null":  {`{ D(filter: {x: {_nlike: "00%"}}, order: {n: ASC}) { n } }`, "2 3 4 5"},
		"in and order":               {`{ D(filter: {age: {_in: [20, 1, 3]}}, order: {age: ASC}, limit: 2) { n } }`, "1 5"},
		"in and order, turned":       {`{ D(filter: {age: {_in: [1, 3]}}, order: {age: DESC}) { n } }`, "5 1"},
		"in and a smaller limit":     {`{ D(filter: {n: {_in: [1, 2, 3]}}, order: {n: DESC}, limit: 1) { n } }`, "3"},
		"in with null, unique":       {`{ D(filter: {u: {_in: ["one", null]}}, order: {n: ASC}) { n } }`, "1 3 4 5"},
		"order by a list":            {`{ _count(D: {}) D(filter: {n: {_lt: 4}, l: {_any: {_eq: 2}}}, order: [{l: ASC}, {n: ASC}]) { n } }`, "1 3"},
		"order by JSON":              {`{ D(filter: {n: {_ne: 0}}, order: [{j: ASC}, {n: ASC}]) { n } }`, "5 4 1 2 3"},
		"the JSON field may be null": {`{ D(filter: {j: null}) { n } }`, "5"},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.numbers(t, tt.query)
			if got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.query, got, tt.want)
			}
			d.t = t
			d.sameBothWays(t, tt.query, strings.TrimSpace(d.must(tt.query)))
		})
	}
}

var numbered = regexp.MustCompile(`"n":(\d+)`)

// numbers returns the values of n in the answer.
func (d *dbase) numbers(t *testing.T, query string) string {
	t.Helper()
	d.t = t
	var ns []string
	for _, m := range numbered.FindAllStringSubmatch(d.must(query), -1) {
		ns = append(ns, m[1])
	}
	return strings.Join(ns, " ")
}

// A unique index lets many documents have null, and a JSON field be set to null.
func TestIndexedFieldsBecomeNull(t *testing.T) {
	d := open(t)
	d.mustAdd(`type D { n: Int j: JSON @index u: Int @index(unique: true) }`)
	d.must(`mutation { create_D(input: [{n: 1}, {n: 2, j: {a: 1}, u: 1}]) { n } }`)
	d.must(`mutation { update_D(filter: {n: {_eq: 2}}, input: {j: null, u: null}) { n } }`)
	if got := d.numbers(t, `{ D(filter: {u: null, j: null}, order: {n: ASC}) { n } }`); got != "1 2" {
		t.Errorf("got %s, want both documents", got)
	}
}

// Documents with equal keys come in docID order, whichever way the index is read, and
// however many they are.
func TestTiesStayInDocIDOrder(t *testing.T) {
	d := open(t)
	d.mustAdd(`type D { n: Int a: Int b: Int s: String @index(includes: [{field: "a", direction: DESC}]) } type E { n: Int a: Int @index }`)
	var in strings.Builder
	for i := range 400 {
		fmt.Fprintf(&in, `{n: %d, a: %d, s: "%d"}`, i, i%3, i%2)
	}
	d.must(`mutation { create_D(input: [` + in.String() + `]) { n } }`)
	d.must(`mutation { create_E(input: [` + strings.NewReplacer(` s: "0"`, "", ` s: "1"`, "").Replace(in.String()) + `]) { n } }`)
	for _, order := range []string{`{s: ASC}`, `{s: DESC}`, `[{s: ASC}, {a: DESC}]`, `[{s: DESC}, {a: ASC}]`, `[{s: DESC}, {a: DESC}]`, `[{s: DESC}, {_docID: ASC}]`} {
		for _, rest := range []string{``, `, limit: 10`, `, limit: 7, offset: 190`, `, limit: 150, filter: {a: {_ne: 1}}`, `, filter: {s: {_eq: "1"}}`, `, limit: 3, filter: {s: {_in: ["1", "0"]}, a: {_in: [0, 2]}}`} {
			q := fmt.Sprintf(`{ D(order: %s%s) { n } }`, order, rest)
			d.sameBothWays(t, q, d.must(q))
		}
	}
	for _, order := range []string{`{a: ASC}`, `{a: DESC}`} {
		for _, rest := range []string{``, `, limit: 5`, `, limit: 50, offset: 120`, `, filter: {a: {_gt: 0}}`} {
			q := fmt.Sprintf(`{ E(order: %s%s) { n } }`, order, rest)
			d.sameBothWays(t, q, d.must(q))
		}
	}
}

// Over relations, in both directions, with the related field indexed.
func TestAnIndexChangesNoAnswerOverRelations(t *testing.T) {
	d := open(t)
	d.mustAdd(`type P { n: Int city: String @index kids: [C] pass: Pass } type C { n: Int age: Int @index p: P } type Pass { n: Int no: Int @index p: P @primary }`)
	out := d.must(`mutation { create_P(input: [{n: 1, city: "oslo"}, {n: 2, city: "oslo"}, {n: 3, city: "rome"}, {n: 4}]) { _docID } }`)
	ids := docIDOf.FindAllStringSubmatch(out, -1)
	d.must(fmt.Sprintf(`mutation { create_C(input: [{n: 11, age: 5, p: %[1]q}, {n: 12, age: 6, p: %[1]q}, {n: 13, age: 5, p: %[2]q}, {n: 14, age: 9}]) { n }
	  create_Pass(input: [{n: 21, no: 1, p: %[1]q}, {n: 22, no: 2, p: %[2]q}, {n: 23}]) { n } }`, ids[0][1], ids[2][1]))
	for name, tt := range map[string]struct{ query, want string }{
		"a matching parent without children":    {`{ C(filter: {p: {city: {_eq: "oslo"}}}, order: {n: ASC}) { n } }`, "11 12"},
		"in, with parents without children":     {`{ C(filter: {p: {city: {_in: ["oslo", "rome"]}}}, order: {n: ASC}) { n } }`, "11 12 13"},
		"ne, a child without a parent":          {`{ C(filter: {p: {city: {_ne: "oslo"}}}, order: {n: ASC}) { n } }`, "13 14"},
		"nin, a child without a parent":         {`{ C(filter: {p: {city: {_nin: ["oslo"]}}}, order: {n: ASC}) { n } }`, "13 14"},
		"null, a child without a parent":        {`{ C(filter: {p: {city: {_eq: null}}}) { n } }`, "14"},
		"order, a child without a parent":       {`{ C(order: [{p: {city: ASC}}, {n: ASC}]) { n } }`, "14 11 12 13"},
		"order and limit":                       {`{ C(order: [{p: {city: DESC}}, {n: ASC}], limit: 2) { n } }`, "13 11"},
		"conditions on both sides":              {`{ P(filter: {kids: {age: {_eq: 5}}, city: {_eq: "oslo"}}) { n } }`, "1"},
		"conditions on both sides, many":        {`{ P(filter: {kids: {age: {_in: [5, 6]}}, city: {_ne: "x"}}, order: {n: ASC}) { n } }`, "1 3"},
		"one to one from the other side, ne":    {`{ P(filter: {pass: {no: {_ne: 1}}}, order: {n: ASC}) { n } }`, "2 3 4"},
		"one to one from the other side, null":  {`{ P(filter: {pass: {no: {_eq: null}}}, order: {n: ASC}) { n } }`, "2 4"},
		"one to one from the other side, equal": {`{ P(filter: {pass: {no: {_eq: 2}}}) { n } }`, "3"},
		"none of them":                          {`{ P(filter: {_not: {kids: {age: {_eq: 5}}}}, order: {n: ASC}) { n } }`, "2 4"},
		"any at all":                            {`{ P(filter: {kids: {}}, order: {n: ASC}) { n } }`, "1 3"},
		"or over relations":                     {`{ P(filter: {_or: [{kids: {age: {_eq: 6}}}, {city: {_eq: "rome"}}]}, order: {n: ASC}) { n } }`, "1 3"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := d.numbers(t, tt.query); got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.query, got, tt.want)
			}
			d.sameBothWays(t, tt.query, d.must(tt.query))
		})
	}
}

// Relations are followed some documents at a time: also from more than are taken in
// at once, and where a pass over the other side is made in between.
func TestManyParentsAreFollowedInParts(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int bs: [B] } type B { n: Int m: Int @index a: A }`)
	family(d, maxFew+200, 2)
	for _, q := range []string{
		`{ A(order: {n: ASC}) { n bs(order: {m: DESC}, limit: 1) { m a { n } } } }`,
		`{ A { n bs(filter: {m: {_eq: 1}}) { n } _count(bs: {}) } }`,
		`{ B(order: [{a: {n: DESC}}, {m: ASC}], limit: 1500) { m a { n bs { m } } } }`,
		`{ A(filter: {n: {_lt: 30}}) { n bs { m a { bs { n } } } } }`,
	} {
		d.sameBothWays(t, q, d.must(q))
	}
}

// What is held of relations does not grow with the number of documents that they are
// followed from.
func TestFollowingRelationsHoldsLittle(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int bs: [B] } type B { n: Int m: Int a: A }`)
	for i := range 3 {
		familyFrom(d, 1000*i, 1000, 4)
	}
	want := d.must(`{ A { n bs { m a { n } } } B { m a { n } } }`)
	narrow := NewSchema(d.store.Schema().Collections(), nil, Limits{Held: 2 << 20})
	err := d.store.View(context.Background(), store.System, func(tx *store.Tx) error {
		got, err := d.in(tx, narrow, Request{Query: `{ A { n bs { m a { n } } } B { m a { n } } }`})
		if err == nil && got != want {
			t.Error("the answer differs when little may be held")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"
	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// What an IDE asks for when it opens.
const introspectionQuery = `query IntrospectionQuery { __schema {
  queryType { name } mutationType { name } subscriptionType { name }
  types { ...FullType }
  directives { name description isRepeatable locations args { ...InputValue } } } }
fragment FullType on __Type { kind name description specifiedByURL isOneOf
  fields(includeDeprecated: true) { name description args(includeDeprecated: true) { ...InputValue } type { ...TypeRef } isDeprecated deprecationReason }
  inputFields(includeDeprecated: true) { ...InputValue } interfaces { ...TypeRef }
  enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason } possibleTypes { ...TypeRef } }
fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue isDeprecated deprecationReason }
fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } }`

type typeRef struct {
	Kind, Name string
	OfType     *typeRef
}

// named returns the type at the end of the lists and non-nulls.
func (r typeRef) named() string {
	for r.OfType != nil {
		r = *r.OfType
	}
	return r.Name
}

func (d *dbase) introspect() (types map[string]introspected) {
	d.t.Helper()
	var data struct {
		Schema struct{ Types []introspected } `json:"__schema"`
	}
	if err := json.Unmarshal([]byte(d.must(introspectionQuery)), &data); err != nil {
		d.t.Fatal(err)
	}
	types = map[string]introspected{}
	for _, t := range data.Schema.Types {
		types[t.Name] = t
	}
	return types
}

type introspected struct {
	Kind, Name string
	Fields     []struct {
		Name string
		Type typeRef
		Args []struct {
			Name string
			Type typeRef
		}
	}
	InputFields []struct {
		Name string
		Type typeRef
	}
	EnumValues []struct{ Name string }
}

// A client can build the schema from what introspection says: every type that is
// mentioned is there, and no name of the later dialect is shown.
func TestIntrospectionIsComplete(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: String! bs: [B] xs: [Int] ys: [String!] j: JSON x: Blob t: DateTime f: Float g: Float32 k: Boolean i: ID } type B { a: A }`)
	types := d.introspect()
	check := func(where string, r typeRef) {
		if _, ok := types[r.named()]; !ok {
			t.Errorf("%s: type %q is not among the types", where, r.named())
		}
	}
	shown := func(name string) {
		_, operator := synonyms[name]
		if operator || strings.HasPrefix(name, laterCreatePrefix) || name == "_aID" || strings.HasPrefix(name, "__") {
			t.Errorf("%s is shown", name)
		}
	}
	for name, typ := range types {
		if strings.HasPrefix(name, "__") {
			continue
		}
		for _, f := range typ.Fields {
			check(name+"."+f.Name, f.Type)
			shown(f.Name)
			for _, a := range f.Args {
				check(name+"."+f.Name+"."+a.Name, a.Type)
				shown(a.Name)
			}
		}
		for _, v := range typ.EnumValues {
			shown(v.Name)
		}
		for _, f := range typ.InputFields {
			check(name+"."+f.Name, f.Type)
			shown(f.Name)
		}
		if typ.Kind == "INPUT_OBJECT" && len(typ.InputFields) == 0 || typ.Kind == "OBJECT" && len(typ.Fields) == 0 {
			t.Errorf("%s has no fields, which GraphQL does not allow", name)
		}
	}
}

// The generated schema, printed as text, is one that the library accepts; the
// definitions are made without it ever looking at them as a whole.
func TestGeneratedSchemaIsValid(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: String! bs: [B] xs: [Int] j: JSON self: A @relation(name: "s") h: H @primary } type B { a: A } type H { a: A } type E {}`)
	doc := &ast.SchemaDocument{}
	for _, def := range d.generated().ast.Types {
		if def.BuiltIn {
			continue
		}
		own := *def
		own.Fields = nil
		for _, f := range shown(def.Fields) {
			f := *f
			f.Arguments = shownArguments(f.Arguments)
			own.Fields = append(own.Fields, &f)
		}
		own.EnumValues = shownValues(def.EnumValues)
		doc.Definitions = append(doc.Definitions, &own)
	}
	var sdl bytes.Buffer
	formatter.NewFormatter(&sdl).FormatSchemaDocument(doc)
	if _, err := gqlparser.LoadSchema(&ast.Source{Input: sdl.String()}); err != nil {
		t.Errorf("%v in\n%s", err, sdl.String())
	}
}

// A collection whose relations lead to collections that are not here yet shows the
// docIDs that it stores; the relations appear with the other collection.
func TestRelationsToMissingCollections(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int bs: [B] c: C } type B { a: A } type C { as: [A] }`)
	var alone []*schema.Collection
	for _, c := range d.store.Schema().Collections() {
		if c.Name == "A" {
			alone = append(alone, c)
		}
	}
	s := NewSchema(alone, nil, Limits{})
	if _, err := Compile(s, Request{Query: `{ A(filter: {c_id: null}, order: {c_id: ASC}) { n c_id } }`}); err != nil {
		t.Error(err)
	}
	for _, query := range []string{`{ A { c { as { n } } } }`, `{ A { bs { a { n } } } }`, `{ A(filter: {bs: {}}) { n } }`, `{ A(order: {c: {}}) { n } }`} {
		if _, err := Compile(s, Request{Query: query}); err == nil {
			t.Errorf("%s: is accepted without the other collection", query)
		}
	}
	all := NewSchema(d.store.Schema().Collections(), s, Limits{})
	if _, err := Compile(all, Request{Query: `{ A(filter: {bs: {}}) { c { as { n } } bs { a { n } } } }`}); err != nil {
		t.Error(err)
	}
}

// A schema of no collections, and collections without fields, are valid too.
func TestEmptySchemas(t *testing.T) {
	d := open(t)
	if got, want := d.must(`{ _ __typename commits { cid } }`), `{"_":null,"__typename":"Query","commits":[]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	d.introspect()
	d.mustAdd(`type E {}`)
	d.introspect()
	if got := d.must(`mutation { create_E(input: {}) { __typename } }`); got != `{"create_E":[{"__typename":"E"}]}` {
		t.Errorf("got %s", got)
	}
}

// A new collection leaves requests on the old schema alone, shares its types, and
// makes requests valid that were not.
func TestSchemasAreSnapshots(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int }`)
	before := d.generated()
	if _, err := Compile(before, Request{Query: `{ B { n } }`}); err == nil {
		t.Fatal("B is known before it is added")
	}
	d.mustAdd(`type B { n: Int }`)
	after := d.generated()
	if after == before {
		t.Fatal("the schema is the same after a collection was added")
	}
	if before.ast.Types["AFilterArg"] != after.ast.Types["AFilterArg"] {
		t.Error("the types of A were made again")
	}
	if _, err := Compile(after, Request{Query: `{ B { n } }`}); err != nil {
		t.Error(err)
	}
	if _, err := Compile(before, Request{Query: `{ B { n } }`}); err == nil {
		t.Error("the old schema has changed")
	}
	if d.schemas.Of(d.store.Schema()) != after {
		t.Error("the schema is generated twice for one set of collections")
	}
}

func TestCacheIsBounded(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int }`)
	s := d.generated()
	for i := range 3 * maxCached {
		if _, err := Compile(s, Request{Query: fmt.Sprintf(`{ A(limit: %d) { n } } #%s`, i, strings.Repeat("x", 4000))}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.cache.entries); n > maxCached || n != s.cache.order.Len() || n == 0 {
		t.Errorf("%d documents are kept", n)
	}
	if s.cache.text > maxCachedText {
		t.Errorf("documents of %d bytes are kept, at most %d may be", s.cache.text, maxCachedText)
	}
}

// Plans and the cache are shared: many may use them at once.
func TestPlansRunConcurrently(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int bs: [B] } type B { n: Int m: Int a: A }`)
	family(d, 5, 3)
	const query = `{ A(order: {n: ASC}) { n bs(order: {m: ASC}) { m a { n } } } __schema { queryType { name } } }`
	want := d.must(query)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 20 {
				if got, err := d.exec(Request{Query: query}); err != nil || string(got) != want {
					t.Errorf("got %s, %v", got, err)
				}
				if _, err := d.exec(Request{Query: fmt.Sprintf(`{ A(limit: %d) { n } }`, i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// An order or a relation over more than a request may hold is refused; with a
// limit the same order is fine.
func TestHeldDocumentsAreBounded(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int bs: [B] } type B { n: Int m: Int a: A }`)
	family(d, 40, 5)
	d.schemas = Schemas{Limits: Limits{Held: 40_000}}
	for _, query := range []string{`{ B(order: {m: ASC}) { n } }`, `{ A { bs { n } } }`} {
		if _, err := d.exec(Request{Query: query}); !errors.Is(err, fault.TooLarge) {
			t.Errorf("%s: got %v, want too large", query, err)
		}
	}
	for _, query := range []string{`{ B(order: {m: ASC}, limit: 10) { n } }`, `{ A(limit: 2) { bs { n } } }`, `{ a: B(order: {m: ASC}, limit: 50) { n } b: B(order: {m: ASC}, limit: 50) { n } }`} {
		if _, err := d.exec(Request{Query: query}); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}

func TestCancelledRequestsEnd(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int bs: [B] } type B { n: Int m: Int a: A }`)
	family(d, 100, 10)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p, err := Compile(d.generated(), Request{Query: `{ B { n } }`})
	if err != nil {
		t.Fatal(err)
	}
	err = d.store.View(context.Background(), store.System, func(tx *store.Tx) error { return p.Run(ctx, tx, io.Discard) })
	if !errors.Is(err, fault.Unavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want unavailable, for the context is cancelled", err)
	}
}

// A writer that fails ends the request.
func TestWriteErrorsEndTheRequest(t *testing.T) {
	d := people(t, 1000)
	p, err := Compile(d.generated(), Request{Query: `{ P { name notes } }`})
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	r.Close()
	err = d.store.View(context.Background(), store.System, func(tx *store.Tx) error { return p.Run(context.Background(), tx, w) })
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want that the pipe is closed", err)
	}
}

// Following a relation gives what looking at every pair would, whether the
// documents that it starts from are known beforehand or not.
func TestRelationsEqualTheOracle(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int bs: [B] } type B { n: Int m: Int a: A cs: [C] } type C { n: Int b: B }`)
	family(d, 8, 3)
	var bs struct {
		B []struct {
			ID   string `json:"_docID"`
			N, M int
		}
	}
	if err := json.Unmarshal([]byte(d.must(`{ B { _docID n m } }`)), &bs); err != nil {
		t.Fatal(err)
	}
	for _, b := range bs.B { // m documents refer to each, so none to some
		for k := range b.M {
			d.must(fmt.Sprintf(`mutation { create_C(input: {n: %d, b: %q}) { n } }`, 100*b.N+10*b.M+k, b.ID))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		from, to := rapid.IntRange(0, 8).Draw(t, "from"), rapid.IntRange(0, 8).Draw(t, "to")
		m, limit := rapid.IntRange(0, 3).Draw(t, "m"), rapid.IntRange(0, 9).Draw(t, "limit")
		few := rapid.SampledFrom([]string{"", ", limit: 100", fmt.Sprintf(", limit: %d", max(limit, 1))}).Draw(t, "few")
		query := fmt.Sprintf(`{ A(filter: {n: {_ge: %d, _lt: %d}}, order: {n: ASC}%s) { n bs(filter: {m: {_ge: %d}}, order: {m: ASC}) { m cs(order: {n: ASC}) { n b { m } } a { n } } } }`, from, to, few, m)
		most := 8
		if few != "" && few != ", limit: 100" {
			most = max(limit, 1)
		}
		want := relationOracle(from, to, most, m)
		if got := d.must(query); got != want {
			t.Fatalf("%s: got %s, want %s", query, got, want)
		}
	})
}

func relationOracle(from, to, most, m int) string {
	var b bytes.Buffer
	sep := func(first bool) {
		if !first {
			b.WriteByte(',')
		}
	}
	b.WriteString(`{"A":[`)
	for n := from; n < min(to, 8) && n-from < most; n++ {
		sep(n == from)
		fmt.Fprintf(&b, `{"n":%d,"bs":[`, n)
		for k := m; k < 3; k++ {
			sep(k == m)
			fmt.Fprintf(&b, `{"m":%d,"cs":[`, k)
			for c := range k {
				sep(c == 0)
				fmt.Fprintf(&b, `{"n":%d,"b":{"m":%d}}`, 100*n+10*k+c, k)
			}
			fmt.Fprintf(&b, `],"a":{"n":%d}}`, n)
		}
		b.WriteString(`]}`)
	}
	b.WriteString(`]}`)
	return b.String()
}

// Every synonym of the later dialect means what its original does.
func TestSynonyms(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int b: B j: JSON l: [Int!] } type B { n: Int as: [A] }`)
	for first, later := range map[string]string{
		`mutation { create_B(input: {n: 1}) { n } }`:                                                    `mutation { create_B: add_B(input: {n: 2}) { n: __typename } }`,
		`{ A(filter: {n: {_ne: 1, _ge: 1, _le: 2}}) { b_id } }`:                                         `{ A(filter: {n: {_neq: 1, _geq: 1, _leq: 2}}) { b_id: _bID } }`,
		`{ A(filter: {j: {x: {_ne: 1}}, b_id: null}) { n } }`:                                           `{ A(filter: {j: {x: {_neq: 1}}, _bID: null}) { n } }`,
		`{ _count(A: {filter: {b_id: {_ne: null}}}) }`:                                                  `{ _count: COUNT(A: {filter: {_bID: {_neq: null}}}) }`,
		`{ A(groupBy: [b_id]) { b_id _group { n } _count(_group: {}) _sum(_group: {field: n}) } }`:      `{ A(groupBy: [_bID]) { b_id: _bID _group: GROUP { n } _count: COUNT(GROUP: {}) _sum: SUM(GROUP: {field: n}) } }`,
		`{ B { _min(as: {field: n}) _max(as: {field: _count}) as { _count(l: {filter: {_ge: 1}}) } } }`: `{ B { _min: MIN(as: {field: n}) _max: MAX(as: {field: COUNT}) as { _count: COUNT(l: {filter: {_geq: 1}}) } } }`,
		`{ A(filter: {_alias: {c: {_ne: 7, _le: 9}}}) { c: _avg(l: {}) } _avg(A: {field: n}) }`:         `{ A(filter: {_alias: {c: {_neq: 7, _leq: 9}}}) { c: AVG(l: {}) } _avg: AVG(A: {field: n}) }`,
		`{ commits(groupBy: [docID]) { _count(field: _group) _group { height } } }`:                     `{ commits: _commits(groupBy: [docID]) { _count: COUNT(field: GROUP) _group: GROUP { height } } }`,
		`query ($by: [AField!] = [b_id]) { A(groupBy: $by) { _count(_group: {}) } }`:                    `query ($by: [AField!] = _bID) { A(groupBy: $by) { _count: COUNT(GROUP: {}) } }`,
		`{ A(order: {b_id: ASC}) { n } commits(depth: 9) { cid } }`:                                     `{ A(order: {_bID: ASC}) { n } commits: _commits(depth: 9) { cid } }`,
	} {
		if a, b := d.must(first), d.must(later); a != b && !strings.HasPrefix(first, "mutation") {
			t.Errorf("%s gives %s, but %s gives %s", first, a, later, b)
		}
	}
	if got := d.must(`mutation ($x: Int) { add_A(input: {_bID: null, n: $x}) { n } }`); got != `{"add_A":[{"n":null}]}` {
		t.Errorf("got %s", got)
	}
}

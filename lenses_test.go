package pando_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando"
)

// workshop is a runtime whose modules are Go functions, found by what their bytes say:
// what a migration does with a module does not depend on WASM.
type workshop struct {
	ran *atomic.Int64 // documents
}

type object = map[string]any

// trade is what a module does in both directions; back may be nil.
type trade struct{ there, back func(object) error }

func text(o object, name string) string { s, _ := o[name].(string); return s }

// trades are the modules by name.
var trades = map[string]trade{
	"names": {
		there: func(o object) error {
			switch name := text(o, "name"); name {
			case "fail":
				return errors.New("the module failed")
			case "drop":
				delete(o, "age")
				return errDropped
			default:
				o["first"], o["last"], _ = strings.Cut(name, " ")
			}
			return nil
		},
		back: func(o object) error {
			o["name"] = strings.TrimSpace(text(o, "first") + " " + text(o, "last"))
			return nil
		},
	},
	"letter": {
		there: func(o object) error {
			o["sorted"] = text(o, "last") + ", " + text(o, "first")
			return nil
		},
		back: func(o object) error {
			o["last"], o["first"], _ = strings.Cut(text(o, "sorted"), ", ")
			return nil
		},
	},
	"length": {there: func(o object) error { o["length"] = len(text(o, "name")); return nil }},
}

var errDropped = errors.New("dropped")

func (w workshop) Open(_ context.Context, steps []pando.LensStep) (pando.Pipeline, error) {
	p := &bench{w, nil}
	for _, s := range steps {
		t, ok := trades[string(s.Module)]
		do := t.there
		if s.Inverse {
			do = t.back
		}
		if !ok || do == nil {
			return nil, fmt.Errorf("module %q goes not that way: %w", s.Module, pando.ErrInvalid)
		}
		p.steps = append(p.steps, do)
	}
	return p, nil
}

type bench struct {
	workshop
	steps []func(object) error
}

func (b *bench) Transform(ctx context.Context, docs [][]byte) ([][]byte, error) {
	return b.Each(ctx, docs)
}

func (b *bench) Each(_ context.Context, docs [][]byte) ([][]byte, error) {
	out := make([][]byte, len(docs))
	for i, d := range docs {
		b.ran.Add(1)
		var o object
		if err := json.Unmarshal(d, &o); err != nil {
			return nil, err
		}
		var err error
		for _, do := range b.steps {
			if err = do(o); err != nil {
				break
			}
		}
		switch {
		case errors.Is(err, errDropped):
			continue
		case err != nil:
			return nil, err
		}
		out[i], _ = json.Marshal(o)
	}
	return out, nil
}

func (b *bench) Close() error { return nil }

func lensOf(names ...string) *pando.Transform {
	t := &pando.Transform{}
	for _, n := range names {
		t.Lenses = append(t.Lenses, pando.Lens{Path: pando.LensPath([]byte(n))})
	}
	return t
}

// equipped returns a node with a workshop, and a count of the documents that passed.
func equipped(t testing.TB, dir, sdl string) (*pando.DB, *atomic.Int64) {
	t.Helper()
	ran := new(atomic.Int64)
	db, err := pando.Open(t.Context(), dir, &pando.Options{Lenses: workshop{ran}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if sdl != "" {
		if _, err := db.AddSchema(t.Context(), sdl); err != nil {
			t.Fatal(err)
		}
	}
	return db, ran
}

// lensed makes the next version, with modules, and uses it.
func lensed(t testing.TB, db *pando.DB, patch string, modules ...string) string {
	t.Helper()
	made, err := db.PatchSchema(t.Context(), pando.SchemaPatch{Patch: patch, Lenses: lensOf(modules...), Activate: true})
	if err != nil || len(made) != 1 {
		t.Fatalf("the patch made %v, %v", made, err)
	}
	return made[0].Version.String()
}

const (
	toParts = `[{"op": "remove", "path": "/User/Fields/name"},
		{"op": "add", "path": "/User/Fields/-", "value": {"Name": "first", "Kind": "String"}},
		{"op": "add", "path": "/User/Fields/-", "value": {"Name": "last", "Kind": "String"}}]`
	toSorted = `[{"op": "remove", "path": "/User/Fields/first"}, {"op": "remove", "path": "/User/Fields/last"},
		{"op": "add", "path": "/User/Fields/-", "value": {"Name": "sorted", "Kind": "String"}}]`
)

func TestModulesLeadToTheNextVersionAndBack(t *testing.T) {
	t.Parallel()
	db, _ := equipped(t, "", `type User { name: String  age: Int }`)
	v1 := collection(t, db, "User").Version.String()
	run(t, db, `mutation { create_User(input: {name: "Ada Lovelace", age: 36}) { _docID } }`)
	v2 := lensed(t, db, toParts, "names")
	expect(t, db, `{ User { first last age } }`, `{"User":[{"first":"Ada","last":"Lovelace","age":36}]}`)

	// What is written here stays, beside what the module makes, whatever else is written.
	run(t, db, `mutation { update_User(all: true, input: {first: "Augusta"}) { _docID } }`)
	run(t, db, `mutation { update_User(all: true, input: {age: 37}) { _docID } }`)
	expect(t, db, `{ User { first last age } }`, `{"User":[{"first":"Augusta","last":"Lovelace","age":37}]}`)
	use(t, db, v1)
	expect(t, db, `{ User { name } }`, `{"User":[{"name":"Augusta Lovelace"}]}`)

	// Whoever wrote last speaks.
	run(t, db, `mutation { update_User(all: true, input: {name: "Grace Hopper"}) { _docID } }`)
	expect(t, db, `{ User { name } }`, `{"User":[{"name":"Grace Hopper"}]}`)
	use(t, db, v2)
	expect(t, db, `{ User { first last } }`, `{"User":[{"first":"Grace","last":"Hopper"}]}`)
}

// A write to one of several fields stands beside what the others show at that moment,
// whichever version they were written in.
func TestAWriteToOneVersionLeavesTheRestAsItIs(t *testing.T) {
	t.Parallel()
	db, _ := equipped(t, "", `type User { name: String }`)
	v1 := collection(t, db, "User").Version.String()
	v2 := lensed(t, db, toParts, "names")
	for _, step := range []struct{ version, write, v1, v2 string }{
		{v2, `mutation { create_User(input: {last: "Old"}) { _docID } }`, `"Old"`, `"first":"Old","last":"Old"`},
		{v1, `mutation { update_User(all: true, input: {name: "Ada Lovelace"}) { _docID } }`, `"Ada Lovelace"`, `"first":"Ada","last":"Lovelace"`},
		{v2, `mutation { update_User(all: true, input: {first: "Augusta"}) { _docID } }`, `"Augusta Lovelace"`, `"first":"Augusta","last":"Lovelace"`},
		{v2, `mutation { update_User(all: true, input: {first: null}) { _docID } }`, `"Lovelace"`, `"first":null,"last":"Lovelace"`},
		{v1, `mutation { update_User(all: true, input: {name: "Grace Hopper"}) { _docID } }`, `"Grace Hopper"`, `"first":"Grace","last":"Hopper"`},
		{v2, `mutation { update_User(all: true, input: {last: "H"}) { _docID } }`, `"Grace H"`, `"first":"Grace","last":"H"`},
	} {
		use(t, db, step.version)
		run(t, db, step.write)
		use(t, db, v1)
		expect(t, db, `{ User { name } }`, `{"User":[{"name":`+step.v1+`}]}`)
		use(t, db, v2)
		expect(t, db, `{ User { first last } }`, `{"User":[{`+step.v2+`}]}`)
	}
}

func TestModulesOfSeveralVersionsFollowEachOther(t *testing.T) {
	t.Parallel()
	db, _ := equipped(t, "", `type User { name: String  age: Int }`)
	v1 := collection(t, db, "User").Version.String()
	run(t, db, `mutation { create_User(input: {name: "Ada Lovelace", age: 36}) { _docID } }`)
	v2 := lensed(t, db, toParts, "names")
	v3 := lensed(t, db, toSorted, "letter")
	expect(t, db, `{ User { sorted age } }`, `{"User":[{"sorted":"Lovelace, Ada","age":36}]}`)
	run(t, db, `mutation { update_User(all: true, input: {sorted: "Hopper, Grace"}) { _docID } }`)
	use(t, db, v2)
	expect(t, db, `{ User { first last } }`, `{"User":[{"first":"Grace","last":"Hopper"}]}`)
	use(t, db, v1)
	expect(t, db, `{ User { name } }`, `{"User":[{"name":"Grace Hopper"}]}`)
	run(t, db, `mutation { update_User(all: true, input: {name: "Emmy Noether"}) { _docID } }`)
	use(t, db, v3)
	expect(t, db, `{ User { sorted } }`, `{"User":[{"sorted":"Noether, Emmy"}]}`)
}

func TestOneVersionLeadsThroughSeveralModules(t *testing.T) {
	t.Parallel()
	db, _ := equipped(t, "", `type User { name: String }`)
	v1 := collection(t, db, "User").Version.String()
	run(t, db, `mutation { create_User(input: {name: "Ada Lovelace"}) { _docID } }`)
	lensed(t, db, `[{"op": "remove", "path": "/User/Fields/name"}, {"op": "add", "path": "/User/Fields/-", "value": {"Name": "sorted", "Kind": "String"}}]`, "names", "letter")
	expect(t, db, `{ User { sorted } }`, `{"User":[{"sorted":"Lovelace, Ada"}]}`)
	run(t, db, `mutation { update_User(all: true, input: {sorted: "Hopper, Grace"}) { _docID } }`)
	use(t, db, v1)
	expect(t, db, `{ User { name } }`, `{"User":[{"name":"Grace Hopper"}]}`)
}

func TestAModuleMakesAFieldOfAnotherType(t *testing.T) {
	t.Parallel()
	db, _ := equipped(t, "", `type User { name: String  length: String  other: String }`)
	v1 := collection(t, db, "User").Version.String()
	run(t, db, `mutation { create_User(input: {name: "Ada", length: "short", other: "7"}) { _docID } }`)
	made, err := db.PatchSchema(t.Context(), pando.SchemaPatch{
		Patch: `[{"op": "replace", "path": "/User/Fields/length/Kind", "value": "Int"}, {"op": "replace", "path": "/User/Fields/other/Kind", "value": "Int"}]`,
		// The other one is cast, as without modules.
		Lenses: lensOf("length"), LensFields: []string{"length"}, Activate: true,
	})
	if err != nil || len(made) != 1 {
		t.Fatalf("%v, %v", made, err)
	}
	expect(t, db, `{ User { name length other } }`, `{"User":[{"name":"Ada","length":3,"other":7}]}`)
	run(t, db, `mutation { update_User(all: true, input: {length: 5}) { _docID } }`)
	use(t, db, v1) // there is no way back: the old one shows what was written to it
	expect(t, db, `{ User { length } }`, `{"User":[{"length":"short"}]}`)
	for _, fields := range [][]string{{"name"}, {"nothing"}, {"length", "length"}} {
		use(t, db, v1)
		if _, err := db.PatchSchema(t.Context(), pando.SchemaPatch{Patch: `[{"op": "replace", "path": "/User/Fields/length/Kind", "value": "Float"}]`, Lenses: lensOf("length"), LensFields: fields}); !errors.Is(err, pando.ErrInvalid) {
			t.Errorf("modules that make %v: %v, want Invalid", fields, err)
		}
	}
	for _, p := range []string{`[]`, `[{"op": "replace", "path": "/User/Fields/name/Name", "value": "called"}]`} {
		if _, err := db.PatchSchema(t.Context(), pando.SchemaPatch{Patch: p, Lenses: lensOf("length")}); !errors.Is(err, pando.ErrInvalid) {
			t.Errorf("modules beside %s: %v, want Invalid: they have nothing to make", p, err)
		}
	}
}

// A document that modules fail on shows null; the others are not withheld with it.
func TestADocumentThatDoesNotPassHidesNoOther(t *testing.T) {
	t.Parallel()
	db, ran := equipped(t, "", `type User { name: String  age: Int }`)
	run(t, db, `mutation { create_User(input: [{name: "fail", age: 1}, {name: "drop", age: 2}, {name: "Ada L", age: 3}]) { _docID } }`)
	lensed(t, db, toParts, "names")
	const want = `{"User":[{"first":null,"age":1},{"first":null,"age":2},{"first":"Ada","age":3}]}`
	for range 2 {
		expect(t, db, `{ User(order: {age: ASC}) { first age } }`, want)
	}
	if n := ran.Load(); n != 3 {
		t.Errorf("%d documents passed, want each once, those that fail too", n)
	}
	run(t, db, `mutation { update_User(filter: {age: {_eq: 1}}, input: {first: "Fae"}) { age } }`)
	expect(t, db, `{ User(filter: {first: {_ne: null}}, order: {age: ASC}) { first } }`, `{"User":[{"first":"Fae"},{"first":"Ada"}]}`)
}

func TestADocumentPassesOnceForAllItsFields(t *testing.T) {
	t.Parallel()
	db, ran := equipped(t, "", `type User { name: String  age: Int }`)
	for i := range 100 {
		run(t, db, fmt.Sprintf(`mutation { create_User(input: {name: "N%02d X%d", age: %d}) { age } }`, i, i%7, i))
	}
	lensed(t, db, toParts, "names")
	run(t, db, `{ User(filter: {last: {_ne: "X3"}}, order: {first: DESC}) { first last } }`)
	if n := ran.Load(); n != 100 {
		t.Errorf("100 documents took %d runs of the modules", n)
	}
	run(t, db, `{ User { first } }`)
	run(t, db, `mutation { update_User(filter: {age: {_eq: 5}}, input: {age: 500}) { first last } }`)
	if n := ran.Load(); n != 101 {
		t.Errorf("after one write: %d runs, want one more", n)
	}
}

// Whatever is asked of a field that modules make is asked of what they make; an index
// on it sleeps, and is there again in the version that has it.
func TestRequestsSeeWhatModulesMake(t *testing.T) {
	t.Parallel()
	db, _ := equipped(t, "", `type User { name: String @index(name: "names")  age: Int @index(name: "ages") }`)
	for i := range 30 {
		run(t, db, fmt.Sprintf(`mutation { create_User(input: {name: "N%02d X%d", age: %d}) { age } }`, i, i%3, i))
	}
	v1 := collection(t, db, "User").Version.String()
	v2 := lensed(t, db, toParts, "names")
	if _, err := db.CreateIndex(t.Context(), "User", pando.Index{Fields: []pando.IndexField{{Name: "last"}}}); !errors.Is(err, pando.ErrInvalid) {
		t.Errorf("an index on what modules make: %v, want Invalid", err)
	}
	check := func() {
		t.Helper()
		expect(t, db, `{ User(filter: {last: {_eq: "X1"}, age: {_lt: 9}}, order: {first: DESC}, limit: 2) { first } }`, `{"User":[{"first":"N07"},{"first":"N04"}]}`)
		expect(t, db, `{ _count(User: {filter: {last: {_in: ["X0", "X1"]}}}) _avg(User: {field: age, filter: {first: {_like: "N2%"}}}) }`, `{"_count":20,"_avg":24.5}`)
		expect(t, db, `{ User(groupBy: [last], order: {last: ASC}) { last _max(_group: {field: age}) } }`,
			`{"User":[{"last":"X0","_max":27},{"last":"X1","_max":28},{"last":"X2","_max":29}]}`)
	}
	check()
	use(t, db, v1)
	if err := db.AwaitIndex(t.Context(), "User", "ages"); err != nil {
		t.Fatal(err)
	}
	expect(t, db, `{ User(filter: {name: {_like: "N0%"}, age: {_gt: 7}}) { name } }`, `{"User":[{"name":"N08 X2"},{"name":"N09 X0"}]}`)
	use(t, db, v2)
	check()
	run(t, db, `mutation { update_User(filter: {first: {_eq: "N01"}}, input: {last: "Z"}) { age } }`)
	expect(t, db, `{ User(filter: {last: {_eq: "Z"}}) { first age } }`, `{"User":[{"first":"N01","age":1}]}`)
	use(t, db, v1)
	expect(t, db, `{ User(filter: {name: {_eq: "N01 Z"}}) { age } }`, `{"User":[{"age":1}]}`)
	if err := db.Check(t.Context(), func(p pando.Problem) { t.Errorf("%+v", p) }); err != nil {
		t.Fatal(err)
	}
}

func TestModulesOutliveTheProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, _ := equipped(t, dir, `type User { name: String @index  age: Int }`)
	v1 := collection(t, db, "User").Version.String()
	run(t, db, `mutation { create_User(input: {name: "Ada Lovelace", age: 36}) { _docID } }`)
	v2 := lensed(t, db, toParts, "names")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, _ = equipped(t, dir, "")
	expect(t, db, `{ User { first last } }`, `{"User":[{"first":"Ada","last":"Lovelace"}]}`)
	run(t, db, `mutation { update_User(all: true, input: {first: "Augusta"}) { _docID } }`)
	db.Close()
	if _, err := pando.Rebuild(t.Context(), dir, nil, func(p pando.Problem) { t.Errorf("%+v", p) }); err != nil {
		t.Fatal(err)
	}
	db, _ = equipped(t, dir, "")
	expect(t, db, `{ User { first last } }`, `{"User":[{"first":"Augusta","last":"Lovelace"}]}`)
	db.Close()

	// A program without a runtime reads and writes what needs none.
	db, err := pando.Open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	expect(t, db, `{ User { age } }`, `{"User":[{"age":36}]}`)
	for _, q := range []string{`{ User { last } }`, `{ User(filter: {last: {_eq: "x"}}) { age } }`, `{ User(order: {last: ASC}) { age } }`, `{ _count(User: {filter: {last: {_eq: null}}}) }`} {
		if err := db.Exec(t.Context(), pando.Request{Query: q}).Err(); !errors.Is(err, pando.ErrUnavailable) || !strings.Contains(err.Error(), "field last") {
			t.Errorf("%s without a runtime: %v, want Unavailable", q, err)
		}
	}
	run(t, db, `mutation { update_User(all: true, input: {first: "Ada", last: "King"}) { _docID } }`)
	expect(t, db, `{ User { first last } }`, `{"User":[{"first":"Ada","last":"King"}]}`)
	if _, err := db.PatchSchema(t.Context(), pando.SchemaPatch{Patch: toSorted, Lenses: lensOf("letter")}); !errors.Is(err, pando.ErrUnavailable) {
		t.Errorf("a patch with modules without a runtime: %v, want Unavailable", err)
	}
	use(t, db, v1)
	if err := db.Exec(t.Context(), pando.Request{Query: `{ User { name } }`}).Err(); !errors.Is(err, pando.ErrUnavailable) {
		t.Errorf("the way back without a runtime: %v, want Unavailable", err)
	}
	use(t, db, v2)
}

// A version travels without its modules: who hears of it shows null until somebody
// there brings them.
func TestModulesStayAtHome(t *testing.T) {
	t.Parallel()
	a, _ := equipped(t, "", `type User { name: String @index(name: "names")  age: Int }`)
	b, ran := equipped(t, "", `type User { name: String @index(name: "names")  age: Int }`)
	users := collection(t, a, "User").ID
	v1 := collection(t, a, "User").Version.String()
	run(t, a, `mutation { create_User(input: {name: "Ada Lovelace", age: 36}) { _docID } }`)
	v2 := lensed(t, a, toParts, "names")
	pull(t, b, a, users)
	share(t, b, a, users)
	use(t, b, v2)
	expect(t, b, `{ User { first last age } }`, `{"User":[{"first":null,"last":null,"age":36}]}`)

	// Not even modules that are here for something else run for a peer.
	if _, err := b.AddSchema(t.Context(), `type Other { name: String }`); err != nil {
		t.Fatal(err)
	}
	if _, err := b.PatchSchema(t.Context(), pando.SchemaPatch{Patch: strings.ReplaceAll(toParts, "User", "Other"), Lenses: lensOf("names")}); err != nil {
		t.Fatal(err)
	}
	use(t, b, v1)
	if err := b.AwaitIndex(t.Context(), "User", "names"); err != nil {
		t.Fatal(err)
	}
	use(t, b, v2)
	expect(t, b, `{ User { first } }`, `{"User":[{"first":null}]}`)
	if ran.Load() != 0 {
		t.Error("modules ran for a version that nobody here asked for")
	}

	for _, wrong := range []struct {
		from, to string
		lenses   *pando.Transform
		says     string
	}{
		{v1, v2, lensOf("letter"), "names other lenses"},
		{v1, v2, lensOf("names", "names"), "names other lenses"},
		{v1, v2, nil, "no lenses"},
		{v1, v2, &pando.Transform{Lenses: []pando.Lens{{Path: "file:///etc/passwd"}}}, "opens no files"},
		{v2, v1, lensOf("names"), "in the other order"},
		{v2, v2, lensOf("names"), "from a version to the next"},
		{v1, users.String(), lensOf("names"), ""},
		{v1, "nonsense", lensOf("names"), ""},
	} {
		if err := b.AddLens(t.Context(), wrong.from, wrong.to, wrong.lenses); err == nil || !strings.Contains(err.Error(), wrong.says) {
			t.Errorf("lens from %s to %s: %v, want %s", wrong.from, wrong.to, err, wrong.says)
		}
	}
	if err := b.AddLens(t.Context(), v1, v2, lensOf("names")); err != nil {
		t.Fatal(err)
	}
	expect(t, b, `{ User { first last } }`, `{"User":[{"first":"Ada","last":"Lovelace"}]}`)
}

var written = regexp.MustCompile(`(\w+): ("[^"]*"|\d+|null)`)

// Whatever the order in which commits of writers in several versions arrive, all
// nodes show the same in every version; and who writes sees it.
func TestModulesCommuteWithMerges(t *testing.T) {
	t.Parallel()
	const sdl = `type User { name: String  age: Int }`
	origin, _ := equipped(t, "", sdl)
	users := collection(t, origin, "User").ID
	run(t, origin, `mutation { create_User(input: {name: "Ada Lovelace", age: 36}) { _docID } }`)
	// Three versions in a row by modules, the last one with a rule beside them; and one
	// that branches off the first by a rule.
	lensesOf := map[string]string{}
	v1 := collection(t, origin, "User").Version.String()
	v2 := lensed(t, origin, toParts, "names")
	v3 := lensed(t, origin, strings.TrimSuffix(toSorted, "]")+`, {"op": "replace", "path": "/User/Fields/age/Kind", "value": "String"}]`, "letter")
	use(t, origin, v1)
	v4 := patch(t, origin, `[{"op": "remove", "path": "/User/Fields/name"},
		{"op": "add", "path": "/User/Fields/-", "value": {"Name": "given", "Kind": "String"}},
		{"op": "add", "path": "/User/Fields/-", "value": {"Name": "family", "Kind": "String"}}]`,
		pando.Migration{Do: "split", From: []string{"name"}, To: []string{"given", "family"}})
	lensesOf[v2], lensesOf[v3] = "names", "letter"
	versions := []string{v1, v2, v3, v4}
	before := map[string]string{v2: v1, v3: v2}
	writes := [][]string{
		{`name: "Grace Hopper"`, `name: "Plato"`, `name: null`, `age: 7`, `name: "fail"`, `name: "drop"`},
		{`first: "Grete"`, `last: "Hermann"`, `first: null, last: null`, `age: 8`},
		{`sorted: "Noether, Emmy"`, `sorted: "Plato"`, `age: "11"`, `sorted: null`},
		{`given: "Lise"`, `family: "Meitner"`, `family: null`, `age: 12`},
	}
	queries := []string{`{ User { name age } }`, `{ User { first last age } }`, `{ User { sorted age } }`, `{ User { given family age } }`}
	rapid.Check(t, func(rt *rapid.T) {
		var nodes []*pando.DB
		for range 3 {
			db, err := pando.Open(t.Context(), "", &pando.Options{Lenses: workshop{new(atomic.Int64)}})
			if err != nil {
				rt.Fatal(err)
			}
			defer db.Close()
			nodes = append(nodes, db)
			share(t, db, origin, users)
			pull(t, db, origin, users)
			for _, v := range []string{v2, v3} {
				if err := db.AddLens(t.Context(), before[v], v, lensOf(lensesOf[v])); err != nil {
					rt.Fatal(err)
				}
			}
		}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			db := rapid.SampledFrom(nodes).Draw(rt, "node")
			if rapid.IntRange(0, 3).Draw(rt, "what") == 0 {
				pull(t, db, rapid.SampledFrom(nodes).Draw(rt, "from"), users)
				continue
			}
			v := rapid.IntRange(0, len(versions)-1).Draw(rt, "version")
			use(t, db, versions[v])
			write := rapid.SampledFrom(writes[v]).Draw(rt, "write")
			run(t, db, fmt.Sprintf(`mutation { update_User(all: true, input: {%s}) { _docID } }`, write))
			got := run(t, db, queries[v])
			for _, w := range written.FindAllStringSubmatch(write, -1) {
				if !strings.Contains(got, fmt.Sprintf("%q:%s", w[1], w[2])) {
					rt.Fatalf("{%s} was written, and shows as %s", write, got)
				}
			}
		}
		for range 2 {
			for _, i := range rapid.Permutation([]int{0, 1, 2}).Draw(rt, "order") {
				for _, j := range rapid.Permutation([]int{0, 1, 2}).Draw(rt, "from") {
					pull(t, nodes[i], nodes[j], users)
				}
			}
		}
		for v := range versions {
			var first string
			for i, db := range nodes {
				use(t, db, versions[v])
				got := run(t, db, queries[v])
				if i == 0 {
					first = got
				}
				if got != first {
					rt.Errorf("%s: node %d shows %s, node 0 %s", queries[v], i, got, first)
				}
			}
		}
	})
}

package pando_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando"
)

const addPhone = `[{"op": "add", "path": "/User/Fields/-", "value": {"Name": "phone", "Kind": "String"}}]`

// patch makes the next version of a collection of db, and uses it.
func patch(t *testing.T, db *pando.DB, text string, rules ...pando.Migration) string {
	t.Helper()
	made, err := db.PatchSchema(t.Context(), pando.SchemaPatch{Patch: text, Migration: rules, Activate: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(made) != 1 || !made[0].IsActive() {
		t.Fatalf("the patch made %v, want one version that is used", made)
	}
	return made[0].Version.String()
}

func use(t *testing.T, db *pando.DB, version string) {
	t.Helper()
	if _, err := db.ActivateVersion(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

// share gives db the versions that from knows of a collection.
func share(t *testing.T, db, from *pando.DB, coll pando.CollectionID) {
	t.Helper()
	versions, err := from.Replica().Schema(t.Context(), coll)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Replica().AddSchema(t.Context(), versions); err != nil {
		t.Fatal(err)
	}
}

func collection(t *testing.T, db *pando.DB, name string) *pando.Collection {
	t.Helper()
	c, err := db.Collection(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func expect(t *testing.T, db *pando.DB, request, want string) {
	t.Helper()
	if got := run(t, db, request); got != want {
		t.Errorf("%s: got %s, want %s", request, got, want)
	}
}

func TestVersionsShowAndHideFieldsAndLoseNothing(t *testing.T) {
	t.Parallel()
	db := node(t, `type User { name: String  age: Int @index }`)
	first := collection(t, db, "User").Version.String()
	run(t, db, `mutation { create_User(input: {name: "Ada", age: 36}) { _docID } }`)
	second := patch(t, db, addPhone)
	run(t, db, `mutation { update_User(all: true, input: {phone: "555"}) { _docID } }`)
	third := patch(t, db, `[{"op": "remove", "path": "/User/Fields/age"}, {"op": "replace", "path": "/User/Fields/name/Name", "value": "fullName"}]`)
	expect(t, db, `{ User { fullName phone } }`, `{"User":[{"fullName":"Ada","phone":"555"}]}`)
	if err := db.Exec(t.Context(), pando.Request{Query: `{ User { age } }`}).Err(); !errors.Is(err, pando.ErrInvalid) {
		t.Errorf("a removed field: %v, want Invalid", err)
	}
	run(t, db, `mutation { update_User(all: true, input: {fullName: "Ada L."}) { _docID } }`)

	use(t, db, first)
	expect(t, db, `{ User(filter: {age: {_eq: 36}}) { name age } }`, `{"User":[{"name":"Ada L.","age":36}]}`)
	if err := db.Exec(t.Context(), pando.Request{Query: `{ User { phone } }`}).Err(); !errors.Is(err, pando.ErrInvalid) {
		t.Errorf("a field of a later version: %v, want Invalid", err)
	}
	run(t, db, `mutation { update_User(all: true, input: {age: 37}) { _docID } }`)
	use(t, db, third)
	expect(t, db, `{ User { fullName phone } }`, `{"User":[{"fullName":"Ada L.","phone":"555"}]}`)
	use(t, db, second)
	expect(t, db, `{ User(filter: {age: {_gt: 36}}) { name age phone } }`, `{"User":[{"name":"Ada L.","age":37,"phone":"555"}]}`)
	expect(t, db, `{ commits(order: {height: DESC}) { schemaVersionId deltas { fieldName } } }`,
		fmt.Sprintf(`{"commits":[{"schemaVersionId":%q,"deltas":[{"fieldName":"age"}]},`+
			`{"schemaVersionId":%q,"deltas":[{"fieldName":"name"}]},{"schemaVersionId":%q,"deltas":[{"fieldName":"phone"}]},`+
			`{"schemaVersionId":%q,"deltas":[{"fieldName":"age"},{"fieldName":"name"}]}]}`, first, third, second, first))

	var used []string
	for _, v := range db.Versions() {
		if v.IsActive() {
			used = append(used, v.Version.String())
		}
	}
	if len(db.Versions()) != 3 || !slices.Equal(used, []string{second}) {
		t.Errorf("%d versions, of which %v are used; want 3, and %s", len(db.Versions()), used, second)
	}
	for _, wrong := range []string{"", "nonsense", collection(t, node(t, `type X { a: Int }`), "X").Version.String()} {
		if _, err := db.ActivateVersion(t.Context(), wrong); err == nil {
			t.Errorf("activating %q is no error", wrong)
		}
	}
}

func TestVersionsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *pando.DB {
		db, err := pando.Open(t.Context(), dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	if _, err := db.AddSchema(t.Context(), `type User { name: String  age: Int @index }`); err != nil {
		t.Fatal(err)
	}
	first := collection(t, db, "User").Version.String()
	run(t, db, `mutation { create_User(input: [{name: "Ada Lovelace", age: 36}, {name: "Bo Derek", age: 3}]) { _docID } }`)
	patch(t, db, `[{"op": "remove", "path": "/User/Fields/name"}, {"op": "remove", "path": "/User/Fields/age"},
		{"op": "add", "path": "/User/Fields/-", "value": {"Name": "first", "Kind": "String"}},
		{"op": "add", "path": "/User/Fields/-", "value": {"Name": "last", "Kind": "String"}}]`,
		pando.Migration{Do: "split", From: []string{"name"}, To: []string{"first", "last"}})
	if _, err := db.CreateIndex(t.Context(), "User", pando.Index{Fields: []pando.IndexField{{Name: "last"}}}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open()
	if err := db.AwaitIndex(t.Context(), "User", "User_last_ASC"); err != nil {
		t.Fatal(err)
	}
	expect(t, db, `{ User(filter: {last: {_eq: "Derek"}}) { first } }`, `{"User":[{"first":"Bo"}]}`)
	use(t, db, first)
	if err := db.AwaitIndex(t.Context(), "User", "User_age_ASC"); err != nil {
		t.Fatal(err)
	}
	expect(t, db, `{ User(filter: {age: {_eq: 3}}) { name } }`, `{"User":[{"name":"Bo Derek"}]}`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pando.Rebuild(t.Context(), dir, nil, func(p pando.Problem) { t.Errorf("%+v", p) }); err != nil {
		t.Fatal(err)
	}
	db = open()
	defer db.Close()
	if n := len(db.Versions()); n != 2 {
		t.Errorf("%d versions after a rebuild, want 2", n)
	}
	if err := db.Check(t.Context(), func(p pando.Problem) { t.Errorf("%+v", p) }); err != nil {
		t.Fatal(err)
	}
}

func TestAnIndexFollowsTheVersionThatIsUsed(t *testing.T) {
	t.Parallel()
	db := node(t, `type User { age: Int @index(name: "ages")  old: String @index(name: "olds") }`)
	first := collection(t, db, "User").Version.String()
	run(t, db, `mutation { create_User(input: [{age: 5, old: "x"}, {age: 40, old: "y"}]) { _docID } }`)
	second := patch(t, db, `[{"op": "replace", "path": "/User/Fields/age/Kind", "value": "String"}, {"op": "remove", "path": "/User/Fields/old"}]`)
	for _, other := range []string{"old", "older"} {
		if err := db.AwaitIndex(t.Context(), "User", "ages"); err != nil {
			t.Fatal(err)
		}
		expect(t, db, `{ User(filter: {age: {_in: ["5", "40"]}}, order: {age: ASC}) { age } }`, `{"User":[{"age":"40"},{"age":"5"}]}`)
		run(t, db, fmt.Sprintf(`mutation { create_User(input: {age: %q}) { _docID } delete_User(filter: {age: {_eq: %[1]q}}) { _docID } }`, other))
		use(t, db, first)
		for _, name := range []string{"ages", "olds"} {
			if err := db.AwaitIndex(t.Context(), "User", name); err != nil {
				t.Fatal(err)
			}
		}
		expect(t, db, `{ User(filter: {age: {_gt: 4}}, order: {age: ASC}) { age } }`, `{"User":[{"age":5},{"age":40}]}`)
		expect(t, db, `{ User(filter: {old: {_eq: "y"}}) { age } }`, `{"User":[{"age":40}]}`)
		use(t, db, second)
	}
	if err := db.AwaitIndex(t.Context(), "User", "ages"); err != nil {
		t.Fatal(err)
	}
	if err := db.Check(t.Context(), func(p pando.Problem) { t.Errorf("%+v", p) }); err != nil {
		t.Fatal(err)
	}
}

func TestNodesThatPatchApartConverge(t *testing.T) {
	t.Parallel()
	const sdl = `type User { name: String }`
	a, b, c := node(t, sdl), node(t, sdl), node(t, sdl)
	users := collection(t, a, "User").ID
	run(t, a, `mutation { create_User(input: {name: "Ada"}) { _docID } }`)
	pull(t, b, a, users)

	// Both add a phone; one adds a mail too, the other renames the name.
	va := patch(t, a, `[{"op": "add", "path": "/User/Fields/-", "value": {"Name": "phone", "Kind": "String"}},
		{"op": "add", "path": "/User/Fields/-", "value": {"Name": "mail", "Kind": "String"}}]`)
	vb := patch(t, b, `[{"op": "add", "path": "/User/Fields/-", "value": {"Name": "phone", "Kind": "String"}},
		{"op": "replace", "path": "/User/Fields/name/Name", "value": "fullName"}]`)
	run(t, a, `mutation { update_User(all: true, input: {phone: "1", mail: "a@x"}) { _docID } }`)
	run(t, b, `mutation { update_User(all: true, input: {fullName: "Ada L."}) { _docID } }`)

	// A node with the first version alone takes the commits of both, and passes them on.
	pull(t, c, a, users)
	pull(t, c, b, users)
	expect(t, c, `{ User { name } }`, `{"User":[{"name":"Ada L."}]}`)
	pull(t, a, c, users)
	pull(t, b, c, users)
	same(t, a, b, users)
	same(t, a, c, users)
	expect(t, a, `{ User { name phone mail } }`, `{"User":[{"name":"Ada L.","phone":"1","mail":"a@x"}]}`)
	expect(t, b, `{ User { fullName phone } }`, `{"User":[{"fullName":"Ada L.","phone":"1"}]}`)
	run(t, b, `mutation { update_User(all: true, input: {phone: "2"}) { _docID } }`)
	pull(t, a, b, users)
	pull(t, c, b, users)
	expect(t, a, `{ User { name phone mail } }`, `{"User":[{"name":"Ada L.","phone":"2","mail":"a@x"}]}`)

	// Versions travel too, and nobody's own is changed by that.
	share(t, a, b, users)
	share(t, b, a, users)
	share(t, c, a, users)
	lineage := func(db *pando.DB) []byte {
		versions, err := db.Replica().Schema(t.Context(), users)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Join(versions, nil)
	}
	if !bytes.Equal(lineage(a), lineage(b)) || !bytes.Equal(lineage(a), lineage(c)) {
		t.Error("the nodes know different versions, or in another order")
	}
	if got := collection(t, a, "User").Version.String(); got != va {
		t.Errorf("a uses %s, want %s still", got, va)
	}
	use(t, a, vb)
	expect(t, a, `{ User { fullName phone } }`, `{"User":[{"fullName":"Ada L.","phone":"2"}]}`)
	use(t, c, va)
	expect(t, c, `{ User { name phone mail } }`, `{"User":[{"name":"Ada L.","phone":"2","mail":"a@x"}]}`)

	// Who joins starts with the newest version before they part.
	d := node(t, `type Other { x: Int }`)
	share(t, d, a, users)
	if got, want := collection(t, d, "User").Version, users; got != pando.Digest(want) {
		t.Errorf("a new node uses %s, want the first version", got)
	}
	// One version does not come without those before it.
	versions, err := a.Replica().Schema(t.Context(), users)
	if err != nil {
		t.Fatal(err)
	}
	if err := node(t, `type Other { x: Int }`).Replica().AddSchema(t.Context(), versions[1:]); !errors.Is(err, pando.ErrInvalid) {
		t.Errorf("versions without the first: %v, want Invalid", err)
	}
}

// Whatever the order in which commits of writers in several versions arrive, all
// nodes show the same in every version.
func TestMigrationsCommuteWithMerges(t *testing.T) {
	t.Parallel()
	const sdl = `type User { name: String  age: Int }`
	origin := node(t, sdl)
	users := collection(t, origin, "User").ID
	run(t, origin, `mutation { create_User(input: {name: "Ada Lovelace", age: 36}) { _docID } }`)
	split := `[{"op": "remove", "path": "/User/Fields/name"},
		{"op": "add", "path": "/User/Fields/-", "value": {"Name": "first", "Kind": "String"}},
		{"op": "add", "path": "/User/Fields/-", "value": {"Name": "last", "Kind": "String"}}]`
	versions := []string{
		collection(t, origin, "User").Version.String(),
		patch(t, origin, split, pando.Migration{Do: "split", From: []string{"name"}, To: []string{"first", "last"}}),
		patch(t, origin, `[{"op": "replace", "path": "/User/Fields/age/Kind", "value": "String"},
			{"op": "add", "path": "/User/Fields/-", "value": {"Name": "city", "Kind": "String"}}]`,
			pando.Migration{Do: "default", To: []string{"city"}, Value: []byte(`"Oslo"`)}),
		patch(t, origin, `[{"op": "remove", "path": "/User/Fields/first"}, {"op": "remove", "path": "/User/Fields/last"},
			{"op": "add", "path": "/User/Fields/-", "value": {"Name": "sorted", "Kind": "String"}}]`,
			pando.Migration{Do: "merge", From: []string{"last", "first"}, To: []string{"sorted"}, Separator: ", "}),
	}
	writes := [][]string{
		{`name: "Grace Hopper"`, `name: "Plato"`, `name: null`, `age: 7`, `age: null`},
		{`first: "Grete"`, `last: "Hermann"`, `first: null, last: null`, `age: 8`},
		{`first: "Emmy"`, `last: null`, `age: "nine"`, `age: "10"`, `city: "Bergen"`, `city: null`},
		{`sorted: "Noether, Emmy"`, `sorted: "Plato"`, `age: "11"`, `sorted: null`},
	}
	queries := []string{`{ User { name age } }`, `{ User { first last age } }`, `{ User { first last age city } }`, `{ User { sorted age city } }`}

	rapid.Check(t, func(rt *rapid.T) {
		var nodes []*pando.DB
		for range 3 {
			db, err := pando.Open(t.Context(), "", nil)
			if err != nil {
				rt.Fatal(err)
			}
			defer db.Close()
			nodes = append(nodes, db)
			share(t, db, origin, users)
			pull(t, db, origin, users)
		}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			db := rapid.SampledFrom(nodes).Draw(rt, "node")
			if rapid.IntRange(0, 3).Draw(rt, "what") == 0 {
				pull(t, db, rapid.SampledFrom(nodes).Draw(rt, "from"), users)
				continue
			}
			v := rapid.IntRange(0, len(versions)-1).Draw(rt, "version")
			use(t, db, versions[v])
			run(t, db, fmt.Sprintf(`mutation { update_User(all: true, input: {%s}) { _docID } }`, rapid.SampledFrom(writes[v]).Draw(rt, "write")))
			if got, again := run(t, db, queries[v]), run(t, db, queries[v]); got != again {
				rt.Fatalf("%s: %s, then %s", queries[v], got, again)
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
				if first == "" {
					first = got
				}
				if got != first {
					rt.Fatalf("version %d: node %d shows %s, node 0 %s", v+1, i, got, first)
				}
			}
		}
	})
}

// While versions change under them, writers write and readers read; the indexes are
// right in the end.
func TestVersionsChangeUnderLoad(t *testing.T) {
	t.Parallel()
	db := node(t, `type User @docID(mode: UNIQUE) { name: String @index  age: Int @index }`)
	versions := []string{
		collection(t, db, "User").Version.String(),
		patch(t, db, `[{"op": "replace", "path": "/User/Fields/age/Kind", "value": "String"}, {"op": "remove", "path": "/User/Fields/name"},
			{"op": "add", "path": "/User/Fields/first", "value": {"Kind": "String"}},
			{"op": "add", "path": "/User/Fields/last", "value": {"Kind": "String"}}]`,
			pando.Migration{Do: "split", From: []string{"name"}, To: []string{"first", "last"}}),
	}
	if _, err := db.CreateIndex(t.Context(), "User", pando.Index{Fields: []pando.IndexField{{Name: "last"}}}); err != nil {
		t.Fatal(err)
	}
	requests := []string{
		`mutation { create_User(input: {name: "Ada Lovelace", age: 36}) { _docID } }`,
		`mutation { create_User(input: {first: "Ada", last: "Byron", age: "37"}) { _docID } }`,
		`mutation { update_User(filter: {age: {_eq: 36}}, input: {age: 38}) { _docID } }`,
		`mutation { update_User(filter: {last: {_eq: "Byron"}}, input: {age: "38", last: "Noel"}) { _docID } }`,
		`{ User(filter: {name: {_eq: "Ada Lovelace"}}) { age } }`,
		`{ User(filter: {last: {_eq: "Noel"}}) { first } }`,
	}
	const rounds = 30
	var wg sync.WaitGroup
	for _, request := range requests {
		wg.Go(func() {
			for range rounds {
				err := db.Exec(t.Context(), pando.Request{Query: request}).Err()
				if err != nil && !errors.Is(err, pando.ErrInvalid) && !errors.Is(err, pando.ErrConflict) {
					t.Errorf("%s: %v", request, err) // that the other version is used is no wonder
				}
			}
		})
	}
	for i := range rounds {
		use(t, db, versions[i%2])
	}
	wg.Wait()
	for i, index := range []string{"User_age_ASC", "User_last_ASC"} {
		use(t, db, versions[i])
		if err := db.AwaitIndex(t.Context(), "User", index); err != nil {
			t.Fatal(err)
		}
		if err := db.Check(t.Context(), func(p pando.Problem) { t.Errorf("version %d: %+v", i+1, p) }); err != nil {
			t.Fatal(err)
		}
	}
}

package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
)

// node is a node without a network, and a client of it.
type node struct {
	*api.Client
	url string
}

func start(t *testing.T) *node {
	t.Helper()
	return startWith(t, api.Config{})
}

func startWith(t *testing.T, c api.Config) *node {
	t.Helper()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.DB = db
	server := api.NewServer(c)
	listener := httptest.NewServer(server.Handler())
	client, err := api.NewClient(listener.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		listener.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &node{client, listener.URL}
}

// withUsers is a node with a collection of users.
func withUsers(t *testing.T) *node {
	t.Helper()
	n := start(t)
	if _, err := n.AddSchema(t.Context(), `type User { name: String  age: Int }`); err != nil {
		t.Fatal(err)
	}
	return n
}

// query runs a request that must succeed and returns its data.
func query(t *testing.T, c *api.Client, text string) string {
	t.Helper()
	resp, err := c.Query(t.Context(), api.Request{Query: text})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if len(resp.Errors) > 0 {
		t.Fatalf("%s: %v", text, resp.Errors[0].Message)
	}
	return string(resp.Data)
}

// send sends a raw request and returns the status and the body.
func (n *node) send(t *testing.T, method, path, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, n.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func TestStatusSaysWhatHappened(t *testing.T) {
	t.Parallel()
	n := withUsers(t)
	query(t, n.Client, `mutation { create_User(input: {name: "Ada"}) { name } }`)
	long := strings.Repeat("x", 17<<20)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"a query", "POST", "/api/v0/graphql", `{"query": "{ User { name } }"}`, 200, `{"data":{"User":[{"name":"Ada"}]}}`},
		{"a query by GET", "GET", "/api/v0/graphql?query=%7BUser%7Bname%7D%7D", "", 200, `"Ada"`},
		{"variables by GET", "GET", "/api/v0/graphql?query=query(%24n:String)%7BUser(filter:%7Bname:%7B_eq:%24n%7D%7D)%7Bname%7D%7D&variables=%7B%22n%22:%22Ada%22%7D", "", 200, `"Ada"`},
		{"a mutation by GET", "GET", "/api/v0/graphql?query=mutation%7Bcreate_User(input:%7Bname:%22Bo%22%7D)%7Bname%7D%7D", "", 403, `"code":"DENIED"`},
		{"wrong variables by GET", "GET", "/api/v0/graphql?query=%7BUser%7Bname%7D%7D&variables=%7B", "", 400, "variables are no JSON"},
		{"an error on the data", "POST", "/api/v0/graphql", `{"query": "mutation { create_User(input: {name: \"Ada\"}) { name } }"}`, 200, `"code":"EXISTS"`},
		{"malformed GraphQL", "POST", "/api/v0/graphql", `{"query": "{ User { name "}`, 400, `"code":"INVALID"`},
		{"an unknown field", "POST", "/api/v0/graphql", `{"query": "{ User { shoeSize } }"}`, 400, "shoeSize"},
		{"no query", "POST", "/api/v0/graphql", `{}`, 400, "no query"},
		{"malformed JSON", "POST", "/api/v0/graphql", `{"query": `, 400, `"data":null`},
		{"nothing", "POST", "/api/v0/graphql", ``, 400, "it is empty"},
		{"two values", "POST", "/api/v0/graphql", `{"query": "{ User { name } }"} {}`, 400, "unexpected data after"},
		{"variables that are no object", "POST", "/api/v0/graphql", `{"query": "query($n: String) { User(filter: {name: {_eq: $n}}) { name } }", "variables": [1]}`, 400, "variables"},
		{"an oversized query", "POST", "/api/v0/graphql", `{"query": "` + long + `"}`, 413, `"code":"TOO_LARGE"`},
		{"an oversized schema", "POST", "/api/v0/schema", long, 413, `"code":"TOO_LARGE"`},
		{"a malformed schema", "POST", "/api/v0/schema", `type Pet { name: }`, 400, "1:18"},
		{"a schema that exists", "POST", "/api/v0/schema", `type User { name: String  age: Int }`, 409, `"code":"EXISTS"`},
		{"collections", "GET", "/api/v0/collections", "", 200, `"Name":"User"`},
		{"an unknown collection", "GET", "/api/v0/collections?name=Pet", "", 200, "[]\n"},
		{"a parameter that does not exist", "GET", "/api/v0/collections?nmae=Pet", "", 400, `\"nmae\" is no parameter`},
		{"a patch of nothing", "PATCH", "/api/v0/schema", `{"Patch": "[]"}`, 200, "[]\n"},
		{"a patch that goes wrong", "PATCH", "/api/v0/schema", `{"Patch": [{"op": "remove", "path": "/User"}]}`, 400, "collections cannot be deleted"},
		{"a patch of another shape", "PATCH", "/api/v0/schema", `{"Ptch": "[]"}`, 400, "Ptch"},
		{"lenses", "PATCH", "/api/v0/schema", `{"Patch": "[]", "Migration": {"Lenses": [{"Path": "file:///x"}]}}`, 400, "opens no files and no URLs"},
		{"lenses of no version", "POST", "/api/v0/lens", `{"SourceSchemaVersionID": "x", "DestinationSchemaVersionID": "y", "Lenses": []}`, 400, `"code":"INVALID"`},
		{"lenses of an unknown version", "POST", "/api/v0/lens", `{"SourceSchemaVersionID": "bafkreiedz62qn63jfsmxyueux6cl2l5wpef3z5pxtevn7pkjhssjtd6su4", "DestinationSchemaVersionID": "bafkreiedz62qn63jfsmxyueux6cl2l5wpef3z5pxtevn7pkjhssjtd6su4"}`, 404, "is unknown"},
		{"a module without a runtime", "PATCH", "/api/v0/schema", `{"Patch": [{"op": "add", "path": "/User/Fields/-", "value": {"Name": "x", "Kind": "String"}}], "Migration": {"Lenses": [{"Path": "data:application/wasm;base64,AAAA"}]}}`, 503, "runs no WASM modules"},
		{"no version", "POST", "/api/v0/schema/default", ``, 400, "schema version ID can't be empty"},
		{"an unknown version", "POST", "/api/v0/schema/default", `bafkreiedz62qn63jfsmxyueux6cl2l5wpef3z5pxtevn7pkjhssjtd6su4`, 404, "is unknown"},
		{"indexes", "GET", "/api/v0/collections/User/indexes", "", 200, "[]\n"},
		{"all indexes", "GET", "/api/v0/collections/indexes", "", 200, `{"User":[]}`},
		{"indexes of nothing", "GET", "/api/v0/collections/Pet/indexes", "", 404, `"code":"NOT_FOUND"`},
		{"an index without fields", "POST", "/api/v0/collections/User/indexes", `{"Fields":[]}`, 400, "index missing fields"},
		{"an index with another member", "POST", "/api/v0/collections/User/indexes", `{"Feilds":[]}`, 400, "Feilds"},
		{"dropping an unknown index", "DELETE", "/api/v0/collections/User/indexes/x", "", 404, "index with name doesn't exists. Name: x"},
		{"schemas", "GET", "/api/v0/schema?name=User", "", 200, `"Name":"User"`},
		{"an export", "GET", "/api/v0/export/User", "", 200, `"name":"Ada"}` + "\n"},
		{"an export of nothing", "GET", "/api/v0/export/Pet", "", 404, `"code":"NOT_FOUND"`},
		{"an import into nothing", "POST", "/api/v0/import/Pet", "{}", 404, `"code":"NOT_FOUND"`},
		{"an import policy that does not exist", "POST", "/api/v0/import/User?existing=eat", "{}", 400, "want fail or skip"},
		{"an unknown path", "GET", "/api/v0/nowhere", "", 404, "/api/v0/nowhere is no path"},
		{"a wrong method", "DELETE", "/api/v0/schema", "", 405, "use GET or POST"},
		{"a transaction that is not open", "POST", "/api/v0/tx/7", "", 404, "transaction 7 is not open"},
		{"a transaction id that is none", "DELETE", "/api/v0/tx/seven", "", 400, `id is \"seven\"`},
		{"the network", "GET", "/api/v0/p2p/info", "", 503, "p2p network is disabled"},
		{"joining without a network", "POST", "/api/v0/p2p/join", `{"ticket": "x"}`, 503, "p2p network is disabled"},
		{"health", "GET", "/health", "", 200, `"Healthy"`},
		{"health, as it was called", "GET", "/health-check", "", 200, `"Healthy"`},
		{"ready", "GET", "/ready", "", 200, `"Ready"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			status, body := n.send(t, c.method, c.path, c.body)
			if status != c.status || !strings.Contains(body, c.says) {
				t.Errorf("%s %s: got %d %.300s, want %d with %s", c.method, c.path, status, body, c.status, c.says)
			}
		})
	}
}

// What a node does not know it refuses: a request whose misspelt part is ignored does
// something else than was asked for.
func TestWhatDoesNotExistIsRefused(t *testing.T) {
	t.Parallel()
	n := withUsers(t)
	const q = `"query": "{ User { name } }"`
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "/graphql", `{` + q + `, "explian": "simple"}`, 400, "explian"},
		{"POST", "/graphql", `{` + q + `, "extensions": {"persistedQuery": {"version": 1}}}`, 200, `"User"`},
		{"POST", "/graphql", `{` + q + `, "extensions": null}`, 200, `"User"`},
		{"POST", "/graphql?operation=x", `{` + q + `}`, 400, "is no parameter"},
		{"GET", "/graphql?query=%7BUser%7Bname%7D%7D&vars=%7B%7D", "", 400, "is no parameter"},
		{"GET", "/graphql?query=%7BUser%7Bname%7D%7D&query=%7BUser%7Bage%7D%7D", "", 400, "give it once"},
		{"GET", "/graphql?query=%7BUser%7Bname%7D%7D&extensions=%7B%7D", "", 200, `"User"`},
		{"GET", "/collections?name=%zz", "", 400, "query string"},
		{"POST", "/tx", `{"readOnly": true}`, 400, "readOnly"},
		{"POST", "/tx", `read only`, 400, "body"},
		{"POST", "/tx?read_only=true&read_only=false", ``, 400, "give it once"},
		{"POST", "/tx", `{}`, 200, "id"},
		{"POST", "/view/refresh", `{"name": "x"}`, 400, "name"},
		{"POST", "/view/refresh", ``, 200, "[]"},
		{"POST", "/import/User?skip=existing", `{"name": "Bo"}`, 400, "is no parameter"},
		{"GET", "/export/User?limit=1", "", 400, "is no parameter"},
		{"POST", "/backup/export?pretty=true", "", 400, "is no parameter"},
		{"POST", "/backup/import?skip=true", `{"User": []}`, 400, "is no parameter"},
		{"GET", "/backup/archive?format=json", "", 400, "is no parameter"},
	} {
		if status, body := n.send(t, c.method, api.Base+c.path, c.body); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s %s %s: got %d %.300s, want %d with %s", c.method, c.path, c.body, status, body, c.status, c.says)
		}
	}
}

func TestASchemaIsPatchedAndActivated(t *testing.T) {
	t.Parallel()
	n := withUsers(t)
	query(t, n.Client, `mutation { create_User(input: {name: "Ada Lovelace", age: 36}) { name } }`)
	send := func(method, path, body, want string) string {
		t.Helper()
		status, got := n.send(t, method, path, body)
		if status != 200 || !strings.Contains(got, want) {
			t.Fatalf("%s %s: got %d %s, want 200 with %s", method, path, status, got, want)
		}
		return got
	}
	split := `[{"op": "remove", "path": "/User/Fields/name"},
		{"op": "add", "path": "/User/Fields/first", "value": {"Kind": "String"}},
		{"op": "add", "path": "/User/Fields/last", "value": {"Kind": "String"}}]`
	rules := `{"Rules": [{"Do": "split", "From": "name", "To": ["first", "last"]}]}`
	send("PATCH", "/api/v0/schema", `{"Patch": `+split+`, "Migration": `+rules+`}`, `"IsActive":false`)
	send("POST", "/api/v0/graphql", `{"query": "{ User { name } }"}`, "Ada Lovelace")

	// As the dialect sends it: the patch is a string.
	text, err := json.Marshal(split)
	if err != nil {
		t.Fatal(err)
	}
	send("PATCH", "/api/v0/schema", `{"Patch": `+string(text)+`, "SetAsDefaultVersion": true, "Migration": `+rules+`}`, `"Transform":{"Lenses":[],"Rules":[{"Do":"split"`)
	send("POST", "/api/v0/graphql", `{"query": "{ User { first last } }"}`, `{"first":"Ada","last":"Lovelace"}`)
	if got := send("GET", "/api/v0/schema?name=User", "", `"first"`); strings.Count(got, "VersionID") != 2 {
		t.Errorf("schemas are %s, want two versions", got)
	}
	if got := send("GET", "/api/v0/collections?name=User", "", `"IsActive":true`); strings.Contains(got, `"IsActive":false`) {
		t.Errorf("collections are %s, want the active one", got)
	}
	versions, err := n.Versions(t.Context(), "User")
	if err != nil || len(versions) != 2 || versions[0].IsActive || !versions[1].IsActive {
		t.Fatalf("versions are %+v, %v; want two, of which the second is used", versions, err)
	}
	send("GET", "/api/v0/collections?version_id="+versions[0].VersionID, "", `"IsActive":false`)
	send("POST", "/api/v0/schema/default", versions[0].VersionID+"\n", `"IsActive":true`)
	send("POST", "/api/v0/graphql", `{"query": "mutation { update_User(all: true, input: {name: \"Grace Hopper\"}) { name } }"}`, "Grace")
	send("POST", "/api/v0/schema/default", versions[1].VersionID, `"IsActive":true`)
	send("POST", "/api/v0/graphql", `{"query": "{ User { first last } }"}`, `{"first":"Grace","last":"Hopper"}`)
}

func TestPagesOfOthersAreKeptOut(t *testing.T) {
	t.Parallel()
	n := withUsers(t)
	body := `{"query": "{ User { name } }"}`
	for _, c := range []struct {
		name   string
		header []string
		status int
	}{
		{"no browser", nil, 200},
		{"a page of the node", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"a page of another site", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a page of another origin, old browser", []string{"Origin", "http://evil.example"}, 403},
		{"a name that was made to mean this machine", []string{"Host", "evil.example"}, 403},
		{"localhost", []string{"Host", "localhost:9181"}, 200},
		{"IPv6", []string{"Host", "[::1]:9181"}, 200},
	} {
		if status, got := n.send(t, "POST", "/api/v0/graphql", body, c.header...); status != c.status {
			t.Errorf("%s: got %d %s, want %d", c.name, status, got, c.status)
		}
	}
}

func TestFailuresKeepTheirKindOverTheWire(t *testing.T) {
	t.Parallel()
	n := withUsers(t)
	ctx := t.Context()
	_, err := n.AddSchema(ctx, `type User { name: String  age: Int }`)
	if !errors.Is(err, fault.Exists) || api.ExitCode(err) != 4 {
		t.Errorf("a schema that exists: %v, exit code %d", err, api.ExitCode(err))
	}
	if err := n.Export(ctx, "Pet", io.Discard); !errors.Is(err, pando.ErrNotFound) || api.ExitCode(err) != 3 {
		t.Errorf("an unknown collection: %v", err)
	}
	if _, err := n.Info(ctx); !errors.Is(err, fault.Unavailable) {
		t.Errorf("no network: %v", err)
	}
	resp, err := n.Query(ctx, api.Request{Query: "{ User { shoeSize } }"})
	if err != nil || len(resp.Errors) != 1 || !errors.Is(resp.Errors[0].Err(), fault.Invalid) {
		t.Errorf("a wrong query: %v, %+v", err, resp)
	}
	nobody, err := api.NewClient("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nobody.Status(ctx); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "pando start") {
		t.Errorf("no node: %v", err)
	}
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	n := withUsers(t)
	ctx := t.Context()
	query(t, n.Client, `mutation { create_User(input: {name: "Ada", age: 36}) { name } }`)

	first, err := n.Begin(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	second, err := n.Begin(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, tx := range []api.TxID{first, second} {
		query(t, n.Within(tx.ID), fmt.Sprintf(`mutation { update_User(filter: {name: {_eq: "Ada"}}, input: {age: %d}) { age } }`, i))
	}
	if got := query(t, n.Within(first.ID), `{ User { age } }`); got != `{"User":[{"age":0}]}` {
		t.Errorf("inside the transaction: %s", got)
	}
	if got := query(t, n.Client, `{ User { age } }`); got != `{"User":[{"age":36}]}` {
		t.Errorf("outside the transaction: %s", got)
	}
	if err := n.Commit(ctx, first); err != nil {
		t.Errorf("the first committer: %v", err)
	}
	if err := n.Commit(ctx, second); !errors.Is(err, fault.Conflict) {
		t.Errorf("the second committer: %v, want a conflict", err)
	}
	if err := n.Commit(ctx, second); !errors.Is(err, fault.NotFound) {
		t.Errorf("a transaction that has ended: %v", err)
	}
	if _, err := n.Within(first.ID).Status(ctx); !errors.Is(err, fault.Invalid) {
		t.Errorf("an operation that runs in no transaction: %v", err)
	}

	reading, err := n.Begin(ctx, true)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := n.Within(reading.ID).Query(ctx, api.Request{Query: `mutation { create_User(input: {name: "Bo"}) { name } }`})
	if err != nil || len(resp.Errors) != 1 || !errors.Is(resp.Errors[0].Err(), fault.Denied) {
		t.Errorf("a write in a read-only transaction: %v, %+v", err, resp)
	}
	if err := n.Discard(ctx, reading); err != nil {
		t.Error(err)
	}
	for _, header := range []string{"x-pando-tx", "x-defradb-tx"} {
		if status, body := n.send(t, "POST", "/api/v0/graphql", `{"query": "{ User { age } }"}`, header, "12345"); status != 404 {
			t.Errorf("%s of an unknown transaction: %d %s", header, status, body)
		}
		if status, body := n.send(t, "POST", "/api/v0/graphql", `{"query": "{ User { age } }"}`, header, "seven"); status != 400 {
			t.Errorf("%s that is no number: %d %s", header, status, body)
		}
		// Whoever sends the header means to work in a transaction.
		if status, body := n.send(t, "POST", "/api/v0/graphql", `{"query": "{ User { age } }"}`, header, ""); status != 400 {
			t.Errorf("%s that is empty: %d %s", header, status, body)
		}
	}
}

// A request that names two transactions would run in one that it does not mean.
func TestHeadersNameOneTransaction(t *testing.T) {
	t.Parallel()
	n := withUsers(t)
	tx, err := n.Begin(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprint(tx.ID)
	for _, c := range []struct {
		status int
		header []string
	}{
		{200, []string{"X-Pando-Tx", id, "X-Defradb-Tx", id}},
		{400, []string{"X-Pando-Tx", id, "X-Defradb-Tx", "12"}},
		{400, []string{"X-Pando-Tx", id, "X-Defradb-Tx", "twelve"}},
	} {
		if status, body := n.send(t, "POST", "/api/v0/graphql", `{"query": "{ User { name } }"}`, c.header...); status != c.status {
			t.Errorf("%v: %d %s, want %d", c.header, status, body, c.status)
		}
	}
}

func TestImportIsWholeBatchByBatch(t *testing.T) {
	t.Parallel()
	n := withUsers(t)
	ctx := t.Context()
	var lines strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&lines, "{\"name\": \"user %d\", \"age\": %d}\n", i, i)
	}
	good := lines.String()

	var seen []int
	done, err := n.Import(ctx, "User", strings.NewReader(good+`{"name": "late", "age": "old"}`), api.ImportOptions{}, func(at api.Imported) {
		seen = append(seen, at.Documents)
	})
	if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "line 2501: ") {
		t.Errorf("a wrong type: %v, %+v", err, done)
	}
	if fmt.Sprint(seen) != "[1000 2000]" {
		t.Errorf("reported %v", seen)
	}
	if got := exported(t, n); len(got) != 2000 {
		t.Errorf("%d documents after the failure, want the 2000 that were reported", len(got))
	}
	if _, err := n.Import(ctx, "User", strings.NewReader(good), api.ImportOptions{}, nil); !errors.Is(err, fault.Exists) || !strings.Contains(err.Error(), "line 1: ") {
		t.Errorf("duplicates: %v", err)
	}
	done, err = n.Import(ctx, "User", strings.NewReader(good), api.ImportOptions{SkipExisting: true}, nil)
	if err != nil || done.Documents != 500 || done.Skipped != 2000 {
		t.Errorf("repeated: %+v, %v", done, err)
	}

	// What one node exports another imports, with the same docIDs.
	var file strings.Builder
	if err := n.Export(ctx, "User", &file); err != nil {
		t.Fatal(err)
	}
	other := withUsers(t)
	if _, err := other.Import(ctx, "User", strings.NewReader(file.String()), api.ImportOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	a, b := exported(t, n), exported(t, other)
	if len(a) != 2500 || fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("%d documents came out as %d others", len(a), len(b))
	}
}

func TestImportReadsAnArray(t *testing.T) {
	t.Parallel()
	n := withUsers(t)
	done, err := n.Import(t.Context(), "User", strings.NewReader("[\n{\"name\": \"Ada\"},\n{\"name\": \"Bo\"}\n]\n"), api.ImportOptions{}, nil)
	if err != nil || done != (api.Imported{Documents: 2, Line: 3}) {
		t.Errorf("got %+v, %v", done, err)
	}
}

// exported returns the documents of a node as its export has them.
func exported(t *testing.T, n *node) (lines []string) {
	t.Helper()
	var file strings.Builder
	if err := n.Export(t.Context(), "User", &file); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(file.String()) {
		if !json.Valid([]byte(line)) {
			t.Fatalf("exported %q", line)
		}
		lines = append(lines, line)
	}
	return lines
}

// endless is a client that never stops to send.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "{\"name\": 7}\n"), nil }

func TestFailedImportIsReportedWhileTheClientSends(t *testing.T) {
	t.Parallel()
	n := withUsers(t)
	for _, c := range []struct {
		collection string
		body       io.Reader
		kind       *fault.Kind
	}{
		{"Pet", endless{}, fault.NotFound},
		{"User", endless{}, fault.Invalid},
		{"User", strings.NewReader("{\"name\": }\n" + strings.Repeat("{\"name\": \"x\"}\n", 1<<20)), fault.Invalid},
	} {
		if _, err := n.Import(t.Context(), c.collection, c.body, api.ImportOptions{}, nil); !errors.Is(err, c.kind) {
			t.Errorf("import into %s: %v, want %v", c.collection, err, c.kind)
		}
	}
	if got := query(t, n.Client, `{ User { name } }`); got != `{"User":[]}` {
		t.Errorf("the failed imports left %s", got)
	}
}

func TestWrongBodiesAreDescribedInTheWordsOfJSON(t *testing.T) {
	t.Parallel()
	n := withUsers(t)
	for body, want := range map[string]string{
		`[]`:            "body: it is a JSON array, want an object",
		`{"query": 7}`:  `body: \"query\" is a JSON number, want a string`,
		`{"query": {}}`: `body: \"query\" is a JSON object, want a string`,
		``:              "body: it is empty, want JSON",
		"{\"query\": \"{ User(filter: {name: {_eq: \\\"\xff\\\"}}) { name } }\"}": "body: it is not valid UTF-8",
		`{"query": "{ User(filter: {name: {_eq: \"\ud83d\"}}) { name } }"}`:       "half of a character",
	} {
		status, got := n.send(t, "POST", "/api/v0/graphql", body)
		if status != 400 || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s, want 400 and %s", body, status, got, want)
		}
	}
}

func TestTextIsStoredAsItWasSent(t *testing.T) {
	t.Parallel()
	n := withUsers(t)
	for i, body := range []string{
		`{"query": "mutation { create_User(input: {age: 0, name: \"\ud83d\ude00\"}) { name } }"}`,
		`{"query": "mutation { create_User(input: {age: 1, name: \"😀\"}) { name } }"}`,
		`{"query": "mutation ($n: String) { create_User(input: {age: 2, name: $n}) { name } }", "variables": {"n": "\ud83d\ude00"}}`,
		`{"query": "mutation { create_User(input: {age: 3, name: \"😀\"}) { name } }", "variables": {"unused": "\ufffd"}}`,
	} {
		status, got := n.send(t, "POST", "/api/v0/graphql", body)
		if want := `{"data":{"create_User":[{"name":"😀"}]}}`; status != 200 || strings.TrimSpace(got) != want {
			t.Errorf("request %d: %d %s, want %s", i, status, got, want)
		}
	}
}

func TestAClientWaitsForANodeThatIsStarting(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() // from now on, connections are refused
	impatient, err := api.NewClient(addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := impatient.Collections(t.Context()); !errors.Is(err, fault.Unavailable) {
		t.Fatalf("nobody listens: %v, want Unavailable", err)
	}
	c, err := api.NewClient(addr)
	if err != nil {
		t.Fatal(err)
	}
	c.Wait(time.Minute)
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	server := api.NewServer(api.Config{DB: db})
	served := make(chan error, 1)
	go func() {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			served <- err
			return
		}
		served <- server.Serve(l)
	}()
	if _, err := c.Collections(t.Context()); err != nil {
		t.Errorf("a node that starts meanwhile: %v", err)
	}
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// An index is created over HTTP, listed for one collection and for all, and dropped.
func TestIndexesOverHTTP(t *testing.T) {
	n := withUsers(t)
	const path = "/api/v0/collections/User/indexes"
	status, body := n.send(t, "POST", path+"?wait=true", `{"Name":"","Fields":[{"Name":"age","Descending":true},{"Name":"name"}],"Unique":false}`)
	want := `{"Name":"User_age_ASC","ID":1,"Fields":[{"Name":"age","Descending":true},{"Name":"name","Descending":false}],"Unique":false,"Ready":true}`
	if status != 200 || strings.TrimSpace(body) != want {
		t.Errorf("creating gives %d %s, want %s", status, body, want)
	}
	if _, body := n.send(t, "GET", path, ""); strings.TrimSpace(body) != "["+want+"]" {
		t.Errorf("the list is %s, want %s in it", body, want)
	}
	all, err := n.AllIndexes(t.Context())
	if err != nil || len(all["User"]) != 1 {
		t.Errorf("all indexes are %v, %v, want one of User", all, err)
	}
	if _, err := n.CreateIndex(t.Context(), "User", api.NewIndex{Name: "User_age_ASC", Fields: []api.IndexField{{Name: "age"}}}, false); !errors.Is(err, fault.Exists) {
		t.Errorf("a second index of that name: %v, want Exists", err)
	}
	if err := n.DropIndex(t.Context(), "User", "User_age_ASC"); err != nil {
		t.Fatal(err)
	}
	if left, err := n.Indexes(t.Context(), "User"); err != nil || len(left) != 0 {
		t.Errorf("after the drop there are %v, %v", left, err)
	}
}

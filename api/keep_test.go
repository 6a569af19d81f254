package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
)

// ask sends a request as a client of DefraDB would, and returns what is answered.
func ask(t *testing.T, n *node, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, n.url+api.Base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(raw))
}

// What is kept is changed by collections, by documents and by filters, and read back.
func TestKeepOverHTTP(t *testing.T) {
	t.Parallel()
	n, _ := pair(t)
	_, made := ask(t, n, "POST", "/graphql", `{"query": "mutation { create_User(input: [{name: \"Ada\"}, {name: \"Bob\"}]) { _docID } }"}`)
	var data struct {
		Data struct {
			Users []struct {
				DocID string `json:"_docID"`
			} `json:"create_User"`
		}
	}
	if err := json.Unmarshal([]byte(made), &data); err != nil || len(data.Data.Users) != 2 {
		t.Fatalf("%s: %v", made, err)
	}
	doc := `["` + data.Data.Users[0].DocID + `"]`
	const absent = `["bafkreihiskbjbwen4n3lftv2l4kfmt3uvwm3btbrpvdzvsuditeazyxgve"]`
	for _, step := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/p2p/collections", "", 200, `["User"]`},
		{"GET", "/p2p/documents", "", 200, `[]`},
		{"POST", "/p2p/documents", doc, 200, ``},
		{"GET", "/p2p/documents", "", 200, `[]`}, // it is kept anyway
		{"DELETE", "/p2p/documents", doc, 400, `kept whole`},
		{"DELETE", "/p2p/collections", `["User"]`, 200, ``},
		{"GET", "/p2p/collections", "", 200, `[]`},
		{"POST", "/p2p/documents", doc, 200, ``},
		{"GET", "/p2p/documents", "", 200, doc},
		{"GET", "/p2p/keep", "", 200, `[{"collection":"User","kept":"part","documents":` + doc},
		{"POST", "/p2p/documents", absent, 404, `?collection=NAME`},
		{"POST", "/p2p/documents?collection=User", absent, 200, ``},
		{"DELETE", "/p2p/documents", absent, 200, ``},
		{"GET", "/p2p/documents", "", 200, doc},
		{"POST", "/p2p/documents", `["x"]`, 400, ``},
		{"POST", "/p2p/keep", `{"collection": "User", "filter": "{name: {_eq: \"Ada\"}}"}`, 200, ``},
		{"GET", "/p2p/keep", "", 200, `"kept":"part","filter":"{name: {_eq: \"Ada\"}}"`},
		{"POST", "/graphql", `{"query": "{ User { name } }"}`, 200, `"extensions":{"coverage":[{"collection":"User","kept":"part"`},
		{"POST", "/p2p/keep", `{"collection": "User"}`, 400, `say one of`},
		{"POST", "/p2p/keep", `{"collection": "User", "all": true, "filter": "{}"}`, 400, `say one of`},
		{"POST", "/p2p/keep", `{"collection": "User", "filter": "{age: {_eq: 1}}"}`, 400, `age`},
		{"POST", "/p2p/keep", `{"collection": "Nobody", "all": true}`, 404, `Nobody`},
		{"POST", "/p2p/collections", `["User", "Nobody"]`, 404, `Nobody`},
		{"GET", "/p2p/collections", "", 200, `[]`},
		{"POST", "/p2p/collections", `["User"]`, 200, ``},
		{"GET", "/p2p/collections", "", 200, `["User"]`},
		{"GET", "/p2p/keep", "", 200, `"kept":"whole"`},
	} {
		status, got := ask(t, n, step.method, step.path, step.body)
		if status != step.status || !strings.Contains(got, step.says) {
			t.Errorf("%s %s %s: %d %s, want %d with %s", step.method, step.path, step.body, status, got, step.status, step.says)
		}
	}
	// And by the client.
	if err := n.Keep(t.Context(), "User", api.Part{None: true}); err != nil {
		t.Fatal(err)
	}
	if kept, err := n.Kept(t.Context()); err != nil || len(kept) != 1 || kept[0].Kept != "none" {
		t.Errorf("kept %+v, %v", kept, err)
	}
	if err := n.Keep(t.Context(), "User", api.Part{}); !errors.Is(err, fault.Invalid) {
		t.Errorf("kept nothing in particular: %v", err)
	}
}

// What an answer is about is told apart from its data, however it is read.
func TestAnswersAboutAPartAreReadApart(t *testing.T) {
	t.Parallel()
	n := peered(t)
	if _, err := n.AddSchema(t.Context(), `type User { name: String }`); err != nil {
		t.Fatal(err)
	}
	query(t, n.Client, `mutation { create_User(input: {name: "}\\\"{"}) { _docID } }`)
	const filter = `{name: {_eq: "}\"{"}}`
	if err := n.Keep(t.Context(), "User", api.Part{Filter: filter}); err != nil {
		t.Fatal(err)
	}
	var data bytes.Buffer
	streamed, err := n.Stream(t.Context(), api.Request{Query: `{ User { name } }`}, &data)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := n.Query(t.Context(), api.Request{Query: `{ User { name } }`})
	if err != nil {
		t.Fatal(err)
	}
	if data.String() != string(whole.Data) || !json.Valid(data.Bytes()) {
		t.Errorf("the data of a stream is\n%s\nand of an answer\n%s", &data, whole.Data)
	}
	for _, resp := range []*api.Response{streamed, whole} {
		c := resp.Extensions.Coverage
		if len(c) != 1 || c[0].Collection != "User" || c[0].Kept != "part" || c[0].Filter != filter {
			t.Errorf("the answer is about %+v", c)
		}
	}
}

func TestWrongPartsAreDescribedByTheirNames(t *testing.T) {
	t.Parallel()
	n := peered(t)
	for body, want := range map[string]string{
		`{}`: "names no collection",
		`{"collection": "User", "filter": {"stars": 3}}`: `body: \"filter\" is a JSON object, want a string`,
	} {
		status, got := n.send(t, "POST", "/api/v0/p2p/keep", body)
		if status != 400 || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s, want 400 and %s", body, status, got, want)
		}
	}
}

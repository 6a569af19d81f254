package query

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/fault"
)

// No text and no variables may do more than give an answer or an error of a known
// kind. The database is small, so that the time is that of the request path.
func FuzzRequest(f *testing.F) {
	for _, text := range scriptRequests(f) {
		query, vars, _ := strings.Cut(text, "\nvariables\n")
		f.Add(query, vars)
	}
	for _, text := range hostile() {
		if len(text) < 2000 {
			f.Add(text, "")
		}
	}
	d := open(f)
	d.schemas.Limits = Limits{Text: 1 << 14, Tokens: 2000, Held: 1 << 20}
	d.mustAdd(`
		type Port   { city: String  ships: [Ship] }
		type Ship   { name: String built: Int tons: Float flags: [String!] logs: [Int] meta: JSON port: Port crew: [Sailor] }
		type Sailor { nick: String rank: Int ship: Ship }
		type T { n: String a: Int f: Float g: Float32 b: Boolean i: ID d: DateTime x: Blob j: JSON }`)
	d.must(`mutation { create_T(input: [{n: "1" a: 1 f: 1.5 b: true j: {a: [1, null]}} {n: "2"}]) { n } create_Ship(input: {name: "Ada"}) { name } }`)
	f.Fuzz(func(t *testing.T, query, vars string) {
		d.t = t
		p, err := Compile(d.generated(), Request{Query: query, Variables: json.RawMessage(vars)})
		if err == nil {
			_ = p.String()
			_, err = d.exec(Request{Query: query, Variables: json.RawMessage(vars)})
		}
		if err == nil {
			return
		}
		var es Errors
		if !errors.As(err, &es) || len(es) == 0 || fault.Of(err) == nil || errors.Is(err, fault.Corrupt) {
			t.Fatalf("%q with %q: %v (%T)", query, vars, err, err)
		}
		if !json.Valid(es.AppendJSON(nil)) {
			t.Fatalf("%q: errors are no JSON: %s", query, es.AppendJSON(nil))
		}
	})
}

// scriptRequests returns the requests of the scripts, without what they answer.
func scriptRequests(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/script/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var requests []string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(b), "\n\n") {
			head, _, _ := strings.Cut(part, "\n----")
			if _, text, ok := strings.Cut(head, "\n"); ok {
				requests = append(requests, text)
			}
		}
	}
	return requests
}

package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
)

// No text and no variables may do more than give an answer or an error of a known
// kind, and indexes change no answer. The database is small, so that the time is that
// of the request path; writes are taken back, so that a failure can be had again.
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
	plain, indexed := fuzzed(f), fuzzed(f)
	if err := indexed.indexAll(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query, vars string) {
		req := Request{Query: query, Variables: json.RawMessage(vars)}
		plain.t, indexed.t = t, t
		want, err := plain.trial(req)
		got, ierr := indexed.trial(req)
		for _, err := range []error{err, ierr} {
			wantKnown(t, query, vars, err)
		}
		if err == nil && ierr == nil && !ownWay.MatchString(query) && string(got) != string(want) {
			t.Fatalf("%q with %q: %s with indexes, %s without", query, vars, got, want)
		}
	})
}

// ownWay finds what differs between any two databases: commits and their times, and
// what is said about plans and about the schema.
var ownWay = regexp.MustCompile(`(?i)commit|cid|_version|time|signature|explain|asof|latest`)

// fuzzed returns a database with a little of everything.
func fuzzed(f *testing.F) *dbase {
	d := open(f)
	d.schemas.Limits = Limits{Text: 1 << 14, Tokens: 2000, Held: 1 << 20}
	d.mustAdd(`
		type Port   { city: String  ships: [Ship] }
		type Ship   { name: String built: Int tons: Float flags: [String!] logs: [Int] meta: JSON port: Port crew: [Sailor] }
		type Sailor { nick: String rank: Int ship: Ship }
		type P { name: String home: H @primary }
		type H { street: String owner: P }
		type T { n: String a: Int f: Float g: Float32 b: Boolean i: ID d: DateTime x: Blob j: JSON v: [Float!] hits: Int @crdt(type: pncounter) }`)
	d.must(`mutation { create_T(input: [{n: "1" a: 1 f: 1.5 b: true j: {a: [1, null]} v: [1, 0]} {n: "2"} {n: "3" a: 1 g: 0.5 x: "ff" i: "x" d: "2020-01-01T00:00:00Z" j: "t" v: [3, 4]}]) { n } }`)
	id := func(text string) string { return docIDOf.FindStringSubmatch(d.must(text))[1] }
	port := id(`mutation { create_Port(input: {city: "Oslo"}) { _docID } create_H(input: {street: "high"}) { street } }`)
	ada := id(`mutation { create_Ship(input: [{name: "Ada" built: 1990 tons: 10.5 flags: ["no", "eu"] logs: [1, null, 3] meta: {fuel: {use: 5}} port: "` + port + `"}, {name: "Bo" port: "` + port + `"}]) { _docID } }`)
	d.must(`mutation { create_Sailor(input: [{nick: "kit" rank: 1 ship: "` + ada + `"}, {nick: "lou" rank: 3 ship: "` + ada + `"}, {nick: "ole"}]) { nick } }`)
	d.must(`mutation { update_Ship(docID: "` + ada + `", input: {built: 1991}) { name } delete_Sailor(filter: {nick: {_eq: "ole"}}) { nick } }`)
	return d
}

// errTrial ends a transaction that is to leave nothing behind.
var errTrial = errors.New("only a trial")

// trial runs a request and takes back what it wrote.
func (d *dbase) trial(req Request) ([]byte, error) {
	p, err := Compile(d.generated(), req)
	if err != nil {
		return nil, err
	}
	_ = p.String()
	var out bytes.Buffer
	run := func(tx *store.Tx) error {
		out.Reset()
		if err := p.Run(context.Background(), tx, &out); err != nil || p.ReadOnly() {
			return err
		}
		return errTrial
	}
	if p.ReadOnly() {
		err = d.store.View(context.Background(), store.System, run)
	} else {
		err = d.store.Update(context.Background(), store.As(d.key), run)
	}
	if errors.Is(err, errTrial) {
		err = nil
	}
	if err == nil && !json.Valid(out.Bytes()) {
		d.t.Errorf("%s: the answer is no JSON: %s", req.Query, out.Bytes())
	}
	return out.Bytes(), err
}

// wantKnown fails unless an error is one that a caller can be told.
func wantKnown(t *testing.T, query, vars string, err error) {
	t.Helper()
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

package query

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/store"
)

// dbase is a database in memory that answers requests.
type dbase struct {
	t       testing.TB
	store   *store.Store
	key     ident.Key
	schemas Schemas
	options store.Options // to open it again
	reader  store.Caller  // who reads; nobody named: everything is read
}

func open(t testing.TB) *dbase {
	t.Helper()
	d := openStore(t)
	t.Cleanup(func() {
		if err := d.store.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

// openStore is open without the end.
func openStore(t testing.TB) *dbase {
	t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o := store.Options{
		FS:  kv.NewMemFS(),
		Now: func() time.Time { now = now.Add(time.Second); return now },
	}
	s, err := store.Open("db", o)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ident.GenerateFrom(ident.EdDSA, strings.NewReader(strings.Repeat("pando", 20)))
	if err != nil {
		t.Fatal(err)
	}
	return &dbase{t: t, store: s, key: key, options: o}
}

func (d *dbase) addSchema(sdl string) error {
	return d.store.Update(context.Background(), store.As(d.key), func(tx *store.Tx) error {
		policies, err := tx.Policies()
		if err != nil {
			return err
		}
		cs, err := schema.Parse(sdl, tx.Set().All(), policies...)
		if err != nil {
			return err
		}
		return tx.AddCollections(cs)
	})
}

func (d *dbase) generated() *Schema { return d.schemas.Of(d.store.Schema()) }

// exec runs a request as a server would.
func (d *dbase) exec(req Request) ([]byte, error) {
	reader := store.System
	if d.reader.Public() != "" {
		reader = d.reader
	}
	return d.execOf(req, reader, store.As(d.key))
}

// execAs is exec of somebody.
func (d *dbase) execAs(who store.Caller, req Request) ([]byte, error) { return d.execOf(req, who, who) }

func (d *dbase) execOf(req Request, reader, writer store.Caller) ([]byte, error) {
	p, err := Compile(d.generated(), req)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	run := func(tx *store.Tx) error {
		out.Reset()
		return p.Run(context.Background(), tx, &out)
	}
	if p.ReadOnly() {
		err = d.store.View(context.Background(), reader, run)
	} else {
		err = d.store.Update(context.Background(), writer, run)
	}
	if err == nil && !json.Valid(out.Bytes()) {
		d.t.Errorf("%s: the answer is no JSON: %s", req.Query, out.Bytes())
	}
	return out.Bytes(), err
}

func (d *dbase) must(query string) string {
	d.t.Helper()
	out, err := d.exec(Request{Query: query})
	if err != nil {
		d.t.Fatalf("%.300s: %v", query, err)
	}
	return string(out)
}

func (d *dbase) mustAdd(sdl string) {
	d.t.Helper()
	if err := d.addSchema(sdl); err != nil {
		d.t.Fatal(err)
	}
}

// names stand for the identifiers of a script, which are hashes.
type names struct {
	ids map[string]string // by name
	of  map[string]string // by identifier
	n   int
}

var (
	identifier = regexp.MustCompile(`ba(fkrei|fyrei)[a-z2-7]{52}`)
	docIDOf    = regexp.MustCompile(`"_docID":"(bafkrei[a-z2-7]{52})"`)
	reference  = regexp.MustCompile(`<[a-z0-9]+>`)
	did        = regexp.MustCompile(`did:key:z[1-9A-HJ-NP-Za-km-z]+`)
	signature  = regexp.MustCompile(`[A-Za-z0-9+/]{86}==`)
)

func (n *names) give(name, id string) {
	if _, ok := n.of[id]; !ok {
		n.ids[name], n.of[id] = id, name
	}
}

func (n *names) out(s string) string {
	s = identifier.ReplaceAllStringFunc(s, func(id string) string {
		if _, ok := n.of[id]; !ok {
			n.n++
			n.give(fmt.Sprintf("id%d", n.n), id)
		}
		return "<" + n.of[id] + ">"
	})
	return signature.ReplaceAllString(did.ReplaceAllString(s, "<me>"), "<signature>")
}

func (n *names) in(s string) string {
	return reference.ReplaceAllStringFunc(s, func(name string) string {
		if id, ok := n.ids[name[1:len(name)-1]]; ok {
			return id
		}
		return name
	})
}

// report shows errors as a script expects them.
func report(err error) string {
	es, ok := err.(Errors)
	if !ok {
		return fmt.Sprintf("error outside of GraphQL: %v", err)
	}
	var b strings.Builder
	for _, e := range es {
		stage := [...]string{"parse", "validate", "execute"}[e.Stage]
		fmt.Fprintf(&b, "%s %s", stage, e.Code())
		if len(e.Path) > 0 {
			fmt.Fprintf(&b, " %v", e.Path)
		}
		for _, l := range e.Locations {
			fmt.Fprintf(&b, " %d:%d", l.Line, l.Column)
		}
		fmt.Fprintf(&b, ": %s\n", e.Message)
	}
	return b.String()
}

// The scripts in testdata pin the behaviour. The commands are
//
//	schema            adds collections
//	view              adds a view: its query, a line "as", its SDL; drop removes one
//	refresh           refreshes materialized views, all if none is named
//	query, mutate     run a request; as=(a,b) names the documents whose _docID the
//	                  answer shows, in their order, so that later requests can say <a>.
//	                  After a line "variables" follow variables as JSON; op= names the operation
//	plan              shows the plan
//	explain           shows the text that a request with @explain is answered with
//	filters           runs {T(filter: …, order: …){field}} for every line
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/script", func(t *testing.T, path string) {
		d := open(t)
		n := &names{ids: map[string]string{}, of: map[string]string{}}
		datadriven.RunTest(t, path, func(t *testing.T, c *datadriven.TestData) string {
			d.t = t
			return d.command(n, c)
		})
	})
}

func (d *dbase) command(n *names, c *datadriven.TestData) string {
	input := n.in(c.Input)
	switch c.Cmd {
	case "schema":
		if err := d.addSchema(input); err != nil {
			return "error: " + err.Error()
		}
		return "ok"
	case "view", "drop":
		change := d.addView
		if c.Cmd == "drop" {
			change = d.dropView
		}
		if err := change(input); err != nil {
			return "error: " + err.Error()
		}
		return "ok"
	case "refresh":
		return refreshed(d.refresh(strings.Fields(input)...))
	case "query", "mutate":
		return d.request(n, c, input)
	case "plan":
		query, vars, _ := strings.Cut(input, "\nvariables\n")
		p, err := Compile(d.generated(), Request{Query: query, Variables: json.RawMessage(vars)})
		if err != nil {
			return n.out(report(err))
		}
		return n.out(p.String())
	case "explain":
		return d.explained(n, input)
	case "filters":
		var typ, show, rest string
		c.ScanArgs(d.t, "of", &typ)
		c.ScanArgs(d.t, "show", &show)
		c.MaybeScanArgs(d.t, "with", &rest)
		return d.filters(n, typ, show, rest, input)
	}
	return "unknown command " + c.Cmd
}

var duration = regexp.MustCompile(`[0-9.]+(ns|µs|ms|s)\]`)

// explained shows the text of an explanation, without times.
func (d *dbase) explained(n *names, input string) string {
	query, vars, _ := strings.Cut(input, "\nvariables\n")
	out, err := d.exec(Request{Query: query, Variables: json.RawMessage(vars)})
	if err != nil {
		return n.out(report(err))
	}
	var data struct{ Explain struct{ Text string } }
	if err := json.Unmarshal(out, &data); err != nil {
		d.t.Fatal(err)
	}
	text := duration.ReplaceAllString(data.Explain.Text, "time]")
	return n.out(regexp.MustCompile(`^(query|mutation) \[[^,\]]*`).ReplaceAllString(text, "$1 [time"))
}

func (d *dbase) request(n *names, c *datadriven.TestData, input string) string {
	query, vars, _ := strings.Cut(input, "\nvariables\n")
	req := Request{Query: query, Variables: json.RawMessage(vars)}
	c.MaybeScanArgs(d.t, "op", &req.OperationName)
	out, err := d.exec(req)
	if err != nil {
		return n.out(report(err))
	}
	for _, arg := range c.CmdArgs {
		if arg.Key != "as" {
			continue
		}
		for i, m := range docIDOf.FindAllSubmatch(out, len(arg.Vals)) {
			n.give(arg.Vals[i], string(m[1]))
		}
	}
	return n.out(string(out))
}

// filters runs one query for every line and shows one field of the documents found.
func (d *dbase) filters(n *names, typ, show, rest, input string) string {
	var b strings.Builder
	for line := range strings.Lines(input) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		query := fmt.Sprintf("{%s(filter: %s order: {%s: ASC}%s) {%s}}", typ, line, show, rest, show)
		out, err := d.exec(Request{Query: query})
		if err != nil {
			fmt.Fprintf(&b, "%s => %s", n.out(line), n.out(report(err)))
			continue
		}
		var data map[string][]map[string]any
		if err := json.Unmarshal(out, &data); err != nil {
			d.t.Fatal(err)
		}
		var found []string
		for _, doc := range data[typ] {
			found = append(found, fmt.Sprint(doc[show]))
		}
		fmt.Fprintf(&b, "%s => %s\n", n.out(line), n.out(strings.Join(found, " ")))
	}
	return b.String()
}

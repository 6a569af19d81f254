package pando_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/ident"
)

// The documentation is executed. A page is a sequence of fenced blocks, all on one
// database in memory:
//
//	graphql schema    is added; a block "text refused" after it is the error
//	graphql request   is run, with the block "json variables" after it, if any
//	json answer       is what the request must answer: its data, or the whole
//	                  response if it has errors
//
// Identifiers are cut with … on the page, in answers and in requests. A table whose
// first heading is "refused" lists schemas that must be refused, "not yet" requests
// that must be refused, and a heading like a: in T says on which field of which
// collection the conditions of the rows are checked, against the values in the
// other headings. Everything else is prose.
//
// With -rewrite, the answers on the page are replaced by what the database says.
var rewrite = flag.Bool("rewrite", false, "replace the answers in the documentation")

func TestQueryLanguageIsAsDocumented(t *testing.T) {
	t.Parallel()
	runPage(t, filepath.Join("docs", "query-language.md"))
}

func runPage(t *testing.T, name string) {
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p := &page{t: t, name: name, db: documented(t), whole: map[string]string{}}
	parts := blocksOf(string(raw))
	for i := range parts {
		p.line = parts[i].line
		p.check(parts, i)
	}
	if p.blocks == 0 {
		t.Fatalf("%s has no examples that run", name)
	}
	if *rewrite {
		if err := os.WriteFile(name, []byte(pageOf(parts)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// documented returns a database whose identifiers are always the same.
func documented(t *testing.T) *pando.DB {
	t.Helper()
	who, err := ident.GenerateFrom(ident.EdDSA, bytes.NewReader(bytes.Repeat([]byte("docs"), 16)))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	db, err := pando.Open(t.Context(), "", &pando.Options{Identity: who, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// part is a fenced block with its info string, or the text between two of them.
type part struct {
	info string // "" for prose
	text string
	line int
}

func blocksOf(text string) []part {
	var parts []part
	fenced, from := false, part{line: 1}
	for i, line := range strings.SplitAfter(text, "\n") {
		if mark, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "```"); ok {
			parts = append(parts, from)
			if from = (part{line: i + 2}); !fenced {
				from.info = mark + " " // never prose, even without a mark
			}
			fenced = !fenced
			continue
		}
		from.text += line
	}
	return append(parts, from)
}

func pageOf(parts []part) string {
	var b strings.Builder
	for _, p := range parts {
		if p.info == "" {
			b.WriteString(p.text)
			continue
		}
		fmt.Fprintf(&b, "```%s\n%s```\n", strings.TrimSuffix(p.info, " "), p.text)
	}
	return b.String()
}

// page is a page being executed.
type page struct {
	t      *testing.T
	name   string
	line   int
	db     *pando.DB
	whole  map[string]string // identifiers by how they are cut
	blocks int
}

func (p *page) errorf(format string, args ...any) {
	p.t.Helper()
	p.t.Errorf("%s:%d: %s", p.name, p.line, fmt.Sprintf(format, args...))
}

func (p *page) check(parts []part, i int) {
	// following returns the block after this one, if it has that mark.
	following := func(n int, info string) *part {
		if i+2*n < len(parts) && parts[i+2*n].info == info+" " && strings.TrimSpace(parts[i+2*n-1].text) == "" {
			return &parts[i+2*n]
		}
		return nil
	}
	switch parts[i].info {
	case "":
		p.tables(parts[i].text)
	case "graphql schema ":
		p.schema(parts[i].text, following(1, "text refused"))
	case "graphql request ":
		variables, answer := following(1, "json variables"), following(1, "json answer")
		if variables != nil {
			answer = following(2, "json answer")
		}
		p.request(parts[i].text, variables, answer)
	}
}

func (p *page) schema(sdl string, refused *part) {
	p.blocks++
	_, err := p.db.AddSchema(p.t.Context(), sdl)
	if refused == nil {
		if err != nil {
			p.errorf("schema is refused: %v", err)
		}
		return
	}
	if err == nil {
		p.errorf("schema is accepted, the page says it is refused")
		return
	}
	if got, want := err.Error(), strings.Join(strings.Fields(refused.text), " "); got != want && !*rewrite {
		p.errorf("schema is refused with\n%s\nthe page says\n%s", got, want)
	}
	refused.text = err.Error() + "\n"
}

func (p *page) request(text string, variables, answer *part) {
	p.blocks++
	r := pando.Request{Query: p.expand(text)}
	if variables != nil {
		r.Variables = json.RawMessage(p.expand(variables.text))
	}
	res := p.db.Exec(p.t.Context(), r)
	if answer == nil {
		if err := res.Err(); err != nil {
			p.errorf("request failed: %v", err)
		}
		return
	}
	raw := []byte(res.Data)
	if res.Err() != nil {
		raw = res.AppendJSON(nil)
	}
	got := p.cut(string(raw))
	if *rewrite {
		answer.text = pretty([]byte(got))
		return
	}
	if want := string(compact([]byte(answer.text))); got != want {
		p.errorf("request\n%s\nanswers\n%s\nthe page says\n%s", text, got, want)
	}
}

// Identifiers, and how many characters of each a page shows.
var identifiers = []struct {
	pattern *regexp.Regexp
	shown   int
}{
	{regexp.MustCompile(`\bba[fk][a-z2-7]{56}\b`), 13},
	{regexp.MustCompile(`\bdid:key:z[1-9A-HJ-NP-Za-km-z]{40,}`), 14},
	{regexp.MustCompile(`[A-Za-z0-9+/]{86}==`), 8},
}

// cut shortens the identifiers in an answer, and remembers them.
func (p *page) cut(s string) string {
	for _, id := range identifiers {
		s = id.pattern.ReplaceAllStringFunc(s, func(whole string) string {
			short := whole[:id.shown] + "…"
			if old, ok := p.whole[short]; ok && old != whole {
				p.errorf("identifiers %s and %s look the same", old, whole)
			}
			p.whole[short] = whole
			return short
		})
	}
	return s
}

var shortened = regexp.MustCompile(`ba[fk][a-z2-7]+…`)

// expand gives shortened identifiers back.
func (p *page) expand(s string) string {
	return shortened.ReplaceAllStringFunc(s, func(short string) string {
		whole, ok := p.whole[short]
		if !ok {
			p.errorf("no answer so far has shown %s", short)
		}
		return whole
	})
}

var inlineCode = regexp.MustCompile("`([^`]+)`")

// tables checks the tables that say something of the database.
func (p *page) tables(text string) {
	var heading []string
	first := p.line
	for n, line := range strings.Split(text, "\n") {
		p.line = first + n
		if !strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "|-") {
			heading = nil
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case heading == nil:
			heading = cells
		case !strings.HasPrefix(line, "|-"):
			p.row(heading, cells)
		}
	}
}

var conditionHeading = regexp.MustCompile("^`(\\w+):` in `(\\w+)`$")

func (p *page) row(heading, cells []string) {
	on := conditionHeading.FindStringSubmatch(heading[0])
	if heading[0] != "refused" && heading[0] != "not yet" && on == nil {
		return
	}
	first := inlineCode.FindStringSubmatch(cells[0])
	if first == nil || len(cells) != len(heading) {
		p.errorf("row of a table without an example, or of another length than its heading")
		return
	}
	p.blocks++
	switch heading[0] {
	case "refused":
		if _, err := p.db.AddSchema(p.t.Context(), first[1]); !errors.Is(err, pando.ErrInvalid) {
			p.errorf("schema %s: got %v, want it refused as invalid", first[1], err)
		}
	case "not yet":
		if err := p.db.Exec(p.t.Context(), pando.Request{Query: first[1]}).Err(); !errors.Is(err, pando.ErrInvalid) {
			p.errorf("request %s: got %v, want it refused as invalid: say how it works now", first[1], err)
		}
	default:
		p.condition(on[1], on[2], first[1], heading[1:], cells[1:])
	}
}

// condition checks one row of a table of conditions: the field holds the values of
// the heading, and a mark in a cell says that the document is found.
func (p *page) condition(field, collection, cond string, values, marks []string) {
	q := fmt.Sprintf(`{ %s(filter: {%s: %s}) { %[2]s } }`, collection, field, cond)
	res := p.db.Exec(p.t.Context(), pando.Request{Query: q})
	if err := res.Err(); err != nil {
		p.errorf("%s: %v", q, err)
		return
	}
	var got map[string][]map[string]json.RawMessage
	if err := json.Unmarshal(res.Data, &got); err != nil {
		p.errorf("%s: %v", q, err)
		return
	}
	found := map[string]bool{}
	for _, doc := range got[collection] {
		found[string(doc[field])] = true
	}
	for i, v := range values {
		v := strings.Trim(v, "`")
		if found[v] != (marks[i] != "") {
			p.errorf("%s finds %s: %v, the page says %v", cond, v, found[v], marks[i] != "")
		}
	}
}

// pretty lays JSON out: what fits in a line stays in one.
func pretty(raw []byte) string {
	return layOut(compact(raw), "") + "\n"
}

// compact takes the spaces out of JSON; what is none stays as it is.
func compact(raw []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return raw
	}
	return b.Bytes()
}

const answerWidth = 100 // of an answer, in characters

func layOut(raw []byte, indent string) string {
	line := spaced(string(raw))
	if len([]rune(indent+line)) <= answerWidth || raw[0] != '{' && raw[0] != '[' {
		return line
	}
	var members []string
	for _, m := range membersOf(raw) {
		members = append(members, indent+"  "+m.key+layOut(m.value, indent+"  "))
	}
	return string(raw[0]) + "\n" + strings.Join(members, ",\n") + "\n" + indent + string(raw[len(raw)-1])
}

type memberOf struct {
	key   string
	value []byte
}

func membersOf(raw []byte) []memberOf {
	dec := json.NewDecoder(bytes.NewReader(raw))
	open, _ := dec.Token()
	var ms []memberOf
	for dec.More() {
		var m memberOf
		if open == json.Delim('{') {
			key, _ := dec.Token()
			m.key = strconv.Quote(key.(string)) + ": "
		}
		var v json.RawMessage
		if dec.Decode(&v) != nil {
			return ms
		}
		m.value = v
		ms = append(ms, m)
	}
	return ms
}

// spaced puts spaces after the commas and colons that are not in a text.
func spaced(s string) string {
	var b strings.Builder
	quoted := false
	for i := range len(s) {
		b.WriteByte(s[i])
		switch s[i] {
		case '"':
			quoted = !quoted || i > 0 && s[i-1] == '\\'
		case ',', ':':
			if !quoted {
				b.WriteByte(' ')
			}
		}
	}
	return b.String()
}

// The program of the first page compiles, prints what the page says, and the
// second time what the page says of a second time.
func TestFirstProgramRunsAsDocumented(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("links a program")
	}
	raw, err := os.ReadFile(filepath.Join("docs", "getting-started.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	runs := 0
	for _, p := range blocksOf(string(raw)) {
		switch p.info {
		case "go program ":
			buildProgram(t, dir, p.text)
		case "text output ":
			runs++
			cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "first"))
			cmd.Dir = dir
			got, err := cmd.CombinedOutput()
			if err != nil || string(got) != p.text {
				t.Errorf("docs/getting-started.md:%d: run %d prints\n%s(%v)\nthe page says\n%s", p.line, runs, got, err, p.text)
			}
		}
	}
	if runs == 0 {
		t.Error("docs/getting-started.md shows no program with its output")
	}
}

func buildProgram(t *testing.T, dir, program string) {
	t.Helper()
	file := filepath.Join(dir, "first.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "first"), file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the program of docs/getting-started.md does not compile: %v\n%s", err, out)
	}
}

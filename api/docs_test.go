package api

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "replace the tables in the documentation")

// wantTable compares the table between the marks of a page with what the code says.
func wantTable(t *testing.T, mark, table string) {
	t.Helper()
	wantTableIn(t, "operations.md", mark, table)
}

func wantTableIn(t *testing.T, page, mark, table string) {
	t.Helper()
	name := filepath.Join("..", "docs", page)
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	between := regexp.MustCompile(`(?s)(<!-- ` + mark + `:[^\n]*-->\n)(.*?)(<!-- end -->)`)
	m := between.FindStringSubmatch(string(raw))
	if m == nil {
		t.Fatalf("%s has no table marked %s", name, mark)
	}
	if *rewrite {
		page := strings.Replace(string(raw), m[0], m[1]+table+m[3], 1)
		if err := os.WriteFile(name, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if m[2] != table {
		t.Errorf("%s says\n%s\nthe code\n%s", name, m[2], table)
	}
}

func TestLimitsAreDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString("| of | limit | behind it |\n|---|---|---|\n")
	for _, l := range []struct {
		of    string
		limit any
		then  string
	}{
		{"a request that is read whole", fmt.Sprint(maxBody>>20, " MiB"), "413; `import` takes more"},
		{"one record of an import", fmt.Sprint(maxRecord>>10, " KiB"), "413"},
		{"requests that run at once", maxInFlight, "429"},
		{"requests of those who were not let in, of at most 1 MiB", maxStrangers, "429"},
		{"requests with a body over 1 MiB, or of unknown length, that run at once", maxLarge, "they wait"},
		{"imports, exports and joins at once", maxStreams, "429"},
		{"connections that follow events", maxEventStreams, "429"},
		{"operations on one WebSocket, and on all", fmt.Sprintf("%d, %d", maxFollowed, maxFollowedByAll), "the operation ends with an error"},
		{"a message that a WebSocket brings", fmt.Sprint(maxMessage>>20, " MiB"), "the connection is closed"},
		{"beginning a WebSocket", initTimeout, "the connection is closed"},
		{"a message that opens a stream over gRPC", fmt.Sprint(maxMessage>>20, " MiB"), "resource_exhausted"},
		{"an answer that is one message over gRPC", fmt.Sprint(maxAnswer>>20, " MiB"), "resource_exhausted; `Follow` sends any size"},
		{"requests under way on a connection of HTTP/2", maxStreamsHTTP2, "the client waits, or opens another connection"},
		{"open explicit transactions", maxTransactions, "429"},
		{"an explicit transaction that is not used", txIdle, "it is discarded"},
		{"an explicit transaction in use", txLifetime, "it is discarded"},
		{"the header of a request", headerTimeout, "the connection is closed"},
		{"sending a body that is read whole", bodyTimeout, "400"},
		{"reading an answer", fmt.Sprintf("%v, and a second for every %d KiB", answerTimeout, answerRate>>10), "the connection is closed"},
		{"one step of a stream", fmt.Sprintf("%v for %d KiB of an import", stallTimeout, progressBytes>>10), "the connection is closed"},
		{"an answer, or an event of a stream, that a Go client holds", fmt.Sprint(AnswerLimit>>20, " MiB"), "the client returns `TOO_LARGE`; `Client.LimitAnswers` raises it, and what is streamed is of any size"},
		{"the header of an answer, at a Go client", fmt.Sprint(maxAnswerHeader>>10, " KiB"), "the client gives up"},
		{"a connection that is not used", idleTimeout, "it is closed"},
	} {
		fmt.Fprintf(&b, "| %s | %v | %s |\n", l.of, l.limit, l.then)
	}
	wantTable(t, "limits", strings.NewReplacer("m0s", " min", "0s", "0 s").Replace(b.String()))
}

func TestOutcomesAreDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString("| code | means | HTTP status | gRPC status | exit code |\n|---|---|---|---|---|\n| | done | 200 | ok | 0 |\n")
	fmt.Fprintf(&b, "| `%s` | unforeseen: a defect, the log says more | %d | %v | %d |\n", codeInternal, unforeseen.status, unforeseen.rpc, unforeseen.exit)
	for _, o := range outcomes {
		status := fmt.Sprint(o.status)
		if o.status == http.StatusServiceUnavailable && StatusCode(busy("")) == http.StatusTooManyRequests && o.exit == ExitCode(busy("")) {
			status += ", or 429 if too much is going on"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %v | %d |\n", o.kind.Name(), o.kind.Error(), status, o.rpc, o.exit)
	}
	wantTable(t, "outcomes", b.String())
}

// Every operation has its section, and every section is of a route that there is.
func TestRoutesAreDocumented(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", "docs", "http.md"))
	if err != nil {
		t.Fatal(err)
	}
	handler := NewServer(Config{}).Handler()
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^### `(\\w+) (.*)`$").FindAllStringSubmatch(string(raw), -1) {
		sections[m[1]+" "+m[2]] = true
		r := httptest.NewRequest(m[1], strings.NewReplacer("{id}", "7", "{collection}", "User").Replace(m[2]), nil)
		r.Header.Set(headerTx, "none") // so that nothing is carried out
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code == http.StatusMethodNotAllowed || w.Code == http.StatusNotFound {
			t.Errorf("docs/http.md describes %s %s, which is answered with %d %s", m[1], m[2], w.Code, w.Body)
		}
	}
	for _, o := range operations {
		method, path, _ := strings.Cut(reflect.ValueOf(o).FieldByName("route").String(), " ")
		if !sections[method+" "+Base+path] {
			t.Errorf("docs/http.md does not describe %s %s", method, Base+path)
		}
	}
	if len(sections) < len(operations)+len([]string{"graphql", "graphql", "import", "export", "join", "health", "ready"}) {
		t.Errorf("docs/http.md describes %d routes, streams and health are missing", len(sections))
	}
}

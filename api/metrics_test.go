package api

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/p2p"
)

func TestEveryCounterHasAMetric(t *testing.T) {
	t.Parallel()
	fields := map[string]bool{}
	for i := range reflect.TypeFor[p2p.Counters]().NumField() {
		f := reflect.TypeFor[p2p.Counters]().Field(i)
		fields[f.Name] = true
		m, ok := counterMetrics[f.Name]
		if !ok {
			t.Errorf("p2p.Counters.%s has no metric: name one in counterMetrics, and say what it counts", f.Name)
			continue
		}
		counts := f.Type.Kind() == reflect.Uint64
		if counts != strings.HasSuffix(m.name, "_total") {
			t.Errorf("%s is a %v, and its metric %s: what only goes up ends with _total, and nothing else", f.Name, f.Type, m.name)
		}
		if !strings.HasSuffix(m.help, ".") || !regexp.MustCompile(`^[a-z_]+$`).MatchString(m.name) {
			t.Errorf("%s: metric %q with help %q", f.Name, m.name, m.help)
		}
	}
	names := map[string]string{}
	for field, m := range counterMetrics {
		if !fields[field] {
			t.Errorf("counterMetrics names %s, which p2p.Counters has not", field)
		}
		if other, twice := names[m.name]; twice {
			t.Errorf("%s and %s share the metric %s", field, other, m.name)
		}
		names[m.name] = field
	}
}

// A node without a network has figures too, and one that is closing breaks nothing.
func TestMetricsWithoutANetwork(t *testing.T) {
	t.Parallel()
	db, err := pando.Open(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Config{DB: db})
	if _, err := db.AddSchema(t.Context(), `type User { name: String }`); err != nil {
		t.Fatal(err)
	}
	scrape := func() (int, string) {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil))
		return w.Code, w.Body.String()
	}
	code, text := scrape()
	if code != http.StatusOK || !strings.Contains(text, `pando_documents{collection="User"} 0`) || !strings.Contains(text, "go_goroutines ") {
		t.Errorf("%d %s", code, text)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if code, text := scrape(); code >= 600 || strings.Contains(text, "panic") {
		t.Errorf("after the end: %d %s", code, text)
	}
}

package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pandodb/pando"
)

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
	if code != http.StatusOK || !strings.Contains(text, `pando_documents{collection="User"} 0`) || !strings.Contains(text, `pando_documents_locked{collection="User"} 0`) || !strings.Contains(text, "go_goroutines ") {
		t.Errorf("%d %s", code, text)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if code, text := scrape(); code >= 600 || strings.Contains(text, "panic") {
		t.Errorf("after the end: %d %s", code, text)
	}
}

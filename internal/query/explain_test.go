package query

import (
	"strings"
	"testing"
)

// A request is explained without a directive too, and that is not remembered with its
// text.
func TestARequestAsksForItsPlan(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int }`)
	for _, tt := range []struct{ explain, want string }{{"simple", `{"explain":`}, {"", `{"A":`}, {"execute", `{"explain":`}, {"", `{"A":`}} {
		out, err := d.exec(Request{Query: `{ A { n } }`, Explain: tt.explain})
		if err != nil || !strings.HasPrefix(string(out), tt.want) {
			t.Errorf("explain %q: got %s, %v, want %s…", tt.explain, out, err, tt.want)
		}
	}
	for _, req := range []Request{{Query: `{ A { n } }`, Explain: "all"}, {Query: `subscription { A { n } }`, Explain: "simple"}} {
		if out, err := d.exec(req); err == nil {
			t.Errorf("%+v: got %s, want it refused", req, out)
		}
	}
}

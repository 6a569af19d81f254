package query

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/store"
)

// Who reads a few of many documents gets the same by whatever way: an index whose
// entries are nearly all hidden from him is left for a pass over the documents.
func TestFewAmongMany(t *testing.T) {
	t.Parallel()
	h := newHalf(t)
	const many = 700
	for i := range 7 {
		h.mine(fmt.Sprintf(`create_Book(input: {title: "mine %d", pages: %d}) { _docID }`, i, i*many/7))
		var in []string
		for k := i * many / 7; k < (i+1)*many/7; k++ {
			in = append(in, fmt.Sprintf(`{title: "theirs %d", pages: %d}`, k, k))
		}
		h.theirs("create_Book(input: [" + strings.Join(in, ", ") + "]) { _docID }")
	}
	for _, text := range []string{
		`{ Book(order: {pages: ASC}, limit: 3) { title pages } }`,
		`{ Book(order: {pages: DESC}, limit: 3) { title pages } }`,
		`{ Book(order: {pages: DESC}, limit: 3, offset: 5) { title pages } }`,
		`{ Book(order: {pages: ASC}) { title pages } }`,
		`{ Book(order: {pages: ASC}, filter: {pages: {_gt: 150}}, limit: 2) { title pages } }`,
		`{ Book(order: {pages: DESC}, filter: {title: {_like: "mine%"}}, limit: 4) { title pages } }`,
		`{ Book(filter: {pages: {_gt: 50}}) { title pages } }`,
		`{ Book(filter: {pages: {_gt: 50}}, limit: 2) { title pages } }`,
		`{ Book(filter: {pages: {_eq: 300}}) { title pages } }`,
		`{ _count(Book: {}) }`,
		`{ _count(Book: {filter: {pages: {_gt: 50}}}) }`,
		`{ _sum(Book: {field: pages, filter: {pages: {_lt: 350}}}) }`,
	} {
		h.wantSame(Request{Query: text})
	}
	out, err := h.whole.execAs(store.As(h.whole.key), Request{Query: `{ Book(order: {pages: ASC}, limit: 3) { pages } }`, Explain: explainExecute})
	if err != nil || !strings.Contains(string(out), "-> scan readable Book") {
		t.Errorf("the plan is %s, %v; want a scan", out, err)
	}
}

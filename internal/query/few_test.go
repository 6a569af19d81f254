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

// Who reads a few of many documents is answered the same however many cores help, and
// whichever ways are tried.
func TestAnswersAboutFewAreTheSameHoweverManyCoresHelp(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.mustAddProtected(`type P @policy { name: String city: String age: Int @index height: Float active: Boolean notes: String score: Int points: Int }`)
	other := store.As(keyOf("other"))
	for from := 0; from < 9000; from += 1000 {
		var in [2]strings.Builder
		for i := from; i < from+1000; i++ {
			whose := 0
			if i%150 == 7 || i < 30 {
				whose = 1
			}
			fmt.Fprintf(&in[whose], `{name: "person %d" city: "city %d" age: %d height: %d.5 active: %v notes: "some words about person %d" score: %d points: 1}`, i, i%97, i%100, i%200, i%2 == 0, i, i*7)
		}
		for whose, who := range []store.Caller{other, store.As(d.key)} {
			if _, err := d.execAs(who, Request{Query: `mutation { create_P(input: [` + in[whose].String() + `]) { __typename } }`}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, q := range append([]string{
		`{ P { name } }`,
		`{ P(limit: 5) { name } }`,
		`{ P(limit: 5, offset: 70) { name } }`,
		`{ P(filter: {age: {_eq: 7}}, limit: 3) { name } }`,
		`{ P(filter: {age: {_gt: 7}}, limit: 80) { name } }`,
		`{ P(filter: {age: {_eq: 7}}) { name } }`,
		`{ P(order: {age: DESC}, limit: 4) { name } }`,
		`{ _count(P: {}) }`,
	}, spreading...) {
		want := d.alone(t, q)
		if got, err := d.execAs(store.As(d.key), Request{Query: q}); err != nil || string(got) != want {
			t.Errorf("%s:\ngot  %.300s, %v\nwant %.300s", q, got, err, want)
		}
	}
}

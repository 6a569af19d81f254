package query

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/fault"
)

// Groups hold what is asked of them, and no request makes them hold more than it may.
func TestGroupsHoldWhatIsAskedOf(t *testing.T) {
	d := people(t, 2000)
	d.schemas = Schemas{Limits: Limits{Held: 200 << 10}} // some 300 documents
	for query, fits := range map[string]bool{
		`{ P(groupBy: [city]) { city _count(_group: {}) _sum(_group: {field: score}) } }`:                           true,
		`{ P(groupBy: [city]) { city _group { name } } }`:                                                           false,
		`{ P(groupBy: [city]) { city _sum(_group: {field: score, order: {score: ASC}, limit: 1}) } }`:               false,
		`{ P(groupBy: [name]) { name _count(_group: {}) } }`:                                                        false,
		`{ P(groupBy: [name], limit: 10) { name _count(_group: {}) } }`:                                             true,
		`{ P(groupBy: []) { _count(_group: {limit: 5}) _max(_group: {field: score, offset: 3}) } }`:                 true,
		`{ _sum(P: {field: score}) _min(P: {field: age, order: {age: ASC}, limit: 5}) _avg(P: {field: score}) }`:    true,
		`{ P(filter: {_alias: {n: {_gt: 1}}}, order: {_alias: {n: DESC}}, limit: 3) { name n: _count(tags: {}) } }`: true,
	} {
		_, err := d.exec(Request{Query: query})
		if fits && err != nil || !fits && !errors.Is(err, fault.TooLarge) {
			t.Errorf("%s: got %v, want that it fits: %v", query, err, fits)
		}
	}
}

// Aggregates of aggregates mean what the selection beside them says, at each of many
// levels, and planning them costs little.
func TestAggregatesOfAggregatesMayBeDeep(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int bs: [B] b: B @relation(name: "x") } type B { n: Int a: A as: [A] @relation(name: "x") }`)
	a := docIDOf.FindStringSubmatch(d.must(`mutation { create_A(input: {n: 1}) { _docID } }`))[1]
	b := docIDOf.FindStringSubmatch(d.must(`mutation { create_B(input: {n: 2, a: "` + a + `"}) { _docID } }`))[1]
	d.must(`mutation { update_A(docID: "` + a + `", input: {b: "` + b + `"}) { n } }`)
	for _, deep := range []int{1, 2, 30} {
		text := "n"
		for i := deep; i > 0; i-- { // from the innermost outwards
			host, field := []string{"as", "bs"}[i%2], "_sum"
			if i == deep {
				field = "n"
			}
			text = fmt.Sprintf("_sum(%s: {field: %s}) %[1]s { %[3]s }", host, field, text)
		}
		begun := time.Now()
		got := d.must(`{ A { ` + text + ` } }`)
		if want := fmt.Sprintf(`{"A":[{"_sum":%d,`, 1+deep%2); !strings.HasPrefix(got, want) {
			t.Errorf("%d deep: got %.40s, want %s", deep, got, want)
		}
		if took := time.Since(begun); took > patience {
			t.Errorf("%d deep: took %v", deep, took)
		}
	}
}

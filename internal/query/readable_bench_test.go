package query

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/store"
)

// What a policy costs a request that reads twenty thousand documents: of an open
// collection, and of one whose documents are the reader's own.
func BenchmarkReadUnderAPolicy(b *testing.B) {
	const count = 20_000
	d := open(b)
	fields := "{ name: String email: String age: Int points: Int active: Boolean }"
	if err := d.addShared("type Open " + fields + " type Own @policy " + fields); err != nil {
		b.Fatal(err)
	}
	for _, coll := range []string{"Open", "Own"} {
		for i := 0; i < count; i += 1000 {
			var in []string
			for k := range 1000 {
				in = append(in, fmt.Sprintf(`{name: "user %d", email: "user%d@example.org", age: %d, points: 1, active: true}`, i+k, i+k, k%90))
			}
			d.must("mutation { create_" + coll + "(input: [" + strings.Join(in, ", ") + "]) { age } }")
		}
	}
	for _, coll := range []string{"Open", "Own"} {
		for name, text := range map[string]string{
			"list": "{ " + coll + " { name email age points active } }",
			"find": "{ " + coll + "(filter: {age: {_eq: 91}}) { name } }",
			"sum":  "{ _sum(" + coll + ": {field: points}) }",
		} {
			b.Run(coll+"/"+name, func(b *testing.B) {
				for b.Loop() {
					if _, err := d.execAs(store.As(d.key), Request{Query: text}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/doc")
			})
		}
	}
}

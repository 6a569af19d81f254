package query

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/store"
)

// shares are ways in which a hundred documents in a row are somebody's: whose they are,
// and whom they are shown to. me reads.
var shares = []struct {
	name  string
	owner func(me ident.Key, hundred int) ident.Key
	shown func(me ident.Key, hundred int) []ident.Key
}{
	{name: "open"},
	{name: "own", owner: mine},
	{name: "alike", owner: func(ident.Key, int) ident.Key { return keyOf("ann") }, shown: func(me ident.Key, _ int) []ident.Key { return []ident.Key{me} }},
	{name: "each another's", owner: friend, shown: func(me ident.Key, n int) []ident.Key { return []ident.Key{me, friend(me, n+1)} }},
	{name: "foreign", owner: friend},
}

func mine(me ident.Key, _ int) ident.Key { return me }

func friend(_ ident.Key, n int) ident.Key { return keyOf(fmt.Sprint("friend ", n)) }

var docIDsOf = regexp.MustCompile(`bafk\w+`)

// shared makes a database of count documents.
func shared(b *testing.B, way, count int) *dbase {
	b.Helper()
	d := open(b)
	s := shares[way]
	policy := ""
	if s.owner != nil {
		policy = "@policy"
	}
	if err := d.addShared("type Note " + policy + " { name: String email: String age: Int height: Int @index points: Int active: Boolean }"); err != nil {
		b.Fatal(err)
	}
	for n := range count / 100 {
		var in []string
		for i := 100 * n; i < 100*(n+1); i++ {
			in = append(in, fmt.Sprintf(`{name: "user %d", email: "user%d@example.org", age: %d, height: %d, points: 1, active: true}`, i, i, i%90, i%1000))
		}
		who := d.key
		if s.owner != nil {
			who = s.owner(d.key, n)
		}
		d.share(store.As(who), "mutation { create_Note(input: ["+strings.Join(in, ", ")+"]) { _docID } }", s.shown, n)
	}
	return d
}

// share runs a mutation, and shows the documents that it names.
func (d *dbase) share(who store.Caller, text string, shown func(ident.Key, int) []ident.Key, n int) {
	d.t.Helper()
	p, err := Compile(d.generated(), Request{Query: text})
	if err != nil {
		d.t.Fatal(err)
	}
	err = d.store.Update(context.Background(), who, func(tx *store.Tx) error {
		var out bytes.Buffer
		if err := p.Run(context.Background(), tx, &out); err != nil || shown == nil {
			return err
		}
		var ops []acp.Op
		for _, to := range shown(d.key, n) {
			ops = append(ops, acp.Op{Kind: acp.Grant, Relation: "reader", Subject: acp.OfKey(to.Public())})
		}
		c, err := tx.Collection("Note")
		for _, text := range docIDsOf.FindAll(out.Bytes(), -1) {
			var id dag.DocID
			if err == nil {
				id, err = dag.ParseDocID(string(text))
			}
			if err == nil {
				_, err = tx.WriteAccess(c, id, ops...)
			}
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// What a policy costs a request that passes over a hundred thousand documents, and one
// that finds some of them: the least time, and by how much that is more than without one.
// The databases take turns, so that what else the machine does meets all.
func BenchmarkReadUnderAPolicy(b *testing.B) {
	const count = 100_000
	var ds []*dbase
	for way := range shares {
		ds = append(ds, shared(b, way, count))
	}
	for _, r := range []struct{ name, text string }{
		{"few", "{ Note(filter: {age: {_eq: 91}}) { name } }"},
		{"count of some", "{ _count(Note: {filter: {age: {_lt: 30}}}) }"},
		{"count of all", "{ _count(Note: {}) }"},
		{"sum", "{ _sum(Note: {field: points}) }"},
		{"list", "{ Note { name email age points active } }"},
		{"index, 1 of 1000", "{ Note(filter: {height: {_eq: 500}}) { name } }"},
		{"index, order, first 10", "{ Note(order: {height: ASC}, limit: 10) { name } }"},
		{"order, first 10", "{ Note(order: {age: ASC}, limit: 10) { name } }"},
		{"limit 10", "{ Note(limit: 10) { name } }"},
	} {
		b.Run(r.name, func(b *testing.B) {
			took := make([][]time.Duration, len(ds))
			for b.Loop() {
				for i, d := range ds {
					begun := time.Now()
					if _, err := d.execAs(store.As(d.key), Request{Query: r.text}); err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], time.Since(begun))
				}
			}
			least := func(i int) float64 { return float64(slices.Min(took[i]).Nanoseconds()) / 1000 }
			b.ReportMetric(least(0), "µs")
			for i := range ds[1:] {
				b.ReportMetric(least(i+1)/least(0), strings.ReplaceAll(shares[i+1].name, " ", "-")+"/open")
			}
		})
	}
}

package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
)

// An index is never the reason that a request holds too much: what would take more to
// find along it is found by the scan.
func TestIndexesNeedNoRoomThatAScanDoesNot(t *testing.T) {
	d := open(t)
	d.schemas.Limits.Held = 1 << 20
	d.mustAdd(`type A { n: Int @index s: String }`)
	for i := range 100 {
		d.must(fmt.Sprintf(`mutation { create_A(input: {n: %d s: "%s"}) { n } }`, i, strings.Repeat("x", 20_000)))
	}
	for _, q := range []string{
		`{ A(filter: {n: {_ge: 0}}, limit: 90) { n } }`,
		`{ A(filter: {s: {_ne: "a"}}, order: {n: ASC}, limit: 20) { n } }`,
		`{ A(filter: {n: {_ge: 0}}, offset: 30) { n } }`,
	} {
		if out, err := d.exec(Request{Query: q}); err != nil {
			t.Errorf("%s: %.50s, %v", q, out, err)
		}
	}
}

// What a root field holds is dropped before the next is answered.
func TestRootFieldsHoldOneAfterTheOther(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int bs: [B] } type B { n: Int m: Int a: A }`)
	family(d, 20, 2)
	p, err := Compile(d.generated(), Request{Query: `{ a: A { _count(bs: {}) } b: A { _count(bs: {}) } c: _sum(B: {field: m}) d: _sum(B: {field: m}) }`})
	if err != nil {
		t.Fatal(err)
	}
	err = d.store.View(context.Background(), store.System, func(tx *store.Tx) error {
		x := p.newRun(context.Background(), tx, io.Discard)
		if err := p.run(x); err != nil {
			return err
		}
		if x.touched.scanned != 2*20+40 {
			t.Errorf("%d documents scanned: root aggregates with one filter share a pass", x.touched.scanned)
		}
		for tally, sums := range x.sums {
			if tally.to != nil {
				t.Errorf("%d sums of %s are still held", len(sums.place), tally.to.name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A cancelled request ends, and one that holds too much fails, however few commits of
// a long history are wanted.
func TestHistoriesAreHeldAndCancelled(t *testing.T) {
	d := open(t)
	d.mustAdd(`type A { n: Int }`)
	d.must(`mutation { create_A(input: {n: -1}) { n } }`)
	for i := range 400 {
		d.must(fmt.Sprintf(`mutation { update_A(all: true, input: {n: %d}) { n } }`, i))
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, q := range []string{
		`{ commits(fieldName: "none") { cid } }`,
		`{ commits(order: {height: ASC}, fieldName: "none") { cid } }`,
		`{ A { _version { cid } } }`,
	} {
		p, err := Compile(d.generated(), Request{Query: q})
		if err != nil {
			t.Fatal(err)
		}
		run := func(ctx context.Context, p *Plan) error {
			return d.store.View(context.Background(), store.System, func(tx *store.Tx) error { return p.Run(ctx, tx, io.Discard) })
		}
		if err := run(gone, p); !errors.Is(err, fault.Unavailable) {
			t.Errorf("%s: got %v after it was cancelled", q, err)
		}
		small := &Plan{kind: p.kind, roots: p.roots, held: 100 << 10}
		if err := run(context.Background(), small); !errors.Is(err, fault.TooLarge) {
			t.Errorf("%s: got %v with less room than the history takes", q, err)
		}
	}
}

// Relations that are looked up one by one, below groups, hold no more than a few.
func TestLookedUpRelationsBelowGroups(t *testing.T) {
	d := open(t)
	d.schemas.Limits.Held = 1 << 20
	d.mustAdd(`type A { n: Int bs: [B] } type B { n: Int s: String a: A }`)
	ids := docIDOf.FindAllStringSubmatch(d.must(`mutation { create_A(input: [{n: 1}{n: 2}{n: 3}{n: 4}{n: 5}{n: 6}]) { _docID } }`), -1)
	for _, id := range ids {
		for k := range 10 {
			d.must(fmt.Sprintf(`mutation { create_B(input: {n: %d s: "%s" a: %q}) { n } }`, k, strings.Repeat("x", 20_000), id[1]))
		}
	}
	if out, err := d.exec(Request{Query: `{ A(groupBy: [n]) { _group { bs(limit: 1) { n } } } }`}); err != nil {
		t.Errorf("%s: %v", out, err)
	}
}

// Views that stand on each other hold no more together than one request may.
func TestViewsHoldTogether(t *testing.T) {
	d := open(t)
	d.schemas.Limits.Held = 1 << 20
	d.mustAdd(`type A { n: Int s: String }`)
	for i := range 100 {
		d.must(fmt.Sprintf(`mutation { create_A(input: {n: %d s: "%s"}) { n } }`, i, strings.Repeat("x", 7_000)))
	}
	if err := d.addView("A(order: {n: ASC}) { n s }\nas\ntype V @materialized(if: false) { n: Int s: String }"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.exec(Request{Query: `{ V { n } }`}); err != nil {
		t.Errorf("one order: %v", err)
	}
	if _, err := d.exec(Request{Query: `{ V(order: {n: DESC}) { n s } }`}); !errors.Is(err, fault.TooLarge) {
		t.Errorf("two orders, each with most of what may be held: got %v", err)
	}
	if _, err := d.exec(Request{Query: `{ V(limit: 1) { n } b: V(limit: 2) { n } A { n } c: V { n } }`}); err != nil {
		t.Errorf("one order after the other: %v", err)
	}
}

package acp_test

import (
	"fmt"
	"testing"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/ident"
)

// sharedWith is a document that was shared with n people, one after the other.
func sharedWith(t testing.TB, n int) acp.State {
	l := &line{t: t, r: sharedRules, state: acp.Begin(people[ann])}
	for i := range n {
		l.ok("ann", does(grant("writer", acp.OfKey(person(fmt.Sprint("reader", i))))))
	}
	return l.state
}

func BenchmarkAllows(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		s := sharedWith(b, n)
		raw := s.Bytes()
		for name, who := range map[string]acp.Actor{
			"granted":  {Keys: []ident.PublicKey{person("reader0")}},
			"stranger": {Keys: []ident.PublicKey{person("dan")}},
		} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					s, err := acp.Open(raw)
					if err != nil || s.Allows(sharedRules, who, sharedRules.Read) != (name == "granted") {
						b.Fatal("wrong answer")
					}
				}
			})
		}
	}
}

func TestAllowsAllocatesNothing(t *testing.T) {
	raw := sharedWith(t, 10).Bytes()
	who := acp.Actor{Keys: []ident.PublicKey{person("reader3")}}
	if n := testing.AllocsPerRun(100, func() {
		if s, err := acp.Open(raw); err != nil || !s.Allows(sharedRules, who, sharedRules.Read) {
			t.Fatal("reader3 cannot read")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkJudgeLinear(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		s := sharedWith(b, n)
		c := acp.Commit{ID: id("new"), Height: 5000, Author: person("reader0"), Before: s.Frontier(), Need: writes}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Judge(sharedRules, c, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Ten thousand commits are judged again, of a document with a hundred events; each
// stands on half of them.
func BenchmarkAgain(b *testing.B) {
	s := sharedWith(b, 100)
	half := sharedWith(b, 50).Frontier()
	for b.Loop() {
		v, err := s.Review(sharedRules, nil)
		if err != nil {
			b.Fatal(err)
		}
		for i := range 10_000 {
			c := acp.Commit{ID: acp.ID{byte(i), byte(i >> 8)}, Author: person0, Before: half, Need: writes}
			if _, err := v.Again(c, func(acp.ID) bool { return i%2 == 0 }); err != nil {
				b.Fatal(err)
			}
		}
	}
}

var person0 = person("reader0")

// The same, as when a document is folded again: with the branches found out.
func BenchmarkHistory(b *testing.B) {
	for b.Loop() {
		h := acp.NewHistory(sharedRules, people[ann])
		last := acp.ID{}
		for i := range 10_000 {
			c := acp.Commit{ID: acp.ID{byte(i >> 8), byte(i), 1}, Height: uint64(i + 1), Author: people[ann], Need: writes}
			if i%100 == 99 {
				c.Need = acp.Need{Ops: []acp.Op{grant("writer", acp.OfKey(person(fmt.Sprint("reader", i))))}}
			}
			var err error
			if i == 0 {
				err = h.Add(c)
			} else {
				err = h.Add(c, last)
			}
			if last = c.ID; err != nil {
				b.Fatal(err)
			}
		}
		if j, err := h.Judge(nil); err != nil || j.State.Events() != 100 {
			b.Fatal("wrong", err)
		}
	}
}

// All commits of a history are found valid again, of which each changes a right: what
// verifying a document costs.
func BenchmarkValid(b *testing.B) {
	for _, n := range []int{500, 1000, 4000} {
		h := acp.NewHistory(sharedRules, people[ann])
		last := acp.ID{}
		for i := range n {
			c := acp.Commit{ID: acp.ID{byte(i >> 8), byte(i), 1}, Height: uint64(i + 1), Author: people[ann]}
			op := grant("writer", acp.OfKey(person(fmt.Sprint("reader", i/2%500))))
			if i%2 == 1 {
				op.Kind = acp.Revoke
			}
			c.Need = acp.Need{Ops: []acp.Op{op}}
			var err error
			if i == 0 {
				err = h.Add(c)
			} else {
				err = h.Add(c, last)
			}
			if last = c.ID; err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				j, err := h.Judge(nil)
				if err != nil {
					b.Fatal(err)
				}
				for i := range n {
					if err := j.Valid(i); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/commit")
		})
	}
}

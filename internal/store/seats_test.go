package store

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
)

// Somebody shares a memo with many groups that have the same many groups in them, none of
// which the reader is in: what is found out of these is found out once.
func BenchmarkReaderOfManyGroups(b *testing.B) {
	l := newArchive(b)
	teams := func(n int, what string) (ids []dag.DocID) {
		err := l.Update(b.Context(), someone("mal"), func(tx *Tx) error {
			for i := range n {
				d, err := createIn(tx, "Team", "name", fmt.Sprint(what, i))
				if err != nil {
					return err
				}
				ids = append(ids, d.ID)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		return ids
	}
	share := func(coll string, id dag.DocID, relation string, with []dag.DocID) {
		err := l.Update(b.Context(), someone("mal"), func(tx *Tx) error {
			for some := range slices.Chunk(with, acp.MaxOps) {
				var ops []acp.Op
				for _, g := range some {
					ops = append(ops, grantTo(relation, groupOf(g)))
				}
				if _, err := tx.WriteAccess(l.node.coll(coll), id, ops...); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	inner, outer := teams(maxAsked+256, "inner"), teams(64, "outer")
	for _, g := range outer {
		share("Team", g, "member", inner)
	}
	for range 4 {
		share("Memo", l.memo("mal", "bait"), "reader", outer)
	}
	for b.Loop() {
		l.as(someone("bo"), func(tx *Tx) {
			if n, err := tx.Count(l.memos()); n > 0 || err != nil {
				b.Fatal(n, err)
			}
		})
	}
}

// Groups are within each other in any way, and somebody is in some of them. Whoever asks of
// one after the other, and remembers what he has found out, comes to the same in any order.
func TestGroupsAreAskedInAnyOrder(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ann").policed()
	rapid.Check(t, func(t *rapid.T) {
		tx, err := n.Begin(As(n.key), false)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Discard()
		teams := make([]dag.DocID, rapid.IntRange(2, 9).Draw(t, "teams"))
		var numbers []int
		for i := range teams {
			numbers = append(numbers, i)
			d, err := createIn(tx, "Team", "name", fmt.Sprint(i))
			if err != nil {
				t.Fatal(err)
			}
			teams[i] = d.ID
		}
		in := make([][]bool, len(teams)) // the second is within the first
		is := make([]bool, len(teams))
		for i := range teams {
			in[i] = make([]bool, len(teams))
			var ops []acp.Op
			for k := range teams {
				if in[i][k] = rapid.IntRange(0, 2).Draw(t, "within") == 0; in[i][k] {
					ops = append(ops, grantTo("member", memberOf(teams[k])))
				}
			}
			if is[i] = rapid.IntRange(0, 4).Draw(t, "bob") == 0; is[i] {
				ops = append(ops, grantTo("member", person("bob")))
			}
			if len(ops) > 0 {
				if _, err := tx.WriteAccess(n.coll("Team"), teams[i], ops...); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range teams {
			for i := range teams {
				for k := range teams {
					is[i] = is[i] || in[i][k] && is[k]
				}
			}
		}
		for first := range teams {
			r := tx.Reading(keyOf("bob").Public())
			then := rapid.Permutation(numbers).Draw(t, "then")
			for _, i := range append([]int{first}, then...) {
				if got := r.member(acp.ID(teams[i]), "member"); got != is[i] {
					t.Fatalf("bob is in team %d: %v, want %v; within each other are %v", i, got, is[i], in)
				}
			}
		}
	})
}

// A no that stands on a group which is looked at later is none yet: y is within r, which
// is within y by m and x, and bob is in r.
func TestANoOnTheWayRoundIsNoneYet(t *testing.T) {
	t.Parallel()
	n := newNode(t, "ann").policed()
	var g []dag.DocID
	for i := range 5 {
		g = append(g, n.create("Team", "name", fmt.Sprint(i)))
	}
	slices.SortFunc(g, func(a, b dag.DocID) int { return compareIDs(b, a) }) // as they are asked
	x, y, z, r, m := g[0], g[1], g[2], g[3], g[4]
	for id, within := range map[dag.DocID][]dag.DocID{r: {x, y, z}, x: {m, r}, m: {x}, y: {m}} {
		for _, w := range within {
			n.mustDo("Team", id, grantTo("member", memberOf(w)))
		}
	}
	n.mustDo("Team", z, grantTo("member", person("bob")))
	n.view(func(tx *Tx) error {
		bob := tx.Reading(keyOf("bob").Public())
		for _, id := range []dag.DocID{r, y, m, x} {
			if !bob.member(acp.ID(id), "member") {
				t.Errorf("bob is not in group %d", slices.Index(g, id))
			}
		}
		return nil
	})
}

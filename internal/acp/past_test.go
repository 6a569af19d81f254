package acp_test

import (
	"cmp"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/fault"
)

// What stands below a commit, and what of it takes a right to read away, is what its
// ancestors are, whoever is asked and whatever stands beside it.
func TestPastIsTheEventsAmongTheAncestors(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := drawHistory(t)
		r := newReplica(d)
		for _, i := range d.topological(t) {
			if err := r.take(i); err != nil {
				t.Fatal(err)
			}
		}
		review, err := r.state.Review(sharedRules, r)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range d.commits {
			p, err := r.state.Past(r.before[i])
			if err != nil {
				t.Fatal(err)
			}
			if i%2 == 1 { // a review knows the same, but for what is void
				if p, err = review.Past(r.before[i]); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := review.StandsOnAll(r.before[i]), r.state.StandsOnAll(r.before[i]); got != want {
				t.Fatalf("commit %d stands on all events: %v, want %v\n%s", i, got, want, d)
			}
			var removals []acp.ID
			for k, a := range d.commits {
				if got, want := p.Has(a.ID), c.anc.has(k) && a.Event(); got != want {
					t.Fatalf("event %d below commit %d: %v, want %v\n%s", k, i, got, want, d)
				}
				if a.Event() && c.Event() && p.StandsOn(c.ID, a.ID) != c.anc.has(k) {
					t.Fatalf("commit %d stands on %d: %v\n%s", i, k, !c.anc.has(k), d)
				}
				if c.anc.has(k) && takesReading(a.Need) {
					removals = append(removals, a.ID)
				}
			}
			if nowhere := id("nowhere"); p.Has(nowhere) || p.StandsOn(c.ID, nowhere) || p.StandsOn(nowhere, c.ID) || p.Void(nowhere) {
				t.Fatalf("commit %d knows of an event that is nowhere\n%s", i, d)
			}
			got := p.Removals(sharedRules)
			slices.SortFunc(got, acp.ID.Compare)
			slices.SortFunc(removals, acp.ID.Compare)
			if !slices.Equal(got, removals) {
				t.Fatalf("below commit %d reading is taken by %x, want %x\n%s", i, got, removals, d)
			}
			if i%2 == 0 && c.Event() && p.Void(c.ID) != d.void(i, r.have) {
				t.Fatalf("commit %d is void: %v\n%s", i, p.Void(c.ID), d)
			}
			if got := sharedRules.Removes(c.Need); got != takesReading(c.Need) {
				t.Fatalf("%s: takes reading away: %v", describe(c), got)
			}
		}
	})
}

func takesReading(n acp.Need) bool {
	return slices.ContainsFunc(n.Ops, func(o acp.Op) bool {
		return o.Kind == acp.Transfer || o.Kind == acp.Revoke && slices.Contains([]string{"reader", "writer", "admin"}, o.Relation)
	})
}

// A writer who finds that somebody was taken out needs keys that he can write under.
func TestWhoMayUpdateMayGiveKeys(t *testing.T) {
	t.Parallel()
	bo := acp.OfKey(person("bo"))
	for _, relation := range []string{"writer", "admin"} {
		l := &line{t: t, r: rules(t), state: acp.Begin(person("ann"))}
		l.ok("ann", does(grant(relation, bo)))
		l.ok("bo", acp.Need{Keys: true})
	}
	l := &line{t: t, r: rules(t), state: acp.Begin(person("ann"))}
	l.ok("ann", does(grant("reader", bo)))
	l.no("bo", acp.Need{Keys: true})
}

// A commit that stands on an event which is not here is damage, whoever finds it.
func TestNothingStandsOnWhatIsNotHere(t *testing.T) {
	t.Parallel()
	l := &line{t: t, r: rules(t), state: acp.Begin(person("ann"))}
	l.ok("ann", does(grant("writer", acp.OfKey(person("bo")))))
	lost := acp.Frontier{id("lost")}
	c := acp.Commit{ID: id("new"), Height: 9, Author: person("ann"), Before: lost, Need: does(grant("reader", acp.OfKey(person("bo"))))}
	review, err := l.state.Review(l.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func() error{
		"judge":        func() error { _, err := l.state.Judge(l.r, c, nil); return err },
		"add":          func() error { _, err := l.state.Add(l.r, c, acp.Counts, nil); return err },
		"past":         func() error { _, err := l.state.Past(lost); return err },
		"review judge": func() error { _, err := review.Judge(c); return err },
		"review again": func() error { _, err := review.Again(c, func(acp.ID) bool { return false }); return err },
		"review admit": func() error { return review.Admit(c) },
		"review past":  func() error { _, err := review.Past(lost); return err },
		"a history":    func() error { return acp.NewHistory(l.r, person("ann")).Add(c, id("lost")) },
		"a history in disorder": func() error {
			h := acp.NewHistory(l.r, person("ann"))
			return cmp.Or(h.Add(acp.Commit{ID: acp.ID{2}, Height: 2}), h.Add(acp.Commit{ID: acp.ID{3}, Height: 1}))
		},
		"a history in disorder at a height": func() error {
			h := acp.NewHistory(l.r, person("ann"))
			return cmp.Or(h.Add(acp.Commit{ID: acp.ID{2}, Height: 1}), h.Add(acp.Commit{ID: acp.ID{1}, Height: 1}))
		},
		"review joins": func() error { _, err := review.Join(lost, l.before); return err },
		"a lower place": func() error { // an event of the height of what it stands on
			low := c
			low.Before, low.Height, low.Need = l.before, 0, accept("new")
			_, err := l.state.Add(l.r, low, acp.Counts, nil)
			return err
		},
	} {
		if err := f(); !errors.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v, want corrupt", what, err)
		}
	}
	if review.StandsOnAll(lost) || l.state.StandsOnAll(lost) {
		t.Error("what is not here stands on all")
	}
}

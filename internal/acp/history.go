package acp

import (
	"slices"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// History judges commits of a document together that hold the ancestors of each: it
// comes to the same verdicts and the same state as Judge and Add, one by one, in any
// order. It costs one pass over the commits, and over the events.
type History struct {
	rules   *Rules
	first   ident.PublicKey
	commits []Commit
	parents [][]int
	place   map[ID]int // of commits
	events  []int      // places of commits that are events
}

// NewHistory returns the history without commits, of a document which that key may
// begin.
func NewHistory(r *Rules, first ident.PublicKey) *History {
	return &History{rules: r, first: first, place: map[ID]int{}}
}

// Len returns how many commits were added.
func (h *History) Len() int { return len(h.commits) }

// Add adds a commit. Commits come by height, and those of the same height by ID. What
// c.Before holds is not looked at.
func (h *History) Add(c Commit, parents ...ID) error {
	i := len(h.commits)
	if i > 0 {
		if last := &h.commits[i-1]; last.Height > c.Height || last.Height == c.Height && last.ID.Compare(c.ID) >= 0 {
			return fault.Corrupt.Errorf("commits are not in the order of their heights: rebuild the document")
		}
	}
	up := make([]int, 0, len(parents))
	for _, p := range parents {
		k, ok := h.place[p]
		if !ok {
			return fault.Corrupt.Errorf("a parent is missing: rebuild the document")
		}
		up = append(up, k)
	}
	if h.place[c.ID] = i; c.Event() {
		h.events = append(h.events, i)
	}
	h.commits, h.parents = append(h.commits, c), append(h.parents, up)
	return nil
}

// Judged is what a History comes to. Its commits are named by their places in it.
type Judged struct {
	State    State
	Verdicts []Verdict

	*History
	review *Review
	down   []set      // the events that a commit stands on
	before []Frontier // the same, as the greatest of them
}

// Judge judges all commits. They must be valid, as Valid finds out.
func (h *History) Judge(m Members) (*Judged, error) {
	j := &Judged{History: h}
	if err := j.descend(); err != nil {
		return nil, err
	}
	events := make([]event, len(h.events))
	for k, i := range h.events {
		c := h.commits[i]
		var at []int
		for _, id := range j.before[i] {
			e, _ := slices.BinarySearch(h.events, h.place[id])
			at = append(at, e)
		}
		slices.Sort(at)
		events[k] = eventOf(h.rules, &c, at)
	}
	j.review = newReview(h.rules, h.first, events, m)
	if err := j.review.fill(&j.review.whole); err != nil {
		return nil, err
	}
	voided, err := j.verdicts()
	if err != nil {
		return nil, err
	}
	j.State = j.review.state(voided)
	return j, nil
}

// descend finds the events that each commit stands on. Commits in a row share them.
func (j *Judged) descend() error {
	none := newSet(len(j.events))
	j.down = make([]set, len(j.commits))
	j.before = make([]Frontier, len(j.commits))
	event := 0
	numbers := make(map[int]int, len(j.events))
	for i, up := range j.parents {
		switch {
		case len(up) == 0:
			j.down[i] = none
		case len(up) == 1 && !j.commits[up[0]].Event():
			j.down[i], j.before[i] = j.down[up[0]], j.before[up[0]]
		default:
			j.down[i] = slices.Clone(none)
			for _, p := range up {
				j.down[i].addAll(j.down[p])
				if k, ok := numbers[p]; ok {
					j.down[i].add(k)
				}
			}
			j.before[i] = j.greatest(j.down[i], up)
		}
		if j.commits[i].Event() {
			numbers[i] = event
			event++
		}
	}
	return nil
}

// greatest returns those of a set of events that none of them stands on: they are
// among what is greatest below the parents.
func (j *Judged) greatest(in set, parents []int) Frontier {
	var all []ID
	for _, p := range parents {
		all = append(all, j.Above(p)...)
	}
	all = union(all, nil)
	if len(all) < 2 {
		return all
	}
	under := newSet(len(j.events))
	for _, id := range all {
		under.addAll(j.down[j.place[id]])
	}
	return slices.DeleteFunc(all, func(id ID) bool {
		k, _ := slices.BinarySearch(j.events, j.place[id])
		return under.has(k)
	})
}

// verdicts judges each commit by the events, and returns how many are void.
func (j *Judged) verdicts() (voided int, err error) {
	v := j.review
	up := j.ascend()
	j.Verdicts = make([]Verdict, len(j.commits))
	event := 0
	for i := range j.commits {
		c := &j.commits[i]
		if c.Before = j.before[i]; c.Event() {
			j.Verdicts[i], _ = verdict(!v.whole.voids[event], nil)
			event++
		} else if j.Verdicts[i], err = v.among(c, j.down[i], up[i]); err != nil {
			return 0, err
		}
		if j.Verdicts[i] == Void {
			voided++
		}
	}
	return voided, nil
}

// ascend returns the events that stand on each commit.
func (j *Judged) ascend() []set {
	none := newSet(len(j.events))
	up := make([]set, len(j.commits))
	own := make([]bool, len(j.commits)) // not shared with another commit
	event := len(j.events)
	for i := len(j.commits) - 1; i >= 0; i-- {
		if up[i] == nil {
			up[i] = none
		}
		from := up[i]
		if j.commits[i].Event() {
			event--
			from = slices.Clone(from)
			from.add(event)
		}
		for _, p := range j.parents[i] {
			if up[p] == nil {
				up[p] = from
				continue
			}
			if !own[p] {
				up[p], own[p] = slices.Clone(up[p]), true
			}
			up[p].addAll(from)
		}
	}
	return up
}

// Before returns the events that the commit at that place stands on.
func (j *Judged) Before(i int) Frontier { return j.before[i] }

// Above returns what those stand on that stand on that commit, and on nothing else.
func (j *Judged) Above(i int) Frontier {
	if j.commits[i].Event() {
		return Frontier{j.commits[i].ID}
	}
	return j.before[i]
}

// Valid returns Invalid if the author of the commit at that place may not do by its
// ancestors what it does.
func (j *Judged) Valid(i int) error {
	_, err := j.review.valid(&j.commits[i], j.down[i])
	return err
}

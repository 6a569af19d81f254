package acp

import (
	"errors"
	"slices"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Judge returns whether the operations of a commit count that is not here yet, or
// Invalid if its author may not do by its ancestors what it does. What m returns as
// an error is returned as it is. A commit that stands on all events costs as much as
// the tuples, others as much as the events.
func (s State) Judge(r *Rules, c Commit, m Members) (Verdict, error) {
	if r == nil {
		return Counts, nil
	}
	if !s.onAll(c.Before) {
		v, err := s.Review(r, m)
		if err != nil {
			return 0, err
		}
		return v.Judge(c)
	}
	if err := c.check(r, s.Owner(), s.Events(), func() int { return int(s.tuples) }); err != nil {
		return 0, err
	}
	if len(c.Auth) > 0 {
		known, err := s.Anchored()
		if err == nil {
			err = c.checkKnown(s.Owner(), len(union(known, c.Auth)))
		}
		if err != nil {
			return 0, err
		}
	}
	ok, err := s.permits(r, &c, m)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, c.refusal()
	}
	return Counts, nil
}

// permits reports whether the author may do what c does, knowing all events.
func (s State) permits(r *Rules, c *Commit, m Members) (bool, error) {
	if owner := s.Owner(); owner != "" && c.Author == owner {
		return true, nil
	}
	var failed error
	var known []ID
	who := Actor{Keys: []ident.PublicKey{c.Author}, Groups: func(group ID, relation string) bool {
		if failed == nil && known == nil {
			if known, failed = s.Anchored(); failed == nil {
				known = union(known, c.Auth)
			}
		}
		if failed != nil {
			return false
		}
		ok, err := m.Member(known, group, relation, c.Author)
		failed = err
		return ok && err == nil
	}}
	ok := c.Need.met(r, func(wanted uint64) bool { return s.granted(who, wanted) != 0 })
	return ok && failed == nil, failed
}

// met reports whether each thing that is needed is permitted by a relation that the
// author holds.
func (n *Need) met(r *Rules, holds func(anyOf uint64) bool) bool {
	if n.owned() || n.Update && !holds(uint64(r.Update)) || n.Delete && !holds(uint64(r.Delete)) || n.Keys && !holds(r.givers()) {
		return false
	}
	for _, o := range n.Ops {
		if i, ok := r.relation(o.Relation); !ok || !holds(r.managers(i)) {
			return false
		}
	}
	return n.Update || n.Delete || n.Keys || len(n.Ops) > 0 // NeedOf finds something always
}

// wanted returns the relations that can have to do with the need.
func (n *Need) wanted(r *Rules) (mask uint64) {
	if n.Update {
		mask |= uint64(r.Update)
	}
	if n.Delete {
		mask |= uint64(r.Delete)
	}
	if n.Keys {
		mask |= r.givers()
	}
	for _, o := range n.Ops {
		if i, ok := r.relation(o.Relation); ok {
			mask |= r.managers(i)
		}
	}
	return mask
}

// check returns what is wrong with the operations, whatever their author may do.
// owner, events and tuples are those that its ancestors make.
func (c *Commit) check(r *Rules, owner ident.PublicKey, events int, tuples func() int) error {
	grants := 0
	for _, o := range c.Need.Ops {
		if o.Kind != Grant && o.Kind != Revoke {
			continue
		}
		if _, ok := r.relation(o.Relation); !ok || o.Relation == ownerName {
			return fault.Invalid.Errorf("%v of %q, which the policy has not: it has %q", o.Kind, o.Relation, r.relations)
		}
		if o.Kind == Grant {
			grants++
		}
	}
	most := MaxEvents
	if c.Author == owner {
		most *= 2
	}
	if c.Event() && events >= most {
		return fault.Invalid.Errorf("the document has %d commits with access operations, keys or anchors, want at most %d, and twice as many by its owner: begin another one", events, MaxEvents)
	}
	if grants > 0 && tuples()+grants > MaxTuples {
		return fault.Invalid.Errorf("the document is shared with %d subjects, want at most %d: share it with groups", tuples()+grants, MaxTuples)
	}
	return nil
}

// checkKnown returns why a commit may not name more of groups: so much is known with it.
func (c *Commit) checkKnown(owner ident.PublicKey, known int) error {
	if most := MaxKnown; known > most && (c.Author != owner || known > 2*most) {
		return fault.Invalid.Errorf("the document names %d commits of groups, want at most %d, and twice as many by its owner: begin another one", known, most)
	}
	return nil
}

// ErrRefused is what the error of a commit is whose author may not do what it does.
var ErrRefused = errors.New("may not do what the commit does, by the history below it")

func (c *Commit) refusal() error {
	return fault.Invalid.Errorf("%s %w", c.Author, ErrRefused)
}

// Add returns the state with one commit more, which was judged. If the commit
// Unsettles others, they are to be judged again.
func (s State) Add(r *Rules, c Commit, verdict Verdict, m Members) (State, error) {
	if r == nil {
		return s, nil
	}
	if !c.Event() {
		if verdict != Void {
			return s, nil
		}
		return s.WithVoided(s.Voided() + 1), nil
	}
	sum := s.summary()
	if verdict == Void {
		sum.voided++
	}
	accepts := slices.ContainsFunc(c.Need.Ops, func(o Op) bool { return o.Kind == Accept })
	if accepts || !s.onAll(c.Before) {
		return s.insert(r, c, sum.voided, m)
	}
	before := make([]int, 0, len(sum.frontier))
	for _, f := range sum.frontier {
		before = append(before, f.i)
	}
	slices.Sort(before)
	log, err := s.eventBytes()
	if err != nil {
		return State{}, err
	}
	e := eventOf(r, &c, before)
	sum.apply(&e)
	sum.frontier = []place{{c.ID, sum.events}}
	sum.events++
	log = e.append(append(make([]byte, 0, len(log)+256), log...)) // another may stand on s, too
	return opened(sum.append(make([]byte, 0, len(s.raw)+128)), log), nil
}

// apply changes owner and tuples by an event that stands on all others.
func (s *summary) apply(e *event) {
	for _, o := range e.ops {
		switch i, found := slices.BinarySearchFunc(s.tuples, o.tuple, tuple.compare); {
		case o.kind == Grant && !found:
			s.tuples = slices.Insert(s.tuples, i, o.tuple)
		case o.kind == Transfer:
			s.owner = o.Key
		}
	}
	// After the grants: of one commit that does both, the revocation wins.
	for _, o := range e.ops {
		if i, found := slices.BinarySearchFunc(s.tuples, o.tuple, tuple.compare); found && o.kind == Revoke {
			s.tuples = slices.Delete(s.tuples, i, i+1)
		}
	}
}

// insert puts an event among the others and makes everything again.
func (s State) insert(r *Rules, c Commit, voided uint32, m Members) (State, error) {
	events, err := s.decode()
	if err != nil {
		return State{}, err
	}
	places := make(map[ID]int, len(events))
	for i := range events {
		places[events[i].id] = i
	}
	e := eventOf(r, &c, nil)
	at, _ := slices.BinarySearchFunc(events, e, func(a, b event) int { return a.compare(&b) })
	for i := range events {
		for k, p := range events[i].before {
			if p >= at {
				events[i].before[k]++
			}
		}
	}
	for _, id := range c.Before {
		p, ok := places[id]
		if !ok || p >= at {
			return State{}, errNotHere
		}
		e.before = append(e.before, p)
	}
	slices.Sort(e.before)
	return s.rebuilt(r, slices.Insert(events, at, e), voided, m)
}

// Unsettles reports whether the commit can change what commits that came earlier
// count for. onHeads says that its parents are all heads of the document.
func (s State) Unsettles(c Commit, onHeads bool) bool {
	for _, o := range c.Need.Ops {
		if o.Kind == Accept || !onHeads && (o.Kind == Revoke || o.Kind == Transfer) {
			return true
		}
	}
	return !onHeads && len(c.Auth) > 0
}

// Above returns what those stand on that stand on c, and on nothing else.
func Above(c Commit) Frontier {
	if c.Event() {
		return Frontier{c.ID}
	}
	return c.Before
}

// Join returns what a commit stands on whose parents stand on these.
func (s State) Join(fs ...Frontier) (Frontier, error) {
	if len(fs) == 0 {
		return nil, nil
	}
	if f, same := alike(fs); same {
		return f, nil
	}
	events, err := s.decode()
	if err != nil {
		return nil, err
	}
	all := union(slices.Concat(fs...), nil)
	down := below(events)
	under := newSet(len(events))
	for i := range events {
		if _, ok := slices.BinarySearchFunc(all, events[i].id, ID.Compare); ok {
			under.addAll(down[i])
		}
	}
	for i := range events {
		if under.has(i) {
			if k, ok := slices.BinarySearchFunc(all, events[i].id, ID.Compare); ok {
				all = slices.Delete(all, k, k+1)
			}
		}
	}
	return all, nil
}

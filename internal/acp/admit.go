package acp

import "slices"

// A pack of commits can hold thousands of events of one document that stand beside
// each other: whoever may write it, or could once, can make as many as he likes. Each
// could void any other, so what counts is found out once, when all are in: until then
// a Review takes them in, and says which are valid.

// Admit returns Invalid if the author of a commit may not do by its ancestors what it
// does, and takes it in otherwise. What events count for is not known after that: the
// document is to be judged again as a whole.
func (v *Review) Admit(c Commit) error {
	below, err := v.below(c.Before)
	if err != nil {
		return err
	}
	if _, err := v.valid(&c, below); err != nil || !c.Event() {
		return err
	}
	if len(v.events) == v.room {
		v.grow()
	}
	v.enter(&c)
	return nil
}

// enter adds an event that stands on others that are here.
func (v *Review) enter(c *Commit) {
	i := len(v.events)
	before := make([]int, 0, len(c.Before))
	down := newSet(v.room)
	for _, id := range c.Before {
		p := v.places[id]
		before = append(before, p)
		down.addAll(v.down[p])
		down.add(p)
	}
	slices.Sort(before)
	v.places[c.ID] = i
	v.events = append(v.events, eventOf(v.rules, c, before))
	v.down, v.up = append(v.down, down), append(v.up, newSet(v.room))
	v.knowledge, v.seats.class = append(v.knowledge, nil), append(v.seats.class, 0)
	for k := range i {
		if down.has(k) {
			v.up[k].add(i)
		}
	}
	v.whole.in.add(i)
	v.whole.voids, v.stale = append(v.whole.voids, false), true
	v.index(i)
	if v.last != nil { // nothing has come below it
		v.last.voids = append(v.last.voids, false)
	}
}

// grow makes room for more events.
func (v *Review) grow() {
	v.room = max(256, 2*v.room)
	n := len(newSet(v.room))
	longer := func(s set) set { return append(s, make(set, n-len(s))...) }
	for i := range v.events {
		v.down[i], v.up[i] = longer(v.down[i]), longer(v.up[i])
	}
	if v.whole.in = longer(v.whole.in); v.last != nil {
		v.last.in = longer(v.last.in)
	}
}

// Join is State.Join.
func (v *Review) Join(fs ...Frontier) (Frontier, error) {
	if len(fs) == 0 {
		return nil, nil
	}
	if f, same := alike(fs); same {
		return f, nil
	}
	all := union(slices.Concat(fs...), nil)
	under := newSet(v.room)
	for _, id := range all {
		i, ok := v.places[id]
		if !ok {
			return nil, errNotHere
		}
		under.addAll(v.down[i])
	}
	return slices.DeleteFunc(all, func(id ID) bool { return under.has(v.places[id]) }), nil
}

// alike returns what all are, if they are the same.
func alike(fs []Frontier) (Frontier, bool) {
	for _, f := range fs[1:] {
		if !slices.Equal(f, fs[0]) {
			return nil, false
		}
	}
	return fs[0], true
}

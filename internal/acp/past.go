package acp

import (
	"slices"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Past is what a commit stands on, as far as events go: those that make its keys
// among them.
type Past struct {
	events []event
	places map[ID]int
	down   []set
	in     set
}

// Past returns the events that f stands for, with all below them.
func (s State) Past(f Frontier) (*Past, error) {
	events, err := s.decode()
	if err != nil {
		return nil, err
	}
	p := &Past{events: events, places: make(map[ID]int, len(events)), down: below(events), in: newSet(len(events))}
	for i := range events {
		p.places[events[i].id] = i
	}
	for _, id := range f {
		i, ok := p.places[id]
		if !ok {
			return nil, fault.Corrupt.Errorf("a commit stands on an event that is not here: rebuild the document")
		}
		p.in.addAll(p.down[i])
		p.in.add(i)
	}
	return p, nil
}

// Past is State.Past. Which events are void it does not know. It is good until the Review
// takes another commit in.
func (v *Review) Past(f Frontier) (*Past, error) {
	in, err := v.below(f)
	if err != nil {
		return nil, err
	}
	return &Past{events: v.events, places: v.places, down: v.down, in: in}, nil
}

// StandsOnAll is State.StandsOnAll.
func (v *Review) StandsOnAll(f Frontier) bool {
	in, err := v.below(f)
	return err == nil && in.len() == len(v.events)
}

// Past is State.Past of all that was judged together, at less cost.
func (j *Judged) Past(f Frontier) (*Past, error) { return j.review.Past(f) }

// StandsOnAll is State.StandsOnAll of all that was judged together.
func (j *Judged) StandsOnAll(f Frontier) bool { return j.review.StandsOnAll(f) }

// Has reports whether the commit is an event of the past.
func (p *Past) Has(id ID) bool {
	i, ok := p.places[id]
	return ok && p.in.has(i)
}

// StandsOn reports whether one event has the other among its ancestors.
func (p *Past) StandsOn(upper, lower ID) bool {
	u, ok := p.places[upper]
	l, found := p.places[lower]
	return ok && found && p.down[u].has(l)
}

// Void reports whether the event is void in all that is here, past or not.
func (p *Past) Void(id ID) bool {
	i, ok := p.places[id]
	return ok && p.events[i].void
}

// Letting returns those events that f stands for, and below them, which can be why somebody
// may do something: they let him, everybody or a group, give him the document, make a commit
// count, or give keys.
func (p *Past) Letting(who ident.PublicKey, f Frontier) []ID {
	under := newSet(len(p.events))
	for _, id := range f {
		if i, ok := p.places[id]; ok {
			under.addAll(p.down[i])
			under.add(i)
		}
	}
	var all []ID
	for i := range p.events {
		if under.has(i) && p.events[i].lets(who) {
			all = append(all, p.events[i].id)
		}
	}
	return all
}

func (e *event) lets(who ident.PublicKey) bool {
	return e.keys || slices.ContainsFunc(e.ops, func(o op) bool {
		switch o.kind {
		case Grant:
			return o.Subject.kind() != kindKey || o.Key == who
		case Transfer:
			return o.Key == who
		}
		return o.kind == Accept
	})
}

// Anchored returns the auth links of the events of the past, sorted.
func (p *Past) Anchored() []ID {
	var all []ID
	for i := range p.events {
		if p.in.has(i) {
			all = append(all, p.events[i].auth...)
		}
	}
	return union(all, nil)
}

// Removals returns the events of the past that take a right to read from somebody.
// What anchors take away from members of groups is not among them.
func (p *Past) Removals(r *Rules) []ID {
	var all []ID
	for i := range p.events {
		if p.in.has(i) && slices.ContainsFunc(p.events[i].ops, func(o op) bool { return r.removes(o.kind, o.relation) }) {
			all = append(all, p.events[i].id)
		}
	}
	return all
}

// Removes reports whether a commit with that need takes a right to read from
// somebody, as far as its own operations say.
func (r *Rules) Removes(n Need) bool {
	return slices.ContainsFunc(n.Ops, func(o Op) bool {
		i, ok := r.relation(o.Relation)
		return r.removes(o.Kind, i) && (ok || o.Kind == Transfer)
	})
}

func (r *Rules) removes(kind OpKind, relation int) bool {
	return kind == Transfer || kind == Revoke && r.Read>>relation&1 != 0
}

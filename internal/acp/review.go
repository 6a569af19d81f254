package acp

import (
	"slices"
	"sync"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Review judges commits of one document with all its events at hand: those that
// stand beside events, and again those that came before an event which Unsettles
// them.
type Review struct {
	rules   *Rules
	members Members
	first   ident.PublicKey
	events  []event // each after those that it stands on
	places  map[ID]int
	down    []set // what an event stands on
	up      []set // what stands on it
	room    int   // how many events the sets can hold

	transfers []int
	anchors   []int    // events with auth links
	knowledge [][]ID   // of each event, of groups, as far as it is remembered
	learned   int      // how much that is
	row       struct { // of the commit that was asked about last
		below set
		known []ID
		class int
	}
	seats   seats
	accepts map[ID][]int
	tuples  map[tuple]*marks
	byKey   map[ident.PublicKey][]*marks
	open    []*marks // of everyone and of groups

	whole scene
	stale bool   // whole does not say which of its events are void
	last  *scene // of the commit that was judged before: branches are judged in a row
}

// maxLearned bounds the links that are remembered, some 32 MiB: of thousands of anchors
// in a row each knows all that those before it do.
const maxLearned = 1 << 20

// marks are the events that grant and revoke a tuple.
type marks struct {
	tuple
	grants, revokes []int
}

// scene is a set of events with all that they stand on, and which of them are void
// in that set.
type scene struct {
	in    set
	voids []bool
}

// party is an author and what he does: a commit as it is judged.
type party struct {
	*Commit
	below  set         // the events that it stands on
	beside set         // those that are concurrent with it
	known  func() []ID // what it knows of groups: to be asked where one is relied on
	class  func() int  // which of all that is known by somebody
}

// Review takes the events apart.
func (s State) Review(r *Rules, m Members) (*Review, error) {
	events, err := s.decode()
	if err != nil {
		return nil, err
	}
	v := newReview(r, s.First(), events, m)
	for i := range events {
		v.whole.voids[i] = events[i].void
	}
	return v, nil
}

func newReview(r *Rules, first ident.PublicKey, events []event, m Members) *Review {
	v := &Review{
		rules: r, members: m, first: first, events: events, down: below(events),
		places: make(map[ID]int, len(events)), knowledge: make([][]ID, len(events)), accepts: map[ID][]int{},
		tuples: map[tuple]*marks{}, byKey: map[ident.PublicKey][]*marks{},
		whole: scene{newSet(len(events)), make([]bool, len(events))},
		up:    make([]set, len(events)), room: len(events), seats: seats{class: make([]int, len(events))},
	}
	for i := range events {
		v.places[events[i].id] = i
		v.whole.in.add(i)
		v.up[i] = newSet(len(events))
		v.index(i)
	}
	for i := len(events) - 1; i >= 0; i-- {
		for _, p := range events[i].before {
			v.up[p].addAll(v.up[i])
			v.up[p].add(i)
		}
	}
	return v
}

// index enters what the event does.
func (v *Review) index(i int) {
	e := &v.events[i]
	if len(e.auth) > 0 {
		v.anchors = append(v.anchors, i)
	}
	for _, o := range e.ops {
		switch o.kind {
		case Transfer:
			v.transfers = append(v.transfers, i)
		case Accept:
			for _, id := range o.commits {
				v.accepts[id] = append(v.accepts[id], i)
			}
		case Grant:
			t := v.marks(o.tuple)
			t.grants = append(t.grants, i)
		case Revoke:
			t := v.marks(o.tuple)
			t.revokes = append(t.revokes, i)
		}
	}
}

func (v *Review) marks(t tuple) *marks {
	m, ok := v.tuples[t]
	if !ok {
		m = &marks{tuple: t}
		v.tuples[t] = m
		if t.kind() == kindKey {
			v.byKey[t.Key] = append(v.byKey[t.Key], m)
		} else {
			v.open = append(v.open, m)
		}
	}
	return m
}

// Judge is State.Judge.
func (v *Review) Judge(c Commit) (Verdict, error) {
	below, err := v.below(c.Before)
	if err != nil {
		return 0, err
	}
	p, err := v.valid(&c, below)
	if err != nil {
		return 0, err
	}
	p.beside.addAll(v.whole.in)
	p.beside.removeAll(below)
	return verdict(v.permits(p, &v.whole))
}

// valid returns the commit as one with nothing beside it, or Invalid if its author may
// not do by its ancestors what it does.
func (v *Review) valid(c *Commit, below set) (*party, error) {
	s, err := v.scene(below)
	if err != nil {
		return nil, err
	}
	if err := c.check(v.rules, v.owner(below), below.len(), func() int { return v.tuplesIn(s) }); err != nil {
		return nil, err
	}
	if len(c.Auth) > 0 {
		if err := c.checkKnown(v.owner(below), len(v.known(below, c.Auth))); err != nil {
			return nil, err
		}
	}
	p := &party{Commit: c, below: below, beside: newSet(v.room), known: v.knowing(below, c.Auth)}
	p.class = v.classing(p)
	if ok, err := v.permits(p, s); err != nil || !ok {
		if err == nil {
			err = c.refusal()
		}
		return nil, err
	}
	return p, nil
}

func verdict(counts bool, err error) (Verdict, error) {
	if err != nil {
		return 0, err
	}
	if counts {
		return Counts, nil
	}
	return Void, nil
}

// Again returns whether a commit counts that is here already, and so was valid.
// above reports whether an event stands on it.
func (v *Review) Again(c Commit, above func(event ID) bool) (Verdict, error) {
	if v.rules == nil {
		return Counts, nil
	}
	if i, ok := v.places[c.ID]; ok {
		return verdict(!v.whole.voids[i], nil)
	}
	below, err := v.below(c.Before)
	if err != nil {
		return 0, err
	}
	up := newSet(v.room)
	for i := range v.events {
		if !below.has(i) && above(v.events[i].id) {
			up.add(i)
		}
	}
	return v.among(&c, below, up)
}

// among returns whether a commit counts that is no event: below are the events that
// it stands on, and up those that stand on it.
func (v *Review) among(c *Commit, below, up set) (Verdict, error) {
	if slices.ContainsFunc(v.accepts[c.ID], func(i int) bool { return up.has(i) && !v.whole.voids[i] }) {
		return Counts, nil
	}
	p := party{Commit: c, below: below, beside: newSet(v.room), known: v.knowing(below, c.Auth)}
	p.class = v.classing(&p)
	p.beside.addAll(v.whole.in)
	p.beside.removeAll(below)
	p.beside.removeAll(up)
	return verdict(v.permits(&p, &v.whole))
}

var errNotHere = fault.Corrupt.Errorf("commit stands on an event that is not here: rebuild the document")

// below returns the events that stand below a commit.
func (v *Review) below(before Frontier) (set, error) {
	s := newSet(v.room)
	for _, id := range before {
		i, ok := v.places[id]
		if !ok {
			return nil, errNotHere
		}
		s.addAll(v.down[i])
		s.add(i)
	}
	return s, nil
}

// known returns what a commit knows of groups. Commits in a row know the same.
func (v *Review) known(below set, auth []ID) []ID {
	if len(auth) > 0 {
		return v.gather(below, auth)
	}
	if !slices.Equal(below, v.row.below) {
		v.row.below, v.row.known, v.row.class = slices.Clone(below), v.gather(below, nil), 0
	}
	return v.row.known
}

func (v *Review) gather(below set, auth []ID) []ID {
	all := slices.Clone(auth)
	for _, i := range v.anchors {
		if below.has(i) {
			all = append(all, v.events[i].auth...)
		}
	}
	return union(all, nil)
}

// knowing is known, found out when it is asked for.
func (v *Review) knowing(below set, auth []ID) func() []ID {
	return sync.OnceValue(func() []ID { return v.known(below, auth) })
}

// knows returns what an event knows of groups.
func (v *Review) knows(i int) []ID {
	if v.knowledge[i] == nil {
		if v.learned > maxLearned {
			clear(v.knowledge)
			v.learned = 0
		}
		v.knowledge[i] = v.known(v.down[i], v.events[i].auth)
		v.learned += len(v.knowledge[i])
	}
	return v.knowledge[i]
}

// owner returns who owns the document by a set of events, "" if nobody does. Of two
// transfers that are concurrent none counts: nobody can stand on both and transfer
// again.
func (v *Review) owner(in set) ident.PublicKey {
	last := -1
	for _, i := range v.transfers {
		if !in.has(i) {
			continue
		}
		if last >= 0 && !v.down[i].has(last) {
			return ""
		}
		last = i
	}
	if last < 0 {
		return v.first
	}
	for _, o := range v.events[last].ops {
		if o.kind == Transfer {
			return o.Key
		}
	}
	return ""
}

// permits reports whether the party may do what it does in that scene, when what is
// revoked beside it is left out. With nothing beside it, that is what its ancestors
// say.
func (v *Review) permits(p *party, s *scene) (bool, error) {
	if p.Author == v.owner(p.below) && p.Author != "" && !p.beside.hasAny(v.transfers) {
		return true, nil
	}
	wanted := p.Need.wanted(v.rules)
	if p.Need.owned() {
		return false, nil
	}
	var mask uint64
	for _, list := range [][]*marks{v.byKey[p.Author], v.open} {
		for _, t := range list {
			if mask>>t.relation&1 != 0 || wanted>>t.relation&1 == 0 {
				continue
			}
			ok, err := v.holds(p, t, s)
			if err != nil {
				return false, err
			}
			if ok {
				mask |= 1 << t.relation
			}
		}
	}
	return p.Need.met(v.rules, func(anyOf uint64) bool { return mask&anyOf != 0 }), nil
}

// holds reports whether the tuple gives its relation to the party.
func (v *Review) holds(p *party, t *marks, s *scene) (bool, error) {
	if p.beside.hasAny(t.revokes) || !v.isHeld(t, p.below, s.voids) {
		return false, nil
	}
	if t.kind() != kindGroup {
		return true, nil
	}
	return v.sits(p, t)
}

// isHeld reports whether a grant within the set counts, and knows of every
// revocation within it.
func (v *Review) isHeld(t *marks, in set, voids []bool) bool {
	return slices.ContainsFunc(t.grants, func(g int) bool {
		return in.has(g) && !voids[g] && !slices.ContainsFunc(t.revokes, func(r int) bool {
			return in.has(r) && !v.down[g].has(r)
		})
	})
}

// tuplesIn returns how many tuples are held, or more if even all that were ever granted
// are too few to matter.
func (v *Review) tuplesIn(s *scene) int {
	if len(v.tuples)+MaxOps <= MaxTuples {
		return len(v.tuples)
	}
	return len(v.held(s))
}

// held returns the tuples that are held, sorted.
func (v *Review) held(s *scene) []tuple {
	var all []tuple
	for _, t := range v.tuples {
		if v.isHeld(t, s.in, s.voids) {
			all = append(all, t.tuple)
		}
	}
	slices.SortFunc(all, tuple.compare)
	return all
}

// scene returns the set of events with those that are void in it.
func (v *Review) scene(in set) (*scene, error) {
	if !v.stale && slices.Equal(in, v.whole.in) {
		return &v.whole, nil
	}
	if v.last != nil {
		if err := v.extend(v.last, in); err != nil {
			return nil, err
		}
	}
	if v.last == nil || !slices.Equal(in, v.last.in) {
		s := &scene{in: slices.Clone(in)}
		if err := v.fill(s); err != nil {
			return nil, err
		}
		v.last = s
	}
	return v.last, nil
}

// extend makes the scene that of a set which is greater by events that stand on all of it,
// one after the other. They change nothing of those below them, unless they accept: then
// it stops before. Who goes through a history from below pays for each event once.
func (v *Review) extend(s *scene, in set) error {
	if !in.hasAll(s.in) {
		return nil
	}
	for i := range v.events {
		if !in.has(i) || s.in.has(i) {
			continue
		}
		if v.events[i].accepts() || !v.down[i].hasAll(s.in) {
			return nil
		}
		c := v.events[i].commit(v.rules)
		ok, err := v.permits(&party{Commit: &c, below: v.down[i], beside: newSet(v.room), known: func() []ID { return v.knows(i) }, class: func() int { return v.classAt(i) }}, s)
		if err != nil {
			v.last = nil
			return err
		}
		s.in.add(i)
		s.voids[i] = !ok
	}
	return nil
}

// fill finds out which events are void in the scene.
func (v *Review) fill(s *scene) error {
	s.voids = make([]bool, len(v.events))
	// Acceptances first, from above: they need nothing but that their author owned
	// the document, which no grant can give, and can be accepted from above only.
	for i := len(v.events) - 1; i >= 0; i-- {
		if s.in.has(i) && v.events[i].accepts() {
			s.voids[i] = v.beside(i, s).hasAny(v.transfers) && !v.accepted(i, s)
		}
	}
	for i := range v.events {
		e := &v.events[i]
		if !s.in.has(i) || e.accepts() || v.accepted(i, s) {
			continue
		}
		c := e.commit(v.rules)
		p := party{Commit: &c, below: v.down[i], beside: v.beside(i, s), known: func() []ID { return v.knows(i) }, class: func() int { return v.classAt(i) }}
		ok, err := v.permits(&p, s)
		if err != nil {
			return err
		}
		s.voids[i] = !ok
	}
	return nil
}

func (v *Review) beside(i int, s *scene) set {
	b := slices.Clone(s.in)
	b.removeAll(v.down[i])
	b.removeAll(v.up[i])
	b[i/64] &^= 1 << (i % 64)
	return b
}

// accepted reports whether an acceptance that counts names the event.
func (v *Review) accepted(i int, s *scene) bool {
	return slices.ContainsFunc(v.accepts[v.events[i].id], func(a int) bool {
		return s.in.has(a) && v.up[i].has(a) && !s.voids[a]
	})
}

func (e *event) accepts() bool {
	return slices.ContainsFunc(e.ops, func(o op) bool { return o.kind == Accept })
}

// commit returns the event as it was judged.
func (e *event) commit(r *Rules) Commit {
	c := Commit{ID: e.id, Height: e.height, Author: e.author, Auth: e.auth,
		Need: Need{Update: e.update, Delete: e.delete, Keys: e.keys}}
	for _, o := range e.ops {
		name := ""
		if o.relation < len(r.relations) && (o.kind == Grant || o.kind == Revoke) {
			name = r.relations[o.relation]
		}
		c.Need.Ops = append(c.Need.Ops, Op{Kind: o.kind, Relation: name, Subject: o.Subject, Commits: o.commits})
	}
	return c
}

// rebuilt returns the state of which those are the events.
func (s State) rebuilt(r *Rules, events []event, voided uint32, m Members) (State, error) {
	v := newReview(r, s.First(), events, m)
	if err := v.fill(&v.whole); err != nil {
		return State{}, err
	}
	return v.state(int(voided)), nil
}

// state returns the state of which the whole scene is made.
func (v *Review) state(voided int) State {
	sum := &summary{first: v.first, owner: v.owner(v.whole.in), voided: uint32(voided), tuples: v.held(&v.whole), events: len(v.events)}
	var raw []byte
	for i := range v.events {
		v.events[i].void = v.whole.voids[i]
		raw = v.events[i].append(raw)
		if v.up[i].len() == 0 {
			sum.frontier = append(sum.frontier, place{v.events[i].id, i})
		}
	}
	slices.SortFunc(sum.frontier, func(a, b place) int { return a.id.Compare(b.id) })
	return opened(sum.append(nil), raw)
}

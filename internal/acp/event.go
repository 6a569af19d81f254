package acp

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/pandodb/pando/internal/ident"
)

// minEvent is the size of the shortest event: it bounds how many there can be.
const minEvent = 32 + 6

const (
	flagVoid   = 1
	flagUpdate = 2
	flagDelete = 4
	flagKeys   = 8
)

// event is a commit that the state keeps.
type event struct {
	id     ID
	height uint64
	author ident.PublicKey
	update bool
	delete bool
	keys   bool
	void   bool
	before []int // places of the greatest events that it stands on, ascending
	auth   []ID
	ops    []op
}

// op is an Op whose relation is a place.
type op struct {
	kind OpKind
	tuple
	commits []ID
}

func (e *event) compare(o *event) int {
	return cmp.Or(cmp.Compare(e.height, o.height), e.id.Compare(o.id))
}

// eventOf returns the commit as an event that stands on the events at those places.
// Its operations were checked.
func eventOf(r *Rules, c *Commit, before []int) event {
	e := event{
		id: c.ID, height: c.Height, author: c.Author, before: before, auth: c.Auth,
		update: c.Need.Update, delete: c.Need.Delete, keys: c.Need.Keys,
	}
	for _, o := range c.Need.Ops {
		rel, _ := r.relation(o.Relation)
		e.ops = append(e.ops, op{o.Kind, tuple{rel, o.Subject}, o.Commits})
	}
	return e
}

func (e *event) append(b []byte) []byte {
	b = append(b, e.id[:]...)
	b = binary.AppendUvarint(b, e.height)
	flags := byte(0)
	for i, set := range []bool{e.void, e.update, e.delete, e.keys} {
		if set {
			flags |= 1 << i
		}
	}
	b = append(b, flags)
	b = appendString(b, string(e.author))
	b = binary.AppendUvarint(b, uint64(len(e.before)))
	for _, i := range e.before {
		b = binary.AppendUvarint(b, uint64(i))
	}
	b = appendIDs(b, e.auth)
	b = binary.AppendUvarint(b, uint64(len(e.ops)))
	for i := range e.ops {
		b = e.ops[i].append(b)
	}
	return b
}

func appendIDs(b []byte, ids []ID) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = append(b, id[:]...)
	}
	return b
}

func (o *op) append(b []byte) []byte {
	b = append(b, byte(o.kind))
	switch o.kind {
	case Transfer:
		return appendString(b, string(o.Key))
	case Accept:
		return appendIDs(b, sortedIDs(o.commits))
	}
	b = append(b, byte(o.relation), o.Subject.kind())
	switch o.Subject.kind() {
	case kindKey:
		b = appendString(b, string(o.Key))
	case kindGroup:
		b = appendString(append(b, o.Group[:]...), o.Relation)
	}
	return b
}

func sortedIDs(ids []ID) []ID {
	if slices.IsSortedFunc(ids, ID.Compare) {
		return ids
	}
	ids = slices.Clone(ids)
	slices.SortFunc(ids, ID.Compare)
	return slices.Compact(ids)
}

// decode returns the events.
func (s State) decode() ([]event, error) {
	log, err := s.eventBytes()
	if err != nil {
		return nil, err
	}
	b := scanner{b: log}
	if b.bounded(s.events, minEvent); b.bad {
		return nil, damaged("events")
	}
	events := make([]event, 0, s.events)
	for i := range int(s.events) {
		e := b.event(i)
		if b.bad || i > 0 && events[i-1].compare(&e) >= 0 {
			return nil, damaged("events")
		}
		events = append(events, e)
	}
	if b.left() > 0 {
		return nil, damaged("more than events")
	}
	return events, nil
}

// event reads the event at place i, which stands on earlier ones.
func (b *scanner) event(i int) event {
	e := event{id: b.id(), height: b.uvarint()}
	flags := b.byte()
	if flags >= flagKeys<<1 {
		b.fail()
	}
	e.void, e.update = flags&flagVoid != 0, flags&flagUpdate != 0
	e.delete, e.keys = flags&flagDelete != 0, flags&flagKeys != 0
	e.author = ident.PublicKey(b.text())
	for range b.bounded(b.number(), 1) {
		p := int(b.number())
		if k := len(e.before); p >= i || k > 0 && e.before[k-1] >= p {
			b.fail()
		}
		e.before = append(e.before, p)
	}
	e.auth = b.ids()
	for range b.bounded(b.number(), 2) {
		e.ops = append(e.ops, b.op())
	}
	return e
}

func (b *scanner) ids() []ID {
	n := b.bounded(b.number(), 32)
	if n == 0 {
		return nil
	}
	ids := make([]ID, n)
	for i := range ids {
		if ids[i] = b.id(); i > 0 && ids[i-1].Compare(ids[i]) >= 0 {
			b.fail()
		}
	}
	return ids
}

func (b *scanner) op() (o op) {
	o.kind = OpKind(b.byte())
	switch o.kind {
	case Grant, Revoke:
		o.relation = int(b.byte())
		switch b.byte() {
		case kindEveryone:
			o.Subject = Everyone
		case kindKey:
			o.Key = ident.PublicKey(b.text())
		case kindGroup:
			o.Group = b.id()
			if o.Relation = b.text(); o.Relation == "" {
				b.fail()
			}
		default:
			b.fail()
		}
	case Transfer:
		o.Key = ident.PublicKey(b.text())
	case Accept:
		o.commits = b.ids()
	default:
		b.fail()
	}
	if o.relation >= MaxRelations {
		b.fail()
	}
	return o
}

// Anchored returns the auth links of all events, sorted.
func (s State) Anchored() ([]ID, error) {
	events, err := s.decode()
	if err != nil {
		return nil, err
	}
	var all []ID
	for i := range events {
		all = append(all, events[i].auth...)
	}
	return union(all, nil), nil
}

// union returns the identities of both, sorted and unique.
func union(a, b []ID) []ID {
	all := make([]ID, 0, len(a)+len(b))
	all = append(append(all, a...), b...)
	slices.SortFunc(all, ID.Compare)
	return slices.Compact(all)
}

// set is a set of places of events.
type set []uint64

func newSet(n int) set { return make(set, (n+63)/64) }

func (s set) has(i int) bool { return s[i/64]>>(i%64)&1 != 0 }

func (s set) add(i int) { s[i/64] |= 1 << (i % 64) }

func (s set) addAll(o set) {
	for i := range o {
		s[i] |= o[i]
	}
}

func (s set) removeAll(o set) {
	for i := range o {
		s[i] &^= o[i]
	}
}

func (s set) hasAll(o set) bool {
	for i := range o {
		if o[i]&^s[i] != 0 {
			return false
		}
	}
	return true
}

func (s set) hasAny(places []int) bool {
	return slices.ContainsFunc(places, s.has)
}

func (s set) len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// below returns for each event those that it stands on, directly or not.
func below(events []event) []set {
	down := make([]set, len(events))
	for i := range events {
		down[i] = newSet(len(events))
		for _, p := range events[i].before {
			down[i].addAll(down[p])
			down[i].add(p)
		}
	}
	return down
}

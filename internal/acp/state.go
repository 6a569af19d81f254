package acp

import (
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"sort"
	"strings"
	"unsafe"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// The bytes of a state, with uvarint as in package crdt. They say who may do what. The
// events lie apart: only who judges by them needs them, and whoever reads passes over
// each document.
//
//	state    = version: 1 byte, 0x02
//	           first owner: uvarint length, bytes
//	           owner: 1 byte: 0 the first, 1 nobody, 2 another: uvarint length, bytes
//	           uvarint number of commits that are void
//	           uvarint number of relations of groups in the tuples that are held, then
//	             each, sorted: uvarint length, bytes
//	           uvarint number of tuples that are held, then each, sorted bytewise:
//	             kind of the subject: 1 byte: 1 everyone, 2 key, 3 group
//	             35 bytes, zeros at the end: nothing / key / docID and the place of its
//	               relation: its lower 16 bits, big-endian, then the next 8
//	             place of the relation in the resource's, sorted: 1 byte
//	           uvarint number of events that no event stands on, then each, sorted:
//	             commit: 32 bytes, uvarint place among the events
//	           uvarint number of events
//	events   = each event, sorted by height and commit
//	event    = commit: 32 bytes, uvarint height
//	           1 byte: 1 void + 2 needs update + 4 needs delete + 8 needs keys
//	           author: uvarint length, bytes
//	           uvarint number of events that it stands on, the greatest, then each,
//	             ascending: uvarint place
//	           uvarint number of auth links, then each, sorted: 32 bytes
//	           uvarint number of access operations, then each
//	op       = 1 byte: 1 grant, 2 revoke: place of the relation: 1 byte; subject: kind:
//	             1 byte, nothing / uvarint length, key / docID: 32 bytes, uvarint
//	             length, relation
//	           3 transfer: uvarint length, key
//	           4 accept: uvarint number, then each, sorted: 32 bytes
const (
	stateVersion = 2

	ownerFirst  = 0
	ownerNobody = 1
	ownerOther  = 2

	bodySize  = ident.MaxPublicKeySize
	tupleSize = 1 + bodySize + 1
)

// State is the access state of a document: an immutable view over canonical bytes,
// which crdt.Document carries as an attachment. The zero State permits nothing.
type State struct {
	raw                                          []byte
	first, owner                                 span
	namesAt, tuplesAt, frontierAt                uint32
	names, tuples, frontier, events, voidedSoFar uint32

	log  []byte                 // the bytes of the events, if the state was made of them
	load func() ([]byte, error) // finds them otherwise; nil: nobody needs them
}

// span is a part of the bytes.
type span struct{ from, to uint32 }

func (s State) text(p span) string {
	if p.from == p.to {
		return ""
	}
	return unsafe.String(&s.raw[p.from], p.to-p.from)
}

// Begin returns the state of a document without commits, which that key may begin.
func Begin(owner ident.PublicKey) State {
	s, err := Open((&summary{first: owner, owner: owner}).append(nil))
	if err != nil {
		return State{}
	}
	return s
}

// Open returns the state whose bytes are raw, which must not change afterwards. It is
// without its events: WithLog says where they are.
func Open(raw []byte) (State, error) {
	var s State
	err := s.Reopen(raw)
	return s, err
}

// Reopen is Open in place: for who looks at one state after the other.
func (s *State) Reopen(raw []byte) error {
	b := scanner{b: raw}
	*s = State{}
	if b.byte() != stateVersion || uint64(len(raw)) > math.MaxUint32 {
		return damaged("version")
	}
	first := b.span()
	owner := first
	switch b.byte() {
	case ownerFirst:
	case ownerNobody:
		owner = span{}
	case ownerOther:
		owner = b.span()
	default:
		return damaged("owner")
	}
	s.first, s.owner = first, owner
	s.voidedSoFar = b.number()
	s.names, s.namesAt = b.number(), b.at
	for range b.bounded(s.names, 1) {
		b.span()
	}
	s.tuples, s.tuplesAt = b.number(), b.at
	b.skip(b.bounded(s.tuples, tupleSize) * tupleSize)
	s.frontier, s.frontierAt = b.number(), b.at
	for range b.bounded(s.frontier, 33) {
		b.skip(32)
		b.number()
	}
	s.events = b.number()
	if b.bad || b.left() > 0 || s.events == math.MaxUint32 { // one more can come
		*s = State{}
		return damaged("summary")
	}
	s.raw = raw
	return nil
}

func damaged(what string) error {
	return fault.Corrupt.Errorf("access state is damaged: %s: rebuild it from its commits", what)
}

// Bytes returns the canonical bytes, without the events.
func (s State) Bytes() []byte { return s.raw }

// WithLog returns the state with its events, whose bytes load returns when they are
// needed. They must be those of this state, and not change afterwards.
func (s State) WithLog(load func() ([]byte, error)) State {
	s.load = load
	return s
}

// Log returns the bytes of the events, if the state was made of them. Of one that was
// opened they are as they were.
func (s State) Log() (log []byte, made bool) { return s.log, len(s.log) > 0 }

// eventBytes returns the bytes of the events, wherever they are.
func (s State) eventBytes() ([]byte, error) {
	switch {
	case s.events == 0 || len(s.log) > 0:
		return s.log, nil
	case s.load == nil:
		return nil, damaged("its events are not at hand")
	}
	return s.load()
}

// Owner returns who owns the document, "" if nobody does: two transfers contradict
// each other.
func (s State) Owner() ident.PublicKey { return ident.PublicKey(s.text(s.owner)) }

// First returns who began the document.
func (s State) First() ident.PublicKey { return ident.PublicKey(s.text(s.first)) }

// Voided returns how many commits are void.
func (s State) Voided() int { return int(s.voidedSoFar) }

// WithVoided returns the state with that number of void commits: after all were
// judged again.
func (s State) WithVoided(n int) State {
	if len(s.raw) == 0 || n == s.Voided() {
		return s
	}
	sum := s.summary()
	sum.voided = uint32(n)
	next := opened(sum.append(make([]byte, 0, len(s.raw)+1)), s.log)
	next.load = s.load
	return next
}

// opened is Open of bytes that were just made, with those of its events.
func opened(raw, log []byte) State {
	s, err := Open(raw)
	if err != nil {
		panic("acp: " + err.Error())
	}
	s.log = log
	return s
}

// Held returns the bytes that Allows goes by: the owner and the tuples. States whose
// bytes begin with these allow the same.
func (s State) Held() []byte { return s.raw[:min(int(s.frontierAt), len(s.raw))] }

// Events returns how many commits have access operations, keys or auth links.
func (s State) Events() int { return int(s.events) }

// Tuple is a relation that somebody has.
type Tuple struct {
	Relation string
	Subject  Subject
}

// Tuples returns who has what, sorted by subject. The owner is not among them.
func (s State) Tuples(r *Rules) []Tuple {
	var all []Tuple
	for _, t := range s.summary().tuples {
		if t.relation < len(r.relations) {
			all = append(all, Tuple{r.relations[t.relation], t.Subject})
		}
	}
	return all
}

// Actor is who asks.
type Actor struct {
	Keys []ident.PublicKey // any of which may have the right
	// Groups reports whether the actor has the relation in the group document. nil:
	// in none.
	Groups func(group ID, relation string) bool
}

// Begins returns how the bytes of all states begin whose document that key began and
// still owns.
func Begins(owner ident.PublicKey) []byte {
	return append(appendString([]byte{stateVersion}, string(owner)), ownerFirst)
}

// Allows reports whether the actor has any of the relations that permit p. It
// allocates nothing.
func (s *State) Allows(r *Rules, who Actor, p Permission) bool {
	if r == nil {
		return true
	}
	return s.held(r, who, uint64(p)) != 0
}

// held returns those of the wanted relations that the actor has: owner if he is the
// owner, whatever else he has, and otherwise all until one suffices.
func (s *State) held(r *Rules, who Actor, wanted uint64) uint64 {
	if wanted>>r.owner&1 != 0 && s.owner.from != s.owner.to {
		owner := ident.PublicKey(s.text(s.owner))
		for _, k := range who.Keys {
			if k == owner {
				return 1 << r.owner
			}
		}
	}
	return s.granted(who, wanted)
}

// granted returns those of the wanted relations that tuples give to the actor.
func (s *State) granted(who Actor, wanted uint64) (mask uint64) {
	n := int(s.tuples)
	if n == 0 {
		return 0
	}
	table := s.raw[s.tuplesAt:][:n*tupleSize]
	i := 0
	for ; i < n && table[i*tupleSize] == kindEveryone; i++ {
		mask |= 1 << (table[i*tupleSize+tupleSize-1] & 63)
	}
	for _, k := range who.Keys {
		mask |= grantedTo(table, n, k)
	}
	if mask &= wanted; mask != 0 || who.Groups == nil || table[(n-1)*tupleSize] != kindGroup {
		return mask
	}
	return mask | s.grantedToGroups(table, n, who, wanted)
}

// grantedTo returns the relations of a key.
func grantedTo(table []byte, n int, k ident.PublicKey) (mask uint64) {
	if len(k) > bodySize {
		return 0
	}
	low, high := 0, n
	for low < high {
		mid := int(uint(low+high) >> 1)
		if compareKey(table[mid*tupleSize:][:tupleSize], k) < 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	for ; low < n && compareKey(table[low*tupleSize:][:tupleSize], k) == 0; low++ {
		mask |= 1 << (table[low*tupleSize+tupleSize-1] & 63)
	}
	return mask
}

// compareKey compares the subject of a tuple with that of a key.
func compareKey(t []byte, k ident.PublicKey) int {
	if t[0] != kindKey {
		return int(t[0]) - kindKey
	}
	if c := strings.Compare(unsafe.String(&t[1], len(k)), string(k)); c != 0 {
		return c
	}
	for _, b := range t[1+len(k) : 1+bodySize] {
		if b != 0 {
			return 1 // it goes on
		}
	}
	return 0
}

func (s *State) grantedToGroups(table []byte, n int, who Actor, wanted uint64) uint64 {
	var few [fewNames]span
	names := s.groupNames(few[:0])
	for i := n - 1; i >= 0 && table[i*tupleSize] == kindGroup; i-- {
		t := table[i*tupleSize:][:tupleSize]
		bit := uint64(1) << (t[tupleSize-1] & 63)
		if bit&wanted != 0 && who.Groups(ID(t[1:33]), s.nameIn(names, t)) {
			return bit
		}
	}
	return 0
}

// Groups returns the documents whose relations are held, sorted.
func (s State) Groups() []ID {
	var all []ID
	for i := int(s.tuples) - 1; i >= 0; i-- {
		t := s.raw[int(s.tuplesAt)+i*tupleSize:][:tupleSize]
		if t[0] != kindGroup {
			break
		}
		if id := ID(t[1:33]); len(all) == 0 || all[len(all)-1] != id {
			all = append(all, id)
		}
	}
	slices.Reverse(all)
	return all
}

// Seats returns the relations of other documents that hold one of the relations, sorted.
func (s State) Seats(anyOf Permission) (all []Subject) {
	var names []span
	for i := int(s.tuples) - 1; i >= 0; i-- {
		t := s.raw[int(s.tuplesAt)+i*tupleSize:][:tupleSize]
		if t[0] != kindGroup {
			break
		}
		if anyOf>>(t[tupleSize-1]&63)&1 == 0 {
			continue
		}
		if names == nil {
			names = s.groupNames(nil)
		}
		if g := OfGroup(ID(t[1:33]), s.nameIn(names, t)); len(all) == 0 || all[len(all)-1] != g {
			all = append(all, g)
		}
	}
	slices.Reverse(all)
	return all
}

// fewNames are as many relations of groups as most documents name.
const fewNames = 4

// groupNames appends where the relations of groups stand.
func (s *State) groupNames(to []span) []span {
	b := scanner{b: s.raw, at: s.namesAt}
	for range s.names {
		to = append(to, b.span())
	}
	return to
}

// nameIn returns the relation of the group that is the subject of an encoded tuple.
func (s *State) nameIn(names []span, t []byte) string {
	i := int(binary.BigEndian.Uint16(t[33:35])) | int(t[35])<<16
	if i >= len(names) {
		return ""
	}
	return s.text(names[i])
}

// setPlace enters the place of the relation of a group.
func setPlace(t []byte, i int) {
	binary.BigEndian.PutUint16(t[33:], uint16(i))
	t[35] = byte(i >> 16)
}

// Holding returns the permission that those have who have the relation: to ask
// whether somebody is in a group.
func (r *Rules) Holding(relation string) (Permission, bool) {
	i, ok := r.relation(relation)
	return Permission(1) << i, ok
}

// Frontier is a set of events of which none stands on another, sorted: what a commit
// stands on, with all below.
type Frontier []ID

// Frontier returns the events that no event stands on.
func (s State) Frontier() Frontier {
	var f Frontier
	for id := range s.maximal() {
		f = append(f, id)
	}
	return f
}

func (s State) maximal() iter.Seq2[ID, int] {
	return func(yield func(ID, int) bool) {
		b := scanner{b: s.raw, at: s.frontierAt}
		for range s.frontier {
			id := b.id()
			if !yield(id, int(b.number())) {
				return
			}
		}
	}
}

// StandsOnAll reports whether there is no event but those that f stands for.
func (s State) StandsOnAll(f Frontier) bool { return s.onAll(f) }

// onAll reports whether f is all that there is.
func (s State) onAll(f Frontier) bool {
	i := 0
	for id := range s.maximal() {
		if i >= len(f) || f[i] != id {
			return false
		}
		i++
	}
	return i == len(f)
}

// summary is what stands before the events, to be changed and put together again.
type summary struct {
	first, owner ident.PublicKey // owner "": nobody
	voided       uint32
	tuples       []tuple // sorted
	frontier     []place // sorted by commit
	events       int
}

// tuple is a Tuple whose relation is a place.
type tuple struct {
	relation int
	Subject
}

func (t tuple) compare(o tuple) int {
	if c := t.Subject.Compare(o.Subject); c != 0 {
		return c
	}
	return t.relation - o.relation
}

// place says where an event stands.
type place struct {
	id ID
	i  int
}

func (s State) summary() *summary {
	sum := &summary{first: s.First(), owner: s.Owner(), voided: s.voidedSoFar, events: s.Events()}
	names := s.groupNames(nil)
	for i := range int(s.tuples) {
		t := s.raw[int(s.tuplesAt)+i*tupleSize:][:tupleSize]
		n := tuple{relation: int(t[tupleSize-1])}
		switch t[0] {
		case kindEveryone:
			n.Subject = Everyone
		case kindGroup:
			n.Subject = OfGroup(ID(t[1:33]), s.nameIn(names, t))
		default:
			n.Subject = OfKey(keyOf(t[1 : 1+bodySize]))
		}
		sum.tuples = append(sum.tuples, n)
	}
	for id, i := range s.maximal() {
		sum.frontier = append(sum.frontier, place{id, i})
	}
	return sum
}

// keyOf returns the key that b begins with: the algorithm says how long it is.
func keyOf(b []byte) ident.PublicKey {
	for n := bodySize; n > 0; n-- {
		if k := ident.PublicKey(b[:n]); k.Check() == nil {
			return k
		}
	}
	return ident.PublicKey(b)
}

// append appends the bytes of the state.
func (s *summary) append(b []byte) []byte {
	b = append(b, stateVersion)
	b = appendString(b, string(s.first))
	switch s.owner {
	case s.first:
		b = append(b, ownerFirst)
	case "":
		b = append(b, ownerNobody)
	default:
		b = appendString(append(b, ownerOther), string(s.owner))
	}
	b = binary.AppendUvarint(b, uint64(s.voided))
	b = s.appendTuples(b)
	b = binary.AppendUvarint(b, uint64(len(s.frontier)))
	for _, f := range s.frontier {
		b = append(b, f.id[:]...)
		b = binary.AppendUvarint(b, uint64(f.i))
	}
	return binary.AppendUvarint(b, uint64(s.events))
}

func (s *summary) appendTuples(b []byte) []byte {
	var names []string
	for _, t := range s.tuples {
		if t.Relation != "" {
			names = append(names, t.Relation)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, n := range names {
		b = appendString(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(s.tuples)))
	for _, t := range s.tuples {
		var e [tupleSize]byte
		e[0], e[tupleSize-1] = t.kind(), byte(t.relation)
		if copy(e[1:], t.Key); t.Relation != "" {
			copy(e[1:], t.Group[:])
			setPlace(e[:], sort.SearchStrings(names, t.Relation))
		}
		b = append(b, e[:]...)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// scanner takes parts off bytes. After damage it returns zeros, and bad is set.
type scanner struct {
	b   []byte
	at  uint32
	bad bool
}

func (b *scanner) fail() { b.bad, b.at = true, uint32(len(b.b)) }

func (b *scanner) left() int { return len(b.b) - int(b.at) }

func (b *scanner) byte() byte {
	if b.left() < 1 {
		b.fail()
		return 0
	}
	b.at++
	return b.b[b.at-1]
}

// number reads a number, which must be below 2^32 and in its shortest form.
func (b *scanner) number() uint32 {
	if at := int(b.at); at < len(b.b) && b.b[at] < 0x80 { // nearly always
		b.at++
		return uint32(b.b[at])
	}
	return b.longNumber()
}

func (b *scanner) longNumber() uint32 {
	n := b.uvarint()
	if n > math.MaxUint32 {
		b.fail()
		return 0
	}
	return uint32(n)
}

func (b *scanner) uvarint() uint64 {
	n, size := binary.Uvarint(b.b[b.at:])
	if size <= 0 || size > 1 && b.b[int(b.at)+size-1] == 0 {
		b.fail()
		return 0
	}
	b.at += uint32(size)
	return n
}

// bounded returns n if that many parts of at least size bytes can follow.
func (b *scanner) bounded(n uint32, size int) int {
	if int64(n) > int64(b.left()/size) {
		b.fail()
		return 0
	}
	return int(n)
}

func (b *scanner) skip(n int) {
	if n > b.left() {
		b.fail()
		return
	}
	b.at += uint32(n)
}

// span reads a length and that many bytes.
func (b *scanner) span() span {
	n := b.number()
	from := b.at
	b.skip(b.bounded(n, 1))
	if b.bad {
		return span{}
	}
	return span{from, b.at}
}

func (b *scanner) text() string {
	s := b.span()
	return string(b.b[s.from:s.to])
}

func (b *scanner) id() (id ID) {
	if b.left() < len(id) {
		b.fail()
		return id
	}
	copy(id[:], b.b[b.at:])
	b.at += uint32(len(id))
	return id
}

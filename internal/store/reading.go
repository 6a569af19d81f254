package store

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/kv"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/veil"
)

// What a caller may not read does not exist for him: it is not found, not listed and
// not counted, and neither indexes, the feed nor errors tell of it. Whatever hands out
// documents, or says something of them, asks here, and nowhere else is it decided.
//
// What counts is what the transaction knows now: the access state in the row of the
// document, and those of the groups that it names. A document without such a state, in
// a collection with a policy, is read by the database itself only.

// Reading is what somebody may read, as a transaction sees it. It may be asked by
// several goroutines at once where the transaction may.
type Reading struct {
	tx    *Tx
	all   bool // everything
	here  bool // with the keys that are here: what is locked does not exist
	peer  *Peer
	actor acp.Actor
	asks  bool // the caller asks it about others: of groups that do not exist for him it says nothing

	failed atomic.Pointer[error] // why it cannot be told who is in a group

	mu     sync.RWMutex // guards the rest
	groups map[membership]bool
	as     *pending // the newest commit of the transaction when they were asked for
}

// membership is a relation that somebody may have in a group.
type membership struct {
	group    dag.DocID
	relation string
}

// maxAsked bounds the groups within groups that are looked at for one question. Who is
// in one through more than these is not found in it.
const maxAsked = 1024

// Reading returns what those may read who are all of these identities: to be asked
// by who serves others, on a transaction of System.
func (tx *Tx) Reading(keys ...ident.PublicKey) *Reading {
	r := &Reading{tx: tx}
	r.actor = acp.Actor{Keys: keys, Groups: r.member}
	return r
}

// ReadingAs returns what a caller may read, whoever runs the transaction.
func (tx *Tx) ReadingAs(c Caller) *Reading {
	r := tx.Reading(c.Keys()...)
	r.peer = c.peer
	return r
}

// Readable reports whether those identities may read a document as it is now. One that
// does not exist nobody reads.
func (tx *Tx) Readable(c *schema.Collection, id dag.DocID, keys ...ident.PublicKey) (bool, error) {
	return tx.Reading(keys...).Readable(c, id)
}

// Readable is Tx.Readable of several documents in turn: what it learns of groups it
// remembers.
func (r *Reading) Readable(c *schema.Collection, id dag.DocID) (bool, error) {
	n, err := r.tx.short(c)
	if err != nil {
		return false, err
	}
	d, ok, err := r.tx.document(n, id)
	if err != nil || !ok {
		return false, err
	}
	g := r.guard(n)
	return g.passes(id, d)
}

// ReadableDoc is Readable of a document at hand. It must be as it is now: a past one says
// who could read it then.
func (r *Reading) ReadableDoc(d Doc) (bool, error) {
	n, err := r.tx.short(d.Collection)
	if err != nil {
		return false, err
	}
	g := r.guard(n)
	return g.passes(d.ID, d.State)
}

// reading returns what the caller may read.
func (tx *Tx) reading() *Reading {
	tx.asked.Do(func() {
		tx.caller = tx.Reading(tx.who.Keys()...)
		tx.caller.all, tx.caller.peer = tx.who.system, tx.who.peer
		tx.caller.here = tx.who.peer == nil
	})
	return tx.caller
}

// guard returns who lets pass what the caller may read of a collection.
func (tx *Tx) guard(n short) guard {
	if tx.who.system || tx.set.readers(n) == nil {
		return guard{}
	}
	return tx.reading().guard(n)
}

func (r *Reading) guard(n short) guard {
	if r.all {
		return guard{}
	}
	rules := r.tx.set.readers(n)
	if rules == nil {
		return guard{}
	}
	return guard{r: r, rules: rules, wanted: rules.Read}
}

// visible returns a document if the caller may read it.
func (tx *Tx) visible(n short, id dag.DocID) (crdt.Document, bool, error) {
	d, ok, err := tx.document(n, id)
	if err != nil || !ok {
		return crdt.Document{}, false, err
	}
	g := tx.guard(n)
	if ok, err = g.passes(id, d); err != nil || !ok {
		return crdt.Document{}, false, err
	}
	return d, true, nil
}

// governed returns a document if the caller may read it or say who may: who manages a
// relation knows of the document, and need not know what is in it.
func (tx *Tx) governed(c *schema.Collection, id dag.DocID) (Doc, error) {
	n, err := tx.short(c)
	if err != nil {
		return Doc{}, err
	}
	d, ok, err := tx.document(n, id)
	if err == nil && ok {
		g := tx.guard(n)
		if !g.open() {
			g.wanted, g.governs = g.wanted|g.rules.Manage, true
		}
		ok, err = g.passes(id, d)
	}
	if err == nil && !ok {
		err = notIn(c, id)
	}
	if err != nil {
		return Doc{}, err
	}
	return Doc{id, c, d}, nil
}

// mayRead reports whether the caller may read a document. It looks at the document
// only where a policy asks for it.
func (tx *Tx) mayRead(n short, id dag.DocID) (bool, error) {
	if g := tx.guard(n); g.open() {
		return true, nil
	}
	_, ok, err := tx.visible(n, id)
	return ok, err
}

// guard lets pass the documents of one collection that may be read. It is for one pass
// over them, in one goroutine. The zero guard lets all pass.
type guard struct {
	r       *Reading
	rules   *acp.Rules // nil: everything passes
	wanted  acp.Permission
	hidden  int  // documents that it did not let pass
	governs bool // it is asked for rights, which are not encrypted
	asked   bool
	known   *known // from the second document on
}

// known is what a guard remembers.
type known struct {
	own   [][]byte // how the states of documents begin that the caller began and owns, if these pass
	held  [knownStates]verdict
	state acp.State // the one that is looked at
}

// verdict says whether a document may be read whose state begins with some bytes.
type verdict struct {
	held   []byte
	passes bool
}

const (
	// knownStates is how many states a guard remembers: most documents of a
	// collection belong to few people, who share them in few ways.
	knownStates = 16
	// maxKnown bounds what it remembers of each.
	maxKnown = 1 << 10
	// keyByte is a byte of the first owner's key, and shownByte one of the first key that
	// somebody else has, by which states are told apart.
	keyByte   = 12
	shownByte = 52
)

// open reports whether everything passes.
func (g *guard) open() bool { return g.rules == nil }

// patience is how many documents that may not be read a guard sees before it looks
// whether somebody still waits: who iterates does not hear of them.
const patience = 1024

// passes reports whether a document may be read.
func (g *guard) passes(id dag.DocID, d crdt.Document) (bool, error) {
	if g.rules == nil {
		return true, nil
	}
	may, err := g.ask(id, d)
	if may || err != nil {
		return may, err
	}
	if g.hidden++; g.hidden%patience == 0 && g.r.tx.ctx != nil && g.r.tx.ctx.Err() != nil {
		return false, fault.Unavailable.Errorf("the request was cancelled: %w", context.Cause(g.r.tx.ctx))
	}
	return false, nil
}

func (g *guard) ask(id dag.DocID, d crdt.Document) (bool, error) {
	raw, keys := d.Attachments()
	if len(raw) <= keyByte || g.r.here && !g.governs && veil.Locked(keys) {
		return false, nil // nobody knows whose it is, or what is in it
	}
	if !g.asked { // perhaps it is the only one
		g.asked = true
		var st acp.State
		may, err := g.judge(id, raw, &st)
		if err != nil {
			return false, err
		}
		return g.verdict(may, d)
	}
	if g.known == nil {
		g.known = &known{own: g.own()}
	}
	for _, own := range g.known.own {
		if bytes.HasPrefix(raw, own) {
			return g.verdict(true, d)
		}
	}
	slot := raw[keyByte]
	if len(raw) > shownByte {
		slot += raw[shownByte]
	}
	v := &g.known.held[slot%knownStates]
	if len(v.held) > 0 && bytes.HasPrefix(raw, v.held) {
		return g.verdict(v.passes, d)
	}
	st := &g.known.state
	may, err := g.judge(id, raw, st)
	if err != nil {
		return false, err
	}
	if held := st.Held(); len(held) <= maxKnown {
		v.held, v.passes = append(v.held[:0], held...), may
	}
	return g.verdict(may, d)
}

// judge reports whether those have the right whom a state of access gives it to.
func (g *guard) judge(id dag.DocID, raw []byte, st *acp.State) (bool, error) {
	if err := st.Reopen(raw); err != nil {
		return false, fault.Corrupt.Errorf("document %s: %w: run pando fsck --rebuild", id, err)
	}
	may := st.Allows(g.rules, g.r.actor, g.wanted)
	if err := g.r.failed.Load(); err != nil && !may {
		return false, *err
	}
	return may, nil
}

// own returns how the states of documents begin that pass because they are the caller's.
func (g *guard) own() (all [][]byte) {
	for _, k := range g.r.actor.Keys {
		who := acp.Actor{Keys: []ident.PublicKey{k}}
		if st := acp.Begin(k); st.Allows(g.rules, who, g.wanted) {
			all = append(all, acp.Begins(k))
		}
	}
	return all
}

// verdict reports whether a document passes that may be read, or may not.
func (g *guard) verdict(may bool, d crdt.Document) (bool, error) {
	if p := g.r.peer; p != nil && (p.Blind || p.Hub && !may) {
		whole, err := sealedWhole(d)
		return whole && (may || p.Hub), err
	}
	return may, nil
}

// newest returns the newest commit of the transaction, nil if it has none.
func (tx *Tx) newest() *pending {
	if len(tx.pending) == 0 {
		return nil
	}
	return tx.pending[len(tx.pending)-1]
}

// member reports whether the identities have the relation in a group, directly or
// through groups within it.
func (r *Reading) member(group acp.ID, relation string) bool {
	if is, ok := r.known(membership{dag.DocID(group), relation}); ok {
		return is
	}
	q := question{r: r, met: map[membership]answer{}, stands: onNothing}
	return q.settle(membership{dag.DocID(group), relation}, q.member(group, relation))
}

// known returns what was found before, unless the transaction has written since.
func (r *Reading) known(m membership) (is, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.as == r.tx.newest() {
		is, ok = r.groups[m]
	}
	return is, ok
}

// question is one question after a membership, under way: groups may be within each
// other.
type question struct {
	r     *Reading
	met   map[membership]answer
	depth int // of the groups that are being looked at
	// stands is the least depth of those on which the answer stands that is being looked
	// for, because of a circle; -1 if it was cut by maxAsked.
	stands int
}

// answer is what was found out of a membership. A no stands on groups further up that were
// not looked at to the end: it is good for itself if there are none.
type answer struct {
	is     bool
	open   bool // it is being looked for
	stands int  // of what is open, its own depth
}

// onNothing is where an answer stands that is good for itself.
const onNothing = math.MaxInt

func (q *question) member(group acp.ID, relation string) bool {
	m := membership{dag.DocID(group), relation}
	if is, ok := q.r.known(m); ok {
		return is
	}
	if a, met := q.met[m]; met { // asked for already, further up or beside
		if !a.open && a.stands != onNothing {
			a.stands = min(a.stands, 0) // those it stood on have been left, and may stand on any above
		}
		q.stands = min(q.stands, a.stands)
		return a.is
	}
	if len(q.met) == maxAsked {
		q.stands = -1
		return false
	}
	m.relation = strings.Clone(relation) // it lies in the row of a document
	above := q.stands
	q.met[m], q.stands = answer{open: true, stands: q.depth}, onNothing
	q.depth++
	is, err := q.holds(m)
	q.depth--
	if err != nil {
		q.r.failed.CompareAndSwap(nil, &err)
	}
	if is || q.stands >= q.depth { // on itself, or on groups within it
		q.stands = onNothing
	}
	q.met[m] = answer{is: is, stands: q.stands}
	q.stands = min(above, q.stands)
	return is
}

// holds looks at the document that is the group.
func (q *question) holds(m membership) (bool, error) {
	n, d, ok, err := q.r.tx.group(m.group)
	if err != nil || !ok {
		return false, err
	}
	rules := q.r.tx.set.rules[n]
	holding, ok := rules.Holding(m.relation)
	if ok && q.r.asks {
		ok, err = q.r.tx.knows(n, m.group, d, holding)
	}
	if err != nil || !ok {
		return false, err
	}
	st, err := accessState(m.group, d)
	return err == nil && st.Allows(rules, acp.Actor{Keys: q.r.actor.Keys, Groups: q.member}, holding), err
}

// settle remembers the answers that are good for themselves, and the one to the question.
// A no below a yes may have been said too early, in a circle; below a no it was not, if
// nothing was cut.
func (q *question) settle(asked membership, is bool) bool {
	r, as := q.r, q.r.tx.newest()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.groups == nil || r.as != as {
		r.groups, r.as = map[membership]bool{}, as
	}
	whole := !is && q.stands == onNothing
	for m, a := range q.met {
		if a.is || whole || a.stands == onNothing || m == asked {
			r.groups[m] = a.is
		}
	}
	return is
}

// withheld are the rules of a collection whose schema is lost, and with it who may
// read it: nobody.
var withheld = new(acp.Rules)

// readers returns by which rules the documents of a collection are read, nil if it has
// no policy.
func (s *Set) readers(n short) *acp.Rules {
	if rules := s.rules[n]; rules != nil || len(s.lost) == 0 {
		return rules
	}
	for id, lost := range s.lost {
		if _, known := s.byID[id]; lost == n && !known {
			return withheld
		}
	}
	return nil
}

// follower tells of the commits of many documents, as they come in the feed, whether
// the document may be read.
type follower struct {
	tx     *Tx
	guards map[short]*guard
	known  map[dag.DocID]bool
	last   dag.DocID
	may    bool // of last
}

// maxFollowed bounds the documents that a follower remembers.
const maxFollowed = 1 << 12

// passes reports whether the document of a commit may be read.
func (f *follower) passes(at place) (bool, error) {
	if f.tx.who.system || f.tx.set.readers(at.coll) == nil {
		return true, nil
	}
	if at.doc == f.last {
		return f.may, nil
	}
	may, ok := f.known[at.doc]
	if !ok {
		var err error
		if may, err = f.ask(at); err != nil {
			return false, err
		}
	}
	f.last, f.may = at.doc, may
	return may, nil
}

func (f *follower) ask(at place) (bool, error) {
	if len(f.known) == maxFollowed || f.known == nil {
		f.known = map[dag.DocID]bool{}
	}
	if f.guards == nil {
		f.guards = map[short]*guard{}
	}
	g := f.guards[at.coll]
	if g == nil {
		made := f.tx.guard(at.coll)
		g = &made
		f.guards[at.coll] = g
	}
	d, ok, err := f.tx.document(at.coll, at.doc)
	if err == nil && ok {
		ok, err = g.passes(at.doc, d)
	}
	if err != nil {
		return false, err
	}
	f.known[at.doc] = ok
	return ok, nil
}

// Index entries are checked in chunks, the first as large as what is wanted: whoever
// wants few does not pay for more.
const (
	entriesChunk = 512
	entriesMore  = 2 // how many times as many the next chunk has
	// entriesHidden is how many are in a chunk where hardly any may be read: the more,
	// the closer the documents lie.
	entriesHidden = 4096
	// entriesBytes bounds the keys of a chunk: a path of JSON may be long.
	entriesBytes = 1 << 20
)

// sifting lets pass the entries of an index whose documents may be read.
type sifting struct {
	tx     *Tx
	coll   short
	guard  guard
	pauses bool     // who asks wants to hear of what was passed over
	it     *kv.Iter // over documents, if it can be used again
	keys   []byte   // of the entries, one after the other
	ends   []int
	docs   []dag.DocID
	order  []manyPlace
	may    []bool
	size   int // of the next chunk
	kept   int // documents that it gave to recent
}

// sift returns nil if everything passes.
func (tx *Tx) sift(n short) *sifting {
	g := tx.guard(n)
	if g.open() {
		return nil
	}
	return &sifting{tx: tx, coll: n, guard: g, size: 1}
}

// close ends a sifting.
func (s *sifting) close() {
	if s.it != nil {
		s.it.Close()
	}
}

// add takes an entry; it reports whether the chunk is full.
func (s *sifting) add(key []byte, doc dag.DocID) bool {
	s.keys = append(s.keys, key...)
	s.ends, s.docs = append(s.ends, len(s.keys)), append(s.docs, doc)
	return len(s.docs) == s.size || len(s.keys) >= entriesBytes
}

// yield passes on what may be read of the chunk, in its order.
func (s *sifting) yield(yield func(IndexEntry, error) bool) bool {
	if err := s.check(); err != nil {
		yield(IndexEntry{}, err)
		return false
	}
	from, shown := 0, 0
	for i, end := range s.ends {
		if s.may[i] {
			shown++
			if !yield(IndexEntry{Key: s.keys[from:end:end], Doc: s.docs[i]}, nil) {
				return false
			}
		}
		from = end
	}
	n := len(s.docs)
	if s.pauses && shown < n && !yield(IndexEntry{Key: s.behind(n - 1), Hidden: n - shown}, nil) {
		return false
	}
	most := entriesChunk
	if shown < n/8 {
		most = entriesHidden
	}
	s.keys, s.ends, s.docs = s.keys[:0], s.ends[:0], s.docs[:0]
	s.size = min(entriesMore*s.size, most)
	return true
}

// behind returns the first key behind an entry of the chunk.
func (s *sifting) behind(i int) []byte {
	from := 0
	if i > 0 {
		from = s.ends[i-1]
	}
	return append(slices.Concat(s.keys[from:s.ends[i]], s.docs[i][:]), 0)
}

// check reads the documents of the chunk in ascending order.
func (s *sifting) check() error {
	s.may = slices.Grow(s.may[:0], len(s.docs))[:len(s.docs)]
	if len(s.docs) == 1 {
		d, ok, err := s.tx.document(s.coll, s.docs[0])
		if err == nil && ok {
			ok, err = s.guard.passes(s.docs[0], d)
		}
		if s.may[0] = ok; ok {
			s.keep(s.docs[0], d)
		}
		return err
	}
	s.order = appendPlaces(s.order[:0], s.docs)
	prefix := collectionPrefix(tableDocument, s.coll)
	if s.it == nil {
		s.it = s.tx.kv.NewIter(prefix, after(prefix))
	}
	m := many{it: s.it, key: slices.Grow(prefix, len(dag.DocID{})), guard: s.guard}
	defer func() {
		s.guard = m.guard   // with what it has learned
		if !s.tx.readOnly { // it does not see what is written from now on
			s.it.Close()
			s.it = nil
		}
	}()
	for i, o := range s.order {
		if i > 0 && s.docs[s.order[i-1].at] == s.docs[o.at] {
			s.may[o.at] = s.may[s.order[i-1].at]
			continue
		}
		raw, ok, err := m.seek(s.docs[o.at])
		var d Doc
		if err == nil && ok {
			d, ok, err = m.open(s.docs[o.at], raw)
		}
		if err != nil {
			return err
		}
		if s.may[o.at] = ok; ok {
			s.keep(d.ID, d.State)
		}
	}
	return nil
}

// keep keeps a document that may be read.
func (s *sifting) keep(id dag.DocID, d crdt.Document) {
	if s.kept < recentRows && s.tx.readOnly {
		s.kept++
		s.tx.recent.keep(s.coll, id, d)
	}
}

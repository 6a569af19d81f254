package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// A group is a document, and who belongs to it is told by commits of it that others
// name. What these say never changes, so it is remembered for the whole store.

// library is where commits are: a transaction with its own, or a snapshot.
type library interface {
	where(cid dag.CID) (place, bool, error)
	historyOf(n short, id dag.DocID) iter.Seq2[Applied, error]
	rulesOf(n short) (*acp.Rules, error)
}

// memberships answers who belonged to groups, from a library. It is acp.Members.
type memberships struct {
	library
	*memory
}

func (tx *Tx) members() acp.Members { return memberships{tx, tx.s.memory} }

func (tx *Tx) rulesOf(n short) (*acp.Rules, error) { return tx.set.rulesOf(n) }

// rulesOf returns the rules of a collection, nil if it has no policy, and Unavailable if
// damage took its schema: then nobody can say who is in its groups, and what members write
// is not wrong for that.
func (s *Set) rulesOf(n short) (*acp.Rules, error) {
	rules := s.readers(n)
	if rules == withheld {
		return nil, fault.Unavailable.Errorf("the schema of a collection with groups is lost, and with it who is in them: add it again or join a peer that has it, then run 'pando fsck --rebuild'")
	}
	return rules, nil
}

// Member is acp.Members.Member.
func (m memberships) Member(known []acp.ID, group acp.ID, relation string, key ident.PublicKey) (bool, error) {
	asked := map[acp.Subject]bool{}
	var failed error
	var member func(group acp.ID, relation string) bool
	member = func(group acp.ID, relation string) bool {
		seat := acp.OfGroup(group, relation)
		if failed != nil || asked[seat] {
			return false // going round adds nobody
		}
		asked[seat] = true
		s, rules, err := m.asOf(known, group)
		if err != nil || rules == nil {
			failed = err
			return false
		}
		p, ok := rules.Holding(relation)
		return ok && s.Allows(rules, acp.Actor{Keys: []ident.PublicKey{key}, Groups: member}, p)
	}
	ok := member(group, relation)
	return ok && failed == nil, failed
}

// asOf returns the state of a group document that those of its commits make which
// are among the known ones, with their ancestors; no rules if none is.
func (m memberships) asOf(known []acp.ID, group acp.ID) (acp.State, *acp.Rules, error) {
	var n short
	var links []dag.CID
	for _, id := range known {
		of, ok := m.holder(dag.CID(id))
		if !ok {
			at, err := m.placeOf(dag.CID(id))
			if err != nil {
				return acp.State{}, nil, err
			}
			of = holder{at.coll, at.doc}
			m.remember(at.cid, of)
		}
		if of.doc == dag.DocID(group) {
			n = of.coll
			links = append(links, dag.CID(id))
		}
	}
	if len(links) == 0 {
		return acp.State{}, nil, nil
	}
	rules, err := m.rulesOf(n)
	if err != nil || rules == nil {
		return acp.State{}, nil, err
	}
	key := string(group[:])
	for _, l := range links {
		key += string(l[:])
	}
	if s, ok := m.state(key); ok {
		return s, rules, nil
	}
	commits, err := m.upTo(n, dag.DocID(group), links)
	if err != nil {
		return acp.State{}, nil, err
	}
	j, err := judgeAll(rules, commits, m)
	if err != nil {
		return acp.State{}, nil, err
	}
	s, err := acp.Open(j.State.Bytes()) // nobody asks for its events
	if err != nil {
		return acp.State{}, nil, err
	}
	m.keep(key, s)
	return s, rules, nil
}

// placeOf says where a commit is that others name.
func (m memberships) placeOf(cid dag.CID) (place, error) {
	at, ok, err := m.where(cid)
	if err == nil && !ok {
		err = fault.Corrupt.Errorf("commit %s of a group is missing: run pando fsck --rebuild, then sync with a peer", cid)
	}
	return at, err
}

// upTo yields those commits of a document and all their ancestors, in order.
func (m memberships) upTo(n short, id dag.DocID, links []dag.CID) (iter.Seq2[*dag.Commit, error], error) {
	var all []*dag.Commit
	for a, err := range m.historyOf(n, id) {
		if err != nil {
			return nil, err
		}
		all = append(all, a.Commit)
	}
	in := make(map[dag.CID]bool, len(links))
	for _, l := range links {
		in[l] = true
	}
	for _, cm := range slices.Backward(all) {
		if in[cm.CID] {
			for _, p := range cm.Parents {
				in[p] = true
			}
		}
	}
	return func(yield func(*dag.Commit, error) bool) {
		for _, cm := range all {
			if in[cm.CID] && !yield(cm, nil) {
				return
			}
		}
	}, nil
}

// memory holds what was found out about groups. It forgets what was not asked for
// while much else was.
type memory struct {
	mu     sync.Mutex
	states [2]map[string]acp.State // new, old
	bytes  int                     // of the new ones
	named  map[dag.CID]holder      // of which documents commits are that were named: that never changes
}

// holder is the document that a commit is of.
type holder struct {
	coll short
	doc  dag.DocID
}

// maxNamed bounds the commits of which it is remembered whose they are: some 8 MiB.
const maxNamed = 1 << 16

// holder returns the document of a commit, if it was asked for before.
func (m *memory) holder(cid dag.CID) (holder, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of, ok := m.named[cid]
	return of, ok
}

func (m *memory) remember(cid dag.CID, of holder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.named == nil || len(m.named) == maxNamed {
		m.named = map[dag.CID]holder{}
	}
	m.named[cid] = of
}

// memoryBytes is how much is remembered at most, twice.
const memoryBytes = 8 << 20

func newMemory() *memory { return &memory{states: [2]map[string]acp.State{{}, {}}} }

func (m *memory) state(key string) (acp.State, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.states[0][key]
	if !ok {
		if s, ok = m.states[1][key]; ok {
			m.put(key, s)
		}
	}
	return s, ok
}

func (m *memory) keep(key string, s acp.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(key, s)
}

func (m *memory) put(key string, s acp.State) {
	if m.bytes += len(key) + len(s.Bytes()); m.bytes > memoryBytes {
		m.states, m.bytes = [2]map[string]acp.State{{}, m.states[0]}, 0
	}
	m.states[0][key] = s
}

// The documents that name a group, so that they can be told of who left it.
//
//	a group collection doc
func namedKey(group dag.DocID, n short, id dag.DocID) []byte {
	b := append([]byte{tableNamed}, group[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return append(b, id[:]...)
}

func parseNamedKey(k []byte) (group dag.DocID, n short, id dag.DocID, err error) {
	if len(k) != 1+32+4+32 {
		return group, 0, id, fault.Corrupt.Errorf("entry of who names a group: %d bytes, want 69: run pando fsck --rebuild", len(k))
	}
	copy(group[:], k[1:])
	copy(id[:], k[37:])
	return group, short(binary.BigEndian.Uint32(k[33:])), id, nil
}

// named brings the entries of a document up to what it has become.
func (tx *Tx) named(n short, id dag.DocID, old, next carried) error {
	if bytes.Equal(old.access, next.access) {
		return nil
	}
	was, err := groupsIn(id, old.access)
	if err != nil {
		return err
	}
	is, err := groupsIn(id, next.access)
	if err != nil {
		return err
	}
	for _, g := range was {
		if !slices.Contains(is, g) {
			tx.kv.Delete(namedKey(dag.DocID(g), n, id))
		}
	}
	for _, g := range is {
		if !slices.Contains(was, g) {
			tx.kv.Set(namedKey(dag.DocID(g), n, id), nil)
		}
	}
	return nil
}

// groupsOf returns the groups that a document names.
func groupsOf(id dag.DocID, d crdt.Document) ([]acp.ID, error) {
	return groupsIn(id, d.Attached(crdt.FieldAccess, crdt.KindAccess))
}

func groupsIn(id dag.DocID, access []byte) ([]acp.ID, error) {
	if len(access) == 0 {
		return nil, nil
	}
	s, err := openAccess(id, access)
	if err != nil {
		return nil, err
	}
	return s.Groups(), nil
}

// group finds a group document, whatever collection it is of.
func (tx *Tx) group(id dag.DocID) (n short, d crdt.Document, ok bool, err error) {
	for n := range tx.set.rules {
		if d, ok, err := tx.document(n, id); ok || err != nil {
			return n, d, ok, err
		}
	}
	return 0, d, false, nil
}

// knows reports whether the caller may be told of a group: he may read it or say who
// may, or has one of some relations in it.
func (tx *Tx) knows(n short, id dag.DocID, d crdt.Document, relations acp.Permission) (bool, error) {
	g := tx.guard(n)
	if g.open() {
		return true, nil
	}
	g.wanted, g.governs = g.wanted|g.rules.Manage|relations, true
	return g.passes(id, d)
}

// anyRelation is every relation of a resource.
const anyRelation = ^acp.Permission(0)

// anchors returns what a new commit has to name of the groups whose members may write its
// document, so that who stands on it knows as much of them as is known here. Of groups
// that do not exist for the caller it says nothing: the links would tell him of them and of
// their changes, and his commits would wait wherever the groups may not be. Of groups of
// readers it says nothing either: no verdict follows from who is in them, and who may not
// read one would wait for it.
func (tx *Tx) anchors(rules *acp.Rules, cm *dag.Commit, state acp.State) ([]dag.CID, error) {
	ops, err := acp.Ops(cm.Deltas)
	if err != nil {
		return nil, err
	}
	seats := append(state.Seats(rules.Powers()), granted(rules, ops)...)
	if len(seats) == 0 || state.Events() >= acp.MaxEvents {
		return nil, nil
	}
	known, err := tx.anchored(state, cm.Parents)
	if err != nil {
		return nil, err
	}
	var links []dag.CID
	for i := 0; i < len(seats) && i < maxGroups; i++ {
		group := dag.DocID(seats[i].Group)
		if group == cm.Doc {
			continue // what stands on its own history knows it
		}
		n, d, ok, err := tx.group(group)
		if err == nil && ok {
			ok, err = tx.knows(n, group, d, anyRelation)
		}
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		s, err := accessState(group, d)
		if err != nil {
			return nil, err
		}
		p, _ := tx.set.rules[n].Holding(seats[i].Relation)
		for _, g := range s.Seats(p) { // groups within groups; those that come after maxGroups are not looked at
			if len(seats) < maxGroups && !slices.Contains(seats, g) {
				seats = append(seats, g)
			}
		}
		latest := s.Frontier()
		if len(latest) == 0 {
			if latest, err = tx.beginning(n, group); err != nil {
				return nil, err
			}
		}
		for _, e := range latest {
			_, ok := slices.BinarySearchFunc(known, e, acp.ID.Compare)
			if !ok && !slices.Contains(links, dag.CID(e)) && len(links) < dag.MaxAuth && len(known)+len(links) < acp.MaxKnown {
				links = append(links, dag.CID(e))
			}
		}
	}
	return links, nil
}

// anchored returns what a commit with those parents knows of groups: of a document with more
// heads than it names that may not be all.
func (tx *Tx) anchored(state acp.State, parents []dag.CID) ([]acp.ID, error) {
	if len(parents) < dag.MaxParents {
		return state.Anchored()
	}
	before, err := tx.before(state, parents)
	if err != nil {
		return nil, err
	}
	past, err := state.Past(before)
	if err != nil {
		return nil, err
	}
	return past.Anchored(), nil
}

// granted returns the relations of groups that operations let write.
func granted(rules *acp.Rules, ops []acp.Op) (seats []acp.Subject) {
	for _, o := range ops {
		if o.Kind != acp.Grant || o.Subject.Relation == "" {
			continue
		}
		if p, ok := rules.Holding(o.Relation); ok && p&rules.Powers() != 0 {
			seats = append(seats, o.Subject)
		}
	}
	return seats
}

// maxGroups bounds the groups, and groups within these, that a write looks after.
const maxGroups = 256

// beginning returns the first commit of a document.
func (tx *Tx) beginning(n short, id dag.DocID) (acp.Frontier, error) {
	for a, err := range tx.historyOf(n, id) {
		if err != nil {
			return nil, err
		}
		return acp.Frontier{acp.ID(a.CID)}, nil
	}
	return nil, nil
}

// maxAnchored bounds the documents that one transaction tells of a change in a group. The
// others are told by transactions that follow it.
const maxAnchored = 1000

// untold is a group of which documents are still to be told.
type untold struct {
	group dag.DocID
	left  bool
}

// anchorWhereNamed writes what is known of a group now to the documents that name it,
// also through other groups, where the caller may: if somebody left, to all that it may
// write; and to those that are encrypted the keys for who came, or without who left.
func (tx *Tx) anchorWhereNamed(group dag.DocID, left bool) error {
	written := 0
	for at, err := range tx.whereNamed(group) {
		if err != nil {
			return err
		}
		ok, err := tx.anchor(at, left)
		if err != nil {
			return err
		}
		if ok {
			written++
		}
		if written == maxAnchored {
			if u := (untold{group, left}); !slices.Contains(tx.untold, u) {
				tx.untold = append(tx.untold, u)
			}
			return nil
		}
	}
	return nil
}

// AnchorWhereNamed tells the documents that name a group who has left it, if they have
// not heard: after a revocation that was made before.
func (tx *Tx) AnchorWhereNamed(group dag.DocID) error {
	if err := tx.writable(); err != nil {
		return err
	}
	return tx.anchorWhereNamed(group, true)
}

// tellRest does what was too much for one transaction. The one that took the right is
// durable: what fails here does not take it back.
func (s *Store) tellRest(ctx context.Context, who Caller, groups []untold) error {
	for _, u := range groups {
		var docs []place
		err := s.View(ctx, System, func(tx *Tx) error {
			for at, err := range tx.whereNamed(u.group) {
				if err != nil {
					return err
				}
				docs = append(docs, at)
			}
			return nil
		})
		for len(docs) > 0 && err == nil {
			some := docs[:min(maxAnchored, len(docs))]
			if err = s.Update(ctx, who, func(tx *Tx) error { return tx.anchorAll(some, u.left) }); err == nil {
				docs = docs[len(some):]
			}
		}
		if err != nil {
			return fmt.Errorf("the right is taken, but %d documents that name group %s are not told of it yet, so what was written to them by who had it may count: revoke it again: %w", len(docs), u.group, err)
		}
	}
	return nil
}

func (tx *Tx) anchorAll(docs []place, left bool) error {
	for _, at := range docs {
		if _, err := tx.anchor(at, left); err != nil {
			return err
		}
	}
	return nil
}

// whereNamed yields the documents that name a group, also through other groups.
func (tx *Tx) whereNamed(group dag.DocID) iter.Seq2[place, error] {
	return func(yield func(place, error) bool) {
		asked := map[dag.DocID]bool{group: true}
		for next := []dag.DocID{group}; len(next) > 0; next = next[1:] {
			docs, err := tx.naming(next[0])
			if err != nil {
				yield(place{}, err)
				return
			}
			for _, at := range docs {
				if asked[at.doc] {
					continue
				}
				asked[at.doc] = true
				next = append(next, at.doc)
				if !yield(at, nil) {
					return
				}
			}
		}
	}
}

// naming returns the documents that name a group.
func (tx *Tx) naming(group dag.DocID) (docs []place, err error) {
	prefix := append([]byte{tableNamed}, group[:]...)
	for e, err := range tx.kv.Scan(prefix, after(prefix)) {
		if err != nil {
			return nil, err
		}
		_, n, id, err := parseNamedKey(e.Key)
		if err != nil {
			return nil, err
		}
		docs = append(docs, place{coll: n, doc: id})
	}
	return docs, nil
}

// refusals are the kinds of failure that say that a document takes no anchor, rather than
// that something is broken here.
var refusals = []error{fault.Denied, fault.Invalid, fault.TooLarge, fault.Exists}

// anchor writes a commit without operations that names what is known of groups, if
// the caller may and there is something to tell.
func (tx *Tx) anchor(at place, left bool) (bool, error) {
	c := tx.collection(at.coll)
	rules := tx.set.rules[at.coll]
	if c == nil || rules == nil {
		return false, nil
	}
	d, ok, err := tx.document(at.coll, at.doc)
	if err != nil || !ok || d.Deleted() || !left && len(d.Attached(crdt.FieldKeys, crdt.KindKeys)) == 0 {
		return false, err
	}
	s, err := accessState(at.doc, d)
	if err != nil {
		return false, err
	}
	if may, err := tx.Reading(tx.who.Public()).allowed(Access{s, rules}, "update"); err != nil || !may {
		return false, err
	}
	var next Doc
	err = tx.Try(func() (err error) {
		next, err = tx.write(c, at.coll, d, &dag.Commit{Doc: at.doc})
		return err
	})
	if slices.ContainsFunc(refusals, func(k error) bool { return errors.Is(err, k) }) {
		// It has so many heads that a commit does not stand on what lets the caller write,
		// or a gateway may not write there: whoever owns it must not keep anybody in a group.
		return false, nil
	}
	return err == nil && !slices.Equal(next.State.Heads(), d.Heads()), err
}

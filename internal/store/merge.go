package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// Merged says what became of a pack of commits.
type Merged struct {
	Applied int       // now part of their documents
	Commits []dag.CID // those, in their order
	Known   int       // were already
	// Missing lists, per document, the commits to fetch before the rest of the
	// pack can apply.
	Missing map[dag.DocID][]dag.CID
	// Future lists commits that apply later: their clock is too far ahead, or
	// only a newer version can judge them.
	Future []dag.CID
	// Awaits are commits that apply when commits of group documents are here, which
	// they name: only these tell whether their authors may write.
	Awaits []Await
}

// Await is a commit that waits for commits of group documents.
type Await struct {
	Doc    dag.DocID
	Commit dag.CID
	Links  []dag.CID   // that are not here
	Groups []dag.DocID // that may write the document: the links may be theirs
}

// InvalidCommit is the error of a commit that no node may apply.
type InvalidCommit struct {
	Index int // in the pack
	CID   dag.CID
	Err   error
}

func (e *InvalidCommit) Error() string { return fmt.Sprintf("commit %s is invalid: %v", e.CID, e.Err) }
func (e *InvalidCommit) Unwrap() error { return e.Err }

// Merge applies commits of others, in one transaction unless they cost indexes much;
// what it reports as applied or known is durable. Parents come before their children.
// A commit that breaks a rule ends the merge with *InvalidCommit; the commits before
// it stay applied.
//
// The envelopes must not change until Merge returns.
func (s *Store) Merge(ctx context.Context, coll dag.CollectionID, envelopes [][]byte, origin string) (Merged, error) {
	cs, invalid := open(envelopes)
	return s.mergeOpened(ctx, coll, cs, invalid, origin)
}

// MergeCommits is Merge of commits that are open already. A signature that
// dag.Verify has found right is not verified again.
func (s *Store) MergeCommits(ctx context.Context, coll dag.CollectionID, commits []*dag.Commit, origin string) (Merged, error) {
	cs := make([]received, len(commits))
	for i, c := range commits {
		cs[i] = received{c, i, false}
	}
	return s.mergeOpened(ctx, coll, cs, nil, origin)
}

func (s *Store) mergeOpened(ctx context.Context, coll dag.CollectionID, cs []received, invalid *InvalidCommit, origin string) (m Merged, err error) {
	if bad, err := s.verify(cs); err != nil {
		return m, err
	} else if bad >= 0 {
		invalid = &InvalidCommit{cs[bad].index, cs[bad].CID, fault.Invalid.Errorf("its signature does not verify")}
		cs = cs[:bad]
	}
	skipped := map[dag.CID]bool{}
	for first := true; first || len(cs) > 0; first = false {
		var part Merged
		var rest []received
		var broken *InvalidCommit
		err := s.Update(ctx, System, func(tx *Tx) (err error) {
			broken = nil // of a first run
			part, rest, err = tx.merge(coll, cs, origin, skipped)
			if errors.As(err, &broken) {
				return nil
			}
			return err
		})
		if err != nil {
			return m, err // of this part nothing was applied
		}
		if m.add(part); broken != nil {
			return m, broken
		}
		cs = rest
	}
	if invalid != nil {
		return m, invalid
	}
	return m, nil
}

// add adds what became of the commits that follow.
func (m *Merged) add(part Merged) {
	m.Applied, m.Known = m.Applied+part.Applied, m.Known+part.Known
	m.Commits = append(m.Commits, part.Commits...)
	m.Future = append(m.Future, part.Future...)
	m.Awaits = append(m.Awaits, part.Awaits...)
	if m.Missing == nil {
		m.Missing = part.Missing
		return
	}
	for doc, cids := range part.Missing {
		had := make(map[dag.CID]bool, len(m.Missing[doc]))
		for _, c := range m.Missing[doc] {
			had[c] = true
		}
		for _, c := range cids {
			if !had[c] {
				m.Missing[doc] = append(m.Missing[doc], c)
			}
		}
	}
}

// received is a commit and its place in the pack.
type received struct {
	*dag.Commit
	index int
	later bool // this version cannot judge it
}

// open decodes the commits up to the first that is invalid.
func open(envelopes [][]byte) ([]received, *InvalidCommit) {
	cs := make([]received, 0, len(envelopes))
	for i, e := range envelopes {
		c, err := dag.Open(e)
		switch {
		case errors.Is(err, dag.ErrDeferred):
			cs = append(cs, received{&dag.Commit{CID: nameOf(e)}, i, true})
		case err != nil:
			return cs, &InvalidCommit{i, nameOf(e), err}
		default:
			cs = append(cs, received{c, i, false})
		}
	}
	return cs, nil
}

// nameOf returns the CID of a commit that cannot be opened, zero if it has none.
func nameOf(envelope []byte) dag.CID {
	r := cbor.NewReader(envelope)
	r.Array()
	header := r.Bytes()
	if r.Err() != nil {
		return dag.CID{}
	}
	return sha256.Sum256(header)
}

// verify returns the position of the first commit with a wrong signature, or -1.
// Signatures of commits that are here were verified when they came.
func (s *Store) verify(cs []received) (bad int, err error) {
	if err := s.gate.enter(); err != nil {
		return -1, err
	}
	defer s.gate.leave()
	snap := s.kv.Snapshot()
	defer snap.Close()
	var unknown []*dag.Commit
	var places []int
	for i, c := range cs {
		if c.later || c.Verified() {
			continue
		}
		_, known, err := snap.Get(indexKey(c.CID))
		if err != nil {
			return -1, err
		}
		if !known {
			unknown, places = append(unknown, c.Commit), append(places, i)
		}
	}
	if wrong := dag.Verify(unknown); len(wrong) > 0 {
		return places[wrong[0]], nil
	}
	return -1, nil
}

// merge applies commits until they are enough for one transaction, and returns the
// rest. skipped are commits of the pack that did not apply; it adds to them.
func (tx *Tx) merge(coll dag.CollectionID, cs []received, origin string, skipped map[dag.CID]bool) (m Merged, rest []received, err error) {
	n, ok := tx.set.short(coll)
	if !ok {
		return m, nil, fault.NotFound.Errorf("merge: collection %s is unknown: its schema has to come first", coll)
	}
	g := merging{tx: tx, coll: n, id: coll, origin: origin, skipped: skipped, before: map[dag.DocID]crdt.Document{},
		held: map[dag.DocID]*crdt.Folding{}, lacked: map[lacked]bool{}}
	g.Missing = map[dag.DocID][]dag.CID{}
	var broken error
	for len(cs) > 0 && broken == nil && g.toIndex < mergeIndexed {
		err := g.take(cs[0])
		if errors.Is(err, fault.Invalid) {
			broken = &InvalidCommit{cs[0].index, cs[0].CID, err}
		} else if err != nil {
			return m, nil, err
		}
		cs = cs[1:]
	}
	if err := g.settle(); err != nil {
		return m, nil, err
	}
	if err := g.index(); err != nil {
		return m, nil, err
	}
	return g.Merged, cs, broken
}

// mergeIndexed is how many bytes of documents one transaction merges which have several
// entries in an index: those take some twenty times as much, and for each index.
const mergeIndexed = 1 << 20

// lacked is a commit that a document needs.
type lacked struct {
	doc    dag.DocID
	commit dag.CID
}

// merging is a merge under way.
type merging struct {
	Merged
	tx      *Tx
	coll    short
	id      dag.CollectionID
	origin  string
	skipped map[dag.CID]bool // commits of the pack that do not apply now

	// before are the documents that changed, as they were: they are indexed when all
	// commits are applied, for each could turn over all entries of its document.
	before  map[dag.DocID]crdt.Document
	toIndex int // bytes of those with several entries

	last      dag.DocID // of the commit before
	held      map[dag.DocID]*crdt.Folding
	lacked    map[lacked]bool // what Missing has
	unsettled []dag.DocID     // are folded again, once, when all commits are applied
}

func (m *merging) take(c received) error {
	tx, cm := m.tx, c.Commit
	if c.later {
		known, err := tx.applied(cm.CID)
		if err == nil && !known {
			m.wait(cm)
		} else if err == nil {
			m.Known++
		}
		return err
	}
	if err := cm.CheckCollection(m.id); err != nil {
		return err
	}
	f, err := m.folding(cm.Doc)
	if err != nil {
		return err
	}
	if known, err := tx.has(cm, f); err != nil {
		return err
	} else if known {
		m.Known++
		return nil
	}
	missing, err := tx.checkParents(m.coll, cm, f)
	if err != nil {
		return err
	}
	if dag.Future(cm.HLC, tx.s.now()) {
		m.wait(cm)
		return nil
	}
	if cm.HeaderOnly() {
		missing = append(missing, cm.CID)
	}
	if len(missing) > 0 {
		m.lack(cm, missing)
		return nil
	}
	if waits, err := m.awaits(cm, f); err != nil || waits {
		return err
	}
	if err := m.apply(f, cm); err != nil {
		return err
	}
	m.Applied++
	m.Commits = append(m.Commits, cm.CID)
	return nil
}

// heldApart is from how many bytes on a merge puts a document together only at its end,
// though commits of others come between: else many heads would cost as much for each of
// them. What is smaller costs little to be taken apart again, and much to be held with
// thousands of others.
const heldApart = 2 << 10

// folding returns a document to fold commits to.
func (m *merging) folding(id dag.DocID) (*crdt.Folding, error) {
	if last := m.last; last != id {
		m.last = id
		if f := m.held[last]; f != nil && f.Size() < heldApart {
			if err := m.putRow(last); err != nil {
				return nil, err
			}
			delete(m.held, last)
		}
	}
	if f := m.held[id]; f != nil {
		return f, nil
	}
	d, _, err := m.tx.document(m.coll, id)
	if err != nil {
		return nil, err
	}
	f, err := d.Folding()
	if err != nil {
		return nil, fault.Corrupt.Errorf("document %s: %v: run pando fsck --rebuild", id, err)
	}
	m.held[id] = f
	return f, nil
}

// putRow writes the row of a document if commits were folded to it since it was written.
func (m *merging) putRow(id dag.DocID) error {
	if st := m.tx.staged[id]; st == nil || st.folding == nil {
		return nil
	}
	return m.tx.putRow(m.coll, id)
}

// apply applies a commit, and notes that its document is to be settled and indexed.
func (m *merging) apply(f *crdt.Folding, cm *dag.Commit) error {
	id, size := cm.Doc, f.Size()
	var before crdt.Document
	if st := m.tx.staged[id]; st == nil || st.folding == nil {
		before, _ = f.Document() // as it came from the row
	}
	if err := m.tx.applyTo(f, m.coll, cm, &pending{origin: m.origin}); err != nil {
		return err
	}
	m.changed(id, before, size, f.Size())
	return nil
}

// awaits reports whether a commit has to wait for commits of groups, and notes them.
func (m *merging) awaits(cm *dag.Commit, d *crdt.Folding) (bool, error) {
	if len(cm.Auth) == 0 || m.tx.set.rules[m.coll] == nil {
		return false, nil
	}
	w := Await{Doc: cm.Doc, Commit: cm.CID}
	for _, link := range cm.Auth {
		if here, err := m.tx.applied(link); err != nil {
			return false, err
		} else if !here {
			w.Links = append(w.Links, link)
		}
	}
	if len(w.Links) == 0 {
		return false, nil
	}
	rules := m.tx.set.rules[m.coll]
	var seats []acp.Subject
	if !d.Empty() {
		state, err := accessState(cm.Doc, d)
		if err != nil {
			return false, err
		}
		seats = state.Seats(rules.Powers())
	}
	ops, err := acp.Ops(cm.Deltas)
	if err != nil {
		return false, err
	}
	for _, seat := range append(seats, granted(rules, ops)...) {
		if g := dag.DocID(seat.Group); !slices.Contains(w.Groups, g) {
			w.Groups = append(w.Groups, g)
		}
	}
	m.skipped[cm.CID] = true
	m.Awaits = append(m.Awaits, w)
	return true, nil
}

// changed notes that a document is to be settled and indexed, which had and has so many
// bytes. before is the document if it was at hand.
func (m *merging) changed(id dag.DocID, before crdt.Document, was, is int) {
	if m.tx.staged[id].unsettled && !slices.Contains(m.unsettled, id) {
		m.unsettled = append(m.unsettled, id)
	}
	xs := m.tx.set.indexes[m.coll]
	if len(xs) == 0 {
		return
	}
	grown := max(0, is-was)
	if _, ok := m.before[id]; !ok {
		m.before[id] = before
		grown = max(is, was)
	}
	if slices.ContainsFunc(xs, func(x *secondary) bool { return x.several >= 0 }) {
		m.toIndex += grown
	}
}

// settle folds those documents again whose commits may count otherwise now, and puts the
// others together.
func (m *merging) settle() error {
	for _, id := range m.unsettled {
		if err := m.tx.settle(m.coll, id); err != nil {
			return err
		}
	}
	for id := range m.held {
		if err := m.putRow(id); err != nil {
			return err
		}
	}
	return nil
}

// index brings the entries of the documents up to what they have become.
func (m *merging) index() error {
	for id, d := range m.before {
		if err := m.tx.reindex(m.tx.set.indexes[m.coll], id, d, m.tx.staged[id].doc, false); err != nil {
			return err
		}
	}
	return nil
}

// wait leaves a commit for later.
func (m *merging) wait(cm *dag.Commit) {
	m.skipped[cm.CID] = true
	m.Future = append(m.Future, cm.CID)
}

// lack notes what has to be fetched before cm can apply: not the commits of this
// pack that only wait for others.
func (m *merging) lack(cm *dag.Commit, missing []dag.CID) {
	m.skipped[cm.CID] = true
	for _, c := range missing {
		if at := (lacked{cm.Doc, c}); (c == cm.CID || !m.skipped[c]) && !m.lacked[at] {
			m.lacked[at] = true
			m.Missing[cm.Doc] = append(m.Missing[cm.Doc], c)
		}
	}
}

// has reports whether a commit is applied to that document. Mostly the heads tell,
// without a look into the index: nothing is applied to a document without heads, and no
// head has a child.
func (tx *Tx) has(cm *dag.Commit, d *crdt.Folding) (bool, error) {
	if d.Empty() {
		return false, nil
	}
	if _, ok := d.Head(cm.CID); ok {
		return true, nil
	}
	for _, p := range cm.Parents {
		if _, ok := d.Head(p); ok {
			return false, nil
		}
	}
	return tx.applied(cm.CID)
}

// checkParents returns the parents that are not applied. If none lacks, it checks
// the commit against them.
func (tx *Tx) checkParents(n short, cm *dag.Commit, d *crdt.Folding) (missing []dag.CID, err error) {
	infos := make([]dag.ParentInfo, 0, len(cm.Parents))
	for _, p := range cm.Parents {
		if h, ok := d.Head(p); ok {
			infos = append(infos, dag.ParentInfo{CID: p, Doc: cm.Doc, Height: h.Height, HLC: h.HLC})
			continue
		}
		at, ok, err := tx.where(p)
		if err != nil {
			return nil, err
		}
		if !ok {
			missing = append(missing, p)
			continue
		}
		if at.coll != n || at.doc != cm.Doc {
			return nil, fault.Invalid.Errorf("parent %s belongs to another document", p) // whatever the missing ones are
		}
		info := dag.ParentInfo{CID: p, Doc: at.doc, Height: at.height}
		if info.HLC, err = tx.clock(at); err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	if len(missing) > 0 {
		return missing, nil
	}
	return nil, cm.CheckParents(infos)
}

// clock returns the HLC of an applied commit.
func (tx *Tx) clock(at place) (uint64, error) {
	if p, ok := tx.byCID[at.cid]; ok {
		return p.commit.HLC, nil
	}
	cm, _, err := tx.load(at)
	if err != nil {
		return 0, err
	}
	return cm.HLC, nil
}

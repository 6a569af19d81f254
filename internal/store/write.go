package store

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/schema"
	"github.com/pandodb/pando/internal/value"
	"github.com/pandodb/pando/internal/veil"
)

// Create makes a document from its initial fields. Its docID follows from the
// collection's mode; a document that exists, or existed and was deleted, is
// refused with Exists.
func (tx *Tx) Create(c *schema.Collection, deltas []crdt.Delta) (Doc, error) {
	if err := tx.writable(); err != nil {
		return Doc{}, err
	}
	n, err := tx.short(c)
	if err != nil {
		return Doc{}, err
	}
	seed, err := tx.rootSeed(c, deltas)
	if err != nil {
		return Doc{}, err
	}
	id := seed.DocID()
	old, exists, err := tx.document(n, id)
	if err != nil {
		return Doc{}, err
	}
	may, err := tx.mayRead(n, id) // or whose it was is not told what became of it
	if err != nil {
		return Doc{}, err
	}
	if exists && old.Deleted() && may {
		return Doc{}, fault.Exists.Errorf("a document with the given ID already exists. DocID: %s (it was deleted, and a deleted document cannot be created again with the same contents)", id)
	}
	if exists {
		return Doc{}, fault.Exists.Errorf("a document with the given ID already exists. DocID: %s", id)
	}
	return tx.write(c, n, crdt.Document{}, &dag.Commit{Root: seed, Doc: id, Deltas: deltas})
}

// DocIDOf returns the docID that Create would give, and false if it is drawn anew each
// time.
func (tx *Tx) DocIDOf(c *schema.Collection, deltas []crdt.Delta) (dag.DocID, bool, error) {
	if c.Mode == dag.ModeUnique {
		return dag.DocID{}, false, nil
	}
	seed, err := tx.rootSeed(c, deltas)
	if err != nil {
		return dag.DocID{}, false, err
	}
	return seed.DocID(), true, nil
}

func (tx *Tx) rootSeed(c *schema.Collection, deltas []crdt.Delta) (*dag.RootSeed, error) {
	seed := &dag.RootSeed{Mode: c.Mode, Collection: c.ID}
	switch c.Mode {
	case dag.ModeContent:
		seed.Seed = dag.ContentSeed(deltas)
	case dag.ModeOwned:
		seed.Seed = dag.OwnedSeed(tx.who.Public(), deltas)
	case dag.ModeUnique:
		b, err := dag.UniqueSeed(tx.who.Public(), tx.s.rand)
		if err != nil {
			return nil, fmt.Errorf("new docID: %w", err)
		}
		seed.Seed = b
	case dag.ModeKeyed:
		keys := make([]crdt.Delta, 0, len(c.Keys))
		for _, k := range c.Keys {
			d, ok := find(deltas, k)
			if !ok || d.Val.IsNull() {
				name := fmt.Sprint(k)
				if f, ok := c.FieldByID(k); ok {
					name = f.Name
				}
				return nil, fault.Invalid.Errorf("field %q is part of the key of collection %s and must have a value", name, c.Name)
			}
			keys = append(keys, d)
		}
		seed.Seed = dag.KeyedSeed(keys)
	default:
		return nil, fault.Invalid.Errorf("collection %s makes docIDs in mode %d, which this version does not know: use a newer pando", c.Name, c.Mode)
	}
	return seed, nil
}

func find(deltas []crdt.Delta, f crdt.FieldID) (crdt.Delta, bool) {
	for _, d := range deltas {
		if d.Field == f {
			return d, true
		}
	}
	return crdt.Delta{}, false
}

// Write changes a document: one commit on top of all its heads. Without deltas
// nothing is written. A document that does not exist or is deleted gives NotFound.
func (tx *Tx) Write(c *schema.Collection, id dag.DocID, deltas []crdt.Delta) (Doc, error) {
	if err := tx.writable(); err != nil {
		return Doc{}, err
	}
	d, err := tx.Get(c, id)
	if err != nil {
		return Doc{}, err
	}
	return tx.change(d, deltas)
}

// change is Write of a document at hand, as the transaction sees it.
func (tx *Tx) change(d Doc, deltas []crdt.Delta) (Doc, error) {
	if d.Deleted() {
		return Doc{}, fault.NotFound.Errorf("a document with the given ID has been deleted. DocID: %s", d.ID)
	}
	if len(deltas) == 0 {
		return d, tx.mayUpdate(d) // or the answer would say that who may not may
	}
	return tx.writeOn(d, deltas)
}

// writeOn writes operations on a document at hand, deleted or not.
func (tx *Tx) writeOn(d Doc, deltas []crdt.Delta) (Doc, error) {
	n, err := tx.short(d.Collection)
	if err != nil {
		return Doc{}, err
	}
	return tx.write(d.Collection, n, d.State, &dag.Commit{Doc: d.ID, Deltas: deltas})
}

// Delete marks a document deleted; its values and history stay.
func (tx *Tx) Delete(c *schema.Collection, id dag.DocID) (Doc, error) {
	return tx.Write(c, id, []crdt.Delta{{Field: crdt.FieldStatus, Kind: crdt.KindStatus, Val: value.OfBool(true)}})
}

// write completes a commit of the caller on top of the document's heads and
// applies it. It is signed when the transaction commits: its CID does not depend
// on the signature.
func (tx *Tx) write(c *schema.Collection, n short, d crdt.Document, cm *dag.Commit) (Doc, error) {
	return tx.writeVeiled(c, n, d, cm, veil.Cover{})
}

// writeVeiled is write of a commit that may begin an encrypted document.
func (tx *Tx) writeVeiled(c *schema.Collection, n short, d crdt.Document, cm *dag.Commit, cover veil.Cover) (Doc, error) {
	cm.Height = 1
	parents, err := tx.parents(n, d, cm, tx.who.Public())
	if err != nil {
		return Doc{}, err
	}
	for _, h := range parents {
		cm.Parents = append(cm.Parents, h.Commit)
		cm.Height = max(cm.Height, h.Height+1)
	}
	cm.HLC = dag.HLC(tx.s.now(), d.Newest()) // also of heads it does not name: its author saw their values
	if err := tx.authorise(c, n, d, cm); err != nil {
		return Doc{}, err
	}
	cm.Schema = c.Version
	for _, x := range cm.Deltas {
		if err := crdt.CheckDelta(x); err != nil {
			return Doc{}, err
		}
	}
	anchors := cm.Root == nil && len(cm.Deltas) == 0
	if err := tx.seal(n, d, cm, cover); err != nil {
		return Doc{}, err
	}
	if anchors && len(cm.Deltas) == 0 && len(cm.Auth) == 0 {
		return Doc{cm.Doc, c, d}, nil // it has nothing to tell
	}
	if err := dag.Prepare(cm); err != nil {
		return Doc{}, err
	}
	st, err := tx.apply(n, d, cm)
	if err != nil {
		return Doc{}, refused(err, cm, c, d)
	}
	return Doc{cm.Doc, c, st}, nil
}

// authorise enters who makes a commit, and what is known here of the groups that its
// document names.
func (tx *Tx) authorise(c *schema.Collection, n short, d crdt.Document, cm *dag.Commit) error {
	tx.who.signs(cm)
	if err := cm.CheckCollection(c.ID); err != nil {
		return fault.Denied.Errorf("write to collection %s on behalf of %s: %w", c.Name, cm.Author.Key, err)
	}
	if tx.set.rules[n] == nil {
		return nil
	}
	if cm.Author.Key == "" {
		return fault.Denied.Errorf("documents of collection %s are written by their owners and by whom these let: say who you are", c.Name)
	}
	state := acp.Begin(cm.Author.Key)
	var err error
	if len(d.Heads()) > 0 {
		if state, err = rights(tx, n, cm.Doc, d); err != nil {
			return err
		}
	}
	cm.Auth, err = tx.anchors(tx.set.rules[n], cm, state)
	return err
}

// parents chooses what a new commit of an author names: all heads, or if there are more than
// a commit may name, the highest ones, and under a policy before these such as are above what
// it accepts, and such as stand on all events: or heads that others make would keep the author
// from standing on what lets him write. The rest stay heads for the next.
func (tx *Tx) parents(n short, d crdt.Document, cm *dag.Commit, author ident.PublicKey) ([]crdt.Head, error) {
	heads := d.Heads()
	if len(heads) <= dag.MaxParents {
		return heads, nil
	}
	slices.SortFunc(heads, func(a, b crdt.Head) int {
		return cmp.Or(cmp.Compare(b.Height, a.Height), bytes.Compare(a.Commit[:], b.Commit[:]))
	})
	var chosen []crdt.Head
	if tx.set.rules[n] != nil {
		var err error
		if chosen, err = tx.overAccepted(n, cm, heads); err == nil {
			chosen, err = tx.onEvents(n, cm.Doc, d, chosen, heads, author)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, h := range heads {
		if len(chosen) == dag.MaxParents {
			break
		}
		if !slices.Contains(chosen, h) {
			chosen = append(chosen, h)
		}
	}
	slices.SortFunc(chosen, func(a, b crdt.Head) int { return bytes.Compare(a.Commit[:], b.Commit[:]) })
	return chosen, nil
}

// onEvents adds some heads to those that are chosen, as many as a commit may name, that
// together stand on all events; or if that takes more, first such as stand on those that can
// let the author write.
func (tx *Tx) onEvents(n short, id dag.DocID, d crdt.Document, first, heads []crdt.Head, author ident.PublicKey) ([]crdt.Head, error) {
	state, err := rights(tx, n, id, d)
	if err != nil {
		return nil, err
	}
	c := choice{tx: tx, heads: heads, on: map[dag.CID]acp.Frontier{}}
	events := func(f acp.Frontier) []acp.ID { return f }
	latest := state.Frontier()
	chosen, all, err := c.stand(first, latest, events)
	if err != nil || all {
		return chosen, err
	}
	past, err := state.Past(latest)
	if err != nil {
		return nil, err
	}
	letting := func(f acp.Frontier) []acp.ID { return past.Letting(author, f) }
	if chosen, _, err = c.stand(first, letting(latest), letting); err == nil {
		chosen, _, err = c.stand(chosen, latest, events)
	}
	return chosen, err
}

// choice is a choice among heads.
type choice struct {
	tx    *Tx
	heads []crdt.Head
	on    map[dag.CID]acp.Frontier // what they stand on, as far as somebody asked
}

// stand adds to chosen heads the first that together with these stand on those events, as
// many as a commit may name, and reports whether they do. of says which of the events are
// among what a head stands on, or below.
func (c *choice) stand(first []crdt.Head, events []acp.ID, of func(acp.Frontier) []acp.ID) (chosen []crdt.Head, all bool, err error) {
	left := make(map[acp.ID]bool, len(events))
	for _, e := range events {
		left[e] = true
	}
	for _, h := range first {
		if err := c.strike(left, h, of); err != nil {
			return nil, false, err
		}
	}
	chosen = slices.Clone(first)
	for _, h := range c.heads {
		if len(left) == 0 || len(chosen) == dag.MaxParents {
			break
		}
		before := len(left)
		if err := c.strike(left, h, of); err != nil {
			return nil, false, err
		}
		if len(left) < before {
			chosen = append(chosen, h)
		}
	}
	return chosen, len(left) == 0, nil
}

// strike removes the events that a head stands on.
func (c *choice) strike(left map[acp.ID]bool, h crdt.Head, of func(acp.Frontier) []acp.ID) (err error) {
	on, known := c.on[h.Commit]
	if !known {
		if on, err = c.tx.aboveOf(h.Commit); err != nil {
			return err
		}
		c.on[h.Commit] = on
	}
	for _, e := range of(on) {
		delete(left, e)
	}
	return nil
}

// apply applies a commit that is made here, and returns the document with it. The commit
// is new by itself: its document does not exist, or it is the child of heads, which have
// none.
func (tx *Tx) apply(n short, d crdt.Document, cm *dag.Commit) (crdt.Document, error) {
	f, err := d.Folding()
	if err != nil {
		return d, fault.Corrupt.Errorf("document %s: %v: run pando fsck --rebuild", cm.Doc, err)
	}
	if err := tx.applyTo(f, n, cm, &pending{own: true}); err != nil {
		return d, err
	}
	st := tx.staged[cm.Doc]
	if err := tx.putRow(n, cm.Doc); err != nil {
		return d, err
	}
	if st.unsettled {
		if err := tx.settle(n, cm.Doc); err != nil {
			return d, err
		}
	}
	if xs := tx.set.indexes[n]; len(xs) > 0 { // a merge does it at its end
		if err := tx.reindex(xs, cm.Doc, d, st.doc, true); err != nil {
			return d, err
		}
	}
	return st.doc, nil
}

// applyTo is the only code that changes a document. The commit must not be applied,
// its parents must be, and its rules be checked; f is the document so far. The row is
// not written yet.
func (tx *Tx) applyTo(f *crdt.Folding, n short, cm *dag.Commit, p *pending) error {
	rules := tx.set.rules[n]
	var r ruling
	ch := change(cm)
	if rules != nil {
		var state acp.State
		var err error
		if f.Empty() {
			state = acp.Begin(cm.Author.Key)
		} else {
			state, err = rights(tx, n, cm.Doc, f)
		}
		if err == nil {
			r, err = tx.rule(rules, state, f, cm, p.own)
		}
		if err != nil {
			return err
		}
		ch.Void, p.above = r.verdict == acp.Void, r.above
		if !r.unsettles { // or it is opened when the document is settled
			if r.unsettles, err = tx.lift(&r.veiled, cm, &ch); err != nil {
				return err
			}
		}
	}
	old := carriedBy(f)
	err := f.Fold(ch, func(c [32]byte) bool { return tx.partOf(n, cm.Doc, c) })
	if tx.failed != nil {
		return fmt.Errorf("apply %s: %w", cm.CID, tx.failed)
	}
	if err != nil {
		// The commit was checked: it is the document that it does not fit.
		return fault.Corrupt.Errorf("apply %s: document %s: %v: run pando fsck --rebuild", cm.CID, cm.Doc, err)
	}
	if rules != nil {
		carry(f, r.state, r.keys)
	}
	p.place, p.commit = place{n, cm.Doc, cm.Height, cm.CID}, cm
	tx.stage(f, p).judgedBy(&r)
	return tx.note(n, cm.Doc, old, carriedBy(f))
}

// stage enters a commit that was folded.
func (tx *Tx) stage(f *crdt.Folding, p *pending) *staged {
	id := p.place.doc
	st := tx.staged[id]
	if tx.staged == nil {
		tx.staged, tx.byCID = map[dag.DocID]*staged{}, map[dag.CID]*pending{}
	}
	if st == nil {
		st = &staged{coll: p.place.coll}
		tx.staged[id] = st
	}
	if _, kept := tx.undo[id]; tx.undo != nil && !kept {
		tx.undo[id] = *st
	}
	st.folding, st.commits = f, append(st.commits, p)
	tx.pending, tx.byCID[p.place.cid] = append(tx.pending, p), p
	return st
}

// putRow writes the row of a document that commits were folded to, and what is beside it.
func (tx *Tx) putRow(n short, id dag.DocID) error {
	st := tx.staged[id]
	d, err := st.document()
	if err != nil {
		return fault.Corrupt.Errorf("document %s: %v: run pando fsck --rebuild", id, err)
	}
	st.folding = nil
	tx.kv.Set(documentKey(n, id), d.Bytes())
	tx.putEvents(n, id)
	return nil
}

// putEvents writes the events of a document if they were made anew.
func (tx *Tx) putEvents(n short, id dag.DocID) {
	if st := tx.staged[id]; st.log != nil {
		tx.kv.Set(eventsKey(n, id), st.log)
		st.log = nil
	}
}

func change(cm *dag.Commit) crdt.Change {
	ch := crdt.Change{Commit: cm.CID, Height: cm.Height, HLC: cm.HLC, Deltas: cm.Deltas}
	for _, p := range cm.Parents {
		ch.Parents = append(ch.Parents, p)
	}
	return ch
}

// note keeps what the database notes of a document beside its row.
func (tx *Tx) note(n short, id dag.DocID, old, next carried) error {
	tx.tally(n, old, next)
	if tx.set.rules[n] == nil {
		return nil
	}
	tx.noteLocked(n, id, old, next)
	return tx.named(n, id, old, next)
}

// tally keeps the counts of the collection.
func (tx *Tx) tally(n short, old, next carried) {
	if tx.counts == nil {
		tx.counts = map[short]count{}
	}
	k := tx.counts[n]
	if !old.exists {
		k.all++
	}
	was, is := old.exists && !old.deleted, !next.deleted
	switch {
	case is && !was:
		k.alive++
	case was && !is:
		k.alive--
	}
	tx.counts[n] = k
}

// applied reports whether a commit is applied, here or in the database.
func (tx *Tx) applied(cid dag.CID) (bool, error) {
	if _, ok := tx.byCID[cid]; ok {
		return true, nil
	}
	_, ok, err := tx.kv.Get(indexKey(cid))
	return ok, err
}

// partOf reports whether a commit is applied to that very document. Whether it
// is applied to another one must not matter: replicas hold different documents.
func (tx *Tx) partOf(n short, doc dag.DocID, cid dag.CID) bool {
	p, ok, err := tx.where(cid)
	if err != nil {
		tx.failed = err // the merge rules cannot carry it; apply does
	}
	return ok && p.doc == doc && p.coll == n
}

// where says where a commit is stored, or will be.
func (tx *Tx) where(cid dag.CID) (place, bool, error) {
	if p, ok := tx.byCID[cid]; ok {
		return p.place, true, nil
	}
	v, ok, err := tx.kv.Get(indexKey(cid))
	if err != nil || !ok {
		return place{}, false, err
	}
	p, err := parseIndexValue(cid, v)
	return p, err == nil, err
}

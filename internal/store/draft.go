package store

import (
	"context"
	"slices"
	"time"

	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// MaxDraftAge is how long after it was prepared a commit is taken that its author signed
// elsewhere. It is time enough for a person to look at it, and too short to claim later
// that something was written long ago.
const MaxDraftAge = 10 * time.Minute

// Draft is a commit of a collection that is prepared, and that only its author can sign.
type Draft struct {
	Collection dag.CollectionID
	Commit     *dag.Commit
}

// Drafting returns a caller who reads and writes as the owner of a key that is not here:
// what is written is prepared, and cannot be committed before its author has signed it.
func Drafting(author ident.PublicKey) Caller { return Caller{Author: author} }

// Drafts returns the commits that the transaction has prepared, parents first. They are
// for Submit, when the transaction is discarded.
func (tx *Tx) Drafts() []Draft {
	var drafts []Draft
	for _, p := range tx.pending {
		drafts = append(drafts, Draft{tx.collection(p.place.coll).ID, p.commit})
	}
	return drafts
}

// Submit applies commits that an author has prepared here and signed elsewhere, all or
// none, as if they were written now by the caller who is that author. It returns how many
// were new: those that are here already are no error, so that it can be tried again.
//
// A commit stands on all heads of its document. If others came meanwhile it gives Conflict,
// and has to be prepared again; unless it may be a concurrent one, which it is then to every
// node, as if it had come from a peer. Unique indexes are checked as for any local write.
func (s *Store) Submit(ctx context.Context, author ident.PublicKey, commits []Draft, concurrent bool) (fresh int, err error) {
	var cs []*dag.Commit
	for _, c := range commits {
		if c.Commit.Author.Key != author || c.Commit.Delegated() {
			return 0, fault.Denied.Errorf("commit %s is by %s: submit your own, signed by yourself; you are %s", c.Commit.CID, c.Commit.Author.Key, author)
		}
		if c.Commit.HeaderOnly() {
			return 0, fault.Invalid.Errorf("commit %s comes without its payload", c.Commit.CID)
		}
		cs = append(cs, c.Commit)
	}
	if bad := dag.Verify(cs); len(bad) > 0 {
		return 0, fault.Invalid.Errorf("commit %s: its signature does not verify", cs[bad[0]].CID)
	}
	err = s.Update(ctx, Drafting(author), func(tx *Tx) error {
		fresh = 0
		for _, c := range commits {
			known, err := tx.submit(c, concurrent)
			if err != nil {
				return err
			}
			if !known {
				fresh++
			}
		}
		return nil
	})
	return fresh, err
}

// submit applies one commit, and reports whether it is here already.
func (tx *Tx) submit(c Draft, concurrent bool) (known bool, err error) {
	cm := c.Commit
	n, ok := tx.set.short(c.Collection)
	if !ok {
		return false, fault.NotFound.Errorf("collection %s does not exist", c.Collection)
	}
	if err := cm.CheckCollection(c.Collection); err != nil {
		return false, err
	}
	d, exists, err := tx.document(n, cm.Doc)
	if err != nil {
		return false, err
	}
	f, err := d.Folding()
	if err != nil {
		return false, err
	}
	if known, err := tx.has(cm, f); err != nil || known {
		return known, err
	}
	if err := tx.timely(cm); err != nil {
		return false, err
	}
	if cm.Root == nil {
		if _, err := tx.Get(tx.collection(n), cm.Doc); err != nil { // of one that he may not read an author hears nothing
			return false, err
		}
	}
	onAll, err := tx.standsOn(cm, n, d)
	if err != nil {
		return false, err
	}
	switch {
	case cm.Root != nil && exists && !concurrent:
		return false, fault.Exists.Errorf("a document with the given ID already exists. DocID: %s", cm.Doc)
	case !concurrent && !onAll:
		return false, fault.Conflict.Errorf("document %s has changed since commit %s was prepared: prepare it again", cm.Doc, cm.CID)
	}
	for _, link := range slices.Concat(cm.Parents, cm.Auth) {
		if here, err := tx.hereToCaller(cm.Doc, link); err != nil {
			return false, err
		} else if !here {
			return false, fault.Conflict.Errorf("commit %s stands on %s, which is not here: prepare it again", cm.CID, link)
		}
	}
	if _, err := tx.checkParents(n, cm, f); err != nil {
		return false, err
	}
	if _, err = tx.apply(n, d, cm); err != nil {
		return false, refused(err, cm, tx.collection(n), d)
	}
	return false, nil
}

// hereToCaller reports whether a commit is here that one of a document names: if it is of
// another, the caller has to know that, as a reader or as of a group.
func (tx *Tx) hereToCaller(id dag.DocID, cid dag.CID) (bool, error) {
	at, ok, err := tx.where(cid)
	if err != nil || !ok || at.doc == id {
		return ok, err
	}
	d, ok, err := tx.document(at.coll, at.doc)
	if err != nil || !ok {
		return false, err
	}
	return tx.knows(at.coll, at.doc, d, anyRelation)
}

// timely returns why the clock of a commit is not that of one that is made now, or nil.
func (tx *Tx) timely(cm *dag.Commit) error {
	now := tx.s.now()
	if age := now.Sub(dag.HLCTime(cm.HLC)); age > MaxDraftAge {
		return fault.Invalid.Errorf("commit %s was prepared %v ago: sign within %v, or prepare it again", cm.CID, age.Round(time.Second), MaxDraftAge)
	}
	if dag.Future(cm.HLC, now) {
		return fault.Invalid.Errorf("commit %s is of %v, which is to come: look at the clocks", cm.CID, dag.HLCTime(cm.HLC))
	}
	return nil
}

// standsOn reports whether the parents of a commit are those that one would get that is
// made on the heads of the document.
func (tx *Tx) standsOn(cm *dag.Commit, n short, d crdt.Document) (bool, error) {
	heads, err := tx.parents(n, d, cm, cm.Author.Key)
	return err == nil && len(heads) == len(cm.Parents) && !slices.ContainsFunc(heads, func(h crdt.Head) bool { return !slices.Contains(cm.Parents, h.Commit) }), err
}

package pando

import (
	"bytes"
	"context"
	"slices"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/store"
)

// PrepareAccess is Prepare of changes of who may do what, which fn makes in a
// transaction that is taken back.
func (db *DB) PrepareAccess(ctx context.Context, author DID, fn func(*Tx) error) ([]Draft, error) {
	key, err := author.PublicKey()
	if err != nil {
		return nil, err
	}
	tx, err := db.AsCaller(store.Drafting(key)).Begin(ctx, TxOptions{})
	if err != nil {
		return nil, err
	}
	defer tx.Discard()
	if err := fn(tx); err != nil {
		return nil, err
	}
	return tx.drafts()
}

// Documents returns the documents of a collection; without a name, those of the
// collection that a document is in.
func (tx *Tx) Documents(collection string, id DocID) (*Documents, error) {
	return tx.holding(collection, id)
}

// OpenAccess is Open of a draft that changes who may do what with a document, or that
// takes notice in one of who has left a group, and does nothing else. It gives Denied
// for every other.
func (d Draft) OpenAccess() (Proposal, error) {
	p, err := d.open()
	if err == nil && (p.Begins || p.Deletes || len(p.Operations) > 0) {
		err = fault.Denied.Errorf("it writes document %s itself", p.Doc)
	}
	return p, err
}

// TakesNotice reports whether the proposal changes nothing, and only tells what is known
// of groups: what was written before by who had left one counts no more.
func (p Proposal) TakesNotice() bool { return p.commit != nil && len(p.commit.Deltas) == 0 }

// Grants returns why the proposal does something else than to give that relation, or nil.
func (p Proposal) Grants(doc DocID, relation string, who Subject) error {
	return p.changes(doc, acp.Op{Kind: acp.Grant, Relation: relation, Subject: who})
}

// Revokes returns why the proposal does something else than to take that relation back,
// or nil.
func (p Proposal) Revokes(doc DocID, relation string, who Subject) error {
	return p.changes(doc, acp.Op{Kind: acp.Revoke, Relation: relation, Subject: who})
}

// Transfers returns why the proposal does something else than to make somebody the owner,
// or nil.
func (p Proposal) Transfers(doc DocID, to DID) error {
	k, err := to.PublicKey()
	if err != nil {
		return err
	}
	return p.changes(doc, acp.Op{Kind: acp.Transfer, Subject: acp.OfKey(k)})
}

// Accepts returns why the proposal does something else than to let some of these commits
// count, or nil.
func (p Proposal) Accepts(doc DocID, commits ...CID) error {
	op := acp.Op{Kind: acp.Accept}
	if len(p.rights) == 1 {
		op.Commits = p.rights[0].Commits
	}
	for _, c := range op.Commits {
		if !slices.Contains(commits, CID(c)) {
			return fault.Denied.Errorf("it accepts commit %s, too", CID(c))
		}
	}
	return p.changes(doc, op)
}

// changes returns why the proposal does something else than one operation, or nil.
func (p Proposal) changes(doc DocID, op acp.Op) error {
	if p.commit == nil || p.Doc != doc {
		return fault.Denied.Errorf("it is about document %s, and not about %s", p.Doc, doc)
	}
	if len(p.rights) != 1 || len(p.commit.Deltas) != 1 || !bytes.Equal(p.rights[0].Delta().Raw, op.Delta().Raw) {
		return fault.Denied.Errorf("it changes other rights than it should")
	}
	return nil
}

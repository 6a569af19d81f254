package pando

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/query"
	"github.com/pandodb/pando/internal/store"
)

// AddPolicy makes a policy known, a file in YAML or JSON, so that types can name it:
//
//	type Note @policy(id: "…", resource: "note") { text: String }
//
// A policy that says the same has the same ID on every node, and adding it again does
// nothing. It goes along with the collections that name it.
func (db *DB) AddPolicy(ctx context.Context, text string) (PolicyID, error) {
	p, err := acp.ParsePolicy([]byte(text))
	if err != nil {
		return PolicyID{}, err
	}
	err = db.store.Update(ctx, db.who, func(tx *store.Tx) error { return tx.AddPolicy(p) })
	return p.Sum(), err
}

// AddPolicy is DB.AddPolicy in the transaction.
func (tx *Tx) AddPolicy(text string) (PolicyID, error) {
	p, err := acp.ParsePolicy([]byte(text))
	if err != nil {
		return PolicyID{}, err
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return p.Sum(), tx.tx.AddPolicy(p)
}

// Policies returns the policies that are known, in the order of their IDs: those that
// were added here, and those of the collections.
func (db *DB) Policies(ctx context.Context) (all []*Policy, err error) {
	err = db.store.View(ctx, db.who, func(tx *store.Tx) error {
		all, err = tx.Policies()
		return err
	})
	return all, err
}

// Policy returns the policy of that ID, or NotFound.
func (db *DB) Policy(ctx context.Context, id PolicyID) (p *Policy, err error) {
	err = db.store.View(ctx, db.who, func(tx *store.Tx) error {
		p, err = tx.Policy(id)
		return err
	})
	return p, err
}

// Subject is who has a relation to a document: a DID, docID#relation for everybody
// who has that relation to another document, or * for everyone.
type Subject = acp.Subject

// ParseSubject reads a DID, docID#relation, or *.
func ParseSubject(text string) (Subject, error) { return acp.ParseSubject(strings.TrimSpace(text)) }

// Tuple is a relation that somebody has to a document.
type Tuple struct {
	Relation string
	Subject  string // as ParseSubject reads it
}

// Access is who may do what with a document, as somebody sees it.
type Access struct {
	Owner       DID      // "" if two transfers contradict each other: nobody owns it
	Permissions []string // what the policy permits to whoever asks, sorted
	Tuples      []Tuple  // who has which relation, besides the owner
	// Pending are commits that do not count: what people wrote while their right to
	// was taken away. The owner can accept them.
	Pending []PendingCommit
	// CannotCheck are readers who get nothing from a commit on that members of a group
	// make: they may not read the group. Let them, by a grant in its document.
	CannotCheck []CannotCheck
}

// CannotCheck is a reader of a document who may not read a group whose members may write
// it, and so cannot tell whether they could.
type CannotCheck struct{ Reader, Group string } // as ParseSubject reads them

// PendingCommit is a commit that does not count unless the owner accepts it.
type PendingCommit struct {
	CID    CID
	Author DID
	Time   time.Time // as the author's clock had it
}

// Access returns who may do what with a document. Who says who has a relation to it, and
// may not read it, learns of no pending commits.
func (d *Documents) Access(ctx context.Context, id DocID) (Access, error) {
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	held, err := d.tx.tx.Access(d.c, id)
	if err != nil {
		return Access{}, err
	}
	r, err := d.tx.tx.RightsIn(held)
	if err != nil {
		return Access{}, err
	}
	a := Access{Permissions: r.Permissions, Tuples: []Tuple{}, Pending: []PendingCommit{}}
	if r.Owner != "" {
		a.Owner = r.Owner.DID()
	}
	for _, t := range r.Tuples {
		a.Tuples = append(a.Tuples, Tuple{t.Relation, t.Subject.String()})
	}
	cannot, err := d.tx.tx.CannotCheck(held)
	if err != nil {
		return Access{}, err
	}
	for _, x := range cannot {
		a.CannotCheck = append(a.CannotCheck, CannotCheck{x.Reader.String(), x.Group.String()})
	}
	if r.Voided == 0 {
		return a, nil
	}
	void, err := d.tx.tx.Pending(ctx, d.c, id)
	if errors.Is(err, fault.NotFound) { // it is not his to read
		return a, nil
	}
	for _, cm := range void {
		a.Pending = append(a.Pending, PendingCommit{cm.CID, cm.Author.Key.DID(), dag.HLCTime(cm.HLC)})
	}
	return a, err
}

// Grant gives a relation to a subject, and reports whether it had none before: if it
// had, nothing is written. The owner may, and who has a relation that manages this one.
func (d *Documents) Grant(id DocID, relation string, who Subject) (granted bool, err error) {
	return d.change(id, acp.Op{Kind: acp.Grant, Relation: relation, Subject: who}, false)
}

// Revoke takes a relation away from a subject, and reports whether it had it. What
// the subject writes without knowing does not count unless the owner accepts it.
func (d *Documents) Revoke(id DocID, relation string, who Subject) (revoked bool, err error) {
	return d.change(id, acp.Op{Kind: acp.Revoke, Relation: relation, Subject: who}, true)
}

// change writes an operation on a tuple, unless that is there or missing already.
func (d *Documents) change(id DocID, op acp.Op, held bool) (bool, error) {
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	a, err := d.tx.tx.Access(d.c, id)
	if err != nil {
		return false, err
	}
	if err := d.knows(a.Rules, op.Relation); err != nil {
		return false, err
	}
	if slices.Contains(a.Tuples(a.Rules), acp.Tuple{Relation: op.Relation, Subject: op.Subject}) != held {
		if op.Kind == acp.Revoke { // again, for it may have been cut short
			return false, d.tx.tx.AnchorWhereNamed(id)
		}
		return false, nil
	}
	_, err = d.tx.tx.WriteAccess(d.c, id, op)
	return err == nil, err
}

func (d *Documents) knows(rules *acp.Rules, relation string) error {
	if relation == "owner" {
		return fault.Invalid.Errorf("ownership is neither granted nor revoked: transfer it")
	}
	if known := rules.Relations(); !slices.Contains(known, relation) {
		return fault.Invalid.Errorf("the policy of %s has no relation %.140q for resource %s: it has %s",
			d.c.Name, relation, d.c.Policy.Resource, strings.Join(known, ", "))
	}
	return nil
}

// Transfer makes somebody else the owner. Only the owner may. Transfers to two people,
// made apart, leave the document without an owner for ever; so one to its owner is Invalid.
func (d *Documents) Transfer(id DocID, to DID) error {
	k, err := to.PublicKey()
	if err != nil {
		return err
	}
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	a, err := d.tx.tx.Access(d.c, id)
	if err == nil && a.Owner() == k && k == d.tx.db.who.Public() {
		err = fault.Invalid.Errorf("document %s belongs to %s already: name somebody else", id, to)
	}
	if err != nil {
		return err
	}
	_, err = d.tx.tx.WriteAccess(d.c, id, acp.Op{Kind: acp.Transfer, Subject: acp.OfKey(k)})
	return err
}

// Accept lets commits count that do not, all that are pending if none is named, and
// returns how many. Only the owner may.
func (d *Documents) Accept(ctx context.Context, id DocID, commits ...CID) (int, error) {
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	return d.tx.tx.Accept(ctx, d.c, id, commits...)
}

// Grant is Documents.Grant in a transaction of its own. Without the name of a
// collection, as in the methods below, it is the one that the document is in.
func (db *DB) Grant(ctx context.Context, collection string, id DocID, relation string, who Subject) (granted bool, err error) {
	err = db.documents(ctx, collection, id, func(d *Documents) error {
		granted, err = d.Grant(id, relation, who)
		return err
	})
	return granted, err
}

// Revoke is Documents.Revoke in a transaction of its own.
func (db *DB) Revoke(ctx context.Context, collection string, id DocID, relation string, who Subject) (revoked bool, err error) {
	err = db.documents(ctx, collection, id, func(d *Documents) error {
		revoked, err = d.Revoke(id, relation, who)
		return err
	})
	return revoked, err
}

// Transfer is Documents.Transfer in a transaction of its own.
func (db *DB) Transfer(ctx context.Context, collection string, id DocID, to DID) error {
	return db.documents(ctx, collection, id, func(d *Documents) error { return d.Transfer(id, to) })
}

// Accept is Documents.Accept in a transaction of its own.
func (db *DB) Accept(ctx context.Context, collection string, id DocID, commits ...CID) (n int, err error) {
	err = db.documents(ctx, collection, id, func(d *Documents) error {
		n, err = d.Accept(ctx, id, commits...)
		return err
	})
	return n, err
}

func (db *DB) documents(ctx context.Context, collection string, id DocID, fn func(*Documents) error) error {
	return db.Update(ctx, func(tx *Tx) error {
		d, err := tx.holding(collection, id)
		if err != nil {
			return err
		}
		return fn(d)
	})
}

// holding returns the documents of a collection; without a name, those of the
// collection that the document is in.
func (tx *Tx) holding(collection string, id DocID) (*Documents, error) {
	if collection != "" {
		return tx.Collection(collection)
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	for _, c := range tx.tx.Collections() {
		_, ok, err := query.GetOrNone(tx.tx, c, id)
		if err == nil && !ok && c.Access() != nil { // who manages it need not read it
			_, err = tx.tx.Access(c, id)
			if ok = err == nil; errors.Is(err, fault.NotFound) {
				err = nil
			}
		}
		if err != nil {
			return nil, err
		}
		if ok {
			return &Documents{tx: tx, c: c}, nil
		}
	}
	return nil, fault.NotFound.Errorf("document %s is not here", id)
}

// Access is Documents.Access on a snapshot of its own.
func (db *DB) Access(ctx context.Context, collection string, id DocID) (a Access, err error) {
	err = db.View(ctx, func(tx *Tx) error {
		d, err := tx.holding(collection, id)
		if err == nil {
			a, err = d.Access(ctx, id)
		}
		return err
	})
	return a, err
}

// Allowed reports whether somebody may do what a permission of the policy says, as far
// as is known here; "" is who asks.
func (d *Documents) Allowed(id DocID, permission string, who DID) (bool, error) {
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	doc, err := d.tx.tx.Get(d.c, id)
	if err != nil {
		return false, err
	}
	if who == "" {
		return d.tx.tx.MayI(doc, permission)
	}
	k, err := who.PublicKey()
	if err != nil {
		return false, err
	}
	return d.tx.tx.Allowed(doc, permission, k)
}

// Allowed is Documents.Allowed on a snapshot of its own.
func (db *DB) Allowed(ctx context.Context, collection string, id DocID, permission string, who DID) (may bool, err error) {
	err = db.View(ctx, func(tx *Tx) error {
		d, err := tx.holding(collection, id)
		if err == nil {
			may, err = d.Allowed(id, permission, who)
		}
		return err
	})
	return may, err
}

package pando

import (
	"context"

	"github.com/pandodb/pando/internal/acp"
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

package store

import (
	"slices"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// maxPolicies bounds those that are kept for collections to come: all are read when a
// schema is added.
const maxPolicies = 1024

// AddPolicy keeps a policy, for the types that will name it. What is known stays.
func (tx *Tx) AddPolicy(p *acp.Policy) error {
	if err := tx.writable(); err != nil {
		return err
	}
	known, err := tx.kept()
	if err != nil {
		return err
	}
	id := p.Sum()
	if slices.ContainsFunc(known, func(o *acp.Policy) bool { return o.Sum() == id }) {
		return nil
	}
	if len(known) >= maxPolicies {
		return fault.TooLarge.Errorf("there are %d policies already, as many as a database keeps: one policy can have several resources", len(known))
	}
	tx.policy = true
	tx.kv.Set(globalKey(globalPolicy, id[:]...), p.Encode())
	return nil
}

// Policies returns the policies that are known, in the order of their IDs: those that
// were added, and those that collections brought along.
func (tx *Tx) Policies() ([]*acp.Policy, error) {
	if tx.done {
		return nil, errEnded
	}
	known, err := tx.kept()
	if err != nil {
		return nil, err
	}
	for _, c := range tx.set.list {
		if c.Policy != nil {
			known = append(known, c.Policy.Whole())
		}
	}
	slices.SortFunc(known, func(a, b *acp.Policy) int { return dag.Digest(a.Sum()).Compare(b.Sum()) })
	return slices.CompactFunc(known, func(a, b *acp.Policy) bool { return a.Sum() == b.Sum() }), nil
}

// Policy returns the policy of that name, or NotFound.
func (tx *Tx) Policy(id dag.Digest) (*acp.Policy, error) {
	all, err := tx.Policies()
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.Sum() == id {
			return p, nil
		}
	}
	return nil, fault.NotFound.Errorf("policy %s is unknown here: add its file with 'pando acl policy add', or join a collection that has it", id)
}

// kept returns the policies that were added.
func (tx *Tx) kept() ([]*acp.Policy, error) {
	var all []*acp.Policy
	prefix := globalKey(globalPolicy)
	for e, err := range tx.kv.Scan(prefix, after(prefix)) {
		if err != nil {
			return nil, err
		}
		p, err := acp.DecodePolicy(slices.Clone(e.Value))
		if err == nil {
			if id := p.Sum(); string(id[:]) != string(e.Key[len(prefix):]) {
				err = fault.Corrupt.Errorf("it has another name")
			}
		}
		if err != nil {
			return nil, fault.Corrupt.Errorf("policy %x: %w: add it again", e.Key[len(prefix):], err)
		}
		all = append(all, p)
	}
	return all, nil
}

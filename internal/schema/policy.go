package schema

import (
	"bytes"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// Policy says who may do what with the documents of a collection. It is part of
// every version, and the same in all of a lineage.
type Policy struct {
	ID       dag.Digest // of the whole policy
	Resource string     // what the policy calls the documents

	policy *acp.Policy
	rules  *acp.Rules
}

// newPolicy returns what a policy says of a resource, if a collection can use it.
func newPolicy(p *acp.Policy, resource string) (*Policy, error) {
	rules, err := p.Rules(resource)
	if err != nil {
		return nil, err
	}
	return &Policy{p.Sum(), resource, p, rules}, nil
}

// Whole returns the policy with what it says of other resources.
func (p *Policy) Whole() *acp.Policy { return p.policy }

// Access returns the rules of the collection's documents, nil if it has no policy:
// everybody may do everything then.
func (c *Collection) Access() *acp.Rules {
	if c.Policy == nil {
		return nil
	}
	return c.Policy.rules
}

// setPolicy reads @policy.
func (s *submission) setPolicy(d *draft) error {
	dir := d.def.Directives.ForName("policy")
	if dir == nil {
		return nil
	}
	id, resource := argument(dir, "id"), argument(dir, "resource")
	if id == nil || resource == nil || id.Raw == "" || resource.Raw == "" {
		return errorAt(dir.Position, "@policy on %s: give the id of the policy and its resource", d.Name)
	}
	p, ok := s.policy(id.Raw)
	if !ok {
		return errorAt(id.Position, "policyID specified does not exist with acp. PolicyID: %.140s: add the policy first, and give the ID that it gets (pando acl policy add FILE); a policy that says the same has the same ID on every node", id.Raw)
	}
	var err error
	if d.Policy, err = newPolicy(p, resource.Raw); err != nil {
		return atPos(resource.Position, fault.Invalid.Errorf("@policy on %s: %w", d.Name, err))
	}
	if d.def.Directives.ForName("docID") == nil {
		d.Mode = dag.ModeOwned
	}
	return atPos(dir.Position, d.checkPolicy())
}

func (s *submission) policy(id string) (*acp.Policy, bool) {
	for _, p := range s.policies {
		if dag.Digest(p.Sum()).String() == id {
			return p, true
		}
	}
	return nil, false
}

// checkPolicy holds collections with a policy to documents that name their owner.
func (c *Collection) checkPolicy() error {
	if c.Policy != nil && c.Mode != dag.ModeOwned && c.Mode != dag.ModeUnique {
		return fault.Invalid.Errorf("type %s has a policy and documents without an owner: use @docID(mode: OWNED) or @docID(mode: UNIQUE), or leave @docID out; mode %s says that who creates the same thing apart creates one document",
			c.Name, modeNames[c.Mode])
	}
	return nil
}

// samePolicy reports whether two versions are under the same rules.
func (c *Collection) samePolicy(other *Collection) bool {
	p, q := c.Policy, other.Policy
	if p == nil || q == nil {
		return p == q
	}
	return p.Resource == q.Resource && bytes.Equal(p.policy.Encode(), q.policy.Encode())
}

func readPolicy(r *cbor.Reader, name string, format uint64) *Policy {
	if format != formatPolicy && r.Err() == nil {
		r.Fail(fault.Invalid.Errorf("collection %s has a policy and format %d, in which nobody would enforce it: write format %d, with the policy itself", name, format, formatPolicy))
		return nil
	}
	readArray(r, 2, "a policy")
	raw, resource := r.Bytes(), r.Text()
	if r.Err() != nil {
		return nil
	}
	whole, err := acp.DecodePolicy(raw)
	if err == nil {
		var p *Policy
		if p, err = newPolicy(whole, resource); err == nil {
			return p
		}
	}
	r.Fail(fault.Invalid.Errorf("collection %s: %w", name, err))
	return nil
}

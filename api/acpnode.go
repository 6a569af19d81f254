package api

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// NodeStatus says whose a node is, and what it is to the one who asks.
type NodeStatus struct {
	Status    string     // "not configured", "enabled" or "disabled temporarily"
	Owner     pando.DID  `json:",omitempty"`
	You       pando.DID  `json:",omitempty"` // who asks; empty: nobody in particular
	Relations []Relation `json:",omitempty"` // of who asks
	Local     bool       `json:",omitempty"` // who asks sits at the machine
}

// The words of NodeStatus.Status.
const (
	AccessUnclaimed = "not configured"
	AccessEnabled   = "enabled"
	AccessDisabled  = "disabled temporarily"
)

// NodeIdentity is who a node is.
type NodeIdentity struct {
	PublicKey string // in hexadecimal, without its multicodec prefix
	DID       pando.DID
	PeerID    string `json:",omitempty"` // of a node on the network
}

// NodeGrant is one thing that somebody is to a node.
type NodeGrant struct {
	Relation    Relation
	TargetActor string // a DID, or * for everyone
}

type relationshipRequest struct {
	Body NodeGrant `body:"json"`
}

// ExistedAlready and RecordFound say whether there was such a grant before.
type existedAlready struct{ ExistedAlready bool }
type recordFound struct{ RecordFound bool }

type claimRequest struct {
	Body struct {
		Owner   pando.DID
		Recover bool // from whoever owns it
	} `body:"json"`
}

var (
	opIdentity    = op[none, NodeIdentity]{"GET /node/identity", open, (*Server).nodeIdentity}
	opClaim       = op[claimRequest, none]{"POST /acp/node/claim", local, (*Server).claim}
	opGrants      = op[none, []NodeGrant]{"GET /acp/node/relationship", observe, (*Server).grants}
	opGrant       = op[relationshipRequest, existedAlready]{"POST /acp/node/relationship", admin, (*Server).grant}
	opRevoke      = op[relationshipRequest, recordFound]{"DELETE /acp/node/relationship", admin, (*Server).revoke}
	opNodeStatus  = op[none, NodeStatus]{"GET /acp/node/status", identified, (*Server).nodeStatus}
	opNodeDisable = op[none, none]{"POST /acp/node/disable", owner, (*Server).disableAccess}
	opNodeEnable  = op[none, none]{"POST /acp/node/re-enable", owner, (*Server).enableAccess}
)

func (s *Server) nodeIdentity(context.Context, none) (NodeIdentity, error) {
	key := s.key.Public()
	id := NodeIdentity{DID: key.DID()}
	if len(key) > 2 {
		id.PublicKey = hex.EncodeToString([]byte(key[2:]))
	}
	if s.node != nil {
		id.PeerID = s.node.Info().ID
	}
	return id, nil
}

func (s *Server) claim(_ context.Context, in claimRequest) (none, error) {
	who, err := ident.ParseDID(string(in.Body.Owner))
	if err != nil {
		return none{}, err
	}
	if in.Body.Recover {
		err = s.rights.recover(who)
	} else {
		err = s.rights.Claim(who)
	}
	if err == nil {
		s.log.Info("the node has an owner", "owner", who, "recovered", in.Body.Recover)
	}
	return none{}, err
}

func (s *Server) nodeStatus(ctx context.Context, _ none) (NodeStatus, error) {
	who := requesterOf(ctx)
	return s.rights.status(who), nil
}

func (a *NodeAccess) status(who requester) NodeStatus {
	st := NodeStatus{Status: AccessEnabled, You: who.did, Relations: a.relationsOf(who.did), Local: who.trusted == local}
	a.mu.RLock()
	defer a.mu.RUnlock()
	st.Owner = a.state.Owner
	switch {
	case st.Owner == "":
		st.Status = AccessUnclaimed
	case a.state.Disabled:
		st.Status = AccessDisabled
	}
	return st
}

func (s *Server) grants(context.Context, none) ([]NodeGrant, error) {
	all := []NodeGrant{}
	s.rights.mu.RLock()
	defer s.rights.mu.RUnlock()
	if owner := s.rights.state.Owner; owner != "" {
		all = append(all, NodeGrant{Owner, string(owner)})
	}
	for _, r := range relations {
		for _, who := range s.rights.state.Granted[r] {
			all = append(all, NodeGrant{r, who})
		}
	}
	return all, nil
}

// mayGrant refuses who may not say who is what. Admins let users and operators in, the
// owner admins, too.
func (s *Server) mayGrant(ctx context.Context, g NodeGrant) error {
	who := requesterOf(ctx)
	if g.Relation == Owner {
		return fault.Invalid.Errorf("a node has one owner, who is changed at its machine: pando node claim --recover")
	}
	if !slices.Contains(relations, g.Relation) {
		return fault.Invalid.Errorf("relation %q: a node knows %s, %s and %s", g.Relation, Admin, Operator, User)
	}
	has := s.rights.relationsOf(who.did)
	if who.trusted >= owner || slices.Contains(has, Owner) || g.Relation != Admin && slices.Contains(has, Admin) {
		return nil
	}
	if g.Relation == Admin {
		return denied(reasonNode, "only the owner of the node says who its admins are")
	}
	return denied(reasonNode, "only the owner and the admins of the node say who its %ss are, also while its access is switched off", g.Relation)
}

func (s *Server) grant(ctx context.Context, in relationshipRequest) (existedAlready, error) {
	if err := s.mayGrant(ctx, in.Body); err != nil {
		return existedAlready{}, err
	}
	was, err := s.rights.grant(in.Body.Relation, in.Body.TargetActor)
	return existedAlready{was}, err
}

func (s *Server) revoke(ctx context.Context, in relationshipRequest) (recordFound, error) {
	if err := s.mayGrant(ctx, in.Body); err != nil {
		return recordFound{}, err
	}
	was, err := s.rights.revoke(in.Body.Relation, in.Body.TargetActor)
	return recordFound{was}, err
}

func (s *Server) disableAccess(context.Context, none) (none, error) {
	return none{}, s.rights.disable(true)
}

func (s *Server) enableAccess(context.Context, none) (none, error) {
	return none{}, s.rights.disable(false)
}

// NodeIdentity returns who the node says that it is.
func (c *Client) NodeIdentity(ctx context.Context) (NodeIdentity, error) {
	return opIdentity.call(ctx, c, none{})
}

// Claim makes somebody the owner of a node that has none or, to recover it, of one that
// has. Only who sits at the machine of the node may.
func (c *Client) Claim(ctx context.Context, who pando.DID, recover bool) error {
	var in claimRequest
	in.Body.Owner, in.Body.Recover = who, recover
	_, err := opClaim.call(ctx, c, in)
	return err
}

// NodeStatus returns whose the node is, and what it is to the client.
func (c *Client) NodeStatus(ctx context.Context) (NodeStatus, error) {
	return opNodeStatus.call(ctx, c, none{})
}

// NodeGrants returns who may do what with the node.
func (c *Client) NodeGrants(ctx context.Context) ([]NodeGrant, error) {
	return opGrants.call(ctx, c, none{})
}

// GrantNode makes somebody, a DID or * for everyone, something to the node. existed is
// whether that was so before.
func (c *Client) GrantNode(ctx context.Context, r Relation, who string) (existed bool, err error) {
	out, err := opGrant.call(ctx, c, relationshipRequest{NodeGrant{r, who}})
	return out.ExistedAlready, err
}

// RevokeNode takes it back. found is whether there was something to take.
func (c *Client) RevokeNode(ctx context.Context, r Relation, who string) (found bool, err error) {
	out, err := opRevoke.call(ctx, c, relationshipRequest{NodeGrant{r, who}})
	return out.RecordFound, err
}

// EnforceNode switches the checks of node access off for callers on the node's own machine, or on again.
func (c *Client) EnforceNode(ctx context.Context, on bool) error {
	o := opNodeDisable
	if on {
		o = opNodeEnable
	}
	_, err := o.call(ctx, c, none{})
	return err
}

package api

import (
	"context"

	"github.com/pandodb/pando/p2p"
)

// Access says whom a node lets connect. What a peer may sync is another question.
type Access struct {
	// Closed: only those allowed may connect, or with none of them who proves a secret.
	Closed  bool     `json:"closed"`
	Allowed []string `json:"allowed"` // peer ids
	Denied  []string `json:"denied"`  // who may never connect
}

type accessChange struct {
	Body struct {
		Allow  []string `json:"allow"`
		Deny   []string `json:"deny"`
		Remove []string `json:"remove"`
	} `body:"json"`
}

var (
	opAccess       = op[none, Access]{"GET /p2p/access", observe, (*Server).access}
	opChangeAccess = op[accessChange, Access]{"POST /p2p/access", admin, (*Server).changeAccess}
)

func (s *Server) access(context.Context, none) (Access, error) {
	n, err := s.network()
	if err != nil {
		return Access{}, err
	}
	return accessOf(n.Access()), nil
}

func accessOf(a p2p.Access) Access { return Access{a.Closed, a.Allowed, a.Denied} }

func (s *Server) changeAccess(_ context.Context, in accessChange) (Access, error) {
	n, err := s.network()
	if err != nil {
		return Access{}, err
	}
	if err := n.ChangeAccess(p2p.AccessChange{Remove: in.Body.Remove, Allow: in.Body.Allow, Deny: in.Body.Deny}); err != nil {
		return Access{}, err
	}
	return accessOf(n.Access()), nil
}

// Access returns whom the node lets connect.
func (c *Client) Access(ctx context.Context) (Access, error) { return opAccess.call(ctx, c, none{}) }

// Allow lets peers connect to the node, by peer id or did:key.
func (c *Client) Allow(ctx context.Context, peers ...string) (Access, error) {
	var in accessChange
	in.Body.Allow = peers
	return opChangeAccess.call(ctx, c, in)
}

// Deny keeps peers out, whatever else speaks for them.
func (c *Client) Deny(ctx context.Context, peers ...string) (Access, error) {
	var in accessChange
	in.Body.Deny = peers
	return opChangeAccess.call(ctx, c, in)
}

// Unlist takes peers off the lists of those allowed and denied.
func (c *Client) Unlist(ctx context.Context, peers ...string) (Access, error) {
	var in accessChange
	in.Body.Remove = peers
	return opChangeAccess.call(ctx, c, in)
}

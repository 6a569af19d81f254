package main

import (
	"context"
	"io"
	"strings"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/p2p"
)

// atPeer reports whether --url is a multiaddr: the node is reached over libp2p.
func (c *command) atPeer() bool { return strings.HasPrefix(c.url, "/") }

// peerClient returns a client of the node at a multiaddr. With -i it is whom that key belongs
// to, and what it writes is signed here. A key that cannot name a peer makes tokens instead.
func (c *command) peerClient() (*api.Client, error) {
	key, err := c.me()
	if err != nil {
		return nil, err
	}
	names := key.IsZero() || key.Algorithm() == ident.EdDSA
	as := key
	if !names {
		as = pando.Identity{}
	}
	node, err := api.NewPeerClient(c.url, as)
	if err != nil {
		return nil, err
	}
	c.peers = append(c.peers, node)
	switch {
	case key.IsZero():
	case names:
		node.SignWith(key)
	default:
		meant, err := p2p.DIDOf(c.url)
		if err != nil {
			return nil, err
		}
		node.Authenticate(key, meant)
	}
	return node, nil
}

// unnamed puts the refusal of somebody who did not say who he is in words that he knows: the
// node speaks of a key that was made for this call.
func (c *command) unnamed(err error) error {
	if c.atPeer() && c.who.mine.IsZero() && api.Reason(err) == "node-access" {
		return fault.Denied.Errorf("this node wants to know who calls: say who you are, with -i")
	}
	return err
}

// follow runs a GraphQL request. At a peer address the node does not sign: what a mutation
// writes is signed here.
func (c *command) follow(ctx context.Context, node *api.Client, req api.Request, after pando.Cursor, out io.Writer, each func(api.Event) error) (*api.Response, error) {
	key, err := c.me()
	if err != nil {
		return nil, err
	}
	if !c.atPeer() || key.Algorithm() != ident.EdDSA || !strings.Contains(req.Query, "mutation") {
		return node.Follow(ctx, req, after, out, each)
	}
	resp, err := node.Author(key).Query(ctx, req, nil)
	if err == nil && len(resp.Errors) == 0 {
		_, err = out.Write(resp.Data)
	}
	return resp, err
}

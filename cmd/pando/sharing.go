package main

import (
	"context"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/ident"
)

// sharing changes who may do what with documents of a node.
type sharing struct {
	node   *api.Client
	author *api.Author // signs here what the node prepares; nil: the node signs
}

// sharing returns who signs: at a peer address with -i, whoever that is, here.
func (c *command) sharing(node *api.Client) (sharing, error) {
	s := sharing{node: node}
	if !c.atPeer() {
		return s, nil
	}
	key, err := c.me()
	if err == nil && key.Algorithm() == ident.EdDSA {
		s.author = node.Author(key)
	}
	return s, err
}

func (s sharing) grant(ctx context.Context, doc, relation, who string) (existed bool, err error) {
	if s.author == nil {
		return s.node.GrantDocument(ctx, doc, relation, who)
	}
	id, subject, err := docAndSubject(doc, who)
	if err != nil {
		return false, err
	}
	granted, err := s.author.Grant(ctx, id, relation, subject)
	return !granted, err
}

func (s sharing) revoke(ctx context.Context, doc, relation, who string) (found bool, err error) {
	if s.author == nil {
		return s.node.RevokeDocument(ctx, doc, relation, who)
	}
	id, subject, err := docAndSubject(doc, who)
	if err != nil {
		return false, err
	}
	return s.author.Revoke(ctx, id, relation, subject)
}

func docAndSubject(doc, who string) (id pando.DocID, subject pando.Subject, err error) {
	if err = id.UnmarshalText([]byte(doc)); err == nil {
		subject, err = pando.ParseSubject(who)
	}
	return id, subject, err
}

func (s sharing) transfer(ctx context.Context, doc string, to pando.DID) error {
	if s.author == nil {
		return s.node.TransferDocument(ctx, doc, to)
	}
	var id pando.DocID
	if err := id.UnmarshalText([]byte(doc)); err != nil {
		return err
	}
	return s.author.Transfer(ctx, id, to)
}

// accept accepts commits, all that are pending if none is named.
func (s sharing) accept(ctx context.Context, doc string, commits []string) (int, error) {
	if s.author == nil {
		return s.node.AcceptCommits(ctx, doc, commits...)
	}
	var id pando.DocID
	if err := id.UnmarshalText([]byte(doc)); err != nil {
		return 0, err
	}
	var cids []pando.CID
	for _, text := range commits {
		var cid pando.CID
		if err := cid.UnmarshalText([]byte(text)); err != nil {
			return 0, err
		}
		cids = append(cids, cid)
	}
	if len(commits) == 0 {
		now, err := s.node.DocumentAccess(ctx, doc)
		if err != nil {
			return 0, err
		}
		for _, p := range now.Pending {
			cids = append(cids, p.CID)
		}
	}
	return s.author.Accept(ctx, id, cids...)
}

package api

import (
	"context"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
)

type aboutHistory struct {
	DocID string `path:"docID"`
	At    string `query:"at"`
}

var (
	opVerify = op[aboutHistory, *pando.Verification]{"GET /documents/{docID}/verify", data, (*Server).verify}
	opBlame  = op[aboutHistory, []pando.Blame]{"GET /documents/{docID}/blame", data, (*Server).blame}
)

func (a aboutHistory) parse() (id pando.DocID, at *pando.CID, err error) {
	if id, err = dag.ParseDocID(a.DocID); err != nil || a.At == "" {
		return id, nil, err
	}
	cid, err := dag.ParseCID(a.At)
	return id, &cid, err
}

func (s *Server) verify(ctx context.Context, in aboutHistory) (*pando.Verification, error) {
	id, at, err := in.parse()
	if err != nil {
		return nil, err
	}
	return s.as(ctx).Verify(ctx, id, at)
}

func (s *Server) blame(ctx context.Context, in aboutHistory) ([]pando.Blame, error) {
	id, at, err := in.parse()
	if err != nil {
		return nil, err
	}
	all, err := s.as(ctx).Blame(ctx, id, at)
	return append([]pando.Blame{}, all...), err // [] of none
}

// Verify lets the node check the whole history of a document again, or that of one of
// its commits. See pando.DB.Verify.
func (c *Client) Verify(ctx context.Context, docID, at string) (*pando.Verification, error) {
	return opVerify.call(ctx, c, aboutHistory{docID, at})
}

// Blame returns which commits gave the fields of a document their values. See
// pando.DB.Blame.
func (c *Client) Blame(ctx context.Context, docID, at string) ([]pando.Blame, error) {
	return opBlame.call(ctx, c, aboutHistory{docID, at})
}

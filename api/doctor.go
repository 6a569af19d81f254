package api

import (
	"context"

	"github.com/pandodb/pando/p2p"
)

// Finding is one thing that an examination of the network looked at.
type Finding struct {
	About string    `json:"about"`
	Grade p2p.Grade `json:"grade"` // ok, warning or problem
	Text  string    `json:"text"`
	Hint  string    `json:"hint,omitempty"` // what to do
}

type doctorRequest struct {
	Body struct {
		Target string `json:"target"` // a ticket, a multiaddr or a peer ID; empty: the node and its known peers
	} `body:"json"`
}

var opDoctor = op[doctorRequest, []Finding]{"POST /p2p/doctor", admin, (*Server).doctor}

func (s *Server) doctor(ctx context.Context, in doctorRequest) ([]Finding, error) {
	n, err := s.network()
	if err != nil {
		return nil, err
	}
	found, err := n.Examine(ctx, in.Body.Target)
	if err != nil {
		return nil, err
	}
	all := []Finding{}
	for _, f := range found {
		all = append(all, Finding{f.About, f.Grade, f.Text, f.Hint})
	}
	return all, nil
}

// Doctor explains why the node and a peer, named by a ticket, a multiaddr or its ID,
// can or cannot connect and sync; without one, how the node is and its known peers are.
func (c *Client) Doctor(ctx context.Context, target string) ([]Finding, error) {
	in := doctorRequest{}
	in.Body.Target = target
	return opDoctor.call(ctx, c, in)
}

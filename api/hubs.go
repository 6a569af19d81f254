package api

import "context"

// Hubs are the peers that a node gives sealed documents to, which they cannot read.
var (
	opHubs      = op[none, []string]{"GET /p2p/hubs", observe, (*Server).hubs}
	opAddHub    = op[names, none]{"POST /p2p/hubs", admin, (*Server).addHubs}
	opRemoveHub = op[names, none]{"DELETE /p2p/hubs", admin, (*Server).removeHubs}
)

func (s *Server) hubs(context.Context, none) ([]string, error) {
	n, err := s.network()
	if err != nil {
		return nil, err
	}
	return append([]string{}, n.Hubs()...), nil
}

func (s *Server) addHubs(_ context.Context, in names) (none, error) {
	n, err := s.network()
	for _, p := range in.Names {
		if err == nil {
			err = n.AddHub(p)
		}
	}
	return none{}, err
}

func (s *Server) removeHubs(_ context.Context, in names) (none, error) {
	n, err := s.network()
	for _, p := range in.Names {
		if err == nil {
			err = n.RemoveHub(p)
		}
	}
	return none{}, err
}

// Hubs returns the peers that the node gives sealed documents to.
func (c *Client) Hubs(ctx context.Context) ([]string, error) { return opHubs.call(ctx, c, none{}) }

// AddHub makes the node give sealed documents to peers, by peer id, address or did:key.
func (c *Client) AddHub(ctx context.Context, peers ...string) error {
	_, err := opAddHub.call(ctx, c, names{peers})
	return err
}

// RemoveHub ends that. What the peers have they keep.
func (c *Client) RemoveHub(ctx context.Context, peers ...string) error {
	_, err := opRemoveHub.call(ctx, c, names{peers})
	return err
}

package api

import (
	"context"
	"time"

	"github.com/pandodb/pando/p2p"
)

// Reach is how others reach the node.
type Reach struct {
	// Direct is public if others were seen to reach an address of the node, private if
	// they were seen not to, unknown before.
	Direct string       `json:"direct"`
	Addrs  []AddrReach  `json:"addrs"`
	Relays []RelayPlace `json:"relays"`          // that let others in
	Relay  *Relaying    `json:"relay,omitempty"` // if the node is a relay itself
	// Directory is how the node takes part in the directory of peers, if it does.
	Directory *Directory `json:"directory,omitempty"`
}

// Directory is the part that the node takes in the directory of peers.
type Directory struct {
	Peers  int `json:"peers"`  // that it knows there
	Listed int `json:"listed"` // secrets of collections under which it is listed
}

// AddrReach is an address at which the node listens: reachable, unreachable or unknown.
type AddrReach struct {
	Addr  string `json:"addr"`
	State string `json:"state"`
}

// RelayPlace is a relay that lets others in to the node.
type RelayPlace struct {
	Relay   string    `json:"relay"` // peer id
	Until   time.Time `json:"until"`
	Limited bool      `json:"limited"` // it carries what it takes to find a direct way, and no more
}

// Relaying is what the node does as a relay.
type Relaying struct {
	Places      int    `json:"places"`      // peers that are reached through it
	Connections int    `json:"connections"` // that it carries now
	Bytes       uint64 `json:"bytes"`
}

// Connection is one connection with a peer.
type Connection struct {
	Addr    string    `json:"addr"`
	Inbound bool      `json:"inbound,omitempty"`
	Relay   string    `json:"relay,omitempty"`   // id of the relay that it goes through; empty: it is direct
	Limited bool      `json:"limited,omitempty"` // by the relay: only differences of a few commits pass
	Since   time.Time `json:"since"`
}

func connections(all []p2p.Connection) (out []Connection) {
	for _, c := range all {
		out = append(out, Connection(c))
	}
	return out
}

// Direct reports whether a connection with the peer goes through no relay.
func (p PeerStatus) Direct() bool {
	for _, c := range p.Connections {
		if c.Relay == "" {
			return true
		}
	}
	return false
}

var opReach = op[none, Reach]{"GET /p2p/reach", observe, (*Server).reach}

func (s *Server) reach(context.Context, none) (Reach, error) {
	n, err := s.network()
	if err != nil {
		return Reach{}, err
	}
	r := n.Reach()
	out := Reach{Direct: r.Direct, Addrs: []AddrReach{}, Relays: []RelayPlace{}, Relay: (*Relaying)(r.Relay), Directory: (*Directory)(r.Directory)}
	for _, a := range r.Addrs {
		out.Addrs = append(out.Addrs, AddrReach(a))
	}
	for _, p := range r.Relays {
		out.Relays = append(out.Relays, RelayPlace(p))
	}
	return out, nil
}

// Reach tells how others reach the node: at which addresses, and by way of which relays.
func (c *Client) Reach(ctx context.Context) (Reach, error) { return opReach.call(ctx, c, none{}) }

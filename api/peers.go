package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/p2p"
)

// PeerInfo is a node on the network: its id, and where it can be reached.
type PeerInfo struct {
	ID    string
	Addrs []string
}

// Replicator pushes the changes of collections to one peer.
type Replicator struct {
	Info          PeerInfo
	Collections   []string // names; empty: all
	CollectionIDs []string
	Status        int // 0: active, 1: the peer is unreachable
	State         p2p.State
	Parts         map[string]Part `json:",omitempty"` // of collections, of which a part is pushed
	Behind        uint64          // changes that the peer has not acknowledged
	LagMillis     int64           `json:",omitempty"` // for how long it has been behind
	Problem       string          `json:",omitempty"`
}

// Shared is an invitation to collections of the node.
type Shared struct {
	Ticket      string   `json:"ticket"`
	Collections []string `json:"collections"`
	Addrs       []string `json:"addrs"` // where the ticket says that this node is
}

// JoinProgress says how far a join has come.
type JoinProgress struct {
	Documents uint64 `json:"documents"` // that are here
	Total     uint64 `json:"total"`     // 0: not known
	Bytes     uint64 `json:"bytes"`     // moved
}

// Joined is how a join ended: everything the other node had is here, durably.
type Joined struct {
	Documents uint64 `json:"documents"`
	Root      string `json:"root"`           // of the joined collection, or of all of them together: see Status
	Part      string `json:"part,omitempty"` // what of the collection was joined, if not all
	Bytes     uint64 `json:"bytes"`
	Millis    int64  `json:"milliseconds"`
}

// Took returns how long the join took.
func (j Joined) Took() time.Duration { return time.Duration(j.Millis) * time.Millisecond }

// Status is what a node holds, and whether its peers hold the same.
type Status struct {
	Peer        string             `json:"peer,omitempty"` // id of this node
	Documents   uint64             `json:"documents"`      // of all collections, without those deleted
	Root        string             `json:"root"`           // over all collections; of a single one, its own
	Collections []CollectionStatus `json:"collections"`
	Peers       []PeerStatus       `json:"peers"`
	Traffic     Traffic            `json:"traffic"`

	// Nothing of what follows is there without a network.

	At      time.Time         `json:"at,omitzero"`
	Started time.Time         `json:"started,omitzero"`
	Skew    float64           `json:"skewMilliseconds,omitempty"` // the median of how far the peers' clocks are ahead
	Delay   Delay             `json:"delay,omitzero"`
	Queues  []Queue           `json:"queues,omitempty"`
	Pushed  []Replicator      `json:"replicators,omitempty"`
	Wanted  Wanted            `json:"wanted,omitzero"`
	Counts  map[string]uint64 `json:"counts,omitempty"` // since the start: what p2p.Counters has
	Denied  map[string]uint64 `json:"denied,omitempty"` // since the start: attempts, by why
}

// CollectionStatus is one collection of a node. Two nodes hold the same documents
// exactly if their roots are equal.
type CollectionStatus struct {
	Name      string `json:"name"`
	ID        string `json:"id"`
	Documents uint64 `json:"documents"` // without those deleted
	Root      string `json:"root"`
	// Locked are those of them, and of those deleted, that no key on this node opens: for
	// callers they do not exist. They are counted up to pando.MaxLocked.
	Locked int `json:"locked,omitempty"`
	// Kept says which documents this node keeps, "" if all of them.
	Kept string `json:"kept,omitempty"`
	// Complete is when all that is kept was known to be here last, if not all is kept.
	Complete time.Time `json:"complete,omitzero"`
	// Incomplete is whether not all that is kept has come yet: it is copied, since then,
	// and From is the peer from which it came first.
	Incomplete bool       `json:"incomplete,omitempty"`
	Since      *time.Time `json:"since,omitempty"`
	From       string     `json:"from,omitempty"`
	Moved                 // for it, since the start
}

// PeerStatus is one peer and its copies.
type PeerStatus struct {
	ID          string           `json:"id"`
	Addrs       []string         `json:"addrs,omitempty"`
	Connected   bool             `json:"connected"`
	Trusted     bool             `json:"trusted"` // named by the operator of this node, for every collection
	Millis      float64          `json:"roundTripMilliseconds,omitempty"`
	Since       time.Time        `json:"since,omitzero"`        // it is connected
	Connections []Connection     `json:"connections,omitempty"` // direct ones first
	Moved                        // with it, since it was first met
	Session     Session          `json:"session,omitzero"`  // the last one
	ActsFor     []Acting         `json:"actsFor,omitempty"` // beside its own key
	Hub         bool             `json:"hub,omitempty"`     // of this node: it is given what is sealed
	Score       float64          `json:"score"`             // 0 is good; at -400 gossip does not listen to it
	Collections []PeerCollection `json:"collections"`
	Problem     string           `json:"problem,omitempty"` // of the last session
	Hint        string           `json:"hint,omitempty"`    // what to do about it
}

// Acting is an identity that a peer acts for: what that may read, the peer may.
type Acting struct {
	DID   string    `json:"did"`
	Until time.Time `json:"until"`
}

// PeerCollection is a peer's copy of a collection.
type PeerCollection struct {
	Name    string    `json:"name"`
	State   p2p.State `json:"state"`
	Differ  uint64    `json:"differ,omitempty"`  // documents
	AtLeast bool      `json:"atLeast,omitempty"` // more may differ

	Part    string `json:"part,omitempty"`    // what was compared, if one side does not keep all
	Problem string `json:"problem,omitempty"` // why it cannot be compared

	Documents uint64 `json:"documents,omitempty"` // that the peer has
	Moved            // for it, with this peer
	Wants     int    `json:"wants,omitempty"` // documents that the peer told of, and that are incomplete here
	// When the copies were compared last, and found identical last.
	Compared time.Time `json:"compared,omitzero"`
	Same     time.Time `json:"same,omitzero"`
	// Mismatch is when two quiet copies stayed different after all was exchanged, if they
	// have not come together since: one of the databases is damaged.
	Mismatch time.Time `json:"mismatch,omitzero"`
}

// Traffic is how many bytes of documents the node has moved since its start.
type Traffic struct {
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
	// Both a second, about the last ten seconds.
	SendRate    float64 `json:"sendRate"`
	ReceiveRate float64 `json:"receiveRate"`
	// RoundTrips is how often the node waited for an answer of a peer it had asked.
	RoundTrips uint64 `json:"roundTrips"`
}

type replicatorChange struct {
	Body struct {
		Info        PeerInfo
		Collections []string
		Filter      string   `json:",omitempty"` // of the only collection: a part of it
		Documents   []string `json:",omitempty"` // likewise
	} `body:"json"`
}

type shareRequest struct {
	Body struct {
		Collections []string `json:"collections"`
	} `body:"json"`
}

type statusRequest struct {
	Local bool `query:"local"` // do not ask the peers
}

type names struct {
	Names []string `body:"json"`
}

type connectRequest struct {
	Body struct {
		Addr string `json:"addr"`
	} `body:"json"`
}

type forgetRequest struct {
	Body PeerInfo `body:"json"`
}

var (
	opInfo             = op[none, PeerInfo]{"GET /p2p/info", observe, (*Server).info}
	opPeers            = op[none, []PeerInfo]{"GET /p2p/peers", observe, (*Server).peers}
	opForget           = op[forgetRequest, none]{"DELETE /p2p/peers", admin, (*Server).forget}
	opConnect          = op[connectRequest, none]{"POST /p2p/connect", admin, (*Server).connect}
	opReplicators      = op[none, []Replicator]{"GET /p2p/replicators", observe, (*Server).replicators}
	opAddReplicator    = op[replicatorChange, none]{"POST /p2p/replicators", admin, (*Server).addReplicator}
	opRemoveReplicator = op[replicatorChange, none]{"DELETE /p2p/replicators", admin, (*Server).removeReplicator}
	opTopics           = op[none, []string]{"GET /p2p/collections", observe, (*Server).topics}
	opAddTopics        = op[names, none]{"POST /p2p/collections", admin, (*Server).addTopics}
	opRemoveTopics     = op[names, none]{"DELETE /p2p/collections", admin, (*Server).removeTopics}
	opShare            = op[shareRequest, Shared]{"POST /p2p/share", admin, (*Server).share}
	opStatus           = op[statusRequest, Status]{"GET /p2p/status", observe, (*Server).status}
)

// operations is the whole table, but for the operations that stream.
var operations = []operation{
	opAddSchema, opSchemas, opPatchSchema, opActivate, opCollections,
	opCreateIndex, opIndexes, opAllIndexes, opDropIndex,
	opAddLens, opAddView, opViews, opDropView, opRefreshViews,
	opBegin, opBeginConcurrent, opCommit, opDiscard,
	opInfo, opPeers, opForget, opConnect, opReplicators, opAddReplicator, opRemoveReplicator,
	opTopics, opAddTopics, opRemoveTopics, opShare, opStatus, opWants, opTrace, opTraces,
	opPublish, opRooms, opPresence,
	opKept, opKeep, opDocs, opAddDocs, opRemoveDocs,
	opAccess, opChangeAccess, opHubs, opAddHub, opRemoveHub,
	opDoctor, opReach,
	opVerify, opBlame,
	opAddPolicy, opPolicies, opPolicy, opAddRelationship, opDropRelationship, opRelationships, opAllowed, opTransfer, opAccept,
	opPrepare, opPrepareAccess, opSubmit, opDefinition,
	opIdentity, opClaim, opGrants, opGrant, opRevoke, opNodeStatus, opNodeDisable, opNodeEnable,
}

// network returns the node on the network, or says that there is none.
func (s *Server) network() (*p2p.Node, error) {
	if s.node == nil {
		return nil, fault.Unavailable.Errorf("p2p network is disabled: start the node without --no-p2p")
	}
	return s.node, nil
}

type joinRequest struct {
	Ticket    string   `json:"ticket"`
	Filter    string   `json:"filter,omitempty"` // of the only collection: a part of it
	Documents []string `json:"documents,omitempty"`
}

// Join gets the collections that a ticket shares and waits until the node holds all
// that the other had. progress may be nil.
func (c *Client) Join(ctx context.Context, ticket string, progress func(JoinProgress)) (Joined, error) {
	return c.JoinPart(ctx, ticket, Part{}, progress)
}

// JoinPart is Join with a ticket for one collection, of which the node keeps a part:
// what meets a filter, or is named, or both.
func (c *Client) JoinPart(ctx context.Context, ticket string, part Part, progress func(JoinProgress)) (Joined, error) {
	raw, err := json.Marshal(joinRequest{ticket, part.Filter, part.Documents})
	if err != nil {
		return Joined{}, err
	}
	req, err := c.request(ctx, http.MethodPost, "/p2p/join", nil, bytes.NewReader(raw))
	if err != nil {
		return Joined{}, err
	}
	resp, err := c.do(req)
	if err != nil {
		return Joined{}, err
	}
	defer resp.Body.Close()
	return follow[JoinProgress, Joined](c, resp.Body, progress)
}

// Share makes a ticket for collections, all of them if none is named.
func (c *Client) Share(ctx context.Context, collections []string) (Shared, error) {
	var in shareRequest
	in.Body.Collections = collections
	return opShare.call(ctx, c, in)
}

// Status returns what the node holds, and whether its peers hold the same, which
// it asks them.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return opStatus.call(ctx, c, statusRequest{})
}

// LocalStatus returns what the node holds, and asks no peer.
func (c *Client) LocalStatus(ctx context.Context) (Status, error) {
	return opStatus.call(ctx, c, statusRequest{Local: true})
}

// Info returns the node's own id and addresses.
func (c *Client) Info(ctx context.Context) (PeerInfo, error) { return opInfo.call(ctx, c, none{}) }

// Peers returns the peers that the node is connected to.
func (c *Client) Peers(ctx context.Context) ([]PeerInfo, error) { return opPeers.call(ctx, c, none{}) }

// Connect connects the node to a peer, named by a multiaddr that ends with its id.
func (c *Client) Connect(ctx context.Context, addr string) error {
	var in connectRequest
	in.Body.Addr = addr
	_, err := opConnect.call(ctx, c, in)
	return err
}

// Forget ends the trust in a peer, and the connection with it.
func (c *Client) Forget(ctx context.Context, id string) error {
	_, err := opForget.call(ctx, c, forgetRequest{PeerInfo{ID: id}})
	return err
}

// Replicators returns the peers that changes are pushed to.
func (c *Client) Replicators(ctx context.Context) ([]Replicator, error) {
	return opReplicators.call(ctx, c, none{})
}

// AddReplicator pushes every change of collections, or of all, to a peer.
func (c *Client) AddReplicator(ctx context.Context, peer PeerInfo, collections []string) error {
	_, err := opAddReplicator.call(ctx, c, change(peer, collections))
	return err
}

// AddPartReplicator pushes a part of one collection to a peer.
func (c *Client) AddPartReplicator(ctx context.Context, peer PeerInfo, collection string, part Part) error {
	in := change(peer, []string{collection})
	in.Body.Filter, in.Body.Documents = part.Filter, part.Documents
	_, err := opAddReplicator.call(ctx, c, in)
	return err
}

// RemoveReplicator stops pushing collections, or all, to a peer.
func (c *Client) RemoveReplicator(ctx context.Context, peer PeerInfo, collections []string) error {
	_, err := opRemoveReplicator.call(ctx, c, change(peer, collections))
	return err
}

func change(peer PeerInfo, collections []string) replicatorChange {
	var in replicatorChange
	in.Body.Info, in.Body.Collections = peer, collections
	return in
}

package api

import (
	"context"
	"reflect"
	"time"
	"unicode"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/p2p"
)

// Moved is what went over the network for something.
type Moved struct {
	Sent        uint64  `json:"sent"` // bytes
	Received    uint64  `json:"received"`
	SendRate    float64 `json:"sendRate"` // bytes a second, about the last ten seconds
	ReceiveRate float64 `json:"receiveRate"`
}

// Session is a comparison of a peer's copies with those here, and what it brought.
type Session struct {
	At      time.Time `json:"at"`
	Millis  float64   `json:"milliseconds"`
	Applied int       `json:"applied"` // commits that came and were news
	Sent    int       `json:"sent"`    // commits that went, if this node opened it
	Bytes   uint64    `json:"bytes"`
	Problem string    `json:"problem,omitempty"`
}

// Delay is how long changes were on their way from their authors, by the clocks of both.
type Delay struct {
	Changes uint64  `json:"changes"` // live ones since the start
	P50     float64 `json:"p50Milliseconds"`
	P99     float64 `json:"p99Milliseconds"` // both of the last thousand
}

// Queue is something that waits in the node, and how much of it may.
type Queue struct {
	Name  string `json:"name"`
	Items int    `json:"items"`
	Limit int    `json:"limit"`
	Bytes int    `json:"bytes,omitempty"`
}

// Wanted is how many documents are known to be incomplete.
type Wanted struct {
	Documents int    `json:"documents"`
	Stuck     int    `json:"stuck"` // for more than a day
	Oldest    []Want `json:"oldest,omitempty"`
}

// Want is a document that is known to be incomplete.
type Want struct {
	Collection string    `json:"collection"`
	DocID      string    `json:"docID"`
	Commits    int       `json:"commits"` // that are missing
	Since      time.Time `json:"since"`
	Stuck      bool      `json:"stuck,omitempty"` // for more than a day
	Tries      int       `json:"tries"`
	Told       string    `json:"told,omitempty"`   // the peer that told of it
	Asked      string    `json:"asked,omitempty"`  // the peer that was asked last
	Next       time.Time `json:"next,omitzero"`    // when it is asked for again
	Groups     []string  `json:"groups,omitempty"` // that write it, of which one has to be here first
}

// Trace is what a node remembers of the way of a change.
type Trace struct {
	Node       string       `json:"node"` // its peer id
	Commit     string       `json:"commit"`
	Collection string       `json:"collection,omitempty"`
	DocID      string       `json:"docID,omitempty"`
	Height     uint64       `json:"height,omitempty"`
	Events     []TraceEvent `json:"events"`
}

// TraceEvent is what happened to a change on a node.
type TraceEvent struct {
	At    time.Time `json:"at"`
	Stage p2p.Stage `json:"stage"`
	Peer  string    `json:"peer,omitempty"` // from or to whom
	Way   string    `json:"way,omitempty"`  // how it came
}

type traceRequest struct {
	ID string `path:"id"` // of a commit or a document
}

type limitRequest struct {
	Limit int `query:"limit"` // 0: twenty
}

const listedUnasked = 20

func (l limitRequest) limit(most int) (int, error) {
	switch {
	case l.Limit < 0:
		return 0, fault.Invalid.Errorf("query string: limit is %d, want a positive number", l.Limit)
	case l.Limit > most:
		return 0, fault.TooLarge.Errorf("query string: limit is %d, allowed are at most %d", l.Limit, most)
	case l.Limit == 0:
		return listedUnasked, nil
	}
	return l.Limit, nil
}

var (
	opWants  = op[limitRequest, []Want]{"GET /p2p/wants", observe, (*Server).wants}
	opTraces = op[limitRequest, []Trace]{"GET /p2p/trace", observe, (*Server).traces}
	opTrace  = op[traceRequest, []Trace]{"GET /p2p/trace/{id}", observe, (*Server).trace}
)

// status needs no network: what the node holds is worth knowing without one.
func (s *Server) status(ctx context.Context, in statusRequest) (Status, error) {
	st := Status{Collections: []CollectionStatus{}, Peers: []PeerStatus{}}
	sums, moved, err := s.fillStatus(ctx, &st, in.Local)
	if err != nil {
		return Status{}, err
	}
	st.Root, st.Denied = rootOf(sums), s.audit.Counts()
	for _, c := range sums {
		locked, err := s.db.Replica().Locked(ctx, c.Collection)
		if err != nil {
			return Status{}, err
		}
		st.Documents += c.Alive
		id := c.Collection.String()
		st.Collections = append(st.Collections, CollectionStatus{Name: c.Name, ID: id, Documents: c.Alive, Root: pando.CID(c.Root).String(), Locked: locked, Moved: movedOf(moved[id])})
	}
	covers := map[string]pando.Coverage{}
	for _, kept := range s.db.Coverage() {
		covers[kept.Collection.String()] = kept
	}
	for i := range st.Collections {
		one := &st.Collections[i]
		kept, ok := covers[one.ID]
		if ok && !kept.Scope.Whole {
			one.Kept, one.Complete = kept.Scope.String(), kept.AsOf
		}
		if one.Incomplete, one.Since = incomplete(kept); one.Incomplete {
			one.From = kept.From
		}
	}
	return st, nil
}

// fillStatus adds what there is to say of the network, and returns what the node holds,
// and what was moved for each collection.
func (s *Server) fillStatus(ctx context.Context, st *Status, local bool) ([]pando.Summary, map[string]p2p.Moved, error) {
	if s.node == nil {
		sums, err := s.db.Replica().Summaries(ctx)
		return sums, nil, err
	}
	ask := s.node.Status
	if local {
		ask = s.node.LocalStatus
	}
	all, err := ask(ctx)
	if err != nil {
		return nil, nil, err
	}
	st.Peer, st.At, st.Started, st.Traffic = all.Self.ID, all.At, all.Started, trafficOf(all.Counters)
	st.Skew, st.Counts = milliseconds(all.Skew), counts(all.Counters)
	st.Delay = Delay{all.Delays.Count, milliseconds(all.Delays.P50), milliseconds(all.Delays.P99)}
	for _, m := range all.Moved {
		st.Traffic.SendRate += m.SendRate
		st.Traffic.ReceiveRate += m.ReceiveRate
	}
	for _, q := range all.Queues {
		st.Queues = append(st.Queues, Queue(q))
	}
	st.Wanted = Wanted{all.Counters.Wants, all.Counters.StuckWants, wantsOf(all.Wants)}
	for _, r := range all.Replicators {
		st.Pushed = append(st.Pushed, replicatorOf(r))
	}
	for _, p := range all.Peers {
		st.Peers = append(st.Peers, peerStatus(p))
	}
	return all.Collections, all.Moved, nil
}

func trafficOf(c p2p.Counters) Traffic {
	return Traffic{Sent: c.Sent + c.GossipSent, Received: c.Received + c.GossipReceived, RoundTrips: c.RoundTrips}
}

// counts returns what the node counted, by the names of the fields.
func counts(c p2p.Counters) map[string]uint64 {
	all := map[string]uint64{}
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		name := []rune(v.Type().Field(i).Name)
		name[0] = unicode.ToLower(name[0])
		all[string(name)] = number(v.Field(i))
	}
	return all
}

func number(v reflect.Value) uint64 {
	if v.CanInt() {
		return uint64(max(0, v.Int()))
	}
	return v.Uint()
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func movedOf(m p2p.Moved) Moved { return Moved{m.Sent, m.Received, m.SendRate, m.ReceiveRate} }

func peerStatus(p p2p.PeerStatus) PeerStatus {
	out := PeerStatus{ID: p.ID, Addrs: p.Addrs, Connected: p.Connected, Trusted: p.Trusted, Millis: p.RTT.Seconds() * 1000,
		Since: p.Since, Connections: connections(p.Connections), Moved: movedOf(p.Moved), Score: p.Score,
		Collections: []PeerCollection{}, Problem: p.Problem, Hint: p.Hint}
	if l := p.Session; !l.At.IsZero() {
		out.Session = Session{l.At, milliseconds(l.Took), l.Applied, l.Sent, l.Bytes, l.Problem}
	}
	for _, a := range p.ActsFor {
		out.ActsFor = append(out.ActsFor, Acting{string(a.DID), a.Until})
	}
	out.Hub = p.Hub
	for _, c := range p.Collections {
		out.Collections = append(out.Collections, PeerCollection{Name: c.Name, State: c.State, Differ: c.Differ, AtLeast: c.AtLeast, Part: c.Part, Problem: c.Problem,
			Documents: c.Documents, Moved: movedOf(c.Moved), Wants: c.Wants, Compared: c.Compared, Same: c.Same, Mismatch: c.Mismatch})
	}
	return out
}

func (s *Server) wants(_ context.Context, in limitRequest) ([]Want, error) {
	n, err := s.network()
	if err != nil {
		return nil, err
	}
	most, err := in.limit(p2p.MaxWants)
	if err != nil {
		return nil, err
	}
	return wantsOf(n.Wants(most)), nil
}

func wantsOf(all []p2p.WantStatus) []Want {
	out := []Want{}
	for _, w := range all {
		out = append(out, Want{w.Collection, w.Doc, w.Commits, w.Since, w.Stuck, w.Tries, w.Told, w.Asked, w.Next, w.Groups})
	}
	return out
}

func (s *Server) trace(ctx context.Context, in traceRequest) ([]Trace, error) {
	n, err := s.network()
	if err != nil {
		return nil, err
	}
	all, err := n.Trace(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return tracesOf(n, all), nil
}

func (s *Server) traces(ctx context.Context, in limitRequest) ([]Trace, error) {
	n, err := s.network()
	if err != nil {
		return nil, err
	}
	most, err := in.limit(p2p.MaxRecent)
	if err != nil {
		return nil, err
	}
	all, err := n.Recent(ctx, most)
	if err != nil {
		return nil, err
	}
	return tracesOf(n, all), nil
}

func tracesOf(n *p2p.Node, all []p2p.Trace) []Trace {
	node, out := n.Info().ID, []Trace{}
	for _, t := range all {
		one := Trace{Node: node, Commit: t.Commit.String(), Collection: t.Collection, DocID: t.Doc, Height: t.Height, Events: []TraceEvent{}}
		for _, e := range t.Events {
			one.Events = append(one.Events, TraceEvent(e))
		}
		out = append(out, one)
	}
	return out
}

// Wants returns the documents that are known to be incomplete, those wanted longest
// first, up to so many.
func (c *Client) Wants(ctx context.Context, most int) ([]Want, error) {
	return opWants.call(ctx, c, limitRequest{most})
}

// Trace returns what the node remembers of the way of a commit, or of the newest commits
// of a document, by their ids.
func (c *Client) Trace(ctx context.Context, id string) ([]Trace, error) {
	return opTrace.call(ctx, c, traceRequest{id})
}

// Traces returns the way of the last changes, the newest first, up to so many.
func (c *Client) Traces(ctx context.Context, most int) ([]Trace, error) {
	return opTraces.call(ctx, c, limitRequest{most})
}

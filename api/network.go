package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/p2p"
)

func (s *Server) info(context.Context, none) (PeerInfo, error) {
	n, err := s.network()
	if err != nil {
		return PeerInfo{}, err
	}
	info := n.Info()
	return PeerInfo{info.ID, info.Addrs}, nil
}

func (s *Server) peers(context.Context, none) ([]PeerInfo, error) {
	n, err := s.network()
	if err != nil {
		return nil, err
	}
	connected := []PeerInfo{}
	for _, p := range n.Peers() {
		if p.Connected {
			connected = append(connected, PeerInfo{p.ID, p.Addrs})
		}
	}
	return connected, nil
}

func (s *Server) connect(ctx context.Context, in connectRequest) (none, error) {
	n, err := s.network()
	if err != nil {
		return none{}, err
	}
	return none{}, n.Connect(ctx, in.Body.Addr)
}

func (s *Server) forget(_ context.Context, in forgetRequest) (none, error) {
	n, err := s.network()
	if err != nil {
		return none{}, err
	}
	return none{}, n.Forget(in.Body.ID)
}

func (s *Server) replicators(context.Context, none) ([]Replicator, error) {
	n, err := s.network()
	if err != nil {
		return nil, err
	}
	all := []Replicator{}
	for _, r := range n.Replicators() {
		all = append(all, replicatorOf(r))
	}
	return all, nil
}

func replicatorOf(r p2p.ReplicatorStatus) Replicator {
	out := Replicator{Info: PeerInfo{r.Peer, r.Addrs}, Collections: r.Collections, CollectionIDs: r.CollectionIDs, State: r.State, Behind: r.Behind, LagMillis: r.Lag.Milliseconds(), Problem: r.Problem}
	for name, part := range r.Parts {
		if out.Parts == nil {
			out.Parts = map[string]Part{}
		}
		k := keptOf(pando.Coverage{Scope: part})
		out.Parts[name] = Part{Filter: k.Filter, Documents: k.Documents}
	}
	if !r.Connected {
		out.Status = 1
	}
	return out
}

func (s *Server) addReplicator(ctx context.Context, in replicatorChange) (none, error) {
	n, err := s.network()
	if err != nil {
		return none{}, err
	}
	addrs, err := fullAddrs(in.Body.Info)
	if err != nil {
		return none{}, err
	}
	part, some, err := Part{Filter: in.Body.Filter, Documents: in.Body.Documents}.scope()
	if err != nil {
		return none{}, err
	}
	if !some {
		part = pando.Whole
	}
	for _, addr := range addrs {
		if err := n.AddPartReplicator(ctx, addr, in.Body.Collections, part); err != nil {
			return none{}, err
		}
	}
	return none{}, nil
}

// fullAddrs returns the addresses of a peer, each with its id. An address that names
// another peer is refused: adding it would make that one trusted.
func fullAddrs(info PeerInfo) ([]string, error) {
	if len(info.Addrs) == 0 {
		return nil, fault.Invalid.Errorf("replicator: Info.Addrs is empty: name at least one multiaddr of the peer")
	}
	id, full := info.ID, []string(nil)
	for _, addr := range info.Addrs {
		named := peerOf(addr)
		if id == "" {
			id = named
		}
		switch {
		case id == "":
			return nil, fault.Invalid.Errorf("replicator: address %q ends without /p2p/PEERID, and Info.ID is empty: name the peer", addr)
		case named == "":
			addr = strings.TrimRight(addr, "/") + "/p2p/" + id
		case named != id:
			return nil, fault.Invalid.Errorf("replicator: address %q is of another peer than %s: leave it out, or add it as a replicator of its own", addr, id)
		}
		full = append(full, addr)
	}
	return full, nil
}

// peerOf returns the id that a multiaddr ends with, "" if it ends otherwise: what
// comes before /p2p-circuit is a relay.
func peerOf(addr string) string {
	i := strings.LastIndex(addr, "/p2p/")
	if i < 0 {
		return ""
	}
	id := strings.TrimRight(addr[i+len("/p2p/"):], "/")
	if strings.Contains(id, "/") {
		return ""
	}
	return id
}

func (s *Server) removeReplicator(ctx context.Context, in replicatorChange) (none, error) {
	n, err := s.network()
	if err != nil {
		return none{}, err
	}
	return none{}, n.RemoveReplicator(ctx, in.Body.Info.ID, in.Body.Collections)
}

func (s *Server) share(_ context.Context, in shareRequest) (Shared, error) {
	n, err := s.network()
	if err != nil {
		return Shared{}, err
	}
	text, err := n.Share(in.Body.Collections)
	if err != nil {
		return Shared{}, err
	}
	ticket, err := p2p.ParseTicket(text)
	if err != nil {
		return Shared{}, err
	}
	shared := Shared{Ticket: text, Collections: ticket.Names()}
	for _, a := range ticket.Addrs {
		shared.Addrs = append(shared.Addrs, a.String())
	}
	return shared, nil
}

// rootOf is one name for the contents of several collections; of a single one it is
// that collection's own root.
func rootOf(all []pando.Summary) string {
	if len(all) == 1 {
		return pando.CID(all[0].Root).String()
	}
	all = slices.SortedFunc(slices.Values(all), func(a, b pando.Summary) int {
		return bytes.Compare(a.Collection[:], b.Collection[:])
	})
	h := sha256.New()
	for _, c := range all {
		h.Write(c.Collection[:])
		h.Write(c.Root[:])
	}
	return pando.CID(h.Sum(nil)).String()
}

// join carries out a ticket and reports how far it is.
func (s *Server) join(w http.ResponseWriter, r *http.Request) {
	out := &reporter[JoinProgress, Joined]{s: s, w: w, r: r}
	ctx, cancel := s.work(r, admin)
	defer cancel()
	joined, err := s.runJoin(ctx, w, r, out.progress)
	out.finish(joined, err)
}

func (s *Server) runJoin(ctx context.Context, w http.ResponseWriter, r *http.Request, progress func(JoinProgress)) (Joined, error) {
	n, err := s.network()
	if err != nil {
		return Joined{}, err
	}
	if err := plain(r); err != nil {
		return Joined{}, err
	}
	raw, err := readAllBody(w, r)
	if err != nil {
		return Joined{}, err
	}
	var req joinRequest
	if err := readJSON(raw, &req); err != nil {
		return Joined{}, err
	}
	watch := s.watchJoin(n, req.Ticket, progress)
	part, some, err := Part{Filter: req.Filter, Documents: req.Documents}.scope()
	if !some {
		part = pando.Whole
	}
	var res p2p.JoinResult
	if err == nil {
		res, err = n.JoinPart(ctx, req.Ticket, part, watch.heard)
	}
	bytes := watch.end()
	if err != nil {
		return Joined{}, err
	}
	joined := Joined{Bytes: bytes, Millis: res.Duration.Milliseconds()}
	var sums []pando.Summary
	all, err := s.db.Replica().Summaries(ctx)
	if err != nil {
		return Joined{}, err
	}
	for _, c := range all {
		i := slices.IndexFunc(res.Collections, func(j p2p.JoinedCollection) bool { return j.ID == c.Collection.String() })
		if i < 0 {
			continue
		}
		if j := res.Collections[i]; j.Part != "" {
			c.Alive, c.Root, joined.Part = j.Documents, j.Root, j.Part
		}
		joined.Documents += c.Alive
		sums = append(sums, c)
	}
	joined.Root = rootOf(sums)
	return joined, nil
}

// joinReport is how often a join is reported on.
const joinReport = 100 * time.Millisecond

// joinWatch reports how far a join is. Documents may come by a session that the
// other node opened, too: all that the node moves meanwhile is counted.
type joinWatch struct {
	db     *pando.DB
	names  []string // of the collections that are joined
	node   *p2p.Node
	before Traffic
	ended  chan struct{}
	done   sync.WaitGroup

	mu          sync.Mutex // guards collections
	collections map[pando.CollectionID]p2p.Progress
}

func (s *Server) watchJoin(n *p2p.Node, ticket string, report func(JoinProgress)) *joinWatch {
	var names []string
	if t, err := p2p.ParseTicket(ticket); err == nil { // the join says what is wrong with it
		names = t.Names()
	}
	w := &joinWatch{db: s.db, names: names, node: n, before: trafficOf(n.Counters()), ended: make(chan struct{}), collections: map[pando.CollectionID]p2p.Progress{}}
	w.done.Go(func() {
		tick := time.NewTicker(joinReport)
		defer tick.Stop()
		for {
			select {
			case <-w.ended:
				return
			case <-tick.C:
				report(w.at())
			}
		}
	})
	return w
}

// heard is told by the session that the join runs.
func (w *joinWatch) heard(p p2p.Progress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.collections[p.Collection] = p
}

func (w *joinWatch) at() JoinProgress {
	at := JoinProgress{Documents: w.documents(), Bytes: w.moved()}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.collections {
		at.Total += c.Total
	}
	if at.Total > 0 {
		at.Total = max(at.Total, at.Documents)
	}
	return at
}

// documents counts what is here of the collections that are joined.
func (w *joinWatch) documents() (n uint64) {
	_ = w.db.View(context.Background(), func(tx *pando.Tx) error { // what cannot be counted is not reported
		for _, name := range w.names {
			if c, err := tx.Collection(name); err == nil {
				have, _ := c.Count()
				n += have
			}
		}
		return nil
	})
	return n
}

func (w *joinWatch) moved() uint64 {
	now := trafficOf(w.node.Counters())
	return now.Sent + now.Received - w.before.Sent - w.before.Received
}

// end stops the reports and returns how many bytes were moved.
func (w *joinWatch) end() uint64 {
	close(w.ended)
	w.done.Wait()
	return w.moved()
}

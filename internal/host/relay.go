package host

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	circuits "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/pandodb/pando/internal/fault"
)

// hub carries connections between peers that cannot reach each other: the relay of
// libp2p (circuit v2), of which the library has one that treats all alike. What
// passes is encrypted between the two ends.
//
// Members are carried as long as they like. Others get
// what it takes to find a direct way, and few places.
type hub struct {
	host *Host

	mu      sync.Mutex             // guards what follows
	places  map[peer.ID]time.Time  // who may be reached through this node, and until when
	asking  map[peer.ID]int        // requests of a peer, those for what is carried among them
	carried map[*carriage]struct{} // connections under way
	under   map[bool]int           // how many of them are limited, and are not
	ends    map[terminal]int       // how many of them a peer is an end of
	proof   chan struct{}          // closed when somebody proves to be a member
}

// carriage is one connection that is carried.
type carriage struct {
	from, to peer.ID
	limited  bool
	end      context.CancelFunc
}

// terminal is one side of connections, of those with limits or those without: strangers
// take none of what members have.
type terminal struct {
	peer    peer.ID
	called  bool
	limited bool
}

func (c *carriage) ends() [2]terminal {
	return [2]terminal{{c.from, false, c.limited}, {c.to, true, c.limited}}
}

// most is of how many such connections a peer may be this end.
func (e terminal) most() int {
	switch {
	case !e.limited:
		return maxCarriedOf
	case e.called:
		return maxLimitedTo
	}
	return maxLimitedFrom
}

func newHub(h *Host) *hub {
	return &hub{host: h, places: map[peer.ID]time.Time{}, carried: map[*carriage]struct{}{},
		asking: map[peer.ID]int{}, under: map[bool]int{}, ends: map[terminal]int{}, proof: make(chan struct{})}
}

// start makes the node a relay.
func (h *hub) start() { h.host.SetStreamHandler(circuits.ProtoIDv2Hop, h.handle) }

func (h *hub) stop() { h.host.RemoveStreamHandler(circuits.ProtoIDv2Hop) }

// handle answers one request, in the goroutine that the host made for it, and
// carries the connection if it is for one.
func (h *hub) handle(s network.Stream) {
	if !h.host.enter() {
		s.Reset()
		return
	}
	defer h.host.leave()
	defer context.AfterFunc(h.host.ctx, func() { s.Reset() })()
	p := s.Conn().RemotePeer()
	if !h.ask(p) {
		s.Reset()
		return
	}
	defer h.asked(p)
	if h.host.ties.Banned(p) || h.host.Locked(p) || s.Scope().ReserveMemory(2*relayBuffer, network.ReservationPriorityHigh) != nil {
		s.Reset()
		return
	}
	s.SetDeadline(time.Now().Add(StrangerTimeout))
	r := util.NewDelimitedReader(s, relayMessage)
	defer r.Close()
	var ask pb.HopMessage
	if err := r.ReadMsg(&ask); err != nil {
		s.Reset()
		return
	}
	status := pb.Status_UNEXPECTED_MESSAGE
	switch {
	case relayed(s.Conn()):
		status = pb.Status_PERMISSION_DENIED // a relay of relays hides who asks
	case ask.GetType() == pb.HopMessage_RESERVE:
		status = h.reserve(s)
	case ask.GetType() == pb.HopMessage_CONNECT:
		status = h.connect(s, &ask)
	}
	if status != pb.Status_OK {
		h.host.count.refused.Add(1)
		answer(s, &pb.HopMessage{Type: pb.HopMessage_STATUS.Enum(), Status: status.Enum()})
		s.Close()
	}
}

// ask notes a request, unless the peer has too many under way.
func (h *hub) ask(p peer.ID) bool {
	most := maxAsking
	if !h.known(p) {
		most = maxAskingOfStranger
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.asking[p] >= most {
		h.host.count.refused.Add(1)
		return false
	}
	h.asking[p]++
	return true
}

func (h *hub) asked(p peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.asking[p]--; h.asking[p] == 0 {
		delete(h.asking, p)
	}
}

func answer(s network.Stream, m *pb.HopMessage) error {
	s.SetWriteDeadline(time.Now().Add(StrangerTimeout))
	return util.NewDelimitedWriter(s).WriteMsg(m)
}

// proofTime is how long one that just connected may take to prove itself.
const proofTime = 2 * time.Second

// member reports whether a peer is carried without limit. One that just connected
// is given a moment to prove itself.
func (h *hub) member(p peer.ID) bool {
	patience := time.NewTimer(proofTime)
	defer patience.Stop()
	for {
		h.mu.Lock()
		proof := h.proof
		h.mu.Unlock()
		if h.known(p) {
			return true
		}
		select {
		case <-proof:
		case <-patience.C:
			return false
		case <-h.host.ctx.Done():
			return false
		}
	}
}

func (h *hub) known(p peer.ID) bool { return h.host.known(p) }

// prove is told that a peer proved to be a member. Connections that it had before
// may be limited: they are ended, to be made anew.
func (h *hub) prove(p peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.proof)
	h.proof = make(chan struct{})
	for c := range h.carried {
		if c.limited && (c.from == p || c.to == p) && h.known(c.from) && h.known(c.to) {
			c.end()
		}
	}
}

// placeTag marks connections to the connection manager, and placeValue is what a connection with a peer
// that has a place is worth to it.
const (
	placeTag   = "pando/relayed"
	placeValue = 50
)

// reserve lets others reach a peer through this node.
func (h *hub) reserve(s network.Stream) pb.Status {
	p := s.Conn().RemotePeer()
	member := h.member(p)
	until := time.Now().Add(reserveFor)
	if !h.place(p, member, until) {
		return pb.Status_RESERVATION_REFUSED
	}
	h.host.ConnManager().TagPeer(p, placeTag, placeValue)
	voucher, err := record.Seal(&circuits.ReservationVoucher{Relay: h.host.ID(), Peer: p, Expiration: until},
		h.host.Peerstore().PrivKey(h.host.ID()))
	if err != nil {
		return pb.Status_CONNECTION_FAILED
	}
	sealed, err := voucher.Marshal()
	if err != nil {
		return pb.Status_CONNECTION_FAILED
	}
	unix := uint64(until.Unix())
	given := &pb.Reservation{Expire: &unix, Voucher: sealed}
	self := ma.StringCast("/p2p/" + h.host.ID().String())
	for _, a := range h.host.Addrs() {
		if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil || manet.IsIPLoopback(a) && !manet.IsIPLoopback(s.Conn().RemoteMultiaddr()) {
			continue
		}
		if len(given.Addrs) < MaxAddrs {
			given.Addrs = append(given.Addrs, a.Encapsulate(self).Bytes())
		}
	}
	if answer(s, &pb.HopMessage{Type: pb.HopMessage_STATUS.Enum(), Status: pb.Status_OK.Enum(), Reservation: given, Limit: limitOf(!member)}) != nil {
		s.Reset()
		return pb.Status_OK // nobody listens: the place is free again when it expires
	}
	s.Close()
	return pb.Status_OK
}

// place gives a peer a place, if there is one. Those of strangers are few.
func (h *hub) place(p peer.ID, member bool, until time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tidy(time.Now())
	strangers := 0
	for other := range h.places {
		if other != p && !h.known(other) {
			strangers++
		}
	}
	_, has := h.places[p]
	if !has && len(h.places) >= maxPlaces || !member && strangers >= maxStrangerPlaces {
		return false
	}
	h.places[p] = until
	return true
}

// tidy drops places of peers that are gone. h.mu is held.
func (h *hub) tidy(now time.Time) {
	for p, until := range h.places {
		if now.After(until) || !h.host.Here(p) {
			delete(h.places, p)
			h.host.ConnManager().UntagPeer(p, placeTag)
		}
	}
}

// limitOf is what a relayed connection is told of its limits.
func limitOf(limited bool) *pb.Limit {
	if !limited {
		return nil
	}
	seconds, data := uint32(LimitedFor/time.Second), uint64(limitedBytes)
	return &pb.Limit{Duration: &seconds, Data: &data}
}

// connect carries a connection to a peer that has a place, and returns when it ends.
func (h *hub) connect(s network.Stream, ask *pb.HopMessage) pb.Status {
	to, err := util.PeerToPeerInfoV2(ask.GetPeer())
	if err != nil {
		return pb.Status_MALFORMED_MESSAGE
	}
	from := s.Conn().RemotePeer()
	h.mu.Lock()
	until, has := h.places[to.ID]
	h.mu.Unlock()
	if !has || time.Now().After(until) {
		return pb.Status_NO_RESERVATION
	}
	ctx, cancel := context.WithCancel(h.host.ctx)
	defer cancel()
	c := &carriage{from: from, to: to.ID, limited: !h.member(from) || !h.member(to.ID), end: cancel}
	if !h.begin(c) {
		return pb.Status_RESOURCE_LIMIT_EXCEEDED
	}
	defer h.finish(c)
	far, err := h.call(ctx, c)
	if err != nil {
		h.host.log.Debug("cannot carry a connection", "from", from, "to", to.ID, "error", err)
		return pb.Status_CONNECTION_FAILED
	}
	if answer(s, &pb.HopMessage{Type: pb.HopMessage_STATUS.Enum(), Status: pb.Status_OK.Enum(), Limit: limitOf(c.limited)}) != nil {
		far.Reset()
		s.Reset()
		return pb.Status_OK // nobody is there to be told
	}
	h.host.count.relayed.Add(1)
	h.carry(ctx, c, s, far)
	return pb.Status_OK
}

// begin notes a connection that is to be carried, if there is room for it.
func (h *hub) begin(c *carriage) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	most := maxCarried
	if c.limited {
		most = maxLimited
	}
	if h.under[c.limited] >= most {
		return false
	}
	for _, e := range c.ends() {
		if h.ends[e] >= e.most() {
			return false
		}
	}
	h.carried[c] = struct{}{}
	h.under[c.limited]++
	for _, e := range c.ends() {
		h.ends[e]++
	}
	return true
}

func (h *hub) finish(c *carriage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.carried, c)
	h.under[c.limited]--
	for _, e := range c.ends() {
		if h.ends[e]--; h.ends[e] == 0 {
			delete(h.ends, e)
		}
	}
}

// call asks the far end to take a connection.
func (h *hub) call(ctx context.Context, c *carriage) (far network.Stream, err error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "relay"), StrangerTimeout)
	defer cancel()
	opened, err := h.host.NewStream(ctx, c.to, circuits.ProtoIDv2Stop)
	if err != nil {
		return nil, err
	}
	far = opened
	defer func() {
		if err != nil {
			opened.Reset() // far is nil then
		}
	}()
	far.SetDeadline(time.Now().Add(StrangerTimeout))
	ask := &pb.StopMessage{Type: pb.StopMessage_CONNECT.Enum(), Peer: util.PeerInfoToPeerV2(peer.AddrInfo{ID: c.from}), Limit: limitOf(c.limited)}
	if err := util.NewDelimitedWriter(far).WriteMsg(ask); err != nil {
		return nil, err
	}
	r := util.NewDelimitedReader(far, relayMessage)
	defer r.Close()
	var told pb.StopMessage
	if err := r.ReadMsg(&told); err != nil {
		return nil, err
	}
	if told.GetType() != pb.StopMessage_STATUS || told.GetStatus() != pb.Status_OK {
		return nil, fault.Unavailable.Errorf("it refuses: %s", told.GetStatus())
	}
	return far, nil
}

// carry passes bytes on, both ways, until one side ends, or the limits are reached.
func (h *hub) carry(ctx context.Context, c *carriage, near, far network.Stream) {
	deadline := time.Time{}
	if c.limited {
		deadline = time.Now().Add(LimitedFor)
	}
	near.SetDeadline(deadline)
	far.SetDeadline(deadline)
	defer context.AfterFunc(ctx, func() {
		near.Reset()
		far.Reset()
	})()
	var both sync.WaitGroup
	both.Go(func() { h.pass(c, near, far) })
	both.Go(func() { h.pass(c, far, near) })
	both.Wait()
	near.Close()
	far.Close()
}

func (h *hub) pass(c *carriage, from, to network.Stream) {
	var in io.Reader = from
	if c.limited {
		in = io.LimitReader(from, limitedBytes)
	}
	_, err := io.CopyBuffer(&freight{to, &h.host.count.relayedBytes}, in, make([]byte, relayBuffer))
	if err != nil {
		from.Reset()
		to.Reset()
		return
	}
	to.CloseWrite()
	if c.limited {
		from.CloseRead() // what comes beyond the limit is not waited for
	}
}

// freight counts what is carried. It hides everything else that the stream can do, so
// that copying goes through the one buffer.
type freight struct {
	to    io.Writer
	bytes *atomic.Uint64
}

func (t *freight) Write(b []byte) (int, error) {
	k, err := t.to.Write(b)
	t.bytes.Add(uint64(k))
	return k, err
}

// relayed reports whether a connection goes through a relay.
func relayed(c network.Conn) bool { return isCircuit(c.RemoteMultiaddr()) }

func isCircuit(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

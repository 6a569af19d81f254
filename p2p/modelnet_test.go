package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"google.golang.org/protobuf/proto"

	"github.com/pandodb/pando/internal/pace"
)

// modelNet carries streams between machines, in the place of QUIC: everything above
// is the real thing, the library's host, its dialer and gossip included. It has no
// packets and no cryptography, so that a history of many faults costs milliseconds.
//
// What it does to streams is what a network does to those of TCP and QUIC. A cut
// delays what is under way; if it lasts, both ends notice by themselves, each at its
// own time. Single announcements of gossip are lost, repeated and overtaken, which
// stands for all the ways in which its messages are.
type modelNet struct {
	mu      sync.Mutex // guards everything here, in its links, ends and streams
	rng     *rand.Rand
	latency time.Duration // one way; each message has its own, up to twice as long
	noise   int           // of 100 announcements, how many are lost; and repeated; and late
	doors   map[string]*modelDoor
	links   map[*modelLink]bool
	cuts    map[[2]int]bool
}

func newModelNet(rng *rand.Rand, latency time.Duration) *modelNet {
	return &modelNet{rng: rng, latency: latency, doors: map[string]*modelDoor{},
		links: map[*modelLink]bool{}, cuts: map[[2]int]bool{}}
}

const (
	modelWindow  = 256 << 10        // unread bytes of a stream before its writer waits
	modelNotices = 20 * time.Second // how long an end is silent before the other gives it up, about
	modelDial    = 5 * time.Second  // how long a dialer waits for somebody who does not answer
)

func modelPair(a, b int) [2]int { return [2]int{min(a, b), max(a, b)} }

// delay draws how long a message is under way. n.mu is held.
func (n *modelNet) delay() time.Duration {
	return n.latency + time.Duration(n.rng.Int64N(int64(n.latency)+1))
}

// cut loses everything between two machines, or no longer.
func (n *modelNet) cut(a, b int, yes bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cuts[modelPair(a, b)] == yes {
		return
	}
	n.cuts[modelPair(a, b)] = yes
	for l := range n.links {
		if modelPair(l.ends[0].at, l.ends[1].at) != modelPair(a, b) {
			continue
		}
		if yes {
			l.silent()
			continue
		}
		for _, e := range l.ends {
			if e.dead {
				l.bury(e) // its other end hears of it now
			}
			e.rouse()
		}
	}
}

// heal ends all cuts.
func (n *modelNet) heal() {
	n.mu.Lock()
	cuts := n.cuts
	n.cuts = map[[2]int]bool{}
	n.mu.Unlock()
	for pair, yes := range cuts {
		if yes {
			n.mu.Lock()
			n.cuts[pair] = true
			n.mu.Unlock()
			n.cut(pair[0], pair[1], false)
		}
	}
}

// vanish is a machine without power: nobody is told.
func (n *modelNet) vanish(at int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.links {
		for _, e := range l.ends {
			if e.at == at {
				l.lost = true
				l.silent()
				l.die(e)
			}
		}
	}
}

// sever ends one connection, picked at random, as a router that forgets it does.
func (n *modelNet) sever() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.pick(); l != nil {
		l.die(l.ends[0])
		l.die(l.ends[1])
	}
}

// breakStream resets one stream, picked at random.
func (n *modelNet) breakStream() {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.pick()
	if l == nil {
		return
	}
	var all []*modelStream
	for s := range l.ends[0].streams {
		all = append(all, s)
	}
	if len(all) == 0 {
		return
	}
	slices.SortFunc(all, func(a, b *modelStream) int { return a.number - b.number })
	s := all[n.rng.IntN(len(all))]
	s.fail(network.ErrReset)
	s.other.fail(network.ErrReset)
}

// pick draws a connection. n.mu is held.
func (n *modelNet) pick() *modelLink {
	var all []*modelLink
	for l := range n.links {
		all = append(all, l)
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b *modelLink) int { return a.number - b.number })
	return all[n.rng.IntN(len(all))]
}

// modelLink is a connection.
type modelLink struct {
	net    *modelNet
	number int
	ends   [2]*modelEnd
	lost   bool // one of its machines lost it without a word
}

// silent gives up the connection after a while, unless it is heard of again. net.mu is held.
func (l *modelLink) silent() {
	for _, e := range l.ends {
		patience := modelNotices/2 + time.Duration(l.net.rng.Int64N(int64(modelNotices)))
		time.AfterFunc(patience, func() {
			l.net.mu.Lock()
			defer l.net.mu.Unlock()
			if l.lost || l.net.cuts[modelPair(l.ends[0].at, l.ends[1].at)] {
				l.die(e)
			}
		})
	}
}

// bury tells the other end of one that was closed, after the time that it takes. net.mu is held.
func (l *modelLink) bury(closed *modelEnd) {
	if l.lost {
		return
	}
	time.AfterFunc(l.net.delay(), func() {
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		if !l.net.cuts[modelPair(l.ends[0].at, l.ends[1].at)] {
			l.die(closed.other)
		}
	})
}

// die ends one end. net.mu is held.
func (l *modelLink) die(e *modelEnd) {
	if e.dead {
		return
	}
	e.dead = true
	close(e.gone)
	for s := range e.streams {
		s.fail(network.ErrReset)
	}
	if e.other.dead {
		delete(l.net.links, l)
	}
}

// modelEnd is a connection as one side has it.
type modelEnd struct {
	link   *modelLink
	other  *modelEnd
	at     int // the machine
	door   *modelDoor
	id     peer.ID
	key    ic.PubKey
	addr   ma.Multiaddr
	gone   chan struct{}
	dead   bool
	opened []modelOpening // streams of the other side that were not accepted yet
	wake   chan struct{}

	streams map[*modelStream]bool
}

type modelOpening struct {
	at time.Time
	s  *modelStream
}

// rouse makes everybody who waits look again. net.mu is held.
func (e *modelEnd) rouse() {
	modelPoke(e.wake)
	for s := range e.streams {
		modelPoke(s.readable)
		modelPoke(s.writable)
	}
}

func modelPoke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// cutOff reports whether nothing passes. net.mu is held.
func (e *modelEnd) cutOff() bool {
	return e.link.lost || e.link.net.cuts[modelPair(e.at, e.other.at)]
}

var errGone = errors.New("the connection is gone")

func (e *modelEnd) OpenStream(context.Context) (network.MuxedStream, error) {
	n := e.link.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.dead {
		return nil, errGone
	}
	modelNumber++
	here, there := newModelStream(e, modelNumber), newModelStream(e.other, modelNumber)
	here.other, there.other = there, here
	e.streams[here] = true
	if e.other.dead {
		return here, nil // nobody will answer
	}
	e.other.streams[there] = true
	e.other.opened = append(e.other.opened, modelOpening{time.Now().Add(n.delay()), there})
	modelPoke(e.other.wake)
	return here, nil
}

// modelNumber counts streams and connections. It is guarded by the lock of the net.
var modelNumber int

func (e *modelEnd) AcceptStream() (network.MuxedStream, error) {
	n := e.link.net
	for {
		n.mu.Lock()
		var due <-chan time.Time
		if len(e.opened) > 0 && !e.cutOff() {
			first := e.opened[0]
			left := time.Until(first.at)
			if left <= 0 {
				e.opened = e.opened[1:]
				n.mu.Unlock()
				return first.s, nil
			}
			due = time.After(left)
		}
		n.mu.Unlock()
		select {
		case <-e.gone:
			return nil, errGone
		case <-e.wake:
		case <-due:
		}
	}
}

func (e *modelEnd) Close() error {
	n := e.link.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if !e.dead {
		e.link.die(e)
		e.link.bury(e)
	}
	return nil
}

func (e *modelEnd) CloseWithError(network.ConnErrorCode) error { return e.Close() }
func (e *modelEnd) As(any) bool                                { return false }
func (e *modelEnd) IsClosed() bool {
	select {
	case <-e.gone:
		return true
	default:
		return false
	}
}
func (e *modelEnd) LocalPeer() peer.ID                 { return e.id }
func (e *modelEnd) RemotePeer() peer.ID                { return e.other.id }
func (e *modelEnd) RemotePublicKey() ic.PubKey         { return e.other.key }
func (e *modelEnd) ConnState() network.ConnectionState { return network.ConnectionState{} }
func (e *modelEnd) LocalMultiaddr() ma.Multiaddr       { return e.addr }
func (e *modelEnd) RemoteMultiaddr() ma.Multiaddr      { return e.other.addr }
func (e *modelEnd) Scope() network.ConnScope           { return &network.NullScope{} }
func (e *modelEnd) Transport() transport.Transport     { return e.door }

// modelStream is a stream as one side has it. What the other side wrote waits in it.
type modelStream struct {
	end    *modelEnd
	other  *modelStream
	number int

	arriving           []modelChunk // in the order in which they can be read
	size               int
	err                error // it was reset
	readEnd, writeEnd  bool  // closed by this side
	readable, writable chan struct{}
	readBy, writeBy    time.Time
	last               time.Time // when what was written last arrives
	writes             int
	gossip             bool
}

type modelChunk struct {
	at   time.Time
	data []byte // nil: the end
}

func newModelStream(e *modelEnd, number int) *modelStream {
	return &modelStream{end: e, number: number, readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
}

// fail resets this side. net.mu is held.
func (s *modelStream) fail(why error) {
	if s.err == nil {
		s.err = why
	}
	s.arriving, s.size = nil, 0
	delete(s.end.streams, s)
	modelPoke(s.readable)
	modelPoke(s.writable)
}

func (s *modelStream) Read(p []byte) (int, error) {
	n := s.end.link.net
	for {
		n.mu.Lock()
		if s.err != nil || s.readEnd {
			n.mu.Unlock()
			modelPoke(s.readable) // for another who may wait
			return 0, modelEither(s.err, network.ErrReset)
		}
		var left time.Duration = -1
		if len(s.arriving) > 0 && !s.end.cutOff() {
			c := &s.arriving[0]
			if left = max(0, time.Until(c.at)); left == 0 {
				if c.data == nil {
					n.mu.Unlock()
					return 0, io.EOF
				}
				k := copy(p, c.data)
				if c.data = c.data[k:]; len(c.data) == 0 {
					s.arriving = s.arriving[1:]
				}
				s.size -= k
				modelPoke(s.other.writable)
				n.mu.Unlock()
				return k, nil
			}
		}
		by := s.readBy
		n.mu.Unlock()
		if err := modelAwait(s.readable, left, by); err != nil {
			return 0, err
		}
	}
}

func modelEither(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// modelAwait waits for a signal, some time (negative: for ever), or a deadline.
func modelAwait(c <-chan struct{}, d time.Duration, by time.Time) error {
	if !by.IsZero() {
		left := time.Until(by)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		if d < 0 || left < d {
			d = left
		}
	}
	if d < 0 {
		<-c
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
	}
	return nil
}

func (s *modelStream) Write(p []byte) (int, error) {
	n := s.end.link.net
	for {
		n.mu.Lock()
		if s.err != nil || s.writeEnd {
			n.mu.Unlock()
			return 0, modelEither(s.err, io.ErrClosedPipe)
		}
		if s.other.size < modelWindow {
			s.put(p)
			n.mu.Unlock()
			return len(p), nil
		}
		by := s.writeBy
		n.mu.Unlock()
		if err := modelAwait(s.writable, -1, by); err != nil {
			return 0, err
		}
	}
}

// put sends what was written. net.mu is held.
func (s *modelStream) put(p []byte) {
	n := s.end.link.net
	s.writes++
	if s.writes == 1 {
		s.gossip = bytes.Contains(p, []byte("/meshsub/"))
	}
	data := slices.Clone(p)
	if s.other.err != nil || s.other.readEnd || s.other.end.dead {
		return // there is nobody who reads
	}
	at := time.Now().Add(n.delay())
	if at.Before(s.last) {
		at = s.last
	}
	if s.gossip && s.writes > 1 && modelAnnounces(data) {
		if n.rng.IntN(100) < n.noise {
			return
		}
		if n.rng.IntN(100) < n.noise {
			s.arrives(modelChunk{time.Now().Add(time.Duration(n.rng.Int64N(int64(3 * time.Second)))), slices.Clone(data)})
		}
		if n.rng.IntN(100) < n.noise {
			s.arrives(modelChunk{time.Now().Add(time.Duration(n.rng.Int64N(int64(3 * time.Second)))), data})
			return
		}
	}
	s.last = at
	s.arrives(modelChunk{at, data})
}

// arrives puts a chunk in its place at the other side: behind what arrives at the
// same time. net.mu is held.
func (s *modelStream) arrives(c modelChunk) {
	o := s.other
	i := len(o.arriving)
	for s.gossip && i > 1 && o.arriving[i-1].at.After(c.at) { // the first may be read in part
		i--
	}
	o.arriving = slices.Insert(o.arriving, i, c)
	o.size += len(c.data)
	modelPoke(o.readable)
}

// modelAnnounces reports whether the bytes are one message of gossip that carries
// announcements and nothing else: the library relies on the order of the rest.
func modelAnnounces(b []byte) bool {
	size, n := binary.Uvarint(b)
	if n <= 0 || uint64(len(b)-n) != size {
		return false
	}
	m := new(pb.RPC)
	if proto.Unmarshal(b[n:], m) != nil {
		return false
	}
	return len(m.Publish) > 0 && len(m.Subscriptions) == 0 && m.Control == nil
}

func (s *modelStream) CloseWrite() error {
	n := s.end.link.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.err != nil || s.writeEnd {
		return nil
	}
	s.writeEnd = true
	at := time.Now().Add(n.delay())
	for _, c := range s.other.arriving {
		if c.at.After(at) {
			at = c.at
		}
	}
	if s.other.err == nil && !s.other.readEnd && !s.other.end.dead {
		s.other.arriving = append(s.other.arriving, modelChunk{at: at})
		modelPoke(s.other.readable)
	}
	return nil
}

func (s *modelStream) CloseRead() error {
	n := s.end.link.net
	n.mu.Lock()
	defer n.mu.Unlock()
	s.readEnd = true
	s.arriving, s.size = nil, 0
	modelPoke(s.readable)
	modelPoke(s.other.writable)
	return nil
}

func (s *modelStream) Close() error {
	s.CloseRead()
	return s.CloseWrite()
}

func (s *modelStream) Reset() error {
	n := s.end.link.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.err != nil {
		return nil
	}
	s.fail(network.ErrReset)
	other := s.other
	time.AfterFunc(n.delay(), func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if !other.end.dead { // during a cut it hears of it early: its reader learns nothing else by that
			other.fail(network.ErrReset)
		}
	})
	return nil
}

func (s *modelStream) ResetWithError(network.StreamErrorCode) error { return s.Reset() }

func (s *modelStream) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

func (s *modelStream) SetReadDeadline(t time.Time) error {
	n := s.end.link.net
	n.mu.Lock()
	defer n.mu.Unlock()
	s.readBy = t
	modelPoke(s.readable)
	return nil
}

func (s *modelStream) SetWriteDeadline(t time.Time) error {
	n := s.end.link.net
	n.mu.Lock()
	defer n.mu.Unlock()
	s.writeBy = t
	modelPoke(s.writable)
	return nil
}

// modelDoor is how one machine dials and listens.
type modelDoor struct {
	net  *modelNet
	at   int
	id   peer.ID
	key  ic.PubKey
	addr ma.Multiaddr // empty: it does not listen

	calls  chan *modelEnd
	closed chan struct{}
	once   sync.Once
}

func newModelDoor(n *modelNet, at int, key ic.PrivKey) (*modelDoor, error) {
	id, err := peer.IDFromPrivateKey(key)
	return &modelDoor{net: n, at: at, id: id, key: key.GetPublic(),
		calls: make(chan *modelEnd, 64), closed: make(chan struct{})}, err
}

func (d *modelDoor) CanDial(a ma.Multiaddr) bool {
	ps := a.Protocols()
	return len(ps) == 2 && ps[1].Code == ma.P_TCP
}
func (d *modelDoor) Protocols() []int { return []int{ma.P_TCP} }
func (d *modelDoor) Proxy() bool      { return false }

func (d *modelDoor) Listen(a ma.Multiaddr) (transport.Listener, error) {
	d.net.mu.Lock()
	defer d.net.mu.Unlock()
	d.addr = a
	d.net.doors[a.String()] = d
	return d, nil
}

func (d *modelDoor) Dial(ctx context.Context, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	n := d.net
	n.mu.Lock()
	trip := n.delay() + n.delay() // of a handshake
	n.mu.Unlock()
	if !pace.Sleep(ctx, trip) {
		return nil, context.Cause(ctx)
	}
	n.mu.Lock()
	there := n.doors[a.String()]
	if there == nil || n.cuts[modelPair(d.at, there.at)] {
		n.mu.Unlock()
		pace.Sleep(ctx, modelDial)
		return nil, errors.New("nobody answers")
	}
	defer n.mu.Unlock()
	if there.id != p {
		return nil, errors.New("somebody else answers")
	}
	modelNumber++
	l := &modelLink{net: n, number: modelNumber}
	here := &modelEnd{link: l, at: d.at, door: d, id: d.id, key: d.key, addr: d.addr}
	far := &modelEnd{link: l, at: there.at, door: there, id: there.id, key: there.key, addr: there.addr}
	here.other, far.other = far, here
	l.ends = [2]*modelEnd{here, far}
	for _, e := range l.ends {
		e.gone, e.wake, e.streams = make(chan struct{}), make(chan struct{}, 1), map[*modelStream]bool{}
	}
	select {
	case there.calls <- far:
	default:
		return nil, errors.New("too many call there")
	}
	n.links[l] = true
	return here, nil
}

func (d *modelDoor) Accept() (transport.CapableConn, error) {
	select {
	case e := <-d.calls:
		return e, nil
	case <-d.closed:
		return nil, transport.ErrListenerClosed
	}
}

func (d *modelDoor) Close() error {
	d.once.Do(func() { close(d.closed) })
	d.net.mu.Lock()
	defer d.net.mu.Unlock()
	if d.net.doors[d.addr.String()] == d {
		delete(d.net.doors, d.addr.String())
	}
	return nil
}

func (d *modelDoor) Multiaddr() ma.Multiaddr { return d.addr }
func (d *modelDoor) Addr() net.Addr {
	a, err := manet.ToNetAddr(d.addr)
	if err != nil {
		panic(err) // of a test: it is an IP address and a TCP port
	}
	return a
}

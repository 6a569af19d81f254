package p2p

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/pace"
)

// protocolPeers is how members of a collection tell each other of others.
const protocolPeers protocol.ID = "/pando/peers/1"

// getPeers asks for members of the collection that the proof is for.
type getPeers struct {
	Proof proof
	Most  uint64
}

func (m *getPeers) append(b []byte) []byte {
	return cbor.AppendUint(cbor.AppendBytes(begin(b, msgPeers), m.Proof[:]), m.Most)
}

func readGetPeers(r *cbor.Reader) message {
	m := new(getPeers)
	exactly(r, "a proof", m.Proof[:])
	m.Most = r.Uint()
	if r.Err() == nil && (m.Most == 0 || m.Most > maxTold) {
		r.Fail(fault.Invalid.Errorf("%d peers asked for, want 1 to %d", m.Most, maxTold))
	}
	return m
}

// toldPeers are signed peer records, each with its envelope: who is told of says
// itself where it is.
type toldPeers struct{ Records [][]byte }

func (m *toldPeers) append(b []byte) []byte {
	b = cbor.AppendArray(begin(b, msgTold), len(m.Records))
	for _, r := range m.Records {
		b = cbor.AppendBytes(b, r)
	}
	return b
}

func readToldPeers(r *cbor.Reader) message {
	m := new(toldPeers)
	for n := list(r, "peers", maxTold); n > 0 && r.Err() == nil; n-- {
		b := r.Bytes()
		if len(b) > maxPeerRecord {
			r.Fail(fault.TooLarge.Errorf("the record of a peer of %d bytes, allowed are %d", len(b), maxPeerRecord))
		}
		m.Records = append(m.Records, b)
	}
	return m
}

// finder looks for members of collections that have few connected.
type finder struct {
	exchange bool       // asks members for others
	wake     pace.Alarm // to do so

	mu      sync.Mutex // guards what follows
	tried   map[peer.ID]*attempt
	records map[peer.ID][]byte // that connected peers introduced themselves with
}

func newFinder(exchange bool) *finder {
	return &finder{exchange: exchange, wake: pace.NewAlarm(), tried: map[peer.ID]*attempt{}, records: map[peer.ID][]byte{}}
}

// heard keeps where a peer says that it is, for others.
func (f *finder) heard(p peer.ID, signed *record.Envelope) {
	if signed == nil {
		return
	}
	b, err := signed.Marshal()
	if err != nil || len(b) > maxPeerRecord {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.records) < maxTried { // what is heard of whom has gone already is dropped by and by
		f.records[p] = b
	}
}

// parted drops what was heard of a peer that left: strangers who come and go take no room.
func (f *finder) parted(p peer.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.records, p)
}

// keepOnly drops what was heard of all peers but some.
func (f *finder) keepOnly(here func(peer.ID) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.records, func(p peer.ID, _ []byte) bool { return !here(p) })
}

func (n *Node) handlePeers(s network.Stream) { n.handle(s, anExchange, n.servePeers) }

// servePeers tells a member of others that are connected.
func (n *Node) servePeers(_ context.Context, w *wire, place *seat) error {
	w.version = protocolVersion // the types of messages are those of sessions
	for {
		m, err := w.receive()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		ask, ok := m.(*getPeers)
		if !ok {
			return breach("%T on a stream about peers", m)
		}
		c, ok := n.admission.admits(place.peer, ask.Proof)
		if !ok {
			return &refuse{Code: refusedAdmission, Text: "this collection is not shared with you"}
		}
		if err := place.proved(); err != nil {
			return err
		}
		if err := w.send(n.toldAbout(c.id, place.peer, int(ask.Most))); err != nil {
			return err
		}
	}
}

// toldAbout returns some members of a collection to tell another of.
func (n *Node) toldAbout(id dag.CollectionID, to peer.ID, most int) *toldPeers {
	m := new(toldPeers)
	members := n.membersHere(id)
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	n.finder.mu.Lock()
	defer n.finder.mu.Unlock()
	for _, p := range members {
		if signed := n.finder.records[p]; p != to && signed != nil && len(m.Records) < most {
			m.Records = append(m.Records, signed)
		}
	}
	return m
}

// membersHere returns the connected members of a collection.
func (n *Node) membersHere(id dag.CollectionID) []peer.ID {
	var all []peer.ID
	for _, c := range n.connected() {
		if _, ok := n.admission.member(c.id, id); ok {
			all = append(all, c.id)
		}
	}
	return all
}

// exchangePeers asks members for others, when one was found and now and then.
func (n *Node) exchangePeers(ctx context.Context) {
	n.finder.wake.Set(exchangeDelay)
	for n.finder.wake.Wait(ctx) {
		ring, _ := n.admission.keys()
		asked := map[peer.ID]bool{}
		for _, id := range ring.ids {
			members := n.membersHere(id)
			if len(members) == 0 || len(members) >= enoughMembers {
				continue
			}
			p := members[rand.IntN(len(members))]
			if asked[p] && len(ring.ids) > maxAsked {
				continue // of many collections, the members are mostly the same
			}
			asked[p] = true
			found, err := n.askForPeers(ctx, p, id)
			if err != nil {
				n.log.Debug("a member tells of no others", "peer", p, "error", err)
				continue
			}
			n.count.Introduced.Add(uint64(n.dialFound(ctx, found, enoughMembers-len(members))))
		}
		n.finder.wake.Set(pace.Jitter(exchangeEvery, antiEntropyJitter))
	}
}

// askForPeers asks a member for others.
func (n *Node) askForPeers(ctx context.Context, p peer.ID, id dag.CollectionID) ([]peer.AddrInfo, error) {
	ok, err := n.host.Peerstore().SupportsProtocols(p, protocolPeers)
	if err != nil || len(ok) == 0 {
		return nil, err
	}
	by, member := n.admission.member(p, id)
	shown, known := n.admission.with(p).mine[claim{id, by.secret}]
	if !member || !known {
		return nil, fault.Denied.Errorf("ask %s: it has not proved to share collection %s", p, id)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	s, err := n.open(ctx, p, []protocol.ID{protocolPeers})
	if err != nil {
		return nil, err
	}
	w := newAsking(s, &n.traffic)
	w.version = protocolVersion
	defer context.AfterFunc(ctx, w.abort)()
	told, err := n.receivePeers(w, &getPeers{shown, 2 * enoughMembers})
	if err != nil {
		w.abort()
		n.judge(p, err)
		return nil, fmt.Errorf("ask %s for peers: %w", p, err)
	}
	s.Close()
	var found []peer.AddrInfo
	for _, info := range told {
		info.Addrs = usable(info.Addrs, s.Conn().RemoteMultiaddr())
		if len(info.Addrs) > 0 {
			found = append(found, info)
		}
	}
	return found, nil
}

func (n *Node) receivePeers(w *wire, ask *getPeers) ([]peer.AddrInfo, error) {
	if err := w.send(ask); err != nil {
		return nil, err
	}
	m, err := expect[*toldPeers](w)
	if err != nil {
		return nil, err
	}
	if len(m.Records) > int(ask.Most) {
		return nil, breach("%d peers told of, asked for were %d", len(m.Records), ask.Most)
	}
	var all []peer.AddrInfo
	for _, b := range m.Records {
		info, err := readPeerRecord(b)
		if err != nil {
			return nil, breach("the record of a peer: %w", err)
		}
		all = append(all, info)
	}
	return all, nil
}

// readPeerRecord reads what a peer signed about itself.
func readPeerRecord(b []byte) (peer.AddrInfo, error) {
	var told peer.PeerRecord
	signed, err := record.ConsumeTypedEnvelope(b, &told)
	if err != nil {
		return peer.AddrInfo{}, err
	}
	if !told.PeerID.MatchesPublicKey(signed.PublicKey) {
		return peer.AddrInfo{}, fault.Invalid.Errorf("it is of %s, and signed by another", told.PeerID)
	}
	addrs := slices.DeleteFunc(told.Addrs, func(a ma.Multiaddr) bool { return len(a.Bytes()) > maxAddrBytes })
	return peer.AddrInfo{ID: told.PeerID, Addrs: addrs[:min(len(addrs), maxAddrs)]}, nil
}

// dialFound connects to some of the peers that were found, and returns how many of
// them it reached. They prove in their first session what they share, or nothing.
func (n *Node) dialFound(ctx context.Context, found []peer.AddrInfo, most int) (reached int) {
	found = slices.DeleteFunc(slices.Clone(found), func(p peer.AddrInfo) bool {
		return p.ID == n.host.ID() || n.host.Here(p.ID) || n.isBanned(p.ID) || !n.finder.due(p.ID, time.Now())
	})
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	found = found[:min(len(found), most, maxDials)]
	results := make([]error, len(found))
	var dials sync.WaitGroup
	for i, p := range found {
		dials.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			results[i] = n.connect(ctx, p)
		})
	}
	dials.Wait()
	for i, p := range found {
		n.finder.tell(p.ID, results[i], time.Now())
		if results[i] == nil {
			reached++
		} else {
			n.log.Debug("a peer that was found is not reached", "peer", p.ID, "error", results[i])
		}
	}
	return reached
}

// due reports whether a peer is to be tried now.
func (f *finder) due(p peer.ID, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.tried[p]
	return a == nil || !now.Before(a.next)
}

// tell notes how a dial went. Of peers that are told of in vain only so many are
// remembered: others are tried again sooner.
func (f *finder) tell(p peer.ID, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.tried, p)
		return
	}
	a := f.tried[p]
	if a == nil {
		if len(f.tried) >= maxTried {
			for old, b := range f.tried {
				if now.After(b.next) {
					delete(f.tried, old)
				}
			}
		}
		if len(f.tried) >= maxTried {
			return
		}
		a = &attempt{}
		f.tried[p] = a
	}
	a.failures++
	a.next = now.Add(max(pace.Backoff(a.failures+4), exchangeDelay)) // not before half a minute
}

// usable leaves out addresses that lead nowhere from here: loopback ones, told over
// a connection that was not.
func usable(addrs []ma.Multiaddr, over ma.Multiaddr) []ma.Multiaddr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a ma.Multiaddr) bool {
		return manet.IsIPLoopback(a) && !manet.IsIPLoopback(over)
	})
}

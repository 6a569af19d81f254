package host

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// Config is how a host takes part in the network.
type Config struct {
	// Key is whom others know it as: an ed25519 key.
	Key ident.Key
	// Listen are the multiaddrs to listen on. A TCP port takes WebSocket connections too.
	Listen []string
	// Host is used instead of a new one, and not closed.
	Host corehost.Host
	// Streams are how many streams of each protocol one peer may open here, and how many
	// all peers together.
	Streams map[protocol.ID][2]int
	// Relay makes this host carry connections between others that cannot reach each other.
	Relay bool
	// NATMap asks the router to let others in, by UPnP or NAT-PMP.
	NATMap bool
	// QUIC are of networks that are not the system's.
	QUIC []quicreuse.Option

	// Ties say who the peers are; nil: nobody is known.
	Ties Ties
	// Closed keeps strangers out, and Allow are peers that are allowed in this run.
	Closed bool
	Allow  []peer.ID
	// Listed are the peers that the operator allowed, or denied (false), before. Save makes
	// a change of these lists last: who gets on them, and who gets off.
	Listed map[peer.ID]bool
	Save   func(on map[peer.ID]bool, off []peer.ID) error

	// Logger hears of what goes on; nil is silence.
	Logger *slog.Logger
}

// Ties are what a node has to do with peers, as only it knows. The host asks at any
// time, some with locks held: who answers must not ask the host back.
type Ties interface {
	Named(peer.ID) bool  // by the operator
	Member(peer.ID) bool // it proved a secret since it is connected
	Banned(peer.ID) bool // for a while
	Peers() []peer.ID    // that are connected and speak the protocol of the node
}

// nobody are the ties of a host that is no node.
type nobody struct{}

func (nobody) Named(peer.ID) bool  { return false }
func (nobody) Member(peer.ID) bool { return false }
func (nobody) Banned(peer.ID) bool { return false }
func (nobody) Peers() []peer.ID    { return nil }

// Counters say what a host did since its start.
type Counters struct {
	Gated, Pruned         uint64 // connections refused, strangers sent away
	Refused               uint64 // requests to a relay
	Relayed, RelayedBytes uint64 // connections carried for others, and what went over them
	Punched               uint64 // relayed connections that became direct
}

type counters struct{ gated, pruned, refused, relayed, relayedBytes, punched atomic.Uint64 }

// Host is a libp2p host that others can reach.
type Host struct {
	corehost.Host
	own *ownHost // nil: it was brought along

	ties      Ties
	log       *slog.Logger
	gate      *gate
	door      *door
	reach     *reach
	hub       *hub                  // nil: it is no relay
	directory *directory            // nil: it takes no part in it
	lines     atomic.Pointer[lines] // nil: no clients are accepted
	newcomers network.Notifiee
	count     counters

	ctx   context.Context // ends when the host closes
	stop  context.CancelCauseFunc
	tasks sync.WaitGroup

	mu     sync.Mutex // guards closed
	closed bool
}

// New makes a host, which nobody can reach before Listen.
func New(c Config) (*Host, error) {
	h := &Host{Host: c.Host, ties: c.Ties, log: c.Logger, door: newDoor(), reach: newReach()}
	if h.ties == nil {
		h.ties = nobody{}
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.gate = newGate(c, h.ties)
	if c.Host == nil {
		own, err := newOwnHost(c, h.gate, punches{&h.count})
		if err != nil {
			return nil, err
		}
		h.Host, h.own = own, own
	}
	if c.Relay {
		h.hub = newHub(h)
	}
	h.ctx, h.stop = context.WithCancelCause(context.Background())
	return h, nil
}

// Listen lets others in. Handlers of streams are set before: who connects is told of
// the protocols at once.
func (h *Host) Listen() error {
	h.newcomers = &network.NotifyBundle{ConnectedF: h.supersede,
		DisconnectedF: func(_ network.Network, c network.Conn) { h.parted(c.RemotePeer()) }}
	h.Network().Notify(h.newcomers)
	if h.hub != nil {
		h.hub.start()
	}
	if h.own != nil {
		if h.own.open {
			if err := h.startReach(); err != nil {
				return err
			}
		}
		if err := h.own.listen(); err != nil {
			return err
		}
	}
	h.meetAll() // of a host that was there before
	h.spawn(h.keepDoor)
	if h.own != nil && h.own.puncher != nil {
		h.spawn(h.keepPunching)
	}
	return nil
}

// Close ends what the host does, and its connections if they are its own.
func (h *Host) Close() error {
	h.mu.Lock()
	first := !h.closed
	h.closed = true
	h.mu.Unlock()
	if !first {
		h.tasks.Wait()
		return nil
	}
	if h.newcomers != nil {
		h.Network().StopNotify(h.newcomers)
	}
	if h.hub != nil {
		h.hub.stop()
	}
	h.RemoveStreamHandler(protocolAPI)
	h.stop(fault.Closed.Errorf("the host is closed"))
	h.tasks.Wait()
	if h.own != nil {
		return h.own.Close()
	}
	return nil
}

// spawn runs fn until it returns, which it must soon after its context ends.
// Close waits for it.
func (h *Host) spawn(fn func(context.Context)) {
	if h.enter() {
		go func() {
			defer h.leave()
			fn(h.ctx)
		}()
	}
}

// enter makes Close wait for the caller until leave. It fails when the host closes.
func (h *Host) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.tasks.Add(1)
	return true
}

func (h *Host) leave() { h.tasks.Done() }

// Counters returns what the host did since its start.
func (h *Host) Counters() Counters {
	c := &h.count
	return Counters{Gated: c.gated.Load(), Pruned: c.pruned.Load(), Refused: c.refused.Load(),
		Relayed: c.relayed.Load(), RelayedBytes: c.relayedBytes.Load(), Punched: c.punched.Load()}
}

// punches counts connections that became direct.
type punches struct{ n *counters }

// Trace is called by the library when it tries to replace a relayed connection.
func (p punches) Trace(e *holepunch.Event) {
	switch e := e.Evt.(type) {
	case *holepunch.EndHolePunchEvt:
		if e.Success {
			p.n.punched.Add(1)
		}
	case *holepunch.DirectDialEvt:
		if e.Success {
			p.n.punched.Add(1)
		}
	}
}

// Proved is told that a connected peer proved to be a member: it may be carried without
// limits, and be a relay for this host.
func (h *Host) Proved(p peer.ID) {
	if h.hub != nil {
		h.hub.prove(p)
	}
	h.reach.wake.Set(reachDelay)
}

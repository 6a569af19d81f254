package p2p

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/pace"
	"github.com/pandodb/pando/internal/room"
)

// DefaultListen is where a node listens that was not told otherwise: nobody but
// the same machine gets in.
var DefaultListen = []string{"/ip4/127.0.0.1/udp/9171/quic-v1", "/ip4/127.0.0.1/tcp/9171"}

// Config is how a node takes part in the network. The zero value is a
// node on the loopback interface.
type Config struct {
	// Key is the identity of the peer, an ed25519 key; zero is the database's
	// NodeIdentity. Keep it: other nodes know this one by it, and it signs what
	// applications send each other.
	Key ident.Key
	// Listen are the multiaddrs to listen on; nil is DefaultListen. A TCP port
	// takes WebSocket connections too.
	Listen []string
	// Peers are multiaddrs, with /p2p/…, of peers to stay connected with. They are
	// trusted: they may sync every collection.
	Peers []string
	// Closed keeps strangers out: without a list of those allowed, a peer has to prove a
	// secret within 10 s; with one, nobody else may connect at all, but peers that the
	// operator named.
	Closed bool
	// Allow are peers, by peer id or did:key, that are allowed for as long as this node
	// runs, beside those of Node.Allow. It makes the node a closed one.
	Allow []string
	// MDNS announces this node in the local network, and looks for others there.
	MDNS bool
	// Exchange asks members of collections for others, as long as few are connected.
	Exchange bool
	// DHT makes this node take part in a directory of Pando's nodes, in which members
	// find each other that nobody introduced.
	DHT bool
	// Relay makes this node carry connections between others that cannot reach each
	// other: for members of its collections without limit, for others just enough to
	// find a direct way.
	Relay bool
	// Certificates are those by which this node acts for identities, and reads what they
	// may read: see Node.Act.
	Certificates [][]byte
	// Blind makes this node take nothing of collections with a policy but what is sealed,
	// so that it cannot read it.
	Blind bool
	// NATMap asks the router to let others in, by UPnP or NAT-PMP.
	NATMap bool
	// Host is used instead of a new one, for networks that are not the system's.
	// It is not closed with the node.
	Host corehost.Host
	// Rand is where secrets come from; nil is the system's.
	Rand io.Reader
	// Logger hears of what goes on; nil is silence.
	Logger *slog.Logger

	hosted func(*host.Config) // of networks that exist in tests only
}

// Check says what is wrong with the addresses and names of a configuration, before
// anything is begun.
func (c Config) Check() error {
	if _, err := parsePeers(c.Peers); err != nil {
		return err
	}
	if _, err := parseIDs(c.Allow); err != nil {
		return err
	}
	return host.CheckListen(c.Listen)
}

// Counters say what a node did since its start.
type Counters struct {
	Received, Sent                    uint64 // bytes of sync and fetch streams
	RoundTrips                        uint64 // times that this node waited for an answer on one
	GossipReceived, GossipSent        uint64 // bytes of announcements
	Sessions, Served, Fetches         uint64
	Merged                            uint64 // commits that came from peers
	Announced, Heard                  uint64 // commits, by gossip
	Mismatches                        uint64 // quiet copies that stayed different after a session
	InvalidCommits, Breaches, Refused uint64
	Blamed                            uint64 // how often a peer was found to lie, or to be of no use
	Overflows                         uint64 // documents dropped from the inbox, to be found again by comparing
	Undelivered                       uint64 // announcements lost in a queue, likewise
	TopicSent, TopicHeard             uint64 // messages of applications
	TopicDropped                      uint64 // that came too fast, too late or twice, or that nobody read in time
	TopicRefused                      uint64 // that broke the rules
	WantOverflows                     uint64
	Relayed, RelayedBytes             uint64 // connections carried for others, and what went over them
	Punched                           uint64 // relayed connections that became direct
	Introduced                        uint64 // peers reached of which members told
	Found                             uint64 // and that were found in the directory
	Useless                           uint64 // peers that had much less to give than they said
	ExpiredWants                      uint64 // documents left incomplete: in a week nobody had what they refer to
	Gated                             uint64 // connections refused to peers that are denied, or not allowed
	Pruned                            uint64 // strangers sent away
	Oversubscribed                    uint64 // topics that peers follow beyond what is remembered
	Throttled                         uint64 // requests of peers that were above their quota
	Denied                            uint64 // documents that peers asked for by name, and that they may not read or are not here
	Wants, StuckWants                 int    // documents known to be incomplete; for more than a day
	Watched, WatchHeard               uint64 // commits told to watchers, and told by whom this node watches
	Told, ToldHere                    uint64 // commits told to peers that may read them, and told here
	Untold                            uint64 // times that a peer could not be told, and is compared with instead
	Watchers, Watches                 int    // that watch a part here, and members that tell this node of its parts
	HotTopics                         int    // of documents that many watch
	Topics                            int    // that the node takes part in
	Unfollowed                        int    // collections that lack topics: their changes come late, or twice
}

type counters struct {
	Sessions, Served, Fetches, Merged, Announced, Heard, Mismatches,
	InvalidCommits, Breaches, Refused, Overflows, Undelivered, WantOverflows, ExpiredWants,
	Blamed, Useless, Watched, WatchHeard, Denied, Told, ToldHere, Untold,
	Throttled, Introduced, Found atomic.Uint64
}

// Node is a database in the network.
type Node struct {
	onDenied   atomic.Pointer[func(Denial)]
	db         *pando.DB
	key        ident.Key // of the node itself
	replica    *pando.Replica
	host       *host.Host
	ownsHost   bool // it is nobody else's
	log        *slog.Logger
	notes      notes
	admission  *admission
	cursors    *cursors
	wants      *wants
	sending    *lanes // packs on their way to peers
	merging    *lanes // packs of peers
	unapplied  unapplied
	convoys    map[dag.CollectionID]*convoy // guarded by mu: what is got of several peers now
	parts      *partTrees
	identities *identities
	agreements *agreements
	hubs       *hubs // peers that keep what is sealed for others
	later      *later
	gossip     *gossip.Gossip
	announcer  *announcer
	rooms      *room.Rooms
	scores     *scores
	hotTopics  atomic.Int64 // topics of documents
	coming     *coming      // what was announced, and is being fetched
	lookouts   *lookouts    // what is watched here
	watches    *watches     // what this node watches elsewhere
	awaits     *awaits      // commits that wait for groups
	tellings   *tellings    // what peers are told that may read it
	meetings   meetings
	traffic    traffic
	traces     traces
	contacts   *contacts
	delays     delays
	started    time.Time
	count      counters

	finder   *finder
	listings *listings // nil: this node takes no part in the directory
	quotas   *quotas
	hold     hold

	ctx   context.Context // ends when the node closes
	stop  context.CancelCauseFunc
	tasks sync.WaitGroup
	dial  pace.Alarm

	noticed atomic.Int64  // how many schema versions there were at the last look
	grew    chan struct{} // there are more

	// adopting is held while collections come and get their secrets, which they must
	// not be without. Taken before noting.
	adopting sync.Mutex

	// noting is held while notes are written that others may change: what is written
	// last is what holds. Taken before mu.
	noting sync.Mutex

	mu          sync.Mutex // guards what follows
	closed      bool
	companions  map[peer.ID]*companion
	known       map[peer.ID]acquaintance
	dialing     map[peer.ID]*attempt
	banned      map[peer.ID]time.Time
	replicators map[peer.ID]*replicator
	serving     map[peer.ID]streams
	served      streams                    // of all peers, without strangers
	strangers   []*seat                    // the oldest first
	scopes      map[dag.CollectionID]Scope // of the collections that are not kept whole
}

// Start makes the database a peer. It returns when the node listens; it does not
// wait for other peers. ctx bounds the start alone.
func Start(ctx context.Context, db *pando.DB, c Config) (*Node, error) {
	n := &Node{
		db: db, replica: db.Replica(), ownsHost: c.Host == nil, log: c.Logger,
		companions: map[peer.ID]*companion{}, dialing: map[peer.ID]*attempt{}, banned: map[peer.ID]time.Time{},
		convoys: map[dag.CollectionID]*convoy{}, sending: newLanes(packsAtOnce), merging: newLanes(mergesAtOnce),
		serving: map[peer.ID]streams{}, scores: newScores(), coming: &coming{of: map[dag.CID]chan struct{}{}}, lookouts: newLookouts(), watches: newWatches(), tellings: newTellings(), meetings: meetings{at: map[wantKey]*meeting{}},
		replicators: map[peer.ID]*replicator{}, later: newLater(db.Replica().Now), finder: newFinder(c.Exchange), dial: pace.NewAlarm(), grew: make(chan struct{}, 1),
		contacts: newContacts(), started: time.Now(),
	}
	if n.key = c.Key; n.key.IsZero() {
		n.key = db.NodeIdentity()
	}
	n.awaits = newAwaits(n)
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	named, err := parsePeers(c.Peers)
	if err != nil {
		return nil, err
	}
	n.notes = notes{n.replica}
	if n.host, err = n.newHost(c); err != nil {
		return nil, err
	}
	n.quotas = newQuotas()
	n.ctx, n.stop = context.WithCancelCause(context.Background())
	if err := n.start(named, c); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// newHost makes the host of this node.
func (n *Node) newHost(c Config) (*host.Host, error) {
	allow, err := parseIDs(c.Allow)
	if err != nil {
		return nil, err
	}
	listed, err := n.notes.listed()
	if err != nil {
		return nil, err
	}
	hc := host.Config{
		Key: n.key, Listen: c.Listen, Host: c.Host, Streams: streamLimits(), Relay: c.Relay, NATMap: c.NATMap,
		Ties: ties{n}, Closed: c.Closed, Allow: allow, Listed: listed, Save: n.notes.putListed, Logger: n.log,
	}
	if hc.Listen == nil {
		hc.Listen = DefaultListen
	}
	if c.hosted != nil {
		c.hosted(&hc)
	}
	return host.New(hc)
}

func (n *Node) start(named []peer.AddrInfo, c Config) (err error) {
	n.parts, n.agreements = newPartTrees(n.replica), newAgreements()
	if n.identities, err = newIdentities(n.host.ID()); err != nil {
		return err
	}
	if c.Blind {
		n.identities.setBlind()
	}
	if _, err := n.identities.set(c.Certificates, n.replica.Now()); err != nil {
		return err
	}
	if n.hubs, err = newHubs(n.notes); err != nil {
		return err
	}
	if n.admission, err = newAdmission(n.host.ID(), n.notes, c.Rand); err != nil {
		return err
	}
	if n.admission.blank, err = ownSecret(n.host); err != nil {
		return err
	}
	if n.cursors, err = newCursors(n.notes); err != nil {
		return err
	}
	if n.wants, err = newWants(n.notes); err != nil {
		return err
	}
	if n.known, err = n.notes.peers(); err != nil {
		return err
	}
	n.scopes = n.replica.Scopes()
	for p, k := range n.known {
		if k.trusted {
			n.host.ConnManager().Protect(p, connTag)
		}
	}
	for _, p := range named {
		if err := n.trust(p); err != nil {
			return err
		}
	}
	if err := n.noticeCollections(); err != nil {
		return err
	}
	events, err := n.host.EventBus().Subscribe(connectionEvents)
	if err != nil {
		return fmt.Errorf("watch connections: %w", err)
	}
	n.spawn(func(ctx context.Context) { n.watchConnections(ctx, events) })
	for _, id := range syncProtocols {
		n.host.SetStreamHandler(id, n.handleSync)
	}
	for _, id := range fetchProtocols {
		n.host.SetStreamHandler(id, n.handleFetch)
	}
	n.host.SetStreamHandler(protocolPeers, n.handlePeers)
	n.host.SetStreamHandler(protocolTell, n.handleTell)
	for _, id := range watchProtocols {
		n.host.SetStreamHandler(id, n.handleWatch)
	}
	if err := n.startGossip(); err != nil {
		return err
	}
	if err := n.host.Listen(); err != nil {
		return err
	}
	for _, p := range n.host.Network().Peers() { // of a host that was there before
		n.arrived(p)
	}
	n.spawn(n.keepConnected)
	n.spawn(n.keepEntropyDown)
	n.spawn(n.watchSchema)
	n.spawn(n.announce)
	n.spawn(n.rooms.Run)
	n.spawn(n.takeIn)
	n.spawn(n.fetchWants)
	n.spawn(n.keepWatches)
	n.spawn(n.tellHot)
	n.spawn(n.flushCursors)
	n.spawn(n.sweep)
	if c.Exchange {
		n.spawn(n.exchangePeers)
	}
	if c.DHT {
		if err := n.startListing(); err != nil {
			return err
		}
	}
	if err := n.startReplicators(); err != nil {
		return err
	}
	if c.MDNS {
		return n.host.Announce(n.nearby)
	}
	return nil
}

// Close leaves the network and waits for everything that the node started. The
// database stays open.
func (n *Node) Close() error {
	n.mu.Lock()
	first := !n.closed
	n.closed = true
	n.mu.Unlock()
	if !first {
		n.tasks.Wait()
		return nil
	}
	for _, id := range slices.Concat(syncProtocols, fetchProtocols, watchProtocols, tellProtocols, []protocol.ID{protocolPeers}) {
		n.host.RemoveStreamHandler(id)
	}
	n.stop(fault.Closed.Errorf("the node is closed"))
	n.tasks.Wait()
	var err error
	if n.cursors != nil {
		err = n.cursors.write()
	}
	if e := n.host.Close(); err == nil {
		err = e
	}
	return err
}

// spawn runs fn until it returns, which it must soon after its context ends.
// Close waits for it.
func (n *Node) spawn(fn func(context.Context)) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.tasks.Go(func() { fn(n.ctx) })
	return true
}

// enter makes Close wait for the caller until leave. It fails when the node closes.
func (n *Node) enter() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.tasks.Add(1)
	return true
}

func (n *Node) leave() { n.tasks.Done() }

// Info is how others reach this node.
type Info struct {
	ID    string
	Addrs []string // multiaddrs, without the /p2p/… that names the node
}

// Info returns the identity and addresses of this node.
func (n *Node) Info() Info {
	info := Info{ID: n.host.ID().String()}
	for _, a := range n.host.Addrs() {
		info.Addrs = append(info.Addrs, a.String())
	}
	return info
}

// Counters returns what the node did since its start.
func (n *Node) Counters() Counters {
	c, h, g, r := &n.count, n.host.Counters(), n.gossip.Counters(), n.rooms.Counters()
	all := Counters{
		Received: n.traffic.received.Load(), Sent: n.traffic.sent.Load(), RoundTrips: n.traffic.roundTrips.Load(),
		GossipReceived: g.Received, GossipSent: g.Sent,
		Sessions: c.Sessions.Load(), Served: c.Served.Load(), Fetches: c.Fetches.Load(),
		Merged: c.Merged.Load(), Announced: c.Announced.Load(), Heard: c.Heard.Load(), Mismatches: c.Mismatches.Load(),
		InvalidCommits: c.InvalidCommits.Load(), Breaches: c.Breaches.Load(), Refused: c.Refused.Load() + h.Refused,
		Overflows: c.Overflows.Load(), Undelivered: c.Undelivered.Load(), WantOverflows: c.WantOverflows.Load(),
		ExpiredWants: c.ExpiredWants.Load(), Blamed: c.Blamed.Load(), Useless: c.Useless.Load(),
		Gated: h.Gated, Pruned: h.Pruned, Throttled: c.Throttled.Load(), Oversubscribed: g.Oversubscribed,
		Relayed: h.Relayed, RelayedBytes: h.RelayedBytes, Punched: h.Punched,
		TopicSent: r.Sent, TopicHeard: r.Heard, TopicDropped: r.Dropped, TopicRefused: r.Refused,
		Introduced: c.Introduced.Load(), Found: c.Found.Load(),
	}
	all.Denied, all.Told, all.ToldHere, all.Untold = c.Denied.Load(), c.Told.Load(), c.ToldHere.Load(), c.Untold.Load()
	all.Wants, all.StuckWants = n.wants.size()
	all.Watched, all.WatchHeard = c.Watched.Load(), c.WatchHeard.Load()
	all.Watchers, all.Watches, all.HotTopics = n.lookouts.size(), n.watches.told(), int(n.hotTopics.Load())
	all.Topics, all.Unfollowed = n.gossip.Topics(), len(n.announcer.lacks())
	return all
}

package p2p

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	datastore "github.com/ipfs/go-datastore"
	locked "github.com/ipfs/go-datastore/sync"
	golog "github.com/ipfs/go-log/v2"
	kad "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/pace"
)

const (
	dhtPrefix   protocol.ID = "/pando"
	protocolDHT protocol.ID = dhtPrefix + "/kad/1.0.0"
)

// directory is a Kademlia of Pando's nodes alone. It begins with the peers that are
// known, and never meets the public one. Members of a collection find each other in it
// under a key that follows from the collection's secret: whoever carries the entry
// learns that some peers have something in common, and not what.
type directory struct {
	kad  *kad.IpfsDHT
	wake pace.Alarm

	mu     sync.Mutex // guards what follows
	listed map[claim]time.Time
	looked map[dag.CollectionID]*attempt
}

// startDirectory takes part in the directory. Nodes that others reach, or may reach,
// carry entries; others only look things up.
func (n *Node) startDirectory() error {
	for _, part := range []string{"dht", "dht.pb", "dht/RtRefreshManager", "providers"} {
		golog.SetLogLevel(part, "fatal") // it writes to standard error otherwise; what fails is said here
	}
	d, err := kad.New(&watched{n.host, n},
		kad.ProtocolPrefix(dhtPrefix), kad.Mode(kad.ModeAutoServer), kad.DisableValues(),
		kad.Datastore(newEntries(maxEntries, maxEntriesOf)), kad.LookupCheckConcurrency(maxDials),
		kad.BootstrapPeersFunc(n.acquaintances),
		kad.AddressFilter(func(addrs []ma.Multiaddr) []ma.Multiaddr {
			return slices.DeleteFunc(slices.Clone(addrs), manet.IsIPLoopback)
		}))
	if err != nil {
		return fmt.Errorf("start the directory of peers: %w", err)
	}
	n.directory = &directory{kad: d, wake: pace.NewAlarm(), listed: map[claim]time.Time{}, looked: map[dag.CollectionID]*attempt{}}
	n.spawn(func(ctx context.Context) {
		<-ctx.Done()
		d.Close() // nothing in it lasts
	})
	n.spawn(n.keepListed)
	return nil
}

// watched is a host whose handlers serve nobody who is banned, or stands at the door
// of a closed node, and that Close waits for.
type watched struct {
	host.Host
	n *Node
}

func (w *watched) SetStreamHandler(id protocol.ID, serve network.StreamHandler) {
	w.Host.SetStreamHandler(id, func(s network.Stream) {
		p := s.Conn().RemotePeer()
		if w.n.isBanned(p) || w.n.locked(p) || !w.n.enter() {
			s.Reset()
			return
		}
		defer w.n.leave()
		defer context.AfterFunc(w.n.ctx, func() { s.Reset() })()
		serve(s)
	})
}

// Peerstore is where the directory keeps where peers are.
func (w *watched) Peerstore() peerstore.Peerstore { return thrifty{w.Host.Peerstore()} }

// thrifty takes so many addresses of each peer: the directory takes from anybody what
// they say of themselves, and keeps it for a day.
type thrifty struct{ peerstore.Peerstore }

func (t thrifty) AddAddrs(p peer.ID, addrs []ma.Multiaddr, ttl time.Duration) {
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a ma.Multiaddr) bool { return len(a.Bytes()) > maxAddrBytes })
	known := t.Addrs(p)
	fresh := max(maxAddrs-len(known), 0)
	addrs = slices.DeleteFunc(addrs, func(a ma.Multiaddr) bool {
		if slices.ContainsFunc(known, a.Equal) {
			return false
		}
		fresh--
		return fresh < 0
	})
	t.Peerstore.AddAddrs(p, addrs, ttl)
}

// entries holds what others have listed here, so much of all and of each. When it is
// full, who has listed most gives way: a few strangers leave room for everybody.
type entries struct {
	datastore.Batching
	most, mostOf int

	mu  sync.Mutex // guards what follows
	all int
	of  map[string]map[datastore.Key]struct{} // by who listed it
}

func newEntries(most, mostOf int) *entries {
	return &entries{Batching: locked.MutexWrap(datastore.NewMapDatastore()), most: most, mostOf: mostOf, of: map[string]map[datastore.Key]struct{}{}}
}

// lister is who listed an entry: the last part of its key.
func lister(k datastore.Key) string { return k.BaseNamespace() }

func (e *entries) Put(ctx context.Context, k datastore.Key, value []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if has, err := e.Has(ctx, k); err != nil || has {
		if err != nil {
			return err
		}
		return e.Batching.Put(ctx, k, value)
	}
	who := lister(k)
	if len(e.of[who]) >= e.mostOf || e.all >= e.most && !e.makeRoom(ctx, who) {
		return fault.TooLarge.Errorf("%d entries, %d of this peer: there is no room for another", e.all, len(e.of[who]))
	}
	if err := e.Batching.Put(ctx, k, value); err != nil {
		return err
	}
	if e.of[who] == nil {
		e.of[who] = map[datastore.Key]struct{}{}
	}
	e.all++
	e.of[who][k] = struct{}{}
	return nil
}

// makeRoom drops an entry of whoever has listed most, unless that is hardly more than
// somebody else has. e.mu is held.
func (e *entries) makeRoom(ctx context.Context, newcomer string) bool {
	most := ""
	for who, of := range e.of {
		if len(of) > len(e.of[most]) {
			most = who
		}
	}
	if len(e.of[most]) <= len(e.of[newcomer])+1 {
		return false
	}
	for k := range e.of[most] {
		return e.drop(ctx, k) == nil
	}
	return false
}

func (e *entries) Delete(ctx context.Context, k datastore.Key) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	has, err := e.Has(ctx, k)
	if err != nil || !has {
		return err
	}
	return e.drop(ctx, k)
}

// drop deletes an entry that is there. e.mu is held.
func (e *entries) drop(ctx context.Context, k datastore.Key) error {
	if err := e.Batching.Delete(ctx, k); err != nil {
		return err
	}
	who := lister(k)
	e.all--
	if delete(e.of[who], k); len(e.of[who]) == 0 {
		delete(e.of, who)
	}
	return nil
}

// Batch gathers writes. One for which there is no room is left out, and the others are
// made: they are of other peers.
func (e *entries) Batch(context.Context) (datastore.Batch, error) {
	return datastore.NewBasicBatch(lenient{e}), nil
}

type lenient struct{ *entries }

func (l lenient) Put(ctx context.Context, k datastore.Key, value []byte) error {
	if err := l.entries.Put(ctx, k, value); err != nil && fault.Of(err) != fault.TooLarge {
		return err
	}
	return nil
}

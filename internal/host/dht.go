package host

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	datastore "github.com/ipfs/go-datastore"
	locked "github.com/ipfs/go-datastore/sync"
	golog "github.com/ipfs/go-log/v2"
	kad "github.com/libp2p/go-libp2p-kad-dht"
	corehost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multihash"

	"github.com/pandodb/pando/internal/fault"
)

const (
	dhtPrefix   protocol.ID = "/pando"
	protocolDHT protocol.ID = dhtPrefix + "/kad/1.0.0"
)

// directory is a Kademlia of Pando's nodes alone. It begins with the peers that are
// known, and never meets the public one. Who has
// something in common finds each other in it under a key that only they can know: whoever
// carries the entry learns that there is something, and not what.
type directory struct{ kad *kad.IpfsDHT }

// StartDirectory takes part in the directory, beginning with peers that are known. Hosts
// that others reach, or may reach, carry entries; others only look things up.
func (h *Host) StartDirectory(known func() []peer.AddrInfo) error {
	for _, part := range []string{"dht", "dht.pb", "dht/RtRefreshManager", "providers"} {
		golog.SetLogLevel(part, "fatal") // it writes to standard error otherwise; what fails is said here
	}
	d, err := kad.New(&watched{h.Host, h},
		kad.ProtocolPrefix(dhtPrefix), kad.Mode(kad.ModeAutoServer), kad.DisableValues(),
		kad.Datastore(newEntries(maxEntries, maxEntriesOf)), kad.LookupCheckConcurrency(maxLookups),
		kad.BootstrapPeersFunc(known),
		kad.AddressFilter(func(addrs []ma.Multiaddr) []ma.Multiaddr {
			return slices.DeleteFunc(slices.Clone(addrs), manet.IsIPLoopback)
		}))
	if err != nil {
		return fmt.Errorf("start the directory of peers: %w", err)
	}
	h.directory = &directory{kad: d}
	h.spawn(func(ctx context.Context) {
		<-ctx.Done()
		d.Close() // nothing in it lasts
	})
	return nil
}

// DirectoryPeers returns how many peers are known that keep the directory.
func (h *Host) DirectoryPeers() int { return h.directory.kad.RoutingTable().Size() }

// List lists this host under a key of 32 bytes, for 48 hours.
func (h *Host) List(ctx context.Context, key []byte) error {
	return h.directory.kad.Provide(ctx, entryOf(key), true)
}

// LookUp returns other peers that are listed under a key, and where they are.
func (h *Host) LookUp(ctx context.Context, key []byte, most int) []peer.AddrInfo {
	var found []peer.AddrInfo
	for p := range h.directory.kad.FindProvidersAsync(ctx, entryOf(key), most) {
		addrs := slices.DeleteFunc(slices.Clone(p.Addrs), manet.IsIPLoopback)
		if p.ID != h.ID() && len(addrs) > 0 {
			found = append(found, peer.AddrInfo{ID: p.ID, Addrs: addrs[:min(len(addrs), MaxAddrs)]})
		}
	}
	return found
}

// entryOf names the entry of a key, as the library wants it.
func entryOf(key []byte) cid.Cid {
	sum, err := multihash.Encode(key, multihash.SHA2_256)
	if err != nil {
		panic(err) // of 32 bytes: it never does
	}
	return cid.NewCidV1(cid.Raw, sum)
}

// watched is a host whose handlers serve nobody who is banned, or stands at the door
// of a closed node, and that Close waits for.
type watched struct {
	corehost.Host
	h *Host
}

func (w *watched) SetStreamHandler(id protocol.ID, serve network.StreamHandler) {
	w.Host.SetStreamHandler(id, func(s network.Stream) {
		p := s.Conn().RemotePeer()
		if w.h.ties.Banned(p) || w.h.Locked(p) || !w.h.enter() {
			s.Reset()
			return
		}
		defer w.h.leave()
		defer context.AfterFunc(w.h.ctx, func() { s.Reset() })()
		serve(s)
	})
}

// Peerstore is where the directory keeps where peers are.
func (w *watched) Peerstore() peerstore.Peerstore { return thrifty{w.Host.Peerstore()} }

// thrifty takes so many addresses of each peer: the directory takes from anybody what
// they say of themselves, and keeps it for a day.
type thrifty struct{ peerstore.Peerstore }

func (t thrifty) AddAddrs(p peer.ID, addrs []ma.Multiaddr, ttl time.Duration) {
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a ma.Multiaddr) bool { return len(a.Bytes()) > MaxAddrBytes })
	known := t.Addrs(p)
	fresh := max(MaxAddrs-len(known), 0)
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

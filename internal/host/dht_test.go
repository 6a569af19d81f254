package host

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	datastore "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/fault"
)

// What others list takes so much room, and one of them only a part of it.
func TestTheDirectoryIsBounded(t *testing.T) {
	t.Parallel()
	e := newEntries(5, 3)
	key := func(what, who string) datastore.Key { return datastore.NewKey("/providers/" + what + "/" + who) }
	put := func(what, who string) error { return e.Put(t.Context(), key(what, who), []byte{1}) }
	for i := range 3 {
		if err := put(fmt.Sprint(i), "ada"); err != nil {
			t.Fatal(err)
		}
	}
	if err := put("2", "ada"); err != nil {
		t.Error("an entry that is there is not renewed:", err)
	}
	if err := put("3", "ada"); !errors.Is(err, fault.TooLarge) {
		t.Errorf("a fourth entry of one peer: %v", err)
	}
	batch, err := e.Batch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if err := batch.Put(t.Context(), key("x", fmt.Sprint("peer", i)), []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Commit(t.Context()); err != nil {
		t.Error("what has no room spoils what has:", err)
	}
	if e.all != 5 || len(e.of["ada"]) != 1 {
		t.Errorf("%d entries are held, want 5; %d of who had most, want 1", e.all, len(e.of["ada"]))
	}
	var own datastore.Key
	for own = range e.of["ada"] {
	}
	if err := e.Delete(t.Context(), own); err != nil || e.all != 4 || len(e.of["ada"]) != 0 {
		t.Errorf("after one expired: %v, %d entries, %d of ada", err, e.all, len(e.of["ada"]))
	}
}

// Who lists itself says where it is, as often and at as many places as it likes.
func TestTheDirectoryKeepsFewAddressesOfAPeer(t *testing.T) {
	t.Parallel()
	all, err := pstoremem.NewPeerstore()
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	store := thrifty{all}
	at := func(i int) ma.Multiaddr { return ma.StringCast(fmt.Sprintf("/ip4/1.2.3.4/tcp/%d", i+1)) }
	for i := range 1000 {
		store.AddAddrs("ada", []ma.Multiaddr{at(i), at(0)}, time.Hour)
	}
	store.AddAddrs("bob", []ma.Multiaddr{ma.StringCast("/dns4/" + strings.Repeat("a", MaxAddrBytes) + "/tcp/1"), at(0)}, time.Hour)
	if n := len(all.Addrs("ada")); n != MaxAddrs {
		t.Errorf("%d addresses of a peer are kept, want %d", n, MaxAddrs)
	}
	if n := len(all.Addrs("bob")); n != 1 {
		t.Errorf("%d addresses of a peer are kept, one of which is too long; want 1", n)
	}
}

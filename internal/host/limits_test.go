package host

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// A small machine is a relay as well: how many it may hold does not depend on its memory.
func TestAHostHoldsTheConnectionsThatItIsMeantFor(t *testing.T) {
	for _, hub := range []bool{false, true} {
		_, most := connsOf(hub)
		limits, err := resources(hub, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer limits.Close()
		for i := range most {
			var ip [4]byte
			binary.BigEndian.PutUint32(ip[:], uint32(0x0b000000+i))
			c, err := limits.OpenConnection(network.DirInbound, false, ma.StringCast(fmt.Sprintf("/ip4/%s/udp/1/quic-v1", net.IP(ip[:]))))
			if err == nil {
				err = c.SetPeer(peer.ID(fmt.Sprintf("peer %d", i)))
			}
			if err != nil {
				t.Fatalf("relay %v: connection %d of %d: %v", hub, i+1, most, err)
			}
			defer c.Done()
			for j := range 8 { // gossip, sessions, …
				s, err := limits.OpenStream(peer.ID(fmt.Sprintf("peer %d", i)), network.DirInbound)
				if err == nil {
					err = s.SetProtocol(protocol.ID(fmt.Sprint("/test/", j)))
				}
				if err != nil {
					t.Fatalf("relay %v: a stream of peer %d of %d: %v", hub, i+1, most, err)
				}
				defer s.Done()
			}
		}
	}
}

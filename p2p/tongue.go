package p2p

import (
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// foreign says why a peer that was connected does not understand this node; "" if
// it does, or did not say yet what it speaks.
func (n *Node) foreign(p peer.ID) string {
	all, err := n.host.Peerstore().GetProtocols(p)
	if err != nil || len(all) == 0 {
		return ""
	}
	prefix := strings.TrimRight(string(protocolSync), "0123456789")
	var theirs []protocol.ID
	for _, id := range all {
		if slices.Contains(syncProtocols, id) {
			return ""
		}
		if strings.HasPrefix(string(id), prefix) {
			theirs = append(theirs, id)
		}
	}
	if len(theirs) == 0 && !n.here(p) {
		return "" // a node that is stopped takes back what it speaks before it goes
	}
	if len(theirs) == 0 {
		return "it does not speak " + string(protocolSync) + ": is it a node of Pando?"
	}
	slices.Sort(theirs)
	return "it speaks " + spoken(theirs) + ", and this node " + spoken(syncProtocols) + ": update the older of both"
}

func spoken(ids []protocol.ID) string { return strings.Join(protocol.ConvertToStrings(ids), " and ") }

package p2p

import (
	"path"
	"strconv"

	"github.com/libp2p/go-libp2p/core/protocol"
)

// The protocols of Pando in their newest version, and all versions that this node
// speaks, the newest first: two peers use the newest that both know. A version adds
// types of messages; what one has means the same in all later ones.
const (
	protocolSync  protocol.ID = "/pando/sync/3"
	protocolFetch protocol.ID = "/pando/fetch/3"
)

var (
	syncProtocols  = []protocol.ID{protocolSync, "/pando/sync/2", "/pando/sync/1"}
	fetchProtocols = []protocol.ID{protocolFetch, "/pando/fetch/2", "/pando/fetch/1"}
	watchProtocols = []protocol.ID{"/pando/watch/1"}
	tellProtocols  = []protocol.ID{protocolTell}
)

// versionOfManyHeads is from which version of fetching on a document may have thousands of
// heads: of an older peer it names so many as that reads.
const versionOfManyHeads = 3

// versionOf is the number that a protocol ends with, the newest if it has none.
func versionOf(id protocol.ID) uint64 {
	v, err := strconv.ParseUint(path.Base(string(id)), 10, 8)
	if err != nil {
		return protocolVersion
	}
	return v
}

// streamLimits are how many streams of each protocol a peer may open here, and all
// together: twice what their handlers let in, so that who is refused is told why.
func streamLimits() map[protocol.ID][2]int {
	all := map[protocol.ID][2]int{
		protocolPeers: {2 * exchangesPerPeer, 2 * maxExchanges},
	}
	for _, id := range syncProtocols {
		all[id] = [2]int{2 * sessionsPerPeer, 2 * maxSessions}
	}
	for _, id := range fetchProtocols {
		all[id] = [2]int{2 * fetchesPerPeer, 2 * maxFetches}
	}
	for _, id := range watchProtocols {
		all[id] = [2]int{2 * watchesPerPeer, 2 * maxWatches}
	}
	for _, id := range tellProtocols {
		all[id] = [2]int{2 * tellsPerPeer, 2 * maxTells}
	}
	return all
}

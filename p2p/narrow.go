package p2p

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/ident"
)

// fitting returns those of some differences that can be mended over the connection
// there is. A relay with limits lets small ones pass, once: the others wait for a
// direct connection, or one of a relay that carries members.
func (s *session) fitting(all []pair) []pair {
	if !s.w.limited {
		return all
	}
	fit := slices.DeleteFunc(slices.Clone(all), func(p pair) bool {
		own := s.n.cursors.get(s.peer, p.id)
		knows := own.seq > 0 && own.epoch == p.theirs.Epoch && p.theirs.Seq-own.seq <= limitedLog
		known := p.theirs.Cursor > 0 && p.theirs.YourEpoch == p.mine.Epoch && p.mine.Seq-p.theirs.Cursor <= limitedLog
		return s.tried[p.id] > 0 || !knows || !known
	})
	if len(fit) < len(all) {
		s.report.Narrow = true
		s.n.mu.Lock()
		if c := s.n.companions[s.peer]; c != nil {
			c.limited = true
		}
		s.n.mu.Unlock()
	}
	return fit
}

// fits reports whether the answer to a question passes a relay with limits.
func (s *service) fits(m message) bool {
	ask, ok := m.(*getLog)
	if !ok {
		return false
	}
	_, mine, err := s.collection(ask.Collection)
	return err == nil && ask.After <= mine.Seq && mine.Seq-ask.After <= limitedLog
}

var (
	tooNarrow = &refuse{Code: refusedBusy, Text: "the relay between the two lets only small differences pass", After: host.LimitedFor}
	errNarrow = fault.Unavailable.Errorf("the relay between the two lets only small differences pass, and no direct way was found: let the relay join the collection too, or listen where others get in")
)

// punchTime is how long a direct way is waited for.
const punchTime = 2 * time.Second

// uncounted says of collections that differ no more than that.
func (s *session) uncounted() {
	for _, v := range s.report.Collections {
		if !v.Equal {
			v.Differ, v.AtLeast = 1, true
		}
	}
}

// narrow reports whether there are connections, and a relay limits each.
func narrow(all []Connection) bool {
	return len(all) > 0 && !slices.ContainsFunc(all, func(c Connection) bool { return !c.Limited })
}

// introduce has a node that joins prove itself to the relays that an address goes
// through: they carry members without limit. What fails shows when they are used.
func (n *Node) introduce(ctx context.Context, to peer.AddrInfo, secrets map[dag.CollectionID]ident.Secret, only map[dag.CollectionID]bool) {
	for _, relay := range relaysOf(to.Addrs) {
		if n.admission.knows(relay.ID) || relay.ID == n.host.ID() {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		n.startAfresh(relay.ID)
		n.admission.try(relay.ID, secrets)
		err := n.connect(ctx, relay)
		if err == nil {
			_, err = n.sync(ctx, relay.ID, errand{only: only, probe: true, joining: true})
		}
		n.admission.endTrial(relay.ID, secrets)
		cancel()
		if err != nil {
			n.log.Debug("cannot introduce this node to a relay", "relay", relay.ID, "error", err)
		}
	}
}

// relaysOf returns the relays that addresses go through, and where they are.
func relaysOf(addrs []ma.Multiaddr) []peer.AddrInfo {
	var first []ma.Multiaddr
	for _, a := range addrs {
		relay, rest := ma.SplitFunc(a, func(c ma.Component) bool { return c.Protocol().Code == ma.P_CIRCUIT })
		if len(rest) == 0 || len(relay) == 0 {
			continue
		}
		if _, err := peer.AddrInfoFromP2pAddr(relay); err == nil {
			first = append(first, relay)
		}
	}
	infos, err := peer.AddrInfosFromP2pAddrs(first...)
	if err != nil {
		return nil // each was read a moment ago
	}
	return infos
}

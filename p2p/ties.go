package p2p

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/ident"
)

// How a node is reached is a matter of its host.
type (
	// Reach is how others reach a node.
	Reach = host.Reach
	// Directory is the part that a node takes in the directory of peers.
	Directory = host.Directory
	// AddrReach is an address at which the node listens, and whether others reach it.
	AddrReach = host.AddrReach
	// RelayPlace is a relay that lets others in to this node.
	RelayPlace = host.RelayPlace
	// Relaying is what a node does as a relay.
	Relaying = host.Relaying
	// Connection is one connection with a peer.
	Connection = host.Connection
	// Access says whom a node lets connect. What may be synced is another question.
	Access = host.Access
)

// Reach returns how others reach this node.
func (n *Node) Reach() Reach {
	r := n.host.Reach()
	if r.Directory != nil {
		r.Directory.Listed = n.listings.len()
	}
	return r
}

// ties are what the host, gossip and rooms ask of peers and collections, and what gossip
// tells.
type ties struct{ n *Node }

func (t ties) Named(p peer.ID) bool  { return t.n.named(p) }
func (t ties) Member(p peer.ID) bool { return t.n.admission.knows(p) }
func (t ties) Banned(p peer.ID) bool { return t.n.isBanned(p) }

func (t ties) Peers() []peer.ID {
	var all []peer.ID
	for _, c := range t.n.connected() {
		all = append(all, c.id)
	}
	return all
}

func (t ties) Locked(p peer.ID) bool              { return t.n.host.Locked(p) }
func (t ties) Standing(p peer.ID) float64         { return t.n.standing(p) }
func (t ties) Scored(seen map[peer.ID]float64)    { t.n.scores.inspect(seen) }
func (t ties) Lost(p peer.ID, topics []string)    { t.n.announcer.lost(p, topics) }
func (t ties) Grafted(p peer.ID, topic string)    { t.n.announcer.grafted(p, topic) }
func (t ties) Follows(p peer.ID, topics []string) { t.n.rooms.Follows(p, topics) }
func (t ties) Moved(p peer.ID, id dag.CollectionID, received, sent int) {
	tally := t.n.traffic.ledger.of(p, id)
	if received > 0 {
		tally.got(received)
	}
	if sent > 0 {
		tally.gave(sent)
	}
}

func (t ties) Collection(name string) (dag.CollectionID, error) {
	c, err := t.n.db.Collection(name)
	if err != nil {
		return dag.CollectionID{}, err
	}
	if _, ok := t.n.admission.secret(c.ID); !ok { // of this second
		err = t.n.noticeCollections()
	}
	return c.ID, err
}

func (t ties) Names() map[dag.CollectionID]string {
	names := map[dag.CollectionID]string{}
	for _, c := range t.n.db.Collections() {
		names[c.ID] = c.Name
	}
	return names
}

func (t ties) Secrets() (map[dag.CollectionID][]ident.Secret, <-chan struct{}) {
	ring, changed := t.n.admission.keys()
	return ring.secrets, changed
}

func (t ties) Sharing(id dag.CollectionID) []peer.ID { return t.n.sharers(id) }

// listed returns the peers that the operator allowed (true) or denied.
func (n notes) listed() (map[peer.ID]bool, error) {
	found := map[peer.ID]bool{}
	err := n.each(noteAccess, func(key string, r *cbor.Reader) error {
		found[peer.ID(key)] = r.Bool()
		return nil
	})
	return found, err
}

func (n notes) putListed(on map[peer.ID]bool, off []peer.ID) error {
	m := map[string][]byte{}
	for p, allowed := range on {
		m[noteAccess+string(p)] = cbor.AppendBool(nil, allowed)
	}
	for _, p := range off {
		m[noteAccess+string(p)] = nil
	}
	return n.put(m)
}

// nearby connects to a peer that announced itself in the local network. It is not trusted
// for that: it has to prove what it shares.
func (n *Node) nearby(ctx context.Context, p peer.AddrInfo) {
	if _, err := n.companion(p.ID); err == nil || n.isBanned(p.ID) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := n.connect(ctx, p); err != nil {
		n.log.Debug("peer found nearby cannot be reached", "peer", p.ID, "error", err)
	}
}

package p2p

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/radix"
)

// hello describes to a peer the collections of the set, or all whose secrets this
// node knows, also those that it has yet to get.
func (n *Node) hello(ctx context.Context, p peer.ID, ps *proofs, set map[dag.CollectionID]bool) (*hello, error) {
	h := &hello{Clock: uint64(max(time.Now().UnixMilli(), 0)), Epoch: n.epoch(), Entries: []entry{}}
	rand.Read(h.Nonce[:])
	// Read before the roots: they hold at least what the feed has up to here.
	h.Seq = n.db.Seq()
	for _, id := range ps.ring.ids {
		if set != nil && !set[id] {
			continue
		}
		if len(h.Entries) == maxCollections {
			n.log.Warn("too many collections to sync: the rest is left out", "limit", maxCollections)
			break
		}
		e := entry{Proof: ps.mine[id]}
		sum, err := n.replica.Summary(ctx, id)
		switch {
		case errors.Is(err, fault.NotFound):
		case err != nil:
			return nil, err
		default:
			e.Count, e.Schema = sum.Documents, n.print(ctx, id)
			copy(e.Root[:], sum.Root[:])
		}
		if c := n.cursors.get(p, id); c.seq > 0 {
			if h.YourEpoch == (epoch{}) {
				h.YourEpoch = c.epoch
			}
			if c.epoch == h.YourEpoch {
				e.Cursor = c.seq
			}
		}
		h.Entries = append(h.Entries, e)
	}
	return h, nil
}

func (n *Node) epoch() (e epoch) {
	full := n.replica.Epoch()
	copy(e[:], full[:])
	return e
}

// print identifies the schema versions that this node has of a collection.
func (n *Node) print(ctx context.Context, id dag.CollectionID) (f fingerprint) {
	versions, err := n.replica.Schema(ctx, id)
	if err != nil {
		return f // as if unknown: the peer will send what it has
	}
	h := sha256.New()
	for _, v := range versions {
		h.Write(v)
	}
	copy(f[:], h.Sum(nil))
	return f
}

// schema returns the versions of a collection, none if it is unknown.
func (n *Node) schema(ctx context.Context, id dag.CollectionID) ([][]byte, error) {
	versions, err := n.replica.Schema(ctx, id)
	if errors.Is(err, fault.NotFound) {
		return nil, nil
	}
	return versions[:min(len(versions), maxVersions)], err
}

// addSchema adds what a peer sent. A definition that cannot be added is refused
// by itself; the others are not to suffer for it.
func (n *Node) addSchema(ctx context.Context, from peer.ID, versions [][]byte) error {
	err := n.replica.AddSchema(ctx, versions)
	if err == nil {
		return n.noticeCollections()
	}
	for _, v := range versions {
		if err := n.replica.AddSchema(ctx, [][]byte{v}); err != nil {
			n.log.Warn("a peer's collection cannot be added", "peer", from, "error", err)
		}
	}
	return n.noticeCollections()
}

// noticeCollections makes a secret for each collection that has none, and sees to
// it that those that are new are followed.
func (n *Node) noticeCollections() error {
	var ids []dag.CollectionID
	for _, c := range n.db.Collections() {
		ids = append(ids, c.ID)
	}
	if int64(len(ids)) != n.noticed.Swap(int64(len(ids))) {
		select {
		case n.grew <- struct{}{}:
		default: // it is known already
		}
	}
	fresh, err := n.admission.ensure(ids)
	if fresh {
		n.log.Debug("new collections are ready to be shared", "collections", len(ids))
	}
	return err
}

// schemaEvery is how often the node looks for collections that were added.
const schemaEvery = time.Second

// watchSchema notices new collections and new secrets, which come in any order,
// follows what both are known of, and tells the peers.
func (n *Node) watchSchema(ctx context.Context) {
	_, changed := n.admission.keys()
	n.gossip.follow() // what changed since it was started
	for {
		t := time.NewTimer(schemaEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
			if err := n.noticeCollections(); err != nil && ctx.Err() == nil {
				n.log.Warn("cannot share new collections yet", "error", err)
			}
		case <-n.grew:
			n.followAndTell()
		case <-changed:
			_, changed = n.admission.keys()
			n.followAndTell()
		}
		t.Stop()
	}
}

func (n *Node) followAndTell() {
	n.gossip.follow()
	for _, c := range n.connected() {
		c.next.set(repairDelay)
	}
}

// offersFor returns the collections to give to a peer that the operator named:
// all that are not common yet.
func (n *Node) offersFor(ctx context.Context, p peer.ID, common map[dag.CollectionID]bool) ([]offer, error) {
	if !n.trusted(p) {
		return nil, nil
	}
	ring, _ := n.admission.keys()
	var out []offer
	size := 0
	for _, id := range ring.ids {
		if common[id] {
			continue
		}
		versions, err := n.schema(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, v := range versions {
			size += len(v) + 8
		}
		if size += 64; len(versions) == 0 || size > maxFrame/2 || len(out) == maxOffers {
			continue // the rest follows when these are common
		}
		out = append(out, offer{id, ring.secrets[id], versions})
	}
	return out, nil
}

// adoptOffers takes collections and their secrets from a peer that the operator
// named, and reports whether anything changed.
func (n *Node) adoptOffers(ctx context.Context, p peer.ID, offers []offer) bool {
	if len(offers) == 0 || !n.trusted(p) {
		return false
	}
	var versions [][]byte
	secrets := map[dag.CollectionID]secret{}
	for _, o := range offers {
		if !n.has(o.Collection) {
			versions = append(versions, o.Versions...)
		}
		secrets[o.Collection] = o.Secret
	}
	if len(versions) > 0 {
		if err := n.addSchema(ctx, p, versions); err != nil {
			n.log.Warn("collections of a peer cannot be added", "peer", p, "error", err)
		}
	}
	for id := range secrets {
		if !n.has(id) { // refused, or not what it was said to be
			delete(secrets, id)
		}
	}
	changed, err := n.admission.adopt(secrets)
	if err != nil {
		n.log.Warn("join secrets cannot be stored", "error", err)
	}
	return changed
}

// has reports whether the collection exists here.
func (n *Node) has(id dag.CollectionID) bool {
	return slices.ContainsFunc(n.db.Collections(), func(c *pando.Collection) bool { return c.ID == id })
}

// side is this node's side of a walk over one collection.
func (n *Node) side(id dag.CollectionID) local { return side{n.replica, id} }

type side struct {
	replica *pando.Replica
	id      dag.CollectionID
}

func (s side) Node(ctx context.Context, p radix.Prefix) (radix.Node, bool, error) {
	return s.replica.Node(ctx, s.id, p)
}

func (s side) Elements(ctx context.Context, p radix.Prefix) iter.Seq2[radix.Element, error] {
	return s.replica.Elements(ctx, s.id, p)
}

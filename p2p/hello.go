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
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/radix"
	"github.com/pandodb/pando/internal/schema"
)

// greeting is a HELLO of this node, and what its entries say.
type greeting struct {
	hello
	ring  *keyring
	ids   []dag.CollectionID // of the entries
	cards map[dag.CollectionID]card
	seq   uint64 // of this node's feed, before the roots were taken
}

// greeting describes collections to a peer, under the given secrets. ahead, if not
// nil, says of which the card tells how far this node is in the peer's feed.
func (n *Node) greeting(ctx context.Context, p peer.ID, ps *proofs, claims []claim, version uint64, ahead func(dag.CollectionID) bool) (*greeting, error) {
	g := &greeting{seq: n.db.Seq(), hello: hello{Entries: []entry{}}, ring: ps.ring, cards: map[dag.CollectionID]card{}}
	rand.Read(g.Nonce[:])
	for _, c := range claims {
		if len(g.Entries) == maxCollections {
			n.log.Warn("too many collections to sync: the rest is left out", "limit", maxCollections)
			break
		}
		own, ok := g.cards[c.id]
		if !ok {
			var err error
			if own, err = n.card(ctx, p, c.id); err != nil {
				return nil, err
			}
			own.Lacks = own.Lacks && version >= versionOfParts // others take it for a part of the clock
			if ahead != nil && !ahead(c.id) {
				own.YourEpoch, own.Cursor = epoch{}, 0
			}
			g.cards[c.id] = own
		}
		e := entry{ps.mine[c], own.plain()}
		e.Card.veil(c.secret, n.host.ID(), p, c.id, g.Nonce)
		g.Entries, g.ids = append(g.Entries, e), append(g.ids, c.id)
	}
	return g, nil
}

// opening is the HELLO that opens a session: all collections whose secrets this
// node knows, also those that it has yet to get. Their number is rounded up, since
// the peer may turn out to be a stranger. The cursor stands in the card of those
// collections of which something may be sent ahead.
func (n *Node) opening(ctx context.Context, p peer.ID, ps *proofs, version uint64, ahead func(dag.CollectionID) bool) (*greeting, error) {
	var claims, more []claim
	for _, id := range ps.ids {
		if n.hides(id, version) {
			continue
		}
		for i, s := range n.admission.shows(p, id, ps) {
			if i == 0 {
				claims = append(claims, claim{id, s})
			} else {
				more = append(more, claim{id, s})
			}
		}
	}
	g, err := n.greeting(ctx, p, ps, append(claims, more...), version, ahead)
	if err != nil {
		return nil, err
	}
	for k := len(g.Entries); k&(k-1) != 0 && k < maxCollections; k++ {
		// The same for the same peer at all times, as a true proof is.
		blank := entry{Proof: prove(n.admission.blank, n.host.ID(), p, dag.CollectionID{byte(k), byte(k >> 8)})}
		rand.Read(blank.Card[:])
		g.Entries = append(g.Entries, blank)
	}
	return g, nil
}

// card tells how this node stands with a collection.
func (n *Node) card(ctx context.Context, p peer.ID, id dag.CollectionID) (card, error) {
	to := n.reader(p, id)
	if _, member := n.admission.member(p, id); !to.all && !member {
		return n.unsaid(ctx, id), nil
	}
	// The number is read before the root, which holds at least what the feed has up
	// to there.
	c := card{Epoch: n.epoch(), Seq: n.db.Seq(), Clock: n.clock()}
	sum, err := n.cardSummary(ctx, to)
	if e := n.replica.Settle(ctx); e != nil { // a root is a promise to hold what it stands for
		return c, e
	}
	switch {
	case err != nil && !errors.Is(err, fault.NotFound):
		return c, err
	case n.partial(id): // of which part there is how much is said by SCOPE
		c.Count, c.Schema = partCount, n.print(ctx, id)
		return c, nil
	case err != nil:
	default:
		c.Count, c.Schema = sum.Documents, n.print(ctx, id)
		c.Lacks = n.replica.Incomplete(id)
		copy(c.Root[:], sum.Root[:])
	}
	if at := n.cursors.get(p, id); at.seq > 0 {
		c.YourEpoch, c.Cursor = at.epoch, at.seq
	}
	return c, nil
}

// cardSummary says how this node stands with what a peer sees of a collection. Of a part
// SCOPE tells that.
func (n *Node) cardSummary(ctx context.Context, to *reader) (pando.Summary, error) {
	if n.partial(to.id) {
		return n.replica.Summary(ctx, to.id)
	}
	if !to.all && !n.parts.has(to) {
		n.quotas.spend(to.peer, lookups, n.passLookups(ctx, to.id), time.Now())
	}
	return to.summary(ctx)
}

// lifted takes the veil off the card of an entry of a peer's HELLO.
func (n *Node) lifted(p peer.ID, e entry, c claim, made nonce) card {
	e.Card.veil(c.secret, p, n.host.ID(), c.id, made)
	lifted := e.Card.read()
	n.noteKeeper(p, c.id, lifted.ofPart())
	return lifted
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
	n.adopting.Lock()
	defer n.adopting.Unlock()
	if err := n.addVersions(ctx, from, versions); err != nil {
		return err
	}
	return n.notice()
}

// addVersions is addSchema for who holds n.adopting, and sees to the secrets himself.
func (n *Node) addVersions(ctx context.Context, from peer.ID, versions [][]byte) error {
	if known := len(n.db.Collections()); known+len(n.unknown(versions)) > maxCollections {
		return fault.TooLarge.Errorf("collections of peer %s: there are %d here, and more than %d are not taken from others", from, known, maxCollections)
	}
	for id := range n.unknown(versions) {
		if err := n.replica.Joined(id, from.String()); err != nil {
			return err
		}
	}
	if n.replica.AddSchema(ctx, versions) == nil {
		return nil
	}
	for _, v := range versions {
		if err := n.replica.AddSchema(ctx, [][]byte{v}); err != nil {
			n.log.Warn("a peer's collection cannot be added", "peer", from, "error", err)
		}
	}
	return nil
}

// unknown returns the collections among the versions that are not here.
func (n *Node) unknown(versions [][]byte) map[dag.CollectionID]bool {
	ids := map[dag.CollectionID]bool{}
	for _, v := range versions {
		if c, err := schema.Decode(v); err == nil && !n.has(c.ID) {
			ids[c.ID] = true
		}
	}
	return ids
}

// checkSchema requires versions to be of the collection that they came for: a
// member of one may add no others.
func checkSchema(id dag.CollectionID, versions [][]byte) error {
	for _, v := range versions {
		c, err := schema.Decode(v)
		if err != nil {
			continue // perhaps it is of a newer version: it is refused when it is added
		}
		if c.ID != id {
			return breach("schema of collection %s came as that of collection %s", c.ID, id)
		}
	}
	return nil
}

// noticeCollections makes a secret for each collection that has none, and sees to
// it that those that are new are followed.
func (n *Node) noticeCollections() error {
	n.adopting.Lock()
	defer n.adopting.Unlock()
	return n.notice()
}

// notice is noticeCollections for who holds n.adopting.
func (n *Node) notice() error {
	var ids []dag.CollectionID
	for _, c := range n.db.Collections() {
		ids = append(ids, c.ID)
	}
	if versions := int64(len(n.db.Versions())); versions != n.noticed.Swap(versions) {
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
	n.announcer.follow() // what changed since it was started
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
	n.announcer.follow()
	for _, c := range n.connected() {
		c.next.Set(repairDelay)
	}
}

// gifts are what to give to a peer, and what follows if it takes them.
type gifts struct {
	offers []offer
	keeps  []keepOffer
	ring   *keyring           // that they are of
	whole  []dag.CollectionID // common, and then the peer was given all their secrets
}

// giftsFor returns what to give to a peer that has proved some secrets: the others
// of the same collections, and the other collections that the operator named it for.
// Of some, it may be meant to keep a part, as is said before by KEEP: these are left
// out where that cannot be said.
func (n *Node) giftsFor(ctx context.Context, p peer.ID, ring *keyring, common map[dag.CollectionID][]ident.Secret, parts bool, version uint64) (gifts, error) {
	g, size := gifts{ring: ring}, 0
	for _, id := range ring.ids {
		var versions [][]byte
		if len(common[id]) > 0 {
			if s, ok := n.admission.member(p, id); ok && s.settled == ring {
				continue
			}
		} else if meant, ok := n.grants(p, id); !ok || !meant.Whole && !parts || n.hides(id, version) {
			continue
		} else {
			var err error
			if versions, err = n.schema(ctx, id); err != nil {
				return gifts{}, err
			}
			if len(versions) == 0 {
				continue
			}
			if !meant.Whole {
				size += len(appendScope(nil, meant)) + 64
				g.keeps = append(g.keeps, keepOffer{id, meant})
			}
		}
		for _, v := range versions {
			size += len(v) + 8
		}
		all := true
		for _, s := range ring.secrets[id] {
			if slices.Contains(common[id], s) {
				continue
			}
			if size += 64; size > maxFrame/2 || len(g.offers) == maxOffers {
				all = false // the rest follows when these are common
				break
			}
			g.offers = append(g.offers, offer{id, s, versions})
			versions = nil
		}
		if all && len(common[id]) > 0 {
			g.whole = append(g.whole, id)
		}
	}
	return g, nil
}

// adoptOffers takes secrets from a peer, and reports whether anything changed: of
// collections that it proved to share and, as far as the operator named it, of
// others, with the collections. Of a collection that was not here it keeps the part
// that the peer said, if it said one.
func (n *Node) adoptOffers(ctx context.Context, p peer.ID, offers []offer, parts map[dag.CollectionID]Scope) bool {
	secrets := map[bool][]claim{} // by whether the peer is trusted with the collection
	var versions [][]byte
	for _, o := range offers {
		trusted := n.trusted(p, o.Collection)
		if _, ok := n.admission.member(p, o.Collection); !ok && !trusted {
			continue
		}
		if trusted && !n.has(o.Collection) {
			if err := checkSchema(o.Collection, o.Versions); err != nil {
				n.log.Warn("a peer offers a collection as another", "peer", p, "error", err)
				continue
			}
			n.noteClashes(p, o.Versions)
			if err := n.keepFirst(o.Collection, parts); err != nil {
				n.log.Warn("what to keep of a collection cannot be stored: it is not taken", "peer", p, "error", err)
				continue
			}
			versions = append(versions, o.Versions...)
		}
		secrets[trusted] = append(secrets[trusted], claim{o.Collection, o.Secret})
	}
	// The collections and their secrets are taken together: one that is without a secret
	// for a moment would get one of this node's own, and soon have too many.
	n.adopting.Lock()
	defer n.adopting.Unlock()
	if len(versions) > 0 {
		if err := n.addVersions(ctx, p, versions); err != nil {
			n.log.Warn("collections of a peer cannot be added", "peer", p, "error", err)
		}
	}
	changed := false
	for trusted, most := range map[bool]int{true: maxSecrets, false: maxHandedOn} {
		// Without those of collections that were refused.
		kept := slices.DeleteFunc(secrets[trusted], func(c claim) bool { return !n.has(c.id) })
		news, err := n.admission.adopt(kept, most)
		if err != nil {
			n.log.Warn("join secrets cannot be stored", "error", err)
		}
		changed = changed || news
	}
	if err := n.notice(); err != nil {
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

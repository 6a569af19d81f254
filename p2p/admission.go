package p2p

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
)

// What the secret of a collection is used for. Each use hashes a label of its
// own, so that no value of one serves in another.
const (
	labelJoin    = "pando/join/1"    // proof of admission
	labelCard    = "pando/card/1"    // what hides the rest of a HELLO
	labelBlank   = "pando/blank/1"   // what fills a HELLO up
	labelTopic   = "pando/topic/1"   // name of the gossip topic
	labelGossip  = "pando/gossip/1"  // key that seals gossip
	labelHot     = "pando/hot/1"     // name of the topic of a document
	labelHotKey  = "pando/hotkey/1"  // key that seals what is said there
	labelTold    = "pando/told/1"    // what stands for a peer that was told: no use of the secret
	labelListing = "pando/listing/1" // key in the directory of peers
)

// keyring is an immutable snapshot of the secrets: older and newer ones live in
// the same process.
//
// A collection may have several secrets, each of which admits: nodes that made one
// each, or got theirs from different tickets, go on understanding each other. The
// bytewise smallest is the one in use, for new tickets and for what is announced.
type keyring struct {
	secrets map[dag.CollectionID][]ident.Secret // sorted, not empty
	ids     []dag.CollectionID                  // sorted
}

// claim is a secret of a collection.
type claim struct {
	id     dag.CollectionID
	secret ident.Secret
}

// admission decides who may sync what. A peer is admitted to a collection if it
// proves to know a secret of it; peers that the operator named are given them.
type admission struct {
	self  peer.ID
	notes notes
	rand  io.Reader
	blank ident.Secret // of this node alone: for entries that only fill a HELLO up

	mu      sync.Mutex // guards what follows
	ring    *keyring
	changed chan struct{} // closed when ring is replaced
	proofs  map[peer.ID]*proofs
	trials  map[peer.ID]map[dag.CollectionID]ident.Secret
	members map[peer.ID]map[dag.CollectionID]shown
}

// proofs are what this node and one peer show each other.
type proofs struct {
	ring    *keyring // that they were computed from, with the secrets on trial
	secrets map[dag.CollectionID][]ident.Secret
	ids     []dag.CollectionID // sorted
	mine    map[claim]proof
	theirs  map[proof]claim
}

// shown is what a connected peer proved.
type shown struct {
	secret  ident.Secret
	settled *keyring // the peer took the secrets of it that it lacked
}

func newAdmission(self peer.ID, n notes, random io.Reader) (*admission, error) {
	if random == nil {
		random = rand.Reader
	}
	secrets, err := n.secrets()
	if err != nil {
		return nil, err
	}
	return &admission{self: self, notes: n, rand: random, ring: newKeyring(secrets),
		changed: make(chan struct{}), proofs: map[peer.ID]*proofs{},
		trials: map[peer.ID]map[dag.CollectionID]ident.Secret{}, members: map[peer.ID]map[dag.CollectionID]shown{}}, nil
}

// ownSecret follows from the identity of a host.
func ownSecret(h host.Host) (s ident.Secret, err error) {
	private := h.Peerstore().PrivKey(h.ID())
	if private == nil {
		return s, fault.Invalid.Errorf("the host has no private key")
	}
	raw, err := private.Raw()
	sum := sha256.Sum256(append([]byte(labelBlank), raw...))
	copy(s[:], sum[:])
	return s, err
}

func newKeyring(secrets map[dag.CollectionID][]ident.Secret) *keyring {
	return &keyring{secrets, slices.SortedFunc(maps.Keys(secrets), dag.CollectionID.Compare)}
}

// keys returns the secrets of now, and a channel that is closed when they change.
func (a *admission) keys() (*keyring, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ring, a.changed
}

// secret returns the secret of a collection that is in use, if there is one.
func (a *admission) secret(id dag.CollectionID) (ident.Secret, bool) {
	ring, _ := a.keys()
	if all := ring.secrets[id]; len(all) > 0 {
		return all[0], true
	}
	return ident.Secret{}, false
}

// ensure makes a secret for every collection that has none, and reports whether
// that was needed.
func (a *admission) ensure(ids []dag.CollectionID) (bool, error) {
	var fresh []claim
	ring, _ := a.keys()
	for _, id := range ids {
		if _, ok := ring.secrets[id]; ok {
			continue
		}
		var s ident.Secret
		if _, err := io.ReadFull(a.rand, s[:]); err != nil {
			return false, fault.Unavailable.Errorf("make a join secret: %w", err)
		}
		fresh = append(fresh, claim{id, s})
	}
	return a.adopt(fresh, maxSecrets)
}

// adopt accepts secrets beside those that are known, durably, up to so many of one
// collection. None is ever pushed out: whoever could do that could cut off
// everybody who holds the old one.
func (a *admission) adopt(fresh []claim, most int) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := maps.Clone(a.ring.secrets)
	news := map[dag.CollectionID][]ident.Secret{}
	for _, c := range fresh {
		old := next[c.id]
		if slices.Contains(old, c.secret) || c.secret == (ident.Secret{}) {
			continue // of zeros anybody thinks
		}
		if len(old) >= most {
			if most < maxSecrets || bytes.Compare(c.secret[:], old[0][:]) > 0 {
				continue
			}
			// The smallest is the one in use: it finds a place everywhere, or those who have
			// no place for each other's secrets would have none in common.
			old = old[:most-1]
		}
		all := append(slices.Clone(old), c.secret)
		slices.SortFunc(all, func(a, b ident.Secret) int { return bytes.Compare(a[:], b[:]) })
		next[c.id], news[c.id] = all, all
	}
	if len(news) == 0 {
		return false, nil
	}
	if err := a.notes.putSecrets(news); err != nil {
		return false, err
	}
	a.ring = newKeyring(next)
	close(a.changed)
	a.changed = make(chan struct{})
	return true, nil
}

// try shows secrets to one peer that are not accepted yet, those of a ticket: they
// are when the peer proves them too. A ticket to nowhere changes nothing.
func (a *admission) try(p peer.ID, secrets map[dag.CollectionID]ident.Secret) {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := maps.Clone(a.trials[p])
	if all == nil {
		all = map[dag.CollectionID]ident.Secret{}
	}
	maps.Copy(all, secrets)
	a.trials[p] = all
	delete(a.proofs, p)
}

// endTrial takes back what try showed and the peer did not prove.
func (a *admission) endTrial(p peer.ID, secrets map[dag.CollectionID]ident.Secret) {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := maps.Clone(a.trials[p])
	maps.DeleteFunc(all, func(id dag.CollectionID, s ident.Secret) bool { return secrets[id] == s })
	if a.trials[p] = all; len(all) == 0 {
		delete(a.trials, p)
	}
	delete(a.proofs, p)
}

// with returns the proofs between this node and a peer.
func (a *admission) with(p peer.ID) *proofs {
	a.mu.Lock()
	defer a.mu.Unlock()
	ps := a.proofs[p]
	if ps != nil && ps.ring == a.ring {
		return ps
	}
	ps = &proofs{ring: a.ring, secrets: a.ring.secrets, ids: a.ring.ids, mine: map[claim]proof{}, theirs: map[proof]claim{}}
	if trial := a.trials[p]; trial != nil {
		ps.secrets = maps.Clone(ps.secrets)
		for id, s := range trial {
			if !slices.Contains(ps.secrets[id], s) {
				ps.secrets[id] = append([]ident.Secret{s}, ps.secrets[id]...)
			}
		}
		ps.ids = slices.SortedFunc(maps.Keys(ps.secrets), dag.CollectionID.Compare)
	}
	for id, all := range ps.secrets {
		for _, s := range all {
			c := claim{id, s}
			ps.mine[c] = prove(s, a.self, p, id)
			ps.theirs[prove(s, p, a.self, id)] = c
		}
	}
	a.proofs[p] = ps
	return ps
}

// proved notes that a connected peer proved to know a secret. One that was on
// trial is accepted by that.
func (a *admission) proved(p peer.ID, c claim) error {
	a.mu.Lock()
	onTrial := a.trials[p] != nil && a.trials[p][c.id] == c.secret
	a.mu.Unlock()
	if onTrial {
		if _, err := a.adopt([]claim{c}, maxSecrets); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if onTrial && !slices.Contains(a.ring.secrets[c.id], c.secret) {
		return fault.TooLarge.Errorf("collection %s has %d secrets here already: share it from this node instead", c.id, maxSecrets)
	}
	if a.members[p] == nil {
		a.members[p] = map[dag.CollectionID]shown{}
	}
	s := a.members[p][c.id]
	s.secret = c.secret
	a.members[p][c.id] = s
	return nil
}

// settle notes that a peer took what it was given: from then on one proof is enough,
// and nothing is offered until the secrets here change. That it was sent is not enough:
// a stream may break, and the peer would never hear of these secrets again.
func (a *admission) settle(p peer.ID, g gifts) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range g.whole {
		if s, ok := a.members[p][id]; ok {
			s.settled = g.ring
			a.members[p][id] = s
		}
	}
}

// member returns the secret by which a connected peer proved to share a
// collection. What somebody else says about the collection's documents is not
// listened to, and nothing about them is said to it.
func (a *admission) member(p peer.ID, id dag.CollectionID) (s shown, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok = a.members[p][id]
	return s, ok
}

// knows reports whether a connected peer proved to share anything.
func (a *admission) knows(p peer.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.members[p]) > 0
}

// shows returns the secrets to prove to a peer for a collection: all, until the
// peer is known to have them too.
func (a *admission) shows(p peer.ID, id dag.CollectionID, ps *proofs) []ident.Secret {
	if s, ok := a.member(p, id); ok && s.settled == ps.ring {
		return []ident.Secret{s.secret}
	}
	return ps.secrets[id]
}

// forget drops what was computed for, and shown by, a peer that left.
func (a *admission) forget(p peer.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.proofs, p)
	delete(a.members, p)
}

// keepOnly forgets all peers but some.
func (a *admission) keepOnly(here func(peer.ID) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.proofs, func(p peer.ID, _ *proofs) bool { return !here(p) })
	maps.DeleteFunc(a.members, func(p peer.ID, _ map[dag.CollectionID]shown) bool { return !here(p) })
}

// admits returns the collection that a proof of a peer is for.
func (a *admission) admits(p peer.ID, given proof) (claim, bool) {
	// A lookup by a value that only the secret's holder can compute tells, by its
	// timing, nothing that helps to compute it.
	c, ok := a.with(p).theirs[given]
	return c, ok
}

// prove computes what from shows to to. The connection has authenticated both
// peer IDs, so the proof is worth nothing in the hands of anybody else, and needs
// no nonce. Who does not know the secret learns nothing, not even which
// collection it is about.
func prove(s ident.Secret, from, to peer.ID, id dag.CollectionID) proof {
	return proof(s.Derive(labelJoin, []byte(from), []byte(to), id[:])[:len(proof{})])
}

// veil hides a card from whoever does not know the secret, and takes the veil off
// again: by a pad that is used once, since the nonce is new with every HELLO. The
// connection sees to it that nobody changes the card on the way.
func (c *sealedCard) veil(s ident.Secret, from, to peer.ID, id dag.CollectionID, n nonce) {
	var pad []byte
	for i := byte(1); len(pad) < len(c); i++ {
		pad = append(pad, s.Derive(labelCard, []byte{i}, []byte(from), []byte(to), id[:], n[:])...)
	}
	for i := range c {
		c[i] ^= pad[i]
	}
}

// topicName is where commits of a collection are announced. It is as blind as
// the proofs.
func topicName(s ident.Secret, id dag.CollectionID) string {
	return "/pando/1/" + ticketText.EncodeToString(s.Derive(labelTopic, id[:])) + "/0"
}

// shardName is that of one of 2^bits topics. Who does not know the secret does not
// see that they belong together.
func shardName(s ident.Secret, id dag.CollectionID, bits, shard int) string {
	if bits == 0 {
		return topicName(s, id)
	}
	return "/pando/1/" + ticketText.EncodeToString(s.Derive(labelTopic, id[:], []byte{byte(bits), byte(shard)})) + "/0"
}

// gossipKey seals what is announced.
func gossipKey(s ident.Secret, id dag.CollectionID) []byte { return s.Derive(labelGossip, id[:]) }

package p2p

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// What the secret of a collection is used for. Each use hashes a label of its
// own, so that no value of one serves in another.
const (
	labelJoin   = "pando/join/1"   // proof of admission
	labelTopic  = "pando/topic/1"  // name of the gossip topic
	labelGossip = "pando/gossip/1" // key that seals gossip
)

// Secrets older or newer than a change of them live in the same process: a
// keyring is an immutable snapshot.
type keyring struct {
	secrets map[dag.CollectionID]secret
	ids     []dag.CollectionID // sorted
}

// admission decides who may sync what. A peer is admitted to a collection if it
// proves to know the collection's secret; peers that the operator named are
// given the secrets.
type admission struct {
	self  peer.ID
	notes notes
	rand  io.Reader

	mu      sync.Mutex // guards what follows
	ring    *keyring
	changed chan struct{} // closed when ring is replaced
	proofs  map[peer.ID]*proofs
}

// proofs are what this node and one peer show each other.
type proofs struct {
	ring   *keyring // that they were computed from
	mine   map[dag.CollectionID]proof
	own    map[proof]dag.CollectionID // the same as mine
	theirs map[proof]dag.CollectionID
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
		changed: make(chan struct{}), proofs: map[peer.ID]*proofs{}}, nil
}

func newKeyring(secrets map[dag.CollectionID]secret) *keyring {
	return &keyring{secrets, slices.SortedFunc(maps.Keys(secrets), dag.CollectionID.Compare)}
}

// keys returns the secrets of now, and a channel that is closed when they change.
func (a *admission) keys() (*keyring, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ring, a.changed
}

// secret returns the secret of a collection, if there is one.
func (a *admission) secret(id dag.CollectionID) (secret, bool) {
	ring, _ := a.keys()
	s, ok := ring.secrets[id]
	return s, ok
}

// ensure makes a secret for every collection that has none, and reports whether
// that was needed.
func (a *admission) ensure(ids []dag.CollectionID) (bool, error) {
	fresh := map[dag.CollectionID]secret{}
	ring, _ := a.keys()
	for _, id := range ids {
		if _, ok := ring.secrets[id]; ok {
			continue
		}
		var s secret
		if _, err := io.ReadFull(a.rand, s[:]); err != nil {
			return false, fault.Unavailable.Errorf("make a join secret: %w", err)
		}
		fresh[id] = s
	}
	return a.adopt(fresh)
}

// adopt takes over secrets, durably. Where another is known already, the
// bytewise smaller stays: two nodes that made one each end with the same.
func (a *admission) adopt(fresh map[dag.CollectionID]secret) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := maps.Clone(a.ring.secrets)
	news := map[dag.CollectionID]secret{}
	for id, s := range fresh {
		if old, ok := next[id]; !ok || bytes.Compare(s[:], old[:]) < 0 {
			next[id], news[id] = s, s
		}
	}
	if len(news) == 0 {
		return false, nil
	}
	if err := a.install(next, news); err != nil {
		return false, err
	}
	return true, nil
}

// replace takes over secrets of a ticket, whatever was known before: its holder
// asked to be where the others are.
func (a *admission) replace(fresh map[dag.CollectionID]secret) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := maps.Clone(a.ring.secrets)
	maps.Copy(next, fresh)
	if maps.Equal(next, a.ring.secrets) {
		return nil
	}
	return a.install(next, fresh)
}

// install makes secrets durable and then valid. a.mu is held.
func (a *admission) install(next, news map[dag.CollectionID]secret) error {
	if err := a.notes.putSecrets(news); err != nil {
		return err
	}
	a.ring = newKeyring(next)
	close(a.changed)
	a.changed = make(chan struct{})
	return nil
}

// with returns the proofs between this node and a peer.
func (a *admission) with(p peer.ID) *proofs {
	a.mu.Lock()
	defer a.mu.Unlock()
	ps := a.proofs[p]
	if ps == nil || ps.ring != a.ring {
		ps = &proofs{a.ring, map[dag.CollectionID]proof{}, map[proof]dag.CollectionID{}, map[proof]dag.CollectionID{}}
		for _, id := range a.ring.ids {
			s := a.ring.secrets[id]
			ps.mine[id] = prove(s, a.self, p, id)
			ps.own[ps.mine[id]] = id
			ps.theirs[prove(s, p, a.self, id)] = id
		}
		a.proofs[p] = ps
	}
	return ps
}

// forget drops what was computed for a peer that left.
func (a *admission) forget(p peer.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.proofs, p)
}

// admits returns the collection that a proof of a peer is for.
func (a *admission) admits(p peer.ID, shown proof) (dag.CollectionID, bool) {
	// A lookup by a value that only the secret's holder can compute tells, by its
	// timing, nothing that helps to compute it.
	id, ok := a.with(p).theirs[shown]
	return id, ok
}

// prove computes what from shows to to. The connection has authenticated both
// peer IDs, so the proof is worth nothing in the hands of anybody else, and needs
// no nonce. Who does not know the secret learns nothing, not even which
// collection it is about.
func prove(s secret, from, to peer.ID, id dag.CollectionID) proof {
	return proof(keyed(s, labelJoin, []byte(from), []byte(to), id[:])[:len(proof{})])
}

// keyed is HMAC-SHA256 under the secret over a label and parts. The lengths of
// the parts are fixed by the label, or written before them.
func keyed(s secret, label string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, s[:])
	h.Write([]byte(label))
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// topicName is where commits of a collection are announced. It is as blind as
// the proofs.
func topicName(s secret, id dag.CollectionID) string {
	return "/pando/1/" + ticketText.EncodeToString(keyed(s, labelTopic, id[:])) + "/0"
}

// gossipKey seals what is announced.
func gossipKey(s secret, id dag.CollectionID) []byte { return keyed(s, labelGossip, id[:]) }

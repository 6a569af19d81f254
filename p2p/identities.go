package p2p

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/host"
	"github.com/pandodb/pando/internal/ident"
)

// A peer is whose key its connection has proved, and acts for those who said so in
// certificates, which it shows to members before it greets.

// versionOfAccess is the first version of the protocol that shows certificates. Peers
// of older ones get nothing of collections with a policy.
const versionOfAccess = 3

// show carries the certificates of its sender: all that it has now. They hold for the
// connection, until the next. One that is blind wants nothing but what is sealed.
type show struct {
	Blind        bool
	Certificates [][]byte
}

func (m *show) append(b []byte) []byte {
	b = cbor.AppendArray(cbor.AppendBool(begin(b, msgShow), m.Blind), len(m.Certificates))
	for _, c := range m.Certificates {
		b = cbor.AppendBytes(b, c)
	}
	return b
}

func readShow(r *cbor.Reader) message {
	m := &show{Blind: r.Bool()}
	for n := list(r, "certificates", maxCertificates); n > 0 && r.Err() == nil; n-- {
		c := r.Bytes()
		if len(c) > ident.MaxCertificateSize {
			r.Fail(fault.TooLarge.Errorf("a certificate of %d bytes, allowed are %d", len(c), ident.MaxCertificateSize))
		}
		m.Certificates = append(m.Certificates, c)
	}
	return m
}

// identities are whom this node and its peers act for.
type identities struct {
	self ident.PublicKey

	mu  sync.Mutex // guards what follows
	own show       // of this node; whether it is blind does not change
	any bool       // there is something to show, or was
	of  map[peer.ID]acting
}

// acting is what a peer has shown.
type acting struct {
	blind        bool
	certificates []ident.Certificate
}

func newIdentities(self peer.ID) (*identities, error) {
	k := host.KeyOf(self)
	if k == "" {
		return nil, fault.Invalid.Errorf("peer %s: its key is none of Ed25519", self)
	}
	return &identities{self: k, of: map[peer.ID]acting{}}, nil
}

// set replaces the certificates of this node, and reports whether they are others.
func (i *identities) set(certificates [][]byte, now time.Time) (bool, error) {
	if len(certificates) > maxCertificates {
		return false, fault.TooLarge.Errorf("%d certificates, a node can have %d", len(certificates), maxCertificates)
	}
	for _, b := range certificates {
		c, err := ident.OpenCertificate(b)
		if err != nil {
			return false, err
		}
		if err := c.Valid(i.self, now); err != nil {
			return false, err
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if slices.EqualFunc(i.own.Certificates, certificates, bytes.Equal) {
		return false, nil
	}
	i.own.Certificates = nil
	for _, b := range certificates {
		i.own.Certificates = append(i.own.Certificates, bytes.Clone(b))
	}
	i.any = true
	return true, nil
}

// setBlind makes this node tell its peers that it is.
func (i *identities) setBlind() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.own.Blind = true
	i.any = true
}

// mine returns what this node shows, nil if it never had anything to show. It is shown in
// every session: a peer that lost its memory may be back over a connection that this
// side never missed.
func (i *identities) mine() *show {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.any {
		return nil
	}
	own := i.own
	return &own
}

// take keeps what a peer showed, and reports whether that is news. What is no
// certificate of this peer is a breach. One that does not hold now may do so later.
func (i *identities) take(p peer.ID, m *show) (bool, error) {
	key := host.KeyOf(p)
	all := acting{blind: m.Blind}
	for _, b := range m.Certificates {
		c, err := ident.OpenCertificate(b)
		if err != nil {
			return false, breach("%w", err)
		}
		if c.Peer != key {
			return false, breach("a certificate of another peer, %s", c.Peer)
		}
		all.certificates = append(all.certificates, c)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if old := i.of[p]; old.blind == all.blind && slices.Equal(old.certificates, all.certificates) {
		return false, nil
	}
	i.of[p] = all
	return true, nil
}

// acting returns for whom a peer acts, beside itself, and until when.
func (i *identities) acting(p peer.ID, now time.Time) map[ident.PublicKey]time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	acts := map[ident.PublicKey]time.Time{}
	for _, c := range i.of[p].certificates {
		if c.Valid(c.Peer, now) == nil && acts[c.Owner].Before(c.NotAfter) {
			acts[c.Owner] = c.NotAfter
		}
	}
	return acts
}

// blind reports whether a peer wants nothing but what is sealed.
func (i *identities) blind(p peer.ID) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.of[p].blind
}

// keys returns all identities of a peer.
func (i *identities) keys(p peer.ID, now time.Time) []ident.PublicKey {
	keys := slices.Collect(maps.Keys(i.acting(p, now)))
	if own := host.KeyOf(p); own != "" {
		keys = append(keys, own)
	}
	return keys
}

// ownKeys returns all identities of this node.
func (i *identities) ownKeys(now time.Time) []ident.PublicKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	keys := []ident.PublicKey{i.self}
	for _, b := range i.own.Certificates {
		if c, err := ident.OpenCertificate(b); err == nil && c.Valid(i.self, now) == nil {
			keys = append(keys, c.Owner)
		}
	}
	return keys
}

// forget drops what a peer that left has shown.
func (i *identities) forget(p peer.ID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.of, p)
}

// keepOnly forgets all peers but some.
func (i *identities) keepOnly(here func(peer.ID) bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	maps.DeleteFunc(i.of, func(p peer.ID, _ acting) bool { return !here(p) })
}

// Act replaces the certificates by which this node acts for identities: it reads what
// they may read. Peers are shown them soon.
func (n *Node) Act(certificates ...[]byte) error {
	changed, err := n.identities.set(certificates, n.replica.Now())
	if err != nil || !changed {
		return err
	}
	for _, c := range n.connected() {
		c.next.Set(0)
	}
	return nil
}

// Key returns the identity of this node itself: what certificates name as the peer.
func (n *Node) Key() ident.PublicKey { return n.identities.self }

package p2p

import (
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/fault"
)

// hubs are the peers that this node gives sealed documents, to keep them for others:
// who may not read something otherwise never gets it, and can pass it on to nobody.
type hubs struct {
	notes notes

	mu  sync.Mutex // guards all
	all map[peer.ID]bool
}

// maxHubs bounds the peers that the operator names: people write them.
const maxHubs = 256

func newHubs(n notes) (*hubs, error) {
	h := &hubs{notes: n, all: map[peer.ID]bool{}}
	return h, n.each(noteHub, func(key string, r *cbor.Reader) error {
		h.all[peer.ID(key)] = r.Bool()
		return nil
	})
}

func (h *hubs) has(p peer.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all[p]
}

// AddHub names a peer, by peer id, address or did:key, that is given sealed documents
// to keep them for others, in collections that it is admitted to. What is not encrypted
// as a whole it gets only if it may read it.
func (n *Node) AddHub(name string) error {
	p, err := parseID(name)
	if err != nil {
		return err
	}
	if p == n.host.ID() {
		return errSelf(p)
	}
	h := n.hubs
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) >= maxHubs && !h.all[p] {
		return fault.TooLarge.Errorf("hubs: there are %d already: remove one", maxHubs)
	}
	if err := h.notes.put(map[string][]byte{noteHub + string(p): cbor.AppendBool(nil, true)}); err != nil {
		return err
	}
	h.all[p] = true
	n.compareSoon(p)
	return nil
}

// RemoveHub takes back what AddHub said. What the peer was given by then it keeps.
func (n *Node) RemoveHub(name string) error {
	p, err := parseID(name)
	if err != nil {
		return err
	}
	h := n.hubs
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.all[p] {
		return fault.NotFound.Errorf("peer %s is no hub of this node", p)
	}
	if err := h.notes.put(map[string][]byte{noteHub + string(p): nil}); err != nil {
		return err
	}
	delete(h.all, p)
	return nil
}

// Hubs returns the peers that this node gives sealed documents to, sorted.
func (n *Node) Hubs() []string {
	h := n.hubs
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for p := range h.all {
		all = append(all, p.String())
	}
	slices.Sort(all)
	return all
}

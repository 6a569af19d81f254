package p2p

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
)

// Whether the author of a commit may write can depend on commits of a group, another
// document, which need not be here yet. The peer that gave the commit has judged it, so
// it has the group; whether it may give it is another question. What still waits then is
// wanted, and asked for again as soon as the group changes here.

// awaits are the commits that wait for groups.
type awaits struct {
	slots *rescues

	mu      sync.Mutex // guards what follows
	getting map[sharing]bool
	groups  map[dag.DocID]map[wantKey]bool // whose documents wait for the group
	number  int                            // of the keys in them
}

// maxAwaits bounds what is remembered to hurry when a group comes; the rest is asked for
// in its time.
const maxAwaits = 1 << 14

func newAwaits(n *Node) *awaits {
	return &awaits{slots: newRescues(n), getting: map[sharing]bool{}, groups: map[dag.DocID]map[wantKey]bool{}}
}

// note remembers which documents wait for which groups.
func (a *awaits) note(id dag.CollectionID, all []pando.Await) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range all {
		for _, g := range w.Groups {
			if a.number >= maxAwaits {
				return
			}
			if a.groups[g] == nil {
				a.groups[g] = map[wantKey]bool{}
			}
			if k := (wantKey{id, w.Doc}); !a.groups[g][k] {
				a.groups[g][k] = true
				a.number++
			}
		}
	}
}

// changed returns what waited for a document that changed here.
func (a *awaits) changed(doc dag.DocID) (keys []wantKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.groups[doc] {
		keys = append(keys, k)
	}
	a.number -= len(keys)
	delete(a.groups, doc)
	return keys
}

// byDocument returns which groups each document waits for, sorted.
func (a *awaits) byDocument() map[wantKey][]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[wantKey][]string{}
	for g, keys := range a.groups {
		for k := range keys {
			all[k] = append(all[k], g.String())
		}
	}
	for _, groups := range all {
		slices.Sort(groups)
	}
	return all
}

// groupWanted says which document of a collection waits for which groups, and what to do; ""
// if none is known to.
func (n *Node) groupWanted(collection string) string {
	for _, w := range n.Wants(MaxWants) {
		if w.CollectionID == collection && len(w.Groups) > 0 {
			return fmt.Sprintf("document %s waits for group %s, which cannot be read here, or not yet: whoever owns the group can let you read it, by pando acl grant", w.Doc, strings.Join(w.Groups, " or "))
		}
	}
	return ""
}

// begin reports whether nobody gets groups for a copy yet; end is for who began.
func (a *awaits) begin(s sharing) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.getting[s] {
		return false
	}
	a.getting[s] = true
	return true
}

func (a *awaits) end(s sharing) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.getting, s)
}

// awaited gets the groups that commits of a peer wait for, and then those commits.
func (n *Node) awaited(from peer.ID, id dag.CollectionID, all []pando.Await) {
	if len(all) == 0 {
		return
	}
	n.awaits.note(id, all)
	docs, groups := map[dag.DocID][]dag.CID{}, map[dag.DocID]bool{}
	for _, w := range all {
		docs[w.Doc] = append(docs[w.Doc], w.Commit)
		for _, g := range w.Groups {
			groups[g] = true
		}
	}
	s := sharing{from, id}
	if _, member := n.admission.member(from, id); !member || !n.awaits.begin(s) {
		n.wantMissing(from, id, docs)
		return
	}
	done, ok := n.awaits.slots.begin(from)
	started := ok && n.spawn(func(ctx context.Context) {
		defer done()
		defer n.awaits.end(s)
		ctx = inLane(ctx, live)
		news, err := n.fetchGroups(ctx, from, groups)
		if err != nil {
			n.log.Debug("groups that commits name did not come", "peer", from, "error", err)
		}
		if news > 0 {
			docs = n.fetchAnnounced(ctx, from, id, docs)
		}
		n.wantMissing(from, id, docs)
	})
	if !started {
		if n.awaits.end(s); ok {
			done()
		}
		n.wantMissing(from, id, docs)
	}
}

// fetchGroups asks a peer for what is new of some documents, in all collections that
// they can be of, and returns how many commits came.
func (n *Node) fetchGroups(ctx context.Context, p peer.ID, groups map[dag.DocID]bool) (applied int, err error) {
	var docs []dag.DocID
	for g := range groups {
		if docs = append(docs, g); len(docs) == maxItems {
			break
		}
	}
	for _, c := range n.db.Collections() {
		if _, member := n.admission.member(p, c.ID); !member || !n.protected(c.ID) {
			continue
		}
		items, err := n.itemsFor(ctx, p, c.ID, docs)
		if err != nil {
			return applied, err
		}
		for _, some := range split(items) {
			got, err := n.fetch(ctx, p, c.ID, some, nil)
			n.wantMissing(p, c.ID, got.Missing)
			if applied += got.Applied; err != nil {
				return applied, err
			}
		}
	}
	return applied, nil
}

// hurry asks soon for documents that something has changed for.
func (w *wants) hurry(keys []wantKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range keys {
		if v := w.open[k]; v != nil && !v.asking {
			v.next = v.next.Add(-retryMost)
			w.alarm.Set(0)
		}
	}
}

package p2p

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// wants are the documents known to be incomplete. They survive restarts and are
// asked for until they come, from one peer after another.
type wants struct {
	notes notes
	alarm alarm

	mu   sync.Mutex // guards open
	open map[wantKey]*want
}

type wantKey struct {
	collection dag.CollectionID
	doc        dag.DocID
}

type want struct {
	commits []dag.CID
	tries   int
	first   time.Time
	next    time.Time
	from    peer.ID // asked last, or who told of the commits
}

func newWants(n notes) (*wants, error) {
	w := &wants{notes: n, alarm: newAlarm(), open: map[wantKey]*want{}}
	err := n.each(noteWant, func(key string, r *cbor.Reader) error {
		if len(key) != 64 {
			return fault.Corrupt.Errorf("its key is not a collection and a document")
		}
		tuple(r, 3)
		k := wantKey{dag.CollectionID([]byte(key[:32])), dag.DocID([]byte(key[32:]))}
		v := &want{tries: int(r.Uint()), first: time.UnixMilli(int64(r.Uint())), commits: readCIDs(r)}
		w.open[k] = v
		return nil
	})
	w.alarm.set(retryFirst)
	return w, err
}

func (k wantKey) note() string { return noteWant + string(k.collection[:]) + string(k.doc[:]) }

func (v *want) encode() []byte {
	b := cbor.AppendUint(cbor.AppendArray(nil, 3), uint64(v.tries))
	b = cbor.AppendUint(b, uint64(max(v.first.UnixMilli(), 0)))
	return appendCIDs(b, v.commits)
}

// add notes commits to get. It reports false if there are too many wants; then
// comparing trees has to find the document again.
func (w *wants) add(id dag.CollectionID, doc dag.DocID, commits []dag.CID, from peer.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := wantKey{id, doc}
	v := w.open[k]
	if v == nil {
		if len(w.open) >= maxWants {
			return false
		}
		now := time.Now()
		v = &want{first: now, next: now.Add(jitter(retryFirst, 0.5)), from: from}
		w.open[k] = v
	}
	for _, c := range commits {
		if !slices.Contains(v.commits, c) && len(v.commits) < maxHeads {
			v.commits = append(v.commits, c)
		}
	}
	w.alarm.set(time.Until(v.next))
	// A want that could not be stored is kept in memory, and its loss would be
	// made up for by comparing trees.
	return w.notes.put(map[string][]byte{k.note(): v.encode()}) == nil
}

// size returns how many wants there are, and how many are stuck.
func (w *wants) size() (open, stuck int) {
	if w == nil {
		return 0, 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.open {
		if time.Since(v.first) > stuckAfter {
			stuck++
		}
	}
	return len(w.open), stuck
}

// due returns the wants whose time has come, and in how long the next is.
func (w *wants) due(now time.Time) (due []wantKey, next time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, v := range w.open {
		if left := v.next.Sub(now); left <= 0 {
			due = append(due, k)
		} else if next == 0 || left < next {
			next = left
		}
	}
	slices.SortFunc(due, func(a, b wantKey) int {
		return bytes.Compare(append(a.collection[:], a.doc[:]...), append(b.collection[:], b.doc[:]...))
	})
	return due, next
}

// fetchWants asks for what is wanted.
func (n *Node) fetchWants(ctx context.Context) {
	for n.wants.alarm.wait(ctx) {
		due, next := n.wants.due(time.Now())
		for _, k := range due {
			n.tryWant(ctx, k)
			if ctx.Err() != nil {
				return
			}
		}
		if len(due) > 0 {
			_, next = n.wants.due(time.Now())
		}
		if next > 0 {
			n.wants.alarm.set(next)
		}
	}
}

// tryWant asks one peer, the next in turn, for what one document lacks.
func (n *Node) tryWant(ctx context.Context, k wantKey) {
	n.wants.mu.Lock()
	v := n.wants.open[k]
	commits, from := slices.Clone(v.commits), v.from
	n.wants.mu.Unlock()
	left, err := n.lacking(ctx, commits)
	if err == nil && len(left) > 0 {
		if p, ok := n.nextPeer(k.collection, from); ok {
			from = p
			if err = n.fetchCommits(ctx, p, k.collection, map[dag.DocID][]dag.CID{k.doc: left}); err == nil {
				left, err = n.lacking(ctx, left)
			}
		}
	}
	if err != nil {
		n.log.Debug("a wanted document did not come", "document", k.doc, "error", err)
	}
	n.wants.tried(k, left, from)
}

// tried notes how an attempt ended.
func (w *wants) tried(k wantKey, left []dag.CID, from peer.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.open[k]
	v.from = from
	if len(left) == 0 {
		delete(w.open, k)
		w.notes.put(map[string][]byte{k.note(): nil}) // one that stays behind is found done after a restart
		return
	}
	v.tries++
	v.commits = left
	v.next = time.Now().Add(backoff(v.tries))
	w.alarm.set(time.Until(v.next))
}

// lacking returns the commits that are not here.
func (n *Node) lacking(ctx context.Context, commits []dag.CID) ([]dag.CID, error) {
	var left []dag.CID
	for _, c := range commits {
		_, err := n.replica.Block(ctx, c)
		if errors.Is(err, fault.NotFound) {
			left = append(left, c)
		} else if err != nil {
			return commits, err
		}
	}
	return left, nil
}

// nextPeer returns the connected peer after another that shares the collection.
func (n *Node) nextPeer(id dag.CollectionID, after peer.ID) (peer.ID, bool) {
	var sharing []peer.ID
	n.mu.Lock()
	for p, c := range n.companions {
		if c.last != nil && c.last.Collections[id] != nil || p == after {
			sharing = append(sharing, p)
		}
	}
	n.mu.Unlock()
	if len(sharing) == 0 {
		return "", false
	}
	slices.Sort(sharing)
	for _, p := range sharing {
		if p > after {
			return p, true
		}
	}
	return sharing[0], true
}

// fetchCommits fetches commits of documents, with what lies between them and what
// is here.
func (n *Node) fetchCommits(ctx context.Context, p peer.ID, id dag.CollectionID, commits map[dag.DocID][]dag.CID) error {
	var docs []dag.DocID
	for doc := range commits {
		docs = append(docs, doc)
	}
	slices.SortFunc(docs, dag.DocID.Compare)
	for some := range slices.Chunk(docs, maxItems) {
		items, err := n.itemsFor(ctx, id, some)
		if err != nil {
			return err
		}
		for i := range items {
			list := commits[some[i]]
			items[i].Want = list[:min(len(list), maxHeads)]
		}
		for _, part := range split(items) {
			if _, err := n.fetch(ctx, p, id, part, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

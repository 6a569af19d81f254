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
	"github.com/pandodb/pando/internal/pace"
)

// wants are the documents known to be incomplete. They survive restarts and are
// asked for until they come, from one peer after another.
type wants struct {
	notes notes
	alarm pace.Alarm

	writing sync.Mutex // held while notes are written, so that none overtakes a newer one

	mu    sync.Mutex // guards what follows
	open  map[wantKey]*want
	dirty map[wantKey]bool // not in the notes as it is here
	held  map[peer.ID]int  // commits that are wanted because a peer told of their document first
}

type wantKey struct {
	collection dag.CollectionID
	doc        dag.DocID
}

type want struct {
	commits []dag.CID
	tries   int
	first   time.Time
	added   time.Time // when the newest of the commits was
	next    time.Time
	early   time.Time // by the clock on the wall: before, what it waits for cannot be applied; zero: it can
	by      peer.ID   // who told of the document first; "" after a restart
	told    peer.ID   // who told of the commits last; "" after a restart
	asked   peer.ID   // asked last
	asking  bool
}

// hopelessAfter is after how many tries a want is given up if the peer that told of
// it turns out to have nothing more than this node. Before, the peer may be
// fetching itself.
const hopelessAfter = 3

// earlyLook is how often it is looked whether the time of what came too early has come:
// clocks are set right without telling.
const earlyLook = time.Minute

// wantsExpire is when a want is given up that nobody could fulfil, after having
// been counted as stuck for days. Comparing trees finds the document if it exists.
const wantsExpire = 7 * 24 * time.Hour

func newWants(n notes) (*wants, error) {
	w := &wants{notes: n, alarm: pace.NewAlarm(), open: map[wantKey]*want{}, dirty: map[wantKey]bool{}, held: map[peer.ID]int{}}
	err := n.each(noteWant, func(key string, r *cbor.Reader) error {
		if len(key) != 64 {
			return fault.Corrupt.Errorf("its key is not a collection and a document")
		}
		tuple(r, 3)
		k := wantKey{dag.CollectionID([]byte(key[:32])), dag.DocID([]byte(key[32:]))}
		v := &want{tries: int(r.Uint()), first: time.UnixMilli(int64(r.Uint())), commits: readCIDs(r, maxHeads)}
		w.open[k] = v
		return nil
	})
	w.alarm.Set(retryFirst)
	return w, err
}

func (k wantKey) note() string { return noteWant + string(k.collection[:]) + string(k.doc[:]) }

func (v *want) encode() []byte {
	b := cbor.AppendUint(cbor.AppendArray(nil, 3), uint64(v.tries))
	b = cbor.AppendUint(b, uint64(max(v.first.UnixMilli(), 0)))
	return appendCIDs(b, v.commits)
}

// add notes commits to get, and returns how many documents there was no room for;
// comparing trees has to find those again.
func (w *wants) add(id dag.CollectionID, missing map[dag.DocID][]dag.CID, told peer.ID) (lost int) {
	w.mu.Lock()
	now := time.Now()
	next := now.Add(pace.Jitter(retryFirst, 0.5)) // for all alike, so that they are asked for together
	for doc, commits := range missing {
		k := wantKey{id, doc}
		v := w.open[k]
		if v == nil {
			if len(w.open) >= maxWants || w.full(told) {
				lost++
				continue
			}
			v = &want{first: now, next: next, by: told, asked: told}
			w.open[k] = v
		}
		for _, c := range commits {
			// The others are found with those that are kept, or by comparing trees.
			if !slices.Contains(v.commits, c) && len(v.commits) < maxHeads && !w.full(v.by) {
				v.commits = append(v.commits, c)
				v.early = time.Time{} // of this one nothing is known
				w.held[v.by]++
			}
		}
		v.told, v.added = told, now
		w.dirty[k] = true
		w.alarm.Set(time.Until(v.next))
	}
	w.mu.Unlock()
	w.store()
	return lost
}

// giveUp forgets a want. w.mu is held.
func (w *wants) giveUp(k wantKey) {
	v := w.open[k]
	w.let(v.by, len(v.commits))
	delete(w.open, k)
	w.dirty[k] = true
}

// full reports whether enough is wanted because of one peer. Those of before a restart
// are of nobody known. w.mu is held.
func (w *wants) full(by peer.ID) bool { return by != "" && w.held[by] >= maxWantedOfPeer }

// let notes that so many commits are not wanted any more. w.mu is held.
func (w *wants) let(by peer.ID, commits int) {
	if w.held[by] -= commits; w.held[by] <= 0 {
		delete(w.held, by)
	}
}

// store makes the wants of now durable. One that cannot be stored is kept in
// memory, and its loss would be made up for by comparing trees; one that stays
// behind is found done after a restart.
func (w *wants) store() {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.mu.Lock()
	m := map[string][]byte{}
	for k := range w.dirty {
		m[k.note()] = nil
		if v := w.open[k]; v != nil {
			m[k.note()] = v.encode()
		}
	}
	clear(w.dirty)
	w.mu.Unlock()
	w.notes.put(m)
}

// drop gives up the wants of a collection that a peer told of, or nobody known, and
// that were tried some times: since a moment after they were added, the peer is
// known to have nothing that this node has not.
func (w *wants) drop(id dag.CollectionID, p peer.ID, since time.Time) {
	w.mu.Lock()
	for k, v := range w.open {
		if k.collection == id && (v.told == p || v.told == "") && v.tries >= hopelessAfter && v.added.Before(since) {
			w.giveUp(k)
		}
	}
	changed := len(w.dirty) > 0
	w.mu.Unlock()
	if changed {
		w.store()
	}
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

// due returns the wants whose time has come, and in how long the next is. Those
// that are too old it gives up, and counts.
func (w *wants) due(now time.Time) (due []wantKey, next time.Duration, expired int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, v := range w.open {
		switch left := v.next.Sub(now); {
		case v.asking:
		case now.Sub(v.first) > wantsExpire:
			w.giveUp(k)
			expired++
		case left <= 0:
			due = append(due, k)
		case next == 0 || left < next:
			next = left
		}
	}
	slices.SortFunc(due, func(a, b wantKey) int {
		return bytes.Compare(append(a.collection[:], a.doc[:]...), append(b.collection[:], b.doc[:]...))
	})
	return due, next, expired
}

// fetchWants asks for what is wanted. A peer that does not answer holds up nobody
// but what it is asked for.
func (n *Node) fetchWants(ctx context.Context) {
	slots := newRescues(n)
	for n.wants.alarm.Wait(ctx) {
		due, next, expired := n.wants.due(time.Now())
		if expired > 0 {
			n.count.ExpiredWants.Add(uint64(expired))
			n.log.Warn("documents stay incomplete: nobody had what they refer to", "documents", expired, "for", wantsExpire)
		}
		for q, docs := range n.questions(due) {
			done, ok := slots.begin(q.peer)
			if !ok {
				n.wants.putOff(q.collection, docs)
				continue
			}
			if !n.spawn(func(ctx context.Context) { defer done(); n.tryWants(ctx, q, docs) }) {
				return
			}
		}
		if next > 0 {
			n.wants.alarm.Set(next)
		}
	}
}

// putOff asks for documents again a little later, for whom there was no place now.
func (w *wants) putOff(id dag.CollectionID, docs map[dag.DocID][]dag.CID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := time.Now().Add(pace.Jitter(retryFirst, 0.5))
	for doc := range docs {
		if v := w.open[wantKey{id, doc}]; v != nil {
			v.asking, v.next = false, next
		}
	}
	w.alarm.Set(time.Until(next))
}

// questions decides whom to ask for what: for each document the next peer in turn.
func (n *Node) questions(due []wantKey) map[sharing]map[dag.DocID][]dag.CID {
	n.wants.mu.Lock()
	defer n.wants.mu.Unlock()
	out := map[sharing]map[dag.DocID][]dag.CID{}
	for _, k := range due {
		v := n.wants.open[k]
		if v == nil {
			continue // given up meanwhile
		}
		choose := n.nextGood
		if v.tries%onceInAWhile == onceInAWhile-1 {
			choose = n.nextPeer
		}
		p, _ := choose(k.collection, v.asked) // none: what came by other ways is noticed
		if n.protected(k.collection) {
			p = n.nextReader(k, v, p, choose)
		}
		q := sharing{p, k.collection}
		if out[q] == nil {
			out[q] = map[dag.DocID][]dag.CID{}
		}
		out[q][k.doc] = slices.Clone(v.commits)
		v.asking = true
	}
	return out
}

// nextReader returns the first of the peers in turn, from p on, that may hear of a
// document: one that told of it, or that may read it. n.wants.mu is held.
func (n *Node) nextReader(k wantKey, v *want, p peer.ID, choose func(dag.CollectionID, peer.ID) (peer.ID, bool)) peer.ID {
	for first := p; p != ""; {
		if p == v.told || p == v.by {
			return p
		}
		if may, err := n.reader(p, k.collection).may(n.ctx, k.doc); may && err == nil {
			return p
		}
		if p, _ = choose(k.collection, p); p == first {
			return ""
		}
	}
	return ""
}

// tryWants asks one peer for what some documents lack.
func (n *Node) tryWants(ctx context.Context, q sharing, asked map[dag.DocID][]dag.CID) {
	left := n.leftOf(ctx, asked)
	ripe := n.wants.ripe(q.collection, left, n.later.now())
	if q.peer != "" && len(ripe) > 0 && n.stores(false) == nil {
		err := n.fetchCommits(ctx, q.peer, q.collection, ripe)
		if err != nil {
			n.log.Debug("wanted documents did not come", "peer", q.peer, "documents", len(ripe), "error", err)
		}
		before := len(left)
		if left = n.leftOf(ctx, left); len(left) < before {
			n.spread(q.peer)
		}
	}
	n.wants.tried(q, asked, left)
	n.wants.notBefore(q, left, n.later)
}

// leftOf returns what is not here of the commits of some documents.
func (n *Node) leftOf(ctx context.Context, commits map[dag.DocID][]dag.CID) map[dag.DocID][]dag.CID {
	left := map[dag.DocID][]dag.CID{}
	for doc, cids := range commits {
		if cids, _ := n.lacking(ctx, cids); len(cids) > 0 {
			left[doc] = cids
		}
	}
	return left
}

// tried notes how an attempt ended. Commits that were added during it stay.
func (w *wants) tried(q sharing, asked, left map[dag.DocID][]dag.CID) {
	w.mu.Lock()
	now := time.Now()
	delays := map[int]time.Duration{} // by tries: what was asked for together stays so
	for doc, commits := range asked {
		k := wantKey{q.collection, doc}
		v := w.open[k]
		if v == nil {
			continue // given up meanwhile
		}
		v.asking = false
		before := len(v.commits)
		v.commits = slices.DeleteFunc(v.commits, func(c dag.CID) bool {
			return slices.Contains(commits, c) && !slices.Contains(left[doc], c)
		})
		if len(v.commits) != before {
			w.let(v.by, before-len(v.commits))
			w.dirty[k] = true
		}
		if len(v.commits) == 0 {
			w.giveUp(k)
			continue
		}
		if q.peer != "" {
			v.asked = q.peer
		}
		v.tries++
		if delays[v.tries] == 0 {
			delays[v.tries] = pace.Backoff(v.tries)
		}
		v.next = now.Add(delays[v.tries])
		w.alarm.Set(time.Until(v.next))
	}
	changed := len(w.dirty) > 0
	w.mu.Unlock()
	if changed {
		w.store()
	}
}

// ripe returns those of some documents whose time has come.
func (w *wants) ripe(id dag.CollectionID, docs map[dag.DocID][]dag.CID, now time.Time) map[dag.DocID][]dag.CID {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[dag.DocID][]dag.CID{}
	for doc, commits := range docs {
		if v := w.open[wantKey{id, doc}]; v != nil && !now.Before(v.early) {
			out[doc] = commits
		}
	}
	return out
}

// notBefore puts off what came and cannot be applied yet. It is looked for all the same,
// now and then, since it may come by other ways once its time has come.
func (w *wants) notBefore(q sharing, left map[dag.DocID][]dag.CID, l *later) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for doc := range left {
		v := w.open[wantKey{q.collection, doc}]
		if v == nil {
			continue
		}
		if due := l.until(q, doc); !due.IsZero() {
			v.early = due
		}
		if next := time.Now().Add(min(v.early.Sub(l.now()), earlyLook)); next.After(v.next) {
			v.next = next
		}
	}
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

// sharers returns the connected peers that proved to share the collection, in order.
func (n *Node) sharers(id dag.CollectionID) []peer.ID {
	var all []peer.ID
	n.mu.Lock()
	for p := range n.companions {
		if _, ok := n.admission.member(p, id); ok {
			all = append(all, p)
		}
	}
	n.mu.Unlock()
	slices.Sort(all)
	return all
}

// nextPeer returns the connected peer after another that proved to share the
// collection.
func (n *Node) nextPeer(id dag.CollectionID, after peer.ID) (peer.ID, bool) {
	sharing := n.sharers(id)
	if len(sharing) == 0 {
		return "", false
	}
	return following(sharing, after), true
}

// fetchCommits fetches commits of documents, with what lies between them and what
// is here.
func (n *Node) fetchCommits(ctx context.Context, p peer.ID, id dag.CollectionID, commits map[dag.DocID][]dag.CID) error {
	var docs []dag.DocID
	for doc, cids := range commits {
		docs = append(docs, doc)
		n.markAt(time.Now(), cids, Asked, "", p)
	}
	slices.SortFunc(docs, dag.DocID.Compare)
	for some := range slices.Chunk(docs, maxItems) {
		items, err := n.itemsFor(ctx, p, id, some)
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

package p2p

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/pace"
)

// inbox holds what was announced until it is merged: by document, so that a
// document that changes all the time takes one place, and newer commits push out
// older ones. Bounded in documents and bytes; what does not fit is lost here and
// found by comparing roots.
type inbox struct {
	filled chan struct{}

	mu    sync.Mutex // guards what follows
	docs  map[wantKey]*letter
	bytes int
}

// letter is what was announced of one document.
type letter struct {
	from    peer.ID // who told last
	commits []told  // in the order of arrival
	bytes   int     // of their envelopes
	heads   []head  // of commits that came, or were pushed out, without payload
}

type head struct {
	commit dag.CID
	height uint64
}

// What a letter and a head in it take besides, about.
const (
	letterBytes = 192
	headBytes   = 48
)

func newInbox() *inbox {
	return &inbox{filled: make(chan struct{}, 1), docs: map[wantKey]*letter{}}
}

// put adds announced commits and returns how many documents were lost.
func (b *inbox) put(id dag.CollectionID, from peer.ID, all []told) (lost int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range all {
		k := wantKey{id, t.commit.Doc}
		l := b.docs[k]
		if l == nil {
			if len(b.docs) >= inboxDocuments || b.bytes+letterBytes+max(len(t.envelope), headBytes) > inboxBytes {
				lost++
				continue
			}
			l = &letter{}
			b.docs[k] = l
			b.bytes += letterBytes
		}
		l.from = from
		if !b.add(l, t) {
			lost++
		}
	}
	if len(b.docs) > 0 {
		select {
		case b.filled <- struct{}{}:
		default:
		}
	}
	return lost
}

// add reports false if something did not fit.
func (b *inbox) add(l *letter, t told) bool {
	size := len(t.envelope)
	if t.envelope == nil {
		return b.keepHead(l, t.commit)
	}
	fits := true
	if l.bytes+size > inboxPerDoc || b.bytes+size > inboxBytes {
		// The newer replace the older, whose payloads are fetched instead: they are
		// ancestors, mostly, of what is kept.
		b.bytes -= l.bytes
		for _, old := range l.commits {
			fits = b.keepHead(l, old.commit) && fits
		}
		l.commits, l.bytes = nil, 0
		if b.bytes+size > inboxBytes {
			return b.keepHead(l, t.commit) && fits
		}
	}
	l.commits = append(l.commits, t)
	l.bytes += size
	b.bytes += size
	return fits
}

// keepHead notes a commit to be fetched, in place of its parents. If there are too
// many, the highest stay, and it reports false.
func (b *inbox) keepHead(l *letter, c *dag.Commit) bool {
	before := len(l.heads)
	l.heads = slices.DeleteFunc(l.heads, func(h head) bool { return slices.Contains(c.Parents, h.commit) })
	b.bytes -= headBytes * (before - len(l.heads))
	next := head{c.CID, c.Height}
	if slices.Contains(l.heads, next) {
		return true
	}
	if len(l.heads) < maxHeads && b.bytes+headBytes <= inboxBytes {
		l.heads = append(l.heads, next)
		b.bytes += headBytes
		return true
	}
	for i, h := range l.heads {
		if h.height < next.height {
			l.heads[i], next = next, h // in the end, next is the lowest
		}
	}
	return false
}

// take empties the inbox.
func (b *inbox) take() map[wantKey]*letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	docs := b.docs
	b.docs, b.bytes = map[wantKey]*letter{}, 0
	return docs
}

// takeIn merges what the inbox holds, again and again.
func (n *Node) takeIn(ctx context.Context) {
	slots := newRescues(n)
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.announcer.inbox.filled:
		}
		byCollection := map[dag.CollectionID]map[dag.DocID]*letter{}
		for k, l := range n.announcer.inbox.take() {
			if byCollection[k.collection] == nil {
				byCollection[k.collection] = map[dag.DocID]*letter{}
			}
			byCollection[k.collection][k.doc] = l
		}
		for id, letters := range byCollection {
			n.mergeLetters(ctx, id, letters, slots)
		}
	}
}

// mergeLetters merges announced commits and fetches what they refer to.
func (n *Node) mergeLetters(ctx context.Context, id dag.CollectionID, letters map[dag.DocID]*letter, slots *rescues) {
	var all []told
	from := map[dag.DocID]peer.ID{}
	missing := map[peer.ID]map[dag.DocID][]dag.CID{}
	lacks := func(doc dag.DocID, cids []dag.CID) {
		p := from[doc]
		if missing[p] == nil {
			missing[p] = map[dag.DocID][]dag.CID{}
		}
		missing[p][doc] = append(missing[p][doc], cids...)
	}
	for doc, l := range letters {
		from[doc] = l.from
		all = append(all, l.commits...)
		var heads []dag.CID
		for _, h := range l.heads {
			heads = append(heads, h.commit)
		}
		if heads, err := n.lacking(ctx, heads); err == nil && len(heads) > 0 {
			lacks(doc, heads)
		}
	}
	// Parents before children; documents in a fixed order.
	slices.SortStableFunc(all, func(a, b told) int {
		if c := bytes.Compare(a.commit.Doc[:], b.commit.Doc[:]); c != 0 {
			return c
		}
		return int(int64(a.commit.Height) - int64(b.commit.Height))
	})
	for part := range slices.Chunk(all, mergeCommits) {
		for doc, cids := range n.mergeTold(ctx, id, part, from) {
			lacks(doc, cids)
		}
	}
	for p, docs := range missing {
		n.rescue(ctx, p, id, docs, slots)
	}
}

// mergeTold merges commits of several peers, and returns what is missing.
func (n *Node) mergeTold(ctx context.Context, id dag.CollectionID, part []told, from map[dag.DocID]peer.ID) map[dag.DocID][]dag.CID {
	missing := map[dag.DocID][]dag.CID{}
	if n.stores(false) != nil {
		n.count.Overflows.Add(uint64(len(part))) // comparing makes up for it
		return missing
	}
	for len(part) > 0 {
		// One transaction has one origin: the peer of its first commit stands for
		// those behind it that came from the same.
		origin := from[part[0].commit.Doc]
		run := slices.IndexFunc(part, func(t told) bool { return from[t.commit.Doc] != origin })
		if run < 0 {
			run = len(part)
		}
		commits := make([]*dag.Commit, run)
		for i, t := range part[:run] {
			commits[i] = t.commit // whose signature was verified on arrival
		}
		begun := time.Now()
		t, err := n.merging.enter(ctx, live)
		if err != nil {
			return missing
		}
		m, err := n.replica.MergeCommits(ctx, id, commits, origin.String())
		t.leave()
		n.count.Merged.Add(uint64(m.Applied))
		n.came(m.Commits, ByGossip, origin, begun)
		n.awaited(origin, id, m.Awaits)
		n.delays.note(part[:run], m.Commits, time.Now())
		for doc, cids := range m.Missing {
			missing[doc] = append(missing[doc], cids...)
		}
		if bad := new(pando.InvalidCommit); errors.As(err, &bad) {
			// Invalid by its parents, which those who passed it on need not have: nobody
			// but its author is to blame.
			n.count.InvalidCommits.Add(1)
			n.mark(bad.CID, Refused, ByGossip, origin)
			run = bad.Index + 1
		} else if err != nil {
			if ctx.Err() == nil {
				err = n.notStored(ctx, err)
				n.log.Warn("announced changes cannot be merged", "error", err)
				n.count.Overflows.Add(uint64(len(part)))
				n.repair(origin)
			}
			return missing
		}
		part = part[run:]
	}
	return missing
}

// coming are the announced commits that this node is fetching. Whoever passes on a
// header has it before it has the rest: who asks it for that gets an answer when it is
// here, instead of none, and need not ask again.
type coming struct {
	mu sync.Mutex // guards of
	of map[dag.CID]chan struct{}
}

const (
	// comingFor is how long an answer waits, longer than several round trips.
	comingFor = 500 * time.Millisecond
	// maxComing bounds the commits that are waited for; what is beyond is asked for again.
	maxComing = 1 << 14
)

// expect notes that commits are being fetched, until done.
func (c *coming) expect(docs map[dag.DocID][]dag.CID) (done func()) {
	here := make(chan struct{})
	var mine []dag.CID
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cids := range docs {
		for _, cid := range cids {
			if c.of[cid] == nil && len(c.of) < maxComing {
				c.of[cid] = here
				mine = append(mine, cid)
			}
		}
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, cid := range mine {
			delete(c.of, cid)
		}
		close(here)
	}
}

// any reports whether any of some commits is on its way.
func (c *coming) any(commits []dag.CID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(commits, func(cid dag.CID) bool { return c.of[cid] != nil })
}

// wait returns when nothing of what is asked for is on its way any more, or it took
// too long.
func (c *coming) wait(ctx context.Context, items []item) {
	var late <-chan time.Time
	for _, it := range items {
		for _, cid := range it.Want {
			c.mu.Lock()
			here := c.of[cid]
			c.mu.Unlock()
			if here == nil {
				continue
			}
			if late == nil {
				t := time.NewTimer(comingFor)
				defer t.Stop()
				late = t.C
			}
			select {
			case <-here:
			case <-late:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// A peer that does not wait so for what it announced is asked a few times, a little
// later each time.
const (
	rescueTries = 4
	rescueWait  = 40 * time.Millisecond // doubled each time
)

// fetchAnnounced fetches announced commits from a member, and returns what did not come.
func (n *Node) fetchAnnounced(ctx context.Context, p peer.ID, id dag.CollectionID, docs map[dag.DocID][]dag.CID) map[dag.DocID][]dag.CID {
	if n.stores(false) != nil {
		return docs
	}
	defer n.coming.expect(docs)()
	left := docs
	for try := 0; ; try++ {
		err := n.fetchCommits(ctx, p, id, left)
		if left = n.leftOf(ctx, left); len(left) == 0 {
			return nil
		}
		if err != nil || try+1 == rescueTries || !pace.Sleep(ctx, pace.Jitter(rescueWait<<try, 0.25)) {
			n.log.Debug("announced commits did not come", "peer", p, "documents", len(left), "error", err)
			return left
		}
	}
}

// rescue fetches what an announcement refers to from whoever delivered it or, since
// anybody can carry a sealed message, from a peer that proved to share the
// collection. If that fails, it becomes a durable want.
func (n *Node) rescue(ctx context.Context, p peer.ID, id dag.CollectionID, docs map[dag.DocID][]dag.CID, slots *rescues) {
	if _, ok := n.admission.member(p, id); !ok || n.blamed(p) {
		if p, ok = n.nextGood(id, p); !ok {
			n.wantMissing(p, id, docs)
			return
		}
	}
	n.repair(p) // an orphan is a sign that more was missed
	done, ok := slots.begin(p)
	if !ok {
		n.wantMissing(p, id, docs)
		return
	}
	started := n.spawn(func(ctx context.Context) {
		defer done()
		n.wantMissing(p, id, n.fetchAnnounced(inLane(ctx, live), p, id, docs))
	})
	if !started {
		done()
	}
}

package p2p

import (
	"context"
	"slices"
	"sync"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/gossip"
	"github.com/pandodb/pando/internal/ident"
)

// A document that many watch gets a topic of its own, for as long as they do: each
// member that is watched says there what it applies, once, instead of to each watcher.
// Members who say the same make one message. Who watches and does not take part in
// the topic is told as before.

// hotDocs are the documents that have a topic because of watchers here.
type hotDocs struct {
	changes chan pando.Change // of these

	// Guarded by lookouts.mu.
	watchers map[wantKey]int // that name a document
	topics   map[wantKey]*topic
}

func newHotDocs() *hotDocs {
	return &hotDocs{changes: make(chan pando.Change, hotQueue), watchers: map[wantKey]int{}, topics: map[wantKey]*topic{}}
}

// tell takes a change of a document that has a topic, and reports whether it did.
// lookouts.mu is held.
func (h *hotDocs) tell(c pando.Change) bool {
	if h.topics[wantKey{c.Collection, c.Doc}] == nil {
		return false
	}
	select {
	case h.changes <- c:
		return true
	default:
		return false
	}
}

// countsFor returns the documents that a watcher makes warm: who names many needs no
// topic for each.
func (at *lookout) countsFor() []dag.DocID {
	if at.part != nil || len(at.scope.Docs) > maxHotNamed {
		return nil
	}
	return at.scope.Docs
}

// heat notes that a watcher came (+1) or leaves (-1), and opens and closes topics.
func (n *Node) heat(x *watcher, d int) {
	if n.protected(x.on.id) {
		return // whoever knows the secret would hear of the document
	}
	l, h := n.lookouts, n.lookouts.hot
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, doc := range x.on.countsFor() {
		k := wantKey{x.on.id, doc}
		if h.watchers[k] += d; h.watchers[k] <= 0 {
			delete(h.watchers, k)
		}
		switch t := h.topics[k]; {
		case t == nil && d > 0 && h.watchers[k] >= hotFrom:
			if t = n.openHot(k); t == nil {
				continue
			}
			h.topics[k] = t
			l.eachNaming(k, func(o *watcher) { o.meet = append(o.meet, doc) })
		case t != nil && d > 0:
			x.meet = append(x.meet, doc)
			poke(x.wake)
		case t != nil && h.watchers[k] < hotUntil:
			n.closeHot(t)
			delete(h.topics, k)
			l.eachNaming(k, func(o *watcher) { o.part = append(o.part, doc) })
		}
	}
}

// eachNaming calls fn for each watcher that counts for a document, and wakes it. l.mu
// is held.
func (l *lookouts) eachNaming(k wantKey, fn func(*watcher)) {
	for at := range l.naming(k.collection, k.doc) {
		if at.countsFor() == nil {
			continue
		}
		for x := range at.watchers {
			fn(x)
			poke(x.wake)
		}
	}
}

// openHot takes part in the topic of a document, or returns nil if there is no room.
func (n *Node) openHot(k wantKey) *topic {
	s, ok := n.admission.secret(k.collection)
	if !ok || n.gossip.Topics() >= gossip.MaxTopics {
		return nil
	}
	if n.hotTopics.Add(1) > maxHot {
		n.hotTopics.Add(-1)
		return nil
	}
	c := gossip.Channel{Name: hotName(s, k), Collection: k.collection, Secret: s, Key: hotKey(s, k)}
	t, err := n.announcer.join(c, &k.doc, false)
	if err == nil {
		return t
	}
	n.hotTopics.Add(-1)
	n.log.Warn("the topic of a document cannot be opened", "collection", k.collection, "document", k.doc, "error", err)
	return nil
}

func (n *Node) closeHot(t *topic) {
	n.announcer.leave(t)
	n.hotTopics.Add(-1)
}

// tellHot says in the topics of documents what was applied to them here.
func (n *Node) tellHot(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-n.lookouts.hot.changes:
			n.tellHotDoc(ctx, c)
		}
	}
}

// tellHotDoc says one change, alone: so all members who say it say the same. Watchers
// that do not take part are told over their streams.
func (n *Node) tellHotDoc(ctx context.Context, c pando.Change) {
	l, k := n.lookouts, wantKey{c.Collection, c.Doc}
	l.mu.Lock()
	t := l.hot.topics[k]
	l.mu.Unlock()
	there := map[string]bool{}
	if t != nil {
		if items, err := n.sayOne(ctx, c); err == nil {
			for _, p := range t.Followers() {
				there[string(p)] = true
			}
			if err := t.Publish(ctx, announced(c.Collection, 1, items)); err != nil {
				n.log.Debug("announcement of a document failed", "error", err)
				clear(there)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := range l.naming(c.Collection, c.Doc) {
		for x := range at.watchers {
			if !there[string(x.peer)] {
				x.take(c)
			}
		}
	}
}

func (n *Node) sayOne(ctx context.Context, c pando.Change) ([]byte, error) {
	envelope, err := n.replica.Block(ctx, c.Commit)
	if err != nil {
		return nil, err
	}
	return appendTold(nil, envelope, inlineBytes)
}

// meetings are the topics of documents in which this node takes part because members
// that it watches said that they are there.
type meetings struct {
	mu sync.Mutex // guards at
	at map[wantKey]*meeting
}

type meeting struct {
	topic *topic
	with  map[sharing]bool
}

// goTo takes part in the topics that a watched member named, as far as they are of
// documents that this node keeps, and leaves those that it gave up.
func (n *Node) goTo(s sharing, docs *watching) {
	scope := n.scopeOf(s.collection)
	m := &n.meetings
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, doc := range docs.Meet {
		k := wantKey{s.collection, doc}
		if _, named := slices.BinarySearchFunc(scope.Docs, doc, dag.DocID.Compare); !named || n.protected(s.collection) {
			continue
		}
		if m.at[k] == nil {
			t := n.openHot(k)
			if t == nil {
				continue // it is told over the stream
			}
			m.at[k] = &meeting{t, map[sharing]bool{}}
		}
		m.at[k].with[s] = true
	}
	for _, doc := range docs.Part {
		n.leaveMeeting(wantKey{s.collection, doc}, s)
	}
}

// goFrom leaves the topics in which this node is because of a member alone.
func (n *Node) goFrom(s sharing) {
	n.meetings.mu.Lock()
	defer n.meetings.mu.Unlock()
	for k := range n.meetings.at {
		n.leaveMeeting(k, s)
	}
}

// leaveMeeting is called with meetings.mu held.
func (n *Node) leaveMeeting(k wantKey, s sharing) {
	m := n.meetings.at[k]
	if m == nil {
		return
	}
	if delete(m.with, s); len(m.with) == 0 {
		n.closeHot(m.topic)
		delete(n.meetings.at, k)
	}
}

// hotName is that of the topic of a document, blind like those of collections.
func hotName(s ident.Secret, k wantKey) string {
	return "/pando/1/" + ticketText.EncodeToString(s.Derive(labelHot, k.collection[:], k.doc[:])) + "/0"
}

func hotKey(s ident.Secret, k wantKey) []byte {
	return s.Derive(labelHotKey, k.collection[:], k.doc[:])
}

package p2p

import (
	"cmp"
	"slices"
	"time"
)

// Queue is something that waits in this node, and how much of it may.
type Queue struct {
	Name         string
	Items, Limit int // a limit of 0 is that of what makes it wait
	Bytes        int // that it holds; 0 where that is not counted
}

// Queues returns how full the node's queues are: what grows in one of them tells what
// the node is short of.
func (n *Node) Queues() []Queue {
	inbox := n.announcer.inbox.size()
	open, _ := n.wants.size()
	n.mu.Lock()
	served, strangers := n.served, len(n.strangers)
	n.mu.Unlock()
	all := []Queue{
		{Name: "inbox", Items: inbox.Items, Limit: inboxDocuments, Bytes: inbox.Bytes},
		{Name: "wants", Items: open, Limit: maxWants},
		{Name: "postponed", Items: n.later.size(), Limit: maxLater},
		n.unapplied.size(),
		{Name: "sessions served", Items: served[aSession], Limit: maxSessions},
		{Name: "fetches served", Items: served[aFetch], Limit: maxFetches},
		{Name: "watches served", Items: served[aWatch], Limit: maxWatches},
		{Name: "tellings served", Items: served[aTelling], Limit: maxTells},
		{Name: "streams of strangers", Items: strangers, Limit: maxStrangers},
	}
	for _, l := range []struct {
		what  string
		lanes *lanes
	}{{"sending", n.sending}, {"merging", n.merging}} {
		for lane, waiting := range l.lanes.queued() {
			all = append(all, Queue{Name: l.what + ", " + laneNames[lane], Items: waiting})
		}
	}
	return all
}

var laneNames = [len(laneShares)]string{catchUp: "catch-up", backfill: "backfill", live: "live", interactive: "interactive"}

func (b *inbox) size() Queue {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Queue{Items: len(b.docs), Bytes: b.bytes}
}

func (l *later) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.docs
}

// WantStatus is a document that is known to be incomplete.
type WantStatus struct {
	CollectionID string
	Collection   string // its name
	Doc          string
	Commits      int       // that are missing
	Since        time.Time // it is wanted
	Stuck        bool      // for more than a day
	Tries        int
	Told         string    // the peer that told of it last; "" if that was before a restart
	Asked        string    // the peer that was asked last
	Next         time.Time // when it is asked for again; zero: now
	// Groups, by their docIDs, may write the document, and one of them has to be here, or newer
	// here, before what is missing can be judged. Empty: it waits for something else.
	Groups []string
}

// MaxWants bounds the documents that Wants lists.
const MaxWants = 1000

// Wants lists documents that are known to be incomplete, the longest wanted first: up
// to so many, a thousand at most.
func (n *Node) Wants(most int) []WantStatus {
	names := map[string]string{}
	for _, c := range n.db.Collections() {
		names[c.ID.String()] = c.Name
	}
	all := n.wants.list(max(0, min(most, MaxWants)), n.awaits.byDocument())
	for i := range all {
		all[i].Collection = names[all[i].CollectionID]
	}
	return all
}

func (w *wants) list(most int, groups map[wantKey][]string) []WantStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	type entry struct {
		wantKey
		*want
	}
	var entries []entry
	for k, v := range w.open {
		entries = append(entries, entry{k, v})
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(a.first.Compare(b.first), a.wantKey.doc.Compare(b.wantKey.doc))
	})
	var all []WantStatus
	for _, e := range entries[:min(len(entries), most)] {
		s := WantStatus{CollectionID: e.collection.String(), Doc: e.doc.String(), Commits: len(e.commits),
			Since: e.first, Stuck: time.Since(e.first) > stuckAfter, Tries: e.tries, Next: e.next, Groups: groups[e.wantKey]}
		if e.told != "" {
			s.Told = e.told.String()
		}
		if e.asked != "" && e.tries > 0 {
			s.Asked = e.asked.String()
		}
		all = append(all, s)
	}
	return all
}

// told returns how many documents are wanted that each peer told of.
func (w *wants) told() map[sharing]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[sharing]int{}
	for k, v := range w.open {
		all[sharing{v.told, k.collection}]++
	}
	return all
}

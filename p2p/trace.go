package p2p

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// Stage is a point on the way of a change from the node that wrote it to others.
type Stage string

const (
	// Written is when the author's clock says that the commit was made.
	Written Stage = "written"
	// Synced is when the node knew it to be on its disk.
	Synced Stage = "synced"
	// Announced is when gossip took it.
	Announced Stage = "announced"
	// Heard is when an announcement of it came; the way says whether whole or as a header.
	Heard Stage = "heard"
	// Asked is when a peer was asked for it, because it had not come or only its header.
	Asked Stage = "asked"
	// Merging is when its turn to be merged came.
	Merging Stage = "merging"
	// Visible is when it was merged and on disk: queries see it.
	Visible Stage = "visible"
	// Refused is when it turned out to be invalid.
	Refused Stage = "refused"
)

// The ways by which a change comes.
const (
	ByGossip  = "gossip"
	ByHeader  = "gossip, header only"
	BySession = "session" // that this node opened
	ByFetch   = "fetch"
	ByPush    = "push" // in a session of the peer
	ByWatch   = "watch"
	ByTelling = "told" // by who knows that this node may read it
)

// TraceEvent is what happened to a change on a node.
type TraceEvent struct {
	At    time.Time
	Stage Stage
	Peer  string // from or to whom; "" if nobody else had part in it
	Way   string // how it came; "" where that says nothing
}

// Trace is what a node remembers of the way of one change, the oldest first.
type Trace struct {
	Commit     dag.CID
	Collection string // its name; "" if the commit is not here
	Doc        string
	Height     uint64
	Events     []TraceEvent
}

// traces is the memory of what happened to changes lately. What is live and what was
// copied in bulk have places of their own: a copy of a million documents must not push
// out what somebody wrote a moment ago.
type traces struct {
	mu         sync.Mutex // guards what follows
	live, bulk marks
}

// mark is one event, as small as it can be.
type mark struct {
	commit dag.CID
	at     int64 // nanoseconds since 1970
	peer   peer.ID
	stage  Stage
	way    string
}

// marks keeps the newest.
type marks struct {
	all  []mark
	next int // where the next goes, once it is full
}

func (m *marks) add(one mark) {
	if len(m.all) < maxMarks {
		m.all = append(m.all, one)
		return
	}
	m.all[m.next] = one
	m.next = (m.next + 1) % maxMarks
}

// mark notes what happens to a commit.
func (n *Node) mark(c dag.CID, stage Stage, way string, p peer.ID) {
	n.markAt(time.Now(), []dag.CID{c}, stage, way, p)
}

func (n *Node) markAt(at time.Time, commits []dag.CID, stage Stage, way string, p peer.ID) {
	n.traces.mu.Lock()
	to := &n.traces.live
	if len(commits) > bulkCommits && (way == BySession || way == ByPush || way == ByFetch) {
		to = &n.traces.bulk
	}
	for _, c := range commits {
		to.add(mark{c, at.UnixNano(), p, stage, way})
	}
	n.traces.mu.Unlock()
	if n.log.Enabled(n.ctx, slog.LevelDebug) {
		for _, c := range commits {
			n.log.Debug("change", "at", at, "commit", c, "stage", string(stage), "peer", p, "way", way)
		}
	}
}

// bulkCommits is from how many commits at once on a transfer is a copy, and no change
// that somebody waits for.
const bulkCommits = 16

// came notes commits that were merged, and when their turn came.
func (n *Node) came(commits []dag.CID, way string, from peer.ID, begun time.Time) {
	if len(commits) > 0 {
		n.markAt(begun, commits, Merging, way, from)
		n.markAt(time.Now(), commits, Visible, way, from)
	}
}

// way is how commits come over a stream.
func (w *wire) way() string {
	named, ok := w.s.(interface{ Protocol() protocol.ID })
	switch {
	case ok && strings.HasPrefix(string(named.Protocol()), "/pando/fetch/"):
		return ByFetch
	case w.asks:
		return BySession
	}
	return ByPush
}

// maxTraced is how many commits of one document are traced at once.
const maxTraced = 16

// Trace returns what the node remembers of a commit, or of the newest commits of a
// document, named by their CID or docID. Only what happened lately is remembered. It
// is NotFound if the node has neither the commit nor heard of it.
func (n *Node) Trace(ctx context.Context, id string) ([]Trace, error) {
	if c, err := dag.ParseCID(id); err == nil {
		t, err := n.traceOf(ctx, c)
		return []Trace{t}, err
	}
	doc, err := dag.ParseDocID(id)
	if err != nil {
		return nil, fault.Invalid.Errorf("trace of %q: it is neither a CID, which _version { cid } shows, nor a docID", id)
	}
	var all []Trace
	for _, coll := range n.db.Collections() {
		heads, err := n.replica.Heads(ctx, coll.ID, doc)
		if err != nil {
			return nil, err
		}
		for _, c := range heads[:min(len(heads), maxTraced)] {
			t, err := n.traceOf(ctx, c)
			if err != nil {
				return nil, err
			}
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		return nil, fault.NotFound.Errorf("trace: document %s is not here", id)
	}
	return all, nil
}

// Recent returns the last changes that were written or heard of live, the newest first.
func (n *Node) Recent(ctx context.Context, most int) ([]Trace, error) {
	most = max(0, min(most, MaxRecent))
	var all []Trace
	seen := map[dag.CID]bool{}
	for _, c := range n.traces.newest() {
		if len(all) == most {
			break
		}
		if seen[c] {
			continue
		}
		seen[c] = true
		t, err := n.traceOf(ctx, c)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// MaxRecent bounds the changes that Recent lists.
const MaxRecent = 100

// newest returns the commits that something happened to live, the last in front.
func (t *traces) newest() []dag.CID {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []dag.CID
	for i := range t.live.all {
		at := t.live.next - 1 - i
		all = append(all, t.live.all[(at+2*len(t.live.all))%len(t.live.all)].commit)
	}
	return all
}

func (n *Node) traceOf(ctx context.Context, c dag.CID) (Trace, error) {
	t := Trace{Commit: c, Events: n.traces.of(c)}
	envelope, err := n.replica.Block(ctx, c)
	switch {
	case errors.Is(err, fault.NotFound) && len(t.Events) > 0:
		return t, nil // heard of, and not here
	case errors.Is(err, fault.NotFound):
		return t, fault.NotFound.Errorf("trace: commit %s is not here, and nothing was heard of it lately", c)
	case err != nil:
		return t, err
	}
	commit, err := dag.Open(envelope)
	if err != nil {
		return t, err
	}
	t.Doc, t.Height = commit.Doc.String(), commit.Height
	t.Collection, err = n.collectionOf(ctx, commit.Doc)
	written := TraceEvent{At: dag.HLCTime(commit.HLC), Stage: Written}
	t.Events = append([]TraceEvent{written}, t.Events...)
	return t, err
}

// collectionOf finds the collection of a document that is here.
func (n *Node) collectionOf(ctx context.Context, doc dag.DocID) (string, error) {
	for _, coll := range n.db.Collections() {
		heads, err := n.replica.Heads(ctx, coll.ID, doc)
		if err != nil {
			return "", err
		}
		if len(heads) > 0 {
			return coll.Name, nil
		}
	}
	return "", nil
}

// of returns what happened to a commit. It looks through all marks: nobody asks often.
func (t *traces) of(c dag.CID) []TraceEvent {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []mark
	for _, ms := range []*marks{&t.live, &t.bulk} {
		for i := range ms.all {
			if bytes.Equal(ms.all[i].commit[:], c[:]) {
				found = append(found, ms.all[i])
			}
		}
	}
	slices.SortStableFunc(found, func(a, b mark) int { return cmp.Compare(a.at, b.at) })
	var all []TraceEvent
	for _, m := range found {
		e := TraceEvent{At: time.Unix(0, m.at).UTC(), Stage: m.stage, Way: m.way}
		if m.peer != "" {
			e.Peer = m.peer.String()
		}
		all = append(all, e)
	}
	return all
}

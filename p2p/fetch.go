package p2p

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/radix"
)

// fetch asks a peer for commits and merges them as they come. headed, if not nil,
// is told the peer's heads of the documents.
func (n *Node) fetch(ctx context.Context, p peer.ID, id dag.CollectionID, items []item, headed func(*heads)) (total intake, err error) {
	c, err := n.companion(p)
	if err != nil {
		return total, err
	}
	select {
	case c.fetches <- struct{}{}:
		defer func() { <-c.fetches }()
	case <-ctx.Done():
		return total, fault.Unavailable.Errorf("fetch from %s: %w", p, context.Cause(ctx))
	}
	// Whoever answers has proved itself before: others are told nothing by the
	// question, and cannot slip in anything with the answer.
	by, ok := n.admission.member(p, id)
	shown, known := n.admission.with(p).mine[claim{id, by.secret}]
	if !ok || !known {
		return total, fault.Denied.Errorf("fetch from %s: it has not proved to share collection %s", p, id)
	}
	s, err := n.open(ctx, p, fetchProtocols)
	if err != nil {
		return total, err
	}
	n.count.Fetches.Add(1)
	w := newAsking(s, &n.traffic)
	w.about(id)
	defer context.AfterFunc(ctx, w.abort)()
	defer n.keepAlive(ctx, s.Conn(), w)()
	defer func() { total.Bytes = w.bytes() }()
	for len(items) > 0 {
		got, err := n.fetchOnce(ctx, w, p, id, &fetch{shown, headed != nil, items}, headed)
		total.Applied += got.Applied
		total.Known += got.Known
		total.Deferred += got.Deferred
		total.Nameless += got.Nameless
		total.Missing = got.Missing
		if err == nil && (got.Mark == 0 || got.Mark > uint64(len(items))) {
			err = breach("%d of %d documents answered", got.Mark, len(items))
		}
		if err != nil {
			w.abort()
			n.judge(p, err)
			return total, fmt.Errorf("fetch from %s: %w", p, err)
		}
		items = items[got.Mark:]
	}
	s.Close()
	return total, nil
}

func (n *Node) fetchOnce(ctx context.Context, w *wire, p peer.ID, id dag.CollectionID, ask *fetch, headed func(*heads)) (intake, error) {
	if err := w.send(ask); err != nil {
		return intake{}, err
	}
	if headed != nil {
		h, err := expect[*heads](w)
		if err != nil {
			return intake{}, err
		}
		headed(h)
	}
	return n.receiveBlocks(ctx, w, p, id, nil)
}

// fetchDifference fetches what a walk found to be lacking here.
func (n *Node) fetchDifference(ctx context.Context, p peer.ID, id dag.CollectionID, d difference, headed func(*heads)) (intake, error) {
	var total intake
	run := func(items []item, headed func(*heads)) error {
		got, err := n.fetch(ctx, p, id, items, headed)
		total.Applied += got.Applied
		total.Bytes += got.Bytes
		n.wantMissing(p, id, got.Missing)
		if got.Nameless > 0 { // it may be any of these
			docs := map[short]time.Time{}
			for _, it := range items {
				docs[start(it.Doc)] = time.Now().Add(laterMost)
			}
			n.later.postpone(sharing{p, id}, docs)
		}
		return err
	}
	for docs := range slices.Chunk(d.Both, maxItems) {
		items, err := n.itemsFor(ctx, id, docs)
		if err != nil {
			return total, err
		}
		// A document with a long history has a large locator: what does not fit in
		// one frame goes in several.
		for _, part := range split(items) {
			if err := run(part, headed); err != nil {
				return total, err
			}
		}
	}
	for prefixes := range slices.Chunk(d.Theirs, maxItems) {
		items := make([]item, len(prefixes))
		for i, prefix := range prefixes {
			items[i] = item{Doc: prefix}
		}
		if err := run(items, nil); err != nil {
			return total, err
		}
	}
	return total, nil
}

// itemsFor asks for everything that is new in some documents.
func (n *Node) itemsFor(ctx context.Context, id dag.CollectionID, docs []dag.DocID) ([]item, error) {
	items := make([]item, len(docs))
	for i, doc := range docs {
		have, err := n.replica.Heads(ctx, id, doc)
		if err != nil {
			return nil, err
		}
		locator, err := n.replica.Locator(ctx, id, doc)
		if err != nil {
			return nil, err
		}
		items[i] = item{Doc: bytesOf(doc), Have: have[:min(len(have), maxHeads)], Locator: locator[:min(len(locator), maxLocator)]}
	}
	return items, nil
}

func bytesOf(doc dag.DocID) []byte { return doc[:] }

// split cuts a list of items so that each part fits in a frame.
func split(items []item) [][]item {
	var parts [][]item
	size, start := 0, 0
	for i, it := range items {
		s := 64 + 32*(len(it.Want)+len(it.Have)) + 8*len(it.Locator)
		if size += s; size > maxFrame/2 {
			parts = append(parts, items[start:i])
			start, size = i, s
		}
	}
	return append(parts, items[start:])
}

// serveFetch answers the requests of one stream.
func (n *Node) serveFetch(ctx context.Context, w *wire, place *seat) error {
	for {
		m, err := w.receive()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		ask, ok := m.(*fetch)
		if !ok {
			return breach("%T on a stream for fetching", m)
		}
		c, ok := n.admission.admits(place.peer, ask.Proof)
		if !ok {
			return &refuse{Code: refusedAdmission, Text: "this collection is not shared with you"}
		}
		if err := place.proved(); err != nil {
			return err
		}
		if err := n.charge(place.peer, ask); err != nil {
			return err
		}
		w.about(c.id)
		before := w.written.Load()
		err = n.answerFetch(ctx, w, c.id, ask)
		n.chargeBytes(place.peer, w, before)
		if err != nil {
			return err
		}
	}
}

// liveItems is up to how many documents a request is taken to be about what was just
// announced.
const liveItems = 16

func (n *Node) answerFetch(ctx context.Context, w *wire, id dag.CollectionID, ask *fetch) error {
	docs := make([][]dag.DocID, len(ask.Items))
	for i, it := range ask.Items {
		var err error
		if docs[i], err = n.documents(ctx, id, it.Doc); err != nil {
			return err
		}
	}
	if ask.Heads {
		if err := n.sendHeads(ctx, w, id, docs); err != nil {
			return err
		}
	}
	if len(ask.Items) <= liveItems {
		ctx = inLane(ctx, live)
	}
	out := n.sender(ctx, w)
	before := w.written.Load()
	for i, it := range ask.Items {
		for _, doc := range docs[i] {
			want := pando.Want{Doc: doc, Want: it.Want, Have: it.Have, Locator: it.Locator}
			if err := n.sendDocument(ctx, out, id, want); err != nil {
				return err
			}
		}
		if w.written.Load()-before > fetchBytes {
			return out.end(uint64(i + 1))
		}
	}
	return out.end(uint64(len(ask.Items)))
}

// documents returns the documents whose IDs begin with some bytes.
func (n *Node) documents(ctx context.Context, id dag.CollectionID, first []byte) ([]dag.DocID, error) {
	if len(first) == 32 {
		return []dag.DocID{dag.DocID(first)}, nil
	}
	var key [32]byte
	copy(key[:], first)
	var docs []dag.DocID
	for e, err := range n.replica.Elements(ctx, id, radix.PrefixOf(key, 2*len(first))) {
		if err != nil {
			return nil, err
		}
		if docs = append(docs, e.Key); len(docs) == leafDocuments {
			break
		}
	}
	return docs, nil
}

func (n *Node) sendHeads(ctx context.Context, w *wire, id dag.CollectionID, docs [][]dag.DocID) error {
	m, size := new(heads), 0
	for _, some := range docs {
		for _, doc := range some {
			cids, err := n.replica.Heads(ctx, id, doc)
			if err != nil {
				return err
			}
			cids = cids[:min(len(cids), maxHeads)]
			// Heads that do not fit are left out: then more is pushed than needed.
			if size += 64 + 32*len(cids); size < maxFrame {
				m.Documents = append(m.Documents, docHeads{doc, cids})
			}
		}
	}
	return w.send(m)
}

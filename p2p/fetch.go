package p2p

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// fetching is a stream over which this node asks a member for commits of a
// collection.
type fetching struct {
	n       *Node
	w       *wire
	peer    peer.ID
	id      dag.CollectionID
	proof   proof
	merged  func(*blocks, pando.Merged) error // told of each transaction; may be nil
	spoiled bool                              // it is in the middle of an answer that nobody reads
	undone  []func()                          // on closing, the last first
}

// openFetch opens a stream for fetching. It has to be closed.
func (n *Node) openFetch(ctx context.Context, p peer.ID, id dag.CollectionID) (_ *fetching, err error) {
	c, err := n.companion(p)
	if err != nil {
		return nil, err
	}
	f := &fetching{n: n, peer: p, id: id}
	defer func() {
		if err != nil {
			f.close(err)
		}
	}()
	select {
	case c.fetches <- struct{}{}:
		f.undone = append(f.undone, func() { <-c.fetches })
	case <-ctx.Done():
		return nil, fault.Unavailable.Errorf("fetch from %s: %w", p, context.Cause(ctx))
	}
	// Whoever answers has proved itself before: others are told nothing by the
	// question, and cannot slip in anything with the answer.
	by, ok := n.admission.member(p, id)
	shown, known := n.admission.with(p).mine[claim{id, by.secret}]
	if !ok || !known {
		return nil, fault.Denied.Errorf("fetch from %s: it has not proved to share collection %s", p, id)
	}
	f.proof = shown
	s, err := n.open(ctx, p, fetchProtocols)
	if err != nil {
		return nil, err
	}
	n.count.Fetches.Add(1)
	f.w = newAsking(s, &n.traffic)
	f.w.about(id)
	stop := context.AfterFunc(ctx, f.w.abort)
	f.undone = append(f.undone, n.keepAlive(ctx, s.Conn(), f.w), func() { stop() })
	return f, nil
}

// close ends the stream, at once if something went wrong, and draws the consequences
// of that.
func (f *fetching) close(err error) {
	if f.w != nil && err != nil {
		f.w.abort()
		f.n.judge(f.peer, err)
	} else if f.w != nil {
		f.w.s.Close()
	}
	for _, undo := range slices.Backward(f.undone) {
		undo()
	}
}

// fetch asks a peer for commits and merges them as they come. headed, if not nil,
// is told the peer's heads of the documents.
func (n *Node) fetch(ctx context.Context, p peer.ID, id dag.CollectionID, items []item, headed func(*heads)) (total intake, err error) {
	f, err := n.openFetch(ctx, p, id)
	if err != nil {
		return total, err
	}
	total, err = f.items(ctx, items, headed)
	for _, m := range total.More {
		if err != nil {
			break
		}
		var got intake
		got, err = f.rest(ctx, partOf(m, items))
		total.include(got)
	}
	if err == nil && total.nothing() && promised(items) {
		n.blame(p, blameUseless, "it does not give what its tree shows")
		err = fault.Unavailable.Errorf("none of %d documents that it shows came", len(items))
	}
	total.Bytes = f.w.bytes()
	if f.close(err); err != nil {
		return total, fmt.Errorf("fetch from %s: %w", p, err)
	}
	return total, nil
}

// promised reports whether items stand for documents of which nothing is here, and that
// the peer showed in its tree: some of them exist there, whatever happened meanwhile.
func promised(items []item) bool {
	return len(items) >= leafDocuments && !slices.ContainsFunc(items, func(it item) bool {
		return len(it.Doc) == len(dag.DocID{}) || len(it.Want)+len(it.Have) > 0
	})
}

// items asks for commits of documents. Of some, which More names, there may be more.
func (f *fetching) items(ctx context.Context, items []item, headed func(*heads)) (total intake, err error) {
	if f.w.version < versionOfManyHeads {
		items = slices.Clone(items)
		for i := range items {
			items[i].Locator = readable(f.w, items[i].Locator)
		}
	}
	for len(items) > 0 {
		if err := f.w.send(&fetch{f.proof, headed != nil, items}); err != nil {
			return total, err
		}
		if headed != nil {
			h, err := expect[*heads](f.w)
			if err != nil {
				return total, err
			}
			headed(h)
		}
		got, err := f.n.receiveBlocks(ctx, f.w, f.peer, f.id, f.merged)
		total.include(got)
		total.More = append(total.More, got.More...)
		if err == nil && (got.Mark == 0 || got.Mark > uint64(len(items))) {
			err = breach("%d of %d documents answered", got.Mark, len(items))
		}
		if err != nil {
			return total, err
		}
		items = items[got.Mark:]
	}
	return total, nil
}

// readable is as much of a locator as the peer reads.
func readable(w *wire, locator []uint64) []uint64 {
	if w.version < versionOfManyHeads {
		return locator[:min(len(locator), maxOldLocator)]
	}
	return locator
}

// partOf asks for the rest of a document that was cut.
func partOf(m *more, items []item) *getPart {
	ask := &getPart{Doc: m.Doc, After: m.After}
	for _, it := range items {
		if string(it.Doc) == string(m.Doc[:]) {
			ask.Have, ask.Locator = it.Have, it.Locator
		}
	}
	return ask
}

// rest asks for a part of a document until all of it is here.
func (f *fetching) rest(ctx context.Context, ask *getPart) (total intake, err error) {
	for {
		got, err := f.part(ctx, ask, nil)
		total.include(got)
		if err != nil || len(got.More) == 0 {
			return total, err
		}
		ask.After = got.More[0].After
	}
}

// part asks for a part of a document once. If there is more, More says where.
func (f *fetching) part(ctx context.Context, ask *getPart, turn func() error) (intake, error) {
	ask.Proof, ask.Locator = f.proof, readable(f.w, ask.Locator)
	if err := f.w.send(ask); err != nil {
		return intake{}, err
	}
	got, err := f.n.receiveInTurn(ctx, f.w, f.peer, f.id, turn, f.merged)
	if err == nil && len(got.More) > 0 &&
		(len(got.More) > 1 || got.More[0].Doc != ask.Doc || got.More[0].After.Compare(ask.After) <= 0) {
		err = breach("a part of a document that goes on with another, or where it began")
	}
	return got, err
}

// fetchDifference fetches what a walk found to be lacking here.
func (n *Node) fetchDifference(ctx context.Context, p peer.ID, id dag.CollectionID, d difference, headed func(*heads)) (intake, error) {
	var total intake
	run := func(items []item, headed func(*heads)) error {
		got, err := n.fetchSome(ctx, p, id, items, headed)
		total.Applied += got.Applied
		total.Bytes += got.Bytes
		total.Deferred += got.Deferred
		return err
	}
	for docs := range slices.Chunk(d.Both, maxItems) {
		items, err := n.itemsFor(ctx, p, id, docs)
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

// fetchSome is fetch of what differs. What cannot be taken in yet is asked for later.
func (n *Node) fetchSome(ctx context.Context, p peer.ID, id dag.CollectionID, items []item, headed func(*heads)) (intake, error) {
	got, err := n.fetch(ctx, p, id, items, headed)
	n.wantMissing(p, id, got.Missing)
	if got.Nameless > 0 { // it may be any of these
		docs := map[short]time.Time{}
		for _, it := range items {
			docs[start(it.Doc)] = n.later.now().Add(laterMost)
		}
		n.later.postpone(sharing{p, id}, docs)
	}
	return got, err
}

// itemsFor asks a peer for everything that is new in some documents. What is here of one
// that the peer may not read, it is not told: all of that comes again.
func (n *Node) itemsFor(ctx context.Context, p peer.ID, id dag.CollectionID, docs []dag.DocID) ([]item, error) {
	items, to := make([]item, len(docs)), n.reader(p, id)
	for i, doc := range docs {
		have, err := to.Heads(ctx, id, doc)
		if err != nil {
			return nil, err
		}
		locator, err := to.Locator(ctx, id, doc)
		if err != nil {
			return nil, err
		}
		items[i] = item{Doc: bytesOf(doc)}
		items[i].holds(have, locator)
	}
	return items, nil
}

// holds tells the peer what is here: some heads, the others and ancestors by their first
// bytes.
func (it *item) holds(heads []dag.CID, ancestors []uint64) {
	it.Have = heads[:min(len(heads), maxHeads)]
	it.Locator = ancestors[:min(len(ancestors), maxOldLocator/2)]
	for _, c := range heads[len(it.Have):min(len(heads), len(it.Have)+maxLocator-len(it.Locator))] {
		it.Locator = append(it.Locator, binary.BigEndian.Uint64(c[:]))
	}
}

func bytesOf(doc dag.DocID) []byte { return doc[:] }

// split cuts a list of items so that each part fits in a frame.
func split(items []item) [][]item {
	var parts [][]item
	size, start := 0, 0
	for i, it := range items {
		s := 64 + 32*(len(it.Want)+len(it.Have)) + 8*len(it.Locator)
		if size += s; size > maxFrame/2 && i > start {
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
		var given proof
		switch ask := m.(type) {
		case *fetch:
			given = ask.Proof
		case *getRange:
			given = ask.Proof
		case *getPart:
			given = ask.Proof
		default:
			return breach("%T on a stream for fetching", m)
		}
		c, ok := n.admission.admits(place.peer, given)
		if !ok {
			return &refuse{Code: refusedAdmission, Text: "this collection is not shared with you"}
		}
		if err := place.proved(); err != nil {
			return err
		}
		if err := n.charge(place.peer, m); err != nil {
			return err
		}
		w.about(c.id)
		before := w.written.Load()
		switch ask := m.(type) {
		case *fetch:
			err = n.reader(place.peer, c.id).answerFetch(ctx, w, ask)
		case *getRange:
			err = n.reader(place.peer, c.id).answerRange(ctx, w, ask)
		case *getPart:
			err = n.reader(place.peer, c.id).answerPart(ctx, w, ask)
		}
		n.chargeBytes(place.peer, w, before)
		if err != nil {
			return err
		}
	}
}

// liveItems is up to how many documents a request is taken to be about what was just
// announced.
const liveItems = 16

func (r *reader) answerFetch(ctx context.Context, w *wire, ask *fetch) error {
	if err := r.waitFor(ctx, ask.Items); err != nil {
		return err
	}
	if ask.Heads {
		if err := r.sendHeads(ctx, w, ask.Items); err != nil {
			return err
		}
	}
	if len(ask.Items) <= liveItems {
		ctx = inLane(ctx, live)
	}
	limit := math.MaxInt
	if w.version >= 2 {
		limit = tallBytes
	}
	out := r.sender(ctx, w)
	defer out.charge()
	answered, err := out.sendItems(ctx, ask.Items, limit)
	if err != nil {
		return err
	}
	return out.end(uint64(answered))
}

// sendItems sends what items ask for, of each document up to so many bytes, until it is
// enough for one answer. It returns how many were answered.
func (s *sender) sendItems(ctx context.Context, items []item, limit int) (answered int, err error) {
	before := s.w.written.Load()
	for i, it := range items {
		s.again()
		docs, err := s.to.beginning(ctx, it.Doc)
		if err != nil {
			return i, err
		}
		if len(docs) == 0 && len(it.Doc) == len(dag.DocID{}) {
			s.to.deny("FETCH", dag.DocID(it.Doc))
		}
		for _, doc := range docs {
			want := pando.Want{Doc: doc, Want: it.Want}
			if len(it.Doc) == len(doc) { // else it would all be looked for in each
				want.Have, want.Locator = it.Have, it.Locator
			}
			if err := s.sendUpTo(ctx, want, limit); err != nil {
				return i, err
			}
		}
		if s.enough(before) {
			return i + 1, nil
		}
	}
	return len(items), nil
}

// waitFor waits for what is asked for and on its way here. That something is on its way
// is not to be noticed by who may not read it.
func (r *reader) waitFor(ctx context.Context, items []item) error {
	if r.all {
		r.n.coming.wait(ctx, items)
		return nil
	}
	var readable []item
	for _, it := range items {
		if len(it.Doc) < len(dag.DocID{}) || !r.n.coming.any(it.Want) {
			continue
		}
		may, err := r.may(ctx, dag.DocID(it.Doc))
		if err != nil {
			return err
		}
		if may {
			readable = append(readable, it)
		}
	}
	r.n.coming.wait(ctx, readable)
	return nil
}

func (r *reader) sendHeads(ctx context.Context, w *wire, items []item) error {
	m, size, looked := new(heads), 0, 0
	defer func() { r.charge(looked) }()
	for _, it := range items {
		docs, err := r.beginning(ctx, it.Doc)
		if err != nil {
			return err
		}
		for _, doc := range docs {
			cids, err := r.Heads(ctx, r.id, doc)
			if err != nil {
				return err
			}
			looked += len(cids) / headsPerLook
			most := maxShownHeads
			if w.version < versionOfManyHeads {
				most = maxOldHeads
			}
			cids = cids[:min(len(cids), most)]
			// Heads that do not fit are left out: then more is pushed than needed.
			if size += 64 + 32*len(cids); size >= maxFrame {
				return w.send(m)
			}
			m.Documents = append(m.Documents, docHeads{doc, cids})
		}
	}
	return w.send(m)
}

package p2p

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/pace"
)

// The topics of a collection are heard by all who know its secret. What is not for
// everybody is told to those who may read it, each by itself, over a stream that is
// opened when there is something to tell. Who is told passes it on to those who are
// not told by others. Like gossip it may lose; comparing makes up for it.

// protocolTell is how members are told of changes that not everybody may read.
const protocolTell protocol.ID = "/pando/tell/1"

// tell carries commits of documents that the receiver may read, parents first, and who
// is told at the same time or was before: by marks.
type tell struct {
	Proof     proof
	Told      []uint64
	Envelopes [][]byte
}

func (m *tell) append(b []byte) []byte {
	b = appendLocator(cbor.AppendBytes(begin(b, msgTell), m.Proof[:]), m.Told)
	b = cbor.AppendArray(b, len(m.Envelopes))
	for _, e := range m.Envelopes {
		b = cbor.AppendBytes(b, e)
	}
	return b
}

func readTell(r *cbor.Reader) message {
	m := new(tell)
	exactly(r, "a proof", m.Proof[:])
	if m.Told = readLocator(r); len(m.Told) > maxToldReaders {
		r.Fail(fault.TooLarge.Errorf("%d peers that were told, allowed are %d", len(m.Told), maxToldReaders))
	}
	n := list(r, "commits", packCommits)
	if n == 0 {
		r.Fail(fault.Invalid.Errorf("a message that tells of no commit"))
	}
	for ; n > 0 && r.Err() == nil; n-- {
		m.Envelopes = append(m.Envelopes, r.Bytes())
	}
	return m
}

// markOf stands for a peer among those who were told.
func markOf(p peer.ID) uint64 {
	h := sha256.Sum256([]byte(labelTold + string(p)))
	return binary.BigEndian.Uint64(h[:])
}

// tellings are the queues of what connected peers are to be told.
type tellings struct {
	mu sync.Mutex // guards what follows
	of map[peer.ID]*telling
}

// telling is what one peer is to be told, while somebody does so.
type telling struct {
	news     []news
	partings []news // of them, also those that were taken out
}

// news is a commit to tell of.
type news struct {
	collection dag.CollectionID
	commit     dag.CID
	told       []uint64   // shared by all who are told
	parting    *dag.DocID // of which this is the last that the peer hears: see farewell.go
}

func newTellings() *tellings { return &tellings{of: map[peer.ID]*telling{}} }

// put adds to the queue of a peer. fresh, if not nil, is a new queue, with which
// somebody has to begin; lost: there is no room.
func (t *tellings) put(p peer.ID, x news) (fresh *telling, lost bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.of[p]
	if q == nil {
		q = &telling{}
		fresh, t.of[p] = q, q
	}
	if len(q.news) >= maxTelling || x.parting != nil && len(q.partings) >= maxTelling {
		return nil, true
	}
	q.news = append(q.news, x)
	if x.parting != nil {
		q.partings = append(q.partings, x)
	}
	return fresh, false
}

// take takes up to so many out of a queue. If there is nothing in it, it is the peer's
// no more.
func (t *tellings) take(p peer.ID, q *telling, most int) (some []news) {
	t.mu.Lock()
	defer t.mu.Unlock()
	some, q.news = q.news[:min(most, len(q.news))], q.news[min(most, len(q.news)):]
	if len(some) == 0 && t.of[p] == q {
		delete(t.of, p)
	}
	return some
}

// drop gives up a queue. It returns the ends of rights that were in it.
func (t *tellings) drop(p peer.ID, q *telling) []news {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[p] == q {
		delete(t.of, p)
	}
	return q.partings
}

// tellOf takes a change of a collection with a policy from the feed. It reports false
// if the change is to be announced to everybody.
func (n *Node) tellOf(ctx context.Context, c pando.Change, envelope []byte) (done bool) {
	n.wants.hurry(n.awaits.changed(c.Doc))
	cm, err := dag.Open(envelope)
	if err != nil {
		return true
	}
	if ops, err := acp.Ops(cm.Deltas); err == nil && len(ops) > 0 {
		n.spreadRights(ops)
		n.outOfSight(ctx, c.Collection, c.Doc)
	}
	if c.Origin != "" {
		return true // who told it was told on at once
	}
	if public, err := n.replica.Readable(ctx, c.Collection, c.Doc, pando.Reader{}); public && err == nil {
		return false
	}
	n.tellReaders(ctx, c.Collection, cm, nil, "")
	return true
}

// spreadRights greets those soon who may read more by some access operations: by a group,
// also of documents that did not change.
func (n *Node) spreadRights(ops []acp.Op) {
	keys, all := map[ident.PublicKey]bool{}, false
	for _, o := range ops {
		switch {
		case o.Kind == acp.Revoke: // which gives nobody anything
		case o.Kind == acp.Accept || o.Subject.Key == "":
			all = true
		default:
			keys[o.Subject.Key] = true
		}
	}
	if all {
		n.spread("")
		return
	}
	if len(keys) == 0 {
		return
	}
	for _, c := range n.connected() {
		if !n.blamed(c.id) && slices.ContainsFunc(n.readerOf(c.id).Keys(), func(k ident.PublicKey) bool { return keys[k] }) {
			c.next.Set(pace.Jitter(spreadDelay, 0.5))
		}
	}
}

// tellReaders tells the connected members that may read a document of a commit, but for
// those that were told already, and those that lost the right to by it, that they did.
func (n *Node) tellReaders(ctx context.Context, id dag.CollectionID, cm *dag.Commit, told []uint64, except peer.ID) {
	told = append(slices.Clone(told), markOf(n.host.ID()))
	parts := parted(cm)
	var readers []peer.ID
	var as []pando.Reader
	for _, p := range n.sharers(id) {
		if p == except || !n.tellable(p) || slices.Contains(told, markOf(p)) {
			continue
		}
		if n.keepsPart(p, id) && !parts {
			continue // it watches
		}
		readers, as = append(readers, p), append(as, n.readerOf(p))
	}
	may, err := n.replica.MayRead(ctx, id, cm.Doc, as...)
	if err != nil {
		n.log.Debug("it cannot be told who may read a document", "document", cm.Doc, "error", err)
		return
	}
	for i, p := range readers {
		switch {
		case !may[i] && partedFrom(cm, as[i]):
			n.farewell(ctx, p, id, cm.Doc, as[i])
			n.compareSoon(p) // it may lack what is below
		case may[i] && n.keepsPart(p, id):
			may[i] = false
		case may[i]:
			told = append(told, markOf(p))
		}
	}
	i := -1
	readers = slices.DeleteFunc(readers, func(peer.ID) bool { i++; return !may[i] })
	told = told[:min(len(told), maxToldReaders)] // the others are told once more
	for _, p := range readers {
		n.queue(p, news{collection: id, commit: cm.CID, told: told})
	}
	if len(readers) > 0 {
		n.markAt(time.Now(), []dag.CID{cm.CID}, Announced, ByTelling, "")
	}
}

// tellable reports whether a peer can be told of something.
func (n *Node) tellable(p peer.ID) bool {
	ok, err := n.host.Peerstore().SupportsProtocols(p, protocolTell)
	return err == nil && len(ok) > 0
}

// queue puts something into the queue of a peer, if there is room.
func (n *Node) queue(p peer.ID, x news) bool {
	q, lost := n.tellings.put(p, x)
	if lost {
		n.count.Untold.Add(1)
		n.compareSoon(p)
	}
	if q != nil {
		n.spawn(func(ctx context.Context) { n.tellAll(inLane(ctx, live), p, q) })
	}
	return !lost
}

// compareSoon compares with a peer, because something could not be told.
func (n *Node) compareSoon(p peer.ID) {
	if c, err := n.companion(p); err == nil {
		c.next.Set(pace.Jitter(spreadDelay, 0.5))
	}
}

// tellAll tells a peer what is in its queue, until there is nothing left.
func (n *Node) tellAll(ctx context.Context, p peer.ID, q *telling) {
	err := n.tellOver(ctx, p, q)
	partings := n.tellings.drop(p, q)
	if err != nil {
		n.notTold(p, partings)
	}
	if err != nil && ctx.Err() == nil {
		n.log.Debug("a peer could not be told of changes", "peer", p, "error", err)
		n.count.Untold.Add(1)
		n.compareSoon(p)
	}
}

func (n *Node) tellOver(ctx context.Context, p peer.ID, q *telling) error {
	s, err := n.open(ctx, p, []protocol.ID{protocolTell})
	if err != nil {
		return err
	}
	w := newAsking(s, &n.traffic)
	w.version = protocolVersion
	defer w.abort()
	defer context.AfterFunc(ctx, w.abort)()
	for {
		some := n.tellings.take(p, q, packCommits)
		if len(some) == 0 {
			break
		}
		for len(some) > 0 {
			run := slices.IndexFunc(some, func(x news) bool {
				return x.collection != some[0].collection || !slices.Equal(x.told, some[0].told)
			})
			if run < 0 {
				run = len(some)
			}
			if err := n.tellSome(ctx, w, p, some[:run]); err != nil {
				return err
			}
			some = some[run:]
		}
		if !pace.Sleep(ctx, collectFor) {
			return nil
		}
	}
	// The peer ends the stream when it has taken everything, or says why it did not.
	if err := s.CloseWrite(); err != nil {
		return err
	}
	w.patient = ackTimeout
	if m, err := w.receive(); err == nil {
		return breach("%T in answer to what was told", m)
	} else if err != io.EOF {
		return err
	}
	return nil
}

// tellSome sends commits that are told to the same peers, as far as this one may read
// them still.
func (n *Node) tellSome(ctx context.Context, w *wire, p peer.ID, some []news) error {
	id, to := some[0].collection, n.reader(p, some[0].collection)
	by, ok := n.admission.member(p, id)
	shown, known := n.admission.with(p).mine[claim{id, by.secret}]
	if !ok || !known {
		return nil
	}
	w.about(id)
	m, size := &tell{Proof: shown, Told: some[0].told}, 0
	flush := func() error {
		if len(m.Envelopes) == 0 {
			return nil
		}
		err := w.send(m)
		n.count.Told.Add(uint64(len(m.Envelopes)))
		m.Envelopes, size = nil, 0
		return err
	}
	for _, x := range some {
		from := to.Replica
		if x.parting != nil {
			from = n.replica // it was asked about when it was put into the queue
		}
		envelope, err := from.Block(ctx, x.commit)
		if errors.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if size > 0 && size+len(envelope) > packBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		m.Envelopes = append(m.Envelopes, envelope)
		size += len(envelope)
	}
	return flush()
}

func (n *Node) handleTell(s network.Stream) { n.handle(s, aTelling, n.serveTell) }

// serveTell takes what a member tells.
func (n *Node) serveTell(ctx context.Context, w *wire, place *seat) error {
	w.version = protocolVersion // the number of the protocol's name is its own
	ctx = inLane(ctx, live)
	for {
		m, err := w.receive()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		told, ok := m.(*tell)
		if !ok {
			return breach("%T on a stream for telling", m)
		}
		c, ok := n.admission.admits(place.peer, told.Proof)
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
		some, err := n.concerning(ctx, c.id, told.Envelopes)
		if err != nil {
			return err
		}
		if len(some) < len(told.Envelopes) {
			n.repair(place.peer)
		}
		if told.Envelopes = some; len(some) == 0 {
			continue
		}
		if err := n.stores(false); err != nil {
			return err
		}
		if err := n.takeTold(ctx, sharing{place.peer, c.id}, told); err != nil {
			return err
		}
	}
}

// concerning returns the commits that are taken as they are told: of a part those of
// documents that are here. Whether others concern it shows by comparing.
func (n *Node) concerning(ctx context.Context, id dag.CollectionID, envelopes [][]byte) (some [][]byte, err error) {
	if !n.has(id) {
		return nil, nil
	}
	if !n.partial(id) {
		return envelopes, nil
	}
	here := map[dag.DocID]bool{}
	for _, e := range envelopes {
		c, err := dag.Open(e)
		if err != nil {
			some = append(some, e) // the merge says what is wrong with it
			continue
		}
		is, known := here[c.Doc]
		if !known {
			heads, err := n.replica.Heads(ctx, id, c.Doc)
			if err != nil {
				return nil, err
			}
			is = len(heads) > 0
			here[c.Doc] = is
		}
		if is {
			some = append(some, e)
		}
	}
	return some, nil
}

// takeTold merges what a member told, and passes it on.
func (n *Node) takeTold(ctx context.Context, from sharing, m *tell) error {
	n.count.ToldHere.Add(uint64(len(m.Envelopes)))
	begun, size := time.Now(), 0
	for _, e := range m.Envelopes {
		size += len(e)
	}
	got, err := n.merge(ctx, from.collection, m.Envelopes, from.peer)
	n.chargeWaste(from.peer, int64(size), intake{Applied: got.Applied, Known: got.Known, Deferred: len(got.Future), Awaiting: len(got.Awaits)})
	n.came(got.Commits, ByTelling, from.peer, begun)
	n.postpone(from, m.Envelopes, got.Future)
	for _, e := range m.Envelopes {
		if c, err := dag.Open(e); err == nil && slices.Contains(got.Commits, c.CID) {
			n.tellReaders(ctx, from.collection, c, m.Told, from.peer)
		}
	}
	if err != nil {
		return err
	}
	if len(got.Missing) > 0 { // mostly of documents that may be read from now on
		docs := orphans(m.Envelopes, got.Missing)
		n.wantMissing(from.peer, from.collection, n.fetchAnnounced(ctx, from.peer, from.collection, docs))
		n.spread(from.peer)
	}
	return nil
}

package p2p

import (
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// sender writes commits in frames of a good size. What it sends is read as the reader
// sees it that it sends to, page by page: who reads slowly does not keep rights that end
// meanwhile.
type sender struct {
	w       *wire
	to      *reader
	ctx     context.Context
	lanes   *lanes // nil: its packs go at once
	pack    pack
	commits uint64
	cuts    int // documents that were ended before all of them was sent
	looked  int // what it cost to find what the peer lacks, see pando.Lacking
}

// sender returns one whose packs wait for turns in the lane of ctx.
func (r *reader) sender(ctx context.Context, w *wire) *sender {
	return &sender{w: w, to: r, ctx: ctx, lanes: r.n.sending}
}

// again looks anew as whom the peer reads.
func (s *sender) again() {
	if !s.to.all {
		s.to = s.to.n.reader(s.to.peer, s.to.id)
	}
}

func (s *sender) add(envelope []byte) error {
	if s.pack.commits == packCommits || s.pack.commits > 0 && len(s.pack.packed)+len(envelope) > packBytes {
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.pack.packed = cbor.AppendBytes(s.pack.packed, envelope)
	s.pack.commits++
	return nil
}

// completed notes that a document of a full copy was added to the end.
func (s *sender) completed(doc dag.DocID) {
	s.pack.documents++
	s.pack.done = &doc
}

func (s *sender) flush() error {
	if s.pack.commits == 0 {
		return nil
	}
	if s.lanes != nil {
		t, err := s.lanes.enter(s.ctx, laneOf(s.ctx))
		if err != nil {
			return err
		}
		defer t.atMost(longestTurn).leave()
	}
	if err := s.w.send(&s.pack); err != nil {
		return err
	}
	s.commits += uint64(s.pack.commits)
	s.pack = pack{packed: s.pack.packed[:0]}
	return nil
}

func (s *sender) end(mark uint64) error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.w.send(&end{mark})
}

// What is read of the database is read in pieces, and none is open while a piece
// is on its way to a peer, however slow that is.

// copied is a commit read from the database.
type copied struct {
	doc      dag.DocID
	at       pando.Point
	envelope []byte
}

// pageBytes is how much is read at once: it is held for as long as a member takes
// to read it, and there may be a hundred.
const pageBytes = 1 << 20

// page reads commits until limit bytes are reached; more tells whether there was more.
func page(blocks iter.Seq2[pando.Block, error], limit int) (out []copied, more bool, err error) {
	size := 0
	for b, err := range blocks {
		if err != nil {
			return nil, false, err
		}
		if size >= limit {
			return out, true, nil
		}
		out = append(out, copied{b.Doc, pando.Point{Height: b.Height, CID: b.CID}, slices.Clone(b.Envelope)})
		size += len(b.Envelope)
	}
	return out, false, nil
}

// sendDocument sends what w asks for of one document.
func (s *sender) sendDocument(ctx context.Context, w pando.Want) error {
	return s.sendUpTo(ctx, w, math.MaxInt)
}

// sendFull sends every commit of a collection, documents in the order of their IDs.
func (s *sender) sendFull(ctx context.Context, after dag.DocID) error {
	for {
		s.again()
		part, more, err := page(s.to.blocksAfter(ctx, after), pageBytes)
		if err != nil || len(part) == 0 {
			return err
		}
		last := part[len(part)-1].doc
		whole := part
		if more { // the last document may be cut
			whole = part[:slices.IndexFunc(part, func(c copied) bool { return c.doc == last })]
		}
		for i, c := range whole {
			if err := s.add(c.envelope); err != nil {
				return err
			}
			if i+1 == len(whole) || whole[i+1].doc != c.doc {
				s.completed(c.doc)
				after = c.doc
			}
		}
		if !more {
			return nil
		}
		if len(whole) == 0 { // one document larger than a page
			if err := s.sendDocument(ctx, pando.Want{Doc: last}); err != nil {
				return err
			}
			s.completed(last)
			after = last
		}
	}
}

// sendLog sends the feed's commits of one collection after one sequence number
// and up to another, less those that came from the receiver.
func (s *sender) sendLog(ctx context.Context, after, until uint64) error {
	for after < until {
		var entries []dag.CID
		seen := 0
		s.again()
		for c, err := range s.to.Log(ctx, after) {
			if err != nil {
				return err
			}
			after = c.Seq
			if after > until {
				break
			}
			if c.Collection == s.to.id && c.Origin != s.to.peer.String() {
				entries = append(entries, c.Commit)
			}
			if seen++; seen == maxLog || len(entries) == packCommits {
				break
			}
		}
		for _, cid := range entries {
			envelope, err := s.to.Block(ctx, cid)
			if errors.Is(err, fault.NotFound) && !s.to.all {
				continue // the peer may read it no more
			}
			if err != nil {
				return err
			}
			if err := s.add(envelope); err != nil {
				return err
			}
		}
		if seen < maxLog && len(entries) < packCommits {
			break
		}
	}
	return nil
}

// intake is what became of a run of commits from a peer.
type intake struct {
	Applied, Known, Deferred int
	Nameless                 int // of the deferred: nobody knows of which documents
	Awaiting                 int // commits of groups
	Documents                uint64
	Missing                  map[dag.DocID][]dag.CID
	More                     []*more // documents whose histories go on
	Mark                     uint64  // of END
	Bytes                    uint64  // of a fetch, both ways
}

func (t *intake) add(m pando.Merged) {
	t.Applied += m.Applied
	t.Known += m.Known
	t.Deferred += len(m.Future)
	t.Awaiting += len(m.Awaits)
	t.miss(m.Missing)
}

// include adds what another run brought.
func (t *intake) include(o intake) {
	t.Applied += o.Applied
	t.Known += o.Known
	t.Deferred += o.Deferred
	t.Nameless += o.Nameless
	t.Awaiting += o.Awaiting
	t.Documents += o.Documents
	t.Bytes += o.Bytes
	t.miss(o.Missing)
}

func (t *intake) miss(missing map[dag.DocID][]dag.CID) {
	for doc, cids := range missing {
		if t.Missing == nil {
			t.Missing = map[dag.DocID][]dag.CID{}
		}
		t.Missing[doc] = append(t.Missing[doc], cids...)
	}
}

// nothing reports whether no commit came at all.
func (t *intake) nothing() bool {
	return t.Applied+t.Known+t.Deferred+t.Awaiting+len(t.Missing)+len(t.More) == 0
}

// complete reports whether everything that came is now here.
func (t *intake) complete() bool {
	return len(t.Missing)+len(t.More) == 0 && t.Deferred+t.Awaiting == 0
}

type arrival struct {
	m   message
	err error
}

// receiveBlocks merges commits while it reads them, until END. What was read and
// is not merged yet stays below maxUnapplied: one frame in hand, one being
// merged, the rest between. merged is called after each transaction.
func (n *Node) receiveBlocks(ctx context.Context, w *wire, from peer.ID, id dag.CollectionID, merged func(*blocks, pando.Merged) error) (intake, error) {
	return n.receiveInTurn(ctx, w, from, id, nil, merged)
}

// receiveInTurn is receiveBlocks of commits that others may have to come before:
// turn, if not nil, waits for that, while the first of them are read already.
func (n *Node) receiveInTurn(ctx context.Context, w *wire, from peer.ID, id dag.CollectionID, turn func() error, merged func(*blocks, pando.Merged) error) (intake, error) {
	var total intake
	arrivals := make(chan arrival, maxUnapplied/maxFrame-2)
	stop := make(chan struct{})
	var held, commits atomic.Int64 // bytes read and not merged, and what they are
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(arrivals)
		for {
			if !n.mayRead(ctx, &held, stop) {
				return
			}
			m, err := w.receive()
			if b, ok := m.(*blocks); ok {
				held.Add(int64(b.size()))
				commits.Add(int64(len(b.Envelopes)))
				n.unapplied.add(len(b.Envelopes), b.size())
			}
			select {
			case arrivals <- arrival{m, err}:
			case <-stop:
				return
			}
			switch m.(type) {
			case *blocks, *more:
			default:
				return
			}
		}
	})
	done := false
	defer func() {
		close(stop)
		if !done {
			w.s.CloseRead() // or the reader would wait for the peer, who may yet be told why
		}
		reader.Wait()
		n.unapplied.add(int(-commits.Load()), int(-held.Load()))
	}()

	useless, again := 0, returning{n: n, id: id}
	for a, ok := <-arrivals; ok; {
		var next *arrival
		if a.err == io.EOF {
			return total, fault.Unavailable.Errorf("the peer closed the stream between commits")
		}
		if a.err != nil {
			return total, a.err
		}
		switch m := a.m.(type) {
		case *end:
			total.Mark, done = m.Mark, true
			return total, nil
		case *more:
			if total.More = append(total.More, m); len(total.More) > maxMore {
				return total, breach("%d documents were cut in one answer, allowed are %d", len(total.More), maxMore)
			}
		case *blocks:
			if turn != nil {
				if err := turn(); err != nil {
					return total, err
				}
				turn = nil
			}
			m, next = gather(m, arrivals)
			begun := time.Now()
			got, err := n.merge(ctx, id, m.Envelopes, from)
			held.Add(int64(-m.size()))
			commits.Add(int64(-len(m.Envelopes)))
			n.unapplied.add(-len(m.Envelopes), -m.size())
			total.add(got)
			n.came(got.Commits, w.way(), from, begun)
			total.Nameless += n.postpone(sharing{from, id}, m.Envelopes, got.Future)
			total.Documents += m.Documents
			if err != nil {
				return total, err
			}
			if merged != nil {
				if err := merged(m, got); err != nil {
					return total, err
				}
			}
			if useless += len(m.Envelopes); got.Applied > 0 {
				useless = 0
			}
			if useless > n.patienceWith(from) {
				onceMore, err := again.among(ctx, m.Envelopes)
				if err != nil {
					return total, err
				}
				useless -= onceMore
			}
			if useless > n.patienceWith(from) {
				n.blame(from, blameUseless, "it repeats what is known")
				return total, fault.Unavailable.Errorf("%d commits in a row brought nothing new: the peer repeats itself", useless)
			}
		default:
			return total, breach("%T among commits", m)
		}
		if next != nil {
			a = *next
		} else {
			a, ok = <-arrivals
		}
	}
	return total, fault.Unavailable.Errorf("the stream ended between commits")
}

// mayRead waits until there is room for one more frame, and reports false if nobody
// wants it any more. A stream that holds nothing may always read.
func (n *Node) mayRead(ctx context.Context, held *atomic.Int64, stop <-chan struct{}) bool {
	for held.Load() > 0 {
		freed := n.unapplied.full()
		if freed == nil {
			break
		}
		select {
		case <-freed:
		case <-stop:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// gather adds to m the blocks that have arrived meanwhile, so that a slow disk
// gets larger transactions instead of a longer queue. It returns the arrival that
// it took and could not use.
func gather(m *blocks, arrivals <-chan arrival) (*blocks, *arrival) {
	for len(m.Envelopes) < mergeCommits {
		select {
		case a, ok := <-arrivals:
			if !ok {
				return m, nil
			}
			next, isBlocks := a.m.(*blocks)
			if a.err != nil || !isBlocks {
				return m, &a
			}
			m = &blocks{m.Documents + next.Documents, m.Done, append(m.Envelopes, next.Envelopes...)}
			if next.Done != nil {
				m.Done = next.Done
			}
		default:
			return m, nil
		}
	}
	return m, nil
}

// merge hands commits to the database. A commit that is invalid for everybody is
// a breach of its sender, who had to check it before passing it on.
func (n *Node) merge(ctx context.Context, id dag.CollectionID, envelopes [][]byte, from peer.ID) (pando.Merged, error) {
	envelopes, err := n.sealedOnly(ctx, id, envelopes, from)
	if err != nil || len(envelopes) == 0 {
		return pando.Merged{}, err
	}
	t, err := n.merging.enter(ctx, laneOf(ctx))
	if err != nil {
		return pando.Merged{}, err
	}
	m, err := n.replica.Merge(ctx, id, envelopes, from.String())
	t.leave()
	n.count.Merged.Add(uint64(m.Applied))
	n.awaited(from, id, m.Awaits)
	if bad := new(pando.InvalidCommit); errors.As(err, &bad) {
		n.count.InvalidCommits.Add(1)
		n.mark(bad.CID, Refused, "", from)
		return m, &breachError{err}
	} else if err != nil {
		err = n.notStored(ctx, err)
	}
	return m, err
}

package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/radix"
)

// rangePiece is a part of a full copy: the documents after one docID, up to another.
type rangePiece struct {
	first   *dag.DocID
	count   uint64 // of the documents of the collection
	settled func() bool

	mu    sync.Mutex // guards what follows
	after *dag.DocID // what comes before is here, if whoever was asked told the truth
	until *dag.DocID
}

const (
	// rangeDocuments is how many documents a range holds, about: enough to fill the
	// line while the next is asked for. maxRanges bounds the ranges, which are larger
	// for larger collections.
	rangeDocuments = 2048
	maxRanges      = 256
	// judgedFrom is how many documents a range must be expected to hold for few of
	// them to say something: a quarter of so many is nothing that happens by chance.
	judgedFrom = 64
	// splitFrom is how long a range must be expected to take still for a peer without
	// work to be given half of it.
	splitFrom = 200 * time.Millisecond
)

// ranges cuts a full copy of count documents into pieces, without those before after.
func ranges(count uint64, after *dag.DocID) (out []*rangePiece) {
	pieces := 1
	for uint64(pieces)*rangeDocuments < count && pieces < maxRanges {
		pieces *= 2
	}
	var first *dag.DocID
	for i := range pieces {
		var until *dag.DocID
		if i+1 < pieces {
			until = docBefore(uint64(i+1) * (math.MaxUint64/uint64(pieces) + 1))
		}
		if after == nil || until == nil || until.Compare(*after) > 0 {
			r := &rangePiece{first: first, until: until, count: count}
			if after != nil && (first == nil || first.Compare(*after) < 0) {
				r.first = after
			}
			r.after = r.first
			out = append(out, r)
		}
		first = until
	}
	return out
}

// docBefore is the last docID of those whose first 8 bytes are less than a number.
func docBefore(n uint64) *dag.DocID {
	var doc dag.DocID
	for i := range doc {
		doc[i] = 0xff
	}
	binary.BigEndian.PutUint64(doc[:], n-1)
	return &doc
}

// span is how far two docIDs are from each other, of all that there are.
func span(after, until *dag.DocID) float64 {
	lo, hi := uint64(0), uint64(math.MaxUint64)
	if after != nil {
		lo = binary.BigEndian.Uint64(after[:])
	}
	if until != nil {
		hi = binary.BigEndian.Uint64(until[:])
	}
	return float64(hi-min(lo, hi)) / math.MaxUint64
}

func (r *rangePiece) now() (after, until *dag.DocID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.after, r.until
}

// advance notes that everything up to a document came, and reports whether that is all.
func (r *rangePiece) advance(done *dag.DocID) (all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until != nil && done.Compare(*r.until) > 0 {
		r.after = r.until
		return true
	}
	if r.after == nil || done.Compare(*r.after) > 0 {
		r.after = done
	}
	return false
}

// split takes the second half of what is left, if that takes a while still.
func (r *rangePiece) split(took time.Duration) *rangePiece {
	r.mu.Lock()
	defer r.mu.Unlock()
	left, came := span(r.after, r.until), span(r.first, r.after)
	if r.after == nil {
		came = 0
	}
	if left*float64(r.count) < 2 || float64(took)*left < float64(splitFrom)*came || came == 0 && took < splitFrom {
		return nil
	}
	lo := uint64(0)
	if r.after != nil {
		lo = binary.BigEndian.Uint64(r.after[:])
	}
	half := docBefore(lo + uint64(left/2*math.MaxUint64) + 1)
	other := &rangePiece{first: half, after: half, until: r.until, count: r.count}
	r.until = half
	return other
}

// errEnough ends an answer of which the rest is another's.
var errEnough = errors.New("the rest of the range is asked of another peer")

func (r *rangePiece) get(fl *flight, f *fetching) (total intake, err error) {
	for {
		after, until := r.now()
		if err := f.w.send(&getRange{f.proof, after, until}); err != nil {
			return total, err
		}
		last := after
		got, err := f.n.receiveBlocks(fl.ctx, f.w, f.peer, f.id, func(b *blocks, _ pando.Merged) error {
			fl.brought(int(b.Documents), len(b.Envelopes), b.size())
			if b.Done == nil {
				return nil
			}
			if last != nil && b.Done.Compare(*last) <= 0 || until != nil && b.Done.Compare(*until) > 0 {
				return breach("a document that was not asked for in a range")
			}
			if last = b.Done; r.advance(last) {
				return errEnough
			}
			return nil
		})
		total.include(got)
		fl.co.lengthen(got.More, nil, nil)
		switch {
		case errors.Is(err, errEnough):
			f.spoiled = true
			return total, nil
		case err != nil || got.Mark > 0:
			return total, err
		case last == after:
			return total, breach("a range that is cut before its first document")
		}
	}
}

// here counts the documents of the range. A range that is nearly empty is asked for
// again from its beginning.
func (r *rangePiece) here(ctx context.Context, co *convoy) (bool, error) {
	_, until := r.now()
	expected := span(r.first, until) * float64(r.count)
	if expected < judgedFrom {
		return true, nil
	}
	lo, hi := 0, 255
	if r.first != nil {
		lo = int(r.first[0])
	}
	if until != nil {
		hi = int(until[0])
	}
	left := int(expected / 4)
	for b := lo; b <= hi; b++ {
		for e, err := range co.n.replica.Elements(ctx, co.id, radix.PrefixOf([32]byte{byte(b)}, 2)) {
			if err != nil {
				return false, err
			}
			doc := dag.DocID(e.Key)
			if r.first != nil && doc.Compare(*r.first) <= 0 || until != nil && doc.Compare(*until) > 0 {
				continue
			}
			if left--; left <= 0 {
				return true, nil
			}
		}
	}
	r.mu.Lock()
	r.after = r.first
	r.mu.Unlock()
	return false, nil
}

// itemsPiece is a part of what a walk found.
type itemsPiece struct {
	heads map[dag.DocID][]dag.CID // that the main peer has of documents that are here
	tops  map[dag.DocID]uint64    // how high those were

	mu    sync.Mutex // guards what follows
	items []item     // what is not here yet
	tall  map[dag.DocID]bool
}

// itemsAtOnce is how many documents of a difference make a piece.
const itemsAtOnce = 256

func (p *itemsPiece) get(fl *flight, f *fetching) (intake, error) {
	p.mu.Lock()
	items := slices.Clone(p.items)
	p.mu.Unlock()
	if len(items) == 0 {
		return intake{}, nil
	}
	got, err := f.items(fl.ctx, items, nil)
	if err != nil {
		return got, err
	}
	if fl.peer == fl.co.main && got.nothing() && promised(items) {
		f.n.blame(fl.peer, blameUseless, "it does not give what its tree shows")
		return got, fault.Unavailable.Errorf("%w", errEmpty)
	}
	p.mu.Lock()
	for _, m := range got.More {
		if p.tall == nil {
			p.tall = map[dag.DocID]bool{}
		}
		p.tall[m.Doc] = true
	}
	p.mu.Unlock()
	fl.co.lengthen(got.More, items, p.tops)
	return got, nil
}

// here keeps what did not come.
func (p *itemsPiece) here(ctx context.Context, co *convoy) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left []item
	for _, it := range p.items {
		came, err := p.came(ctx, co, it)
		if err != nil {
			return false, err
		}
		if !came {
			left = append(left, it)
		}
	}
	p.items = left
	return len(left) == 0, nil
}

func (p *itemsPiece) came(ctx context.Context, co *convoy, it item) (bool, error) {
	if len(it.Doc) < len(dag.DocID{}) {
		var key [32]byte
		copy(key[:], it.Doc)
		for e, err := range co.n.replica.Elements(ctx, co.id, radix.PrefixOf(key, 2*len(it.Doc))) {
			return bytes.HasPrefix(e.Key[:], it.Doc), err
		}
		return false, nil
	}
	doc := dag.DocID(it.Doc)
	if p.tall[doc] {
		return true, nil // or it comes by and by
	}
	left, err := co.n.lacking(ctx, p.heads[doc])
	return len(left) == 0, err
}

// longHistory is a document of which the beginning came. The rest comes in parts by
// height, which several peers are asked for, and which are merged in their order.
type longHistory struct {
	doc     dag.DocID
	have    []dag.CID
	locator []uint64
	top     uint64 // as the peer said that cut it

	parts []*piece
	next  int // the first part that is not here; guarded by convoy.mu
}

// partPiece is one part of a history.
type partPiece struct {
	*longHistory
	index int
	below uint64 // 0: to the top

	mu    sync.Mutex // guards what follows
	after pando.Point
}

const (
	// partShare is into how many parts a history is cut for each tallBytes: what is read
	// of a part before its turn must not be much.
	partShare = 4
	// minPart and maxPart bound the heights of one.
	minPart, maxPart = 16, 8192
	// maxHistoryParts bounds the parts of one history: the last is as long as it takes, and is
	// cut again.
	maxHistoryParts = 256
	// maxPieces bounds what is left to do: beyond, histories are not gone on with, and
	// the next comparison finds them.
	maxPieces = 1 << 14
)

// lengthen queues the rest of documents that were cut in the answer for some items,
// of which those that were here were so high.
func (co *convoy) lengthen(cut []*more, items []item, tops map[dag.DocID]uint64) {
	for _, m := range cut {
		h := &longHistory{doc: m.Doc, top: m.Top}
		base := tops[m.Doc]
		for _, it := range items {
			if bytes.Equal(it.Doc, m.Doc[:]) {
				h.have, h.locator = it.Have, it.Locator
			}
		}
		each := min(max((m.After.Height-min(base, m.After.Height))/partShare, minPart), maxPart)
		co.mu.Lock()
		for after := m.After; co.left < maxPieces; {
			below := after.Height + each + 1
			part := &partPiece{longHistory: h, index: len(h.parts), after: after, below: below}
			if below > m.Top || len(h.parts)+1 == maxHistoryParts {
				part.below = 0
			}
			h.parts = append(h.parts, co.queueHeld(part))
			if part.below == 0 {
				break
			}
			after = lastBelow(below)
		}
		co.mu.Unlock()
	}
}

// lastBelow is the point behind everything that is lower than a height.
func lastBelow(height uint64) pando.Point {
	p := pando.Point{Height: height - 1}
	for i := range p.CID {
		p.CID[i] = 0xff
	}
	return p
}

func (p *partPiece) get(fl *flight, f *fetching) (total intake, err error) {
	turn := func() error { return p.turn(fl) }
	for {
		p.mu.Lock()
		ask := &getPart{Doc: p.doc, Have: p.have, Locator: p.locator, After: p.after, Below: p.below}
		p.mu.Unlock()
		got, err := f.part(fl.ctx, ask, turn)
		total.include(got)
		if err != nil {
			return total, err
		}
		if len(got.More) == 0 {
			return total, turn() // also of an empty answer
		}
		p.mu.Lock()
		p.after = got.More[0].After
		p.mu.Unlock()
	}
}

// turn waits until the parts before are here. If one of them is in nobody's hands,
// or in bad ones, this one is given up for it.
func (p *partPiece) turn(fl *flight) error {
	co := fl.co
	defer func() {
		co.mu.Lock()
		fl.waits, fl.moved = false, time.Now()
		co.mu.Unlock()
	}()
	for {
		co.mu.Lock()
		for p.next < len(p.parts) && p.parts[p.next].done {
			p.next++
		}
		if p.next >= p.index {
			co.mu.Unlock()
			return nil
		}
		fl.waits = true
		first := p.parts[p.next]
		if !first.asked && co.may(first, fl.peer) && co.takenOver(first, fl.peer, func(fl *flight) bool { return fl.stalls(time.Now()) }) {
			first.asked = true
			co.mu.Unlock()
			return errGivesWay
		}
		if first.flights == 0 && !co.anyone(first) {
			co.mu.Unlock()
			return fault.Unavailable.Errorf("nobody is left to ask for what comes before a part of document %s", p.doc)
		}
		changed := co.changed
		co.mu.Unlock()
		if !waitChanged(fl.ctx, changed, lookEvery) {
			return errTaken
		}
	}
}

// here looks how high the document is: heights have no gaps.
func (p *partPiece) here(ctx context.Context, co *convoy) (bool, error) {
	want := p.top
	if p.below > 0 {
		want = p.below - 1
	}
	l, err := co.n.replica.Lacking(ctx, co.id, pando.Want{Doc: p.doc})
	return l.Top >= want, err
}

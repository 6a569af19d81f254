package p2p

import (
	"context"
	"iter"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/cbor"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// What is to come from several peers at once is asked for in parts: ranges of a
// collection, and parts of one long history. All of it is of version 2.

// getRange asks for all commits of the documents after one docID and up to another.
type getRange struct {
	Proof proof
	After *dag.DocID // nil: from the first
	Until *dag.DocID // nil: to the last
}

func (m *getRange) append(b []byte) []byte {
	b = cbor.AppendBytes(begin(b, msgRange), m.Proof[:])
	return appendToken(appendToken(b, m.After), m.Until)
}

func readRange(r *cbor.Reader) message {
	m := new(getRange)
	exactly(r, "a proof", m.Proof[:])
	m.After, m.Until = readToken(r), readToken(r)
	return m
}

// getPart asks for the commits of one document after a point of its history and
// below a height, less what the asker has.
type getPart struct {
	Proof   proof
	Doc     dag.DocID
	Have    []dag.CID
	Locator []uint64
	After   pando.Point
	Below   uint64 // 0: to the top
}

func (m *getPart) append(b []byte) []byte {
	b = cbor.AppendBytes(begin(b, msgPart), m.Proof[:])
	b = cbor.AppendBytes(b, m.Doc[:])
	b = appendLocator(appendCIDs(b, m.Have), m.Locator)
	return cbor.AppendUint(appendPoint(b, m.After), m.Below)
}

func readPart(r *cbor.Reader) message {
	m := new(getPart)
	exactly(r, "a proof", m.Proof[:])
	exactly(r, "a docID", m.Doc[:])
	m.Have, m.Locator = readCIDs(r, maxHeads), readLocator(r)
	m.After = readPoint(r)
	m.Below = r.Uint()
	return m
}

// more says that the commits of a document stop after a point in this answer, and
// how high they go: the rest is to be asked for in parts.
type more struct {
	Doc   dag.DocID
	After pando.Point
	Top   uint64
}

func (m *more) append(b []byte) []byte {
	b = cbor.AppendBytes(begin(b, msgMore), m.Doc[:])
	return cbor.AppendUint(appendPoint(b, m.After), m.Top)
}

func readMore(r *cbor.Reader) message {
	m := new(more)
	exactly(r, "a docID", m.Doc[:])
	m.After = readPoint(r)
	m.Top = r.Uint()
	if r.Err() == nil && m.Top < m.After.Height {
		r.Fail(fault.Invalid.Errorf("a history of height %d goes on after %d", m.Top, m.After.Height))
	}
	return m
}

// A point is two items: the height, and the CID.
func appendPoint(b []byte, p pando.Point) []byte {
	return cbor.AppendBytes(cbor.AppendUint(b, p.Height), p.CID[:])
}

func readPoint(r *cbor.Reader) (p pando.Point) {
	p.Height = r.Uint()
	exactly(r, "a CID", p.CID[:])
	return p
}

// sendUpTo sends what w asks for of one document, until it has sent so many bytes.
// If there is more, it says so, and so does the receiver learn it.
func (s *sender) sendUpTo(ctx context.Context, w pando.Want, limit int) error {
	sent := 0
	for {
		l, err := s.to.Lacking(ctx, s.to.id, w)
		if s.looked += l.Looked; err != nil {
			return err
		}
		for left := true; left; {
			var part []copied
			s.again()
			if part, left, err = page(s.to.PackOf(ctx, l, w.After), min(pageBytes, limit-sent)); err != nil {
				return err
			}
			for _, c := range part {
				if err := s.add(c.envelope); err != nil {
					return err
				}
				sent += len(c.envelope)
				w.After = c.at
			}
			if sent >= limit && (left || l.Cut) {
				return s.cut(&more{w.Doc, w.After, l.Top})
			}
		}
		if !l.Cut {
			return nil
		}
	}
}

// cut ends a document before all of it was sent.
func (s *sender) cut(m *more) error {
	s.cuts++
	if err := s.flush(); err != nil {
		return err
	}
	return s.w.send(m)
}

// enough reports whether an answer that began after so many bytes should end: more of it
// is to be asked for. What compresses well has many cuts in few bytes.
func (s *sender) enough(before int64) bool {
	return s.w.written.Load()-before > fetchBytes || s.cuts >= maxMore-leafDocuments
}

// sendRange answers getRange, and reports whether it did so in full.
func (s *sender) sendRange(ctx context.Context, after, until *dag.DocID) (whole bool, err error) {
	var from dag.DocID
	if after != nil {
		from = *after
	}
	before := s.w.written.Load()
	for !s.enough(before) {
		s.again()
		part, left, err := page(through(s.to.blocksAfter(ctx, from), until), pageBytes)
		if err != nil {
			return false, err
		}
		docs := documentsOf(part)
		if left && len(docs) > 1 {
			docs = docs[:len(docs)-1] // the last may be cut
		}
		for _, doc := range docs {
			for _, c := range doc {
				if err := s.add(c.envelope); err != nil {
					return false, err
				}
			}
			from = doc[0].doc
			s.completed(from)
		}
		if !left {
			return true, nil
		}
		if len(docs) == 1 { // perhaps it is larger than a page
			if err := s.sayMore(ctx, docs[0][len(docs[0])-1]); err != nil {
				return false, err
			}
		}
	}
	return false, s.flush()
}

// sayMore tells that a document goes on after a commit, if it does.
func (s *sender) sayMore(ctx context.Context, last copied) error {
	l, err := s.to.Lacking(ctx, s.to.id, pando.Want{Doc: last.doc, After: last.at})
	if err != nil {
		return err
	}
	_, left, err := page(s.to.PackOf(ctx, l, last.at), 0)
	if err != nil || !left {
		return err
	}
	return s.cut(&more{last.doc, last.at, l.Top})
}

// through ends a sequence after a document.
func through(blocks iter.Seq2[pando.Block, error], until *dag.DocID) iter.Seq2[pando.Block, error] {
	if until == nil {
		return blocks
	}
	return func(yield func(pando.Block, error) bool) {
		for b, err := range blocks {
			if err == nil && b.Doc.Compare(*until) > 0 || !yield(b, err) {
				return
			}
		}
	}
}

// documentsOf takes commits apart by document.
func documentsOf(part []copied) (docs [][]copied) {
	for i, c := range part {
		if i == 0 || part[i-1].doc != c.doc {
			docs = append(docs, nil)
		}
		docs[len(docs)-1] = append(docs[len(docs)-1], c)
	}
	return docs
}

func (r *reader) answerRange(ctx context.Context, w *wire, ask *getRange) error {
	ctx = inLane(ctx, backfill)
	out := r.sender(ctx, w)
	whole, err := out.sendRange(ctx, ask.After, ask.Until)
	if err != nil {
		return err
	}
	if !whole {
		return out.end(0)
	}
	return out.end(1)
}

func (r *reader) answerPart(ctx context.Context, w *wire, ask *getPart) error {
	out := r.sender(ctx, w)
	defer out.charge()
	if may, err := r.may(ctx, ask.Doc); err != nil {
		return err
	} else if !may {
		r.deny("PART", ask.Doc)
	}
	want := pando.Want{Doc: ask.Doc, Have: ask.Have, Locator: ask.Locator, After: ask.After, Below: ask.Below}
	if err := out.sendUpTo(ctx, want, fetchBytes); err != nil {
		return err
	}
	return out.end(1)
}

package store

import (
	"context"
	"iter"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
)

// Change is one entry of the feed: a commit became part of a document.
type Change struct {
	Seq        uint64
	Collection dag.CollectionID
	Doc        dag.DocID
	Commit     dag.CID
	Height     uint64
	Origin     string // the peer it came from; "" if it was made here
}

// feedPage is how many entries of the feed are read at once: the reader holds no
// snapshot while it looks at them, however long that takes.
const feedPage = 1024

// Log yields the durable feed after a number, up to now: of documents that the caller
// may read now, whoever could when they changed.
func (s *Store) Log(ctx context.Context, who Caller, after uint64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		end, _, _ := s.durable.state()
		s.entries(ctx, who, after, end, yield)
	}
}

// Changes yields the feed as Log does, then waits for more. It ends
// with the context's error, or with Closed when the database closes. A slow reader
// slows nobody, and closing the database does not wait for it.
func (s *Store) Changes(ctx context.Context, who Caller, after uint64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for {
			end, closed, changed := s.durable.state()
			if closed {
				yield(Change{}, fault.Closed.Errorf("the database is closed"))
				return
			}
			if after < end {
				if !s.entries(ctx, who, after, end, yield) {
					return
				}
				after = end
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(Change{}, context.Cause(ctx))
				return
			}
		}
	}
}

// entries yields the feed in (after, end] and reports whether the caller wants more.
func (s *Store) entries(ctx context.Context, who Caller, after, end uint64, yield func(Change, error) bool) bool {
	for after < end {
		until := min(end, after+feedPage)
		list, err := s.read(ctx, who, after, until)
		for _, c := range list {
			if !yield(c, nil) {
				return false
			}
		}
		if err != nil {
			yield(Change{}, err)
			return false
		}
		after = until
	}
	return true
}

// read returns the feed in (after, end]; after an error, what came before it.
func (s *Store) read(ctx context.Context, who Caller, after, end uint64) ([]Change, error) {
	tx, err := s.begin(who)
	if err != nil {
		return nil, err
	}
	defer tx.release()
	tx.readOnly = true
	list := make([]Change, 0, end-after)
	for c, err := range tx.changed(after, end) {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return list, err
		}
		list = append(list, c)
	}
	return list, nil
}

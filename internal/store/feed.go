package store

import (
	"context"
	"encoding/binary"
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

// Log yields the durable feed after a number, up to now.
func (s *Store) Log(ctx context.Context, after uint64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		if err := s.gate.enter(); err != nil {
			yield(Change{}, err)
			return
		}
		defer s.gate.leave()
		end, _, _ := s.durable.state()
		s.entries(ctx, after, end, yield)
	}
}

// Changes yields the durable feed after a number, then waits for more. It ends
// with the context's error, or with Closed when the database closes. It holds
// nothing while it waits, and a slow reader slows nobody.
func (s *Store) Changes(ctx context.Context, after uint64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for {
			end, closed, changed := s.durable.state()
			if closed {
				yield(Change{}, fault.Closed.Errorf("the database is closed"))
				return
			}
			if after < end {
				next, more := s.follow(ctx, after, end, yield)
				if !more {
					return
				}
				after = next
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

func (s *Store) follow(ctx context.Context, after, end uint64, yield func(Change, error) bool) (uint64, bool) {
	if err := s.gate.enter(); err != nil {
		yield(Change{}, err)
		return after, false
	}
	defer s.gate.leave()
	// Bounded, so that a reader far behind does not pin an old snapshot.
	end = min(end, after+4096)
	return end, s.entries(ctx, after, end, yield)
}

// entries yields the feed in (after, end] and reports whether the caller wants more.
func (s *Store) entries(ctx context.Context, after, end uint64, yield func(Change, error) bool) bool {
	snap := s.kv.Snapshot()
	defer snap.Close()
	ids := map[short]dag.CollectionID{}
	for m := range s.set.Load().members() {
		ids[m.short] = m.ID
	}
	for e, err := range snap.Scan(feedKey(after+1), feedKey(end+1)) {
		if err == nil {
			err = context.Cause(ctx)
		}
		var c Change
		if err == nil {
			c, err = s.entry(e.Key, e.Value, ids)
		}
		if !yield(c, err) || err != nil {
			return false
		}
	}
	return true
}

func (s *Store) entry(key, v []byte, ids map[short]dag.CollectionID) (Change, error) {
	if len(key) != 9 {
		return Change{}, fault.Corrupt.Errorf("feed key of %d bytes, want 9: run pando fsck --rebuild", len(key))
	}
	seq := binary.BigEndian.Uint64(key[1:])
	at, origin, err := parseFeedValue(seq, v)
	if err != nil {
		return Change{}, err
	}
	return Change{seq, ids[at.coll], at.doc, at.cid, at.height, s.peer(origin)}, nil
}

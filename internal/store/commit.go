package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/kv"
)

// errStale says that something the transaction relied on has changed since.
var errStale = errors.New("changed since the snapshot")

// receipt is what a transaction has to wait for before it is acknowledged.
type receipt struct {
	sync kv.Pending
	seq  uint64 // its own last number of the feed, or the newest one that it saw
	own  bool

	untold []untold
}

// commit makes the transaction's writes one batch and visible together. They are
// durable after wait.
func (tx *Tx) commit() (receipt, error) {
	if len(tx.pending) == 0 && len(tx.added) == 0 && !tx.views && !tx.policy && !tx.unlocks {
		return receipt{seq: tx.seq}, nil
	}
	if err := tx.sign(); err != nil {
		return receipt{}, err
	}
	if !tx.serial {
		tx.s.writer.Lock()
		defer tx.s.writer.Unlock()
	}
	if tx.stale() {
		return receipt{}, errStale
	}
	if err := tx.recheckUnique(); err != nil {
		return receipt{}, err
	}
	return tx.publish()
}

// wait returns when a transaction may be acknowledged. The next writer runs
// meanwhile: the fsync is shared. A transaction that found its work done waits for
// those that did it.
func (s *Store) wait(ctx context.Context, r receipt) error {
	if !r.own {
		return s.durable.wait(ctx, r.seq)
	}
	if err := r.sync.Wait(); err != nil {
		err = fmt.Errorf("commit: %w", err)
		s.durable.fail(err)
		return err
	}
	s.durable.advance(r.seq)
	return nil
}

// sign signs the transaction's own commits, spread over the cores.
func (tx *Tx) sign() error {
	var own []*dag.Commit
	for _, p := range tx.pending {
		if p.own && p.commit.Envelope() == nil { // else its author did
			own = append(own, p.commit)
		}
	}
	workers := min(runtime.GOMAXPROCS(0), (len(own)+3)/4)
	if workers <= 1 {
		for _, c := range own {
			if err := c.Sign(tx.who.Key); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, workers)
	var wg sync.WaitGroup
	size := (len(own) + workers - 1) / workers
	for i, part := range slices.Collect(slices.Chunk(own, size)) {
		wg.Go(func() {
			for _, c := range part {
				errs[i] = errors.Join(errs[i], c.Sign(tx.who.Key))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// stale reports whether another transaction changed what this one relied on:
// what it wrote, and unless it is explicit, what it read.
func (tx *Tx) stale() bool {
	w := tx.s.written
	if now := tx.s.set.Load(); now != tx.base {
		if len(tx.added) > 0 || tx.views {
			return true
		}
		for _, st := range tx.staged {
			// It keeps the entries of the indexes that there were at its start.
			if !kept(tx.base.indexes[st.coll], now.indexes[st.coll]) {
				return true
			}
		}
	}
	for id := range tx.staged {
		if w.docs[id] > tx.seq {
			return true
		}
	}
	for _, id := range tx.reads {
		if w.docs[id] > tx.seq {
			return true
		}
	}
	for _, n := range tx.scans {
		if w.colls[n] > tx.seq {
			return true
		}
	}
	return false
}

// publish numbers the commits and applies the batch. The writer's lock is held.
func (tx *Tx) publish() (receipt, error) {
	s := tx.s
	b := s.kv.NewBatch()
	tx.kv.Writes(b)
	for _, prefix := range tx.dropped {
		b.DeleteRange(prefix, after(prefix))
	}
	seq := s.seq // only a writer changes it, and there is one
	fresh := map[string]uint64{}
	var buf []byte // the batch copies
	for _, p := range tx.pending {
		seq++
		origin := s.origin(p.origin, fresh, b)
		buf = stored{seq, origin, p.commit.Envelope()}.append(buf[:0])
		key := p.place.key()
		b.Set(key, buf)
		b.Set(indexKey(p.place.cid), p.place.indexValue(p.above))
		b.Set(feedKey(seq), binary.AppendUvarint(key[1:], origin)) // as place.feedValue
	}
	counts := map[short]count{}
	for n, d := range tx.counts {
		k := s.counts[n]
		counts[n] = count{k.all + d.all, k.alive + d.alive}
		b.Set(collectionPrefix(tableCount, n), counts[n].append(nil))
	}

	// Before mu is taken: who begins a transaction does not wait for the disk.
	if err := s.kv.WaitForRoom(); err != nil {
		return receipt{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sync, err := s.kv.Apply(b)
	if err != nil {
		return receipt{}, err
	}
	for n, k := range counts {
		s.counts[n] = k
	}
	for name, n := range fresh {
		s.origins[name], s.peers[n] = n, name
	}
	if len(tx.added) > 0 || tx.views {
		s.setSchema(tx.set)
	}
	s.seq = seq
	for id, st := range tx.staged {
		s.written.add(seq, st.coll, id)
		s.touch(st.coll, id)
	}
	if s.written.full() {
		s.written.trim(s.oldest())
	}
	return receipt{sync, seq, true, tx.untold}, nil
}

// origin returns the short number of a peer, 0 for this node.
func (s *Store) origin(peer string, fresh map[string]uint64, b *kv.Batch) uint64 {
	if peer == "" {
		return 0
	}
	if n, ok := s.origins[peer]; ok {
		return n
	}
	if n, ok := fresh[peer]; ok {
		return n
	}
	n := uint64(len(s.origins) + len(fresh) + 1)
	fresh[peer] = n
	b.Set(globalKey(globalOrigin, binary.BigEndian.AppendUint64(nil, n)...), []byte(peer))
	return n
}

// oldest returns the oldest snapshot in use. s.mu is held.
func (s *Store) oldest() uint64 {
	oldest := s.seq
	for _, seq := range s.active {
		oldest = min(oldest, seq)
	}
	return oldest
}

// minTrim is how many changes are remembered before old ones are looked for:
// enough that the search is rare, small enough to weigh nothing.
const minTrim = 4096

// history remembers which documents were changed by which number of the feed,
// as far back as the oldest snapshot in use may ask.
type history struct {
	docs  map[dag.DocID]uint64
	colls map[short]uint64
	log   []logged
	limit int // the length of log at which trim is due
}

type logged struct {
	seq uint64
	doc dag.DocID
}

func newHistory() *history {
	return &history{docs: map[dag.DocID]uint64{}, colls: map[short]uint64{}, limit: minTrim}
}

func (h *history) full() bool { return len(h.log) >= h.limit }

func (h *history) add(seq uint64, n short, doc dag.DocID) {
	h.docs[doc], h.colls[n] = seq, seq
	h.log = append(h.log, logged{seq, doc})
}

// trim forgets what no snapshot can ask for: changes at or before oldest.
func (h *history) trim(oldest uint64) {
	n := 0
	for n < len(h.log) && h.log[n].seq <= oldest {
		if l := h.log[n]; h.docs[l.doc] == l.seq {
			delete(h.docs, l.doc)
		}
		n++
	}
	h.log = slices.Delete(h.log, 0, n)
	// Doubling keeps the cost of a trim that finds little constant per change.
	h.limit = max(minTrim, 2*len(h.log))
}

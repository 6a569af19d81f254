package store

import (
	"context"
	"encoding/binary"
	"iter"

	"github.com/pandodb/pando/internal/acp"
	"github.com/pandodb/pando/internal/crdt"
	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/schema"
)

// Seq returns the newest number of the feed that the transaction's snapshot holds.
// It may not be durable yet; see Store.Await.
func (tx *Tx) Seq() uint64 { return tx.seq }

// Changed yields the entries of the feed after a number that the transaction's
// snapshot holds, of documents that the caller may read now. So it does not tell
// whoever may not read a document any more that this is so.
func (tx *Tx) Changed(after uint64) iter.Seq2[Change, error] { return tx.changed(after, tx.seq) }

// changed yields the feed in (after, end], of documents that the caller may read.
func (tx *Tx) changed(after, end uint64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		ids := tx.set.ids()
		f := follower{tx: tx}
		for e, err := range tx.kv.Scan(feedKey(after+1), feedKey(end+1)) {
			var c Change
			var may bool
			if err == nil {
				c, may, err = tx.entry(e.Key, e.Value, ids, &f)
			}
			if err == nil && !may {
				continue
			}
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// entry reads an entry of the feed, if the caller may read its document.
func (tx *Tx) entry(key, v []byte, ids map[short]dag.CollectionID, f *follower) (c Change, may bool, err error) {
	if len(key) != 9 {
		return c, false, fault.Corrupt.Errorf("feed key of %d bytes, want 9: run pando fsck --rebuild", len(key))
	}
	seq := binary.BigEndian.Uint64(key[1:])
	at, origin, err := parseFeedValue(seq, v)
	if err != nil {
		return c, false, err
	}
	if may, err = f.passes(at); err != nil || !may {
		return c, false, err
	}
	return Change{seq, ids[at.coll], at.doc, at.cid, at.height, tx.s.peer(origin)}, true, nil
}

// AfterSeq returns the document as it was on this node after the change of that
// number, or NotFound. One that has not changed since costs a Get and a look at its
// heads, another one a pass over its history.
func (tx *Tx) AfterSeq(ctx context.Context, c *schema.Collection, id dag.DocID, seq uint64) (Doc, error) {
	d, _, err := tx.anyAfterSeq(ctx, c, id, seq)
	return tx.opened(d, err)
}

// anyAfterSeq is AfterSeq, whether the keys of that time are here or not, with who could
// do what then.
func (tx *Tx) anyAfterSeq(ctx context.Context, c *schema.Collection, id dag.DocID, seq uint64) (Doc, acp.State, error) {
	d, err := tx.Get(c, id)
	if err != nil {
		return Doc{}, acp.State{}, err
	}
	changed, err := tx.changedAfter(c, d, seq)
	if err == nil && !changed && c.Access() != nil {
		n, err := tx.short(c)
		if err != nil {
			return Doc{}, acp.State{}, err
		}
		state, err := rights(tx, n, id, d.State)
		return d, state, err
	}
	if err != nil || !changed {
		return d, acp.State{}, err
	}
	return tx.foldAnyOf(ctx, c, id, func(a *Applied) bool { return a.Seq > 0 && a.Seq <= seq })
}

// changedAfter reports whether a document changed after a number of the feed: the heads
// tell, or what came since if that is less.
func (tx *Tx) changedAfter(c *schema.Collection, d Doc, seq uint64) (bool, error) {
	if tx.readOnly && tx.seq-min(seq, tx.seq) < uint64(d.State.HeadCount()) {
		for e, err := range tx.kv.Scan(feedKey(seq+1), feedKey(tx.seq+1)) {
			if err != nil {
				return false, err
			}
			at, _, err := parseFeedValue(tx.seq, e.Value)
			if err != nil || at.doc == d.ID {
				return err == nil, err
			}
		}
		return false, nil
	}
	last, err := tx.lastSeq(c, d)
	return last > seq, err
}

// lastSeq returns the number of the newest change of a document. It is that of a
// head: a commit is applied after its parents.
func (tx *Tx) lastSeq(c *schema.Collection, d Doc) (last uint64, err error) {
	n, err := tx.short(c)
	if err != nil {
		return 0, err
	}
	for _, h := range d.State.Heads() {
		at := place{n, d.ID, h.Height, h.Commit}
		v, ok, err := tx.kv.Get(at.key())
		if err != nil {
			return 0, err
		}
		if !ok {
			return 0, fault.Corrupt.Errorf("commit %s is a head but missing: run pando fsck", at.cid)
		}
		st, err := parseStored(at.cid, v)
		if err != nil {
			return 0, err
		}
		last = max(last, st.seq)
	}
	return last, nil
}

// Replay yields, for each of some changes of a collection in the order of the feed,
// the document as it was on this node after it; without a state if a key of that time is
// not here. A document that changed once, and not since, costs as much as AfterSeq; one
// that changed often is folded change by change.
func (tx *Tx) Replay(ctx context.Context, c *schema.Collection, changes []Change) iter.Seq2[Doc, error] {
	return func(yield func(Doc, error) bool) {
		left := make(map[dag.DocID]int, len(changes))
		for _, ch := range changes {
			left[ch.Doc]++
		}
		type past struct {
			Doc
			acp.State
		}
		states := map[dag.DocID]past{} // of documents that change once more
		for _, ch := range changes {
			was, known := states[ch.Doc]
			d, state := was.Doc, was.State
			var err error
			if known {
				d, state, err = tx.with(ctx, d, state, ch)
			} else {
				d, state, err = tx.anyAfterSeq(ctx, c, ch.Doc, ch.Seq)
			}
			if left[ch.Doc]--; left[ch.Doc] > 0 {
				states[ch.Doc] = past{d, state}
			} else {
				delete(states, ch.Doc)
			}
			if err == nil && !tx.opens(d.State) {
				d = Doc{ID: ch.Doc, Collection: c}
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// with returns a document as one change more makes it.
func (tx *Tx) with(ctx context.Context, d Doc, state acp.State, ch Change) (Doc, acp.State, error) {
	if ctx.Err() != nil {
		return Doc{}, acp.State{}, context.Cause(ctx)
	}
	at, err := tx.find(ch.Commit)
	if err != nil {
		return Doc{}, acp.State{}, err
	}
	a, err := tx.commitOf(at)
	if err != nil {
		return Doc{}, acp.State{}, err
	}
	f, err := d.State.Folding()
	if err != nil {
		return Doc{}, acp.State{}, err
	}
	c, under, err := tx.changeUnder(at.coll, state, f, a.Commit)
	if err != nil {
		return Doc{}, acp.State{}, err
	}
	if under.unsettles { // what was before counts otherwise with it
		return tx.anyAfterSeq(ctx, d.Collection, d.ID, ch.Seq)
	}
	var failed error
	err = f.Fold(c, func(cid [32]byte) bool {
		before, err := tx.appliedBefore(at, cid, ch.Seq)
		if err != nil {
			failed = err
		}
		return before
	})
	if failed != nil {
		return Doc{}, acp.State{}, failed
	}
	if err != nil {
		return Doc{}, acp.State{}, fault.Corrupt.Errorf("history of document %s: commit %s: %v: run pando fsck", d.ID, ch.Commit, err)
	}
	if tx.set.rules[at.coll] != nil {
		under.state = under.state.WithVoided(under.state.Voided() + under.voids)
		carry(f, under.state, under.keys)
	}
	next, err := f.Document()
	return Doc{d.ID, d.Collection, next}, under.state, err
}

// changeUnder returns what a commit changes in a document as it was just before, and what
// comes of it under a policy. Who is given keys only later reads all the same.
func (tx *Tx) changeUnder(n short, state acp.State, d *crdt.Folding, cm *dag.Commit) (ch crdt.Change, r ruling, err error) {
	ch = change(cm)
	rules := tx.set.rules[n]
	if rules == nil {
		return ch, r, nil
	}
	if r, err = tx.rule(rules, state, d, cm, true); err != nil || r.unsettles {
		return ch, r, err
	}
	if ch.Void = r.verdict == acp.Void; ch.Void || !hasSealed(cm) {
		return ch, r, nil
	}
	o, err := tx.openerOf(n, cm.Doc)
	if err != nil {
		return ch, r, err
	}
	f := o.finder(cm.Doc, o.all, o.source)
	defer o.keep(f)
	deltas, ok, err := f.Open(cm, r.at)
	ch.Deltas, r.keys = deltas, r.keys.WithLocked(r.keys.Locked() || !ok)
	return ch, r, err
}

// appliedBefore reports whether a commit of the same document was applied before a number
// of the feed.
func (tx *Tx) appliedBefore(of place, cid dag.CID, seq uint64) (bool, error) {
	at, ok, err := tx.where(cid)
	if err != nil || !ok || at.doc != of.doc || at.coll != of.coll {
		return false, err
	}
	_, st, err := tx.load(at)
	return err == nil && st.seq < seq, err
}

// Await returns when the feed is durable up to seq.
func (s *Store) Await(ctx context.Context, seq uint64) error { return s.durable.wait(ctx, seq) }

// Settle returns when everything that can be read now is durable, or why it will not be.
func (s *Store) Settle(ctx context.Context) error {
	s.mu.Lock()
	seq := s.seq
	s.mu.Unlock()
	return s.durable.wait(ctx, seq)
}

package sim

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/pandodb/pando/internal/dag"
	"github.com/pandodb/pando/internal/store"
)

// The checks are numbered as the invariants in ARCHITECTURE.md.

// unread returns the feed that the reader has not seen.
func (n *node) unread() (fresh []store.Change) {
	for c, err := range n.Log(context.Background(), store.System, uint64(len(n.feed))) {
		n.w.must(err)
		fresh = append(fresh, c)
	}
	if n.w.Tamper != nil {
		return n.w.Tamper(fresh)
	}
	return fresh
}

// absorb takes what is new in the feed.
func (n *node) absorb(fresh []store.Change) {
	for _, c := range fresh {
		n.take(c)
	}
	if got, want := n.Seq(), uint64(len(n.feed)); got != want {
		n.w.fail("I6: %s: the feed ends at %d, a reader has seen %d", n.name, got, want)
	}
}

// take checks one entry of the feed against those before it.
func (n *node) take(c store.Change) {
	w := n.w
	if want := uint64(len(n.feed)) + 1; c.Seq != want {
		w.fail("I6: %s: feed entry %d follows %d", n.name, c.Seq, want-1)
	}
	if n.applied[c.Commit] {
		w.fail("I1: %s: commit %s is applied twice", n.name, name(c.Commit))
	}
	if w.invalid[c.Commit] {
		w.fail("I2: %s: commit %s is invalid, and applied", n.name, name(c.Commit))
	}
	cm := n.commit(c)
	for _, p := range cm.Parents {
		if !n.applied[p] {
			w.fail("I2: %s: commit %s is applied, its parent %s is not", n.name, name(c.Commit), name(p))
		}
	}
	if coll, ok := n.Schema().ByID(c.Collection); ok && !w.allowed(coll, cm) {
		w.fail("I2: %s: commit %s is applied, and its author may not make it", n.name, name(c.Commit))
	}
	n.feed = append(n.feed, c)
	n.applied[c.Commit] = true
	n.of[c.Doc] = append(n.of[c.Doc], c.Commit)
	coll, ok := n.Schema().ByID(c.Collection)
	if !ok {
		w.fail("I6: %s: feed entry %d is of an unknown collection", n.name, c.Seq)
	}
	w.meet(coll, c.Doc)
	n.dirty[c.Doc] = docRef{coll, c.Doc}
}

// commit returns the commit of a feed entry; all nodes must have the same.
func (n *node) commit(c store.Change) *dag.Commit {
	w := n.w
	var got *dag.Commit
	w.must(n.View(context.Background(), store.System, func(tx *store.Tx) error {
		a, err := tx.FindCommit(c.Commit)
		if err != nil {
			w.fail("I1: %s: feed entry %d: %v", n.name, c.Seq, err)
		}
		if a.Seq != c.Seq || a.Origin != c.Origin {
			w.fail("I6: %s: commit %s says number %d from %q, the feed %d from %q", n.name, name(c.Commit), a.Seq, a.Origin, c.Seq, c.Origin)
		}
		got = a.Commit
		return nil
	}))
	if got.Doc != c.Doc || got.Height != c.Height {
		w.fail("I6: %s: feed entry %d is not of its commit", n.name, c.Seq)
	}
	known, ok := w.commits[c.Commit]
	switch {
	case !ok:
		w.commits[c.Commit] = got
		return got
	case !bytes.Equal(known.Envelope(), got.Envelope()):
		w.fail("I1: %s: commit %s has other bytes than elsewhere", n.name, name(c.Commit))
	}
	return known
}

// recheck reads the whole feed after a start: it must be what was acknowledged,
// and of what was under way whole transactions or nothing.
func (n *node) recheck() {
	w := n.w
	seen, doubt, bounds := n.feed, n.doubt, n.bounds
	n.feed, n.applied, n.of = nil, map[dag.CID]bool{}, map[dag.DocID][]dag.CID{}
	n.dirty, n.doubt, n.bounds = map[dag.DocID]docRef{}, nil, nil
	now := n.unread()
	if len(now) < len(seen) {
		w.fail("I8: %s: %d changes were acknowledged, %d are left", n.name, len(seen), len(now))
	}
	for i, c := range slices.Concat(seen, doubt)[:min(len(now), len(seen)+len(doubt))] {
		if now[i] != c {
			w.fail("I8: %s: feed entry %d is another one than before", n.name, c.Seq)
		}
	}
	if len(now) > len(seen) && !slices.Contains(bounds, len(now)) {
		w.fail("I8: %s: %d changes were acknowledged, %d are left: a part of a transaction (ends: %v)", n.name, len(seen), len(now), bounds)
	}
	if got := len(n.Schema().Collections()); got < n.colls {
		w.fail("I8: %s: %d collections were acknowledged, %d are left", n.name, n.colls, got)
	}
	if len(doubt) > 0 {
		w.note("%s:   of %d changes under way %d are left", n.name, len(doubt), len(now)-len(seen))
	}
	n.absorb(now)
	if n.epoch == [16]byte{} {
		n.epoch = n.Epoch()
	}
	if n.epoch != n.Epoch() {
		w.fail("I8: %s: the feed has another epoch", n.name)
	}
	n.check()
}

// check compares the documents that changed since the last time with what their
// commits make.
func (n *node) check() {
	if len(n.dirty) == 0 && !n.indexed {
		return
	}
	n.w.must(n.View(context.Background(), store.System, func(tx *store.Tx) error {
		changed := map[dag.CollectionID]bool{}
		for _, d := range n.w.docs { // in an order that is the same every time
			if _, ok := n.dirty[d.id]; ok {
				n.verify(tx, d)
				changed[d.coll.ID] = true
			}
		}
		for _, c := range tx.Collections() {
			if changed[c.ID] || n.indexed {
				n.verifyIndexes(tx, c)
			}
		}
		return nil
	}))
	n.indexed = false
	n.dirty = map[dag.DocID]docRef{}
}

func (n *node) verify(tx *store.Tx, d docRef) {
	w := n.w
	doc, err := tx.Get(d.coll, d.id)
	if err != nil {
		w.fail("I4: %s: document %s: %v", n.name, name(d.id), err)
	}
	want := oracle{set: map[dag.CID]*dag.Commit{}}
	for _, c := range n.of[d.id] {
		want.set[c] = w.commits[c]
	}
	void, err := want.voids(d.coll)
	w.must(err)
	want.void = void
	heads := want.heads()
	var got []dag.CID
	for _, h := range doc.State.Heads() {
		got = append(got, h.Commit)
		if cm := want.set[h.Commit]; cm == nil || cm.Height != h.Height || cm.HLC != h.HLC {
			w.fail("I3: %s: document %s has a head %s that is not a commit of it", n.name, name(d.id), name(h.Commit))
		}
	}
	if !slices.Equal(got, heads) {
		w.fail("I3: %s: document %s has heads %v, want %v", n.name, name(d.id), names(got), names(heads))
	}
	if diff := want.compare(doc.State); diff != "" {
		w.fail("I4: %s: document %s: %s", n.name, name(d.id), diff)
	}
	key := fmt.Sprint(d.id, heads)
	raw := string(doc.State.Bytes())
	if old, ok := w.bytes[key]; ok && old != raw {
		w.fail("I7: %s: document %s with heads %v has other bytes than elsewhere", n.name, name(d.id), names(heads))
	}
	w.bytes[key] = raw
}

func names(ids []dag.CID) (list []string) {
	for _, id := range ids {
		list = append(list, name(id))
	}
	return list
}

// audit lets the node check itself, and compares what it counts and yields with
// what it applied.
func (n *node) audit() {
	w := n.w
	w.must(n.Check(context.Background(), func(p store.Problem) { w.fail("check: %s: %v", n.name, p) }))
	w.must(n.View(context.Background(), store.System, func(tx *store.Tx) error {
		commits := 0
		for _, c := range tx.Collections() {
			docs, alive := 0, uint64(0)
			for doc, err := range tx.Scan(c, store.Range{Deleted: true}) {
				w.must(err)
				if len(n.of[doc.ID]) == 0 {
					w.fail("I4: %s: document %s has no commits", n.name, name(doc.ID))
				}
				docs++
				if !doc.Deleted() {
					alive++
				}
			}
			if got, err := tx.Count(c); got != alive || err != nil {
				w.fail("count: %s: %s counts %d, %v, has %d", n.name, c.Name, got, err, alive)
			}
			sum, err := n.Summary(c.ID)
			if err != nil || sum.Documents != uint64(docs) || sum.Alive != alive || sum.Seq != uint64(len(n.feed)) {
				w.fail("summary: %s: %s has %+v, %v, want %d documents, %d alive", n.name, c.Name, sum, err, docs, alive)
			}
			for b, err := range tx.Full(c.ID, dag.DocID{}) {
				w.must(err)
				if !n.applied[b.CID] || !bytes.Equal(b.Envelope, w.commits[b.CID].Envelope()) {
					w.fail("I1: %s: a full copy yields commit %s, which is not applied or has other bytes", n.name, name(b.CID))
				}
				commits++
			}
		}
		if commits != len(n.applied) {
			w.fail("I1: %s: a full copy yields %d commits, %d are applied", n.name, commits, len(n.applied))
		}
		return nil
	}))
}

// converged checks that all nodes hold the same.
func (w *world) converged() {
	first := w.nodes[0]
	for _, n := range w.nodes {
		if len(n.applied) != len(first.applied) {
			w.fail("convergence: %s has %d commits, %s has %d", n.name, len(n.applied), first.name, len(first.applied))
		}
		for _, c := range first.feed {
			if !n.applied[c.Commit] {
				w.fail("convergence: %s lacks commit %s", n.name, name(c.Commit))
			}
		}
		for _, c := range w.Collections {
			a, err := first.Summary(c.ID)
			w.must(err)
			b, err := n.Summary(c.ID)
			w.must(err)
			if a.Root != b.Root || a.Documents != b.Documents || a.Alive != b.Alive {
				w.fail("convergence: %s of %s is %+v, of %s %+v", c.Name, first.name, a, n.name, b)
			}
		}
	}
	for _, c := range w.forged {
		if first.applied[c.CID] && !w.known[c.Doc] {
			w.fail("convergence: document %s was never met", name(c.Doc))
		}
	}
}

// rebuilt makes the node's database anew from its commits, and expects the same.
func (n *node) rebuilt() {
	w := n.w
	w.note("%s: rebuild", n.name)
	n.shut()
	r, err := store.Rebuild(context.Background(), "db", store.Options{FS: n.files(), Rand: n.random}, func(p store.Problem) { w.fail("rebuild: %v", p) })
	w.must(err)
	if r.Commits != len(n.applied) {
		w.fail("rebuild: %s: %d commits, had %d", n.name, r.Commits, len(n.applied))
	}
	n.boot()
	n.audit()
}
